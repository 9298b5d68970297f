"""Are the packages of the kernel that boots next installed properly, and are its files still those that they brought?

What the other checks find in the files decides; a package's state says why, or what to expect of them. So a state is
a warning, and a blocker only what it left in the files of the target: modules of two builds side by side, modules that
are gone, an initramfs with the modules of the build before.

Of a kernel's files the image and the modules in use are read at each run, the others only where the package manager's
back end says that they may have changed since they were unpacked, and of those at most so much as the time allows.
"""

from __future__ import annotations

import os
import re
import stat
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain

from safeupdate.case import Case, Check
from safeupdate.checks.kernel_files import first_names
from safeupdate.errors import FormatError, Missing, ProgramFailed, Unreadable
from safeupdate.formats import dpkg_status, modules
from safeupdate.machine import Machine
from safeupdate.packages import Database, Package, PackedFile, at_work
from safeupdate.packages.package import directories
from safeupdate.remedies import reinstall_kernel
from safeupdate.report import Finding, NotApplicable, Remedy, blocker, note, unknown, warning

_READ_LIMIT = 64 << 20
"""Bytes read of a package that is whole: 0.1 s. Where every file may have changed, as in some copies, those that this
machine is known to use come first. Of a package that is not whole all is read."""

_LEFT_BEHIND = re.compile(r"\.dpkg-new$|;[0-9a-f]{8}$")
"""Files that are unpacked but not yet in their place (dpkg: src/main/archives.c, rpm: lib/fsm.c)."""

_BACKUP = ".dpkg-tmp"
"""The second name that dpkg gives to a file before it puts another in its place."""

_VERSIONED = re.compile(r"\d+\.\d+")
"""In the name of a package with a kernel, not of one that only depends on the newest (`linux-image-amd64`)."""

_LOADERS = {"grub": ("grub", "shim"), "systemd-boot": ("systemd-boot", "systemd-ukify", "sdbootutil", "shim")}

_STATES = {
    "half-installed": "it was not unpacked, or not removed, to the end",
    "unpacked": "its files are there, but it was not configured",
    "half-configured": "its configuration failed, or was cut short",
    "triggers-awaited": "it waits for what another package has to do",
    "triggers-pending": "it has not yet acted on what other packages changed",
    "installed": "dpkg says that it must be installed again",
}

_CAP = 10


def check(case: Case) -> Iterator[Finding]:
    """The target's own packages and their files; then the other packages that a boot hangs on."""
    if case.release is None:
        raise NotApplicable("it is not known which kernel boots next")
    found = case.databases
    if not found:
        raise NotApplicable("no package manager that this program knows keeps a database here")
    database = found[0]
    try:
        # Where a foreign package manager is installed too, nothing that this machine boots with is in its database.
        for database in found:
            if database.packages():
                break
        else:
            database = found[0]
        brought = database.of_kernel(case.release)
        told = False
        for finding in chain(_own(case, database, case.release, brought), _others(case, database, brought)):
            told = True
            yield finding
        if told:
            yield from _at_work(case, database)
    except (FormatError, ProgramFailed, Unreadable) as error:
        yield unknown(
            "packages.database-unreadable",
            database.place,
            f"The package database cannot be read: {error}.",
            "Whether the kernel's packages are installed properly, and their files are still those that they brought, "
            "cannot be told.",
            remedy=_read_again(case.machine, database, error),
        )
        yield from _at_work(case, database)
        return
    if not (brought or told):
        raise NotApplicable(f"the kernel {case.release} came with no package of {database.name}")


def _at_work(case: Case, database: Database) -> Iterator[Finding]:
    """What is found in the middle of an update may be what the update is about to bring to its end."""
    process = at_work(case.machine, database)
    if process is not None:
        yield warning(
            "packages.at-work",
            database.name,
            f"An update is at work at this moment (process {process}): what is told of packages may be half done, not "
            "broken.",
            "A reboot now would cut it short, and no other update can begin.",
            evidence=[f"process {process} holds the lock of {database.name}"],
            remedy=Remedy("Wait until it has come to its end, and check again."),
        )


