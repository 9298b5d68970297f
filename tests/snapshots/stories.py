"""What is done in the boxes. Each story returns what a test then looks at."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from safeupdate.config import SnapshotSettings
from safeupdate.gate.host import Host
from safeupdate.machine import Completed, Machine
from safeupdate.report import Report
from safeupdate.snapshots import kept, snapper, take, undo
from safeupdate.snapshots.backend import Detected, Kind
from tests.snapshots.box import KILLED, NEW, OLD, UUID, Box, run
from tests.unit.trees import tree


def _update(box: Box) -> None:
    """A transaction that changes a file, and brings a kernel in the place of the old one."""
    (box.root / "etc/motd").write_text("new\n")
    (box.root / "etc/new").write_text("")
    box.kernels(NEW)


def _state(box: Box) -> dict[str, Any]:
    return {
        "motd": box.text("/etc/motd"),
        "new": box.text("/etc/new"),
        "boot": sorted(path.name for path in (box.root / "boot").glob("*-*")),
        "menu": OLD in (box.text("/boot/grub/grub.cfg") or ""),
        "machines": box.text("/var/lib/machines/one"),
    }


def _there_and_back(box: Box) -> dict[str, Any]:
    """Take one, update, look at the plan, execute it, reboot."""
    created = box.command("snapshot", "create")
    _update(box)
    plan = box.command("snapshot", "undo", "1")
    planned = _state(box)
    undone = box.command("snapshot", "undo", "1", "--execute")
    box.reboot()
    return {
        "created": created,
        "plan": plan,
        "planned": planned,
        "undone": undone,
        "after": _state(box),
        "listed": box.command("snapshot", "list"),
        "deleted": box.command("snapshot", "delete", "1"),
        "empty": box.command("snapshot", "list"),
    }


def by_name(directory: Path) -> Any:
    box = Box(directory)
    box.nest("var/lib/machines")
    return _there_and_back(box)


def with_boot(directory: Path) -> Any:
    return _there_and_back(Box(directory, boot=True))


def flat(directory: Path) -> Any:
    box = Box(directory, subvolume="", flags="")
    box.nest("var/lib/machines")
    return _there_and_back(box)


def by_default(directory: Path) -> Any:
    return _there_and_back(Box(directory, subvolume="root", flags=""))


def _with_snapper(box: Box) -> Box:
    tree(box.root, {"/etc/default/snapper": 'SNAPPER_CONFIGS=""\n', "/etc/snapper/configs": None, "/var/log": None})
    box.program("snapper", "--no-dbus", "--config", "root", "create-config", "/")
    return box


def snapper_by_name(directory: Path) -> Any:
    box = _with_snapper(Box(directory))
    # A bus that nobody answers on, as in the middle of an update of it.
    tree(box.root, {"/run/dbus/system_bus_socket": ""})
    box.program("snapper", "--no-dbus", "create", "--description", "not ours")
    end = _there_and_back(box)
    return {**end, "others": box.program("snapper", "--no-dbus", "--machine-readable", "csv", "list")}


def snapper_by_default(directory: Path) -> Any:
    return _there_and_back(_with_snapper(Box(directory, subvolume="root", flags="")))


def snapper_of_suse(directory: Path) -> Any:
    """/.snapshots is mounted for itself, and GRUB reads what the default subvolume has."""
    box = _with_snapper(Box(directory, subvolume="root", flags=""))
    tree(box.root, {"/etc/os-release": 'ID="opensuse-leap"\nVERSION_ID="15.6"\n'})
    box.mounted[".snapshots"] = "root/.snapshots"
    box.reboot()
    return _there_and_back(box)


def snapper_on_the_bus(directory: Path) -> Any:
    """As on a machine that runs: snapper asks its daemon."""
    box = Box(directory)
    passwd = "root:x:0:0::/root:/bin/sh\nmessagebus:x:100:100::/:/bin/false\n"
    tree(box.root, {"/etc/passwd": passwd, "/etc/group": "root:x:0:\nmessagebus:x:100:\n", "/run/dbus": None})
    box = _with_snapper(box)
    os.chmod(directory, 0o755)
    box.program("dbus-daemon", "--system", "--fork", "--nopidfile")
    box.program("sh", "-c", "snapperd -s >/dev/null 2>&1 & until snapper list-configs; do sleep 0.1; done")
    seen: list[str] = box.do(_asked)
    return {**_there_and_back(box), "asked": seen}


def _asked() -> list[str]:
    """The programs that a back end starts to say what it can do."""
    host = _Mortal(Machine.here(), lambda: datetime.now(timezone.utc))
    assert isinstance(snapper.BACKEND.detect(host), Detected)
    return host.acts


def adopted(directory: Path) -> Any:
    """The hook that snapper's package brings has just made one of the state before a transaction."""
    box = _with_snapper(Box(directory))
    box.program("snapper", "--no-dbus", "create", "--description", "by hand")
    box.program(
        "snapper", "--no-dbus", "create", "--type", "pre", "--description", "apt", "--cleanup-algorithm", "number"
    )
    taken = box.do(lambda: _take("pre-transaction"))
    line = f'        linux "/@/boot/vmlinuz-{OLD}" root=UUID={UUID} ro rootflags=subvol="@/.snapshots/2/snapshot"\n'
    (box.root / "boot/grub/grub-btrfs.cfg").write_text(line)
    return {
        "taken": taken,
        "plan": box.command("snapshot", "undo", "1"),
        "deleted": box.command("snapshot", "delete", "1"),
        "snapper": box.program("snapper", "--no-dbus", "--machine-readable", "csv", "list", "--columns", "number,type"),
        "empty": box.command("snapshot", "list"),
    }


