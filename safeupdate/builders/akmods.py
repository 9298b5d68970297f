"""akmods, which builds modules on Fedora and with RPM Fusion's packages: what it was to build for a kernel and has.

A package akmod-NAME brings sources, /usr/src/akmods/NAME-kmod-VERSION-RELEASE.src.rpm, and a link NAME-kmod.latest to
them, from which akmods(1), a shell script, makes a package kmod-NAME-KERNEL for each kernel and installs it: in the
background after a kernel was installed (akmods@KERNEL.service), and at boot for the kernel that then runs
(akmods.service). What it made, and a log, stays in /var/cache/akmods/NAME. Its services succeed where a build fails.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Callable

from safeupdate import packages, remedies
from safeupdate.builders import Brought, Fault, State, World, log_says, units
from safeupdate.errors import Missing, Unreadable
from safeupdate.formats import make_log
from safeupdate.formats.make_log import MakeLog
from safeupdate.formats.modules import is_module, module_name
from safeupdate.machine import Machine
from safeupdate.report import Remedy

SOURCES = "/usr/src/akmods"
RESULTS = "/var/cache/akmods"

_LINK = re.compile(r"(\w[\w.+-]*)-kmod\.latest")

_LOCKS = ("/run/akmods/akmods.lock", "/var/lock/subsys/akmods")
"""Held while akmods runs, by whomever it was started: by 0.5.10, and by 0.5.6."""

_PLACES = ("extra/", "updates/", "weak-updates/")
"""Where below a kernel's modules a package kmod-NAME has the directory NAME; the last has links of weak-modules."""

_DISTRIBUTION = re.compile(r"\.(?:fc|el|lvn)[0-9]*")
"""What akmods takes out of a version and release before it names a log after them."""

_FAILED = ".failed.log"

_STAMP = re.compile(rb"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d akmods(?:build)?: ", re.MULTILINE)
"""What akmods puts before the lines of a build."""

_TAIL = 128 << 10
"""Bytes of a log's end that are read."""

_PAUSE = 1.0
"""Seconds between two looks at whether akmods is done; a build takes minutes."""


@dataclass(frozen=True)
class Akmod:
    """One akmod, and how it stands for one kernel release.

    `installed`: its modules are there, of the newest version or an older one. `built`: they are only in the package
    that was made of them. `building`: akmods is at work now. `failed`: the newest version could not be built.
    `waiting`: nothing was tried, and akmods will at the next boot. `absent`: nor will it.
    """

    name: str
    version: str
    source: str | None
    """The source package; None where the link to it leads nowhere."""
    state: State
    modules: tuple[str, ...]
    """The kernel's names of what it brings, by what it brought for this kernel, or else for others."""
    package: str
    """The package that it makes for this kernel."""
    built: str | None
    """The file of that package, where it was made and kept."""
    starts_at_boot: bool
    """Whether akmods runs at the next boot by itself."""
    can_build: bool
    """Whether what modules are built against, kernel-devel, is there for this kernel."""
    log: str | None
    """Of the last try of the newest version that failed, or that came to no end."""
    told: MakeLog | None
    """What that log tells."""

    @property
    def failed(self) -> bool:
        """Whether the newest version could not be built, or not installed."""
        return self.log is not None and self.log.endswith(_FAILED)

    @property
    def comes_at_boot(self) -> bool:
        """Whether akmods makes and installs it at the next boot; what failed would fail again."""
        ready = self.starts_at_boot and self.can_build and self.source is not None
        return ready and self.state != "installed" and not self.failed


def look(world: World) -> Iterator[Brought]:
    """Every module of every akmod, for the kernel that is judged. Raises `Unreadable`.

    `building` is only what akmods would make at the next boot too, were it cut short by that. What it would make then
    from what was never tried, or was made and is gone, is `waiting`.
    """
    release = world.tree.kernel.release
    for one in akmods(world.machine, release):
        provider = f"akmod-{one.name}"
        state, fault, why, remedy = _told(one, release)
        lines = one.told.lines if one.told is not None and one.failed else ()
        for module in one.modules:
            path = next((path for path in world.tree.named(module) if path.startswith(_PLACES)), None)
            yield Brought(module, provider, state, path, fault, why, lines, remedy)


def akmods(machine: Machine, release: str) -> tuple[Akmod, ...]:
    """Every akmod on this machine, for one kernel, by name. Raises `Unreadable`."""
    names = [found[1] for name in machine.listdir(SOURCES) if (found := _LINK.fullmatch(name)) is not None]
    if not names:
        return ()
    busy = building(machine)
    at_boot = units.enabled(machine, "akmods.service") and not machine.exists("/run/ostree-booted")
    can_build = any(
        machine.is_file(f"{place}/Makefile")
        for place in (f"/usr/src/kernels/{release}", f"/lib/modules/{release}/build")
    )
    return tuple(_akmod(machine, release, name, busy, at_boot, can_build) for name in names)


def building(machine: Machine) -> bool:
    """Whether akmods is at work at this moment, for whatever kernel. Only of a live machine this can be known; what
    cannot be read tells nothing."""
    if not machine.live:
        return False
    with suppress(Unreadable):
        if units.at_work(machine, "akmods"):
            return True
    return packages.locked(machine, _LOCKS) is not None


def wait(machine: Machine, *, seconds: float, progress: Callable[[str], None]) -> bool:
    """Wait until akmods is not at work, at most so many seconds; whether that came about.

    What was read of /lib/modules before is old then: `Machine.below` keeps it.
    """
    end = time.monotonic() + seconds
    told = False
    while building(machine):
        if time.monotonic() >= end:
            return False
        if not told:
            progress("akmods is building modules: waiting for it to end")
            told = True
        time.sleep(_PAUSE)
    return True


