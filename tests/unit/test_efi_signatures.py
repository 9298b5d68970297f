from __future__ import annotations

import struct
import uuid

import pytest

from safeupdate.formats import efi_signatures
from safeupdate.formats.efi_signatures import Signature

SHA256 = "c1c41626-504c-4092-aca9-41f936934328"
X509 = "a5c059a1-94e4-4aa7-87b5-ab155c2bf072"
X509_SHA256 = "3bd2a492-96c0-4079-b420-fcf98ef103ed"
OWNER = "77fa9abd-0359-4d32-bd60-28f4e78f784b"


def siglist(kind: str, *values: bytes, header: bytes = b"", owner: str = OWNER) -> bytes:
    """An EFI_SIGNATURE_LIST of entries of one size."""
    size = 16 + len(values[0])
    body = b"".join(uuid.UUID(owner).bytes_le + value for value in values)
    head = struct.pack("<16sIII", uuid.UUID(kind).bytes_le, 28 + len(header) + len(body), len(header), size)
    return head + header + body


def test_several_lists() -> None:
    data = siglist(X509, b"certificate") + siglist(SHA256, b"a" * 32, b"b" * 32) + siglist(X509_SHA256, b"c" * 48)
    lists = efi_signatures.parse(data)
    assert lists.problem is None
    assert lists.entries == (
        Signature("x509", OWNER, b"certificate"),
        Signature("sha256", OWNER, b"a" * 32),
        Signature("sha256", OWNER, b"b" * 32),
        Signature("x509-sha256", OWNER, b"c" * 32),
    )


def test_nothing_is_no_problem() -> None:
    assert efi_signatures.parse(b"") == efi_signatures.SignatureLists(())


def test_a_kind_that_is_not_known_and_a_header_do_no_harm() -> None:
    lists = efi_signatures.parse(siglist(str(uuid.UUID(int=5)), b"x", header=b"head") + siglist(SHA256, b"a" * 32))
    assert [(entry.kind, entry.data) for entry in lists.entries] == [("", b"x"), ("sha256", b"a" * 32)]


GOOD = siglist(SHA256, b"a" * 32)


@pytest.mark.parametrize(
    "rest",
    [
        GOOD[:27],
        GOOD[:-1],
        GOOD[:16] + struct.pack("<III", 0, 0, 48) + GOOD[28:],
        GOOD[:16] + struct.pack("<III", 76, 60, 48) + GOOD[28:],
        GOOD[:16] + struct.pack("<III", 76, 0, 0) + GOOD[28:],
        GOOD[:16] + struct.pack("<III", 76, 0, 15) + GOOD[28:],
        GOOD[:16] + struct.pack("<III", 76, 0, 47) + GOOD[28:],
        GOOD[:16] + struct.pack("<III", 0xFFFFFFFF, 0, 48) + GOOD[28:],
        siglist(SHA256, b"a" * 31),
    ],
)
def test_what_stands_before_a_broken_list_counts(rest: bytes) -> None:
    lists = efi_signatures.parse(GOOD + rest)
    assert len(lists.entries) == 1
    assert lists.problem is not None
    assert "(offset " in lists.problem


def test_a_million_bytes_of_small_entries_are_bounded() -> None:
    size = 1 << 20
    data = struct.pack("<16sIII", bytes(16), size, 0, 16) + bytes(size - 28)
    assert len(efi_signatures.parse(data[: size - 28 - (size - 28) % 16 + 28 - 16]).entries) == 0
    whole = struct.pack("<16sIII", bytes(16), 28 + 16 * 60_000, 0, 16) + bytes(16 * 60_000)
    lists = efi_signatures.parse(whole)
    assert len(lists.entries) == 50_000
    assert lists.problem is not None
