"""Makes the disk of a base machine: the tree on the host, the boot loader in a guest, as an installer does.

The loader's own programs run in the guest, on the devices and with the firmware that the machine will have: what
grub-install, update-grub, bootctl and kernel-install leave is theirs to the byte.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import machines
from machines.build import releases
from machines.namespace import private_mounts
from safeupdate.rehearsal import agent
from safeupdate.rehearsal.hardware import VARIABLES, VARIABLES_SECURE_BOOT, Disk, Firmware, Hardware
from safeupdate.rehearsal.qemu import start
from tests.lab import secure_boot
from tests.lab.bases import Base
from tests.lab.disks import loop, make_file_system, partition
from tests.lab.programs import LabError, run

INSTALL_LIMIT = 3600.0
"""Seconds in the guest: a minute or two on an idle host, twenty on one that emulates five machines at once."""

_AGENT = "/usr/local/lib/lab-agent"
_DONE = "the lab: installed"

_PROGRAM_NEEDS = ("python3", "python3-cryptography", "python3-pefile", "python3-rich", "python3-zstandard")
"""What README.md says that the program needs, from the distribution."""

_MODULE = "v4l2loopback"
"""Built by DKMS for every kernel, and loaded at every boot."""

_INSTALL = """#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin ROOT_UUID={root}
exec > /dev/console 2>&1 < /dev/null
(
set -eux
mount -o remount,rw /
{mount}
if [ -d /sys/firmware/efi ]; then mount -t efivarfs efivarfs /sys/firmware/efi/efivars; fi
{commands}
rm -f /root/lab-install.sh
umount /boot/efi /boot || true
sync
echo u > /proc/sysrq-trigger
sleep 3
echo '{done}'
)
echo o > /proc/sysrq-trigger
sleep 60
"""

_QUIET = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}


def recipe() -> str:
    """What is the same for every base, as a text: a change of it makes new disks."""
    return repr((_INSTALL, _PROGRAM_NEEDS, _MODULE, agent.SCRIPT, agent.UNIT))


def build(base: Base, images: Sequence[str], variables: str) -> None:
    """Write raw disks with the machine, and the variables of its firmware. Raises `LabError`.

    Whoever calls it is root, and has no other threads: its mounts are seen by this thread and its programs only.
    """
    if not private_mounts():
        raise LabError("disks are made by root, in a mount namespace of its own")
    if base.uefi:
        shutil.copyfile(VARIABLES_SECURE_BOOT if base.secure_boot else VARIABLES, variables)
    if base.secure_boot:
        # QEMU's own way to start a kernel leaves shim out, whose keys the firmware does not have.
        secure_boot.switch(variables, on=False)
    for image in images:
        offsets = partition(image, base.parts, gpt=base.uefi)
        for part, offset in zip(base.parts, offsets):
            if part.fstype:
                with loop(image, offset, part.size << 20) as device:
                    make_file_system(device, part)
    work = f"{images[0]}-work"
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)
    kernel, initramfs, staging = (os.path.join(work, name) for name in ("kernel", "initramfs", "staging"))
    if base.staged is not None:
        with open(staging, "wb") as file:
            file.truncate(base.staged.size << 20)
        with loop(staging, 0, base.staged.size << 20) as device:
            make_file_system(device, base.staged)
    with _mounted(base, staging if base.staged else images[0], offsets, os.path.join(work, "root")) as tree:
        _customize(base, tree)
        # The real-time kernel of testing, its newest, has no EFI variables.
        release = releases(tree)[0]
        shutil.copyfile(f"{tree}/boot/vmlinuz-{release}", kernel)
        shutil.copyfile(f"{tree}/boot/initrd.img-{release}", initramfs)
        if base.secure_boot:
            with open(f"{tree}/var/lib/dkms/mok.pub", "rb") as file:
                certificate = file.read()
    line = f"root=UUID={base.root.uuid} {base.root_flags} ro console=ttyS0,115200 panic=-1 init=/root/lab-install.sh"
    firmware = Firmware(variables, base.secure_boot) if base.uefi else None
    disks = [Disk(image, "raw") for image in (*images, *([staging] if base.staged else []))]
    log = os.path.join(os.path.dirname(images[0]), "install.log")
    with start(Hardware(tuple(disks), firmware, kernel=(kernel, initramfs, line)), log) as guest:
        while guest.poll(1.0) and guest.seconds < INSTALL_LIMIT:
            pass
        text = guest.console.text()
    shutil.rmtree(work)
    if _DONE not in text.splitlines():
        raise LabError(f"{base.name} could not be installed, see {log}:\n{text[-2000:]}")
    if base.secure_boot:
        secure_boot.enrol(variables, certificate)
        secure_boot.switch(variables, on=True)


@contextlib.contextmanager
def _mounted(base: Base, image: str, offsets: Sequence[int], point: str) -> Iterator[str]:
    """The machine's tree on its disk, with what is mounted at /boot; the ESP is left to the guest."""
    os.makedirs(point)
    places = [(base.staged, 0)] if base.staged else list(zip(base.parts, offsets))
    with ExitStack() as stack:
        devices = {part.point: stack.enter_context(loop(image, offset, part.size << 20)) for part, offset in places}
        root = devices["" if base.staged else "/"]
        if base.subvolumes:
            run("mount", "-t", "btrfs", root, point)
            for name in ("@", *(name for name, _ in base.subvolumes)):
                run("btrfs", "subvolume", "create", f"{point}/{name}")
            run("umount", point)
        options = ["-o", "subvol=@"] if base.subvolumes else []
        run("mount", "-t", base.root.fstype, *options, root, point)
        stack.callback(run, "umount", "--recursive", point)
        if "/boot" in devices:
            os.makedirs(f"{point}/boot")
            run("mount", "-t", "ext4", devices["/boot"], f"{point}/boot")
        run("cp", "-ax", f"{machines.root(base.tree)}/.", point)
        yield point


