from __future__ import annotations

import struct
from pathlib import Path

import pytest

from safeupdate.formats.efi_variables import GLOBAL
from safeupdate.trust import firmware
from safeupdate.trust.firmware import IMAGE_SECURITY, SHIM, Store
from tests.unit.efi import VARIABLES, variables
from tests.unit.test_efi_signatures import SHA256, siglist
from tests.unit.test_trust_modules import MOK, STRANGER, lists, variable
from tests.unit.trees import Content, tree

SYSFS: dict[str, Content] = {"/sys/class/block/sda/dev": "8:0\n"}
MOK_VARIABLES = "/sys/firmware/efi/mok-variables"


def read(root: Path, files: dict[str, Content]) -> Store:
    return firmware.read(tree(root, files))


def test_no_uefi_and_no_facts_are_two_things(tmp_path: Path) -> None:
    bios, bare = read(tmp_path / "a", SYSFS), read(tmp_path / "b", {})
    assert (bios.known, bios.enforcing) == (True, False)
    assert (bare.known, bare.enforcing) == (False, None)


def test_variables_that_were_not_captured(tmp_path: Path) -> None:
    store = read(tmp_path, {**SYSFS, "/sys/firmware/efi": None})
    assert (store.known, store.enforcing) == (False, None)
    assert store.db.problem is not None


@pytest.mark.parametrize(("secure", "setup", "enforcing"), [(1, 0, True), (0, 0, False), (1, 1, False)])
def test_secure_boot(tmp_path: Path, secure: int, setup: int, enforcing: bool) -> None:
    files = {**variable("SecureBoot", GLOBAL, bytes([secure])), **variable("SetupMode", GLOBAL, bytes([setup]))}
    assert read(tmp_path, files).enforcing is enforcing


def test_a_list_that_is_not_set_is_empty_and_known(tmp_path: Path) -> None:
    store = read(tmp_path, variables(secure_boot=True))
    assert (store.dbx.path, store.dbx.entries, store.dbx.problem) == (None, (), None)


def test_the_list_that_is_whole_is_preferred(tmp_path: Path) -> None:
    files = {
        **variables(secure_boot=True),
        **variable("MokListRT", SHIM, lists(MOK)),
        f"{MOK_VARIABLES}/MokListRT": lists(MOK, STRANGER),
        f"{MOK_VARIABLES}/MokSBStateRT": b"\1",
    }
    store = read(tmp_path, files)
    assert [one.common_name for one in store.mok.certificates] == ["DKMS module signing key", "stranger"]
    assert store.mok.path == f"{MOK_VARIABLES}/MokListRT"
    assert (store.validating, store.enforcing, store.through_shim) == (False, False, True)


def test_a_list_that_only_root_may_read_is_read_elsewhere(tmp_path: Path) -> None:
    files: dict[str, Content] = {
        **variables(secure_boot=True),
        **variable("MokListRT", SHIM, lists(MOK)),
        f"{MOK_VARIABLES}/MokListRT": None,
    }
    store = read(tmp_path / "a", files)
    assert ([one.common_name for one in store.mok.certificates], store.mok.problem) == (
        ["DKMS module signing key"],
        None,
    )
    store = read(tmp_path / "b", {**variables(secure_boot=True), f"{MOK_VARIABLES}/MokListRT": None})
    assert store.mok.problem is not None


@pytest.mark.parametrize("value", [b"", b"\7\0\0", b"\7\0\0\0" + lists(MOK)[:-1], b"\7\0\0\0" + bytes(1 << 20)])
def test_variables_cut_short_or_too_long_are_problems(tmp_path: Path, value: bytes) -> None:
    files = {**variables(secure_boot=True), f"{VARIABLES}/MokListRT-{SHIM}": value}
    store = read(tmp_path, files)
    assert store.mok.problem is not None
    assert store.mok.certificates == ()


def test_what_is_no_certificate_is_left_out(tmp_path: Path) -> None:
    store = read(
        tmp_path, {**variables(), **variable("db", IMAGE_SECURITY, lists(MOK).replace(b"\x30\x82", b"\x31\x82"))}
    )
    assert (len(store.db.entries), store.db.certificates) == (1, ())


