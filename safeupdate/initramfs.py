"""What an initramfs image holds, read in one pass into an index that every check shares.

The buffer's grammar is in the kernel's Documentation/driver-api/early-userspace/buffer-format.rst. Where the image is
not sound, the index says where, and holds what the kernel would have unpacked before: the kernel stops at the first
error and runs on with that (init/initramfs.c).
"""

from __future__ import annotations

import io
import os
import re
import stat
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import BinaryIO, Literal, cast

from safeupdate.closure import script_interpreter
from safeupdate.errors import FormatError, NoDecoder
from safeupdate.formats import compression, cpio, elf, module_file
from safeupdate.formats.compression import Refused, Source, Truncated
from safeupdate.formats.elf import Elf
from safeupdate.formats.module_file import ModuleFile
from safeupdate.formats.modules import module_name

UNPACKED_LIMIT = 4 << 30
"""Unpacked bytes that are looked at. The largest images (every firmware file, graphics drivers) are near 1 GB."""

IMAGE_LIMIT = UNPACKED_LIMIT
"""Bytes of an image file that is opened at all."""

ENTRY_LIMIT = 30_000
"""Files in one image that are looked at; a dracut image with everything has some 6000."""

_ELF_LIMIT = 24 << 20
"""Bytes of an ELF file that are held in memory while it is parsed: two images may be read at once, within 120 MB."""

_MODINFO_LIMIT = 4 << 20
"""Bytes of a module's `.modinfo` and of its section names; a distribution's largest is under 200 kB."""

_TEXT_LIMIT = 256 << 10
_MODULE_LIST_LIMIT = 4 << 20
_TEXTS_LIMIT = 16 << 20
"""Bytes of text that are kept in all; an image of Debian or Fedora has 2 to 3 MB of what `_wants_text` names."""

_WALK_LIMIT = 500_000
"""Parts of paths that are followed to put one image's files in their places; dracut's largest image needs 3000."""

_LINK_LIMIT = 40
_NESTED_LIMIT = 512 << 20
_NESTED = {"squash-root.img": "squashfs", "squashfs-root.img": "squashfs", "erofs-root.img": "erofs"}
_HASH_CHUNK = 1 << 20
_HEAD = 4096

_TEXT_PLACES = re.compile(
    r"""(?x) (?: etc | conf | scripts | cryptroot | hooks | cmdline\.d )/ | [^/]+$ | early_hooks/
    | (?: usr/ )? lib/ (?: dracut | modprobe\.d | modules-load\.d | initrd-release$ | os-release$ | systemd/system/
        | udev/rules\.d/ | initcpio )
    | var/lib/dracut/"""
)
_MODULE_LIST = re.compile(
    r"(?:usr/)?lib/modules/[^/]+/modules\.(?:dep|alias|softdep|builtin|order|weakdep|builtin\.modinfo)$"
)
_MODULE_NAME = re.compile(r"\.ko(?P<suffix>\.gz|\.xz|\.zst|\.bz2|\.lzma)?$")

ProblemKind = Literal["truncated", "corrupt", "refused", "no-decoder", "junk", "too-large", "unreadable"]


@dataclass(frozen=True)
class Problem:
    """Why reading stopped. `offset` is in the image file, `place` in what `message` speaks of.

    `refused`: the kernel's decoder does not take it. `no-decoder`, `too-large`, `unreadable`: it could not be told
    whether the image is sound. `during` is the file that was being unpacked. `after_end`: the archive's end mark had
    been reached, so that every file was unpacked before.
    """

    kind: ProblemKind
    message: str
    offset: int
    place: str = ""
    during: str = ""
    package: str = ""
    after_end: bool = False


@dataclass(frozen=True)
class Segment:
    """One part of the buffer: a cpio archive, or several in one compressed stream. Sizes are in bytes.

    `ended` is false for an archive that is not compressed and has no end mark: the kernel needs none, but nothing else
    tells such an archive from one that was cut between two files.
    """

    offset: int
    end: int
    compressor: str | None
    unpacked: int
    files: int
    problem: Problem | None = None
    ended: bool = True


@dataclass(frozen=True)
class Module:
    """What a kernel module says of itself. `file` is what its signature is judged by; None for one that is too large,
    or where nobody asked for it."""

    vermagic: str | None
    build_id: str | None
    file: ModuleFile | None

    @property
    def signature(self) -> bytes:
        """What stands behind the ELF file, with the closing mark."""
        return b"" if self.file is None else self.file.tail


