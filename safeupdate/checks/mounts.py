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

from safeupdate import closure, kernels
from safeupdate.case import Case, Check
from safeupdate.closure import MachineFiles
from safeupdate.errors import FormatError, Missing, Unreadable
from safeupdate.formats import cmdline, fstab, modules
from safeupdate.formats.fstab import Line
from safeupdate.formats.mountinfo import Mount
from safeupdate.initramfs import Index
from safeupdate.machine import Machine
from safeupdate.report import Finding, Remedy, blocker, unknown, warning
from safeupdate.volumes import TAGS


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_PSEUDO = _names("""
    autofs binfmt_misc bpf cgroup cgroup2 configfs debugfs devpts devtmpfs efivarfs fusectl hugetlbfs mqueue none proc
    pstore ramfs rpc_pipefs securityfs selinuxfs smackfs sysfs tmpfs tracefs usbfs
""")
"""File systems of the kernel's own memory: no device, and no module that could be missing."""

_NETWORK = _names("""
    afs ceph cifs davfs gfs gfs2 glusterfs lustre ncp ncpfs nfs nfs4 ocfs2 pvfs2 smb3 smbfs sshfs
""")
"""What systemd starts with remote-fs.target, which the boot does not wait for (fstype_is_network of systemd)."""

_ON_DEVICES = _names("""
    bcachefs btrfs erofs exfat ext2 ext3 ext4 f2fs hfs hfsplus iso9660 jfs minix msdos nilfs2 ntfs ntfs3 ntfs-3g
    reiserfs squashfs udf vfat xfs
""")

_FAMILIES = (
    frozenset({"ext2", "ext3", "ext4"}),
    frozenset({"vfat", "msdos"}),
    frozenset({"ntfs", "ntfs3", "ntfs-3g", "fuseblk"}),
    frozenset({"iso9660", "udf"}),
)
"""Types that one driver mounts under several names."""

_NO_FILE_SYSTEM = frozenset(
    {"crypto_LUKS", "LVM2_member", "linux_raid_member", "zfs_member", "swap", "DM_snapshot_cow"}
)

_BOOT_POINTS = ("/boot", "/efi", "/boot/efi")

_KERNEL_NAME = re.compile(r"(vmlinu[xz]|Image|linux|initrd|initramfs|kernel)\b|[0-9a-f]{32}$")

_UNIT_DIRECTORIES = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
"""Where systemd looks for units, the first wins (systemd.unit(5))."""

_EXECUTOR_SINCE = 255
"""systemd starts every service through systemd-executor since this version, and does not come up without it."""

_RUNS = {"x86_64": {"x86_64", "i386"}, "i686": {"i386"}, "aarch64": {"aarch64", "arm"}, "riscv64": {"riscv64"}}
"""Programs that a kernel of each architecture starts."""

State = Literal["there", "missing", "other-case", "not-known"]


def check(case: Case) -> Iterator[Finding]:
    """The first process, what systemd needs to go on, the lines of fstab, and /boot."""
    world = _World(case)
    for part in (_first_process, _merged_usr, _systemd, _lines, _boot_mounted):
        try:
            yield from part(world)
        except Unreadable as error:
            yield unknown(
                "mounts.unreadable",
                error.path,
                f"{error.path} cannot be read: {error.reason}.",
                "Whether the machine comes up with its file systems cannot be told.",
                remedy=Remedy("Run the check as root."),
            )


@dataclass(frozen=True)
class _World:
    """The case, and what several questions share."""

    case: Case

    @property
    def machine(self) -> Machine:
        return self.case.machine

    @cached_property
    def files(self) -> MachineFiles:
        return MachineFiles(self.machine)

    @cached_property
    def search(self) -> tuple[str, ...]:
        return self.files.library_directories()

    @cached_property
    def parameters(self) -> cmdline.CommandLine:
        return cmdline.parse(self.case.entry.cmdline if self.case.entry is not None else "")

    @cached_property
    def with_systemd(self) -> bool:
        """Whether the first process is systemd: another init goes on without a file system that is not there."""
        real = self.files.resolve(self.parameters.last("init") or "/sbin/init") or self.files.resolve("/sbin/init")
        if real is None:
            return self.files.resolve("/usr/lib/systemd/systemd") is not None
        return real.endswith("/systemd")

    @cached_property
    def index(self) -> Index | None:
        """The initramfs; None with none, or where it cannot be read (`initramfs` speaks of that)."""
        try:
            return self.case.index
        except Unreadable:
            return None

    @cached_property
    def systemd_in_initramfs(self) -> bool:
        init = self.index.resolve("/init") if self.index is not None else None
        return init is not None and init.endswith("/systemd")

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


