"""What shim carries in itself: its vendor's keys, and the SBAT levels that it sets.

shim, cert.S (section `.vendor_cert`) and sbat_var.S (section `.sbatlevel`).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from safeupdate.errors import FormatError
from safeupdate.formats import efi_signatures, sbat
from safeupdate.formats.efi_signatures import Signature
from safeupdate.formats.sbat import Level

SIZE_LIMIT = 1 << 20
"""Bytes of either section. The largest vendor's deny lists have some 10 KiB."""


@dataclass(frozen=True)
class Vendor:
    """The keys and digests of images that this shim trusts, and those that it refuses."""

    allowed: tuple[Signature, ...] = ()
    denied: tuple[Signature, ...] = ()


def vendor(data: bytes) -> Vendor:
    """The content of `.vendor_cert`. Raises `FormatError`."""
    if len(data) < 16:
        raise FormatError("shim's table of keys is cut", f"byte {len(data)}")
    allowed_size, denied_size, allowed, denied = struct.unpack_from("<IIII", data)
    if allowed + allowed_size > len(data) or denied + denied_size > len(data):
        raise FormatError("shim's keys lie beyond the end of their section", "byte 0")
    keys = data[allowed : allowed + allowed_size]
    # Built with one certificate, or with a list as the variable db has it.
    several = (Signature("x509", "", keys),) if keys[:1] == b"\x30" else efi_signatures.parse(keys).entries
    return Vendor(several, efi_signatures.parse(data[denied : denied + denied_size]).entries)


def levels(data: bytes) -> tuple[Level, Level]:
    """The content of `.sbatlevel`: the level that shim sets by itself, and the one that it sets where it was told to
    (mokutil --set-sbat-policy latest). Raises `FormatError`."""
    if len(data) < 12:
        raise FormatError("shim's SBAT levels are cut", f"byte {len(data)}")
    version, *offsets = struct.unpack_from("<III", data)
    if version != 0 or not all(8 <= offset < len(data) - 4 for offset in offsets):
        raise FormatError("shim's SBAT levels have a form that is not known", "byte 0")
    automatic, latest = (sbat.level(data[4 + offset :]) for offset in offsets)
    return automatic, latest
