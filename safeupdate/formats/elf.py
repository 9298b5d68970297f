"""ELF files: what a program or library asks for, and what a kernel module says of itself.

Format: elf(5), System V gABI chapters 4 and 5. Build ids and `.note.dlopen` are notes (elf(5), "Notes (Nhdr)";
systemd's ELF dlopen metadata specification). `.modinfo` is a row of NUL-terminated `name=value` texts
(include/linux/moduleparam.h of the kernel).

`parse` reads the headers and the few bytes that they point to, so that it can be asked of every program in an image;
`module` walks the section table as well, for kernel modules only.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO, Literal, Union

from safeupdate.errors import FormatError

RELOCATABLE, EXECUTABLE, SHARED = 1, 2, 3
"""Values of `Elf.type`; kernel modules are relocatable, position-independent programs are shared."""

MACHINES = {
    2: "sparc",
    3: "i386",
    8: "mips",
    20: "ppc",
    21: "ppc64",
    22: "s390x",
    40: "arm",
    43: "sparc64",
    50: "ia64",
    62: "x86_64",
    183: "aarch64",
    243: "riscv",
    258: "loongarch",
}
"""`Elf.machine` as the field names it, for messages and comparisons."""

Source = Union[bytes, BinaryIO]

_HEADER_LIMIT = 4096
"""Bytes read first: the ELF header with, in nearly every file, the program headers, interpreter and notes."""

_TABLE_LIMIT = 16 << 20
_DYNAMIC_LIMIT = 1 << 20
_NOTE_LIMIT = 64 << 10
_NOTES_LIMIT = 64
_NEEDED_LIMIT = 4096
_STRING_LIMIT = 4096
"""A path is shorter (PATH_MAX), and so is every soname."""
_MODINFO_LIMIT = 4 << 20
"""The largest `.modinfo` of a distribution's kernel (every alias of a network card family) is under 200 kB."""

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP, _PT_NOTE = 1, 2, 3, 4
_DT_NEEDED, _DT_STRTAB, _DT_SONAME, _DT_RPATH, _DT_RUNPATH = 1, 5, 14, 15, 29
_SHT_NOBITS = 8
_NT_GNU_BUILD_ID = 3
_NT_DLOPEN = 0x407C0C0A


@dataclass(frozen=True)
class Dlopen:
    """A library that the program opens by itself while it runs: any one of `sonames` will do."""

    sonames: tuple[str, ...]
    feature: str = ""
    priority: str = "recommended"


@dataclass(frozen=True)
class Elf:
    """One file's headers.

    `size` is how many bytes there are, `loaded` how many it needs to be started (the end of its last segment; of the
    section table in a relocatable file), `extent` how many its headers speak of.
    """

    type: int
    machine: int
    bits: int
    endian: Literal["little", "big"]
    size: int
    loaded: int
    extent: int
    interpreter: str | None = None
    needed: tuple[str, ...] = ()
    soname: str | None = None
    rpath: tuple[str, ...] = ()
    runpath: tuple[str, ...] = ()
    build_id: str | None = None
    dlopen: tuple[Dlopen, ...] = ()

    @property
    def cut(self) -> bool:
        """Whether the file ends before what its headers speak of."""
        return self.size < self.extent

    @property
    def unloadable(self) -> bool:
        """Whether it ends before something without which it cannot be started at all."""
        return self.size < self.loaded

    @property
    def architecture(self) -> str:
        """`x86_64`, `aarch64`, ...; `machine N` for one that has no name here."""
        name = MACHINES.get(self.machine, f"machine {self.machine}")
        if self.machine == 243:
            return f"{name}{self.bits}"
        return f"{name}le" if self.machine == 21 and self.endian == "little" else name

    def fits(self, other: Elf) -> bool:
        """Whether both can be in one process: the same machine, word size and byte order."""
        return (self.machine, self.bits, self.endian) == (other.machine, other.bits, other.endian)


@dataclass(frozen=True)
class Module:
    """A kernel module. `modinfo` holds `vermagic`, `name`, `depends`, `alias`, ... in the order of the file."""

    elf: Elf
    modinfo: Mapping[str, tuple[str, ...]]
    build_id: str | None
    extent: int
    """Bytes that headers and sections need; a signature stands after them."""

    def one(self, name: str) -> str | None:
        """The first value of a field, None without one."""
        values = self.modinfo.get(name)
        return values[0] if values else None


