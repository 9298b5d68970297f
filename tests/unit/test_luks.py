"""Headers that cryptsetup 2.6.1 (Debian 12) wrote, with a passphrase of four letters."""

from __future__ import annotations

import base64
import io
import zlib

import pytest

from safeupdate.errors import FormatError
from safeupdate.formats import luks
from safeupdate.formats.luks import Header

UUID = "01234567-89ab-cdef-0123-456789abcdef"

LUKS1 = zlib.decompress(
    base64.b85decode(
        b"c-r#`^$y;(kAX2UwU_}Ps3<AcEyzjC%ri5=DqozDXk==J&jbMw;gH59)m>p%e!#T<=)E&x-(JWpQ%#>?VSFmx-Ra$-H)o}Sy8h-$"
        b"oKSmZnwWg(gp&Bm+_Ux>3=GUK3=EBoO-#+qbuBCtlXR0)Qqy!nLb@O^kPt`&Y|Wa&&mi@Rg&La|-%;24cj=|X>UC@F=M)Kh*sISk"
        b"mt4o)Fr!#f6sVGefq{Pk1H-+w3`7AY2GZ0s{~%30>j%=*v%ersJ?8_`)N|h;O+D`gka_?JUsR9"
    )
)
"""The binary header, without the keys."""

LUKS2 = zlib.decompress(
    base64.b85decode(
        b"c-rmQ&1(}u7zXfQkBatCPYS|XPfcKVyV*?(g~md$AE99S8Ifj_Op@s)yW5>jH``M2FR&H`4_-V7f+rCv=%Iq>N&KJ)f_Uu7qaLI!"
        b"s53FPu|?FYKEFfAyt6a&yc2TS(TS1tqxHz4NJD?5sV(xCSlLwL`mg7+SKs+7oyWr?)!RGUn@{QEORqO~R_<-wICH1tR@c_r!@F0W"
        b"wV(WQ{lqmI&1Q~0`1<+s#$ma`yP12xI{$L>xvZ$&T3k0`i5@c-%NIy7CQ30;6D3iJ{D;z??q|HMqoMzyfBR$Sll9Z>ZP~R|_w52Z"
        b"m3=k%=0yYm000000DxPPEE2Mc<1?vuNs`5fAG$>9l`1uhsZvzT&oa8mOS%@7%;LUB6#fYFJ?av^gC@&zR4SXS%xAy95|EbpB9E9Y"
        b"%RDpSi=1MS5uXpcRYOmRT^ff-YCIupVodD37rH)mY+f}9i`9J=b1Npbb!}fReuh<OP3GqKSfu|sOH`sh@l3HNPpdT2GP5F5(0Y1k"
        b"BwnhWt&WG*baA*`4i{=cP}gZCZVvR!xT(dSxSL7^GjgA_yv$GZ9gB!<miTu@N>ySXyu?Nat<5UBVHm2S@AX><ZL>=ABHO~O9}v^x"
        b"MfvyrGm`fmuXzQU+@p(31zIBPV2s`C*!!_B@CPoo25%Pr_`=2wTCut&3u7~iUPx;4uvZFv-Lgu#QngkLEMsEw+~5E$6PE0gek9}T"
        b"rqib7=Do$a5yuK9m1&#SlS756%)B+2oC*@u8a2-6jZ|hVHzY1PD&-x!NK2xdIp)~Sh9yN+6N#3NcI&#KaS6T@|84*P0000000000"
        b"00000000000002^mwW?*Un<l"
    )
)
"""The first of two binary headers with its JSON text."""


def parse(data: bytes) -> Header:
    return luks.parse(io.BytesIO(data))


def rewritten(text: bytes) -> bytes:
    return LUKS2[:4096] + text.ljust(len(LUKS2) - 4096, b"\0")


def test_headers_of_both_versions() -> None:
    assert parse(LUKS1) == Header(1, UUID, ("aes-xts-plain64",), kdfs=("pbkdf2",))
    assert parse(LUKS2) == Header(2, UUID, ("aes-xts-plain64",), kdfs=("pbkdf2",))


def test_tokens_integrity_and_several_segments() -> None:
    text = b"""{"segments": {
        "0": {"type": "linear"},
        "1": {"type": "crypt", "encryption": "serpent-xts-plain64", "integrity": {"type": "hmac(sha256)"}},
        "2": {"type": "crypt", "encryption": "aes-xts-plain64"}, "3": {"encryption": "aes-xts-plain64"}
    }, "keyslots": {"0": {"kdf": {"type": "argon2id"}}, "1": {"type": "reencrypt"}},
    "tokens": {"0": {"type": "systemd-tpm2"}, "1": {"type": "clevis"}}}"""
    assert parse(rewritten(text)) == Header(
        2,
        UUID,
        ("serpent-xts-plain64", "aes-xts-plain64"),
        ("hmac(sha256)",),
        ("argon2id",),
        ("systemd-tpm2", "clevis"),
    )


@pytest.mark.parametrize(
    "text", [b"[]", b"1", b'{"segments": []}', b'{"segments": {"0": 1}, "tokens": {"0": {"type": []}}}']
)
def test_metadata_of_another_shape(text: bytes) -> None:
    assert parse(rewritten(text)) == Header(2, UUID, ())


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "it has no LUKS header"),
        (bytes(8192), "it has no LUKS header"),
        (LUKS1[:200], "cut off"),
        (LUKS2[:4000], "cut off"),
        (LUKS2[:4096], "is no JSON"),
        (LUKS2[:4300], "is no JSON"),
        (LUKS2[:7] + b"\3" + LUKS2[8:], "unknown version 3"),
        (LUKS2[:8] + b"\xff" * 8 + LUKS2[16:], "cannot have"),
        (rewritten(b"[" * 12000), "is no JSON"),
        (rewritten(b"\xff"), "is no JSON"),
    ],
)
def test_what_is_no_header(data: bytes, why: str) -> None:
    with pytest.raises(FormatError, match=why):
        parse(data)


def test_numbers_of_a_million_digits() -> None:
    data = LUKS2[:8] + (4 << 20).to_bytes(8, "big") + LUKS2[16:4096]
    text = b'{"a": 1%s}' % (b"0" * 4_000_000)
    assert parse(data + text.ljust((4 << 20) - 4096, b"\0")).version == 2
