"""fstab, as getmntent(3) reads it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from safeupdate.formats.fstab import BadLine, Line, parse, unescape


def test_a_debian_fstab() -> None:
    found = parse(
        b"# /etc/fstab: static file system information.\n"
        b"\n"
        b"UUID=1b3c /               ext4    errors=remount-ro 0       1\n"
        b"\t UUID=AB-CD  /boot/efi\tvfat umask=0077,x-systemd.requires=a.service 0 1 trailing\r\n"
        b"/swap.img none swap sw\n"
        b"tmpfs /tmp//x/ tmpfs"
    )
    assert found.bad == ()
    assert found.lines == (
        Line(3, "UUID=1b3c", "/", "ext4", ("errors=remount-ro",), 0, 1),
        Line(4, "UUID=AB-CD", "/boot/efi", "vfat", ("umask=0077", "x-systemd.requires=a.service"), 0, 1),
        Line(5, "/swap.img", "none", "swap", ("sw",)),
        Line(6, "tmpfs", "/tmp/x", "tmpfs"),
    )


def test_options() -> None:
    line = parse(b'a /a ext4 nofail,x-systemd.requires=b,x-systemd.requires=c,context="s0:c1,c2",rw, 0 0').lines[0]
    assert line.has("nofail") and line.has("x-systemd.requires") and not line.has("ro", "auto")
    assert line.values("x-systemd.requires") == ("b", "c")
    assert line.values("context") == ("s0:c1,c2",)
    assert line.values("nofail") == ()


def test_escapes() -> None:
    assert unescape(r"/mnt/My\040Disk\011\134x\\y") == "/mnt/My Disk\t\\x\\y"
    assert unescape(r"/mnt/\303\244ä") == "/mnt/ää"
    assert unescape(r"\x20\9") == r"\x20\9"
    assert parse(rb"LABEL=My\040Disk /a\040b ext4").lines[0] == Line(1, "LABEL=My Disk", "/a b", "ext4")


def test_bad_lines_are_kept() -> None:
    found = parse(b"oneword\n/dev/sda1 /ok\n/dev/\0 /x ext4\n")
    assert found.bad == (
        BadLine(1, "oneword", "it names no mount point"),
        BadLine(3, "/dev/\0 /x ext4", "it holds a NUL byte"),
    )
    assert found.lines == (Line(2, "/dev/sda1", "/ok", "auto"),)


PIECES = [b"UUID=a", b"/x", b"ext4", b" ", b"\t", b"\n", b"\\040", b"\\", b'"', b",", b"#", b"\0", b"\xff"]


@given(st.lists(st.sampled_from(PIECES)))
def test_anything_else(parts: list[bytes]) -> None:
    data = b"".join(parts)
    found = parse(data)
    assert len(found.lines) + len(found.bad) <= data.count(b"\n") + 1
