"""Installed kernels: where each distribution puts the image, the modules and the configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import BinaryIO

from safeupdate.errors import FormatError, Missing, Unreadable
from safeupdate.formats import bzimage, kconfig
from safeupdate.formats.bzimage import KernelImage
from safeupdate.machine import Machine

_IMAGE_NAME = re.compile(
    r"^(?:vmlinuz|vmlinux|vmlinuz\.efi|[bz]?Image|image|kernel|linux)-"
    r"(?P<release>.+?)(?:\.efi)?(?:\.signed)?(?:\.old|\.bak)?(?:\.gz|\.xz|\.zst)?$"
)
_NOT_A_RELEASE = re.compile(r"\.(?:hmac|sig|asc|sha\d+|dpkg-\w+|rpm\w+|new|tmp|img)$")
_FOR_DEBUGGERS = re.compile(r"^vmlinux-.+\.(?:gz|xz|zst)$")
"""SUSE puts the whole kernel beside the image that is started."""


@dataclass(frozen=True)
class Kernel:
    """One kernel image and what belongs to its release."""

    release: str
    image: str
    machine: Machine = field(repr=False, compare=False)

    @property
    def modules(self) -> str:
        """The directory that the kernel's modules are loaded from (modprobe(8))."""
        return f"/lib/modules/{self.release}"

    @cached_property
    def config_path(self) -> str | None:
        """Where the kernel's configuration is, if it is there at all."""
        places = (f"/boot/config-{self.release}", f"{self.modules}/config", f"{self.modules}/build/.config")
        return next((place for place in places if self.machine.is_file(place)), None)

    @cached_property
    def config(self) -> dict[str, str] | None:
        """The configuration by option; None where no file has it whole. Raises `Unreadable`."""
        try:
            return None if self.config_path is None else kconfig.parse(self.machine.read(self.config_path))
        except FormatError:
            return None


def release_in_name(path: str) -> str | None:
    """The release that an image's file name tells: `/boot/vmlinuz-R`, `/lib/modules/R/vmlinuz`, `…/R/linux`.

    openSUSE's sdbootutil adds a digest of the content: `…/R/linux-SHA1`. What stands there need not be a release: Arch
    Linux names its images after packages.
    """
    parts = path.strip("/").split("/")
    plain = re.sub(r"^linux-[0-9a-f]{40}$", "linux", parts[-1])
    if plain in ("vmlinuz", "vmlinux", "Image", "linux", "vmlinuz.efi") and len(parts) > 1:
        return parts[-2] if re.match(r"\d", parts[-2]) else None
    match = _IMAGE_NAME.match(parts[-1])
    if match is None or _NOT_A_RELEASE.search(parts[-1]) or re.search(r"[\s<>]", parts[-1]):
        return None
    return match.group("release")


@contextmanager
def part(machine: Machine, path: str, section: str | None) -> Iterator[tuple[BinaryIO, int]]:
    """A file, or one section of the unified kernel image in it (`.linux`, `.initrd`), and its length in bytes.

    Raises `Missing` also for a section that is not there, `Unreadable`, and `FormatError` for what is no such image.
    """
    with machine.open(path) as file:
        if section is None:
            yield file, machine.size(path)
            return
        from safeupdate.formats import uki  # pefile is slow to import, and few machines start such images

        found = next((one for one in uki.parse(file).sections if one.name == section), None)
        if found is None:
            raise Missing(f"{path}, section {section}")
        yield uki.open_section(file, found), found.size


def image_at(machine: Machine, path: str, *, embedded: bool = False) -> KernelImage | None:
    """The image's own headers; None where they cannot be read (`kernel-files` says why)."""
    try:
        with part(machine, path, ".linux" if embedded else None) as (file, _):
            return bzimage.parse(file)
    except (FormatError, Missing, Unreadable):
        return None


def kernel_at(machine: Machine, path: str, *, embedded: bool = False) -> Kernel | None:
    """The kernel in the image at `path`. Its release is the one that the image names, else the one in its file name.

    None where neither tells. The image need not be whole, nor be there.
    """
    image = image_at(machine, path, embedded=embedded)
    try:
        resolved = machine.resolve(path)
    except (Missing, Unreadable):
        resolved = path
    release = image.release if image is not None else None
    release = release or release_in_name(resolved)
    return None if release is None else Kernel(release, path, machine)


def installed(machine: Machine) -> tuple[Kernel, ...]:
    """Every kernel image on this machine with a release, in the order of the places; one a release."""
    found: dict[str, Kernel] = {}
    kernels = [kernel for path in _images(machine) if (kernel := kernel_at(machine, path)) is not None]
    # A rescue image is a copy of another one, whose name tells the release.
    for kernel in sorted(kernels, key=lambda kernel: release_in_name(kernel.image) != kernel.release):
        found.setdefault(kernel.release, kernel)
    return tuple(found.values())


def module_releases(machine: Machine) -> tuple[str, ...]:
    """The releases that have modules here, whether or not their images are to be seen."""
    names = machine.listdir("/lib/modules")
    return tuple(name for name in names if machine.exists(f"/lib/modules/{name}/modules.dep"))


def _images(machine: Machine) -> list[str]:
    paths = []
    for name in machine.listdir("/boot"):
        if release_in_name(name) is None or _FOR_DEBUGGERS.match(name):
            continue
        if machine.is_file(f"/boot/{name}"):
            paths.append(f"/boot/{name}")
    for release in machine.listdir("/lib/modules"):
        paths += [path for name in ("vmlinuz", "Image") if machine.is_file(path := f"/lib/modules/{release}/{name}")]
    for place in ("/boot", "/efi", "/boot/efi"):
        with suppress(Unreadable):  # an ESP that root alone may list
            paths += _below(machine, place)
    return paths


def _below(machine: Machine, place: str) -> list[str]:
    """Kernels as kernel-install(8) places them: TOKEN/RELEASE/linux."""
    paths = []
    for token in machine.listdir(place):
        if machine.is_link(f"{place}/{token}") or not machine.is_dir(f"{place}/{token}"):
            continue
        for release in machine.listdir(f"{place}/{token}"):
            path = f"{place}/{token}/{release}/linux"
            if machine.is_file(path):
                paths.append(path)
    return paths
