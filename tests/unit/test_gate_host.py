"""What the gate writes: whole or not at all, for root alone, and never through a link."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path

import pytest

from safeupdate.gate import record, waits
from safeupdate.gate.document import Damaged
from safeupdate.gate.host import RUN, VAR, Host, NotDone
from safeupdate.gate.record import Record
from safeupdate.machine import Machine
from tests.unit.reports import FULL
from tests.unit.trees import Content, Link, tree


@pytest.fixture
def host(tmp_path: Path) -> Host:
    tree(tmp_path, {"/run": None, "/var/lib": None, "/etc": None})
    return Host(Machine(str(tmp_path), live=True), lambda: datetime(2026, 11, 23, tzinfo=timezone.utc))


def at(host: Host, path: str) -> Path:
    return Path(host.machine.root + path)


def test_a_file_is_replaced_whole(host: Host) -> None:
    old = os.umask(0o077)
    try:
        host.write(f"{RUN}/deep/state", b"one")
        host.write(f"{VAR}/levers/x", b"one", mode=0o600)
    finally:
        os.umask(old)
    before = at(host, f"{RUN}/deep/state").stat().st_ino
    host.write(f"{RUN}/deep/state", b"two")
    place = at(host, f"{RUN}/deep/state")
    assert (place.read_bytes(), place.stat().st_mode & 0o777) == (b"two", 0o644)
    assert place.stat().st_ino != before
    assert [at(host, path).stat().st_mode & 0o777 for path in (RUN, f"{RUN}/deep", VAR)] == [0o755, 0o755, 0o700]
    assert os.listdir(place.parent) == ["state"]


def test_what_a_killed_write_left_is_taken_over(host: Host) -> None:
    host.make_directory(RUN)
    at(host, f"{RUN}/.state.new").write_bytes(b"half")
    at(host, f"{RUN}/.state.new").chmod(0)
    host.write(f"{RUN}/state", b"whole")
    assert os.listdir(at(host, RUN)) == ["state"]


def test_a_link_is_replaced_and_not_followed(host: Host) -> None:
    tree(Path(host.machine.root), {"/etc/target": "kept", "/etc/link": Link("target")})
    host.write("/etc/link", b"new")
    assert at(host, "/etc/target").read_bytes() == b"kept"
    assert not at(host, "/etc/link").is_symlink()
    at(host, "/etc/link").unlink()
    at(host, "/etc/link").symlink_to("target")
    with pytest.raises(NotDone):
        host.overwrite("/etc/link", b"KEPT")
    host.remove("/etc/link")
    assert at(host, "/etc/target").read_bytes() == b"kept"


def test_only_directories_of_ours_are_made(host: Host) -> None:
    with pytest.raises(NotDone, match="/etc/none/file: there is no such directory"):
        host.write("/etc/none/file", b"")


def test_overwriting_keeps_the_file_and_its_length(host: Host) -> None:
    host.write("/etc/sector", b"a" * 511)
    before = at(host, "/etc/sector").stat().st_ino
    host.overwrite("/etc/sector", b"b" * 511)
    with pytest.raises(NotDone, match="511 bytes, and not 3"):
        host.overwrite("/etc/sector", b"ccc")
    assert at(host, "/etc/sector").read_bytes() == b"b" * 511
    assert at(host, "/etc/sector").stat().st_ino == before
    with pytest.raises(NotDone):
        host.overwrite("/etc/none", b"")


def test_moving_and_removing(host: Host) -> None:
    at(host, "/run/flag").write_bytes(b"*")
    host.move("/run/flag", f"{RUN}/held/flag")
    assert at(host, f"{RUN}/held/flag").read_bytes() == b"*"
    with pytest.raises(NotDone, match="/run/flag: it cannot be moved"):
        host.move("/run/flag", f"{RUN}/held/flag")
    host.remove(f"{RUN}/held/flag")
    host.remove(f"{RUN}/held/flag")
    host.remove("/no/such/directory")
    assert os.listdir(at(host, f"{RUN}/held")) == []


def test_programs_are_run_on_this_machine_only(host: Host) -> None:
    with pytest.raises(NotDone, match="this machine only"):
        host.run(["true"], 1)


def test_a_record(host: Host) -> None:
    assert record.read(host.machine, "scheduled") is None
    one = Record("scheduled", {"mode": "reboot"}, None, "It would fail.", "2026-11-23T00:00:00+00:00")
    record.store(host, one)
    assert record.read(host.machine, "scheduled") == one
    assert at(host, record.path_of("scheduled")).stat().st_mode & 0o777 == 0o600
    record.drop(host, "scheduled")
    assert record.read(host.machine, "scheduled") is None


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"[]",
        b"[" * 9999,
        b'{"format": 2, "lever": "x", "old": 1, "new": 2, "why": "", "time": ""}',
        b'{"format": 1, "lever": "y", "old": 1, "new": 2, "why": "", "time": ""}',
        b'{"format": 1, "lever": "x", "old": 1, "why": "", "time": ""}',
        b'{"format": 1, "lever": "x", "old": 1, "new": 2, "why": 3, "time": ""}',
    ],
)
def test_a_damaged_record_is_none(host: Host, damage: bytes) -> None:
    host.write(record.path_of("x"), damage)
    with pytest.raises(Damaged, match="is damaged"):
        record.read(host.machine, "x")


LUKS: dict[str, Content] = {
    "/proc/self/mountinfo": "22 1 253:1 / / rw - ext4 /dev/mapper/vg-root rw\n",
    "/proc/cmdline": "root=/dev/mapper/vg-root ro\n",
    "/sys/class/block/dm-1/dm/name": "vg-root\n",
    "/sys/class/block/dm-1/dm/uuid": "LVM-abc\n",
    "/sys/class/block/dm-1/slaves/dm-0": None,
    "/sys/class/block/dm-0/dm/name": "vda3_crypt\n",
    "/sys/class/block/dm-0/dm/uuid": "CRYPT-LUKS2-abc-vda3_crypt\n",
    "/sys/class/block/dm-0/slaves/vda3": None,
    "/sys/class/block/vda3/dev": "254:3\n",
    "/dev/mapper": None,
}


@pytest.mark.parametrize(
    ("files", "waits_for"),
    [
        ({"/etc/crypttab": "vda3_crypt UUID=1 none luks,discard\n"}, True),
        ({}, True),
        ({"/etc/crypttab": "vda3_crypt UUID=1 /etc/key luks\n"}, False),
        ({"/etc/crypttab": "vda3_crypt UUID=1 none luks,tpm2-device=auto\n"}, False),
        ({"/etc/crypttab": "vda3_crypt UUID=1 none luks,keyscript=/x\n"}, False),
        ({"/usr/bin/clevis": ""}, False),
        ({"/proc/cmdline": "rd.luks.key=/key\n"}, False),
        ({"/sys/class/block/dm-0/dm/uuid": "LVM-abc\n"}, False),
    ],
)
def test_a_passphrase_that_the_next_boot_waits_for(tmp_path: Path, files: dict[str, Content], waits_for: bool) -> None:
    told = "The next boot asks for the passphrase of vda3_crypt, which the root file system lies on."
    assert waits.of(tree(tmp_path, {**LUKS, **files}), FULL) == (told,) * waits_for
