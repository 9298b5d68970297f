"""`safeupdate keys`: what this machine trusts."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]


def add(verbs: Verbs) -> None:
    """The verb's arguments."""
    parser = verbs.add_parser(
        "keys",
        help="which keys this machine trusts, and for what",
        description="List the keys that firmware, shim and each installed kernel trust, those that are revoked, and "
        "those that wait to be enrolled.",
    )
    parser.add_argument("--root", metavar="DIR", help="the keys of the machine whose files lie below DIR")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the keys."""
    from datetime import datetime, timezone

    from safeupdate.commands import machine_at
    from safeupdate.render.keys import render
    from safeupdate.trust import overview
    from safeupdate.trust.cache import Cache

    cache = Cache()
    text = render(overview.read(machine_at(arguments.root), cache), datetime.now(timezone.utc))
    cache.save()
    sys.stdout.buffer.write(text.encode())
    return 0
