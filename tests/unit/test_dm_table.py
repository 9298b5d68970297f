"""Lines as dmsetup 1.02.185 (Debian 12) writes them."""

from __future__ import annotations

from safeupdate.formats import dm_table
from safeupdate.formats.dm_table import Target

TABLE = b"""\
vda2_crypt: 0 39809024 crypt aes-xts-plain64 :64:logon:cryptsetup:01234567-89ab-cdef-0123-456789abcdef-d0 0 254:2 32768
swap: 0 2048 crypt aes-xts-plain64 0000000000000000 0 254:3 4096 1 allow_discards
vg-root: 0 1024 linear 254:1 2048
vg-root: 1024 1024 linear 254:5 2048
vg-raid: 0 8192 raid raid1 3 0 region_size 1024 2 253:0 253:1 253:2 253:3
root_dif: 0 64 integrity 254:1 0 32 J 2 internal_hash:hmac(sha256):deadbeef journal_crypt:cbc(aes):deadbeef
none: 0 0 error
"""


def test_targets_of_each_volume() -> None:
    found = dm_table.parse(TABLE)
    assert list(found) == ["vda2_crypt", "swap", "vg-root", "vg-raid", "root_dif", "none"]
    assert found["vg-root"] == (
        Target("linear", 0, 1024, ("254:1", "2048")),
        Target("linear", 1024, 1024, ("254:5", "2048")),
    )
    assert found["vda2_crypt"][0].arguments[0] == "aes-xts-plain64"
    assert found["none"] == (Target("error", 0, 0, ()),)


def test_lines_of_another_form() -> None:
    assert dm_table.parse(
        b"No devices found\nx: 0 crypt\n: 1 2 linear\n\xff: 0 1 linear\n" + b"a: %s 1 b\n" % (b"9" * 50)
    ) == {"\udcff": (Target("linear", 0, 1, ()),)}


def test_keys_are_taken_out() -> None:
    text = dm_table.without_keys(TABLE.replace(b"0000000000000000", b"0123456789abcdef")).decode()
    assert "swap: 0 2048 crypt aes-xts-plain64 - 0 254:3 4096 1 allow_discards\n" in text
    assert ":64:logon:cryptsetup:01234567-" in text
    assert "internal_hash:hmac(sha256) journal_crypt:cbc(aes)\n" in text
    assert "deadbeef" not in text
    assert "0123456789abcdef " not in text
