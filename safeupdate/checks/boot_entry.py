"""Does the entry that starts next resolve: its files where the loader looks, its root on a device that exists?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cmp_to_key
from typing import TYPE_CHECKING

from safeupdate.boot import systemd_boot
from safeupdate.boot.plan import BootEntry, BootFile
from safeupdate.case import Case, Check
from safeupdate.checks.mount_options import refused
from safeupdate.errors import Unreadable
from safeupdate.formats import cmdline, loader_conf
from safeupdate.formats.cmdline import CommandLine
from safeupdate.initramfs import Index
from safeupdate.kernels import kernel_at
from safeupdate.remedies import add_kernels, change_command_line, make_initramfs, write_boot_menu
from safeupdate.report import Finding, Remedy, blocker, note, unknown, warning
from safeupdate.volumes import QUOTES, TAGS

if TYPE_CHECKING:
    from _typeshed import SupportsAllComparisons

_CAP = 10

_ELSEWHERE = {
    *("nfs", "nfs4", "nbd", "iscsi", "fcoe", "cifs", "live", "http", "https", "ftp", "virtiofs", "9p", "aoe", "ibft"),
    *("dhcp", "dhcp6", "either6", "auto6", "block", "overlay", "sparse", "mtd", "zfs", "ZFS"),
    *("gpt-auto", "tmpfs", "none", "off", "fstab", "dissect", "mount.usr"),
}
"""Roots that no one block device of this machine holds, or that early user space finds by other means, up to a colon or
an equals sign (dracut.cmdline(7), initramfs-tools(7), systemd-fstab-generator(8), the kernel's init/do_mounts.c)."""

_ELSEWHERE_TYPES = ("nfs", "nfs4", "cifs", "ceph", "virtiofs", "9p", "tmpfs", "zfs", "ubifs", "jffs2")
"""File systems whose `root=` is no block device."""

_FOR_USER_SPACE = ("UUID=", "LABEL=", "/dev/mapper/", "/dev/disk/", "ZFS=", "zfs:")
"""Roots that the kernel by itself does not find (block/early-lookup.c)."""


def check(case: Case) -> Iterator[Finding]:
    """The plan, the entry's files, the command line against devices, fstab and mounts, then the other entries."""
    if case.is_target:
        yield from case.plan.findings
    entry = case.entry
    if entry is None:
        if not any(finding.level in ("blocker", "unknown") for finding in case.plan.findings):
            yield unknown(
                "boot-entry.none",
                case.plan.config or "boot loader",
                "Nothing tells which entry the boot loader starts next.",
                "The kernel that boots next cannot be judged.",
            )
        return
    for place in entry.unresolved:
        yield unknown(
            "boot-entry.unresolved",
            entry.title,
            f"A variable in the entry's definition has no value that is known: {place}.",
            "What the loader makes of this entry cannot be told.",
        )
    if entry.kernel is None:
        yield blocker(
            "boot-entry.not-linux",
            entry.title,
            f'The boot loader starts "{entry.title}" next, which is no Linux kernel of this machine ({entry.source}).',
            "This system does not come back by itself.",
            remedy=_regenerate(case)
            if case.plan.menu or case.firmware.next is None
            else Remedy("Take the choice of the next boot back.", (("efibootmgr", "--delete-bootnext"),)),
        )
        return
    yield from _file(case, entry, entry.kernel, "kernel")
    for file in entry.initramfs:
        yield from _file(case, entry, file, "initramfs")
    if entry.devicetree is not None:
        yield from _file(case, entry, entry.devicetree, "devicetree")
    if not entry.kernel.absent:
        yield from _root(case, entry)
        yield from _shell(case, entry)
    if case.is_target:
        yield from _others(case, entry)


# -- files -----------------------------------------------------------------------------------------------------


def _file(case: Case, entry: BootEntry, file: BootFile, kind: str) -> Iterator[Finding]:
    if file.path is not None and not file.absent and case.machine.exists(file.path):
        if case.machine.is_file(file.path):
            return
        yield blocker(
            "boot-entry.not-a-file",
            file.path,
            f'{file.path}, the {kind} of the entry "{entry.title}", is not a regular file.',
            "The boot loader cannot load it.",
            remedy=_regenerate(case),
        )
        return
    if file.path is None and not file.absent:
        yield unknown(
            "boot-entry.file-not-visible",
            file.spec,
            f'The {kind} {file.spec} of the entry "{entry.title}" cannot be seen here: '
            f"{file.why or 'the file system that the loader reads it from is not mounted'}.",
            "Whether the loader finds it cannot be told.",
        )
        return
    where = f" ({file.why})" if file.why and not file.why.endswith("does not exist") else ""
    if kind == "kernel":
        yield blocker(
            "boot-entry.kernel-missing",
            file.path or file.spec,
            f'The boot entry "{entry.title}" loads the kernel {file.spec}, which does not exist{where}.',
            "The boot loader stops with an error and waits for a person, or starts another entry.",
            evidence=[f"{entry.source}: {file.spec}"],
            remedy=_regenerate(case),
        )
    elif kind == "initramfs":
        yield blocker(
            "boot-entry.initramfs-missing",
            file.path or file.spec,
            f'The boot entry "{entry.title}" loads the initramfs {file.spec}, which does not exist{where}.',
            "The kernel starts without it, finds no root file system and panics."
            if entry.loader == "grub"
            else "The loader refuses the entry, and the firmware goes on to its next boot option, if there is one.",
            evidence=[f"{entry.source}: {file.spec}"],
            remedy=make_initramfs(case.machine, case.release or "RELEASE"),
        )
    else:
        yield blocker(
            "boot-entry.devicetree-missing",
            file.path or file.spec,
            f'The boot entry "{entry.title}" loads the device tree {file.spec}, which does not exist{where}.',
            "The boot loader stops with an error, or the kernel starts without knowing its hardware.",
            remedy=_regenerate(case),
        )


def _regenerate(case: Case, release: str | None = None) -> Remedy:
    """Write the menu anew; where entries are files of their own, those of the release that is meant, else of all."""
    if not _has_entry_files(case):
        return write_boot_menu(case.machine, case.plan.loader, case.plan.config)
    release = release or case.release
    return add_kernels(case.machine, [release] if release else [kernel.release for kernel in case.kernels])


def _has_entry_files(case: Case) -> bool:
    """Whether kernel-install(8) makes the entries: always for systemd-boot, for GRUB where its menu has blscfg."""
    if case.plan.loader != "grub":
        return case.plan.loader == systemd_boot.NAME
    text = case.machine.text(case.plan.config) if case.plan.config is not None else None
    return re.search(r"^\s*blscfg\b", text or "", re.MULTILINE) is not None


def _change(case: Case, entry: BootEntry, *, add: str = "", remove: str = "") -> Remedy:
    """Correct a parameter there where the command line comes from."""
    if not _has_entry_files(case):
        if add.startswith(("root=", "rootflags=")):
            return _regenerate(case)  # GRUB's generator finds the root device by itself
        text = "Correct GRUB_CMDLINE_LINUX in /etc/default/grub, then write the boot menu anew."
        return (
            Remedy(text, _regenerate(case).commands) if entry.loader == "grub" else Remedy(f"Correct {entry.source}.")
        )
    image = entry.kernel.path if entry.kernel is not None else None
    remedy = change_command_line(case.machine, image or "ALL", add=add, remove=remove)
    if entry.loader == "grub" and remedy is not None:
        return remedy
    return Remedy(
        "Correct /etc/kernel/cmdline, then have the kernel's boot entry made anew.", _regenerate(case).commands
    )


def _drop(case: Case, entry: BootEntry, parameter: str) -> Remedy:
    """Take a parameter away: from the entry, else from the image, where dracut has put it."""
    if parameter in entry.cmdline:
        return _change(case, entry, remove=parameter)
    return make_initramfs(case.machine, case.release or "RELEASE")


def _with_subvolume(line: CommandLine, subvolume: str) -> str:
    return re.sub(
        r"((?:^|[=,])subvol=)[^,]*", rf"\g<1>{subvolume.strip('/')}", "rootflags=" + ",".join(line.all("rootflags"))
    )


def _correct_root(case: Case, entry: BootEntry) -> Remedy:
    line = next((line for line in case.volumes.fstab if line.point == "/"), None)
    return _change(case, entry, add=f"root={line.spec if line is not None else 'UUID=...'}")


# -- root ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Root:
    """What the machine itself says of `/`: its line in fstab and what is mounted there now."""

    spec: str | None
    fstype: str | None
    subvolume: str | None
    devices: frozenset[str]
    mounted: frozenset[str]
    mounted_subvolume: str | None
    mounted_fstype: str | None


def _known_root(case: Case) -> _Root:
    line = next((line for line in case.volumes.fstab if line.point == "/"), None)
    mount = next((mount for mount in reversed(case.volumes.mounts) if mount.point == "/"), None)
    return _Root(
        spec=_by_tag(line.spec) if line is not None else None,
        fstype=line.fstype if line is not None else None,
        subvolume=_subvolume(",".join(line.options)) if line is not None else None,
        devices=case.volumes.source_devices(line.spec) if line is not None else frozenset(),
        mounted=case.volumes.source_devices(mount.source, mount.device) if mount is not None else frozenset(),
        mounted_subvolume=mount.root if mount is not None and mount.fstype == "btrfs" else None,
        mounted_fstype=mount.fstype if mount is not None else None,
    )


def _by_tag(name: str) -> str:
    """A device's name, by its tag where it is one of udev's links for a tag; without quotes around the tag's value."""
    for tag, directory in TAGS.items():
        if name.startswith(f"/dev/disk/{directory}/") and "\\" not in name:
            return f"{tag}={name.rsplit('/', 1)[-1]}"
    tag, equals, value = name.partition("=")
    return f"{tag}={value.strip(QUOTES)}" if equals and tag in TAGS else name


def _mapper_name(name: str) -> str:
    """`/dev/group/volume` as `/dev/mapper/group-volume`, the name that device-mapper gives it (lvm(8))."""
    parts = name.split("/")
    if len(parts) == 4 and parts[1] == "dev" and parts[2] not in ("mapper", "disk", "md"):
        return "/dev/mapper/" + "-".join(part.replace("-", "--") for part in parts[2:])
    return name


def _subvolume(options: str) -> str | None:
    match = re.search(r"(?:^|,)subvol=([^,]*)", options)
    return "/" + match.group(1).strip("/") if match else None


def _index(case: Case) -> Index | None:
    """The initramfs; None where there is none, or where it cannot be read (`initramfs` speaks of that)."""
    try:
        return case.index
    except Unreadable:
        return None


def command_line(case: Case, entry: BootEntry) -> CommandLine:
    """The parameters that early user space sees: the entry's, after those that dracut put into the image."""
    embedded: list[str] = []
    index = _index(case)
    if index is not None:
        paths = ["/etc/cmdline"]
        paths += [f"/etc/cmdline.d/{name}" for name in index.names("/etc/cmdline.d") if name.endswith(".conf")]
        for path in paths:
            embedded += (index.content(path) or b"").decode("utf-8", "surrogateescape").split("\n")
    return cmdline.parse(" ".join([*embedded, entry.cmdline]))


def _root(case: Case, entry: BootEntry) -> Iterator[Finding]:
    line = command_line(case, entry)
    root = line.last("root")
    if root is None or root == "":
        yield from _no_root(case, entry, given=root is not None)
        return
    has_image = bool(entry.initramfs) or entry.embedded
    if not has_image and _mapper_name(root).startswith(_FOR_USER_SPACE):
        yield blocker(
            "boot-entry.root-needs-initramfs",
            entry.title,
            f"The entry loads no initramfs, and the kernel by itself does not understand root={root}.",
            "The kernel panics: VFS: Unable to mount root fs on unknown-block(0,0).",
            evidence=[f"{entry.source}: {entry.cmdline}"],
            remedy=make_initramfs(case.machine, case.release or "RELEASE"),
        )
        return
    root = _by_tag(root)
    tag, equals, value = root.partition("=")
    if re.split("[:=]", root)[0] in _ELSEWHERE or root.startswith(("/dev/nfs", "/dev/ram", "ubi")):
        return
    if line.last("rootfstype") in _ELSEWHERE_TYPES or line.last("boot") in ("live", "casper", "zfs"):
        return
    known = _known_root(case)
    if known.mounted_fstype == "zfs":
        return
    if equals and tag in TAGS:
        yield from _tagged_root(case, entry, known, tag, value)
    elif root.startswith("/dev/"):
        yield from _named_root(case, entry, known, root)
    elif re.fullmatch(r"\d+:\d+|[0-9a-fA-F]{3,4}", root):
        yield unknown(
            "boot-entry.root-number",
            f"root={root}",
            f"The root device is given by its number ({root}).",
            "Numbers are given anew at each boot; whether it will name the same device cannot be told.",
        )
    elif re.match(r"[a-z][\w-]*:", root):
        yield unknown(
            "boot-entry.root-unknown-form",
            f"root={root}",
            f"The command line says root={root}, which is for a part of the initramfs that is not known here.",
            "Whether it finds the root file system cannot be told.",
        )
    else:
        yield blocker(
            "boot-entry.root-not-understood",
            f"root={root}",
            f"The command line says root={root}, which names no device in any form that is known.",
            "No root file system is found, and the boot stops.",
            evidence=[f"{entry.source}: {entry.cmdline}"],
            remedy=_correct_root(case, entry),
        )
        return
    yield from _flags(case, entry, line, known)
    yield from _named_by_dracut(case, entry, line)


def _no_root(case: Case, entry: BootEntry, *, given: bool) -> Iterator[Finding]:
    index = _index(case)
    generator = index.generator if index is not None else None
    if given or generator == "initramfs-tools" or not (entry.initramfs or entry.embedded):
        if index is not None and generator == "initramfs-tools" and _conf_root(index):
            return
        yield blocker(
            "boot-entry.no-root",
            entry.title,
            f'The command line of the entry "{entry.title}" names no root device.',
            "No root file system is mounted, and the boot stops in the initramfs or with a panic.",
            evidence=[f"{entry.source}: {entry.cmdline}"],
            remedy=_correct_root(case, entry),
        )
    elif not case.machine.is_link("/dev/gpt-auto-root"):
        yield unknown(
            "boot-entry.root-discovered",
            entry.title,
            "The command line names no root device; the initramfs has to find one by itself.",
            "Whether it finds today's root cannot be told.",
        )


def _conf_root(index: Index) -> bool:
    """initramfs-tools sources /conf/conf.d/* and /conf/param.conf, which may set ROOT (initramfs-tools(7))."""
    paths = ["/conf/param.conf", *(f"/conf/conf.d/{name}" for name in index.names("/conf/conf.d"))]
    return any(re.search(rb"^ROOT=\S", index.content(path) or b"", re.MULTILINE) for path in paths)


def _tagged_root(case: Case, entry: BootEntry, known: _Root, tag: str, value: str) -> Iterator[Finding]:
    root = f"{tag}={value}"
    volume = case.volumes.tagged(tag, value)
    if volume is None:
        yield _missing_root(case, entry, root)
    elif volume.devices:
        if (entry.initramfs or entry.embedded) and case.volumes.differs_in_case(tag, value):
            yield from _root_letter_case(case, entry, root)
        yield from _other_root(case, entry, root, volume.devices, known)
    elif not volume.assumed or (known.spec or "").lower() == root.lower():
        return  # fstab names the same; no fact of the devices says more
    elif known.spec is not None and known.spec.partition("=")[0] == tag:
        yield _differs_from_fstab(case, entry, root, known.spec)
    elif not _searched(entry, tag, value):
        yield _unproved_root(root)


def _root_letter_case(case: Case, entry: BootEntry, root: str) -> Iterator[Finding]:
    """The kernel by itself takes a PARTUUID in any case; early user space compares texts (blkid -t, udev's links)."""
    if root in cmdline.parse(case.machine.value("/proc/cmdline") or "").all("root"):
        return  # this boot found it
    yield blocker(
        "boot-entry.root-letter-case",
        root,
        f"The command line says root={root}; the device's own has other upper and lower case letters.",
        "The initramfs compares them as texts, does not find the device, and stops in a shell.",
        evidence=[f"{entry.source}: {entry.cmdline}"],
        remedy=_correct_root(case, entry),
    )


def _searched(entry: BootEntry, tag: str, value: str) -> bool:
    """Whether the loader's own configuration takes the kernel from below /boot on that very file system."""
    kernel = entry.kernel
    if tag != "UUID" or kernel is None or kernel.volume is None:
        return False
    return kernel.volume.lower() == f"uuid={value}".lower() and "/boot/" in kernel.spec


def _named_root(case: Case, entry: BootEntry, known: _Root, root: str) -> Iterator[Finding]:
    if root == "/dev/root":
        return
    device = case.volumes.device_named(root)
    if device is not None:
        yield from _other_root(case, entry, root, frozenset([device]), known)
    elif case.machine.has_sysfs:
        yield _missing_root(case, entry, root)
    elif (known.spec and _mapper_name(known.spec) == _mapper_name(root)) or (
        known.mounted and root[len("/dev/") :] in known.mounted
    ):
        return
    elif known.spec is not None and known.spec.startswith("/dev/") and not known.spec.startswith("/dev/disk/"):
        yield _differs_from_fstab(case, entry, root, known.spec)
    else:
        yield _unproved_root(root)


def _differs_from_fstab(case: Case, entry: BootEntry, root: str, spec: str) -> Finding:
    return blocker(
        "boot-entry.root-differs-from-fstab",
        root,
        f"The command line says root={root}, /etc/fstab mounts {spec} at /.",
        "One of the two is wrong: no root file system is found, or it stays read-only.",
        evidence=[f"{entry.source}: {entry.cmdline}", f"/etc/fstab: {spec} /"],
        remedy=_correct_root(case, entry),
    )


def _missing_root(case: Case, entry: BootEntry, root: str) -> Finding:
    return blocker(
        "boot-entry.root-missing",
        root,
        f"The command line says root={root}, but no device of this machine has that name.",
        "The initramfs waits for the device, gives up, and stops in a shell.",
        evidence=[f"{entry.source}: {entry.cmdline}"],
        remedy=_correct_root(case, entry),
    )


def _unproved_root(root: str) -> Finding:
    return unknown(
        "boot-entry.root-unproved",
        root,
        f"Neither a device nor /etc/fstab confirms that root={root} is this machine's root file system.",
        "Whether the root file system is found cannot be told.",
        remedy=Remedy("Run the check on the machine itself, or on a tree that safeupdate capture made."),
    )


def _other_root(case: Case, entry: BootEntry, root: str, devices: frozenset[str], known: _Root) -> Iterator[Finding]:
    """The device exists. Is it the one that fstab means, and the one that is mounted?"""
    if not known.mounted or known.mounted & devices or (known.devices and known.devices & devices):
        if known.devices and not known.devices & devices:
            yield warning(
                "boot-entry.fstab-root-differs",
                root,
                f"root={root} is what is mounted at / now, but /etc/fstab names another device there ({known.spec}).",
                "The root file system comes up, and systemd may fail to remount it read-write.",
                evidence=[f"/etc/fstab: {known.spec} /"],
            )
        elif known.mounted and not known.mounted & devices:
            yield warning(
                "boot-entry.root-moves",
                root,
                f"root={root} is another device than the one mounted at / now; /etc/fstab names it as well.",
                "The machine comes up on that other root file system.",
            )
        return
    yield blocker(
        "boot-entry.other-root",
        root,
        f"root={root} is the device {', '.join(sorted(devices))}; "
        f"mounted at / now is {', '.join(sorted(known.mounted))}.",
        "The machine comes up on another root file system than today's, or not at all.",
        evidence=[f"{entry.source}: {entry.cmdline}"],
        remedy=_correct_root(case, entry),
    )


def _flags(case: Case, entry: BootEntry, line: CommandLine, known: _Root) -> Iterator[Finding]:
    """rootfstype= and rootflags=subvol= against what is there."""
    real = known.mounted_fstype if known.mounted_fstype not in (None, "overlay") else known.fstype
    wanted = line.last("rootfstype")
    fits = wanted in (None, "auto") or real in (None, "auto", *(wanted or "").split(","))
    if not fits and not (str(real).startswith("ext") and str(wanted).startswith("ext4")):
        yield blocker(
            "boot-entry.rootfstype",
            f"rootfstype={wanted}",
            f"The command line says rootfstype={wanted}, the root file system is {real}.",
            "The root file system cannot be mounted, and the boot stops in the initramfs.",
            evidence=[f"{entry.source}: {entry.cmdline}"],
            remedy=_change(case, entry, remove=f"rootfstype={wanted}"),
        )
    flags = ",".join(line.all("rootflags"))
    wrong = refused(case, real, flags.split(",")) if fits and real is not None else []
    if wrong:
        yield blocker(
            "boot-entry.rootflags",
            f"rootflags={flags}",
            f"The command line mounts the root file system with rootflags={flags}, and {real} does not take "
            f"{', '.join(wrong)}.",
            "The root file system cannot be mounted, and the boot stops in the initramfs.",
            evidence=[f"{entry.source}: {entry.cmdline}"],
            remedy=_change(case, entry, remove=f"rootflags={line.last('rootflags')}"),
        )
    subvolume = _subvolume(flags)
    if subvolume is None or real != "btrfs":
        return
    volume = next((volume for volume in case.volumes.seen if volume.devices & known.mounted), None)
    if volume is not None and case.volumes.has_subvolume(volume, subvolume) is False:
        yield blocker(
            "boot-entry.subvolume-missing",
            f"rootflags=subvol={subvolume}",
            f"The command line mounts the subvolume {subvolume}, and the file system at / has none of that name.",
            "The root file system cannot be mounted, and the boot stops in the initramfs or before.",
            evidence=[f"{entry.source}: {entry.cmdline}", f"mounted at / now is {known.mounted_subvolume}"],
            remedy=_change(case, entry, add=_with_subvolume(line, known.mounted_subvolume or "/")),
        )
        return
    if known.mounted_subvolume is not None and known.mounted_subvolume != subvolume and known.subvolume != subvolume:
        yield blocker(
            "boot-entry.other-subvolume",
            f"rootflags=subvol={subvolume}",
            f"The command line mounts the subvolume {subvolume}, mounted at / now is {known.mounted_subvolume}.",
            "The machine comes up on another root file system than today's, or not at all.",
            evidence=[f"{entry.source}: {entry.cmdline}"],
            remedy=_change(case, entry, add=_with_subvolume(line, known.mounted_subvolume)),
        )
    elif known.mounted_subvolume is None and known.subvolume not in (None, subvolume):
        yield blocker(
            "boot-entry.other-subvolume",
            f"rootflags=subvol={subvolume}",
            f"The command line mounts the subvolume {subvolume}, /etc/fstab mounts {known.subvolume} at /.",
            "One of the two is wrong: no root file system is found, or another one.",
            evidence=[f"{entry.source}: {entry.cmdline}"],
            remedy=_change(case, entry, add=_with_subvolume(line, known.subvolume or "/")),
        )


def _named_by_dracut(case: Case, entry: BootEntry, line: CommandLine) -> Iterator[Finding]:
    """Devices that the initramfs is told to wait for (dracut.cmdline(7)), and the one to resume from."""
    if case.volumes.knows("UUID"):
        for value in (*line.all("rd.luks.uuid"), *line.all("rd.luks.name")):
            uuid = value.partition("=")[0].removeprefix("luks-")
            if uuid and not case.volumes.has_prefix("UUID", uuid):
                yield blocker(
                    "boot-entry.luks-missing",
                    f"rd.luks.uuid={uuid}",
                    f"The command line asks for the LUKS device {uuid}, which this machine does not have.",
                    "The initramfs waits for it, gives up, and stops in a shell.",
                    evidence=[f"{entry.source}: {entry.cmdline}"],
                    remedy=_drop(case, entry, f"rd.luks.{'name' if '=' in value else 'uuid'}={value}"),
                )
    if case.machine.has_sysfs:
        for value in line.all("rd.lvm.lv"):
            if value and case.volumes.device_named(f"/dev/{value}") is None:
                yield blocker(
                    "boot-entry.volume-missing",
                    f"rd.lvm.lv={value}",
                    f"The command line asks for the logical volume {value}, which this machine does not have.",
                    "The initramfs waits for it, gives up, and stops in a shell.",
                    evidence=[f"{entry.source}: {entry.cmdline}"],
                    remedy=_drop(case, entry, f"rd.lvm.lv={value}"),
                )
    resume = line.last("resume")
    if resume and resume != "none" and "noresume" not in line:
        tag, equals, value = resume.partition("=")
        gone = (
            case.volumes.tagged(tag, value) is None
            if equals and tag in TAGS
            else resume.startswith("/dev/") and case.machine.has_sysfs and case.volumes.device_named(resume) is None
        )
        if gone:
            yield warning(
                "boot-entry.resume-missing",
                f"resume={resume}",
                f"The command line says resume={resume}, but no device of this machine has that name.",
                "The boot waits for it for up to 90 seconds, and a hibernated system is not resumed.",
                evidence=[f"{entry.source}: {entry.cmdline}"],
                remedy=_drop(case, entry, f"resume={resume}"),
            )


# -- a shell ---------------------------------------------------------------------------------------------------

_SINGLE = ("single", "s", "S", "1", "-b", "rescue", "emergency")
"""Words that make systemd or init stop with a login for root alone (systemd(1), "Kernel command line"; init(8))."""

_BREAKS = {"initramfs-tools": "break", "mkinitcpio": "break", "dracut": "rd.break"}
"""What makes each initramfs stop in a shell (initramfs-tools(7), dracut.cmdline(7))."""

_SHELLS = ("sh", "ash", "bash", "dash", "zsh", "ksh", "busybox")


def _shell(case: Case, entry: BootEntry) -> Iterator[Finding]:
    line = command_line(case, entry)
    index = _index(case)
    stops = [word for word in _SINGLE if "" in line.all(word) and word in line]
    for name in ("systemd.unit", "rd.systemd.unit"):
        unit = line.last(name)
        if unit in ("emergency.target", "rescue.target", "rescue.service", "emergency.service"):
            stops.append(f"{name}={unit}")
    word = _BREAKS.get(index.generator if index is not None else "")
    if word is not None and word in line:
        stops.append(word)
    for name in ("init", "rdinit"):
        program = line.last(name)
        if program and program.rsplit("/", 1)[-1] in _SHELLS:
            stops.append(f"{name}={program}")
    if stops:
        yield blocker(
            "boot-entry.stops-in-shell",
            entry.title,
            f'The command line of the entry "{entry.title}" makes the boot stop in a shell: {", ".join(stops)}.',
            "The machine waits for a person at the console; none of its services start.",
            evidence=[f"{entry.source}: {entry.cmdline}"],
            remedy=_drop(case, entry, stops[0]),
        )


# -- the other entries -----------------------------------------------------------------------------------------


def _others(case: Case, entry: BootEntry) -> Iterator[Finding]:
    stale = []
    for other in case.plan.entries:
        if other is entry or other.kernel is None or other.kernel.path == (entry.kernel and entry.kernel.path):
            continue
        for file in (other.kernel, *other.initramfs):
            gone = file.absent or (file.path is not None and not case.machine.exists(file.path))
            if gone:
                stale.append(f'"{other.title}" names {file.spec} ({other.source})')
                break
    if stale:
        yield warning(
            "boot-entry.stale",
            case.plan.config or "boot menu",
            f"{len(stale)} other entries of the boot menu name files that do not exist.",
            "Whoever chooses them at the console gets an error.",
            evidence=stale[:_CAP],
            remedy=Remedy("Remove the files of these entries, or install their kernels again.")
            if _has_entry_files(case)
            else _regenerate(case),
        )
    yield from _newest(case)


def _newest(case: Case) -> Iterator[Finding]:
    if case.kernel is None:
        return
    newest = max(case.kernels, key=lambda kernel: release_key(kernel.release), default=None)
    if newest is not None and release_key(newest.release) > release_key(case.kernel.release):
        listed = any(
            other.kernel is not None
            and other.kernel.path is not None
            and (found := kernel_at(case.machine, other.kernel.path)) is not None
            and found.release == newest.release
            for other in case.plan.entries
        )
        yield (note if listed else warning)(
            "boot-entry.not-the-newest",
            newest.release,
            f"The newest installed kernel is {newest.release}; the loader starts {case.kernel.release}"
            + ("." if listed else ", and its menu does not have the newest one."),
            "The machine comes back with the older kernel.",
            evidence=[case.plan.why],
            remedy=Remedy() if listed else _regenerate(case, newest.release),
        )


_in_order = cmp_to_key(loader_conf.compare_versions)


def release_key(release: str) -> SupportsAllComparisons:
    """A sort key for kernel releases: the order of all versions, a release candidate before its release."""
    return _in_order(re.sub(r"-rc(?=\d)", "~rc", release))


CHECK = Check("boot-entry", "The boot entry resolves", essential=True, run=check)
