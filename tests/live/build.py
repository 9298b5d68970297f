"""Builds the disk of a layout into the cache: the tree on the host, the boot loader in a guest, as an installer does.

The loader's own programs run in the guest, on the devices and with the firmware that the machine will have: what
grub-install, update-grub, bootctl and kernel-install leave is theirs to the byte.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import machines
from machines.build import cache, releases
from machines.namespace import private_mounts
from tests.lab.disks import Part, loop, make_file_system, partition
from tests.lab.programs import run
from tests.live import guest
from tests.live.layouts import BY_NAME, LUKS_UUID, Layout

_UNIT = f"""[Unit]
Description=Do what the disk vdb asks for
After=multi-user.target
DefaultDependencies=no
[Service]
Type=oneshot
RuntimeDirectory=live
ExecStart=/bin/tar -xf /dev/vdb -C /run/live
ExecStart=/bin/sh /run/live/job.sh
ExecStopPost=/bin/sh -c 'echo "{guest.DONE}" > /dev/console'
ExecStopPost=/bin/systemctl --no-block poweroff
StandardOutput=journal+console
StandardError=journal+console
"""

_INSTALL = """#!/bin/sh
# No udevd runs here that the device mapper could wait for.
export DM_DISABLE_UDEV=1
export PATH=/usr/sbin:/usr/bin:/sbin:/bin ROOT_UUID={root} LUKS_UUID={luks}
exec > /dev/console 2>&1 < /dev/null
(
set -eux
mount -o remount,rw /
{mount}
if [ -d /sys/firmware/efi ]; then mount -t efivarfs efivarfs /sys/firmware/efi/efivars; fi
{commands}
rm -f /root/live-install.sh
umount /boot/efi /boot || true
sync
echo u > /proc/sysrq-trigger
sleep 3
echo '{done}'
)
echo o > /proc/sysrq-trigger
sleep 60
"""


@dataclass(frozen=True)
class Disk:
    """A machine's disk, and its firmware's variables if it is UEFI."""

    image: str
    variables: str | None = None

    def arguments(self, *, snapshot: bool = False) -> list[str]:
        """What QEMU is told of them."""
        return [*(guest.uefi(self.variables) if self.variables else []), *guest.drive(self.image, snapshot=snapshot)]


def directory() -> str:
    """Where the disks are, and the consoles of the guests."""
    place = os.path.join(cache(), "live")
    os.makedirs(place, exist_ok=True)
    return place


def disk(name: str) -> Disk:
    """The disk of the layout, built first where it is missing (three to ten minutes, once)."""
    layout = BY_NAME[name]
    base = BY_NAME[layout.like] if layout.like else layout
    identity = repr((layout, base, _UNIT))
    place = os.path.join(directory(), f"{name}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}")
    made = Disk(f"{place}.img", f"{place}.fd" if base.uefi else None)
    if not os.path.exists(made.image):
        for new in (f"{place}.new", f"{place}.staging"):
            if os.path.exists(new):
                os.unlink(new)
        if layout.like:
            _derive(layout, base, disk(layout.like), Disk(f"{place}.new", made.variables))
        else:
            _build(layout, Disk(f"{place}.new", made.variables), f"{place}.staging")
        os.rename(f"{place}.new", made.image)
    return made


def _derive(layout: Layout, base: Layout, source: Disk, new: Disk) -> None:
    run("cp", "--sparse=always", source.image, new.image)
    if source.variables and new.variables:
        shutil.copyfile(source.variables, new.variables)
    private_mounts()
    number = next(at for at, part in enumerate(base.parts) if part.point == "/")
    offset = (2048 + sum(part.size for part in base.parts[:number]) * 2048) * 512
    with _mounted(new.image, offset, base.parts[number], "/@" if base.flags else "") as tree:
        run("sh", "-ec", f"cd {tree}\n{layout.change}")


def _build(layout: Layout, new: Disk, staging: str) -> None:
    private_mounts()
    if new.variables:
        shutil.copyfile(guest.VARIABLES, new.variables)
    offsets = partition(new.image, layout.parts, gpt=layout.uefi)
    root = next(part for part in layout.parts if part.point == "/")
    with ExitStack() as mounts:
        for part, offset in zip(layout.parts, offsets):
            if part is root and layout.staged:
                continue
            with loop(new.image, offset, part.size << 20) as device:
                make_file_system(device, part)
                if part is root and part.fstype == "btrfs":
                    _subvolumes(device)
        if layout.staged:
            with open(staging, "wb") as file:
                file.truncate(root.size << 20)
            with loop(staging, 0, root.size << 20) as device:
                make_file_system(device, root)
            image, offset = staging, 0
        else:
            image, offset = new.image, offsets[layout.parts.index(root)]
        tree = mounts.enter_context(_mounted(image, offset, root, "/@" if layout.flags else ""))
        run("cp", "-ax", f"{machines.root(layout.base)}/.", tree)
        if not layout.staged:
            _boot_partition(layout, new.image, offsets, tree, mounts)
        _customize(layout, tree, root)
        release = releases(tree)[-1]
        kernel, initrd = f"{new.image}-kernel", f"{new.image}-initrd"
        shutil.copyfile(f"{tree}/boot/vmlinuz-{release}", kernel)
        shutil.copyfile(f"{tree}/boot/initrd.img-{release}", initrd)
    line = f"root=UUID={root.uuid} {layout.flags} ro console=ttyS0,115200 panic=-1 init=/root/live-install.sh"
    drives = [*new.arguments(), *(guest.drive(staging) if layout.staged else [])]
    log = os.path.join(directory(), f"{layout.name}-install.log")
    ended = guest.run([*drives, "-kernel", kernel, "-initrd", initrd, "-append", line], log)
    for temporary in (kernel, initrd, *([staging] if layout.staged else [])):
        os.unlink(temporary)
    print(f"{layout.name}: installed in a guest in {ended.seconds} s", flush=True)
    if not ended.done:
        raise RuntimeError(f"{layout.name} could not be installed, see {log}:\n{ended.console[-2000:]}")


@contextmanager
def _mounted(image: str, offset: int, part: Part, below: str = "") -> Iterator[str]:
    point = os.path.join(directory(), f"mnt-{os.getpid()}")
    os.makedirs(point, exist_ok=True)
    with loop(image, offset, part.size << 20) as device:
        options = ["-o", f"subvol={below}"] if below else []
        run("mount", "-t", part.fstype, *options, device, point)
        try:
            yield point
        finally:
            run("umount", "--recursive", point)
            os.rmdir(point)


def _subvolumes(device: str) -> None:
    point = os.path.join(directory(), f"mnt-{os.getpid()}")
    os.makedirs(point, exist_ok=True)
    run("mount", "-t", "btrfs", device, point)
    for name in ("@", "@home"):
        run("btrfs", "subvolume", "create", f"{point}/{name}")
    run("umount", point)
    os.rmdir(point)


def _boot_partition(layout: Layout, image: str, offsets: list[int], tree: str, mounts: ExitStack) -> None:
    """Move what is in /boot to the partition that will be there, and leave that mounted."""
    for part, offset in zip(layout.parts, offsets):
        if part.point == "/boot":
            device = mounts.enter_context(loop(image, offset, part.size << 20))
            run("mount", "-t", part.fstype, device, f"{tree}/mnt")
            run("sh", "-ec", f"cp -a {tree}/boot/. {tree}/mnt/; rm -r {tree}/boot/*; umount {tree}/mnt")
            run("mount", "-t", part.fstype, device, f"{tree}/boot")


def _customize(layout: Layout, tree: str, root: Part) -> None:
    """Packages, fstab, and the two ways in: the installer of the loader, and the unit that does a job."""
    _write(f"{tree}/etc/fstab", layout.fstab)
    _write(f"{tree}/etc/hostname", f"{layout.name}\n")
    _write(f"{tree}/etc/machine-id", hashlib.md5(layout.name.encode()).hexdigest() + "\n")
    if "cryptsetup-initramfs" in layout.packages:
        _write(f"{tree}/etc/crypttab", f"vda2_crypt UUID={LUKS_UUID} none luks,discard\n")
    shutil.copyfile("/etc/resolv.conf", f"{tree}/etc/resolv.conf")
    run("mount", "--rbind", "/dev", f"{tree}/dev")
    run("mount", "-t", "proc", "proc", f"{tree}/proc")
    run("mount", "-t", "sysfs", "sysfs", f"{tree}/sys")
    quiet = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8", "CRYPTSETUP": "y"}
    apt = ("chroot", tree, "apt-get", "-q", "--yes", "--no-install-recommends", "-o", "Acquire::Retries=3")
    run(*apt, "update", environment=quiet)
    if layout.purge:
        run(*apt, "purge", *layout.purge, environment=quiet)
        shutil.rmtree(f"{tree}/boot/grub", ignore_errors=True)
    run(*apt, "install", *layout.packages, environment=quiet)
    if layout.packages[1:]:
        tool = "update-initramfs" if os.path.exists(f"{tree}/usr/sbin/update-initramfs") else ""
        if tool:
            run("chroot", tree, tool, "-u", "-k", "all", environment=quiet)
    run("chroot", tree, "apt-get", "clean")
    shutil.rmtree(f"{tree}/var/lib/apt/lists")
    os.makedirs(f"{tree}/var/lib/apt/lists/partial")
    for part in layout.parts:
        os.makedirs(f"{tree}{part.point}", exist_ok=True)
    # Emulated on a busy host, udev may need more than the 90 seconds that systemd waits for a device.
    os.makedirs(f"{tree}/etc/systemd/system.conf.d", exist_ok=True)
    _write(f"{tree}/etc/systemd/system.conf.d/slow.conf", "[Manager]\nDefaultDeviceTimeoutSec=15min\n")
    unit = "/etc/systemd/system/safeupdate-live.service"
    os.makedirs(f"{tree}/etc/systemd/system/multi-user.target.wants", exist_ok=True)
    _write(tree + unit, _UNIT)
    os.symlink(unit, f"{tree}/etc/systemd/system/multi-user.target.wants/safeupdate-live.service")
    mount = "true" if layout.staged else "mount -a"
    script = _INSTALL.format(root=root.uuid, luks=LUKS_UUID, mount=mount, commands=layout.install, done=guest.DONE)
    _write(f"{tree}/root/live-install.sh", script)
    os.chmod(f"{tree}/root/live-install.sh", 0o755)


def _write(name: str, text: str) -> None:
    with open(name, "w", encoding="utf-8") as file:
        file.write(text)
