"""Small machines in a directory: files, links, a kernel image with true headers."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Union

from safeupdate.machine import Machine


@dataclass(frozen=True)
class Link:
    """A symbolic link to `target`."""

    target: str


Content = Union[bytes, str, Link, None]
"""A file's bytes or text, a link, or None for a directory."""

RELEASE = "6.1.0-50-amd64"

REAL_MACHINES = sorted((Path.home() / ".cache/safeupdate/machines").glob("*/boot"))
"""The /boot of every machine that was built from distribution packages on this host, if any."""


def real_kernels() -> list[Path]:
    """Kernel images that a distribution built; none on a host that has not built the machines."""
    return [path for boot in REAL_MACHINES for path in sorted(boot.glob("vmlinuz-*"))]


def tree(root: Path, files: Mapping[str, Content] | None = None) -> Machine:
    """The machine below `root`, with these files added to it; directories come by themselves."""
    for path, content in (files or {}).items():
        place = root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            place.mkdir(parents=True, exist_ok=True)
        elif isinstance(content, Link):
            place.symlink_to(content.target)
        else:
            place.write_bytes(content.encode() if isinstance(content, str) else content)
    return Machine.tree(str(root))


def x86_image(release: str = RELEASE, payload: bytes = bytes(64), *, tail: bytes = b"", version: int = 0x020F) -> bytes:
    """A bzImage with one setup sector after the boot sector, and `payload` at the start of its protected-mode part."""
    body = payload + tail
    body += bytes(-len(body) % 16)
    setup = bytearray(2 * 512)
    setup[0x1F1] = 1
    struct.pack_into("<I", setup, 0x1F4, len(body) // 16)
    struct.pack_into("<H", setup, 0x1FE, 0xAA55)
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", setup, 0x206, version)
    struct.pack_into("<H", setup, 0x20E, 0x300 - 0x200)
    setup[0x211] = 1
    struct.pack_into("<H", setup, 0x236, 1)
    struct.pack_into("<II", setup, 0x248, 0, len(payload))
    words = f"{release} (builder@host) #1 SMP".encode()[:0xFF] + b"\0"
    setup[0x300 : 0x300 + len(words)] = words
    return bytes(setup) + body


def index() -> bytes:
    """A binary index of depmod's with nothing in it."""
    return struct.pack(">III", 0xB007F457, 0x00020001, 12) + b"\0\0"
