"""The digest that a signed EFI image carries of itself.

Windows Authenticode Portable Executable Signature Format; the PE layout is in the Microsoft PE/COFF specification.
Whether the signature is *trusted* is another question (`trust/`); whether the file is still the one that was signed
needs no key.
"""

from __future__ import annotations

import hashlib
import struct
from typing import BinaryIO

from safeupdate.errors import FormatError

_BLOCK = 1 << 20
_CERTIFICATES_LIMIT = 1 << 20

_DIGEST_INFOS = (
    (bytes.fromhex("300d06096086480165030402010500") + b"\x04\x20", "sha256", 32),
    (bytes.fromhex("300b0609608648016503040201") + b"\x04\x20", "sha256", 32),
    (bytes.fromhex("300d06096086480165030402020500") + b"\x04\x30", "sha384", 48),
    (bytes.fromhex("300d06096086480165030402030500") + b"\x04\x40", "sha512", 64),
    (bytes.fromhex("300906052b0e03021a0500") + b"\x04\x14", "sha1", 20),
)
"""DER of a DigestInfo's algorithm and the head of its octet string (RFC 8017, section 9.2): the SpcIndirectDataContent
of every signature holds one with the image's digest."""


def intact(file: BinaryIO) -> bool | None:
    """Whether the image's bytes have the digest that one of its signatures names. None: it carries no signature.

    Raises `FormatError` where the PE headers or the certificate table do not fit the file.
    """
    file.seek(0, 2)
    size = file.tell()
    file.seek(0)
    head = file.read(4096)
    if head[:2] != b"MZ" or len(head) < 0x40:
        return None
    (pe,) = struct.unpack_from("<I", head, 0x3C)
    if pe + 24 > len(head) or head[pe : pe + 4] != b"PE\0\0":
        return None
    optional = pe + 24
    if optional + 2 > len(head):
        raise FormatError("the PE optional header is cut", f"offset {optional:#x}")
    (magic,) = struct.unpack_from("<H", head, optional)
    directory = optional + (112 if magic == 0x20B else 96) + 4 * 8
    if directory + 8 > len(head):
        raise FormatError("the PE data directories are cut", f"offset {directory:#x}")
    start, length = struct.unpack_from("<II", head, directory)
    if not start or not length:
        return None
    if start + length > size:
        raise FormatError("the certificate table lies beyond the end of the file", f"offset {start:#x}")
    file.seek(start)
    certificates = file.read(min(length, _CERTIFICATES_LIMIT))
    named = set(_named(certificates))
    if not named:
        return None
    digests = {}
    for name in {name for name, _ in named}:
        digest = hashlib.new(name)
        for first, last in ((0, optional + 64), (optional + 68, directory), (directory + 8, start)):
            file.seek(first)
            left = last - first
            while left > 0:
                block = file.read(min(left, _BLOCK))
                if not block:
                    raise FormatError("the file ends inside the image", f"offset {last - left:#x}")
                digest.update(block)
                left -= len(block)
        digests[name] = digest.digest()
    return any(digests[name] == value for name, value in named)


def _named(certificates: bytes) -> list[tuple[str, bytes]]:
    found = []
    for head, name, length in _DIGEST_INFOS:
        at = certificates.find(head)
        if at >= 0:
            value = certificates[at + len(head) : at + len(head) + length]
            found.append((name, value))
    return found
