"""A kernel module's bytes, as far as the kernel looks at them before it believes them: signature and section table."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from safeupdate.errors import FormatError
from safeupdate.formats import cms, modsig

_HEADERS = {1: ("I", 32, 46, struct.Struct("IIIIII16x")), 2: ("Q", 40, 58, struct.Struct("IIQQQQ24x"))}
"""By ELF class: the type of offsets, where the header has that of the section table and where its size and count, and
a section header (elf(5))."""

_NOBITS = 8
_RELOCATABLE = 1

_TAIL_LIMIT = 64 << 10
"""Bytes of signature that are looked at: sign-file makes some 700, ML-DSA 5 KB."""


@dataclass(frozen=True)
class ModuleFile:
    """What a verdict on a module rests on. Sizes are bytes.

    `tail` is the signature with the closing mark, empty without one. `digests` are those of the signed bytes, by name,
    for each digest that a signer names and this machine can compute; `whole` is the SHA-256 of the file. `broken` says
    why the kernel cannot load what stands before the signature.
    """

    size: int
    tail: bytes = field(repr=False)
    digests: Mapping[str, bytes] = field(default_factory=dict, hash=False)
    whole: bytes = b""
    broken: str | None = None


def read(data: memoryview) -> ModuleFile:
    """A module that is in memory, unpacked. Raises nothing."""
    size = len(data)
    covered, end = size, size
    names: set[str] = set()
    tail = b""
    try:
        where = modsig.parse(data, size)
        if where is not None:
            covered, end = where.covered, size - modsig.TRAILER
            tail = bytes(data[max(covered, size - _TAIL_LIMIT) :])
            names = signer_digests(bytes(data[covered:end][:_TAIL_LIMIT]))
    except FormatError:
        tail = bytes(data[-modsig.TRAILER :])
    digests, whole = {}, b""
    for name in names | {"sha256"}:
        try:
            digest = hashlib.new(name, data[:covered], usedforsecurity=False)
        except ValueError:  # no such digest here, or not allowed
            continue
        if name in names:
            digests[name] = digest.digest()
        if name == "sha256":
            digest.update(data[covered:])
            whole = digest.digest()
    return ModuleFile(size, tail, digests, whole, broken(data, covered))


def signer_digests(pkcs7: bytes) -> set[str]:
    """The names of the digests that the signers of a signature use; none where it cannot be read."""
    try:
        return {signer.digest_name for signer in cms.parse(pkcs7).signers if signer.digest_name is not None}
    except FormatError:
        return set()


def broken(data: memoryview, size: int, *, part: bool = False) -> str | None:
    """Why the first `size` bytes are no module that can be loaded, None where nothing is wrong with their tables.

    With `part`, `data` holds the ELF header alone, and only what it says is asked about. The kernel's tests are in
    kernel/module/main.c (elf_validity_check).
    """
    if not size:
        return "it is empty"
    if size < 64 or bytes(data[:4]) != b"\x7fELF" or data[4] not in _HEADERS or data[5] not in (1, 2):
        return "it is no ELF file"
    order = "<" if data[5] == 1 else ">"
    word, at, numbers, section = _HEADERS[data[4]]
    if struct.unpack_from(order + "H", data, 16)[0] != _RELOCATABLE:
        return "it is an ELF file of another kind than a module"
    (offset,) = struct.unpack_from(order + word, data, at)
    length, count = struct.unpack_from(order + "HH", data, numbers)
    if length != section.size:
        return "its section headers have another size than the kernel's"
    end = offset + length * count
    if end > size:
        return f"it is cut: {size} bytes of at least {end}"
    if part:
        return None
    table = struct.Struct(order + str(section.format)).iter_unpack(data[offset:end])
    extent = max((start + long for _, kind, _, _, start, long in table if kind not in (0, _NOBITS)), default=0)
    return f"it is cut: {size} bytes of at least {extent}" if extent > size else None
