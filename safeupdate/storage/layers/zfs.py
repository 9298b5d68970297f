"""A pool of ZFS (zfs-initramfs' script, and OpenZFS' module for dracut)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from safeupdate.errors import Unreadable
from safeupdate.storage.layers import ask
from safeupdate.storage.requirement import Requirement

if TYPE_CHECKING:
    from safeupdate.storage.image import Image
    from safeupdate.storage.stack import Layer

KINDS = ("zfs-pool", "zfs-volume")

_NUMBER = "/etc/hostid"


def needs(layer: Layer, image: Image) -> Iterator[Requirement]:
    yield from ask.module(layer, image, "zfs", "it imports the pool")
    if image.generator not in ("initramfs-tools", "dracut", "mkinitcpio"):
        return
    yield Requirement("program", ("zpool",), True, "it imports the pool", layer)
    yield Requirement("program", ("zfs", "mount.zfs"), True, "it mounts the root dataset", layer)
    if image.generator == "initramfs-tools":
        yield Requirement("file", ("/scripts/zfs",), True, "it imports the pool and mounts the root dataset", layer)
    yield from _identity(layer, image)


def _identity(layer: Layer, image: Image) -> Iterator[Requirement]:
    """The number by which a pool knows the machine that used it last (zgenhostid(8)): another is refused the pool.

    A pool that was never imported by a machine with a number knows none, so that only what the running kernel was
    started with shows that it is needed.
    """
    there = False
    with suppress(Unreadable):
        there = image.machine is not None and image.machine.exists(_NUMBER)
    line = ask.arguments(image)
    if there and "spl_hostid" not in line and "spl.spl_hostid" not in line:
        known = image.running is not None and image.running.exists(_NUMBER)
        why = "by it the pool knows this machine"
        otherwise = "If the pool has been imported with that number, it is refused without it, and the boot stops."
        yield Requirement("file", (_NUMBER,), known, why, layer, otherwise=otherwise)
