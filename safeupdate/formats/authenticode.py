"""The signatures that an EFI program carries, and the digest of it that they sign.

Windows Authenticode Portable Executable Signature Format; the PE layout is in the Microsoft PE/COFF specification
("Attribute Certificate Table", "Section Table"), what of it firmware and shim hash in UEFI 2.10, section 32.4.
Whether a signature is *trusted* is another question (`trust/`); whether the file is still the one that was signed
needs no key.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from safeupdate.errors import FormatError
from safeupdate.formats import cms, der
from safeupdate.formats.cms import SignedData

_BLOCK = 1 << 20

_SIZE_LIMIT = 4 << 30
"""Bytes: the offsets of a PE file have 32 bits, and so have those of the FAT that firmware loads it from."""

_HEADER_LIMIT = 64 << 10
"""Bytes from the start in which all headers must end. 96 sections, more than the Windows loader takes, need 4 KiB."""

_TABLE_LIMIT = 1 << 20
"""Bytes of the certificate table. A signature has 1 to 10 KiB, and images carry one to three."""

_SIGNATURES_LIMIT = 32

_STRINGS_LIMIT = 1 << 20
"""Bytes of the COFF string table, which holds the section names of more than 8 bytes."""

_SECTION = struct.Struct("<8sIIIIIIHHI")
_CERTIFICATES = 4
"""The data directory that says where the certificate table is."""
_PKCS7 = 2
"""WIN_CERT_TYPE_PKCS_SIGNED_DATA, the only type that Authenticode has."""

DIGESTS = ("sha256", "sha384", "sha512", "sha1")
"""The digests that an image is signed by, as hashlib names them."""


@dataclass(frozen=True)
class Section:
    """Where a section's content is in the file, in bytes. `used` is its size without the padding."""

    name: str
    offset: int
    size: int
    used: int


@dataclass(frozen=True)
class Signature:
    """One entry of the certificate table: the digest of the image that it names, and by which algorithm.

    `problem` says why there is none: the entry is no Authenticode signature, or a broken one. `not_der`: others may be
    able to read it.
    """

    algorithm: str = ""
    digest: bytes = b""
    signed: SignedData | None = None
    problem: str | None = None
    not_der: bool = False

    @property
    def signed_content(self) -> bytes:
        """What of SpcIndirectDataContent the signature covers: its content octets."""
        assert self.signed is not None
        content = der.Reader(self.signed.content or b"")
        return content.content(content.take("the signed content"))


@dataclass(frozen=True)
class Image:
    """An EFI program. `hashed` are the parts of the file, as offsets, that the digest covers, in their order.

    `padding` is the number of zero bytes that shim hashes behind an image without signatures. `problem` says what is
    wrong with the certificate table: those who verify the image refuse it then, whatever else it holds.
    """

    sections: tuple[Section, ...]
    hashed: tuple[tuple[int, int], ...]
    signatures: tuple[Signature, ...] = ()
    problem: str | None = None
    padding: int = 0

    def section(self, name: str) -> Section | None:
        """The first section of this name."""
        return next((section for section in self.sections if section.name == name), None)


def parse(file: BinaryIO) -> Image:
    """The sections and signatures of an EFI program. Raises `FormatError` where the headers are no PE file's."""
    size = file.seek(0, 2)
    if size > _SIZE_LIMIT:
        raise FormatError("it is larger than an EFI program can be", f"{size} bytes")
    file.seek(0)
    head = file.read(_HEADER_LIMIT)
    optional, directory, start, length = _directory(head)
    count, symbols, symbol_count, optional_size = struct.unpack_from("<H4xIIH", head, optional - 18)
    (end_of_headers,) = struct.unpack_from("<I", head, optional + 60)
    table = optional + optional_size
    sections = tuple(_sections(file, head, table, count, symbols + 18 * symbol_count))
    signatures: tuple[Signature, ...] = ()
    problem = None
    end = size
    if length:
        if start + length > size:
            problem = f"its certificate table lies beyond the end of the file (offset {start:#x})"
        else:
            signatures, problem = _table(file, start, length)
            end = size - length
            if not problem and end != start:
                problem = f"something stands behind its certificate table (offset {start + length:#x})"
    for section in sections:
        if section.size and section.offset + section.size > size:
            raise FormatError(f"the file ends before its section {section.name} does", f"offset {section.offset:#x}")
    if end_of_headers + sum(section.size for section in sections) > end:
        raise FormatError("its sections are longer together than the file", f"offset {table:#x}")
    skipped = [(optional + 64, optional + 68)] + ([(directory, directory + 8)] if directory else [])
    hashed = tuple(_hashed(sections, skipped, end_of_headers, end))
    return Image(sections, hashed, signatures, problem, 0 if length else -size % 8)


def digest(file: BinaryIO, image: Image, algorithm: str, *, padded: bool = False) -> bytes:
    """The image's own digest; with the bytes behind it that shim hashes where `padded`."""
    import hashlib

    value = hashlib.new(algorithm, usedforsecurity=False)
    for start, end in image.hashed:
        file.seek(start)
        left = end - start
        while left > 0:
            block = file.read(min(left, _BLOCK))
            if not block:
                raise FormatError("the file ends inside the image", f"offset {end - left:#x}")
            value.update(block)
            left -= len(block)
    value.update(bytes(image.padding if padded else 0))
    return value.digest()


