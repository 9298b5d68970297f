from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from safeupdate import needs
from safeupdate.machine import Machine
from safeupdate.needs import Need
from safeupdate.storage import stack
from safeupdate.volumes import Volumes
from tests.unit.captures import captured
from tests.unit.test_storage_drivers import PCI, block, dm, driven, sata
from tests.unit.trees import RELEASE, Content, Link, tree

ROOT = "27 1 8:1 / / rw - ext4 /dev/sda1 rw\n"


def of(
    root: Path,
    files: Mapping[str, Content] | None = None,
    *,
    loaded: str = "",
    mounts: str = ROOT,
    cmdline: str = "",
    required: tuple[str, ...] | None = None,
) -> Mapping[str, Need]:
    """The needs of a machine with one SATA disk. `loaded` has lines of name, references and holders."""
    lines = [f"{line.split()[0]} 16384 {' '.join(line.split()[1:])} Live 0x0\n" for line in loaded.splitlines()]
    facts: dict[str, Content] = {
        **sata("sda"),
        "/proc/modules": "".join(lines),
        "/proc/self/mountinfo": mounts,
        "/proc/sys/kernel/osrelease": f"{RELEASE}\n",
    }
    machine = tree(root, {**facts, **(files or {})})
    return needs.of(machine, Volumes(machine), command_line=cmdline, required=required)


def kinds(found: Mapping[str, Need]) -> dict[str, str]:
    return {name: need.kind for name, need in found.items()}


def bound(module: str, bus: str, device: str, place: str = f"{PCI}/0000:02:00.0") -> dict[str, Content]:
    """A device that is bound to a driver of the same name as its module."""
    return {
        f"/sys/bus/{bus}/drivers/{module}/module": Link(f"../../../../module/{module}"),
        f"/sys/bus/{bus}/drivers/{module}/{device}": Link(f"../../../..{place[4:]}"),
        f"/sys/bus/{bus}/drivers/{module}/bind": "",
    }


# -- root ------------------------------------------------------------------------------------------------------


def test_root_lies_on_a_file_system_and_on_drivers(tmp_path: Path) -> None:
    loaded = "ext4 1 -\njbd2 1 ext4,\nmbcache 1 ext4,\nahci 1 -\nlibahci 1 ahci,\nlibata 2 ahci,libahci,\nsd_mod 2 -"
    found = of(tmp_path, loaded=loaded)
    assert set(kinds(found).values()) == {"root"}
    assert sorted(found) == ["ahci", "ext4", "jbd2", "libahci", "libata", "mbcache", "sd_mod"]
    assert found["ext4"].why == "/ is a file system of the type ext4"
    assert found["ahci"].why == "0000:00:1f.2, through which sda1 is reached, is driven by it, and / lies there"
    assert found["jbd2"].why == "the module ext4 depends on it"


def test_root_of_the_entry_that_is_judged(tmp_path: Path) -> None:
    other = f"{PCI}/0000:03:00.0"
    files: dict[str, Content] = {
        **driven(other, "pci", "nvme", "nvme"),
        **block(f"{other}/nvme/nvme0/nvme0n1"),
        "/sys/devices/pci0000:00/0000:03:00.0/nvme/nvme0/nvme0n1/dev": "259:0\n",
        "/run/udev/data/b259:0": "E:ID_FS_UUID=abc\nE:ID_FS_TYPE=xfs\n",
    }
    assert kinds(of(tmp_path / "a", files, cmdline="root=UUID=abc ro")) == {"nvme": "root", "xfs": "root"}
    today = kinds(of(tmp_path / "b", files, cmdline="root=/dev/sda1 ro"))
    assert today == {"ext4": "root", "ahci": "root", "sd_mod": "root"}


def test_an_overlay_lies_on_the_root_of_the_command_line(tmp_path: Path) -> None:
    overlay = "27 1 0:30 / / rw - overlay overlayroot rw\n"
    found = kinds(of(tmp_path, mounts=overlay, cmdline="root=/dev/sda1 overlayroot=tmpfs"))
    assert found == {"overlay": "root", "ahci": "root", "sd_mod": "root"}


