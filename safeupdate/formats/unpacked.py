"""Modules and kernels as files that can be sought in, whatever they are packed with.

A large one is not held in memory: it is unpacked again from its start where somebody seeks back.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, BinaryIO, Callable

from safeupdate.errors import FormatError, NoDecoder
from safeupdate.formats import bzimage, compression

_HELD = 8 << 20
"""Bytes of a module that are held in memory, so that several at once stay within 150 MB. Of a distribution's kernel
nearly all are smaller."""

_LARGEST = 1 << 30
"""Bytes of anything unpacked: no architecture maps a larger kernel, and no module comes near."""

_CHUNK = 256 << 10
_WINDOW = 1 << 20
"""Bytes that stay behind the place that was read last: the tables of an ELF file stand together at its end."""


def module(file: BinaryIO, name: str) -> BinaryIO:
    """A module whose file name is `name`, unpacked as kmod does it.

    Raises `NoDecoder`, and `FormatError` for damaged data; for a large module only where it is read.
    """
    suffix = name.rpartition(".ko")[2]
    return _file(file) if suffix == "" else of(file, xz=suffix == ".xz")


def of(file: BinaryIO, *, xz: bool = False) -> BinaryIO:
    """A packed file. With `xz` it is read as liblzma reads it, with any integrity check; else as the kernel does.

    Raises `NoDecoder`, and `FormatError` for damaged data; for a large file only where it is read.
    """

    held = bytearray()
    for piece in pieces(file, xz=xz):
        held += piece
        if len(held) > _HELD:
            return io.BufferedReader(_Replayed(lambda: pieces(file, xz=xz)), _CHUNK)
    return io.BytesIO(held)


def pieces(file: BinaryIO, *, xz: bool = False) -> Iterator[bytes]:
    """The same from its start, piece by piece, and nothing held. Raises what `of` does, where it comes to it."""
    if xz:
        return _xz(file)
    return _other(file, 0, file.seek(0, io.SEEK_END), memory=compression.LIBRARY_MEMORY)


def kernel(file: BinaryIO, size: int) -> BinaryIO:
    """The kernel inside an image of `size` bytes, as it is in memory; the file itself where nothing is packed.

    Raises `NoDecoder`, and `FormatError` for what is no kernel image.
    """
    payload = bzimage.parse(file).payload
    if payload is None:
        return _file(file)
    if payload.compressor is None:
        raise FormatError("the packed kernel begins with no compressor's mark", f"offset {payload.offset:#x}")
    start, end = payload.offset, min(size, payload.offset + payload.length)
    return io.BufferedReader(_Replayed(lambda: _other(file, start, end, memory=compression.KERNEL_MEMORY)), _CHUNK)


def _file(file: BinaryIO) -> BinaryIO:
    file.seek(0)
    return file


def _xz(file: BinaryIO) -> Iterator[bytes]:
    import lzma

    file.seek(0)
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ)
    try:
        while not decompressor.eof:
            data = file.read(_CHUNK) if decompressor.needs_input else b""
            if decompressor.needs_input and not data:
                raise FormatError("the xz data ends too early")
            yield decompressor.decompress(data, _CHUNK)
    except lzma.LZMAError:
        raise FormatError("the xz data is corrupt") from None


def _other(file: BinaryIO, start: int, end: int, *, memory: int) -> Iterator[bytes]:
    try:
        decoder = compression.unpack(compression.Source(file, end), start, memory=memory)
    except compression.Refused as error:
        raise NoDecoder(str(error), "kmod") from None
    view = memoryview(bytearray(_CHUNK))
    try:
        while count := decoder.readinto(view):
            yield bytes(view[:count])
    finally:
        decoder.close()


class _Replayed(io.RawIOBase):
    """What comes in pieces, as a file. `pieces` begins anew each time that it is called."""

    def __init__(self, pieces: Callable[[], Iterator[bytes]]) -> None:
        self._pieces = pieces
        self._running = pieces()
        self._window = b""
        self._start = 0
        self._position = 0
        self._size: int | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            while self._size is None:
                self._next()
            offset += self._size
        elif whence == io.SEEK_CUR:
            offset += self._position
        self._position = max(offset, 0)
        return self._position

    def readinto(self, buffer: Any) -> int:
        if self._position < self._start:
            self._running.close()  # type: ignore[attr-defined]
            self._running, self._window, self._start = self._pieces(), b"", 0
        while self._position >= self._start + len(self._window):
            if not self._next():
                return 0
        at = self._position - self._start
        part = self._window[at : at + len(buffer)]
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)

    def close(self) -> None:
        self._running.close()  # type: ignore[attr-defined]
        super().close()

    def _next(self) -> bool:
        piece = next(self._running, None)
        end = self._start + len(self._window)
        if piece is None:
            self._size = end
            return False
        if end > _LARGEST:
            raise FormatError("it unpacks to more than a module or a kernel has", f"byte {end}")
        kept = self._window[-_WINDOW:]
        self._window, self._start = kept + piece, end - len(kept)
        return True
