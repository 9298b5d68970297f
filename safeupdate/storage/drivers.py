"""The chain of drivers under a block device, from sysfs (Documentation/admin-guide/sysfs-rules.rst).

A disk stands in sysfs below what it is attached to: `/sys/devices/pci0000:00/0000:00:1f.2/ata1/host0/…/block/sda`. Of
all devices on that way the driver is asked, and the module that it is from. A device that is made of others, as
device-mapper's and md's are, names them in `slaves`; some name what they lie on in a place of their own.

Modules that are built into the running kernel are among the answers where sysfs names them: in another kernel the same
driver may be a module.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from safeupdate.errors import FormatError, Missing, Unreadable
from safeupdate.machine import Machine
from safeupdate.volumes import Volumes

_LIMIT = 20_000
"""Directories of sysfs that are looked at: 2,000 disks, each behind several devices of its own, are half of that."""

_DEVICES = "/sys/devices"

_MAKERS = {
    "bcache": "bcache",
    "drbd": "drbd",
    "loop": "loop",
    "nbd": "nbd",
    "ram": "brd",
    "rbd": "rbd",
    "ublkb": "ublk_drv",
    "zd": "zfs",
    "zram": "zram",
}
"""By the names of block devices that hang on no bus: the modules that make them."""

_TARGETS = (
    (re.compile(r"CRYPT-VERITY-"), "dm_verity"),
    (re.compile(r"CRYPT-INTEGRITY-"), "dm_integrity"),
    (re.compile(r"CRYPT-"), "dm_crypt"),
    (re.compile(r"mpath-"), "dm_multipath"),
    (re.compile(r"LVM-\w+-(?:tpool|tdata|tmeta)$"), "dm_thin_pool"),
    (re.compile(r"LVM-\w+-(?:cdata|cmeta|cpool)$"), "dm_cache"),
    (re.compile(r"LVM-\w+-(?:cow|real)$"), "dm_snapshot"),
    (re.compile(r"LVM-\w+-(?:vpool|vdata)$"), "dm_vdo"),
)
"""By device-mapper's uuid: the module of the target. cryptsetup and multipath say first what a volume is, LVM says last
what a hidden one is for (its lib/activate/dev_manager.c)."""

_LINEAR = ("LVM-", "part", "DMRAID-", "stratis-")
"""The beginnings of uuids of volumes that need no target besides those of dm_mod, where nothing above says so."""

_PARTS = (
    (re.compile(r"_r(?:image|meta)_\d+$"), "dm_raid"),
    (re.compile(r"_m(?:image_\d+|log)$"), "dm_mirror"),
    (re.compile(r"_corig$"), "dm_cache"),
    (re.compile(r"_wcorig$"), "dm_writecache"),
)
"""By LVM's names for the hidden parts of a volume: the module that puts it together (lvmcache(7), lvmraid(7))."""

_LEVELS = {"raid4": "raid456", "raid5": "raid456", "raid6": "raid456"}
_TRANSPORTS = {"tcp": "nvme_tcp", "rdma": "nvme_rdma", "fc": "nvme_fc", "loop": "nvme_loop"}

_CONTROLLER = re.compile(r"nvme\d+$")
_HOST = re.compile(r"host\d+$")


@dataclass(frozen=True)
class Driver:
    """A module on the way to a block device. `device` is where in /sys it was met; `why` is a sentence without its
    full stop."""

    module: str
    device: str
    why: str


def under(machine: Machine, devices: Iterable[str]) -> tuple[Driver, ...]:
    """The drivers under block devices that go by their kernel names (`sda1`), nearest first, each module once.

    Empty without sysfs, and for devices that are not there. What vanishes while it is looked at, or cannot be read,
    is passed over. Raises nothing.
    """
    found: dict[str, Driver] = {}
    for driver in _Walk(machine).under(devices):
        found.setdefault(driver.module, driver)
    return tuple(found.values())


def module_of(machine: Machine, driver: str) -> str | None:
    """The module that a driver (`/sys/bus/pci/drivers/ahci`, or a link to one) is from, in the kernel's spelling.

    None where sysfs names none, as for many drivers that are built in.
    """
    try:
        return posixpath.basename(machine.readlink(f"{driver}/module")).replace("-", "_")
    except (Missing, Unreadable):
        return None


