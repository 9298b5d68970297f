"""What roots lie on: the disks of each, how its stack is made in a guest, and how it is started."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

ROOT = "5afe0bda-0008-4000-8000-00000000{:04x}"
LUKS = "5afe0bda-0007-4000-8000-00000000{:04x}"
ARRAY = "5afe0bda:00070002:5afe0bda:{:08x}"
PASSPHRASE = "secret"
WWN = "5000c50015ea71ac"

MULTIPATH = {
    "etc/multipath.conf": "defaults {\n\tuser_friendly_names yes\n\tfind_multipaths yes\n}\n",
    "etc/multipath/wwids": f"/3{WWN}/\n",
    "etc/multipath/bindings": f"mpatha 3{WWN}\n",
}

_EXT4 = "mkfs.ext4 -q -F -U $ROOT $top"
_KEY = f"printf {PASSPHRASE} > /run/key"
_OPTIONS = "--batch-mode --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --uuid $LUKS"


def _group(group: str, device: str, volume: str = "root") -> str:
    create = f"lvcreate -y -Wn -n {volume} -l 90%FREE {group}"
    return f"pvcreate {device}\nvgcreate {group} {device}\n{create}\ntop=/dev/{group}/{volume}\n"


def _luks(device: str, name: str) -> str:
    opened = f"cryptsetup open --key-file /run/key {device} {name}\ntop=/dev/mapper/{name}\n"
    return f"{_KEY}\ncryptsetup luksFormat {_OPTIONS} {device} /run/key\n{opened}"


@dataclass(frozen=True)
class Root:
    """One root. `make` is a shell script that leaves the device to mount in `$top`; `$a` and `$b` are the partitions of
    its disks. `$ROOT`, `$LUKS` and `$ARRAY` are UUIDs. A disk on `multipath` is reached on two paths.

    `line` is what an installer has on the command line: root=, and what dracut has to be told.
    """

    name: str
    title: str
    make: str
    line: str
    fstab: str
    crypttab: str = ""
    disks: int = 1
    bus: Literal["virtio", "ahci", "nvme", "multipath"] = "virtio"
    size: int = 200
    number: int = 0

    def filled(self, text: str) -> str:
        """A text with the UUIDs in it."""
        for word, value in (("$ROOT", ROOT), ("$LUKS", LUKS), ("$ARRAY", ARRAY)):
            text = text.replace(word, value.format(self.number))
        return text

    @property
    def serials(self) -> tuple[str, ...]:
        """What the disks say that they are."""
        return tuple(f"d{self.number}{letter}" for letter in "ab"[: self.disks])


_ROOTS = (
    Root(
        "ext4",
        "ext4 on a partition of a virtio disk",
        f"top=$a\n{_EXT4}",
        "root=UUID=$ROOT",
        "UUID=$ROOT / ext4 errors=remount-ro 0 1",
    ),
    Root(
        "xfs",
        "xfs on a partition of a SATA disk behind AHCI",
        "top=$a\nmkfs.xfs -q -f -m uuid=$ROOT $top",
        "root=UUID=$ROOT",
        "UUID=$ROOT / xfs defaults 0 1",
        bus="ahci",
        size=400,
    ),
    Root(
        "f2fs",
        "f2fs on a partition of an NVMe disk",
        "top=$a\nmkfs.f2fs -q -f -U $ROOT $top",
        "root=UUID=$ROOT",
        "UUID=$ROOT / f2fs defaults 0 1",
        bus="nvme",
    ),
    Root(
        "btrfs-two",
        "btrfs on two virtio disks",
        "mkfs.btrfs -q -f -d single -m raid1 -U $ROOT $a $b\nbtrfs device scan\ntop=$a",
        "root=UUID=$ROOT",
        "UUID=$ROOT / btrfs defaults 0 0",
        disks=2,
    ),
    Root(
        "lvm",
        "ext4 on LVM on a virtio disk",
        f"{_group('vg0', '$a')}{_EXT4}",
        "root=/dev/mapper/vg0-root rd.lvm.lv=vg0/root",
        "/dev/mapper/vg0-root / ext4 errors=remount-ro 0 1",
    ),
    Root(
        "thin",
        "ext4 on thin LVM on a SATA disk",
        "pvcreate $a\nvgcreate vg1 $a\nlvcreate -y --type thin-pool -n pool -l 90%FREE vg1\n"
        f"lvcreate -y -V 150M --thinpool vg1/pool -n root\ntop=/dev/vg1/root\n{_EXT4}",
        "root=/dev/mapper/vg1-root rd.lvm.lv=vg1/root",
        "/dev/mapper/vg1-root / ext4 errors=remount-ro 0 1",
        bus="ahci",
    ),
    Root(
        "luks2",
        "ext4 on LUKS 2 on a virtio disk",
        f"{_luks('$a', 'root_crypt')}{_EXT4}",
        "root=/dev/mapper/root_crypt rd.luks.uuid=$LUKS",
        "/dev/mapper/root_crypt / ext4 errors=remount-ro 0 1",
        crypttab="root_crypt UUID=$LUKS none luks,discard",
    ),
    Root(
        "lvm-on-luks",
        "ext4 on LVM on LUKS 2 on a SATA disk, the installer's encrypted layout",
        f"{_luks('$a', 'disk_crypt')}{_group('vg2', '/dev/mapper/disk_crypt')}{_EXT4}",
        "root=/dev/mapper/vg2-root rd.luks.uuid=$LUKS rd.lvm.lv=vg2/root",
        "/dev/mapper/vg2-root / ext4 errors=remount-ro 0 1",
        crypttab="disk_crypt UUID=$LUKS none luks,discard",
        bus="ahci",
    ),
    Root(
        "luks-on-lvm",
        "ext4 on LUKS 2 on LVM on a virtio disk",
        f"{_group('vg3', '$a', 'sealed')}{_luks('/dev/vg3/sealed', 'sealed_crypt')}{_EXT4}",
        "root=UUID=$ROOT rd.luks.uuid=$LUKS rd.lvm.lv=vg3/sealed",
        "UUID=$ROOT / ext4 errors=remount-ro 0 1",
        crypttab="sealed_crypt UUID=$LUKS none luks",
    ),
    Root(
        "md",
        "ext4 on RAID 1 (md) of two SATA disks",
        "mdadm --create /dev/md0 --run --level=1 --raid-devices=2 --metadata=1.2 --assume-clean --homehost=guest "
        f"--uuid=$ARRAY $a $b\ntop=/dev/md0\n{_EXT4}",
        "root=UUID=$ROOT rd.md.uuid=$ARRAY",
        "UUID=$ROOT / ext4 errors=remount-ro 0 1",
        disks=2,
        bus="ahci",
    ),
    Root(
        "multipath",
        "ext4 on a partition of a multipath device with two paths of virtio SCSI",
        "mkdir -p /etc/multipath\ncp multipath.conf /etc/\ncp wwids bindings /etc/multipath/\n"
        "multipath -v1\nudevadm settle\nls -l /dev/mapper\n"
        f"top=/dev/mapper/mpatha-part1\n{_EXT4}",
        "root=/dev/mapper/mpatha-part1",
        "/dev/mapper/mpatha-part1 / ext4 errors=remount-ro 0 1",
        bus="multipath",
    ),
)


@dataclass(frozen=True)
class Mended:
    """Files that an image gets from the tree, by their paths, and files that are taken out of it, by their names."""

    added: tuple[str, ...]
    gone: tuple[str, ...] = ()


ROOTS = {root.name: replace(root, number=number) for number, root in enumerate(_ROOTS, 1)}

_OF_MULTIPATH = (
    "usr/lib/multipath/libchecktur.so",
    "usr/lib/multipath/libprioconst.so",
    "usr/lib/udev/rules.d/60-kpartx.rules",
)

MENDED = {("multipath", "dracut"): (Mended(_OF_MULTIPATH), Mended(_OF_MULTIPATH, gone=("multipathd.socket",)))}
"""What becomes of an image that does not boot as its generator made it, by root and generator; everything else is taken
out of the last. Dracut 059 knows the rule by another name than Debian 12 has for it, and the plugins in another place;
and it enables the socket, which starts multipathd again when that is to end."""
