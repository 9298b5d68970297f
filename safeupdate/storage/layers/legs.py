"""What a stack comes up without: a disk of a mirror, one of several paths or of interfaces that may not be the one.

An array that misses a disk comes up degraded, if later: mdadm's script and timer, and dracut's hooks, wait for it and
then start without it. LVM's own rules wait for all disks of a group; dracut's lvm_scan gives up waiting. A btrfs on
several devices is not mounted without one of them, whatever its profile.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from safeupdate.storage.image import Image
    from safeupdate.storage.stack import Layer

Key = TypeVar("Key", bound=Hashable)

_SPARE = {"raid4": 1, "raid5": 1, "raid6": 2, "raid10": 1}
"""How many of its devices an array can do without (md(4)); a mirror can do without all but one."""


def decisive(top: Layer, image: Image, lost: Mapping[Key, Collection[Layer]]) -> frozenset[Key]:
    """Of what is lacking, each with the layers that do not come up without it: what keeps the stack from coming up.

    What does so only together with others is among it where nothing does so alone.
    """
    alone = frozenset(key for key, layers in lost.items() if _stops(top, image, frozenset(layers)))
    if not alone and _stops(top, image, frozenset(layer for layers in lost.values() for layer in layers)):
        return frozenset(lost)
    return alone


def _stops(top: Layer, image: Image, lost: frozenset[Layer]) -> bool:
    known: dict[Layer, bool] = {}

    def fails(layer: Layer) -> bool:
        if layer not in known:
            known[layer] = layer in lost  # whatever lies on itself ends here
            alike = [one for one in layer.below if "one-of" in one.facts]
            others = [one for one in layer.below if "one-of" not in one.facts]
            known[layer] = (
                known[layer]
                or sum(map(fails, others)) > _spare(layer, image)
                or (bool(alike) and all(map(fails, alike)))
            )
        return known[layer]

    return fails(top)


def _spare(layer: Layer, image: Image) -> int:
    """How many of the layers right below one may be missing."""
    others = max(len(layer.below) - 1, 0)
    if layer.kind == "disk":
        return others  # the controllers by which the kernel itself reaches an NVMe disk
    level = layer.facts.get("level", "")
    waits = layer.kind in ("lvm-raid", "lvm-mirror") and image.generator != "dracut"
    if layer.kind not in ("lvm-mirror", "lvm-raid", "md", "multipath") or waits:
        return 0
    if layer.kind in ("lvm-mirror", "multipath") or level == "raid1":
        return others
    spare = _SPARE.get(level, 0)
    if layer.kind == "lvm-raid":
        spare *= 2  # each disk has a volume for its data and one for what LVM knows of them
    lost = layer.facts.get("degraded", "0")
    spare -= int(lost) if lost.isdigit() else 0
    return max(min(spare, others), 0)
