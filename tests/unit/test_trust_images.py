"""Images of every kind against lists of every kind: the answers are those that shim and GRUB, or the firmware, gave."""

from __future__ import annotations

import hashlib
import io
import shutil
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from safeupdate.formats import authenticode, certificate, efi_signatures, shim
from safeupdate.formats.certificate import MODULE_SIGNING
from safeupdate.formats.sbat import Component
from safeupdate.trust import images
from safeupdate.trust.firmware import List
from safeupdate.trust.images import Verdict
from tests.unit import efi, signed_efi, signing
from tests.unit.signed_efi import digest, entries, key, sign
from tests.unit.signing import Key
from tests.unit.trees import real_kernels

PLAIN = signed_efi.kernel()
VENDOR = key("vendor", authority=True)
RELEASE = key("vendor's signer", "vendor")
MOK = key("own key")
DB = key("maker of the board")
MODULES = key("modules only", usages=(MODULE_SIGNING,))
STRANGER = key("stranger")
EXPIRED = signing.key("expired", until=datetime(2021, 1, 1, tzinfo=timezone.utc))
EC = signing.key("elliptic", kind="ec")
NO_AUTHORITY = signing.key("no authority")
OTHER_VENDOR = signing.key("vendor", authority=True)
_TOP = signing.key("top", authority=True)
_BETWEEN = signing.key("between", issuer=_TOP, authority=True)
CHAIN = (_TOP, _BETWEEN, signing.key("leaf", issuer=_BETWEEN))


def some(name: str, value: bytes, problem: str | None = None) -> List:
    return List(name, entries=efi_signatures.parse(value).entries, problem=problem)


NONE = List("dbx")
DENIED = [NONE, List("MokListXRT")]
ALLOWED = [some("db", entries(DB)), some("MokListRT", entries(VENDOR, MOK, MODULES))]


def shims(data: bytes, *, allowed: Sequence[List] = ALLOWED, denied: Sequence[List] = DENIED) -> Verdict:
    """What shim says of an image."""
    return images.by_shim(images.read(io.BytesIO(data), [*allowed, *denied]), allowed=allowed, denied=denied)


def firmwares(data: bytes, *, allowed: List = ALLOWED[0], denied: List = NONE) -> Verdict:
    """What the firmware says of an image."""
    return images.by_firmware(images.read(io.BytesIO(data), [allowed, denied]), allowed=allowed, denied=denied)


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


# -- shim ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signer", "by", "who"),
    [(RELEASE, "MokListRT", "vendor"), (MOK, "MokListRT", "own key"), (DB, "db", "maker of the board")],
)
def test_what_shim_accepts(signer: Key, by: str, who: str) -> None:
    assert shims(sign(PLAIN, signer)) == Verdict("accepted", by, who, signer=signer.certificate)


def test_a_key_that_has_expired_is_accepted() -> None:
    found = certificate.parse(EXPIRED.certificate)
    assert found.not_after is not None
    assert found.not_after.year == 2021
    allowed = [some("MokListRT", entries(EXPIRED))]
    assert shims(sign(PLAIN, EXPIRED), allowed=allowed).answer == "accepted"


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (PLAIN, "unsigned"),
        (flipped(sign(PLAIN, MOK), 0x300), "changed"),
        (sign(PLAIN, STRANGER), "unknown-key"),
        (sign(PLAIN, MODULES), "module-key"),
        (sign(PLAIN, MOK)[:-8], "broken"),
        (sign(PLAIN, MOK) + bytes(8), "broken"),
        (sign(PLAIN, MOK, certificates=[]), "broken"),
        (sign(PLAIN), "broken"),
        (sign(PLAIN, MOK, algorithm="sha1"), "not-taken"),
        (sign(PLAIN, MOK, algorithm="sha384"), "not-taken"),
    ],
    ids=["stripped", "changed", "unknown", "modules", "cut", "more", "no certificate", "no signer", "sha1", "sha384"],
)
def test_what_shim_refuses(data: bytes, answer: str) -> None:
    assert shims(data).answer == answer


def test_a_signature_that_was_changed() -> None:
    data = sign(PLAIN, MOK)
    # The last bytes before the padding are the signature's own.
    position = len(data.rstrip(b"\0")) - 20
    assert shims(flipped(data, position)).answer == "broken"
    # The digest in the signed attributes.
    value = authenticode.parse(io.BytesIO(data)).signatures[0].signed
    assert value is not None
    assert value.signers[0].signed_attributes is not None
    inside = data.index(value.signers[0].signed_attributes[-32:])
    assert shims(flipped(data, inside)).answer == "broken"


def test_a_signature_without_attributes() -> None:
    assert shims(sign(PLAIN, MOK, attributes=False)).answer == "accepted"