def test_usr_apart(tmp_path: Path) -> None:
    mounts = ROOT + "28 27 253:0 / /usr rw - xfs /dev/mapper/vg-usr rw\n"
    found = of(tmp_path, dm("dm-0", "LVM-abc", ("sda1",), "vg-usr"), mounts=mounts)
    assert found["dm_mod"].kind == found["xfs"].kind == "root"
    assert found["xfs"].why == "/usr is a file system of the type xfs"
    mounts += "29 28 0:40 / /usr ro - overlay sysext ro\n"
    found = of(tmp_path / "b", dm("dm-0", "LVM-abc", ("sda1",), "vg-usr"), loaded="overlay 1 -", mounts=mounts)
    assert (found["xfs"].kind, found["overlay"].kind) == ("root", "use")


@pytest.mark.parametrize("mounts", ["27 1 0:30 / / rw - zfs rpool/ROOT/debian rw\n", ""])
def test_a_pool_of_zfs_by_its_label(tmp_path: Path, mounts: str) -> None:
    files: dict[str, Content] = {
        "/run/udev/data/b8:1": "E:ID_FS_TYPE=zfs_member\nE:ID_FS_LABEL=rpool\n",
        f"{PCI}/0000:00:1f.2/ata1/host1/target1:0:0/1:0:0:0/block/sda/sda1/dev": "8:1\n",
    }
    found = kinds(
        of(tmp_path, files, loaded="zfs 5 -\nspl 1 zfs,", mounts=mounts, cmdline="root=ZFS=rpool/ROOT/debian")
    )
    assert found["zfs"] == found["spl"] == found["ahci"] == "root"


def test_a_pool_that_is_not_loaded_here_by_the_lists_of_the_judged_kernel(tmp_path: Path) -> None:
    machine = tree(
        tmp_path,
        {f"/lib/modules/{RELEASE}/modules.dep": "updates/dkms/zfs.ko: updates/dkms/spl.ko\nupdates/dkms/spl.ko:\n"},
    )
    found = needs.of(machine, Volumes(machine), command_line="root=ZFS=rpool/ROOT", release=RELEASE)
    assert kinds(found) == {"zfs": "root", "spl": "root"}


def test_every_device_of_a_btrfs(tmp_path: Path) -> None:
    other = f"{PCI}/0000:03:00.0"
    files: dict[str, Content] = {
        **driven(other, "pci", "nvme", "nvme"),
        **block(f"{other}/nvme/nvme0/nvme0n1"),
        "/sys/fs/btrfs/0123/devices/sda1": Link("../../../../class/block/sda1"),
        "/sys/fs/btrfs/0123/devices/nvme0n1": Link("../../../../class/block/nvme0n1"),
        "/sys/fs/btrfs/features/raid56": "0\n",
    }
    found = kinds(of(tmp_path, files, mounts="27 1 0:30 /@ / rw - btrfs /dev/sda1 rw,subvol=/@\n"))
    assert found == {"btrfs": "root", "ahci": "root", "sd_mod": "root", "nvme": "root"}


def test_a_root_from_the_network_needs_the_wired_interfaces_that_are_up(tmp_path: Path) -> None:
    files: dict[str, Content] = {}
    for name, driver, state in (("eth0", "r8125", "up"), ("eth1", "igb", "down"), ("wlan0", "wl", "up")):
        place = f"{PCI}/0000:0{len(files)}:00.0"
        files |= driven(place, "pci", driver, driver)
        files[f"/sys/class/net/{name}"] = Link(f"../../{place[5:]}/net/{name}")
        files |= {f"{place}/net/{name}/device": Link("../.."), f"{place}/net/{name}/operstate": f"{state}\n"}
    files[f"{PCI}/0000:0{len(files) - 6}:00.0/net/wlan0/phy80211/name"] = "phy0\n"
    found = kinds(of(tmp_path, files, mounts="27 1 0:30 / / rw - nfs4 10.0.0.1:/srv rw\n", cmdline="root=/dev/nfs"))
    assert {name: found[name] for name in ("nfs4", "r8125", "igb")} == {"nfs4": "root", "r8125": "root", "igb": "use"}


def test_required_drivers_stand_for_what_no_sysfs_shows(tmp_path: Path) -> None:
    machine = tree(tmp_path, {"/etc/fstab": "UUID=x / xfs defaults 0 1\n"})
    found = needs.of(machine, Volumes(machine), required=("mpt3sas", "virtio-blk"))
    assert kinds(found) == {"mpt3sas": "root", "virtio_blk": "root", "xfs": "root"}


