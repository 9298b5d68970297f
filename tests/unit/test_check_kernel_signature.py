from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

import machines
from safeupdate.boot import find_plan
from safeupdate.checks.kernel_signature import CHECK
from safeupdate.errors import FormatError
from safeupdate.formats import authenticode, certificate
from safeupdate.formats.certificate import MODULE_SIGNING
from safeupdate.formats.efi_variables import GLOBAL
from safeupdate.judge import judge
from safeupdate.kernels import installed
from safeupdate.machine import Machine
from safeupdate.report import Finding, NotApplicable
from safeupdate.volumes import Volumes
from tests.unit import efi, signed_efi
from tests.unit.signed_efi import digest, entries, key, sign, variables
from tests.unit.signing import Key
from tests.unit.trees import RELEASE, Content, case, tree, x86_image

OLD = "6.1.0-49-amd64"
BOARD = key("Microsoft UEFI CA", authority=True)
VENDOR = key("Debian CA", authority=True)
SIGNER = key("Debian Signer", "Debian CA")
MOK = key("own key")
STRANGER = key("stranger")
PLAIN = signed_efi.kernel(RELEASE)

IMAGE = f"/boot/vmlinuz-{RELEASE}"
ESP = "/boot/efi/EFI/debian"
SHIM = f"{ESP}/shimx64.efi"
GRUB = f"{ESP}/grubx64.efi"
STUB = "search.fs_uuid 11111111 root\nset prefix=($root)'/boot/grub'\nconfigfile $prefix/grub.cfg\n"


@cache
def _shim() -> bytes:
    return sign(signed_efi.shim(VENDOR), key("Microsoft signer", "Microsoft UEFI CA"))


@cache
def _grub() -> bytes:
    return sign(signed_efi.grub(), SIGNER)


@cache
def _helper() -> bytes:
    """MokManager, or shim's fallback program."""
    return sign(signed_efi.program((".text", b"x"), components="shim,4,UEFI shim,shim,1,https://s\n"), SIGNER)


@cache
def _kernel() -> bytes:
    return sign(PLAIN, SIGNER)


def menu(release: str) -> str:
    return (
        f"search --no-floppy --fs-uuid --set=root 11111111\nmenuentry 'Debian' {{\n\tlinux /boot/vmlinuz-{release} "
        f"root=/dev/sda2 ro\n\tinitrd /boot/initrd.img-{release}\n}}\n"
    )


def started_by(path: str = "\\EFI\\debian\\shimx64.efi", *, secure_boot: bool | None = True) -> dict[str, Content]:
    """The firmware's variables, where it starts this file."""
    option = efi.option(path, description="debian")
    return efi.variables(order=[1], options={1: option}, current=1, secure_boot=secure_boot)


def machine(**lists: bytes) -> dict[str, Content]:
    """Debian with shim and GRUB, and Secure Boot on; `lists` are variables of the firmware and of shim."""
    known = {"db": entries(BOARD), "dbx": b"", "MokListRT": entries(VENDOR), "SbatLevelRT": b"sbat,1,2021030218\n"}
    return {
        **efi.disks(),
        **started_by(),
        **variables(**{**known, **lists}),
        "/proc/sys/kernel/osrelease": OLD,
        "/etc/os-release": "ID=debian\nVERSION_ID=12\n",
        "/var/lib/dpkg/status": "",
        SHIM: _shim(),
        GRUB: _grub(),
        f"{ESP}/mmx64.efi": _helper(),
        f"{ESP}/grub.cfg": STUB,
        "/boot/grub/grub.cfg": menu(RELEASE),
        IMAGE: _kernel(),
        f"/boot/initrd.img-{RELEASE}": b"070701",
    }


def ask(root: Path, files: Mapping[str, Content]) -> list[Finding]:
    """What the check finds for the kernel that starts next."""
    return of(tree(root, files))


def of(made: Machine) -> list[Finding]:
    return list(iterate(made))


def iterate(made: Machine) -> Iterator[Finding]:
    firmware, plan = find_plan(made, Volumes(made))
    assert plan.next is not None, plan
    return CHECK.run(replace(case(made, entry=plan.next, firmware=firmware), plan=plan, kernels=installed(made)))


def found(root: Path, files: Mapping[str, Content]) -> list[tuple[str, str]]:
    return [(finding.level, finding.id.partition(".")[2]) for finding in ask(root, files)]


def not_asked(root: Path, files: Mapping[str, Content]) -> str:
    with pytest.raises(NotApplicable) as raised:
        ask(root, files)
    return str(raised.value)


