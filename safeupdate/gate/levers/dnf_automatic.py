"""`dnf-automatic`: its reboot goes through `safeupdate reboot`, where it is set to reboot at all.

The `reboot_command` of [commands] in /etc/dnf/automatic.conf (dnf-automatic(8), dnf5-automatic(8)), read when a run
starts: the run that has just brought the kernel is held by the other levers. The file says by itself what it held
before, in comments right above our line, so that a shell script can undo it too.
"""

from __future__ import annotations

import re
import stat

from safeupdate.gate import record
from safeupdate.gate.host import Host
from safeupdate.gate.lever import Lever, Order, State
from safeupdate.gate.record import Record
from safeupdate.machine import Machine

NAME = "dnf-automatic"

PATH = "/etc/dnf/automatic.conf"

OURS = "safeupdate reboot --if-safe"
"""Reboots where that is safe, and else ends with an error, which dnf-automatic reports."""

_SECTION = "[commands]"
_LINE = f"reboot_command = {OURS}"

_MARK = "# safeupdate: there was "
_NOTHING = "# safeupdate: there was none"

_OPTION = re.compile(r"([a-z_]+)[ \t]*[=:][ \t]*(.*)")


def state(host: Host) -> State:
    """How it stands."""
    text = host.machine.text(PATH)
    if text is None:
        return State("not-here", f"There is no {PATH}.")
    lines = text.split("\n")
    if _LINE in lines:
        return State("closed", f"The reboot_command of {PATH} asks safeupdate first.")
    if _changed(host.machine, lines):
        return State("not-ours", f"Somebody has changed the reboot_command of {PATH} since safeupdate set it.")
    if _value(lines, "reboot") not in ("when-changed", "when-needed"):
        return State("not-here", "dnf-automatic is not set to reboot.")
    return State("open", f"dnf-automatic reboots as {PATH} says.")


def close(host: Host, order: Order) -> State:
    """Put our command in the place of theirs."""
    found = state(host)
    if found.position != "open":
        return found
    status = host.machine.stat(PATH, follow=False)
    if status is None or not stat.S_ISREG(status.st_mode):
        return State("refused", f"{PATH} is a link: what it leads to is somebody else's.")
    lines = (host.machine.text(PATH) or "").split("\n")
    old = _value(lines, "reboot_command")
    record.store(host, Record(NAME, old, OURS, order.why, host.time))
    host.write(PATH, _text(_held(lines)), stat.S_IMODE(status.st_mode))
    return state(host)


def reopen(host: Host) -> State:
    """Put back what was there, where our command still is."""
    found = state(host)
    status = host.machine.stat(PATH)
    if found.position == "closed" and status is not None:
        lines = (host.machine.text(PATH) or "").split("\n")
        host.write(PATH, _text(_let_go(lines)), stat.S_IMODE(status.st_mode))
    record.drop(host, NAME)
    return found if found.position == "not-ours" else state(host)


def _held(lines: list[str]) -> list[str]:
    where = _place(lines, "reboot_command")
    if where is None:
        after = lines.index(_SECTION) + 1
        return [*lines[:after], _NOTHING, _LINE, *lines[after:]]
    old = [_MARK + line for line in lines[where.start : where.stop]]
    return [*lines[: where.start], *old, _LINE, *lines[where.stop :]]


def _let_go(lines: list[str]) -> list[str]:
    """The lines as they were before `_held`."""
    kept = [line for line in lines if line not in (_LINE, _NOTHING)]
    return [line.removeprefix(_MARK) for line in kept]


def _changed(machine: Machine, lines: list[str]) -> bool:
    """Whether the value is another than the one that we recorded before we changed it."""
    found = record.read(machine, NAME)
    return found is not None and found.old != _value(lines, "reboot_command")


def _value(lines: list[str], name: str) -> str | None:
    """The value of an option of [commands], with its further lines; None where there is none."""
    where = _place(lines, name)
    if where is None:
        return None
    match = _OPTION.match(lines[where.start])
    return "\n".join([match[2] if match else "", *lines[where.start + 1 : where.stop]]).strip()


def _place(lines: list[str], name: str) -> range | None:
    """The lines of an option of [commands]; of several the last counts. Lines that begin with a blank belong to it."""
    found, inside = None, False
    for number, line in enumerate(lines):
        if line.startswith("["):
            inside = line == _SECTION
        match = _OPTION.match(line)
        if inside and match and match[1] == name:
            end = number + 1
            while end < len(lines) and lines[end][:1] in (" ", "\t") and lines[end].strip():
                end += 1
            found = range(number, end)
    return found


def _text(lines: list[str]) -> bytes:
    return "\n".join(lines).encode("utf-8", "surrogateescape")


LEVER = Lever(NAME, "dnf-automatic asks before it reboots", state, close, reopen)
