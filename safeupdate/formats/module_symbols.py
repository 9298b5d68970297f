"""What a kernel module asks of its kernel, and what modules and kernels export: names and checksums of symbols.

The kernel reads these in kernel/module/main.c and version.c; scripts/mod/modpost.c and include/linux/export-internal.h
write them. ELF itself: elf(5).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from safeupdate.errors import FormatError

_VERSION_SIZE = 64
"""Bytes of an entry of `__versions`: a checksum, as wide as a pointer, and a name (struct modversion_info)."""

_SECTIONS_LIMIT = 1 << 16
"""nvidia's modules and those built with -ffunction-sections have some thousands."""
_SECTION_LIMIT = 16 << 20
"""Bytes of a section that is read: the names of nvidia's symbols have 5 MB."""
_EXPORTS_LIMIT = 1 << 17
"""A kernel has some 11,000."""

_RELOCATABLE = 1
_NULL, _SYMTAB, _NOBITS = 0, 2, 8
_UNDEFINED, _ABSOLUTE = 0, 0xFFF1
_WEAK = 2
_ENTRY, _CHECKSUM = b"__ksymtab_", b"__crc_"
"""What the build puts before a symbol's name, to name its entry in the table of exports, and its checksum."""
_NOT_RESOLVED = frozenset(["", "_GLOBAL_OFFSET_TABLE_", ".TOC."])
"""Undefined names that no export answers: i386 and x86-64 leave the second out (ignore_undef_symbol), powerpc's loader
sets the third itself."""

_NAME = re.compile(r"[A-Za-z0-9_.$]+")

_STRINGS = "__ksymtab_strings"
_WANTED = (".modinfo", ".note.gnu.build-id", "__versions", "__version_ext_crcs", "__version_ext_names", _STRINGS)


@dataclass(frozen=True)
class ModuleSymbols:
    """One module. `versions` are the checksums of the symbols that it was built with, None without such a section;
    `extended` the same with names of any length, which Linux 6.13 and newer prefer.

    `exports` maps to the checksum, None where there is none to compare; `weak` are the undefined symbols that need not
    be found, and no part of `undefined`. `size` is the length in bytes of `struct module` where it was built.
    """

    machine: int
    modinfo: Mapping[str, tuple[str, ...]]
    build_id: str | None
    versions: Mapping[str, int] | None
    extended: Mapping[str, int] | None
    exports: Mapping[str, int | None]
    undefined: frozenset[str]
    weak: frozenset[str]
    size: int | None

    def one(self, field: str) -> str | None:
        """The first value of a field of `.modinfo` (`vermagic`, `srcversion`, ...), None without one."""
        values = self.modinfo.get(field)
        return values[0] if values else None


class _Section(NamedTuple):
    name: str
    kind: int
    address: int
    offset: int
    size: int
    link: int


