"""Which layers of a stack it comes up without: a disk of a mirror, one of several paths.

An array that misses a disk comes up degraded, if later: mdadm's script and timer, and dracut's hooks, wait for it and
then start without it. LVM's own rules wait for all disks of a group; dracut's lvm_scan gives up waiting. A btrfs on
several devices is not mounted without one of them, whatever its profile.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from safeupdate.storage.image import Image
    from safeupdate.storage.stack import Layer

_SPARE = {"raid4": 1, "raid5": 1, "raid6": 2, "raid10": 1}
"""How many of its devices an array can do without (md(4)); a mirror can do without all but one."""


def indispensable(top: Layer, image: Image) -> frozenset[Layer]:
    """The layers, from `top` on, without any one of which the stack does not come up."""
    known: dict[Layer, frozenset[Layer]] = {}

    def needed(layer: Layer) -> frozenset[Layer]:
        if layer not in known:
            known[layer] = frozenset([layer])  # whatever lies on itself ends here
            legs = Counter(one for below in layer.below for one in needed(below))
            spare = _spare(layer, image)
            known[layer] = frozenset([layer, *(one for one, count in legs.items() if count > spare)])
        return known[layer]

    return needed(top)


def _spare(layer: Layer, image: Image) -> int:
    """How many of the layers right below one may be missing."""
    others = max(len(layer.below) - 1, 0)
    level = layer.facts.get("level", "")
    if layer.kind == "multipath":
        return others
    if layer.kind in ("lvm-raid", "lvm-mirror") and image.generator != "dracut":
        return 0
    if layer.kind == "lvm-mirror" or level == "raid1":
        return others
    lost = layer.facts.get("degraded", "0")
    spare = _SPARE.get(level, 0) - (int(lost) if lost.isdigit() else 0)
    return max(min(spare, others), 0) if layer.kind in ("md", "lvm-raid") else 0
