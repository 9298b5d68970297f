"""DKMS: what its tree below /var/lib/dkms holds, and how each package stands for a kernel (dkms(8)).

`dkms status` exits 0 on a broken tree and trusts a link: here the files themselves are looked at.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import BinaryIO, Literal

from safeupdate.errors import FormatError, Missing, NoDecoder, Unreadable
from safeupdate.formats import bash, dkms_conf, make_log, modules
from safeupdate.formats.dkms_conf import DkmsConf
from safeupdate.machine import Machine

State = Literal["absent", "added", "built", "installed", "differs", "weak"]
Kind = Literal["headers", "compiler", "build", "sign", "never", "excluded"]

_RELEASE = re.compile(r"\d+\.")
"""How the name of a kernel's directory begins, for dkms too (module_status_built)."""

_NO_VERSION = re.compile(r"original_module$|kernel-.*-|\.")

_PACKAGE_LIMIT = 4096
"""Packages that are looked at: a machine has a handful."""

_CONF_LIMIT = 1 << 20
_HEAD = 4 << 10
_TAIL = 256 << 10
"""Bytes of a log that are read at its beginning, where the kernel is named, and at its end: a compiler's last errors
take a few KB, and after the first one make goes on with the files that others of its jobs have begun."""

_WHOLE = 1 << 20
_ENDS = 64 << 10
"""Modules up to this size are compared whole, larger ones by both ends: after another build the build id, near the
beginning, and the signature, at the end, are others."""


@dataclass(frozen=True)
class BuiltModule:
    """One module of a package: the kernel's name for it, the file that dkms built, the file in /lib/modules/R.

    `same`: both have the same content, aside from compression; None where that was not compared.
    """

    name: str
    built: str | None = None
    installed: str | None = None
    same: bool | None = None


@dataclass(frozen=True)
class Build:
    """How a package stands for one kernel.

    `absent`: it is not registered whole, and cannot be built. `added`: nothing was built. `built`: not installed.
    `installed`: each of its modules is in /lib/modules/R as it was built. `differs`: dkms says installed, and a module
    is not there, or another one. `weak`: another kernel's modules are linked there. `cut_off` is the directory of a
    build that was interrupted: dkms 3.0 and earlier refuse to build again until it is removed.
    """

    release: str
    architecture: str
    state: State
    modules: tuple[BuiltModule, ...] = ()
    cut_off: str | None = None


@dataclass(frozen=True)
class Failure:
    """Why there is no build: the log's last errors, or the file that is missing, and which log that was."""

    kind: Kind
    lines: tuple[str, ...] = ()
    log: str | None = None


@dataclass(frozen=True)
class Framework:
    """Where dkms works (framework.conf), and the files of /etc/dkms that may override a package's dkms.conf."""

    tree: str = "/var/lib/dkms"
    sources: str = "/usr/src"
    modules: str = "/lib/modules"
    sign_file: str | None = ""
    overrides: frozenset[str] = frozenset()
    no_autoinstall: bool = False


