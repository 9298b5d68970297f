"""ZFS' back end, on what `zfs -H -p` and `zpool -H -p` write by their manuals: no ZFS is where these tests run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import pytest

from safeupdate.gate.host import Host
from safeupdate.machine import Completed, Machine
from safeupdate.snapshots import zfs
from safeupdate.snapshots.backend import Detected, Label, SnapshotError, UndoPlan, Unusable

_NOW = datetime(2026, 11, 23, 18, 0, tzinfo=timezone.utc)

_LABEL = Label(7, "pre-transaction", "6.1.0-51-amd64", "3a1c6a5e-6f0e-4b7e-9a53-1d2b3c4d5e6f", _NOW.isoformat())

_DEBIAN = {
    "rpool": {"canmount": "off", "mountpoint": "none"},
    "rpool/ROOT": {"canmount": "off"},
    "rpool/ROOT/debian": {"canmount": "noauto", "mountpoint": "/", "keylocation": "prompt"},
    "rpool/ROOT/debian/usr": {"canmount": "off"},
    "rpool/ROOT/debian/var": {"com.example:note": "two\twords"},
    "rpool/home": {"mountpoint": "/home"},
}

_MOUNTS = """22 1 0:25 / / rw - zfs rpool/ROOT/debian rw,xattr,posixacl
30 22 0:26 / /var rw - zfs rpool/ROOT/debian/var rw
31 22 0:27 / /home rw - zfs rpool/home rw
32 22 254:1 / /boot rw - ext4 /dev/vda1 rw
"""


class Pool:
    """A pool's file systems with what was set on them, and its snapshots with their labels."""

    def __init__(self) -> None:
        self.datasets = {name: dict(own) for name, own in _DEBIAN.items()}
        self.snapshots: dict[str, dict[str, str]] = {"rpool/ROOT/debian@autosnap_1": {}}
        self.bootfs = "rpool/ROOT/debian"
        self.free = 40 << 30
        self.asked: list[str] = []
        self.fails = ""

    def run(self, command: Sequence[str], _timeout: float) -> Completed:
        words = " ".join(command)
        if self.fails and self.fails in words:
            return Completed(1, b"", b"cannot create snapshot: out of space\n")
        verb = command[:2]
        lines: list[list[str]] = []
        below = [name for name in self.datasets if zfs._within(name, command[-1])]
        if verb == ("zpool", "get"):
            lines = [[self.bootfs]]
        elif verb == ("zpool", "list"):
            lines = [[str(50 << 30)]]
        elif verb == ("zfs", "get") and "available" in command:
            lines = [[str(self.free)]]
        elif verb == ("zfs", "get"):
            lines = [[name, key, value] for name in below for key, value in self.datasets[name].items()]
        elif verb == ("zfs", "list") and "snapshot" in command:
            named = [name for name in self.snapshots if zfs._within(name.partition("@")[0], command[-1])]
            columns = command[command.index("-o") + 1].split(",")[1:]
            lines = [[name, *(self.snapshots[name].get(key, "-") for key in columns)] for name in named]
        elif verb == ("zfs", "list"):
            lines = [[name] for name in below]
        else:
            self.asked.append(words)
        if verb == ("zfs", "snapshot"):
            top, _, name = command[-1].partition("@")
            given = dict(word.split("=", 1) for flag, word in zip(command, command[1:]) if flag == "-o")
            self.snapshots.update({f"{one}@{name}": given for one in self.datasets if zfs._within(one, top)})
        elif verb == ("zfs", "destroy"):
            del self.snapshots[command[-1]]
        return Completed(0, "".join("\t".join(line) + "\n" for line in lines).encode(), b"")


