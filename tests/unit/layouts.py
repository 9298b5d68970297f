"""Machines of distributions, byte by byte: what their installers, generators, kernels and udev leave on disk and in
memory, with small kernels and images. `test_distributions` puts them together.
"""

from __future__ import annotations

import gzip
import lzma
import os
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from safeupdate.machine import Machine
from tests.unit import efi, initrd
from tests.unit.elves import kernel_module, program
from tests.unit.signed_efi import secured
from tests.unit.test_check_initramfs import GENERATORS
from tests.unit.test_check_initramfs import MODULES as IMAGE_MODULES
from tests.unit.trees import Content, Link, dep_index, index, tree, x86_image

Files = dict[str, Content]

MACHINE_ID = "b0a3d5c1e2f44c6d9a8b7c6d5e4f3a2b"
ROOT = "5afe0bda-0000-4000-8000-000000000001"
BOOT = "5afe0bda-0000-4000-8000-000000000002"
HOME = "5afe0bda-0000-4000-8000-000000000003"
SWAP = "5afe0bda-0000-4000-8000-000000000004"
LUKS = "5afe0bda-0000-4000-8000-000000000005"
ESP = "5AFE-0E59"
ESP2 = "5AFE-0E60"
STATIC = program(interpreter=None, needed=())
GRUB_DATA = Path(__file__).parent.parent / "data" / "grub"

LINUX_FS = "0fc63daf-8483-4772-8e79-3d69d8477de4"


# -- what the kernel and udev tell -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Device:
    """A block device: kernel name, number, and what blkid and device-mapper know of it. `links` are udev's others."""

    name: str
    number: str
    uuid: str = ""
    fstype: str = ""
    label: str = ""
    partuuid: str = ""
    partlabel: str = ""
    kind: str = LINUX_FS
    mapper: str = ""
    dm_uuid: str = ""
    md: bool = False
    below: tuple[str, ...] = ()
    links: tuple[str, ...] = ()


def esp(name: str, number: str, uuid: str = ESP, *, partuuid: str = efi.ESP_PARTUUID, label: str = "") -> Device:
    """An EFI system partition."""
    return Device(name, number, uuid, "vfat", label, partuuid, "EFI System Partition", efi.ESP_UUID)


def lv(name: str, number: str, group: str, volume: str, uuid: str, fstype: str, *below: str) -> Device:
    """A logical volume, with the names that lvm's udev rules give it."""
    mapper = f"{group.replace('-', '--')}-{volume.replace('-', '--')}"
    dm_uuid = "LVM-" + "x" * 32 + volume.ljust(32, "y")
    return Device(name, number, uuid, fstype, mapper=mapper, dm_uuid=dm_uuid, below=below, links=(f"{group}/{volume}",))


_PCI = "/sys/devices/pci0000:00/0000:00"

# By the names of disks: where the first device on the way to them stands, and all of them: the directory below the one
# before, bus and driver, the driver's module, the modalias. Then where the block device stands.
_WAYS = (
    (
        re.compile(r"vd[a-z]$"),
        f"{_PCI}:04.0",
        (
            ("", "pci/virtio-pci", "virtio_pci", "pci:v00001AF4d00001042sv00001AF4sd00001100bc01sc80i00"),
            ("virtio1", "virtio/virtio_blk", "virtio_blk", "virtio:d00000002v00001AF4"),
        ),
        "block/",
    ),
    (
        re.compile(r"sd[a-z]$"),
        f"{_PCI}:17.0",
        (
            ("", "pci/ahci", "ahci", "pci:v00008086d0000A102sv00001028sd000006B9bc01sc06i01"),
            ("ata1/host0/target0:0:0/0:0:0:0", "scsi/sd", "sd_mod", "scsi:t-0x00"),
        ),
        "block/",
    ),
    (
        re.compile(r"nvme\dn\d$"),
        f"{_PCI}:06.0",
        (("", "pci/nvme", "nvme", "pci:v0000144Dd0000A808sv0000144Dsd0000A801bc01sc08i02"),),
        "nvme/nvme0/",
    ),
    (
        re.compile(r"mmcblk\d$"),
        "/sys/devices/platform/emmc2bus/fe340000.mmc",
        (
            ("", "platform/sdhci-iproc", "", "of:NmmcT(null)Cbrcm,bcm2711-emmc2"),
            ("mmc_host/mmc0/mmc0:aaaa", "mmc/mmcblk", "", "mmc:block"),
        ),
        "block/",
    ),
)
_PARTITION = re.compile(r"((?:nvme\d+n|mmcblk)\d+)p\d+$|([hsv]d[a-z])\d+$")


