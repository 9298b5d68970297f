"""Layouts of storage as sysfs shows them.

Those with device-mapper, md and btrfs are as Linux 6.1 and 6.12 have them. What no guest here can have (NVMe over a
network, Xen, Hyper-V, iSCSI, memory cards) is made from the kernel's documentation and public listings of sysfs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from safeupdate.capture import capture
from safeupdate.machine import Machine
from safeupdate.storage import devices, stack
from safeupdate.storage.devices import Devices
from safeupdate.storage.stack import Layer, Stack
from safeupdate.volumes import Volumes
from tests.unit.captures import captured
from tests.unit.test_luks import LUKS2
from tests.unit.test_storage_drivers import PCI, block, dm, driven, sata
from tests.unit.trees import Content, Link, tree

GROUP = "a" * 32
VIRTUAL = "/sys/devices/virtual/block"


def stacks(machine: Machine, command_line: str = "") -> dict[str, Stack]:
    return {one.purpose: one for one in stack.of(machine, Volumes(machine), command_line=command_line)}


def root(machine: Machine, command_line: str = "") -> Stack:
    return stacks(machine, command_line)["/"]


def drawn(machine: Machine, command_line: str = "") -> str:
    return "\n".join(root(machine, command_line).lines())


def layer(found: Stack, name: str) -> Layer:
    return next(layer for layer in found.walk() if layer.name == name)


def kinds(found: Stack) -> list[str]:
    return [f"{layer.kind} {layer.name}" for layer in found.walk()]


def on(source: str, fstype: str = "ext4", number: str = "0:0", options: str = "rw", directory: str = "/") -> str:
    return f"27 1 {number} {directory} / rw - {fstype} {source} {options}\n"


def mounted(source: str, fstype: str = "ext4", options: str = "rw", directory: str = "/") -> dict[str, Content]:
    return {"/proc/self/mountinfo": on(source, fstype, options=options, directory=directory)}


def lvm(name: str, called: str, slaves: tuple[str, ...], *, suffix: str = "", volume: str = "b") -> dict[str, Content]:
    return dm(name, f"LVM-{GROUP}{volume * 32}{suffix}", slaves, called)


def pci(device: str, driver: str, kind: str, modalias: str = "") -> dict[str, Content]:
    """A PCI device, bound to a driver that is from the module of the same name."""
    place = f"{PCI}/{device}"
    files: dict[str, Content] = {**driven(place, "pci", driver, driver), f"{place}/class": f"{kind}\n"}
    return {**files, f"{place}/modalias": f"{modalias}\n"} if modalias else files


def virtio(disk: str = "vda", slot: int = 2) -> dict[str, Content]:
    """A disk of virtio-blk with one partition."""
    adapter = f"{PCI}/0000:00:{slot:02x}.0"
    unit = f"{adapter}/virtio{slot}"
    return {
        **driven(adapter, "pci", "virtio-pci", "virtio_pci"),
        f"{adapter}/modalias": "pci:v00001AF4d00001001sv00001AF4sd00000002bc01sc00i00\n",
        **driven(unit, "virtio", "virtio_blk", "virtio_blk"),
        f"{unit}/modalias": "virtio:d00000002v00001AF4\n",
        **block(f"{unit}/block/{disk}"),
        **block(f"{unit}/block/{disk}/{disk}1", partition=True),
    }


def interface(name: str, driver: str, slot: int, state: str = "up") -> dict[str, Content]:
    place = f"{PCI}/0000:00:{slot:02x}.0"
    return {
        **driven(place, "pci", driver, driver),
        f"{place}/modalias": f"pci:{driver}\n",
        f"{place}/net/{name}/device": Link("../.."),
        f"{place}/net/{name}/operstate": f"{state}\n",
        f"/sys/class/net/{name}": Link(f"../../{place[len('/sys/') :]}/net/{name}"),
    }


# -- real ------------------------------------------------------------------------------------------------------


def test_a_real_guest(tmp_path: Path) -> None:
    machine = captured("xfs-dracut", tmp_path)
    found = root(machine, machine.value("/proc/cmdline") or "")
    assert (
        "\n".join(found.lines())
        == """/
└─ file system xfs
   └─ partition vda2
      └─ virtio disk vda [virtio_blk]
         └─ PCI device 0000:00:02.0 [virtio_pci]"""
    )
    assert layer(found, "vda2").facts["content"] == "xfs"
    assert layer(found, "vda").facts["modalias"] == "virtio:d00000002v00001AF4"
    assert layer(found, "0000:00:02.0").facts["modalias"].startswith("pci:v00001AF4d00001001")


def test_a_real_guest_with_an_efi_system_partition(tmp_path: Path) -> None:
    machine = captured("systemd-boot-gpt-auto", tmp_path)
    found = root(machine, machine.value("/proc/cmdline") or "")
    assert kinds(found) == ["file-system ext4", "partition vda2", "disk vda", "controller 0000:00:01.0"]
    assert layer(found, "ext4").facts["options"] == "errors=remount-ro"
    assert found.problem is None


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """Volumes of all kinds and disks of all buses, made in a guest of QEMU with Linux 6.1 by the programs of Debian 12;
    its sysfs without what no layer tells, and what `dmsetup table` said there."""
    return captured("storage", tmp_path_factory.mktemp("guest"))


@pytest.mark.parametrize(
    ("name", "kind", "targets"),
    [
        ("vg0-root", "lvm", "linear"),
        ("vg--one-thin--root", "lvm-thin", "thin"),
        ("vg--one-pool-tpool", "lvm-thin", "thin-pool"),
        ("vg--one-mirrored", "lvm-raid", "raid"),
        ("vg--one-mirrored_rimage_0", "lvm-raid", "linear"),
        ("vg--one-slow", "lvm-cache", "cache"),
        ("vg--one-slow_corig", "lvm-cache", "linear"),
        ("vg--one-fast_cpool_cdata", "lvm-cache", "linear"),
        ("vg--one-origin", "lvm-snapshot", "snapshot-origin"),
        ("vg--one-snap", "lvm-snapshot", "snapshot"),
        ("vg2-root", "lvm", "linear"),
        ("root_crypt", "crypt", "crypt"),
        ("vdi_crypt", "crypt", "crypt"),
        ("sealed", "crypt", "crypt"),
        ("sealed_dif", "integrity", "integrity"),
        ("mpatha", "multipath", "multipath"),
        ("mpatha-part1", "partition", "linear"),
        ("odd", "dm", "linear"),
    ],
)
def test_real_volumes(guest: Machine, name: str, kind: str, targets: str) -> None:
    found = Devices(guest)
    layers = map(found.block, guest.listdir("/sys/class/block"))
    volume = next(one for one in layers if one.facts.get("dm-name") == name)
    assert (volume.kind, volume.facts["targets"]) == (kind, targets)
    assert not [one.title for one in volume.walk() if one.kind == "unknown"]
    assert [one for one in volume.walk() if one.kind == "disk"]


def test_real_encrypted_volumes(guest: Machine) -> None:
    found = {one.facts.get("dm-name"): one for one in map(Devices(guest).block, guest.listdir("/sys/class/block"))}
    assert found["root_crypt"].facts["cipher"] == "aes-xts-plain64"
    assert [found[name].facts["format"] for name in ("root_crypt", "vdi_crypt", "sealed")] == [
        "LUKS2",
        "LUKS1",
        "LUKS2",
    ]
    assert found["sealed"].facts["cipher"] == "capi:authenc(hmac(sha256),xts(aes))-plain64"
    assert found["sealed"].facts["integrity"] == "32:aead"
    assert [one.kind for one in found["vg2-root"].walk()] == ["lvm", "crypt", "disk", "controller"]
    assert [one.kind for one in found["root_crypt"].walk()][:3] == ["crypt", "lvm", "md"]


def test_real_arrays(guest: Machine) -> None:
    found = Devices(guest)
    assert found.block("md0").facts["array-uuid"].count(":") == 3
    assert (found.block("md0").title, found.block("md1").title) == ("raid1 array md0", "raid5 array md1, degraded")
    assert len(found.block("md1").below) == 2


@pytest.mark.parametrize(
    ("disk", "title", "drivers"),
    [
        ("vda", "virtio disk vda", "virtio_blk virtio_pci"),
        ("sda", "virtio SCSI disk sda", "sd_mod virtio_scsi virtio_pci"),
        ("sdc", "SATA disk sdc", "sd_mod ahci"),
        ("sdd", "SCSI disk sdd", "sd_mod megaraid_sas"),
        ("sde", "USB disk sde", "sd_mod usb_storage usbcore usbcore xhci_pci"),
        ("mmcblk0", "MMC or SD disk mmcblk0", " sdhci_pci"),  # mmc_block is a module there, and sysfs does not tell
        ("nvme0n1", "NVMe disk nvme0n1", "nvme nvme"),
    ],
)
def test_real_disks(guest: Machine, disk: str, title: str, drivers: str) -> None:
    found = Devices(guest).block(disk)
    assert found.title == title
    assert " ".join(one.facts["driver"] for one in found.walk() if "driver" in one.facts) == drivers
    assert all(one.facts["modalias"] for one in found.walk() if one.kind == "controller" and one.facts["bus"] == "pci")


def test_this_machine() -> None:
    for one in stacks(Machine.here()).values():
        assert all(len(line) <= 80 for line in one.lines())


# -- device-mapper ---------------------------------------------------------------------------------------------


def test_luks_on_lvm(tmp_path: Path) -> None:
    uuid = "0123456789abcdef0123456789abcdef"
    files: dict[str, Content] = {
        **virtio(),
        **lvm("dm-0", "vg-root", ("vda1",)),
        **dm("dm-1", f"CRYPT-LUKS2-{uuid}-root_crypt", ("dm-0",), "root_crypt"),
        **mounted("/dev/mapper/root_crypt"),
        "/etc/crypttab": "root_crypt UUID=01234567-89ab-cdef-0123-456789abcdef none luks,discard,initramfs\n",
        devices.TABLE: "root_crypt: 0 999 crypt aes-xts-plain64 :64:logon:cryptsetup:0123-d0 0 254:0 32768\n",
    }
    found = root(tree(tmp_path, files), "root=/dev/mapper/root_crypt ro")
    assert (
        "\n".join(found.lines())
        == """/