def test_what_lies_under_root_where_it_is_known(tmp_path: Path) -> None:
    of(tmp_path)
    machine = Machine.tree(str(tmp_path))
    assert root_devices(machine, Volumes(machine)) == {"sda1"}
    assert root_devices(machine, Volumes(machine), command_line="root=/dev/gone") == {"sda1"}
    bare = tree(tmp_path / "bare", {"/etc/fstab": "/dev/sda1 / ext4 defaults 0 1\n"})
    assert root_devices(bare, Volumes(bare)) == frozenset()


def root_devices(machine: Machine, volumes: Volumes, *, command_line: str = "") -> frozenset[str]:
    root = stack.of(machine, volumes, command_line=command_line)[0]
    return frozenset(layer.name for layer in root.devices())


# -- configured ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "text", "module"),
    [
        ("/etc/modules-load.d/v4l2.conf", "# comment\n\nv4l2loopback\n", "v4l2loopback"),
        ("/usr/lib/modules-load.d/vbox.conf", "vboxdrv\n; comment\n", "vboxdrv"),
        ("/etc/modules", "it87 force_id=0x8628\n", "it87"),
        ("/etc/initramfs-tools/modules", "nvidia-drm modeset=1\n", "nvidia_drm"),
        ("/etc/dracut.conf.d/nvidia.conf", 'force_drivers+=" nvidia nvidia_modeset "\n', "nvidia_modeset"),
        ("/etc/mkinitcpio.conf", "MODULES=(i915 zfs?)\n", "zfs"),
    ],
)
def test_lists_of_modules(tmp_path: Path, path: str, text: str, module: str) -> None:
    assert of(tmp_path, {path: text})[module] == Need(module, "boot", f"{path} asks for it")


def test_lists_that_do_not_count(tmp_path: Path) -> None:
    files: dict[str, Content] = {
        "/etc/modules-load.d/masked.conf": Link("/dev/null"),
        "/usr/lib/modules-load.d/masked.conf": "one\n",
        "/etc/modules-load.d/changed.conf": "two\n",
        "/usr/lib/modules-load.d/changed.conf": "three\n",
        "/etc/modules-load.d/readme": "four\n",
        "/etc/modules-load.d/blocked.conf": "five\nsix\n",
        "/etc/modprobe.d/local.conf": "blacklist five\n# blacklist two\noptions six x=1\n",
        "/etc/dracut.conf.d/x.conf": '#force_drivers+=" seven "\nadd_drivers+=" eight "\n',
    }
    found = of(tmp_path, files, cmdline="module_blacklist=six,nine quiet")
    assert [name for name, need in found.items() if need.kind == "boot"] == ["two"]


def test_the_command_line_asks_for_modules(tmp_path: Path) -> None:
    found = of(tmp_path, cmdline="modules_load=a,b-c rd.driver.pre=d modules_load=e")
    assert [name for name, need in found.items() if need.kind == "boot"] == ["a", "b_c", "e", "d"]
    assert found["d"].why == "rd.driver.pre= on the kernel's command line asks for it"


def test_file_systems_of_fstab_by_their_aliases(tmp_path: Path) -> None:
    files: dict[str, Content] = {
        "/etc/fstab": (
            "pool/data /data zfs defaults 0 0\n/dev/sdb1 /mnt bcachefs noauto 0 0\n/dev/sda2 none swap sw 0 0\n"
            "x /s weird noauto,x-systemd.automount\n/dev/sda1 / ext4 defaults 0 1\n"
        ),
        f"/lib/modules/{RELEASE}/modules.alias": "# Aliases\nalias fs-weird strange_fs\nalias fs-zfs zfs\nalias fs-x\n",
    }
    found = {name: need for name, need in of(tmp_path, files).items() if need.kind == "boot"}
    assert sorted(found) == ["strange_fs", "weird", "zfs"]
    assert found["zfs"].why == "/etc/fstab mounts /data, of the type zfs"