def _disk(name: str) -> str:
    """The disk of a partition; the name itself of what is none."""
    match = _PARTITION.match(name)
    return (match.group(1) or match.group(2)) if match else name


def place(name: str) -> str:
    """Where a block device stands in sysfs."""
    disk = _disk(name)
    for kind, top, devices, below in _WAYS:
        if kind.match(disk):
            directory = "/".join([top, *(device[0] for device in devices if device[0])])
            return f"{directory}/{below}{disk}" + (f"/{name}" if name != disk else "")
    return f"/sys/devices/virtual/block/{name}"


def _way(disk: str) -> Files:
    """The devices that a disk hangs on, and their drivers."""
    files: Files = {}
    for _, directory, devices, _ in (way for way in _WAYS if way[0].match(disk)):
        for name, driver, module, modalias in devices:
            directory = f"{directory}/{name}".rstrip("/")
            bus, _, name = driver.partition("/")
            home = f"/sys/bus/{bus}/drivers/{name}"
            files[f"{directory}/modalias"] = f"{modalias}\n"
            files[f"{directory}/driver"] = _link(f"{directory}/driver", home)
            files[f"{home}/uevent"] = ""
            if module:
                files[f"{home}/module"] = _link(f"{home}/module", f"/sys/module/{module}")
                files[f"/sys/module/{module}/initstate"] = "live\n"
    return files


def _link(path: str, target: str) -> Link:
    return Link(os.path.relpath(target, os.path.dirname(path)))


def facts(devices: Sequence[Device], mounts: Sequence[str], *, cmdline: str, running: str) -> Files:
    """sysfs, udev's database and links, mountinfo (`NUMBER ROOT POINT TYPE SOURCE [OPTIONS]`), the running kernel."""
    files: Files = {}
    named = {device.name for device in devices}
    for disk in sorted({_disk(device.name) for device in devices}):
        files.update(_way(disk))
        if disk not in named:
            files[f"/sys/class/block/{disk}"] = _link(f"/sys/class/block/{disk}", place(disk))
            files[f"{place(disk)}/size"] = "500118192\n"
    for device in devices:
        where = place(device.name)
        files[f"/sys/class/block/{device.name}"] = _link(f"/sys/class/block/{device.name}", where)
        files[f"{where}/dev"] = f"{device.number}\n"
        lines = ["I:3121846"]
        pairs = {"DEVTYPE": "disk" if not device.partuuid else "partition"}
        if device.uuid:
            pairs.update(ID_FS_UUID=device.uuid, ID_FS_UUID_ENC=device.uuid)
        if device.fstype:
            pairs["ID_FS_TYPE"] = device.fstype
        if device.label:
            pairs.update(ID_FS_LABEL=device.label.replace(" ", "_"), ID_FS_LABEL_ENC=_encoded(device.label))
        if device.partuuid:
            scheme = "gpt" if len(device.partuuid) > 12 else "dos"
            kind = device.kind if scheme == "gpt" else "0x83"
            pairs.update(ID_PART_ENTRY_SCHEME=scheme, ID_PART_ENTRY_UUID=device.partuuid, ID_PART_ENTRY_TYPE=kind)
            files[f"{where}/partition"] = "1\n"
        if device.partlabel:
            pairs["ID_PART_ENTRY_NAME"] = _encoded(device.partlabel)
        if device.mapper:
            pairs.update(DM_NAME=device.mapper, DM_UUID=device.dm_uuid)
            files[f"{where}/dm/name"] = f"{device.mapper}\n"
            files[f"{where}/dm/uuid"] = f"{device.dm_uuid}\n"
        if device.md:
            files[f"{where}/md/level"] = "raid1\n"
        for below in device.below:
            files[f"{where}/slaves/{below}"] = _link(f"{where}/slaves/{below}", place(below))
            holder = f"{place(below)}/holders/{device.name}"
            files[holder] = _link(holder, where)
        for link in _links(device):
            lines.append(f"S:{link}")
            files.setdefault(
                f"/dev/{link}", Link(os.path.relpath(f"/dev/{device.name}", os.path.dirname(f"/dev/{link}")))
            )
        lines += [f"E:{name}={value}" for name, value in pairs.items()]
        files[f"/run/udev/data/b{device.number}"] = "\n".join([*lines, "G:systemd", "V:1"]) + "\n"
        if device.fstype == "btrfs":
            files[f"/sys/fs/btrfs/{device.uuid}/devices/{device.name}/dev"] = f"{device.number}\n"
    own = (
        *("0:22 / /proc proc proc", "0:23 / /sys sysfs sysfs", "0:5 / /dev devtmpfs devtmpfs"),
        *("0:24 / /run tmpfs tmpfs", "0:27 / /sys/fs/cgroup cgroup2 cgroup2"),
        "0:31 / /proc/sys/fs/binfmt_misc autofs systemd-1",
    )  # fmt: skip
    text = ""
    for at, line in enumerate([*mounts, *own], 30):
        number, root, point, fstype, source, *options = line.split()
        text += f"{at} 1 {number} {root} {point} rw,relatime shared:{at} - {fstype} {source} {(options or ['rw'])[0]}\n"
    files["/proc/self/mountinfo"] = text
    files["/proc/cmdline"] = cmdline + "\n"
    files["/proc/sys/kernel/osrelease"] = running + "\n"
    files["/proc/meminfo"] = "MemTotal:        8123456 kB\n"
    files["/proc/modules"] = "btrfs 1622016 1 - Live 0x0000000000000000\n"
    return files


