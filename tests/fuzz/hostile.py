"""Inputs that are meant to take long, or much memory: deep nesting, what grows by the square, bombs, cycles."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
from collections import defaultdict
from collections.abc import Iterator

from safeupdate.formats import cpio, grubenv
from tests.fuzz.targets import LIMIT, WORLDS, member
from tests.unit import efi, elves, initrd


def inputs() -> dict[str, list[bytes]]:
    """By target, none larger than `LIMIT`."""
    found: dict[str, list[bytes]] = defaultdict(list)
    for target, data in _inputs():
        found[target].append(data[:LIMIT])
    return found


def _full(piece: bytes, *, head: bytes = b"", tail: bytes = b"") -> bytes:
    return head + piece * ((LIMIT - len(head) - len(tail)) // len(piece)) + tail


def _inputs() -> Iterator[tuple[str, bytes]]:
    for target, data in (*_texts(), *_scripts(), *_binaries(), *_images()):
        yield target, data
        if target == "initramfs":
            # Both of a machine's images: they are read at the same time.
            world = WORLDS["tree-debian"]
            images = [path for path, _ in world.files if path.startswith("/boot/initrd.img")]
            share = LIMIT // len(images) - 8
            yield "tree-debian", b"".join(world.record(path, data[:share]) for path in images)
    for name, path, data in _files():
        yield name, WORLDS[name].record(path, data)


def _texts() -> Iterator[tuple[str, bytes]]:
    for piece in (b'"', b'a"', b'",', b'"a,b" ', b"\\", b"\\040", b" \t", b"a ", b"a=", b"1 ", b"\0", b"\xff", b"\n"):
        for target in ("fstab", "cmdline", "mountinfo", "kconfig", "bls", "loader-conf", "versions", "modules-dep"):
            yield target, _full(piece)
    yield "fstab", _full(b'"a', head=b"/dev/a /b ext4 ")
    yield "mountinfo", _full(b"9", head=b"", tail=b" 1 8:1 / / rw - ext4 a rw\n")
    yield "mountinfo", _full(b" -", head=b"1 1 8:1 / / rw", tail=b" - ext4 a rw\n")
    for piece in (b"\\\n", b"\\", b"a=b\\\n", b"a", b"=\n", b"\n"):
        yield "grubenv", _full(piece, head=grubenv.SIGNATURE)
    for piece in (b"*a", b"?", b"[a-", b"[a]*", b"\\"):
        yield "loader-conf", _full(piece, tail=b"\n" + b"a" * 255)
    yield "loader-conf", b"+1" * 120 + b"\n" + b"+1" * 120
    for piece in (b"1.", b"~", b"+", b"0", b"-a", b"\xc3\xa9"):
        yield "versions", piece * 500 + b"\n" + piece * 500
    yield "capture-manifest", _full(b"[")
    yield "capture-manifest", _full(b"9", head=b'{"left_out": [')
    yield "capture-manifest", _full(b'"/a",', head=b'{"left_out": [', tail=b'""], "unreadable": []}')
    yield "search-path", _full(b"include *\n")
    yield "search-path", _full(b"include ld.so.conf.d/*a*a*a*a*a*b\n")


def _scripts() -> Iterator[tuple[str, bytes]]:
    """For GRUB: to be parsed, and to be run."""
    scripts = [
        _full(piece) for piece in (b"{", b"}", b"if ", b"if true; then ", b"'", b'"', b'"$a', b"$", b"\\", b"a;")
    ]
    scripts += [
        _full(piece) for piece in (b"while a; do ", b"for a in b; do ", b"submenu a {\n", b"#\n", b"\n", b"!", b"[ ")
    ]
    scripts += [_full(piece) for piece in (b"${a}", b"$a ", b"function f { ", b"elif ", b"a\\\n", b"[ ! ( ", b"a='b' ")]
    scripts += [
        b"while true; do true; done",
        b"until false; do true; done",
        b"function f { f; f; }\nf\n",
        b"set f=f\nfunction f { eval $f; }\nf\n",
        b"set a=abcdefgh\nwhile true; do set a=$a$a; done",
        b"set a='a a a a '\nwhile true; do set a=\"$a$a\"; search $a; done",
        b"set a='a -nt b '\nwhile true; do set a=\"$a$a\"; test $a; done",
        b"set a='--hint a '\nfor i in 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7; do set a=\"$a$a\"; done\nsearch $a",
        b"set a='a -nt b '\nfor i in 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7; do set a=\"$a$a\"; done\ntest $a",
        b"set a='--id a '\nfor i in 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7; do set a=\"$a$a\"; done\nmenuentry b $a { c; }",
        "set a=\U0001f600\nwhile true; do set a=$a$a; done".encode(),
        b"submenu a { submenu b { submenu c { configfile /boot/grub/grub.cfg; }; }; }",
        b"function f { submenu a { f; }; submenu b { f; }; }\nf\n",
        b"function f { menuentry $1 { true; }; shift; f $@; }\nf " + b"a " * 20000,
        b"source /boot/grub/grub.cfg\nconfigfile /boot/grub/grub.cfg\nnormal\n",
        b"menuentry a { source /boot/grub/grub.cfg; }\nmenuentry b { configfile $prefix/grub.cfg; }",
        b"configfile $config_file",
        b"set a=b\nfor i in 1 2 3 4 5 6 7 8 9; do eval \"set a='$a;$a'\"; eval $a; done",
        _full(b"if keystatus$$ && [ -e (hd9)/a ]; then set default=1; fi\n"),
        b"".join(b"if [ -e (hd9)/%d ]; then set default=%d; fi\n" % (n, n) for n in range(900))
        + b"menuentry a {\nb\n}\n",
        b"".join(b"regexp --set=a%d b c\nif [ $a%d = 1 ]; then set default=%d; fi\n" % (n, n, n) for n in range(600))
        + b"menuentry a {\nb\n}\n" * 20,
        b"for i in " + b"1 " * 12000 + b"; do menuentry $i { linux /boot/a$i; initrd /boot/b$i; }; done\n",
        b"".join(b"set a%d=b\n" % n for n in range(800))
        + b"for i in "
        + b"1 " * 12000
        + b"; do menuentry $i { c; }; done\n",
        b"".join(b"set a%d=b\n" % n for n in range(800))
        + b"for i in "
        + b"1 " * 12000
        + b"; do submenu $i { c; }; done\n",
        b"set default=" + b"a>" * 10000 + b"\nmenuentry a {\nb\n}\n",
        b"set default=0" + b"9" * 60000 + b"\nmenuentry a {\nb\n}\n",
        b"set timeout=" + b"9" * 60000 + b"\nmenuentry a {\nb\n}\n",
        b"set a=" + b"9" * 60000 + b"\nincrement a\nif [ $a -gt 1 ]; then b; fi\n",
        b"set root=(" + b"hd0," * 10000 + b")\nmenuentry a { linux " + b"/a/.." * 3000 + b"/vmlinuz; }\n",
        b"save_env " + b"a " * 30000,
    ]
    for script in scripts:
        yield "grub-cfg", script
        yield "grub", WORLDS["grub"].record("/boot/grub/grub.cfg", script)


def _binaries() -> Iterator[tuple[str, bytes]]:
    head = struct.pack(">III", 0xB007F457, 0x00020001, 12)
    yield "modules-index", _shared(head, 0xC0000000)
    yield "modules-index", _shared(head, 0x40000000)
    yield "modules-index", struct.pack(">IIII", 0xB007F457, 0x00020001, 0x4000000C, 0xFFFFFFFF) + bytes(60000)
    for text in (b"\0", b"a=\0", b"a\0"):
        yield "elf-module", _many_sections(b".modinfo\0", text)
    yield "elf-module", _many_sections(b".note.gnu.build-id\0", bytes(12))
    yield "elf", elves.program(notes=bytes(12) * 5000)
    depth = b'[{"soname":["a"],"priority":' + b"[" * 900 + b"]" * 900 + b"}]"
    yield "elf", elves.program(notes=elves.note("<", b"FDO\0", 0x407C0C0A, depth))
    yield "elf", elves.program(notes=elves.note("<", b"FDO\0", 0x407C0C0A, b"[" * 50000))
    text = b"ID=a\n" * 9000
    yield "uki", efi.pe([(".osrel", text), *[(".profile", b"") for _ in range(90)]])
    yield "uki", _same_section(90, b"a\n" * 25000)
    yield "efi-variable", b"\7\0\0\0" + struct.pack("<IH", 1, 60000) + b"\0\0" + b"\1\1\4\0" * 15000


def _shared(head: bytes, flags: int) -> bytes:
    """An index of many nodes that lie in one another: one long prefix, or one long list of values, with many starts."""
    shared = 20000
    data = head + b"a" * shared + b"\0" + struct.pack(">I", 4000) + b"\0\0\0\0b\0" * 4000
    rows = (LIMIT - len(data)) // (2 + 4 * 256)
    for row in range(rows):
        following = len(data) + 2 + 4 * 256 | 0x20000000 if row + 1 < rows else 0
        if flags & 0x80000000:
            starts = [12 + row * 255 + n for n in range(255)]
        else:
            starts = [12 + shared + 5 + 6 * (row * 255 + n) for n in range(255)]
        data += bytes([0, 255]) + struct.pack(">256I", *(start | flags for start in starts), following)
    root = 12 + shared + 1 + 4 + 6 * 4000
    return data[:8] + struct.pack(">I", root | 0x20000000) + data[12:]


def _many_sections(name: bytes, filling: bytes) -> bytes:
    """A module all of whose sections have the same name and the same content."""
    count = 450
    names = b"\0" + name
    body = 64 + count * 64
    size = LIMIT - body - len(names)
    section = struct.pack("<IIQQQQIIQQ", 1, 1, 0, 0, body + len(names), size, 0, 0, 1, 0)
    table = struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, body, len(names), 0, 0, 1, 0) + section * (count - 1)
    ident = b"\x7fELF\2\1\1" + bytes(9)
    header = struct.pack("<HHIQQQIHHHHHH", 1, 62, 1, 0, 0, 64, 0, 64, 0, 0, 64, count, 0)
    return ident + header + table + names + (filling * size)[:size]


def _same_section(count: int, text: bytes) -> bytes:
    """An EFI program whose sections are all the same long text."""
    data = bytearray(efi.pe([(".osrel", text), *[(".profile", b"")] * count]))
    table = data.index(b".osrel\0\0")
    for number in range(1, count + 1):
        at = table + 40 * number
        data[at + 8 : at + 24] = data[table + 8 : table + 24]
    return bytes(data)


def _images() -> Iterator[tuple[str, bytes]]:
    zeros = bytes(48 << 20)
    for packed in (gzip.compress(zeros, 9), bz2.compress(zeros), lzma.compress(zeros, check=lzma.CHECK_CRC32)):
        yield "initramfs", packed
        yield "compression", packed
    yield "initramfs", lzma.compress(zeros, lzma.FORMAT_ALONE)
    yield "initramfs", _zstd_rle(350)
    # A file, a name, end marks and directories, again and again: as many as are allowed.
    for piece in (
        initrd.member(b"TRAILER!!!", mode=0),
        initrd.member(b"a", mode=0o040755),
        initrd.member(b"a", b"b", links=2),
        initrd.member(b"a", b"", links=2),
        initrd.member(b"l", b"a/" * 2000, 0o120777),
    ):
        yield "initramfs", _packed(piece * 60000)
        yield "initramfs-packed", _full(piece, head=b"\1")
    files = [initrd.member(b"x%d" % n) for n in range(24000)]
    directory = initrd.member(b"a", mode=0o040755) + initrd.member(b"a/b")
    yield "initramfs", _packed(b"".join(files) + directory + initrd.member(b"a") * 24000)
    around = b"d/../" * 800
    links = b"".join(initrd.member(b"l%d" % n, around + b"l%d" % (n + 1), 0o120777) for n in range(38))
    links += initrd.member(b"l38", b".", 0o120777)
    missing = b"".join(initrd.member(b"l0/%d/a" % n) for n in range(20000))
    yield "initramfs", _packed(initrd.member(b"d", mode=0o040755) + links + missing)
    deep = b"".join(initrd.member(b"/".join([b"d"] * n), mode=0o040755) for n in range(1, 2000))
    yield "initramfs", _packed(deep)
    yield "initramfs", _packed(initrd.member(b"a", size=0xFFFFFFF0) + zeros)
    yield "initramfs", _packed(b"0707020000" + cpio.header(b"a", 0o100644, zeros)[10:])
    yield (
        "initramfs",
        _packed(cpio.header(b"a.ko", 0o100644, _many_sections(b".modinfo\0", b"a\0") + zeros[: 24 << 20])),
    )
    yield "initramfs", _packed(cpio.header(b"init", 0o100755, elves.program() + zeros[: 24 << 20]))
    yield "initramfs", _packed(cpio.header(b"squash-root.img", 0o100644, zeros))
    yield "initramfs-members", member(0, b"init", elves.program(needed=tuple(f"lib{n}.so" for n in range(2000))))
    names = [b"l%d" % n for n in range(60)]
    yield "initramfs-members", b"".join(member(2, name, following) for name, following in zip(names, names[1:] + names))
    yield "initramfs-members", member(2, b"init", b"init") + member(2, b"a", b"a/a/a/a") + member(1, b"a/b", b"c")


def _packed(image: bytes) -> bytes:
    """Packed as well as gzip does; cut where that is not enough."""
    return gzip.compress(image, 9)


def _zstd_rle(blocks: int) -> bytes:
    """A zstd frame of blocks that are 128 KiB of one byte each (RFC 8878, section 3.1.1.2)."""
    header = (128 << 10) << 3 | 1 << 1
    last = header | 1
    body = (header.to_bytes(3, "little") + b"\0") * blocks + last.to_bytes(3, "little") + b"\0"
    return b"\x28\xb5\x2f\xfd\0\x38" + body


def _files() -> Iterator[tuple[str, str, bytes]]:
    for name, paths in (
        (
            "tree-debian",
            ("/etc/fstab", "/etc/crypttab", "/proc/self/mountinfo", "/proc/cmdline", "/boot/grub/grub.cfg"),
        ),
        ("tree-fedora", ("/etc/fstab", "/proc/self/mountinfo", "/boot/grub2/grubenv")),
        ("tree-arch", ("/etc/fstab", "/boot/loader/loader.conf", "/proc/self/mountinfo", "/proc/modules")),
    ):
        for path in paths:
            if any(path == known for known, _ in WORLDS[name].files):
                for piece in (
                    b"/dev/a /b ext4 c 0 1\n",
                    b"a b c d\n",
                    b"\\",
                    b'"',
                    b" ",
                    b"a=b ",
                    b"\xff",
                    b"UUID=a /b/",
                    b"1",
                ):
                    yield name, path, _full(piece, head=bytes(0))[: LIMIT - 4]
                many = b"".join(b"/dev/%d /m%d ext4 x-systemd.requires=/m%d 0 0\n" % (n, n, n + 1) for n in range(1200))
                yield name, path, many
                yield name, path, b"/dev/a " + b"/a" * 30000 + b" ext4 a 0 0\n"
    for entry in ("default " + "*a" * 30000, "default " + "[" * 60000, "timeout " + "9" * 60000, "\n" * 60000):
        yield "systemd-boot", "/boot/loader/loader.conf", entry.encode()
    path = next(path for path, _ in WORLDS["systemd-boot"].files if "/loader/entries/" in path)
    for entry in (
        "linux /a\n" * 7000,
        "linux " + "/.." * 20000,
        "options a\n" * 6000 + "linux /a\n",
        "initrd /a\n" * 6000,
    ):
        yield "systemd-boot", path, entry.encode()
    path = next(path for path, _ in WORLDS["grub-bls"].files if "/loader/entries/" in path)
    for entry in ("options " + "$a" * 30000, "options " + "\\$" * 30000, "linux /a\ninitrd /b\n" * 3000):
        yield "grub-bls", path, entry.encode()
