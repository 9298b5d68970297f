"""What the firmware says, and which program an EFI file is."""

from __future__ import annotations

from pathlib import Path

import pytest

from safeupdate.boot import firmware
from safeupdate.errors import Missing, Unreadable
from safeupdate.formats.efi_variables import GLOBAL
from tests.unit import efi
from tests.unit.trees import tree, x86_image


def test_a_bare_tree_has_no_firmware_facts(tmp_path: Path) -> None:
    assert firmware.read(tree(tmp_path)) == firmware.Firmware("unknown")


def test_without_efi_a_captured_machine_is_bios(tmp_path: Path) -> None:
    found = firmware.read(tree(tmp_path, {"/sys/class/block/sda/size": "1"}))
    assert (found.kind, found.secure_boot, found.captured) == ("bios", False, False)


def test_efi_without_variables(tmp_path: Path) -> None:
    found = firmware.read(tree(tmp_path, {"/sys/firmware/efi/fw_platform_size": "64\n"}))
    assert (found.kind, found.secure_boot, found.order, found.captured) == ("uefi", None, None, False)


def test_all_variables(tmp_path: Path) -> None:
    variables = efi.variables(
        order=[1, 0xA, 3],
        current=1,
        following=0xA,
        options={1: efi.option("\\EFI\\debian\\shimx64.efi", description="debian"), 0xA: efi.option("\\a.efi")},
        secure_boot=True,
        LoaderInfo="systemd-boot 252.39-1~deb12u2",
        LoaderEntryDefault="a.conf",
    )
    found = firmware.read(tree(tmp_path, variables))
    assert (found.kind, found.secure_boot, found.order) == ("uefi", True, (1, 10, 3))
    assert (found.next, found.current) == (10, 1)
    option = found.option(1)
    assert option is not None
    assert option.name == 'Boot0001 "debian"'
    assert found.option(3) is None
    assert found.text("LoaderEntryDefault") == "a.conf"
    assert found.text("LoaderEntryOneShot") is None
    assert found.findings == ()


def test_a_setup_screen_that_comes_first(tmp_path: Path) -> None:
    files = efi.variables()
    files[f"{efi.VARIABLES}/OsIndications-{GLOBAL}"] = b"\7\0\0\0\1" + bytes(7)
    (finding,) = firmware.read(tree(tmp_path / "1", files)).findings
    assert (finding.id, finding.level) == ("boot-entry.waits-for-person", "warning")
    files[f"{efi.VARIABLES}/OsIndications-{GLOBAL}"] = b"\7\0\0\0" + bytes(8)
    assert firmware.read(tree(tmp_path / "2", files)).findings == ()


def test_setup_mode_is_not_secure(tmp_path: Path) -> None:
    files = efi.variables(secure_boot=True)
    files[f"{efi.VARIABLES}/SetupMode-{GLOBAL}"] = b"\6\0\0\0\1"
    assert firmware.read(tree(tmp_path, files)).secure_boot is False


def test_broken_variables_are_findings(tmp_path: Path) -> None:
    files = efi.variables(order=[1], options={1: b"\1\0"}, secure_boot=None)
    files[f"{efi.VARIABLES}/BootNext-{GLOBAL}"] = b"\7\0\0"
    files[f"{efi.VARIABLES}/SecureBoot-{GLOBAL}"] = b"\6\0\0\0\x07"
    found = firmware.read(tree(tmp_path, files))
    assert (found.order, found.next, found.secure_boot, found.options) == ((1,), None, None, ())
    assert [finding.subject.rsplit("/", 1)[1].split("-")[0] for finding in found.findings] == [
        "BootNext",
        "SecureBoot",
    ]
    assert found.broken == {1}
    assert {finding.level for finding in found.findings} == {"unknown"}


@pytest.mark.parametrize(
    ("content", "kind", "version", "prefix"),
    [
        (efi.systemd_boot("257.13-1"), "systemd-boot", "257.13-1", None),
        (efi.grub("/EFI/debian"), "grub", None, ("", "/EFI/debian")),
        (efi.grub("/boot/grub", search="1111-2222"), "grub", None, ("1111-2222", "/boot/grub")),
        (efi.grub(), "grub", None, None),
        (efi.shim(), "shim", None, None),
        (efi.uki(), "uki", None, None),
        (x86_image(), "linux", None, None),
        (efi.pe([(".text", "\\EFI\\refind\\refind.conf shimx64.efi".encode("utf-16-le"))]), "rEFInd", None, None),
        (efi.pe([(".text", b"bootmgfw.pdb")]), "Windows", None, None),
        (efi.pe([(".text", b"x")]), "", None, None),
        (b"", "", None, None),
    ],
)
def test_programs_are_known_by_their_content(
    tmp_path: Path, content: bytes, kind: str, version: str | None, prefix: tuple[str, str] | None
) -> None:
    found = firmware.identify(tree(tmp_path, {"/a.efi": content}), "/a.efi")
    assert (found.kind, found.version, found.prefix) == (kind, version, prefix)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("systemd-bootx64.efi", "systemd-boot"),
        ("shimx64.efi.signed", "shim"),
        ("grubx64.efi.signed", "grub"),
        ("fbx64.efi.signed", ""),
        ("mmx64.efi.signed", ""),
        ("refind_x64.efi", "rEFInd"),
        ("snponly.efi", "iPXE"),
        ("syslinux.efi", "syslinux"),
        ("linuxx64.efi.stub", ""),
    ],
)
def test_programs_of_a_distribution(tmp_path: Path, name: str, kind: str) -> None:
    path = efi.real(name)
    if path is None:
        pytest.skip(f"this host has no {name}")
    found = firmware.identify(tree(tmp_path, {"/a.efi": path.read_bytes()}), "/a.efi")
    assert (found.kind, found.architecture) in ((kind, "x64"), (kind, "ia32"))


def test_debians_signed_grub_says_where_its_configuration_is(tmp_path: Path) -> None:
    path = efi.real("grubx64.efi.signed")
    if path is None:
        pytest.skip("this host has no signed GRUB")
    machine = tree(tmp_path, {"/a.efi": path.read_bytes()})
    assert firmware.identify(machine, "/a.efi").prefix == ("", "/EFI/debian")


def test_what_is_no_file_is_not_identified(tmp_path: Path) -> None:
    machine = tree(tmp_path, {"/d": None})
    with pytest.raises(Missing):
        firmware.identify(machine, "/a.efi")
    with pytest.raises(Unreadable):
        firmware.identify(machine, "/d")