def test_a_sound_machine(tmp_path: Path) -> None:
    assert ask(tmp_path, machine()) == []


# -- where the question does not arise -------------------------------------------------------------------------


def test_without_secure_boot(tmp_path: Path) -> None:
    files = {**machine(), **started_by(secure_boot=False), IMAGE: x86_image(RELEASE)}
    assert not_asked(tmp_path / "off", files) == "Secure Boot is off"
    del files[f"{efi.VARIABLES}/SecureBoot-{GLOBAL}"]
    assert not_asked(tmp_path / "old firmware", files) == "Secure Boot is off"


def test_without_uefi(tmp_path: Path) -> None:
    bios: dict[str, Content] = {
        **efi.disks(esp=None),
        "/boot/grub/grub.cfg": menu(RELEASE),
        IMAGE: x86_image(RELEASE),
        f"/boot/initrd.img-{RELEASE}": b"070701",
    }
    assert "no UEFI" in not_asked(tmp_path / "bios", bios)


def test_without_any_facts(tmp_path: Path) -> None:
    """The image of a machine: what it will be started by is not known, and mostly does not matter."""
    bare: dict[str, Content] = {
        "/boot/grub/grub.cfg": menu(RELEASE),
        IMAGE: PLAIN,
        f"/boot/initrd.img-{RELEASE}": b"070701",
    }
    assert "not to be seen" in not_asked(tmp_path / "alone", bare)
    both: dict[str, Content] = {**bare, f"/boot/vmlinuz-{OLD}": signed_efi.kernel(OLD)}
    assert "not to be seen" in not_asked(tmp_path / "neither signed", both)
    both[f"/boot/vmlinuz-{OLD}"] = sign(signed_efi.kernel(OLD), SIGNER)
    assert found(tmp_path / "one signed", both) == [("note", "secure-boot-not-known")]
    assert "not to be seen" in not_asked(tmp_path / "both signed", {**both, IMAGE: _kernel()})


def test_without_the_firmwares_variables(tmp_path: Path) -> None:
    files = {path: content for path, content in machine().items() if not path.startswith(efi.VARIABLES)}
    files["/sys/firmware/efi/fw_platform_size"] = "64\n"
    assert "not to be seen" in not_asked(tmp_path / "alone", files)
    files[f"/boot/vmlinuz-{OLD}"] = sign(signed_efi.kernel(OLD), SIGNER)
    assert "not to be seen" in not_asked(tmp_path / "both signed", files)
    files[IMAGE] = PLAIN
    assert found(tmp_path / "no longer signed", files) == [("unknown", "secure-boot-not-known")]
    files[f"/boot/vmlinuz-{OLD}"] = signed_efi.kernel(OLD)
    assert "not to be seen" in not_asked(tmp_path / "neither signed", files)


def test_what_kernel_files_tells_is_not_said_twice(tmp_path: Path) -> None:
    whole = _kernel()
    damaged = whole[:0x300] + bytes([whole[0x300] ^ 1]) + whole[0x301:]
    for number, image in enumerate((damaged, whole[:-30], whole + bytes(8), b"nonsense" * 100, b"")):
        assert "kernel-files" in not_asked(tmp_path / str(number), {**machine(), IMAGE: image})
    files = machine()
    del files[IMAGE]
    assert "not there" in not_asked(tmp_path / "gone", files)


def test_shim_that_is_told_to_start_everything(tmp_path: Path) -> None:
    files = {**machine(MokSBStateRT=b"\1", MokListRT=b""), IMAGE: PLAIN, GRUB: signed_efi.grub(None)}
    # Variables that shim makes for the running system do not last.
    path = f"{efi.VARIABLES}/MokSBStateRT-{signed_efi.SHIM}"
    files[path] = b"\6\0\0\0\1"
    assert "disable-validation" in not_asked(tmp_path, files)
    files[SHIM] = signed_efi.shim(VENDOR)
    assert found(tmp_path / "shim itself", files) == [("blocker", "loader-refused")]


# -- the kernel ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signer", [MOK, SIGNER, BOARD])
def test_kernels_that_shim_and_grub_accept(tmp_path: Path, signer: Key) -> None:
    assert found(tmp_path, {**machine(MokListRT=entries(VENDOR, MOK)), IMAGE: sign(PLAIN, signer)}) == []


