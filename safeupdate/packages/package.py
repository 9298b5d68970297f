"""What is installed: the values that every package manager's back end gives, and which packages a boot hangs on."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Literal, Protocol

Role = Literal["kernel", "modules", "initramfs", "loader"]
"""`modules`: those outside of the kernel's own packages, and what builds them (DKMS, akmods)."""

_ROLES: tuple[tuple[Role, re.Pattern[str]], ...] = (
    ("modules", re.compile(r"dkms|.+-dkms|akmods|a?kmod-.+|.+-kmp-.+")),
    (
        "kernel",
        re.compile(
            r"linux-(?:image|signed-image|binary|modules|base(?=-\d))-.+(?<!-dbg)(?<!-dbgsym)|"
            r"(?:pve|proxmox)-kernel-\d.*|raspberrypi-kernel|"
            r"kernel(?!.*-(?:headers|devel|docs?|html|tools.*|source.*|syms|macros|firmware.*|abi-.*|livepatch.*))"
            r"(?:-[\w.+-]+)?"
        ),
    ),
    (
        "initramfs",
        re.compile(r"(?:tiny-|cryptsetup-)?initramfs(?:-tools)?(?:-core|-bin)?|dracut(?:-.+)?|mkinitrd|mkinitcpio"),
    ),
    (
        "loader",
        re.compile(
            r"grub2?(?:-.+)?|shim(?:-.+)?|systemd-boot(?:-.+)?|systemd-ukify|sdbootutil.*|refind|extlinux|lilo|"
            r"s390-tools.*|s390utils.*|flash-kernel|u-boot-menu|raspi-firmware|raspberrypi-bootloader"
        ),
    ),
)


@dataclass(frozen=True)
class Package:
    """One package. `state` is in dpkg's words (dpkg(1)); rpm knows but one, `installed`.

    `reinstall`: dpkg says that it must be installed anew. `triggers` are the names of those that it has yet to act on.
    """

    name: str
    version: str
    architecture: str
    state: str = "installed"
    reinstall: bool = False
    triggers: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether everything was done that installing it asks for."""
        return self.state == "installed" and not self.reinstall

    @property
    def role(self) -> Role | None:
        """What it does for the boot, by its name; None for all that a boot does not hang on."""
        return next((role for role, names in _ROLES if names.fullmatch(self.name)), None)


@dataclass(frozen=True)
class PackedFile:
    """A file as its package brought it: its place now (it may be diverted), and a hexadecimal digest.

    Databases that keep them have `size` in bytes and `mtime`. Of others `placed` is when all files were in their place;
    `copied` says that the tree is a copy, in which the times of inodes tell when that was made.
    """

    path: str
    algorithm: str
    digest: str
    size: int | None = None
    mtime: int | None = None
    placed: float = 0.0
    copied: bool = False

    def touched(self, status: os.stat_result) -> bool:
        """Whether it can be another file than the package brought, by all that costs less than to read it."""
        if self.mtime is not None:
            return status.st_size != self.size or int(status.st_mtime) != self.mtime
        return (status.st_mtime if self.copied else max(status.st_mtime, status.st_ctime)) > self.placed


class Database(Protocol):
    """What one package manager has written down. Its methods raise `FormatError`, `Unreadable` or `ProgramFailed`."""

    @property
    def name(self) -> str:
        """`dpkg` or `rpm`."""

    @property
    def place(self) -> str:
        """The file or directory that holds it, for a person."""

    @property
    def locks(self) -> tuple[str, ...]:
        """The files that the package manager locks while it changes anything."""

    def packages(self) -> tuple[Package, ...]:
        """Every package with a role in the boot, by name; of several versions the one installed last comes last."""

    def of_kernel(self, release: str) -> tuple[Package, ...]:
        """The packages that brought the image or modules of this release, however far they came."""

    def files(self, package: Package, release: str) -> tuple[PackedFile, ...]:
        """Image and modules of this release that the package brought; none where nothing was written down."""

    def owner(self, path: str, release: str) -> Package | None:
        """The package that brought a file in the modules' directory of this release, there or not."""

    def named(self, name: str) -> Package | None:
        """The package of this name, however far it came; of several versions the one installed last."""


def directories(release: str) -> tuple[str, str]:
    """Where a package may say that the modules are; one is a link to the other, or is not there (usr-merge)."""
    return f"/lib/modules/{release}", f"/usr/lib/modules/{release}"


def is_kernel_file(path: str, release: str) -> bool:
    """Whether this is an image or a module of the release."""
    name = path.rpartition("/")[2]
    above, found, _ = path.partition(f"/lib/modules/{release}/")
    if found and above in ("", "/usr"):
        return ".ko" in name or name in ("vmlinuz", "vmlinux", "Image")
    return re.fullmatch(rf"/boot/(?:vmlinu[xz]|Image|kernel)-{re.escape(release)}", path) is not None
