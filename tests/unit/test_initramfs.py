from __future__ import annotations

import hashlib
import io
import lzma
import shutil
import stat
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safeupdate import initramfs
from safeupdate.initramfs import merge
from tests.unit.elves import kernel_module, program
from tests.unit.initrd import archive, compress, has, member, read, trailer

DIRECTORY = stat.S_IFDIR | 0o755
LINK = stat.S_IFLNK | 0o777

FILES = {
    "usr": None,
    "bin": "usr/bin",
    "lib": "usr/lib",
    "init": b"#!/bin/sh -e\nexec switch_root\n",
    "usr/bin/sh": program(),
    "etc/crypttab": b"root UUID=1 none luks\n",
    "usr/lib/modules/6.1.0/kernel/a.ko": kernel_module([b"name=a", b"vermagic=6.1.0 SMP"]),
    "usr/lib/modules/6.1.0/kernel/b.ko.xz": lzma.compress(b"module"),
    "usr/lib/modules/6.1.0/modules.dep": b"kernel/a.ko:\nkernel/b.ko.xz: kernel/a.ko\n",
}


def test_one_archive() -> None:
    image = archive(FILES)
    index = read(image)
    assert index.problem is None
    assert index.sha256 == hashlib.sha256(image).hexdigest()
    (segment,) = index.segments
    assert (segment.offset, segment.end, segment.compressor, segment.unpacked) == (0, len(image), None, len(image))
    init = index.find("/init")
    assert init is not None
    assert (init.script, init.size, init.is_file) == ("/bin/sh -e", len(FILES["init"] or b""), True)
    assert init.crc32 == zlib.crc32(b"#!/bin/sh -e\nexec switch_root\n")
    assert index.content("/etc/crypttab") == FILES["etc/crypttab"]
    assert index.resolve("/bin/sh") == "/usr/bin/sh"
    assert index.resolve("/bin") is None
    header = index.elf("/usr/bin/sh")
    assert header is not None
    assert header.needed == ("liba.so.1", "libc.so.6")
    assert index.elf("/init") is None
    assert index.script("/init") == "/bin/sh -e"
    assert index.names("/lib/modules") == ("6.1.0",)
    assert index.releases == ("6.1.0",)


def test_modules() -> None:
    signed = kernel_module([b"vermagic=6.1.0 SMP"]) + b"signature" * 10
    signed += bytes(8) + (90).to_bytes(4, "big") + b"~Module signature appended~\n"
    index = read(archive({**FILES, "usr/lib/modules/6.1.0/extra/s.ko": signed}))
    modules = index.modules("6.1.0")
    assert sorted(modules) == ["extra/s.ko", "kernel/a.ko", "kernel/b.ko.xz"]
    plain, packed, other = modules["kernel/a.ko"].module, modules["kernel/b.ko.xz"].module, modules["extra/s.ko"].module
    assert plain is not None
    assert (plain.vermagic, plain.build_id, plain.signature) == ("6.1.0 SMP", "ab" * 20, b"")
    assert packed is None
    assert other is not None
    assert other.signature == signed[-130:]
    assert index.modules("6.2.0") == {}


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "lzma", "xz", "zstd", "lz4", "lzop"])
def test_compressed_segments(kind: str) -> None:
    if not has(kind):
        pytest.skip(f"no program here makes {kind}")
    microcode = archive({"kernel/x86/microcode/GenuineIntel.bin": bytes(100)})
    image = microcode + compress(kind, archive(FILES))
    index = read(image)
    assert index.problem is None
    assert [(part.offset, part.end, part.compressor) for part in index.segments] == [
        (0, len(microcode), None),
        (len(microcode), len(image), kind),
    ]
    assert index.segments[1].unpacked == len(archive(FILES))
    assert index.entries["usr/bin/sh"].elf is not None
    assert index.unpacked == len(microcode) + len(archive(FILES))


def test_segments_padding_and_several_archives() -> None:
    parts = [archive({"a": b"1"}), archive({"b": b"2"}), bytes(1024), compress("xz", archive({"c": b"3"})), bytes(5)]
    parts += [compress("gzip", archive({"d": b"4"}) + archive({"e": b"5"})), bytes(3)]
    index = read(b"".join(parts))
    assert index.problem is None
    assert [part.compressor for part in index.segments] == [None, None, "xz", "gzip"]
    assert sorted(index.entries) == ["a", "b", "c", "d", "e"]


