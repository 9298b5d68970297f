"""Can this kernel start without an initramfs? Only where it names root in a way that it knows by itself, and has every
driver on the way to it built in (init/do_mounts.c, block/early-lookup.c)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from safeupdate.boot.plan import BootEntry
from safeupdate.case import Case
from safeupdate.formats import cmdline
from safeupdate.remedies import add_kernels, make_initramfs, write_boot_menu
from safeupdate.report import Finding, NotApplicable, Remedy, blocker, unknown

_FOR_EARLY_USER_SPACE = re.compile(
    r"(?:UUID=|LABEL=|/dev/mapper/|/dev/disk/|/dev/[^/]+/|zfs[:=]|nfs|iscsi|live:|block:|nbd:)", re.IGNORECASE
)
"""What the kernel cannot mount by itself: it knows names, numbers, PARTUUID= and PARTLABEL= (early_lookup_bdev)."""

_DISK_DRIVERS = (
    (re.compile(r"vd[a-z]"), ("CONFIG_VIRTIO_BLK", "CONFIG_VIRTIO_PCI")),
    (re.compile(r"nvme\d"), ("CONFIG_BLK_DEV_NVME",)),
    (re.compile(r"sd[a-z]"), ("CONFIG_BLK_DEV_SD", "CONFIG_SCSI")),
    (re.compile(r"mmcblk\d"), ("CONFIG_MMC_BLOCK", "CONFIG_MMC")),
    (re.compile(r"xvd[a-z]"), ("CONFIG_XEN_BLKDEV_FRONTEND",)),
    (re.compile(r"dm-\d"), ("an initramfs that sets up the device",)),
    (re.compile(r"md\d"), ("CONFIG_BLK_DEV_MD",)),
)
_FILE_SYSTEMS = {"ext2": "EXT4_FS", "ext3": "EXT4_FS", "ext4": "EXT4_FS", "vfat": "VFAT_FS"}


def without_image(case: Case, entry: BootEntry) -> Iterator[Finding]:
    """What becomes of an entry that loads no image: enough for this kernel, or not."""
    files = entry.initramfs
    if any(file.path is None and not file.absent for file in files):
        yield unknown(
            "initramfs.not-visible",
            files[0].spec,
            f"The initramfs image {files[0].spec} is on a file system that is not to be seen here.",
            "Whether it is whole cannot be told.",
            evidence=[file.why for file in files if file.why],
        )
        return
    if files:
        raise NotApplicable("the image that the entry names is not there; boot-entry speaks of it")
    reason = needs_image(case, entry.cmdline)
    if reason is None:
        raise NotApplicable("the entry starts its kernel without an initramfs, and nothing here needs one")
    yield blocker(
        "initramfs.none-loaded",
        entry.title,
        f"The boot entry “{entry.title}” loads no initramfs, and this machine needs one: {reason}.",
        "The kernel cannot mount the root file system: “VFS: Unable to mount root fs on unknown-block(0,0)”.",
        evidence=[f"{entry.source}: {entry.cmdline}"],
        remedy=_create(case),
    )


def needs_image(case: Case, command_line: str) -> str | None:
    """Why the kernel cannot mount root by itself, as far as that is known; None where nothing says so."""
    root = cmdline.parse(command_line).last("root") or ""
    if _FOR_EARLY_USER_SPACE.match(root):
        return f"the kernel by itself does not understand root={root}"
    lost = drivers_outside(case)
    return f"{', '.join(lost)} {'is' if len(lost) == 1 else 'are'} not built into the kernel" if lost else None


def starts_without(case: Case, command_line: str) -> bool:
    """Whether the kernel surely mounts root by itself: a name that it knows, and the drivers built in."""
    root = cmdline.parse(command_line).last("root") or ""
    if not root or _FOR_EARLY_USER_SPACE.match(root):
        return False
    return drivers_outside(case) == []


def drivers_outside(case: Case) -> list[str] | None:
    """Options of the drivers under root that are not built in; None where device or configuration are not known."""
    config = case.kernel.config if case.kernel is not None else None
    if config is None:
        return None
    volume, _ = case.volumes.holding("/")
    options: list[str] = []
    if volume.fstype is None or not volume.devices:
        return None
    options.append(f"CONFIG_{_FILE_SYSTEMS.get(volume.fstype, volume.fstype.upper() + '_FS')}")
    for device in volume.devices:
        known = next((drivers for pattern, drivers in _DISK_DRIVERS if pattern.match(device)), None)
        if known is None:
            return None
        options += known
    return sorted({option for option in options if config.get(option, "n") != "y"})


def _create(case: Case) -> Remedy:
    menu = write_boot_menu(case.machine, case.plan.loader, case.plan.config)
    image = make_initramfs(case.machine, case.release) if case.release is not None else Remedy()
    return Remedy(
        "Build the image for this kernel, and write the boot loader's menu again.", image.commands + menu.commands
    )


def build_again(case: Case, path: str) -> Remedy:
    """The command that builds the image at `path` again."""
    if case.release is None:
        return Remedy("Build the image again.")
    if case.entry is not None and case.entry.embedded:
        return add_kernels(case.machine, [case.release])
    return make_initramfs(case.machine, case.release, path)