def _encoded(text: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "#+-.:=@_" else f"\\x{ord(letter):02x}" for letter in text)


def _links(device: Device) -> list[str]:
    links = list(device.links)
    for directory, value in (("uuid", device.uuid), ("label", device.label), ("partuuid", device.partuuid)):
        if value:
            links.append(f"disk/by-{directory}/{_encoded(value)}")
    if device.partlabel:
        links.append(f"disk/by-partlabel/{_encoded(device.partlabel)}")
    if device.mapper:
        links += [f"mapper/{device.mapper}", f"disk/by-id/dm-name-{device.mapper}"]
    return links


# -- user space ------------------------------------------------------------------------------------------------


def system(os_release: str, fstab: str, *tools: str, sbin: str = "usr/sbin") -> Files:
    """A merged-usr system with systemd; `tools` are programs by their paths, `sbin` where /sbin leads."""
    programs = ("/usr/bin/sh", "/usr/bin/mount", "/usr/lib/systemd/systemd", "/usr/lib/systemd/systemd-udevd", *tools)
    targets = ("multi-user", "sysinit", "basic")
    return {
        "/usr/lib/os-release": os_release,
        "/etc/os-release": Link("../usr/lib/os-release"),
        "/etc/machine-id": f"{MACHINE_ID}\n",
        "/etc/fstab": fstab,
        "/bin": Link("usr/bin"),
        "/sbin": Link(sbin),
        "/lib": Link("usr/lib"),
        "/lib64": Link("usr/lib64"),
        "/usr/lib64/x": "",
        **dict.fromkeys(programs, STATIC),
        f"/{sbin}/init": Link("../lib/systemd/systemd"),
        "/usr/lib/systemd/system/systemd-udevd.service": "[Service]\n",
        "/usr/lib/systemd/system/default.target": Link("multi-user.target"),
        **{f"/usr/lib/systemd/system/{name}.target": "[Unit]\n" for name in targets},
    }


DEBIAN_TOOLS = ("/usr/sbin/update-grub", "/usr/sbin/grub-mkconfig", "/usr/sbin/update-initramfs", "/usr/bin/apt-get")
FEDORA_TOOLS = (
    *("/usr/bin/dnf", "/usr/bin/rpm", "/usr/sbin/grub2-mkconfig", "/usr/bin/grub2-editenv", "/usr/sbin/grubby"),
    *("/usr/bin/dracut", "/usr/bin/kernel-install"),
)
SUSE_TOOLS = (
    *("/usr/bin/zypper", "/usr/bin/rpm", "/usr/sbin/grub2-mkconfig", "/usr/bin/grub2-editenv", "/usr/bin/dracut"),
    *("/sbin/update-bootloader", "/usr/bin/kernel-install"),
)
ARCH_TOOLS = ("/usr/bin/pacman", "/usr/bin/mkinitcpio", "/usr/bin/grub-mkconfig", "/usr/bin/kernel-install")
DPKG: Files = {"/var/lib/dpkg/status": "", "/var/lib/dpkg/info/x.list": ""}


