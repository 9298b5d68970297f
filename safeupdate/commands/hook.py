"""`safeupdate hook NAME`: what package managers and units call; `plugins/hook` has decided that it is worth it."""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Callable

from safeupdate.commands import acting, settings
from safeupdate.errors import SafeupdateError

if TYPE_CHECKING:
    from safeupdate.gate.host import Host
    from safeupdate.report import Report

    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]

FAILED = 1
REFUSED = 3

MARK = "/run/safeupdate/hook/changed"
"""Left by the hook of a kernel's own package (`plugins/hook`)."""

_MANAGERS = ("apt", "dnf", "dnf5")


def add(verbs: Verbs) -> None:
    """The verb's arguments."""
    parser = verbs.add_parser(
        "hook",
        help="what package managers call",
        description="Look at what a package manager is about to change, which it tells on stdin (MANAGER-pre), or "
        "settle when it is done (MANAGER-post; changed: when all of them are). What there is to say goes to stderr. "
        "Exit code 0: done, 1: it could not be done, 3: refused, by the configuration.",
    )
    names = [f"{manager}-{when}" for manager in _MANAGERS for when in ("pre", "post")]
    parser.add_argument("name", choices=(*names, "changed"), metavar="NAME", help=", ".join((*names, "changed")))
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Nothing that goes wrong here may look like a refusal, or be told as Python tells it."""
    from safeupdate import surroundings
    from safeupdate.commands.check import check
    from safeupdate.machine import Machine

    try:
        if surroundings.inside(Machine.here()) is not None:
            return 0
        host = acting()
        manager, _, when = arguments.name.partition("-")
        if when == "pre":
            return before(host, manager, sys.stdin.buffer.read())
        if arguments.name == "changed":
            from safeupdate.hooks import idle

            idle.wait(host.machine)
            # What was marked until now is looked at here, and a package manager need not do it again.
            with suppress(SafeupdateError):
                host.remove(MARK)
        return after(host, lambda: check(Machine.here()))
    except Exception as error:
        text = str(error) if isinstance(error, SafeupdateError) else f"{type(error).__name__}: {error}"
        print(f"safeupdate: {text}", file=sys.stderr)
        return FAILED


def before(host: Host, manager: str, told: bytes) -> int:
    """Say what the transaction would do to the next boot; refuse it where that is certain, and the configuration says
    so."""
    from safeupdate.gate import state
    from safeupdate.hooks import PARSERS, SOURCES, preflight, screen

    wanted = settings(host.machine).hooks.preflight
    if wanted == "off":
        return 0
    transaction = PARSERS[manager](told)
    try:
        gate = state.read(host.machine)
    except SafeupdateError:
        gate = None
    source = SOURCES.get(manager, lambda _: None)
    concerns = list(preflight.look(host.machine, transaction, gate, source))
    refused = wanted == "refuse" and bool(concerns)
    for line in screen.before(concerns, refused=refused):
        print(line, file=sys.stderr)
    return REFUSED if refused else 0


def after(host: Host, look: Callable[[], Report]) -> int:
    """Settle, and say what became of the next boot where `look` had to judge it anew."""
    from safeupdate.gate.settle import settle
    from safeupdate.hooks import screen

    reports: list[Report] = []

    def judged() -> Report:
        reports.append(look())
        return reports[-1]

    gate = settle(host, judged, config=settings(host.machine))
    if reports:
        for line in screen.after(reports[-1], gate, colour=sys.stderr.isatty()):
            print(line, file=sys.stderr)
    for problem in gate.problems:
        print(f"safeupdate: {problem}", file=sys.stderr)
    return FAILED if gate.verdict == "pending" else 0