@dataclass(frozen=True)
class Package:
    """One package in one version. `releases` are those that it has a directory for: there it was built once, or tried.

    `newest`: no other version of it sorts higher; dkms builds that one alone by itself.
    """

    name: str
    version: str
    releases: tuple[str, ...]
    newest: bool
    machine: Machine = field(repr=False, compare=False)
    framework: Framework = field(repr=False, compare=False)
    _trees: dict[str, _Tree] = field(default_factory=dict, repr=False, compare=False)

    @property
    def directory(self) -> str:
        """Where dkms keeps it."""
        return f"{self.framework.tree}/{self.name}/{self.version}"

    @cached_property
    def conf(self) -> DkmsConf | None:
        """What its dkms.conf says of every kernel; None where `problem` says why it cannot be read."""
        return self._read[0]

    @cached_property
    def problem(self) -> str | None:
        """Why dkms cannot build it for any kernel, with the file; None where nothing is wrong."""
        return self._read[1]

    @cached_property
    def _read(self) -> tuple[DkmsConf | None, str | None]:
        source = f"{self.directory}/source"
        if not self.machine.is_dir(source):
            if self.machine.is_link(source):
                return None, f"{source} points to {self.machine.readlink(source)}, which does not exist."
            return None, f"{source}, the link to its source, does not exist."
        try:
            return self._conf(), None
        except Missing:
            return None, f"{source}/dkms.conf does not exist."
        except Unreadable as error:
            return None, f"{error}."
        except FormatError as error:
            return None, f"{source}/dkms.conf is no file that bash reads: {error}."

    def conf_for(
        self, release: str, architecture: str | None = None, config: Mapping[str, str] | None = None
    ) -> DkmsConf | None:
        """What its dkms.conf, and what overrides it in /etc/dkms, say for one kernel; None where `problem` is set."""
        if self.problem is not None:
            return None
        variables = {"kernelver": release, "kernel_source_dir": f"{self.framework.modules}/{release}/build"}
        if architecture is not None:
            variables["arch"] = architecture
        with suppress(Missing, Unreadable, FormatError):
            return self._conf(variables, release, architecture, config)
        return self.conf

    def _conf(
        self,
        variables: Mapping[str, str] | None = None,
        release: str | None = None,
        architecture: str | None = None,
        config: Mapping[str, str] | None = None,
    ) -> DkmsConf:
        names = [f"{self.name}.conf", f"{self.name}-{self.version}.conf"]
        if release is not None:
            pairs = [release] if architecture is None else [release, f"{release}-{architecture}"]
            names += [f"{self.name}-{self.version}-{pair}.conf" for pair in pairs]
            names += [f"{self.name}--{pair}.conf" for pair in pairs]
        paths = [f"{self.directory}/source/dkms.conf"]
        paths += [f"/etc/dkms/{name}" for name in names if name in self.framework.overrides]
        given = {
            "dkms_tree": self.framework.tree,
            "source_tree": self.framework.sources,
            "install_tree": self.framework.modules,
            "module": self.name,
            "module_version": self.version,
            **(variables or {}),
        }
        return dkms_conf.parse([self.machine.read(path, limit=_CONF_LIMIT) for path in paths], given, config)


@dataclass(frozen=True)
class _Tree:
    """The modules of one kernel by name: those outside its own directory, and all of them."""

    machine: Machine
    directory: str

    @cached_property
    def _files(self) -> Mapping[str, os.stat_result]:
        return self.machine.below(self.directory)

    @cached_property
    def outside(self) -> dict[str, list[str]]:
        return self._by_name(own=False)

    @cached_property
    def kernels(self) -> dict[str, list[str]]:
        return self._by_name(own=True)

    def _by_name(self, *, own: bool) -> dict[str, list[str]]:
        found = defaultdict(list)
        for path in self._files:
            if path.startswith("kernel/") == own and modules.is_module(path):
                found[modules.module_name(path)].append(path)
        return found


def packages(machine: Machine) -> tuple[Package, ...]:
    """Every package that dkms knows, by name and version. Raises `Unreadable`."""
    framework = _framework(machine)
    trees: dict[str, _Tree] = {}
    found: list[Package] = []
    for name in machine.listdir(framework.tree):
        versions = {}
        for version in _versions(machine, f"{framework.tree}/{name}"):
            directory = f"{framework.tree}/{name}/{version}"
            entries = _names(machine, directory)
            if entries is None or not _is_added(machine, framework, name, version, entries):
                continue
            versions[version] = tuple(entry for entry in entries if _RELEASE.match(entry))
        newest = None
        for version in versions:
            if newest is None or dkms_conf.compare(version, newest) > 0:
                newest = version
        found += [
            Package(name, version, releases, version == newest, machine, framework, trees)
            for version, releases in versions.items()
        ]
        if len(found) > _PACKAGE_LIMIT:
            raise Unreadable(framework.tree, "it holds too many packages")
    return tuple(found)


