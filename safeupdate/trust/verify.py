"""One signature, one key. The mathematics is `cryptography`'s, in calls that its versions 36 to 50 answer alike.

RSA signatures are opened with the key and compared with what should be in them (RFC 8017, section 8.2.2), as the kernel
does. That way a policy of the system's OpenSSL against SHA-1 or MD5, which the kernel does not know, has no say.
"""

from __future__ import annotations

import hashlib
import hmac
from functools import lru_cache
from typing import Any

from safeupdate.formats import cms
from safeupdate.formats.certificate import Certificate

_SIGNATURES = {
    "1.2.840.113549.1.1.4": "md5",
    "1.2.840.113549.1.1.5": "sha1",
    "1.2.840.113549.1.1.11": "sha256",
    "1.2.840.113549.1.1.12": "sha384",
    "1.2.840.113549.1.1.13": "sha512",
    "1.2.840.113549.1.1.14": "sha224",
    "1.2.840.10045.4.1": "sha1",
    "1.2.840.10045.4.3.1": "sha224",
    "1.2.840.10045.4.3.2": "sha256",
    "1.2.840.10045.4.3.3": "sha384",
    "1.2.840.10045.4.3.4": "sha512",
}
"""Signature algorithms of certificates to their digests (RFC 8017, appendix A.2.4; RFC 5758)."""

_DIGEST_INFO = {
    name: bytes.fromhex(head)
    for name, head in {
        "md5": "3020300c06082a864886f70d020505000410",
        "sha1": "3021300906052b0e03021a05000414",
        "sha224": "302d300d06096086480165030402040500041c",
        "sha256": "3031300d060960864801650304020105000420",
        "sha384": "3041300d060960864801650304020205000430",
        "sha512": "3051300d060960864801650304020305000440",
        "sha3_256": "3031300d060960864801650304020805000420",
        "sha3_384": "3041300d060960864801650304020905000430",
        "sha3_512": "3051300d060960864801650304020a05000440",
    }.items()
}
"""What stands before the digest inside an RSA signature (RFC 8017, section 9.2, note 1)."""

_CURVE_DIGESTS = {
    "sha1": "SHA1",
    "sha224": "SHA224",
    "sha256": "SHA256",
    "sha384": "SHA384",
    "sha512": "SHA512",
    "sha3_256": "SHA3_256",
    "sha3_384": "SHA3_384",
    "sha3_512": "SHA3_512",
}


def digester(name: str) -> Any:
    """A fresh hashlib object; None for a digest that this machine does not have (MD5 where FIPS 140 is in force)."""
    try:
        return hashlib.new(name, usedforsecurity=False)
    except ValueError:
        return None


def key_type(key: bytes) -> str | None:
    """`rsa` or `ecdsa` of a SubjectPublicKeyInfo; None for any other, or a broken one."""
    public = _public(key)
    if public is None:
        return None
    return "rsa" if hasattr(public, "recover_data_from_signature") else "ecdsa"


def verifies(key: bytes, digest_name: str, digest: bytes, signature: bytes) -> bool | None:
    """Whether the key made the signature of this digest. None where this program cannot tell: a key or an algorithm
    that it does not know."""
    public = _public(key)
    if public is None:
        return None
    if hasattr(public, "recover_data_from_signature"):
        return _verifies_rsa(public, digest_name, digest, signature)
    return _verifies_ecdsa(public, digest_name, digest, signature)


def by_key(key: Certificate, signer: cms.Signer, digest: bytes) -> bool | None:
    """Whether the certificate's key signed this digest of what the signer signed; None: cannot tell."""
    if signer.digest_name is None or signer.key_type not in ("rsa", "ecdsa"):
        return None
    if key_type(key.key) not in (None, signer.key_type):
        return False
    return verifies(key.key, signer.digest_name, digest, signer.signature)


def issued(issuer: Certificate, subject: Certificate) -> bool | None:
    """Whether the issuer's key signed the certificate; None: cannot tell."""
    name = _SIGNATURES.get(subject.signature_algorithm)
    digest = digester(name) if name is not None else None
    if name is None or digest is None:
        return None
    digest.update(subject.signed)
    return verifies(issuer.key, name, digest.digest(), subject.signature)


@lru_cache(maxsize=64)
def _public(key: bytes) -> Any:
    from cryptography.exceptions import InternalError, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    try:
        public = load_der_public_key(key)
    except (ValueError, TypeError, OverflowError, UnsupportedAlgorithm, InternalError):
        return None
    return public if isinstance(public, (rsa.RSAPublicKey, ec.EllipticCurvePublicKey)) else None


def _verifies_rsa(public: Any, digest_name: str, digest: bytes, signature: bytes) -> bool | None:
    from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

    head = _DIGEST_INFO.get(digest_name)
    if head is None:
        return None
    try:
        inside = public.recover_data_from_signature(signature, PKCS1v15(), None)
    except (InvalidSignature, ValueError):
        return False
    except (UnsupportedAlgorithm, InternalError):
        return None
    return hmac.compare_digest(inside, head + digest)


def _verifies_ecdsa(public: Any, digest_name: str, digest: bytes, signature: bytes) -> bool | None:
    from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, utils

    name = _CURVE_DIGESTS.get(digest_name)
    if name is None:
        return None
    try:
        public.verify(signature, digest, ec.ECDSA(utils.Prehashed(getattr(hashes, name)())))
    except InvalidSignature:
        return False
    except (ValueError, UnsupportedAlgorithm, InternalError):
        return None
    return True
