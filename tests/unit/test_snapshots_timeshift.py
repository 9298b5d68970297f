"""Timeshift's back end, on files as its source writes them (25.12): it is not where these tests run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import pytest

from safeupdate.gate.host import Host
from safeupdate.machine import Completed, Machine, Space
from safeupdate.snapshots import timeshift
from safeupdate.snapshots.backend import Detected, Label, SnapshotError, Unusable

_NOW = datetime(2026, 11, 23, 18, 0, tzinfo=timezone.utc)

_LABEL = Label(7, "pre-transaction", "6.1.0-51-amd64", "3a1c6a5e-6f0e-4b7e-9a53-1d2b3c4d5e6f", _NOW.isoformat())

_MOUNTS = """22 1 254:1 / / rw - ext4 /dev/vda1 rw
30 22 254:3 / /home rw - ext4 /dev/vda3 rw
32 22 254:2 / /boot rw - ext4 /dev/vda2 rw
"""

_UUID = "0f2b7a1c-5f0e-4b7e-9a53-1d2b3c4d5e6f"

_POINT = "run/safeupdate/mounts/timeshift"


class Disk:
    """Timeshift and its disk, which is not mounted but where it would be. `fails`: it makes nothing, and says nothing
    of it."""

    def __init__(self, root: Path) -> None:
        self.copies = root / _POINT / "timeshift/snapshots"
        self.asked: list[str] = []
        self.fails = False

    def add(self, name: str, comments: str, created: float, *, whole: bool = True) -> None:
        place = self.copies / name
        (place / "localhost").mkdir(parents=True)
        told = {
            "created": str(int(created)),
            "sys-uuid": _UUID,
            "sys-distro": "Debian 12 (bookworm)",
            "app-version": "25.12.4",
            "file_count": "211345",
            "tags": "ondemand",
            "comments": comments,
            "live": "false",
            "type": "rsync",
        }
        if whole:
            (place / "info.json").write_text(json.dumps(told, indent=2))

    def run(self, command: Sequence[str], _timeout: float) -> Completed:
        if command[0] == "timeshift":
            self.asked.append(" ".join(command))
        if "--create" in command and not self.fails:
            self.add("2026-11-23_18-00-00", command[command.index("--comments") + 1], _NOW.timestamp())
        elif "--delete" in command:
            (self.copies / command[-1] / "info.json").unlink()
        return Completed(0, b"", b"")


def _host(tmp_path: Path, disk: Disk, **settings: str) -> Host:
    told = {"backup_device_uuid": _UUID, "parent_device_uuid": "", "do_first_run": "false", "btrfs_mode": "false"}
    files = {
        "proc/self/mountinfo": _MOUNTS,
        "usr/bin/timeshift": "",
        "etc/timeshift/timeshift.json": json.dumps({**told, **settings}),
        f"dev/disk/by-uuid/{_UUID}": "",
        "run/x": "",
        "var/x": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return Host(Machine.tree(str(tmp_path)), lambda: _NOW, disk.run)


def test_what_is_covered(tmp_path: Path) -> None:
    found = timeshift.BACKEND.detect(_host(tmp_path, Disk(tmp_path)))
    assert isinstance(found, Detected)
    assert [place.point for place in found.covered] == ["/", "/boot"]
    assert [place.point for place in found.not_covered] == ["/home"]
    assert found.boot_returns
    assert timeshift.BACKEND.slow


def test_what_it_is_not_used_for(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    assert timeshift.BACKEND.detect(_host(tmp_path, disk, btrfs_mode="true")) == Unusable()
    found = timeshift.BACKEND.detect(_host(tmp_path, disk, backup_device_uuid=""))
    assert isinstance(found, Unusable)
    assert found.why == "Timeshift is installed, and was not set up."
    host = _host(tmp_path, disk)
    (tmp_path / f"dev/disk/by-uuid/{_UUID}").unlink()
    found = timeshift.BACKEND.detect(host)
    assert isinstance(found, Unusable)
    assert "is not there" in found.why
    assert timeshift.BACKEND.list(host) == ()
    (tmp_path / "usr/bin/timeshift").unlink()
    assert timeshift.BACKEND.detect(host) == Unusable()


def test_copies_on_a_disk_that_is_not_there_are_not_gone(tmp_path: Path) -> None:
    host = _host(tmp_path, Disk(tmp_path))
    (tmp_path / f"dev/disk/by-uuid/{_UUID}").unlink()
    place = tmp_path / "var/lib/safeupdate/snapshots/7/manifest.json"
    place.parent.mkdir(parents=True)
    # What cannot be read may have been one of these.
    place.write_text("{")
    with pytest.raises(SnapshotError, match="their disk is not there"):
        timeshift.BACKEND.list(host)


def test_from_beginning_to_end(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    disk.add("2026-11-20_06-00-01", "before my holidays", 1763618401)
    host = _host(tmp_path, disk)
    made = timeshift.BACKEND.create(host, _LABEL)
    (asked,) = disk.asked
    assert asked == (
        "timeshift --create --scripted --tags O --comments safeupdate number=7 kind=pre-transaction "
        "kernel=6.1.0-51-amd64 boot_id=3a1c6a5e-6f0e-4b7e-9a53-1d2b3c4d5e6f time=2026-11-23T18:00:00+00:00"
    )
    assert made.ids == ("2026-11-23_18-00-00",)
    assert timeshift.BACKEND.list(host) == (made,)
    (step,) = timeshift.BACKEND.undo_plan(host, made).steps
    assert " ".join(step.command) == (
        "timeshift --restore --scripted --snapshot 2026-11-23_18-00-00 --target-device /dev/vda1 --skip-grub"
    )
    timeshift.BACKEND.delete(host, made)
    assert disk.asked[-1] == "timeshift --delete --scripted --snapshot 2026-11-23_18-00-00"
    assert timeshift.BACKEND.list(host) == ()
    timeshift.BACKEND.delete(host, made)
    assert len(disk.asked) == 2
    with pytest.raises(SnapshotError, match="no copy"):
        timeshift.BACKEND.undo_plan(host, made)


def test_it_makes_nothing_and_does_not_say_so(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    disk.fails = True
    with pytest.raises(SnapshotError, match="has made no copy"):
        timeshift.BACKEND.create(_host(tmp_path, disk), _LABEL)


def test_a_copy_that_is_not_finished_is_none(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    host = _host(tmp_path, disk)
    disk.add("2026-11-23_17-00-00", "safeupdate number=6", 0, whole=False)
    assert timeshift.BACKEND.list(host) == ()


def _left(total: int, free: int) -> Space:
    return Space(1, total << 30, free << 30, free << 30, None, None, read_only=False)


def test_room(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    host = _host(tmp_path, disk)
    with pytest.raises(SnapshotError, match="cannot be told"):  # a tree has no file system of its own
        timeshift.BACKEND.space(host)
    spaces = {"/": _left(40, 28), f"/{_POINT}": _left(100, 11)}
    host = Host(Machine.tree(str(tmp_path), spaces=spaces), host.now, host.runner)
    (first,) = timeshift.BACKEND.space(host)
    assert (first.free >> 30, first.needed >> 30, first.is_enough) == (11, 12, False)
    disk.add("2026-11-20_06-00-01", "before my holidays", 1763618401)
    (later,) = timeshift.BACKEND.space(host)
    assert (later.needed >> 30, later.is_enough) == (4, True)


def test_what_another_hook_has_made(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    host = _host(tmp_path, disk)
    assert timeshift.BACKEND.adopt is not None
    disk.add("2026-11-23_17-55-00", "{timeshift-autosnap-apt} {created before call to APT}", _NOW.timestamp() - 300)
    disk.add("2026-11-23_17-40-00", "an older one", _NOW.timestamp() - 1200)
    assert timeshift.BACKEND.adopt(host, "2026-11-23T17:50:00+00:00") == "2026-11-23_17-55-00"
    assert timeshift.BACKEND.adopt(host, "2026-11-23T17:56:00+00:00") is None
    timeshift.BACKEND.create(host, _LABEL)
    assert timeshift.BACKEND.adopt(host, "2026-11-23T17:56:00+00:00") is None
