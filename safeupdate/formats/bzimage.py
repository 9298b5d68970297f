"""The headers of kernel images: x86 bzImage, EFI zboot, arm64 and RISC-V `Image`, ELF.

x86: Documentation/arch/x86/boot.rst (the setup header at 0x1f1). arm64: Documentation/arch/arm64/booting.rst.
RISC-V: Documentation/arch/riscv/boot-image-header.rst. zboot: drivers/firmware/efi/libstub/zboot-header.S.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO, Optional

from safeupdate.errors import FormatError

_SECTOR = 512
_HEADER = 0x400
_RELEASE_LIMIT = 256

_COMPRESSORS = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\x5d\x00\x00", "lzma"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x89LZO", "lzop"),
    (b"\x02\x21\x4c\x18", "lz4"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)

_ELF_MACHINES = {
    3: "i686",
    21: "ppc64le",
    22: "s390x",
    62: "x86_64",
    183: "aarch64",
    243: "riscv64",
    258: "loongarch64",
}


@dataclass(frozen=True)
class KernelImage:
    """What a kernel image says of itself. Offsets and lengths are bytes.

    `extent` is the length that the headers promise: a shorter file was cut. `release` is None where the format does not
    hold it. `payload` is offset, length and compressor of the packed kernel, where the format says.
    """

    architecture: str
    extent: int
    release: str | None = None
    payload: tuple[int, int, str | None] | None = None


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
    if head[0x38:0x3C] == b"ARM\x64":
        (size,) = struct.unpack_from("<Q", head, 16)
        return KernelImage("aarch64", 0 if head[:2] == b"MZ" and not size else 64)
    if head[0x30:0x35] == b"RISCV":
        return KernelImage("riscv64", 64)
    if head[:4] == b"\x7fELF":
        (machine,) = struct.unpack_from("<H" if head[5] == 1 else ">H", head, 18)
        return KernelImage(_ELF_MACHINES.get(machine, f"ELF machine {machine}"), 64)
    kind = _compressor(head)
    if kind == "gzip":
        return KernelImage("aarch64", 64, payload=None)
    raise FormatError("no kernel image of a known kind", "offset 0")


def _x86(file: BinaryIO, head: bytes) -> KernelImage:
    (boot_flag,) = struct.unpack_from("<H", head, 0x1FE)
    if boot_flag != 0xAA55:
        raise FormatError("the boot flag 0xaa55 is not there", "offset 0x1fe")
    setup_sectors = head[0x1F1] or 4
    (paragraphs,) = struct.unpack_from("<I", head, 0x1F4)
    (version,) = struct.unpack_from("<H", head, 0x206)
    (release_at,) = struct.unpack_from("<H", head, 0x20E)
    (xloadflags,) = struct.unpack_from("<H", head, 0x236) if version >= 0x020C else (0,)
    start = (setup_sectors + 1) * _SECTOR
    payload = None
    if version >= 0x0208:
        offset, length = struct.unpack_from("<II", head, 0x248)
        file.seek(start + offset)
        payload = start + offset, length, _compressor(file.read(8))
    release = None
    if release_at:
        file.seek(release_at + 0x200)
        words = file.read(_RELEASE_LIMIT).split(b"\0")[0].split()
        release = words[0].decode("ascii", "backslashreplace") if words else None
    return KernelImage("x86_64" if xloadflags & 1 else "i686", start + paragraphs * 16, release, payload)


def _zboot(file: BinaryIO, head: bytes) -> KernelImage:
    offset, length = struct.unpack_from("<II", head, 8)
    kind = head[24:32].split(b"\0")[0].decode("ascii", "replace")
    (pe,) = struct.unpack_from("<I", head, 0x3C)
    file.seek(pe)
    signature = file.read(6)
    machines = {0xAA64: "aarch64", 0x5064: "riscv64", 0x6264: "loongarch64", 0x8664: "x86_64"}
    if signature[:4] != b"PE\0\0" or len(signature) < 6:
        raise FormatError("the PE header is not where the image says", f"offset {pe:#x}")
    (machine,) = struct.unpack_from("<H", signature, 4)
    return KernelImage(
        machines.get(machine, f"PE machine {machine:#x}"), offset + length, payload=(offset, length, kind)
    )


def _compressor(magic: bytes) -> Optional[str]:
    return next((name for start, name in _COMPRESSORS if magic.startswith(start)), None)
