"""Checksums that are taken once, and digests that tell what changed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from safeupdate import fingerprint, kernels, packages
from safeupdate.boot.firmware import Firmware
from safeupdate.boot.plan import BootEntry, BootFile, BootPlan
from safeupdate.errors import Missing, Unreadable
from safeupdate.fingerprint import Hasher
from safeupdate.machine import Machine
from safeupdate.report import blocker
from tests.unit.test_packages_dpkg import stanza
from tests.unit.trees import BIOS, IMAGE, INITRD, MODULES, RELEASE, Content, Link, tree, x86_image

FILES: dict[str, Content] = {
    IMAGE: x86_image(),
    INITRD: b"initramfs",
    f"{MODULES}/modules.dep": "kernel/a.ko:\n",
    f"{MODULES}/kernel/a.ko": b"module",
    f"{MODULES}/kernel/b.ko": Link("a.ko"),
    f"{MODULES}/build": Link("/usr/src/linux"),
    "/boot/grub/grub.cfg": "menuentry a {}\n",
    "/boot/grub/grubenv": "# GRUB Environment Block\n",
    "/boot/grub/i386-pc/normal.mod": b"grub",
    "/boot/efi/EFI/debian/shimx64.efi": b"shim",
    "/boot/efi/loader/entries/x.conf": "title x\n",
    "/etc/fstab": "/dev/sda1 / ext4 defaults 0 1\n",
    "/etc/safeupdate/safeupdate.toml": "",
    "/var/lib/dkms/zfs/2.1/6.1.0/x86_64/module/zfs.ko": b"zfs",
    "/var/lib/dkms/zfs/2.1/build/zfs.o": b"object",
}
ENTRY = BootEntry(
    "grub",
    "debian",
    "Debian",
    "/boot/grub/grub.cfg, line 1",
    kernel=BootFile("/vmlinuz", IMAGE),
    initramfs=(BootFile("/initrd.img", INITRD),),
    release=RELEASE,
)
PLAN = BootPlan("grub", (ENTRY,), ENTRY, config="/boot/grub/grub.cfg")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    tree(tmp_path, FILES)
    age(tmp_path)
    return Machine.tree(str(tmp_path))


def age(root: Path, seconds: int = 0) -> None:
    """Give every file the same old times of reading and writing."""
    for place, _, names in os.walk(root):
        for name in names:
            os.utime(os.path.join(place, name), (seconds, seconds), follow_symlinks=False)


def parts(machine: Machine, firmware: Firmware = BIOS, plan: BootPlan = PLAN) -> dict[str, str]:
    return fingerprint.of(Hasher(machine), firmware, plan, kernels.installed(machine), packages.databases(machine))


def changed(machine: Machine, act: Callable[[], object]) -> set[str]:
    before = parts(machine)
    act()
    after = parts(machine)
    assert before.keys() == after.keys()
    assert (fingerprint.digest(before) == fingerprint.digest(after)) == (before == after)
    return {part for part in before if before[part] != after[part]}


def test_a_checksum_is_of_the_content(machine: Machine) -> None:
    hasher = Hasher(machine)
    assert hasher.file(INITRD) == sha256(b"initramfs").hexdigest()
    with pytest.raises(Missing):
        hasher.file("/boot/other")
    with pytest.raises(Missing):
        hasher.tree("/lib/modules/other")
    with pytest.raises(Unreadable):
        hasher.file("/boot")


def test_what_changed_a_moment_ago_is_not_remembered(machine: Machine) -> None:
    """Its next change may leave size and times as they are."""
    hasher = Hasher(machine)
    hasher.file(INITRD)
    hasher.tree(MODULES)
    assert hasher.fresh == {}


@pytest.mark.skipif(not os.access("/usr/lib/os-release", os.R_OK), reason="no old file is known on this system")
def test_what_is_known_is_not_read_again() -> None:
    machine, path = Machine("/"), "/usr/lib/os-release"
    first = Hasher(machine)
    found = first.file(path)
    ((key, (stamp, known)),) = first.fresh.items()
    assert (key, known) == (path, found)
    again = Hasher(machine, {path: (stamp, "as it was said")})
    assert again.file(path) == "as it was said"
    assert again.fresh == {}
    other = Hasher(machine, {path: ("another stamp", "as it was said")})
    assert other.file(path) == found


@pytest.mark.skipif(not os.path.isdir("/etc/skel"), reason="no old directory is known on this system")
def test_a_directory_that_is_known_is_not_read_again() -> None:
    first = Hasher(Machine("/"))
    found = first.tree("/etc/skel")
    (key,) = first.fresh
    assert first.fresh[key] == (first.stamp("/etc/skel"), found)
    known = {key: (first.stamp("/etc/skel"), "as it was said")}
    assert Hasher(Machine("/"), known).tree("/etc/skel") == "as it was said"


@pytest.mark.parametrize(
    ("path", "content"),
    [
        (f"{MODULES}/kernel/a.ko", b"MODULE"),
        (f"{MODULES}/kernel/c.ko", b"module"),
        (f"{MODULES}/modules.dep", "kernel/a.ko: kernel/c.ko\n"),
        (f"{MODULES}/kernel/c.ko", Link("a.ko")),
        (f"{MODULES}/kernel/empty", None),
    ],
)
def test_every_change_of_a_module_directory_counts(machine: Machine, path: str, content: Content) -> None:
    before = Hasher(machine).tree(MODULES)
    tree(Path(machine.root), {path: content})
    assert Hasher(machine).tree(MODULES) != before


def test_touching_modules_or_building_with_them_changes_no_checksum(machine: Machine) -> None:
    before = Hasher(machine).tree(MODULES)
    age(Path(machine.root), 1000)
    build = Path(machine.root) / MODULES[1:] / "build"
    build.unlink()
    build.mkdir()
    (build / "Makefile").write_text("all:")
    assert Hasher(machine).tree(MODULES) == before


def test_a_mode_of_a_module_counts(machine: Machine) -> None:
    before = Hasher(machine).tree(MODULES)
    os.chmod(Path(machine.root) / MODULES[1:] / "kernel/a.ko", 0o600)
    assert Hasher(machine).tree(MODULES) != before


def test_what_an_entry_starts(machine: Machine) -> None:
    found = fingerprint.booted(Hasher(machine), ENTRY, RELEASE)
    assert found.kernel == sha256(x86_image()).hexdigest()
    assert found.initramfs == ((INITRD, sha256(b"initramfs").hexdigest()),)
    assert found.modules == Hasher(machine).tree(MODULES)


def test_what_is_not_there_has_no_checksum(machine: Machine) -> None:
    hidden = replace(ENTRY, kernel=BootFile("/vmlinuz", None), initramfs=(BootFile("/initrd.img", "/boot/gone"),))
    assert fingerprint.booted(Hasher(machine), hidden, "other") == fingerprint.Booted(None, None, None)
    # The loader does not find it either, and starts without.
    absent = replace(ENTRY, initramfs=(BootFile("/initrd.img", None, absent=True),))
    assert fingerprint.booted(Hasher(machine), absent, RELEASE).initramfs == ()


@pytest.mark.parametrize(
    ("path", "content", "part"),
    [
        (IMAGE, x86_image("6.1.0-51-amd64"), "kernels"),
        (INITRD, b"another", "initramfs"),
        (f"{INITRD}.new", b"left over", "initramfs"),
        (f"{MODULES}/kernel/a.ko", b"another", "modules"),
        ("/boot/grub/grub.cfg", "menuentry b {}\n", "menu"),
        ("/boot/grub/custom.cfg", "", None),
        ("/boot/grub/custom.cfg", "set default=2\n", "menu"),
        ("/boot/efi/loader/entries/x.conf", "title y\n", "menu"),
        ("/boot/efi/loader/entries/y.conf", "title y\n", "menu"),
        ("/boot/grub/i386-pc/normal.mod", b"GRUB", "loader"),
        ("/boot/efi/EFI/debian/shimx64.efi", b"SHIM", "loader"),
        ("/boot/grub/grubenv", "# GRUB Environment Block\nsaved_entry=1\n", "loader-state"),
        ("/etc/fstab", "", "fstab"),
        ("/etc/crypttab", "luks /dev/sda2 none\n", "crypttab"),
        ("/etc/safeupdate/safeupdate.toml.d/10.toml", "[checks]\n", "config"),
        ("/var/lib/dkms/zfs/2.2/source/dkms.conf", "", "dkms"),
        ("/var/lib/dkms/zfs/2.1/6.1.0/x86_64/module/zfs.ko", b"ZFS", "dkms"),
        ("/var/lib/dkms/zfs/2.1/build/zfs.o", b"OBJECT", None),
        ("/boot/grub/themes/background.png", b"", None),
        ("/etc/hostname", "a", None),
    ],
)
def test_a_change_is_told_by_its_part(machine: Machine, path: str, content: Content, part: str | None) -> None:
    found = changed(machine, lambda: tree(Path(machine.root), {path: content}))
    # An empty file at a place of the menu's reads as none.
    assert found == ({part} if part is not None else set())


_OF_ANOTHER_VERSION = """
import sys
import safeupdate
safeupdate.__version__ += "+1"
from safeupdate import fingerprint
from safeupdate.boot.firmware import Firmware
from safeupdate.boot.plan import BootPlan
from safeupdate.machine import Machine
print(fingerprint.of(fingerprint.Hasher(Machine(sys.argv[1])), Firmware("bios"), BootPlan(None), ())["program"])
"""


def test_another_version_of_the_program_judges_anew(machine: Machine) -> None:
    command = [sys.executable, "-c", _OF_ANOTHER_VERSION, machine.root]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
    assert len(told) == len(parts(machine)["program"])
    assert told != parts(machine)["program"]


def test_the_order_in_which_files_were_made_does_not_count(machine: Machine) -> None:
    def move() -> None:
        for name in ("z.ko", "0.ko"):
            place = Path(machine.root) / MODULES[1:] / "kernel" / name
            place.write_bytes(b"x")
            place.unlink()

    assert changed(machine, move) == set()


def test_firmware_and_packages_count(machine: Machine) -> None:
    def order(*numbers: int, loader: dict[str, str] | None = None) -> dict[str, str]:
        return parts(machine, Firmware("uefi", order=numbers, loader=loader or {}))

    assert order(1, 2) == order(1, 2)
    assert order(1, 2)["loader-state"] != order(2, 1)["loader-state"]
    assert order(loader={"LoaderEntryOneShot": "x"}) != order()
    assert order(loader={"LoaderEntrySelected": "x"}) == order()
    status = {"/var/lib/dpkg/status": stanza(f"linux-image-{RELEASE}")}
    assert changed(machine, lambda: tree(Path(machine.root), status)) == {"packages"}
    status = {"/var/lib/dpkg/status": stanza(f"linux-image-{RELEASE}", "install ok half-configured")}
    assert changed(machine, lambda: tree(Path(machine.root), status)) == {"packages"}


def test_a_loader_that_no_file_shows_to_be_broken_counts(machine: Machine) -> None:
    """GRUB's core lies in sectors of a disk: what is wrong with it, the plan tells."""
    damaged = blocker(
        "boot-entry.core-damaged", "/dev/sda", "GRUB's core is damaged.", "It stops.", evidence=["byte 7"]
    )
    found, before = parts(machine, plan=replace(PLAN, findings=(damaged,))), parts(machine)
    assert {part for part in found if found[part] != before[part]} == {"loader"}
    again = replace(damaged, evidence=("byte 8",))
    assert parts(machine, plan=replace(PLAN, findings=(again,))) == found


def test_what_cannot_be_read_counts_as_such(tmp_path: Path) -> None:
    for place in (IMAGE, INITRD, "/boot/grub/grub.cfg", "/etc/fstab"):
        tree(tmp_path, {place: None})
    tree(tmp_path, {"/lib/modules": Link("/lib/modules"), "/boot/efi": "no directory", "/var/lib/dkms": "none"})
    os.mkfifo(tmp_path / "etc/crypttab")
    assert parts(Machine.tree(str(tmp_path)))


def test_a_name_that_is_no_text(machine: Machine) -> None:
    name = os.fsdecode(b"/boot/initrd-\xff")
    assert changed(machine, lambda: tree(Path(machine.root), {name: b""})) == {"initramfs"}
