"""What apt and our plug-ins for dnf tell, and what is made of it."""

from __future__ import annotations

import os
import re
import subprocess
from fnmatch import fnmatch
from pathlib import Path

import pytest

from safeupdate.errors import FormatError
from safeupdate.hooks import apt, dnf
from safeupdate.hooks.transaction import Change, Transaction
from safeupdate.packages import Package

HOOK = Path(__file__).parents[2] / "plugins" / "hook"

# As apt 3.0 of Debian 13 told it, but for most of its configuration, and the libraries' lines.
APT = b"""\
VERSION 3
APT::Architecture=amd64
APT::Build-Essential::=build-essential
Binary=apt-get
CommandLine::AsString=apt-get%20install%20-y%20linux-image-cloud-amd64%20linux-image-6.12.116+deb13-amd64-
quiet=1

linux-image-6.12.116+deb13-amd64 6.12.116-1 amd64 none > - - none **REMOVE**
linux-image-6.12.117+deb13-cloud-amd64 - - none < 6.12.117-1 amd64 none \
/var/cache/apt/archives/linux-image-6.12.117+deb13-cloud-amd64_6.12.117-1_amd64.deb
linux-image-cloud-amd64 - - none < 6.12.117-1 amd64 none \
/var/cache/apt/archives/linux-image-cloud-amd64_6.12.117-1_amd64.deb
libc6 2.41-11 amd64 same < 2.41-12 amd64 same /var/cache/apt/archives/libc6_2.41-12_amd64.deb
libc6 2.41-11 i386 same < 2.41-12 i386 same /tmp/a directory/libc6_2.41-12_i386.deb
linux-image-6.12.117+deb13-cloud-amd64 - - none < 6.12.117-1 amd64 none **CONFIGURE**
linux-image-cloud-amd64 - - none < 6.12.117-1 amd64 none **CONFIGURE**
"""

DNF = b"""\
kernel-core x86_64 6.17.8-300.fc43 in
kernel-modules x86_64 6.17.8-300.fc43 in
kernel-rt-core x86_64 5.14.0-570.el9 in
kernel-uek-core x86_64 6.12.0-1.23.3.2.el9uek in
grub2-tools x86_64 1:2.12-40.fc43 in
kernel-core x86_64 0:6.17.4-300.fc43 out
kernel-devel x86_64 6.17.8-300.fc43 offered
kernel-rt-devel x86_64 0:5.14.0-570.el9 nowhere
"""


def test_what_apt_tells() -> None:
    found = apt.parse(APT)
    assert found.coming == ("6.12.117+deb13-cloud-amd64",)
    assert found.going == ("6.12.116+deb13-amd64",)
    assert found.configured == {"linux-image-6.12.117+deb13-cloud-amd64", "linux-image-cloud-amd64"}
    assert found.changes[3:] == tuple(Change("libc6", one, "2.41-11", "2.41-12") for one in ("amd64", "i386"))
    assert not found.removes_last
    assert found.touches(Package("linux-image-cloud-amd64", "1", "amd64"))
    assert not found.touches(Package("dkms", "1", "amd64"))
    assert found.brings("libc6") and not found.brings("linux-image-6.12.116+deb13-amd64")


def test_what_the_plug_ins_for_dnf_tell() -> None:
    found = dnf.parse(DNF)
    assert found.coming == (
        "6.17.8-300.fc43.x86_64",
        "5.14.0-570.el9.x86_64+rt",
        "6.12.0-1.23.3.2.el9uek.x86_64",
    )
    assert found.going == ("6.17.4-300.fc43.x86_64",)
    assert found.removes_last
    assert found.brings("kernel-modules-6.17.8-300.fc43.x86_64")
    assert not found.brings("kernel-devel-6.17.8-300.fc43.x86_64")
    assert found.sources == (
        ("kernel-devel-6.17.8-300.fc43.x86_64", "offered"),
        ("kernel-rt-devel-5.14.0-570.el9.x86_64", "nowhere"),
    )


@pytest.mark.parametrize(
    ("name", "release"),
    [
        ("linux-image-6.1.0-50-amd64", "6.1.0-50-amd64"),
        ("linux-image-unsigned-6.8.0-31-generic", "6.8.0-31-generic"),
        ("linux-signed-image-6.1.0-50-amd64", "6.1.0-50-amd64"),
        ("proxmox-kernel-6.8.12-1-pve-signed", "6.8.12-1-pve"),
        ("pve-kernel-5.15.158-1-pve", "5.15.158-1-pve"),
        ("linux-image-6.9.0-rc1+", "6.9.0-rc1+"),
        ("linux-image-amd64", None),
        ("linux-image-6.8-generic", None),
        ("proxmox-kernel-6.8", None),
        ("linux-image-6.1.0-50-amd64-dbg", None),
        ("linux-headers-6.1.0-50-amd64", None),
        ("kernel-modules", None),
    ],
)
def test_the_release_that_a_package_brings(name: str, release: str | None) -> None:
    assert Change(name, "amd64", None, "1").release == release


def test_a_kernel_that_is_built_anew_neither_comes_nor_goes() -> None:
    name = "linux-image-6.1.0-50-amd64"
    found = apt.parse(f"{name} 6.1.176-1 amd64 none < 6.1.177-1 amd64 none /a.deb\n".encode())
    assert found.changes[0].release == "6.1.0-50-amd64"
    assert (found.coming, found.going) == ((), ())


