from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from safeupdate.machine import Machine
from safeupdate.storage import drivers
from safeupdate.storage.devices import Devices, Layer
from safeupdate.storage.drivers import Driver
from tests.unit.captures import captured
from tests.unit.trees import Content, Link, tree

PCI = "/sys/devices/pci0000:00"


def under(machine: Machine, devices: Iterable[str]) -> tuple[Driver, ...]:
    layers = Devices(machine)
    return drivers.of(machine, Layer("", "", "", below=tuple(layers.block(name) for name in devices)))


def driven(device: str, bus: str, driver: str, module: str | None = None) -> dict[str, Content]:
    """A device of sysfs that is bound to a driver, and the driver's module where it has one."""
    up = "../" * device.count("/")
    files: dict[str, Content] = {f"{device}/driver": Link(f"{up}sys/bus/{bus}/drivers/{driver}")}
    files[f"/sys/bus/{bus}/drivers/{driver}/bind"] = ""
    if module is not None:
        files[f"/sys/bus/{bus}/drivers/{driver}/module"] = Link(f"../../../../module/{module}")
        files[f"/sys/module/{module}/uevent"] = ""
    return files


def block(place: str, *, partition: bool = False, slaves: tuple[str, ...] = ()) -> dict[str, Content]:
    """A block device of sysfs, with its link among all of them."""
    name = place.rsplit("/", 1)[-1]
    files: dict[str, Content] = {f"/sys/class/block/{name}": Link(f"../../{place[len('/sys/') :]}")}
    files[f"{place}/partition" if partition else f"{place}/size"] = "1\n"
    return {**files, **{f"{place}/slaves/{slave}": Link(f"/sys/class/block/{slave}") for slave in slaves}}


def dm(name: str, uuid: str, slaves: tuple[str, ...], called: str = "root") -> dict[str, Content]:
    place = f"/sys/devices/virtual/block/{name}"
    return {**block(place, slaves=slaves), f"{place}/dm/uuid": f"{uuid}\n", f"{place}/dm/name": f"{called}\n"}


def sata(disk: str, *, port: int = 1) -> dict[str, Content]:
    """A disk with one partition at a SATA controller."""
    controller = f"{PCI}/0000:00:1f.2"
    unit = f"{controller}/ata{port}/host{port}/target{port}:0:0/{port}:0:0:0"
    return {
        **driven(controller, "pci", "ahci", "ahci"),
        **driven(unit, "scsi", "sd", "sd_mod"),
        f"{controller}/ata{port}/host{port}/scsi_host/host{port}/proc_name": "ahci\n",
        **block(f"{unit}/block/{disk}"),
        **block(f"{unit}/block/{disk}/{disk}1", partition=True),
    }


def names(machine: Machine, *devices: str) -> list[str]:
    return [driver.module for driver in under(machine, devices)]


def test_a_partition_of_a_virtio_disk(tmp_path: Path) -> None:
    disk = f"{PCI}/0000:00:02.0/virtio1"
    files = {
        **driven(f"{PCI}/0000:00:02.0", "pci", "virtio-pci", "virtio_pci"),
        **driven(disk, "virtio", "virtio_blk", "virtio_blk"),
        **block(f"{disk}/block/vda"),
        **block(f"{disk}/block/vda/vda2", partition=True),
    }
    first, second = under(tree(tmp_path, files), ["vda2"])
    assert (first.module, first.device) == ("virtio_blk", disk)
    assert first.why == "virtio1, through which vda2 is reached, is driven by it"
    assert (second.module, second.device) == ("virtio_pci", f"{PCI}/0000:00:02.0")


def test_a_disk_at_a_sata_controller(tmp_path: Path) -> None:
    assert names(tree(tmp_path, sata("sda")), "sda1") == ["sd_mod", "ahci"]


def test_a_disk_behind_a_raid_card_and_a_bridge(tmp_path: Path) -> None:
    bridge, card = f"{PCI}/0000:00:03.0", f"{PCI}/0000:00:03.0/0000:03:00.0"
    files = {
        **driven(bridge, "pci", "pcieport"),
        **driven(card, "pci", "megaraid_sas", "megaraid_sas"),
        **driven(f"{card}/host0/target0:2:0/0:2:0:0", "scsi", "sd", "sd_mod"),
        **block(f"{card}/host0/target0:2:0/0:2:0:0/block/sda"),
    }
    assert names(tree(tmp_path, files), "sda") == ["sd_mod", "megaraid_sas"]


