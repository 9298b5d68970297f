"""python3 -m tests.snapshot_guests run [STORY...] [--base BASE] | page

run     play these stories, all without a name, on their machines; needs the lab's (tests/lab) and the disk of packages
        of tests/hook_guests, and root
page    write what they showed into docs/snapshots.md
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from tests.lab import wheel
from tests.lab.bases import BASES
from tests.snapshot_guests import faults, whole
from tests.snapshot_guests.machine import Machine
from tests.snapshot_guests.played import PLAYED

LVM = "debian12-initramfstools-lvm-bios"
ZFS = "debian12-initramfstools-zfs-bios"
BTRFS = "debian13-initramfstools-btrfs-uefisb"

STORIES: dict[str, tuple[Callable[[Machine], None], str, str]] = {
    "btrfs": (whole.run, BTRFS, "btrfs"),
    "thin": (whole.run, LVM, "thin"),
    "thick": (whole.run, LVM, "thick"),
    "zfs": (whole.run, ZFS, "zfs"),
    "full": (faults.full, LVM, "thin"),
    "overflow": (faults.overflow, LVM, "thick"),
    "cut": (faults.cut, LVM, "thin"),
}
"""What is played, on which machine, and what its root lies on."""


def main(arguments: Sequence[str]) -> int:
    """0 where every step was as it was to be, else 1."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.snapshot_guests")
    parser.add_argument("verb", choices=("run", "page"))
    parser.add_argument("stories", nargs="*", choices=[*STORIES, []], metavar="STORY", help=", ".join(STORIES))
    parser.add_argument("--base", choices=(BTRFS, LVM, ZFS))
    parser.add_argument("--program", default=wheel.OURS, metavar="DIR", help="a checkout of the program (this one)")
    parser.add_argument("--swift", action="store_true", help="not with a clock that waits for a host without time")
    given = parser.parse_args(arguments)
    if given.verb == "page":
        PLAYED.write()
        return 0
    right = True
    for name in given.stories or STORIES:
        play, base, kind = STORIES[name]
        if given.base in (None, base):
            right &= Machine(BASES[base], name, given.program, swift=given.swift, kind=kind).play(play)
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