@pytest.mark.parametrize(
    ("image", "lists", "finding"),
    [
        (PLAIN, {}, "image-unsigned"),
        (x86_image(RELEASE), {}, "image-unsigned"),
        (sign(PLAIN, STRANGER), {}, "key-not-trusted"),
        (sign(PLAIN, MOK), {"MokNew": entries(MOK)}, "key-pending"),
        (sign(PLAIN, MOK), {"MokNew": entries(STRANGER)}, "key-not-trusted"),
        (sign(PLAIN, MOK), {"MokListRT": entries(MOK), "dbx": entries(MOK)}, "image-revoked"),
        (sign(PLAIN, SIGNER), {"dbx": entries(digest(PLAIN), kind="sha256")}, "image-revoked"),
        (sign(PLAIN, SIGNER), {"MokListXRT": entries(digest(PLAIN), kind="sha256")}, "image-revoked"),
        (sign(PLAIN, SIGNER, algorithm="sha384"), {}, "signature-unusable"),
        (sign(PLAIN, SIGNER, certificates=[]), {}, "signature-unusable"),
        (sign(PLAIN, BOARD), {"MokIgnoreDB": b"\1"}, "key-not-trusted"),
    ],
    ids=["stripped", "no EFI program", "unknown", "pending", "another pending", "dbx", "dbx digest", "MokListX digest",
         "sha384", "no certificate", "db ignored"],
)  # fmt: skip
def test_kernels_that_shim_and_grub_refuse(
    tmp_path: Path, image: bytes, lists: Mapping[str, bytes], finding: str
) -> None:
    (said,) = ask(tmp_path, {**machine(**lists), IMAGE: image})
    assert (said.level, said.id) == ("blocker", f"kernel-signature.{finding}")
    assert IMAGE in said.problem
    assert "bad shim signature" in said.consequence


def test_a_key_for_modules(tmp_path: Path) -> None:
    modules = key("modules only", usages=(MODULE_SIGNING,))
    (said,) = ask(tmp_path, {**machine(MokListRT=entries(VENDOR, modules)), IMAGE: sign(PLAIN, modules)})
    assert said.id == "kernel-signature.key-for-modules"
    assert "“modules only”" in said.problem


def test_a_second_signature_helps(tmp_path: Path) -> None:
    assert found(tmp_path, {**machine(), IMAGE: sign(sign(PLAIN, STRANGER), SIGNER)}) == []


def test_the_machines_own_key_is_to_be_enrolled(tmp_path: Path) -> None:
    files = {**machine(), IMAGE: sign(PLAIN, MOK), "/var/lib/shim-signed/mok/MOK.der": MOK.certificate}
    (said,) = ask(tmp_path / "without mokutil", {**files, "/usr/bin/apt-get": ""})
    assert said.remedy.commands == (
        ("apt-get", "install", "mokutil"),
        ("mokutil", "--import", "/var/lib/shim-signed/mok/MOK.der"),
    )
    (said,) = ask(tmp_path / "with mokutil", {**files, "/usr/bin/mokutil": ""})
    assert said.remedy.commands == (("mokutil", "--import", "/var/lib/shim-signed/mok/MOK.der"),)


def test_the_signed_package_instead_of_the_unsigned(tmp_path: Path) -> None:
    files = {**machine(), IMAGE: PLAIN, f"/var/lib/dpkg/info/linux-image-{RELEASE}-unsigned.list": f"/.\n{IMAGE}\n"}
    (said,) = ask(tmp_path, files)
    assert said.remedy.commands == (("apt-get", "install", "--reinstall", f"linux-image-{RELEASE}"),)


@pytest.mark.parametrize(("image", "finding"), [(PLAIN, "image-unsigned"), (sign(PLAIN, STRANGER), "key-not-trusted")])
def test_the_kernel_that_runs_is_no_better(tmp_path: Path, image: bytes, finding: str) -> None:
    """It was started with Secure Boot on, so that nothing here may ask for a signature after all."""
    running = signed_efi.kernel(OLD)
    alike = running if image is PLAIN else sign(running, STRANGER)
    for number, (other, level) in enumerate(
        ((alike, "unknown"), (sign(running, SIGNER), "blocker"), (b"x", "blocker"))
    ):
        (said,) = ask(tmp_path / str(number), {**machine(), IMAGE: image, f"/boot/vmlinuz-{OLD}": other})
        assert (said.level, said.id) == (level, f"kernel-signature.{finding}")
        assert any("the kernel that runs" in line for line in said.evidence) == (level == "unknown")


