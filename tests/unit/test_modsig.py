from __future__ import annotations

import struct

import pytest

from safeupdate.errors import FormatError
from safeupdate.formats import modsig
from safeupdate.formats.modsig import MARK, TRAILER, ModuleSignature
from tests.unit.signing import trailer

BODY = b"\x7fELF" + bytes(996)


def test_where_code_and_signature_end() -> None:
    data = BODY + b"signature" + trailer(9)
    assert modsig.parse(data, len(data)) == ModuleSignature(1000, 1009)
    assert modsig.parse(data[-TRAILER:], len(data)) == ModuleSignature(1000, 1009)
    assert modsig.parse(memoryview(data), len(data)) == ModuleSignature(1000, 1009)


@pytest.mark.parametrize("data", [b"", b"x", MARK, BODY, BODY + trailer(0)[:-1], BODY + MARK + b"\n"])
def test_a_module_without_signature(data: bytes) -> None:
    assert modsig.parse(data, len(data)) is None


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"x" + MARK, "shorter"),
        (trailer(0), "shorter"),
        (BODY + trailer(1000), "claims 1000 bytes of 1000"),
        (BODY + trailer(0xFFFFFFFF), "claims"),
        (BODY + trailer(9, fields=b"\1\0"), "zero"),
        (BODY + trailer(9, fields=b"\0\4"), "zero"),
        (BODY + struct.pack(">5B3xI", 0, 0, 2, 1, 0, 9) + MARK, "zero"),
        (BODY + struct.pack(">5B3xI", 0, 0, 2, 0, 1, 9) + MARK, "zero"),
        (BODY + struct.pack(">8BI", 0, 0, 2, 0, 0, 0, 0, 1, 9) + MARK, "zero"),
    ],
)
def test_what_the_kernel_calls_a_bad_message(data: bytes, why: str) -> None:
    with pytest.raises(FormatError, match=why):
        modsig.parse(data, len(data))


def test_another_kind_comes_before_fields_that_are_not_zero() -> None:
    data = BODY + trailer(9, kind=1, fields=b"\1\4")
    signature = modsig.parse(data, len(data))
    assert signature is not None
    assert not signature.is_pkcs7
