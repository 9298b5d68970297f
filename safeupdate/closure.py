"""What a program needs to be started: its interpreter and every library, found as the dynamic loader finds them.

Rules: execve(2) for `#!` and PT_INTERP, ld.so(8) for DT_NEEDED, RPATH, RUNPATH and `$ORIGIN`; musl's own loader (its
manual, "Dynamic linker", and `/etc/ld-musl-ARCH.path`). Libraries that a program opens by itself (dlopen(3)) are not
part of it; `library` finds one of those.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from safeupdate.errors import FormatError, Missing
from safeupdate.formats import elf
from safeupdate.formats.elf import Elf
from safeupdate.machine import Machine

_SCRIPT_DEPTH = 5
"""Scripts that interpret scripts, before the kernel gives up with ELOOP (execve(2))."""

_LIBRARY_LIMIT = 2000
"""Libraries of one program; the largest desktop programs load some 300."""

_CACHE_LIMIT = 1 << 16
"""Libraries read from an ld.so.cache; a large desktop has some 5000."""

_PATH_LIMIT = 1024

_MULTIARCH: dict[tuple[int, int, str], tuple[str, ...]] = {
    (62, 64, "little"): ("x86_64-linux-gnu",),
    (62, 32, "little"): ("x86_64-linux-gnux32",),
    (3, 32, "little"): ("i386-linux-gnu", "i686-linux-gnu"),
    (183, 64, "little"): ("aarch64-linux-gnu",),
    (40, 32, "little"): ("arm-linux-gnueabihf", "arm-linux-gnueabi"),
    (21, 64, "little"): ("powerpc64le-linux-gnu",),
    (21, 64, "big"): ("powerpc64-linux-gnu",),
    (20, 32, "big"): ("powerpc-linux-gnu",),
    (22, 64, "big"): ("s390x-linux-gnu",),
    (243, 64, "little"): ("riscv64-linux-gnu",),
    (258, 64, "little"): ("loongarch64-linux-gnu",),
    (8, 64, "little"): ("mips64el-linux-gnuabi64",),
    (8, 32, "little"): ("mipsel-linux-gnu",),
}
"""Debian's library directories (its Multiarch/Tuples list), by ELF machine, word size and byte order."""

_MUSL_ITSELF = ("libc.", "libpthread.", "librt.", "libm.", "libdl.", "libutil.", "libxnet.")
"""Libraries that musl's loader never looks for: it is them."""


class Files(Protocol):
    """The files of a root directory or of an initramfs image. Paths are absolute."""

    def resolve(self, path: str) -> str | None:
        """The path with every link followed, None where it names no file."""

    def elf(self, path: str) -> Elf | None:
        """A resolved file's headers, None where it is no ELF file or a broken one."""

    def script(self, path: str) -> str | None:
        """What a resolved file has behind `#!` (the interpreter, its argument may follow), None for no script."""


@dataclass(frozen=True)
class MissingFile:
    """A file without which the program does not start.

    `name` is what is asked for (a path, or a library's soname), `needed_by` the file that asks, `why` completes the
    sentence "`name` ...".
    """

    name: str
    needed_by: str
    why: str = "does not exist"


def missing(files: Files, program: str, *, search: Sequence[str] = ()) -> tuple[MissingFile, ...]:
    """Everything that keeps `program` from being started; empty when all of it is there.

    `search` are directories beside the loader's defaults (see `library_directories`). Raises what `files` raises for
    files that cannot be read.
    """
    return _follow(files, program, search)[1]


def loaded(files: Files, program: str, *, search: Sequence[str] = ()) -> tuple[str, ...]:
    """Every file that starting `program` reads, by the name under which it is looked for (links not followed)."""
    return _follow(files, program, search)[0]


def _follow(files: Files, program: str, search: Sequence[str]) -> tuple[tuple[str, ...], tuple[MissingFile, ...]]:
    found: list[str] = []
    path, needed_by = program, program
    for _depth in range(_SCRIPT_DEPTH):
        real = files.resolve(path)
        if real is None:
            return tuple(found), (MissingFile(path, needed_by),)
        found.append(path)
        header = files.elf(real)
        if header is not None:
            if header.unloadable:
                return tuple(found), (MissingFile(path, needed_by, _cut(header)),)
            loader = _Loader(files, real, header, search)
            lost = loader.missing()
            return (*found, *loader.found), lost
        line = files.script(real)
        words = line.split() if line else []
        if not words:
            why = "is neither a program nor a script with an interpreter"
            return tuple(found), (MissingFile(path, needed_by, why),)
        path, needed_by = words[0], real
    why = "is a script whose interpreters are scripts again, too many in a row"
    return tuple(found), (MissingFile(path, program, why),)


