"""Does the first process start, and what systemd needs to get on? A part of the check `mounts`.

Who starts what: Documentation/admin-guide/init.rst of the kernel; initramfs-tools' and dracut's `init`; systemd's
`systemctl switch-root`, which asks for an os-release file and for an `init=` that is executable.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from safeupdate import closure, kernels
from safeupdate.case import Case
from safeupdate.closure import MachineFiles
from safeupdate.errors import Unreadable
from safeupdate.formats import cmdline
from safeupdate.initramfs import Index
from safeupdate.machine import Machine
from safeupdate.report import Finding, Remedy, blocker, unknown, warning

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


@dataclass(frozen=True)
class World:
    """The case, and what several questions about its root file system share."""

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


# -- the first process -----------------------------------------------------------------------------------------


def first_process(world: World) -> Iterator[Finding]:
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
            remedy=_reinstall(world.machine, "systemd-sysv", default),
        )
        return
    yield blocker(
        "mounts.init",
        default,
        f"The first process, {default}, cannot be started: {problem}.",
        "The kernel panics (Attempted to kill init), or a bare shell waits on the console.",
        remedy=_reinstall(world.machine, "systemd-sysv" if world.with_systemd else "init", _lost(world, default)),
    )


def _cannot_run(world: World, path: str) -> str | None:
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


def _foreign(world: World, path: str) -> str | None:
    kernel, entry = world.case.kernel, world.case.entry
    header = world.files.elf(path)
    if kernel is None or header is None:
        return None
    image = kernels.image_at(world.machine, kernel.image, embedded=entry is not None and entry.embedded)
    if image is None or header.architecture in _RUNS.get(image.architecture, {header.architecture}):
        return None
    return f"{path} is a program for {header.architecture}, and the kernel is for {image.architecture}"


def merged_usr(world: World) -> Iterator[Finding]:
    """All of /bin, /sbin, /lib, /lib64 are links into /usr, or none is."""
    machine = world.machine
    names = [name for name in ("/bin", "/sbin", "/lib", "/lib64") if machine.exists(name)]
    links = [name for name in names if machine.is_link(name) and machine.resolve(name).startswith("/usr/")]
    separate = [name for name in names if not machine.is_link(name)]
    if links and separate:
        yield warning(
            "mounts.usr-half-merged",
            separate[0],
            f"{listed(links)} {'are links' if len(links) > 1 else 'is a link'} into /usr, but {listed(separate)} "
            f"{'are directories' if len(separate) > 1 else 'is a directory'} of its own.",
            "Programs and libraries are looked for in the wrong one of two places; updates of the base system fail.",
            remedy=Remedy("Finish the merge.", (("apt-get", "install", "usrmerge"),))
            if machine.is_dir("/var/lib/dpkg")
            else Remedy("Move what the directory holds to /usr, and make it a link."),
        )


# -- systemd ---------------------------------------------------------------------------------------------------


def systemd(world: World) -> Iterator[Finding]:
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


def _programs(world: World) -> Iterator[Finding]:
    """Programs without which systemd does not get far."""
    machine = world.machine
    needed: list[tuple[str, str, str]] = []
    if _version(world) >= _EXECUTOR_SINCE:
        needed.append(("/usr/lib/systemd/systemd-executor", "systemd", "systemd stops before it starts any service."))
    if unit_path(machine, "systemd-udevd.service") is not None:
        needed.append(
            (
                "/usr/lib/systemd/systemd-udevd",
                "udev",
                "No device becomes known: file systems and the network time out, and the boot ends in emergency mode.",
            )
        )
    if any(line.point.startswith("/") for line in world.case.volumes.fstab):
        needed.append(("/usr/bin/mount", "mount", "systemd cannot mount anything, nor make the root writable."))
    if machine.populated("/bin"):
        needed.append(("/bin/sh", "dash" if machine.exists("/usr/bin/dash") else "bash", "Services and logins fail."))
    lost_by_init = _lost(world, "/sbin/init") if _cannot_run(world, "/sbin/init") is not None else None
    for path, package, consequence in needed:
        if path.startswith("/usr/") and world.files.resolve(path) is None:
            path = path[len("/usr") :]
        problem = _cannot_run(world, path)
        if problem is not None and _lost(world, path) != lost_by_init:
            yield blocker(
                "mounts.program",
                path,
                f"{path}, which systemd needs, cannot be started: {problem}.",
                consequence,
                remedy=_reinstall(machine, package, _lost(world, path)),
            )


def _version(world: World) -> int:
    """systemd's major version, by the name of its private library; 0 where that does not tell."""
    real = world.files.resolve("/usr/lib/systemd/systemd") or world.files.resolve("/lib/systemd/systemd")
    header = world.files.elf(real) if real is not None else None
    for name in header.needed if header is not None else ():
        match = re.match(r"libsystemd-(?:core|shared)-(\d+)", name)
        if match:
            return int(match.group(1))
    return 0


def unit_path(machine: Machine, name: str) -> str | None:
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


def _default_target(world: World) -> Iterator[Finding]:
    name = world.parameters.last("systemd.unit") or "default.target"
    path = unit_path(world.machine, name)
    if path is None or path == "/dev/null":
        yield blocker(
            "mounts.default-target",
            name,
            f"systemd's {name} {'is masked' if path else 'does not exist'}.",
            "systemd starts rescue mode instead and waits for a person at the console.",
            remedy=Remedy("Set what is started at boot.", (("systemctl", "set-default", "multi-user.target"),)),
        )
    for unit in ("sysinit.target", "basic.target"):
        path = unit_path(world.machine, unit)
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


# -- words -----------------------------------------------------------------------------------------------------


def listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _lost(world: World, path: str) -> str:
    """The first file that a program does not find; the program where it is that itself."""
    lost = closure.missing(world.files, path, search=world.search)
    return lost[0].name if lost else path


def _owner(machine: Machine, name: str) -> str | None:
    """The Debian package that brought a file of that name: every package has a list of its files (dpkg(1))."""
    directory = "/var/lib/dpkg/info"
    ending = f"/{name.rsplit('/', 1)[-1]}\n".encode("utf-8", "surrogateescape")
    for entry in machine.listdir(directory):
        if entry.endswith(".list") and ending in (machine.read_if_there(f"{directory}/{entry}") or b""):
            return entry[: -len(".list")]
    return None


def _reinstall(machine: Machine, package: str, lost: str | None = None) -> Remedy:
    """Install the package again that brings the lost file, else that one; rpm systems name some otherwise."""
    if machine.is_dir("/var/lib/dpkg"):
        package = (_owner(machine, lost) if lost is not None else None) or package
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