└─ file system ext4
   └─ LUKS2 volume root_crypt (dm-1)
      └─ LVM volume vg/root (dm-0)
         └─ partition vda1
            └─ virtio disk vda [virtio_blk]
               └─ PCI device 0000:00:02.0 [virtio_pci]"""
    )
    facts = layer(found, "dm-1").facts
    assert facts["luks-uuid"] == "01234567-89ab-cdef-0123-456789abcdef"
    assert facts["cipher"] == "aes-xts-plain64"
    assert layer(found, "dm-0").facts["group"] == "vg"


def test_lvm_on_luks(tmp_path: Path) -> None:
    files: dict[str, Content] = {
        **virtio(),
        **dm("dm-0", f"CRYPT-LUKS1-{'0' * 32}-luks-1", ("vda1",), "luks-1"),
        **lvm("dm-1", "debian--vg-root--fs", ("dm-0",)),
        **mounted("/dev/mapper/debian--vg-root--fs"),
    }
    found = root(tree(tmp_path, files))
    assert kinds(found)[:4] == ["file-system ext4", "lvm dm-1", "crypt dm-0", "partition vda1"]
    assert (layer(found, "dm-1").facts["group"], layer(found, "dm-1").facts["volume"]) == ("debian-vg", "root-fs")
    assert layer(found, "dm-0").title == "LUKS1 volume luks-1 (dm-0)"
    assert "cipher" not in layer(found, "dm-0").facts


def test_integrity_under_luks(tmp_path: Path) -> None:
    files: dict[str, Content] = {
        **virtio(),
        **dm("dm-0", "CRYPT-INTEGRITY-root_dif", ("vda1",), "root_dif"),
        **dm("dm-1", f"CRYPT-LUKS2-{'0' * 32}-root", ("dm-0",), "root"),
        **mounted("/dev/mapper/root"),
        devices.TABLE: "root: 0 9 crypt capi:authenc(hmac(sha256),xts(aes))-random - 0 254:0 0 1 integrity:48:aead\n",
    }
    found = root(tree(tmp_path, files))
    assert kinds(found)[1:3] == ["crypt dm-1", "integrity dm-0"]
    assert layer(found, "dm-1").facts["cipher"] == "capi:authenc(hmac(sha256),xts(aes))-random"
    assert layer(found, "dm-1").facts["integrity"] == "48:aead"


def test_a_header_apart_from_its_device(tmp_path: Path) -> None:
    files: dict[str, Content] = {
        **virtio(),
        **dm("dm-0", f"CRYPT-LUKS2-{'0' * 32}-root", ("vda1",), "root"),
        **mounted("/dev/mapper/root"),
        "/etc/crypttab": "root /dev/vda1 none luks,header=/boot/root.header\n",
        "/boot/root.header": LUKS2,
    }
    assert layer(root(tree(tmp_path / "a", files)), "dm-0").facts["cipher"] == "aes-xts-plain64"
    bare = {path: content for path, content in files.items() if not path.startswith(("/sys/", "/proc/"))}
    found = root(tree(tmp_path / "b", bare), "root=/dev/mapper/root")
    assert layer(found, "root").facts["cipher"] == "aes-xts-plain64"


def test_thin_lvm(tmp_path: Path) -> None:
    files: dict[str, Content] = {
        **virtio(),
        **lvm("dm-0", "vg-pool_tmeta", ("vda1",), suffix="-tmeta", volume="c"),
        **lvm("dm-1", "vg-pool_tdata", ("vda1",), suffix="-tdata", volume="d"),
        **lvm("dm-2", "vg-pool-tpool", ("dm-0", "dm-1"), suffix="-tpool", volume="e"),
        **lvm("dm-3", "vg-root", ("dm-2",)),
        **mounted("/dev/mapper/vg-root"),
    }
    assert (
        drawn(tree(tmp_path, files))
        == """/
