"""What depmod writes: modules.dep, its binary index, and the lists of what is built in (modules.dep(5), depmod(8))."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from functools import lru_cache

from safeupdate.errors import FormatError

INDEX_MAGIC = 0xB007F457
INDEX_VERSION = 0x00020001
"""The head of a binary index, big-endian: magic, version, offset of the root node (libkmod/libkmod-index.c)."""

_NODE_OFFSET = 0x0FFFFFFF
_PREFIX, _VALUES, _CHILDREN = 0x80000000, 0x40000000, 0x20000000
"""What a node has, in the upper bits of its offset."""

_TEXT_LIMIT = 1 << 20
"""Bytes of one key or value; the longest line of a modules.dep, amdgpu's, has about 2 KB."""

_KEY_LIMIT = 1024
"""Bytes of a key, a module's name or alias; the longest of Debian's kernels has 98."""

_SUFFIX = re.compile(r"\.ko(\.gz|\.xz|\.zst|\.bz2|\.lzma)?$")


@lru_cache(maxsize=4)  # several checks ask for those of the target and of the fallback, on disk and in the image
def parse_dep(data: bytes) -> Mapping[str, tuple[str, ...]]:
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
    """Hold the head of a binary index (`modules.alias.bin`) and its root against the file. Raises `FormatError`.

    depmod writes the root last: an index that was cut has lost it.
    """
    _node(data, _root(data), b"")


def read_index(data: bytes) -> dict[str, tuple[str, ...]]:
    """Every key of a binary index to its values. Raises `FormatError` with the offset of what does not fit."""
    found: dict[str, tuple[str, ...]] = {}
    pending = [(_root(data), b"", b"")]
    seen = {pending[0][0]}
    left = len(data)
    while pending:
        offset, key, letter = pending.pop()
        key, children, values, length = _node(data, offset, key + letter)
        left -= length
        if left < 0 or len(key) > _KEY_LIMIT:
            raise FormatError("nodes of the index overlap", f"offset {offset & _NODE_OFFSET:#x}")
        if values:
            found[key.decode("utf-8", "surrogateescape")] = values
        for child, letter in children:
            if child in seen:
                raise FormatError("two nodes of the index have the same child", f"offset {child & _NODE_OFFSET:#x}")
            seen.add(child)
            pending.append((child, key, letter))
    return found


def read_dep_index(data: bytes) -> dict[str, tuple[str, ...]]:
    """What `parse_dep` returns, from `modules.dep.bin`, which alone modprobe reads. Raises `FormatError`."""
    lines = (values[0].partition(":") for values in read_index(data).values())
    return {path: tuple(needed.split()) for path, _, needed in lines}


def _root(data: bytes) -> int:
    if len(data) < 12:
        raise FormatError("too short for an index", f"{len(data)} bytes")
    magic, version, root = struct.unpack_from(">III", data)
    if magic != INDEX_MAGIC:
        raise FormatError("not an index: the magic is wrong", "offset 0")
    if version >> 16 != INDEX_VERSION >> 16:
        raise FormatError(f"an index of the unknown version {version:#x}", "offset 4")
    if root & _NODE_OFFSET >= len(data):
        raise FormatError("the root node lies beyond the end of the file", f"offset {root & _NODE_OFFSET:#x}")
    return int(root)


def _node(data: bytes, offset: int, key: bytes) -> tuple[bytes, list[tuple[int, bytes]], tuple[str, ...], int]:
    """The node's whole key, its children with their letters, its values, and its length (libkmod/libkmod-index.c)."""
    at = start = offset & _NODE_OFFSET
    children: list[tuple[int, bytes]] = []
    values: list[str] = []
    try:
        if offset & _PREFIX:
            end = data.index(0, at, at + _TEXT_LIMIT)
            key, at = key + data[at:end], end + 1
        if offset & _CHILDREN:
            first, last = data[at], data[at + 1]
            offsets = struct.unpack_from(f">{max(last - first + 1, 0)}I", data, at + 2)
            children = [(child, bytes([letter])) for letter, child in enumerate(offsets, first) if child]
            at += 2 + 4 * len(offsets)
            if not children:
                raise FormatError("a node of the index has lost its children", f"offset {at:#x}")
        if offset & _VALUES:
            (count,) = struct.unpack_from(">I", data, at)
            at += 4
            while len(values) < count:
                end = data.index(0, at + 4, at + 4 + _TEXT_LIMIT)  # before it: the value's priority
                values.append(data[at + 4 : end].decode("utf-8", "surrogateescape"))
                at = end + 1
    except (IndexError, ValueError, struct.error):
        raise FormatError("a node of the index does not end in the file", f"offset {at:#x}") from None
    return key, children, tuple(values), at - start


def is_module(path: str) -> bool:
    """Whether a file is a module by its name."""
    return _SUFFIX.search(path) is not None


@lru_cache(maxsize=1 << 14)
def module_name(path: str) -> str:
    """The module's name as the kernel lists it: no directory, no suffix, underscores for dashes."""
    return _SUFFIX.sub("", path.rsplit("/", 1)[-1]).replace("-", "_")


def parse_builtin(data: bytes) -> frozenset[str]:
    """Names of the modules in `modules.builtin`, as the kernel writes them."""
    return frozenset(module_name(line.decode("utf-8", "surrogateescape")) for line in data.split(b"\n") if line.strip())
