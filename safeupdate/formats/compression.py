"""The compressed segments of an initramfs buffer, unpacked in a stream.

The buffer's grammar is in the kernel's Documentation/driver-api/early-userspace/buffer-format.rst; which compressor
a segment has is told by its first two bytes (the kernel's lib/decompress.c). A decoder here ends where the kernel's
ends, because the next segment begins there: zstd after one frame (RFC 8878), xz after one stream, lz4 at a block
length of zero or the end of the buffer, the others at their own end marks.
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
import struct
import threading
from collections.abc import Iterator
from typing import Any, BinaryIO, Callable, NamedTuple, Protocol

from safeupdate.errors import FormatError, NoDecoder

_MAGICS = {
    b"\x1f\x8b": "gzip",
    b"\x1f\x9e": "gzip",
    b"BZ": "bzip2",
    b"\x5d\0": "lzma",
    b"\xfd7": "xz",
    b"\x89L": "lzop",
    b"\x02\x21": "lz4",
    b"\x28\xb5": "zstd",
}

LZ4_FRAME = "lz4 frame"
"""What `lz4` writes without `-l`. The kernel has no decoder for it."""

CONFIG = {
    "gzip": "CONFIG_RD_GZIP",
    "bzip2": "CONFIG_RD_BZIP2",
    "lzma": "CONFIG_RD_LZMA",
    "xz": "CONFIG_RD_XZ",
    "lzop": "CONFIG_RD_LZO",
    "lz4": "CONFIG_RD_LZ4",
    "zstd": "CONFIG_RD_ZSTD",
}
"""The kernel option that builds in each decoder (usr/Kconfig)."""

ZSTD_WINDOW_LIMIT = 128 << 20
"""The widest zstd window that the kernel unpacks (lib/decompress_unzstd.c)."""

LIBRARY_MEMORY = 80 << 20
"""Bytes that a decoder inside this process may take: enough for `xz -9` (64 MiB), within the program's 120 MB."""

KERNEL_MEMORY = 144 << 20
"""The same for a kernel image: since Linux 6.12 the build asks xz for a dictionary of 128 MiB (scripts/xz_wrap.sh). No
more of it is used than is unpacked, and kernels have 20 to 60 MB."""

_LZ4_MAGIC = b"\x02\x21\x4c\x18"
_LZ4_BLOCK = 8 << 20
_LZO_BLOCK = 256 << 10
_BLOCK_LIMIT = 1 << 20
"""Blocks in one segment: of the largest size they are 128 GiB, and a walk over that many takes about two seconds."""

_PROGRAM_SECONDS = 120.0
"""A decoder program is killed after this long: it unpacks over 200 MB a second, and readers stop at a few GB."""

_PIPE = 1 << 20
_INPUT = 256 << 10
_OUTPUT = 1 << 20
"""What a library unpacks at once; it holds as much again while it does."""


class Truncated(FormatError):
    """The data ends before the format says that it does."""


class Refused(FormatError):
    """Decoders of user space read this; the kernel's does not."""