def test_an_nvme_disk_behind_intels_vmd(tmp_path: Path) -> None:
    vmd = f"{PCI}/0000:00:0e.0"
    disk = f"{vmd}/pci10000:e0/10000:e0:06.0/10000:e1:00.0"
    files = {
        **driven(vmd, "pci", "vmd", "vmd"),
        **driven(f"{vmd}/pci10000:e0/10000:e0:06.0", "pci", "pcieport"),
        **driven(disk, "pci", "nvme", "nvme"),
        **block(f"{disk}/nvme/nvme0/nvme0n1"),
        **block(f"{disk}/nvme/nvme0/nvme0n1/nvme0n1p2", partition=True),
    }
    assert names(tree(tmp_path, files), "nvme0n1p2") == ["nvme", "vmd"]


def test_an_nvme_disk_with_several_paths_hangs_on_no_bus(tmp_path: Path) -> None:
    system, local = "/sys/devices/virtual/nvme-subsystem/nvme-subsys0", f"{PCI}/0000:01:00.0/nvme/nvme0"
    remote = "/sys/devices/virtual/nvme-fabrics/ctl/nvme1"
    files = {
        **block(f"{system}/nvme0n1"),
        **block(f"{system}/nvme0n1/nvme0n1p1", partition=True),
        f"{system}/nvme0": Link(local),
        f"{system}/nvme1": Link(remote),
        f"{local}/transport": "pcie\n",
        f"{remote}/transport": "tcp\n",
        **driven(f"{PCI}/0000:01:00.0", "pci", "nvme", "nvme"),
    }
    assert names(tree(tmp_path, files), "nvme0n1p1") == ["nvme", "nvme_tcp"]


def test_an_nvme_disk_over_the_network(tmp_path: Path) -> None:
    controller = "/sys/devices/virtual/nvme-fabrics/ctl/nvme0"
    files: dict[str, Content] = {**block(f"{controller}/nvme0n1"), f"{controller}/transport": "rdma\n"}
    assert names(tree(tmp_path, files), "nvme0n1") == ["nvme_rdma"]


def test_a_usb_disk(tmp_path: Path) -> None:
    host = f"{PCI}/0000:00:14.0"
    port = f"{host}/usb2/2-1"
    unit = f"{port}/2-1:1.0/host6/target6:0:0/6:0:0:0"
    files = {
        **driven(host, "pci", "xhci_hcd", "xhci_pci"),
        **driven(f"{host}/usb2", "usb", "usb", "usbcore"),
        **driven(port, "usb", "usb", "usbcore"),
        **driven(f"{port}/2-1:1.0", "usb", "usb-storage", "usb_storage"),
        **driven(unit, "scsi", "sd", "sd_mod"),
        **block(f"{unit}/block/sda"),
    }
    assert names(tree(tmp_path, files), "sda") == ["sd_mod", "usb_storage", "usbcore", "xhci_pci"]


def test_a_memory_card(tmp_path: Path) -> None:
    host = f"{PCI}/0000:00:1c.0"
    card = f"{host}/mmc_host/mmc0/mmc0:0001"
    files = {
        **driven(host, "pci", "sdhci-pci", "sdhci_pci"),
        **driven(card, "mmc", "mmcblk", "mmc_block"),
        **block(f"{card}/block/mmcblk0"),
        **block(f"{card}/block/mmcblk0/mmcblk0p2", partition=True),
    }
    assert names(tree(tmp_path, files), "mmcblk0p2") == ["mmc_block", "sdhci_pci"]


def test_a_disk_of_xen_is_at_the_top(tmp_path: Path) -> None:
    files = {
        **driven("/sys/devices/vbd-51712", "xen", "vbd", "xen-blkfront"),
        **block("/sys/devices/vbd-51712/block/xvda"),
    }
    assert names(tree(tmp_path, files), "xvda") == ["xen_blkfront"]


def test_disks_over_iscsi_have_no_hardware_above_them(tmp_path: Path) -> None:
    files: dict[str, Content] = {}
    for number, disk in ((2, "sda"), (3, "sdb")):
        host = f"/sys/devices/platform/host{number}"
        unit = f"{host}/session1/target{number}:0:0/{number}:0:0:1"
        files |= driven(unit, "scsi", "sd", "sd_mod") | block(f"{unit}/block/{disk}")
        files[f"{host}/scsi_host/host{number}/proc_name"] = "iscsi_tcp\n"
    assert names(tree(tmp_path, files), "sda", "sdb") == ["sd_mod", "iscsi_tcp"]


def test_a_driver_that_is_built_in_may_have_no_module(tmp_path: Path) -> None:
    files = sata("sda")
    del files["/sys/bus/pci/drivers/ahci/module"]
    assert names(tree(tmp_path, files), "sda") == ["sd_mod"]


