"""python3 -m tests.hook_guests disks | run [STORY...] [--base BASE] | page

disks   make the disks that the machines get their packages from (as root; needs the network)
run     play these stories, all without a name, on their machines; needs the lab's (tests/lab), and root
page    write what they showed into docs/hooks.md
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from tests.gate_guests.states import BIOS, UEFI
from tests.hook_guests import disks, stories
from tests.hook_guests.machine import Machine
from tests.hook_guests.played import PLAYED
from tests.lab import wheel
from tests.lab.bases import BASES

TESTING = "testing-dracut-btrfs-uefi"

STORIES: dict[str, tuple[Callable[[Machine], None], tuple[str, ...]]] = {
    "apt": (stories.apt, (BIOS, UEFI)),
    "dpkg": (stories.dpkg, (BIOS, UEFI)),
    "unattended-unsafe": (stories.unattended_unsafe, (BIOS, UEFI)),
    "unattended-safe": (stories.unattended_safe, (BIOS, UEFI)),
    "release": (stories.release, (BIOS,)),
    "dnf": (stories.dnf, (UEFI, TESTING)),
    "eviction": (stories.eviction, (UEFI, TESTING)),
}
"""What is played, and on which machines."""


def main(arguments: Sequence[str]) -> int:
    """0 where every step was as it was to be, else 1."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.hook_guests")
    parser.add_argument("verb", choices=("disks", "run", "page"))
    parser.add_argument("stories", nargs="*", choices=[*STORIES, []], metavar="STORY", help=", ".join(STORIES))
    parser.add_argument("--base", choices=(BIOS, UEFI, TESTING))
    parser.add_argument("--program", default=wheel.OURS, metavar="DIR", help="a checkout of the program (this one)")
    parser.add_argument("--swift", action="store_true", help="not with a clock that waits for a host without time")
    given = parser.parse_args(arguments)
    if given.verb == "page":
        PLAYED.write()
        return 0
    if given.verb == "disks":
        for name in disks.SHELVES:
            print(disks.disk(name))
        return 0
    right = True
    for name in given.stories or STORIES:
        play, bases = STORIES[name]
        for base in bases:
            if given.base in (None, base):
                right &= Machine(BASES[base], name, given.program, swift=given.swift).play(play)
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
