"""Where a change of the gate is told: the journal, the message of the day, and a file that monitoring sees."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from contextlib import suppress

from safeupdate.errors import SafeupdateError
from safeupdate.gate.host import RUN, Host
from safeupdate.gate.standing import kind
from safeupdate.gate.state import Gate
from safeupdate.gate.words import headline
from safeupdate.render import visible

MOTD = "/run/motd.d/safeupdate"
"""pam_motd(8) shows the files of /run/motd.d at each login, on Debian, Fedora and their kin."""

ALARM = f"{RUN}/alarm"
"""There while a person is needed: safeupdate-alarm.service fails where it is, for whatever watches failed units."""

MESSAGE_ID = "5a1ea7b64b7c4f0d9a86c1d3f04e2b71"
"""Of every message about the gate (sd_journal_send(3)): `journalctl MESSAGE_ID=…` shows how it stood when."""

_JOURNAL = "/run/systemd/journal/socket"
_SECONDS = 1.0
"""A journal that does not read is not waited for any longer."""

_PRIORITIES = {"alarm": 3, "closed": 4, "open": 5}
"""sd-daemon(3): err, warning, notice."""


def told(host: Host, before: Gate | None, gate: Gate) -> list[str]:
    """Tell of a change of the gate, and keep the files for people true. Returns what could not be done."""
    needs_person = gate.mode == "armed" and (gate.cause == "unsafe" or gate.overdue)
    sentence = headline(gate)
    if before is None or (kind(before), before.overdue) != (kind(gate), gate.overdue):
        fields = {
            "GATE": gate.position,
            "MODE": gate.mode,
            "VERDICT": gate.verdict,
            "CAUSE": gate.cause,
            "UNATTENDED": "yes" if gate.unattended else "no",
            "KERNEL": gate.judged.kernel or "",
            "FALLBACK": gate.judged.fallback or "",
        }
        journal(host, "alarm" if needs_person else gate.position, sentence, fields)
    lines = [sentence, "`safeupdate status` tells more."]
    problems = []
    for path, wanted in ((MOTD, gate.position == "closed" or gate.overdue), (ALARM, needs_person)):
        try:
            show(host, path, lines if wanted else [])
        except SafeupdateError as error:
            problems.append(f"{path} cannot be kept: {error}.")
    return problems


def journal(host: Host, priority: str, message: str, fields: Mapping[str, str]) -> None:
    """One message with fields of its own (systemd's native journal protocol). Nothing where there is no journal."""
    content = {
        "MESSAGE": message,
        "MESSAGE_ID": MESSAGE_ID,
        "PRIORITY": str(_PRIORITIES[priority]),
        "SYSLOG_IDENTIFIER": "safeupdate",
        **{f"SAFEUPDATE_{name}": value for name, value in fields.items()},
    }
    data = b"".join(_field(name, value) for name, value in content.items())
    with suppress(OSError, SafeupdateError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.settimeout(_SECONDS)
        client.connect(host.machine.host_path(_JOURNAL))
        client.send(data)


def _field(name: str, value: str) -> bytes:
    text = value.encode("utf-8", "replace")
    return name.encode() + b"\n" + struct.pack("<Q", len(text)) + text + b"\n"


def show(host: Host, path: str, lines: list[str]) -> None:
    """Have these lines, and no others, in a file for people; without any there is no file. Raises `NotDone`."""
    machine = host.machine
    if not lines:
        if machine.stat(path, follow=False) is not None:
            host.remove(path)
        return
    data = "".join(f"{visible(line)}\n" for line in lines).encode()
    if machine.is_link(path) or machine.read_if_there(path) != data:
        host.write(path, data)
