"""The devices of a machine as layers, from what lies on top down to the hardware, by sysfs.

A disk stands in sysfs below what it is attached to: `/sys/devices/pci0000:00/0000:00:1f.2/ata1/host0/…/block/sda`; each
device on that way that has a driver is a layer (Documentation/admin-guide/sysfs-rules.rst). A device that is made of
others, as device-mapper's and md's are, names them in `slaves`; some name what they lie on in a place of their own.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from safeupdate.errors import FormatError, Missing, ProgramFailed, Unreadable
from safeupdate.formats import crypttab, dm_table, luks
from safeupdate.formats.crypttab import Line
from safeupdate.formats.dm_table import Target
from safeupdate.machine import Machine
from safeupdate.volumes import Volumes

TABLE = "/run/safeupdate/dmsetup-table"
"""Where a captured tree has what `dmsetup table` said; a machine itself has no such file."""

_SUPPLYING = ("active", "not tracked", None)
"""What sysfs says of a link to a supplier that is used: one that the driver core, or a framework, keeps (ABI document
sysfs-class-devlink). Kernels before 5.10 say nothing."""

_LIMIT = 20_000
"""Block devices that are looked at: 2,000 disks with ten partitions each; and network interfaces."""

_DEPTH = 60
"""Layers one on the other: LUKS on a cached thin LVM on an array of multipath disks has 15."""

_DEVICES = "/sys/devices"

_DISK_OF = re.compile(r"(?:(?<=\d)p)?\d+$")
"""What a partition's kernel name has besides its disk's (`vda1`, `nvme0n1p1`)."""

_UUIDS = (
    (re.compile(r"CRYPT-VERITY-"), "verity"),
    (re.compile(r"CRYPT-(?:INTEGRITY|SUBDEV)-"), "integrity"),
    (re.compile(r"CRYPT-"), "crypt"),
    (re.compile(r"mpath-"), "multipath"),
    (re.compile(r"part"), "partition"),
    (re.compile(r"DMRAID-"), "dmraid"),
    (re.compile(r"stratis-"), "stratis"),
)
"""By the beginning of device-mapper's uuid: what a volume is, as the program that made it says."""

_PARTS = (
    (re.compile(r"LVM-\w+-(?:tpool|tdata|tmeta)\n"), "lvm-thin"),
    (re.compile(r"LVM-\w+-(?:cdata|cmeta|cpool)\n"), "lvm-cache"),
    (re.compile(r"LVM-\w+-(?:cow|real)\n.*-(?:cow|real)$"), "lvm-snapshot"),
    (re.compile(r"LVM-\w+-(?:vpool|vdata)\n"), "lvm-vdo"),
    (re.compile(r"LVM-.*\n.*_r(?:image|meta)_\d+$"), "lvm-raid"),
    (re.compile(r"LVM-.*\n.*_m(?:image_\d+|log)$"), "lvm-mirror"),
    (re.compile(r"LVM-.*\n.*_corig$"), "lvm-cache"),
    (re.compile(r"LVM-.*\n.*_wcorig$"), "lvm-writecache"),
)
"""By the uuid and the name of a hidden volume of LVM's, with a newline between them: what it is a part of (LVM's
lib/activate/dev_manager.c; lvmcache(7), lvmraid(7))."""

_GROUP = 36
"""Letters of the uuid that all volumes of an LVM group have: `LVM-` and the group's own."""

_TARGETS = {"crypt": "crypt", "verity": "verity", "integrity": "integrity", "multipath": "multipath"}
"""By the target that the kernel has for a volume, where its uuid does not tell."""

_MADE = {
    "drbd": ("drbd", "DRBD device"),
    "loop": ("loop", "loop device"),
    "nbd": ("nbd", "network block device"),
    "ram": ("ram", "memory disk"),
    "rbd": ("rbd", "Ceph block device"),
    "ublkb": ("ublk", "userspace block device"),
    "zd": ("zfs-volume", "ZFS volume"),
    "zram": ("zram", "compressed memory"),
}
"""By the names of block devices that hang on no bus: their kind, and words for it."""

