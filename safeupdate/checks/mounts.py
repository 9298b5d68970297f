"""Do the file systems that systemd waits for exist, is /boot really mounted, and does /sbin/init start?

What stops a boot: a line of fstab without `nofail` whose device never appears (systemd.mount(5), "fstab"; the boot
ends in emergency.target), a root that cannot be remounted read-write, and a first process that cannot be executed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from safeupdate.case import Case, Check
from safeupdate.checks import selinux
from safeupdate.checks.first_process import World, first_process, listed, merged_usr, systemd, unit_path
from safeupdate.checks.mount_options import refused
from safeupdate.checks.mount_types import Support, is_on_device, same_type, words
from safeupdate.errors import Missing, Unreadable
from safeupdate.formats import fstab
from safeupdate.formats.fstab import Line
from safeupdate.formats.mountinfo import Mount
from safeupdate.machine import Machine
from safeupdate.report import Finding, Remedy, blocker, unknown, warning
from safeupdate.volumes import TAGS

_PSEUDO = words("""
    autofs binfmt_misc bpf cgroup cgroup2 configfs debugfs devpts devtmpfs efivarfs fusectl hugetlbfs mqueue none proc
    pstore ramfs rpc_pipefs securityfs selinuxfs smackfs sysfs tmpfs tracefs usbfs
""")
"""File systems of the kernel's own memory: no device, and no module that could be missing."""

_NETWORK = words("""
    afs ceph cifs davfs gfs gfs2 glusterfs lustre ncp ncpfs nfs nfs4 ocfs2 pvfs2 smb3 smbfs sshfs
""")
"""What systemd starts with remote-fs.target, which the boot does not wait for (fstype_is_network of systemd)."""

_BOOT_POINTS = ("/boot", "/efi", "/boot/efi")

_KERNEL_NAME = re.compile(r"(vmlinu[xz]|Image|linux|initrd|initramfs|kernel)\b|[0-9a-f]{32}$")

State = Literal["there", "missing", "other-case", "not-known"]


@dataclass(frozen=True)
class _World(World):
    """The same, with what is mounted, and is to be."""

    @cached_property
    def lines(self) -> tuple[Line, ...]:
        """fstab's lines, the first for each mount point (systemd ignores a second), and enabled mount units."""
        found: dict[tuple[str, str], Line] = {}
        for line in (*self.case.volumes.fstab, *_mount_units(self.machine)):
            found.setdefault((line.point, line.spec if not line.point.startswith("/") else ""), line)
        return tuple(found.values())

    def mount_at(self, point: str) -> Mount | None:
        """What is mounted at a directory now; None with nothing there, or where that is not known."""
        with suppress(Missing):
            point = self.machine.resolve(point)
        return next((mount for mount in reversed(self.case.volumes.mounts) if mount.point == point), None)


def check(case: Case) -> Iterator[Finding]:
    """The first process, what systemd needs to go on, the lines of fstab, and /boot."""
    world = _World(case)
    for part in (first_process, merged_usr, systemd, selinux.policy, _lines, _boot_mounted):
        try:
            yield from part(world)
        except Unreadable as error:
            yield unknown(
                "mounts.unreadable",
                error.path,
                f"{error.path} cannot be read: {error.reason}.",
                "Whether the machine comes up with its file systems cannot be told.",
                remedy=Remedy("Run the check as root.") if world.machine.live else Remedy(),
            )


def _mount_units(machine: Machine) -> Iterator[Line]:
    """Mount units that local-fs.target requires, as lines of fstab (systemd.mount(5)); their number is 0."""
    directory = "/etc/systemd/system/local-fs.target.requires"
    for name in machine.listdir(directory):
        text = machine.text(f"{directory}/{name}") if name.endswith(".mount") else None
        if text is None:
            continue
        keys = dict(line.strip().split("=", 1) for line in text.splitlines() if "=" in line)
        if "What" in keys and "Where" in keys:
            options = tuple(option for option in keys.get("Options", "").split(",") if option)
            yield Line(0, keys["What"], keys["Where"].rstrip("/") or "/", keys.get("Type") or "auto", options)


# -- fstab -----------------------------------------------------------------------------------------------------


