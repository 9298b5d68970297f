"""DKMS's own tree, /var/lib/dkms, as data: its packages, and how each stands for a kernel (dkms(8)).

A package's directory NAME/VERSION has a link `source`, and in RELEASE/ARCHITECTURE/module what was built for a kernel.
The link NAME/kernel-RELEASE-ARCHITECTURE leads to the build that dkms has installed in /lib/modules/RELEASE: that is
all that `dkms status` and `dkms autoinstall` look at. Here the modules themselves are.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import BinaryIO, Literal

from safeupdate.errors import FormatError, Missing, NoDecoder, Unreadable
from safeupdate.formats import dkms_conf, modsig, unpacked
from safeupdate.formats.dkms_conf import DkmsConf
from safeupdate.formats.modules import is_module, module_name
from safeupdate.machine import Machine
from safeupdate.module_tree import IN_TREE, ModuleTree

State = Literal["absent", "added", "built", "installed", "differs", "weak"]

_RELEASE = re.compile(r"\d+\.")
"""How the name of a kernel's directory begins, for dkms too (module_status_built)."""

_OTHER_NAMES = re.compile(r"original_module$|kernel-.*-|\.")
"""What lies beside the versions of a package."""

_PACKAGE_LIMIT = 4096
"""Packages that are looked at: a machine has a handful."""

_CONF_LIMIT = 256 << 10
"""Bytes of a dkms.conf: the longest of Debian's have 12 KB."""

_WEAK = "weak-updates/"

_LOCATIONS = ("updates/dkms", "extra", "updates")
"""Where dkms puts modules, whatever dkms.conf says (override_dest_module_location): Debian and Arch, Fedora, SUSE."""

_WHOLE = 1 << 20
_ENDS = 64 << 10
"""Modules up to this size are compared whole, larger ones by both ends: after another build the build id, near the
beginning, is another, and mostly the length too."""


@dataclass(frozen=True)
class BuiltModule:
    """One module of a package: the kernel's name for it, the name that its files have (without suffix, underscores for
    dashes), the file that dkms built, and the path in /lib/modules/R of the file there that has that name.

    `same`: both have the same content, aside from compression; None where that was not compared.
    """

    name: str
    file: str
    built: str | None = None
    installed: str | None = None
    same: bool | None = None


@dataclass(frozen=True)
class Build:
    """How a package stands for one kernel.

    `absent`: nothing was built, and nothing can be. `added`: nothing was built. `built`: not installed. `installed`:
    each of its modules is in /lib/modules/R as it was built. `differs`: dkms says installed, and a module is not there,
    or another one. `weak`: another kernel's modules are linked there. `directory` has the build; `cut_off`: it was
    interrupted, and until that is removed dkms builds no more.
    """

    state: State
    modules: tuple[BuiltModule, ...] = ()
    directory: str = ""
    cut_off: bool = False


@dataclass(frozen=True)
class Framework:
    """Where dkms works (framework.conf), and what else /etc/dkms has: files that may override a dkms.conf."""

    tree: str = "/var/lib/dkms"
    sources: str = "/usr/src"
    modules: str = "/lib/modules"
    overrides: frozenset[str] = frozenset()
    no_autoinstall: bool = False