@dataclass(frozen=True)
class Entry:
    """One file. `path` has no leading slash. `crc32` is None where the content was not read.

    `content` is kept of small texts only; `script` is what stands behind `#!`. `verified` says that a checksum of the
    compressed stream vouches for the content: archives that are not compressed, and lz4's legacy format, have none.
    """

    path: str
    mode: int
    size: int = 0
    crc32: int | None = None
    target: str = ""
    content: bytes | None = None
    script: str | None = None
    elf: Elf | None = None
    module: Module | None = None
    verified: bool = True

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.mode)


@dataclass(frozen=True)
class Nested:
    """A file system image inside the image. `index` is what it holds; None, with the reason, where none could look."""

    path: str
    kind: str
    index: Index | None
    reason: str = ""
    package: str = ""


@dataclass(frozen=True)
class Index:
    """What one image, or several laid over one another, hold. Nothing of it changes once it is made.

    `members` are all entries in the order of the image, `entries` the files that are there in the end, by path. `lost`
    are entries that the kernel cannot create, because their directory is not there.
    """

    size: int
    sha256: str
    segments: tuple[Segment, ...]
    members: tuple[Entry, ...] = field(repr=False)
    entries: Mapping[str, Entry] = field(repr=False)
    nested: tuple[Nested, ...] = ()
    lost: tuple[str, ...] = field(default=(), repr=False)

    @property
    def unpacked(self) -> int:
        """Bytes that the kernel unpacks."""
        return sum(segment.unpacked for segment in self.segments)

    @property
    def problem(self) -> Problem | None:
        """The first reason why the index may not be complete."""
        return next((segment.problem for segment in self.segments if segment.problem is not None), None)

    @cached_property
    def has_contents(self) -> bool:
        """Whether the files' contents were read; of a nested image there may be names alone."""
        return all(entry.crc32 is not None for entry in self.entries.values() if entry.is_file)

    @cached_property
    def generator(self) -> str:
        """The program that made the image, by the files that it leaves; empty where none is recognised."""
        for marks, name in _GENERATORS:
            if any(self.find(mark) is not None for mark in marks):
                return name
        return ""

    # -- files (closure.Files) ---------------------------------------------------------------------------------

    def find(self, path: str) -> Entry | None:
        """The entry that `path` leads to, links followed inside the image; None where there is none."""
        real = _walk(self.entries, path)
        return None if real is None else self.entries.get(real)

    def resolve(self, path: str) -> str | None:
        """The absolute path of the regular file that `path` leads to, None where it leads to none."""
        real = _walk(self.entries, path)
        entry = None if real is None else self.entries.get(real)
        return f"/{real}" if entry is not None and entry.is_file else None

    def elf(self, path: str) -> Elf | None:
        """A resolved file's headers, None where it is no ELF file or a broken one."""
        entry = self.entries.get(path.strip("/"))
        return None if entry is None else entry.elf

    def script(self, path: str) -> str | None:
        """What a resolved file has behind `#!`, None for no script."""
        entry = self.entries.get(path.strip("/"))
        return None if entry is None else entry.script

    def content(self, path: str) -> bytes | None:
        """A small text's bytes; None where there is none, or where it is of a kind that is not kept."""
        entry = self.find(path)
        return None if entry is None else entry.content

    def names(self, directory: str) -> tuple[str, ...]:
        """The names in a directory, sorted; none where there is no such directory."""
        real = _walk(self.entries, directory)
        return () if real is None else self._names.get(real, ())

    @cached_property
    def _names(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, list[str]] = {}
        for path in self.entries:
            directory, _, name = path.rpartition("/")
            found.setdefault(directory, []).append(name)
        return {directory: tuple(sorted(names)) for directory, names in found.items()}

    # -- modules -----------------------------------------------------------------------------------------------

    @property
    def releases(self) -> tuple[str, ...]:
        """The kernel releases that the image has a modules directory of."""
        return tuple(name for name in self.names("/lib/modules") if self.modules(name) or self._has_lists(name))

    def _has_lists(self, release: str) -> bool:
        return any(name.startswith("modules.") for name in self.names(f"/lib/modules/{release}"))

    def modules(self, release: str) -> Mapping[str, Entry]:
        """The kernel modules for `release`, by path relative to the modules directory."""
        return self._modules.get(release, MappingProxyType({}))

    @cached_property
    def _modules(self) -> dict[str, Mapping[str, Entry]]:
        top = _walk(self.entries, "/lib/modules")
        found: dict[str, dict[str, Entry]] = {}
        if top is None:
            return {}
        for path, entry in self.entries.items():
            if path.startswith(f"{top}/") and entry.is_file and _MODULE_NAME.search(path):
                release, _, rest = path[len(top) + 1 :].partition("/")
                found.setdefault(release, {})[rest] = entry
        return {release: MappingProxyType(modules) for release, modules in found.items()}


