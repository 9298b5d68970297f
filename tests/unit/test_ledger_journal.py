"""Boots that a journal tells of. The entries are those of a Debian 12 machine's boot, with few of their fields."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from safeupdate.ledger import journal
from safeupdate.machine import Machine

EXPORT = Path(__file__).parent.parent / "data" / "journal" / "bios-ext4.export"
RECORDED = "881f6ff2431a455ba9baff726fdca82e"
MACHINE_ID = "a15c8e416bd3e4f6ba6a202743c9eea9"
REMOTE = shutil.which("systemd-journal-remote", path="/lib/systemd:/usr/lib/systemd") or ""

needs_journal = pytest.mark.skipif(
    not REMOTE or not shutil.which("journalctl"), reason="nothing here writes and reads journals"
)


def boot(number: int, *, came_up: bool = True, kernel: bool = True) -> bytes:
    """The recorded boot as one of several: an hour after the one before, with its own name and release."""
    entries = []
    for entry in EXPORT.read_bytes().strip(b"\n").split(b"\n\n"):
        fields = dict(line.split(b"=", 1) for line in entry.split(b"\n"))
        if (not came_up and b"UNIT" in fields) or (not kernel and b"UNIT" not in fields):
            continue
        time = int(fields[b"__REALTIME_TIMESTAMP"]) + number * 3600 * 10**6
        fields[b"__REALTIME_TIMESTAMP"] = str(time).encode()
        fields[b"_BOOT_ID"] = identity(number).replace("-", "").encode()
        fields[b"MESSAGE"] = fields[b"MESSAGE"].replace(b"6.1.0-55", b"6.1.0-%d" % (55 + number))
        entries.append(b"\n".join(name + b"=" + value for name, value in fields.items()))
    return b"\n\n".join(entries) + b"\n\n"


def identity(number: int) -> str:
    return f"881f6ff2-431a-455b-a9ba-ff726fdc{number:04x}"


def write(root: Path, *boots: bytes) -> Machine:
    """A machine whose journal holds these boots."""
    place = root / "var/log/journal" / MACHINE_ID
    place.mkdir(parents=True)
    command = [REMOTE, "-o", str(place / "system.journal"), "-"]
    subprocess.run(command, input=b"".join(boots), check=True, capture_output=True, timeout=60)
    return Machine(str(root), live=True)


@needs_journal
def test_boots_of_a_journal(tmp_path: Path) -> None:
    found = journal.boots(write(tmp_path, boot(0), boot(1, came_up=False), boot(2), boot(3, kernel=False)))
    assert [(one.boot_id, one.release, one.confirmed) for one in found] == [
        (identity(0), "6.1.0-55-amd64", "2026-11-23T04:49:45+00:00"),
        (identity(1), "6.1.0-56-amd64", None),
        (identity(2), "6.1.0-57-amd64", "2026-11-23T06:49:45+00:00"),
    ]
    first = found[0]
    assert first.started == "2026-11-23T04:49:13+00:00"
    assert first.cmdline == (
        "BOOT_IMAGE=/boot/vmlinuz-6.1.0-55-amd64 root=UUID=5afe11fe-0001-4000-8000-000000000001 ro console=ttyS0,115200"
    )
    assert (first.source, first.kernel, first.initramfs, first.modules) == ("journal", None, None, None)


@needs_journal
def test_boots_are_bounded(tmp_path: Path) -> None:
    found = journal.boots(write(tmp_path, *(boot(number) for number in range(60))))
    assert [one.boot_id for one in found] == [identity(number) for number in range(10, 60)]


@needs_journal
def test_a_damaged_journal(tmp_path: Path) -> None:
    machine = write(tmp_path, boot(0))
    (file,) = (tmp_path / "var/log/journal" / MACHINE_ID).iterdir()
    whole = file.read_bytes()
    for damaged in (whole[:5000], bytes(len(whole)), whole[:300] + os.urandom(9000) + whole[9300:], b""):
        file.write_bytes(damaged)
        journal.boots(machine)


def test_no_journal(tmp_path: Path) -> None:
    assert journal.boots(Machine(str(tmp_path), live=True)) == ()


def line(**fields: object) -> bytes:
    usual = {"_BOOT_ID": RECORDED, "__REALTIME_TIMESTAMP": "1795409353123456", "MESSAGE": "Linux version 6.1 (x)"}
    return json.dumps({**usual, **fields}).encode()


def test_what_makes_no_sense_is_passed_over() -> None:
    odd = (
        b"",
        b"{",
        b"[1]",
        b"[" * 100_000,
        line(MESSAGE=None),
        line(MESSAGE=[1, 2]),
        line(_BOOT_ID="x"),
        line(_BOOT_ID=1),
        line(__REALTIME_TIMESTAMP="soon"),
    )
    assert journal.parse(odd) == ()
    (found,) = journal.parse((*odd, line(), line(UNIT="multi-user.target", JOB_TYPE="stop")))
    assert (found.release, found.cmdline, found.confirmed) == ("6.1", "", None)
    (found,) = journal.parse([line(__REALTIME_TIMESTAMP="9" * 30)])
    assert found.started == "1970-01-01T00:00:00+00:00"
