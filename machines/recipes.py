"""What the machines are made of. A change here, or in the two scripts beside, makes a new tree."""

from __future__ import annotations

from dataclasses import dataclass

_BOOTABLE = ("systemd-sysv", "udev", "kmod", "dbus", "login", "passwd", "e2fsprogs", "zstd", "grub-pc")
_INITRAMFS_TOOLS = ("initramfs-tools", "busybox")


@dataclass(frozen=True)
class Recipe:
    """A Debian release and the packages that a machine has beside the kernels and what is always there."""

    name: str
    suite: str
    packages: tuple[str, ...]
    components: tuple[str, ...] = ("main",)
    root_uuid: str = ""
    kernels: bool = True


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "debian12",
            "bookworm",
            (*_BOOTABLE, *_INITRAMFS_TOOLS),
            root_uuid="5afe0bda-0012-4000-8000-000000000001",
        ),
        # As the installer leaves a machine of today: microcode is a segment of its own in front of the image.
        Recipe(
            "debian13",
            "trixie",
            (*_BOOTABLE, *_INITRAMFS_TOOLS, "amd64-microcode", "intel-microcode"),
            components=("main", "non-free-firmware"),
            root_uuid="5afe0bda-0013-4000-8000-000000000001",
        ),
        Recipe(
            "debian12-dracut",
            "bookworm",
            (*_BOOTABLE, "dracut"),
            root_uuid="5afe0bda-0012-4000-8000-00000000000d",
        ),
        Recipe(
            "debian13-dracut",
            "trixie",
            (*_BOOTABLE, "dracut"),
            root_uuid="5afe0bda-0013-4000-8000-00000000000d",
        ),
        # No machine: an old Python, for the tests.
        Recipe("debian11-python", "bullseye", ("python3", "python3-venv"), kernels=False),
    )
}