@dataclass(frozen=True)
class Package:
    """One package in one version. `releases` are those that it has a directory for, `links` the names of the links to
    what is installed of any version of it."""

    name: str
    version: str
    releases: tuple[str, ...]
    links: frozenset[str]
    machine: Machine = field(repr=False, compare=False)
    framework: Framework = field(repr=False, compare=False)

    @property
    def directory(self) -> str:
        """Where dkms keeps it."""
        return f"{self.framework.tree}/{self.name}/{self.version}"

    @property
    def conf(self) -> DkmsConf | None:
        """What its dkms.conf says of every kernel; None where `problem` says why it cannot be read."""
        return self._read[0]

    @property
    def problem(self) -> str | None:
        """Why nothing is known of what it brings, a sentence with the file; None where nothing is wrong."""
        return self._read[1]

    @cached_property
    def kernel_names(self) -> Mapping[str, str]:
        """The names of its modules' files to the kernel's names of those that have another one."""
        pairs = ((module.name, module.built) for module in (self.conf.modules if self.conf is not None else ()))
        return {_plain(name): _plain(built) for name, built in pairs if name and built and name != built}

    @cached_property
    def _read(self) -> tuple[DkmsConf | None, str | None]:
        source = f"{self.directory}/source"
        try:
            return self._conf(), None
        except Missing:
            if self.machine.is_dir(source):
                return None, f"{source}/dkms.conf does not exist."
            with suppress(Missing):
                return None, f"{source} leads to {self.machine.readlink(source)}, which does not exist."
            return None, f"{source}, the link to its source, does not exist."
        except Unreadable as error:
            return None, f"{error.path} cannot be read here: {error.reason}."
        except FormatError as error:
            return None, f"{source}/dkms.conf cannot be read here: {error}."

    def conf_for(
        self, release: str, architecture: str | None = None, config: Mapping[str, str] | None = None
    ) -> DkmsConf | None:
        """What its dkms.conf, and what overrides it in /etc/dkms, say for one kernel; None where `problem` is set."""
        if self.problem is not None:
            return None
        variables = {"kernelver": release, "kernel_source_dir": f"{self.framework.modules}/{release}/build"}
        pairs = [release]
        if architecture is not None:
            variables["arch"] = architecture
            pairs.append(f"{release}-{architecture}")
        names = [f"{self.name}-{self.version}-{pair}.conf" for pair in pairs]
        names += [f"{self.name}--{pair}.conf" for pair in pairs]
        with suppress(Missing, Unreadable, FormatError):
            return self._conf(variables, names, config)
        return self.conf

    def _conf(
        self,
        variables: Mapping[str, str] | None = None,
        names: list[str] | None = None,
        config: Mapping[str, str] | None = None,
    ) -> DkmsConf:
        given = {
            "dkms_tree": self.framework.tree,
            "source_tree": self.framework.sources,
            "install_tree": self.framework.modules,
            "module": self.name,
            "module_version": self.version,
            **(variables or {}),
        }
        overriding = [f"{self.name}.conf", f"{self.name}-{self.version}.conf", *(names or ())]
        return dkms_conf.parse([self._text, *self._overrides(overriding)], given, config)

    @cached_property
    def _text(self) -> bytes:
        return self.machine.read(f"{self.directory}/source/dkms.conf", limit=_CONF_LIMIT)

    def _overrides(self, names: list[str]) -> list[bytes]:
        paths = [f"/etc/dkms/{name}" for name in names if name in self.framework.overrides]
        return [self.machine.read(path, limit=_CONF_LIMIT) for path in paths]


def packages(machine: Machine) -> tuple[Package, ...]:
    """Every package that dkms knows, also one whose source is gone, by name and version. Raises `Unreadable`."""
    framework = _framework(machine)
    found: list[Package] = []
    for name in machine.listdir(framework.tree):
        names = machine.listdir(f"{framework.tree}/{name}") if machine.is_dir(f"{framework.tree}/{name}") else ()
        links = frozenset(entry for entry in names if entry.startswith("kernel-"))
        for version in names:
            directory = f"{framework.tree}/{name}/{version}"
            if _OTHER_NAMES.match(version) or not machine.is_dir(directory):
                continue
            entries = machine.listdir(directory)
            # Without a source here or there it is what is left of a package that was removed.
            if "source" in entries or machine.is_dir(f"{framework.sources}/{name}-{version}"):
                releases = tuple(entry for entry in entries if _RELEASE.match(entry))
                found.append(Package(name, version, releases, links, machine, framework))
        if len(found) > _PACKAGE_LIMIT:
            raise Unreadable(framework.tree, "it holds too many packages")
    return tuple(found)


