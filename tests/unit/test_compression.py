from __future__ import annotations

import gzip
import io
import lzma
import shutil
import struct
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safeupdate.errors import FormatError, NoDecoder
from safeupdate.formats import compression
from safeupdate.formats.compression import Refused, Source, Truncated
from tests.unit.initrd import PROGRAMS, compress, has

KINDS = ["gzip", "bzip2", "lzma", "xz", "zstd", "lz4", "lzop"]
LIBRARIES = {"zstd": ["compression", "zstandard", "backports"], "lz4": ["lz4"], "lzop": []}
TEXT = b"".join(b"line %d of something that can be compressed\n" % (number * 7919) for number in range(4000))


def need(kind: str) -> None:
    if not has(kind):
        pytest.skip(f"no program here makes {kind}")


def unpack(data: bytes, offset: int = 0) -> tuple[bytes, int]:
    decoder = compression.unpack(Source(io.BytesIO(data), len(data)), offset)
    out = bytearray()
    buffer = memoryview(bytearray(10_000))
    try:
        while count := decoder.readinto(buffer):
            out += buffer[:count]
        return bytes(out), decoder.end
    finally:
        decoder.close()


@pytest.mark.parametrize("kind", KINDS)
def test_unpacks_and_ends_where_the_segment_ends(kind: str) -> None:
    need(kind)
    segment = compress(kind, TEXT)
    assert compression.recognise(segment) == kind
    after = bytes(8) + b"070701"
    assert unpack(b"\0" * 12 + segment + after, 12) == (TEXT, 12 + len(segment))


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_read_as_memory_is(kind: str, tmp_path: Path) -> None:
    need(kind)
    path = tmp_path / "image"
    path.write_bytes(b"abcd" + compress(kind, TEXT))
    with path.open("rb") as file:
        decoder = compression.unpack(Source(file, path.stat().st_size), 4)
        buffer = memoryview(bytearray(1 << 20))
        got = b""
        while count := decoder.readinto(buffer):
            got += bytes(buffer[:count])
        decoder.close()
    assert got == TEXT


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz", "zstd", "lzop"])
def test_an_empty_segment(kind: str) -> None:
    need(kind)
    segment = compress(kind, b"")
    assert unpack(segment) == (b"", len(segment))