└─ file system ext4
   └─ thin LVM volume vg/root (dm-3)
      └─ thin LVM volume's part vg/pool-tpool (dm-2)
         ├─ thin LVM volume's part vg/pool_tmeta (dm-0)
         │  └─ partition vda1
         │     └─ virtio disk vda [virtio_blk]
         │        └─ PCI device 0000:00:02.0 [virtio_pci]
         └─ thin LVM volume's part vg/pool_tdata (dm-1)
            └─ partition vda1, as above"""
    )


def test_lvm_raid_and_its_level(tmp_path: Path) -> None:
    parts = {f"dm-{number}": name for number, name in enumerate(("rmeta_0", "rimage_0", "rmeta_1", "rimage_1"))}
    files: dict[str, Content] = {**virtio("vda", 2), **virtio("vdb", 3), **mounted("/dev/vg/root")}
    for name, part in parts.items():
        files |= lvm(name, f"vg-root_{part}", ("vda1" if part.endswith("0") else "vdb1",), volume=name[-1])
    files |= lvm("dm-4", "vg-root", tuple(parts))
    files[devices.TABLE] = "vg-root: 0 999 raid raid1 3 0 region_size 1024 2 254:0 254:1 254:2 254:3\n"
    found = root(tree(tmp_path, files))
    assert layer(found, "dm-4").kind == "lvm-raid"
    assert layer(found, "dm-4").facts["level"] == "raid1"
    assert layer(found, "dm-4").facts["targets"] == "raid"
    assert [name for name in kinds(found) if name.startswith("disk")] == ["disk vda", "disk vdb"]


def test_a_cached_volume(tmp_path: Path) -> None:
    files: dict[str, Content] = {
        **virtio("vda", 2),
        **virtio("vdb", 3),
        **lvm("dm-0", "vg-fast_cpool_cdata", ("vdb1",), suffix="-cdata", volume="c"),
        **lvm("dm-1", "vg-fast_cpool_cmeta", ("vdb1",), suffix="-cmeta", volume="d"),
        **lvm("dm-2", "vg-root_corig", ("vda1",), volume="e"),
        **lvm("dm-3", "vg-root", ("dm-0", "dm-1", "dm-2")),
        **mounted("/dev/mapper/vg-root"),
    }
    found = root(tree(tmp_path, files))
    assert [one.kind for one in found.walk()].count("lvm-cache") == 4
    assert layer(found, "dm-3").title == "cached LVM volume vg/root (dm-3)"


def test_a_group_on_a_thin_volume_of_another_is_not_thin(tmp_path: Path) -> None:
    files: dict[str, Content] = {
        **virtio(),
        **lvm("dm-0", "vg-pool-tpool", ("vda1",), suffix="-tpool", volume="c"),
        **lvm("dm-1", "vg-disk", ("dm-0",)),
        **dm("dm-2", f"LVM-{'x' * 64}", ("dm-1",), "guest-root"),
        **mounted("/dev/mapper/guest-root"),
    }
    assert kinds(root(tree(tmp_path, files)))[1:3] == ["lvm dm-2", "lvm-thin dm-1"]


def test_multipath_with_partitions(tmp_path: Path) -> None:
    files: dict[str, Content] = {**pci("0000:05:00.0", "qla2xxx", "0x0c0400")}
    paths = [f"sd{letter}" for letter in "abcdefgh"]
    for number, disk in enumerate(paths):
        host = f"{PCI}/0000:05:00.0/host{number}/rport-{number}:0-0/target{number}:0:0/{number}:0:0:0"
        files |= {**driven(host, "scsi", "sd", "sd_mod"), **block(f"{host}/block/{disk}")}
    files |= dm("dm-0", "mpath-3600508b400105e210000900000490000", tuple(paths), "mpatha")
    files |= dm("dm-1", "part2-mpath-3600508b400105e210000900000490000", ("dm-0",), "mpatha-part2")
    files |= mounted("/dev/mapper/mpatha-part2")
    files[devices.TABLE] = (
        "mpatha: 0 99 multipath 1 queue_if_no_path 1 alua 1 1 service-time 0 2 2 8:0 1 1 8:16 1 1\n"
        "mpatha-part2: 0 9 linear 253:0 2048\n"
    )
    found = root(tree(tmp_path, files))
    assert (
        "\n".join(found.lines())
        == """/
