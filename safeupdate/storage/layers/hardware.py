"""Disks, controllers and network adapters: the driver that the target kernel has for each, by its modalias."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from safeupdate.storage.requirement import Requirement

if TYPE_CHECKING:
    from safeupdate.storage.image import Image
    from safeupdate.storage.stack import Layer
    from safeupdate.storage.target import Target

KINDS = ("controller", "disk", "network")

_DRIVERS = {"sd": "sd_mod", "mmcblk": "mmc_block", "vbd": "xen_blkfront", "vif": "xen_netfront"}
"""Drivers that bear another name than their module; by it they are found where they are built in."""


def needs(layer: Layer, image: Image) -> Iterator[Requirement]:
    driver = layer.facts.get("driver")
    if driver is None:
        return
    why = f"it drives {layer.title}"
    names = drivers(image.target, layer)
    if names:
        yield Requirement("module", names, True, why, layer)
    elif is_lost(image.target, layer):
        why = f"{why} today, and no other driver of this kernel says that it would"
        yield Requirement("module", (driver,), True, why, layer, met=False)


def is_lost(target: Target, layer: Layer) -> bool:
    """Whether a kernel surely has no driver for what a module drives today."""
    return bool(layer.facts.get("driver")) and target.lists_aliases and not drivers(target, layer)


def drivers(target: Target, layer: Layer) -> tuple[str, ...]:
    """The modules of which any one will do; none where it is not known. The one that drives the device today is the
    only one where the target has it and it still says so: another that says it, too, often leaves the device to it
    (usb-storage to uas, ata_generic to ahci)."""
    driver, own = layer.facts.get("driver", ""), layer.facts.get("driver-name", "")
    modalias = layer.facts.get("modalias", "")
    said = target.by_alias(modalias) if modalias else ()
    known = target.by_name(driver) if driver else target.by_name(_DRIVERS.get(own, own))
    if driver and known == (driver,) and (not said or driver in said):
        return known
    if not driver and not known:
        # What is built in today and has no module's name is a part of the kernel; others may claim the device, too,
        # as shpchp does with PCI bridges.
        return tuple(name for name in said if name in target.tree.builtin)
    return tuple(dict.fromkeys(known + said))