def build(machine: Machine, package: Package, release: str, architecture: str) -> Build:
    """How the package stands for a kernel. Raises `Unreadable`."""
    directory, architecture = _build_directory(machine, package, release, architecture)
    files = _names(machine, f"{directory}/module")
    cut_off = directory if files is None and machine.is_dir(directory) else None
    if files is None:
        weak = _weak(machine, package, release)
        if weak:
            return Build(release, architecture, "weak", weak, cut_off)
        return Build(release, architecture, "absent" if package.problem is not None else "added", (), cut_off)
    built = {modules.module_name(file): f"{directory}/module/{file}" for file in files if modules.is_module(file)}
    found = tuple(
        _module(machine, package, release, name, built.get(name))
        for name in dict.fromkeys((*built, *(() if package.problem else expected_modules(package))))
    )
    if not _is_installed(machine, package, release, architecture, directory):
        return Build(release, architecture, "built", found)
    whole = all(module.installed is not None and module.same is not False for module in found)
    return Build(release, architecture, "installed" if whole else "differs", found)


def expected_modules(package: Package) -> tuple[str, ...]:
    """The kernel's names of its modules, by dkms.conf; where bash computes them, those built for other kernels.

    Empty where neither tells.
    """
    conf = package.conf
    named = [] if conf is None else [module.name for module in conf.modules if module.name is not None]
    if conf is None or not conf.lists_all_modules:
        for release in reversed(package.releases):
            for architecture in _names(package.machine, f"{package.directory}/{release}") or ():
                files = _names(package.machine, f"{package.directory}/{release}/{architecture}/module") or ()
                names = [file for file in files if modules.is_module(file)]
                if names:
                    return tuple(dict.fromkeys(modules.module_name(name) for name in [*named, *names]))
    return tuple(dict.fromkeys(modules.module_name(f"{name}.ko") for name in named))


def unwanted(package: Package, *, release: str, architecture: str, config: Mapping[str, str] | None) -> str | None:
    """Why dkms does not build the package for this kernel by itself, in words; None where it does, or where that is
    not known."""
    conf = package.conf_for(release, architecture, config)
    if conf is None:
        return None
    excluded = _excluded(conf, release, architecture, config)
    if excluded is not None:
        return excluded
    if package.framework.no_autoinstall:
        return "/etc/dkms/no-autoinstall turns automatic builds off."
    wanted = conf.value("AUTOINSTALL")
    if wanted is not None and wanted.lower() in ("", "no"):
        return "Its dkms.conf does not set AUTOINSTALL: it is built only by hand."
    return None


def failure(machine: Machine, package: Package, release: str) -> Failure:
    """Why there is no build for a kernel, by the last log, which must name that kernel, and by what a build needs.

    Raises `Unreadable` only for directories that cannot be looked at.
    """
    conf = package.conf_for(release)
    excluded = None if conf is None else _excluded(conf, release, None, None)
    if excluded is not None:
        return Failure("excluded", (excluded,))
    for path in _logs(machine, package, release):
        log = _log(machine, path)
        if log is not None and log.kernel == release:
            return Failure(log.cause, log.lines, path)
    headers = f"{package.framework.modules}/{release}/build"
    if not machine.exists(f"{headers}/include"):
        missing = f"{headers}/include" if machine.exists(headers) else headers
        return Failure("headers", (f"{missing} does not exist.",))
    return Failure("never")


def sign_file(machine: Machine, package: Package, release: str) -> str | None:
    """The program that dkms signs with (prepare_signing), where it looks for it last; None where it is there.

    Without it a build succeeds all the same, and is not signed.
    """
    framework = package.framework
    if framework.sign_file is None:
        return None
    version = release.rpartition(".")[0]
    places = [
        framework.sign_file,
        f"/usr/lib/linux-kbuild-{version}/scripts/sign-file",
        "/usr/bin/kmodsign",
        f"/usr/src/linux-headers-{release}/scripts/sign-file",
        f"/usr/src/linux-{release}/scripts/sign-file",
        f"{framework.modules}/{release}/build/scripts/sign-file",
    ]
    tried = places[:1] if framework.sign_file else places[1:]
    return None if any(machine.is_file(place) for place in tried) else tried[-1]


# -- the tree --------------------------------------------------------------------------------------------------


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
        sign_file=values.get("sign_file", ""),
        overrides=frozenset(name for name in names if name.endswith(".conf")),
        no_autoinstall="no-autoinstall" in names,
    )