└─ file system ext4
   └─ partition mpatha-part2 (dm-1)
      └─ multipath device mpatha (dm-0)
         ├─ Fibre Channel disk sda [sd_mod]
         │  └─ Fibre Channel adapter 0000:05:00.0 [qla2xxx]
         ├─ Fibre Channel disk sdb [sd_mod]
         │  └─ Fibre Channel adapter 0000:05:00.0 [qla2xxx]
         ├─ Fibre Channel disk sdc [sd_mod]
         │  └─ Fibre Channel adapter 0000:05:00.0 [qla2xxx]
         ├─ Fibre Channel disk sdd [sd_mod]
         │  └─ Fibre Channel adapter 0000:05:00.0 [qla2xxx]
         ├─ Fibre Channel disk sde [sd_mod]
         │  └─ Fibre Channel adapter 0000:05:00.0 [qla2xxx]
         └─ and 3 more"""
    )
    facts = layer(found, "dm-0").facts
    assert facts["wwid"] == "3600508b400105e210000900000490000"
    assert (facts["selector"], facts["handler"]) == ("service-time", "alua")
    assert kinds(found).count("controller 0000:05:00.0") == 1


def test_verity_of_usr(tmp_path: Path) -> None:
    files: dict[str, Content] = {
        **virtio("vda", 2),
        **virtio("vdb", 3),
        **dm("dm-0", "CRYPT-VERITY-0123-usr", ("vdb1",), "usr"),
        "/proc/self/mountinfo": on("/dev/vda1") + "28 27 0:0 / /usr ro - erofs /dev/mapper/usr ro\n",
    }
    found = stacks(tree(tmp_path, files))
    assert list(found) == ["/", "/usr"]
    assert kinds(found["/usr"])[:3] == ["file-system erofs", "verity dm-0", "partition vdb1"]


def test_a_part_of_the_root_mounted_again_is_not_apart(tmp_path: Path) -> None:
    lines = on("/dev/vda1", number="254:1") + "28 27 254:1 /ostree/deploy/x/usr /usr ro - ext4 /dev/vda1 rw\n"
    found = stacks(tree(tmp_path, {**virtio(), "/proc/self/mountinfo": lines}))
    assert list(found) == ["/"]
    assert layer(found["/"], "ext4").facts["options"] == "rw"


def test_a_volume_of_an_unknown_kind_is_named(tmp_path: Path) -> None:
    files: dict[str, Content] = {**virtio(), **dm("dm-0", "", ("vda1",), "odd"), **mounted("/dev/mapper/odd")}
    found = root(tree(tmp_path / "a", files))
    assert kinds(found)[1:3] == ["unknown dm-0", "partition vda1"]
    assert found.problem == "a part of the way is not known: device-mapper volume of an unknown kind odd (dm-0)"
    files[devices.TABLE] = "odd: 0 999 writeboost 254:1 254:2\n"
    found = root(tree(tmp_path / "b", files))
    assert (layer(found, "dm-0").kind, layer(found, "dm-0").facts["targets"]) == ("dm", "writeboost")
    assert found.problem is None


# -- md and others ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", ["", "x", "9 a", "0 0", "0 x", "1 queue_if_no_path 0 0 1"])
def test_a_table_of_multipath_that_makes_no_sense(tmp_path: Path, words: str) -> None:
    files: dict[str, Content] = {
        **virtio(),
        **dm("dm-0", "mpath-1", ("vda",), "mpatha"),
        **mounted("/dev/mapper/mpatha"),
        devices.TABLE: f"mpatha: 0 99 multipath {words}\n",
    }
    assert "selector" not in layer(root(tree(tmp_path, files)), "dm-0").facts


@pytest.mark.parametrize("level", ["raid1", "raid10", "raid5", "linear"])
def test_an_array(tmp_path: Path, level: str) -> None:
    files: dict[str, Content] = {
        **virtio("vda", 2),
        **virtio("vdb", 3),
        **block(f"{VIRTUAL}/md0", slaves=("vda1", "vdb1")),
        f"{VIRTUAL}/md0/md/level": f"{level}\n",
        f"{VIRTUAL}/md0/md/degraded": "0\n",
        f"{VIRTUAL}/md0/md/metadata_version": "1.2\n",
        f"{VIRTUAL}/md0/dev": "9:0\n",
        "/run/udev/data/b9:0": "E:MD_UUID=01234567:89abcdef:01234567:89abcdef\nE:MD_DEVNAME=boot\nE:ID_FS_TYPE=xfs\n",
        **mounted("/dev/md0", "xfs"),
    }
    found = root(tree(tmp_path, files))
    facts = layer(found, "md0").facts
    assert layer(found, "md0").title == f"{level} array md0"
    assert {key: facts[key] for key in ("level", "metadata", "array-uuid")} == {
        "level": level,
        "metadata": "1.2",
        "array-uuid": "01234567:89abcdef:01234567:89abcdef",
    }


def test_a_degraded_array_by_its_members_uuid(tmp_path: Path) -> None:
    place = f"{PCI}/0000:00:02.0/virtio2/block/vda/vda1"
    files: dict[str, Content] = {
        **virtio(),
        **block(f"{VIRTUAL}/md127", slaves=("vda1",)),
        f"{VIRTUAL}/md127/md/level": "raid1\n",
        f"{VIRTUAL}/md127/md/degraded": "1\n",
        f"{place}/dev": "254:1\n",
        "/run/udev/data/b254:1": "E:ID_FS_TYPE=linux_raid_member\nE:ID_FS_UUID=01234567-89ab-cdef-0123-456789abcdef\n",
        **mounted("/dev/md127"),
    }
    found = root(tree(tmp_path, files))
    assert layer(found, "md127").title == "raid1 array md127, degraded"
    assert layer(found, "md127").facts["array-uuid"] == "01234567:89abcdef:01234567:89abcdef"
    assert layer(found, "vda1").facts["content"] == "linux_raid_member"


def test_bcache(tmp_path: Path) -> None:
    files: dict[str, Content] = {
        **virtio("vda", 2),
        **virtio("vdb", 3),
        **block(f"{VIRTUAL}/bcache0", slaves=("vda1",)),
        f"{VIRTUAL}/bcache0/bcache/cache": Link("/sys/fs/bcache/0123"),
        "/sys/fs/bcache/0123/cache0": Link(f"{PCI}/0000:00:03.0/virtio3/block/vdb/bcache"),
        f"{PCI}/0000:00:03.0/virtio3/block/vdb/bcache/written": "0\n",
        **mounted("/dev/bcache0"),
    }
    assert kinds(root(tree(tmp_path, files)))[1:4] == ["bcache bcache0", "disk vdb", "controller 0000:00:03.0"]


def test_btrfs_on_two_devices_and_a_subvolume(tmp_path: Path) -> None:
    files: dict[str, Content] = {
        **virtio("vda", 2),
        **virtio("vdb", 3),
        "/sys/fs/btrfs/0123/devices/vda1": Link("../../../../class/block/vda1"),
        "/sys/fs/btrfs/0123/devices/vdb1": Link("../../../../class/block/vdb1"),
        "/sys/fs/btrfs/0123/checksum": "xxhash64 (xxhash64-generic)\n",
        "/sys/fs/btrfs/features/raid56": "0\n",
        **mounted("/dev/vda1", "btrfs", directory="/@"),
    }
    found = root(tree(tmp_path, files), "root=/dev/vda1 rootflags=subvol=@")
    assert "\n".join(found.lines()[:4]) == "/\n└─ subvolume /@\n   └─ file system btrfs\n      ├─ partition vda1"
    facts = layer(found, "btrfs").facts
    assert (facts["devices"], facts["checksum"], facts["options"]) == ("2", "xxhash64", "subvol=@")
    assert [name for name in kinds(found) if name.startswith("partition")] == ["partition vda1", "partition vdb1"]


@pytest.mark.parametrize("fstype", ["f2fs", "xfs", "ext4", "ext3"])
def test_a_file_system_of_the_command_line(tmp_path: Path, fstype: str) -> None:
    found = root(tree(tmp_path, virtio()), f"root=/dev/vda1 rootfstype={fstype} rootflags=noatime,data=ordered ro")
    assert layer(found, fstype).facts["options"] == "noatime,data=ordered"


def test_a_pool_of_zfs(tmp_path: Path) -> None:
    files: dict[str, Content] = {
        **virtio(),
        f"{PCI}/0000:00:02.0/virtio2/block/vda/vda1/dev": "254:1\n",
        "/run/udev/data/b254:1": "E:ID_FS_TYPE=zfs_member\nE:ID_FS_LABEL=rpool\nE:ID_FS_UUID=1234\n",
        **mounted("rpool/ROOT/debian", "zfs"),
    }
    found = root(tree(tmp_path / "a", files), "root=ZFS=rpool/ROOT/debian")
    assert kinds(found)[:3] == ["file-system zfs", "zfs-pool rpool", "partition vda1"]
    del files["/run/udev/data/b254:1"]
    found = root(tree(tmp_path / "b", files), "root=ZFS=rpool/ROOT/debian")
    assert kinds(found) == ["file-system zfs", "zfs-pool rpool", "unknown rpool"]
    assert found.problem == "a part of the way is not known: what the pool rpool lies on"


# -- disks -----------------------------------------------------------------------------------------------------


def test_a_disk_at_a_sata_controller(tmp_path: Path) -> None:
    assert (
        drawn(tree(tmp_path, {**sata("sda"), **mounted("/dev/sda1")}))
        == """/
└─ file system ext4
   └─ partition sda1
      └─ SATA disk sda [sd_mod]
         └─ PCI device 0000:00:1f.2 [ahci]"""
    )


def behind_vmd() -> dict[str, Content]:
    vmd = f"{PCI}/0000:00:0e.0"
    disk = f"{vmd}/pci10000:e0/10000:e0:06.0/10000:e1:00.0"
    return {
        **driven(vmd, "pci", "vmd", "vmd"),
        **driven(f"{vmd}/pci10000:e0/10000:e0:06.0", "pci", "pcieport"),
        **driven(disk, "pci", "nvme", "nvme"),
        f"{disk}/class": "0x010802\n",
        **block(f"{disk}/nvme/nvme0/nvme0n1"),
        **mounted("/dev/nvme0n1"),
    }


def test_an_nvme_disk_behind_intels_vmd(tmp_path: Path) -> None:
    assert (
        drawn(tree(tmp_path, behind_vmd()))
        == """/
└─ file system ext4
   └─ NVMe disk nvme0n1
      └─ NVMe controller 10000:e1:00.0 [nvme]
         └─ Intel VMD 0000:00:0e.0 [vmd]"""
    )


def nvme_paths() -> dict[str, Content]:
    system, local = "/sys/devices/virtual/nvme-subsystem/nvme-subsys0", f"{PCI}/0000:01:00.0/nvme/nvme0"
    remote = "/sys/devices/virtual/nvme-fabrics/ctl/nvme1"
    return {
        **block(f"{system}/nvme0n1"),
        **block(f"{system}/nvme0n1/nvme0n1p1", partition=True),
        f"{system}/nvme0": Link(local),
        f"{system}/nvme1": Link(remote),
        f"{local}/transport": "pcie\n",
        f"{remote}/transport": "tcp\n",
        **driven(f"{PCI}/0000:01:00.0", "pci", "nvme", "nvme"),
        **interface("eth0", "e1000e", 7),
        **mounted("/dev/nvme0n1p1"),
    }


def test_an_nvme_disk_with_two_paths(tmp_path: Path) -> None:
    found = root(tree(tmp_path, nvme_paths()))
    assert kinds(found)[2:] == ["disk nvme0n1", "controller 0000:01:00.0", "controller nvme1", "network eth0"]
    assert layer(found, "nvme1").facts["carrier"] == "nvme_tcp"
    assert layer(found, "eth0").facts["modalias"] == "pci:e1000e"


def test_a_virtual_scsi_disk(tmp_path: Path) -> None:
    adapter = f"{PCI}/0000:00:05.0"
    unit = f"{adapter}/virtio2/host2/target2:0:0/2:0:0:0"
    files = {
        **driven(adapter, "pci", "virtio-pci", "virtio_pci"),
        **driven(f"{adapter}/virtio2", "virtio", "virtio_scsi", "virtio_scsi"),
        **driven(unit, "scsi", "sd", "sd_mod"),
        **block(f"{unit}/block/sda"),
        **mounted("/dev/sda"),
    }
    assert (
        drawn(tree(tmp_path, files))
        == """/