class _File:
    """An ELF file and its section table."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        file.seek(0)
        head = file.read(64)
        if len(head) < 52 or head[:4] != b"\x7fELF" or head[4] not in (1, 2) or head[5] not in (1, 2):
            raise FormatError("it is no ELF file", "byte 0")
        self.order = "<>"[head[5] - 1]
        self.wide = head[4] == 2
        self.word = "Q" if self.wide else "I"
        try:
            self.type, self.machine = struct.unpack_from(f"{self.order}HH", head, 16)
            (start,) = struct.unpack_from(self.order + self.word, head, 40 if self.wide else 32)
            length, count, names = struct.unpack_from(f"{self.order}HHH", head, 58 if self.wide else 46)
        except struct.error:
            raise FormatError("it ends before its ELF header does", f"byte {len(head)}") from None
        layout = struct.Struct(f"{self.order}II{self.word * 4}II{self.word * 2}")
        if not start or length != layout.size:
            raise FormatError("it has no section table", "ELF header")
        if count == 0 or names == 0xFFFF:
            # More sections than 16 bits hold: section 0 has the numbers (gABI, "ELF header", e_shnum, e_shstrndx).
            first = layout.unpack(self.read(start, layout.size, "section table"))
            count, names = count or first[5], first[6] if names == 0xFFFF else names
        if count > _SECTIONS_LIMIT or names >= count:
            raise FormatError(f"it claims {count} sections", "ELF header")
        table = [*layout.iter_unpack(self.read(start, count * layout.size, "section table"))]
        strings = self.read(table[names][4], table[names][5], "section name table")
        self.sections = [
            _Section(_string(strings, name), kind, address, offset, size, link)
            for name, kind, _, address, offset, size, link, *_ in table
        ]
        self.by_name = {one.name: one for one in reversed(self.sections) if one.kind not in (_NULL, _NOBITS)}

    def read(self, offset: int, size: int, what: str) -> bytes:
        """`size` bytes. Raises `FormatError` where the file has fewer."""
        if size > _SECTION_LIMIT:
            raise FormatError(f"its {what} claims {size} bytes", f"byte {offset}")
        try:
            self._file.seek(offset)
            data = self._file.read(size)
        except (OSError, OverflowError, ValueError):
            raise FormatError("it cannot be read", f"byte {offset}") from None
        if len(data) < size:
            raise FormatError(f"it ends before its {what} does", f"byte {offset}")
        return data

    def contents(self, wanted: list[_Section]) -> dict[str, bytes]:
        """Sections by name, read in the order of the file: some files can be read forward only at little cost."""
        return {
            one.name: self.read(one.offset, one.size, one.name) for one in sorted(wanted, key=lambda one: one.offset)
        }


def parse(file: BinaryIO) -> ModuleSymbols:
    """A module, unpacked, in a seekable reader.

    Raises `FormatError` for what is no relocatable ELF file, has no symbols, or ends before its sections do.
    """
    elf = _File(file)
    if elf.type != _RELOCATABLE:
        raise FormatError("it is an ELF file of another kind than a module", "ELF header")
    table = next((one for one in elf.sections if one.kind == _SYMTAB), None)
    if table is None or table.link >= len(elf.sections):
        raise FormatError("it has no symbols", "section table")
    last = max((one for one in elf.sections if one.kind not in (_NULL, _NOBITS)), key=lambda one: one.offset + one.size)
    wanted = [table._replace(name=""), elf.sections[table.link]._replace(name="strings")]
    wanted += [one for name, one in elf.by_name.items() if name in _WANTED or name.startswith("__kcrctab")]
    found = elf.contents(wanted)
    elf.read(max(last.offset + last.size - 1, 0), 1, "last section")

    symbols = [*_symbols(elf, found[""], found["strings"])]
    undefined: set[str] = set()
    weak: set[str] = set()
    for name, binding, section, _ in symbols:
        if section == _UNDEFINED and name not in _NOT_RESOLVED:
            (weak if binding == _WEAK else undefined).add(name)
    modinfo: dict[str, list[str]] = {}
    for text in found.get(".modinfo", b"").split(b"\0"):
        key, equals, value = text.decode("utf-8", "surrogateescape").partition("=")
        if equals:
            modinfo.setdefault(key, []).append(value)
    this = elf.by_name.get(".gnu.linkonce.this_module")
    return ModuleSymbols(
        machine=elf.machine,
        modinfo={key: tuple(values) for key, values in modinfo.items()},
        build_id=_build_id(found.get(".note.gnu.build-id", b""), elf.order),
        versions=_versions(found.get("__versions"), elf),
        extended=_extended(found.get("__version_ext_crcs"), found.get("__version_ext_names"), elf.order),
        exports=_exports(elf, symbols, found),
        undefined=frozenset(undefined),
        weak=frozenset(weak),
        size=None if this is None else this.size,
    )


_Symbol = tuple[str, int, int, int]
"""Name, binding, section and value."""


def _symbols(elf: _File, table: bytes, strings: bytes) -> Iterator[_Symbol]:
    """Those that count here, few of a large module's: undefined ones, and the names of what is exported."""
    layout = struct.Struct(f"{elf.order}IBBHQQ" if elf.wide else f"{elf.order}IIIBBH")
    for fields in layout.iter_unpack(table[: len(table) - len(table) % layout.size]):
        if elf.wide:
            name, info, _, section, value, _ = fields
        else:
            name, value, _, info, _, section = fields
        if section == _UNDEFINED or strings.startswith((_ENTRY, _CHECKSUM), name):
            yield _string(strings, name), info >> 4, section, value


def _string(strings: bytes, at: int) -> str:
    end = strings.find(b"\0", at)
    return strings[at : end if end >= 0 else at].decode("utf-8", "surrogateescape")


def _versions(data: bytes | None, elf: _File) -> dict[str, int] | None:
    if data is None:
        return None
    layout = struct.Struct(elf.order + elf.word)
    found: dict[str, int] = {}
    for at in range(0, len(data) - _VERSION_SIZE + 1, _VERSION_SIZE):
        name = data[at + layout.size : at + _VERSION_SIZE].partition(b"\0")[0].decode("utf-8", "surrogateescape")
        found.setdefault(name, layout.unpack_from(data, at)[0])
    return found


def _extended(checksums: bytes | None, names: bytes | None, order: str) -> dict[str, int] | None:
    """The kernel refuses a module that has one of the two, or more checksums than names."""
    if checksums is None and names is None:
        return None
    words = [] if names is None else names.decode("utf-8", "surrogateescape").split("\0")[:-1]
    numbers = [] if checksums is None else struct.unpack_from(f"{order}{len(checksums) // 4}I", checksums)
    if checksums is None or names is None or len(numbers) > len(words):
        raise FormatError("its extended symbol versions have not as many names as checksums")
    return dict(reversed([*zip(words, numbers)]))  # the first of a name counts


def _build_id(data: bytes, order: str) -> str | None:
    """The first note, if it is one (elf(5), "Notes (Nhdr)")."""
    if len(data) < 16 or data[12:16] != b"GNU\0":
        return None
    name, length, kind = struct.unpack_from(f"{order}III", data)
    return data[16 : 16 + length].hex() if (name, kind) == (4, 3) else None