def test_generations_of_a_kernel(tmp_path: Path) -> None:
    """A kernel may have no SBAT section; one that has it is asked for it."""
    image = sign(
        signed_efi.program((".linux", x86_image(RELEASE)), components="linux,1,Red Hat,kernel,6.1,https://r\n"), SIGNER
    )
    assert found(tmp_path / "sound", {**machine(SbatLevelRT=b"sbat,1,2025021800\nlinux,1\n"), IMAGE: image}) == []
    (said,) = ask(tmp_path / "old", {**machine(SbatLevelRT=b"sbat,1,2025021800\nlinux,2\n"), IMAGE: image})
    assert said.id == "kernel-signature.image-revoked"
    assert "linux has generation 1, 2 is wanted" in said.problem


def test_lists_that_cannot_be_read(tmp_path: Path) -> None:
    files = machine()
    files[f"{efi.VARIABLES}/dbx-{signed_efi.SECURITY}"] = b"\6\0\0\0" + b"\7" * 40
    answers = found(tmp_path, files)
    assert answers == [("unknown", "not-decidable")]


# -- what comes before the kernel ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "image", "lists", "finding", "words"),
    [
        (SHIM, signed_efi.shim(VENDOR), {}, "loader-refused", "carries no signature"),
        (SHIM, sign(signed_efi.shim(VENDOR), STRANGER), {}, "loader-refused", "the firmware does not trust"),
        (SHIM, None, {"dbx": entries(BOARD)}, "loader-refused", "lists “Microsoft UEFI CA”"),
        (GRUB, signed_efi.grub(), {}, "loader-refused", "carries no signature"),
        (GRUB, sign(signed_efi.grub(), STRANGER), {}, "loader-refused", "“stranger”"),
        (GRUB, sign(signed_efi.grub(None), SIGNER), {}, "loader-revoked", "no SBAT section"),
        (GRUB, sign(signed_efi.grub("grub,4\n"), SIGNER), {}, "loader-broken", "cannot be read"),
        (GRUB, None, {"SbatLevelRT": b"sbat,1,2025021800\nshim,3\ngrub,5\n"}, "loader-revoked", "5 is wanted"),
        (SHIM, None, {"SbatLevelRT": b"sbat,1,2025021800\nshim,4\ngrub,4\n"}, "loader-revoked", "4 is wanted"),
        (GRUB, sign(signed_efi.grub("grub,2,F,grub,2.06,u\n"), SIGNER), {}, "loader-revoked", "3 is wanted"),
    ],
    ids=["unsigned shim", "strange shim", "denied shim", "unsigned GRUB", "strange GRUB", "no SBAT", "broken SBAT",
         "old GRUB", "old shim", "GRUB that this shim revokes"],
)  # fmt: skip
def test_loaders_that_are_refused(
    tmp_path: Path, path: str, image: bytes | None, lists: Mapping[str, bytes], finding: str, words: str
) -> None:
    files = machine(**lists)
    if image is not None:
        files[path] = image
    (said,) = ask(tmp_path, files)
    assert (said.level, said.id) == ("blocker", f"kernel-signature.{finding}")
    assert path in said.problem
    assert words in said.problem
    assert said.remedy.commands[0][:3] == ("apt-get", "install", "--reinstall")


def test_a_level_that_shim_sets_only_when_it_is_told_to(tmp_path: Path) -> None:
    new = sign(signed_efi.shim(VENDOR, latest="sbat,1,2025021800\nshim,3\ngrub,5\n"), BOARD)
    files = {**machine(), SHIM: new}
    assert found(tmp_path / "automatic", files) == []
    files[f"{efi.VARIABLES}/SbatPolicy-{signed_efi.SHIM}"] = b"\7\0\0\0\1"
    assert found(tmp_path / "latest", files) == [("blocker", "loader-revoked")]


def test_a_shim_that_is_damaged(tmp_path: Path) -> None:
    whole = _shim()
    (said,) = ask(tmp_path / "changed", {**machine(), SHIM: whole[:0x410] + b"!" + whole[0x411:]})
    assert "was changed after it was signed" in said.problem
    (said,) = ask(tmp_path / "cut", {**machine(), SHIM: whole[:0x700]})
    assert (said.level, said.id) == ("blocker", "kernel-signature.loader-broken")
    (said,) = ask(tmp_path / "without its signatures", {**machine(), SHIM: whole[:-100]})
    assert (said.level, said.id) == ("blocker", "kernel-signature.loader-refused")