def _told(one: Akmod, release: str) -> tuple[State, Fault, str, Remedy]:
    """What a person is told of an akmod: its state, what stands in the way, more about that, and what helps."""
    build = ("akmods", "--force", "--kernels", release)
    rebuild = Remedy(
        "Build it again, with a newer version of the package, or when what the log says is mended.",
        (("dnf", "upgrade", f"akmod-{one.name}"), build),
    )
    if one.state == "installed":
        return "installed", "", "", Remedy()
    if one.state == "building":
        remedy = Remedy("Wait until akmods has ended, and check again.")
        if one.comes_at_boot:
            return "building", "", "akmods is at work on it; cut short, it goes on when the machine starts.", remedy
        return "absent", "", "akmods is at work on it; cut short, it does not go on when the machine starts.", remedy
    if one.failed and one.built is not None:
        why = f"akmods could not install {one.built} ({one.log})."
        return "built", "", why, Remedy("Install it, and see why it cannot be.", (("dnf", "install", one.built),))
    if one.failed:
        cause: Fault = one.told.cause if one.told is not None else "build"
        return "failed", cause, log_says(str(one.log), one.told), rebuild
    if one.comes_at_boot:
        remedy = Remedy("Have akmods build it now.", (build,))
        return "waiting", "", "akmods will build it when the machine starts.", remedy
    if not one.can_build:
        devel = remedies.kernel_devel(release)
        remedy = Remedy(f"Install {devel}, and have akmods build it.", (("dnf", "install", devel), build))
        return "absent", "headers", f"They are in the package {devel}.", remedy
    if one.source is None:
        why = f"{SOURCES}/{one.name}-kmod.latest leads to no file."
        return "absent", "source", why, Remedy("Install it again.", (("dnf", "reinstall", f"akmod-{one.name}"), build))
    why = "akmods does not start with the machine."
    start = ("systemctl", "enable", "akmods.service")
    return "absent", "", why, Remedy("Have akmods build it, and start with the machine.", (build, start))


def _akmod(machine: Machine, release: str, name: str, busy: bool, at_boot: bool, can_build: bool) -> Akmod:
    try:
        source = machine.resolve(f"{SOURCES}/{name}-kmod.latest")
    except Missing:
        source = ""
    match = re.fullmatch(r".+-([^-]+-[^-]+)\.src\.rpm", source)
    version = _DISTRIBUTION.sub("", match[1]) if match is not None else ""
    package = f"kmod-{name}-{release}"
    built = _built(machine, f"{RESULTS}/{name}", package, version)
    modules = _modules(machine, release, name)
    log = _log(machine, f"{RESULTS}/{name}", version, release)
    state: State
    if modules:
        state = "installed"
    elif busy:
        state = "building"
    elif built is not None:
        state = "built"
    elif log is not None and log.endswith(_FAILED):
        state = "failed"
    else:
        state = "waiting" if at_boot and can_build else "absent"
    return Akmod(
        name=name,
        version=version,
        source=source if machine.is_file(source) else None,
        state=state,
        modules=tuple(sorted(modules or _modules_elsewhere(machine, name) or {module_name(name)})),
        package=package,
        built=built,
        starts_at_boot=at_boot,
        can_build=can_build,
        log=log,
        told=_read_log(machine, log) if log is not None else None,
    )


def _modules(machine: Machine, release: str, name: str) -> set[str]:
    """What is in the directory of a kmod package; of a link, only where it leads to a file."""
    found = set()
    for place in _PLACES:
        directory = f"/lib/modules/{release}/{place}{name}"
        found |= {
            module_name(path)
            for path in machine.below(directory)
            if is_module(path) and machine.is_file(f"{directory}/{path}")
        }
    return found


def _modules_elsewhere(machine: Machine, name: str) -> set[str]:
    """What it brought for the other kernels: a source package does not tell what comes of it."""
    return {module for release in machine.listdir("/lib/modules") for module in _modules(machine, release, name)}


def _built(machine: Machine, directory: str, package: str, version: str) -> str | None:
    """The file of the package that was made of this version, where it was kept."""
    for name in machine.listdir(directory):
        if name.startswith(f"{package}-") and name.endswith(".rpm"):
            rest = _DISTRIBUTION.sub("", name[len(package) + 1 : -len(".rpm")])
            if rest.rpartition(".")[0] == version:  # without the architecture
                return f"{directory}/{name}"
    return None


def _log(machine: Machine, directory: str, version: str, release: str) -> str | None:
    """The log of the last try for this kernel that came to no end, or to a bad one."""
    good, bad = f"{directory}/{version}-for-{release}.log", f"{directory}/{version}-for-{release}{_FAILED}"
    failed, done = machine.stat(bad), machine.stat(good)
    if failed is not None and (done is None or failed.st_mtime_ns > done.st_mtime_ns):
        return bad
    last = f"{directory}/.last.log"
    if done is None:
        with suppress(Missing, Unreadable), machine.open(last) as file:
            # Its head has the command. It is kept under another name once that has ended.
            return last if f"--kernels {release} ".encode() in file.read(4096) else None
    return None


def _read_log(machine: Machine, path: str) -> MakeLog | None:
    """What a log tells; None where it cannot be read, as in a capture."""
    with suppress(Missing, Unreadable), machine.open(path) as file:
        file.seek(max(0, machine.size(path) - _TAIL))
        return make_log.parse(b"", _STAMP.sub(b"", file.read(_TAIL)))
    return None