def test_a_key_that_is_denied_and_allowed() -> None:
    data = sign(PLAIN, MOK)
    for number in range(2):
        denied = list(DENIED)
        denied[number] = some(denied[number].name, entries(MOK))
        verdict = shims(data, denied=denied)
        assert (verdict.answer, verdict.by, verdict.who) == ("denied", denied[number].name, "own key")


def test_a_denied_authority_denies_what_it_has_issued() -> None:
    verdict = shims(sign(PLAIN, RELEASE), denied=[some("dbx", entries(VENDOR))])
    assert (verdict.answer, verdict.who) == ("denied", "vendor")
    assert shims(sign(PLAIN, MOK), denied=[some("dbx", entries(VENDOR))]).answer == "accepted"


@pytest.mark.parametrize("kind", ["sha256", "sha1"])
def test_a_digest_that_is_denied(kind: str) -> None:
    """Another signature does not help: the digest leaves signatures out."""
    for data in (sign(PLAIN, MOK), sign(sign(PLAIN, MOK), DB)):
        verdict = shims(data, denied=[some("MokListXRT", entries(digest(data, kind), kind=kind))])
        assert (verdict.answer, verdict.by) == ("denied", "MokListXRT")


def test_a_digest_that_is_allowed() -> None:
    for data in (PLAIN, sign(PLAIN, STRANGER)):
        allowed = [some("MokListRT", entries(digest(data), kind="sha256"))]
        assert shims(data, allowed=allowed).answer == "accepted"
        assert (
            shims(data, allowed=allowed, denied=[some("dbx", entries(digest(data), kind="sha256"))]).answer == "denied"
        )
    # Enrolled by MokManager, which hashes zeros behind what is no multiple of 8 long.
    allowed = [some("MokListRT", entries(digest(PLAIN + bytes(8)), kind="sha256"))]
    assert shims(PLAIN + b"\0", allowed=allowed).answer == "accepted"


def test_one_good_signature_of_several_is_enough() -> None:
    denied = [some("dbx", entries(MOK))]
    for first, second in ((STRANGER, DB), (DB, STRANGER), (MOK, DB), (DB, MOK)):
        assert shims(sign(sign(PLAIN, first), second), denied=denied).answer == "accepted"
    assert shims(sign(sign(PLAIN, STRANGER), MOK), denied=denied).answer == "denied"
    assert shims(sign(sign(PLAIN, STRANGER, of=bytes(32)), MODULES)).answer == "module-key"
    assert shims(sign(sign(PLAIN, DB, algorithm="sha1"), DB)).answer == "accepted"


def test_one_key_must_stand_for_all_signers_of_a_signature() -> None:
    assert shims(sign(PLAIN, MOK, STRANGER)).answer == "unknown-key"
    assert shims(sign(PLAIN, MOK, RELEASE)).answer == "unknown-key"
    assert shims(sign(PLAIN, RELEASE, VENDOR)).answer == "accepted"


def test_an_issuer_need_not_be_an_authority() -> None:
    """As shim has it: whether it says no, or nothing."""
    assert not certificate.parse(NO_AUTHORITY.certificate).is_authority
    below = signing.key("below", issuer=NO_AUTHORITY)
    assert shims(sign(PLAIN, below), allowed=[some("MokListRT", entries(NO_AUTHORITY))]).answer == "accepted"


@pytest.mark.parametrize(("certifies", "answer"), [(False, "unknown-key"), (True, "accepted")])
def test_an_issuer_whose_key_may_not_sign_certificates(certifies: bool, answer: str) -> None:
    private = NO_AUTHORITY.private
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "limited")])
    usage = x509.KeyUsage(True, False, False, False, False, certifies, False, False, False)
    start, end = (datetime(year, 1, 1, tzinfo=timezone.utc) for year in (2020, 2040))
    made = x509.CertificateBuilder(name, name, private.public_key(), 7, start, end)
    der = made.add_extension(usage, critical=True).sign(private, SHA256()).public_bytes(Encoding.DER)
    assert certificate.parse(der).may_certify is certifies
    issuer = replace(NO_AUTHORITY, certificate=der, name=certificate.parse(der).subject)
    below = signing.key("below", issuer=issuer, names_authority=False)
    assert shims(sign(PLAIN, below), allowed=[some("MokListRT", entries(der))]).answer == answer


def test_a_chain_over_a_certificate_in_the_signature() -> None:
    top, between, leaf = CHAIN
    data = sign(PLAIN, leaf, certificates=[leaf.certificate, between.certificate])
    assert shims(data, allowed=[some("db", entries(top))]).who == "top"
    assert shims(data, allowed=[some("db", entries(between))]).who == "between"
    assert shims(data, allowed=[some("db", entries(leaf))]).who == "leaf"
    alone = sign(PLAIN, leaf)
    assert shims(alone, allowed=[some("db", entries(top))]).answer == "unknown-key"
    assert shims(alone, allowed=[some("db", entries(between))]).answer == "accepted"


