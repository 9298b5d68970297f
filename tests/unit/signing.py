"""Keys, certificates, signatures and modules of any shape, made in the test: sound ones as sign-file(1) makes them."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from safeupdate.formats import cms, modsig

_HASHES: dict[str, Any] = {
    "md5": hashes.MD5,
    "sha1": hashes.SHA1,
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
    "sha3_256": hashes.SHA3_256,
}
_DIGESTS = {name: oid for oid, name in cms.DIGESTS.items()}
_ECDSA = {"sha256": "1.2.840.10045.4.3.2", "sha384": "1.2.840.10045.4.3.3", "sha512": "1.2.840.10045.4.3.4"}


def tlv(tag: int, *parts: bytes) -> bytes:
    """One DER value."""
    content = b"".join(parts)
    if len(content) < 0x80:
        return bytes([tag, len(content)]) + content
    octets = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + content


def oid(text: str) -> bytes:
    """An object identifier."""
    first, second, *rest = map(int, text.split("."))
    content = bytearray()
    for arc in (40 * first + second, *rest):
        octets = [arc & 0x7F]
        while arc := arc >> 7:
            octets.append(arc & 0x7F | 0x80)
        content += bytes(reversed(octets))
    return tlv(0x06, bytes(content))


def integer(number: int) -> bytes:
    """A number."""
    return tlv(0x02, number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True))


def name(common: str) -> bytes:
    """A distinguished name that consists of a common name."""
    return tlv(0x30, tlv(0x31, tlv(0x30, oid("2.5.4.3"), tlv(0x0C, common.encode()))))


@dataclass(frozen=True)
class Key:
    """A private key with its certificate."""

    private: Any
    certificate: bytes
    name: bytes
    serial: int
    key_id: bytes
    issuer: bytes

    def sign(self, digest: str, value: bytes) -> bytes:
        """The raw signature of a digest."""
        algorithm = utils.Prehashed(_HASHES[digest]())
        if isinstance(self.private, ec.EllipticCurvePrivateKey):
            return self.private.sign(value, ec.ECDSA(algorithm))
        signature: bytes = self.private.sign(value, padding.PKCS1v15(), algorithm)
        return signature


def _time(when: datetime, *, generalized: bool) -> bytes:
    """A date as RFC 5280 has it (chapter 4.1.2.5), or in the longer form whatever the year is."""
    if generalized or when.year >= 2050:
        return tlv(0x18, when.strftime("%Y%m%d%H%M%SZ").encode())
    return tlv(0x17, when.strftime("%y%m%d%H%M%SZ").encode())


def key(
    common: str = "test key",
    *,
    kind: str = "rsa",
    serial: int | None = None,
    issuer: Key | None = None,
    authority: bool = False,
    names_authority: bool = True,
    usages: Sequence[str] = (),
    more: Sequence[tuple[str, bytes]] = (),
    until: datetime = datetime(2040, 1, 1, tzinfo=timezone.utc),
    generalized: bool = False,
) -> Key:
    """A key; its certificate is signed by itself, or by `issuer`. Without a serial number it has one by its name."""
    serial = zlib.crc32(common.encode()) if serial is None else serial
    private: Any = rsa.generate_private_key(65537, 2048) if kind == "rsa" else ec.generate_private_key(ec.SECP384R1())
    public = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    key_id = hashlib.sha1(public).digest()
    signer = issuer or Key(private, b"", name(common), serial, key_id, name(common))
    by_ec = isinstance(signer.private, ec.EllipticCurvePrivateKey)
    algorithm = tlv(0x30, oid("1.2.840.10045.4.3.2")) if by_ec else tlv(0x30, oid("1.2.840.113549.1.1.11"), b"\5\0")
    extensions = [(oid("2.5.29.14"), tlv(0x04, key_id))]
    if names_authority:
        extensions.append((oid("2.5.29.35"), tlv(0x30, tlv(0x80, signer.key_id))))
    if authority:
        extensions.append((oid("2.5.29.19"), tlv(0x30, tlv(0x01, b"\xff"))))
    if usages:
        extensions.append((oid("2.5.29.37"), tlv(0x30, *map(oid, usages))))
    extensions += [(oid(kind_), value) for kind_, value in more]
    times = [_time(when, generalized=generalized) for when in (datetime(2020, 1, 1, tzinfo=timezone.utc), until)]
    signed = tlv(
        0x30,
        tlv(0xA0, integer(2)),
        integer(serial),
        algorithm,
        signer.name,
        tlv(0x30, *times),
        name(common),
        public,
        tlv(0xA3, tlv(0x30, *(tlv(0x30, kind_, tlv(0x04, value)) for kind_, value in extensions))),
    )
    signature = signer.sign("sha256", hashlib.sha256(signed).digest())
    return Key(
        private, tlv(0x30, signed, algorithm, tlv(0x03, b"\0", signature)), name(common), serial, key_id, signer.name
    )


def signature(
    content: bytes,
    *keys: Key,
    digest: str = "sha256",
    by_key_id: bool = False,
    certificates: Sequence[bytes] = (),
    attributes: bool = False,
    content_type: str = cms.DATA,
    embedded: bytes | None = None,
    algorithm: str | None = None,
    unsigned: bytes = b"",
) -> bytes:
    """The PKCS#7 signature of `content` by each of the keys, as sign-file makes it."""
    infos = []
    value = hashlib.new(digest, content).digest()
    digest_algorithm = tlv(0x30, oid(_DIGESTS[digest]), b"\5\0")
    for one in keys:
        ours = value
        signed_attributes = b""
        if attributes:
            pairs = ((cms.CONTENT_TYPE, oid(content_type)), (cms.MESSAGE_DIGEST, tlv(0x04, value)))
            signed_attributes = b"".join(tlv(0x30, oid(kind), tlv(0x31, what)) for kind, what in pairs)
            ours = hashlib.new(digest, tlv(0x31, signed_attributes)).digest()
        by_ec = isinstance(one.private, ec.EllipticCurvePrivateKey)
        infos.append(
            tlv(
                0x30,
                integer(3 if by_key_id else 1),
                tlv(0x80, one.key_id) if by_key_id else tlv(0x30, one.issuer, integer(one.serial)),
                digest_algorithm,
                tlv(0xA0, signed_attributes) if attributes else b"",
                tlv(0x30, oid(algorithm or (_ECDSA[digest] if by_ec else cms.RSA)), b"" if by_ec else b"\5\0"),
                tlv(0x04, one.sign(digest, ours)),
                tlv(0xA1, unsigned) if unsigned else b"",
            )
        )
    signed = tlv(
        0x30,
        integer(3 if by_key_id else 1),
        tlv(0x31, digest_algorithm),
        tlv(0x30, oid(content_type), b"" if embedded is None else tlv(0xA0, embedded)),
        tlv(0xA0, *certificates) if certificates else b"",
        tlv(0x31, *infos),
    )
    return tlv(0x30, oid(cms.SIGNED_DATA), tlv(0xA0, signed))


def trailer(length: int, *, kind: int = 2, fields: bytes = b"\0\0") -> bytes:
    """What stands behind the signature of a module."""
    return struct.pack(">2sBBB3xI", fields, kind, 0, 0, length) + modsig.MARK


def module(content: bytes, *keys: Key, **how: Any) -> bytes:
    """`content` with its signature behind it."""
    pkcs7 = signature(content, *keys, **how)
    return content + pkcs7 + trailer(len(pkcs7))