# -- kernels and images ----------------------------------------------------------------------------------------

_KERNEL = bytes(range(256)) * 40
_PAYLOAD = lzma.compress(_KERNEL, check=lzma.CHECK_CRC32) + struct.pack("<I", len(_KERNEL))


@cache
def kernel_image(release: str) -> bytes:
    """A kernel for x86 that unpacks."""
    return x86_image(release, _PAYLOAD)


_DEP = {
    "kernel/fs/btrfs/btrfs.ko": ("kernel/lib/raid6.ko",),
    "kernel/lib/raid6.ko": (),
    "kernel/fs/ext4/ext4.ko": ("kernel/fs/jbd2/jbd2.ko",),
    "kernel/fs/jbd2/jbd2.ko": (),
    "kernel/fs/xfs/xfs.ko": (),
    "kernel/fs/fat/vfat.ko": (),
    "kernel/fs/overlayfs/overlay.ko": (),
    "kernel/drivers/md/dm-mod.ko": (),
    "kernel/drivers/md/dm-crypt.ko": ("kernel/drivers/md/dm-mod.ko",),
    "kernel/drivers/md/md-mod.ko": (),
    "kernel/drivers/md/raid1.ko": ("kernel/drivers/md/md-mod.ko",),
    "kernel/drivers/ata/ahci.ko": ("kernel/drivers/ata/libahci.ko",),
    "kernel/drivers/ata/libahci.ko": (),
    "kernel/drivers/scsi/sd_mod.ko": (),
    "kernel/drivers/block/virtio_blk.ko": (),
    "kernel/drivers/virtio/virtio_pci.ko": (),
    "kernel/drivers/nvme/host/nvme.ko": ("kernel/drivers/nvme/host/nvme-core.ko",),
    "kernel/drivers/nvme/host/nvme-core.ko": (),
    "kernel/zfs/zfs.ko": ("kernel/zfs/spl.ko",),
    "kernel/zfs/spl.ko": (),
}
_ALIASES = """\
alias fs-ext4 ext4
alias fs-ext3 ext4
alias fs-btrfs btrfs
alias fs-xfs xfs
alias pci:v*d*sv*sd*bc01sc06i01* ahci
alias pci:v*d*sv*sd*bc01sc08i02* nvme
alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci
alias virtio:d00000002v* virtio_blk
alias scsi:t-0x00* sd_mod
"""
_BUILT_IN = (
    "fs/fat/fat",
    "fs/nls/nls_ascii",
    "fs/nls/nls_cp437",
    "fs/nls/nls_iso8859-1",
    "fs/nls/nls_utf8",
    "fs/fuse/fuse",
    "drivers/mmc/core/mmc_block",
    "drivers/mmc/host/sdhci-iproc",
)
_OPTIONS = ("MODULES", "BLK_DEV_INITRD", "RD_GZIP", "RD_XZ", "RD_ZSTD", "RD_LZ4")


@cache
def module(name: str, release: str) -> bytes:
    """A kernel module of this release."""
    return kernel_module([f"name={name}".encode(), f"vermagic={release} SMP preempt mod_unload ".encode()])


def modules(release: str, suffix: str = ".ko", *, built_in: Sequence[str] = ()) -> Files:
    """/lib/modules/RELEASE as depmod leaves it; `suffix` says how the distribution packs modules."""
    directory = f"/usr/lib/modules/{release}"
    dependencies = {
        path.replace(".ko", suffix): tuple(needed.replace(".ko", suffix) for needed in others)
        for path, others in _DEP.items()
    }
    files: Files = {}
    for path in dependencies:
        content = module(path.rsplit("/", 1)[-1].partition(".")[0], release)
        files[f"{directory}/{path}"] = lzma.compress(content) if suffix == ".ko.xz" else content
    return {
        **files,
        f"{directory}/modules.dep": "".join(f"{path}: {' '.join(more)}\n" for path, more in dependencies.items()),
        f"{directory}/modules.dep.bin": dep_index(dependencies),
        **{f"{directory}/modules.{name}.bin": index() for name in ("alias", "symbols", "builtin")},
        f"{directory}/modules.alias": _ALIASES,
        f"{directory}/modules.builtin": "".join(f"kernel/{name}.ko\n" for name in (*_BUILT_IN, *built_in)),
    }