# -- the first process -----------------------------------------------------------------------------------------


def _first_process(world: _World) -> Iterator[Finding]:
    asked = world.parameters.last("init")
    default = "/sbin/init"
    if asked and asked != default:
        problem = _cannot_run(world, asked)
        if problem is None:
            return
        missing = world.files.resolve(asked) is None
        has_image = world.case.entry is not None and (world.case.entry.initramfs or world.case.entry.embedded)
        if missing and has_image and world.index is None:
            yield unknown(
                "mounts.init-parameter",
                asked,
                f"The command line asks for init={asked}, and {problem}.",
                "Whether the initramfs starts /sbin/init instead cannot be told, as the image could not be read.",
            )
            return
        if not missing or not has_image or world.systemd_in_initramfs:
            yield blocker(
                "mounts.init-parameter",
                asked,
                f"The command line asks for init={asked}, and {problem}.",
                "There is no first process: the kernel panics, or the boot stops in the initramfs.",
                remedy=Remedy("Remove init= from the kernel's command line, or install that program."),
            )
            return
        yield warning(
            "mounts.init-parameter",
            asked,
            f"The command line asks for init={asked}, and {problem}.",
            "The initramfs starts /sbin/init instead.",
            remedy=Remedy("Remove init= from the kernel's command line."),
        )
    problem = _cannot_run(world, default)
    if problem is None:
        return
    systemd = "/usr/lib/systemd/systemd"
    if world.files.resolve(default) is None and world.systemd_in_initramfs and _cannot_run(world, systemd) is None:
        yield warning(
            "mounts.init-link",
            default,
            f"The first process, {default}, cannot be started: {problem}.",
            f"The initramfs starts {systemd} by itself; any other way to boot fails.",
            remedy=_reinstall(world.machine, "systemd-sysv"),
        )
        return
    yield blocker(
        "mounts.init",
        default,
        f"The first process, {default}, cannot be started: {problem}.",
        "The kernel panics (Attempted to kill init), or a bare shell waits on the console.",
        remedy=_reinstall(world.machine, "systemd-sysv" if world.with_systemd else "init"),
    )


def _cannot_run(world: _World, path: str) -> str | None:
    """Why a program does not start, as half a sentence; None where nothing stands against it."""
    real = world.files.resolve(path)
    if real is None:
        if world.machine.is_link(path):
            return f"{path} is a link to {world.machine.readlink(path)}, which does not exist"
        return f"{path} does not exist"
    status = world.machine.stat(real)
    if status is not None and not status.st_mode & 0o111:
        return f"{real} is not executable"
    lost = closure.missing(world.files, real, search=world.search)
    if lost:
        first = lost[0]
        return f"{first.name} {first.why}" + (f", and {first.needed_by} needs it" if first.name != real else "")
    return _foreign(world, real)


def _foreign(world: _World, path: str) -> str | None:
    kernel, entry = world.case.kernel, world.case.entry
    header = world.files.elf(path)
    if kernel is None or header is None:
        return None
    image = kernels.image_at(world.machine, kernel.image, embedded=entry is not None and entry.embedded)
    if image is None or header.architecture in _RUNS.get(image.architecture, {header.architecture}):
        return None
    return f"{path} is a program for {header.architecture}, and the kernel is for {image.architecture}"


