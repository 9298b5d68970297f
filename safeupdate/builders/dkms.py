"""DKMS: the modules that its packages were to bring for a kernel, and what became of them (dkms(8)).

`dkms autoinstall` and its hooks end with 0 after failures, leave nothing behind where headers are missing or a package
is not for a kernel, and keep one log a package: what it says counts only for the kernel that it names.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from safeupdate import kernels, remedies
from safeupdate.builders import Brought, Fault, State, World, dkms_tree, log_says, units
from safeupdate.builders.dkms_tree import Build, BuiltModule, Package
from safeupdate.errors import Missing, Unreadable
from safeupdate.formats import bash, dkms_conf, make_log
from safeupdate.formats.dkms_conf import DkmsConf
from safeupdate.kernels import Kernel
from safeupdate.machine import Machine
from safeupdate.module_tree import IN_TREE
from safeupdate.report import Remedy

Kind = Literal["headers", "compiler", "build", "sign", "depends", "never"]

_HEAD = 4 << 10
_TAIL = 256 << 10
"""Bytes of a log that are read at its beginning, where the kernel is named, and at its end: a compiler's last errors
take a few KB, and after the first one make goes on with what others of its jobs have begun."""

_LIST_LIMIT = 16 << 20
"""Bytes of a kernel's modules.dep: some 1 MB."""

_ARCHITECTURES = {
    "CONFIG_X86_64": "x86_64",
    "CONFIG_X86_32": "i686",
    "CONFIG_ARM64": "aarch64",
    "CONFIG_PPC64": "ppc64le",
    "CONFIG_S390": "s390x",
}
"""What uname(1) says with a kernel that has the option, as far as distributions with DKMS packages have it."""


@dataclass(frozen=True)
class Failure:
    """Why there is no build: the log's lines that tell, or the file that is missing, and which log that was."""

    kind: Kind
    lines: tuple[str, ...] = ()
    log: str | None = None
    told: make_log.MakeLog | None = None


def look(world: World) -> Iterator[Brought]:
    """Every module of every package, for the kernel that is judged. Raises `Unreadable`.

    Of several versions of a package the one that is installed for this kernel counts, or the one that dkms would build.
    """
    tree = world.tree
    config = _config(tree.kernel)
    architecture = _architecture(config)
    for package in _packages(world.machine, tree.kernel.release):
        found = dkms_tree.build(package, tree, architecture)
        if found.state in ("installed", "differs", "built", "weak"):
            yield from (_built(world, package, found, module, config) for module in found.modules)
        else:
            yield from _not_built(world, package, found, architecture, config)


def elsewhere(world: World) -> Mapping[str, tuple[str, ...]]:
    """What lacks a package's modules, for a sentence, to the other installed kernels that do, though it is for them."""
    found: dict[str, list[str]] = defaultdict(list)
    texts: dict[str, bytes] = {}
    for release in kernels.module_releases(world.machine):
        if release == world.tree.kernel.release:
            continue
        kernel = Kernel(release, f"/boot/vmlinuz-{release}", world.machine)
        for package in _packages(world.machine, release):
            if any(name.startswith(f"kernel-{release}-") for name in package.links):
                continue
            if release not in texts:
                texts[release] = _module_list(world.machine, release)
            names = dkms_tree.expected_modules(package)
            if not names or all(_lists(texts[release], name) for name in names):
                continue
            config = _config(kernel)
            if unwanted(package, release=release, architecture=_architecture(config), config=config) is None:
                found[_provider(package)].append(release)
    return {provider: tuple(releases) for provider, releases in found.items()}


def unwanted(
    package: Package, *, release: str, architecture: str | None, config: Mapping[str, str] | None
) -> str | None:
    """Why dkms does not build the package for this kernel by itself, a sentence; None where it does, or where that is
    not known."""
    conf = package.conf_for(release, architecture, config)
    if conf is None:
        return None
    excluded = _excluded(conf, release, architecture, config)
    if excluded is not None:
        return excluded
    if package.framework.no_autoinstall:
        return "/etc/dkms/no-autoinstall keeps dkms from building anything by itself."
    wanted = conf.value("AUTOINSTALL")
    if wanted is not None and wanted.lower() in ("", "no"):
        return "Its dkms.conf does not set AUTOINSTALL, so that it is only built by hand."
    return None


