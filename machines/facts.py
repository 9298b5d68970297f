"""Facts of hardware and mounts for a root tree: **made by hand, not captured**.

A tree that mmdebstrap built has no `/sys`, `/proc`, `/run/udev` and `/dev/disk`. `add_facts` writes the few that a
check reads, as the kernel and udev of the machine would give them that docs/machines.md describes: BIOS, one disk
(virtio-blk `vda`, or `sda` behind AHCI) with one partition, ext4, running the older of the two kernels: the moment
after an update. The texts follow those of such a virtual machine; what is not here would be there on a real one.
"""

from __future__ import annotations

import os

from machines.build import releases
from machines.recipes import RECIPES

_SECTORS = 8388608  # of 512 bytes: 4 GiB
_FIRST = 2048

# Of each kind of disk: its block device numbers, and what lies between the PCI bus and the block device. A device is
# its directory below the one before, its bus, its driver, the driver's module and its modalias.
_Device = tuple[str, str, str, str, str]
_DISKS: dict[str, tuple[int, tuple[_Device, ...]]] = {
    "vda": (
        254,
        (
            (
                "0000:00:02.0",
                "pci",
                "virtio-pci",
                "virtio_pci",
                "pci:v00001AF4d00001001sv00001AF4sd00000002bc01sc00i00",
            ),
            ("virtio0", "virtio", "virtio_blk", "virtio_blk", "virtio:d00000002v00001AF4"),
        ),
    ),
    "sda": (
        8,
        (
            ("0000:00:1f.2", "pci", "ahci", "ahci", "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01"),
            ("ata1/host0/target0:0:0/0:0:0:0", "scsi", "sd", "sd_mod", "scsi:t-0x00"),
        ),
    ),
}

_MOUNTS = """\
22 27 0:20 / /sys rw,nosuid,nodev,noexec,relatime - sysfs sysfs rw
23 27 0:21 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw
24 27 0:5 / /dev rw,nosuid,relatime - devtmpfs udev rw,size=2000000k,nr_inodes=500000,mode=755,inode64
25 24 0:22 / /dev/pts rw,nosuid,noexec,relatime - devpts devpts rw,gid=5,mode=620,ptmxmode=000
26 27 0:23 / /run rw,nosuid,nodev,noexec,relatime - tmpfs tmpfs rw,size=400000k,mode=755,inode64
27 1 {number}:1 / / rw,relatime - ext4 /dev/{disk}1 rw,errors=remount-ro
"""


# The modules that the kernel has loaded for this root, as /proc/modules lists them: size, users, who.
_MODULES = {
    "vda": (("virtio_blk", 28672, 2, "-"), ("virtio_pci", 24576, 0, "-")),
    "sda": (("sd_mod", 65536, 2, "-"), ("ahci", 49152, 1, "-"), ("libahci", 49152, 1, "ahci,")),
}
_EXT4 = (
    ("ext4", 983040, 1, "-"),
    ("crc16", 16384, 1, "ext4,"),
    ("mbcache", 16384, 1, "ext4,"),
    ("jbd2", 167936, 1, "ext4,"),
)