def test_a_shim_of_a_kind_that_is_not_known(tmp_path: Path) -> None:
    """Its keys cannot be read: the run makes an unknown of that."""
    odd = signed_efi.shim(VENDOR).replace(struct.pack("<II", len(VENDOR.certificate), 0), b"\xff" * 8)
    with pytest.raises(FormatError, match="keys"):
        ask(tmp_path, {**machine(), SHIM: sign(odd, BOARD)})


def test_a_shim_older_than_sbat(tmp_path: Path) -> None:
    shim = sign(signed_efi.shim(VENDOR, components=None), BOARD)
    assert found(tmp_path, {**machine(), SHIM: shim, GRUB: sign(signed_efi.grub(None), SIGNER)}) == []


def test_a_request_without_mok_manager(tmp_path: Path) -> None:
    files = machine(MokNew=entries(MOK), MokAuth=b"x")
    assert found(tmp_path / "there", files) == []
    del files[f"{ESP}/mmx64.efi"]
    (said,) = ask(tmp_path / "gone", files)
    assert said.id == "kernel-signature.mok-manager-missing"
    assert "MokNew, MokAuth" in said.problem
    assert found(tmp_path / "SUSE's name", {**files, f"{ESP}/MokManager.efi": _helper()}) == []


def test_a_mok_manager_that_shim_refuses(tmp_path: Path) -> None:
    files = {**machine(), f"{ESP}/mmx64.efi": sign(signed_efi.grub(), STRANGER)}
    assert found(tmp_path / "not asked for", files) == []
    files.update(variables(MokNew=entries(MOK)))
    (said,) = ask(tmp_path / "asked for", files)
    assert (said.level, said.id) == ("blocker", "kernel-signature.loader-refused")
    assert "mmx64.efi (MokManager)" in said.problem
    # Some distributions build shim with a key of its own, and sign with that what it brings along.
    files[SHIM] = sign(signed_efi.shim(VENDOR, built_with=STRANGER), BOARD)
    assert found(tmp_path / "shim's own key", files) == []


@pytest.mark.parametrize(
    ("lists", "commands", "words"),
    [
        ({"MokDel": entries(MOK), "MokDelAuth": b"x" * 64}, [("mokutil", "--revoke-delete")], "delete a key"),
        ({"MokAuth": b"x" * 64}, [("mokutil", "--revoke-import")], "delete every enrolled key"),
        ({"MokXNew": entries(MOK)}, [("mokutil", "--revoke-import", "--mokx")], "deny a key"),
        ({"MokXNew": entries(digest(PLAIN), kind="sha256")}, [("mokutil", "--revoke-import", "--mokx")], "deny a key"),
    ],
    ids=["deletion", "all", "denial", "denial by digest"],
)
def test_a_kernel_that_is_refused_once_a_person_confirms(
    tmp_path: Path, lists: Mapping[str, bytes], commands: list[tuple[str, ...]], words: str
) -> None:
    files = {**machine(MokListRT=entries(VENDOR, MOK), **lists), IMAGE: sign(PLAIN, MOK)}
    (said,) = ask(tmp_path / "mok", files)
    assert (said.level, said.id) == ("unknown", "kernel-signature.refused-once-confirmed")
    assert list(said.remedy.commands) == commands
    assert "own key" in said.problem
    assert words in said.problem
    if "MokXNew" not in lists:
        # By shim's own key, which nobody can delete, or by two keys.
        assert found(tmp_path / "vendor", {**files, IMAGE: _kernel()}) == []
        assert found(tmp_path / "both", {**files, IMAGE: sign(_kernel(), MOK)}) == []


def test_a_loader_that_is_refused_once_a_person_confirms(tmp_path: Path) -> None:
    files = {**machine(MokListRT=entries(VENDOR, MOK), MokDel=entries(MOK)), GRUB: sign(signed_efi.grub(), MOK)}
    (said,) = ask(tmp_path, files)
    assert (said.level, said.id, said.subject) == ("unknown", "kernel-signature.refused-once-confirmed", GRUB)


def test_all_keys_to_be_deleted_where_shim_is_not_to_be_seen(tmp_path: Path) -> None:
    """The list has shim's own key too, by which the distribution's kernel is signed, and that one stays."""
    files = {path: content for path, content in machine(MokAuth=b"x").items() if not path.startswith("/boot/efi")}
    files.update(efi.disks(esp=None))
    files["/proc/cmdline"] = f"BOOT_IMAGE=/boot/vmlinuz-{OLD} root=/dev/sda2 ro\n"
    assert found(tmp_path, files) == []