def _merged_usr(world: _World) -> Iterator[Finding]:
    """All of /bin, /sbin, /lib, /lib64 are links into /usr, or none is."""
    machine = world.machine
    names = [name for name in ("/bin", "/sbin", "/lib", "/lib64") if machine.exists(name)]
    links = [name for name in names if machine.is_link(name) and machine.resolve(name).startswith("/usr/")]
    separate = [name for name in names if not machine.is_link(name)]
    if links and separate:
        yield warning(
            "mounts.usr-half-merged",
            separate[0],
            f"{_list(links)} {'are links' if len(links) > 1 else 'is a link'} into /usr, but {_list(separate)} "
            f"{'are directories' if len(separate) > 1 else 'is a directory'} of its own.",
            "Programs and libraries are looked for in the wrong one of two places; updates of the base system fail.",
            remedy=Remedy("Finish the merge.", (("apt-get", "install", "usrmerge"),))
            if machine.is_dir("/var/lib/dpkg")
            else Remedy("Move what the directory holds to /usr, and make it a link."),
        )


# -- systemd ---------------------------------------------------------------------------------------------------


def _systemd(world: _World) -> Iterator[Finding]:
    machine = world.machine
    if world.systemd_in_initramfs and not any(
        machine.exists(path) for path in ("/etc/os-release", "/usr/lib/os-release")
    ):
        yield blocker(
            "mounts.os-release",
            "/usr/lib/os-release",
            "Neither /etc/os-release nor /usr/lib/os-release exists.",
            "systemd in the initramfs takes the root for no operating system, does not switch to it, and the boot "
            "stops in emergency mode.",
            remedy=_reinstall(machine, "base-files"),
        )
    if not world.with_systemd:
        return
    yield from _programs(world)
    if machine.populated("/usr/lib/systemd/system") or machine.populated("/lib/systemd/system"):
        yield from _default_target(world)


def _programs(world: _World) -> Iterator[Finding]:
    """Programs without which systemd does not get far."""
    machine = world.machine
    needed: list[tuple[str, str, str]] = []
    if _version(world) >= _EXECUTOR_SINCE:
        needed.append(("/usr/lib/systemd/systemd-executor", "systemd", "systemd stops before it starts any service."))
    if _unit(machine, "systemd-udevd.service") is not None:
        needed.append(
            (
                "/usr/lib/systemd/systemd-udevd",
                "udev",
                "No device becomes known: file systems and the network time out, and the boot ends in emergency mode.",
            )
        )
    if any(_is_waited_for(line) or line.point == "/" for line in world.lines):
        needed.append(("/usr/bin/mount", "mount", "systemd cannot mount anything, nor make the root writable."))
    if machine.populated("/bin"):
        needed.append(("/bin/sh", "dash" if machine.exists("/usr/bin/dash") else "bash", "Services and logins fail."))
    for path, package, consequence in needed:
        if path.startswith("/usr/") and world.files.resolve(path) is None:
            path = path[len("/usr") :]
        problem = _cannot_run(world, path)
        if problem is not None:
            yield blocker(
                "mounts.program",
                path,
                f"{path}, which systemd needs, cannot be started: {problem}.",
                consequence,
                remedy=_reinstall(machine, package),
            )


def _version(world: _World) -> int:
    """systemd's major version, by the name of its private library; 0 where that does not tell."""
    real = world.files.resolve("/usr/lib/systemd/systemd") or world.files.resolve("/lib/systemd/systemd")
    header = world.files.elf(real) if real is not None else None
    for name in header.needed if header is not None else ():
        match = re.match(r"libsystemd-(?:core|shared)-(\d+)", name)
        if match:
            return int(match.group(1))
    return 0


def _unit(machine: Machine, name: str) -> str | None:
    """The file that defines a unit, aliases followed by name as systemd does; None where there is none.

    A masked unit's is `/dev/null`.
    """
    for _ in range(8):
        for directory in _UNIT_DIRECTORIES:
            path = f"{directory}/{name}"
            status = machine.stat(path, follow=False)
            if status is None:
                continue
            if not machine.is_link(path):
                return path if status.st_size else "/dev/null"
            target = machine.readlink(path)
            if target == "/dev/null":
                return target
            alias = target.rsplit("/", 1)[-1]
            if alias == name:
                if not machine.exists(path):
                    continue
                return path
            name = alias
            break
        else:
            return None
    return None


