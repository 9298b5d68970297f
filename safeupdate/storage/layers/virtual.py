"""Block devices that a module makes of something else: a file, another machine's disk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from safeupdate.storage.layers import ask
from safeupdate.storage.requirement import Requirement

if TYPE_CHECKING:
    from safeupdate.storage.image import Image
    from safeupdate.storage.stack import Layer

MODULES = {"drbd": "drbd", "loop": "loop", "nbd": "nbd", "rbd": "rbd", "ublk": "ublk_drv"}

KINDS = tuple(MODULES)


def needs(layer: Layer, image: Image) -> Iterator[Requirement]:
    yield from ask.module(layer, image, MODULES[layer.kind], f"it makes {layer.name}")
    if layer.kind == "nbd" and image.generator in ("initramfs-tools", "dracut"):
        yield Requirement("program", ("nbd-client",), True, f"it connects {layer.name}", layer)