def default_path(fallback: bytes) -> dict[str, Content]:
    """No boot option: the firmware starts the default path, and shim its fallback program."""
    return {
        **machine(),
        **efi.variables(order=[], options={}, secure_boot=True),
        "/boot/efi/EFI/BOOT/BOOTX64.EFI": _shim(),
        "/boot/efi/EFI/BOOT/fbx64.efi": fallback,
        f"{ESP}/BOOTX64.CSV": "shimx64.efi,debian,,This is the boot entry for debian\n".encode("utf-16"),
    }


def test_shims_fallback_program(tmp_path: Path) -> None:
    assert found(tmp_path / "sound", default_path(_helper())) == []
    (said,) = ask(tmp_path / "unsigned", default_path(signed_efi.grub()))
    assert (said.level, said.id) == ("blocker", "kernel-signature.loader-refused")
    assert "/EFI/BOOT/fbx64.efi (shim's fallback program) carries no signature" in said.problem
    # Where it is not on the way, nobody asks for it.
    files = {**default_path(signed_efi.grub()), **started_by()}
    assert found(tmp_path / "not started", files) == []


def test_the_fallback_program_of_another_systems_shim(tmp_path: Path) -> None:
    """It is the shim on the default path that asks, not the one that is registered."""
    other = key("Fedora CA", authority=True)
    files = default_path(sign(signed_efi.grub(), key("Fedora Signer", "Fedora CA")))
    files["/boot/efi/EFI/BOOT/BOOTX64.EFI"] = sign(signed_efi.shim(other), BOARD)
    assert found(tmp_path, files) == []


def test_a_request_without_mok_manager_stops_shim_without_secure_boot_too(tmp_path: Path) -> None:
    files = {**machine(MokDel=entries(MOK)), **started_by(secure_boot=False)}
    assert not_asked(tmp_path / "there", files) == "Secure Boot is off"
    del files[f"{ESP}/mmx64.efi"]
    made = tree(tmp_path / "gone", files)
    before: list[Finding] = []
    with pytest.raises(NotApplicable):
        before.extend(iterate(made))
    assert [one.remedy.commands[0] for one in before] == [("mokutil", "--revoke-delete")]


def test_firmware_without_microsofts_newer_keys(tmp_path: Path) -> None:
    newer = key("signer of 2023", "Microsoft UEFI CA 2023")
    (said,) = ask(tmp_path, {**machine(), SHIM: sign(signed_efi.shim(VENDOR), newer)})
    assert said.remedy.commands[-1] == ("fwupdmgr", "update")
    twice = sign(sign(signed_efi.shim(VENDOR), newer), BOARD)
    assert found(tmp_path / "twice", {**machine(), SHIM: twice}) == []


def test_a_copy_that_is_not_the_packages(tmp_path: Path) -> None:
    files = machine()
    files["/usr/lib/shim/shimx64.efi.signed"] = _shim()
    files["/usr/lib/grub/x86_64-efi-signed/gcdx64.efi.signed"] = b"MZ"
    files["/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"] = _grub()
    assert found(tmp_path / "same", files) == []
    files["/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"] = b"MZ newer"
    (said,) = ask(tmp_path / "other", files)
    assert (said.level, said.id) == ("warning", "kernel-signature.loader-not-of-package")
    assert GRUB in said.problem
    # Ubuntu keeps the previous shim, and one with both of Microsoft's signatures.
    files["/usr/lib/shim/shimx64.efi.signed.previous"] = files.pop("/usr/lib/shim/shimx64.efi.signed")
    files["/usr/lib/shim/shimx64.efi.signed.latest"] = b"MZ newer"
    files["/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"] = _grub()
    assert found(tmp_path / "previous", files) == []
    files["/etc/os-release"] = "ID=ubuntu\n"
    files["/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"] = b"MZ newer"
    assert found(tmp_path / "another system's", files) == []


# -- other ways to the kernel ----------------------------------------------------------------------------------


def test_grub_without_shim(tmp_path: Path) -> None:
    """Some builds of GRUB ask the firmware, some refuse every kernel, some start every kernel."""
    files = {**machine(db=entries(BOARD, MOK)), **started_by("\\EFI\\debian\\grubx64.efi")}
    files[GRUB] = sign(signed_efi.grub(), MOK)
    assert found(tmp_path / "own keys", {**files, IMAGE: sign(PLAIN, MOK)}) == []
    assert found(tmp_path / "unsigned", {**files, IMAGE: PLAIN}) == [("unknown", "grub-without-shim")]
    old = f"/boot/vmlinuz-{OLD}"
    unsigned = {**files, IMAGE: PLAIN, old: signed_efi.kernel(OLD)}
    assert found(tmp_path / "as the one that runs", unsigned) == []
    unsigned[old] = sign(signed_efi.kernel(OLD), MOK)
    assert found(tmp_path / "other than the one that runs", unsigned) == [("unknown", "grub-without-shim")]
    files[GRUB] = signed_efi.grub()
    assert found(tmp_path / "unsigned GRUB", files)[0] == ("blocker", "loader-refused")