def _is_remote(line: Line) -> bool:
    return line.has("_netdev") or line.fstype.rpartition("fuse.")[2] in _NETWORK


def _is_waited_for(line: Line) -> bool:
    """Whether systemd stops the boot when this cannot be mounted."""
    return (
        line.point.startswith("/")
        and line.point != "/"
        and line.fstype not in ("swap", "ignore")
        and not line.has("noauto", "nofail", "x-systemd.automount")
        and not _is_remote(line)
    )


def _lines(world: _World) -> Iterator[Finding]:
    data = world.machine.read_if_there("/etc/fstab") or b""
    for bad in fstab.parse(data).bad:
        yield warning(
            "mounts.bad-line",
            f"/etc/fstab:{bad.number}",
            f"Line {bad.number} of /etc/fstab is not understood: {bad.why}.",
            "What it was to mount is not mounted.",
            evidence=[bad.text],
        )
    unproved: list[Line] = []
    support = Support(world.case)
    for line in world.lines:
        if line.fstype == "swap":
            yield from _swap(world, line)
        elif line.point == "/":
            yield from _root_line(world, line)
        elif _is_waited_for(line):
            yield from _waited_for(world, line, support, unproved)
        elif line.has("_netdev") and not line.has("noauto", "nofail") and _state(world, line.spec) == "missing":
            yield warning(
                "mounts.network-device-missing",
                _subject(line),
                f"{_place(line)} mounts {line.spec} at {line.point}, and no such device exists now.",
                "The machine comes up without it, after a wait.",
            )
    if unproved:
        yield unknown(
            "mounts.unproved",
            _place(unproved[0]),
            f"Nothing here tells whether {listed([f'{line.spec} ({line.point})' for line in unproved])} exists.",
            "Where it does not, systemd waits 90 seconds for it and then stops in emergency mode.",
            evidence=[f"{_place(line)}: {line.spec} {line.point} {line.fstype}" for line in unproved],
            remedy=Remedy(
                "Run the check on the machine itself or on a tree that `safeupdate capture` made, or add nofail to "
                "what the machine can do without."
            ),
        )


def _swap(world: _World, line: Line) -> Iterator[Finding]:
    if line.has("noauto", "nofail") or line.spec.startswith("/dev/zram"):
        return
    if line.spec.startswith("/") and not line.spec.startswith("/dev/"):
        if not world.machine.exists(line.spec) and _covering(world, line.spec) is None:
            yield warning(
                "mounts.swap-file-missing",
                _subject(line),
                f"{_place(line)} swaps to the file {line.spec}, which does not exist.",
                "The machine comes up without that swap space.",
            )
    elif _state(world, line.spec) in ("missing", "other-case"):
        yield warning(
            "mounts.swap-missing",
            _subject(line),
            f"{_place(line)} swaps to {line.spec}, and no such device exists.",
            "The boot waits 90 seconds for it, and the machine comes up without that swap space.",
            remedy=Remedy("Correct the line in /etc/fstab, or remove it."),
        )


def _root_line(world: _World, line: Line) -> Iterator[Finding]:
    """`mount -o remount /` looks a tag up, and gives up where nothing has it; a device's path it does not try."""
    root = world.mount_at("/")
    wrong = refused(world.case, root.fstype if root is not None else line.fstype, line.options)
    if wrong:
        writable = "rw" in world.parameters
        yield (warning if writable else blocker)(
            "mounts.root-option",
            _subject(line),
            f"{_place(line)} mounts the root file system with the option {listed(wrong)}, which it does not take.",
            "It is not mounted anew with what this line asks for: systemd-remount-fs fails"
            + ("." if writable else ", the root file system stays read-only, and services fail."),
            evidence=[f"options: {','.join(line.options)}"],
            remedy=_correct(line),
        )
    tag = line.spec.partition("=")[0]
    if tag not in TAGS or _state(world, line.spec) not in ("missing", "other-case"):
        return
    if world.parameters.last("root") == line.spec:
        return  # boot-entry speaks of a root that is not there
    if "rw" in world.parameters or line.has("ro"):
        yield warning(
            "mounts.root-line",
            _subject(line),
            f"{_place(line)} mounts {line.spec} at /, and no such device exists.",
            "The root file system is mounted all the same; systemd-remount-fs fails.",
            remedy=_correct(line),
        )
    else:
        yield blocker(
            "mounts.root-line",
            _subject(line),
            f"{_place(line)} mounts {line.spec} at /, and no such device exists.",
            "The root file system stays read-only, as it cannot be remounted, and services fail.",
            remedy=_correct(line),
        )