def failure(package: Package, release: str) -> Failure:
    """Why there is no build for a kernel, by the log, if that names the kernel, and by what a build needs.

    Raises `Unreadable` only for directories that cannot be looked at.
    """
    path = f"{package.directory}/build/make.log"
    log = _log(package.machine, path)
    if log is not None and log.kernel == release:
        return Failure(log.cause, log.lines, path, log)
    headers = f"{package.framework.modules}/{release}/build"
    if not package.machine.exists(f"{headers}/include"):  # what dkms asks for itself
        missing = f"{headers}/include" if package.machine.exists(headers) else headers
        return Failure("headers", (f"{missing} does not exist",))
    conf = package.conf_for(release)
    needed = conf.array("BUILD_DEPENDS") if conf is not None else ()
    lacking = [name for name in needed if name and not _is_there(package, name, release)]
    return Failure("depends", tuple(lacking)) if lacking else Failure("never")


# -- what is there ---------------------------------------------------------------------------------------------


def _packages(machine: Machine, release: str) -> list[Package]:
    """One version of each package."""
    versions: dict[str, list[Package]] = defaultdict(list)
    for package in dkms_tree.packages(machine):
        versions[package.name].append(package)
    chosen = []
    for several in versions.values():
        installed = [one for one in several if _has_link(one, release)] if len(several) > 1 else []
        chosen.append(installed[0] if installed else dkms_tree.newest(several))
    return chosen


def _has_link(package: Package, release: str) -> bool:
    start = f"kernel-{release}-"
    directory = f"{package.directory}/{release}"
    return any(
        name.startswith(start) and dkms_tree.is_installed(package, release, f"{directory}/{name[len(start) :]}")
        for name in package.links
    )


def _built(
    world: World, package: Package, found: Build, module: BuiltModule, config: Mapping[str, str] | None
) -> Brought:
    """One module of a package that dkms has built, or takes for built."""
    tree, path = world.tree, module.installed
    release = tree.kernel.release

    def brought(state: State, fault: Fault = "", why: str = "", remedy: Remedy | None = None) -> Brought:
        return Brought(module.name, _provider(package), state, path, fault, why, remedy=remedy or Remedy())

    if path is not None and (module.same is not False or found.state == "weak"):
        return brought("installed")
    conf = package.conf_for(release, None, config)
    reason = None if conf is None else _excluded(conf, release, None, config)
    if module.built is None:
        why = f"{found.directory}/module has no such module: the build was not whole."
        return brought("failed", "build", why, _again(package, release, found.directory))
    if path is None:
        dangling = _dangling(world, tree.named(module.file))
        if dangling is not None:
            return _linked(world, package, module.name, dangling)
        if reason is not None:
            return brought("unwanted", why=reason)
        if found.state == "built":
            why = f"dkms has built {module.built}, and has not installed it."
            return brought("built", "", why, _install(package, release))
        why = f"dkms takes it for installed, and no file in {tree.directory} has its name."
        return brought("built", "file", why, _install(package, release, force=True))
    if path.startswith(IN_TREE) and module.same is not True:
        why = f"{tree.path(path)} came with the kernel: dkms leaves in place what is as new as its own module."
        return brought("unwanted", why=reason or why)
    why = f"{tree.path(path)} has another content than {module.built}, which dkms has built."
    return brought("installed", "file", why, _install(package, release, force=True))


def _not_built(
    world: World, package: Package, found: Build, architecture: str | None, config: Mapping[str, str] | None
) -> Iterator[Brought]:
    """The modules of a package that dkms has not built for this kernel."""
    lacking = {}
    expected = dkms_tree.expected_modules(package)
    for file in expected:
        name = package.kernel_names.get(file, file)
        there = [*world.tree.named(file), *world.tree.named(name)]
        dangling = _dangling(world, there)
        if dangling is not None:
            yield _linked(world, package, name, dangling)
        elif all(path.startswith(IN_TREE) for path in there):
            lacking[name] = there[0] if there else None
        # What others have put there is judged as it is.
    if expected and not lacking:
        return
    state, fault, why, evidence, remedy = _told(world, package, found, architecture, config)
    for name, path in (lacking or {"": None}).items():
        yield Brought(name, _provider(package), state, path, fault, why, evidence, remedy)


