from __future__ import annotations

from datetime import datetime, timezone

import pytest
from cryptography import x509

from safeupdate.errors import FormatError
from safeupdate.formats import certificate
from tests.unit import signing
from tests.unit.signing import integer, tlv


def test_a_certificate_of_an_authority() -> None:
    parent = signing.key("authority", authority=True, serial=0xFF)
    child = signing.key("child", issuer=parent, usages=(certificate.MODULE_SIGNING,))
    one = certificate.parse(child.certificate + b"what follows")
    assert one.der == child.certificate
    assert (one.common_name, one.issuer_name) == ("child", "authority")
    assert (one.issuer, one.subject) == (parent.name, child.name)
    assert (one.key_id, one.authority_key_id) == (child.key_id, parent.key_id)
    assert one.usages == (certificate.MODULE_SIGNING,)
    assert not one.is_authority
    assert (one.not_before, one.not_after) == (
        datetime(2020, 1, 1, tzinfo=timezone.utc),
        datetime(2040, 1, 1, tzinfo=timezone.utc),
    )
    top = certificate.parse(parent.certificate)
    assert top.is_authority
    assert top.serial == b"\x00\xff"


def test_the_same_as_the_library_sees() -> None:
    made = signing.key("test")
    theirs, ours = x509.load_der_x509_certificate(made.certificate), certificate.parse(made.certificate)
    assert ours.signed == theirs.tbs_certificate_bytes
    assert ours.signature == theirs.signature
    assert ours.signature_algorithm == theirs.signature_algorithm_oid.dotted_string


def test_an_issuer_by_name_and_number() -> None:
    names = tlv(0x30, tlv(0xA1, tlv(0xA4, signing.name("up"))), tlv(0x82, b"\7"))
    one = certificate.parse(signing.key("x", names_authority=False, more=[("2.5.29.35", names)]).certificate)
    assert (one.authority_key_id, one.authority_issuer, one.authority_serial) == (None, signing.name("up"), b"\7")


def test_absurd_fields_are_read_as_far_as_they_make_sense() -> None:
    made = signing.key("x").certificate
    one = certificate.parse(
        made.replace(b"400101000000Z", b"999999999999Z").replace(b"200101000000Z", b"not a time...")
    )
    assert (one.not_before, one.not_after, one.dates_conform) == (None, None, False)


def test_the_form_of_a_date_goes_by_its_year() -> None:
    late = datetime(2050, 1, 1, tzinfo=timezone.utc)
    assert certificate.parse(signing.key("x", until=late).certificate).dates_conform
    assert certificate.parse(signing.key("x", until=late).certificate).not_after == late
    assert not certificate.parse(signing.key("x", generalized=True).certificate).dates_conform


def test_every_cut_and_every_changed_byte_ends_in_an_answer() -> None:
    data = signing.key("x", authority=True, usages=(certificate.CODE_SIGNING,)).certificate
    for end in range(len(data)):
        with pytest.raises(FormatError):
            certificate.parse(data[:end])
    for at in range(len(data)):
        for value in (0, 0x30, 0x80, 0xFF):
            try:
                certificate.parse(data[:at] + bytes([value]) + data[at + 1 :])
            except FormatError:
                continue


@pytest.mark.parametrize("data", [b"", b"junk" * 50, tlv(0x30), tlv(0x30, integer(1))])
def test_what_is_no_certificate(data: bytes) -> None:
    with pytest.raises(FormatError):
        certificate.parse(data)


def test_several_behind_one_another() -> None:
    first, second = signing.key("first"), signing.key("second")
    found = certificate.parse_all(first.certificate + second.certificate + bytes(100))
    assert [one.common_name for one in found] == ["first", "second"]