class Source:
    """Random access to a binary file, from several threads at once. Bytes beyond `size` do not exist."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.size = size
        self._file = file
        self._lock = threading.Lock()
        self._descriptor = -1
        if isinstance(file, (io.BufferedReader, io.FileIO)):
            try:
                self._descriptor = file.fileno()
            except (OSError, ValueError):
                pass

    def read(self, offset: int, length: int) -> bytes:
        """At most `length` bytes at `offset`: fewer only at the end."""
        length = min(length, self.size - offset)
        if length <= 0:
            return b""
        if self._descriptor >= 0:
            return os.pread(self._descriptor, length, offset)
        with self._lock:
            self._file.seek(offset)
            return self._file.read(length)

    def readinto(self, offset: int, view: memoryview) -> int:
        """Fill `view` from `offset`; the number of bytes, 0 at the end."""
        length = min(len(view), self.size - offset)
        if length <= 0:
            return 0
        if self._descriptor >= 0:
            return os.preadv(self._descriptor, [view[:length]], offset)
        data = self.read(offset, length)
        view[: len(data)] = data
        return len(data)


class Decoder(Protocol):
    """A segment being unpacked. `end` is the offset behind it, once `readinto` has returned 0."""

    end: int

    def readinto(self, view: memoryview) -> int:
        """Unpack into `view`; 0 at the segment's end.

        Raises `Truncated` and `FormatError` for bad data, `OSError` where reading or the decoder itself failed.
        """

    def close(self) -> None:
        """Stop, and leave no process behind."""


def recognise(head: bytes) -> str | None:
    """The compressor whose data begins with these bytes (4 are enough): a key of `CONFIG`, `LZ4_FRAME` or None."""
    if head[:4] == b"\x04\x22\x4d\x18":
        return LZ4_FRAME
    return _MAGICS.get(head[:2])


def unpack(source: Source, offset: int, *, memory: int = LIBRARY_MEMORY) -> Decoder:
    """A decoder of the compressed segment at `offset`, which may take so many bytes of memory inside this process.

    Raises `Refused` where the kernel cannot unpack the segment although other decoders can, `NoDecoder` where this
    machine has none, `Truncated` and `FormatError` where the bytes break the format.
    """
    kind = recognise(source.read(offset, 4))
    if kind is None:
        raise FormatError("no compressor's magic number is here", f"offset {offset}")
    if kind == LZ4_FRAME:
        raise Refused("it is in the lz4 frame format, and the kernel reads only the legacy format (lz4 -l)")
    return _open_xz(source, offset, memory) if kind == "xz" else _OPENERS[kind](source, offset)


def end_of(source: Source, offset: int) -> int | None:
    """Where the segment at `offset` ends, found without a decoder; None for formats whose end only decoding shows.

    Raises what `unpack` raises, except `NoDecoder`.
    """
    kind = recognise(source.read(offset, 4))
    if kind == "zstd":
        return _zstd_frame(source, offset).end
    if kind == "lz4":
        return _last(_lz4_blocks(source, offset), offset)
    if kind == "lzop":
        return _last(_lzo_blocks(source, offset), offset)
    return None


# -- programs --------------------------------------------------------------------------------------------------


class _Program:
    """A decoder program that is fed a part of the source: it works on another core while this process reads."""

    def __init__(self, command: list[str], source: Source, start: int, end: int) -> None:
        import subprocess

        self.end = end
        self._name = command[0].rsplit("/", 1)[-1]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                env={**os.environ, "LC_ALL": "C"},
            )
        except OSError:
            raise NoDecoder(f"{self._name} data", self._name) from None
        assert self._process.stdin is not None and self._process.stdout is not None
        self._output: Any = self._process.stdout
        for pipe in (self._process.stdin, self._output):
            _widen(pipe.fileno())
        self._late = False
        self._unreadable: OSError | None = None
        self._feeder = threading.Thread(target=self._feed, args=(self._process.stdin, source, start), daemon=True)
        self._feeder.start()
        self._timer = threading.Timer(_PROGRAM_SECONDS, self._expire)
        self._timer.daemon = True
        self._timer.start()

    def readinto(self, view: memoryview) -> int:
        count: int = self._output.readinto(view)
        if count:
            return count
        code = self._process.wait()
        self._feeder.join()
        if self._unreadable is not None:
            raise self._unreadable
        if self._late:
            raise OSError(errno.ETIMEDOUT, f"{self._name} did not end within {_PROGRAM_SECONDS:g} seconds")
        if code < 0:
            # Killed from outside, as for want of memory: that says nothing of the data.
            raise OSError(errno.EINTR, f"{self._name} was ended by signal {-code}")
        if code:
            raise FormatError(f"the {self._name} data is corrupt")
        return 0

    def close(self) -> None:
        self._timer.cancel()
        if self._process.poll() is None:
            self._process.kill()
        self._output.close()
        self._process.wait()
        self._feeder.join()

    def _expire(self) -> None:
        self._late = True
        self._process.kill()

    def _feed(self, pipe: Any, source: Source, position: int) -> None:
        try:
            while position < self.end:
                data = memoryview(source.read(position, min(_PIPE, self.end - position)))
                if not data:
                    break
                position += len(data)
                while data:
                    data = data[pipe.write(data) :]
        except BrokenPipeError:
            pass
        except OSError as error:
            self._unreadable = error
        finally:
            pipe.close()


def _widen(descriptor: int) -> None:
    # With the 64 KiB of a new pipe the two processes mostly wait for each other.
    try:
        fcntl.fcntl(descriptor, getattr(fcntl, "F_SETPIPE_SZ", 1031), _PIPE)
    except OSError:
        pass


def _which(name: str) -> str | None:
    from shutil import which

    return which(name)


# -- libraries -------------------------------------------------------------------------------------------------


class _Library:
    """A decoder object of the standard library's kind (bz2.BZ2Decompressor), fed from the source."""

    def __init__(
        self, source: Source, offset: int, kind: str, decompressor: Any, errors: tuple[type[Exception], ...]
    ) -> None:
        self.end = offset
        self._source = source
        self._kind = kind
        self._decompressor = decompressor
        self._errors = errors

    def readinto(self, view: memoryview) -> int:
        decompressor = self._decompressor
        while not decompressor.eof:
            data = b""
            if decompressor.needs_input:
                data = self._source.read(self.end, _INPUT)
                if not data:
                    raise Truncated(f"the {self._kind} data ends too early", f"offset {self.end}")
                self.end += len(data)
            try:
                out = decompressor.decompress(data, min(len(view), _OUTPUT))
            except MemoryError:
                raise NoDecoder(f"{self._kind} data with so large a dictionary", self._kind) from None
            except self._errors as error:
                if "limit" in str(error):
                    raise NoDecoder(f"{self._kind} data with so large a dictionary", self._kind) from None
                raise FormatError(f"the {self._kind} data is corrupt", f"before offset {self.end}") from None
            if decompressor.eof:
                self.end -= len(decompressor.unused_data)
            if out:
                view[: len(out)] = out
                return len(out)
        return 0

    def close(self) -> None:
        self._decompressor = None