def newest(versions: list[Package]) -> Package:
    """Of the versions of one package, the one that dkms builds by itself: of those that it can, the newest."""
    able = [one for one in versions if one.problem is None] or versions
    latest = able[0]
    for one in able[1:]:
        if dkms_conf.compare(one.version, latest.version) > 0:
            latest = one
    return latest


def build(package: Package, tree: ModuleTree, architecture: str | None = None) -> Build:
    """How the package stands for a kernel. Without an architecture, the one that it was built for counts.

    Raises `Unreadable`.
    """
    directory = _build_directory(package, tree.kernel.release, architecture)
    if directory is None:
        weak = _weak(package, tree)
        if weak:
            return Build("weak", weak)
        return Build("added" if package.problem is None else "absent")
    files = _names(package.machine, f"{directory}/module")
    if files is None:
        return Build("added" if package.problem is None else "absent", (), directory, cut_off=True)
    built = {module_name(file): f"{directory}/module/{file}" for file in files if is_module(file)}
    names = dict.fromkeys((*built, *_named(package.conf)))
    found = tuple(_module(package, tree, name, built.get(name)) for name in names)
    if not is_installed(package, tree.kernel.release, directory):
        return Build("built", found, directory)
    whole = all(module.installed is not None and module.same is not False for module in found)
    return Build("installed" if whole else "differs", found, directory)


def expected_modules(package: Package) -> tuple[str, ...]:
    """The names of its modules' files, by dkms.conf; where bash computes them, also of those built for other kernels.

    Empty where neither tells.
    """
    conf = package.conf
    names = _named(conf)
    if conf is None or not conf.lists_all_modules:
        for release in reversed(package.releases):
            directory = _build_directory(package, release, None)
            files = None if directory is None else _names(package.machine, f"{directory}/module")
            if files:
                names += [module_name(file) for file in files if is_module(file)]
                break
    return tuple(dict.fromkeys(names))


def is_installed(package: Package, release: str, directory: str) -> bool:
    """Whether dkms takes that build, or, where there is none, this version, for what is installed."""
    architecture = posixpath.basename(directory)
    name = f"kernel-{release}-{architecture}"
    if name not in package.links:
        return False
    link = f"{package.framework.tree}/{package.name}/{name}"
    with suppress(Missing):
        usual = package.machine.readlink(link) == f"{package.version}/{release}/{architecture}"
        return usual or package.machine.resolve(link) == package.machine.resolve(directory)
    return False


def _framework(machine: Machine) -> Framework:
    names = machine.listdir("/etc/dkms")
    paths = [f"/etc/dkms/{name}" for name in names if name == "framework.conf"]
    extra = "/etc/dkms/framework.conf.d"
    paths += [f"{extra}/{name}" for name in machine.listdir(extra) if name.endswith(".conf")]
    values: Mapping[str, str | None] = {}
    with suppress(Missing, Unreadable, FormatError):
        values = dkms_conf.parse_framework([machine.read(path, limit=_CONF_LIMIT) for path in paths])
    return Framework(
        tree=values.get("dkms_tree") or Framework.tree,
        sources=values.get("source_tree") or Framework.sources,
        modules=values.get("install_tree") or Framework.modules,
        overrides=frozenset(name for name in names if name.endswith(".conf")),
        no_autoinstall="no-autoinstall" in names,
    )


def _names(machine: Machine, directory: str) -> list[str] | None:
    """What a directory holds; None for whatever is none."""
    names = machine.listdir(directory)
    return names if names or machine.is_dir(directory) else None


def _named(conf: DkmsConf | None) -> list[str]:
    modules = () if conf is None else conf.modules
    return [_plain(module.name) for module in modules if module.name is not None]


def _plain(name: str) -> str:
    return module_name(f"{name}.ko")