_GENERATORS = (
    (("/usr/lib/dracut", "/lib/dracut", "/lib/dracut-lib.sh"), "dracut"),
    (("/conf/initramfs.conf", "/scripts/functions"), "initramfs-tools"),
    (("/buildconfig", "/init_functions"), "mkinitcpio"),
    (("/etc/booster.init.yaml",), "booster"),
)


def read_image(file: BinaryIO, *, size: int, hashed: frozenset[str] | None = None) -> Index:
    """Read an image of `size` bytes once, from its start to its end or to where the kernel would give up.

    Of modules with these names, of all without any, the index keeps what their signatures are judged by. Raises
    nothing for an image that is damaged: `Index.problem` says so.
    """
    if size > IMAGE_LIMIT:
        problem = Problem("too-large", f"it is larger than {IMAGE_LIMIT >> 30} GiB", 0)
        return Index(size, "", (Segment(0, size, None, 0, 0, problem),), (), MappingProxyType({}))
    source = Source(file, size)
    hasher = _Hasher(source)
    reader = _Reader(source, hashed)
    reader.read()
    digest = hasher.finish()
    segments = tuple(reader.segments)
    if digest is None and not any(segment.problem for segment in segments):
        segments += (Segment(size, size, None, 0, 0, Problem("unreadable", "it cannot be read to its end", size)),)
    tree = _Tree()
    endless = tree.add_all(reader.members)
    if endless is not None:
        segments += (Segment(size, size, None, 0, 0, endless),)
    return Index(
        size=size,
        sha256=digest or "",
        segments=segments,
        members=tuple(reader.members),
        entries=MappingProxyType(tree.entries),
        nested=tuple(reader.nested),
        lost=tuple(tree.lost),
    )


Take = Callable[[str, memoryview, int], None]
"""Is given a path, the content or the first part of a large one, valid during the call, and the file's whole size."""


def pick(file: BinaryIO, *, size: int, wanted: frozenset[str], take: Take) -> None:
    """Read an image once more and hand over the content of some files, by path as in `Entry`.

    Where the image is damaged, what stands behind that place is not handed over.
    """
    _Picker(Source(file, size), wanted, take).read()


def merge(indexes: Iterable[Index]) -> Index:
    """What early user space finds where a loader hands over several images: they are one buffer, one after another.

    An image after one at which the kernel gives up adds nothing.
    """
    indexes = tuple(indexes)
    if len(indexes) == 1:
        return indexes[0]
    tree = _Tree()
    members: list[Entry] = []
    segments: list[Segment] = []
    nested: list[Nested] = []
    offset = 0
    for index in indexes:
        segments += [replace(part, offset=part.offset + offset, end=part.end + offset) for part in index.segments]
        endless = tree.add_all(index.members)
        members += index.members
        nested += index.nested
        offset += index.size
        if endless is not None:
            segments.append(Segment(offset, offset, None, 0, 0, endless))
            break
        if index.problem is not None and index.problem.kind not in ("no-decoder", "too-large"):
            break
    return Index(
        size=offset,
        sha256="",
        segments=tuple(segments),
        members=tuple(members),
        entries=MappingProxyType(tree.entries),
        nested=tuple(nested),
        lost=tuple(tree.lost),
    )


# -- reading ---------------------------------------------------------------------------------------------------


