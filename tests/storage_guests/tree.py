"""The root tree of all guests: both generators of images, and every program that a root may need of either.

Of the kernel's modules those stay that storage may need: a smaller image starts sooner, and what is taken out belongs
to no root.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from machines.build import cache, releases
from tests.lab.programs import run

SUITES = {"debian12": "bookworm", "debian13": "trixie"}

_PACKAGES = (
    *("systemd-sysv", "udev", "kmod", "zstd", "busybox", "initramfs-tools", "dracut-core", "linux-image-amd64"),
    *("lvm2", "thin-provisioning-tools", "cryptsetup-initramfs", "mdadm", "multipath-tools-boot"),
    *("e2fsprogs", "btrfs-progs", "xfsprogs", "f2fs-tools", "python3", "python3-zstandard"),
)
_OF_SUITE = {"trixie": ("systemd-cryptsetup",)}

_DRIVERS = (
    *("ata", "block", "cdrom", "dax", "dca", "firmware", "hid", "input", "md", "message", "mmc", "nvdimm", "nvme"),
    *("pci", "scsi", "target", "usb/common", "usb/core", "usb/host", "usb/storage", "virtio", "acpi"),
)
_KEPT = tuple(
    f"kernel/{name}/" for name in ("arch", "block", "crypto", "fs", "lib", *(f"drivers/{one}" for one in _DRIVERS))
)
"""Directories of modules; what these depend on stays, too."""

_DRACUT = (
    *("--quiet", "--force", "--no-hostonly", "--no-compress", "--no-early-microcode"),
    *("--add", "crypt lvm mdraid dm btrfs multipath"),
)

_INIT = """#!/bin/sh
# Process 1 of a guest: says that the root is there, does the job that a disk of that name holds, and goes off.
export PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root
mountpoint -q /proc || mount -t proc proc /proc
mountpoint -q /sys || mount -t sysfs sysfs /sys
mountpoint -q /dev || mount -t devtmpfs devtmpfs /dev
mountpoint -q /run || mount -t tmpfs tmpfs /run
exec < /dev/console > /dev/console 2>&1
echo "{mark} $(findmnt -no SOURCE,FSTYPE /)"
grep -q ' guest.job=' /proc/cmdline || {{ echo o > /proc/sysrq-trigger; sleep 60; }}
grep -q ' guest.job=ro' /proc/cmdline || mount -o remount,rw /
mkdir -p /run/lock /run/job
[ -e /run/udev/control ] || rm -rf /run/udev/queue
/lib/systemd/systemd-udevd --daemon
udevadm trigger --subsystem-match=block --action=add
udevadm settle --timeout=120
for disk in /sys/block/vd*; do
	case $(cat "$disk/serial") in
	job) tar -x -C /run/job -f "/dev/${{disk##*/}}" ;;
	result) ln -s "/dev/${{disk##*/}}" /run/result ;;
	esac
done
cd /run/job && sh -eux ./job && echo '{done}'
udevadm control --exit
sync
mount -o remount,ro / || echo u > /proc/sysrq-trigger
echo o > /proc/sysrq-trigger
sleep 60
"""

UP = "guest: the root is"
UUID = "5afe0bda-0008-4000-8000-000000000001"
SIZE = 480
"""The file system of the tree, in MiB: roots that are ext4 are copies of it."""

DONE = "guest: the job is done"


def root(name: str) -> Path:
    """The directory with `tree.img` (ext4, the tree), `vmlinuz`, and the image of each generator
    with what any of the roots may need, made first where it is missing."""
    suite = SUITES[name]
    recipe = repr((_PACKAGES, _OF_SUITE.get(suite), _KEPT, _INIT))
    place = Path(cache(), "roots", f"{name}-{hashlib.sha256(recipe.encode()).hexdigest()[:8]}")
    if not (place / "tree.img").exists():
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="new.", dir=place) as work:
            _make(suite, Path(work, "root"), place)
    return place


def file(name: str, path: str) -> bytes:
    """What is in a file of the tree."""
    asked = ["debugfs", "-R", f"cat /{path}", str(root(name) / "tree.img")]
    return subprocess.run(asked, check=True, capture_output=True, timeout=60).stdout


def _make(suite: str, tree: Path, place: Path) -> None:
    packages = (*_PACKAGES, *_OF_SUITE.get(suite, ()))
    command = ["mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory"]
    command += ["--aptopt=APT::Install-Recommends false", f"--include={','.join(packages)}"]
    command += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale", "info")]
    run(*command, suite, str(tree), timeout=1500)
    release = releases(str(tree))[-1]
    _trim(tree / "usr/lib/modules" / release)
    run("depmod", "-b", str(tree), release)
    init = tree / "usr/local/sbin/guest-init"
    init.write_text(_INIT.format(mark=UP, done=DONE))
    init.chmod(0o755)
    hook = tree / "etc/cryptsetup-initramfs/conf-hook"
    text = hook.read_text()
    hook.write_text(f"{text}CRYPTSETUP=y\n")
    run("chroot", str(tree), "mkinitramfs", "-o", "/boot/initramfs-tools.img", release)
    hook.write_text(text)
    run("chroot", str(tree), "dracut", *_DRACUT, "/boot/dracut.img", release)
    for name in ("initramfs-tools.img", "dracut.img"):
        shutil.copyfile(tree / "boot" / name, place / name)
    shutil.copyfile(tree / "boot" / f"vmlinuz-{release}", place / "vmlinuz")
    for image in tree.glob("boot/*.img*"):
        image.unlink()
    for name in ("dev", "run", "tmp"):
        for entry in os.scandir(tree / name):
            shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else os.unlink(entry.path)
    new = place / "tree.img.new"
    with new.open("wb") as file:
        file.truncate(SIZE << 20)
    run("mkfs.ext4", "-q", "-F", "-U", UUID, "-d", str(tree), str(new))
    (place / "release").write_text(release)
    os.rename(new, place / "tree.img")


def _trim(directory: Path) -> None:
    """Take out the modules that no storage needs."""
    lines = (line.partition(":") for line in (directory / "modules.dep").read_text().splitlines())
    depends = {path: needed.split() for path, _, needed in lines}
    kept = {path for path in depends if path.startswith(_KEPT)}
    kept |= {needed for path in kept for needed in depends[path]}
    for path in depends.keys() - kept:
        (directory / path).unlink()


if __name__ == "__main__":
    for each in SUITES:
        print(root(each), flush=True)