def add_facts(tree: str, name: str) -> None:
    """Write the facts of the machine `name` into a copy of its tree."""
    recipe = RECIPES[name]
    disk, uuid = recipe.root_disk, recipe.root_uuid
    number, devices = _DISKS[disk]
    partition, label = f"{disk}1", uuid.partition("-")[0]
    size = _SECTORS - _FIRST

    def text(path: str, *lines: object) -> None:
        target = os.path.join(tree, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "w", encoding="ascii") as file:
            file.writelines(f"{line}\n" for line in lines)

    def link(path: str, target: str) -> None:
        """A link at `path` to another place in the tree, relative as in sysfs."""
        name = os.path.join(tree, path)
        os.makedirs(os.path.dirname(name), exist_ok=True)
        os.symlink(os.path.relpath(os.path.join(tree, target), os.path.dirname(name)), name)

    device = "sys/devices/pci0000:00"
    for below, bus, driver, module, modalias in devices:
        device = f"{device}/{below}"
        text(f"{device}/modalias", modalias)
        text(f"{device}/uevent", f"DRIVER={driver}", f"MODALIAS={modalias}")
        link(f"{device}/subsystem", f"sys/bus/{bus}")
        link(f"{device}/driver", f"sys/bus/{bus}/drivers/{driver}")
        link(f"sys/bus/{bus}/drivers/{driver}/{os.path.basename(device)}", device)
        link(f"sys/bus/{bus}/drivers/{driver}/module", f"sys/module/{module}")
        link(f"sys/bus/{bus}/devices/{os.path.basename(device)}", device)

    block = f"{device}/block/{disk}"
    text(f"{block}/dev", f"{number}:0")
    text(f"{block}/size", _SECTORS)
    text(f"{block}/ro", 0)
    text(f"{block}/removable", 0)
    text(f"{block}/uevent", f"MAJOR={number}", "MINOR=0", f"DEVNAME={disk}", "DEVTYPE=disk", "DISKSEQ=1")
    link(f"{block}/device", device)
    text(f"{block}/{partition}/dev", f"{number}:1")
    text(f"{block}/{partition}/size", size)
    text(f"{block}/{partition}/start", _FIRST)
    text(f"{block}/{partition}/partition", 1)
    text(f"{block}/{partition}/ro", 0)
    text(
        f"{block}/{partition}/uevent",
        *(f"MAJOR={number}", "MINOR=1", f"DEVNAME={partition}", "DEVTYPE=partition", "DISKSEQ=1", "PARTN=1"),
    )
    for path in (block, f"{block}/{partition}"):
        link(f"{path}/subsystem", "sys/class/block")
        link(f"sys/class/block/{os.path.basename(path)}", path)
        link(f"sys/dev/block/{number}:{0 if path == block else 1}", path)
        for empty in ("holders", "slaves") if path == block else ("holders",):
            os.makedirs(os.path.join(tree, path, empty))
    os.makedirs(os.path.join(tree, "sys/fs/ext4", partition))
    os.makedirs(os.path.join(tree, "sys/firmware/acpi"))

    modules = (*_MODULES[disk], *_EXT4)
    text("proc/modules", *(f"{module} {bytes_} {users} {by} Live 0x0" for module, bytes_, users, by in modules))
    for module, *_ in modules:
        text(f"sys/module/{module}/initstate", "live")
    release = releases(tree)[0]
    text("proc/sys/kernel/osrelease", release)
    text("proc/sys/kernel/ostype", "Linux")
    text("proc/sys/kernel/tainted", 0)
    text("proc/sys/kernel/random/boot_id", f"00000000{uuid[8:]}")
    text("proc/cmdline", f"BOOT_IMAGE=/boot/vmlinuz-{release} root=UUID={uuid} ro quiet")
    text("proc/self/mountinfo", _MOUNTS.format(number=number, disk=disk).rstrip())
    text("proc/meminfo", "MemTotal:        4014532 kB", "MemFree:         3512344 kB", "MemAvailable:    3624344 kB")
    text("proc/swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority")
    text("proc/cpuinfo", "processor\t: 0", "vendor_id\t: GenuineIntel", "flags\t\t: fpu de pse tsc msr pae lm sse4_2")

    table = ("E:ID_PART_TABLE_TYPE=dos", f"E:ID_PART_TABLE_UUID={label}")
    text(f"run/udev/data/b{number}:0", *table, "V:1")
    text(
        f"run/udev/data/b{number}:1",
        f"S:disk/by-uuid/{uuid}",
        f"S:disk/by-partuuid/{label}-01",
        *table,
        f"E:ID_FS_UUID={uuid}",
        f"E:ID_FS_UUID_ENC={uuid}",
        "E:ID_FS_VERSION=1.0",
        "E:ID_FS_TYPE=ext4",
        "E:ID_FS_USAGE=filesystem",
        "E:ID_PART_ENTRY_SCHEME=dos",
        f"E:ID_PART_ENTRY_UUID={label}-01",
        "E:ID_PART_ENTRY_TYPE=0x83",
        "E:ID_PART_ENTRY_FLAGS=0x80",
        "E:ID_PART_ENTRY_NUMBER=1",
        f"E:ID_PART_ENTRY_OFFSET={_FIRST}",
        f"E:ID_PART_ENTRY_SIZE={size}",
        f"E:ID_PART_ENTRY_DISK={number}:0",
        "V:1",
    )
    link(f"dev/disk/by-uuid/{uuid}", f"dev/{partition}")
    link(f"dev/disk/by-partuuid/{label}-01", f"dev/{partition}")
