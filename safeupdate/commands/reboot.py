"""`safeupdate reboot`: settle, and reboot or say why not."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from safeupdate.commands import acting, settings, settled

if TYPE_CHECKING:
    from safeupdate.gate.host import Host
    from safeupdate.gate.state import Gate

    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]

REBOOTING, FAILED, HELD, NOT_NEEDED = 0, 1, 3, 4

_SECONDS = 60.0
"""systemd answers as soon as the reboot is queued; a starved machine takes its time for that."""


def add(verbs: Verbs) -> None:
    """The verb's arguments."""
    parser = verbs.add_parser(
        "reboot",
        help="reboot if the gate lets it through",
        description="Settle, and reboot, or say why not. Exit code 0: the machine is rebooting, 1: it could not be "
        "told or done, 3: the gate holds it back, 4: no reboot is needed.",
    )
    parser.add_argument("--if-needed", action="store_true", help="only where something asks for a reboot")
    parser.add_argument("--if-safe", action="store_true", help="only where a reboot without a person is let through")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Settle, ask, and reboot."""
    host = acting()
    return reboot(host, settled(host), if_needed=arguments.if_needed, if_safe=arguments.if_safe)


def reboot(host: Host, gate: Gate, *, if_needed: bool, if_safe: bool) -> int:
    """Reboot as the gate lets it, and return the exit code."""
    from safeupdate.errors import SafeupdateError
    from safeupdate.gate.need import reboot_needed
    from safeupdate.gate.words import headline
    from safeupdate.render import visible

    needed = reboot_needed(host.machine, gate)
    if if_needed and needed is None:
        print("No reboot is needed.")
        return NOT_NEEDED
    if not (gate.unattended if if_safe else gate.people):
        print(f"Not rebooted. {visible(headline(gate))}", file=sys.stderr)
        print("  safeupdate status                  what is wrong, and what helps", file=sys.stderr)
        print("  safeupdate allow --reason TEXT     to reboot all the same", file=sys.stderr)
        return HELD
    lost = _lost(host)
    if lost:
        print(f"safeupdate: {visible(lost)}", file=sys.stderr)
        if if_safe and settings(host.machine).snapshots.policy == "required":
            print("  safeupdate settle --force     takes another one", file=sys.stderr)
            return HELD
    for sentence in gate.judged.waits:
        print(visible(sentence))
    done = host.run(["systemctl", "reboot"], _SECONDS)
    if done.code:
        told = done.stderr.decode("utf-8", "replace").strip()
        raise SafeupdateError(f"systemctl reboot failed: {told}", "safeupdate status shows which levers hold")
    print(visible(f"Rebooting. {gate.why}"))
    return REBOOTING


def _lost(host: Host) -> str:
    """Why the snapshot for this reboot is of no use any more, at the last moment to see it."""
    from safeupdate.errors import SafeupdateError
    from safeupdate.snapshots import take

    try:
        return take.spoiled(host)
    except SafeupdateError as error:
        return f"Whether there is a snapshot to go back to cannot be seen: {error}."