def _build_directory(package: Package, release: str, architecture: str | None) -> str | None:
    """Where the build for a kernel is, or lay; dkms names the architecture as uname(1) or the kernel's package does."""
    if release not in package.releases:
        return None
    directory = f"{package.directory}/{release}"
    # A name with a dot is a build that 3.2 was at: it is renamed when it is whole.
    names = [name for name in package.machine.listdir(directory) if not name.startswith(".")]
    if architecture not in names:
        architecture = names[0] if names else None
    return None if architecture is None else f"{directory}/{architecture}"


def _module(package: Package, tree: ModuleTree, file: str, built: str | None) -> BuiltModule:
    """Of several files with that name the one that was built counts, else one where dkms would have put it, and the
    kernel's own last."""
    name = package.kernel_names.get(file, file)
    paths = [path for path in tree.named(file) if not path.startswith(_WEAK)]
    if len(paths) > 1:
        places = _LOCATIONS + tuple(
            posixpath.normpath(module.location).strip("/")
            for module in (package.conf.modules if package.conf is not None else ())
            if module.location
        )
        paths.sort(key=lambda path: (posixpath.dirname(path) not in places, path.startswith(IN_TREE), path))
    found = BuiltModule(name, file, built)
    for path in paths:
        if package.machine.is_file(tree.path(path)):
            same = None if built is None else _same(package.machine, built, tree.path(path))
            if same or found.installed is None:
                found = BuiltModule(name, file, built, path, same)
            if same is not False:
                break
    return found


def _weak(package: Package, tree: ModuleTree) -> tuple[BuiltModule, ...]:
    """The modules that weak-modules(8) has linked from another kernel, if all that the package has are linked."""
    found = []
    for file in expected_modules(package) if package.releases else ():
        link = next((path for path in tree.named(file) if path.startswith(_WEAK)), None)
        if link is None or not package.machine.is_file(tree.path(link)):
            return ()
        origin = package.machine.resolve(tree.path(link)).split("/")
        built = next((one for part in origin if (one := _built(package, part, file)) is not None), None)
        if built is None:
            return ()  # another package's
        same = _same(package.machine, built, tree.path(link))
        found.append(BuiltModule(package.kernel_names.get(file, file), file, built, link, same))
    return tuple(found)


def _built(package: Package, release: str, name: str) -> str | None:
    directory = _build_directory(package, release, None)
    for file in () if directory is None else package.machine.listdir(f"{directory}/module"):
        if is_module(file) and module_name(file) == name:
            return f"{directory}/module/{file}"
    return None


def _same(machine: Machine, built: str, installed: str) -> bool | None:
    """Whether two modules have the same content, aside from compression and signature: dkms signs before it installs,
    and many sign what it has installed, by hand or by a hook. None where one cannot be read or unpacked here."""
    try:
        with machine.open(built) as one, machine.open(installed) as other:
            if built.rpartition(".ko")[2] == installed.rpartition(".ko")[2]:
                first, second = os.fstat(one.fileno()), os.fstat(other.fileno())
                if (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino):
                    return True
                if first.st_size == second.st_size and _same_bytes(one, other, first.st_size):
                    return True
            one_unpacked, other_unpacked = unpacked.module(one, built), unpacked.module(other, installed)
            size = _unsigned(one_unpacked)
            return size == _unsigned(other_unpacked) and _same_bytes(one_unpacked, other_unpacked, size)
    except (Missing, Unreadable, FormatError, NoDecoder, OSError):
        return None


def _unsigned(file: BinaryIO) -> int:
    """The length of a module without its signature."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - modsig.TRAILER, 0))
    where = modsig.parse(file.read(modsig.TRAILER), size)
    return size if where is None else where.covered


def _same_bytes(one: BinaryIO, other: BinaryIO, size: int) -> bool:
    if size <= _WHOLE:
        return _piece(one, 0, size) == _piece(other, 0, size)
    return all(_piece(one, at, _ENDS) == _piece(other, at, _ENDS) for at in (0, size - _ENDS))


def _piece(file: BinaryIO, at: int, size: int) -> bytes:
    file.seek(at)
    return file.read(size)