@dataclass(frozen=True)
class _Layout:
    """The structures of one class and byte order."""

    header: struct.Struct
    program: struct.Struct
    program_fields: tuple[int, int, int, int, int]
    """Where type, offset, vaddr, filesz and align stand in an unpacked program header."""
    section: struct.Struct
    dynamic: struct.Struct


def _layout(bits: int, order: str) -> _Layout:
    word = "Q" if bits == 64 else "I"
    program, fields = (f"{order}IIQQQQQQ", (0, 2, 3, 5, 7)) if bits == 64 else (f"{order}IIIIIIII", (0, 1, 2, 4, 7))
    return _Layout(
        header=struct.Struct(f"{order}16xHHI{word}{word}{word}IHHHHHH"),
        program=struct.Struct(program),
        program_fields=fields,
        section=struct.Struct(f"{order}II{word}{word}{word}{word}II{word}{word}"),
        dynamic=struct.Struct(f"{order}{word}{word}"),
    )


_LAYOUTS = {(bits, order): _layout(bits, order) for bits in (32, 64) for order in "<>"}


class _Bytes:
    """Random access with bounds, over bytes or a file."""

    def __init__(self, source: Source) -> None:
        if isinstance(source, (bytes, bytearray, memoryview)):
            self._data, self._file = bytes(source), None
            self.size = len(self._data)
        else:
            self._file = source
            try:
                self.size = source.seek(0, 2)
                source.seek(0)
                self._data = source.read(_HEADER_LIMIT)
            except OSError as error:
                raise FormatError(f"it cannot be read: {error.strerror}") from None

    def some(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes; fewer only where the file ends."""
        if self._file is None or offset + length <= len(self._data):
            return self._data[offset : offset + length]
        if offset >= self.size:
            return b""
        try:
            self._file.seek(offset)
            return self._file.read(length)
        except (OSError, OverflowError, ValueError):
            raise FormatError("it cannot be read", f"byte {offset}") from None

    def exact(self, offset: int, length: int, what: str, limit: int) -> bytes:
        """`length` bytes, or FormatError."""
        if length > limit:
            raise FormatError(f"its {what} claims {length} bytes", f"byte {offset}")
        data = self.some(offset, length)
        if len(data) != length:
            raise FormatError(f"it ends before its {what} does", f"byte {self.size}")
        return data

    def string(self, offset: int, what: str) -> str:
        """A NUL-terminated text."""
        data = self.some(offset, _STRING_LIMIT)
        end = data.find(b"\0")
        if end < 0:
            raise FormatError(f"its {what} has no end", f"byte {offset}")
        return data[:end].decode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class _Header:
    layout: _Layout
    order: str
    bits: int
    type: int
    machine: int
    phoff: int
    phentsize: int
    phnum: int
    shoff: int
    shentsize: int
    shnum: int
    shstrndx: int


def _header(data: _Bytes) -> _Header:
    ident = data.some(0, 16)
    if ident[:4] != b"\x7fELF":
        raise FormatError("it is not an ELF file", "byte 0")
    if len(ident) < 16 or ident[4] not in (1, 2) or ident[5] not in (1, 2):
        raise FormatError("its ELF class or byte order is invalid", "byte 4")
    bits, order = (32, 64)[ident[4] - 1], "<>"[ident[5] - 1]
    layout = _LAYOUTS[bits, order]
    raw = data.exact(0, layout.header.size, "ELF header", _HEADER_LIMIT)
    (type_, machine, _version, _entry, phoff, shoff, _flags, _size, phentsize, phnum, shentsize, shnum, shstrndx) = (
        layout.header.unpack(raw)
    )
    if phnum and phentsize != layout.program.size:
        raise FormatError(f"its program headers have {phentsize} bytes each", "ELF header")
    if shnum and shentsize != layout.section.size:
        raise FormatError(f"its section headers have {shentsize} bytes each", "ELF header")
    return _Header(layout, order, bits, type_, machine, phoff, phentsize, phnum, shoff, shentsize, shnum, shstrndx)


def parse(file: Source) -> Elf:
    """The headers of an ELF file, given as bytes or as a seekable reader.

    Raises `FormatError` for anything that is not ELF, and where the file ends before its headers, its interpreter or
    its dynamic section do. A file that ends later than that is returned; `Elf.cut` tells. Reads no section.
    """
    data = _Bytes(file)
    header = _header(data)
    layout = header.layout
    extent = max(layout.header.size, header.phoff + header.phnum * header.phentsize if header.phnum else 0)
    table_end = header.shoff + header.shnum * header.shentsize if header.shoff else 0
    loaded = max(extent, table_end) if header.type == RELOCATABLE else extent

    interpreter = dynamic = None
    loads: list[tuple[int, int, int]] = []
    notes: list[tuple[int, int, int]] = []
    if header.phnum:
        table = data.exact(header.phoff, header.phnum * header.phentsize, "program header table", _TABLE_LIMIT)
        at_type, at_offset, at_vaddr, at_filesz, at_align = layout.program_fields
        for fields in layout.program.iter_unpack(table):
            kind, offset, size = fields[at_type], fields[at_offset], fields[at_filesz]
            if kind == _PT_LOAD:
                loads.append((fields[at_vaddr], offset, size))
                loaded = max(loaded, offset + size if size else 0)
            elif kind == _PT_DYNAMIC:
                dynamic = (offset, size)
            elif kind == _PT_INTERP:
                raw = data.exact(offset, size, "interpreter's name", _STRING_LIMIT)
                interpreter = raw.partition(b"\0")[0].decode("utf-8", "surrogateescape")
            elif kind == _PT_NOTE and len(notes) < _NOTES_LIMIT:
                notes.append((offset, size, fields[at_align]))

    needed: list[str] = []
    soname = None
    paths: dict[int, tuple[str, ...]] = {}
    if dynamic is not None and header.type in (EXECUTABLE, SHARED):
        strings, names = _dynamic(data, layout, dynamic, loads)
        for tag, position in names:
            text = data.string(strings + position, "dynamic string table")
            if tag == _DT_NEEDED:
                needed.append(text)
            elif tag == _DT_SONAME:
                soname = text
            else:
                paths[tag] = tuple(part for part in text.split(":") if part)

    build_id, dlopen = _notes(data, header.order, notes)
    return Elf(
        type=header.type,
        machine=header.machine,
        bits=header.bits,
        endian="little" if header.order == "<" else "big",
        size=data.size,
        loaded=loaded,
        extent=max(loaded, table_end),
        interpreter=interpreter,
        needed=tuple(needed),
        soname=soname,
        rpath=paths.get(_DT_RPATH, ()),
        runpath=paths.get(_DT_RUNPATH, ()),
        build_id=build_id,
        dlopen=dlopen,
    )


def _dynamic(
    data: _Bytes, layout: _Layout, place: tuple[int, int], loads: list[tuple[int, int, int]]
) -> tuple[int, list[tuple[int, int]]]:
    """Where the dynamic string table stands in the file, and (tag, position in it) of every name that matters."""
    offset, size = place
    size -= size % layout.dynamic.size
    raw = data.exact(offset, size, "dynamic section", _DYNAMIC_LIMIT)
    names: list[tuple[int, int]] = []
    address = None
    for tag, value in layout.dynamic.iter_unpack(raw):
        if tag == 0:
            break
        if tag == _DT_STRTAB:
            address = value
        elif tag in (_DT_NEEDED, _DT_SONAME, _DT_RPATH, _DT_RUNPATH):
            names.append((tag, value))
    if len(names) > _NEEDED_LIMIT:
        raise FormatError(f"it asks for {len(names)} libraries", f"byte {offset}")
    if not names:
        return 0, names
    for start, where, length in loads:
        if address is not None and start <= address < start + length:
            return where + address - start, names
    raise FormatError("its dynamic section names no string table in the file", f"byte {offset}")


def _notes(data: _Bytes, order: str, places: list[tuple[int, int, int]]) -> tuple[str | None, tuple[Dlopen, ...]]:
    build_id = None
    dlopen: list[Dlopen] = []
    for offset, size, align in places:
        if size > _NOTE_LIMIT:
            continue
        for name, kind, content in _each_note(data.some(offset, size), order, align):
            if name == b"GNU\0" and kind == _NT_GNU_BUILD_ID:
                build_id = content.hex()
            elif name == b"FDO\0" and kind == _NT_DLOPEN:
                dlopen += _dlopen(content)
    return build_id, tuple(dlopen)


def _each_note(raw: bytes, order: str, align: int) -> list[tuple[bytes, int, bytes]]:
    """(name, type, content) of every whole note; notes are padded to 4 bytes, to 8 in an 8-aligned segment."""
    step = 8 if align == 8 else 4
    head = struct.Struct(f"{order}III")
    found = []
    at = 0
    while at + 12 <= len(raw):
        name_size, content_size, kind = head.unpack_from(raw, at)
        content_at = at + 12 + name_size
        content_at += -content_at % step
        end = content_at + content_size
        if end > len(raw):
            break
        found.append((raw[at + 12 : at + 12 + name_size], kind, raw[content_at:end]))
        at = end + -end % step
    return found


def _dlopen(content: bytes) -> list[Dlopen]:
    """The note's JSON list; nothing where it is not one, as it only describes what is optional."""
    import json

    try:
        entries = json.loads(content.rstrip(b"\0"))
    except (ValueError, RecursionError):
        return []
    found = []
    for entry in entries if isinstance(entries, list) else ():
        sonames = entry.get("soname") if isinstance(entry, dict) else None
        if isinstance(sonames, list) and sonames and all(isinstance(name, str) for name in sonames):
            priority = str(entry.get("priority", "recommended"))
            found.append(Dlopen(tuple(sonames), str(entry.get("feature", "")), priority))
    return found


def module(file: Source) -> Module:
    """A kernel module's headers, `.modinfo` and build id, given as bytes (decompressed) or a seekable reader.

    A signature behind the module does no harm. Raises `FormatError` for what is not ELF, is not relocatable, or ends
    before its section table or its `.modinfo` do; `Module.extent` above `Module.elf.size` tells of any other cut.
    """
    data = _Bytes(file)
    header = _header(data)
    if header.type != RELOCATABLE:
        raise FormatError("it is no kernel module: the ELF file is not relocatable", "ELF header")
    if not header.shoff or header.shentsize != header.layout.section.size:
        raise FormatError("it has no section table", "ELF header")
    section = header.layout.section
    count, names_index = header.shnum, header.shstrndx
    if count == 0 or names_index == 0xFFFF:
        # More sections than 16 bits hold: section 0 has the numbers (gABI, "ELF header", e_shnum, e_shstrndx).
        first = section.unpack(data.exact(header.shoff, section.size, "section table", _TABLE_LIMIT))
        count, names_index = count or first[5], first[6] if names_index == 0xFFFF else names_index
    table = list(section.iter_unpack(data.exact(header.shoff, count * section.size, "section table", _TABLE_LIMIT)))
    if names_index >= len(table):
        raise FormatError("it names no section name table", "ELF header")
    names = data.exact(table[names_index][4], table[names_index][5], "section name table", _TABLE_LIMIT)

    extent = header.shoff + count * section.size
    modinfo: dict[str, list[str]] | None = None
    build_id_seen = False
    build_id = None
    for name_at, kind, _flags, _address, offset, size, *_rest in table:
        if kind == _SHT_NOBITS or not kind:
            continue
        extent = max(extent, offset + size)
        if modinfo is None and names.startswith(b".modinfo\0", name_at):
            modinfo = {}
            for text in data.exact(offset, size, ".modinfo section", _MODINFO_LIMIT).split(b"\0"):
                key, equals, value = text.decode("utf-8", "surrogateescape").partition("=")
                if equals:
                    modinfo.setdefault(key, []).append(value)
        elif not build_id_seen and names.startswith(b".note.gnu.build-id\0", name_at):
            build_id_seen = True
            raw = data.exact(offset, size, "build id", _NOTE_LIMIT)
            build_id, _ = _notes(_Bytes(raw), header.order, [(0, len(raw), 4)])
    return Module(
        elf=parse(file),
        modinfo={key: tuple(values) for key, values in (modinfo or {}).items()},
        build_id=build_id,
        extent=extent,
    )