def _waited_for(world: _World, line: Line, support: Support, unproved: list[Line]) -> Iterator[Finding]:
    level = blocker if world.with_systemd else warning
    stops = (
        "systemd stops in emergency mode and waits for a person at the console."
        if world.with_systemd
        else "init goes on without it, or stops for a person at the console."
    )
    wrong = [] if _is_bind(line) else refused(world.case, line.fstype, line.options)
    if wrong:
        yield level(
            "mounts.option",
            _subject(line),
            f"{_place(line)} mounts {line.spec} at {line.point} with the option {listed(wrong)}, which {line.fstype} "
            "does not take.",
            f"It is not mounted: {stops}",
            evidence=[f"options: {','.join(line.options)}"],
            remedy=_correct(line),
        )
    if line.fstype in _PSEUDO and not _is_bind(line):
        return
    for unit in line.values("x-systemd.requires"):
        if not unit.startswith("/") and not _unit_may_exist(world.machine, unit):
            yield level(
                "mounts.requires",
                _subject(line),
                f"{_place(line)} requires the unit {unit} for {line.point}, and there is no such unit.",
                stops,
                remedy=_correct(line),
            )
    if _is_bind(line):
        yield from _bind(world, line)
        return
    for lacking in support.lacking(line):
        yield level(
            "mounts.type",
            _subject(line),
            f"{_place(line)} mounts {line.spec} at {line.point} as {line.fstype}, and {lacking}.",
            f"It is not mounted: {stops}",
            remedy=_correct(line),
        )
    if line.fstype.partition(".")[0] in ("overlay", "aufs", "unionfs", "fuse", "zfs", "9p", "virtiofs"):
        if line.fstype in ("zfs", "9p", "virtiofs") and world.mount_at(line.point) is None:
            unproved.append(line)
        return
    if line.spec.startswith("/") and not line.spec.startswith("/dev/"):
        if world.machine.exists(line.spec):
            return
        if _covering(world, line.spec) is not None:
            unproved.append(line)
        else:
            yield level(
                "mounts.file-missing",
                _subject(line),
                f"{_place(line)} mounts the file {line.spec} at {line.point}, and it does not exist.",
                stops,
                remedy=_correct(line),
            )
        return
    if line.spec.partition("=")[0] not in TAGS and not line.spec.startswith("/"):
        if is_on_device(line.fstype) and world.mount_at(line.point) is None:
            unproved.append(line)
        return  # a name that only this type's own driver understands
    state = _state(world, line.spec)
    if state == "missing":
        yield level(
            "mounts.device-missing",
            _subject(line),
            f"{_place(line)} mounts {line.spec} at {line.point}, and no such device exists.",
            f"The boot waits 90 seconds for it, then {stops}" if world.with_systemd else stops,
            evidence=_present(world, line),
            remedy=_correct(line),
        )
    elif state == "other-case":
        yield level(
            "mounts.letter-case",
            _subject(line),
            f"{_place(line)} names {line.spec}; the device's own has other upper and lower case letters.",
            f"They are compared as texts, so that it is not found: {stops}",
            evidence=_present(world, line),
            remedy=_correct(line),
        )
    elif state == "not-known":
        mount = world.mount_at(line.point)
        if mount is None or mount.fstype == "autofs" or line.fstype not in ("auto", mount.fstype):
            unproved.append(line)
    else:
        yield from _content(world, line, level, stops, unproved)


