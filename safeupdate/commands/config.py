"""`safeupdate config show`: what is in force, and which file says so."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]


def add(verbs: Verbs) -> None:
    """The verb's arguments."""
    parser = verbs.add_parser("config", help="what is configured, and where", description="Look at the configuration.")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    show = actions.add_parser(
        "show",
        help="print what is in force",
        description="Print what is in force as one TOML file, and beside each part the file that says so.",
    )
    show.add_argument("--root", metavar="DIR", help="the configuration of the machine whose files lie below DIR")
    show.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the configuration. A mistake in it is a usage error, as it is for every verb."""
    from safeupdate import config
    from safeupdate.commands import machine_at
    from safeupdate.render.config import render

    sys.stdout.buffer.write(render(config.load(machine_at(arguments.root))).encode())
    return 0