def test_network_interfaces_that_are_set_up(tmp_path: Path) -> None:
    files: dict[str, Content] = {
        "/etc/systemd/network/wg0.netdev": "[NetDev]\nName=wg0\nKind = wireguard\n",
        "/etc/systemd/system/multi-user.target.wants/awg-quick@a.service": Link(
            "/usr/lib/systemd/system/awg-quick@.service"
        ),
        "/etc/network/interfaces": "auto v\niface v inet manual\n  pre-up ip link add v type batadv\n",
        f"/lib/modules/{RELEASE}/modules.alias": "alias rtnl-link-batadv batman_adv\nalias fs-xfs xfs\n",
    }
    found = {name for name, need in of(tmp_path, files).items() if need.kind == "boot"}
    assert {"wireguard", "amneziawg", "batman_adv"} <= found


# -- in use ----------------------------------------------------------------------------------------------------


def test_a_bound_device_is_a_use(tmp_path: Path) -> None:
    found = of(tmp_path, bound("nvidia", "pci", "0000:02:00.0"), loaded="nvidia 0 -")
    assert found["nvidia"] == Need("nvidia", "use", "the device 0000:02:00.0 (pci) is driven by it")


def test_an_idle_module_is_none(tmp_path: Path) -> None:
    files = bound("other", "pci", "0000:02:00.0")
    loaded = "other 0 -\nvboxdrv 2 vboxnetadp,vboxnetflt,\nvboxnetadp 0 -\nvboxnetflt 0 -\nacpi_call 0 -"
    found = of(tmp_path, files, loaded=loaded)
    assert {found[name].kind for name in ("vboxdrv", "vboxnetadp", "acpi_call")} == {"loaded"}
    running = of(tmp_path / "running", files, loaded=loaded.replace("vboxdrv 2", "vboxdrv 3"))
    assert running["vboxdrv"] == Need("vboxdrv", "use", "it is in use now, by its count in /proc/modules (1)")
    assert running["vboxnetadp"].kind == "loaded"


def test_a_need_reaches_what_the_module_depends_on(tmp_path: Path) -> None:
    files = bound("nvidia_drm", "pci", "0000:02:00.0")
    loaded = "nvidia_drm 0 -\nnvidia_modeset 1 nvidia_drm,\nnvidia 1 nvidia_modeset,\nnvidia_uvm 0 [permanent],"
    found = of(tmp_path, files, loaded=loaded)
    assert kinds(found)["nvidia"] == kinds(found)["nvidia_modeset"] == "use"
    assert found["nvidia"].why == "the module nvidia_modeset depends on it"
    assert found["nvidia_uvm"].kind == "loaded"


def test_what_a_module_makes_for_itself_is_no_use(tmp_path: Path) -> None:
    files: dict[str, Content] = {
        **bound("snd_aloop", "platform", "snd_aloop.0", "/sys/devices/platform/snd_aloop.0"),
        "/sys/devices/platform/snd_aloop.0/modalias": "platform:snd_aloop\n",
        **bound("i2c_chip", "platform", "ABCD0001:00", "/sys/devices/platform/ABCD0001:00"),
        "/sys/devices/platform/ABCD0001:00/modalias": "acpi:ABCD0001:\n",
        **bound("vf", "faux", "vf", "/sys/devices/faux/vf"),
        **bound("cell", "platform", "cell.1.auto", f"{PCI}/0000:02:00.0/cell.1.auto"),
        f"{PCI}/0000:02:00.0/cell.1.auto/modalias": "platform:cell\n",
    }
    found = of(tmp_path, files, loaded="snd_aloop 0 -\ni2c_chip 0 -\nvf 0 -\ncell 0 -")
    assert {name: found[name].kind for name in ("snd_aloop", "i2c_chip", "vf", "cell")} == {
        "snd_aloop": "loaded",
        "i2c_chip": "use",
        "vf": "loaded",
        "cell": "use",
    }


def test_a_game_controller_works_without_its_module(tmp_path: Path) -> None:
    files = bound("hid_xpadneo", "hid", "0005:045E:0B13.0003", "/sys/devices/virtual/misc/uhid/0005:045E:0B13.0003")
    need = of(tmp_path, files, loaded="hid_xpadneo 0 -")["hid_xpadneo"]
    assert need.kind == "loaded" and "hid-generic" in need.why