def _read_again(machine: Machine, database: Database, error: Exception) -> Remedy:
    if isinstance(error, ProgramFailed) and "cannot be started" in str(error):
        return Remedy("Install rpm where this program runs.")
    if isinstance(error, ProgramFailed) and machine.live:
        return Remedy("Have rpm make its database anew from the headers in it.", (("rpmdb", "--rebuilddb"),))
    if isinstance(error, FormatError) and str(error).startswith(database.place):
        return _put_back(machine, database.place)
    return Remedy("Run the check as root.") if machine.live and isinstance(error, Unreadable) else Remedy()


def _put_back(machine: Machine, place: str) -> Remedy:
    """dpkg keeps its record of the time before the last change; power that took one may have taken the other too."""
    old = f"{place}-old"
    with suppress(FormatError, Unreadable):
        if dpkg_status.parse(machine.read_if_there(old) or b""):
            keep = ("cp", "-p", place, f"{place}.broken")
            return Remedy(
                f"Put back what dpkg keeps of the time before its last change, {old}. Of that change dpkg then knows "
                "nothing: what was installed in it, install again.",
                (*([keep] if machine.exists(place) else []), ("cp", "-p", old, place)),
            )
    return Remedy()


# -- the target's own ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Files:
    """What became of the files that one package brought; paths as the package has them."""

    changed: list[str] = field(default_factory=list)
    blank: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Kernel:
    """The modules' directory of one release."""

    case: Case
    release: str

    @cached_property
    def present(self) -> Mapping[str, os.stat_result]:
        """Every file, relative to the directory."""
        return self.case.machine.below(directories(self.release)[0])

    @cached_property
    def listed(self) -> frozenset[str]:
        """The modules that depmod found; what `kernel-files` says of those is not said here again."""
        try:
            data = self.case.machine.read_if_there(f"{directories(self.release)[0]}/modules.dep")
            return frozenset(modules.parse_dep(data or b""))
        except FormatError:
            return frozenset()

    @cached_property
    def left_behind(self) -> tuple[str, ...]:
        """Files that were unpacked and have not come to their place."""
        directory = directories(self.release)[0]
        paths = [f"{directory}/{path}" for path in self.present] + self.in_boot
        return tuple(path for path in paths if _LEFT_BEHIND.search(path))

    @cached_property
    def not_placed(self) -> list[str]:
        """Modules of which nothing is there but what was unpacked: a kernel that was not here before, cut short."""
        paths = [_LEFT_BEHIND.sub("", path) for path in self.left_behind]
        paths = [path for path in sorted({*paths}) if modules.is_module(path)]
        return [path for path in paths if not (self.status(path) or self.superseded(path))]

    @cached_property
    def in_boot(self) -> list[str]:
        return [f"/boot/{name}" for name in self.case.machine.listdir("/boot") if self.release in name]

    def inside(self, path: str) -> str | None:
        """`path` relative to the directory; None for what is elsewhere."""
        above, found, inside = path.partition(f"/lib/modules/{self.release}/")
        return inside if found and above in ("", "/usr") else None

    def status(self, path: str) -> os.stat_result | None:
        inside = self.inside(path)
        return self.case.machine.stat(path) if inside is None else self.present.get(inside)

    def superseded(self, path: str) -> bool:
        """Whether depmod found another module of that name: DKMS moves the one that its own replaces out of the way."""
        return self.inside(path) not in self.listed and modules.module_name(path) in self._names

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(map(modules.module_name, self.listed))

    def in_use(self, path: str) -> bool:
        return modules.module_name(path) in self.case.modules_in_use - self.case.loaded_early

    def compare(self, database: Database, package: Package) -> _Files:
        """Hold the files on disk against what the package brought."""
        found = _Files()
        first, later = [], []
        for file in database.files(package, self.release):
            status = self.status(file.path)
            if status is None:
                # Of an image that is gone boot-entry speaks.
                found.missing.extend([file.path] if modules.is_module(file.path) else [])
            elif status.st_size == 0:
                found.blank.append(file.path)
            elif not stat.S_ISREG(status.st_mode) or (file.size is not None and status.st_size != file.size):
                found.changed.append(file.path)
            elif not modules.is_module(file.path) or self.in_use(file.path):
                first.append((file, status.st_size))
            elif not package.whole or file.touched(status):
                later.append((file, status.st_size))
        left = _READ_LIMIT
        for file, size in first + later:
            left -= size
            if left < 0 and package.whole:
                break
            self._read(file, found)
        return found

    def _read(self, file: PackedFile, found: _Files) -> None:
        import hashlib

        digest = hashlib.new(file.algorithm, usedforsecurity=False)
        blank = True
        try:
            with self.case.machine.open(file.path) as opened:
                while piece := opened.read(1 << 18):
                    digest.update(piece)
                    blank = blank and not piece.strip(b"\0")
        except Missing:
            found.missing.append(file.path)
        except (Unreadable, OSError):
            # Of the image `kernel-files` says so; what a capture left out is compared by nobody.
            machine = self.case.machine
            if modules.is_module(file.path) and machine.resolve(file.path) not in machine.left_out:
                found.unread.append(file.path)
        else:
            if digest.hexdigest() != file.digest:
                (found.blank if blank else found.changed).append(file.path)

    def stale(self) -> str | None:
        """A module that is another in the initramfs than on disk; None where all are the same, or it cannot be told."""
        try:
            index = self.case.index
        except Unreadable:
            return None  # `initramfs` says so
        for path, entry in index.entries.items() if index is not None else ():
            inside = self.inside(f"/{path}")
            status = self.present.get(inside) if inside is not None and modules.is_module(path) else None
            if status is None or entry.crc32 is None:
                continue
            try:
                if zlib.crc32(self.case.machine.read(f"/{path}")) != entry.crc32:
                    return f"/{path}"
            except (Missing, Unreadable):
                continue
        return None