def _names(machine: Machine, directory: str) -> list[str] | None:
    """What a directory holds; None for whatever is none."""
    names = machine.listdir(directory)
    return names if names or machine.is_dir(directory) else None


def _versions(machine: Machine, directory: str) -> list[str]:
    return [name for name in _names(machine, directory) or () if not _NO_VERSION.match(name)]


def _is_added(machine: Machine, framework: Framework, name: str, version: str, entries: list[str]) -> bool:
    """Whether dkms knows it, be it that its source is gone: not the leftovers of one that was removed."""
    return "source" in entries or machine.is_dir(f"{framework.sources}/{name}-{version}")


def _build_directory(machine: Machine, package: Package, release: str, architecture: str) -> tuple[str, str]:
    """dkms names the architecture as uname(1) or the kernel's rpm package does, which may be another word."""
    directory = f"{package.directory}/{release}"
    if release in package.releases and not machine.is_dir(f"{directory}/{architecture}"):
        names = [name for name in machine.listdir(directory) if not name.startswith(".")]
        if len(names) == 1:
            architecture = names[0]
    return f"{directory}/{architecture}", architecture


def _is_installed(machine: Machine, package: Package, release: str, architecture: str, directory: str) -> bool:
    link = f"{package.framework.tree}/{package.name}/kernel-{release}-{architecture}"
    with suppress(Missing):
        usual = machine.readlink(link) == f"{package.version}/{release}/{architecture}"
        return usual or machine.resolve(link) == machine.resolve(directory)
    return False


def _module(machine: Machine, package: Package, release: str, name: str, built: str | None) -> BuiltModule:
    tree = _tree(machine, package, release)
    paths = [path for path in tree.outside.get(name, ()) if not path.startswith("weak-updates/")]
    paths = paths or tree.kernels.get(name, [])
    if len(paths) > 1:
        paths = sorted(paths, key=lambda path: posixpath.dirname(path) not in _locations(package, release))
    for path in paths:
        installed = f"{tree.directory}/{path}"
        if machine.is_file(installed):
            same = None if built is None else _same(machine, built, installed)
            return BuiltModule(name, built, installed, same)
    return BuiltModule(name, built)


def _locations(package: Package, release: str) -> set[str]:
    """The directories that dkms may have put the modules into: a distribution's own, or what dkms.conf says."""
    conf = package.conf_for(release)
    named = () if conf is None else (module.location for module in conf.modules)
    return {"updates/dkms", "extra", "updates", *(posixpath.normpath(place).strip("/") for place in named if place)}


def _tree(machine: Machine, package: Package, release: str) -> _Tree:
    directory = f"{package.framework.modules}/{release}"
    return package._trees.setdefault(directory, _Tree(machine, directory))


def _weak(machine: Machine, package: Package, release: str) -> tuple[BuiltModule, ...]:
    """The modules that weak-modules(8) has linked from another kernel, if all that the package has are linked."""
    tree = _tree(machine, package, release)
    if not any(path.startswith("weak-updates/") for paths in tree.outside.values() for path in paths):
        return ()
    found = []
    for name in expected_modules(package):
        link = next((path for path in tree.outside.get(name, ()) if path.startswith("weak-updates/")), None)
        if link is None or not machine.is_file(f"{tree.directory}/{link}"):
            return ()
        origin = machine.resolve(f"{tree.directory}/{link}")
        source = re.match(rf"(?:/usr)?{re.escape(package.framework.modules)}/([^/]+)/", origin)
        built = None if source is None else _built(machine, package, source.group(1), name)
        if built is None:
            return ()  # another package's
        installed = f"{tree.directory}/{link}"
        found.append(BuiltModule(name, built, installed, _same(machine, built, installed)))
    return tuple(found)


def _built(machine: Machine, package: Package, release: str, name: str) -> str | None:
    if release not in package.releases:
        return None
    for architecture in _names(machine, f"{package.directory}/{release}") or ():
        directory = f"{package.directory}/{release}/{architecture}/module"
        for file in _names(machine, directory) or ():
            if modules.is_module(file) and modules.module_name(file) == name:
                return f"{directory}/{file}"
    return None