def test_an_authority_of_the_same_name_with_another_key() -> None:
    other = OTHER_VENDOR
    assert certificate.parse(other.certificate).subject == certificate.parse(VENDOR.certificate).subject
    assert shims(sign(PLAIN, RELEASE), allowed=[some("db", entries(other))]).answer == "unknown-key"


def test_ecdsa() -> None:
    """shim has none; firmware may have it."""
    assert shims(sign(PLAIN, EC), allowed=[some("MokListRT", entries(EC))]).answer == "not-taken"
    assert firmwares(sign(PLAIN, EC), allowed=some("db", entries(EC))).answer == "unknown"


def test_lists_that_are_not_known() -> None:
    hidden = [List("dbx", problem="it cannot be read")]
    verdict = shims(sign(PLAIN, MOK), denied=hidden)
    assert (verdict.answer, verdict.why) == ("unknown", "dbx cannot be read here")
    assert shims(sign(PLAIN, STRANGER), denied=hidden).answer == "unknown-key"
    cut = [some("MokListRT", entries(MOK), "a list is cut")]
    assert shims(sign(PLAIN, MOK), allowed=cut).answer == "accepted"
    for data in (PLAIN, sign(PLAIN, STRANGER), sign(PLAIN, MOK, of=bytes(32))):
        assert shims(data, allowed=cut).answer == "unknown"


def test_what_cannot_be_verified_here() -> None:
    data = sign(PLAIN, MOK)
    start = len(PLAIN)
    assert shims(data[: start + 9] + b"\x80" + data[start + 10 :]).answer == "unknown"


def test_keys_in_a_list_that_make_no_sense() -> None:
    allowed = [some("MokListRT", entries(b"\x30\x82nonsense") + entries(MOK) + entries(b""))]
    assert shims(sign(PLAIN, MOK), allowed=allowed).answer == "accepted"


# -- the firmware ----------------------------------------------------------------------------------------------


def test_what_the_firmware_accepts() -> None:
    for algorithm in ("sha256", "sha384", "sha512"):
        assert firmwares(sign(PLAIN, DB, algorithm=algorithm)).answer == "accepted"
    assert firmwares(sign(PLAIN, DB, algorithm="sha1")).answer == "unknown"
    assert firmwares(sign(sign(PLAIN, DB, algorithm="sha1"), DB)).answer == "accepted"
    assert firmwares(sign(sign(PLAIN, STRANGER), DB)).answer == "accepted"
    assert firmwares(PLAIN, allowed=some("db", entries(digest(PLAIN), kind="sha256"))).answer == "accepted"
    # The rule about keys for modules is shim's alone.
    assert firmwares(sign(PLAIN, MODULES), allowed=some("db", entries(MODULES))).answer == "accepted"


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (PLAIN, "unsigned"),
        (sign(PLAIN, MOK), "unknown-key"),
        (flipped(sign(PLAIN, DB), 0x300), "changed"),
        (sign(PLAIN, DB)[:-8], "broken"),
    ],
)
def test_what_the_firmware_refuses(data: bytes, answer: str) -> None:
    assert firmwares(data).answer == answer


def test_one_denied_signature_is_enough_for_the_firmware() -> None:
    denied = some("dbx", entries(STRANGER))
    for first, second in ((STRANGER, DB), (DB, STRANGER)):
        data = sign(sign(PLAIN, first), second)
        assert firmwares(data, denied=denied).answer == "denied"
        assert shims(data, denied=[denied]).answer == "accepted"


def test_a_digest_in_dbx() -> None:
    denied = some("dbx", entries(digest(PLAIN), kind="sha256"))
    assert firmwares(sign(PLAIN, DB), denied=denied).answer == "denied"


def test_a_certificates_digest_in_dbx_cannot_be_decided() -> None:
    signed = certificate.parse(DB.certificate).signed
    denied = some("dbx", entries(hashlib.sha256(signed).digest(), kind="x509-sha256"))
    assert firmwares(sign(PLAIN, DB), denied=denied).answer == "unknown"
    assert firmwares(sign(PLAIN, MOK), denied=denied).answer == "unknown-key"


def test_firmware_whose_lists_are_not_known() -> None:
    hidden = List("db", problem="not captured")
    assert firmwares(sign(PLAIN, DB), allowed=hidden).answer == "unknown"
    assert firmwares(PLAIN, allowed=hidden).answer == "unknown"
    assert firmwares(sign(PLAIN, DB), denied=List("dbx", problem="not captured")).answer == "unknown"


