"""Modules that were built for one kernel and are linked into others that they fit: RHEL's, SUSE's, DKMS's weak ones.

A package (kmod-NAME, NAME-kmp-FLAVOUR) has its modules in /lib/modules/OTHER/extra or updates. When it or a kernel is
installed, weak-modules (of kmod's packaging on RHEL; SUSE's is weak-modules2, of suse-module-tools) makes links to them
in /lib/modules/R/weak-updates of every kernel whose symbols they fit, and takes away those that do not fit. So what
does not fit has no link, rather than one that is wrong; but weak-modules does not notice where a kernel's release has a
plus in it (`+rt`, `+debug`), which its patterns take for something else.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from contextlib import suppress

from safeupdate.builders import Brought, World
from safeupdate.errors import FormatError, Missing, ProgramFailed, Unreadable
from safeupdate.formats.modules import module_name
from safeupdate.machine import Machine
from safeupdate.module_interface import Interface
from safeupdate.report import Remedy

_LINKS = "weak-updates/"

_PROGRAMS = ("/usr/sbin/weak-modules", "/sbin/weak-modules", "/usr/lib/module-init-tools/weak-modules2")


def look(world: World) -> Iterator[Brought]:
    """The kernel's weak links. Raises `Unreadable`."""
    for path, status in sorted(world.tree.files.items()):
        if path.startswith(_LINKS) and stat.S_ISLNK(status.st_mode):
            yield from _link(world, path)


def unlinked(machine: Machine, interface: Interface, path: str, release: str) -> tuple[str, Remedy] | None:
    """Why there is no link to a module of another kernel in the kernel `release`, whose interface this is, and what
    helps. None where none is made of such a file, or on such a machine. Raises `Unreadable`."""
    program = next((path for path in _PROGRAMS if machine.is_file(path)), None)
    if program is None or not re.search(r"/lib/modules/[^/]+/(?:extra|updates)/(?!dkms/)", path):
        return None
    misfit = interface.misfit(path)
    if misfit is None:
        made = Remedy("Have the links for this kernel made.", ((program, "--add-kernel", release),))
        return f"{path} fits the kernel {release}, and weak-modules has made no link to it.", made
    unsure = "may not fit" if misfit.kind == "unknown" else "does not fit"
    other = Remedy("Install a version of its package that is made for this kernel.")
    return f"{path} {unsure} the kernel {release}: {misfit.why}.", other


def _link(world: World, path: str) -> Iterator[Brought]:
    """A link; none of those in whose place modprobe loads another file of that name."""
    tree, name = world.tree, module_name(path)
    if tree.chosen(name) not in (path, None):
        return
    target = _target(world.machine, tree.path(path))
    if world.machine.is_file(target):
        yield Brought(name, _made_for(target), "installed", path)
        return
    why = f"{tree.path(path)} leads to {target}."
    remedy = Remedy("Install the package that had it again, or take the link away if that was removed on purpose.")
    yield Brought(name, _provider(world, target), "absent", None, "link", why, remedy=remedy)


def _target(machine: Machine, path: str) -> str:
    """Where a file is, or a link leads; what is there need not exist."""
    try:
        return machine.resolve(path)
    except Missing:
        return machine.readlink(path) if machine.is_link(path) else path


def _provider(world: World, path: str) -> str:
    """The package that has the file or had it, where a database tells."""
    release = _release(path)
    for database in world.databases:
        with suppress(FormatError, ProgramFailed, Unreadable):
            package = database.owner(path, release) if release is not None else None
            if package is not None:
                return f"the package {package.name}"
    return _made_for(path)


def _made_for(path: str) -> str:
    release = _release(path)
    return "a package for several kernels" if release is None else f"a package made for the kernel {release}"


def _release(path: str) -> str | None:
    found = re.search(r"/lib/modules/([^/]+)/", path)
    return found[1] if found is not None else None