_NETWORKED = ("nbd", "rbd", "drbd")

_LVM = {
    "lvm": "LVM volume",
    "lvm-thin": "thin LVM volume",
    "lvm-cache": "cached LVM volume",
    "lvm-snapshot": "LVM volume with snapshots",
    "lvm-vdo": "LVM VDO volume",
    "lvm-raid": "LVM RAID volume",
    "lvm-mirror": "mirrored LVM volume",
    "lvm-writecache": "LVM volume with a write cache",
}

_MAPPED = {
    "verity": "dm-verity volume",
    "integrity": "dm-integrity volume",
    "multipath": "multipath device",
    "partition": "partition",
    "dmraid": "firmware RAID volume",
    "stratis": "Stratis volume",
    "dm": "device-mapper volume",
    "unknown": "device-mapper volume of an unknown kind",
}

_TRANSPORTS = (
    (re.compile(r"/session\d+/"), "iSCSI"),
    (re.compile(r"/rport-"), "Fibre Channel"),
    (re.compile(r"/usb\d+/"), "USB"),
    (re.compile(r"/ata\d+/"), "SATA"),
    (re.compile(r"/end_device-"), "SAS"),
    (re.compile(r"/nvme\d+/"), "NVMe"),
    (
        re.compile(r"/(?:VMBUS:\d+|vmbus_\d+)/|/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/host\d+/", re.IGNORECASE),
        "Hyper-V",
    ),
    (re.compile(r"/virtio\d+/host\d+/"), "virtio SCSI"),
)
"""By its place in sysfs: how a disk is attached."""

_BUSES = {
    "virtio": "virtio",
    "mmc": "MMC or SD",
    "xen": "Xen",
    "scsi": "SCSI",
    "nd": "persistent memory",
    "ccw": "DASD",
}

_CLASSES = {
    "0x0100": "SCSI controller",
    "0x0101": "IDE controller",
    "0x0104": "RAID controller",
    "0x0106": "SATA controller",
    "0x0107": "SAS controller",
    "0x0108": "NVMe controller",
    "0x0200": "network adapter",
    "0x0280": "network adapter",
    "0x0805": "SD host controller",
    "0x0c03": "USB controller",
    "0x0c04": "Fibre Channel adapter",
}
"""By the first digits of a PCI device's class (PCI Code and ID Assignment Specification)."""

_NAMED = {"virtio-pci": "PCI device", "vmd": "Intel VMD"}
"""Drivers whose name tells more than the class of the device."""

_CARRIERS = {"tcp": "nvme_tcp", "rdma": "nvme_rdma", "fc": "nvme_fc", "loop": "nvme_loop"}
"""By the transport of an NVMe controller that is reached over a fabric: the module that carries it."""

_CONTROLLER = re.compile(r"nvme\d+$")
_HOST = re.compile(r"host\d+$")
_DRIVER = re.compile(r"(?:^|/)bus/([^/]+)/drivers/([^/]+)$")

_STORED = {
    "content": "ID_FS_TYPE",
    "content-uuid": "ID_FS_UUID",
}
"""What udev knows of a block device: the fact's name here, and the property's."""

_ARRAY = {
    "degraded": "degraded",
    "metadata": "metadata_version",
}


