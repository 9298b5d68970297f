"""CMS SignedData (RFC 5652, PKCS#7 before it) as kernel modules and Authenticode use it.

What the structure may look like is the kernel's crypto/asymmetric_keys/pkcs7.asn1, which is a little wider than the
RFC. What is read here is not verified: `trust/` does that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from safeupdate.errors import FormatError
from safeupdate.formats.der import CONTEXT, CONTEXT_PARTS, INTEGER, OCTET_STRING, SEQUENCE, SET, Reader

SIGNED_DATA = "1.2.840.113549.1.7.2"
DATA = "1.2.840.113549.1.7.1"
AUTHENTICODE = "1.3.6.1.4.1.311.2.1.4"
"""SpcIndirectDataContent (Windows Authenticode Portable Executable Signature Format)."""
CONTENT_TYPE = "1.2.840.113549.1.9.3"
MESSAGE_DIGEST = "1.2.840.113549.1.9.4"
"""Signed attributes (RFC 5652, chapters 11.1 and 11.2)."""

DIGESTS = {
    "1.2.840.113549.2.4": "md4",
    "1.2.840.113549.2.5": "md5",
    "1.3.14.3.2.26": "sha1",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
    "2.16.840.1.101.3.4.2.4": "sha224",
    "2.16.840.1.101.3.4.2.8": "sha3_256",
    "2.16.840.1.101.3.4.2.9": "sha3_384",
    "2.16.840.1.101.3.4.2.10": "sha3_512",
    "1.2.156.10197.1.401": "sm3",
    "1.2.643.7.1.1.2.2": "streebog256",
    "1.2.643.7.1.1.2.3": "streebog512",
}
"""Digests by object identifier; the names are hashlib's where it knows them."""

KEY_TYPES = {
    "1.2.840.113549.1.1.1": "rsa",
    "1.2.840.113549.1.1.4": "rsa",
    "1.2.840.113549.1.1.5": "rsa",
    "1.2.840.113549.1.1.11": "rsa",
    "1.2.840.113549.1.1.12": "rsa",
    "1.2.840.113549.1.1.13": "rsa",
    "1.2.840.113549.1.1.14": "rsa",
    "1.2.840.113549.1.1.10": "rsa-pss",
    "1.2.840.10045.4.1": "ecdsa",
    "1.2.840.10045.4.3.1": "ecdsa",
    "1.2.840.10045.4.3.2": "ecdsa",
    "1.2.840.10045.4.3.3": "ecdsa",
    "1.2.840.10045.4.3.4": "ecdsa",
    "2.16.840.1.101.3.4.3.10": "ecdsa",
    "2.16.840.1.101.3.4.3.11": "ecdsa",
    "2.16.840.1.101.3.4.3.12": "ecdsa",
    "1.2.643.7.1.1.1.1": "ecrdsa",
    "1.2.643.7.1.1.1.2": "ecrdsa",
    "2.16.840.1.101.3.4.3.17": "ml-dsa",
    "2.16.840.1.101.3.4.3.18": "ml-dsa",
    "2.16.840.1.101.3.4.3.19": "ml-dsa",
}
"""Kinds of keys by the object identifier of the signature algorithm."""

RSA = "1.2.840.113549.1.1.1"
"""rsaEncryption, the one identifier that the kernel takes for RSA (crypto/asymmetric_keys/pkcs7_parser.c)."""

_SIGNERS_LIMIT = 32
_CERTIFICATES_LIMIT = 64
"""A module has one signer and no certificate; Windows' signatures have two signers and up to ten certificates."""


@dataclass(frozen=True)
class Signer:
    """One SignerInfo. It names its key by issuer and serial number, or by key identifier.

    `issuer` is the Name as it stands in the data (DER), `serial` the content octets of the number. `digest` and
    `algorithm` are object identifiers. `signed_attributes` is what the signature covers where it does not cover the
    content itself: the attributes with the tag of a SET, as RFC 5652 chapter 5.4 has them hashed.
    """

    version: int
    issuer: bytes | None
    serial: bytes | None
    key_id: bytes | None
    digest: str
    algorithm: str
    signed_attributes: bytes | None
    signature: bytes

    @property
    def digest_name(self) -> str | None:
        """The digest as hashlib names it; None for one that is not known here."""
        return DIGESTS.get(self.digest)

    @property
    def key_type(self) -> str | None:
        """`rsa`, `ecdsa`, `ml-dsa`, ...; None for one that is not known here."""
        return KEY_TYPES.get(self.algorithm)

    def attribute(self, oid: str) -> bytes | None:
        """The first value of a signed attribute, with tag and length; None without it. Raises `FormatError`."""
        if self.signed_attributes is None:
            return None
        attributes = Reader(self.signed_attributes).into("the signed attributes", SET)
        while attributes.tag is not None:
            attribute = attributes.into("a signed attribute")
            if attribute.oid("the type of a signed attribute") == oid:
                values = attribute.into("the values of a signed attribute", SET)
                return values.whole(values.take("the value of a signed attribute"))
        return None