class _Inflate:
    """zlib's decompressor behind the interface of the others."""

    def __init__(self) -> None:
        import zlib

        self._inner = zlib.decompressobj(wbits=31)
        self.needs_input = True

    def decompress(self, data: bytes, limit: int) -> bytes:
        out = self._inner.decompress(data or self._inner.unconsumed_tail, limit)
        self.needs_input = not self._inner.unconsumed_tail and len(out) < limit
        return out

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data


class Pieces:
    """A decoder out of a generator of unpacked pieces; `end` was found beforehand."""

    def __init__(self, pieces: Iterator[bytes], end: int) -> None:
        self.end = end
        self._pieces = pieces
        self._piece = memoryview(b"")

    def readinto(self, view: memoryview) -> int:
        while not self._piece:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._piece = memoryview(piece)
        part = self._piece[: len(view)]
        view[: len(part)] = part
        self._piece = self._piece[len(part) :]
        return len(part)

    def close(self) -> None:
        self._pieces = iter(())


# -- gzip, bzip2, lzma, xz -------------------------------------------------------------------------------------


def _open_gzip(source: Source, offset: int) -> Decoder:
    """RFC 1952; of the optional header fields the kernel's lib/decompress_inflate.c knows the file name alone."""
    import zlib

    head = source.read(offset, 10)
    if len(head) < 10:
        raise Truncated("the gzip data ends too early", f"offset {offset + len(head)}")
    if head[:3] == b"\x1f\x8b\x08" and head[3] & 0x16:
        raise Refused("its gzip header has fields that the kernel does not skip")
    return _Library(source, offset, "gzip", _Inflate(), (zlib.error,))


def _open_bzip2(source: Source, offset: int) -> Decoder:
    import bz2

    return _Library(source, offset, "bzip2", bz2.BZ2Decompressor(), (OSError, ValueError))


def _open_lzma(source: Source, offset: int) -> Decoder:
    """The LZMA_Alone format (LZMA SDK, lzma.txt)."""
    import lzma

    decompressor = lzma.LZMADecompressor(lzma.FORMAT_ALONE, LIBRARY_MEMORY)
    return _Library(source, offset, "lzma", decompressor, (lzma.LZMAError, ValueError))


