"""Modules on disk, unpacked in memory as kmod or the kernel unpacks them, down to what a verdict needs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from typing import BinaryIO

from safeupdate.errors import FormatError, Unreadable
from safeupdate.formats import modsig, module_file
from safeupdate.formats.module_file import ModuleFile
from safeupdate.formats.unpacked import pieces
from safeupdate.machine import Machine

_MEMORY = 16 << 20
"""Bytes of a module that are held in memory at once. Larger ones (amdgpu, nvidia) are read several times in a stream:
with four threads all stays within 150 MB."""

_LARGEST = 1 << 30
"""Bytes of an unpacked module that are looked at: nvidia's has 100 MB, with debugging symbols a few hundred."""

_CHUNK = 256 << 10

_TAIL = (64 << 10) + modsig.TRAILER

Chunks = Callable[[], Iterator[bytes]]
"""The module's bytes from its start; may be called again."""


def read(machine: Machine, path: str) -> ModuleFile:
    """What a verdict on the module rests on. A container that is damaged is a `broken` module.

    Raises `Missing`, `Unreadable`, and `NoDecoder` where nothing here unpacks it.
    """
    with machine.open(path) as file:
        try:
            size = os.fstat(file.fileno()).st_size
            if path.endswith(".ko") and size <= _MEMORY:
                return module_file.read(memoryview(file.read(size)))
            return _streamed(lambda: _chunks(file, path))
        except OSError as error:
            raise Unreadable(path, os.strerror(error.errno or 0)) from None


def unpacked(data: bytes, path: str) -> ModuleFile:
    """The same of a file that is in memory, packed as its name tells. Raises `NoDecoder`, `Unreadable`."""
    import io

    return _streamed(lambda: _chunks(io.BytesIO(data), path))


def _streamed(chunks: Chunks) -> ModuleFile:
    whole = bytearray()
    try:
        for chunk in chunks():
            whole += chunk
            if len(whole) > _MEMORY:
                del whole
                return _large(chunks)
    except FormatError as error:
        return ModuleFile(0, b"", broken=f"it cannot be unpacked: {error}")
    return module_file.read(memoryview(whole))


def _large(chunks: Chunks) -> ModuleFile:
    """A module that is not held in memory: once for its end, once for its digests."""
    size, head, tail = 0, b"", b""
    for chunk in chunks():
        head = head or chunk[:64]
        tail = (tail + chunk)[-_TAIL:]
        size += len(chunk)
        if size > _LARGEST:
            raise Unreadable("the module", f"it is larger than {_LARGEST >> 20} MiB")
    names: set[str] = set()
    covered = size
    try:
        where = modsig.parse(tail, size)
        if where is not None:
            covered = where.covered
            tail = tail[-min(size - covered, _TAIL) :]
            names = module_file.signer_digests(tail[: where.end - where.covered])
        else:
            tail = b""
    except FormatError:
        tail = tail[-modsig.TRAILER :]
    digests = {}
    for name in names:
        try:
            digests[name] = hashlib.new(name, usedforsecurity=False)
        except ValueError:
            continue
    all_of_it = hashlib.sha256()
    at = 0
    for chunk in chunks():
        all_of_it.update(chunk)
        for digest in digests.values():
            digest.update(chunk[: max(covered - at, 0)])
        at += len(chunk)
    results = {name: digest.digest() for name, digest in digests.items()}
    return ModuleFile(size, tail, results, all_of_it.digest(), module_file.broken(memoryview(head), covered, part=True))


def _chunks(file: BinaryIO, path: str) -> Iterator[bytes]:
    file.seek(0)
    suffix = path.rpartition(".ko")[2]
    if suffix == "":
        yield from iter(lambda: file.read(_CHUNK), b"")
    else:
        yield from pieces(file, xz=suffix == ".xz")
