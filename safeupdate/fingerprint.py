"""What the next boot is made of, as digests: cheap ones that tell whether anything changed, and checksums of content.

A fingerprint (`of`) is made from what stat(2) tells and from small texts, in milliseconds: something changed.
A `Hasher` reads whole files: it says whether a kernel is still the one that came up, however it was touched since.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from safeupdate import __version__, packages, steering
from safeupdate.errors import Missing, SafeupdateError, Unreadable

if TYPE_CHECKING:
    from safeupdate.boot.firmware import Firmware
    from safeupdate.boot.plan import BootEntry, BootPlan
    from safeupdate.kernels import Kernel
    from safeupdate.machine import Machine
    from safeupdate.packages import Database

_RACY = 3_000_000_000
"""Nanoseconds: a file that changed so recently may change again and keep its times, FAT's tick being two seconds."""

_PIECE = 1 << 20

_FILE_LIMIT = 4 << 30
"""Bytes of one file that a boot could read: FAT has none that is larger, and no loader reads an image that is."""

_MENU_LIMIT = 4 << 20
"""Bytes of a menu's file that are read; the largest `grub.cfg` of a real machine has 60 kB."""

_ESPS = ("/boot", "/boot/efi", "/boot/esp", "/efi")
"""Where distributions mount the ESP or XBOOTLDR; the same file system at two of them is read twice."""

_GRUBS = ("/boot/grub", "/boot/grub2")

_BUILDING = ("build", "source")
"""Below a kernel's modules: the sources to build others with, a link or (Arch Linux) 20,000 files."""

_LOADER_STATE = (
    "LoaderEntryDefault",
    "LoaderEntryPreferred",
    "LoaderEntryOneShot",
    "LoaderEntryLastBooted",
    "LoaderConfigTimeout",
    "LoaderConfigTimeoutOneShot",
)
"""The variables by which systemd-boot chooses; the others tell of the boot that was."""


class Hasher:
    """SHA-256 of files and of module directories; what is known and has not been touched since is not read again.

    `known` maps a path to the stamp and the checksum of then; a directory's path ends with a slash. `fresh` holds, in
    the same form, what was read this time.
    """

    def __init__(self, machine: Machine, known: Mapping[str, tuple[str, str]] = MappingProxyType({})) -> None:
        self.machine = machine
        self.fresh: dict[str, tuple[str, str]] = {}
        self._known = dict(known)
        self._stamps: dict[str, tuple[str, int]] = {}

    def stamp(self, path: str) -> str:
        """A stamp for all that is in a directory; its files are looked at once. Raises `Missing` and `Unreadable`."""
        return self._stamp(path)[0]

    def changed(self, path: str) -> int:
        """When a file, a link to it, or anything in a module directory, was changed last (its ctime).

        In nanoseconds since 1970. Raises `Missing` and `Unreadable`.
        """
        if self.machine.is_dir(path):
            return self._stamp(path)[1]
        link = self.machine.stat(path, follow=False)
        return max(self._file_stamp(path)[1], 0 if link is None else link.st_ctime_ns)

    def _stamp(self, path: str) -> tuple[str, int]:
        if path not in self._stamps:
            self._stamps[path] = _tree_stamp(self.machine, path)
        return self._stamps[path]

    def file(self, path: str) -> str:
        """The checksum of a file's content, in hexadecimal. Raises `Missing` and `Unreadable`."""
        stamp, changed = self._file_stamp(path)
        if self._is_known(path, stamp):
            return self._known[path][1]
        found = self._content(path)
        self._learn(path, stamp, changed, found, self._file_stamp(path)[0])
        return found

    def tree(self, path: str) -> str:
        """One checksum over a module directory: names, modes, link targets and contents of all in it.

        Without `build` and `source`, which no boot reads. Raises `Missing` and `Unreadable`.
        """
        from hashlib import sha256

        key = f"{path}/"
        stamp, changed = self._stamp(path)
        if self._is_known(key, stamp):
            return self._known[key][1]
        lines = []
        for name, status in _entries(self.machine, path):
            line = f"{name}\0{status.st_mode:o}\0"
            if stat.S_ISREG(status.st_mode):
                line += self._content(f"{path}/{name}")
            elif stat.S_ISLNK(status.st_mode):
                line += self.machine.readlink(f"{path}/{name}")
            lines.append(line)
        found = sha256(_encode(sorted(lines))).hexdigest()
        self._learn(key, stamp, changed, found, _tree_stamp(self.machine, path)[0])
        return found

    def _is_known(self, key: str, stamp: str) -> bool:
        return key in self._known and self._known[key][0] == stamp

    def _learn(self, key: str, stamp: str, changed: int, found: str, stamp_after: str) -> None:
        if stamp == stamp_after and changed < time.time_ns() - _RACY:
            self._known[key] = self.fresh[key] = stamp, found

    def _file_stamp(self, path: str) -> tuple[str, int]:
        status = self.machine.stat(path)
        if status is None:
            raise Missing(path)
        return _stamp(status), status.st_ctime_ns

    def _content(self, path: str) -> str:
        from hashlib import sha256

        digest = sha256()
        if self.machine.size(path) > _FILE_LIMIT:
            raise Unreadable(path, f"it is larger than {_FILE_LIMIT >> 30} GiB")
        with self.machine.open(path) as file:
            try:
                while piece := file.read(_PIECE):
                    digest.update(piece)
            except OSError as error:
                raise Unreadable(path, os.strerror(error.errno or 0)) from None
        return digest.hexdigest()