def test_an_archive_must_be_aligned_after_a_segment() -> None:
    first = compress("xz", archive({"a": b"1"}))
    first += bytes(-len(first) % 4)
    assert read(first + archive({"b": b"2"})).problem is None
    problem = read(first + bytes(1) + archive({"b": b"2"})).problem
    assert problem is not None
    assert (problem.kind, problem.offset) == ("junk", len(first) + 1)
    problem = read(archive({"a": b"1"}) + bytes(2) + compress("xz", archive({"b": b"2"}))).problem
    assert problem is not None
    assert "padding" in problem.message


def test_a_compressed_stream_that_ends_inside_a_file() -> None:
    """As several bzip2 or xz streams in one file would: the kernel ends after the first."""
    data = archive({"a": b"x" * 1000})
    problem = read(compress("bzip2", data[:300]) + compress("bzip2", data[300:])).problem
    assert problem is not None
    assert (problem.kind, problem.during) == ("truncated", "a")


def test_junk() -> None:
    image = archive({"a": b"1"})
    problem = read(image + b"junk").problem
    assert problem is not None
    assert (problem.kind, problem.offset) == ("junk", len(image))
    assert read(image + b"junk").entries["a"].size == 1


def test_empty_images() -> None:
    for image in (b"", bytes(100)):
        index = read(image)
        assert (index.problem, dict(index.entries), index.sha256) == (None, {}, hashlib.sha256(image).hexdigest())


# -- the kernel's view -----------------------------------------------------------------------------------------


def test_later_entries_replace_earlier_ones() -> None:
    image = member(b"a", b"old", inode=1) + member(b"a", b"new!", inode=2) + member(b"b", b"a", LINK) + trailer()
    index = read(image + member(b"b", b"file"))
    assert (index.entries["a"].size, index.entries["b"].is_file) == (4, True)


def test_links_lead_entries_to_other_directories() -> None:
    image = member(b"usr", mode=DIRECTORY) + member(b"usr/lib", mode=DIRECTORY) + member(b"lib", b"usr/lib", LINK)
    index = read(image + member(b"lib/x", b"1") + member(b"./lib//../lib/y", b"2"))
    assert {"usr/lib/x", "usr/lib/y"} <= set(index.entries)
    assert index.resolve("/lib/x") == "/usr/lib/x"


def test_entries_without_their_directory_are_lost() -> None:
    index = read(member(b"no/such/file", b"1") + member(b"dev/console", mode=stat.S_IFCHR | 0o600) + member(b"", b"x"))
    assert index.lost == ("no/such/file",)
    assert list(index.entries) == ["dev/console"]


def test_a_directory_with_files_is_not_replaced_by_a_link() -> None:
    image = archive({"lib/a": b"1"}) + member(b"lib", b"usr/lib", LINK)
    index = read(image)
    assert index.entries["lib"].is_dir
    assert index.lost == ("lib",)


def test_hard_links() -> None:
    image = member(b"a", inode=5, links=3) + member(b"b", inode=5, links=3) + member(b"c", b"#!/x\n", inode=5, links=3)
    image += member(b"d", inode=5, links=3) + trailer() + member(b"e", inode=5, links=3)
    index = read(image)
    assert {name: index.entries[name].size for name in "abcde"} == {"a": 5, "b": 5, "c": 5, "d": 5, "e": 0}
    assert index.script("/a") == "/x"


def test_several_images_are_one() -> None:
    first, second = read(archive({"a": b"1", "b": b"1"})), read(archive({"b": b"22"}))
    both = merge([first, second])
    assert {name: entry.size for name, entry in both.entries.items()} == {"a": 1, "b": 2}
    assert both.segments[1].offset == first.size
    assert merge([first]) is first
    broken = read(archive({"a": b"1"}) + b"junk")
    assert "b" not in merge([broken, second]).entries


