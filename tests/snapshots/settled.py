"""The hook before a transaction, and settle after it, as they are: on a machine whose check says that it is safe."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.snapshots.box import CHECKOUT, NEW, OLD, UUID, Box, menu, run
from tests.unit import layouts
from tests.unit.layouts import Device
from tests.unit.trees import Link, tree


def _sysfs(box: Box) -> dict[str, Any]:
    """The box's disk as one of virtio, whose driver a kernel can lack: what a loop device lies on is not in the box."""
    number = os.stat(box.disk).st_rdev
    disk = Device("vdz", f"{os.major(number)}:{os.minor(number)}", UUID, "btrfs")
    name = Path(box.disk).name
    files = layouts.facts([disk], [], cmdline="", running="")
    return {
        path.replace("vdz", name): Link(content.target.replace("vdz", name)) if isinstance(content, Link) else content
        for path, content in files.items()
        if path.startswith("/sys/") and not path.startswith("/sys/fs/")
    }


def _kernel(release: str) -> dict[str, Any]:
    return {
        **layouts.modules(release),
        f"/boot/config-{release}": layouts.config(),
        f"/boot/vmlinuz-{release}": layouts.kernel_image(release),
        f"/boot/initrd.img-{release}": layouts.image("initramfs-tools", release),
    }


def _whole(directory: Path) -> Box:
    """With both kernels, of which the new one is not in the menu yet."""
    box = Box(directory)
    run("umount", box.root / "usr", box.root / "sys")
    for name in ("upper", "work"):
        (directory / name).mkdir()
    options = f"lowerdir=/usr,upperdir={directory}/upper,workdir={directory}/work"
    run("mount", "-t", "overlay", "-o", options, "overlay", box.root / "usr")
    run("mount", "-t", "tmpfs", "tmpfs", box.root / "sys")
    (box.root / "sys/fs/btrfs").mkdir(parents=True)
    run("mount", "--bind", "/sys/fs/btrfs", box.root / "sys/fs/btrfs")
    box.kernels(OLD)
    fstab = f"UUID={UUID} / btrfs subvol=/@ 0 0\n"
    tree(box.root, {**_sysfs(box), **_kernel(OLD), **_kernel(NEW), **layouts.DPKG, "/etc/fstab": fstab})
    # It started after all that was written.
    (directory / "stat").write_text(f"btime {int(time.time()) + 1}\n")
    run("mount", "--bind", directory / "stat", box.root / "proc/stat")
    assert box.command("confirm")[0] == 0
    assert "gate is open" in box.command("settle")[1]
    return box


def _hook(box: Box) -> Any:
    """What apt's hook says before a transaction that brings the new kernel."""
    told = f"VERSION 3\nBinary=apt-get\n\nlinux-image-{NEW} - - none < 6.1.1-1 amd64 none /var/cache/k.deb\n"
    return box.do(lambda: _told(told.encode(), "hook", "apt-pre"))


def _told(told: bytes, *words: str) -> tuple[int, str]:
    """A command in a process of its own, with what it is told on stdin."""
    command = [sys.executable, "-m", "safeupdate", *words]
    done = subprocess.run(command, input=told, cwd=CHECKOUT, capture_output=True, timeout=300, check=False)
    return done.returncode, done.stderr.decode()


def _updated(box: Box) -> None:
    (box.root / "etc/motd").write_text("new\n")
    text = menu(NEW, OLD, prefix="/@/boot", uuid=UUID, flags=box.flags)
    (box.root / "boot/grub/grub.cfg").write_text(text)


def updated(directory: Path) -> Any:
    """An update from its beginning to the reboot, as the hooks and units do it; and back before it."""
    box = _whole(directory)
    end: dict[str, Any] = {"before": _hook(box), "again": _hook(box)}
    _updated(box)
    end["settled"] = box.command("settle")
    end["unchanged"] = box.command("settle", "--force")
    end["list"] = box.command("snapshot", "list")
    end["undone"] = box.command("snapshot", "undo", "1", "--execute")
    end["after the undo"] = box.command("settle", "--force")
    box.reboot()
    return {**end, "motd": box.text("/etc/motd"), "menu": NEW in (box.text("/boot/grub/grub.cfg") or "")}


def required(directory: Path) -> Any:
    """A way back is required: first there is no room for it, then it would not take effect, then there is one."""
    box = _whole(directory)
    tree(box.root, {"/etc/safeupdate/safeupdate.toml": '[snapshots]\npolicy = "required"\n'})
    _updated(box)
    full = box.root / "full"
    run("fallocate", "-l", "5G", full)
    end: dict[str, Any] = {"no room": box.command("settle")}
    full.unlink()
    run("sync")
    fstab = box.root / "etc/fstab"
    before = fstab.read_text()
    fstab.write_text(before.replace("subvol=/@", "subvolid=256"))
    end["no effect"] = box.command("settle")
    fstab.write_text(before)
    end["there"] = box.command("settle")
    box.command("snapshot", "delete", "1")
    # As `settle` has it begun by systemd where it takes minutes.
    end["apart"] = box.command("snapshot", "create", "--kind=pre-reboot")
    return end


def removed(directory: Path) -> Any:
    """Somebody removes the snapshot that the gate stands open with, twice: the second time there is no room."""
    box = _whole(directory)
    _updated(box)
    end: dict[str, Any] = {"taken": box.command("settle"), "unchanged": box.command("settle")}

    def remove(number: int) -> None:
        top = box.top()
        run("btrfs", "subvolume", "delete", "--commit-after", top / f".safeupdate-snapshots/{number}")
        run("umount", top)

    remove(1)
    end["removed"] = box.command("settle")
    end["another"] = box.command("settle")
    tree(box.root, {"/etc/safeupdate/safeupdate.toml": '[snapshots]\npolicy = "required"\n'})
    end["required"] = box.command("settle")
    remove(1)
    run("fallocate", "-l", "5G", box.root / "full")
    end["no room"] = box.command("settle")
    end["still"] = box.command("settle")
    return end


def timed(directory: Path) -> Any:
    """Seconds of the hook before a transaction, without a snapshot and with one, in pairs (`make bench`)."""
    box = _whole(directory)
    pairs = []
    for _ in range(4):
        took = []
        for policy in ("off", "if-possible"):
            tree(box.root, {"/etc/safeupdate/safeupdate.toml": f'[snapshots]\npolicy = "{policy}"\n'})
            start = time.perf_counter()
            told = _hook(box)[1]
            took.append(time.perf_counter() - start)
            assert ("was taken" in told) == (policy != "off"), told
        box.command("snapshot", "delete", "1")
        pairs.append(took)
    return pairs[1:]  # the first does not count


STORIES = {one.__name__: one for one in (updated, required, removed, timed)}
