"""`safeupdate allow`: let reboots through against the verdict."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from safeupdate.commands import acting, note, settled, who
from safeupdate.errors import SafeupdateError, UsageError

if TYPE_CHECKING:
    from safeupdate.gate.host import Host

    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]


def add(verbs: Verbs) -> None:
    """The verb's arguments."""
    parser = verbs.add_parser(
        "allow",
        help="let reboots through against the verdict",
        description="Let reboots through against the verdict, until something that boots next changes, or a boot comes "
        "up on another kernel. It is recorded with its reason. Exit code 0: reboots are let through, 1: they are not.",
    )
    parser.add_argument("--reason", metavar="TEXT", help="why; it is kept in the ledger")
    parser.add_argument("--once", action="store_true", help="for the next reboot only")
    parser.add_argument("--withdraw", action="store_true", help="take it back")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write it down, settle, and say how the gate stands."""
    from safeupdate.gate import permits
    from safeupdate.gate.words import headline
    from safeupdate.render import visible

    reason = (arguments.reason or "").strip()
    if bool(reason) == arguments.withdraw:
        raise UsageError("allow needs a reason", "safeupdate allow --reason TEXT, or safeupdate allow --withdraw")
    host = acting()
    if arguments.withdraw:
        permits.end_permission(host)
        note(host, "allow-withdrawn", f"{who()} took back what was allowed.")
    else:
        _allow(host, reason, once=arguments.once)
    gate = settled(host)
    print(visible(headline(gate)))
    return 0 if arguments.withdraw or (gate.unattended and gate.people) else 1


def _allow(host: Host, reason: str, *, once: bool) -> None:
    from safeupdate import steering
    from safeupdate.boot import find_plan
    from safeupdate.gate import state
    from safeupdate.gate.parts import parts_now
    from safeupdate.gate.permits import Allowed, allow
    from safeupdate.ledger import reading
    from safeupdate.volumes import Volumes

    machine = host.machine
    parts = parts_now(machine, reading.read(machine))
    try:
        gate = state.read(machine)
    except SafeupdateError:
        gate = None
    if gate is not None and gate.fingerprint == parts:
        kernel = gate.judged.kernel
    else:
        entry = find_plan(machine, Volumes(machine), without=steering.read(machine))[1].next
        kernel = entry.release if entry is not None else None
    allow(
        host,
        Allowed(
            reason=reason,
            by=who(),
            time=host.time,
            boot_id=reading.boot_id(machine),
            once=once,
            kernel=kernel,
            parts=parts,
        ),
    )
    note(host, "allowed", f"{who()} allowed a reboot{' once' * once} (next: {kernel or 'not known'}): {reason}")