# -- comparing -------------------------------------------------------------------------------------------------


def _same(machine: Machine, built: str, installed: str) -> bool | None:
    """Whether two modules have the same content; None where one of them cannot be read or unpacked here."""
    try:
        if machine.resolve(built) == machine.resolve(installed):
            return True
        if built.rpartition(".ko")[2] == installed.rpartition(".ko")[2]:
            return _same_bytes(machine, built, installed)
        # Somebody has packed the one or unpacked the other: rare enough for the slow way.
        from safeupdate.trust import module_files

        return module_files.read(machine, built).whole == module_files.read(machine, installed).whole
    except (Missing, Unreadable, NoDecoder, OSError):
        return None


def _same_bytes(machine: Machine, one: str, other: str) -> bool:
    with machine.open(one) as first, machine.open(other) as second:
        size = os.fstat(first.fileno()).st_size
        if size != os.fstat(second.fileno()).st_size:
            return False
        if size <= _WHOLE:
            return first.read(_WHOLE) == second.read(_WHOLE)
        return all(_piece(first, at) == _piece(second, at) for at in (0, size - _ENDS))


def _piece(file: BinaryIO, at: int) -> bytes:
    file.seek(at)
    return file.read(_ENDS)


# -- why it was not built --------------------------------------------------------------------------------------


def _excluded(conf: DkmsConf, release: str, architecture: str | None, config: Mapping[str, str] | None) -> str | None:
    """Which BUILD_EXCLUSIVE directive of dkms.conf keeps the package from this kernel (read_conf of dkms 3.2)."""
    pattern = conf.value("BUILD_EXCLUSIVE_KERNEL")
    if pattern and bash.matches(pattern, release) is False:
        return f'Its dkms.conf wants a kernel that "{pattern}" matches (BUILD_EXCLUSIVE_KERNEL).'
    least = conf.value("BUILD_EXCLUSIVE_KERNEL_MIN")
    if least and dkms_conf.compare(release, least) < 0:
        return f"Its dkms.conf wants at least the kernel {least} (BUILD_EXCLUSIVE_KERNEL_MIN)."
    most = conf.value("BUILD_EXCLUSIVE_KERNEL_MAX")
    if most and dkms_conf.compare(release, most) > 0:
        return f"Its dkms.conf wants at most the kernel {most} (BUILD_EXCLUSIVE_KERNEL_MAX)."
    replaced = conf.value("OBSOLETE_BY")
    if most == "" and replaced and dkms_conf.compare(release, replaced) > 0:
        return f"Its dkms.conf says that the kernel has its modules itself since {replaced} (OBSOLETE_BY)."
    pattern = conf.value("BUILD_EXCLUSIVE_ARCH")
    if pattern and architecture is not None and bash.matches(pattern, architecture) is False:
        return f'Its dkms.conf wants an architecture that "{pattern}" matches (BUILD_EXCLUSIVE_ARCH).'
    for option in (conf.value("BUILD_EXCLUSIVE_CONFIG") or "").split() if config is not None else ():
        value = config.get(option.lstrip("!"), "") if config is not None else ""
        if (value in ("y", "m")) == option.startswith("!"):
            name = option.lstrip("!")
            kind = "without" if option.startswith("!") else "with"
            return f"Its dkms.conf wants a kernel {kind} {name} (BUILD_EXCLUSIVE_CONFIG)."
    return None


def _logs(machine: Machine, package: Package, release: str) -> list[str]:
    """Where the log of a build may be: `build` is one for all kernels, and is removed when a build succeeds."""
    paths = [f"{package.directory}/build/make.log"]
    if release in package.releases:
        for architecture in _names(machine, f"{package.directory}/{release}") or ():
            paths.append(f"{package.directory}/{release}/{architecture}/log/make.log")
    return paths


def _log(machine: Machine, path: str) -> make_log.MakeLog | None:
    try:
        with machine.open(path) as file:
            head = file.read(_HEAD)
            file.seek(max(os.fstat(file.fileno()).st_size - _TAIL, 0))
            return make_log.parse(head, file.read(_TAIL))
    except (Missing, Unreadable, OSError):
        return None