└─ file system ext4
   └─ virtio SCSI disk sda [sd_mod]
      └─ virtio device virtio2 [virtio_scsi]
         └─ PCI device 0000:00:05.0 [virtio_pci]"""
    )


def test_a_virtual_disk_without_pci(tmp_path: Path) -> None:
    place = "/sys/devices/platform/a003e00.virtio_mmio"
    files = {
        **driven(place, "platform", "virtio-mmio", "virtio_mmio"),
        f"{place}/modalias": "of:Nvirtio_mmioT(null)Cvirtio,mmio\n",
        **driven(f"{place}/virtio0", "virtio", "virtio_blk", "virtio_blk"),
        **block(f"{place}/virtio0/block/vda"),
        **mounted("/dev/vda"),
    }
    found = root(tree(tmp_path, files))
    assert kinds(found)[1:] == ["disk vda", "controller a003e00.virtio_mmio"]
    assert layer(found, "a003e00.virtio_mmio").facts["driver"] == "virtio_mmio"


def test_a_disk_behind_a_raid_card(tmp_path: Path) -> None:
    unit = f"{PCI}/0000:00:03.0/0000:03:00.0/host0/target0:2:0/0:2:0:0"
    files = {
        **driven(f"{PCI}/0000:00:03.0", "pci", "shpchp", "shpchp"),
        f"{PCI}/0000:00:03.0/class": "0x060400\n",
        **driven(f"{PCI}/0000:00:03.0/0000:03:00.0", "pci", "megaraid_sas", "megaraid_sas"),
        f"{PCI}/0000:00:03.0/0000:03:00.0/class": "0x010400\n",
        **driven(unit, "scsi", "sd", "sd_mod"),
        **block(f"{unit}/block/sda"),
        **mounted("/dev/sda"),
    }
    assert drawn(tree(tmp_path, files)).endswith(
        "SCSI disk sda [sd_mod]\n      └─ RAID controller 0000:03:00.0 [megaraid_sas]"
    )


def test_a_usb_disk(tmp_path: Path) -> None:
    host = f"{PCI}/0000:00:14.0"
    unit = f"{host}/usb2/2-1/2-1:1.0/host6/target6:0:0/6:0:0:0"
    files = {
        **driven(host, "pci", "xhci_hcd", "xhci_pci"),
        **driven(f"{host}/usb2", "usb", "usb", "usbcore"),
        **driven(f"{host}/usb2/2-1", "usb", "usb", "usbcore"),
        **driven(f"{host}/usb2/2-1/2-1:1.0", "usb", "uas", "uas"),
        f"{host}/usb2/2-1/2-1:1.0/modalias": "usb:v152Dp0578d0204dc00dsc00dp00ic08isc06ip62in00\n",
        **driven(unit, "scsi", "sd", "sd_mod"),
        **block(f"{unit}/block/sda"),
        **mounted("/dev/sda"),
    }
    found = root(tree(tmp_path, files))
    names = ["disk sda", "controller 2-1:1.0", "controller 2-1", "controller usb2", "controller 0000:00:14.0"]
    assert kinds(found)[1:] == names
    assert layer(found, "2-1:1.0").facts["modalias"].startswith("usb:v152D")


def memory_card() -> dict[str, Content]:
    host = "/sys/devices/platform/soc/fe340000.mmc"
    card = f"{host}/mmc_host/mmc0/mmc0:aaaa"
    return {
        **driven(host, "platform", "sdhci-iproc", "sdhci_iproc"),
        **driven(card, "mmc", "mmcblk", "mmc_block"),
        **block(f"{card}/block/mmcblk0"),
        **block(f"{card}/block/mmcblk0/mmcblk0p2", partition=True),
        **mounted("/dev/mmcblk0p2"),
    }


def test_a_memory_card(tmp_path: Path) -> None:
    assert (
        drawn(tree(tmp_path, memory_card()))
        == """/
└─ file system ext4
   └─ partition mmcblk0p2
      └─ MMC or SD disk mmcblk0 [mmc_block]
         └─ platform device fe340000.mmc [sdhci_iproc]"""
    )


BOARD = "/sys/devices/platform"


def supplied(place: str, *suppliers: str, status: str = "active", only: str = "0") -> dict[str, Content]:
    """A device of a devicetree with links to what supplies it (ABI documents sysfs-devices-supplier and
    sysfs-class-devlink of the kernel)."""
    files: dict[str, Content] = {f"{place}/of_node": Link("/sys/firmware/devicetree/base/x")}
    for supplier in suppliers:
        name = supplier.rsplit("/", 1)[-1]
        link = f"/sys/devices/virtual/devlink/platform:{name}--platform:{place.rsplit('/', 1)[-1]}"
        files |= {
            f"{place}/supplier:platform:{name}": Link(link),
            f"/sys/class/devlink/{link.rpartition('/')[2]}": Link(link),
            f"{link}/supplier": Link(supplier),
            f"{link}/consumer": Link(place),
            f"{link}/status": f"{status}\n",
            f"{link}/sync_state_only": f"{only}\n",
            f"{supplier}/uevent": "",
        }
    return files


def board() -> dict[str, Content]:
    """An eMMC of a Rockchip RK3399, as its devicetree has it: its PHY lies in a register file, one of its regulators is
    a part of a chip on an I2C bus, and the DMA engine and the IOMMU are there, too."""
    host, bus = f"{BOARD}/fe330000.mmc", f"{BOARD}/ff3c0000.i2c"
    chip = f"{bus}/i2c-0/0-001b"
    card, phy = f"{host}/mmc_host/mmc1/mmc1:0001", f"{BOARD}/ff770000.syscon/ff770000.syscon:phy@f780"
    rail = f"{chip}/rk808-regulator.4.auto/regulator/regulator.9"
    engine, unit = f"{BOARD}/ff6d0000.dma-controller", f"{BOARD}/ff650800.iommu"
    return {
        **driven(host, "platform", "sdhci-arasan", "sdhci_of_arasan"),
        **supplied(host, phy, engine, unit, f"{BOARD}/ff760000.clock-controller", f"{BOARD}/pinctrl"),
        **supplied(host, rail, status="not tracked"),
        **supplied(host, f"{BOARD}/gpio-keys", status="dormant"),
        **supplied(host, f"{BOARD}/ff100000.saradc", only="1"),
        **driven(phy, "platform", "rockchip-emmc-phy", "phy_rockchip_emmc"),
        f"{phy}/modalias": "of:NphyT(null)Crockchip,rk3399-emmc-phy\n",
        **driven(f"{BOARD}/ff760000.clock-controller", "platform", "clk-rk3399"),
        **driven(f"{BOARD}/pinctrl", "platform", "rockchip-pinctrl"),
        **driven(engine, "platform", "dma-pl330", "pl330"),
        f"{engine}/dma/dma0chan0/in_use": "1\n",
        **driven(unit, "platform", "rk_iommu", "rockchip_iommu"),
        f"{unit}/iommu/ff650800.iommu/uevent": "",
        **driven(f"{BOARD}/gpio-keys", "platform", "gpio-keys", "gpio_keys"),
        **driven(f"{BOARD}/ff100000.saradc", "platform", "rockchip-saradc", "rockchip_saradc"),
        **driven(bus, "platform", "rk3x-i2c", "i2c_rk3x"),
        **supplied(bus, f"{BOARD}/ff760000.clock-controller"),
        **driven(chip, "i2c", "rk808-i2c", "rk8xx_i2c"),
        **driven(f"{chip}/rk808-regulator.4.auto", "platform", "rk808-regulator", "rk808_regulator"),
        **driven(card, "mmc", "mmcblk", "mmc_block"),
        **block(f"{card}/block/mmcblk1"),
        **block(f"{card}/block/mmcblk1/mmcblk1p2", partition=True),
        **mounted("/dev/mmcblk1p2"),
    }


def test_what_supplies_a_controller(tmp_path: Path) -> None:
    assert (
        drawn(tree(tmp_path, board()))
        == """/
