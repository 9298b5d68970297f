"""A pool of ZFS (zfs-initramfs' script, and OpenZFS' module for dracut)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from safeupdate.storage.layers import ask
from safeupdate.storage.requirement import Requirement

if TYPE_CHECKING:
    from safeupdate.storage.image import Image
    from safeupdate.storage.stack import Layer

KINDS = ("zfs-pool", "zfs-volume")


def needs(layer: Layer, image: Image) -> Iterator[Requirement]:
    yield from ask.module(layer, image, "zfs", "it imports the pool")
    if image.generator not in ("initramfs-tools", "dracut", "mkinitcpio"):
        return
    yield Requirement("program", ("zpool",), True, "it imports the pool", layer)
    yield Requirement("program", ("zfs", "mount.zfs"), True, "it mounts the root dataset", layer)
    if image.generator == "initramfs-tools":
        yield Requirement("file", ("/scripts/zfs",), True, "it imports the pool and mounts the root dataset", layer)
