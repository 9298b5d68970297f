"""Firmware that a driver on the way loads from the image.

What a module lists is far more than one machine needs (modinfo -F firmware): for other models, or what the driver goes
without. What tells is the image of the running kernel, which has brought this machine up.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from safeupdate.storage.requirement import Requirement

if TYPE_CHECKING:
    from safeupdate.storage.image import Image
    from safeupdate.storage.stack import Layer

KINDS = ("controller", "disk", "network")

_LOST_WITHOUT = frozenset(
    {"advansys", "aic94xx", "bfa", "bna", "bnx2", "bnx2x", "liquidio", "nfp", "qede", "qla1280", "ums_eneub6250"}
)
"""Drivers whose hardware is not to be had without a file; others have a copy in the hardware, or do with less."""


def needs(layer: Layer, image: Image) -> Iterator[Requirement]:
    driver = layer.facts.get("driver")
    listed = image.target.firmware(driver) if driver and image.modules else ()
    if not listed or any(map(image.firmware, listed)) or image.running is None:
        return
    names = tuple(filter(image.running.firmware, listed))
    if names:
        why = f"{driver}, which drives {layer.title}, loads it, and the image of the running kernel has it"
        otherwise = "Whether the hardware does without it cannot be told; if not, what lies on it is not found."
        yield Requirement("firmware", names, driver in _LOST_WITHOUT, why, layer, otherwise=otherwise)