# -- components ------------------------------------------------------------------------------------------------


def test_the_components_of_a_program() -> None:
    found = images.read(io.BytesIO(signed_efi.grub()))
    assert found.components == (Component("sbat", 1, "1"), Component("grub", 4, "2.12"))
    assert images.read(io.BytesIO(PLAIN)).components is None
    broken = images.read(io.BytesIO(signed_efi.grub("grub,4\n")))
    assert (broken.components, "fields" in (broken.components_problem or "")) == ((), True)


# -- real images -----------------------------------------------------------------------------------------------

REAL_SHIM, REAL_GRUB = efi.real("shimx64.efi.signed"), efi.real("grubx64.efi.signed")


def debian(name: Path) -> List:
    with open(name, "rb") as file:
        section = authenticode.parse(file).section(".vendor_cert")
        assert section is not None
        vendor = shim.vendor(authenticode.read(file, section, limit=shim.SIZE_LIMIT))
    return List("shim's own keys", entries=vendor.allowed)


@pytest.mark.skipif(REAL_SHIM is None or REAL_GRUB is None or not real_kernels(), reason="no signed images are here")
def test_debians_images_by_debians_shim() -> None:
    assert REAL_SHIM is not None
    assert REAL_GRUB is not None
    keys = [debian(REAL_SHIM)]
    for path in (REAL_GRUB, *real_kernels()):
        data = path.read_bytes()
        assert shims(data, allowed=keys).who == "Debian Secure Boot CA", path
        assert shims(data).answer == "unknown-key", path
    data = real_kernels()[0].read_bytes()
    assert shims(flipped(data, len(data) // 2), allowed=keys).answer == "changed"
    value = authenticode.digest(io.BytesIO(data), authenticode.parse(io.BytesIO(data)), "sha256")
    denied = [some("dbx", entries(value, kind="sha256"))]
    assert shims(data, allowed=keys, denied=denied).answer == "denied"
    both = sign(data, MOK)
    assert shims(both).who == "own key"
    assert shims(both, allowed=keys).who == "Debian Secure Boot CA"
    assert shims(both, allowed=keys, denied=denied).answer == "denied"


@pytest.mark.skipif(REAL_SHIM is None, reason="no signed shim is here")
def test_debians_shim_by_the_firmware() -> None:
    """It is signed by Microsoft twice, and its signatures bring the authorities: no other key verifies it."""
    assert REAL_SHIM is not None
    data = REAL_SHIM.read_bytes()
    names = set()
    for signature in authenticode.parse(io.BytesIO(data)).signatures:
        assert signature.signed is not None
        for one in signature.signed.certificates:
            if certificate.parse(one).is_authority:
                verdict = firmwares(data, allowed=some("db", entries(one)))
                assert verdict.answer == "accepted"
                names.add(verdict.who)
    assert "Microsoft Corporation UEFI CA 2011" in names
    assert firmwares(data).answer == "unknown-key"


@pytest.mark.skipif(shutil.which("sbsign") is None, reason="sbsign is not here")
def test_images_that_sbsign_has_signed(tmp_path: Path) -> None:
    """By keys that openssl has made, and verified by sbverify too."""
    keys = {}
    for name in ("a", "b"):
        where, pem = tmp_path / f"{name}.key", tmp_path / f"{name}.pem"
        run("openssl", "req", "-new", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", f"/CN={name}/",
            "-keyout", str(where), "-out", str(pem))  # fmt: skip
        run("openssl", "x509", "-in", str(pem), "-outform", "DER", "-out", str(tmp_path / f"{name}.der"))
        keys[name] = (tmp_path / f"{name}.der").read_bytes()
    plain, once, twice = (tmp_path / name for name in ("plain", "once", "twice"))
    data = bytearray(signed_efi.grub())
    # What efi.pe makes has no data directories.
    struct.pack_into("<II", data, int.from_bytes(data[0x3C:0x40], "little") + 24 + 108, 16, 0)
    plain.write_bytes(data)
    for name, source, target in (("a", plain, once), ("b", once, twice)):
        run("sbsign", "--key", str(tmp_path / f"{name}.key"), "--cert", str(tmp_path / f"{name}.pem"),
            "--output", str(target), str(source))  # fmt: skip
        run("sbverify", "--cert", str(tmp_path / f"{name}.pem"), str(target))
    for name in ("a", "b"):
        allowed = [some("MokListRT", entries(keys[name]))]
        assert shims(twice.read_bytes(), allowed=allowed).who == name
        assert shims(once.read_bytes(), allowed=allowed).answer == ("accepted" if name == "a" else "unknown-key")


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=60)
