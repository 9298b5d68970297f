"""The crafted modules and kernel images, and what the firmware and shim are told of their keys.

The first set is that of which it was known what a kernel does with it. Keys are made anew each time: what a kernel
answers depends on how a case was made, and not on the numbers.
"""

from __future__ import annotations

import hashlib
import lzma
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

import machines
from machines.packages import Offline, unpacked
from safeupdate.formats import certificate, modsig
from safeupdate.formats.certificate import MODULE_SIGNING
from tests.unit import signed_efi, signing
from tests.unit.signed_efi import entries
from tests.unit.signing import Key, signature, trailer

RELEASE = "6.1.0-56-amd64"
OTHER = "6.1.0-55-amd64"
"""Another kernel of the distribution, for a digest that is denied."""

MODULE = "kernel/lib/crc7.ko"
"""Small, and needs no other."""


@dataclass(frozen=True)
class Set:
    """Modules by the name of their file and kernel images by their case, in the order in which they are shown, and the
    content of the lists of keys."""

    name: str
    modules: Mapping[str, bytes] = field(repr=False)
    images: Mapping[str, bytes] = field(repr=False)
    db: bytes = field(repr=False)
    dbx: bytes = field(repr=False)
    mok: bytes = field(repr=False)
    mokx: bytes = field(repr=False)
    waiting: bytes = field(repr=False)
    module: str = MODULE


def tree() -> Path:
    """The machine whose kernel is asked."""
    return Path(machines.root("debian12"))


@cache
def available() -> str | None:
    """Why the cases cannot be made on this host, None where they can."""
    try:
        unpacked()
    except Offline:
        return "no network, and the signed boot programs of Debian 12 are not here"
    releases = [path.name for path in (tree() / "lib/modules").iterdir()]
    return (
        None if {RELEASE, OTHER} <= set(releases) else f"this Debian 12 has the kernels {', '.join(sorted(releases))}"
    )


def program(name: str) -> bytes:
    """shim, grub or mm (MokManager) as the distribution signed it."""
    (path,) = Path(unpacked()).glob(f"x/*-signed/**/{name}x64.efi.signed")
    return path.read_bytes()


def key(
    common: str,
    *,
    bits: int = 2048,
    curve: ec.EllipticCurve | None = None,
    issuer: Key | None = None,
    authority: bool = False,
    usages: Sequence[str] = (),
    digest: hashes.HashAlgorithm | None = None,
    until: int = 2045,
    more: Sequence[Any] = (),
    like: Key | None = None,
) -> Key:
    """A key with a certificate of the form that openssl gives it; `like` is one whose private key it shares."""
    private: Any = like.private if like is not None else None
    if private is None:
        private = rsa.generate_private_key(65537, bits) if curve is None else ec.generate_private_key(curve)
    subject = x509.Name([*more, x509.NameAttribute(x509.NameOID.COMMON_NAME, common)])
    above = x509.load_der_x509_certificate(issuer.certificate) if issuer is not None else None
    signer = issuer.private if issuer is not None else private
    serial = zlib.crc32(common.encode()) + (like is not None)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(above.subject if above is not None else subject)
        .public_key(private.public_key())
        .serial_number(serial)
        .not_valid_before(datetime(2020, 1, 1))  # noqa: DTZ001 - without a zone it is taken for UTC
        .not_valid_after(datetime(until, 1, 1))  # noqa: DTZ001
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if usages:
        made = made.add_extension(x509.ExtendedKeyUsage(map(x509.ObjectIdentifier, usages)), critical=False)
    signed = made.sign(signer, digest or hashes.SHA256())
    return Key(
        private,
        signed.public_bytes(Encoding.DER),
        subject.public_bytes(),
        serial,
        x509.SubjectKeyIdentifier.from_public_key(private.public_key()).digest,
        signed.issuer.public_bytes(),
    )


def vendor_module(path: str = MODULE) -> bytes:
    """A module as the distribution signed it."""
    return (tree() / "lib/modules" / RELEASE / path).read_bytes()


def kernel(release: str = RELEASE) -> bytes:
    """The kernel image as the distribution signed it."""
    return (tree() / "boot" / f"vmlinuz-{release}").read_bytes()


def without_signature(module: bytes) -> bytes:
    """What sign-file was given."""
    where = modsig.parse(module, len(module))
    assert where is not None
    return module[: where.covered]


def flipped(data: bytes, at: int) -> bytes:
    """The same with one bit changed."""
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def unsigned_image(image: bytes) -> bytes:
    """The image without its table of signatures."""
    at = int.from_bytes(image[0x3C:0x40], "little") + 24 + 112 + 4 * 8
    start, _ = struct.unpack_from("<II", image, at)
    return image[:at] + bytes(8) + image[at + 8 : start]