class _Hasher:
    """SHA-256 of the image, beside the unpacking: hashing and reading both let other threads run."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._digest: str | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def finish(self) -> str | None:
        self._thread.join()
        return self._digest

    def _run(self) -> None:
        import hashlib

        digest = hashlib.sha256()
        buffer = memoryview(bytearray(_HASH_CHUNK))
        offset = 0
        try:
            while count := self._source.readinto(offset, buffer):
                digest.update(buffer[:count])
                offset += count
        except OSError:
            return
        if offset == self._source.size:
            self._digest = digest.hexdigest()


class _TooLarge(FormatError):
    """More than this program looks at."""


class _Reader:
    """Walks the buffer's segments and keeps what the index needs of each file."""

    def __init__(self, source: Source, hashed: frozenset[str] | None = None) -> None:
        self._hashed = hashed
        self.segments: list[Segment] = []
        self.members: list[Entry] = []
        self.nested: list[Nested] = []
        self._source = source
        self._during = ""
        self._verified = True
        self._unpacked = 0
        self._texts = 0
        self._links: dict[tuple[int, int, int, int], list[int]] = {}
        self._trailers = 0

    def read(self) -> None:
        """Go from segment to segment, to the end or to the first problem."""
        offset = 0
        step = _HEAD
        while offset < self._source.size:
            try:
                head = self._source.read(offset, step)
            except OSError as error:
                self._add(offset, offset, None, _unreadable(error, offset))
                return
            if not head:
                self._add(
                    offset, offset, None, Problem("truncated", "the file became shorter while it was read", offset)
                )
                return
            if head[0] == 0:
                offset += len(head) - len(head.lstrip(b"\0"))
                step = _HASH_CHUNK
                continue
            step = _HEAD
            plain = head[0] == 0x30 and offset % 4 == 0
            end = self._plain(offset) if plain else self._compressed(offset, head[:4])
            if end is None:
                return
            offset = end

    def _add(
        self, offset: int, end: int, compressor: str | None, problem: Problem | None, unpacked: int = 0, files: int = 0
    ) -> None:
        self.segments.append(Segment(offset, end, compressor, unpacked, files, problem))

    def _plain(self, start: int) -> int | None:
        """Archives that are not compressed, each a segment of its own; where they end, None at an error."""
        position = start

        def fill(view: memoryview) -> int:
            nonlocal position
            count = self._source.readinto(position, view)
            position += count
            return count

        self._verified = False
        archive = cpio.Archive(fill, start=start, mixed=True)
        first, segment, trailers = len(self.members), start, 0
        problem = None
        try:
            for member in archive:
                if archive.trailers != trailers:
                    trailers = archive.trailers
                    self._add(segment, member.offset, None, None, member.offset - segment, len(self.members) - first)
                    first, segment = len(self.members), member.offset
                self.member(archive, member)
        except (FormatError, OSError) as error:
            problem = self._problem(error, start)
        end = archive.position if problem is None else self._source.size
        unpacked, files = archive.position - segment, len(self.members) - first
        self.segments.append(Segment(segment, end, None, unpacked, files, problem, archive.trailers != trailers))
        return end if problem is None else None

    def _compressed(self, start: int, magic: bytes) -> int | None:
        """One compressed segment; where it ends, None where the kernel stops or nobody can tell where it ends."""
        source = self._source
        kind = compression.recognise(magic)
        if kind is None:
            what = "a cpio archive that is not aligned to 4 bytes" if magic[:1] == b"0" else "junk"
            message = f"{what} stands where the next segment should begin"
            self._add(start, source.size, None, Problem("junk", message, start, f"offset {start}"))
            return None
        try:
            decoder = compression.unpack(source, start)
        except NoDecoder as error:
            self._add(start, source.size, kind, Problem("no-decoder", str(error), start, package=error.package))
            try:
                return compression.end_of(source, start)
            except (FormatError, OSError):
                return None
        except (FormatError, OSError) as error:
            self._add(start, source.size, kind, self._problem(error, start))
            return None
        budget = UNPACKED_LIMIT - self._unpacked
        unpacked = 0

        def fill(view: memoryview) -> int:
            nonlocal unpacked
            count = decoder.readinto(view)
            unpacked += count
            if unpacked > budget:
                raise _TooLarge(f"it unpacks to more than {UNPACKED_LIMIT >> 30} GiB")
            if archive.trailers > ENTRY_LIMIT:
                raise _TooLarge(f"it holds more than {ENTRY_LIMIT} archives")
            return count

        self._verified = kind != "lz4"
        archive = cpio.Archive(fill)
        first = len(self.members)
        problem = None
        try:
            for member in archive:
                self.member(archive, member)
        except NoDecoder as error:
            problem = Problem("no-decoder", str(error), start, package=error.package)
        except (FormatError, OSError) as error:
            problem = replace(self._problem(error, start), after_end=archive.trailers != self._trailers)
        finally:
            decoder.close()
        self._unpacked += unpacked
        end = decoder.end if problem is None else source.size
        self._add(start, end, kind, problem, unpacked, len(self.members) - first)
        return end if problem is None else None

    def _problem(self, error: FormatError | OSError, offset: int) -> Problem:
        if isinstance(error, OSError):
            return _unreadable(error, offset, self._during)
        kind: ProblemKind = "corrupt"
        if isinstance(error, Truncated):
            kind = "truncated"
        elif isinstance(error, Refused):
            kind = "refused"
        elif isinstance(error, _TooLarge):
            kind = "too-large"
        return Problem(kind, error.message, offset, error.place, self._during)

    def member(self, archive: cpio.Archive, member: cpio.Member) -> None:
        """Take in one file of an archive."""
        if len(self.members) >= ENTRY_LIMIT:
            raise _TooLarge(f"it holds more than {ENTRY_LIMIT} files")
        if archive.trailers != self._trailers:
            self._trailers = archive.trailers
            self._links.clear()
        path = _normal(member.name)
        self._during = path
        if stat.S_ISREG(member.mode):
            self._file(archive, member, path)
        elif stat.S_ISLNK(member.mode):
            target = bytes(archive.peek(member.size)).partition(b"\0")[0].decode("utf-8", "surrogateescape")
            self.members.append(Entry(path, member.mode, len(target), target=target))
        else:
            self.members.append(Entry(path, member.mode))
        self._during = ""

    def _file(self, archive: cpio.Archive, member: cpio.Member, path: str) -> None:
        entry = self._look(archive, member, path)
        if member.links < 2:
            self.members.append(entry)
            return
        # One of the names carries the content, in GNU cpio's archives the last; it then is that of all.
        names = self._links.setdefault((*member.inode, stat.S_IFMT(member.mode)), [])
        if names and not member.size:
            entry = replace(self.members[names[0]], path=path)
        earlier = [self.members[at].path for at in names] if member.size else []
        if earlier:
            names[:] = [len(self.members) + at for at in range(len(earlier) + 1)]
        else:
            names.append(len(self.members))
        self.members.append(entry)
        self.members += [replace(entry, path=name) for name in earlier]

    def _look(self, archive: cpio.Archive, member: cpio.Member, path: str) -> Entry:
        """Read a regular file: its checksum, and what the index keeps of its content."""
        size = member.size
        header: Elf | None = None
        module: Module | None = None
        content: bytes | None = None
        script: str | None = None
        head = bytes(archive.peek(4))
        if head == b"\x7fELF" and path.endswith(".ko"):
            wanted = self._hashed is None or module_name(path) in self._hashed
            module = _module(archive.peek(_ELF_LIMIT), size if wanted else -1)
        elif head == b"\x7fELF":
            header = _headers(archive.peek(_ELF_LIMIT), size)
        elif head[:2] == b"#!":
            script = script_interpreter(bytes(archive.peek(256)))
        if _wants_text(path, size) and self._texts + size <= _TEXTS_LIMIT:
            content = bytes(archive.peek(size))
            self._texts += size
        kind = _NESTED.get(path)
        if kind is not None:
            with _NestedFile(path, kind, size) as nested:
                crc = archive.crc32(member.checksum, nested.write)
                self.nested.append(nested.look())
        else:
            crc = archive.crc32(member.checksum)
        return Entry(path, member.mode, size, crc, "", content, script, header, module, self._verified)


