from __future__ import annotations

import hashlib
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from safeupdate.errors import FormatError
from safeupdate.formats import cms
from safeupdate.formats.der import NotDistinguished
from tests.unit import signing
from tests.unit.signing import integer, oid, tlv

KEY = signing.key("signer", serial=0x1234567890)
CONTENT = b"what is signed" * 100


def test_as_sign_file_makes_it() -> None:
    data = signing.signature(CONTENT, KEY)
    signed = cms.parse(data)
    assert (signed.version, signed.content_type, signed.content) == (1, cms.DATA, None)
    assert signed.certificates == ()
    assert signed.end == len(data)
    (signer,) = signed.signers
    assert signer.issuer == signing.name("signer")
    assert signer.serial == b"\x12\x34\x56\x78\x90"
    assert signer.key_id is None
    assert (signer.digest_name, signer.key_type, signer.algorithm) == ("sha256", "rsa", cms.RSA)
    assert signer.signed_attributes is None
    assert signer.attribute(cms.MESSAGE_DIGEST) is None
    assert len(signer.signature) == 256


def test_by_key_identifier_with_attributes_and_certificates() -> None:
    other = signing.key("other", kind="ec")
    data = signing.signature(
        CONTENT, KEY, other, by_key_id=True, digest="sha512", attributes=True, certificates=[KEY.certificate]
    )
    signed = cms.parse(data + b"padding")
    assert signed.end == len(data)
    assert signed.certificates == (KEY.certificate,)
    first, second = signed.signers
    assert (first.issuer, first.serial, first.key_id) == (None, None, KEY.key_id)
    assert (first.version, first.digest_name, second.key_type) == (3, "sha512", "ecdsa")
    digest = first.attribute(cms.MESSAGE_DIGEST)
    assert digest is not None
    assert cms.octets(digest) == hashlib.sha512(CONTENT).digest()
    assert first.attribute(cms.CONTENT_TYPE) == oid(cms.DATA)
    assert first.attribute("1.2.3") is None


def test_signatures_of_one_key_differ_in_their_octets_alone() -> None:
    first, second = (signing.signature(content, KEY) for content in (CONTENT, b"other"))
    one, other = cms.parse(first), cms.parse(second)
    assert (one.signers[0].signature, other.signers[0].signature) == (first[-256:], second[-256:])
    assert replace(other, signers=one.signers) == one
    with pytest.raises(FormatError):
        cms.parse(b"\x31" + second[1:])


def test_octets_behind_a_signature_are_no_part_of_it() -> None:
    """Not even where they look like one."""
    attributes = [tlv(0x30, oid("1.2.3"), tlv(0x04, bytes([octet]) * 256)) for octet in (1, 2)]
    one, other = (cms.parse(signing.signature(CONTENT, KEY, unsigned=attribute)) for attribute in attributes)
    assert one == other
    assert one.signers[0].signature == cms.parse(signing.signature(CONTENT, KEY)).signers[0].signature


def test_content_that_lies_within() -> None:
    inside = tlv(0x30, integer(5))
    signed = cms.parse(signing.signature(CONTENT, KEY, content_type=cms.AUTHENTICODE, embedded=inside))
    assert (signed.content_type, signed.content) == (cms.AUTHENTICODE, inside)


def test_openssl_makes_the_same(tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    (tmp_path / "content").write_bytes(CONTENT)
    subject = [
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        "key",
        "-out",
        "certificate",
        "-subj",
        "/O=org/CN=by openssl",
    ]
    options = ["-in", "content", "-binary", "-signer", "certificate", "-inkey", "key", "-outform", "DER", "-out", "out"]
    subprocess.run([openssl, "req", "-x509", *subject], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    subprocess.run([openssl, "cms", "-sign", *options], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    signed = cms.parse((tmp_path / "out").read_bytes())
    assert len(signed.certificates) == 1
    digest = signed.signers[0].attribute(cms.MESSAGE_DIGEST)
    assert digest is not None
    assert cms.octets(digest) == hashlib.sha256(CONTENT).digest()
    options += ["-stream"]
    subprocess.run([openssl, "cms", "-sign", *options], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    with pytest.raises(NotDistinguished):
        cms.parse((tmp_path / "out").read_bytes())


def test_every_cut_and_every_changed_byte_ends_in_an_answer() -> None:
    data = signing.signature(CONTENT, KEY, certificates=[KEY.certificate], attributes=True)
    for end in range(len(data)):
        with pytest.raises(FormatError):
            cms.parse(data[:end])
    for at in range(len(data)):
        for value in (0, 0x30, 0x80, 0xFF):
            try:
                signed = cms.parse(data[:at] + bytes([value]) + data[at + 1 :])
                for signer in signed.signers:
                    signer.attribute(cms.MESSAGE_DIGEST)
            except FormatError:
                continue


@pytest.mark.parametrize("data", [b"", b"junk" * 50, bytes(100), tlv(0x30, oid(cms.DATA)), tlv(0x30, integer(1))])
def test_what_is_no_signature(data: bytes) -> None:
    with pytest.raises(FormatError):
        cms.parse(data)


def test_more_than_anybody_signs_is_refused() -> None:
    with pytest.raises(FormatError, match="signers"):
        cms.parse(signing.signature(CONTENT, *[KEY] * 33))
    with pytest.raises(FormatError, match="certificates"):
        cms.parse(signing.signature(CONTENT, KEY, certificates=[KEY.certificate] * 65))