└─ file system ext4
   └─ partition mmcblk1p2
      └─ MMC or SD disk mmcblk1 [mmc_block]
         └─ platform device fe330000.mmc [sdhci_of_arasan]
            ├─ platform device ff760000.clock-controller
            ├─ platform device ff770000.syscon:phy@f780 [phy_rockchip_emmc]
            ├─ platform device pinctrl
            └─ platform device rk808-regulator.4.auto [rk808_regulator]
               └─ I2C device 0-001b [rk8xx_i2c]
                  └─ platform device ff3c0000.i2c [i2c_rk3x]
                     └─ platform device ff760000.clock-controller"""
    )


def test_what_supplies_a_controller_is_captured_with_it(tmp_path: Path) -> None:
    machine = tree(tmp_path / "board", board())
    capture(machine, str(tmp_path / "captured"), boot=False)
    assert drawn(Machine.tree(str(tmp_path / "captured"))) == drawn(machine)


def pcie_of_a_board() -> dict[str, Content]:
    """An NVMe disk of a Raspberry Pi 5: nothing of the way to it is PCI's own until its controller was started."""
    controller, disk = f"{BOARD}/axi/1000110000.pcie", "pci0001:00/0001:00:00.0/0001:01:00.0"
    return {
        **driven(controller, "platform", "brcm-pcie", "pcie_brcmstb"),
        f"{controller}/modalias": "of:NpcieTpciCbrcm,bcm2712-pcie\n",
        **supplied(controller, f"{BOARD}/axi/reset"),
        **driven(f"{BOARD}/axi/reset", "platform", "brcm-rescal-reset", "reset_brcmstb_rescal"),
        **driven(f"{controller}/pci0001:00/0001:00:00.0", "pci", "pcieport"),
        **driven(f"{controller}/{disk}", "pci", "nvme", "nvme"),
        f"{controller}/{disk}/class": "0x010802\n",
        **block(f"{controller}/{disk}/nvme/nvme0/nvme0n1"),
        **mounted("/dev/nvme0n1"),
    }


def test_a_pcie_controller_of_a_board(tmp_path: Path) -> None:
    assert (
        drawn(tree(tmp_path, pcie_of_a_board()))
        == """/
└─ file system ext4
   └─ NVMe disk nvme0n1
      └─ NVMe controller 0001:01:00.0 [nvme]
         └─ platform device 1000110000.pcie [pcie_brcmstb]
            └─ platform device reset [reset_brcmstb_rescal]"""
    )


def test_links_that_drivers_make_for_themselves(tmp_path: Path) -> None:
    """As Thunderbolt's to the USB controller beside it, which works without."""
    files = board()
    del files[f"{BOARD}/fe330000.mmc/of_node"]
    assert kinds(root(tree(tmp_path, files)))[3:] == ["controller fe330000.mmc"]


def test_devices_that_supply_each_other(tmp_path: Path) -> None:
    """A regulator on a bus that it supplies, and one that hangs on itself."""
    files = board()
    chip = f"{BOARD}/ff3c0000.i2c/i2c-0/0-001b"
    files |= supplied(f"{BOARD}/ff3c0000.i2c", f"{chip}/rk808-regulator.4.auto")
    files |= supplied(f"{chip}/rk808-regulator.4.auto", f"{chip}/rk808-regulator.4.auto", f"{BOARD}/fe330000.mmc")
    found = kinds(root(tree(tmp_path / "a", files)))
    assert len(found) == len(set(found)) == 10
    long = {f"{BOARD}/s{number}": f"{BOARD}/s{number + 1}" for number in range(90)}
    for place, supplier in long.items():
        files |= {**supplied(place, supplier), **driven(place, "platform", "s", "s")}
    files |= supplied(f"{BOARD}/fe330000.mmc", f"{BOARD}/s0")
    assert 50 < len(kinds(root(tree(tmp_path / "b", files)))) < 100


def hyper_v() -> dict[str, Content]:
    bus = "/sys/devices/LNXSYSTM:00/LNXSYBUS:00/ACPI0004:00/VMBUS:00"
    channel = f"{bus}/f8b3781a-1e82-4818-a1c3-63d806ec15bb"
    unit = f"{channel}/host0/target0:0:0/0:0:0:0"
    return {
        **driven(bus, "acpi", "hv_vmbus", "hv_vmbus"),
        f"{bus}/modalias": "acpi:VMBUS:VMBus:\n",
        **driven(channel, "vmbus", "hv_storvsc", "hv_storvsc"),
        f"{channel}/modalias": "vmbus:d96361baa104294db60572e2ffb1dc7f\n",
        **driven(unit, "scsi", "sd", "sd_mod"),
        **block(f"{unit}/block/sda"),
        **mounted("/dev/sda"),
    }


def test_a_disk_of_hyper_v(tmp_path: Path) -> None:
    found = root(tree(tmp_path, hyper_v()))
    assert layer(found, "sda").title == "Hyper-V disk sda"
    assert [one.facts["driver"] for one in found.walk() if "driver" in one.facts] == [
        "sd_mod",
        "hv_storvsc",
        "hv_vmbus",
    ]


def xen() -> dict[str, Content]:
    return {
        **driven("/sys/devices/vbd-51712", "xen", "vbd", "xen-blkfront"),
        "/sys/devices/vbd-51712/modalias": "xen:vbd\n",
        **block("/sys/devices/vbd-51712/block/xvda"),
        **mounted("/dev/xvda"),
    }


def test_a_disk_of_xen(tmp_path: Path) -> None:
    found = root(tree(tmp_path, xen()))
    assert kinds(found)[1:] == ["disk xvda"]
    assert (layer(found, "xvda").facts["modalias"], layer(found, "xvda").title) == ("xen:vbd", "Xen disk xvda")


def test_a_built_in_driver_is_told_from_none(tmp_path: Path) -> None:
    files = sata("sda") | mounted("/dev/sda1")
    del files["/sys/bus/pci/drivers/ahci/module"]
    found = root(tree(tmp_path, files))
    assert (layer(found, "0000:00:1f.2").facts["driver"], layer(found, "0000:00:1f.2").facts["driver-name"]) == (
        "",
        "ahci",
    )


# -- network ---------------------------------------------------------------------------------------------------