def test_cyclic_links_and_names_that_lead_out() -> None:
    image = member(b"a", b"b", LINK) + member(b"b", b"a", LINK) + member(b"self", b"self/x", LINK)
    image += member(b"up", b"../../../etc", LINK) + member(b"etc", mode=DIRECTORY) + member(b"../../etc/x", b"1")
    index = read(image + member(b"a/file", b"1") + member(b"grow", b"grow/grow/grow", LINK))
    assert index.resolve("/a") is None
    assert index.resolve("/self") is None
    assert index.resolve("/grow") is None
    assert index.resolve("/up/x") == "/etc/x"
    assert "a/file" in index.lost


def test_odd_files_and_names() -> None:
    image = b"".join(member(b"n%d" % kind, mode=kind | 0o600) for kind in (stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK))
    index = read(image + member(b"\xff\xfe", b"x") + member(b"nul\0name", b"y") + member(b".", mode=DIRECTORY))
    assert [entry for entry in index.entries.values() if entry.is_file] == [
        index.entries["\udcff\udcfe"],
        index.entries["nul"],
    ]


# -- hostile and broken ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [None, "gzip", "xz", "bzip2"])
def test_truncation_at_every_byte_is_never_whole(kind: str | None) -> None:
    data = archive({"init": b"#!/bin/sh\n", "etc/a": b"x" * 50})
    image = data if kind is None else compress(kind, data)
    complete = len(read(image).entries)
    for length in range(len(image)):
        index = read(image[:length])
        padding = kind is None and length >= image.rindex(b"TRAILER!!!") + 14
        whole = index.problem is None and len(index.entries) == complete and index.segments[-1].ended
        assert whole == padding, length


def test_truncation_of_a_zstd_image() -> None:
    data = archive({"init": b"#!/bin/sh\n", "etc/a": b"x" * 50})
    image = compress("zstd", data)
    for length in range(1, len(image), 7):
        assert read(image[:length]).problem is not None, length


@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from([None, "gzip", "xz"]),
    flips=st.lists(st.tuples(st.floats(0, 0.9999), st.integers(0, 7)), min_size=1, max_size=4),
)
def test_flipped_bits_are_never_an_exception(kind: str | None, flips: list[tuple[float, int]]) -> None:
    data = archive(FILES)
    image = bytearray(data if kind is None else compress(kind, data))
    for at, bit in flips:
        image[int(at * len(image))] ^= 1 << bit
    index = read(bytes(image))
    for path in ("/init", "/bin/sh", "/lib/modules"):
        index.find(path)
    assert merge([index, index]).size == (2 if index.problem is None else 1) * len(image)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_junk_is_never_an_exception(data: bytes) -> None:
    read(data)
    read(member(b"a", b"12") + data)
    read(member(b"x.ko", b"\x7fELF" + data) + member(b"y", b"\x7fELF" + data))


def test_a_file_that_shrinks_while_it_is_read() -> None:
    data = archive(FILES)
    index = initramfs.read_image(io.BytesIO(data[:300]), size=len(data))
    assert index.problem is not None
    assert index.sha256 == ""


def test_more_files_than_are_looked_at() -> None:
    image = compress("gzip", b"".join(member(b"%x" % n) for n in range(initramfs.ENTRY_LIMIT + 1)))
    problem = read(image).problem
    assert problem is not None
    assert problem.kind == "too-large"