def _customize(base: Base, tree: str) -> None:
    """Packages, fstab, the modules that are built here, and the two ways in: the installer and the agent."""
    _write(f"{tree}/etc/fstab", base.fstab)
    if base.crypttab:
        _write(f"{tree}/etc/crypttab", base.crypttab)
    _write(f"{tree}/etc/hostname", f"{base.name}\n")
    _write(f"{tree}/etc/machine-id", hashlib.md5(base.name.encode()).hexdigest() + "\n")
    shutil.copyfile("/etc/resolv.conf", f"{tree}/etc/resolv.conf")
    run("mount", "--rbind", "/dev", f"{tree}/dev")
    run("mount", "-t", "proc", "proc", f"{tree}/proc")
    run("mount", "-t", "sysfs", "sysfs", f"{tree}/sys")
    apt = ("chroot", tree, "apt-get", "-q", "--yes", "--no-install-recommends", "-o", "Acquire::Retries=3")
    run(*apt, "update", environment=_QUIET)
    if base.purge:
        run(*apt, "purge", *base.purge, environment=_QUIET)
        shutil.rmtree(f"{tree}/boot/grub", ignore_errors=True)
    if "dkms" in base.packages:
        # The headers first: without them the scripts of DKMS packages build nothing.
        run(*apt, "install", *(f"linux-headers-{release}" for release in releases(tree)), environment=_QUIET)
    run(*apt, "install", *_PROGRAM_NEEDS, *base.packages, environment=_QUIET)
    for release in releases(tree):
        if f"{_MODULE}.ko" not in " ".join(_modules(tree, release)):
            raise LabError(f"{base.name}: DKMS has not built {_MODULE} for {release}")
    _write(f"{tree}/etc/modules-load.d/{_MODULE}.conf", f"{_MODULE}\n")
    if base.array:
        with open(f"{tree}/etc/mdadm/mdadm.conf", "a", encoding="utf-8") as file:
            file.write(base.array)
    if base.packages and not base.crypttab and os.path.exists(f"{tree}/usr/sbin/update-initramfs"):
        run("chroot", tree, "update-initramfs", "-u", "-k", "all", environment=_QUIET)
    run("chroot", tree, "apt-get", "clean")
    shutil.rmtree(f"{tree}/var/lib/apt/lists")
    os.makedirs(f"{tree}/var/lib/apt/lists/partial")
    for part in base.parts:
        os.makedirs(f"{tree}/{part.point}", exist_ok=True)
    # Emulated on a busy host, udev may need more than the 90 seconds that systemd waits for a device.
    os.makedirs(f"{tree}/etc/systemd/system.conf.d", exist_ok=True)
    _write(f"{tree}/etc/systemd/system.conf.d/slow.conf", "[Manager]\nDefaultDeviceTimeoutSec=120s\n")
    _write(f"{tree}{_AGENT}", agent.SCRIPT)
    unit = "/etc/systemd/system/lab-agent.service"
    os.makedirs(f"{tree}/etc/systemd/system/multi-user.target.wants", exist_ok=True)
    _write(tree + unit, agent.UNIT.format(script=_AGENT))
    os.symlink(unit, f"{tree}/etc/systemd/system/multi-user.target.wants/lab-agent.service")
    mount = ":" if base.staged else "mount -a"
    script = _INSTALL.format(root=base.root.uuid, mount=mount, commands=base.install, done=_DONE)
    _write(f"{tree}/root/lab-install.sh", script)
    os.chmod(f"{tree}/root/lab-install.sh", 0o755)


def _modules(tree: str, release: str) -> list[str]:
    """The files of out-of-tree modules."""
    top = f"{tree}/usr/lib/modules/{release}/updates"
    return [name for _, _, names in os.walk(top) for name in names]


def _write(name: str, text: str) -> None:
    with open(name, "w", encoding="utf-8") as file:
        file.write(text)