def systemd_boot(release: str = RELEASE, *, image: bytes, **lists: bytes) -> dict[str, Content]:
    mark = b"#### LoaderInfo: systemd-boot 255 ####"
    loader = signed_efi.program((".text", b"x"), (".sdmagic", mark), components="systemd,1,S,systemd,255,https://s\n")
    return {
        **machine(**lists),
        **started_by("\\EFI\\systemd\\systemd-bootx64.efi"),
        "/boot/efi/EFI/systemd/systemd-bootx64.efi": sign(loader, BOARD),
        "/boot/efi/loader/entries/d.conf": f"title Debian\nversion {release}\nlinux /d/{release}/linux\n",
        f"/boot/efi/d/{release}/linux": image,
    }


def test_systemd_boot_asks_the_firmware(tmp_path: Path) -> None:
    assert found(tmp_path / "db", systemd_boot(image=sign(PLAIN, BOARD))) == []
    assert found(tmp_path / "sha384", systemd_boot(image=sign(PLAIN, BOARD, algorithm="sha384"))) == []
    (said,) = ask(tmp_path / "mok", systemd_boot(image=sign(PLAIN, MOK), MokListRT=entries(MOK)))
    assert said.id == "kernel-signature.key-not-trusted"
    assert "the firmware does not trust" in said.problem


def test_systemd_boot_behind_shim_asks_both(tmp_path: Path) -> None:
    for number, (signer, answer) in enumerate(((BOARD, []), (MOK, []), (STRANGER, [("blocker", "key-not-trusted")]))):
        files = systemd_boot(image=sign(PLAIN, signer), MokListRT=entries(VENDOR, MOK))
        loader = files["/boot/efi/EFI/systemd/systemd-bootx64.efi"]
        files.update(started_by("\\EFI\\systemd\\shimx64.efi"))
        files["/boot/efi/EFI/systemd/shimx64.efi"] = _shim()
        files["/boot/efi/EFI/systemd/grubx64.efi"] = loader
        assert found(tmp_path / str(number), files) == answer


def unified(*, components: str | None = "systemd,1,S,systemd,255,https://s\n") -> bytes:
    parts = [
        (".osrel", b"ID=debian\n"),
        (".uname", RELEASE.encode()),
        (".cmdline", b"root=/dev/sda2"),
        (".initrd", b"070701"),
    ]
    return signed_efi.program(*parts, (".linux", x86_image(RELEASE)), components=components)


def test_a_unified_image(tmp_path: Path) -> None:
    files = systemd_boot(image=b"", db=entries(BOARD, MOK))
    del files["/boot/efi/loader/entries/d.conf"]
    place = "/boot/efi/EFI/Linux/debian.efi"
    assert found(tmp_path / "signed", {**files, place: sign(unified(), MOK)}) == []
    (said,) = ask(tmp_path / "not signed", {**files, place: unified(), "/usr/bin/sbctl": ""})
    assert said.id == "kernel-signature.image-unsigned"
    assert "systemd-boot" in said.consequence
    assert said.remedy.commands == (("sbctl", "sign", "-s", place),)


def test_a_unified_image_that_shim_or_the_firmware_starts(tmp_path: Path) -> None:
    files = {**machine(db=entries(BOARD, MOK)), **started_by("\\EFI\\Linux\\debian.efi")}
    place = "/boot/efi/EFI/Linux/debian.efi"
    assert found(tmp_path / "firmware", {**files, place: sign(unified(components=None), MOK)}) == []
    assert found(tmp_path / "firmware refuses", {**files, place: sign(unified(), STRANGER)}) == [
        ("blocker", "key-not-trusted")
    ]
    files = {**machine(MokListRT=entries(VENDOR, MOK)), GRUB: sign(unified(), MOK)}
    assert found(tmp_path / "shim", files) == []
    assert found(tmp_path / "shim wants SBAT", {**files, GRUB: sign(unified(components=None), MOK)}) == [
        ("blocker", "image-revoked")
    ]


