from __future__ import annotations

import pytest

from safeupdate.errors import FormatError
from safeupdate.formats import der
from safeupdate.formats.der import NotDistinguished, Reader
from tests.unit.signing import integer, oid, tlv


def test_values_one_after_another() -> None:
    data = tlv(0x30, integer(-5), oid("1.2.840.113549.1.7.2"), tlv(0x04, bytes(300)))
    reader = Reader(data).into("all")
    assert reader.integer("a number") == -5
    assert reader.oid("a type") == "1.2.840.113549.1.7.2"
    assert reader.tag == der.OCTET_STRING
    value = reader.take("octets", der.OCTET_STRING)
    assert reader.content(value) == bytes(300)
    assert reader.whole(value) == tlv(0x04, bytes(300))
    reader.finish("all")


@pytest.mark.parametrize("text", ["0.9.2342", "1.3.6.1.4.1.311.2.1.4", "2.5.29.14", "2.999.1", "2.16.840.1"])
def test_object_identifiers(text: str) -> None:
    assert der.dotted(Reader(oid(text)).content(Reader(oid(text)).take("it"))) == text


def test_what_is_optional_is_passed_over_only_where_it_is() -> None:
    reader = Reader(tlv(0xA0, integer(1)) + integer(2))
    assert reader.skip(0xA0)
    assert not reader.skip(0xA0)
    assert reader.integer("the number") == 2


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "ends before"),
        (b"\x30", "ends before"),
        (b"\x30\x05\x00", "5 octets long, 1 are left"),
        (b"\x30\x84\xff\xff\xff\xff", "are left"),
        (b"\x30\x85\x00\x00\x00\x00\x00", "has 5 octets"),
        (b"\x30\x82\x01", "has 2 octets"),
        (b"\x3f\x01\x00", "tag"),
        (b"\x04\x00", "tag"),
    ],
)
def test_what_breaks_the_rules(data: bytes, why: str) -> None:
    with pytest.raises(FormatError, match=why):
        Reader(data).into("it")


@pytest.mark.parametrize("data", [b"\x30\x80\x00\x00", b"\x30\x81\x05" + bytes(5), b"\x30\x82\x00\x80" + bytes(128)])
def test_what_is_ber_but_not_der(data: bytes) -> None:
    with pytest.raises(NotDistinguished):
        Reader(data).into("it")


def test_a_value_stays_inside_the_one_around_it() -> None:
    with pytest.raises(FormatError, match="offset 2"):
        Reader(b"\x30\x02\x04\x05" + bytes(20)).into("all").take("octets")


@pytest.mark.parametrize("data", [b"\x06\x00", b"\x06\x02\x2a\x86", b"\x06\x81\x81" + b"\x2a" * 129])
def test_object_identifiers_that_are_none(data: bytes) -> None:
    with pytest.raises(FormatError):
        Reader(data).oid("it")


def test_numbers_that_are_none() -> None:
    with pytest.raises(FormatError):
        Reader(b"\x02\x00").integer("it")
    with pytest.raises(FormatError):
        Reader(tlv(0x02, bytes(5000))).integer("it")


def test_what_is_left_over_is_told_with_its_place() -> None:
    reader = Reader(integer(1) + integer(2))
    reader.integer("the first")
    with pytest.raises(FormatError, match="offset 3"):
        reader.finish("all")
