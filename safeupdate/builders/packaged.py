"""Modules that come ready made in packages of their own: what the running kernel has of them, and another kernel lacks.

Ubuntu's linux-modules-extra-R and linux-modules-nvidia-535-R, Fedora's kernel-modules-extra, Proxmox's zfs beside the
kernel's own modules, kmod packages, SUSE's KMPs, Arch's nvidia, and whatever an installer put into /lib/modules/R.

A module that came with the running kernel itself and is not in the next one is no loss: kernels drop modules, and build
them in, although they are loaded and held (crc32c_intel in Linux 6.14, libcrc32c in 6.15). So only those count here
that came from elsewhere: by their place, by the kernel's own mark of a loaded one, or by a package that is not there
for the next kernel.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from safeupdate import remedies
from safeupdate.builders import Brought, State, World, units, weak_updates
from safeupdate.errors import FormatError, ProgramFailed, Unreadable
from safeupdate.formats.modules import is_module, module_name
from safeupdate.machine import Machine
from safeupdate.module_tree import IN_TREE, ModuleTree
from safeupdate.packages import Database, Package, PackedFile
from safeupdate.report import Remedy

_PATCHES = ("livepatch/", "kgraft/")
"""Where SUSE has live patches, each made for one kernel alone."""

_LOADED = re.compile(r"^(\S+) .*\(([A-Z]+)[+-]?\)$", re.MULTILINE)
"""A line of /proc/modules with marks: O for a module that did not come with the kernel, K for a live patch
(Documentation/admin-guide/tainted-kernels.rst)."""

_IMAGES = ("vmlinuz", "vmlinux", "Image")

_MADE_AT_BOOT = {
    **dict.fromkeys(("vboxdrv", "vboxnetflt", "vboxnetadp", "vboxpci"), "vboxdrv.service"),
    **dict.fromkeys(("vboxguest", "vboxsf", "vboxvideo"), "vboxadd.service"),
}
"""Modules of VirtualBox, which its services build when they start and the kernel has none (Oracle's packages)."""

_ASKED = 8
"""Directories whose owner is asked for; rpm takes 30 ms for each."""


@dataclass(frozen=True)
class _Source:
    """A package of the running kernel, and its like for the other one: the name, and the package where it is there."""

    database: Database
    package: Package
    wanted: str | None
    like: Package | None
    modules: frozenset[str] = frozenset()


def look(world: World) -> Iterator[Brought]:
    """What the running kernel has from elsewhere and the other one has not, by name; nothing where they are the same.

    Package databases that cannot be read tell nothing here. Raises `Unreadable`.
    """
    running, target = world.running, world.tree
    if running is None or running.kernel.release == target.kernel.release:
        return
    there = _names(target)
    gone: dict[str, str] = {}
    for path in sorted(running.files, key=lambda path: (path.startswith(IN_TREE), path)):
        if module_name(path) not in there:
            gone.setdefault(module_name(path), path)
    marked = _marked(world.machine)
    found: dict[str, _Source | None] = {}
    owners: dict[str, _Source | None] = {}
    for name, path in gone.items():
        outside = not path.startswith((IN_TREE, *_PATCHES)) or name in marked
        if outside and world.machine.is_file(running.path(path)):
            directory = os.path.dirname(path)
            if directory not in owners and len(owners) < _ASKED:
                owners[directory] = _owner(world, running, path)
            found[name] = owners.get(directory)
    for source in _left_behind(world, running):
        for name in source.modules & gone.keys() - found.keys():
            found[name] = source
    for name in sorted(found):
        yield _brought(world, running, name, gone[name], found[name])


def _names(tree: ModuleTree) -> frozenset[str]:
    """All that a kernel has, as modules or built in."""
    return tree.builtin.union(map(module_name, tree.files))


def _brought(world: World, running: ModuleTree, name: str, path: str, source: _Source | None) -> Brought:
    machine, release, path = world.machine, world.tree.kernel.release, running.path(path)
    unit, provider = _MADE_AT_BOOT.get(name), f"an unknown source (in {os.path.dirname(path)})"
    if source is not None:
        provider = f"the package {source.package.name}"
    elif unit is not None:
        provider = "VirtualBox"
    state: State = "lost"
    remedy = Remedy(f"Install it for the kernel {release}, as it was installed for {running.kernel.release}.")
    if unit is not None and units.enabled(machine, unit) and machine.is_file(world.tree.path("build/Makefile")):
        state, why, remedy = "waiting", f"{unit} builds it when it starts.", Remedy()
    elif source is None or source.wanted is None:
        why = "No package that is known here brought it." if source is None else "That package is for no other kernel."
        link = weak_updates.unlinked(machine, world.interface, machine.resolve(path), release)
        why, remedy = link if link is not None else (why, remedy)
    elif source.like is None:
        why = f"The package {source.wanted} is not installed."
        remedy = remedies.install(machine, source.wanted)
    elif source.like.state == "half-installed":
        why = f"The package {source.wanted} was not unpacked to the end, or not removed to the end."
        remedy = _again(machine, source)
    elif _is_in(source.database, source.like, release, name):
        why = f"The package {source.wanted} brought it, and its file is gone."
        remedy = _again(machine, source)
    else:
        why = f"The package {source.wanted} is installed, and does not bring it."
    return Brought(name, provider, state, why=why, remedy=remedy)


def _marked(machine: Machine) -> frozenset[str]:
    """Modules that are loaded, and did not come with the kernel that runs."""
    found = _LOADED.findall(machine.text("/proc/modules") or "")
    return frozenset(name for name, marks in found if "O" in marks and "K" not in marks)


def _owner(world: World, running: ModuleTree, path: str) -> _Source | None:
    """The package of a file, or of what a link leads to. No like is looked for of the package with the kernel itself,
    unless it is there: the next kernel may be another distribution's."""
    place = world.machine.resolve(running.path(path))
    release = re.search(r"/lib/modules/([^/]+)/", place)
    for database in world.databases if release is not None else ():
        with suppress(FormatError, ProgramFailed, Unreadable):
            package = database.owner(place, release[1] if release is not None else "")
            if package is not None:
                wanted, like = _like(world, running, package, database)
                if like is None and _brings_image(database.files(package, running.kernel.release)):
                    wanted = None
                return _Source(database, package, wanted, like)
    return None


def _left_behind(world: World, running: ModuleTree) -> Iterator[_Source]:
    """Packages with a part of the running kernel's own modules, whose like is not there for the other kernel.

    Nor may that have most of these modules from elsewhere: distributions come to put their packages together in other
    ways. And the package with the kernel itself is none of these: another flavour is somebody's choice, as is a kernel
    that no package of this database brought at all.
    """
    for database in world.databases:
        with suppress(FormatError, ProgramFailed, Unreadable):
            if not database.of_kernel(world.tree.kernel.release):
                continue
            for package in database.of_kernel(running.kernel.release):
                wanted, like = _like(world, running, package, database)
                if wanted is not None and (like is None or like.state == "half-installed"):
                    files = database.files(package, running.kernel.release)
                    names = _modules(files)
                    if len(names & _names(world.tree)) * 2 < len(names) and not _brings_image(files):
                        yield _Source(database, package, wanted, like, names)


def _like(world: World, running: ModuleTree, package: Package, database: Database) -> tuple[str | None, Package | None]:
    """What a package would be called for the other kernel, and the package of that name as far as it is there.

    The release is in the name (Debian, akmods), or is the version (Fedora), or what that begins with, without the
    flavour (SUSE, where all that is built together has one version); else one package is for several kernels.
    """
    ours, other = running.kernel.release, world.tree.kernel.release
    if ours in package.name:
        # Ubuntu's package of that name has the modules, and another one is for people to install.
        wanted = package.name.replace(ours, other).replace("linux-objects-nvidia-", "linux-modules-nvidia-")
    elif f"{package.version}.{package.architecture}" == ours.partition("+")[0]:
        wanted = f"{package.name}-{other.partition('+')[0]}"
    elif f"{package.version}.".startswith(f"{ours.rpartition('-')[0]}."):
        versions = [one.version for one in database.of_kernel(other) if one.role == "kernel"]
        if not versions:
            return None, None
        wanted = f"{package.name}-{versions[-1]}"
    else:
        return None, None
    return wanted, database.named(wanted)


def _is_in(database: Database, package: Package, release: str, name: str) -> bool:
    with suppress(FormatError, ProgramFailed, Unreadable):
        return name in _modules(database.files(package, release))
    return False


def _modules(files: Iterable[PackedFile]) -> frozenset[str]:
    return frozenset(module_name(file.path) for file in files if is_module(file.path))


def _brings_image(files: Iterable[PackedFile]) -> bool:
    return any(file.path.startswith("/boot/") or os.path.basename(file.path) in _IMAGES for file in files)


def _again(machine: Machine, source: _Source) -> Remedy:
    """Put the files of the like back."""
    assert source.wanted is not None
    command = "apt-get install --reinstall"
    if source.database.name == "rpm":
        command = "zypper install --force" if machine.exists("/usr/bin/zypper") else "dnf reinstall"
    return Remedy(f"Install {source.wanted} again.", ((*command.split(), source.wanted),))