def _default_target(world: _World) -> Iterator[Finding]:
    name = world.parameters.last("systemd.unit") or "default.target"
    path = _unit(world.machine, name)
    if path is None or path == "/dev/null":
        yield blocker(
            "mounts.default-target",
            name,
            f"systemd's {name} {'is masked' if path else 'does not exist'}.",
            "systemd starts rescue mode instead and waits for a person at the console.",
            remedy=Remedy("Set what is started at boot.", (("systemctl", "set-default", "multi-user.target"),)),
        )
    for unit in ("sysinit.target", "basic.target"):
        path = _unit(world.machine, unit)
        if path is None or path == "/dev/null":
            yield blocker(
                "mounts.unit",
                unit,
                f"systemd's {unit} {'is masked' if path else 'does not exist'}.",
                "Nothing that needs it is started: no service, no login.",
                remedy=Remedy("Unmask it.", (("systemctl", "unmask", unit),))
                if path
                else _reinstall(world.machine, "systemd"),
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
    support = _Support(world)
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
                _place(line),
                f"{_place(line)} mounts {line.spec} at {line.point}, and no such device exists now.",
                "The machine comes up without it, after a wait.",
            )
    if unproved:
        yield unknown(
            "mounts.unproved",
            _place(unproved[0]),
            f"Nothing here tells whether {_list([f'{line.spec} ({line.point})' for line in unproved])} exists.",
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
                _place(line),
                f"{_place(line)} swaps to the file {line.spec}, which does not exist.",
                "The machine comes up without that swap space.",
            )
    elif _state(world, line.spec) in ("missing", "other-case"):
        yield warning(
            "mounts.swap-missing",
            _place(line),
            f"{_place(line)} swaps to {line.spec}, and no such device exists.",
            "The boot waits 90 seconds for it, and the machine comes up without that swap space.",
            remedy=Remedy("Correct the line in /etc/fstab, or remove it."),
        )


def _root_line(world: _World, line: Line) -> Iterator[Finding]:
    """`mount -o remount /` looks a tag up, and gives up where nothing has it; a device's path it does not try."""
    tag = line.spec.partition("=")[0]
    if tag not in TAGS or _state(world, line.spec) not in ("missing", "other-case"):
        return
    if world.parameters.last("root") == line.spec:
        return  # boot-entry speaks of a root that is not there
    if "rw" in world.parameters or line.has("ro"):
        yield warning(
            "mounts.root-line",
            _place(line),
            f"{_place(line)} mounts {line.spec} at /, and no such device exists.",
            "The root file system is mounted all the same; systemd-remount-fs fails.",
            remedy=_correct(line),
        )
    else:
        yield blocker(
            "mounts.root-line",
            _place(line),
            f"{_place(line)} mounts {line.spec} at /, and no such device exists.",
            "The root file system stays read-only, as it cannot be remounted, and services fail.",
            remedy=_correct(line),
        )


