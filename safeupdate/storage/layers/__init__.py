"""What each layer of storage needs in the initramfs: one file a layer, each with `KINDS` and `needs(layer, image)`.

What must be there follows from what the programs that make and run the image do without it: initramfs-tools' hooks and
scripts (initramfs-tools(7), and those of lvm2, cryptsetup-initramfs, mdadm, multipath-tools-boot, btrfs-progs),
dracut's modules (dracut.modules(7)), and systemd's generators and units in the image. Of images that another program
made, little is known but that the modules must be there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from safeupdate.storage.layers import (
    bcache,
    btrfs,
    crypt,
    file_systems,
    firmware,
    hardware,
    integrity,
    keyboard,
    lvm,
    lvm_filter,
    mapper,
    md,
    multipath,
    network,
    verity,
    virtual,
    zfs,
)
from safeupdate.storage.layers.legs import decisive
from safeupdate.storage.requirement import Requirement

if TYPE_CHECKING:
    from safeupdate.storage.image import Image
    from safeupdate.storage.stack import Layer

__all__ = ["KNOWN", "LAYERS", "NEEDS_NOTHING", "decisive", "needs"]

LAYERS = (
    file_systems,
    btrfs,
    zfs,
    mapper,
    crypt,
    keyboard,
    lvm,
    lvm_filter,
    integrity,
    verity,
    multipath,
    md,
    bcache,
    virtual,
    network,
    hardware,
    firmware,
)
"""Nearest to the file system first; several may speak of one layer."""

NEEDS_NOTHING = ("ram", "subvolume", "swap", "zram")
"""Kinds of layers that need nothing of their own; nor do partitions that the kernel itself finds."""

KNOWN = frozenset(kind for one in LAYERS for kind in one.KINDS) | frozenset(NEEDS_NOTHING)
"""All kinds of layers that were thought of."""


def needs(layer: Layer, image: Image) -> Iterator[Requirement]:
    """All that one layer needs, without what lies under it."""
    for one in LAYERS:
        if layer.kind in one.KINDS:
            yield from one.needs(layer, image)
