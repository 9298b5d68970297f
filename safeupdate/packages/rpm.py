"""rpm's database, asked through the program rpm(8), which knows every form that it has had (sqlite, ndb, Berkeley DB).

rpm writes into the directory of a database that it only reads: a lock, sqlite's shared memory, what a killed rpm had
not merged. On the machine itself that is as ever; of a tree the database is copied, and the copy is asked.

rpm keeps no states: a header is there or it is not. An installation that was killed leaves, before the header is
written, files whose names end in `;` and the transaction's time (lib/fsm.c), and after it the old version's header too.
"""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property

from safeupdate.errors import ProgramFailed, Unreadable
from safeupdate.machine import Machine
from safeupdate.packages.package import Package, PackedFile, directories, is_kernel_file

_DIRECTORIES = ("/usr/lib/sysimage/rpm", "/var/lib/rpm", "/usr/share/rpm")
"""The second is a link to the first since Fedora 36; the third is where ostree's are."""

_FILES = ("rpmdb.sqlite", "Packages.db", "Packages")

_COPIED = re.compile(r"rpmdb\.sqlite(-wal|-journal)?|[A-Z][a-z]+(\.db)?")
"""Tables and indexes of all forms, and what sqlite has not merged. The rest is rebuilt."""

_COPY_LIMIT = 2 << 30
"""Bytes: five times the Berkeley DB of a desktop with all that it grew by."""

_PROVIDED = (
    *("installonlypkg(kernel)", "installonlypkg(kernel-module)", "multiversion(kernel)", "kernel-uname-r", "kernel"),
    *("kernel-core", "kernel-modules", "kernel-modules-core", "kernel-modules-extra", "kernel-default"),
    *("dracut", "mkinitrd", "dkms", "akmods"),
    *("grub2", "grub2-tools", "grub2-pc", "grub2-efi-x64", "grub2-efi-aa64", "grub2-x86_64-efi", "grub2-i386-pc"),
    *("shim", "shim-x64", "shim-aa64", "systemd-boot", "systemd-boot-unsigned", "systemd-ukify", "sdbootutil"),
    *("s390utils-core", "s390-tools"),
)
"""By what a package provides rpm has an index; to look at the names of all takes seconds on a desktop."""

_PACKAGE = "package\t%{NAME}\t%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}\t%{ARCH}\t%{INSTALLTIME}\t%{NVRA}\n"
_FILE = "[file\t%{FILENAMES}\t%{FILEDIGESTS}\t%{LONGFILESIZES}\t%{FILEMTIMES}\t%{FILEFLAGS}\n]"
_DIRECTORY = "[directory\t%{DIRNAMES}\n]"
_ALGORITHM = "algorithm\t%{FILEDIGESTALGO}\n"

_GHOST = 1 << 6
"""RPMFILE_GHOST (rpmfiles.h): the package owns the name, others write the file."""

_ALGORITHMS = {"8": "sha256", "9": "sha384", "10": "sha512", "11": "sha224", "2": "sha1"}
"""By their numbers in OpenPGP (RFC 9580, section 9.5); without one it is MD5."""