def _waited_for(world: _World, line: Line, support: _Support, unproved: list[Line]) -> Iterator[Finding]:
    if line.fstype in _PSEUDO and not _is_bind(line):
        return
    level = blocker if world.with_systemd else warning
    stops = (
        "systemd stops in emergency mode and waits for a person at the console."
        if world.with_systemd
        else "The machine comes up without it, or stops for a person at the console."
    )
    for unit in line.values("x-systemd.requires"):
        if not unit.startswith("/") and not _unit_may_exist(world.machine, unit):
            yield level(
                "mounts.requires",
                _place(line),
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
            _place(line),
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
                _place(line),
                f"{_place(line)} mounts the file {line.spec} at {line.point}, and it does not exist.",
                stops,
                remedy=_correct(line),
            )
        return
    state = _state(world, line.spec)
    if state == "missing":
        yield level(
            "mounts.device-missing",
            _place(line),
            f"{_place(line)} mounts {line.spec} at {line.point}, and no such device exists.",
            f"The boot waits 90 seconds for it, then {stops}" if world.with_systemd else stops,
            evidence=_present(world, line),
            remedy=_correct(line),
        )
    elif state == "other-case":
        yield level(
            "mounts.letter-case",
            _place(line),
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
    if not mounted and real is not None and not _same_type(line.fstype, real):
        yield level(
            "mounts.other-type",
            _place(line),
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
        top = next((point for root, point in volume.trees if root == "/"), None) if volume is not None else None
        if top is None:
            unproved.append(line)
        elif not world.machine.is_dir(f"{top}{subvolume}"):
            yield level(
                "mounts.subvolume-missing",
                _place(line),
                f"{_place(line)} mounts the subvolume {subvolume} of {line.spec}, and it does not exist.",
                f"It is not mounted: {stops}",
                remedy=_correct(line),
            )


def _same_type(wanted: str, real: str) -> bool:
    """Whether a file system is mounted under that type's name; types that are not known count as the same."""
    for name in wanted.split(","):
        if name == real or any({name, real} <= family for family in _FAMILIES):
            return True
        if real in _NO_FILE_SYSTEM and (name == "auto" or name in _ON_DEVICES):
            continue
        if name not in _ON_DEVICES or real not in _ON_DEVICES:
            return True
    return False


def _is_bind(line: Line) -> bool:
    return line.has("bind", "rbind") or line.fstype in ("bind", "rbind")


def _bind(world: _World, line: Line) -> Iterator[Finding]:
    if not line.spec.startswith("/") or world.machine.exists(line.spec) or _covering(world, line.spec) is not None:
        return
    yield warning(
        "mounts.bind-source-missing",
        _place(line),
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
    if _unit(machine, name) is not None or (template != name and _unit(machine, template) is not None):
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
            return "other-case" if tag in ("UUID", "PARTUUID") and _differs_in_case(world, tag, value) else "there"
        if not _facts_for(world, tag):
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
            if not _facts_for(world, tag):
                return "not-known"
            return "not-known" if _locked(world) else "missing"
    if machine.live and machine.has_sysfs:
        return "missing"
    if directory == "/dev" or directory == "/dev/mapper":
        return "missing" if machine.has_sysfs else "not-known"
    if machine.populated(directory):
        return "missing"
    links = any("DEVLINKS" in facts for facts in volumes.udev.values())
    mapped = machine.has_sysfs and directory.count("/") == 2
    return "missing" if links or mapped else "not-known"


def _facts_for(world: _World, tag: str) -> bool:
    """Whether the facts would name a device with that tag."""
    volumes = world.case.volumes
    mark = "ID_PART_ENTRY_SCHEME" if tag.startswith("PART") else "ID_FS_TYPE"
    if volumes.knows(tag) or any(mark in facts for facts in volumes.udev.values()):
        return True
    return world.machine.live and world.machine.populated("/dev/disk/by-uuid")


def _differs_in_case(world: _World, tag: str, value: str) -> bool:
    """udev's link is named as the device spells it, and mount and systemd compare texts (mount(8))."""
    directory = f"/dev/disk/{TAGS[tag]}"
    names = set(world.machine.listdir(directory))
    key = {"UUID": "ID_FS_UUID", "PARTUUID": "ID_PART_ENTRY_UUID"}[tag]
    names |= {facts[key] for facts in world.case.volumes.udev.values() if key in facts}
    return value not in names and value.lower() in {name.lower() for name in names}


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


# -- file system types -----------------------------------------------------------------------------------------


class _Support:
    """What the judged kernel and the mount programs can mount."""

    def __init__(self, world: _World) -> None:
        self._world = world

    def lacking(self, line: Line) -> list[str]:
        """What a mount of this line would not find, as half sentences; nothing where it is all there, or not known."""
        machine, release = self._world.machine, self._world.case.release
        names = ["fuse" if name.startswith("fuse") else name for name in line.fstype.split(",")]
        if release is None or "auto" in names or self._present is None:
            return []
        if not any(self._has(name) or self._helper(name) for name in names):
            return [f"neither the kernel {release} nor a program /sbin/mount.{names[0]} knows that type"]
        if names != ["vfat"] or machine.is_file("/sbin/mount.vfat"):
            return []
        return [
            f"the module {name} that it needs for file names is not there for the kernel {release}"
            for name in self._charsets(line)
            if not self._has(name)
        ]

    def _has(self, name: str) -> bool:
        present = self._present
        return present is None or bool({name.replace("-", "_"), f"fs-{name}"} & present)

    def _helper(self, name: str) -> bool:
        names = (f"mount.{name}", "mount.fuse3") if name == "fuse" else (f"mount.{name}",)
        places = ("/sbin", "/usr/sbin", "/bin", "/usr/bin")
        return any(self._world.machine.is_file(f"{place}/{helper}") for place in places for helper in names)

    def _charsets(self, line: Line) -> list[str]:
        """vfat loads the character sets of its options, else those that the kernel was configured with."""
        kernel = self._world.case.kernel
        config = (kernel.config if kernel is not None else None) or {}
        page = next(iter(line.values("codepage")), config.get("CONFIG_FAT_DEFAULT_CODEPAGE", ""))
        charset = next(iter(line.values("iocharset")), config.get("CONFIG_FAT_DEFAULT_IOCHARSET", ""))
        names = [f"nls_cp{page}"] if page else []
        return names + ([f"nls_{charset.strip(chr(34))}"] if charset else [])

    @cached_property
    def _present(self) -> frozenset[str] | None:
        """Names and `fs-` aliases of every module that is built in or whose files are there; None where not known."""
        machine, release = self._world.machine, self._world.case.release
        directory = f"/lib/modules/{release}"
        dep = machine.read_if_there(f"{directory}/modules.dep")
        builtin = machine.read_if_there(f"{directory}/modules.builtin")
        if dep is None or builtin is None:
            return None
        try:
            listed = modules.parse_dep(dep)
        except FormatError:
            return None
        aliases = machine.read_if_there(f"{directory}/modules.alias") or b""
        pairs = re.findall(rb"^alias (fs-\S+) (\S+)$", aliases, re.MULTILINE)
        built = machine.read_if_there(f"{directory}/modules.builtin.modinfo") or b""
        found = set(modules.parse_builtin(builtin))
        found.update(alias.decode("ascii", "replace") for alias in re.findall(rb"\.alias=(fs-[^\0]+)", built))
        wanted = {module.decode("ascii", "replace").replace("-", "_") for _, module in pairs} | _ON_DEVICES | {"fuse"}
        for path, needed in listed.items():
            name = modules.module_name(path)
            if name not in wanted and not name.startswith("nls_") and "/fs/" not in path:
                continue
            files = (machine.stat(f"{directory}/{each}") for each in (path, *needed))
            if all(status is not None and status.st_size for status in files):
                found.add(name)
        for alias, module in pairs:
            if module.decode("ascii", "replace").replace("-", "_") in found:
                found.add(alias.decode("ascii", "replace"))
        return frozenset(found)


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


def _place(line: Line) -> str:
    return f"/etc/fstab:{line.number}" if line.number else f"the mount unit for {line.point}"


def _list(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _correct(line: Line) -> Remedy:
    if not line.number:
        return Remedy("Correct the mount unit, or disable it.")
    return Remedy(
        f"Correct line {line.number} of /etc/fstab, or add nofail to its options; blkid lists what there is.",
        (("blkid",), ("findmnt", "--verify")),
    )


def _reinstall(machine: Machine, package: str) -> Remedy:
    """Install a package of that name again; rpm systems have these programs in packages named otherwise."""
    if machine.is_dir("/var/lib/dpkg"):
        return Remedy("Install the package again.", (("apt-get", "install", "--reinstall", package),))
    names = {
        "systemd-sysv": "systemd",
        "udev": "systemd-udev",
        "mount": "util-linux-core",
        "base-files": "system-release",
    }
    if machine.exists("/usr/bin/dnf"):
        return Remedy("Install the package again.", (("dnf", "reinstall", names.get(package, package)),))
    return Remedy(f"Install the package that brings it ({names.get(package, package)}) again.")


CHECK = Check(
    id="mounts",
    title="The file systems that the boot waits for exist, and init starts",
    essential=True,
    run=check,
    per_entry=False,
)
