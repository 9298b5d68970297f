"""A bcache device: udev registers what it is made of, and the kernel puts it together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from safeupdate.storage.layers import ask
from safeupdate.storage.requirement import Requirement

if TYPE_CHECKING:
    from safeupdate.storage.image import Image
    from safeupdate.storage.stack import Layer

KINDS = ("bcache",)


def needs(layer: Layer, image: Image) -> Iterator[Requirement]:
    yield from ask.module(layer, image, "bcache", "it makes the cached device")
    if image.generator in ("initramfs-tools", "dracut"):
        why = "by it the kernel is told of the disks that the cached device is made of"
        yield Requirement("rule", ("69-bcache.rules",), True, why, layer)
        programs = ("/usr/lib/udev/bcache-register", "/lib/udev/bcache-register")
        yield Requirement("program", programs, True, why, layer)
