"""Which file system a name means, and where on this machine its files are to be seen.

A boot loader names files by device and path (`search --fs-uuid X`, `/vmlinuz` on that device; an ESP path), a kernel
command line names the root device (`root=UUID=X`). This module answers both from facts: `/dev/disk/by-*`, udev's
database (`/run/udev/data`), `/proc/self/mountinfo` (proc_pid_mountinfo(5)) and fstab(5).

Block devices go by their kernel names (`sda1`, `dm-0`), as in `/sys/class/block`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

from safeupdate.errors import Missing, ProgramFailed, Unreadable
from safeupdate.formats import fstab, mountinfo
from safeupdate.machine import Machine

TAGS = {"UUID": "by-uuid", "LABEL": "by-label", "PARTUUID": "by-partuuid", "PARTLABEL": "by-partlabel"}
"""The tags of a device name (blkid(8)), and udev's directory of links for each."""

QUOTES = "\"'"
"""What may stand around a tag's value (mount(8))."""

_UDEV_KEYS = {
    "UUID": "ID_FS_UUID",
    "LABEL": "ID_FS_LABEL_ENC",
    "PARTUUID": "ID_PART_ENTRY_UUID",
    "PARTLABEL": "ID_PART_ENTRY_NAME",
}

ESP_TYPE = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
"""GPT type of the EFI system partition (UEFI 2.10, table 5.7)."""

XBOOTLDR_TYPE = "bc13c2ff-59e6-4262-a352-b275fd6f7172"
"""GPT type of the extended boot loader partition (Discoverable Partitions Specification)."""

_ESP_PLACES = ("/efi", "/boot/efi", "/boot", "/boot/esp")
_FAT = (None, "vfat", "msdos", "auto")


_SUBVOLUME = re.compile(rb"^ID \d+ gen \d+ top level \d+ path (?:<FS_TREE>/)?(.+)$", re.MULTILINE)

_NO_DISK = re.compile(r"(?:loop|ram|zram|dm-|md|sr|fd|nbd|mmcblk\d+(?:boot|rpmb))")
"""Block devices that no firmware hands to a boot loader as a disk."""


@dataclass(frozen=True)
class Volume:
    """A file system. `trees` says where it is to be seen: pairs of a path on it and the machine's directory there.

    `abstraction` is what lies under it that a boot loader cannot write through: `lvm`, `md`, `crypt` or nothing.
    `assumed` means that no fact names it: the tree holds none.
    """

    name: str
    fstype: str | None = None
    abstraction: str = ""
    trees: tuple[tuple[str, str], ...] = ()
    devices: frozenset[str] = frozenset()
    assumed: bool = False


