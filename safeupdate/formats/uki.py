"""Unified kernel images: kernel, initramfs and command line as sections of one EFI program.

UAPI.5 Unified Kernel Image specification (sections and multi-profile images), systemd-stub(7); the container is
PE/COFF (Microsoft PE Format, "Section Table"). Only the headers and the small text sections are read.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from safeupdate.errors import FormatError
from safeupdate.formats import loader_conf

HEADER_LIMIT = 64 << 10
"""Bytes from the start in which all headers must end. 96 sections, more than the Windows loader takes, need 4 KiB."""

_TEXT_LIMIT = 64 << 10
"""Bytes of a text section. The kernel takes command lines of 2 KiB (x86), the stub none beyond its UTF-16 limits."""

_TEXTS_LIMIT = 1 << 20
"""Bytes of all text sections together, those of the base once for each profile. Real ones have about 1 KiB."""

_PROFILES = 256
"""The most profiles that systemd-boot looks for in one image (UNIFIED_PROFILES_MAX)."""

ARCHITECTURES = {
    0x14C: "ia32",
    0x8664: "x64",
    0x1C2: "arm",
    0x1C4: "arm",
    0xAA64: "aa64",
    0x5064: "riscv64",
    0x6264: "loongarch64",
}
"""The machine types of PE by their names in UEFI file names (UEFI 2.10, section 3.5.1.1)."""


@dataclass(frozen=True)
class Section:
    """Where a section's content is in the file, in bytes. Not `whole`: the file ends before the section does."""

    name: str
    offset: int
    size: int
    whole: bool = True


@dataclass(frozen=True)
class Profile:
    """What the image starts as, in one of its profiles: the sections of the base, overlaid with the profile's own.

    `id` and `title` are the profile's; `cmdline` and `release` (section `.uname`) are None where there is no such
    section.
    """

    number: int = 0
    id: str | None = None
    title: str | None = None
    linux: Section | None = None
    initrd: Section | None = None
    cmdline: str | None = None
    release: str | None = None
    os_release: dict[str, str] | None = field(default=None, hash=False)


@dataclass(frozen=True)
class Uki:
    """An EFI program and its sections. `profiles` has one at least; the first is what starts by default."""

    architecture: str | None
    sections: tuple[Section, ...]
    profiles: tuple[Profile, ...]

    @property
    def whole(self) -> bool:
        """Whether the file is as long as its headers say."""
        return all(section.whole for section in self.sections)


def looks_like(head: bytes) -> bool:
    """Whether the first 4 KiB of a file may be those of a unified kernel image; costs no parsing."""
    return head[:2] == b"MZ" and b".linux\0\0" in head


def architecture(head: bytes) -> str | None:
    """The architecture of an EFI program, as in the name BOOT*.EFI, from its first KiB; None where it is none."""
    if head[:2] != b"MZ" or len(head) < 64:
        return None
    (at,) = struct.unpack_from("<I", head, 0x3C)
    if head[at : at + 4] != b"PE\0\0" or len(head) < at + 6:
        return None
    return ARCHITECTURES.get(struct.unpack_from("<H", head, at + 4)[0])


def parse(file: BinaryIO | bytes) -> Uki:
    """The sections of an EFI program, taken as a unified kernel image; it need not have any of them.

    Raises `FormatError` where the headers are no PE file's, or a text section is too long or too short to be one.
    """
    reader = io.BytesIO(file) if isinstance(file, bytes) else file
    length = reader.seek(0, io.SEEK_END)
    reader.seek(0)
    head = reader.read(HEADER_LIMIT)
    table = tuple(_sections(head, length))
    first = next((at for at, section in enumerate(table) if section.name == ".profile"), len(table))
    base = _by_name(table[:first])
    starts = [at for at, section in enumerate(table) if section.name == ".profile"][:_PROFILES]
    texts = _Texts(reader)
    profiles = []
    for number, start in enumerate(starts or [len(table)]):
        end = starts[number + 1] if number + 1 < len(starts) else len(table)
        profiles.append(_profile(texts, number, {**base, **_by_name(table[start:end])}))
    return Uki(architecture(head), table, tuple(profiles))


def open_section(file: BinaryIO, section: Section) -> BinaryIO:
    """The content of one section as a file of its own, for those who read kernels and initramfs images."""
    return io.BufferedReader(_Slice(file, section.offset, section.size))


class _Slice(io.RawIOBase):
    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._start, self._size, self._at = file, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(origin + offset, 0)
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._file.seek(self._start + self._at)
        data = self._file.read(max(min(len(buffer), self._size - self._at), 0))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _sections(head: bytes, length: int) -> Iterator[Section]:
    import pefile  # type: ignore[import-untyped]

    try:
        # Only the headers are handed over: what follows may be large, and nothing of it is needed to find sections.
        sections = pefile.PE(data=head, fast_load=True).sections
    except (
        pefile.PEFormatError,
        AttributeError,
        IndexError,
        OverflowError,
        TypeError,
        ValueError,
        struct.error,
    ) as error:
        raise FormatError(f"no EFI program: {error}", "header") from None
    for section in sections:
        name = section.Name.rstrip(b"\0").decode("ascii", "replace")
        # In the file a section is padded; the size in memory is that of its content, unless the tool left it out.
        size = min(section.Misc_VirtualSize or section.SizeOfRawData, section.SizeOfRawData)
        offset = section.PointerToRawData
        yield Section(name, offset, size, size == 0 or offset + size <= length)


def _by_name(sections: tuple[Section, ...]) -> dict[str, Section]:
    """The first section of each name, which is the one that counts."""
    return {section.name: section for section in reversed(sections)}


def _profile(texts: _Texts, number: int, sections: dict[str, Section]) -> Profile:
    cmdline = texts.text(sections.get(".cmdline"))
    release = texts.text(sections.get(".uname"))
    about = texts.pairs(sections.get(".profile")) or {}
    return Profile(
        number,
        about.get("ID"),
        about.get("TITLE"),
        sections.get(".linux"),
        sections.get(".initrd"),
        # The stub turns control characters into blanks and drops those at both ends.
        None if cmdline is None else re.sub("[\0-\x20\x7f]", " ", cmdline).strip(" "),
        release.strip() or None if release else None,
        texts.pairs(sections.get(".osrel")),
    )


class _Texts:
    """The text sections of one file, within bounds."""

    def __init__(self, reader: BinaryIO) -> None:
        self._reader = reader
        self._left = _TEXTS_LIMIT

    def pairs(self, section: Section | None) -> dict[str, str] | None:
        data = self._read(section)
        return None if data is None else dict(loader_conf.pairs(data, "="))

    def text(self, section: Section | None) -> str | None:
        data = self._read(section)
        return None if data is None else data.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")

    def _read(self, section: Section | None) -> bytes | None:
        if section is None:
            return None
        place = f"offset {section.offset:#x}"
        self._left -= section.size
        if section.size > _TEXT_LIMIT or self._left < 0:
            raise FormatError(f"the section {section.name} is too long for a text", place)
        if not section.whole:
            raise FormatError(f"the file ends before its section {section.name} does", place)
        self._reader.seek(section.offset)
        return self._reader.read(section.size)
