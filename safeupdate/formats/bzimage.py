"""The headers of kernel images: x86 bzImage, EFI zboot, `Image` of arm64, RISC-V and LoongArch, zImage of Arm, ELF.

x86: Documentation/arch/x86/boot.rst (the setup header at 0x1f1). arm64: Documentation/arch/arm64/booting.rst.
RISC-V: Documentation/arch/riscv/boot-image-header.rst. LoongArch: Documentation/arch/loongarch/booting.rst.
zImage: arch/arm/boot/compressed/head.S and vmlinux.lds.S. zboot: drivers/firmware/efi/libstub/zboot-header.S.
An `Image` with an EFI stub is a PE file too (Microsoft PE/COFF specification).
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO

from safeupdate.errors import FormatError
from safeupdate.formats import elf

_SECTOR = 512
_HEADER = 0x400
_RELEASE_LIMIT = 256
_SECTIONS_LIMIT = 96
"""Sections that a PE loader takes (PE/COFF specification, COFF file header)."""

_COMPRESSORS = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\x5d\x00\x00", "lzma"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x89LZO", "lzop"),
    (b"\x02\x21\x4c\x18", "lz4"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)

_PACKED = re.compile(
    rb"\x1f\x8b\x08\0\0{4}..|\x5d\0\0..\xff{8}|\xfd7zXZ\0\0[\x00\x01]|\x89LZO\0\r\n\x1a\n|\x02\x21\x4c\x18..[\0-\x7f]\0",
    re.DOTALL,
)
"""How a packed kernel begins, in the order above, with so much of the header that the decoder's own code has nothing
like it: the first block of lz4 has at most 8 MB (`lz4 -l`)."""

_PACKED_BEFORE = 1 << 20
"""Bytes of a zImage before the packed kernel: the code that unpacks it, 50 to 100 KB."""

_PE_MACHINES = {0x014C: "i686", 0x5064: "riscv64", 0x6264: "loongarch", 0x8664: "x86_64", 0xAA64: "aarch64"}


@dataclass(frozen=True)
class Payload:
    """The packed kernel: where it is, by what it was packed (None: no compressor that is known) and its size unpacked.

    Offset and lengths are bytes. The size that the build appends to most compressors' output is not part of `length`.
    """

    offset: int
    length: int
    compressor: str | None
    unpacked: int | None = None


@dataclass(frozen=True)
class KernelImage:
    """What a kernel image says of itself.

    `extent` is the length in bytes that the headers promise: a shorter file was cut, a longer one may be whole.
    `release` is None where the format does not hold it, `payload` where the format does not tell it.
    """

    architecture: str
    extent: int
    release: str | None = None
    payload: Payload | None = None


def parse(file: BinaryIO) -> KernelImage:
    """Read the headers. Raises `FormatError` for what is no kernel image of a known kind."""
    file.seek(0)
    head = file.read(_HEADER)
    if len(head) < 64:
        raise FormatError("too short for a kernel image", f"{len(head)} bytes")
    if head[0x202:0x206] == b"HdrS":
        return _x86(file, head)
    if head[:2] == b"MZ" and head[4:8] == b"zimg":
        return _zboot(file, head)
    for magic, at, architecture in (
        (b"ARM\x64", 56, "aarch64"),
        (b"RISCV\0\0\0", 48, "riscv64"),
        (b"\xcd\x23\x82\x81", 56, "loongarch"),
    ):
        if head[at : at + len(magic)] == magic:
            # image_size in this header is memory, with what the file does not hold; only PE sections tell the file's.
            return KernelImage(architecture, _pe(file, head)[1] if head[:2] == b"MZ" else 64)
    if head[0x24:0x28] == b"\x18\x28\x6f\x01":
        return _zimage(file, head)
    if head[:4] == b"\x7fELF":
        header = elf.parse(file)
        return KernelImage({"i386": "i686"}.get(header.architecture, header.architecture), header.loaded)
    if head[:3] == b"\x1f\x8b\x08":
        return _gzip(file)
    raise FormatError("no kernel image of a known kind", "offset 0")


def _x86(file: BinaryIO, head: bytes) -> KernelImage:
    if len(head) < 0x268:
        raise FormatError("the setup header is cut", f"{len(head)} bytes")
    (boot_flag,) = struct.unpack_from("<H", head, 0x1FE)
    if boot_flag != 0xAA55:
        raise FormatError("the boot flag 0xaa55 is not there", "offset 0x1fe")
    setup_sectors = head[0x1F1] or 4
    (paragraphs,) = struct.unpack_from("<I", head, 0x1F4)
    (version,) = struct.unpack_from("<H", head, 0x206)
    (release_at,) = struct.unpack_from("<H", head, 0x20E)
    (xloadflags,) = struct.unpack_from("<H", head, 0x236) if version >= 0x020C else (0,)
    start = (setup_sectors + 1) * _SECTOR
    extent = start + paragraphs * 16
    payload = None
    if version >= 0x0208:
        offset, length = struct.unpack_from("<II", head, 0x248)
        if length:
            if offset + length > paragraphs * 16:
                raise FormatError("the payload lies beyond the end of the image", f"offset {start + offset:#x}")
            payload = _payload(file, start + offset, length)
    release = None
    if release_at:
        file.seek(release_at + 0x200)
        words = file.read(_RELEASE_LIMIT).split(b"\0")[0].split()
        release = words[0].decode("ascii", "backslashreplace") if words else None
    return KernelImage("x86_64" if xloadflags & 1 else "i686", extent, release, payload)


def _payload(file: BinaryIO, offset: int, length: int) -> Payload:
    """The build appends the unpacked size to all but gzip, whose own last four bytes are that size (RFC 1952)."""
    file.seek(offset)
    start = file.read(6)
    compressor = next((name for magic, name in _COMPRESSORS if start.startswith(magic)), None)
    file.seek(max(offset + length - 4, 0))
    size = file.read(4)
    return Payload(
        offset,
        length if compressor == "gzip" else max(length - 4, 0),
        compressor,
        int.from_bytes(size, "little") if len(size) == 4 else None,
    )


def _zboot(file: BinaryIO, head: bytes) -> KernelImage:
    offset, length = struct.unpack_from("<II", head, 8)
    kind = head[24:56].split(b"\0")[0].decode("ascii", "replace")
    kind = {"zstd22": "zstd", "xzkern": "xz", "lzo": "lzop"}.get(kind, kind)
    machine, extent = _pe(file, head)
    # Here the appended size is not part of the length (drivers/firmware/efi/libstub/Makefile.zboot).
    file.seek(max(offset + length - (4 if kind == "gzip" else 0), 0))
    size = file.read(4)
    payload = Payload(offset, length, kind, int.from_bytes(size, "little") if len(size) == 4 else None)
    return KernelImage(
        _PE_MACHINES.get(machine, f"PE machine {machine:#x}"), max(extent, offset + length), payload=payload
    )


def _zimage(file: BinaryIO, head: bytes) -> KernelImage:
    """Of the packed kernel only the end is told, since Linux 4.15: it begins behind the code that unpacks it."""
    start, end, _, tagged, table = struct.unpack_from("<IIIII", head, 0x28)
    payload = None
    if tagged == 0x45454545:
        file.seek(table)
        tag = file.read(12)
        if len(tag) == 12 and tag[4:8] == b"KLSZ":
            (size_at,) = struct.unpack_from("<I", tag, 8)
            file.seek(0)
            begins = [match.start() for match in _PACKED.finditer(file.read(min(_PACKED_BEFORE, size_at)))]
            if begins:
                payload = _payload(file, begins[-1], size_at + 4 - begins[-1])
    return KernelImage("arm", max(end - start, 64), payload=payload)


def _pe(file: BinaryIO, head: bytes) -> tuple[int, int]:
    """The machine number of a PE file, and the end of its last section in the file."""
    (pe,) = struct.unpack_from("<I", head, 0x3C)
    file.seek(pe)
    header = file.read(24)
    if len(header) < 24 or header[:4] != b"PE\0\0":
        raise FormatError("the PE header is not where the image says", f"offset {pe:#x}")
    machine, count = struct.unpack_from("<HH", header, 4)
    (optional,) = struct.unpack_from("<H", header, 20)
    table_at = pe + 24 + optional
    if count > _SECTIONS_LIMIT:
        raise FormatError(f"it claims {count} PE sections", f"offset {pe + 6:#x}")
    file.seek(table_at)
    table = file.read(40 * count)
    if len(table) < 40 * count:
        raise FormatError("the PE section table is cut", f"offset {table_at:#x}")
    extent = table_at + len(table)
    for at in range(0, len(table), 40):
        size, start = struct.unpack_from("<II", table, at + 16)
        extent = max(extent, start + size if size else 0)
    return machine, extent


def _gzip(file: BinaryIO) -> KernelImage:
    """An arm64 or RISC-V `Image` that was packed as a whole (`Image.gz`): GRUB unpacks it while it reads."""
    file.seek(0)
    try:
        inner = zlib.decompressobj(wbits=31).decompress(file.read(1 << 16), _HEADER)
    except zlib.error:
        raise FormatError("the gzip data is corrupt", "offset 0") from None
    if inner[56:60] == b"ARM\x64":
        architecture = "aarch64"
    elif inner[48:56] == b"RISCV\0\0\0":
        architecture = "riscv64"
    else:
        raise FormatError("what is packed in it is no kernel image of a known kind", "offset 0")
    length = file.seek(0, io.SEEK_END)
    file.seek(-4, io.SEEK_END)
    return KernelImage(architecture, 64, payload=Payload(0, length, "gzip", int.from_bytes(file.read(4), "little")))