class Volumes:
    """The file systems of one machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    # -- facts ---------------------------------------------------------------------------------------------

    @cached_property
    def mounts(self) -> tuple[mountinfo.Mount, ...]:
        """What is mounted now, in the kernel's order; nothing where that is not known."""
        found = self._mountinfo()
        waiting = [mount.point for mount in found if mount.fstype == "autofs" and mount.point in _ESP_PLACES]
        if self.machine.live and waiting:
            for point in waiting:
                try:
                    self.machine.listdir(point)  # to look is what makes systemd mount it (systemd.automount(5))
                except Unreadable:
                    continue
            found = self._mountinfo()
        return found

    def _mountinfo(self) -> tuple[mountinfo.Mount, ...]:
        data = self.machine.read_if_there("/proc/self/mountinfo")
        return () if data is None else mountinfo.parse(data)

    @cached_property
    def fstab(self) -> tuple[fstab.Line, ...]:
        """The lines of /etc/fstab."""
        data = self.machine.read_if_there("/etc/fstab")
        return () if data is None else fstab.parse(data).lines

    @cached_property
    def udev(self) -> dict[str, dict[str, str]]:
        """udev's properties (`E:` lines of /run/udev/data/bMAJOR:MINOR) by kernel name, or by number without one."""
        return {device: dict(_pairs(lines)) for device, lines in self._udev_lines.items()}

    @cached_property
    def _udev_lines(self) -> dict[str, list[str]]:
        return {
            self._by_number.get(name[1:], name[1:]): (self.machine.text(f"/run/udev/data/{name}") or "").split("\n")
            for name in self.machine.listdir("/run/udev/data")
            if name.startswith("b")
        }

    @cached_property
    def _udev_links(self) -> dict[str, str]:
        """Links below /dev (`S:` lines of udev's database) to kernel names."""
        return {
            f"/dev/{line[2:]}": device
            for device, lines in self._udev_lines.items()
            for line in lines
            if line.startswith("S:")
        }

    def links(self, device: str) -> tuple[str, ...]:
        """The links below /dev that udev has made for a device, by its kernel name."""
        return tuple(f"/dev/{line[2:]}" for line in self._udev_lines.get(device, ()) if line.startswith("S:"))

    @cached_property
    def _by_number(self) -> dict[str, str]:
        return {
            number: name
            for name in self.machine.listdir("/sys/class/block")
            if (number := self.machine.value(f"/sys/class/block/{name}/dev"))
        }

    @cached_property
    def _mapper(self) -> dict[str, str]:
        """Device-mapper and md names (`/dev/mapper/X`, `/dev/md/X`) to kernel names."""
        found = {}
        for name in self.machine.listdir("/sys/class/block"):
            mapped = self.machine.value(f"/sys/class/block/{name}/dm/name")
            if mapped:
                found[f"/dev/mapper/{mapped}"] = name
        return found

    @cached_property
    def _links(self) -> dict[str, dict[str, str]]:
        """For each tag, its values to kernel names, by udev's links in /dev/disk."""
        found: dict[str, dict[str, str]] = {}
        for tag, by in TAGS.items():
            links = found.setdefault(tag, {})
            for name in self.machine.listdir(f"/dev/disk/{by}"):
                with suppress(Missing):
                    links[_unescape(name)] = self.machine.readlink(f"/dev/disk/{by}/{name}").rsplit("/", 1)[-1]
        return found

    def knows(self, tag: str) -> bool:
        """Whether this machine's facts would name every device that has such a tag."""
        scanned = "ID_PART_ENTRY_SCHEME" if tag.startswith("PART") else "ID_FS_TYPE"
        return bool(
            self._links[tag]
            or (self.machine.live and self._links["UUID"])
            or any(scanned in properties for properties in self.udev.values())
        )

    def has_prefix(self, tag: str, prefix: str) -> bool:
        """Whether any device's tag starts so: dracut takes shortened LUKS UUIDs."""
        stored = [properties.get(_UDEV_KEYS[tag], "") for properties in self.udev.values()]
        return any(name.startswith(prefix.lower()) for name in map(str.lower, [*self._links[tag], *stored]))

    def differs_in_case(self, tag: str, value: str) -> bool:
        """Whether a UUID or PARTUUID is a device's but for its letter case: blkid, udev and systemd compare texts."""
        if tag not in ("UUID", "PARTUUID"):
            return False
        names = {*self._links[tag], *(properties.get(_UDEV_KEYS[tag], "") for properties in self.udev.values())}
        return value not in names and value.lower() in map(str.lower, names)

    # -- devices -------------------------------------------------------------------------------------------

    def devices_tagged(self, tag: str, value: str) -> frozenset[str]:
        """Kernel names of the devices with this tag; none where no fact names one."""
        links = self._links[tag]
        wanted = {value, value.lower(), value.upper()} if tag != "LABEL" and tag != "PARTLABEL" else {value}
        found = {links[name] for name in wanted if name in links}
        for device, properties in self.udev.items():
            stored = _unescape(properties.get(_UDEV_KEYS[tag], ""))
            if stored and stored in wanted:
                found.add(device)
        if tag == "UUID" and "/" not in value:
            found.update(self.machine.listdir(f"/sys/fs/btrfs/{value.lower()}/devices"))
        return frozenset(found)

    def device_named(self, path: str) -> str | None:
        """Kernel name of the block device that a `/dev` path names; None where no fact knows it."""
        path = re.sub("/+", "/", path)
        if path in self._mapper:
            return self._mapper[path]
        for tag, directory in TAGS.items():
            if path.startswith(f"/dev/disk/{directory}/"):
                return next(iter(self.devices_tagged(tag, _unescape(path.rsplit("/", 1)[-1]))), None)
        if path.startswith("/dev/") and self.machine.exists(f"/sys/class/block/{path[5:].replace('/', '!')}"):
            return path[5:].replace("/", "!")
        if path in self._udev_links:
            return self._udev_links[path]
        if path.startswith("/dev/block/"):
            return self._by_number.get(path[len("/dev/block/") :])
        if path.startswith("/dev/") and self.machine.is_link(path):
            target = self.machine.readlink(path).rsplit("/", 1)[-1]
            if not self.machine.has_sysfs or self.machine.exists(f"/sys/class/block/{target}"):
                return target
        if path.startswith("/dev/") and path.count("/") == 3:
            group, volume = (part.replace("-", "--") for part in path.split("/")[2:])
            return self._mapper.get(f"/dev/mapper/{group}-{volume}")
        return None

    def abstraction(self, device: str) -> str:
        """`lvm`, `crypt`, `multipath` or `dm` for a device-mapper device, `md` for an array, else nothing."""
        below = f"/sys/class/block/{device}"
        kind = self.machine.value(f"{below}/dm/uuid")
        if kind is not None:
            return {"LVM": "lvm", "CRYPT": "crypt", "mpath": "multipath"}.get(kind.split("-")[0], "dm")
        return "md" if self.machine.is_dir(f"{below}/md") else ""

    def source_devices(self, source: str, number: str = "") -> frozenset[str]:
        """Kernel names of the devices that an fstab or mountinfo source means; none where no fact tells."""
        tag, separator, value = source.partition("=")
        if separator and tag in TAGS:
            return self.devices_tagged(tag, value.strip(QUOTES))
        named = self.device_named(source)
        if named is None and number and not number.startswith("0:"):
            named = self._by_number.get(number, number if self.udev.get(number) else None)
        if named is None and source.startswith("/dev/") and source.count("/") == 2 and source != "/dev/root":
            named = source[5:]
        return frozenset([named]) if named else frozenset()

    # -- volumes -------------------------------------------------------------------------------------------

    @cached_property
    def seen(self) -> tuple[Volume, ...]:
        """Every file system on a device that is mounted now or, where that is not known, that fstab mounts."""
        grouped: dict[object, list[tuple[str, str, str, str, frozenset[str]]]] = {}
        for source, number, fstype, root, point in self._placed():
            devices = self.source_devices(source, number)
            key: object = devices or source
            grouped.setdefault(key, []).append((source, fstype, root, point, devices))
        volumes = []
        for places in grouped.values():
            source, fstype, _, _, devices = places[0]
            trees = sorted(((root, point) for _, _, root, point, _ in places), key=lambda tree: -len(tree[0]))
            kinds = {self.abstraction(device) for device in devices} - {""}
            volumes.append(Volume(source, fstype, min(kinds, default=""), tuple(trees), devices))
        return tuple(volumes)

    def _placed(self) -> Iterator[tuple[str, str, str, str, str]]:
        """Source, device number, type, root and mount point of each mount of a device."""
        if self.mounts:
            last = {mount.point: mount for mount in self.mounts if mount.fstype != "autofs"}
            for mount in self.mounts:
                if mount.fstype == "autofs" and mount.point in _ESP_PLACES and mount.point not in last:
                    if self.machine.populated(mount.point):
                        yield self._automounted(mount.point), "", "vfat", "/", mount.point
                elif mount.fstype not in ("autofs", "overlay") and last[mount.point] is mount:
                    yield mount.source, mount.device, mount.fstype, mount.root, mount.point
            if "/" in last and last["/"].fstype == "overlay":
                yield from self._under_overlay()
            return
        for line in self.fstab:
            tag, equals, value = line.spec.partition("=")
            if line.spec.startswith("/dev/") or (equals and tag in TAGS):
                root = next((o.partition("=")[2] for o in line.options if o.startswith("subvol=")), "/")
                if line.point.startswith("/") and line.fstype != "swap":
                    spec = f"{tag}={value.strip(QUOTES)}" if equals and tag in TAGS else line.spec
                    yield spec, "", line.fstype, "/" + root.strip("/"), line.point

    def _under_overlay(self) -> Iterator[tuple[str, str, str, str, str]]:
        """The file system that an overlay at / shows, where its own mount is not to be seen (systemd.volatile=)."""
        root = re.search(r"(?:^|\s)root=(\S+)", self.machine.value("/proc/cmdline") or "")
        spec = root.group(1) if root else next((line.spec for line in self.fstab if line.point == "/"), "")
        devices = self.source_devices(spec)
        if devices and not any(devices & self.source_devices(mount.source, mount.device) for mount in self.mounts):
            yield spec, "", self.udev.get(min(devices), {}).get("ID_FS_TYPE", ""), "/", "/"

    def _automounted(self, point: str) -> str:
        """What is behind an automount point: fstab's device, else the one that systemd-gpt-auto-generator(8) takes."""
        line = next((line for line in self.fstab if line.point == point), None)
        if line is not None:
            return line.spec
        kinds = (XBOOTLDR_TYPE, ESP_TYPE) if point == "/boot" else (ESP_TYPE,)
        return next((f"/dev/{device}" for kind in kinds for device in sorted(self._partitions(kind))), point)

    def _partitions(self, kind: str) -> frozenset[str]:
        return frozenset(d for d, facts in self.udev.items() if facts.get("ID_PART_ENTRY_TYPE", "").lower() == kind)

    def tagged(self, tag: str, value: str) -> Volume | None:
        """The file system with this UUID, LABEL, PARTUUID or PARTLABEL. None: the facts are there, it is not."""
        # PARTUUID=X/PARTNROFF=N is the partition N places behind (the kernel's block/early-lookup.c).
        value, offset, _ = value.partition("/PARTNROFF=") if tag == "PARTUUID" else (value, "", "")
        devices = self.devices_tagged(tag, value)
        if devices and offset:
            return Volume(f"{tag}={value}/PARTNROFF={offset}")
        if devices:
            for volume in self.seen:
                if volume.devices & devices:
                    return volume
            first = min(devices)
            kind = self.udev.get(first, {}).get("ID_FS_TYPE")
            return Volume(f"{tag}={value}", kind, self.abstraction(first), (), devices)
        for volume in self.seen:
            if volume.name.lower() == f"{tag}={value}".lower():
                return volume
        if self.knows(tag):
            return None
        return Volume(
            f"{tag}={value}", trees=(("/", "/boot"), ("/", "/"), *(("/", p) for p in _ESP_PLACES)), assumed=True
        )

    def on_only_disk(self, partition: int) -> Volume | None:
        """The file system on that partition of the machine's disk; None where it has several, or none is known."""
        names = self.machine.listdir("/sys/class/block")
        parts = {name: self.machine.value(f"/sys/class/block/{name}/partition") for name in names}
        disks = [name for name, part in parts.items() if part is None and not _NO_DISK.match(name)]
        if len(disks) != 1:
            return None
        for name, part in parts.items():
            if part == str(partition) and name.startswith(disks[0]):
                named = next((volume for volume in self.seen if name in volume.devices), None)
                return named or Volume(
                    f"/dev/{name}", self.udev.get(name, {}).get("ID_FS_TYPE"), "", (), frozenset([name])
                )
        return None

    def holding(self, path: str) -> tuple[Volume, str]:
        """The file system that holds a machine path, and the path as a loader finds it on that file system."""
        try:
            path = self.machine.resolve(path)
        except Missing:
            path = "/" + path.strip("/")
        best: tuple[str, str, Volume] | None = None
        for volume in self.seen:
            for root, point in volume.trees:
                if _below(path, point) is not None and (best is None or len(point) > len(best[1])):
                    best = root, point, volume
        if best is None:
            return Volume("/", trees=(("/", "/"),), assumed=True), path
        root, point, volume = best
        return volume, _join(root, _below(path, point) or "")

    def locate(self, volume: Volume, path: str, *, relative: bool = False) -> str | None:
        """Where the file at `path` on `volume` is on this machine, a place where it exists preferred.

        `relative`: the path begins at the default subvolume of a btrfs, which is taken for the one that is the root.
        None: that file system, or that part of it, is not to be seen here. On FAT letter case does not matter.
        """
        path = _join("/", path)
        places = []
        for root, point in volume.trees:
            rest = _below(path, root)
            if rest is None:
                continue
            place = _join(point, rest)
            if not volume.assumed and self.holding(place)[0].name != volume.name:
                continue
            existing = self._fold(place) if volume.fstype == "vfat" else place
            if existing is not None and self.machine.exists(existing):
                return existing
            places.append(place)
        if volume.fstype == "btrfs" and not places:
            # openSUSE's GRUB reads relative to the default subvolume.
            places = [p for _, point in volume.trees if self.machine.exists(p := _join(point, path))]
            if relative and not places and any(point == "/" for _, point in volume.trees):
                return path
        return places[0] if places else None

    def _fold(self, place: str) -> str | None:
        """The existing file that `place` names, letter case aside."""
        if self.machine.exists(place):
            return place
        found = ""
        for part in place.strip("/").split("/"):
            names = self.machine.listdir(found or "/") if self.machine.is_dir(found or "/") else []
            match = next((n for n in names if n == part), None) or next(
                (n for n in names if n.lower() == part.lower()), None
            )
            if match is None:
                return None
            found = f"{found}/{match}"
        return found

    def has_subvolume(self, volume: Volume, path: str) -> bool | None:
        """Whether a btrfs has a subvolume at a path that begins at its top. None where nothing tells."""
        path = _join("/", path)
        if path == "/" or (self.mounts and any(root == path for root, _ in volume.trees)):
            return True
        top = next((point for root, point in volume.trees if root == "/"), None)
        if top is not None:
            return self.machine.is_dir(_join(top, path))
        if not self.machine.live or not volume.trees:
            return None
        try:
            listed = self.machine.run(("btrfs", "subvolume", "list", "-a", volume.trees[0][1]), timeout=10)
        except ProgramFailed:
            return None
        return None if listed.code != 0 else path in subvolumes(listed.stdout)

    def esp(self) -> Volume | None:
        """The EFI system partition as it is to be seen here, or as the facts name it; None where nothing shows one."""
        return self._partition(ESP_TYPE, [place for place in _ESP_PLACES if self._fold(f"{place}/EFI") is not None])

    def xbootldr(self) -> Volume | None:
        """The extended boot loader partition, where there is one."""
        return self._partition(XBOOTLDR_TYPE, [])

    def _partition(self, kind: str, places: list[str]) -> Volume | None:
        devices = self._partitions(kind)
        for volume in self.seen:
            if volume.devices & devices:
                return volume
        for place in places:
            volume, path = self.holding(place)
            if path == "/" and volume.fstype in _FAT:
                return volume
            if self._fold(f"{place}/EFI") == "/boot/efi":
                continue  # where an ESP is mounted, not a directory of one
            if not self.mounts and not any(line.point == place for line in self.fstab):
                return Volume(place, "vfat", trees=(("/", place),), assumed=True)
        if devices:
            return Volume(f"/dev/{min(devices)}", "vfat", "", (), devices)
        return None


def subvolumes(listed: bytes) -> frozenset[str]:
    """The paths that `btrfs subvolume list -a` prints (btrfs-subvolume(8)). All begin at the file system's top."""
    return frozenset("/" + name.decode("utf-8", "surrogateescape") for name in _SUBVOLUME.findall(listed))


def _pairs(lines: list[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        if line.startswith("E:") and "=" in line:
            name, _, value = line[2:].partition("=")
            yield name, value


def _below(path: str, directory: str) -> str | None:
    """What is left of `path` below `directory`; None where it is elsewhere."""
    if directory == "/":
        return path.lstrip("/")
    if path == directory:
        return ""
    return path[len(directory) + 1 :] if path.startswith(directory + "/") else None


def _join(directory: str, rest: str) -> str:
    parts: list[str] = []
    for part in f"{directory}/{rest}".split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def _unescape(name: str) -> str:
    r"""udev's `\x20` for bytes that a link's name cannot hold."""
    return re.sub(r"\\x([0-9a-fA-F]{2})", lambda match: chr(int(match.group(1), 16)), name)