def test_requests_and_what_they_are_about(tmp_path: Path) -> None:
    files = {
        **variables(secure_boot=True),
        **variable("MokNew", SHIM, lists(STRANGER)),
        **variable("MokAuth", SHIM, bytes(64)),
        **variable("MokDel", SHIM, lists(MOK)),
        **variable("dbx", IMAGE_SECURITY, siglist(SHA256, b"x" * 32)),
        **variable("SbatLevelRT", SHIM, b"sbat,1,2025021800\n"),
        f"{VARIABLES}/SbatPolicy-{SHIM}": struct.pack("<IB", 7, 2),
    }
    store = read(tmp_path, files)
    assert store.requests == ("MokNew", "MokAuth", "MokDel")
    assert [one.common_name for one in store.new.certificates] == ["stranger"]
    assert store.dbx.digests("sha256") == {b"x" * 32}
    assert (store.sbat_level, store.sbat_policy) == (b"sbat,1,2025021800\n", 2)


@pytest.mark.parametrize("number", [0, 1], ids=["MokListRT0", "MokListRT1"])
def test_a_list_in_several_variables(tmp_path: Path, number: int) -> None:
    """What shim's list has room for in no one variable of this firmware, it puts into several."""
    files = {
        **variables(secure_boot=True),
        **variable("MokListRT", SHIM, siglist(SHA256, bytes(32))),
        **variable(f"MokListRT{number}", SHIM, lists(MOK)),
        **variable(f"MokListRT{number + 1}", SHIM, lists(STRANGER)),
    }
    both = ["DKMS module signing key", "stranger"]
    store = read(tmp_path / "parts", files)
    assert ([one.common_name for one in store.mok.certificates], store.mok.problem) == (both, None)
    whole: dict[str, Content] = {**files, f"{MOK_VARIABLES}/MokListRT": lists(STRANGER)}
    assert [one.common_name for one in read(tmp_path / "whole", whole).mok.certificates] == ["stranger"]
    store = read(tmp_path / "whole for root", {**files, f"{MOK_VARIABLES}/MokListRT": None})
    assert [one.common_name for one in store.mok.certificates] == both
    assert "cannot be read" in (store.mok.problem or "")


def test_a_part_of_a_list_that_is_missing_or_broken(tmp_path: Path) -> None:
    files = {
        **variables(secure_boot=True),
        **variable("MokListRT", SHIM, lists(MOK)),
        **variable("MokListRT2", SHIM, lists(STRANGER)),
    }
    store = read(tmp_path / "missing", files)
    assert len(store.mok.certificates) == 2
    assert "is missing" in (store.mok.problem or "")
    store = read(tmp_path / "broken", {**files, f"{VARIABLES}/MokListRT1-{SHIM}": b"\7"})
    assert len(store.mok.certificates) == 2
    assert "a part of it" in (store.mok.problem or "")


def test_what_lasts_once_a_deletion_is_confirmed(tmp_path: Path) -> None:
    files = {**variables(secure_boot=True), **variable("MokListRT", SHIM, lists(MOK, STRANGER))}
    store = read(tmp_path / "none", files)
    assert (store.lasting, store.resets) == (store.mok, False)
    one = {**files, **variable("MokDel", SHIM, lists(MOK)), **variable("MokDelAuth", SHIM, bytes(64))}
    store = read(tmp_path / "one", one)
    assert [key.common_name for key in store.lasting.certificates] == ["stranger"]
    assert {store.asks(name) for name in store.requests} == {"delete a key"}
    store = read(tmp_path / "all", {**files, **variable("MokAuth", SHIM, bytes(64))})
    assert (store.resets, store.lasting.entries) == (True, ())
    assert store.asks("MokAuth") == "delete every enrolled key"
    files.update({**variable("MokAuth", SHIM, bytes(64)), **variable("MokNew", SHIM, lists(MOK))})
    store = read(tmp_path / "enrolment", files)
    assert (store.resets, store.asks("MokAuth"), store.asks("MokNew")) == (False, "enrol a key", "enrol a key")
