"""`safeupdate hook NAME`: what package managers and units call; `plugins/hook` has decided that it is worth it."""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Callable

from safeupdate.commands import acting, protection, settings, spoiled
from safeupdate.errors import SafeupdateError

if TYPE_CHECKING:
    from safeupdate.config import Config
    from safeupdate.gate.host import Host
    from safeupdate.hooks.transaction import Transaction
    from safeupdate.report import Report

    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]

FAILED = 1
REFUSED = 3

MARK = "/run/safeupdate/hook/changed"
"""Left by the hook of a kernel's own package (`plugins/hook`)."""

BEGAN = "/run/safeupdate/hook/began"
"""Written by the hook before a transaction (`plugins/hook`)."""

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

    def look() -> Report:
        return check(Machine.here())

    try:
        if surroundings.inside(Machine.here()) is not None:
            return 0
        host = acting()
        manager, _, when = arguments.name.partition("-")
        if when == "pre":
            return before(host, manager, sys.stdin.buffer.read(), look)
        if arguments.name == "changed":
            from safeupdate.hooks import idle

            idle.wait(host.machine)
            # What was marked until now is looked at here, and a package manager need not do it again.
            with suppress(SafeupdateError):
                host.remove(MARK)
            return after(host, look, protection(host))
        return after(host, look, protection(host), anew=judged_meanwhile(host))
    except Exception as error:
        text = str(error) if isinstance(error, SafeupdateError) else f"{type(error).__name__}: {error}"
        print(f"safeupdate: {text}", file=sys.stderr)
        return FAILED


def before(host: Host, manager: str, told: bytes, look: Callable[[], Report]) -> int:
    """Say what the transaction would do to the next boot; refuse it where the configuration says so; and keep what it
    is about to change, where this machine can. `look` judges it, where that is to be seen again with a snapshot."""
    from safeupdate.hooks import PARSERS, screen
    from safeupdate.snapshots import take

    config = settings(host.machine)
    transaction = PARSERS[manager](told)
    if config.hooks.preflight != "off" and _harms(host, manager, transaction, config):
        return REFUSED
    taken = take.before_transaction(host, next(reversed(transaction.coming), None), config.snapshots, look)
    for line in screen.sentences(*taken.told, taken.holds):
        print(line, file=sys.stderr)
    return 0


def _harms(host: Host, manager: str, transaction: Transaction, config: Config) -> bool:
    """Say what is wrong with the transaction; whether it is to be refused for that."""
    from safeupdate.gate import state
    from safeupdate.hooks import SOURCES, preflight, screen

    try:
        gate = state.read(host.machine)
    except SafeupdateError:
        gate = None
    concerns = list(preflight.look(host.machine, transaction, gate, SOURCES.get(manager, lambda _: None)))
    refused = config.hooks.preflight == "refuse" and bool(concerns)
    for line in screen.before(concerns, refused=refused):
        print(line, file=sys.stderr)
    return refused


def judged_meanwhile(host: Host) -> bool:
    """Whether the gate was set between the two hooks of a transaction, as where a kernel's package has asked for a
    reboot (safeupdate-settle.path): what came of that was told to nobody. True once."""
    from datetime import datetime

    from safeupdate.gate import state

    try:
        began, gate = host.machine.stat(BEGAN), state.read(host.machine)
        host.remove(BEGAN)
        judged = datetime.fromisoformat(gate.judged.time).timestamp() if gate is not None else 0.0
    except (SafeupdateError, ValueError):
        return False
    return began is not None and judged > began.st_mtime


def after(host: Host, look: Callable[[], Report], protect: Callable[[Report], str], *, anew: bool = False) -> int:
    """Settle, and say what became of the next boot where `look` had to judge it, or is to. `protect` is that of
    `settle`."""
    from safeupdate.gate.settle import settle
    from safeupdate.hooks import screen

    reports: list[Report] = []

    def judged() -> Report:
        reports.append(look())
        return reports[-1]

    gate = settle(host, judged, protect=protect, spoiled=spoiled, config=settings(host.machine), force=anew)
    if reports:
        for line in screen.after(reports[-1], gate, colour=sys.stderr.isatty()):
            print(line, file=sys.stderr)
    for problem in gate.problems:
        print(f"safeupdate: {problem}", file=sys.stderr)
    return FAILED if gate.verdict == "pending" else 0