def _dangling(world: World, paths: Iterable[str]) -> str | None:
    """Of the files of a module that did not come with the kernel a link that leads nowhere, if there is no other."""
    outside = [path for path in paths if not path.startswith(IN_TREE)]
    if any(world.machine.exists(world.tree.path(path)) for path in outside):
        return None
    return next(iter(outside), None)


def _linked(world: World, package: Package, module: str, path: str) -> Brought:
    """With `symlink_modules` dkms puts links to its own tree into /lib/modules."""
    link = world.tree.path(path)
    target = world.machine.readlink(link)
    why = f"{link} leads to {target}, which does not exist."
    remedy = _install(package, world.tree.kernel.release, force=True)
    return Brought(module, _provider(package), "absent", path, "link", why, remedy=remedy)


def _told(
    world: World, package: Package, found: Build, architecture: str | None, config: Mapping[str, str] | None
) -> tuple[State, Fault, str, tuple[str, ...], Remedy]:
    """What a person is told of a package that was not built: its state, what stands in the way, why, and what helps."""
    machine, release = world.machine, world.tree.kernel.release
    reason = unwanted(package, release=release, architecture=architecture, config=config)
    if reason is not None:
        conf = package.conf_for(release, architecture, config)
        by_hand = conf is not None and _excluded(conf, release, architecture, config) is None
        return "unwanted", "", reason, (), _install(package, release) if by_hand else Remedy()
    if package.problem is not None and not machine.is_file(f"{package.directory}/source/dkms.conf"):
        text = f"Install {package.name} {package.version} again, or, if it is not wanted, remove {package.directory}."
        return "absent", "source", package.problem, (), Remedy(text)
    failed = failure(package, release)
    if found.cut_off and failed.log is None:
        why = f"A build was interrupted: {found.directory} has no modules, and while it is there dkms builds no more."
        return "absent", "", why, (), _again(package, release, found.directory)
    if failed.kind == "headers" and failed.log is None:
        remedy = _with_headers(machine, package, release)
        return "absent", "headers", f"{failed.lines[0]}.", (), remedy
    if failed.log is not None:
        remedy = _mend(machine, package, release, failed, config)
        return "failed", _FAULTS[failed.kind], log_says(failed.log, failed.told), failed.lines, remedy
    if failed.kind == "depends":
        why = f"dkms builds it after {', '.join(failed.lines)}, which it has not installed for this kernel."
        return "absent", "", why, (), _install(package, release)
    why = "No build of it was tried."
    if package.problem is not None:
        why = f"{why} {package.problem}"
    elif units.enabled(machine, "dkms.service"):
        # Nothing asks udev or systemd-modules-load.service again for what could not be loaded before.
        why = f"{why} At the next boot dkms.service makes one, too late for what is loaded before it."
    return "absent", "", why, (), _install(package, release)


_FAULTS: Mapping[Kind, Fault] = {"headers": "headers", "compiler": "compiler", "build": "build", "sign": "sign"}


# -- what helps ------------------------------------------------------------------------------------------------


def _provider(package: Package) -> str:
    return f"the DKMS package {package.name}/{package.version}"


def _command(package: Package, release: str, *, force: bool = False) -> tuple[str, ...]:
    return ("dkms", "install", *(["--force"] if force else []), f"{package.name}/{package.version}", "-k", release)


def _install(package: Package, release: str, *, force: bool = False) -> Remedy:
    return Remedy("Have dkms build and install it.", (_command(package, release, force=force),))


def _again(package: Package, release: str, directory: str) -> Remedy:
    """What has a directory dkms takes for built, and what is not whole in there its `remove` passes over."""
    text = "Remove what is left of that build, and have dkms build it again."
    return Remedy(text, (("rm", "-r", directory), _command(package, release)))


def _with_headers(machine: Machine, package: Package, release: str) -> Remedy:
    command = remedies.install_headers(machine, release)
    if not command:
        return Remedy("Install the headers of this kernel, and have dkms build it.", (_command(package, release),))
    text = f"Install the headers of this kernel, {command[-1]}, and have dkms build it."
    return Remedy(text, (command, _command(package, release)))


