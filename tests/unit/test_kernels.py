from __future__ import annotations

from pathlib import Path

import pytest

from safeupdate import kernels
from tests.unit.trees import Content, Link, tree, x86_image


@pytest.mark.parametrize(
    ("path", "release"),
    [
        ("/boot/vmlinuz-6.1.0-50-amd64", "6.1.0-50-amd64"),
        ("/boot/vmlinuz-6.1.0-50-amd64.old", "6.1.0-50-amd64"),
        ("/lib/modules/6.8.0-1.fc40.x86_64/vmlinuz", "6.8.0-1.fc40.x86_64"),
        ("/usr/lib/modules/6.6.3-arch1-1/vmlinuz", "6.6.3-arch1-1"),
        ("/boot/0123456789abcdef/6.9.1/linux", "6.9.1"),
        ("/efi/opensuse/6.4.0-1-default/linux-0a1b2c3d4e5f60718293a4b5c6d7e8f901234567", "6.4.0-1-default"),
        ("/boot/Image-6.4.0-1-default", "6.4.0-1-default"),
        ("/boot/vmlinuz-6.8.0-51-generic.efi.signed", "6.8.0-51-generic"),
        ("/boot/vmlinux-6.4.0-1-default.xz", "6.4.0-1-default"),
        ("/boot/vmlinuz-linux", "linux"),
        ("/boot/vmlinuz", None),
        ("/vmlinuz", None),
        ("/boot/vmlinuz-6.1.0-50-amd64.dpkg-new", None),
        ("/boot/vmlinuz-6.1.0.hmac", None),
        ("/boot/.vmlinuz-5.14.0.hmac", None),
        ("/boot/initrd.img-6.1.0-50-amd64", None),
        ("/boot/config-6.1.0", None),
        ("/boot/vmlinuz-", None),
        ("", None),
    ],
)
def test_release_in_name(path: str, release: str | None) -> None:
    assert kernels.release_in_name(path) == release


def test_the_image_knows_better_than_its_name(tmp_path: Path) -> None:
    machine = tree(
        tmp_path, {"/boot/vmlinuz-linux": x86_image("6.6.3-arch1-1"), "/vmlinuz": Link("boot/vmlinuz-linux")}
    )
    for path in ("/boot/vmlinuz-linux", "/vmlinuz"):
        kernel = kernels.kernel_at(machine, path)
        assert kernel is not None
        assert kernel.release == "6.6.3-arch1-1"
        assert kernel.modules == "/lib/modules/6.6.3-arch1-1"


def test_a_broken_image_has_the_release_of_its_name(tmp_path: Path) -> None:
    files: dict[str, Content] = {
        "/boot/vmlinuz-6.1.0-1": b"",
        "/vmlinuz": Link("boot/vmlinuz-6.1.0-1"),
        "/boot/vmlinuz": b"no kernel",
    }
    machine = tree(tmp_path, files)
    for path in ("/boot/vmlinuz-6.1.0-1", "/vmlinuz", "/boot/vmlinuz-6.1.0-1.old"):
        kernel = kernels.kernel_at(machine, path)
        assert kernel is not None
        assert kernel.release == "6.1.0-1"
    assert kernels.kernel_at(machine, "/boot/vmlinuz") is None
    assert kernels.kernel_at(machine, "/boot/gone") is None


def test_installed_in_every_place(tmp_path: Path) -> None:
    machine = tree(
        tmp_path,
        {
            "/boot/vmlinuz-6.1.0-1": x86_image("6.1.0-1"),
            "/boot/vmlinuz-0-rescue-0123": x86_image("6.1.0-1"),
            "/boot/vmlinuz-6.1.0-2.dpkg-tmp": x86_image("6.1.0-2"),
            "/boot/vmlinux-6.1.0-1.gz": b"for debuggers",
            "/boot/vmlinux-6.1.0-3.xz": b"for debuggers",
            "/boot/vmlinuz-directory": None,
            "/boot/efi/0123/6.2.0/linux": x86_image("6.2.0"),
            "/usr/lib/modules/6.3.0/vmlinuz": x86_image("6.3.0"),
            "/usr/lib/modules/6.4.0/kernel": None,
            "/lib": Link("usr/lib"),
        },
    )
    found = {kernel.release: kernel.image for kernel in kernels.installed(machine)}
    assert found == {
        "6.1.0-1": "/boot/vmlinuz-6.1.0-1",
        "6.2.0": "/boot/efi/0123/6.2.0/linux",
        "6.3.0": "/lib/modules/6.3.0/vmlinuz",
    }


def test_the_configuration(tmp_path: Path) -> None:
    files = {"/boot/config-6.1": "", "/lib/modules/6.2/config": "CONFIG_A=y\n", "/lib/modules/6.3": None}
    machine = tree(tmp_path, files)
    configs = [kernels.Kernel(release, "", machine).config for release in ("6.1", "6.2", "6.3")]
    assert configs == [None, {"CONFIG_A": "y"}, None]