def no_room(directory: Path) -> Any:
    """A file system of 1 GiB, of which a third is taken."""
    box = Box(directory, size=1 << 30)
    (box.root / "full").write_bytes(b"x" * (300 << 20))
    run("sync")
    return {"created": box.command("snapshot", "create"), "listed": box.command("snapshot", "list"), "left": _left(box)}


def _left(box: Box) -> dict[str, Any]:
    """All that a snapshot could have left behind."""
    top = box.top()
    kept = sorted(path.name for path in (top / ".safeupdate-snapshots").glob("*"))
    others = sorted(path.name for path in top.iterdir())
    run("umount", top)
    return {
        "snapshots": kept,
        "top": others,
        "manifests": sorted(path.name for path in (box.root / "var/lib/safeupdate/snapshots").glob("[0-9]*")),
        "mounts": [line for line in Path("/proc/self/mounts").read_text().splitlines() if "/run/safeupdate" in line],
    }


def divided(directory: Path) -> Any:
    """/var is a subvolume of its own, and then /usr is."""
    box = Box(directory)
    shutil.rmtree(box.root / "var")
    box.nest("var")
    (box.root / "var/lib/dpkg").mkdir(parents=True)
    end: dict[str, Any] = {"var": box.command("snapshot", "create"), "plan": box.command("snapshot", "undo", "1")}
    run("umount", box.root / "usr")
    top = box.top()
    run("btrfs", "subvolume", "create", top / "@usr")
    run("umount", top)
    run("mount", "-o", "subvol=@usr", box.disk, box.root / "usr")
    for name in os.listdir("/usr"):
        (box.root / "usr" / name).mkdir()
        run("mount", "--bind", f"/usr/{name}", box.root / "usr" / name)
    return {**end, "usr": box.command("snapshot", "undo", "1", "--execute")}


def by_number(directory: Path) -> Any:
    """fstab mounts / by the number of its subvolume."""
    box = Box(directory)
    tree(box.root, {"/etc/fstab": f"UUID={UUID} / btrfs defaults,subvolid=256,subvol=/@ 0 0\n"})
    return {
        "created": box.command("snapshot", "create"),
        "undone": box.command("snapshot", "undo", "1", "--execute"),
        "left": _left(box),
    }


def unasked() -> Report:
    """A snapshot of btrfs changes nothing that the root file system lies on."""
    raise AssertionError


def _take(kind: Kind = "pre-reboot", **settings: Any) -> tuple[int, list[str]]:
    told: list[str] = []
    host = Host(Machine.here(), lambda: datetime.now(timezone.utc))
    snapshot = take.take(host, kind, NEW, SnapshotSettings(**settings), told, unasked)
    return snapshot.label.number, told


def often(directory: Path) -> Any:
    """The hooks run often, the machine reboots, and what is old goes; what is not ours stays."""
    box = Box(directory)
    end: dict[str, Any] = {"first": box.do(_take), "again": box.do(_take)}
    end["other kind"] = box.do(lambda: _take("pre-transaction"))
    end["by hand"] = box.do(lambda: _take("by-hand"))
    top = box.top()
    run("btrfs", "subvolume", "snapshot", "-r", box.root, top / ".safeupdate-snapshots/backup")
    run("btrfs", "subvolume", "snapshot", "-r", box.root, top / ".safeupdate-snapshots/77")
    run("umount", top)
    box.reboot()
    end["next boot"] = box.do(lambda: _take(keep=2))
    box.reboot()
    end["third boot"] = box.do(lambda: _take(keep=2))
    end["listed"] = box.command("snapshot", "list")
    end["not ours"] = box.command("snapshot", "delete", "77")
    end["left"] = _left(box)
    return end