def iscsi() -> dict[str, Content]:
    host = "/sys/devices/platform/host2"
    unit = f"{host}/session1/target2:0:0/2:0:0:1"
    return {
        **driven(unit, "scsi", "sd", "sd_mod"),
        **block(f"{unit}/block/sda"),
        f"{host}/scsi_host/host2/proc_name": "iscsi_tcp\n",
        **interface("ens3", "igb", 3),
        **interface("ens4", "ixgbe", 4),
        **mounted("/dev/sda"),
    }


def test_iscsi_through_any_interface(tmp_path: Path) -> None:
    found = root(tree(tmp_path, iscsi()))
    assert (
        "\n".join(found.lines())
        == """/
└─ file system ext4
   └─ iSCSI disk sda [sd_mod]
      └─ SCSI over iscsi_tcp, host2 [iscsi_tcp]
         ├─ network interface ens3 [igb]
         └─ network interface ens4 [ixgbe]"""
    )
    assert layer(found, "ens4").facts["one-of"] == "ens3 ens4"


def test_iscsi_through_the_interface_that_is_named(tmp_path: Path) -> None:
    found = root(tree(tmp_path, iscsi()), "root=/dev/sda ip=[fd00::2]::[fd00::1]:64:host:ens4:none netroot=iscsi:x")
    assert [name for name in kinds(found) if name.startswith("network")] == ["network ens4"]
    assert "one-of" not in layer(found, "ens4").facts


@pytest.mark.parametrize(
    "command_line",
    ["root=nfs:10.0.0.1:/srv/root:ro", "root=/dev/nfs nfsroot=10.0.0.1:/srv/root,v3 ip=dhcp"],
)
def test_a_root_over_nfs(tmp_path: Path, command_line: str) -> None:
    machine = tree(tmp_path, {**interface("eth0", "e1000e", 3), **interface("eth1", "igb", 4, "down"), **virtio()})
    found = root(machine, command_line)
    assert kinds(found) == ["file-system nfs", "network eth0"]


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ("iscsi:10.0.0.1::3260:1:iqn.2026-01.org.example:root", ["controller iscsi", "network eth0"]),
        ("nbd:10.0.0.1:root:ext4", ["nbd nbd", "network eth0"]),
        ("live:https://example.org/root.img", ["network eth0"]),
    ],
)
def test_a_disk_of_the_network_that_is_not_there_now(tmp_path: Path, spec: str, found: list[str]) -> None:
    machine = tree(tmp_path, {**interface("eth0", "e1000e", 3), **virtio()})
    assert kinds(root(machine, f"root={spec}")) == ["file-system unknown", *found]
    assert list(root(machine, f"root={spec}").devices()) == []


def test_a_root_behind_a_bond(tmp_path: Path) -> None:
    bond = "/sys/devices/virtual/net/bond0"
    files: dict[str, Content] = {
        **interface("eth0", "igb", 3),
        **interface("eth1", "igb", 4),
        "/sys/class/net/bond0": Link("../../devices/virtual/net/bond0"),
        f"{bond}/uevent": "DEVTYPE=bond\nINTERFACE=bond0\n",
        f"{bond}/lower_eth0": Link(f"{PCI}/0000:00:03.0/net/eth0"),
        f"{bond}/lower_eth1": Link(f"{PCI}/0000:00:04.0/net/eth1"),
        **virtio(),
        **mounted("10.0.0.1:/srv", "nfs4"),
    }
    found = root(tree(tmp_path, files), "root=nfs4:10.0.0.1:/srv bond=bond0:eth0,eth1 ip=bond0:dhcp")
    assert kinds(found) == ["file-system nfs4", "network bond0", "network eth0", "network eth1"]
    assert layer(found, "bond0").facts["type"] == "bond"


# -- which -----------------------------------------------------------------------------------------------------


def test_an_overlay_lies_on_the_root_of_the_command_line(tmp_path: Path) -> None:
    files: dict[str, Content] = {
        **virtio(),
        **mounted("overlayroot", "overlay", "rw,lowerdir=/media/root-ro,upperdir=/media/root-rw/overlay,workdir=/w"),
    }
    found = root(tree(tmp_path, files), "root=/dev/vda1 overlayroot=tmpfs")
    assert kinds(found)[:3] == ["overlay overlay", "file-system unknown", "partition vda1"]


def test_an_overlay_over_an_image_in_a_file(tmp_path: Path) -> None:
    lines = (
        on(
            "LiveOS_rootfs",
            "overlay",
            options="rw,lowerdir=/run/rootfsbase,upperdir=/run/overlayfs,workdir=/run/ovlwork",
        ),
        "30 27 8:1 / /run/initramfs/live ro - iso9660 /dev/vda1 ro\n",
        "31 27 7:0 / /run/rootfsbase ro - squashfs /dev/loop0 ro\n",
    )
    files: dict[str, Content] = {
        **virtio(),
        **block(f"{VIRTUAL}/loop0"),
        f"{VIRTUAL}/loop0/loop/backing_file": "/run/initramfs/live/LiveOS/squashfs.img\n",
        "/proc/self/mountinfo": "".join(lines),
    }
    found = root(tree(tmp_path, files), "root=live:CDLABEL=Fedora rd.live.image")
    assert kinds(found)[:4] == ["overlay overlay", "file-system squashfs", "loop loop0", "partition vda1"]


def test_another_root_than_todays(tmp_path: Path) -> None:
    files: dict[str, Content] = {**virtio(), **sata("sda"), **mounted("/dev/vda1", "xfs")}
    machine = tree(tmp_path, files)
    assert kinds(root(machine, "root=/dev/vda1"))[:2] == ["file-system xfs", "partition vda1"]
    assert kinds(root(machine, "root=/dev/sda1"))[:2] == ["file-system unknown", "partition sda1"]
    assert kinds(root(machine, "root=UUID=gone"))[:2] == ["file-system xfs", "partition vda1"]
    assert kinds(root(machine))[:2] == ["file-system xfs", "partition vda1"]
    assert kinds(root(machine, "root=nfs:10.0.0.1:/srv"))[0] == "file-system nfs"
    assert kinds(root(machine, "root=ZFS=rpool/ROOT"))[:2] == ["file-system zfs", "zfs-pool rpool"]


@pytest.mark.parametrize("spec", ["254:1", "fe01", "/dev/vda1", "block:/dev/vda1", "PARTUUID=0-1"])
def test_ways_to_name_a_root(tmp_path: Path, spec: str) -> None:
    files: dict[str, Content] = {
        **virtio(),
        f"{PCI}/0000:00:02.0/virtio2/block/vda/vda1/dev": "254:1\n",
        "/run/udev/data/b254:1": "E:ID_FS_TYPE=f2fs\nE:ID_PART_ENTRY_UUID=0-1\nE:ID_PART_ENTRY_SCHEME=dos\n",
    }
    assert kinds(root(tree(tmp_path, files), f"root={spec}"))[:2] == ["file-system f2fs", "partition vda1"]


def test_the_device_to_resume_from(tmp_path: Path) -> None:
    files: dict[str, Content] = {
        **virtio(),
        **lvm("dm-0", "vg-swap", ("vda1",)),
        **mounted("/dev/vda1"),
        f"{PCI}/0000:00:02.0/virtio2/block/vda/vda1/dev": "254:1\n",
        "/run/udev/data/b254:1": "E:ID_FS_TYPE=ext4\nE:ID_FS_UUID=abc\n",
    }
    machine = tree(tmp_path, files)
    assert "resume" not in stacks(machine, "root=/dev/vda1")
    assert "resume" not in stacks(machine, "root=/dev/vda1 resume=/dev/mapper/vg-swap noresume")
    found = stacks(machine, "root=/dev/vda1 resume=/dev/mapper/vg-swap")["resume"]
    assert kinds(found)[:3] == ["swap swap", "lvm dm-0", "partition vda1"]
    file = stacks(machine, "root=/dev/vda1 resume=UUID=abc resume_offset=34816")["resume"]
    assert kinds(file)[:2] == ["swap swap", "partition vda1"]
    assert file.lines()[1] == "└─ swap file (UUID=abc)"