def _open_xz(source: Source, offset: int, memory: int = LIBRARY_MEMORY) -> Decoder:
    """The .xz file format 1.2, sections 2.1.1 and 3.1; what the kernel reads of it: Documentation/staging/xz.rst."""
    import lzma

    head = source.read(offset, 12)
    if len(head) < 12:
        raise Truncated("the xz data ends too early", f"offset {offset + len(head)}")
    if head[:7] == b"\xfd7zXZ\0\0":
        if head[7] > 1:
            kinds = {4: "CRC64", 10: "SHA-256"}
            kind = kinds.get(head[7], f"type {head[7]}")
            raise Refused(f"its xz integrity check is {kind}, and the kernel reads only none or CRC32 (--check=crc32)")
        _xz_filters(source.read(offset + 12, 1024))
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memory)
    return _Library(source, offset, "xz", decompressor, (lzma.LZMAError, ValueError))


def _xz_filters(header: bytes) -> None:
    """Raise `Refused` for filters that the kernel lacks: it has LZMA2, after at most one branch filter."""
    if len(header) < 8 or header[0] == 0:
        return
    position = 2
    for flag in (0x40, 0x80):
        if header[1] & flag:
            while position < len(header) and header[position] & 0x80:
                position += 1
            position += 1
    filters = []
    for _ in range((header[1] & 3) + 1):
        if position + 2 > len(header):
            return
        filters.append((header[position], header[position + 1]))
        position += 2 + header[position + 1]
    chain, last = filters[:-1], filters[-1]
    if last[0] != 0x21 or len(chain) > 1 or any(not 4 <= kind <= 0x0B or properties for kind, properties in chain):
        raise Refused("its xz filters are not those that the kernel has (LZMA2, after at most one branch filter)")


# -- zstd ------------------------------------------------------------------------------------------------------


class _Frame(NamedTuple):
    end: int
    window: int


def _zstd_frame(source: Source, offset: int) -> _Frame:
    """Walk the blocks of one frame (RFC 8878, section 3.1.1)."""
    head = source.read(offset, 18)
    if head[:4] != b"\x28\xb5\x2f\xfd"[: len(head)]:
        raise FormatError("the zstd data is corrupt", f"offset {offset}")
    if len(head) < 6:
        raise Truncated("the zstd data ends too early", f"offset {offset + len(head)}")
    flags = head[4]
    single = flags >> 5 & 1
    dictionary = (0, 1, 2, 4)[flags & 3]
    content = (single, 2, 4, 8)[flags >> 6]
    position = 5 + (1 - single) + dictionary
    if flags & 8:
        raise FormatError("the zstd data is corrupt", f"offset {offset + 4}")
    if dictionary and any(head[position - dictionary : position]):
        raise Refused("its zstd data was made with a dictionary, and the kernel has none")
    if single:
        window = int.from_bytes(head[position : position + content], "little") + (256 if content == 2 else 0)
    else:
        base = 1 << (10 + (head[5] >> 3))
        window = base + base // 8 * (head[5] & 7)
    if window > ZSTD_WINDOW_LIMIT:
        raise Refused(
            f"its zstd window is {window >> 20} MiB, and the kernel unpacks at most {ZSTD_WINDOW_LIMIT >> 20} MiB"
        )
    largest = min(window, 128 << 10)
    position += offset + content
    for _ in range(_BLOCK_LIMIT):
        header = int.from_bytes(source.read(position, 3), "little")
        kind = header >> 1 & 3
        if position + 3 > source.size:
            raise Truncated("the zstd data ends too early", f"offset {source.size}")
        if kind == 3 or header >> 3 > largest:
            raise FormatError("the zstd data is corrupt", f"offset {position}")
        position += 3 + (1 if kind == 1 else header >> 3)
        if header & 1:
            break
    else:
        raise FormatError("the zstd data has too many blocks", f"offset {position}")
    position += 4 if flags & 4 else 0
    if position > source.size:
        raise Truncated("the zstd data ends too early", f"offset {source.size}")
    return _Frame(position, window)


def _open_zstd(source: Source, offset: int) -> Decoder:
    try:
        frame = _zstd_frame(source, offset)
    except Refused:
        raise
    except FormatError as error:
        # What can be unpacked before the damage still says which files are lost.
        decoder = _zstd_decoder(source, offset, source.size, 0, prefer_library=True)
        return _Damaged(decoder, error)
    return _zstd_decoder(source, offset, frame.end, frame.window)