@dataclass(frozen=True)
class Booted:
    """The checksums of what an entry starts, each None where it cannot be had: the kernel's file (of a unified image,
    all of it), path and checksum of every initramfs image that is there, and the release's module directory."""

    kernel: str | None
    initramfs: tuple[tuple[str, str], ...] | None
    modules: str | None


def booted(hasher: Hasher, entry: BootEntry, release: str) -> Booted:
    """What `entry` starts as it is on disk now."""
    kernel = entry.kernel.path if entry.kernel is not None else None
    images: list[tuple[str, str]] | None = []
    for file in entry.initramfs:
        if file.absent:
            continue
        found = _checksum(hasher.file, file.path)
        if images is not None:
            images = None if file.path is None or found is None else [*images, (file.path, found)]
    return Booted(
        _checksum(hasher.file, kernel),
        None if images is None else tuple(images),
        _checksum(hasher.tree, f"/lib/modules/{release}"),
    )


def _checksum(read: Callable[[str], str], path: str | None) -> str | None:
    try:
        return None if path is None else read(path)
    except (Missing, Unreadable):
        return None


def digest(parts: Mapping[str, str]) -> str:
    """One digest over all parts of a fingerprint."""
    return _short(f"{name}\0{part}" for name, part in sorted(parts.items()))


def of(
    hasher: Hasher, firmware: Firmware, plan: BootPlan, kernels: Sequence[Kernel], databases: Sequence[Database] = ()
) -> dict[str, str]:
    """The fingerprint of what boots next and of what it could fall back to: short digests by part, so that it can be
    said what changed; 64 bits, against accidents and not against people. Another version of the program judges anew, so
    that it counts as a change. Nothing is raised for what cannot be read.
    """
    machine = hasher.machine
    images = [file.path for entry in plan.entries for file in (entry.kernel, entry.devicetree) if file and file.path]
    early = [file.path for entry in plan.entries for file in entry.initramfs if file.path]
    releases = [kernel.release for kernel in kernels] + [entry.release for entry in plan.entries if entry.release]
    lines: dict[str, Iterable[str]] = {
        "kernels": _files(machine, [*images, *(kernel.image for kernel in kernels)]),
        "initramfs": _files(machine, [*early, *_listed(machine, "/boot", "init")]),
        "modules": _trees(hasher, [f"/lib/modules/{release}" for release in dict.fromkeys(releases)]),
        "menu": _texts(machine, _menu(machine, plan)),
        "loader": [*_loader(hasher), *_told(plan)],
        "loader-state": [*_texts(machine, [f"{grub}/grubenv" for grub in _GRUBS]), *_variables(firmware)],
        "packages": _packages(databases),
        "dkms": _dkms(hasher),
        "fstab": _texts(machine, ["/etc/fstab"]),
        "crypttab": _texts(machine, ["/etc/crypttab"]),
        "config": _texts(
            machine, ["/etc/safeupdate/safeupdate.toml", *_listed(machine, "/etc/safeupdate/safeupdate.toml.d")]
        ),
        "program": [__version__],
    }
    return {part: _short(found) for part, found in lines.items()}


def _menu(machine: Machine, plan: BootPlan) -> Iterator[str]:
    if plan.config is not None:
        yield plan.config
    for entry in plan.entries:
        yield entry.source.partition(", line ")[0]
    for grub in _GRUBS:
        yield from (f"{grub}/{name}" for name in ("grub.cfg", "custom.cfg", "user.cfg"))
    for esp in _ESPS:
        yield from (f"{esp}/loader/loader.conf", f"{esp}/loader/entries.srel")
        yield from _listed(machine, f"{esp}/loader/entries")
        yield from (f"{directory}/grub.cfg" for directory in _listed(machine, f"{esp}/EFI"))