class _Picker(_Reader):
    """Walks the same way and keeps nothing."""

    def __init__(self, source: Source, wanted: frozenset[str], take: Take) -> None:
        super().__init__(source)
        self._wanted = wanted
        self._take = take

    def member(self, archive: cpio.Archive, member: cpio.Member) -> None:
        path = _normal(member.name)
        if path in self._wanted and stat.S_ISREG(member.mode) and member.size:
            self._take(path, archive.peek(min(member.size, _ELF_LIMIT)), member.size)


def _unreadable(error: OSError, offset: int, during: str = "") -> Problem:
    return Problem("unreadable", f"it cannot be read: {error.strerror}", offset, "", during)


def _normal(name: bytes) -> str:
    text = name.decode("utf-8", "surrogateescape")
    if text[:1] not in ("/", ".") and "//" not in text and "/." not in text and text[-1:] != "/":
        return text
    return "/".join(part for part in text.split("/") if part not in ("", "."))


def _wants_text(path: str, size: int) -> bool:
    if size <= _TEXT_LIMIT and _TEXT_PLACES.match(path):
        return not path.endswith((".bin", ".img", ".hwdb"))
    return size <= _MODULE_LIST_LIMIT and "/modules." in path and _MODULE_LIST.match(path) is not None


def _headers(data: memoryview, size: int) -> Elf | None:
    """A program's or library's headers, from its content or the first part of it; None for a broken one."""
    try:
        return elf.parse(cast(BinaryIO, _Part(data, size)))
    except FormatError:
        if len(data) == size:
            return None
    # Of so large a file the headers alone: what it needs stands too far behind.
    bare = bytearray(data[:64])
    for at in (44, 46, 48, 50) if bare[4] == 1 else (56, 58, 60, 62):
        bare[at : at + 2] = b"\0\0"
    try:
        return replace(elf.parse(bytes(bare)), size=size)
    except FormatError:
        return None


