"""`safeupdate settle`: judge what changed, and hold reboots back or let them through."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from safeupdate.commands import acting, settled

if TYPE_CHECKING:
    from safeupdate.gate.state import Gate

    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]

NOT_DONE = 1
NEEDS_PERSON = 4


def add(verbs: Verbs) -> None:
    """The verb's arguments."""
    parser = verbs.add_parser(
        "settle",
        help="judge what changed, and set the gate",
        description="Judge what boots next where it changed, and hold reboots back or let them through. Exit code 0: "
        "done, 1: something could not be done, 4: done, and a person is needed (unsafe, or undecided for too long).",
    )
    parser.add_argument("--force", action="store_true", help="judge anew though nothing changed")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Settle, and say how the gate stands. In a container or a chroot there is nothing to do, which is no error."""
    from safeupdate import surroundings
    from safeupdate.gate.words import headline
    from safeupdate.machine import Machine
    from safeupdate.render import visible

    elsewhere = surroundings.inside(Machine.here())
    if elsewhere is not None:
        print(f"This is {elsewhere}: it does not boot by itself, and nothing is done.")
        return 0
    gate = settled(acting(), force=arguments.force)
    print(visible(headline(gate)))
    if gate.came_back:
        print(visible(gate.came_back))
    for problem in gate.problems:
        print(f"safeupdate: {visible(problem)}", file=sys.stderr)
    return exit_code(gate)


def exit_code(gate: Gate) -> int:
    """What became of it."""
    if gate.problems:
        return NOT_DONE
    return NEEDS_PERSON if gate.mode == "armed" and (gate.cause == "unsafe" or gate.overdue) else 0