def test_network_interfaces_of_hardware_and_others(tmp_path: Path) -> None:
    files: dict[str, Content] = {
        **driven(f"{PCI}/0000:02:00.0", "pci", "r8168", "r8168"),
        "/sys/class/net/eth0": Link(f"../..{PCI[4:]}/0000:02:00.0/net/eth0"),
        f"{PCI}/0000:02:00.0/net/eth0/device": Link("../.."),
        "/sys/class/net/wg0": Link("../../devices/virtual/net/wg0"),
        "/sys/devices/virtual/net/wg0/uevent": "DEVTYPE=wireguard\nINTERFACE=wg0\n",
        "/sys/class/net/lo": Link("../../devices/virtual/net/lo"),
        "/sys/devices/virtual/net/lo/uevent": "INTERFACE=lo\n",
        "/sys/class/net/br0": Link("../../devices/virtual/net/br0"),
        "/sys/devices/virtual/net/br0/uevent": "DEVTYPE=bridge\n",
    }
    found = of(tmp_path, files, loaded="r8168 0 -\nwireguard 0 -")
    assert found["r8168"] == Need("r8168", "use", "the network interface eth0 is driven by it")
    assert found["wireguard"] == Need("wireguard", "use", "the network interface wg0 is driven by it")
    assert "bridge" not in found


def test_mounted_file_systems(tmp_path: Path) -> None:
    mounts = ROOT + "30 27 0:40 / /data rw - zfs tank/data rw\n31 27 0:41 / /data/x rw - zfs tank/x rw\n"
    found = of(tmp_path, loaded="zfs 0 -", mounts=mounts)
    assert found["zfs"] == Need("zfs", "use", "/data is mounted, of the type zfs")
    assert "zfs" not in of(tmp_path / "b", mounts=mounts)


def test_unclear_without_facts(tmp_path: Path) -> None:
    machine = tree(tmp_path, {"/proc/modules": "wl 6467584 0 - Live 0x0\nzfs 1 2 - Live 0x0\n"})
    assert kinds(needs.of(machine, Volumes(machine))) == {"wl": "unclear", "zfs": "use"}
    machine = tree(tmp_path / "b", {"/proc/modules": "wl 6467584 - - Live 0x0\n"})
    assert kinds(needs.of(machine, Volumes(machine))) == {"wl": "unclear"}


def test_a_capture_without_bound_devices(tmp_path: Path) -> None:
    """As `safeupdate capture` made them before it took these links: drivers are known, and not what they drive."""
    files: dict[str, Content] = {"/sys/bus/pci/drivers/wl/module": Link("../../../../module/wl")}
    found = kinds(of(tmp_path, files, loaded="wl 0 -\ncrc9 0 -"))
    assert (found["wl"], found["crc9"]) == ("unclear", "loaded")


def test_a_guest_whose_drivers_are_all_built_in(tmp_path: Path) -> None:
    files: dict[str, Content] = {"/sys/bus/virtio/drivers/virtio_blk/virtio1": Link("../../../../devices/virtio1")}
    assert kinds(of(tmp_path, files, loaded="acpi_call 0 -"))["acpi_call"] == "loaded"


def test_a_line_of_modules_that_makes_no_sense(tmp_path: Path) -> None:
    machine = tree(
        tmp_path,
        {"/proc/modules": "a\nb 1\nc 1 x y z\nd 1 -1 - Unloading\n\n\0 \0 \0 \0\ne 1 --1 -\nf 1 " + "9" * 5000 + " -"},
    )
    found = kinds(needs.of(machine, Volumes(machine)))
    assert {found[name] for name in "cdef"} == {"unclear"}


def test_a_real_guest(tmp_path: Path) -> None:
    machine = captured("xfs-dracut", tmp_path)
    found = needs.of(machine, Volumes(machine), command_line=machine.text("/proc/cmdline") or "")
    root = {name for name, need in found.items() if need.kind == "root"}
    assert root == {
        *("xfs", "libcrc32c", "virtio_blk", "virtio_pci", "virtio_pci_legacy_dev", "virtio_pci_modern_dev"),
        *("virtio", "virtio_ring"),
    }
    assert (found["ext4"].kind, found["jbd2"].kind) == ("boot", "boot")  # /boot
    assert {found[name].kind for name in ("fuse", "drm", "iTCO_wdt", "watchdog")} == {"use"}
    assert {found[name].kind for name in ("loop", "dm_mod", "dm_mirror", "sg", "x_tables")} == {"loaded"}


def test_this_machine() -> None:
    machine = Machine.here()
    found = needs.of(machine, Volumes(machine), command_line=machine.text("/proc/cmdline") or "")
    assert all(need.module == name and need.kind in needs.KINDS and need.why for name, need in found.items())