def _host(
    tmp_path: Path,
    pool: Pool,
    root: str = "ZFS=rpool/ROOT/debian",
    mounts: str = _MOUNTS,
    version: str = "2.1.11-1+deb12u1",
) -> Host:
    files = {
        "proc/self/mountinfo": mounts,
        "proc/cmdline": f"BOOT_IMAGE=/vmlinuz-6.1.0-50-amd64 root={root} ro console=ttyS0,115200\n",
        "sys/module/zfs/version": f"{version}\n",
        "usr/sbin/zfs": "",
        "usr/sbin/zpool": "",
        "boot/x": "",
        "var/x": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return Host(Machine.tree(str(tmp_path)), lambda: _NOW, pool.run)


def _detected(host: Host) -> Detected:
    found = zfs.BACKEND.detect(host)
    assert isinstance(found, Detected), found
    return found


def _plan(host: Host) -> UndoPlan:
    return zfs.BACKEND.undo_plan(host, zfs.BACKEND.create(host, _LABEL))


def test_what_is_covered(tmp_path: Path) -> None:
    found = _detected(_host(tmp_path, Pool()))
    assert found.parts == ("rpool/ROOT/debian", "rpool/ROOT/debian/usr", "rpool/ROOT/debian/var")
    assert [place.point for place in found.covered] == ["/", "/var"]
    assert [place.why for place in found.not_covered] == [
        "/boot is not on ZFS.",
        "/home is the dataset rpool/home.",
    ]
    assert found.undo.takes_effect
    assert not found.boot_returns


def test_a_boot_directory_in_the_root_goes_back_with_it(tmp_path: Path) -> None:
    mounts = "".join(line for line in _MOUNTS.splitlines(True) if " /boot " not in line)
    assert _detected(_host(tmp_path, Pool(), mounts=mounts)).boot_returns
    assert not _detected(_host(tmp_path, Pool(), "zfs:AUTO", mounts)).boot_returns


def test_no_zfs(tmp_path: Path) -> None:
    host = _host(tmp_path, Pool(), mounts="22 1 254:1 / / rw - ext4 /dev/vda1 rw\n")
    assert zfs.BACKEND.detect(host) == Unusable()
    assert zfs.BACKEND.list(host) == ()


@pytest.mark.parametrize(
    ("root", "version", "bootfs", "why"),
    [
        ("ZFS=rpool/ROOT/debian", "2.1.11-1", "-", ""),
        ("zfs:rpool/ROOT/debian", "2.3.2", "rpool/ROOT/debian", ""),
        ("ZFS=rpool/ROOT/other", "2.1.11-1", "-", "the kernel's command line names rpool/ROOT/other"),
        ("ZFS=rpool/ROOT/debian", "2.0.3-9", "rpool/ROOT/debian", "cannot rename it while it is mounted"),
        ("ZFS=rpool/ROOT/debian", "", "rpool/ROOT/debian", "cannot rename it while it is mounted"),
        ("zfs:AUTO", "0.8.3", "rpool/ROOT/debian", ""),
        ("zfs:AUTO", "2.1.11-1", "rpool/ROOT/other", "which decides, is rpool/ROOT/other"),
        ("zfs:AUTO", "2.1.11-1", "-", "which decides, is -."),
    ],
)
def test_whether_an_undo_takes_effect(tmp_path: Path, root: str, version: str, bootfs: str, why: str) -> None:
    pool = Pool()
    pool.bootfs = bootfs
    host = _host(tmp_path, pool, root, version=version)
    effect = _detected(host).undo
    assert effect.takes_effect == (not why)
    assert why in effect.why
    assert bool(_plan(host).steps) == effect.takes_effect


def test_programs_elsewhere_are_newer_than_what_goes_back(tmp_path: Path) -> None:
    effect = _detected(_host(tmp_path, Pool(), mounts=f"{_MOUNTS}33 22 0:28 / /usr rw - zfs rpool/usr rw\n")).undo
    assert not effect.takes_effect
    assert "/usr is not below rpool/ROOT/debian" in effect.why


def test_room(tmp_path: Path) -> None:
    pool = Pool()
    (room,) = zfs.BACKEND.space(_host(tmp_path, pool))
    assert (room.free, room.needed, room.is_enough) == (40 << 30, 5 << 30, True)
    pool.free = 1 << 30
    (room,) = zfs.BACKEND.space(_host(tmp_path, pool))
    assert not room.is_enough


def test_from_beginning_to_end(tmp_path: Path) -> None:
    pool = Pool()
    host = _host(tmp_path, pool)
    made = zfs.BACKEND.create(host, _LABEL)
    assert made.ids == tuple(f"rpool/ROOT/debian{path}@safeupdate-7" for path in ("", "/usr", "/var"))
    (asked,) = pool.asked
    assert asked.startswith("zfs snapshot -r -o safeupdate:number=7 -o safeupdate:kind=pre-transaction -o ")
    assert asked.endswith(" rpool/ROOT/debian@safeupdate-7")
    assert zfs.BACKEND.list(host) == (made,)
    zfs.BACKEND.delete(host, made)
    assert list(pool.snapshots) == ["rpool/ROOT/debian@autosnap_1"]
    zfs.BACKEND.delete(host, made)
    assert list(pool.snapshots) == ["rpool/ROOT/debian@autosnap_1"]


def test_what_has_not_our_label_is_not_ours(tmp_path: Path) -> None:
    pool = Pool()
    host = _host(tmp_path, pool)
    made = zfs.BACKEND.create(host, _LABEL)
    for own in pool.snapshots.values():
        own["safeupdate:number"] = "8"
    assert zfs.BACKEND.list(host) == ()
    zfs.BACKEND.delete(host, made)
    assert len(pool.snapshots) == 4


def test_no_space(tmp_path: Path) -> None:
    pool = Pool()
    pool.fails = "zfs snapshot"
    with pytest.raises(SnapshotError, match="out of space"):
        zfs.BACKEND.create(_host(tmp_path, pool), _LABEL)


def test_the_undo_of_a_root_with_a_name(tmp_path: Path) -> None:
    plan = _plan(_host(tmp_path, Pool()))
    new, old, root = "rpool/ROOT/debian_undo-7", "rpool/ROOT/debian_before-undo-7", "rpool/ROOT/debian"
    assert [" ".join(step.command) for step in plan.steps] == [
        f"zfs clone -o mountpoint=/ -o canmount=noauto {root}@safeupdate-7 {new}",
        f"zfs clone -o canmount=off {root}/usr@safeupdate-7 {new}/usr",
        f"zfs clone -o com.example:note=two\twords -o canmount=noauto {root}/var@safeupdate-7 {new}/var",
        f"zfs rename -u {root} {old}",
        f"zfs rename -u {new} {root}",
        f"zpool set bootfs={root} rpool",
        f"zfs set canmount=noauto {old}/var",
        f"zfs set canmount=on {root}/var",
        f"zfs promote {root}",
        f"zfs promote {root}/usr",
        f"zfs promote {root}/var",
    ]
    assert not plan.once
    assert f"zfs destroy -r {old}" in plan.loses[0]
    assert "/home is rpool/home, and stays as it is." in plan.stays


def test_the_undo_of_a_root_that_the_pool_names(tmp_path: Path) -> None:
    pool = Pool()
    pool.datasets["rpool/ROOT/debian_undo-7"] = {}
    plan = _plan(_host(tmp_path, pool, "zfs:AUTO"))
    new, root = "rpool/ROOT/debian_undo-7-2", "rpool/ROOT/debian"
    assert [" ".join(step.command) for step in plan.steps[3:]] == [
        f"zpool set bootfs={new} rpool",
        f"zfs set canmount=noauto {root}/var",
        f"zfs set canmount=on {new}/var",
        f"zfs promote {new}",
        f"zfs promote {new}/usr",
        f"zfs promote {new}/var",
    ]


def test_a_dataset_that_was_made_since(tmp_path: Path) -> None:
    pool = Pool()
    host = _host(tmp_path, pool)
    made = zfs.BACKEND.create(host, _LABEL)
    pool.datasets["rpool/ROOT/debian/srv"] = {}
    plan = zfs.BACKEND.undo_plan(host, made)
    old = "rpool/ROOT/debian_before-undo-7"
    assert ("zfs", "set", "canmount=noauto", f"{old}/srv") in [step.command for step in plan.steps]
    assert f"rpool/ROOT/debian/srv was made since, and goes with {old}." in plan.stays


def test_what_an_undo_set_aside_still_has_its_snapshots(tmp_path: Path) -> None:
    pool = Pool()
    host = _host(tmp_path, pool)
    zfs.BACKEND.create(host, _LABEL)
    old = "rpool/ROOT/debian_before-undo-5"
    pool.snapshots = {name.replace("rpool/ROOT/debian", old): own for name, own in pool.snapshots.items()}
    (found,) = zfs.BACKEND.list(host)
    assert found.ids[0] == f"{old}@safeupdate-7"
    plan = zfs.BACKEND.undo_plan(host, found)
    assert plan.steps[2].command[-2:] == (f"{old}/var@safeupdate-7", "rpool/ROOT/debian_undo-7/var")
