from __future__ import annotations

from safeupdate.formats import crypttab
from safeupdate.formats.crypttab import Line


def test_lines() -> None:
    data = b"""\
# <target name> <source device> <key file> <options>
vda2_crypt UUID=01234567-89ab-cdef-0123-456789abcdef none luks,discard,initramfs
\tswap\t/dev/vda3\t/dev/urandom\tswap,cipher=aes-xts-plain64,size=256,cipher=serpent-xts-plain64

my\\040data /dev/sdb1
tpm /dev/sdc1 - tpm2-device=auto # what follows the options is not read
short
"""
    assert crypttab.parse(data) == (
        Line(2, "vda2_crypt", "UUID=01234567-89ab-cdef-0123-456789abcdef", "none", ("luks", "discard", "initramfs")),
        Line(
            3,
            "swap",
            "/dev/vda3",
            "/dev/urandom",
            ("swap", "cipher=aes-xts-plain64", "size=256", "cipher=serpent-xts-plain64"),
        ),
        Line(5, "my data", "/dev/sdb1"),
        Line(6, "tpm", "/dev/sdc1", "none", ("tpm2-device=auto",)),
    )


def test_options() -> None:
    line = Line(1, "a", "/dev/a", "none", ("luks", "cipher=a", "keyscript=/lib/x", "cipher=b"))
    assert line.has("cipher") and line.has("none", "luks") and not line.has("swap")
    assert (line.value("cipher"), line.value("luks"), line.value("none")) == ("b", None, None)


def test_bytes_that_are_no_text() -> None:
    assert crypttab.parse(b"\xff \x00\n") == (Line(1, "\udcff", "\0"),)
    assert crypttab.parse(b"") == ()