def _loader(hasher: Hasher) -> Iterator[str]:
    for grub in _GRUBS:
        for directory in _listed(hasher.machine, grub):
            if directory.endswith(("-pc", "-efi", "-ieee1275", "-emu")):  # grub-install's platforms
                yield from _trees(hasher, [directory])
    yield from _trees(hasher, [f"{esp}/EFI" for esp in _ESPS])


def _told(plan: BootPlan) -> Iterator[str]:
    """What is wrong with the loader where no file tells it, as with GRUB's core in the first sectors of a disk."""
    yield from sorted(f"{finding.id}\0{finding.level}\0{finding.subject}" for finding in plan.findings)


def _packages(databases: Sequence[Database]) -> Iterator[str]:
    try:
        yield "\n".join(packages.states(databases))
    except SafeupdateError as error:
        yield str(error)


def _variables(firmware: Firmware) -> Iterator[str]:
    order = (firmware.order or ()) + (() if firmware.next is None else (firmware.next,))
    yield repr((firmware.order, firmware.next, firmware.secure_boot))
    yield from (repr(firmware.option(number)) for number in order)
    yield from (f"{name}={firmware.text(name)}" for name in _LOADER_STATE)


def _dkms(hasher: Hasher) -> Iterator[str]:
    """What DKMS has of each module and version, but for the directory that it builds in."""
    machine = hasher.machine
    for module in _listed(machine, "/var/lib/dkms"):
        for version in _listed(machine, module):
            places = [place for place in _listed(machine, version) if not place.endswith("/build")]
            yield from _files(machine, [version, *places])
            yield from _trees(hasher, places)


def _listed(machine: Machine, directory: str, prefix: str = "") -> list[str]:
    try:
        return [f"{directory}/{name}" for name in machine.listdir(directory) if name.startswith(prefix)]
    except Unreadable:
        return []


def _files(machine: Machine, paths: Iterable[str]) -> Iterator[str]:
    """A line for each file: its path and its stamp, or what came in the way."""
    for path in sorted(set(paths)):
        try:
            status = machine.stat(path)
            yield f"{path}\0{'' if status is None or stat.S_ISDIR(status.st_mode) else _stamp(status)}"
        except SafeupdateError as error:
            yield f"{path}\0{error}"


def _texts(machine: Machine, paths: Iterable[str]) -> Iterator[str]:
    """A line for each file: its path and its content."""
    for path in sorted(set(paths)):
        try:
            if not machine.is_dir(path):
                data = machine.read_if_there(path, limit=_MENU_LIMIT)
                if data is None or steering.is_ours(data):  # our own hold on the default changes no verdict
                    data = b""
                yield f"{path}\0{data.decode('utf-8', 'surrogateescape')}"
        except SafeupdateError as error:
            yield f"{path}\0{error}"


def _trees(hasher: Hasher, paths: Iterable[str]) -> Iterator[str]:
    """A line for each directory that is there: its path and the stamp of all that is in it."""
    for path in paths:
        try:
            if hasher.machine.is_dir(path):
                yield f"{path}\0{hasher.stamp(path)}"
        except SafeupdateError as error:
            yield f"{path}\0{error}"


def _tree_stamp(machine: Machine, path: str) -> tuple[str, int]:
    """A stamp for all that is in a directory, and when the last of it changed, in nanoseconds.

    Of a directory only the name counts: its times change with every temporary file.
    """
    if not machine.is_dir(path):
        raise Missing(path)
    newest = 0
    lines = []
    for name, status in _entries(machine, path):
        if stat.S_ISDIR(status.st_mode):
            lines.append(name)
        else:
            lines.append(f"{name}\0{_stamp(status)}")
            newest = max(newest, status.st_ctime_ns)
    return _short(sorted(lines)), newest


def _entries(machine: Machine, path: str) -> Iterator[tuple[str, os.stat_result]]:
    """Relative name and status of all below a directory, links not followed."""
    for top in machine.listdir(path):
        status = machine.stat(f"{path}/{top}", follow=False)
        if status is None or (top in _BUILDING):
            continue
        yield top, status
        if not stat.S_ISDIR(status.st_mode):
            continue
        below = machine.host_path(f"{path}/{top}", follow=False)
        for entry in machine.walk(f"{path}/{top}"):
            try:
                yield top + entry.path[len(below) :], entry.stat(follow_symlinks=False)
            except OSError:  # gone in the meantime
                continue


def _stamp(status: os.stat_result) -> str:
    """Changes with the content. Neither the inode's number, which FAT makes up, nor what is not content's."""
    return f"{status.st_mode:o}:{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}"


def _encode(lines: Iterable[str]) -> bytes:
    return "\0\0".join(lines).encode("utf-8", "surrogatepass")


def _short(lines: Iterable[str]) -> str:
    from hashlib import sha256

    return sha256(_encode(lines)).hexdigest()[:16]
