"""The certificates that a kernel image holds: the keys of its .builtin_trusted_keys (certs/system_keyring.c).

A stripped image has no mark where the list is, so that every certificate in the unpacked image is taken for one of it.
That is more than the list where revocation lists or wireless-regdb's keys are built in too, and those sign no modules.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from safeupdate import kernels
from safeupdate.errors import FormatError, NoDecoder
from safeupdate.formats import bzimage, certificate, compression
from safeupdate.formats.certificate import Certificate
from safeupdate.machine import Machine
from safeupdate.trust.cache import Cache, content_key

_VERSION_3 = b"\xa0\x03\x02\x01\x02"
"""The version of a certificate, behind the heads of the two sequences around it. The kernel's loader takes none whose
length has not two octets (certs/common.c)."""

_LARGEST = 4 + 0xFFFF
_CHUNK = 1 << 20
_UNPACKED_LIMIT = 1 << 30
"""Bytes: no architecture maps a larger kernel image; a packed one is smaller still."""

_NO_LENGTH = 64
"""Bytes of the header of an `Image` that is no EFI program."""

_CERTIFICATES_LIMIT = 256
"""Distributions build in one to five."""

_MARKS_LIMIT = 4096
"""Places that look like a certificate's: one takes up to 10 µs, and Debian's kernels have one or two."""

_HASHES_MARK = b"Module hash %*phN is blacklisted"
"""Of a patch that Debian and others carry: modules are looked up by their digest in dbx, and by their key in .platform
(MODSIGN: checking the blacklisted hash before loading a kernel module)."""


@dataclass(frozen=True)
class BuiltIn:
    """What one image holds. `patched`: it denies modules by digest, and takes keys of .platform for them."""

    certificates: tuple[Certificate, ...]
    patched: bool


def read(machine: Machine, path: str, *, embedded: bool = False, cache: Cache | None = None) -> BuiltIn:
    """The certificates in a kernel image, or in the `.linux` section of a unified one.

    Raises `Missing`, `Unreadable`, `NoDecoder`, and `FormatError` for an image that cannot be unpacked.
    """
    with kernels.part(machine, path, ".linux" if embedded else None) as (file, size):
        if size > _UNPACKED_LIMIT:
            raise FormatError("it is larger than any kernel", f"{size} bytes")
        key = content_key(file) if cache is not None else ""
        if cache is not None:
            known = _from_cache(cache.get("kernel", key))
            if known is not None:
                return known
        found = _search(_unpacked(file, size))
        if cache is not None:
            cache.put("kernel", key, [bytes([found.patched]), *(one.der for one in found.certificates)])
        return found


def _from_cache(values: list[bytes] | None) -> BuiltIn | None:
    if not values or len(values[0]) != 1:
        return None
    try:
        return BuiltIn(tuple(map(certificate.parse, values[1:])), values[0] != b"\0")
    except FormatError:
        return None


def _unpacked(file: BinaryIO, size: int) -> Iterator[bytes | memoryview]:
    """The kernel as it is in memory, in pieces that last until the next is asked for."""
    image = bzimage.parse(file)
    payload = image.payload
    if payload is None:
        if image.architecture == "arm":
            raise FormatError("where in it the packed kernel begins cannot be told")
        file.seek(0)
        yield from _unsigned(iter(lambda: file.read(_CHUNK), b""))
        return
    if payload.compressor is None:
        raise FormatError("the packed kernel begins with no compressor's mark", f"offset {payload.offset:#x}")
    try:
        decoder = compression.unpack(
            compression.Source(file, min(size, payload.offset + payload.length)),
            payload.offset,
            memory=compression.KERNEL_MEMORY,
        )
    except compression.Refused as error:
        raise NoDecoder(str(error), payload.compressor) from None
    pieces = _decoded(decoder, payload.offset)
    # An `Image` may be packed with its signature.
    yield from pieces if payload.offset else _unsigned(pieces)


def _decoded(decoder: compression.Decoder, offset: int) -> Iterator[bytes | memoryview]:
    total = 0
    view = memoryview(bytearray(_CHUNK))
    try:
        while count := decoder.readinto(view):
            total += count
            if total > _UNPACKED_LIMIT:
                raise FormatError("it unpacks to more than a kernel has", f"offset {offset:#x}")
            yield view[:count]
    finally:
        decoder.close()


def _unsigned(pieces: Iterator[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """The kernel without the signature behind it, which brings certificates of its own. Its headers are in the first
    piece; those without EFI stub tell no length, and carry no signature."""
    left = None
    for piece in pieces:
        if left is None:
            extent = bzimage.parse(io.BytesIO(piece)).extent
            left = extent if extent > _NO_LENGTH else _UNPACKED_LIMIT
        yield piece[:left]
        left -= len(piece)
        if left <= 0:
            return


def _search(pieces: Iterator[bytes | memoryview]) -> BuiltIn:
    found: dict[bytes, Certificate] = {}
    patched = False
    window = bytearray()
    marks = 0
    for piece in pieces:
        window += piece
        patched = patched or _HASHES_MARK in window
        # The last bytes stay for the next round: a certificate may go on there.
        marks += _certificates(window, len(window) - _LARGEST, found)
        if marks > _MARKS_LIMIT:
            break
        del window[: -2 * _LARGEST]
    if marks + _certificates(window, len(window), found) > _MARKS_LIMIT:
        raise FormatError("more places look like a certificate than a kernel has")
    return BuiltIn(tuple(found.values()), patched)


def _certificates(window: bytearray, end: int, found: dict[bytes, Certificate]) -> int:
    """Take in the certificates that begin before `end`, and return how many places looked like one."""
    marks = 0
    at = window.find(_VERSION_3)
    while 0 <= at < end + 8 and marks <= _MARKS_LIMIT:
        marks += 1
        start = at - 8
        if start >= 0 and window[start : start + 2] == window[start + 4 : start + 6] == b"\x30\x82":
            try:
                length = int.from_bytes(window[start + 2 : start + 4], "big")
                one = certificate.parse(bytes(window[start : start + 4 + length]))
            except FormatError:
                pass
            else:
                if len(found) < _CERTIFICATES_LIMIT:
                    found.setdefault(one.der, one)
        at = window.find(_VERSION_3, at + 1)
    return marks
