"""EFI_SIGNATURE_LIST: the content of the variables db, dbx, MokListRT and MokListXRT.

UEFI specification 2.10, section 32.4.1 "Signature Database".
"""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass
from typing import Literal

Kind = Literal["x509", "sha256", "sha1", "sha224", "sha384", "sha512", "x509-sha256", "x509-sha384", "x509-sha512", ""]

_KINDS: dict[str, tuple[Kind, int]] = {
    "a5c059a1-94e4-4aa7-87b5-ab155c2bf072": ("x509", 0),
    "c1c41626-504c-4092-aca9-41f936934328": ("sha256", 32),
    "826ca512-cf10-4ac9-b187-be01496631bd": ("sha1", 20),
    "0b6e5233-a65c-44c9-9407-d9ab83bfc8bd": ("sha224", 28),
    "ff3e5307-9fd0-48c9-85f1-8ad56c701e01": ("sha384", 48),
    "093e0fae-a6c4-4f50-9f1b-d41e2b89c19a": ("sha512", 64),
    "3bd2a492-96c0-4079-b420-fcf98ef103ed": ("x509-sha256", 32),
    "7076876e-80c2-4ee6-aad2-28b349a6865b": ("x509-sha384", 48),
    "446dbf63-2502-4cda-bcfa-2465d2b0fe9d": ("x509-sha512", 64),
}
"""By type: the name used here, and the bytes of the digest. X509_SHA* entries have a time behind it."""

_HEADER = struct.Struct("<16sIII")
_GUID = 16

_ENTRIES_LIMIT = 50_000
"""The largest dbx have some 500 entries; a variable of 1 MiB has room for 22,000 of the smallest."""


@dataclass(frozen=True)
class Signature:
    """One entry. `data` is a certificate in DER, or a digest: of an image (`sha256`), or of the part of a certificate
    that is signed (`x509-sha256`). `kind` is empty for what is not known here."""

    kind: Kind
    owner: str
    data: bytes


@dataclass(frozen=True)
class SignatureLists:
    """The entries in their order; `problem` says why those behind an offset could not be read, None for a sound value.

    The kernel and shim take what stands before such a place, too.
    """

    entries: tuple[Signature, ...]
    problem: str | None = None


def parse(data: bytes) -> SignatureLists:
    """Read a variable's value (without the attributes). Raises nothing: broken lists are `problem`."""
    entries: list[Signature] = []
    at = 0
    while at < len(data):
        if at + _HEADER.size > len(data):
            return SignatureLists(tuple(entries), f"a list ends inside its header (offset {at})")
        kind_id, length, header, size = _HEADER.unpack_from(data, at)
        first, end = at + _HEADER.size + header, at + length
        if end > len(data) or length < _HEADER.size + header:
            return SignatureLists(tuple(entries), f"a list claims {length} bytes of {len(data) - at} (offset {at})")
        if size < _GUID or end - first < size or (end - first) % size:
            return SignatureLists(tuple(entries), f"a list has entries of {size} bytes (offset {at})")
        kind, digest = _KINDS.get(str(uuid.UUID(bytes_le=kind_id)), ("", 0))
        for start in range(first, end, size):
            if len(entries) == _ENTRIES_LIMIT:
                return SignatureLists(tuple(entries), f"it has more than {_ENTRIES_LIMIT} entries (offset {start})")
            owner = str(uuid.UUID(bytes_le=data[start : start + _GUID]))
            value = data[start + _GUID : start + size]
            if digest and len(value) < digest:
                return SignatureLists(tuple(entries), f"a digest is cut (offset {start})")
            entries.append(Signature(kind, owner, value[:digest] if digest else value))
        at = end
    return SignatureLists(tuple(entries))