def _own(case: Case, database: Database, release: str, brought: tuple[Package, ...]) -> Iterator[Finding]:
    kernel = _Kernel(case, release)
    # Of two versions of one package the later one's files are there.
    for package in {package.name: package for package in brought}.values():
        files = kernel.compare(database, package)
        replaced = [path for path in files.changed if modules.is_module(path)]
        yield from _lost(kernel, package, files)
        if not package.whole:
            yield from _not_whole(kernel, package, files)
        elif database.name == "rpm" and kernel.left_behind and replaced:
            yield blocker(
                "packages.half-replaced",
                package.name,
                f"An installation of the kernel {release} was cut short: {len(replaced)} files of the package "
                f"{package.name} are replaced already, {len(kernel.left_behind)} have yet to be. Replaced: "
                f"{first_names(replaced)}.",
                "The kernel refuses modules of another build than its own, or fails with them.",
                evidence=_some("replaced", replaced) + _some("yet to be put in place", kernel.left_behind),
                remedy=reinstall_kernel(case.machine, release),
            )
        elif files.changed:
            yield warning(
                "packages.files-changed",
                package.name,
                f"Files of the kernel {release} that are not those that the package {package.name} brought: "
                f"{len(files.changed)}.",
                "Signed or stripped on purpose they are good; otherwise they are damaged.",
                evidence=_some("changed", files.changed),
                remedy=reinstall_kernel(case.machine, release),
            )
        if files.unread:
            yield unknown(
                "packages.files-unreadable",
                package.name,
                f"Files of the kernel {release} that cannot be read: {len(files.unread)}.",
                f"Whether they are still those that the package {package.name} brought cannot be told.",
                evidence=_some("unreadable", files.unread),
                remedy=Remedy("Run the check as root.") if case.machine.live else Remedy(),
            )
    litter = [path for path in kernel.in_boot if path.endswith(_BACKUP)] + list(kernel.left_behind)
    if litter and database.name == "dpkg" and all(package.whole for package in brought):
        yield note(
            "packages.left-behind",
            os.path.dirname(litter[0]),
            f"{len(litter)} files are left of an installation of the kernel {release} that was cut short once.",
            "They only take room.",
            evidence=_some("left behind", litter),
            remedy=Remedy("Remove them.", (("rm", *litter[:_CAP]),)),
        )