def test_an_esp_that_is_not_mounted(tmp_path: Path) -> None:
    """What shim leaves for the running system tells that it is there, and its vendor's key."""
    files = {path: content for path, content in machine().items() if not path.startswith("/boot/efi")}
    files.update(efi.disks(esp=None))
    files["/proc/cmdline"] = f"BOOT_IMAGE=/boot/vmlinuz-{OLD} root=/dev/sda2 ro\n"
    assert found(tmp_path / "signed", files) == []
    assert found(tmp_path / "not signed", {**files, IMAGE: PLAIN}) == [("blocker", "image-unsigned")]


def test_variables_beside_efivarfs(tmp_path: Path) -> None:
    """A long MokList is whole in mok-variables only."""
    files = {**machine(MokListRT=entries(VENDOR)), IMAGE: sign(PLAIN, MOK)}
    assert found(tmp_path / "without", files) == [("blocker", "key-not-trusted")]
    files["/sys/firmware/efi/mok-variables/MokListRT"] = entries(VENDOR, MOK)
    assert found(tmp_path / "with", files) == []


# -- real machines ---------------------------------------------------------------------------------------------

PROGRAMS = {name: efi.real(f"{name}x64.efi.signed") for name in ("shim", "grub", "mm")}


def with_secure_boot(root: Path) -> None:
    """Give a built machine an ESP with Debian's signed programs, and firmware that trusts Microsoft's keys."""
    real = {name: path.read_bytes() for name, path in PROGRAMS.items() if path is not None}
    microsoft = [
        one
        for signature in authenticode.parse(io.BytesIO(real["shim"])).signatures
        if signature.signed is not None
        for one in signature.signed.certificates
        if certificate.parse(one).is_authority
    ]
    part = "/run/udev/data/b8:99"
    uuid = (root / "boot/grub/grub.cfg").read_text().split("root=UUID=")[1].split()[0]
    mounts = (root / "proc/self/mountinfo").read_text() + "99 1 8:99 / /boot/efi rw - vfat /dev/sdz1 rw\n"
    files: dict[str, Content] = {
        **started_by(),
        **variables(db=entries(*microsoft), dbx=b"", MokListRT=b"", SbatLevelRT=b"sbat,1,2025021800\nshim,4\ngrub,5\n"),
        "/sys/class/block/sdz1/dev": "8:99\n",
        part: f"E:ID_FS_TYPE=vfat\nE:ID_PART_ENTRY_UUID={efi.ESP_PARTUUID}\nE:ID_PART_ENTRY_TYPE={efi.ESP_UUID}\n",
        f"{ESP}/grub.cfg": f"search.fs_uuid {uuid} root\nset prefix=($root)'/boot/grub'\nconfigfile $prefix/grub.cfg\n",
        **{f"{ESP}/{name}x64.efi": content for name, content in real.items()},
    }
    (root / "proc/self/mountinfo").write_text(mounts)
    tree(root, files)


@pytest.mark.machines
@pytest.mark.skipif(None in PROGRAMS.values(), reason="Debian's signed boot programs are not here")
@pytest.mark.parametrize("name", machines.names())
def test_a_machine_of_debian(name: str) -> None:
    with machines.copy(name) as directory:
        root = Path(directory)
        machines.add_facts(directory, name)
        with_secure_boot(root)
        report = judge(Machine.tree(directory))
        assert report.verdict == "safe"
        assert [check.outcome for check in report.checks if check.id == "kernel-signature"] == ["passed"]
        newest = f"/boot/{(root / 'vmlinuz').readlink().name}"
        whole = (root / newest.lstrip("/")).read_bytes()
        stripped = bytearray(whole)
        place = int.from_bytes(whole[0x3C:0x40], "little") + 24 + 112 + 32
        start, _ = struct.unpack_from("<II", stripped, place)
        struct.pack_into("<II", stripped, place, 0, 0)
        plain = bytes(stripped[:start])
        for image, lists, finding in (
            (whole, {}, None),
            (plain, {}, "image-unsigned"),
            (sign(plain, STRANGER), {}, "key-not-trusted"),
            (sign(whole, STRANGER), {}, None),
            (whole, {"dbx": entries(digest(plain), kind="sha256")}, "image-revoked"),
            (whole, {"dbx": b"", "SbatLevelRT": b"sbat,1,2027010100\nshim,4\ngrub,6\n"}, "loader-revoked"),
        ):
            machines.replace(directory, newest, image)
            findings = of(tree(root, variables(**lists)))
            assert [one.id.partition(".")[2] for one in findings] == ([finding] if finding else [])
