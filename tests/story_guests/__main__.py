"""python3 -m tests.story_guests [--base BASE] [--program DIR]: play the story on Debian 12 and 13, or on one of them.

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


def main(arguments: Sequence[str]) -> int:
    """0 where everything was as it was to be, else 1."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.story_guests")
    parser.add_argument("--base", choices=(BIOS, UEFI))
    parser.add_argument("--program", default=wheel.OURS, metavar="DIR", help="a checkout of the program (this one)")
    given = parser.parse_args(arguments)
    right = True
    for base in (BIOS, UEFI):
        if given.base in (None, base):
            machine = Machine(BASES[base], "module", given.program, swift=True)
            if machine.play(story.module):
                machine.write()
            right &= machine.right
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