def _content(
    world: _World, line: Line, level: Callable[..., Finding], stops: str, unproved: list[Line]
) -> Iterator[Finding]:
    """The device is there. Does it hold a file system of that type, and the subvolume?"""
    volumes = world.case.volumes
    devices = volumes.source_devices(line.spec)
    mount = world.mount_at(line.point)
    mounted = mount is not None and bool(volumes.source_devices(mount.source, mount.device) & devices)
    real = next((kind for device in devices if (kind := volumes.udev.get(device, {}).get("ID_FS_TYPE"))), None)
    if not mounted and real is not None and not same_type(line.fstype, real):
        yield level(
            "mounts.other-type",
            _subject(line),
            f"{_place(line)} mounts {line.spec} as {line.fstype}, and it holds {real}.",
            f"It is not mounted: {stops}",
            remedy=_correct(line),
        )
        return
    for subvolume in line.values("subvol") if real == "btrfs" or line.fstype == "btrfs" else ():
        subvolume = "/" + subvolume.strip("/")
        if mounted and mount is not None and mount.root == subvolume:
            continue
        volume = next((volume for volume in volumes.seen if volume.devices & devices), None)
        there = volumes.has_subvolume(volume, subvolume) if volume is not None else None
        if there is None:
            unproved.append(line)
        elif not there:
            yield level(
                "mounts.subvolume-missing",
                _subject(line),
                f"{_place(line)} mounts the subvolume {subvolume} of {line.spec}, and it does not exist.",
                f"It is not mounted: {stops}",
                remedy=_correct(line),
            )


def _is_bind(line: Line) -> bool:
    return line.has("bind", "rbind") or line.fstype in ("bind", "rbind")


def _bind(world: _World, line: Line) -> Iterator[Finding]:
    if not line.spec.startswith("/") or world.machine.exists(line.spec) or _covering(world, line.spec) is not None:
        return
    yield warning(
        "mounts.bind-source-missing",
        _subject(line),
        f"{_place(line)} shows {line.spec} at {line.point}, and it does not exist.",
        "systemd makes an empty directory of that name and shows that instead.",
        remedy=_correct(line),
    )


def _covering(world: _World, path: str) -> Line | None:
    """The line whose file system, not mounted now as far as is known, holds `path`."""
    for line in world.lines:
        if line.point not in ("/", path) and path.startswith(line.point + "/") and world.mount_at(line.point) is None:
            return line
    return None


def _unit_may_exist(machine: Machine, name: str) -> bool:
    """False only where the unit's file is missing and generators' output is here to be looked through."""
    template = re.sub(r"@[^.]*\.", "@.", name)
    if unit_path(machine, name) is not None or (template != name and unit_path(machine, template) is not None):
        return True
    return not name.endswith((".service", ".socket", ".target")) or not machine.populated("/run/systemd/generator")


# -- devices ---------------------------------------------------------------------------------------------------


def _state(world: _World, spec: str) -> State:
    """Whether the device that a line names exists on this machine, by its facts."""
    machine, volumes = world.machine, world.case.volumes
    tag, equals, value = spec.partition("=")
    if equals and tag in TAGS:
        value = value.strip("\"'")
        if volumes.devices_tagged(tag, value):
            return "other-case" if volumes.differs_in_case(tag, value) else "there"
        if not world.case.volumes.knows(tag):
            return "not-known"
        return "not-known" if _locked(world) else "missing"
    if not spec.startswith("/dev/"):
        return "not-known"
    if machine.stat(spec, follow=False) is not None or volumes.device_named(spec) is not None:
        return "there"
    directory, _, name = spec.rpartition("/")
    if directory == "/dev/mapper" and name in _locked(world):
        return _state(world, _locked(world)[name])
    for tag, by in TAGS.items():
        if directory == f"/dev/disk/{by}":
            if not world.case.volumes.knows(tag):
                return "not-known"
            return "not-known" if _locked(world) else "missing"
    if machine.live and machine.has_sysfs:
        return "missing"
    if directory == "/dev" or directory == "/dev/mapper":
        return "missing" if machine.has_sysfs else "not-known"
    if machine.populated(directory):
        return "missing"
    if directory not in ("/dev/md", "/dev/disk", "/dev/block") and directory.count("/") == 2 and machine.has_sysfs:
        return "missing"  # an LVM group: sysfs has its volumes' names
    return "missing" if _links_known(world) else "not-known"


def _links_known(world: _World) -> bool:
    """Whether udev's records (`S:` lines) hold the names of its links."""
    return any(
        "\nS:" in "\n" + (world.machine.text(f"/run/udev/data/{name}") or "")
        for name in world.machine.listdir("/run/udev/data")
        if name.startswith("b")
    )