def library(files: Files, name: str, *, program: str, search: Sequence[str] = ()) -> str | None:
    """Where `program` finds the library `name` with dlopen(3); None where it does not, or is no ELF file itself."""
    real = files.resolve(program)
    header = files.elf(real) if real is not None else None
    if real is None or header is None:
        return None
    found = _Loader(files, real, header, search).find(name, _Object(real, header))
    return found.path if isinstance(found, _Object) else None


def library_directories(read: Callable[[str], bytes | None], names: Callable[[str], Iterable[str]]) -> tuple[str, ...]:
    """Directories that `/etc/ld.so.conf` (with its includes), `/etc/ld.so.cache` and musl's path file add.

    `read` gives a file's bytes or None, `names` the names in a directory. A cache that cannot be read adds nothing:
    the loader ignores it, too.
    """
    from fnmatch import fnmatchcase

    found: dict[str, None] = {}
    pending = ["/etc/ld.so.conf"]
    seen: set[str] = set()
    while pending and len(seen) < 1000:
        path = pending.pop(0)
        if path in seen:
            continue
        seen.add(path)
        for line in _lines(read(path)):
            words = line.partition("#")[0].replace(",", " ").replace(":", " ").split()
            if words[:1] == ["include"]:
                for pattern in words[1:]:
                    parent, name = posixpath.split(posixpath.join("/etc", pattern))
                    pending += [f"{parent}/{each}" for each in sorted(names(parent)) if fnmatchcase(each, name)]
            elif words[:1] != ["hwcap"]:
                found.update((word.partition("=")[0], None) for word in words if word.startswith("/"))
    found.update((directory, None) for directory in _cached(read("/etc/ld.so.cache") or b""))
    for name in names("/etc"):
        if name.startswith("ld-musl-") and name.endswith(".path"):
            for line in _lines(read(f"/etc/{name}")):
                found.update((part, None) for part in line.split(":") if part.startswith("/"))
    return tuple(found)


def _lines(data: bytes | None) -> list[str]:
    return (data or b"").decode("utf-8", "surrogateescape").splitlines()


