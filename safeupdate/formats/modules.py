"""What depmod writes: modules.dep, its binary index, and the lists of what is built in (modules.dep(5), depmod(8))."""

from __future__ import annotations

import re
import struct

from safeupdate.errors import FormatError

INDEX_MAGIC = 0xB007F457
INDEX_VERSION = 0x00020001
"""The head of a binary index, big-endian: magic, version, offset of the root node (libkmod/libkmod-index.c)."""

_NODE_OFFSET = 0x0FFFFFFF
_SUFFIX = re.compile(r"\.ko(\.gz|\.xz|\.zst|\.bz2|\.lzma)?$")


def parse_dep(data: bytes) -> dict[str, tuple[str, ...]]:
    """Path of each module to the paths of the modules that it needs, all relative to the modules directory.

    Raises `FormatError` with the line for a line without a colon, and for a file whose last line was cut.
    """
    if data and not data.endswith(b"\n"):
        raise FormatError("the last line was cut", f"line {data.count(bytes([10])) + 1}")
    dependencies = {}
    for number, line in enumerate(data.decode("utf-8", "surrogateescape").split("\n")[:-1], 1):
        if not line or line.startswith("#"):
            continue
        path, colon, needed = line.partition(":")
        if not colon or "\0" in line:
            raise FormatError("a line that names no module", f"line {number}")
        dependencies[path] = tuple(needed.split())
    return dependencies


def check_index(data: bytes) -> None:
    """Hold the head of a binary index (`modules.dep.bin`) against the file. Raises `FormatError`."""
    if len(data) < 12:
        raise FormatError("too short for an index", f"{len(data)} bytes")
    magic, version, root = struct.unpack_from(">III", data)
    if magic != INDEX_MAGIC:
        raise FormatError("not an index: the magic is wrong", "offset 0")
    if version >> 16 != INDEX_VERSION >> 16:
        raise FormatError(f"an index of the unknown version {version:#x}", "offset 4")
    if root & _NODE_OFFSET >= len(data):
        raise FormatError("the root node lies beyond the end of the file", f"offset {root & _NODE_OFFSET:#x}")


def module_name(path: str) -> str:
    """The module's name as the kernel lists it: no directory, no suffix, underscores for dashes."""
    return _SUFFIX.sub("", path.rsplit("/", 1)[-1]).replace("-", "_")


def parse_builtin(data: bytes) -> frozenset[str]:
    """Names of the modules in `modules.builtin`, as the kernel writes them."""
    return frozenset(module_name(line.decode("utf-8", "surrogateescape")) for line in data.split(b"\n") if line.strip())