def _zstd_decoder(source: Source, offset: int, end: int, window: int, *, prefer_library: bool = False) -> Decoder:
    """The program runs beside this process; a library gives out the last whole block before a damage, as the kernel."""
    program = _which("zstd")
    decompressor, errors = _zstd_library() if prefer_library or program is None else (None, ())
    if program is not None and decompressor is None:
        return _Program([program, "-dcq"], source, offset, end)
    if decompressor is None or window > LIBRARY_MEMORY:
        raise NoDecoder("zstd data", "zstd")
    return _Library(source, offset, "zstd", decompressor(), errors)


def _zstd_library() -> tuple[Callable[[], Any] | None, tuple[type[Exception], ...]]:
    from importlib import import_module

    for name in ("compression.zstd", "backports.zstd"):
        try:
            module = import_module(name)
        except ImportError:
            continue
        return module.ZstdDecompressor, (module.ZstdError, EOFError)
    try:
        zstandard = import_module("zstandard")
    except ImportError:
        return None, ()
    return lambda: _Zstandard(zstandard), (zstandard.ZstdError,)


class _Zstandard:
    """python-zstandard's decompressor behind the interface of the standard library's."""

    def __init__(self, zstandard: Any) -> None:
        self._inner = zstandard.ZstdDecompressor(max_window_size=LIBRARY_MEMORY).decompressobj()
        self._rest = b""
        self._out = memoryview(b"")

    @property
    def needs_input(self) -> bool:
        return not self._out and not self._rest

    @property
    def eof(self) -> bool:
        return bool(self._inner.eof) and not self._out

    @property
    def unused_data(self) -> bytes:
        return bytes(self._inner.unused_data) + self._rest

    def decompress(self, data: bytes, limit: int) -> bytes | memoryview:
        self._rest += data
        if not self._out and not self._inner.eof:
            # Its output has no bound of its own: 128 KiB of a block come out of as little as 4 bytes.
            part, self._rest = self._rest[:256], self._rest[256:]
            self._out = memoryview(self._inner.decompress(part))
        out, self._out = self._out[:limit], self._out[limit:]
        return out


class _Damaged:
    """A decoder for data that is already known to be damaged: it ends in that error, whatever came out before."""

    def __init__(self, decoder: Decoder, error: FormatError) -> None:
        self.end = decoder.end
        self._decoder = decoder
        self._error = error

    def readinto(self, view: memoryview) -> int:
        try:
            count = self._decoder.readinto(view)
        except FormatError:
            count = 0
        if not count:
            raise self._error
        return count

    def close(self) -> None:
        self._decoder.close()


# -- lz4 and lzop ----------------------------------------------------------------------------------------------


class _Block(NamedTuple):
    offset: int
    length: int
    unpacked: int
    checksum: int
    end: int


def _last(blocks: Iterator[_Block], offset: int) -> int:
    end = offset
    for block in blocks:
        end = block.end
    return end


def _lz4_blocks(source: Source, offset: int) -> Iterator[_Block]:
    """Blocks of lz4's legacy frames (lz4_Frame_format.md) up to where the kernel's lib/decompress_unlz4.c ends."""
    if source.read(offset, 4) != _LZ4_MAGIC:
        raise FormatError("the lz4 data is corrupt", f"offset {offset}")
    position = offset
    for _ in range(_BLOCK_LIMIT):
        word = source.read(position, 4)
        if len(word) < 4 or word == b"\0\0\0\0":
            break
        if word == _LZ4_MAGIC:
            position += 4
            yield _Block(position, 0, 0, 0, position)
            continue
        length = int.from_bytes(word, "little")
        if length > _LZ4_BLOCK + _LZ4_BLOCK // 255 + 16:
            raise FormatError("the lz4 data is corrupt", f"offset {position}")
        if position + 4 + length > source.size:
            raise Truncated("the lz4 data ends too early", f"offset {source.size}")
        yield _Block(position + 4, length, _LZ4_BLOCK, 0, position + 4 + length)
        position += 4 + length
    else:
        raise FormatError("the lz4 data has too many blocks", f"offset {position}")


