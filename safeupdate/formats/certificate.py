"""X.509 certificates as far as keys are found and shown by them (RFC 5280).

Kernel and shim look a key up by octets of its certificate, so that they are kept as they stand. Nothing is verified.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone

from safeupdate.errors import FormatError
from safeupdate.formats.der import (
    BIT_STRING,
    BOOLEAN,
    CONTEXT,
    CONTEXT_PARTS,
    GENERALIZED_TIME,
    INTEGER,
    OCTET_STRING,
    SEQUENCE,
    SET,
    UTC_TIME,
    Reader,
    Value,
)

MODULE_SIGNING = "1.3.6.1.4.1.2312.16.1.2"
"""Extended key usage of a key for kernel modules only; shim takes it for no image."""
CODE_SIGNING = "1.3.6.1.5.5.7.3.3"

_COMMON_NAME = "2.5.4.3"
_KEY_ID, _AUTHORITY, _CONSTRAINTS, _USAGE = "2.5.29.14", "2.5.29.35", "2.5.29.19", "2.5.29.37"
_STRINGS = {0x0C: "utf-8", 0x13: "ascii", 0x14: "latin-1", 0x16: "ascii", 0x1E: "utf-16-be", 0x1C: "utf-32-be"}
_KEY_USAGE = "2.5.29.15"
_ORGANISATION = "2.5.4.10"


@dataclass(frozen=True)
class Certificate:
    """One certificate. `der` is all of it, `signed` the part that its issuer signed, `key` the SubjectPublicKeyInfo.

    Names are DER, numbers content octets. `not_before` and `not_after` are None where they make no sense. `common_name`
    and `issuer_name` are for people: the common name, else the organisation, else nothing. `authority_key_id`, or
    `authority_issuer` with `authority_serial`, name the issuer's key (RFC 5280, chapter 4.2.1.1). `is_authority` is
    None where the certificate does not say it (chapter 4.2.1.9). `dates_conform`: the dates have the form that chapter
    4.1.2.5 demands; the kernel reads no other certificate.
    """

    der: bytes = field(repr=False)
    signed: bytes = field(repr=False)
    serial: bytes
    issuer: bytes = field(repr=False)
    subject: bytes = field(repr=False)
    key: bytes = field(repr=False)
    signature_algorithm: str
    signature: bytes = field(repr=False)
    common_name: str
    issuer_name: str
    not_before: datetime | None
    not_after: datetime | None
    key_id: bytes | None = None
    authority_key_id: bytes | None = None
    authority_issuer: bytes | None = field(default=None, repr=False)
    authority_serial: bytes | None = None
    is_authority: bool = False
    may_certify: bool = True
    usages: tuple[str, ...] = ()
    dates_conform: bool = True


def parse(data: bytes) -> Certificate:
    """Read one certificate; bytes behind it are left. Raises `FormatError` with the offset."""
    value = Reader(data).take("the certificate", SEQUENCE)
    outer = Reader(data, value.body, value.end)
    signed = outer.take("the signed part", SEQUENCE)
    fields = Reader(data, signed.body, signed.end)
    fields.skip(CONTEXT_PARTS)
    serial = fields.content(fields.take("the serial number", INTEGER))
    fields.take("the signature algorithm", SEQUENCE)
    issuer = fields.take("the issuer", SEQUENCE)
    validity = fields.into("the validity")
    before = validity.take("the start of validity", UTC_TIME, GENERALIZED_TIME)
    after = validity.take("the end of validity", UTC_TIME, GENERALIZED_TIME)
    subject = fields.take("the subject", SEQUENCE)
    key = fields.take("the public key", SEQUENCE)
    fields.skip(CONTEXT | 1, CONTEXT_PARTS | 1)
    fields.skip(CONTEXT | 2, CONTEXT_PARTS | 2)
    extensions = _extensions(fields)
    algorithm = outer.into("the signature algorithm").oid("the signature algorithm")
    signature = outer.content(outer.take("the signature", BIT_STRING))
    authority = _authority(extensions.get(_AUTHORITY))
    key_id = extensions.get(_KEY_ID)
    return Certificate(
        der=data[: value.end],
        signed=fields.whole(signed),
        serial=serial,
        issuer=fields.whole(issuer),
        subject=fields.whole(subject),
        key=fields.whole(key),
        signature_algorithm=algorithm,
        signature=signature[1:],
        common_name=_name(data, subject),
        issuer_name=_name(data, issuer),
        not_before=_time(fields, before),
        not_after=_time(fields, after),
        key_id=None if key_id is None else _octets(key_id),
        authority_key_id=authority[0],
        authority_issuer=authority[1],
        authority_serial=authority[2],
        is_authority=_is_authority(extensions.get(_CONSTRAINTS)),
        may_certify=_may_certify(extensions.get(_KEY_USAGE)),
        usages=_usages(extensions.get(_USAGE)),
        dates_conform=_conforms(fields, before) and _conforms(fields, after),
    )


def _octets(data: bytes) -> bytes:
    reader = Reader(data)
    return reader.content(reader.take("the key identifier", OCTET_STRING))


def _extensions(fields: Reader) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    if fields.tag != CONTEXT_PARTS | 3:
        return found
    several = fields.into("the extensions", CONTEXT_PARTS | 3).into("the extensions")
    while several.tag is not None:
        extension = several.into("an extension")
        oid = extension.oid("the type of an extension")
        extension.skip(BOOLEAN)
        found.setdefault(oid, extension.content(extension.take("the value of an extension", OCTET_STRING)))
    return found


def _authority(data: bytes | None) -> tuple[bytes | None, bytes | None, bytes | None]:
    key_id = issuer = serial = None
    if data is not None:
        fields = Reader(data).into("the authority key identifier")
        if fields.tag == CONTEXT:
            key_id = fields.content(fields.take("the authority's key identifier"))
        if fields.tag == CONTEXT_PARTS | 1:
            names = fields.into("the authority's issuer", CONTEXT_PARTS | 1)
            while names.tag is not None:
                name = names.take("a name of the authority's issuer")
                if name.tag == CONTEXT_PARTS | 4:  # a directory name: an explicit tag around it
                    issuer = names.content(name)
        if fields.tag == CONTEXT | 2:
            serial = fields.content(fields.take("the authority's serial number"))
    return key_id, issuer, serial


def _may_certify(data: bytes | None) -> bool:
    """By the key usage (chapter 4.2.1.3): without it every use is meant."""
    if data is None:
        return True
    fields = Reader(data)
    bits = fields.content(fields.take("the key usage", BIT_STRING))
    return len(bits) > 1 and bool(bits[1] & 0x04)


def _is_authority(data: bytes | None) -> bool:
    if data is None:
        return False
    fields = Reader(data).into("the basic constraints")
    return fields.tag == BOOLEAN and fields.content(fields.take("the authority flag")) != b"\0"


def _usages(data: bytes | None) -> tuple[str, ...]:
    found = []
    if data is not None:
        usages = Reader(data).into("the extended key usage")
        while usages.tag is not None:
            found.append(usages.oid("a key usage"))
    return tuple(found)


def _name(data: bytes, name: Value) -> str:
    """The last common name, else the last organisation; characters that make no sense become U+FFFD."""
    found = {}
    several = Reader(data, name.body, name.end)
    while several.tag is not None:
        parts = several.into("a part of a name", SET)
        while parts.tag is not None:
            part = parts.into("a part of a name")
            oid = part.oid("the type of a part of a name")
            text = part.take("a part of a name")
            if text.tag in _STRINGS:
                found[oid] = part.content(text).decode(_STRINGS[text.tag], "replace")
    return found.get(_COMMON_NAME) or found.get(_ORGANISATION) or ""


def _conforms(fields: Reader, value: Value) -> bool:
    """Whether a date has the one form that RFC 5280 allows for it (chapter 4.1.2.5)."""
    when = _time(fields, value)
    if when is None or when.year < 1970:
        return False
    return value.tag == (UTC_TIME if when.year < 2050 else GENERALIZED_TIME)


def _time(fields: Reader, value: Value) -> datetime | None:
    text = fields.content(value).decode("ascii", "replace")
    if value.tag == UTC_TIME and text[:2].isdigit():
        # Years from 50 on are of the last century (RFC 5280, chapter 4.1.2.5.1).
        text = ("19" if int(text[:2]) >= 50 else "20") + text
    try:
        return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=timezone.utc)
    except ValueError:
        return None


def parse_all(data: bytes) -> tuple[Certificate, ...]:
    """Certificates one behind the other, up to the first bytes that are none."""
    found: list[Certificate] = []
    while data:
        try:
            found.append(parse(data))
        except FormatError:
            break
        data = data[len(found[-1].der) :]
    return tuple(found)