@cache
def known() -> Set:
    """The first set."""
    mok = key("DKMS module signing key", authority=True)
    keys = {
        "mok": mok,
        "in-db": key("in the firmware's db"),
        "expired": key("expired", until=2021),
        "curve": key("elliptic", curve=ec.SECP384R1()),
        "in-dbx": key("certificate in dbx"),
        "in-mokx": key("digest of the certificate in MokListX"),
        "for-modules": key("for modules only", usages=[MODULE_SIGNING]),
        "waiting": key("waits for a person"),
        "stranger": key("stranger"),
        "leaf": key("leaf", issuer=mok),
        "odd-dates": signing.key("dates in the form of later years", generalized=True),
        "odd-leaf": signing.key("leaf with such dates", issuer=mok, generalized=True),
    }
    modules = _modules(keys)
    enrolled = ("mok", "expired", "curve", "in-dbx", "in-mokx", "for-modules", "odd-dates")
    plain = unsigned_image(kernel())
    changed = flipped(plain, 0x50)
    images = {
        "debian": kernel(),
        "mok": signed_efi.sign(plain, mok),
        "expired-mok": signed_efi.sign(plain, keys["expired"]),
        "db-key": signed_efi.sign(plain, keys["in-db"]),
        "stranger-and-mok": signed_efi.sign(signed_efi.sign(plain, keys["stranger"]), mok),
        "flipped": flipped(kernel(), len(plain) - 5000),
        "cut": kernel()[: len(plain) // 2],
        "stripped": plain,
        "stranger": signed_efi.sign(plain, keys["stranger"]),
        "key-for-modules": signed_efi.sign(plain, keys["for-modules"]),
        "waiting-key": signed_efi.sign(plain, keys["waiting"]),
        "mok-in-dbx": signed_efi.sign(plain, keys["in-dbx"]),
        "digest-in-dbx": kernel(OTHER),
        "digest-in-mokx": signed_efi.sign(changed, mok),
    }
    whole = hashlib.sha256(modules["digest-in-dbx.ko"]).digest()
    code = hashlib.sha256(_variant(2)).digest()
    of_key = hashlib.sha256(certificate.parse(keys["in-mokx"].certificate).signed).digest()
    return Set(
        "known",
        modules,
        images,
        db=entries(keys["in-db"]),
        dbx=entries(keys["in-dbx"]) + entries(whole, code, signed_efi.digest(kernel(OTHER)), kind="sha256"),
        mok=entries(*(keys[name] for name in enrolled)),
        mokx=entries(signed_efi.digest(changed), kind="sha256") + entries(of_key, kind="x509-sha256"),
        waiting=entries(keys["waiting"]),
    )


def _variant(number: int) -> bytes:
    """The module with bytes behind it that change nothing but its digest."""
    return without_signature(vendor_module()) + bytes(number)


def _modules(keys: Mapping[str, Key]) -> dict[str, bytes]:
    mok, leaf, odd_leaf = keys["mok"], keys["leaf"], keys["odd-leaf"]
    vendor = vendor_module()
    code = without_signature(vendor)
    pkcs7 = vendor[len(code) : -modsig.TRAILER]
    ours = signature(code, mok)

    signed = partial(signing.module, code)
    return {
        "vendor.ko": vendor,
        "vendor.ko.xz": lzma.compress(vendor, check=lzma.CHECK_CRC32),
        "stripped.ko": code,
        "last-byte-cut.ko": vendor[:-1],
        "kind-1.ko": code + pkcs7 + trailer(len(pkcs7), kind=1),
        "cut-in-half.ko": vendor[: len(vendor) // 2],
        "empty.ko": b"",
        "code-flipped.ko": flipped(vendor, 0x60),
        "code-flipped.ko.xz": lzma.compress(flipped(vendor, 0x60), check=lzma.CHECK_CRC32),
        "xz-cut.ko.xz": lzma.compress(vendor, check=lzma.CHECK_CRC32)[:-600],
        "signature-flipped.ko": code + flipped(pkcs7, len(pkcs7) - 20) + trailer(len(pkcs7)),
        "length-too-big.ko": code + pkcs7 + trailer(len(vendor) * 2),
        "field-set.ko": code + pkcs7 + trailer(len(pkcs7), fields=b"\0\4"),
        "garbage.ko": code + b"\x5a" * len(pkcs7) + trailer(len(pkcs7)),
        "signed-attributes.ko": signed(mok, attributes=True),
        "mok.ko": signed(mok),
        "mok-by-key-id.ko": signed(mok, by_key_id=True),
        "mok-code-flipped.ko": flipped(signed(mok), 0x60),
        "mok-expired.ko": signed(keys["expired"]),
        "mok-for-modules.ko": signed(keys["for-modules"]),
        "mok-elliptic.ko": signed(keys["curve"]),
        "mok-odd-dates.ko": signed(keys["odd-dates"]),
        "mok-sha1.ko": signed(mok, digest="sha1"),
        "mok-md5.ko": signed(mok, digest="md5"),
        "mok-sha3.ko": signed(mok, digest="sha3_256"),
        "mok-sha512.ko": signed(mok, digest="sha512"),
        "leaf-with-certificate.ko": signed(leaf, certificates=[leaf.certificate]),
        "odd-dates-with-certificate.ko": signed(odd_leaf, certificates=[odd_leaf.certificate]),
        "leaf.ko": signed(leaf),
        "vendor-and-mok.ko": signing.module(vendor, mok),
        "bytes-behind-der.ko": code + ours + bytes(5) + trailer(len(ours) + 5),
        "stranger.ko": signed(keys["stranger"]),
        "stranger-code-flipped.ko": flipped(signed(keys["stranger"]), 0x60),
        "db-key.ko": signed(keys["in-db"]),
        "mok-in-dbx.ko": signed(keys["in-dbx"]),
        "mok-digest-in-mokx.ko": signed(keys["in-mokx"]),
        "waiting-key.ko": signed(keys["waiting"]),
        "digest-in-dbx.ko": signing.module(_variant(1), mok),
        "digest-of-code-in-dbx.ko": signing.module(_variant(2), mok),
    }
