"""What GRUB puts on a disk for a BIOS: boot.img in the first sector, and the core image that it loads.

Formats: GRUB 2, grub-core/boot/i386/pc/boot.S, diskboot.S and startup_raw.S; include/grub/i386/pc/boot.h;
include/grub/offsets.h. The core's second half is LZMA without a header, with the parameters of util/mkimage.c.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from safeupdate.errors import FormatError

SECTOR = 512

_NAME = b"GRUB \0Geom\0Hard Disk\0Read\0"
"""The texts of boot.S."""
_CORE_SECTOR = 0x5C
_BOOT_CODE = 440
"""Bytes of a first sector before the disk's signature and the partition table."""

_LIST = SECTOR - 12
"""The last of diskboot.img's lists of sectors; the others lie below it."""
_SECTORS_LIMIT = 2048
"""The gap behind the first sector is a megabyte, and so is a BIOS boot partition."""

_HEADER = struct.Struct("<4I")
_HEADER_AT = SECTOR + 8
_UNPACKED_LIMIT = 4 << 20
"""Bytes: a core is loaded below 640 kB and unpacked at one megabyte; the largest ones have some 200 kB."""
_WORK_LIMIT = 32 << 20
"""Bytes that are unpacked in search of the packed half: some hundred places, of which the first few dozen will do."""
_DECODER_LIMIT = 9 << 10
"""Bytes of the code that unpacks (GRUB_DECOMPRESSOR_I386_PC_MAX_DECOMPRESSOR_SIZE)."""


@dataclass(frozen=True)
class Blocks:
    """A row of `count` sectors from the sector `start` of the disk on."""

    start: int
    count: int


def has_boot_code(sector: bytes) -> bool:
    """Whether a first sector has any program in it, whoever's."""
    return any(sector[:_BOOT_CODE]) and sector[SECTOR - 2 : SECTOR] == b"\x55\xaa"


def core_sector(sector: bytes) -> int | None:
    """Which sector this first sector of GRUB loads the core from; None where it is not GRUB's."""
    if _NAME not in sector or not has_boot_code(sector):
        return None
    (number,) = struct.unpack_from("<Q", sector, _CORE_SECTOR)
    return int(number)


def blocks(sector: bytes) -> tuple[Blocks, ...]:
    """Where the rest of a core lies, by its first sector. Raises `FormatError` where that is none."""
    found: list[Blocks] = []
    for at in range(_LIST, 0, -12):
        start, count, _ = struct.unpack_from("<QHH", sector.ljust(SECTOR, b"\0"), at)
        if count == 0:
            break
        found.append(Blocks(start, count))
    if not found or sum(each.count for each in found) > _SECTORS_LIMIT:
        raise FormatError("it names no sectors that a core could lie in", f"byte {_LIST}")
    return tuple(found)


def same(one: bytes, other: bytes) -> bool:
    """Whether two cores are one, but for what grub-install changes as it writes: where its sectors are, how much
    redundancy follows, and the disk."""
    return _settled(one) == _settled(other)


def _settled(core: bytes) -> bytes:
    # The lists of sectors end with that of the one fragment that an embedded core has.
    lists, redundancy, disk = (SECTOR - 12, 12), (SECTOR + 0x10, 4), (SECTOR + 0x18, 4)
    settled = bytearray(core)
    for at, size in (lists, redundancy, disk):
        settled[at : at + size] = bytes(size)
    return bytes(settled)


def unprotected(core: bytes) -> int:
    """How many bytes at the start of a core the Reed-Solomon code does not cover, which follows it on a disk."""
    header = core[_HEADER_AT : _HEADER_AT + _HEADER.size].ljust(_HEADER.size, b"\0")
    length: int = _HEADER.unpack(header)[3] & 0xFFFF
    return SECTOR + length


def unpack(core: bytes) -> bytes:
    """GRUB's kernel with its built-in modules, from a core. Raises `FormatError` where that cannot be unpacked.

    The Reed-Solomon code is not read here: what cannot be unpacked may still start.
    """
    import lzma

    if len(core) < _HEADER_AT + _HEADER.size:
        raise FormatError("it ends before its header does", f"byte {len(core)}")
    packed, unpacked, *_ = _HEADER.unpack_from(core, _HEADER_AT)
    if not 0 < packed <= len(core) or not 0 < unpacked <= _UNPACKED_LIMIT:
        raise FormatError("it has no header of a packed core", f"byte {_HEADER_AT}")
    filters = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 16, "lc": 3, "lp": 0, "pb": 2}]
    work = 0
    # How long the code that unpacks is, is not told: what follows it begins with a zero, and has GRUB's names in it.
    for at in range(unprotected(core), min(SECTOR + _DECODER_LIMIT, len(core) - packed + 1)):
        if core[at]:
            continue
        work += unpacked
        if work > _WORK_LIMIT:
            break
        try:
            data = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters).decompress(core[at : at + packed], unpacked)
        except lzma.LZMAError:
            continue
        if len(data) == unpacked and b"\0grub_" in data:
            return data
    raise FormatError("it cannot be unpacked", f"byte {unprotected(core)}")