def test_luks_on_lvm_on_an_array_of_partitions(tmp_path: Path) -> None:
    array = "/sys/devices/virtual/block/md0"
    files: dict[str, Content] = {
        **sata("sda", port=1),
        **sata("sdb", port=2),
        **block(array, slaves=("sda1", "sdb1")),
        f"{array}/md/level": "raid5\n",
        **dm("dm-0", "LVM-" + "a" * 64, ("md0",), "vg-crypt"),
        **dm("dm-1", "CRYPT-LUKS2-0123-root", ("dm-0",)),
    }
    machine = tree(tmp_path, files)
    assert names(machine, "dm-1") == ["dm_mod", "dm_crypt", "md_mod", "raid456", "sd_mod", "ahci"]
    assert [one.why for one in under(machine, ["dm-1"])][1] == "it makes the volume root (dm-1)"


@pytest.mark.parametrize(
    ("uuid", "called", "module"),
    [
        ("mpath-3600508b400105e210000900000490000", "mpatha", "dm_multipath"),
        ("CRYPT-VERITY-0123-usr", "usr", "dm_verity"),
        ("CRYPT-INTEGRITY-0123-x", "x", "dm_integrity"),
        (f"LVM-{'a' * 64}-tpool", "vg-pool-tpool", "dm_thin_pool"),
        (f"LVM-{'a' * 64}-cdata", "vg-fast_cdata", "dm_cache"),
        (f"LVM-{'a' * 64}-cow", "vg-snap-cow", "dm_snapshot"),
        (f"LVM-{'a' * 64}-vpool", "vg-vpool0-vpool", "dm_vdo"),
        (f"LVM-{'a' * 64}", "vg-root_rimage_0", "dm_raid"),
        (f"LVM-{'a' * 64}", "vg-root_mlog", "dm_mirror"),
        (f"LVM-{'a' * 64}", "vg-root_wcorig", "dm_writecache"),
    ],
)
def test_targets_of_device_mapper(tmp_path: Path, uuid: str, called: str, module: str) -> None:
    machine = tree(tmp_path, {**sata("sda"), **dm("dm-0", uuid, ("sda1",), called)})
    assert names(machine, "dm-0") == ["dm_mod", module, "sd_mod", "ahci"]


def test_a_volume_of_dmsetup_says_nothing_of_its_kind(tmp_path: Path) -> None:
    modules: dict[str, Content] = {
        "/sys/module/dm_writeboost/refcnt": "1\n",
        "/sys/module/dm_crypt/refcnt": "0\n",
        "/sys/module/dm_mod/refcnt": "3\n",
        "/sys/module/ext4/refcnt": "3\n",
    }
    machine = tree(tmp_path / "a", {**sata("sda"), **dm("dm-0", "", ("sda1",), "wbdev"), **modules})
    assert names(machine, "dm-0") == ["dm_mod", "dm_writeboost", "sd_mod", "ahci"]
    linear = tree(tmp_path / "b", {**sata("sda"), **dm("dm-0", "LVM-abc", ("sda1",)), **modules})
    assert names(linear, "dm-0") == ["dm_mod", "sd_mod", "ahci"]


def test_vdo_has_another_name_where_it_is_no_part_of_the_kernel(tmp_path: Path) -> None:
    files = {**dm("dm-0", f"LVM-{'a' * 64}-vpool", ()), "/sys/module/kvdo/initstate": "live\n"}
    assert names(tree(tmp_path, files), "dm-0") == ["dm_mod", "kvdo"]


def test_a_partition_of_an_array_lies_on_the_array(tmp_path: Path) -> None:
    array = "/sys/devices/virtual/block/md126"
    files: dict[str, Content] = {
        **sata("sda"),
        **block(array, slaves=("sda",)),
        f"{array}/md/level": "raid1\n",
        **block(f"{array}/md126p2", partition=True),
    }
    assert names(tree(tmp_path, files), "md126p2") == ["md_mod", "raid1", "sd_mod", "ahci"]


def test_bcache_names_its_cache_in_a_place_of_its_own(tmp_path: Path) -> None:
    cached = "/sys/devices/virtual/block/bcache0"
    nvme = f"{PCI}/0000:01:00.0/nvme/nvme0/nvme0n1"
    files: dict[str, Content] = {
        **sata("sda"),
        **block(cached, slaves=("sda1",)),
        f"{cached}/bcache/cache": Link("/sys/fs/bcache/0123"),
        "/sys/fs/bcache/0123/cache0": Link(f"{nvme}/bcache"),
        "/sys/fs/bcache/0123/cache_available_percent": "90\n",
        f"{nvme}/bcache/written": "0\n",
        **block(nvme),
        **driven(f"{PCI}/0000:01:00.0", "pci", "nvme", "nvme"),
    }
    assert names(tree(tmp_path, files), "bcache0") == ["bcache", "nvme", "sd_mod", "ahci"]


def test_a_loop_device_lies_on_the_file_system_of_its_file(tmp_path: Path) -> None:
    files: dict[str, Content] = {
        **sata("sda"),
        **block("/sys/devices/virtual/block/loop0"),
        "/sys/devices/virtual/block/loop0/loop/backing_file": "/run/live/medium/live/filesystem.squashfs\n",
        "/proc/self/mountinfo": "30 1 8:1 / /run/live/medium ro - iso9660 /dev/sda1 ro\n",
    }
    assert names(tree(tmp_path, files), "loop0") == ["loop", "sd_mod", "ahci"]