@dataclass(frozen=True, eq=False)
class Layer:
    """One step on the way from a file system to the hardware. Two layers are the same only if they are one object: what
    several layers lie on is below each of them, once.

    `name` is the kernel's (`dm-0`, `0000:00:1f.2`), or a file system's type; `title` is for a person. Facts that are
    not known are not there. Of every layer in sysfs: `sysfs`, its place. Of what a device driver drives (kinds `disk`,
    `controller`, `network`): `driver`, the module of the running kernel, empty where it is built in; `driver-name`,
    `bus`, `device` (the place of what is driven) and `modalias`; `carrier`, a module that carries a disk which hangs on
    no hardware. Of block devices, what udev read on them: `content` (a type, as blkid(8) calls it), `content-uuid`, and
    of a part of an LVM group `links`, its other names below /dev. Of device-mapper's volumes: `dm-name`, `dm-uuid`,
    `targets`. Of `crypt`: `format` (`LUKS1`, `LUKS2`, `PLAIN`, …), `luks-uuid`, `cipher` (as dm-crypt's table has it),
    `integrity`. Of `lvm…`: `group`, `volume`, `part` for one that LVM hides, `level` where dm-raid has it. Of `md`:
    `level`, `array-uuid`, `degraded`, `metadata`. Of `multipath`: `wwid`, `selector` and `handler`, as the kernel names
    these. Of `network`: `type`, of one that is no hardware, and `one-of`, all interfaces of which any may be the one.
    Of file systems: `fstype`, `options`, and of a btrfs on several `devices` their number, and its `checksum`. Of
    `zfs-pool`: `pool`.
    """

    kind: str
    name: str
    title: str
    facts: Mapping[str, str] = field(default_factory=dict)
    below: tuple[Layer, ...] = field(default=(), repr=False)

    def walk(self) -> Iterator[Layer]:
        """This layer and all under it, each once, nearest first."""
        pending, seen = [self], set()
        while pending:
            layer = pending.pop()
            if id(layer) not in seen:
                seen.add(id(layer))
                yield layer
                pending += reversed(layer.below)


def module_of(machine: Machine, driver: str) -> str | None:
    """The module that a driver (`/sys/bus/pci/drivers/ahci`, or a link to one) is from, in the kernel's spelling.

    None where sysfs names none, as for many drivers that are built in.
    """
    try:
        return posixpath.basename(machine.readlink(f"{driver}/module")).replace("-", "_")
    except (Missing, Unreadable):
        return None


