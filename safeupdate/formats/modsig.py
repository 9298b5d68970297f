"""The signature behind a kernel module (Documentation/admin-guide/module-signing.rst, "Signed modules and stripping").

Behind the ELF file stand the PKCS#7 signature, `struct module_signature` of 12 bytes (include/linux/module_signature.h)
and a closing mark. The tests and their order are those of kernel/module/signing.c and kernel/module_signature.c.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from safeupdate.errors import FormatError

MARK = b"~Module signature appended~\n"
TRAILER = 12 + len(MARK)
"""Bytes behind the PKCS#7 signature."""

_PKCS7 = 2
_HEADER = struct.Struct(">BBBBB3xI")


@dataclass(frozen=True)
class ModuleSignature:
    """Where the signed bytes end and where the signature does, as offsets. `kind` is 2 for PKCS#7, the only one that
    kernels since 4.3 know."""

    covered: int
    end: int
    kind: int = _PKCS7

    @property
    def is_pkcs7(self) -> bool:
        """Whether the kernel takes the signature for one that it might verify."""
        return self.kind == _PKCS7


def parse(tail: bytes | memoryview, size: int) -> ModuleSignature | None:
    """The signature of a module of `size` bytes, whose last ones `tail` holds; None for a module without one.

    40 bytes of tail tell. Raises `FormatError` for a header that the kernel calls a bad message.
    """
    if size <= len(MARK) or bytes(tail[-len(MARK) :]) != MARK:
        return None
    place = f"offset {size - TRAILER}"
    if size <= TRAILER or len(tail) < TRAILER:
        raise FormatError("the module is shorter than the signature's header", place)
    algorithm, digest, kind, signer, key, length = _HEADER.unpack(tail[-TRAILER : -len(MARK)])
    if length >= size - TRAILER:
        raise FormatError(f"the signature claims {length} bytes of {size - TRAILER}", place)
    end = size - TRAILER
    signature = ModuleSignature(end - length, end, kind)
    if signature.is_pkcs7 and (algorithm or digest or signer or key or any(tail[-TRAILER + 5 : -TRAILER + 8])):
        raise FormatError("the signature's header has fields that must be zero", place)
    return signature
