"""python3 -m tests.gate_guests run [STORY...] [--base BASE] | page

run     play these stories, all without a name, on their machines; needs the lab's (tests/lab), and root
page    write what they showed into docs/gate.md
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from tests.gate_guests import commands, days, fallback, power
from tests.gate_guests.machine import Machine
from tests.gate_guests.played import PLAYED
from tests.gate_guests.states import BIOS, SDBOOT, UEFI
from tests.lab import wheel
from tests.lab.bases import BASES

STORIES: dict[str, tuple[Callable[[Machine], None], tuple[str, ...]]] = {
    "fallback": (fallback.run, (BIOS, UEFI, SDBOOT)),
    "closed": (commands.closed, (BIOS, UEFI)),
    "open": (commands.opened, (BIOS, UEFI)),
    "power": (power.run, (BIOS, SDBOOT)),
    "rooms": (days.rooms, (BIOS,)),
    "offline": (days.offline, (BIOS,)),
    "reboots": (days.reboots, (BIOS,)),
}
"""What is played, and on which machines."""


def main(arguments: Sequence[str]) -> int:
    """0 where every step was as it was to be, else 1."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.gate_guests")
    parser.add_argument("verb", choices=("run", "page"))
    parser.add_argument("stories", nargs="*", choices=[*STORIES, []], metavar="STORY", help=", ".join(STORIES))
    parser.add_argument("--base", choices=(BIOS, UEFI, SDBOOT))
    parser.add_argument("--program", default=wheel.OURS, metavar="DIR", help="a checkout of the program (this one)")
    parser.add_argument("--swift", action="store_true", help="not with a clock that waits for a host without time")
    given = parser.parse_args(arguments)
    if given.verb == "page":
        PLAYED.write()
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