class Devices:
    """The layers of one machine. Each device is looked at once, so that loops end: what lies on itself is `unknown`.

    What vanishes while it is looked at, or cannot be read, is not there. No method raises anything.
    """

    def __init__(self, machine: Machine, volumes: Volumes | None = None, *, interfaces: Iterable[str] = ()) -> None:
        """`interfaces` are names of those that the network is reached through, and may be anything else."""
        self._machine = machine
        self._ports = frozenset(interfaces)
        self._volumes = volumes or Volumes(machine)
        self._blocks: dict[str, Layer] = {}
        self._interfaces: dict[str, Layer] = {}
        self._above: dict[str, Layer | None] = {}
        self._modules: dict[str, str] = {}
        self._depth = 0

    def _once(self, seen: dict[str, Layer], name: str, words: str, make: Callable[[str], Layer]) -> Layer:
        if name in seen:
            return seen[name]
        if self._depth >= _DEPTH or len(seen) >= _LIMIT:
            return Layer("unknown", name, f"{words}, and more below it than is looked at")
        seen[name] = Layer("unknown", name, f"{words}, which lies on itself")
        self._depth += 1
        seen[name] = make(name)
        self._depth -= 1
        return seen[name]

    def block(self, name: str) -> Layer:
        """A block device by its kernel name; of kind `unknown` where sysfs does not show it."""
        return self._once(self._blocks, name, name, self._block)

    def has(self, name: str) -> bool:
        """Whether sysfs shows a block device of that kernel name."""
        return self._device(f"/sys/class/block/{name}") is not None

    def _block(self, name: str) -> Layer:
        place = self._device(f"/sys/class/block/{name}")
        if place is None:
            return Layer("unknown", name, f"{name}, of which sysfs tells nothing")
        facts = {"sysfs": place, **self._stored(name)}
        above = posixpath.dirname(place)
        plain = above == "/sys/class/block"  # a tree that somebody wrote by hand, without the links of sysfs
        if self._value(f"{place}/partition") is not None:
            disk = _DISK_OF.sub("", name) if plain else posixpath.basename(above)
            return Layer("partition", name, f"partition {name}", facts, (self.block(disk),))
        if above != f"{_DEVICES}/virtual/block" and not plain:
            return self._disk(name, place, facts)
        uuid = self._value(f"{place}/dm/uuid")
        if uuid is not None:
            return self._mapped(name, place, facts, uuid)
        level = self._value(f"{place}/md/level")
        if level is not None:
            return self._array(name, place, facts, level)
        below = tuple(map(self.block, [*self._beside(name, place), *self._names(f"{place}/slaves")]))
        if plain and not below and name.rstrip("0123456789") not in _MADE:
            return self._disk(name, place, facts)
        kind, words = _MADE.get(name.rstrip("0123456789"), ("unknown", "block device of an unknown kind"))
        if name.startswith("bcache"):
            kind, words = "bcache", "bcache device"
        elif kind in _NETWORKED:
            below += self.networks
        return Layer(kind, name, f"{words} {name}", facts, below)

    def _stored(self, name: str) -> dict[str, str]:
        properties = self._udev.get(name, {})
        facts = {fact: properties[key] for fact, key in _STORED.items() if properties.get(key)}
        if facts.get("content") == "LVM2_member":
            facts["links"] = " ".join(self._volumes.links(name))
        return facts

    @cached_property
    def _udev(self) -> Mapping[str, Mapping[str, str]]:
        try:
            return self._volumes.udev
        except Unreadable:
            return {}

    def _slaves(self, place: str) -> tuple[Layer, ...]:
        return tuple(map(self.block, self._names(f"{place}/slaves")))

    def _mapped(self, name: str, place: str, facts: dict[str, str], uuid: str) -> Layer:
        called = self._value(f"{place}/dm/name") or name
        below = self._slaves(place)
        targets = self._tables.get(called, ())
        facts.update({"dm-name": called, "dm-uuid": uuid})
        if targets:
            facts["targets"] = " ".join(dict.fromkeys(target.kind for target in targets))
        if uuid.startswith("LVM-"):
            return self._volume(name, facts, below, targets)
        kind = next((kind for pattern, kind in _UUIDS if pattern.match(uuid)), None)
        if kind is None:
            kind = _TARGETS.get(targets[0].kind, "dm") if targets else "unknown"
        if kind == "crypt":
            self._encrypted(facts, targets)
            return Layer(kind, name, f"{facts['format']} volume {called} ({name})", facts, below)
        if kind == "multipath":
            facts.update({"wwid": uuid.partition("-")[2], **_paths(targets)})
        return Layer(kind, name, f"{_MAPPED[kind]} {called} ({name})", facts, below)

    def _volume(self, name: str, facts: dict[str, str], below: tuple[Layer, ...], targets: tuple[Target, ...]) -> Layer:
        """A volume of LVM's. What a visible one is made of, the hidden ones under it tell."""
        uuid, called = facts["dm-uuid"], facts["dm-name"]
        group, _, volume = re.sub("([^-])-([^-])", r"\1\n\2", called, count=1).replace("--", "-").partition("\n")
        facts.update({"group": group, "volume": volume})
        kind = next((kind for pattern, kind in _PARTS if pattern.match(f"{uuid}\n{called}")), None)
        if kind is not None:
            facts["part"] = "yes"
        parts = (one for one in below if "part" in one.facts and one.facts["dm-uuid"][:_GROUP] == uuid[:_GROUP])
        kind = kind or next((one.kind for one in parts), "lvm")
        raid = next((target.arguments for target in targets if target.kind == "raid"), ())
        if raid:
            facts["level"] = raid[0].partition("_")[0]
        words = f"{_LVM[kind]}'s part" if "part" in facts else _LVM[kind]
        return Layer(kind, name, f"{words} {group}/{volume} ({name})", facts, below)

    def _encrypted(self, facts: dict[str, str], targets: tuple[Target, ...]) -> None:
        uuid, called = facts["dm-uuid"], facts["dm-name"]
        facts["format"] = uuid.split("-")[1] if uuid.count("-") >= 2 else "encrypted"
        luks = re.match(r"CRYPT-LUKS[12]-([0-9a-f]{8})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{12})", uuid)
        if luks:
            facts["luks-uuid"] = "-".join(luks.groups())
        for target in targets:
            if target.kind == "crypt" and target.arguments:
                facts["cipher"] = target.arguments[0]
                for argument in target.arguments:
                    if argument.startswith("integrity:"):
                        facts["integrity"] = argument.partition(":")[2]
        facts.update({**self.apart(called), **facts})

    def apart(self, name: str) -> dict[str, str]:
        """What the header of an encrypted volume tells, where crypttab(5) says that it is a file apart from the
        device."""
        line = self.crypttab.get(name)
        place = line.value("header") if line is not None else None
        if place is None:
            return {}
        try:
            with self._machine.open(place) as file:
                header = luks.parse(file)
        except (FormatError, Missing, Unreadable):
            return {}
        found = {"luks-uuid": header.uuid, "cipher": " ".join(header.ciphers)}
        return {fact: value for fact, value in found.items() if value}

    @cached_property
    def crypttab(self) -> Mapping[str, Line]:
        """The lines of /etc/crypttab by the names of their volumes: the first of each."""
        try:
            lines = crypttab.parse(self._machine.read_if_there("/etc/crypttab") or b"")
        except Unreadable:
            return {}
        return {line.name: line for line in reversed(lines)}

    @cached_property
    def _tables(self) -> Mapping[str, tuple[Target, ...]]:
        """What dmsetup knows: sysfs does not tell which targets a volume has."""
        try:
            return dm_table.parse(table(self._machine))
        except (ProgramFailed, Unreadable):
            return {}

    def _array(self, name: str, place: str, facts: dict[str, str], level: str) -> Layer:
        facts["level"] = level
        for fact, attribute in _ARRAY.items():
            value = self._value(f"{place}/md/{attribute}")
            if value:
                facts[fact] = value
        below = self._slaves(place)
        stored = self._udev.get(name, {})
        uuids = {one.facts.get("content-uuid") for one in below if one.facts.get("content") == "linux_raid_member"}
        uuid = self._value(f"{place}/md/uuid") or stored.get("MD_UUID") or (min(filter(None, uuids), default=""))
        if uuid:
            facts["array-uuid"] = _array_uuid(uuid)
        words = f"{level} array {name}"
        if facts.get("degraded", "0") != "0":
            words += ", degraded"
        return Layer("md", name, words, facts, below)

    def _disk(self, name: str, place: str, facts: dict[str, str]) -> Layer:
        above = posixpath.dirname(place)
        if above.startswith(f"{_DEVICES}/virtual/nvme-"):
            return Layer("disk", name, f"NVMe disk {name}", facts, tuple(self._controllers(above)))
        owner = posixpath.dirname(above) if posixpath.basename(above) == "block" else above
        driven = self._driven(owner)
        facts.update(driven)
        bus = driven.get("bus", "")
        words = next((words for pattern, words in _TRANSPORTS if pattern.search(place)), _BUSES.get(bus, bus))
        below = self.above(posixpath.dirname(owner) if driven else owner)
        return Layer("disk", name, f"{words} disk {name}".strip(), facts, () if below is None else (below,))

    def _controllers(self, place: str) -> Iterator[Layer]:
        """An NVMe disk with several paths hangs on a subsystem that has links to its controllers; one that is reached
        over a network hangs on a controller that is no hardware."""
        controllers = [f"{place}/{entry}" for entry in self._names(place) if _CONTROLLER.match(entry)]
        for path in [place] if _CONTROLLER.search(place) else controllers:
            real = self._device(path)
            transport = self._value(f"{real}/transport") if real is not None else None
            if real is not None and transport in _CARRIERS:
                facts = {"sysfs": real, "carrier": _CARRIERS[transport]}
                name = posixpath.basename(real)
                below = self.networks if transport in ("tcp", "rdma") else ()
                yield Layer("controller", name, f"NVMe over {transport}, {name}", facts, below)
            layer = self.above(real) if real is not None else None
            if layer is not None:
                yield layer

    def above(self, place: str) -> Layer | None:
        """The nearest device that has a driver, at a place in sysfs or above it; None where there is none."""
        way = []
        while place.startswith(f"{_DEVICES}/") and place not in self._above:
            way.append(place)
            place = posixpath.dirname(place)
        layer = self._above.get(place)
        for place in reversed(way):
            if place not in self._above:
                self._above[place] = layer  # for what supplies the device and lies on it
                self._above[place] = self._controller(place, layer) or layer
            layer = self._above[place]
        return layer

    def _controller(self, place: str, below: Layer | None) -> Layer | None:
        name = posixpath.basename(place)
        facts = self._driven(place)
        if facts:
            number = (self._value(f"{place}/class") or "")[:6]
            if number == "0x0604" or facts["driver-name"] == "pcieport":
                return None  # a PCI bridge: what is behind it is found without a driver
            bus = facts["bus"]
            words = _CLASSES.get(number, f"{bus.upper() if len(bus) < 4 else bus} device")
            words = _NAMED.get(facts["driver-name"], words)
            facts["sysfs"] = place
            return Layer("controller", name, f"{words} {name}", facts, self._attached(below, place))
        carrier = self._value(f"{place}/scsi_host/{name}/proc_name") if below is None and _HOST.match(name) else None
        if carrier:
            # Nothing above the SCSI host has a driver: it hangs on no hardware, as an iSCSI session does.
            facts = {"sysfs": place, "carrier": carrier.replace("-", "_")}
            below_it = self.networks if carrier in ("iscsi_tcp", "ib_iser", "fcoe") else ()
            return Layer("controller", name, f"SCSI over {carrier}, {name}", facts, below_it)
        return None

    def _attached(self, above: Layer | None, place: str) -> tuple[Layer, ...]:
        """What a device at a place in sysfs lies on: what it is attached to, and what supplies it."""
        return tuple(dict.fromkeys((*((above,) if above is not None else ()), *self._suppliers(place))))

    def _suppliers(self, place: str) -> list[Layer]:
        """What a device does not start without by the devicetree: regulators, clocks, PHYs, power domains. The kernel
        links it to each (ABI documents sysfs-devices-supplier and sysfs-class-devlink), and its driver is not tried, or
        gives up, before theirs are there (Documentation/driver-api/device_link.rst)."""
        names = self._names(place)
        # Elsewhere drivers link devices for themselves, as Thunderbolt's does USB controllers: not without them.
        if self._depth >= _DEPTH or "of_node" not in names:
            return []
        found = []
        self._depth += 1
        for link in [f"{place}/{name}" for name in names if name.startswith("supplier:")]:
            supplier = self._device(f"{link}/supplier") or ""
            used = self._value(f"{link}/status") in _SUPPLYING and self._value(f"{link}/sync_state_only") != "1"
            # The kernel does not wait for an IOMMU for ever, and many drivers do without a DMA engine.
            optional = any(self._names(f"{supplier}/{one}") for one in ("iommu", "dma"))
            if used and not optional and not supplier.startswith(f"{place}/"):  # its own part comes after it
                found.append(self.above(supplier))
        self._depth -= 1
        return [one for one in found if one is not None]

    def _driven(self, place: str) -> dict[str, str]:
        """The facts of a device that has a driver; none of one that has not."""
        try:
            link = self._machine.readlink(f"{place}/driver")
        except (Missing, Unreadable):
            return {}
        match = _DRIVER.search(link)
        bus, name = match.groups() if match else ("", posixpath.basename(link))
        key = f"{bus}/{name}"
        if key not in self._modules:
            self._modules[key] = module_of(self._machine, f"{place}/driver") or ""
        facts = {"device": place, "bus": bus, "driver-name": name, "driver": self._modules[key]}
        modalias = self._value(f"{place}/modalias")
        return {**facts, "modalias": modalias} if modalias else facts

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
                yield from sorted(self._volumes.holding(backing)[0].devices)
            except (FormatError, Unreadable):
                return

    @cached_property
    def networks(self) -> tuple[Layer, ...]:
        """The interfaces behind which the network is: those that are known, else all wired ones that are up.

        Nothing tells which of several a connection goes through: each then has the fact `one-of`.
        """
        there = self._names("/sys/class/net")
        found = [name for name in there if name in self._ports]
        if not found:
            found = [name for name in there if self._is_wired(f"/sys/class/net/{name}")]
            if len(found) > 1:
                layers = map(self.interface, found)
                return tuple(replace(one, facts={**one.facts, "one-of": " ".join(found)}) for one in layers)
        return tuple(map(self.interface, found))

    def _is_wired(self, place: str) -> bool:
        return (
            self._value(f"{place}/operstate") == "up"
            and self._device(f"{place}/device") is not None
            and self._device(f"{place}/phy80211") is None
        )

    def interface(self, name: str) -> Layer:
        """A network interface by its name, with what it is made of or attached to."""
        return self._once(self._interfaces, name, f"the network interface {name}", self._interface)

    def _interface(self, name: str) -> Layer:
        place = self._device(f"/sys/class/net/{name}")
        if place is None:
            return Layer("unknown", name, f"network interface {name}, of which sysfs tells nothing")
        kind = re.search(r"^DEVTYPE=(\w+)$", self._text(f"{place}/uevent"), re.MULTILINE)
        facts = {"sysfs": place, **({"type": kind.group(1)} if kind else {})}
        lower = [entry[len("lower_") :] for entry in self._names(place) if entry.startswith("lower_")]
        device = self._device(f"{place}/device")
        if device is None:
            words = f"{kind.group(1) if kind else 'network'} interface {name}"
            return Layer("network", name, words, facts, tuple(map(self.interface, lower)))
        facts.update(self._driven(device))
        above = self.above(posixpath.dirname(device))
        return Layer("network", name, f"network interface {name}", facts, self._attached(above, device))

    def _device(self, path: str) -> str | None:
        """The directory in /sys that a path leads to; None where it leads to none."""
        try:
            place = self._machine.resolve(path)
            return place if place.startswith("/sys/") and self._machine.is_dir(place) else None
        except (Missing, Unreadable):
            return None

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

    def _text(self, path: str) -> str:
        try:
            return self._machine.text(path) or ""
        except Unreadable:
            return ""