def _not_whole(kernel: _Kernel, package: Package, files: _Files) -> Iterator[Finding]:
    """What dpkg did not bring to its end, and what of it is in the way of the next boot."""
    release = kernel.release
    state = f"The package {package.name} {package.version} of the kernel {release} is {_state(package)}"
    remedy = _finish(package)
    evidence = [f"dpkg: {package.name} {package.version} {package.state}" + ", reinstall required" * package.reinstall]
    waiting = kernel.left_behind
    secure_boot = kernel.case.firmware.secure_boot
    # What depmod did not find before was left out on purpose (dpkg's path-exclude).
    gone = [path for path in files.missing + files.blank if kernel.inside(path) in kernel.listed]
    gone += [path for path in kernel.not_placed if path not in gone]
    if gone and package.state == "half-installed":
        yield blocker(
            "packages.files-missing",
            package.name,
            f"{state}, and {len(gone)} of its files are missing or empty: {first_names(gone)}.",
            "The kernel comes up without these modules, or does not come up.",
            evidence=evidence + _some("missing or empty", gone),
            remedy=remedy,
        )
    elif waiting and files.changed:
        yield blocker(
            "packages.half-replaced",
            package.name,
            f"{state}: {len(files.changed)} files are replaced already, {len(waiting)} have yet to be. Replaced: "
            f"{first_names(files.changed)}.",
            "The kernel refuses modules of another build than its own, or fails with them.",
            evidence=evidence + _some("replaced", files.changed) + _some("yet to be put in place", waiting),
            remedy=remedy,
        )
    elif secure_boot is not False and (module := kernel.stale()) is not None:
        yield (blocker if secure_boot else unknown)(
            "packages.initramfs-of-another-build",
            package.name,
            f"{state}, and the initramfs has modules of another build than {directories(release)[0]}.",
            "With Secure Boot on, the new kernel refuses the old modules in the initramfs, which another build's key "
            "has signed, and finds no root file system.",
            evidence=[*evidence, f"not the same in the initramfs: {module}"],
            remedy=remedy,
        )
    else:
        yield warning(
            "packages.kernel-not-configured",
            package.name,
            f"{state}.",
            "Its initramfs and its boot entry may be those of before; their own checks say whether they are good. No "
            "further update can be installed.",
            evidence=evidence + _some("yet to be put in place", waiting),
            remedy=remedy,
        )


def _lost(kernel: _Kernel, package: Package, files: _Files) -> Iterator[Finding]:
    """Files of a package that should be there, and that no list of depmod's misses."""
    whole = package.state != "half-installed"  # else `_not_whole` speaks of what is not in use
    absent = [path for path in files.missing + files.blank if not kernel.superseded(path)]
    lost = [path for path in absent if kernel.inside(path) not in kernel.listed]
    hollow = [path for path in absent if whole and (status := kernel.status(path)) is not None and status.st_size]
    needed = sorted({path for path in lost + hollow if modules.is_module(path) and kernel.in_use(path)})
    remedy = reinstall_kernel(kernel.case.machine, kernel.release)
    if needed:
        yield blocker(
            "packages.module-in-use-lost",
            package.name,
            f"Modules that this machine uses, and that the package {package.name} brought, are gone or hold nothing: "
            + ", ".join(modules.module_name(path) for path in needed[:_CAP])
            + ".",
            "What they drive does not come back after the reboot.",
            evidence=_some("missing or empty", needed),
            remedy=remedy,
        )
    elif hollow:
        yield warning(
            "packages.module-hollow",
            package.name,
            f"{len(hollow)} files that the package {package.name} brought hold nothing but zeros.",
            "They cannot be loaded; no use of them on this machine is known. The power failed, or a disk is failing.",
            evidence=_some("zeros", hollow),
            remedy=remedy,
        )
    elif lost and whole:
        yield note(
            "packages.files-left-out",
            package.name,
            f"{len(lost)} files that the package {package.name} brought are not here, and depmod knows of that.",
            "No use of them on this machine is known.",
            evidence=_some("missing or empty", lost),
        )


# -- what else the boot hangs on -------------------------------------------------------------------------------


def _others(case: Case, database: Database, brought: tuple[Package, ...]) -> Iterator[Finding]:
    others = [package for package in database.packages() if package not in brought]
    loaders = _LOADERS.get(case.plan.loader or "", ("",))
    kernels = [one for one in others if one.role == "kernel" and not one.whole and _VERSIONED.search(one.name)]
    if kernels:
        yield warning(
            "packages.other-kernel",
            ", ".join(one.name for one in kernels),
            "Packages of other kernels than the one that boots next are not installed properly.",
            "It is not sure that those kernels can be started, and no further update can be installed.",
            evidence=[f"{one.name} {one.version} is {_state(one)}" for one in kernels[:_CAP]],
            remedy=_finish(kernels[0]),
        )
    tools = [
        one
        for one in others
        if one.role in ("initramfs", "modules") or (one.role == "loader" and one.name.startswith(loaders))
    ]
    waiting = [
        one for one in tools if one.state == "triggers-pending" and not one.reinstall and one.role == "initramfs"
    ]
    if waiting:
        yield warning(
            "packages.triggers-pending",
            waiting[0].name,
            f"The initramfs was not built anew since packages changed that it is made from: {waiting[0].name} has "
            f"triggers pending ({', '.join(waiting[0].triggers)}).",
            "It starts as before the change; what the change was to bring, or to mend, is not in it.",
            remedy=_finish(waiting[0]),
        )
    broken = [one for one in tools if not one.whole and one not in waiting]
    if broken:
        yield warning(
            "packages.not-configured",
            ", ".join(one.name for one in broken),
            "Packages that make the initramfs, the boot menu or modules are not installed properly.",
            "What they made before is still there, and is judged; what they were to make now may be missing in it.",
            evidence=[f"{one.name} {one.version} is {_state(one)}" for one in broken[:_CAP]],
            remedy=_finish(broken[0]),
        )
    if database.name == "rpm":
        yield from _two_versions([*brought, *tools])
        yield from _not_unpacked(case, brought)