def _locked(world: _World) -> dict[str, str]:
    """Mappings that crypttab(5) opens at boot and that are not open now, with the device under each."""
    found = {}
    for raw in (world.machine.text("/etc/crypttab") or "").splitlines():
        fields = raw.split()
        if len(fields) < 2 or fields[0].startswith("#") or (len(fields) > 3 and "noauto" in fields[3].split(",")):
            continue
        if world.case.volumes.device_named(f"/dev/mapper/{fields[0]}") is None:
            found[fields[0]] = fields[1]
    return found


def _present(world: _World, line: Line) -> list[str]:
    """What this machine has of that kind, to see the difference."""
    tag = line.spec.partition("=")[0]
    directory = f"/dev/disk/{TAGS[tag]}" if tag in TAGS else line.spec.rpartition("/")[0]
    names = world.machine.listdir(directory)
    return [f"{_place(line)}: {line.spec} {line.point} {line.fstype}", *(f"{directory}/{name}" for name in names[:20])]


# -- /boot -----------------------------------------------------------------------------------------------------


def _boot_mounted(world: _World) -> Iterator[Finding]:
    """A /boot or ESP that fstab mounts and that is not mounted now: what was written there is not what boots."""
    volumes = world.case.volumes
    if not any(mount.point == "/" for mount in volumes.mounts):
        return
    for line in world.lines:
        if line.point not in _BOOT_POINTS or line.has("noauto", "x-systemd.automount") or _is_bind(line):
            continue
        mount = world.mount_at(line.point)
        if mount is None:
            yield from _not_mounted(world, line)
            continue
        mounted = volumes.source_devices(mount.source, mount.device)
        named = volumes.source_devices(line.spec)
        if mount.fstype != "autofs" and mounted and named and not mounted & named:
            yield warning(
                "mounts.boot-other-device",
                line.point,
                f"{_place(line)} mounts {line.spec} at {line.point}; mounted there now is {mount.source}.",
                "Kernels that are installed now are not where the machine looks for them after a reboot.",
                remedy=_correct(line),
            )


def _not_mounted(world: _World, line: Line) -> Iterator[Finding]:
    names = [name for name in world.machine.listdir(line.point) if name not in ("efi", "lost+found")]
    kernels_here = [name for name in names if _KERNEL_NAME.match(name)]
    loader = world.case.plan.loader
    remedy = Remedy(
        f"Mount {line.point}, and install the kernel again if an update has written to the directory under it.",
        (("mount", line.point),),
    )
    evidence = [f"{line.point}/{name}" for name in names[:20]]
    what = f"{_place(line)} mounts {line.spec} at {line.point}, but nothing is mounted there now"
    if kernels_here:
        yield blocker(
            "mounts.boot-shadowed",
            line.point,
            f"{what}, and kernels lie in the directory itself.",
            "The boot loader reads the file system, not the directory: it starts an older kernel, whose modules may "
            "be gone.",
            evidence=evidence,
            remedy=remedy,
        )
    elif line.point == "/boot" or loader == "systemd-boot":
        yield unknown(
            "mounts.boot-not-mounted",
            line.point,
            f"{what}.",
            "What the boot loader finds there cannot be told.",
            evidence=evidence,
            remedy=remedy,
        )
    else:
        yield warning(
            "mounts.esp-not-mounted",
            line.point,
            f"{what}.",
            "Updates of the boot loader do not reach it.",
            evidence=evidence,
            remedy=remedy,
        )


# -- words -----------------------------------------------------------------------------------------------------


def _subject(line: Line) -> str:
    """What the line is about, which stays the same when lines above it come and go."""
    return line.point if line.point.startswith("/") else line.spec


def _place(line: Line) -> str:
    return f"/etc/fstab:{line.number}" if line.number else f"the mount unit for {line.point}"


def _correct(line: Line) -> Remedy:
    if not line.number:
        return Remedy("Correct the mount unit, or disable it.")
    return Remedy(
        f"Correct line {line.number} of /etc/fstab, or add nofail to its options; blkid lists what there is.",
        (("blkid",), ("findmnt", "--verify")),
    )


CHECK = Check(
    id="mounts",
    title="The file systems that the boot waits for exist, and init starts",
    essential=True,
    run=check,
    per_entry=False,
)
