from __future__ import annotations

import gzip
import hashlib
from datetime import datetime, timezone
from pathlib import Path

import pytest

from safeupdate.cli import main
from safeupdate.formats.certificate import MODULE_SIGNING
from safeupdate.render.keys import render
from safeupdate.trust import overview
from safeupdate.trust.firmware import IMAGE_SECURITY, SHIM
from tests.unit import signing
from tests.unit.test_efi_signatures import SHA256, X509, siglist
from tests.unit.test_trust_modules import EXPIRED, MOK, ON, VENDOR, WAITING, lists, variable
from tests.unit.trees import IMAGE, RELEASE, Content, tree, x86_image

NOW = datetime(2026, 11, 1, tzinfo=timezone.utc)
MICROSOFT = "77fa9abd-0359-4d32-bd60-28f4e78f784b"


def machine(root: Path, files: dict[str, Content]) -> str:
    image = {IMAGE: x86_image(payload=gzip.compress(bytes(900) + VENDOR.certificate))}
    made = tree(root, {**image, "/sys/class/block/sda/dev": "8:0\n", **files})
    return render(overview.read(made), NOW)


def test_every_key_with_what_it_may_sign(tmp_path: Path) -> None:
    only_modules = signing.key("modules only", usages=(MODULE_SIGNING,), issuer=MOK)
    files: dict[str, Content] = {
        **ON,
        **variable("MokListRT", SHIM, lists(MOK, EXPIRED, only_modules)),
        **variable("MokNew", SHIM, lists(WAITING)),
        **variable("db", IMAGE_SECURITY, siglist(X509, signing.key("UEFI CA").certificate, owner=MICROSOFT)),
        **variable("dbx", IMAGE_SECURITY, siglist(SHA256, b"a" * 32, b"b" * 32)),
    }
    text = machine(tmp_path, files)
    assert text.startswith("Secure Boot is on.\nAt the next start MokManager will ask")
    places = ["Waiting for a person", "Enrolled on this machine", "In the firmware", f"Built into the kernel {RELEASE}"]
    assert [text.index(place) for place in [*places, "Revoked by the firmware"]] == sorted(
        text.index(place) for place in [*places, "Revoked by the firmware"]
    )
    assert hashlib.sha256(MOK.certificate).hexdigest() in text
    assert "  modules only, issued by DKMS module signing key\n    may sign: kernel modules only\n" in text
    assert "entered by: Microsoft" in text
    assert "valid: 2020-01-01 to 2021-01-01 (expired" in text
    assert "and 2 entries that name a file or a certificate by its digest" in text


def test_names_cannot_steer_a_terminal(tmp_path: Path) -> None:
    text = machine(tmp_path, {**ON, **variable("MokListRT", SHIM, lists(signing.key("evil\x1b[2Jname")))})
    assert "\x1b" not in text


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    files: dict[str, Content] = {
        **ON,
        **variable("db", IMAGE_SECURITY, bytes(20)),
        IMAGE: x86_image(payload=b"junk" * 9),
    }
    text = machine(tmp_path, files)
    assert text.count("not known, or not whole") == 2


def test_without_facts(tmp_path: Path) -> None:
    made = tree(tmp_path, {})
    assert render(overview.read(made), NOW) == "Whether Secure Boot is on is not known here.\n"


def test_the_verb(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    machine(tmp_path, ON)
    assert main(["keys", "--root", str(tmp_path)]) == 0
    assert b"DKMS module signing key" in capsysbinary.readouterr().out