class _Walk:
    """One walk through sysfs. Each directory is visited once, so that loops end."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._seen: set[str] = set()

    def under(self, devices: Iterable[str]) -> Iterator[Driver]:
        pending = [*devices][::-1]
        known: set[str] = set()
        while pending and len(self._seen) < _LIMIT:
            name = pending.pop()
            place = None if name in known else self._device(f"/sys/class/block/{name}")
            if place is None:
                continue
            known.add(name)
            above = posixpath.dirname(place)
            if self._value(f"{place}/partition") is not None:
                pending.append(posixpath.basename(above))
            elif above == f"{_DEVICES}/virtual/block":
                yield from self._maker(name, place)
                pending += [*self._beside(name, place), *self._names(f"{place}/slaves")][::-1]
            elif above.startswith(f"{_DEVICES}/virtual/nvme-"):
                yield from self._controllers(name, above)
            yield from self._upward(name, place)

    def _upward(self, name: str, place: str) -> Iterator[Driver]:
        """The drivers of a device and of all above it."""
        host = None
        while place.startswith(f"{_DEVICES}/") and place not in self._seen and len(self._seen) < _LIMIT:
            self._seen.add(place)
            device = posixpath.basename(place)
            host = place if _HOST.match(device) else host
            if self._is_link(f"{place}/driver"):
                module = module_of(self._machine, f"{place}/driver")
                if module is not None:
                    yield Driver(module, place, f"{device}, through which {name} is reached, is driven by it")
                host = None
            place = posixpath.dirname(place)
        if host is not None and place == _DEVICES:
            # Nothing above the SCSI host has a driver: it hangs on no hardware, as an iSCSI session does.
            carrier = self._value(f"{host}/scsi_host/{posixpath.basename(host)}/proc_name")
            if carrier:
                yield Driver(carrier.replace("-", "_"), host, f"it carries {name}")

    def _maker(self, name: str, place: str) -> Iterator[Driver]:
        """What makes a block device that hangs on no bus."""
        uuid = self._value(f"{place}/dm/uuid")
        level = self._value(f"{place}/md/level")
        if uuid is not None:
            called = self._value(f"{place}/dm/name") or name
            why = f"it makes the volume {called} ({name})"
            yield Driver("dm_mod", place, why)
            targets = [module for pattern, module in _TARGETS if pattern.match(uuid)]
            targets += [module for pattern, module in _PARTS if pattern.search(called)]
            target = targets[0] if targets else None
            if target == "dm_vdo" and self._device("/sys/module/kvdo") is not None:
                target = "kvdo"  # its name until it became a part of Linux 6.9
            if target is not None:
                yield Driver(target, place, why)
            elif not uuid.startswith(_LINEAR):
                for module in self._targets_in_use():
                    yield Driver(module, place, f"{called} ({name}) is a volume of an unknown kind, which it may make")
        elif level is not None:
            yield Driver("md_mod", place, f"it makes the array {name}")
            if level.startswith("raid"):
                yield Driver(_LEVELS.get(level, level), place, f"it makes the array {name}")
        else:
            maker = _MAKERS.get(name.rstrip("0123456789"))
            if maker is not None:
                yield Driver(maker, place, f"it makes {name}")

    def _targets_in_use(self) -> Iterator[str]:
        """Loaded modules of device-mapper that something holds: dmsetup(8) makes volumes that say nothing of their
        kind."""
        for module in self._names("/sys/module"):
            if module.startswith("dm_") and module != "dm_mod":
                references = self._value(f"/sys/module/{module}/refcnt")
                if references not in (None, "0"):
                    yield module

    def _controllers(self, name: str, place: str) -> Iterator[Driver]:
        """An NVMe disk with several paths hangs on a subsystem that has links to its controllers; one that is reached
        over a network hangs on a controller that is no hardware."""
        controllers = [f"{place}/{entry}" for entry in self._names(place) if _CONTROLLER.match(entry)]
        for controller in [place] if _CONTROLLER.search(place) else controllers:
            real = self._device(controller)
            if real is not None and real not in self._seen:
                carrier = _TRANSPORTS.get(self._value(f"{real}/transport") or "")
                if carrier is not None:
                    yield Driver(carrier, real, f"it carries {name}")
                yield from self._upward(name, real)

    def _beside(self, name: str, place: str) -> Iterator[str]:
        """The block devices that a device lies on and does not name in `slaves`."""
        if name.startswith("bcache"):
            for entry in self._names(f"{place}/bcache/cache"):
                cache = self._device(f"{place}/bcache/cache/{entry}") if re.match(r"cache\d+$", entry) else None
                if cache is not None:
                    yield posixpath.basename(posixpath.dirname(cache))
        backing = self._value(f"{place}/loop/backing_file")
        if backing:
            try:
                yield from sorted(Volumes(self._machine).holding(backing)[0].devices)
            except (FormatError, Unreadable):
                return

    def _device(self, path: str) -> str | None:
        """The directory in /sys that a path leads to; None where it leads to none."""
        try:
            place = self._machine.resolve(path)
            return place if place.startswith("/sys/") and self._machine.is_dir(place) else None
        except (Missing, Unreadable):
            return None

    def _is_link(self, path: str) -> bool:
        try:
            return self._machine.is_link(path)
        except Unreadable:
            return False

    def _names(self, directory: str) -> list[str]:
        try:
            return self._machine.listdir(directory)
        except Unreadable:
            return []

    def _value(self, path: str) -> str | None:
        try:
            return self._machine.value(path)
        except Unreadable:
            return None