@dataclass(frozen=True)
class SignedData:
    """A signature. `content` is what it carries of the signed content (DER), None where that lies elsewhere.

    `certificates` are DER, as they stand in the data. `end` is the offset behind the structure; what follows it
    (padding in Authenticode, nothing in a module) is not read.
    """

    version: int
    content_type: str
    content: bytes | None
    certificates: tuple[bytes, ...]
    signers: tuple[Signer, ...]
    end: int


_alike: dict[int, tuple[bytes, SignedData]] = {}
"""By their length, signatures that end with the octets of their only signer's signature, beside all that stands before
these. The thousands of modules of one kernel differ in those octets alone."""

_ALIKE_LIMIT = 16
_ALIKE_LENGTH = 8 << 10
"""How many such are kept, and their largest length: those of an RSA key have one length, of an EC key three to five."""


@lru_cache(maxsize=8)  # of a module's signature its digest is asked first, and then all else
def parse(data: bytes) -> SignedData:
    """Read a ContentInfo that holds SignedData. Raises `FormatError`, `NotDistinguished` for BER that is not DER."""
    head, known = _alike.get(len(data), (b"", None))
    if known is not None and data.startswith(head):
        return replace(known, signers=(replace(known.signers[0], signature=data[len(head) :]),))
    signed, last = _parse(data)
    if len(signed.signers) == 1 and last == len(data) <= _ALIKE_LENGTH:
        if len(_alike) >= _ALIKE_LIMIT:
            _alike.clear()
        _alike[len(data)] = data[: last - len(signed.signers[0].signature)], signed
    return signed


def _parse(data: bytes) -> tuple[SignedData, int]:
    """What the data says, and the offset behind the last signer's signature."""
    outer = Reader(data)
    value = outer.take("the signature", SEQUENCE)
    info = Reader(data, value.body, value.end)
    if info.oid("the type of the signature") != SIGNED_DATA:
        raise FormatError("it is no SignedData", f"offset {value.body}")
    signed = info.into("the content of the signature", CONTEXT_PARTS).into("SignedData")
    info.finish("the signature")
    version = signed.integer("the version")
    signed.take("the digest algorithms", SET, SEQUENCE)
    content_type, content = _content(signed.into("the signed content"))
    certificates: list[bytes] = []
    if signed.tag in (CONTEXT_PARTS, CONTEXT_PARTS | 2):
        several = signed.into("the certificates", CONTEXT_PARTS, CONTEXT_PARTS | 2)
        while several.tag is not None:
            if len(certificates) == _CERTIFICATES_LIMIT:
                raise FormatError(f"it holds more than {_CERTIFICATES_LIMIT} certificates", f"offset {several.at}")
            certificates.append(several.whole(several.take("a certificate")))
    signed.skip(CONTEXT_PARTS | 1, CONTEXT_PARTS | 3)
    signers: list[Signer] = []
    last = 0
    infos = signed.into("the signers", SET, SEQUENCE)
    while infos.tag is not None:
        if len(signers) == _SIGNERS_LIMIT:
            raise FormatError(f"it has more than {_SIGNERS_LIMIT} signers", f"offset {infos.at}")
        signer, last = _signer(infos.into("a signer"))
        signers.append(signer)
    signed.finish("SignedData")
    return SignedData(version, content_type, content, tuple(certificates), tuple(signers), value.end), last


def _content(info: Reader) -> tuple[str, bytes | None]:
    kind = info.oid("the type of the signed content")
    if info.tag is None:
        return kind, None
    inside = info.into("the signed content", CONTEXT_PARTS)
    return kind, inside.whole(inside.take("the signed content"))


def _signer(info: Reader) -> tuple[Signer, int]:
    version = info.integer("the version of a signer")
    issuer = serial = key_id = None
    if info.tag == SEQUENCE:
        name = info.into("issuer and serial number")
        issuer = name.whole(name.take("the issuer", SEQUENCE))
        serial = name.content(name.take("the serial number", INTEGER))
    else:
        key_id = info.content(info.take("the key identifier", CONTEXT))
    digest = info.into("the digest algorithm").oid("the digest algorithm")
    attributes = None
    if info.tag == CONTEXT_PARTS:
        value = info.take("the signed attributes")
        attributes = bytes([SET]) + info.data[value.start + 1 : value.end]
    elif info.tag == CONTEXT_PARTS | 2:
        inside = info.into("the signed attributes", CONTEXT_PARTS | 2)
        attributes = inside.whole(inside.take("the signed attributes", SEQUENCE))
    algorithm = info.into("the signature algorithm").oid("the signature algorithm")
    signature = info.take("the signature of a signer", OCTET_STRING)
    info.skip(CONTEXT_PARTS | 1, CONTEXT_PARTS | 3)
    info.finish("a signer")
    signer = Signer(version, issuer, serial, key_id, digest, algorithm, attributes, info.content(signature))
    return signer, signature.end


def octets(value: bytes) -> bytes:
    """The content of an OCTET STRING, such as the value of the attribute `MESSAGE_DIGEST`. Raises `FormatError`."""
    reader = Reader(value)
    return reader.content(reader.take("an octet string", OCTET_STRING))
