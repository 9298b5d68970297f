"""A file system's module, and the checksums that it asks the kernel for when it is mounted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from safeupdate.storage.layers import ask
from safeupdate.storage.requirement import Requirement

if TYPE_CHECKING:
    from safeupdate.storage.image import Image
    from safeupdate.storage.stack import Layer

KINDS = ("file-system", "overlay")

_WITHOUT_MODULE = frozenset({"auto", "unknown", "swap", "tmpfs", "ramfs", "rootfs", "devtmpfs", "iscsi", "nbd", "live"})
"""What is no file system, is always a part of the kernel, or says nothing of the file system; see also `zfs`."""

_CHECKSUMS = {"crc32c": "crc32c", "crypto-crc32c": "crc32c", "crc32": "crc32", "crypto-crc32": "crc32"}
"""Of what a file system wants to have loaded before it, what it cannot be mounted without (ext4, jbd2, btrfs, f2fs and
libcrc32c fail without the algorithm). Others are for features that few have. Kernels whose file systems call the
library for it say nothing of it."""

_BTRFS = {"xxhash64": "xxhash64", "sha256": "sha256", "blake2b": "blake2b-256"}
"""By what sysfs calls the checksum of a btrfs: the algorithm. It is asked for when it is mounted, by kernels that want
it before the module; since Linux 7.0 it is a part of that."""

_PARTS = {"9p": "9pnet_virtio"}
"""What a file system needs and does not depend on."""


_OVERLAYS = ("/scripts/init-bottom/overlayroot", "/scripts/overlay", "/scripts/live", "/scripts/casper")
_HOOKS = tuple(f"{top}/dracut/hooks/{stage}" for top in ("/usr/lib", "/lib") for stage in ("mount", "pre-pivot"))
"""Where initramfs-tools and dracut have what lays an overlay over the root. Without it the machine starts, too."""


def needs(layer: Layer, image: Image) -> Iterator[Requirement]:
    fstype = layer.facts.get("fstype", layer.name)
    if layer.kind == "overlay" and not _is_laid(image):
        return
    if fstype in _WITHOUT_MODULE or fstype == "zfs" or fstype.startswith("fuse"):
        return
    why = f"it mounts the file system {fstype}"
    found = tuple(ask.module(layer, image, fstype, why, alias=f"fs-{fstype}"))
    yield from found
    if fstype in _PARTS:
        yield from ask.module(layer, image, _PARTS[fstype], f"the file system {fstype} goes through it")
    before = frozenset(_before(found, image))
    for name in sorted({_CHECKSUMS[one] for one in before.intersection(_CHECKSUMS)}):
        why = f"the file system {fstype} is not mounted without the {name} of it"
        yield from ask.algorithm(layer, image, name, why)
    checksum = _BTRFS.get(layer.facts.get("checksum", ""))
    if checksum in before:
        yield from ask.algorithm(layer, image, checksum, "the checksums of this btrfs are made with it")


def _is_laid(image: Image) -> bool:
    """Whether something in the image lays an overlay over the root."""
    hooks = (name for directory in _HOOKS for name in image.names(directory))
    return any(map(image.exists, _OVERLAYS)) or any("overlay" in name or "dmsquash" in name for name in hooks)


def _before(found: tuple[Requirement, ...], image: Image) -> Iterator[str]:
    """What a file system's module, or one that it depends on, wants to have before it."""
    for name in found[0].names if found and len(found[0].names) == 1 else ():
        for module in (name, *image.target.closure(name)):
            yield from image.target.before(module)
