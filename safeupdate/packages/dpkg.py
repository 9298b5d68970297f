"""dpkg's database below /var/lib/dpkg (dpkg(1), "FILES").

It is read here, in one way for every machine, and not asked for: a tree may be judged where there is no dpkg. And
python-apt reads `status` alone, which is not the newest: dpkg writes each change of a state into a file of `updates/`,
and merges those when it ends. Of one that was killed the newest states are only there (dpkg's own readers apply them).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cached_property

from safeupdate.errors import FormatError
from safeupdate.formats import dpkg_status
from safeupdate.formats.dpkg_status import Record
from safeupdate.machine import Machine
from safeupdate.packages.package import Package, PackedFile, is_kernel_file

DIRECTORY = "/var/lib/dpkg"
STATUS = f"{DIRECTORY}/status"
INFO = f"{DIRECTORY}/info"

_GONE = ("not-installed", "config-files")

_COPIED = 60
"""Seconds that may pass between a list's last byte and its name: a slow disk's fsync. A list whose inode changed later
was copied, and with it every other file: their change times then say when the copy was made."""


@dataclass(frozen=True)
class Dpkg:
    """The database of `machine`."""

    machine: Machine
    name: str = "dpkg"
    place: str = STATUS
    locks: tuple[str, ...] = (f"{DIRECTORY}/lock-frontend", f"{DIRECTORY}/lock")

    @classmethod
    def find(cls, machine: Machine) -> Dpkg | None:
        """The database, where there is one."""
        return cls(machine) if machine.is_dir(DIRECTORY) else None

    @cached_property
    def records(self) -> tuple[Package, ...]:
        """Every package with files here, by name. Raises `FormatError` with file and line, and `Unreadable`."""
        activated = self._activated()  # before the states, into which dpkg moves them
        before = self._version
        found = self._states()
        if self._version != before:
            # dpkg has merged its journal, and does so again only after many changes more.
            found = self._states()
        return tuple(
            Package(
                name=one.name,
                version=one.version,
                architecture=one.architecture,
                state="triggers-pending" if one.name in activated and one.state == "installed" else one.state,
                reinstall=one.reinstall,
                triggers=(*one.triggers, *activated.get(one.name, ())),
            )
            for _, one in sorted(found.items())
            if one.state not in _GONE
        )

    @property
    def _version(self) -> tuple[int, int, int] | None:
        """Another whenever dpkg has written `status`, which it puts in place whole."""
        status = self.machine.stat(STATUS)
        return (status.st_ino, status.st_size, status.st_mtime_ns) if status is not None else None

    def _states(self) -> dict[tuple[str, str], Record]:
        """The newest of each package, by its name and architecture."""
        found: dict[tuple[str, str], Record] = {}
        for record in self._parsed(STATUS):
            found[record.name, record.architecture] = record
        if not found and self.machine.read_if_there(f"{STATUS}-old"):
            raise FormatError(f"{STATUS} is empty or gone; {STATUS}-old has what was there before")
        for name in self.machine.listdir(f"{DIRECTORY}/updates"):
            for record in self._parsed(f"{DIRECTORY}/updates/{name}") if name.isdigit() else ():
                if not record.per_architecture:
                    found = {key: one for key, one in found.items() if key[0] != record.name}
                found[record.name, record.architecture] = record
        return found

    def _activated(self) -> dict[str, tuple[str, ...]]:
        """Packages by name, with the triggers that no dpkg has noted in their states yet (dpkg-trigger(1)): those wait
        in a file, a line each, and each has a file that names the packages that act on it. Those of paths, which all
        have one file, no generator of an initramfs uses."""
        directory = f"{DIRECTORY}/triggers"
        found: dict[str, tuple[str, ...]] = {}
        for line in (self.machine.text(f"{directory}/Unincorp") or "").splitlines():
            trigger = line.partition(" ")[0]
            interested = self.machine.text(f"{directory}/{trigger}") if trigger and "/" not in trigger else None
            for package in (interested or "").split():
                name = package.partition("/")[0].partition(":")[0]
                found[name] = (*found.get(name, ()), trigger)
        return found

    def _parsed(self, path: str) -> tuple[Record, ...]:
        try:
            return dpkg_status.parse(self.machine.read_if_there(path) or b"")
        except FormatError as error:
            raise FormatError(f"{path}: {error.message}", error.place) from None

    def packages(self) -> tuple[Package, ...]:
        """Those with a role in the boot."""
        return tuple(package for package in self.records if package.role is not None)

    def of_kernel(self, release: str) -> tuple[Package, ...]:
        """Those whose list of files has the image or modules; one without a list (dpkg writes it when all files are
        unpacked) where its name ends in the release. The lists of packages that no kernel comes in are not read."""
        named = re.compile(rf".+-{re.escape(release)}(?:-.+)?")
        brings = re.compile(
            rb"^(?:/boot/(?:vmlinu[xz]|Image|kernel)-%b$|(?:/usr)?/lib/modules/%b/(?:kernel$|.+\.ko|vmlinuz$))"
            % ((re.escape(os.fsencode(release)),) * 2),
            re.MULTILINE,
        )
        found = []
        for package in self.records:
            if package.role == "kernel" or named.fullmatch(package.name):
                text = self._list(package)
                if (
                    (package.role == "kernel" and named.fullmatch(package.name))
                    if text is None
                    else brings.search(text)
                ):
                    found.append(package)
        return tuple(found)

    def files(self, package: Package, release: str) -> tuple[PackedFile, ...]:
        """By the MD5 sums that the package brought along (deb-md5sums(5)), whose paths have no slash in front.

        dpkg writes the list of a package's files when all are in their place.
        """
        text = self.machine.text(self._info(package, "md5sums")) or ""
        listed = self.machine.stat(self._info(package, "list"))
        placed = listed.st_mtime if listed is not None else 0.0
        copied = listed is not None and listed.st_ctime > placed + _COPIED
        files = []
        for line in text.splitlines():
            digest, _, path = line.partition("  ")
            path = f"/{path}"
            if len(digest) == 32 and is_kernel_file(path, release):
                path = self._diverted(package, path)
                files.append(PackedFile(path, "md5", digest, placed=placed, copied=copied))
        return tuple(files)

    def owner(self, path: str, release: str) -> Package | None:
        """By the lists of the packages with this release in their names, and of those that build modules.

        What a package's script puts together beside its own files stands in no list (Ubuntu's nvidia modules): then it
        is the one package that has the directory, but for one with signatures alone.
        """
        tail = path.partition("/lib/modules/")[2]
        wanted = [
            re.compile(rb"^(?:/usr)?/lib/modules/%b$" % re.escape(os.fsencode(one)), re.MULTILINE)
            for one in (tail, os.path.dirname(tail))
        ]
        lists = [
            (one, text)
            for one in self.records
            if (one.role == "modules" or release in one.name)
            and not one.name.startswith("linux-signatures-")
            and (text := self._list(one)) is not None
        ]
        for pattern in wanted:
            found = [one for one, text in lists if pattern.search(text)]
            if len(found) == 1:
                return found[0]
        return None

    def named(self, name: str) -> Package | None:
        """The first of those that are there for several architectures."""
        return next((one for one in self.records if one.name == name), None)

    @cached_property
    def _diversions(self) -> dict[str, tuple[str, str]]:
        """Path to where it was diverted, and the package whose file stays where it is (dpkg-divert(1))."""
        rows = (self.machine.text(f"{DIRECTORY}/diversions") or "").splitlines()
        return {path: (target, package) for path, target, package in zip(rows[::3], rows[1::3], rows[2::3])}

    def _diverted(self, package: Package, path: str) -> str:
        target, stays = self._diversions.get(path, (path, ""))
        return path if stays == package.name else target

    def _list(self, package: Package) -> bytes | None:
        return self.machine.read_if_there(self._info(package, "list"))

    def _info(self, package: Package, kind: str) -> str:
        """A file of a package that may be there for several architectures has that in its name."""
        path = f"{INFO}/{package.name}.{kind}"
        return path if self.machine.exists(path) else f"{INFO}/{package.name}:{package.architecture}.{kind}"
