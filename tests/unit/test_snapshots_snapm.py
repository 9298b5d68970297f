"""snapm's back end, on the JSON that its manual shows and its source writes (0.7): it is not where these tests run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from safeupdate.gate import document
from safeupdate.gate.host import Host
from safeupdate.machine import Completed, Machine, Space
from safeupdate.snapshots import snapm
from safeupdate.snapshots.backend import Detected, Label, SnapshotError, Unusable

_NOW = datetime(2026, 11, 23, 18, 0, tzinfo=timezone.utc)

_LABEL = Label(7, "pre-reboot", "6.12.0-55.el10.x86_64", "3a1c6a5e-6f0e-4b7e-9a53-1d2b3c4d5e6f", _NOW.isoformat())

_MOUNTS = """22 1 253:0 / / rw - xfs /dev/mapper/rhel-root rw
30 22 253:2 / /var rw - xfs /dev/mapper/rhel-var rw
31 22 253:3 / /home rw - xfs /dev/mapper/rhel-home rw
32 22 254:1 / /boot rw - xfs /dev/vda1 rw
"""

_OTHER = {
    "SnapsetName": "before-upgrade",
    "Sources": ["/", "/home", "/var"],
    "MountPoints": ["/", "/home", "/var"],
    "Devices": [],
    "NrSnapshots": 3,
    "Timestamp": 1755915019,
    "Time": "2025-08-23 03:10:19",
    "UUID": "d9b63a58-333b-517a-b38d-7cc818040fab",
    "Status": "Active",
    "Categories": ["yearly", "monthly", "daily", "hourly"],
    "Autoactivate": True,
    "OriginMounted": True,
    "Mounted": False,
    "Bootable": True,
    "BootEntries": {"SnapshotEntry": "61cb664", "RevertEntry": "74c1cf2"},
}


class Sets:
    """What snapm has, and what it was asked."""

    def __init__(self) -> None:
        self.sets: list[dict[str, Any]] = [dict(_OTHER)]
        self.asked: list[str] = []

    def run(self, command: Sequence[str], _timeout: float) -> Completed:
        assert tuple(command[:2]) == ("snapm", "snapset")
        verb, *rest = command[2:]
        if verb != "show":
            self.asked.append(" ".join(command))
        if verb == "create":
            name, *sources = [word for word in rest if not word.startswith("--")]
            made = {**_OTHER, "SnapsetName": name, "Sources": sources, "Timestamp": int(_NOW.timestamp())}
            self.sets.append(made)
            return Completed(0, json.dumps(made, indent=4).encode(), b"")
        if verb == "delete":
            self.sets = [one for one in self.sets if one["SnapsetName"] != rest[0]]
        return Completed(0, json.dumps(self.sets, indent=4).encode(), b"")


def _host(tmp_path: Path, sets: Sets, *, boom: bool = True, mounts: str = _MOUNTS) -> Host:
    files = {
        "proc/self/mountinfo": mounts,
        "proc/sys/kernel/osrelease": "6.12.0-50.el10.x86_64\n",
        "usr/bin/snapm": "",
        "var/lib/rpm/rpmdb.sqlite": "",
        "boot/vmlinuz-6.12.0-50.el10.x86_64": "kernel",
        "boot/initramfs-6.12.0-50.el10.x86_64.img": "initramfs",
    }
    if boom:
        files.update({"usr/bin/boom": "", "boot/boom/boom.conf": ""})
    for number in (0, 2, 3):
        files[f"sys/dev/block/253:{number}/dm/uuid"] = "LVM-0123456789"
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return Host(Machine.tree(str(tmp_path)), lambda: _NOW, sets.run)


def test_what_is_covered(tmp_path: Path) -> None:
    found = snapm.BACKEND.detect(_host(tmp_path, Sets()))
    assert isinstance(found, Detected)
    assert found.parts == ("/", "/var")
    assert [place.point for place in found.not_covered] == ["/boot", "/home"]
    assert found.undo.takes_effect
    assert not found.boot_returns
    assert snapm.BACKEND.opt_in


def test_a_root_on_stratis(tmp_path: Path) -> None:
    host = _host(tmp_path, Sets())
    (tmp_path / "sys/dev/block/253:0/dm/uuid").write_text("stratis-1-0123456789-thin-fs-0123456789")
    assert isinstance(snapm.BACKEND.detect(host), Detected)


def test_nothing_for_it(tmp_path: Path) -> None:
    host = _host(tmp_path, Sets(), mounts="22 1 254:2 / / rw - xfs /dev/vda2 rw\n")
    assert snapm.BACKEND.detect(host) == Unusable()
    (tmp_path / "usr/bin/snapm").unlink()
    assert snapm.BACKEND.list(host) == ()


def test_programs_elsewhere_are_newer_than_what_goes_back(tmp_path: Path) -> None:
    found = snapm.BACKEND.detect(_host(tmp_path, Sets(), mounts=f"{_MOUNTS}33 22 254:2 / /usr rw - xfs /dev/vda2 rw\n"))
    assert isinstance(found, Detected)
    assert not found.undo.takes_effect


@pytest.mark.parametrize("boom", [True, False])
def test_from_beginning_to_end(tmp_path: Path, boom: bool) -> None:
    sets = Sets()
    host = _host(tmp_path, sets, boom=boom)
    made = snapm.BACKEND.create(host, _LABEL)
    entries = "--bootable --revert " if boom else ""
    assert sets.asked == [f"snapm snapset create --json {entries}safeupdate-7-pre-reboot / /var"]
    assert made.ids == ("safeupdate-7-pre-reboot:/", "safeupdate-7-pre-reboot:/var")
    (found,) = snapm.BACKEND.list(host)
    assert (found.ids, found.problem) == (made.ids, "")
    # The rest of the label is not there without the manifest.
    assert (found.label.number, found.label.kind, found.label.time) == (7, "pre-reboot", "2026-11-23T18:00:00+00:00")
    plan = snapm.BACKEND.undo_plan(host, found)
    assert [step.command for step in plan.steps] == [("snapm", "snapset", "revert", "safeupdate-7-pre-reboot")]
    assert plan.once
    assert any("Revert safeupdate-7-pre-reboot" in sentence for sentence in plan.stays)
    snapm.BACKEND.delete(host, found)
    assert sets.asked[-1] == "snapm snapset delete safeupdate-7-pre-reboot"
    assert [one["SnapsetName"] for one in sets.sets] == ["before-upgrade"]
    snapm.BACKEND.delete(host, found)
    assert sets.asked[-1] == "snapm snapset delete safeupdate-7-pre-reboot"


def test_the_label_of_the_manifest(tmp_path: Path) -> None:
    host = _host(tmp_path, Sets())
    snapm.BACKEND.create(host, _LABEL)
    texts = {**_LABEL.texts(), "number": 7}
    nothing = {"adopted": None, "running": None, "loader": None, "entry": None, "next_kernel": None}
    lists: dict[str, list[str]] = {"parts": ["/", "/var"], "releases": [], "files": []}
    content = {"label": texts, "backend": "snapm", "boot_returns": False, **nothing, **lists}
    place = tmp_path / "var/lib/safeupdate/snapshots/7/manifest.json"
    place.parent.mkdir(parents=True)
    place.write_bytes(document.text(content))
    (found,) = snapm.BACKEND.list(host)
    assert found.label == _LABEL


@pytest.mark.parametrize(("status", "words"), [("Invalid", "overflowed"), ("Reverting", "next boot"), ("Inactive", "")])
def test_what_became_of_it(tmp_path: Path, status: str, words: str) -> None:
    sets = Sets()
    host = _host(tmp_path, sets)
    snapm.BACKEND.create(host, _LABEL)
    sets.sets[-1]["Status"] = status
    (found,) = snapm.BACKEND.list(host)
    assert words in found.problem
    assert bool(snapm.BACKEND.undo_plan(host, found).steps) == (status != "Reverting")


def test_room_for_the_entries(tmp_path: Path) -> None:
    host = _host(tmp_path, Sets())
    left = Space(1, 1 << 30, 20 << 20, 20 << 20, None, None, read_only=False)
    host = Host(Machine.tree(str(tmp_path), spaces={"/boot": left}), host.now, host.runner)
    (room,) = snapm.BACKEND.space(host)
    assert room.needed == len("kernel" + "initramfs") + (32 << 20)
    assert not room.is_enough
    (tmp_path / "usr/bin/boom").unlink()
    assert snapm.BACKEND.space(host) == ()


def test_what_another_hook_has_made(tmp_path: Path) -> None:
    sets = Sets()
    host = _host(tmp_path, sets)
    assert snapm.BACKEND.adopt is not None
    assert snapm.BACKEND.adopt(host, "2025-08-23T02:00:00+00:00") == "before-upgrade"
    assert snapm.BACKEND.adopt(host, "2025-08-23T02:11:00+00:00") is None
    snapm.BACKEND.create(host, _LABEL)
    assert snapm.BACKEND.adopt(host, "2026-11-23T00:00:00+00:00") is None


@pytest.mark.parametrize("answer", [b"", b"{}", b"[1]", b'[{"SnapsetName": "safeupdate-7-by-hand"}]'])
def test_an_answer_that_is_none(tmp_path: Path, answer: bytes) -> None:
    host = _host(tmp_path, Sets())
    host = Host(host.machine, host.now, lambda _command, _timeout: Completed(0, answer, b""))
    with pytest.raises(SnapshotError):
        snapm.BACKEND.list(host)
