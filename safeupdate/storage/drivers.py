"""The modules of the running kernel on the way to a block device: those of `storage/devices.py`'s layers.

Modules that are built into the running kernel are among the answers where sysfs names them: in another kernel the same
driver may be a module.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass

from safeupdate.errors import Unreadable
from safeupdate.machine import Machine
from safeupdate.storage.devices import Layer
from safeupdate.storage.layers import mapper, virtual

_LEVELS = {"raid4": "raid456", "raid5": "raid456", "raid6": "raid456"}
_MADE = {**virtual.MODULES, "bcache": "bcache", "ram": "brd", "zfs-volume": "zfs", "zram": "zram"}


@dataclass(frozen=True)
class Driver:
    """A module on the way to a block device. `device` is where in /sys it was met; `why` is a sentence without its
    full stop."""

    module: str
    device: str
    why: str


def of(machine: Machine, top: Layer) -> tuple[Driver, ...]:
    """The drivers of a layer and of all below it, nearest first, each module once.

    What vanishes while it is looked at, or cannot be read, is passed over. Raises nothing.
    """
    reached: dict[int, str] = {}
    found: dict[str, Driver] = {}
    for layer in top.walk():
        name = reached.get(id(layer), layer.name)
        if layer.kind in ("partition", "disk", "controller", "network"):
            for one in layer.below:
                if one.kind in ("disk", "controller"):
                    reached.setdefault(id(one), name)
        for driver in _of(machine, layer, name):
            found.setdefault(driver.module, driver)
    return tuple(found.values())


def _of(machine: Machine, layer: Layer, name: str) -> Iterator[Driver]:
    """The drivers of one layer, under the block device or network interface `name`."""
    facts = layer.facts
    place = facts.get("sysfs", "")
    if "dm-uuid" in facts:
        called = facts["dm-name"]
        why = f"it makes the volume {called} ({layer.name})"
        yield Driver("dm_mod", place, why)
        if layer.kind == "lvm-vdo" and machine.is_dir("/sys/module/kvdo"):
            yield Driver("kvdo", place, why)  # its name until it became a part of Linux 6.9
        elif layer.kind in mapper.TARGETS:
            yield Driver(f"dm_{mapper.TARGETS[layer.kind]}".replace("-", "_"), place, why)
        elif layer.kind in ("unknown", "dm"):
            for module in _targets_in_use(machine):
                why = f"{called} ({layer.name}) is a volume of an unknown kind, which it may make"
                yield Driver(module, place, why)
    elif layer.kind == "md":
        level = facts["level"]
        yield Driver("md_mod", place, f"it makes the array {layer.name}")
        if level.startswith("raid"):
            yield Driver(_LEVELS.get(level, level), place, f"it makes the array {layer.name}")
    elif layer.kind in _MADE:
        yield Driver(_MADE[layer.kind], place, f"it makes {layer.name}")
    elif facts.get("driver"):
        why = f"{posixpath.basename(facts['device'])}, through which {name} is reached, is driven by it"
        if layer.kind == "network":
            why = f"the network is reached through {name}, which is driven by it"
        yield Driver(facts["driver"], facts["device"], why)
    elif facts.get("carrier"):
        yield Driver(facts["carrier"], place, f"it carries {name}")


def _targets_in_use(machine: Machine) -> Iterator[str]:
    """Loaded modules of device-mapper that something holds: dmsetup(8) makes volumes that say nothing of their kind."""
    try:
        for module in machine.listdir("/sys/module"):
            references = machine.value(f"/sys/module/{module}/refcnt") if module.startswith("dm_") else None
            if references not in (None, "0") and module != "dm_mod":
                yield module
    except Unreadable:
        return
