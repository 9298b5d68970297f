"""`safeupdate kured-sentinel`: what kured asks before it drains a node and reboots it (`--reboot-sentinel-command`)."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from safeupdate.commands import acting, settled

if TYPE_CHECKING:
    from safeupdate.gate.state import Gate
    from safeupdate.machine import Machine

    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]

REBOOT, NOT_NOW, COULD_NOT_TELL = 0, 1, 70
"""kured reboots on 0, is quiet on 1, and warns on anything else. Python's own code for a crash is 1, which would pass
for a quiet no: 70 is EX_SOFTWARE (sysexits.h)."""


def add(verbs: Verbs) -> None:
    """The verb's arguments."""
    parser = verbs.add_parser(
        "kured-sentinel",
        help="tell kured whether to reboot",
        description="Settle, and tell kured whether to reboot. Exit code 0: a reboot is needed and let through, 1: not "
        "needed, or held back, 70: it could not be told.",
    )
    parser.set_defaults(run=run)


def run(_: argparse.Namespace) -> int:
    """Settle, and answer. Nothing that goes wrong here may look like an answer."""
    try:
        host = acting()
        return answer(host.machine, settled(host))
    except Exception as error:
        print(f"safeupdate: it could not be told: {type(error).__name__}: {error}", file=sys.stderr)
        return COULD_NOT_TELL


def answer(machine: Machine, gate: Gate) -> int:
    """kured's exit code, with a line for its log."""
    from safeupdate.gate.need import reboot_needed
    from safeupdate.gate.words import headline
    from safeupdate.render import visible

    needed = reboot_needed(machine, gate)
    if needed is None:
        print("No reboot is needed.")
        return NOT_NOW
    print(visible(f"{needed} {headline(gate)}"))
    return REBOOT if gate.unattended else NOT_NOW