def _exports(elf: _File, symbols: list[_Symbol], found: Mapping[str, bytes]) -> dict[str, int | None]:
    """By the names that the build gives the entries, which are there as long as modules are only stripped of debugging
    information. Without them every text beside the table may be a name, whose checksum is not known."""
    tables = {number for number, one in enumerate(elf.sections) if _is_table(one.name)}
    if not tables:
        return {}
    has_checksums = any(name.startswith("__kcrctab") for name in found)
    exports: dict[str, int | None] = {
        name[10:]: 0 if has_checksums else None for name, _, section, _ in symbols if section in tables
    }
    if not exports:
        texts = found.get(_STRINGS, b"").split(b"\0")
        return {text.decode("utf-8", "surrogateescape"): None for text in texts if text}
    for name, _, section, value in symbols:
        if not name.startswith("__crc_") or name[6:] not in exports:
            continue
        if section == _ABSOLUTE:
            exports[name[6:]] = value & 0xFFFFFFFF
        elif 0 < section < len(elf.sections):
            one = elf.sections[section]
            data = found.get(one.name) if one.name.startswith("__kcrctab") else None
            # Before Linux 5.19 some architectures kept the checksums among other constants (MODULE_REL_CRCS).
            raw = elf.read(one.offset + value, 4, "checksum") if data is None else data[value : value + 4]
            if len(raw) == 4:
                exports[name[6:]] = struct.unpack(f"{elf.order}I", raw)[0]
    return exports


def _is_table(section: str) -> bool:
    return section.startswith("__ksymtab") and section != _STRINGS


def of_kernel(file: BinaryIO, *, relative: bool = False) -> dict[str, int | None]:
    """What a kernel exports, by its unpacked image (`vmlinux`, stripped or not) in a seekable reader.

    `relative`: it is built with CONFIG_MODULE_REL_CRCS. Raises `FormatError` where the image has no sections, as
    arm64's, or no tables that fit together.
    """
    elf = _File(file)
    pairs = {name: name.replace("ksymtab", "kcrctab") for name in elf.by_name if _is_table(name)}
    strings = elf.by_name.get(_STRINGS)
    if not pairs or strings is None:
        raise FormatError("it has no table of exported symbols", "section table")
    wanted = [strings, *(elf.by_name[name] for pair in pairs.items() for name in pair if name in elf.by_name)]
    found = elf.contents(wanted)
    exports: dict[str, int | None] = {}
    for table, checksums in pairs.items():
        if found[table]:
            exports.update(_table(elf, table, checksums, found, strings, relative=relative))
    return exports


def _table(
    elf: _File, table: str, checksums: str, found: Mapping[str, bytes], strings: _Section, *, relative: bool
) -> dict[str, int | None]:
    """One table of struct kernel_symbol (include/linux/module_symbol.h): the value, the name, and since Linux 5.4 the
    namespace, as pointers or as distances from where they stand (CONFIG_HAVE_ARCH_PREL32_RELOCATIONS)."""
    data, texts = found[table], found[strings.name]
    place = elf.by_name[table].address
    pointer = 8 if elf.wide else 4
    for width, distances in ((4, True), (pointer, False)):
        for fields in (3, 2):
            size = width * fields
            if len(data) % size or len(data) // size > _EXPORTS_LIMIT:
                continue
            code = elf.order + ("i" if distances else elf.word)
            names = []
            for at in range(0, len(data), size):
                (value,) = struct.unpack_from(code, data, at + width)
                start = value + (place + at + width if distances else 0) - strings.address
                name = _string(texts, start) if 0 <= start < len(texts) else ""
                if not _NAME.fullmatch(name):
                    break
                names.append(name)
            else:
                return dict(zip(names, _checksums(elf, checksums, found, len(names), relative=relative)))
    raise FormatError(f"its table {table} names no symbols", f"byte {elf.by_name[table].offset}")


def _checksums(
    elf: _File, name: str, found: Mapping[str, bytes], count: int, *, relative: bool
) -> list[int] | list[None]:
    data = found.get(name)
    if data is None:
        return [None] * count
    width = len(data) // count
    if len(data) != width * count or width not in (4, 8):
        raise FormatError(f"its table {name} has not one checksum for each symbol", f"byte {elf.by_name[name].offset}")
    if not relative:
        return [value & 0xFFFFFFFF for (value,) in struct.iter_unpack(elf.order + "IQ"[width == 8], data)]
    section = elf.by_name[name]
    numbers = []
    for at, (distance,) in enumerate(struct.iter_unpack(f"{elf.order}i", data)):
        target = section.address + 4 * at + distance
        holder = next((one for one in elf.sections if one.address <= target < one.address + one.size), None)
        if holder is None or not holder.address or holder.kind == _NOBITS:
            raise FormatError(f"its table {name} points out of the image", f"byte {section.offset + 4 * at}")
        numbers.append(elf.read(holder.offset + target - holder.address, 4, "checksum"))
    return [struct.unpack(f"{elf.order}I", number)[0] for number in numbers]