def _mend(
    machine: Machine, package: Package, release: str, failed: Failure, config: Mapping[str, str] | None
) -> Remedy:
    """What helps after a build that failed; where the log is to be believed, first what it misses."""
    command = _command(package, release)
    if failed.kind == "headers":
        return _with_headers(machine, package, release)
    if failed.kind == "compiler":
        compiler = (config or {}).get("CONFIG_CC_VERSION_TEXT", "")
        named = re.match(r"(?:[\w.]+-)*?((?:gcc|clang)(?:-\d+)?)\s", compiler)
        if named is not None and remedies.has(machine, "apt-get"):
            text = f"Install {named.group(1)}, which built the kernel, and have dkms build it again."
            return Remedy(text, (("apt-get", "install", named.group(1)), command))
    text = (
        f"Install a version of {package.name} that is made for this kernel, or mend what the log says; then build it."
    )
    return Remedy(text, (command,))


# -- whether it is wanted, and what a build has printed --------------------------------------------------------


def _config(kernel: Kernel) -> Mapping[str, str] | None:
    with suppress(Unreadable, Missing):
        return kernel.config
    return None


def _architecture(config: Mapping[str, str] | None) -> str | None:
    return next((name for option, name in _ARCHITECTURES.items() if (config or {}).get(option) == "y"), None)


def _excluded(conf: DkmsConf, release: str, architecture: str | None, config: Mapping[str, str] | None) -> str | None:
    """Which directive of dkms.conf keeps the package from this kernel (read_conf of dkms 3.2, check_version_sanity of
    those before); a sentence."""
    pattern = conf.value("BUILD_EXCLUSIVE_KERNEL")
    if pattern and bash.matches(pattern, release) is False:
        return f"Its dkms.conf wants a kernel that matches “{pattern}” (BUILD_EXCLUSIVE_KERNEL)."
    least = conf.value("BUILD_EXCLUSIVE_KERNEL_MIN")
    if least and dkms_conf.compare(release, least) < 0:
        return f"Its dkms.conf wants at least the kernel {least} (BUILD_EXCLUSIVE_KERNEL_MIN)."
    most = conf.value("BUILD_EXCLUSIVE_KERNEL_MAX")
    if most and dkms_conf.compare(release, most) > 0:
        return f"Its dkms.conf wants at most the kernel {most} (BUILD_EXCLUSIVE_KERNEL_MAX)."
    own = conf.value("OBSOLETE_BY")
    if most == "" and own and dkms_conf.compare(release, own) > 0:
        return f"Its dkms.conf says that the kernel has its modules itself since {own} (OBSOLETE_BY)."
    pattern = conf.value("BUILD_EXCLUSIVE_ARCH")
    if pattern and architecture is not None and bash.matches(pattern, architecture) is False:
        return f"Its dkms.conf wants an architecture that matches “{pattern}” (BUILD_EXCLUSIVE_ARCH)."
    for word in (conf.value("BUILD_EXCLUSIVE_CONFIG") or "").split() if config is not None else ():
        option = word.lstrip("!")
        if ((config or {}).get(option) in ("y", "m")) == word.startswith("!"):
            kind = "without" if word.startswith("!") else "with"
            return f"Its dkms.conf wants a kernel {kind} {option} (BUILD_EXCLUSIVE_CONFIG)."
    return None


def _is_there(package: Package, name: str, release: str) -> bool:
    """Whether dkms has another package installed for a kernel."""
    links = package.machine.listdir(f"{package.framework.tree}/{name}")
    return any(link.startswith(f"kernel-{release}-") for link in links)


def _module_list(machine: Machine, release: str) -> bytes:
    with suppress(Unreadable):
        return machine.read_if_there(f"/lib/modules/{release}/modules.dep", limit=_LIST_LIMIT) or b""
    return b""


def _lists(text: bytes, name: str) -> bool:
    """Whether a modules.dep names a module, wherever it lies."""
    pattern = re.escape(name).replace("_", "[-_]").encode("utf-8", "surrogateescape")
    return re.search(rb"^(?:[^:\n]*/)?" + pattern + rb"\.ko(?:\.\w+)?:", text, re.MULTILINE) is not None


def _log(machine: Machine, path: str) -> make_log.MakeLog | None:
    try:
        with machine.open(path) as file:
            head = file.read(_HEAD)
            file.seek(max(os.fstat(file.fileno()).st_size - _TAIL, 0))
            return make_log.parse(head, file.read(_TAIL))
    except (Missing, Unreadable, OSError):
        return None