@pytest.mark.parametrize("kind", KINDS)
def test_cut_anywhere_it_is_never_whole(kind: str) -> None:
    need(kind)
    segment = compress(kind, b"some few bytes that make a short segment")
    program = kind in PROGRAMS
    for length in range(2, len(segment), 5 if program else 1):
        # lz4's legacy format has no end mark: cut between two blocks it is shorter, and the archive in it tells.
        if kind == "lz4" and length in range(4, 8):
            continue
        with pytest.raises(FormatError):
            unpack(segment[:length])


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz", "zstd"])
def test_cut_in_the_middle_it_says_so(kind: str) -> None:
    segment = compress(kind, TEXT)
    with pytest.raises(Truncated, match="ends too early"):
        unpack(segment[: len(segment) // 2])


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz", "zstd", "lzop"])
def test_a_wrong_checksum_is_found(kind: str) -> None:
    need(kind)
    segment = bytearray(compress(kind, TEXT))
    segment[len(segment) // 2] ^= 1
    with pytest.raises(FormatError):
        unpack(bytes(segment))


@settings(max_examples=200, deadline=None)
@given(kind=st.sampled_from(["gzip", "bzip2", "lzma", "xz"]), at=st.floats(0, 0.999), bit=st.integers(0, 7))
def test_flipped_bits_raise_nothing_else(kind: str, at: float, bit: int) -> None:
    segment = bytearray(compress(kind, TEXT[:2000]))
    segment[int(at * len(segment))] ^= 1 << bit
    try:
        unpack(bytes(segment))
    except (FormatError, NoDecoder):
        pass


@pytest.mark.parametrize("kind", ["zstd", "lz4", "lzop"])
def test_flipped_bits_of_formats_with_blocks(kind: str) -> None:
    need(kind)
    segment = compress(kind, TEXT[:2000])
    for at in range(0, len(segment), max(1, len(segment) // 25)):
        broken = bytearray(segment)
        broken[at] ^= 0x40
        try:
            unpack(bytes(broken))
        except FormatError:
            pass


@settings(max_examples=200, deadline=None)
@given(magic=st.sampled_from([b"\x1f\x8b", b"BZh9", b"]\0\0", b"\xfd7zXZ\0", b"\x89LZO"]), rest=st.binary(max_size=80))
def test_junk_after_a_magic_number(magic: bytes, rest: bytes) -> None:
    data = magic + rest
    try:
        compression.end_of(Source(io.BytesIO(data), len(data)), 0)
        unpack(data)
    except (FormatError, NoDecoder):
        pass


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz", "zstd"])
def test_a_bomb_comes_out_piece_by_piece(kind: str) -> None:
    """48 MiB of zeros pass through a buffer of 64 KiB, in a process that stays small."""
    segment = compress(kind, bytes(1 << 20))
    code = (
        "import io, re, sys\n"
        "from safeupdate.formats.compression import Source, unpack\n"
        "data = sys.stdin.buffer.read()\n"
        "buffer = memoryview(bytearray(1 << 16))\n"
        "decoder = unpack(Source(io.BytesIO(data), len(data)), 0)\n"
        "total = 0\n"
        "while total < 48 << 20 and (count := decoder.readinto(buffer)): total += count\n"
        "decoder.close()\n"
        "print(total, re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1])\n"
    )
    large = {
        "gzip": lambda: gzip.compress(bytes(64 << 20), 1),
        "xz": lambda: lzma.compress(bytes(64 << 20), check=lzma.CHECK_CRC32, preset=0),
        "bzip2": lambda: compress("bzip2", bytes(64 << 20)),
        "zstd": lambda: (
            subprocess.run(
                ["zstd", "-qc", "--check"], input=bytes(64 << 20), stdout=subprocess.PIPE, timeout=60, check=True
            ).stdout
        ),
    }
    assert len(segment) < 10_000
    done = subprocess.run(
        [sys.executable, "-c", code], input=large[kind](), stdout=subprocess.PIPE, timeout=120, check=True
    )
    total, memory = map(int, done.stdout.split())
    assert total >= 48 << 20
    assert memory < 100 << 10


def test_a_program_is_stopped_when_nobody_wants_more() -> None:
    data = compress("zstd", bytes(64 << 20))
    decoder = compression.unpack(Source(io.BytesIO(data), len(data)), 0)
    assert decoder.readinto(memoryview(bytearray(100))) == 100
    decoder.close()


def test_a_program_that_is_killed_says_nothing_of_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = compress("zstd", TEXT)
    program = tmp_path / "zstd"
    program.write_text("#!/bin/sh\nkill -9 $$\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OSError, match="signal 9"):
        unpack(data)
    program.write_text("no program")
    with pytest.raises(NoDecoder):
        unpack(data)


# -- what the kernel refuses -----------------------------------------------------------------------------------


def test_the_lz4_frame_format() -> None:
    need("lz4 frame")
    with pytest.raises(Refused, match="legacy"):
        unpack(compress("lz4 frame", TEXT))


@pytest.mark.parametrize(("check", "name"), [(lzma.CHECK_CRC64, "CRC64"), (lzma.CHECK_SHA256, "SHA-256")])
def test_xz_integrity_checks(check: int, name: str) -> None:
    with pytest.raises(Refused, match=name):
        unpack(lzma.compress(TEXT, check=check))


def test_xz_filters() -> None:
    last = {"id": lzma.FILTER_LZMA2, "preset": 1}
    branch = [{"id": lzma.FILTER_X86}, last]
    segment = lzma.compress(TEXT, check=lzma.CHECK_CRC32, filters=branch)
    assert unpack(segment) == (TEXT, len(segment))
    for chain in ([{"id": lzma.FILTER_DELTA}, last], [{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_ARM}, last]):
        with pytest.raises(Refused, match="filters"):
            unpack(lzma.compress(TEXT, check=lzma.CHECK_CRC32, filters=chain))


def zstd_frame(descriptor: int, fields: bytes, *blocks: tuple[int, int, bytes]) -> bytes:
    """A frame out of its header's fields and blocks of (type, size, content), the last one marked."""
    data = b"\x28\xb5\x2f\xfd" + bytes([descriptor]) + fields
    for number, (kind, size, content) in enumerate(blocks):
        last = number == len(blocks) - 1
        data += struct.pack("<I", size << 3 | kind << 1 | last)[:3] + content
    return data


def test_a_zstd_window_wider_than_the_kernels() -> None:
    with pytest.raises(Refused, match="window is 256 MiB"):
        unpack(zstd_frame(0, bytes([18 << 3]), (0, 1, b"x")))
    data = zstd_frame(0, bytes([17 << 3]), (0, 1, b"x"))
    assert compression.end_of(Source(io.BytesIO(data), len(data)), 0) == len(data)


def test_a_dictionary_of_xz_as_kernels_have_it() -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 128 << 20}]
    data = lzma.compress(b"kernel" * 1000, check=lzma.CHECK_CRC32, filters=filters)
    view = memoryview(bytearray(10_000))
    source = compression.Source(io.BytesIO(data), len(data))
    with pytest.raises(NoDecoder, match="dictionary"):
        compression.unpack(source, 0).readinto(view)
    assert compression.unpack(source, 0, memory=compression.KERNEL_MEMORY).readinto(view) == 6000


def test_a_zstd_dictionary() -> None:
    with pytest.raises(Refused, match="dictionary"):
        unpack(zstd_frame(1, bytes([0, 5]), (0, 1, b"x")))


def test_zstd_blocks_are_walked_to_the_end() -> None:
    data = zstd_frame(0, bytes([0]), (1, 1000, b"a"), (0, 3, b"xyz"), (1, 7, b"b"))
    assert unpack(data + b"\0\0") == (b"a" * 1000 + b"xyz" + b"b" * 7, len(data))
    for broken in (zstd_frame(0, bytes([0]), (3, 1, b"x")), zstd_frame(0, bytes([0]), (0, 2000, b"x" * 2000))):
        with pytest.raises(FormatError, match="corrupt"):
            unpack(broken)
    with pytest.raises(FormatError, match="corrupt"):
        unpack(zstd_frame(8, bytes([0]), (0, 1, b"x")))


def test_zstd_blocks_without_end() -> None:
    data = zstd_frame(0, bytes([0]), (0, 0, b"")).replace(b"\1\0\0", b"") + bytes(3 * ((1 << 20) + 10))
    with pytest.raises(FormatError, match="too many blocks"):
        compression.end_of(Source(io.BytesIO(data), len(data)), 0)


def test_gzip_header_fields() -> None:
    plain = gzip.compress(TEXT, mtime=0)
    named = plain[:3] + b"\x08" + plain[4:10] + b"initrd\0" + plain[10:]
    assert unpack(named) == (TEXT, len(named))
    commented = plain[:3] + b"\x10" + plain[4:10] + b"initrd\0" + plain[10:]
    with pytest.raises(Refused, match="header"):
        unpack(commented)


def test_lzop_checksums_that_the_kernel_does_not_skip() -> None:
    need("lzop")
    bare = subprocess.run(["lzop", "-qcF"], input=TEXT, stdout=subprocess.PIPE, timeout=60, check=True).stdout
    with pytest.raises(Refused, match="checksums"):
        unpack(bare)


def test_lz4_ends_at_a_length_of_zero_only() -> None:
    need("lz4")
    segment = compress("lz4", TEXT)
    assert unpack(segment + bytes(4) + b"070701")[1] == len(segment)
    assert unpack(segment + bytes(3))[1] == len(segment)
    assert unpack(segment + segment)[0] == TEXT + TEXT
    with pytest.raises(FormatError):
        unpack(segment + b"070701" + bytes(104))


# -- decoders --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["zstd", "lz4", "lzop"])
def test_without_a_decoder_the_package_is_named_and_the_end_found(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need(kind)
    segment = compress(kind, TEXT)
    monkeypatch.setenv("PATH", str(tmp_path))
    source = Source(io.BytesIO(segment + bytes(4)), len(segment) + 4)
    if not any(find_spec(name) for name in LIBRARIES[kind]):
        with pytest.raises(NoDecoder) as caught:
            compression.unpack(source, 0)
        assert caught.value.package == kind
    assert compression.end_of(source, 0) == len(segment)


@pytest.mark.parametrize("module", ["compression.zstd", "backports.zstd", "zstandard"])
def test_zstd_libraries(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(module)
    segment = compress("zstd", TEXT)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("zstd") is None
    assert unpack(segment + b"after") == (TEXT, len(segment))
    with pytest.raises(Truncated):
        unpack(segment[:-1])


def test_junk_is_no_segment() -> None:
    assert compression.recognise(b"junk") is None
    with pytest.raises(FormatError, match="magic"):
        unpack(b"junk")
