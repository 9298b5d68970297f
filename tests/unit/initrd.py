"""Small initramfs images: cpio archives byte by byte, and every compressor that this host has."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shutil
import stat
import subprocess
from collections.abc import Mapping
from typing import Union

from safeupdate import initramfs
from safeupdate.initramfs import Index

Content = Union[bytes, str, None]
"""A file's bytes, a link's target, or None for a directory."""


def member(
    name: bytes,
    content: bytes = b"",
    mode: int = stat.S_IFREG | 0o644,
    *,
    magic: bytes = b"070701",
    inode: int = 1,
    links: int = 1,
    checksum: int = 0,
    size: int | None = None,
    name_size: int | None = None,
) -> bytes:
    """One entry with its header, padded to four bytes after name and content."""
    length = len(content) if size is None else size
    fields = (inode, mode, 0, 0, links, 0, length, 8, 1, 0, 0, name_size or len(name) + 1, checksum)
    data = magic + b"".join(b"%08x" % field for field in fields) + name + b"\0"
    data += bytes(-len(data) % 4) + content
    return data + bytes(-len(data) % 4)


def trailer() -> bytes:
    """The end mark, padded to 512 bytes as cpio(1) does."""
    data = member(b"TRAILER!!!", mode=0)
    return data + bytes(-len(data) % 512)


def archive(files: Mapping[str, Content], *, executable: bool = True) -> bytes:
    """An archive of these files; directories come by themselves."""
    made: set[str] = set()
    data = b""
    for path, content in files.items():
        parts = path.split("/")
        for depth in range(1, len(parts) + (content is None)):
            directory = "/".join(parts[:depth])
            if directory == path or not (directory in made or directory in files):
                made.add(directory)
                data += member(directory.encode(), mode=stat.S_IFDIR | 0o755)
        if isinstance(content, bytes):
            data += member(path.encode(), content, stat.S_IFREG | (0o755 if executable else 0o644))
        elif isinstance(content, str):
            data += member(path.encode(), content.encode(), stat.S_IFLNK | 0o777)
    return data + trailer()


PROGRAMS = {
    "zstd": ["zstd", "-q", "-c", "--check"],
    "lz4": ["lz4", "-q", "-l", "-c"],
    "lz4 frame": ["lz4", "-q", "-c"],
    "lzop": ["lzop", "-q", "-c"],
}


def has(kind: str) -> bool:
    """Whether this host can make data of that kind."""
    return kind not in PROGRAMS or shutil.which(PROGRAMS[kind][0]) is not None


def compress(kind: str, data: bytes) -> bytes:
    """`data` as one segment of that kind, in the form that the kernel reads."""
    if kind == "gzip":
        return gzip.compress(data, mtime=0)
    if kind == "bzip2":
        return bz2.compress(data)
    if kind == "lzma":
        return lzma.compress(data, lzma.FORMAT_ALONE)
    if kind == "xz":
        return lzma.compress(data, check=lzma.CHECK_CRC32)
    return subprocess.run(PROGRAMS[kind], input=data, stdout=subprocess.PIPE, timeout=60, check=True).stdout


def read(image: bytes) -> Index:
    """The index of an image in memory."""
    return initramfs.read_image(io.BytesIO(image), size=len(image))
