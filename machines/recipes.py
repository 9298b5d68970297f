"""What the machines are made of. A change here, or in the scripts beside, makes a new tree."""

from __future__ import annotations

from dataclasses import dataclass, field

_BOOTABLE = (
    "systemd-sysv",
    "udev",
    "kmod",
    "dbus",
    "login",
    "passwd",
    "e2fsprogs",
    "zstd",
    "grub-pc",
    "systemd-boot-efi",
)
_INITRAMFS_TOOLS = ("initramfs-tools", "busybox")
# openssl makes the key that dkms signs with; it is not among what dkms depends on, but most machines have it.
_DKMS = ("openssl", "dkms", "v4l2loopback-dkms", "dm-writeboost-dkms")


@dataclass(frozen=True)
class Recipe:
    """A Debian release, and the packages that a machine has beside the kernels and what is always there.

    `root_disk` is virtio's `vda` or `sda` behind AHCI; the root file system is ext4 on its one partition. A recipe
    with `wheels` has no kernels: it is a Python with these packages in /venv. One with a `base` is a copy of that
    machine, with the headers of its kernels, and the packages installed after them. One whose release is `moving` is
    another machine each week. On one for the `lab` no test stands; it is built where it is named only.
    """

    name: str
    suite: str
    packages: tuple[str, ...]
    components: tuple[str, ...] = ("main",)
    root_uuid: str = ""
    root_disk: str = "vda"
    wheels: tuple[str, ...] = ()
    base: str = field(default="", repr=False)  # counts in the hash by its own
    moving: bool = field(default=False, repr=False)
    lab: bool = field(default=False, repr=False)


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
            root_disk="sda",
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
        Recipe(
            "testing-dracut",
            "testing",
            (*_BOOTABLE, "dracut"),
            root_uuid="5afe0bda-0014-4000-8000-00000000000d",
            moving=True,
            lab=True,
        ),
        # Modules from outside the kernel's package, built for both kernels.
        Recipe(
            "debian12-dkms",
            "bookworm",
            _DKMS,
            root_uuid="5afe0bda-0012-4000-8000-000000000001",
            base="debian12",
        ),
        Recipe(
            "debian13-dkms",
            "trixie",
            _DKMS,
            components=("main", "non-free-firmware"),
            root_uuid="5afe0bda-0013-4000-8000-000000000001",
            root_disk="sda",
            base="debian13",
        ),
        # Two kernels' modules of ZFS: half an hour of one processor.
        Recipe(
            "debian12-zfs",
            "bookworm",
            ("zfs-dkms", "zfs-initramfs", "zfsutils-linux"),
            components=("main", "contrib"),
            root_uuid="5afe0bda-0012-4000-8000-000000000001",
            base="debian12-dkms",
            lab=True,
        ),
        # The oldest Python and the oldest cryptography that pyproject.toml promises.
        Recipe(
            "debian11-python",
            "bullseye",
            ("python3", "python3-venv", "zstd"),
            # tomli and exceptiongroup: what others need on this Python only, which pip on a newer one does not see.
            wheels=(
                *("cryptography==36.*", "pefile", "rich", "zstandard"),
                *("hypothesis", "jsonschema", "pytest", "tomli", "exceptiongroup"),
            ),
        ),
    )
}

WHEELS_FOR = ("--python-version=3.9", "--only-binary=:all:", "--platform=manylinux2014_x86_64")
"""What pip is told to look for: the Python of Debian 11."""
