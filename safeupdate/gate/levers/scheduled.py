"""`scheduled`: a reboot that waits for its time is cancelled, and scheduled again when the gate opens in time.

A power-off is never touched, and a reboot whose time has passed is never made up for.
"""

from __future__ import annotations

from datetime import datetime, timezone

from safeupdate.gate import record, systemd
from safeupdate.gate.document import Damaged
from safeupdate.gate.host import Host
from safeupdate.gate.lever import Lever, Order, State
from safeupdate.gate.record import Record
from safeupdate.gate.systemd import Scheduled
from safeupdate.ledger import reading
from safeupdate.machine import Machine

NAME = "scheduled"

_MODES = {"reboot": "reboot", "kexec": "reboot by kexec", "soft-reboot": "soft reboot"}


def state(host: Host) -> State:
    """How it stands."""
    waiting, remembered = systemd.scheduled(host.machine), _remembered(host.machine)
    if waiting is not None and waiting.mode in _MODES:
        return State("open", f"A {_said(waiting)} is scheduled.")
    if remembered is not None and _is_to_come(host, remembered):
        return State("closed", f"A {_said(remembered)} was cancelled; it is scheduled again if the gate opens before.")
    if remembered is not None:
        return State("closed", _passed(remembered))
    if waiting is not None:
        return State("not-here", f"A {waiting.mode} is scheduled, and no reboot.")
    return State("not-here", "No reboot is scheduled.")


def close(host: Host, order: Order) -> State:
    """Remember what is scheduled, then cancel it. Of two, the later word counts, as it does for logind."""
    waiting = systemd.scheduled(host.machine)
    if waiting is not None and waiting.mode in _MODES:
        old: dict[str, record.Json] = {
            "mode": waiting.mode,
            "microseconds": waiting.microseconds,
            "boot": reading.boot_id(host.machine),
        }
        record.store(host, Record(NAME, old, None, order.why, host.time))
        if systemd.scheduled(host.machine) == waiting:  # and not a power-off, meanwhile
            systemd.login1(host, "CancelScheduledShutdown")
        if systemd.scheduled(host.machine) == waiting:
            return State("refused", f"logind did not cancel the {_said(waiting)}.")
    systemd.let_users_in(host)
    return state(host)


def reopen(host: Host) -> State:
    """Schedule again what was cancelled, where its time is still to come and nothing else was scheduled since."""
    try:
        remembered, words = _remembered(host.machine), ""
    except Damaged as error:
        remembered, words = None, f"{error}; a reboot that was cancelled is not scheduled again."
    if remembered is not None and systemd.scheduled(host.machine) is None:
        if _is_to_come(host, remembered):
            systemd.login1(host, "ScheduleShutdown", "st", remembered.mode, str(remembered.microseconds))
            words = f"The {_said(remembered)} is scheduled again."
        else:
            words = _passed(remembered)
    record.drop(host, NAME)
    systemd.let_users_in(host)
    found = state(host)
    return State(found.position, words) if words else found


def _remembered(machine: Machine) -> Scheduled | None:
    """What was cancelled in this boot: what was scheduled in an earlier one ended with that."""
    found = record.read(machine, NAME)
    if found is None or not isinstance(found.old, dict):
        return None
    mode, microseconds, boot = (found.old.get(key) for key in ("mode", "microseconds", "boot"))
    if not isinstance(mode, str) or mode not in _MODES or not isinstance(microseconds, int):
        return None
    return Scheduled(mode, microseconds) if boot == reading.boot_id(machine) else None


def _is_to_come(host: Host, remembered: Scheduled) -> bool:
    return remembered.microseconds > host.now().timestamp() * 1e6


def _passed(remembered: Scheduled) -> str:
    return f"A {_said(remembered)} was cancelled; its time has passed, and it is not made up for."


def _said(waiting: Scheduled) -> str:
    try:
        time = datetime.fromtimestamp(waiting.microseconds / 1e6, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, ValueError, OSError):
        time = "a time beyond all calendars"
    return f"{_MODES[waiting.mode]} at {time}"


LEVER = Lever(NAME, "a scheduled reboot is cancelled", state, close, reopen)