def _open_lz4(source: Source, offset: int) -> Decoder:
    from importlib import import_module

    try:
        block_format = import_module("lz4.block")
    except ImportError:
        return _open_blocks(["lz4", "-dcq"], source, offset, _lz4_blocks)

    def pieces() -> Iterator[bytes]:
        for block in _lz4_blocks(source, offset):
            if block.length:
                try:
                    yield block_format.decompress(
                        source.read(block.offset, block.length), uncompressed_size=block.unpacked
                    )
                except (block_format.LZ4BlockError, ValueError):
                    raise FormatError("the lz4 data is corrupt", f"offset {block.offset}") from None

    return Pieces(pieces(), _last_sound(_lz4_blocks(source, offset), offset))


def _lzo_blocks(source: Source, offset: int) -> Iterator[_Block]:
    """Blocks of an lzop file, up to its end mark, as far as the kernel's lib/decompress_unlzo.c understands them."""
    head = source.read(offset, 9 + 7 + 1 + 8 + 8 + 4 + 1 + 255 + 4)
    if head[:9] != b"\x89LZO\0\r\n\x1a\n"[: len(head)]:
        raise FormatError("the lzop data is corrupt", f"offset {offset}")
    try:
        (version,) = struct.unpack_from(">H", head, 9)
        position = 16 + (version >= 0x940)
        (flags,) = struct.unpack_from(">I", head, position)
        position += 8 if flags & 0x800 else 4
        position += 12 if version >= 0x940 else 8
        position += 1 + head[position] + 4
    except (struct.error, IndexError):
        raise Truncated("the lzop data ends too early", f"offset {offset + len(head)}") from None
    if flags & 0x40 or bin(flags & 0x303).count("1") != 1:
        raise Refused(
            "its lzop data has a header or checksums that the kernel does not expect (lzop -9 makes it right)"
        )
    position += offset
    for _ in range(_BLOCK_LIMIT):
        word = source.read(position, 12)
        if word[:4] == b"\0\0\0\0":
            yield _Block(position, 0, 0, 0, position + 4)
            return
        if len(word) < 12:
            raise Truncated("the lzop data ends too early", f"offset {source.size}")
        unpacked, length, checksum = struct.unpack(">III", word)
        if unpacked > _LZO_BLOCK:
            raise Refused(f"its lzop blocks are larger than the {_LZO_BLOCK >> 10} KiB that the kernel takes")
        if not 0 < length <= unpacked:
            raise FormatError("the lzop data is corrupt", f"offset {position}")
        if position + 12 + length > source.size:
            raise Truncated("the lzop data ends too early", f"offset {source.size}")
        yield _Block(position + 12, length, unpacked, checksum, position + 12 + length)
        position += 12 + length
    raise FormatError("the lzop data has too many blocks", f"offset {position}")


def _open_lzop(source: Source, offset: int) -> Decoder:
    return _open_blocks(["lzop", "-dcq"], source, offset, _lzo_blocks)


def _last_sound(blocks: Iterator[_Block], offset: int) -> int:
    """Where the last whole block ends."""
    end = offset
    try:
        for block in blocks:
            end = block.end
    except FormatError:
        pass
    return end


def _open_blocks(
    command: list[str], source: Source, offset: int, walk: Callable[[Source, int], Iterator[_Block]]
) -> Decoder:
    error: FormatError | None = None
    end = offset
    try:
        end = _last(walk(source, offset), offset)
    except Refused:
        raise
    except FormatError as damage:
        error, end = damage, source.size
    program = _which(command[0])
    if program is None:
        raise NoDecoder(f"{command[0]} data", command[0])
    decoder = _Program([program, *command[1:]], source, offset, end)
    return decoder if error is None else _Damaged(decoder, error)


_OPENERS: dict[str, Callable[[Source, int], Decoder]] = {
    "gzip": _open_gzip,
    "bzip2": _open_bzip2,
    "lzma": _open_lzma,
    "xz": _open_xz,
    "lzop": _open_lzop,
    "lz4": _open_lz4,
    "zstd": _open_zstd,
}