def test_memory_does_not_grow_with_the_image(tmp_path: Path) -> None:
    """A file of 100 MB and programs of up to 40 MB, in a process that stays far below the program's 120 MB."""
    path = tmp_path / "image"
    big = member(b"big", bytes(100 << 20))
    programs = b"".join(member(b"p%d" % n, program() + bytes(n * (10 << 20))) for n in range(5))
    with path.open("wb") as file:
        command = ["zstd", "-q", "-c", "-1"]
        subprocess.run(command, input=big + programs + trailer(), stdout=file, timeout=60, check=True)
    code = (
        "import os, re, sys\n"
        "from safeupdate.initramfs import read_image\n"
        "with open(sys.argv[1], 'rb') as file: index = read_image(file, size=os.path.getsize(sys.argv[1]))\n"
        "assert index.problem is None and index.unpacked > 200 << 20 and index.elf('/p1') and index.elf('/p4')\n"
        "print(re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, timeout=120, check=True)
    assert int(done.stdout) < 90 << 10


def test_a_file_too_large_to_be_an_image(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("w+b") as file:
        file.truncate(1 << 40)
        index = initramfs.read_image(file, size=1 << 40)
    assert index.problem is not None
    assert (index.problem.kind, index.sha256) == ("too-large", "")
    assert read(bytes(3 << 20) + archive({"a": b"1"})).entries["a"].size == 1


def test_links_that_lead_far_around_are_not_followed_for_ever() -> None:
    around = b"d/../" * 800
    links = b"".join(member(b"l%d" % n, around + b"l%d" % (n + 1), LINK) for n in range(20))
    image = member(b"d", mode=DIRECTORY) + links + member(b"l20", b".", LINK) + member(b"l0/file")
    assert read(image + trailer()).problem is None
    index = read(image + b"".join(member(b"l0/%d/file" % n) for n in range(100)) + trailer())
    assert index.problem is not None
    assert index.problem.kind == "too-large"
    assert merge([index, index]).problem is not None


def test_deep_directories() -> None:
    names = [b"/".join([b"d"] * depth) for depth in range(1, 2000)]
    index = read(b"".join(member(name, mode=DIRECTORY) for name in names) + trailer())
    assert index.problem is None
    assert len(index.entries) == 1999


def test_end_marks_without_end() -> None:
    index = read(compress("gzip", member(b"TRAILER!!!", mode=0) * 60_000))
    assert index.problem is not None
    assert index.problem.kind == "too-large"


def test_a_file_of_a_great_many_names() -> None:
    names = [b"a%d" % n for n in range(20_000)]
    image = b"".join(member(name, inode=7, links=20_000) for name in names)
    index = read(image + member(b"last", b"content", inode=7, links=20_000) + trailer())
    assert index.problem is None
    assert index.entries["a0"].crc32 == zlib.crc32(b"content")


def test_texts_are_bounded() -> None:
    files = {f"etc/{n}": b"x" * (200 << 10) for n in range(100)} | {"etc/large": b"x" * (300 << 10)}
    index = read(compress("gzip", archive(files)))
    kept = sum(len(entry.content or b"") for entry in index.entries.values())
    assert 15 << 20 < kept <= 16 << 20
    assert index.content("/etc/large") is None


# -- nested images ---------------------------------------------------------------------------------------------


@pytest.mark.skipif(not shutil.which("mksquashfs"), reason="mksquashfs is not here")
def test_a_squashfs_inside(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/sh").write_bytes(b"program")
    (root / "large").write_bytes(bytes(range(256)) * 4096)
    (root / "usr/bin/sh").chmod(0o755)
    (root / "bin").symlink_to("usr/bin")
    (root / "with space -> arrow").write_bytes(b"x")
    packed = tmp_path / "squash"
    subprocess.run(["mksquashfs", root, packed, "-quiet", "-no-progress"], timeout=60, check=True, capture_output=True)
    index = read(archive({"init": b"#!/bin/sh\n", "squashfs-root.img": packed.read_bytes()}))
    (nested,) = index.nested
    assert nested.index is not None
    assert nested.index.resolve("/bin/sh") == "/usr/bin/sh"
    assert nested.index.entries["usr/bin/sh"].mode == stat.S_IFREG | 0o755
    assert nested.index.entries["usr/bin/sh"].crc32 == zlib.crc32(b"program")
    assert nested.index.entries["with space -> arrow"].size == 1
    damaged = bytearray(packed.read_bytes())
    damaged[100:110] = bytes(10)
    assert read(archive({"squash-root.img": bytes(damaged)})).nested[0].index is None
    cut = read(archive({"squashfs-root.img": packed.read_bytes()[:100]}))
    assert cut.nested[0].index is None


def test_an_erofs_inside_is_not_looked_into() -> None:
    (nested,) = read(archive({"erofs-root.img": bytes(4096)})).nested
    assert (nested.index, bool(nested.reason)) == (None, True)


def test_reading_raises_nothing_for_a_bad_file() -> None:
    class Broken(io.BytesIO):
        def read(self, _size: int | None = -1) -> bytes:
            raise OSError(5, "Input/output error")

    index = initramfs.read_image(Broken(b"x" * 100), size=100)
    assert index.problem is not None
    assert index.problem.kind == "unreadable"