def config(*built_in: str, without: Sequence[str] = ()) -> str:
    """A kernel's configuration: what distributions share, and these options built in."""
    wanted = [name for name in (*_OPTIONS, *built_in) if name not in without]
    return "".join(f"CONFIG_{name}=y\n" for name in wanted) + "CONFIG_FAT_DEFAULT_CODEPAGE=437\n"


_DEBIANS = ("conf/initramfs.conf", "scripts/functions", "scripts/init-top/udev", "usr/bin/run-init")
_RULES = (
    *("10-dm", "11-dm-lvm", "60-persistent-storage", "60-persistent-storage-dm"),
    *("64-btrfs", "64-lvm", "69-lvm", "95-dm-notify"),
)
LAYERS: Mapping[str, initrd.Content] = {
    # What the packages for LVM, LUKS, md and ZFS put into images.
    **{f"usr/sbin/{name}": STATIC for name in ("cryptsetup", "dmsetup", "lvm", "lvm_scan", "mdadm", "zfs", "zpool")},
    "usr/lib/systemd/systemd-cryptsetup": STATIC,
    "usr/lib/systemd/system-generators/systemd-cryptsetup-generator": STATIC,
    "usr/lib/systemd/system/cryptsetup.target": b"",
    **{f"usr/lib/udev/rules.d/{name}.rules": b"" for name in _RULES},
    "usr/lib/udev/rules.d/64-md-raid-assembly.rules": b'RUN+="/sbin/mdadm --incremental $devnode"\n',
}
DEBIANS_LAYERS: Mapping[str, initrd.Content] = {
    **{f"usr/lib/cryptsetup/{name}": STATIC for name in ("askpass", "functions")},
    "cryptroot/crypttab": f"nvme0n1p3_crypt UUID={LUKS} none luks,discard\n".encode(),
    "scripts/local-top/cryptroot": b"#!/bin/sh\n",
    "scripts/zfs": b"",
}

IMAGES: Mapping[str, Mapping[str, initrd.Content]] = {
    **GENERATORS,
    "mkinitcpio": {
        **{path: content for path, content in GENERATORS["initramfs-tools"].items() if path not in _DEBIANS},
        "buildconfig": b"HOOKS=(base udev)\n",
        "init_functions": b"#!/usr/bin/ash\n",
        "usr/bin/ash": "sh",
        "usr/bin/switch_root": "sh",
        "init": b"#!/usr/bin/ash\n",
    },
}


@cache
def image(
    generator: str,
    release: str,
    suffix: str = ".ko",
    *,
    microcode: bool = False,
    kind: str = "xz",
    machine: int | None = None,
) -> bytes:
    """An initramfs as that generator makes it, perhaps behind the archive with the processor's firmware."""
    files: dict[str, initrd.Content] = {}
    debians = DEBIANS_LAYERS if generator == "initramfs-tools" else {}
    for path, content in {**IMAGES[generator], **LAYERS, **debians}.items():
        if not path.startswith(IMAGE_MODULES):
            elf_file = machine is not None and isinstance(content, bytes) and content.startswith(b"\x7fELF")
            files[path] = program(machine=machine or 0, needed=("libc.so.6",)) if elf_file else content
    inside = [path.replace(".ko", suffix) for path in _DEP]
    for path in inside:
        content = module(path.rsplit("/", 1)[-1].partition(".")[0], release)
        files[f"usr/lib/modules/{release}/{path}"] = lzma.compress(content) if suffix == ".ko.xz" else content
    lines = (f"{path}: {' '.join(needed)}".rstrip() + "\n" for path, needed in _DEP.items())
    files[f"usr/lib/modules/{release}/modules.dep"] = "".join(lines).replace(".ko", suffix).encode()
    packed = initrd.compress(kind, initrd.archive(files)) if kind else initrd.archive(files)
    if not microcode:
        return packed
    return microcode_archive() + packed