def test_a_device_to_resume_from_that_is_not_there(tmp_path: Path) -> None:
    files: dict[str, Content] = {
        **virtio(),
        **mounted("/dev/vda1"),
        "/etc/initramfs-tools/conf.d/resume": "RESUME=/dev/sdz9\n",
        "/run/udev/data/b254:1": "E:ID_FS_TYPE=ext4\n",
    }
    found = stacks(tree(tmp_path, files), "root=/dev/vda1")["resume"]
    assert found.top is None
    assert found.problem == "/etc/initramfs-tools: RESUME=/dev/sdz9 names no device of this machine"
    named = stacks(tree(tmp_path), "root=/dev/vda1 resume=PARTUUID=gone")["resume"]
    assert named.problem == "resume=PARTUUID=gone may be any device, as far as is known here"


# -- without sysfs ---------------------------------------------------------------------------------------------


def test_an_image_without_sysfs(tmp_path: Path) -> None:
    files: dict[str, Content] = {
        "/etc/fstab": "/dev/mapper/debian--vg-root / ext4 errors=remount-ro 0 1\n/dev/vg/usr /usr xfs defaults 0 2\n"
    }
    found = stacks(tree(tmp_path, files), "root=/dev/mapper/debian--vg-root ro resume=/dev/md/swap")
    assert kinds(found["/"]) == ["file-system ext4", "lvm /dev/mapper/debian--vg-root", "unknown debian-vg"]
    assert kinds(found["/usr"]) == ["file-system xfs", "lvm /dev/vg/usr", "unknown vg"]
    assert kinds(found["resume"]) == ["swap swap", "md /dev/md/swap", "unknown /dev/md/swap"]
    assert found["/"].problem == "this tree has no sysfs, which would tell what lies under it"


@pytest.mark.parametrize(
    ("command_line", "source"),
    [
        ("root=/dev/mapper/vda2_crypt", "UUID=1"),
        ("root=/dev/mapper/root rd.luks.name=2=root", "UUID=2"),
        ("root=/dev/mapper/root cryptdevice=/dev/vda3:root:allow-discards", "/dev/vda3"),
        ("root=/dev/mapper/luks-0a1b rd.luks.uuid=luks-0a1b", "UUID=0a1b"),
    ],
)
def test_encrypted_volumes_by_name(tmp_path: Path, command_line: str, source: str) -> None:
    found = root(tree(tmp_path, {"/etc/crypttab": "vda2_crypt UUID=1 none luks\n"}), command_line)
    assert [one.kind for one in found.walk()] == ["file-system", "crypt", "unknown"]
    assert [one.name for one in found.walk()][2] == source


def test_nothing_tells_what_the_root_is(tmp_path: Path) -> None:
    found = root(tree(tmp_path), "root=gpt-auto")
    assert found.lines() == ("/", "(nothing here tells what the root file system is)")


# -- odd -------------------------------------------------------------------------------------------------------


def test_loops_and_long_chains_end(tmp_path: Path) -> None:
    files: dict[str, Content] = {**mounted("/dev/mapper/v0"), **dm("dm-500", "LVM-a", ("dm-500",), "v500")}
    for number in range(500):
        files |= dm(f"dm-{number}", "LVM-a", (f"dm-{number + 1}",), f"v{number}")
    found = root(tree(tmp_path, files))
    assert found.problem is not None
    assert "more below it than is looked at" in found.problem
    assert len(found.lines()) == len(list(found.walk())) + 2
    assert max(map(len, found.lines())) <= 80
    machine = tree(tmp_path / "b", {**mounted("/dev/mapper/v500"), **dm("dm-500", "LVM-a", ("dm-500",), "v500")})
    assert root(machine).problem == "a part of the way is not known: dm-500, which lies on itself"


def test_long_chains_of_controllers_and_interfaces_end(tmp_path: Path) -> None:
    place = "/sys/devices" + "/d" * 300
    files: dict[str, Content] = {
        **block(f"{place}/block/sda"),
        "/sys/class/net": None,
        **mounted("/dev/sda"),
    }
    files |= {f"{place[: len(place) - 2 * up]}/driver": Link("/sys/bus/d/drivers/d") for up in range(280)}
    for number in range(500):
        virtual = f"/sys/devices/virtual/net/br{number}"
        files[f"/sys/class/net/br{number}"] = Link(f"../../devices/virtual/net/br{number}")
        files |= {f"{virtual}/uevent": "DEVTYPE=bridge\n", f"{virtual}/lower_br{number + 1}": Link("x")}
    machine = tree(tmp_path, files)
    found = root(machine)
    assert len(list(found.walk())) == 281
    assert found.lines()[-1].endswith("└─ and more")
    assert len(list(root(machine, "root=nfs:10.0.0.1:/srv ip=br0:dhcp").walk())) < 100


def test_two_thousand_disks(tmp_path: Path) -> None:
    files: Mapping[str, Content] = {
        path: content
        for number in range(2000)
        for unit in [f"{PCI}/0000:05:00.0/host{number % 20}/target0:0:{number}/0:0:{number}:0"]
        for path, content in (
            (f"{unit}/driver", Link("/sys/bus/scsi/drivers/sd")),
            (f"{unit}/block/sd{number}/size", "1\n"),
            (f"/sys/class/block/sd{number}", Link(f"../../{unit[len('/sys/') :]}/block/sd{number}")),
            (f"{VIRTUAL}/dm-{number % 100}/slaves/sd{number}", Link(f"/sys/class/block/sd{number}")),
        )
    }
    machine = tree(tmp_path, {**pci("0000:05:00.0", "qla2xxx", "0x0c0400"), **files, **mounted("/dev/mapper/vg-root")})
    for number in range(100):
        tree(tmp_path, dm(f"dm-{number}", f"mpath-{number}", (), f"mpath{number}"))
    tree(tmp_path, lvm("dm-100", "vg-root", tuple(f"dm-{number}" for number in range(100))))
    found = root(machine)
    assert [one.kind for one in found.walk()].count("disk") == 2000
    assert [one.kind for one in found.walk()].count("multipath") == 100
    assert len(found.lines()) < 100


def test_a_tree_without_the_links_of_sysfs(tmp_path: Path) -> None:
    files: dict[str, Content] = {
        "/sys/class/block/nvme0n1/dev": "259:0\n",
        "/sys/class/block/nvme0n1p2/dev": "259:2\n",
        "/sys/class/block/nvme0n1p2/partition": "2\n",
        **mounted("/dev/nvme0n1p2"),
    }
    assert kinds(root(tree(tmp_path / "plain", files)))[1:] == ["partition nvme0n1p2", "disk nvme0n1"]
    mapper = {"/sys/class/block/dm-0/dm/uuid": f"LVM-{GROUP}{'a' * 32}\n", "/sys/class/block/dm-0/dm/name": "vg-root\n"}
    mapper["/sys/class/block/dm-0/slaves/nvme0n1p2/dev"] = "259:2\n"
    found = root(tree(tmp_path / "lvm", {**files, **mapper, **mounted("/dev/mapper/vg-root")}))
    assert kinds(found)[1:] == ["lvm dm-0", "partition nvme0n1p2", "disk nvme0n1"]
