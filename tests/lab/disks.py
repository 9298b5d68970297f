"""Disks with a partition table, made and filled on the host: the file systems are mounted through loop devices.

MBR: the table at offset 446 of the first sector. GPT: UEFI 2.10, section 5.3; the backup behind the last partition.
"""

from __future__ import annotations

import contextlib
import struct
import uuid
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from tests.lab.programs import run

SECTOR = 512
_FIRST = 2048
_ENTRIES = 128

ESP = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
LINUX = "0fc63daf-8483-4772-8e79-3d69d8477de4"
ROOT = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"
"""GPT types (UAPI.2, Discoverable Partitions Specification): ESP, Linux data, root of x86-64."""


@dataclass(frozen=True)
class Part:
    """A partition: its size in MiB, what is on it, if anything, and that file system's UUID or FAT serial number."""

    size: int
    fstype: str = ""
    uuid: str = ""
    point: str = ""
    kind: str = LINUX


def partition(image: str, parts: Sequence[Part], *, gpt: bool) -> list[int]:
    """Write a sparse disk with these partitions, and return where each begins, in bytes."""
    starts = []
    at = _FIRST
    for part in parts:
        starts.append(at)
        at += part.size * 2048
    total = at + _FIRST
    with open(image, "wb") as file:
        file.truncate(total * SECTOR)
        if gpt:
            _write_gpt(file, parts, starts, total)
        else:
            file.write(_mbr([(0x83, start, part.size * 2048) for part, start in zip(parts, starts)], active=True))
    return [start * SECTOR for start in starts]


def _mbr(entries: Sequence[tuple[int, int, int]], *, active: bool = False) -> bytes:
    table = b"".join(
        struct.pack(
            "<B3sB3sII", 0x80 if active and not number else 0, b"\xfe\xff\xff", kind, b"\xfe\xff\xff", start, size
        )
        for number, (kind, start, size) in enumerate(entries)
    )
    return bytes(440) + b"\x5a\xfe\x0b\xda\0\0" + table.ljust(64, b"\0") + b"\x55\xaa"


def _write_gpt(file: BinaryIO, parts: Sequence[Part], starts: Sequence[int], total: int) -> None:
    entries = b"".join(
        uuid.UUID(part.kind).bytes_le
        + uuid.uuid5(uuid.NAMESPACE_OID, f"{part.uuid}-partition").bytes_le
        + struct.pack("<QQQ", start, start + part.size * 2048 - 1, 0)
        + bytes(72)
        for part, start in zip(parts, starts)
    ).ljust(_ENTRIES * 128, b"\0")
    disk = uuid.uuid5(uuid.NAMESPACE_OID, "".join(part.uuid for part in parts)).bytes_le

    def header(own: int, other: int, table: int) -> bytes:
        fields = struct.pack("<QQQQ", own, other, 34, total - 34) + disk
        fields += struct.pack("<QIII", table, _ENTRIES, 128, zlib.crc32(entries))
        start = b"EFI PART\0\0\x01\0\x5c\0\0\0"
        return start + struct.pack("<II", zlib.crc32(start + bytes(8) + fields), 0) + fields

    for sector, data in (
        (0, _mbr([(0xEE, 1, total - 1)])),
        (1, header(1, total - 1, 2).ljust(SECTOR, b"\0")),
        (2, entries),
        (total - 33, entries),
        (total - 1, header(total - 1, 1, total - 33)),
    ):
        file.seek(sector * SECTOR)
        file.write(data)


@contextlib.contextmanager
def loop(image: str, offset: int, size: int) -> Iterator[str]:
    """A loop device over a part of the image, in bytes. It goes with this process, and with what is mounted on it."""
    device = run("losetup", "--find", "--show", f"--offset={offset}", f"--sizelimit={size}", image).strip()
    with open(device, "rb"):
        # Detached while it is open, it goes with the last that uses it.
        run("losetup", "--detach", device)
        yield device


def make_file_system(device: str, part: Part) -> None:
    """An empty file system with the UUID that the part says."""
    command = {
        "ext4": ["mkfs.ext4", "-q", "-F", "-U", part.uuid],
        "xfs": ["mkfs.xfs", "-q", "-f", "-m", f"uuid={part.uuid}"],
        "btrfs": ["mkfs.btrfs", "-q", "-f", "-U", part.uuid],
        "vfat": ["mkfs.vfat", "-F", "32", "-i", part.uuid.replace("-", "")],
    }[part.fstype]
    run(*command, device)