def read(file: BinaryIO, section: Section, *, limit: int) -> bytes:
    """A section's content without its padding. Raises `FormatError` for more than `limit` bytes."""
    if section.used > limit:
        raise FormatError(f"the section {section.name} has {section.used} bytes", f"offset {section.offset:#x}")
    file.seek(section.offset)
    return file.read(section.used)


def intact(file: BinaryIO) -> bool | None:
    """Whether the image's bytes have the digest that one of its signatures names. None: it carries no signature."""
    try:
        image = parse(file)
        named = [one for one in image.signatures if one.digest]
        if not named:
            return False if image.problem else None
        ours = {name: digest(file, image, name) for name in {one.algorithm for one in named}}
    except FormatError:
        file.seek(0)
        # Headers that claim signatures, and yet break the rules, are not those that were signed.
        return False if _claims_signatures(file.read(_HEADER_LIMIT)) else None
    return any(ours[one.algorithm] == one.digest for one in named)


def _claims_signatures(head: bytes) -> bool:
    try:
        return bool(_directory(head)[3])
    except FormatError:
        return False


def _directory(head: bytes) -> tuple[int, int, int, int]:
    """Where the optional header and the place of the signatures in it begin, and what it says: offset and length of the
    certificate table, 0 for none. The place itself is 0 where the header has none."""
    if head[:2] != b"MZ" or len(head) < 0x40:
        raise FormatError("it is no EFI program", "offset 0")
    (pe,) = struct.unpack_from("<I", head, 0x3C)
    if head[pe : pe + 4] != b"PE\0\0":
        raise FormatError("it is no EFI program", f"offset {pe:#x}")
    optional = pe + 24
    directories = optional + (112 if head[optional : optional + 2] == b"\x0b\x02" else 96)
    if directories > len(head):
        raise FormatError("the PE optional header is cut", f"offset {optional:#x}")
    (count,) = struct.unpack_from("<I", head, directories - 4)
    if count <= _CERTIFICATES:
        return optional, 0, 0, 0
    directory = directories + 8 * _CERTIFICATES
    if directory + 8 > len(head):
        raise FormatError("the PE data directories are cut", f"offset {directory:#x}")
    start, length = struct.unpack_from("<II", head, directory)
    return optional, directory, start, length if start else 0


def _sections(file: BinaryIO, head: bytes, at: int, count: int, strings: int) -> Iterator[Section]:
    if at + count * _SECTION.size > len(head):
        raise FormatError("the PE section table is cut", f"offset {at:#x}")
    for number in range(count):
        raw, virtual, _, size, offset, *_ = _SECTION.unpack_from(head, at + number * _SECTION.size)
        name = raw.rstrip(b"\0").decode("ascii", "replace")
        if name[:1] == "/" and name[1:].isdigit():
            name = _long_name(file, strings, int(name[1:])) or name
        yield Section(name, offset, size, min(virtual or size, size))


def _long_name(file: BinaryIO, strings: int, offset: int) -> str:
    if offset > _STRINGS_LIMIT:
        return ""
    file.seek(strings + offset)
    return file.read(64).split(b"\0", 1)[0].decode("ascii", "replace")


def _hashed(
    sections: tuple[Section, ...], skipped: list[tuple[int, int]], end_of_headers: int, end: int
) -> Iterator[tuple[int, int]]:
    """The headers without the checksum and the place of the signatures, the sections in their order in the file, and
    of the rest as many bytes as are left: firmware and shim count, and do not look where the last section ends."""
    at = 0
    for first, last in skipped:
        yield at, first
        at = last
    if end_of_headers < at:
        raise FormatError("the headers end inside the optional header", f"offset {end_of_headers:#x}")
    yield at, end_of_headers
    total = end_of_headers
    for section in sorted(sections, key=lambda section: section.offset):
        if section.size:
            yield section.offset, section.offset + section.size
            total += section.size
    if total < end:
        yield total, end


def _table(file: BinaryIO, start: int, length: int) -> tuple[tuple[Signature, ...], str | None]:
    """The entries of the certificate table, and what is wrong with it."""
    if length > _TABLE_LIMIT:
        return (), f"its certificate table has {length} bytes"
    file.seek(start)
    table = file.read(length)
    found: list[Signature] = []
    at = 0
    while at < length:
        size = int.from_bytes(table[at : at + 4], "little")
        if at + 8 > length or size < 8 or at + size > length or len(found) == _SIGNATURES_LIMIT:
            return tuple(found), f"its certificate table is broken (offset {start + at:#x})"
        (kind,) = struct.unpack_from("<H", table, at + 6)
        if kind == _PKCS7:
            found.append(_signature(table[at + 8 : at + size]))
        else:
            found.append(Signature(problem=f"the signature is of the type {kind}"))
        at += size + -size % 8
    return tuple(found), None


def _signature(data: bytes) -> Signature:
    try:
        signed = cms.parse(data)
        if signed.content_type != cms.AUTHENTICODE or signed.content is None:
            raise FormatError("it is not Authenticode's")
        content = der.Reader(signed.content).into("SpcIndirectDataContent")
        content.take("the kind of what is signed", der.SEQUENCE)
        info = content.into("the digest")
        algorithm = info.into("the digest's algorithm").oid("the digest's algorithm")
        value = info.content(info.take("the digest", der.OCTET_STRING))
    except FormatError as error:
        return Signature(
            problem=f"the signature cannot be read: {error}", not_der=isinstance(error, der.NotDistinguished)
        )
    name = cms.DIGESTS.get(algorithm, "")
    if name not in DIGESTS:
        return Signature(signed=signed, problem=f"the signature's digest is {name or algorithm}")
    return Signature(name, value, signed)
