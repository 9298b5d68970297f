"""The firmware's variables in the file that OVMF keeps them in: read, changed and written before a guest starts.

EDK2, MdeModulePkg/Include/Guid/VariableFormat.h (AUTHENTICATED_VARIABLE_HEADER); the file is a firmware volume (UEFI
Platform Initialization specification, volume 3) whose first block of data is the store.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

_STORE = struct.Struct("<16sIBBHI")
_VARIABLE = struct.Struct("<HBBIQ16sIII16s")
_START = 0x55AA
_ADDED = 0x3F


@dataclass(frozen=True)
class Value:
    """A variable's attributes and content; `time` is the stamp of those that only a signed update changes."""

    attributes: int
    data: bytes
    time: bytes = bytes(16)


Variables = dict[tuple[str, str], Value]
"""By name and vendor."""


def read(image: bytes) -> Variables:
    """The variables that are set."""
    at, end = _bounds(image)
    found: Variables = {}
    while at + _VARIABLE.size <= end:
        start, state, _, attributes, _, time, _, name_size, size, vendor = _VARIABLE.unpack_from(image, at)
        if start != _START:
            break
        name_at = at + _VARIABLE.size
        data_at = name_at + name_size
        if state == _ADDED:
            name = image[name_at : data_at - 2].decode("utf-16-le")
            found[name, str(uuid.UUID(bytes_le=vendor))] = Value(attributes, image[data_at : data_at + size], time)
        at = -(-(data_at + size) // 4) * 4
    return found


def write(image: bytes, variables: Mapping[tuple[str, str], Value]) -> bytes:
    """The same file with these variables and no others."""
    at, end = _bounds(image)
    store = b""
    for (name, vendor), value in variables.items():
        encoded = name.encode("utf-16-le") + b"\0\0"
        head = (_START, _ADDED, 0, value.attributes, 0, value.time, 0, len(encoded), len(value.data))
        store += _VARIABLE.pack(*head, uuid.UUID(vendor).bytes_le) + encoded + value.data
        store += b"\xff" * (-len(store) % 4)
    if at + len(store) > end:
        raise ValueError(f"{len(store)} bytes of variables do not fit into {end - at}")
    return image[:at] + store.ljust(end - at, b"\xff") + image[end:]


def _bounds(image: bytes) -> tuple[int, int]:
    """Where the first variable begins, and where the room for them ends."""
    at = int(struct.unpack_from("<H", image, 0x30)[0])
    size = int(_STORE.unpack_from(image, at)[1])
    return at + _STORE.size, at + size
