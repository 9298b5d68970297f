"""Boots of before the installation, as the journal tells of them (systemd.journal-fields(7)): weak, better than none.

What it cannot tell is which files booted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from safeupdate.errors import ProgramFailed
from safeupdate.ledger.reading import Boot
from safeupdate.report import rfc3339

if TYPE_CHECKING:
    from safeupdate.machine import Machine

BOOTS = 50
"""Boots that are taken over: a year of weekly ones."""

_LINES = 50_000
"""Lines that are read, the newest: a boot has some 200 that match."""

_TIMEOUT = 20.0
"""Seconds: the journal of a busy server has gigabytes, on a slow disk."""

# A kernel tells its name and its command line before it has a clock. systemd says which target it reached;
# "Startup finished" it says in emergency mode too.
_MATCHES = (
    "_TRANSPORT=kernel",
    "_SOURCE_MONOTONIC_TIMESTAMP=0",
    *("+", "_PID=1", "UNIT=multi-user.target", "JOB_RESULT=done"),
    *("+", "_PID=1", "UNIT=graphical.target", "JOB_RESULT=done"),
)
_FIELDS = "MESSAGE,UNIT,JOB_TYPE"

_RELEASE = re.compile(r"Linux version (\S+) ")
_CMDLINE = re.compile(r"(?:Kernel c|C)ommand line: (.*)")


def boots(machine: Machine) -> tuple[Boot, ...]:
    """The last boots that the machine's journal knows, the oldest first, with the one that is running among them.

    Nothing where there is no journal, or no journalctl(1).
    """
    elsewhere = [] if machine.root == "/" else [f"--root={machine.root}"]
    command = ["journalctl", *elsewhere, "--no-pager", "--quiet", "--output=json", f"--output-fields={_FIELDS}"]
    try:
        done = machine.run([*command, f"--lines={_LINES}", *_MATCHES], timeout=_TIMEOUT)
    except ProgramFailed:
        return ()
    return parse(done.stdout.splitlines())


def parse(lines: Iterable[bytes]) -> tuple[Boot, ...]:
    """The boots in journalctl's JSON, a line an entry. What makes no sense is passed over."""
    started: dict[str, str] = {}
    release: dict[str, str] = {}
    cmdline: dict[str, str] = {}
    reached: dict[str, str] = {}
    for line in lines:
        entry = _entry(line)
        if entry is None:
            continue
        boot, time, message = _boot_id(entry["_BOOT_ID"]), _time(entry["__REALTIME_TIMESTAMP"]), entry["MESSAGE"]
        started.setdefault(boot, time)
        if "UNIT" in entry:
            if entry.get("JOB_TYPE", "start") == "start":
                reached.setdefault(boot, time)
        elif match := _RELEASE.match(message):
            release.setdefault(boot, match.group(1))
        elif match := _CMDLINE.match(message):
            cmdline.setdefault(boot, match.group(1).strip())
    found = [
        Boot(boot, release[boot], None, cmdline.get(boot, ""), started[boot], reached.get(boot), "journal")
        for boot in started
        if boot in release
    ]
    return tuple(found[-BOOTS:])


def _entry(line: bytes) -> Mapping[str, Any] | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    wanted = ("_BOOT_ID", "__REALTIME_TIMESTAMP", "MESSAGE")
    # A message that is no text is an array of numbers, and one that is too long is null.
    if not isinstance(entry, dict) or not all(isinstance(entry.get(name), str) for name in wanted):
        return None
    return entry if entry["__REALTIME_TIMESTAMP"].isdigit() and len(entry["_BOOT_ID"]) == 32 else None


def _time(microseconds: str) -> str:
    try:
        return rfc3339(datetime.fromtimestamp(int(microseconds) // 1_000_000, timezone.utc))
    except (ValueError, OverflowError, OSError):
        return rfc3339(datetime.fromtimestamp(0, timezone.utc))


def _boot_id(text: str) -> str:
    """As the kernel writes it."""
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
