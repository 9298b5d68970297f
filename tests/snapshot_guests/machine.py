"""The machine of a story: armed, with its root on what the story is about, and with a disk that has a kernel for it."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from machines.build import cache
from safeupdate.rehearsal.hardware import Disk, Firmware, Hardware
from tests.gate_guests import machine as gate
from tests.gate_guests.machine import SETTLED, Lost, Running
from tests.gate_guests.states import state
from tests.hook_guests.disks import disk as packages
from tests.lab import saved
from tests.lab.programs import run
from tests.snapshot_guests.played import PLAYED

_EXTRA = "6G"
"""Of the second disk, on which the snapshots of LVM's get their room."""

_QUICK = r"""
printf 'COMPRESSLEVEL=1\nMODULES=list\n' > /etc/initramfs-tools/conf.d/lab.conf
printf '%s\n' virtio_pci virtio_blk ext4 >> /etc/initramfs-tools/modules
"""
"""In an emulated machine an initramfs that is packed best takes half an hour, and one with most modules six minutes."""

_ROOM = """
set -ex
export LVM_SUPPRESS_FD_WARNINGS=1
pvcreate -y /dev/vdb
vgextend vg0 /dev/vdb
"""

_INTO_POOL = f"""
{_ROOM}
{_QUICK}
echo dm_thin_pool >> /etc/initramfs-tools/modules
# The program that checks a pool is in a package that lvm2 only recommends.
printf 'global {{\\n\\tthin_check_executable = ""\\n}}\\n' >> /etc/lvm/lvmlocal.conf
update-initramfs -u -k all
lvcreate -y --type thin-pool -L 4g --poolmetadatasize 4m -n pool vg0 /dev/vdb
lvcreate -y -V "$(blockdev --getsize64 /dev/vg0/root)b" --thinpool pool -n thin vg0
# A root that is mounted can be copied from a snapshot of it only.
lvcreate -y -s -L 1g -n copy vg0/root
dd if=/dev/vg0/copy of=/dev/vg0/thin bs=256k conv=fsync,sparse
lvremove -y vg0/copy
lvrename vg0 root old
lvrename vg0 thin root
sync
lvs -a vg0
"""
"""The root file system into a new thin pool; it is mounted from there with the next boot."""

_IN_POOL = """
set -ex
export LVM_SUPPRESS_FD_WARNINGS=1
lvremove -y vg0/old
[ "$(lvs --noheadings -o pool_lv vg0/root | tr -d ' ')" = pool ]
update-grub || true
safeupdate settle || true
lvs -a vg0
sync
"""

_THICK = f"""
{_ROOM}
{_QUICK}
mkdir -p /etc/safeupdate
printf '[snapshots]\\nalso = ["lvm-thick"]\\n' >> /etc/safeupdate/safeupdate.toml
safeupdate settle || true
lvs -a vg0
sync
"""


_SUBVOLUME = r"""
printf 'COMPRESSLEVEL=1\nMODULES=dep\n' > /etc/initramfs-tools/conf.d/lab.conf
sync
"""


@dataclass(frozen=True)
class Setup:
    """How a machine's root comes onto what a story is about: a script for each boot. `extra`: with a second disk."""

    scripts: tuple[str, ...]
    extra: bool = True


SETUPS = {
    "thin": Setup((_INTO_POOL, _IN_POOL)),
    "thick": Setup((_THICK,)),
    "btrfs": Setup((_SUBVOLUME,), extra=False),
    "zfs": Setup((f"{_QUICK}\nsync\n",), extra=False),
}


@dataclass
class Machine(gate.Machine):
    """As that of the gate's stories, with results of its own. `kind` is one of `SETUPS`."""

    kept = "snapshots"
    played = PLAYED

    kind: str = "thin"

    @contextmanager
    def begun(self) -> Iterator[Running]:
        """A new one, started. It loses its power behind the `with`; `started` then starts it anew."""
        place, images = self._ready()
        disks = [Disk(_onto(image, os.path.join(self.work, f"disk.{at}"))) for at, image in enumerate(images)]
        if self.kind != "zfs":
            disks.append(Disk(packages(self.base.name.partition("-")[0]), "raw", forget=True))
        firmware = None
        if self.base.uefi:
            firmware = Firmware(os.path.join(self.work, "disk.fd"), self.base.secure_boot)
            shutil.copyfile(f"{place}.fd", firmware.variables)
        self._disk = Hardware(tuple(disks), firmware, saved.MEMORY)
        with self.up() as guest:
            status = guest.words(SETTLED).partition("\n")[0]
            self.tell("before all, status", status, right=status.startswith("OPEN"))
            yield guest

    def _ready(self) -> tuple[str, list[str]]:
        """What the files begin with, and the disks with the root where the story wants it, made first where they are
        missing."""
        before, setup = state(self.base, "armed", self.checkout), SETUPS[self.kind]
        saved.room()
        digest = hashlib.sha256(repr((before.place, setup, _EXTRA)).encode()).hexdigest()[:12]
        place = os.path.join(cache(), "snapshots", f"{self.base.name}-{self.kind}-{digest}")
        images = [f"{place}.{at}.qcow2" for at in range(1 + setup.extra)]
        # The first one is there last.
        if os.path.exists(images[0]):
            return place, images
        print(f"snapshots: making {place}", flush=True)
        hardware = before.onto(f"{place}.new")
        if setup.extra:
            run("qemu-img", "create", "-q", "-f", "qcow2", f"{place}.new.1.qcow2", _EXTRA)
            hardware = replace(hardware, disks=(*hardware.disks, Disk(f"{place}.new.1.qcow2")))
        self._disk = hardware
        for script in setup.scripts:
            with self.up() as guest:
                done = guest.ask(script)
                if done.code != 0:
                    raise Lost(f"{self.base.name} was not made ready ({done.code}):\n{done.output[-3000:]}")
        if self.base.uefi:
            os.rename(f"{place}.new.fd", f"{place}.fd")
        for at in reversed(range(len(images))):
            os.rename(f"{place}.new.{at}.qcow2", images[at])
        return place, images


def _onto(image: str, place: str) -> str:
    """A disk that goes on from another."""
    name = f"{place}.qcow2"
    with suppress(FileNotFoundError):
        os.unlink(name)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", image, "-F", "qcow2", name)
    return name
