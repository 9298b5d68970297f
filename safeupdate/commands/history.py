"""`safeupdate history`: what was recorded on this machine."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from safeupdate.commands import machine_at

if TYPE_CHECKING:
    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]

_LIMIT = 20
"""Rows that fit on a screen or two."""


def add(verbs: Verbs) -> None:
    """The verb's arguments."""
    parser = verbs.add_parser(
        "history",
        help="show the boots and checks that were recorded",
        description="Show the boots and checks that were recorded on this machine, the newest first; times are in "
        "UTC. Exit code 0: shown, 1: the ledger cannot be used.",
    )
    parser.add_argument("--root", metavar="DIR", help="show those of the machine whose files lie below DIR")
    parser.add_argument("--limit", metavar="N", type=_count, default=_LIMIT, help="show N rows (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print them as JSON, with all that is known")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Read, and print."""
    from safeupdate.ledger import reading
    from safeupdate.render import history as renderer

    history = reading.read(machine_at(arguments.root), boots=arguments.limit + 1, checks=arguments.limit + 1)
    render = renderer.render_json if arguments.json else renderer.render
    sys.stdout.buffer.write(render(history, limit=arguments.limit).encode("utf-8"))
    sys.stdout.flush()
    return 1 if history.problems and not (history.boots or history.checks or history.events) else 0


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of rows")
    return int(text)
