"""LVM's back ends, on the report that lvs of lvm2 2.03.16 made of a volume group (tests/data/snapshots/lvs.json, made
with no device mapper: what only an active volume has is put in as measured on one that was)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from safeupdate.config import SnapshotSettings
from safeupdate.gate.host import Host
from safeupdate.machine import Completed, Machine
from safeupdate.snapshots import lvm, lvm_thick, lvm_thin, manifest, take
from safeupdate.snapshots.backend import Backend, Detected, Label, SnapshotError, Unusable
from safeupdate.snapshots.manifest import Manifest

_REPORT = Path(__file__).parents[1] / "data" / "snapshots" / "lvs.json"

_NOW = datetime(2026, 11, 23, 18, 0, tzinfo=timezone.utc)

_LABEL = Label(7, "pre-transaction", "6.1.0-51-amd64", "3a1c6a5e-6f0e-4b7e-9a53-1d2b3c4d5e6f", _NOW.isoformat())

_BOOT = "29 1 254:1 / /boot rw - ext4 /dev/vda1 rw\n"

_ACTIVE = {
    "root": {"lv_kernel_major": "253", "lv_kernel_minor": "0"},
    "var": {"lv_kernel_major": "253", "lv_kernel_minor": "1"},
    "thin": {"lv_kernel_major": "253", "lv_kernel_minor": "2", "data_percent": "10.00"},
    "pool": {"data_percent": "9.99", "metadata_percent": "11.91"},
    "root_safeupdate_1": {"data_percent": "12.00", "lv_snapshot_invalid": ""},
}

_THICK = SnapshotSettings(also=("lvm-thick",))

_MILD = replace(lvm_thick.BACKEND, changes_root=False)
"""Nothing is judged with what it makes."""

Row = dict[str, str]


class Group:
    """What the programs of LVM do to the report, and what they were asked. `fails` is what the one ends with whose
    words have this."""

    def __init__(self, *, ours: bool = False) -> None:
        rows: list[Row] = json.loads(_REPORT.read_bytes())["report"][0]["lv"]
        for row in rows:
            row.update(_ACTIVE.get(row["lv_name"], {}))
            # A pool that could bear an update: the report's has 800 MiB.
            if row["lv_name"] == "pool":
                row["lv_size"] = str(8 << 30)
        self.rows = [row for row in rows if ours or "_safeupdate_" not in row["lv_name"]]
        self.asked: list[str] = []
        self.fails = ""

    def __getitem__(self, name: str) -> Row:
        return next(row for row in self.rows if row["lv_name"].strip("[]") == name)

    def run(self, command: Sequence[str], _timeout: float) -> Completed:
        words = " ".join(command)
        if command[0] != "lvs":
            self.asked.append(words)
        if self.fails and self.fails in words:
            return Completed(5, b"", b"  Insufficient free space: 1 extents needed, but only 0 available\n")
        if command[0] == "lvs":
            return Completed(0, json.dumps({"report": [{"lv": self.rows}]}).encode(), b"")
        named = self[command[-1].partition("/")[2]]
        if command[0] == "lvcreate":
            tags = [word for flag, word in zip(command, command[1:]) if flag == "--addtag"]
            name = command[command.index("-n") + 1]
            kernel = {"lv_kernel_major": "-1", "lv_kernel_minor": "-1"}
            self.rows.append(
                {**named, **kernel, "lv_name": name, "origin": named["lv_name"], "lv_tags": ",".join(tags)}
            )
        elif command[0] == "lvremove":
            self.rows.remove(named)
        return Completed(0, b"", b"")


def _host(tmp_path: Path, group: Group, root: str = "253:0", more: str = _BOOT, fstype: str = "ext4") -> Host:
    mounts = f"22 1 {root} / / rw - {fstype} /dev/mapper/vg0-root rw\n{more}"
    files = {
        "proc/self/mountinfo": mounts,
        "usr/sbin/lvs": "",
        "sys/dev/block/253:0/dm/uuid": "LVM-0123456789",
        "sys/dev/block/253:1/dm/uuid": "LVM-0123456789",
        "sys/dev/block/253:2/dm/uuid": "LVM-0123456789",
        "sys/dev/block/253:9/dm/uuid": "CRYPT-LUKS2-0123456789",
        "sys/dev/block/253:9/slaves/dm-0/dev": "253:0",
        "sys/class/block/dm-0/dev": "253:0",
        "usr/lib/x": "",
        "var/lib/dpkg/status": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return Host(Machine.tree(str(tmp_path)), lambda: _NOW, group.run)


def _detected(backend: Backend, host: Host) -> Detected:
    found = backend.detect(host)
    assert isinstance(found, Detected), found
    return found


def test_a_thin_root(tmp_path: Path) -> None:
    found = _detected(lvm_thin.BACKEND, _host(tmp_path, Group(), "253:2"))
    assert found.parts == ("vg0/thin",)
    assert [place.point for place in found.covered] == ["/"]
    assert [(place.point, place.why) for place in found.not_covered] == [("/boot", "/boot is not on a logical volume.")]
    assert found.undo.takes_effect
    assert not found.boot_returns


def test_a_thick_root_with_var_on_a_volume_of_its_own(tmp_path: Path) -> None:
    host = _host(tmp_path, Group(), more=f"{_BOOT}30 22 253:1 / /var rw - ext4 /dev/mapper/vg0-var rw\n")
    found = _detected(lvm_thick.BACKEND, host)
    assert found.parts == ("vg0/root", "vg0/var")
    assert [place.point for place in found.covered] == ["/", "/var"]
    refused = lvm_thin.BACKEND.detect(host)
    assert isinstance(refused, Unusable)
    assert refused.why == "The root file system is on vg0/root, which is not in a thin pool."
    assert 'also = ["lvm-thick"]' in refused.hint
    assert lvm_thick.BACKEND.opt_in
    assert lvm_thick.BACKEND.changes_root


def test_a_container_on_a_volume(tmp_path: Path) -> None:
    group = Group()
    host = _host(tmp_path, group, "253:9")
    found = lvm_thick.BACKEND.detect(host)
    assert isinstance(found, Unusable)
    assert found.why.startswith("What / lies on is found within its logical volume")
    group["root"].update({"lv_layout": "thin,sparse", "pool_lv": "pool"})
    assert _detected(lvm_thin.BACKEND, host).parts == ("vg0/root",)


@pytest.mark.parametrize(
    ("line", "table", "why"),
    [
        ("root=/dev/mapper/vg0-root ro", "/dev/mapper/vg0-root / ext4 defaults 0 1\nUUID=1 /boot ext4\n", ""),
        ("root=UUID=0123 ro", "", "The kernel's command line finds / by `UUID=0123`"),
        ("root=/dev/mapper/vg0-root", "LABEL=root / ext4 defaults 0 1\n", "/etc/fstab finds / by `LABEL=root`"),
    ],
)
def test_a_thick_snapshot_is_not_to_be_taken_for_its_origin(tmp_path: Path, line: str, table: str, why: str) -> None:
    host = _host(tmp_path, Group())
    (tmp_path / "proc/cmdline").write_text(line)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/fstab").write_text(table)
    found = lvm_thick.BACKEND.detect(host)
    assert isinstance(found, Unusable) == bool(why)
    if isinstance(found, Unusable):
        assert found.why == f"{why}, and with a snapshot of LVM's that is there twice."


def test_a_root_on_no_volume(tmp_path: Path) -> None:
    host = _host(tmp_path, Group(), "254:2")
    assert lvm_thin.BACKEND.detect(host) == Unusable()
    assert lvm_thick.BACKEND.detect(host) == Unusable()
    assert lvm_thin.BACKEND.list(host) == ()


def test_btrfs_must_not_be_there_twice(tmp_path: Path) -> None:
    found = lvm_thin.BACKEND.detect(_host(tmp_path, Group(), "253:2", fstype="btrfs"))
    assert isinstance(found, Unusable)
    assert "twice" in found.why


def test_programs_that_are_missing(tmp_path: Path) -> None:
    host = _host(tmp_path, Group())
    (tmp_path / "usr/sbin/lvs").unlink()
    found = lvm_thin.BACKEND.detect(host)
    assert isinstance(found, Unusable)
    assert found.hint == "Install lvm2."


def test_programs_of_another_volume_than_the_system_are_newer_than_what_goes_back(tmp_path: Path) -> None:
    host = _host(tmp_path, Group(), "253:2", more="30 22 253:1 / /usr rw - ext4 /dev/mapper/vg0-var rw\n")
    found = _detected(lvm_thin.BACKEND, host)
    assert not found.undo.takes_effect
    assert found.undo.why.startswith("/usr is on vg0/var, which is not kept.")


def test_a_volume_of_vdo_is_not_thin(tmp_path: Path) -> None:
    group = Group()
    group["root"].update({"lv_layout": "vdo", "pool_lv": "vpool0"})
    host = _host(tmp_path, group)
    assert isinstance(lvm_thin.BACKEND.detect(host), Unusable)
    assert _detected(lvm_thick.BACKEND, host).parts == ("vg0/root",)


def test_what_is_no_part_of_the_system_is_not_kept(tmp_path: Path) -> None:
    more = f"{_BOOT}30 22 253:1 / /home rw - ext4 /dev/mapper/vg0-var rw\n"
    found = _detected(lvm_thick.BACKEND, _host(tmp_path, Group(), more=more))
    assert found.parts == ("vg0/root",)
    assert "/home is on vg0/var, which is not kept." in [place.why for place in found.not_covered]


def test_room_in_a_pool(tmp_path: Path) -> None:
    group = Group()
    host = _host(tmp_path, group, "253:2")
    data, metadata = lvm_thin.BACKEND.space(host)
    assert data.what == "the data of the thin pool vg0/pool"
    assert data.needed == 1 << 30
    assert data.free == int((8 << 30) * (1 - 0.0999))
    assert "waits for room" in data.why
    assert metadata.needed == 1 << 20
    assert data.is_enough
    assert metadata.is_enough


def test_a_pool_that_is_full(tmp_path: Path) -> None:
    group = Group()
    group["pool"]["data_percent"] = "100.00"
    data, metadata = lvm_thin.BACKEND.space(_host(tmp_path, group, "253:2"))
    assert (data.free, data.is_enough, metadata.is_enough) == (0, False, True)


def test_metadata_of_a_pool_that_are_full(tmp_path: Path) -> None:
    group = Group()
    group["pool"]["metadata_percent"] = "85.00"
    data, metadata = lvm_thin.BACKEND.space(_host(tmp_path, group, "253:2"))
    assert (data.is_enough, metadata.is_enough) == (True, False)


def test_a_pool_that_does_not_tell(tmp_path: Path) -> None:
    group = Group()
    group["pool"]["metadata_percent"] = ""
    with pytest.raises(SnapshotError, match="how full"):
        lvm_thin.BACKEND.space(_host(tmp_path, group, "253:2"))


def test_room_in_a_group(tmp_path: Path) -> None:
    group = Group()
    (room,) = lvm_thick.BACKEND.space(_host(tmp_path, group))
    assert (room.what, room.free, room.needed) == ("the volume group vg0", 2092957696, 1 << 30)
    assert room.is_enough
    for row in group.rows:
        row["vg_free"] = str(400 << 20)
    (room,) = lvm_thick.BACKEND.space(_host(tmp_path, group))
    assert not room.is_enough


def test_a_snapshot_is_never_larger_than_all_that_it_can_be_of(tmp_path: Path) -> None:
    volume = next(one for one in lvm.volumes(_host(tmp_path, Group())) if one.name == "var")
    assert lvm.needed(volume) == (300 << 20) + (300 << 20) // 64
    assert lvm.needed(replace(volume, size=50 << 30)) == 5 << 30
    assert lvm.needed(replace(volume, size=500 << 30)) == 10 << 30


def test_a_thin_snapshot_from_beginning_to_end(tmp_path: Path) -> None:
    group = Group()
    host = _host(tmp_path, group, "253:2")
    made = lvm_thin.BACKEND.create(host, _LABEL)
    assert made.ids == ("vg0/thin_safeupdate_7",)
    (asked,) = group.asked
    assert asked == (
        "lvcreate -y -s -n thin_safeupdate_7 --addtag safeupdate --addtag safeupdate.number=7 --addtag"
        " safeupdate.kind=pre-transaction --addtag safeupdate.kernel=6.1.0-51-amd64 --addtag"
        " safeupdate.boot_id=3a1c6a5e-6f0e-4b7e-9a53-1d2b3c4d5e6f --addtag safeupdate.time=2026-11-23T18:00:00+00:00"
        " --setactivationskip y vg0/thin"
    )
    assert lvm_thin.BACKEND.list(host) == (made,)
    assert lvm_thick.BACKEND.list(host) == ()
    plan = lvm_thin.BACKEND.undo_plan(host, made)
    assert [step.command for step in plan.steps] == [("lvconvert", "--merge", "vg0/thin_safeupdate_7")]
    assert plan.once
    assert plan.effect.takes_effect
    assert "/boot stays as it is: /boot is not on a logical volume." in plan.stays
    lvm_thin.BACKEND.delete(host, made)
    assert group.asked[-1] == "lvremove -y vg0/thin_safeupdate_7"
    assert lvm_thin.BACKEND.list(host) == ()
    before = len(group.asked)
    lvm_thin.BACKEND.delete(host, made)
    assert len(group.asked) == before


def test_a_thick_snapshot_has_room_of_its_own(tmp_path: Path) -> None:
    group = Group()
    lvm_thick.BACKEND.create(_host(tmp_path, group), _LABEL)
    assert group.asked[0].endswith("-p r -L 1024m vg0/root")


def test_what_is_listed(tmp_path: Path) -> None:
    group = Group(ours=True)
    host = _host(tmp_path, group, "253:2")
    (thin,), (thick,) = lvm_thin.BACKEND.list(host), lvm_thick.BACKEND.list(host)
    assert (thin.label.number, thin.label.kind, thin.ids) == (2, "pre-reboot", ("vg0/thin_safeupdate_2",))
    assert (thick.label.number, thick.ids, thick.problem) == (1, ("vg0/root_safeupdate_1",), "")


def test_an_overflow_is_told(tmp_path: Path) -> None:
    group = Group(ours=True)
    host = _host(tmp_path, group)
    group["root_safeupdate_1"].update({"lv_snapshot_invalid": "snapshot invalid", "data_percent": "100.00"})
    (snapshot,) = lvm_thick.BACKEND.list(host)
    assert snapshot.problem.startswith("vg0/root_safeupdate_1 overflowed")
    with pytest.raises(SnapshotError, match="overflowed"):
        lvm_thick.BACKEND.undo_plan(host, snapshot)
    lvm_thick.BACKEND.delete(host, snapshot)
    assert lvm_thick.BACKEND.list(host) == ()


def test_an_overflow_before_the_reboot_is_noticed_and_gone_when_another_is_taken(tmp_path: Path) -> None:
    """It has the room that the next one needs."""
    group = Group()
    host = _host(tmp_path, group)
    (tmp_path / "var/lib/safeupdate").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "proc/sys/kernel/random").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/random/boot_id").write_text(f"{_LABEL.boot_id}\n")
    label = replace(_LABEL, kind="pre-reboot")
    made = Manifest(label, "lvm-thick", ("vg0/root",), None, None, None, None, None, (), False, ())
    manifest.write(host, manifest.Draft(made, {}, ()))
    lvm_thick.BACKEND.create(host, label)
    assert take.spoiled(host, label.kernel) == ""
    group["root_safeupdate_7"].update({"lv_snapshot_invalid": "snapshot invalid", "data_percent": "100.00"})
    assert "vg0/root_safeupdate_7 overflowed, and what it kept is lost" in take.spoiled(host, label.kernel)
    assert take.spoiled(host, "6.1.0-50-amd64") == ""
    told: list[str] = []
    # Nothing can start here, so that no other is taken.
    with pytest.raises(take.Unfit):
        take.take(host, "pre-reboot", label.kernel, _THICK, told, lambda: pytest.fail("-"), backends=(_MILD,))
    assert "overflowed; what is left of it is removed." in told[0]
    assert group.asked[-1] == "lvremove -y vg0/root_safeupdate_7"
    assert manifest.numbers(host.machine) == ()


def test_an_undo_that_waits_for_the_reboot(tmp_path: Path) -> None:
    group = Group(ours=True)
    host = _host(tmp_path, group)
    group["root_safeupdate_1"]["lv_merging"] = "merging"
    group["root_safeupdate_1"]["lv_name"] = "[root_safeupdate_1]"
    (snapshot,) = lvm_thick.BACKEND.list(host)
    assert "vg0/root goes back to it" in snapshot.problem
    assert lvm_thick.BACKEND.undo_plan(host, snapshot).steps == ()
    with pytest.raises(SnapshotError, match="going back"):
        lvm_thick.BACKEND.delete(host, snapshot)
    found = lvm_thick.BACKEND.detect(host)
    assert isinstance(found, Unusable)
    assert "`lvchange --poll y vg0/root`" in found.hint


def test_where_one_of_two_fails_none_is_left(tmp_path: Path) -> None:
    group = Group()
    host = _host(tmp_path, group, more="30 22 253:1 / /var rw - ext4 /dev/mapper/vg0-var rw\n")
    group.fails = "-n var_safeupdate_7"
    with pytest.raises(SnapshotError, match="ended with 5: Insufficient free space"):
        lvm_thick.BACKEND.create(host, _LABEL)
    assert group.asked[-1] == "lvremove -y vg0/root_safeupdate_7"
    assert lvm_thick.BACKEND.list(host) == ()


def test_killed_between_two_of_them(tmp_path: Path) -> None:
    group = Group()
    host = _host(tmp_path, group, more="30 22 253:1 / /var rw - ext4 /dev/mapper/vg0-var rw\n")
    lvm_thick.BACKEND.create(host, _LABEL)
    group.rows.remove(group["var_safeupdate_7"])
    (half,) = lvm_thick.BACKEND.list(host)
    assert half.ids == ("vg0/root_safeupdate_7",)
    lvm_thick.BACKEND.delete(host, half)
    assert not [row for row in group.rows if "_safeupdate_" in row["lv_name"]]


@pytest.mark.parametrize(
    "change",
    [
        {"lv_tags": ""},
        {"lv_tags": "safeupdate,safeupdate.number=2"},
        {"lv_name": "thin_before"},
        {"lv_name": "thin_safeupdate_3"},
    ],
)
def test_what_has_not_both_our_name_and_our_label_is_not_ours(tmp_path: Path, change: Row) -> None:
    group = Group(ours=True)
    host = _host(tmp_path, group, "253:2")
    (before,) = lvm_thin.BACKEND.list(host)
    group["thin_safeupdate_2"].update(change)
    assert lvm_thin.BACKEND.list(host) == ()
    lvm_thin.BACKEND.delete(host, before)
    assert group.asked == []


@pytest.mark.parametrize("answer", [b"", b"{}", b'{"report":[{"lv":[{"vg_name":"vg0"}]}]}', b"[" * 100_000])
def test_an_answer_that_is_none(tmp_path: Path, answer: bytes) -> None:
    def run(_command: Sequence[str], _timeout: float) -> Completed:
        return Completed(0, answer, b"")

    host = replace(_host(tmp_path, Group()), runner=run)
    with pytest.raises(SnapshotError):
        lvm_thin.BACKEND.detect(host)


def test_what_an_undo_makes_of_other_snapshots(tmp_path: Path) -> None:
    group = Group(ours=True)
    host = _host(tmp_path, group, "253:2")
    made = lvm_thin.BACKEND.create(host, _LABEL)
    plan = lvm_thin.BACKEND.undo_plan(host, made)
    assert plan.loses[1:] == ("vg0/thin_safeupdate_2 cannot be gone back to any more, as LVM merges one of several.",)


def test_another_one_was_gone_back_to(tmp_path: Path) -> None:
    group = Group(ours=True)
    host = _host(tmp_path, group, "253:2")
    group["thin_safeupdate_2"]["origin"] = ""
    (snapshot,) = lvm_thin.BACKEND.list(host)
    assert snapshot.problem.startswith("LVM does not know any more of what vg0/thin_safeupdate_2 is a snapshot")
    with pytest.raises(SnapshotError, match="another one was gone back to"):
        lvm_thin.BACKEND.undo_plan(host, snapshot)
    lvm_thin.BACKEND.delete(host, snapshot)
    assert group.asked == ["lvremove -y vg0/thin_safeupdate_2"]


def test_values_as_numbers(tmp_path: Path) -> None:
    group = Group(ours=True)
    changes: dict[str, Any] = {"lv_snapshot_invalid": "1", "lv_merging": "0"}
    group["root_safeupdate_1"].update(changes)
    (snapshot,) = lvm_thick.BACKEND.list(_host(tmp_path, group))
    assert "overflowed" in snapshot.problem
