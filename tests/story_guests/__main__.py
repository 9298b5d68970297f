"""python3 -m tests.story_guests [STORY...] [--base BASE] [--program DIR]: play them, on all their machines or on one.

Where all was as it was to be, what was typed and answered is written into docs/story.md. Needs the lab's machines
(tests/lab), and root.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tests.gate_guests.states import BIOS, UEFI
from tests.lab import wheel
from tests.lab.bases import BASES
from tests.story_guests import story
from tests.story_guests.machine import Machine

SIGNED = "debian13-initramfstools-btrfs-uefisb"
LVM = "debian12-initramfstools-lvm-bios"


STORIES = {
    "build": (story.build, (UEFI, BIOS)),
    "headers": (story.headers, (BIOS,)),
    "key": (story.key, (SIGNED,)),
    "full-boot": (story.full_boot, (LVM,)),
}
"""What is played, and on which machines."""


def main(arguments: Sequence[str]) -> int:
    """0 where everything was as it was to be, else 1."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.story_guests")
    parser.add_argument("stories", nargs="*", choices=[*STORIES, []], metavar="STORY", help=", ".join(STORIES))
    parser.add_argument("--base", choices=(BIOS, UEFI, SIGNED, LVM))
    parser.add_argument("--program", default=wheel.OURS, metavar="DIR", help="a checkout of the program (this one)")
    given = parser.parse_args(arguments)
    right = True
    for name in given.stories or STORIES:
        play, bases = STORIES[name]
        for base in bases:
            if given.base in (None, base):
                machine = Machine(BASES[base], name, given.program, swift=True)
                if machine.play(play):
                    machine.write()
                right &= machine.right
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