def microcode_archive() -> bytes:
    """The processor's firmware, as the kernel looks for it before everything else."""
    return initrd.archive({"early_cpio": b"1\n", "kernel/x86/microcode/GenuineIntel.bin": bytes(2048)})


def mkinitfs(release: str) -> bytes:
    """Alpine's initramfs: a script for busybox, which is linked against musl."""
    directory = f"lib/modules/{release}"
    files: dict[str, initrd.Content] = {
        "init": b"#!/bin/sh\n",
        "bin/busybox": program(interpreter="/lib/ld-musl-x86_64.so.1", needed=("libc.musl-x86_64.so.1",)),
        "bin/sh": "/bin/busybox",
        "lib/ld-musl-x86_64.so.1": STATIC,
        "lib/libc.musl-x86_64.so.1": "ld-musl-x86_64.so.1",
        "sbin/nlplug-findfs": program(interpreter="/lib/ld-musl-x86_64.so.1", needed=("libc.musl-x86_64.so.1",)),
        "etc/mdev.conf": b"",
        f"{directory}/modules.dep": "".join(f"{path}:\n" for path in _DEP).encode(),
    }
    for path in _DEP:
        files[f"{directory}/{path}"] = module(path.rsplit("/", 1)[-1].partition(".")[0], release)
    return initrd.compress("gzip", initrd.archive(files))


def damaged(data: bytes) -> bytes:
    """With one byte changed in the middle."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]


def unified(release: str, cmdline: str) -> bytes:
    """A unified kernel image with mkinitcpio's initramfs."""
    sections = [
        (".osrel", b'ID=arch\nPRETTY_NAME="Arch Linux"\n'),
        (".uname", release.encode()),
        (".cmdline", cmdline.encode()),
        (".linux", kernel_image(release)),
        (".initrd", image("mkinitcpio", release)),
    ]
    return efi.pe(sections)


_AARCH64 = 183


def arm(content: bytes) -> bytes:
    """A program for arm64 where it was one for x86."""
    return program(machine=_AARCH64, interpreter=None, needed=()) if content == STATIC else content


def arm_image() -> bytes:
    """An arm64 `Image`, packed with gzip."""
    head = b"MZ\x40\xfa" + bytes(4) + struct.pack("<QQQQQQ", 0, 1 << 24, 0xA, 0, 0, 0) + b"ARM\x64"
    return gzip.compress(head + bytes(4) + bytes(range(256)) * 40, mtime=0)


def arm_initramfs(release: str) -> bytes:
    """An image with programs for arm64 alone."""
    return image("initramfs-tools", release, machine=_AARCH64)


# -- GRUB ------------------------------------------------------------------------------------------------------


def debian_menu(
    name: str,
    uuid: str,
    releases: Sequence[str],
    cmdline: str,
    *,
    at: str = "/boot",
    root: str = "hd0,gpt2",
    header: str = "",
    initrd_name: str = "initrd.img-{}",
) -> str:
    """grub.cfg as grub-mkconfig of Debian's and Ubuntu's /etc/grub.d writes it, without what only draws the screen."""

    def search(indent: str) -> str:
        return (
            f"{indent}set root='{root}'\n{indent}if [ x$feature_platform_search_hint = xy ]; then\n"
            f"{indent}  search --no-floppy --fs-uuid --set=root --hint='{root}'  {uuid}\n{indent}else\n"
            f"{indent}  search --no-floppy --fs-uuid --set=root {uuid}\n{indent}fi\n"
        )

    def entry(title: str, identity: str, release: str, indent: str) -> str:
        return (
            f"{indent}menuentry '{title}' --class gnu-linux $menuentry_id_option '{identity}' {{\n"
            f"{indent}\trecordfail\n{search(indent + chr(9))}"
            f"{indent}\tlinux\t{at}/vmlinuz-{release} {cmdline}\n"
            f"{indent}\tinitrd\t{at}/{initrd_name.format(release)}\n{indent}}}\n"
        )

    text = (
        "if [ -s $prefix/grubenv ]; then\n  set have_grubenv=true\n  load_env\nfi\n"
        'if [ "${next_entry}" ] ; then\n   set default="${next_entry}"\n   set next_entry=\n'
        '   save_env next_entry\n   set boot_once=true\nelse\n   set default="0"\nfi\n'
        'if [ x"${feature_menuentry_id}" = xy ]; then\n  menuentry_id_option="--id"\nfi\nexport menuentry_id_option\n'
        'function recordfail {\n  set recordfail=1\n  if [ -n "${have_grubenv}" ]; then '
        'if [ -z "${boot_once}" ]; then save_env recordfail; fi; fi\n}\n'
        'if [ "${recordfail}" = 1 ] ; then\n  set timeout=30\nelse\n  set timeout_style=hidden\n  set timeout=0\nfi\n'
    )
    text += header + entry(name, f"gnulinux-simple-{uuid}", releases[0], "")
    text += f"submenu 'Advanced options for {name}' $menuentry_id_option 'gnulinux-advanced-{uuid}' {{\n"
    for release in releases:
        identity = f"gnulinux-{release}-advanced-{uuid}"
        text += entry(f"{name}, with Linux {release}", identity, release, "\t")
    return text + "}\n"


