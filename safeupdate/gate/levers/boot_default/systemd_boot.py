"""systemd-boot: the EFI variable LoaderEntryDefault, set and given back by bootctl(1).

The variable tells nothing of who set it. What it was before is written down first, and it is given back only while it
still says what was set here.
"""

from __future__ import annotations

import re

from safeupdate import steering
from safeupdate.boot.firmware import Firmware
from safeupdate.boot.plan import BootEntry
from safeupdate.gate import record
from safeupdate.gate.host import Host, NotDone
from safeupdate.gate.lever import State
from safeupdate.gate.record import Record
from safeupdate.machine import Machine
from safeupdate.steering import Steering

NAME = "systemd-boot"

_SECONDS = 60
"""bootctl(1) looks through partitions for the ESP; 1.8 s where it was slowest."""

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+~:-]*")
"""An id that means itself: no pattern (`*`, `?`, `[`), and none of bootctl's words (`@saved`)."""


def obstacle(machine: Machine, firmware: Firmware) -> State | None:
    """Why systemd-boot's default cannot be held on this machine; None where it can. Raises `Damaged`."""
    info = firmware.text("LoaderInfo") or ""
    if not info.startswith(NAME):
        started = f"by {info}" if info else "without systemd-boot"
        return State("refused", f"This boot was started {started}, and bootctl then sets no default.")
    left = record.read(machine, "boot-default")
    words = changed(machine, left) if left is not None else ""
    return State("not-ours", words) if words else None


def changed(machine: Machine, left: Record) -> str:
    """Who else set the variable since our record was written; empty where nobody did."""
    now = steering.default_variable(machine)
    if not isinstance(left.new, str) or now in (left.new, left.old):
        return ""
    value = f'is "{now}"' if now is not None else "was taken away"
    return f"LoaderEntryDefault {value}, which was not safeupdate's doing, and is left as it is."


def reason_against(host: Host, firmware: Firmware, entry: BootEntry) -> str:
    """Why the default cannot be held on this entry; empty where it can. Raises `NotDone` and `ProgramFailed`."""
    once = firmware.text("LoaderEntryOneShot")
    if once:
        return f'systemd-boot starts "{once}" once, before any default (LoaderEntryOneShot).'
    if entry.embedded:
        return f'"{entry.title}" is a unified kernel image, for which a hold has not been proven to lead back.'
    if entry.tries_left is not None:
        return f'"{entry.title}" counts its boots, and its name changes with each: the default would lose it.'
    if not _PLAIN.fullmatch(entry.id):
        return f'The name "{entry.id}" has characters that systemd-boot would take for a pattern.'
    if entry.id not in _listed(host):
        return f'`bootctl list` does not have the entry "{entry.id}".'
    return ""


def put(host: Host, entry: str) -> None:
    """Hold the default on the entry. Raises `NotDone` and `ProgramFailed`."""
    _set(host, entry)


def take(host: Host, held: Steering) -> None:
    """Give the variable back its old value, or take it away where there was none. Raises as `put` does."""
    if steering.default_variable(host.machine) == held.entry:
        _set(host, held.old or "")


def _set(host: Host, value: str) -> None:
    done = host.run(("bootctl", "set-default", value), _SECONDS)
    if done.code:
        raise NotDone("bootctl set-default", _last_line(done.stderr))


def _listed(host: Host) -> set[str]:
    import json

    done = host.run(("bootctl", "list", "--json=short"), _SECONDS)
    if done.code:
        raise NotDone("bootctl list", _last_line(done.stderr))
    try:
        return {entry["id"].lower() for entry in json.loads(done.stdout)}
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        raise NotDone("bootctl list", "its answer is not understood") from None


def _last_line(text: bytes) -> str:
    lines = text.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].rstrip(".") if lines else "it failed, and said nothing"