@pytest.mark.parametrize("manager", [apt, dnf])
@pytest.mark.parametrize("data", [b"kernel x\n", b"a b c d\n", b"\xff \xfe\n", b"a b c d e f g h i\n"])
def test_what_is_not_told_so_is_an_error(manager: object, data: bytes) -> None:
    with pytest.raises(FormatError, match="line 1"):
        manager.parse(data)  # type: ignore[attr-defined]


def test_nothing_is_a_transaction_of_nothing() -> None:
    assert apt.parse(b"") == Transaction()
    assert dnf.parse(b"").changes == ()


BOOTS = """
dkms nvidia-kernel-dkms akmods kmod-nvidia akmod-nvidia drbd-kmp-default linux-image-amd64 linux-image-6.1.0-50-amd64
linux-binary-7.2.9+deb14-amd64 linux-base-7.2.9+deb14-amd64
linux-signed-image-amd64 linux-modules-6.8.0-31-generic pve-kernel-6.2 proxmox-kernel-6.8.12-1-pve raspberrypi-kernel
kernel kernel-core kernel-modules-extra kernel-default kernel-uek-core initramfs-tools initramfs-tools-core
tiny-initramfs cryptsetup-initramfs dracut dracut-network mkinitrd mkinitcpio grub-pc grub2-common grub2-efi-x64
grub-efi-amd64-signed shim-signed shim-x64 systemd-boot systemd-boot-efi systemd-ukify sdbootutil sdbootutil-snapper
refind extlinux lilo s390-tools s390utils-core flash-kernel u-boot-menu raspi-firmware raspberrypi-bootloader
"""

OTHERS = "linux-libc-dev linux-base libkmod2 kmod kernelshark libdracut bash xgrub-pc systemd tinyinitramfs"


def test_the_wrapper_knows_every_package_that_has_a_role() -> None:
    """And takes no other line for one, whatever a path or a setting in it says."""
    boots = re.findall(r"\S+", BOOTS)
    assert {name for name in boots if Package(name, "1", "amd64").role is None} == set()
    lines = [f"{name} - - none < 1 amd64 none /var/x-dkms_1.deb" for name in (*boots, *re.findall(r"\S+", OTHERS))]
    lines += [f"{name} x86_64 1-1 in" for name in boots]
    lines += ["VERSION 3", "Binary=apt-get", "APT::NeverAutoRemove::=^linux-image.*"]
    definition = "\n".join(re.findall(r"^boots=.*", HOOK.read_text(encoding="utf-8"), re.MULTILINE))
    script = f'{definition}\ngrep -E "$boots"'
    done = subprocess.run(["sh", "-c", script], input="\n".join(lines), capture_output=True, text=True, check=True)
    taken = [line.partition(" ")[0] for line in done.stdout.splitlines()]
    assert taken == boots * 2


FEDORA = """
dkms nvidia-dkms akmods kmod-nvidia akmod-nvidia kernel kernel-core kernel-modules-extra kernel-uek-core dracut
dracut-network grub2-common grub2-efi-x64 shim-x64 systemd-boot systemd-ukify s390utils-core
"""


def test_dnf_5_is_to_tell_of_the_same_packages() -> None:
    """Whether they come or go; it tells of none without a line here."""
    actions = (HOOK.parent / "dnf5" / "safeupdate.actions").read_text(encoding="utf-8")
    lines = [line.split(":", 4) for line in actions.splitlines() if line.startswith("pre_transaction:")]
    for way in ("in", "out"):
        patterns = [pattern for _, pattern, direction, _, _ in lines if direction == way]
        missed = [name for name in FEDORA.split() if not any(fnmatch(name, pattern) for pattern in patterns)]
        assert missed == []
        told = [command for _, _, direction, _, command in lines if direction == way]
        assert all(command.endswith(f"dnf5-package ${{pkg.name}} ${{pkg.arch}} ${{pkg.evr}} {way}") for command in told)


@pytest.mark.parametrize(
    ("texts", "seconds"),
    [
        ({}, "60"),
        ({"safeupdate.toml": "[hooks]\ntimeout_seconds = 90 # slow disk\n"}, "90"),
        ({"safeupdate.toml": "hooks.timeout_seconds=7\n"}, "7"),
        (
            {
                "safeupdate.toml": "[hooks]\ntimeout_seconds = 90\n",
                "safeupdate.toml.d/9.toml": "[hooks]\n  timeout_seconds = 20\n",
            },
            "20",
        ),
        ({"safeupdate.toml": '[checks.dkms]\nreason = "timeout_seconds = 5"\n# timeout_seconds = 6\n'}, "60"),
    ],
)
def test_the_wrapper_reads_the_time_out_as_the_program_does(
    tmp_path: Path, texts: dict[str, str], seconds: str
) -> None:
    (tmp_path / "safeupdate.toml.d").mkdir()
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    source = HOOK.read_text(encoding="utf-8").replace("/etc/safeupdate/", f"{tmp_path}/")
    function = re.search(r"^seconds\(\) \{.*?^\}$", source, re.MULTILINE | re.DOTALL)
    assert function is not None
    done = subprocess.run(["sh", "-c", f"{function.group()}\nseconds"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == seconds


def test_the_wrapper_is_for_everyone_to_run() -> None:
    assert os.access(HOOK, os.X_OK)