def bls_menu(boot: str, *, prefix: str = "") -> Files:
    """/boot/grub2/grub.cfg of Fedora and RHEL for a /boot with this UUID."""
    text = (GRUB_DATA / "fedora.cfg").read_text().replace("5f3c0b7e-6d1c-4c1a-9b57-2f6f0c8e4a11", boot)
    return {"/boot/grub2/grub.cfg": text.replace('set kernelopts="root=UUID=' + boot, 'set kernelopts="root=' + prefix)}


def grubenv(**variables: str) -> bytes:
    """An environment block (GRUB manual, "Environment block")."""
    text = "# GRUB Environment Block\n# WARNING: Do not edit this file by tools other than grub-editenv!!!\n"
    text += "".join(f"{name}={value}\n" for name, value in variables.items())
    return text.encode().ljust(1024, b"#")


def bls_entry(
    title: str,
    release: str,
    options: str,
    *,
    at: str = "",
    initrd_name: str = "initramfs-{}.img",
    more: str = "grub_users $grub_users\ngrub_arg --unrestricted\ngrub_class fedora\n",
) -> str:
    """An entry as Fedora's and RHEL's kernel-install plugin writes it."""
    return (
        f"title {title} ({release})\nversion {release}\nlinux {at}/vmlinuz-{release}\n"
        f"initrd {at}/{initrd_name.format(release)}\noptions {options}\n{more}"
    )


def firmware(path: str, description: str, *, partuuid: str = efi.ESP_PARTUUID, secure: bool = False) -> Files:
    """UEFI with one boot option, that this boot was started by."""
    option = efi.option(path, description=description, partuuid=partuuid)
    variables = efi.variables(order=[1], current=1, options={1: option}, secure_boot=secure)
    return {**variables, "/sys/firmware/efi/fw_platform_size": "64\n"}


# -- the whole -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """One thing that breaks the machine: files with another content, or without (`gone`), and what is to be found.

    `command` is the program that the remedy begins with, and what it must say besides; empty for a remedy in words.
    """

    finding: str
    files: Mapping[str, Content] = field(default_factory=dict)
    gone: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    verdict: str = "unsafe"


@dataclass(frozen=True)
class Layout:
    """A healthy machine, where its form is documented, and what is to be said of it."""

    name: str
    documented: str
    files: Mapping[str, Content]
    kernel: str | None
    why: str
    fault: Fault | None = None
    verdict: str = "safe"
    warnings: tuple[str, ...] = ()


def build(root: Path, layout: Layout, fault: Fault | None = None) -> Machine:
    """The machine below `root`; programs can be executed."""
    files = {**layout.files, **(fault.files if fault is not None else {})}
    for path in fault.gone if fault is not None else ():
        del files[path]
    files = secured(files)
    # Links at the top, such as /sbin, come first: what else is there is written through them.
    for path in sorted(files, key=lambda path: (not isinstance(files[path], Link), path.count("/"))):
        content = files[path]
        machine = tree(root, {path: content})
        if isinstance(content, Link):
            if path.count("/") == 1:
                (root / content.target).mkdir(parents=True, exist_ok=True)
        elif isinstance(content, bytes) and content.startswith((b"\x7fELF", b"#!")):
            os.chmod(root / path.strip("/"), 0o755)
    return machine


def merged(*parts: Mapping[str, Content]) -> Files:
    """Several sets of files as one, the later before the earlier."""
    return {path: content for part in parts for path, content in part.items()}
