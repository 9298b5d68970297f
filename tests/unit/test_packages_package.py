from __future__ import annotations

import pytest

from safeupdate.packages.package import Package, is_kernel_file
from tests.unit.trees import RELEASE


@pytest.mark.parametrize(
    ("role", "names"),
    [
        ("kernel", f"linux-image-{RELEASE} linux-modules-extra-6.8.0-50-generic linux-image-unsigned-6.8.0-50-generic"),
        ("kernel", "proxmox-kernel-6.8.12-4-pve-signed pve-kernel-5.15.0-1-pve raspberrypi-kernel"),
        (
            "kernel",
            "kernel kernel-core kernel-modules-core kernel-rt-core kernel-uek kernel-default kernel-64k-modules",
        ),
        ("modules", "dkms zfs-dkms akmods akmod-nvidia kmod-nvidia-6.12 drbd-kmp-default"),
        ("initramfs", "initramfs-tools initramfs-tools-core cryptsetup-initramfs dracut dracut-network mkinitcpio"),
        ("loader", "grub-pc grub-efi-amd64-signed grub2-common grub2-tools shim-signed shim-x64 systemd-boot-efi"),
        (None, f"vim kmod linux-headers-{RELEASE} linux-image-{RELEASE}-dbg linux-libc-dev linux-firmware linux-perf"),
        (None, "kernel-headers kernel-devel kernel-doc kernel-tools-libs kernel-default-devel kernel-srpm-macros"),
    ],
)
def test_what_a_package_does_for_the_boot(role: str | None, names: str) -> None:
    assert {name: Package(name, "1", "amd64").role for name in names.split()} == dict.fromkeys(names.split(), role)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (f"/boot/vmlinuz-{RELEASE}", True),
        (f"/lib/modules/{RELEASE}/vmlinuz", True),
        (f"/usr/lib/modules/{RELEASE}/kernel/fs/ext4.ko.zst", True),
        (f"/boot/vmlinuz-{RELEASE}.hmac", False),
        (f"/boot/System.map-{RELEASE}", False),
        (f"/lib/modules/{RELEASE}0/kernel/ext4.ko", False),
        (f"/lib/modules/{RELEASE}/modules.order", False),
    ],
)
def test_image_and_modules(path: str, expected: bool) -> None:
    assert is_kernel_file(path, RELEASE) == expected