def table(machine: Machine) -> bytes:
    """What `dmsetup table` says of this machine's volumes, without keys; nothing where it is not known.

    Raises `Unreadable`, and `ProgramFailed` where dmsetup does not end in time.
    """
    if not machine.live:
        return dm_table.without_keys(machine.read_if_there(TABLE) or b"")
    # It reads what the kernel has in its memory: where it waits, device-mapper itself hangs.
    return dm_table.without_keys(machine.run(["dmsetup", "table"], timeout=5).stdout)


def _paths(targets: tuple[Target, ...]) -> dict[str, str]:
    """How a multipath device chooses among its paths, by the counted lists of its table: features, the hardware
    handler, groups of paths with their selector (the kernel's drivers/md/dm-mpath.c)."""
    words = iter(targets[0].arguments if targets else ())
    try:
        for _ in range(int(next(words)[:4])):
            next(words)
        handler = [next(words) for _ in range(int(next(words)[:4]))]
        _, _, selector = next(words), next(words), next(words)
    except (StopIteration, ValueError):
        return {}
    return {"selector": selector, **({"handler": handler[0]} if handler else {})}


def _array_uuid(text: str) -> str:
    """An array's UUID as mdadm.conf(5) has it: four words of eight digits, with colons."""
    digits = re.sub("[^0-9a-f]", "", text.lower())
    return ":".join(digits[start : start + 8] for start in range(0, 32, 8)) if len(digits) == 32 else text