def _two_versions(judged: list[Package]) -> Iterator[Finding]:
    """An rpm that was killed leaves two versions of what it was replacing."""
    versions: dict[tuple[str, str], list[Package]] = {}
    for one in judged:
        # Modules for several kernels may be there in several versions.
        if one.role != "modules" or one.name in ("dkms", "akmods"):
            versions.setdefault((one.name, one.architecture), []).append(one)
    double = [found for found in versions.values() if len(found) > 1]
    if double:
        older = [f"{one.name}-{one.version}.{one.architecture}" for found in double for one in found[:-1]]
        yield warning(
            "packages.two-versions",
            ", ".join(found[0].name for found in double),
            "An update was cut short: packages that the boot hangs on are installed in two versions.",
            "Scripts that were to make the initramfs and the boot menu anew may not have run.",
            evidence=[f"{one.name} {one.version}" for found in double for one in found][:_CAP],
            remedy=Remedy("Take the older versions out of the database.", (("rpm", "--erase", "--justdb", *older),)),
        )


def _not_unpacked(case: Case, brought: tuple[Package, ...]) -> Iterator[Finding]:
    """Files under their first names, of which rpm, unlike dpkg, keeps no state."""
    remedy = Remedy("Install the kernel again, then remove these files.")
    left: list[str] = []
    for release in case.machine.listdir("/lib/modules"):
        kernel = _Kernel(case, release)
        gone = kernel.not_placed if release == case.release else []
        if gone and brought and kernel.listed:
            # depmod ran without them: a package of more modules was to be added to a kernel that does without.
            gone = [path for path in gone if kernel.in_use(path)]
        if gone:
            yield blocker(
                "packages.files-missing",
                os.path.dirname(gone[0]),
                f"An installation of the kernel {release} was cut short while its files were unpacked: {len(gone)} "
                f"modules are not in their place: {first_names(gone)}.",
                "The kernel comes up without these modules, or does not come up.",
                evidence=_some("not in its place", gone),
                remedy=remedy,
            )
        # depmod runs after all files are in their place.
        elif release == case.release or not case.machine.exists(f"/lib/modules/{release}/modules.dep"):
            left += kernel.left_behind
    if left:
        yield warning(
            "packages.unpacking-cut-short",
            os.path.dirname(left[0]),
            "An installation of a kernel was cut short while its files were unpacked.",
            "A kernel that was not there before cannot be started; one that was is as before, where no other finding "
            "says otherwise.",
            evidence=_some("not in its place", left),
            remedy=remedy,
        )


def _state(package: Package) -> str:
    return f"{package.state} ({_STATES.get(package.state, 'it is not installed')})"


def _finish(package: Package) -> Remedy:
    """Only a package whose files are whole can be configured; apt refuses all until a dpkg that was killed went on."""
    configure = ("dpkg", "--configure", "-a")
    if package.state == "half-installed" or package.reinstall:
        again = ("apt-get", "install", "--reinstall", package.name)
        return Remedy(f"Let dpkg do what it has not done, then install {package.name} again.", (configure, again))
    return Remedy("Let dpkg do what it has not done.", (configure,))


def _some(what: str, paths: list[str] | tuple[str, ...]) -> list[str]:
    more = [f"and {len(paths) - _CAP} more"] if len(paths) > _CAP else []
    return [f"{what}: {path}" for path in paths[:_CAP]] + more


CHECK = Check("packages", "The packages of the kernel are installed properly", essential=True, run=check)
