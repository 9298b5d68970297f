"""The header of an encrypted volume, as the on-disk format specifications of LUKS1 (1.2.3) and LUKS2 (1.1) have it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, BinaryIO

from safeupdate.errors import FormatError

MAGIC = b"LUKS\xba\xbe"

_LUKS1 = struct.Struct(">6sH32s32s32sII20s32sI40s")
_LUKS2 = struct.Struct(">6sHQQ48s32s64s40s48sQ184s64s")
_BINARY = 4096
"""Bytes of a LUKS2 header before its JSON text."""

_LARGEST = 4 << 20
"""Bytes of the largest LUKS2 header; the specification has a list of sizes that ends there."""


@dataclass(frozen=True)
class Header:
    """What a header tells without its keys. `ciphers` are those of the data, as dm-crypt's table has them, each once;
    `integrity` those of its integrity data; `kdfs` how passphrases become keys (`argon2id`, `pbkdf2`); `tokens` what
    else opens it (`systemd-tpm2`, `clevis`)."""

    version: int
    uuid: str
    ciphers: tuple[str, ...]
    integrity: tuple[str, ...] = ()
    kdfs: tuple[str, ...] = ()
    tokens: tuple[str, ...] = ()
    label: str = ""


def parse(file: BinaryIO) -> Header:
    """The first header at the beginning of a device or file. Neither checksums nor keys are looked at.

    Raises `FormatError` for what is none, or is cut off.
    """
    head = file.read(_BINARY)
    if head[:6] != MAGIC:
        raise FormatError("it has no LUKS header", "offset 0")
    version = int.from_bytes(head[6:8], "big")
    if version == 1 and len(head) >= _LUKS1.size:
        _, _, cipher, mode, _, _, _, _, _, _, uuid = _LUKS1.unpack_from(head)
        return Header(1, _text(uuid), (f"{_text(cipher)}-{_text(mode)}",), kdfs=("pbkdf2",))
    if version == 2 and len(head) == _BINARY:
        _, _, size, _, label, _, _, uuid, *_ = _LUKS2.unpack_from(head)
        if not _BINARY < size <= _LARGEST:
            raise FormatError(f"a LUKS2 header cannot have {size} bytes", "offset 8")
        metadata = _json(file.read(size - _BINARY))
        segments = _objects(metadata, "segments")
        return Header(
            2,
            _text(uuid),
            _strings(segments, "encryption"),
            _strings([one["integrity"] for one in segments if isinstance(one.get("integrity"), dict)], "type"),
            _strings(
                [one["kdf"] for one in _objects(metadata, "keyslots") if isinstance(one.get("kdf"), dict)], "type"
            ),
            _strings(_objects(metadata, "tokens"), "type"),
            _text(label),
        )
    raise FormatError(f"the LUKS header is cut off, or has the unknown version {version}", "offset 6")


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "replace")


def _json(area: bytes) -> Any:
    import json

    try:
        # Numbers stay texts: Python takes minutes for one of a million digits.
        return json.loads(area.partition(b"\0")[0], parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        raise FormatError("the metadata of the LUKS2 header is no JSON", f"offset {_BINARY}") from None


def _objects(metadata: Any, name: str) -> list[dict[str, Any]]:
    """The values of an object of objects, in the order of their numbers."""
    found = metadata.get(name) if isinstance(metadata, dict) else None
    return [value for _, value in sorted(found.items()) if isinstance(value, dict)] if isinstance(found, dict) else []


def _strings(objects: list[dict[str, Any]], key: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one[key] for one in objects if isinstance(one.get(key), str)))