class _Part:
    """A file of `size` bytes of which only the first are there, for `elf.parse`: it copies no more than it needs."""

    def __init__(self, data: memoryview, size: int) -> None:
        self._data = data
        self._size = size
        self._at = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (self._size if whence == 2 else 0)
        return self._at

    def read(self, length: int) -> bytes:
        return bytes(self._data[self._at : self._at + length])


_MODULE_SECTIONS = re.compile(rb"\.modinfo\0|\.note\.gnu\.build-id\0")
_SECTION_TABLES = {
    1: (32, "I", struct.Struct("IIIIII16x"), 46),
    2: (40, "Q", struct.Struct("IIQQQQ24x"), 58),
}
"""By ELF class: where the header has the section table's offset, its type, a section header, where its numbers are."""


def _module(data: memoryview, size: int) -> Module:
    """What the index keeps of a kernel module: `elf.module` reads far more, and an image has 1500 of them."""
    file = module_file.read(data) if len(data) == size else None
    vermagic = build_id = None
    try:
        for name, part in _module_sections(data):
            if name == b".modinfo":
                texts = b"\0" + bytes(part[:_MODINFO_LIMIT]) + b"\0"
                at = texts.find(b"\0vermagic=")
                if at >= 0:
                    vermagic = texts[at + 10 : texts.index(b"\0", at + 1)].decode("utf-8", "surrogateescape")
            else:
                build_id = bytes(part[16:]).hex()
    except (struct.error, IndexError, KeyError, ValueError):
        pass
    return Module(vermagic, build_id, file)