@dataclass(frozen=True)
class Rpm:
    """The database of `machine` in the directory `place`."""

    machine: Machine
    place: str
    name: str = "rpm"

    @classmethod
    def find(cls, machine: Machine) -> Rpm | None:
        """The database, where there is one."""
        for directory in _DIRECTORIES:
            found = cls(machine, directory)
            if any(found._has(name) for name in _FILES):
                return found
        return None

    @property
    def locks(self) -> tuple[str, ...]:
        """The lock of a transaction (lib/rpmlock.c); who only asks takes it for reading."""
        return (f"{self.place}/.rpm.lock",)

    def packages(self) -> tuple[Package, ...]:
        """Those with a role in the boot; two versions of one only where both are installed, rightly or not."""
        return tuple(package for package, _, _ in self._rows if package.role is not None)

    def of_kernel(self, release: str) -> tuple[Package, ...]:
        """Those with files in the modules' directory, where all rpm distributions put the image too."""
        wanted = tuple(f"{directory}/" for directory in directories(release))
        found = tuple(
            package
            for package, _, places in self._rows
            if package.role in ("kernel", "modules") and any(place.startswith(wanted) for place in places)
        )
        if found:
            return found
        images = (f"{directories(release)[0]}/vmlinuz", f"/boot/vmlinuz-{release}")
        owners = [self._asked("--path", path) for path in images]
        return tuple(dict.fromkeys(owner for owner in owners if owner is not None))

    def files(self, package: Package, release: str) -> tuple[PackedFile, ...]:
        """With digest, size and time of each."""
        names = [name for one, name, _ in self._rows if one == package] or [package.name]
        files, algorithm = [], "md5"
        for kind, *words in self._query(_ALGORITHM + _FILE, *names):
            if kind == "algorithm":
                algorithm = _ALGORITHMS.get(words[0], "md5")
            elif kind == "file" and len(words) == 5:
                path, digest, size, mtime, flags = words
                if digest and not _number(flags) & _GHOST and is_kernel_file(path, release):
                    files.append(PackedFile(path, algorithm, digest, _number(size), _number(mtime)))
        return tuple(files)

    def owner(self, path: str, release: str) -> Package | None:
        """The file may be written down with the other name of its directory."""
        tail = path.partition(f"/{release}/")[2]
        return self._asked("--path", *(f"{directory}/{tail}" for directory in directories(release)))

    def named(self, name: str) -> Package | None:
        """rpm asks by name, name and version, or the whole name."""
        return self._asked(name)

    def _asked(self, *arguments: str) -> Package | None:
        """The last package of the answer; what is not installed or not owned has a line that is none."""
        found = None
        for kind, *words in self._query(_PACKAGE, *arguments):
            if kind == "package" and len(words) == 5:
                found = Package(words[0], words[1], words[2])
        return found

    @cached_property
    def _rows(self) -> tuple[tuple[Package, str, tuple[str, ...]], ...]:
        """Each package, its whole name, and the directories of its files; the one installed last comes last."""
        rows: dict[str, tuple[int, Package, list[str]]] = {}
        places: list[str] = []
        for kind, *words in self._query(_PACKAGE + _DIRECTORY, "--whatprovides", *_PROVIDED):
            if kind == "package" and len(words) == 5:
                places = []
                rows[words[4]] = (_number(words[3]), Package(words[0], words[1], words[2]), places)
            elif kind == "directory":
                places += words
        ordered = sorted(rows.items(), key=lambda row: (row[1][1].name, row[1][0]))
        return tuple((package, name, tuple(places)) for name, (_, package, places) in ordered)

    def _query(self, form: str, *arguments: str) -> list[list[str]]:
        """The lines of an answer, each in its columns. Raises `ProgramFailed` where rpm cannot read the database."""
        with ExitStack() as stack:
            place = self.place
            if not self.machine.live:
                place = stack.enter_context(tempfile.TemporaryDirectory(prefix="safeupdate-rpm."))
                self._copy(place)
            done = self.machine.run(["rpm", "--dbpath", place, "--query", "--queryformat", form, *arguments])
            if not self.machine.live and not self._has(_FILES[0]) and os.path.exists(f"{place}/{_FILES[0]}"):
                # Debian's does not know ndb, passes it over, and makes an empty database beside it.
                raise ProgramFailed(f"the rpm on this host does not read the form of the database in {self.place}")
        errors = [line for line in done.stderr.splitlines() if line.startswith(b"error:")]
        # Of a path that neither a package nor the host has.
        wrong = next((line for line in errors if not line.startswith(b"error: file ")), None)
        if wrong is not None:
            raise ProgramFailed(f"rpm cannot read its database in {self.place}: {wrong[7:].decode(errors='replace')}")
        return [line.split("\t") for line in done.stdout.decode("utf-8", "surrogateescape").splitlines()]

    def _has(self, name: str) -> bool:
        return self.machine.exists(f"{self.place}/{name}")

    def _copy(self, directory: str) -> None:
        names = [name for name in self.machine.listdir(self.place) if _COPIED.fullmatch(name)]
        left = _COPY_LIMIT
        if sum(self.machine.size(f"{self.place}/{name}") for name in names) > left:
            raise Unreadable(self.place, f"it is larger than {_COPY_LIMIT >> 20} MiB")
        for name in names:
            with self.machine.open(f"{self.place}/{name}") as file, open(f"{directory}/{name}", "xb") as copy:
                while left and (piece := file.read(min(left, 1 << 20))):
                    left -= len(piece)
                    copy.write(piece)


def _number(text: str) -> int:
    """What is not in a header is `(none)`."""
    return int(text) if re.fullmatch(r"\d{1,19}", text) else 0