@dataclass(frozen=True)
class _Mortal(Host):
    """One that ends before the act of that number."""

    acts: list[str] = field(default_factory=list)
    last: int = 0

    def _act(self, what: str) -> None:
        self.acts.append(what)
        if len(self.acts) == self.last:
            os._exit(KILLED)

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        self._act(path)
        super().write(path, data, mode)

    def remove(self, path: str) -> None:
        self._act(path)
        super().remove(path)

    def run(self, command: Sequence[str], timeout: float) -> Completed:
        self._act(" ".join(command))
        return super().run(command, timeout)


def _killed(last: int) -> list[str]:
    host = _Mortal(Machine.here(), lambda: datetime.now(timezone.utc), None, [], last)
    take.take(host, "pre-reboot", NEW, SnapshotSettings(keep=2), [], unasked)
    return host.acts


def killed(directory: Path) -> Any:
    """Cut off before each act, and called again."""
    box = Box(directory, boot=True)
    box.do(lambda: _take("pre-transaction"))
    ends, number = [], 0
    while True:
        number += 1
        acts = box.do(partial(_killed, number))
        listed = box.command("snapshot", "list")
        again = box.do(_take)
        ends.append({"listed": listed, "again": again, "left": _left(box)})
        if acts is not None:
            return {"acts": acts, "ends": ends}
        box.command("snapshot", "delete", str(again[0]))


def damaged(directory: Path) -> Any:
    """/boot cannot be written to, and a copy of a boot file rots."""
    box = Box(directory, boot=True)
    box.command("snapshot", "create")
    _update(box)
    run("mount", "-o", "remount,ro", box.root / "boot")
    end = {"read-only": box.command("snapshot", "undo", "1", "--execute"), "state": _state(box)}
    run("mount", "-o", "remount,rw", box.root / "boot")
    copy = box.root / f"var/lib/safeupdate/snapshots/1/files/boot/initrd.img-{OLD}"
    copy.write_text("rotten\n")
    return {**end, "rotten": box.command("snapshot", "undo", "1", "--execute"), "after": _state(box)}


def gone_back_twice(directory: Path) -> Any:
    """To the first snapshot, and from there to one that the first knows nothing of."""
    box = Box(directory)
    box.command("snapshot", "create")
    (box.root / "etc/motd").write_text("new\n")
    box.command("snapshot", "create")
    box.command("snapshot", "undo", "1", "--execute")
    box.reboot()
    end: dict[str, Any] = {"first": box.text("/etc/motd"), "listed": box.command("snapshot", "list")}
    end["plan"] = box.command("snapshot", "undo", "2", "--execute")
    box.reboot()
    return {**end, "second": box.text("/etc/motd"), "third": box.command("snapshot", "create")}


def _undo_killed(last: int) -> None:
    host = _Mortal(Machine.here(), lambda: datetime.now(timezone.utc), None, [], last)
    one = kept.numbered(host, 1)
    plan = undo.plan(host, one)
    host.acts.clear()
    undo.execute(host, one, plan, lambda _: None)


def undo_killed(directory: Path) -> Any:
    """Cut off before the present root is set aside, before the copy takes its place, and after that."""
    box = Box(directory)
    box.command("snapshot", "create")
    end = {}
    for step in (4, 5, 6):
        (box.root / "etc/motd").write_text("new\n")
        # Before the first step one file is written, before each another one.
        box.do(partial(_undo_killed, 1 + 2 * step))
        progress = json.loads((box.root / "var/lib/safeupdate/snapshots/undo.json").read_text())
        left = _left(box)["top"]
        said = None
        if step == 4:
            said = box.command("snapshot", "undo", "1", "--execute")
        for command in progress["steps"][step - 1 :] if step > 4 else ():
            box.program(*command)
        box.reboot()
        end[step] = {"begun": progress["begun"], "left": left, "said": said, "motd": box.text("/etc/motd")}
    return end


STORIES = {
    one.__name__: one
    for one in (
        *(by_name, with_boot, flat, by_default, snapper_by_name, snapper_by_default, snapper_of_suse),
        *(snapper_on_the_bus, adopted),
        *(no_room, divided, by_number, often, killed, damaged, gone_back_twice, undo_killed),
    )
}