def _module_sections(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """The first of each of the two sections that tell of a module. Raises one of four errors for a broken file."""
    at, word, section, numbers = _SECTION_TABLES[data[4]]
    order = "<" if data[5] == 1 else ">"
    (offset,) = struct.unpack_from(order + word, data, at)
    size, count, names_index = struct.unpack_from(order + "HHH", data, numbers)
    if size != section.size:
        raise ValueError(size)
    table = list(struct.Struct(order + str(section.format)).iter_unpack(data[offset : offset + count * size]))
    if names_index >= len(table):
        raise ValueError(names_index)
    names = bytes(data[table[names_index][4] :][: min(table[names_index][5], _MODINFO_LIMIT)])
    wanted = {match.start(): match[0][:-1] for match in _MODULE_SECTIONS.finditer(names)}
    for name_at, _kind, _flags, _address, start, length in table:
        if name_at in wanted:
            yield wanted.pop(name_at), data[start : start + length]


# -- the kernel's view -----------------------------------------------------------------------------------------


class _Tree:
    """The root file system while the kernel unpacks entries into it."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.lost: list[str] = []
        self._parents: dict[str, str] = {}
        self._filled: set[str] = set()
        self._left = _WALK_LIMIT

    def add_all(self, entries: Iterable[Entry]) -> Problem | None:
        """Create them all; a problem where that takes too long."""
        try:
            for entry in entries:
                self.add(entry)
        except _TooLarge as error:
            return Problem("too-large", error.message, 0)
        return None

    def add(self, entry: Entry) -> None:
        """Create the entry as the kernel would: links in its directory followed, another kind of file replaced."""
        directory, _, name = entry.path.rpartition("/")
        parent = self._parents.get(directory)
        if parent is None:
            parent = self._parent(directory)
            if parent is None:
                self.lost.append(entry.path)
                return
            self._parents[directory] = parent
        if name in ("", ".."):
            return
        path = f"{parent}/{name}" if parent else name
        old = self.entries.get(path)
        if old is not None and stat.S_IFMT(old.mode) != stat.S_IFMT(entry.mode):
            if old.is_dir and path in self._filled:
                self.lost.append(entry.path)
                return
            self._parents.clear()
        self._filled.add(parent)
        self.entries[path] = entry if path == entry.path else replace(entry, path=path)

    def _parent(self, directory: str) -> str | None:
        if directory in ("", "dev", "root") and directory not in self.entries:
            # The kernel's own, built-in archive has these (usr/default_cpio_list).
            return directory
        above, _, name = directory.rpartition("/")
        real = self._parents.get(above)
        if real is not None and name != "..":
            place = f"{real}/{name}" if real else name
            if place in self.entries and self.entries[place].is_dir:
                return place
        real = _walk(self.entries, directory, self._spend)
        if real is None:
            return None
        entry = self.entries.get(real)
        return real if not real or (entry is not None and entry.is_dir) else None

    def _spend(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise _TooLarge("its links and paths are too long to be followed")


def _walk(entries: Mapping[str, Entry], path: str, spend: Callable[[], None] | None = None) -> str | None:
    """The key of the entry that `path` leads to, links followed (path_resolution(7)); empty for the root.

    `spend` is called for each part of a path.
    """
    links = 0
    real = ""
    pending = path.split("/")
    pending.reverse()
    while pending:
        part = pending.pop()
        if spend is not None:
            spend()
        if part in ("", "."):
            continue
        if part == "..":
            real = real.rpartition("/")[0]
            continue
        here = f"{real}/{part}" if real else part
        entry = entries.get(here)
        if entry is None:
            return None
        if entry.is_link:
            links += 1
            if links > _LINK_LIMIT or not entry.target or len(pending) > cpio.PATH_LIMIT:
                return None
            if entry.target.startswith("/"):
                real = ""
            pending += reversed(entry.target.split("/"))
            continue
        if pending and not entry.is_dir and any(pending):
            return None
        real = here
    return real


# -- nested images ---------------------------------------------------------------------------------------------


class _NestedFile:
    """A file system image inside the image, held in anonymous memory while another program lists it."""

    def __init__(self, path: str, kind: str, size: int) -> None:
        self._path = path
        self._kind = kind
        self._reason = ""
        self._descriptor = -1
        if size > _NESTED_LIMIT:
            self._reason = f"it is larger than {_NESTED_LIMIT >> 20} MiB"
        elif kind == "squashfs":
            self._descriptor = os.memfd_create("safeupdate-nested")

    def __enter__(self) -> _NestedFile:
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def write(self, data: memoryview) -> None:
        while data and self._descriptor >= 0:
            data = data[os.write(self._descriptor, data) :]

    def look(self) -> Nested:
        """List what is inside, where a program can."""
        if self._descriptor < 0:
            return Nested(self._path, self._kind, None, self._reason or "no program here lists it")
        return _squashfs(self._path, self._descriptor)


_SQUASHFS_SECONDS = 60.0
_LISTING_LIMIT = 8 << 20
"""Bytes of a listing: 30,000 files with names of 200 letters."""
_ARGUMENTS_LIMIT = 512 << 10
"""Bytes of names in one command; the kernel takes 2 MiB (execve(2))."""

_LISTED = re.compile(
    r"(?P<kind>[-dlcbps])(?P<mode>[-rwxsStT]{9}) \S+ +(?P<size>\d+(?:, *\d+)?) \S+ \S+ root/(?P<path>.+)"
)
_KINDS = {
    "-": stat.S_IFREG,
    "d": stat.S_IFDIR,
    "l": stat.S_IFLNK,
    "c": stat.S_IFCHR,
    "b": stat.S_IFBLK,
    "p": stat.S_IFIFO,
    "s": stat.S_IFSOCK,
}


def _squashfs(path: str, descriptor: int) -> Nested:
    """What unsquashfs(1) lists, and the content of the files, which shows whether they are whole.

    Before squashfs-tools 4.5 it cannot print a file: then the index holds names, modes, sizes and links.
    """
    from shutil import which

    program = which("unsquashfs")
    if program is None:
        return Nested(path, "squashfs", None, "unsquashfs is not installed", "squashfs-tools")
    image = f"/proc/self/fd/{descriptor}"
    try:
        entries = tuple(_listed(_printed([program, "-d", "root", "-lln", image], descriptor)))
        if "-cat" in _printed([program, "-help"], descriptor, fails=True):
            reader = _Reader(Source(io.BytesIO(), 0))
            pieces = compression.Pieces(_as_archive(entries, [program, "-no-wildcards", "-cat", image], descriptor), 0)
            archive = cpio.Archive(pieces.readinto)
            for member in archive:
                reader.member(archive, member)
            entries = tuple(reader.members)
    except (FormatError, OSError) as error:
        return Nested(path, "squashfs", None, f"unsquashfs cannot read it ({error})")
    tree = _Tree()
    if tree.add_all(entries) is not None:
        return Nested(path, "squashfs", None, "its links and paths are too long to be followed")
    size = os.fstat(descriptor).st_size
    index = Index(size, "", (), entries, MappingProxyType(tree.entries), (), tuple(tree.lost))
    return Nested(path, "squashfs", index)


def _printed(command: list[str], descriptor: int, *, fails: bool = False) -> str:
    with _Output(command, descriptor, _LISTING_LIMIT, fails=fails) as output:
        return b"".join(iter(lambda: output.read(1 << 20), b"")).decode("utf-8", "surrogateescape")


def _listed(text: str) -> Iterator[Entry]:
    for line in text.split("\n"):
        match = _LISTED.match(line)
        if match is None:
            continue
        bits = sum(1 << (8 - at) for at, letter in enumerate(match["mode"]) if letter in "rwxst")
        size = int(match["size"]) if match["kind"] == "-" else 0
        path, _, target = match["path"].partition(" -> ") if match["kind"] == "l" else (match["path"], "", "")
        yield Entry(path, _KINDS[match["kind"]] | bits, size, target=target)


def _as_archive(entries: tuple[Entry, ...], command: list[str], descriptor: int) -> Iterator[bytes]:
    """The files as a cpio archive, so that one reader serves both; the command prints the contents one by one."""
    for entry in entries:
        if not entry.is_file:
            yield cpio.header(os.fsencode(entry.path), entry.mode, os.fsencode(entry.target))
    files = [entry for entry in entries if entry.is_file]
    while files:
        batch, length = 0, 0
        while batch < len(files) and length < _ARGUMENTS_LIMIT:
            length += len(files[batch].path) + 1
            batch += 1
        names = [entry.path for entry in files[:batch]]
        with _Output([*command, *names], descriptor, UNPACKED_LIMIT) as output:
            for entry in files[:batch]:
                yield cpio.header(os.fsencode(entry.path), entry.mode, size=entry.size)
                left = entry.size
                while left:
                    data = output.read(min(left, 1 << 20))
                    if not data:
                        raise Truncated("a file in it cannot be read", entry.path)
                    left -= len(data)
                    yield data
                yield bytes(-entry.size % 4)
        files = files[batch:]


class _Output:
    """What a program prints, bounded in time and size. Raises `FormatError` when it ends in an error."""

    def __init__(self, command: list[str], descriptor: int, limit: int, *, fails: bool = False) -> None:
        import subprocess

        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if fails else subprocess.DEVNULL,
            pass_fds=(descriptor,),
            env={**os.environ, "LC_ALL": "C"},
        )
        self._timer = threading.Timer(_SQUASHFS_SECONDS, self._process.kill)
        self._timer.daemon = True
        self._timer.start()
        self._left = limit
        self._fails = fails

    def __enter__(self) -> _Output:
        return self

    def read(self, length: int) -> bytes:
        assert self._process.stdout is not None
        data = self._process.stdout.read(length)
        self._left -= len(data)
        if self._left < 0:
            raise _TooLarge("it holds more than this program looks at")
        return data

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        assert self._process.stdout is not None
        if kind is not None:
            self._process.kill()
        self._process.stdout.close()
        code = self._process.wait()
        self._timer.cancel()
        if kind is None and code and not self._fails:
            raise FormatError("it is damaged, or in a compression that unsquashfs does not have here")