def _cached(data: bytes) -> Iterable[str]:
    """The directories in an ld.so.cache (ldconfig(8); sysdeps/generic/dl-cache.h of glibc)."""
    import struct

    start = data.find(b"glibc-ld.so.cache1.1")
    if start < 0 or len(data) < start + 48:
        return ()
    order = ">" if data[start + 28] & 3 == 3 else "<"
    (count,) = struct.unpack_from(f"{order}I", data, start + 20)
    if order == "<" and count > 1 << 24:
        # Caches from before glibc 2.33 carry no mark of their byte order.
        order = ">"
        (count,) = struct.unpack_from(">I", data, start + 20)
    entry = struct.Struct(f"{order}iIIIQ")
    count = min(count, _CACHE_LIMIT, (len(data) - start - 48) // entry.size)
    found: dict[str, None] = {}
    for _flags, _key, value, _version, _hwcap in entry.iter_unpack(data[start + 48 : start + 48 + count * entry.size]):
        path, end, _rest = data[start + value : start + value + _PATH_LIMIT].partition(b"\0")
        if end and path.startswith(b"/"):
            found[posixpath.dirname(path.decode("utf-8", "surrogateescape"))] = None
    return found


@dataclass(frozen=True)
class _Object:
    """A loaded file, and the one that asked for it (RPATH is inherited)."""

    path: str
    elf: Elf
    parent: _Object | None = None


class _Loader:
    """One process: what ld.so(8) loads for one program, in its order."""

    def __init__(self, files: Files, path: str, header: Elf, search: Sequence[str]) -> None:
        self._files = files
        self._program = _Object(path, header)
        self._search = tuple(search)
        self._musl = "ld-musl" in posixpath.basename(header.interpreter or "")
        self.found: list[str] = []

    def missing(self) -> tuple[MissingFile, ...]:
        """The interpreter and the libraries, breadth first."""
        program = self._program
        lost: list[MissingFile] = []
        loaded: set[str] = set()
        if program.elf.interpreter is not None:
            interpreter = self._interpreter(program.elf.interpreter)
            if isinstance(interpreter, MissingFile):
                lost.append(interpreter)
            else:
                loaded.add(posixpath.basename(program.elf.interpreter))
                loaded.add(interpreter.elf.soname or "")
        queue = [program]
        while queue and len(loaded) < _LIBRARY_LIMIT:
            asking = queue.pop(0)
            for name in asking.elf.needed:
                if name in loaded or (self._musl and name.startswith(_MUSL_ITSELF)):
                    continue
                loaded.add(name)
                found = self.find(name, asking)
                if isinstance(found, MissingFile):
                    lost.append(found)
                else:
                    loaded.add(found.elf.soname or name)
                    queue.append(found)
        return tuple(lost)

    def _interpreter(self, path: str) -> _Object | MissingFile:
        real = self._files.resolve(path)
        if real is None:
            return MissingFile(path, self._program.path)
        header = self._files.elf(real)
        if header is None:
            return MissingFile(path, self._program.path, "is not an ELF file, or a broken one")
        if not header.fits(self._program.elf):
            return MissingFile(path, self._program.path, f"is for another machine ({header.architecture})")
        if header.unloadable:
            return MissingFile(path, self._program.path, _cut(header))
        self.found.append(path)
        return _Object(real, header)

    def find(self, name: str, asking: _Object) -> _Object | MissingFile:
        """The first file of that name that fits; one of another machine is passed over, as the loader does."""
        candidates = (self._tokens(name, asking),) if "/" in name else self._candidates(name, asking)
        stranger = None
        for candidate in candidates:
            real = self._files.resolve(candidate)
            if real is None:
                continue
            header = self._files.elf(real)
            if header is None:
                return MissingFile(name, asking.path, f"is not an ELF file, or a broken one ({candidate})")
            if not header.fits(self._program.elf):
                stranger = stranger or f"is there only for another machine ({candidate}: {header.architecture})"
                continue
            if header.unloadable:
                return MissingFile(name, asking.path, f"{_cut(header)} ({candidate})")
            self.found.append(candidate)
            return _Object(real, header, asking)
        return MissingFile(name, asking.path, stranger or "does not exist")

    def _candidates(self, name: str, asking: _Object) -> Iterable[str]:
        tried: set[str] = set()
        for directory, owner in self._directories(asking):
            path = f"{self._tokens(directory, owner)}/{name}"
            if path not in tried:
                tried.add(path)
                yield path

    def _directories(self, asking: _Object) -> Iterable[tuple[str, _Object]]:
        """Where to look, in order. RPATH counts only where there is no RUNPATH, and then the askers' too."""
        if not asking.elf.runpath:
            owner: _Object | None = asking
            while owner is not None:
                if not owner.elf.runpath:
                    yield from ((directory, owner) for directory in owner.elf.rpath)
                owner = owner.parent
        yield from ((directory, asking) for directory in asking.elf.runpath)
        yield from ((directory, asking) for directory in self._search)
        header = self._program.elf
        for directory in _MULTIARCH.get((header.machine, header.bits, header.endian), ()):
            yield f"/lib/{directory}", asking
            yield f"/usr/lib/{directory}", asking
        wide = ("/lib64", "/usr/lib64") if header.bits == 64 else ("/lib32", "/usr/lib32")
        for directory in (*wide, "/lib", "/usr/lib", "/usr/local/lib" if self._musl else "/usr/lib"):
            yield directory, asking

    def _tokens(self, text: str, owner: _Object) -> str:
        """`$ORIGIN` and `$LIB` replaced (ld.so(8), "Dynamic string tokens")."""
        if "$" not in text:
            return text
        lib = "lib64" if self._program.elf.bits == 64 else "lib"
        for token, value in (("ORIGIN", posixpath.dirname(owner.path)), ("LIB", lib)):
            text = text.replace(f"${{{token}}}", value).replace(f"${token}", value)
        return text


def _cut(header: Elf) -> str:
    return f"is cut short: it has {header.size} bytes and needs {header.loaded}"


@dataclass
class MachineFiles:
    """The files below a machine's root, each ELF file parsed once."""

    machine: Machine
    _headers: dict[str, Elf | None] = field(default_factory=dict, repr=False)

    def resolve(self, path: str) -> str | None:
        """See `Files`."""
        try:
            real = self.machine.resolve(path)
        except Missing:
            return None
        return real if self.machine.is_file(real) else None

    def elf(self, path: str) -> Elf | None:
        """See `Files`. Raises `Unreadable`."""
        if path not in self._headers:
            with self.machine.open(path) as file:
                try:
                    self._headers[path] = elf.parse(file)
                except FormatError:
                    self._headers[path] = None
        return self._headers[path]

    def script(self, path: str) -> str | None:
        """See `Files`. Raises `Unreadable`."""
        with self.machine.open(path) as file:
            return script_interpreter(file.read(256))

    def library_directories(self) -> tuple[str, ...]:
        """What the machine's own loader configuration adds to the search."""
        return library_directories(self.machine.read_if_there, self.machine.listdir)


def script_interpreter(head: bytes) -> str | None:
    """What stands behind `#!` in the first 256 bytes of a file, None where it does not start so (execve(2))."""
    if not head.startswith(b"#!"):
        return None
    return head[2:].partition(b"\n")[0].decode("utf-8", "surrogateescape").strip() or None