@pytest.mark.parametrize(("name", "module"), [("zram0", "zram"), ("zd16", "zfs"), ("drbd0", "drbd"), ("nbd0", "nbd")])
def test_devices_that_stand_alone(tmp_path: Path, name: str, module: str) -> None:
    assert names(tree(tmp_path, block(f"/sys/devices/virtual/block/{name}")), name) == [module]


def test_what_is_not_there(tmp_path: Path) -> None:
    assert under(tree(tmp_path), ["sda"]) == ()
    gone: Mapping[str, Content] = {"/sys/class/block/sda": Link("../../devices/gone/block/sda")}
    assert names(tree(tmp_path / "b", {**gone, **sata("sdb")}), "sda", "nonsense", "../../etc", "sdb1") == [
        "sd_mod",
        "ahci",
    ]


def test_loops_end(tmp_path: Path) -> None:
    files = {**sata("sda"), **dm("dm-0", "LVM-a", ("dm-1", "dm-0")), **dm("dm-1", "CRYPT-LUKS1-b", ("dm-0", "sda1"))}
    files["/sys/devices/virtual/block/dm-2"] = Link("dm-2")
    files["/sys/class/block/dm-2"] = Link("../../devices/virtual/block/dm-2")
    assert names(tree(tmp_path, files), "dm-0", "dm-2") == ["dm_mod", "dm_crypt", "sd_mod", "ahci"]


def test_attributes_that_are_no_files(tmp_path: Path) -> None:
    files = dm("dm-0", "CRYPT-", ())
    del files["/sys/devices/virtual/block/dm-0/dm/name"]
    files |= {"/sys/devices/virtual/block/dm-0/dm/name/x": "", "/sys/devices/virtual/block/dm-0/slaves": "a file"}
    assert names(tree(tmp_path, files), "dm-0") == ["dm_mod", "dm_crypt"]


def test_devices_that_vanish_while_they_are_looked_at(tmp_path: Path) -> None:
    disks = [f"sd{letter}{other}" for letter in "abcdefgh" for other in "abcdefgh"]
    files: dict[str, Content] = {}
    for number, disk in enumerate(disks):
        files |= sata(disk, port=number)
    files |= dm("dm-0", "mpath-1", tuple(f"{disk}1" for disk in disks))
    machine = tree(tmp_path, files)

    def unplug() -> None:
        for number in range(len(disks)):
            shutil.rmtree(f"{tmp_path}{PCI}/0000:00:1f.2/ata{number}")
            os.unlink(f"{tmp_path}/sys/class/block/{disks[number]}1")

    unplugging = threading.Thread(target=unplug)
    unplugging.start()
    found = names(machine, "dm-0")
    unplugging.join()
    assert found[:2] == ["dm_mod", "dm_multipath"]
    assert names(machine, "dm-0") == ["dm_mod", "dm_multipath"]


def test_two_thousand_disks_are_visited_once(tmp_path: Path) -> None:
    files: dict[str, Content] = {}
    disks = [f"sd{number}" for number in range(2000)]
    for number, disk in enumerate(disks):
        unit = f"{PCI}/0000:00:1f.2/host0/target0:0:{number}/0:0:{number}:0"
        files[f"{unit}/driver"] = Link("/sys/bus/scsi/drivers/sd")
        files[f"{unit}/block/{disk}/size"] = "1\n"
        files[f"/sys/class/block/{disk}"] = Link(f"../../{unit[len('/sys/') :]}/block/{disk}")
        files[f"/sys/devices/virtual/block/dm-0/slaves/{disk}"] = Link(f"/sys/class/block/{disk}")
    files |= {**sata("sda"), **dm("dm-0", "LVM-a", ())}
    machine = tree(tmp_path, files)
    assert names(machine, "dm-0") == ["dm_mod", "sd_mod", "ahci"]
    assert names(machine, *(disks * 2)) == ["sd_mod", "ahci"]


@pytest.mark.parametrize(
    ("name", "modules"),
    [("xfs-dracut", ["virtio_blk", "virtio_pci"]), ("systemd-boot-gpt-auto", ["virtio_blk", "virtio_pci"])],
)
def test_real_guests(tmp_path: Path, name: str, modules: list[str]) -> None:
    machine = captured(name, tmp_path)
    assert names(machine, "vda2") == modules
    assert names(machine, "sr0")[:2] == ["sr_mod", "ahci"]


def test_this_machine() -> None:
    machine = Machine.here()
    for device in machine.listdir("/sys/class/block"):
        for driver in under(machine, [device]):
            assert os.path.isdir(driver.device)
