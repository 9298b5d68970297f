"""What today's root goes through: the chain of layers from a file system to the hardware under it.

Which file system is meant follows from the entry's command line (`root=`, dracut.cmdline(7), initramfs-tools(7), the
kernel's nfsroot.rst), from what is mounted now, and from fstab(5). What lies under it follows from sysfs. Where a tree
has no sysfs, names and configuration tell a part of the way, and the rest is a layer of kind `unknown`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from safeupdate.errors import Unreadable
from safeupdate.formats import cmdline
from safeupdate.formats.cmdline import CommandLine
from safeupdate.formats.mountinfo import Mount
from safeupdate.machine import Machine
from safeupdate.storage.devices import Devices, Layer
from safeupdate.volumes import QUOTES, TAGS, Volumes

__all__ = ["Layer", "Stack", "of"]

_WIDTH = 76
"""Columns: the report on a terminal of 80 draws it beside a margin."""

_INDENT = 24
"""Columns of indentation after which a deeper layer moves no further to the right."""

_DEPTH = 100
"""Layers one on the other that are drawn: more than any machine has."""

_SIBLINGS = 6
"""Layers side by side that are drawn; of more, as of the paths of a multipath device, the number is told."""

_NAME = 128
"""Bytes of the longest name that device-mapper takes, and a NUL (the kernel's dm-ioctl.h)."""

_LOWER = 500
"""Directories that an overlay can show (the kernel's fs/overlayfs)."""

_LAID_OVER = ("overlay", "aufs")
_IN_MEMORY = ("tmpfs", "ramfs", "rootfs", "virtiofs")
"""Types of file systems that no device of this machine is under."""

_NETWORK_TYPES = frozenset({"nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "glusterfs", "lustre"})

_NET_ROOT = re.compile(r"(?P<type>nfs4?|cifs):(?P<rest>.*)|/dev/nfs$")
_NET_DISK = re.compile(r"(?P<type>iscsi|nbd):|live:(?:nfs|https?|ftp):")
"""Values of root= that name something on the network (dracut.cmdline(7), nfsroot.rst)."""


@dataclass(frozen=True)
class Stack:
    """What one file system, or the device to resume from, lies on. `purpose` is a mount point or `resume`.

    `top` is None where nothing is known; `problem` is a sentence, without its full stop, about what is not.
    """

    purpose: str
    top: Layer | None
    problem: str | None = None

    def walk(self) -> Iterator[Layer]:
        """Each layer once, nearest to the file system first."""
        return self.top.walk() if self.top is not None else iter(())

    def devices(self) -> Iterator[Layer]:
        """The block devices that hold the file system, as sysfs shows them: those right under it, all of several."""
        pending = [self.top] if self.top is not None else []
        while pending:
            layer = pending.pop()
            if layer.kind in ("file-system", "subvolume", "overlay", "zfs-pool", "swap"):
                pending += reversed(layer.below)
            elif "sysfs" in layer.facts and layer.kind not in ("network", "controller"):
                yield layer

    def lines(self, missing: Mapping[Layer, str] | None = None) -> tuple[str, ...]:
        """The chain as a tree of at most 76 columns: what lies on several things has them side by side. `missing` is
        what layers do not find, in a word each."""
        lines = [self.purpose]
        if self.top is not None:
            drawn: set[int] = set()
            lines += [_cut(line) for line in _drawn((self.top,), "", drawn, 0, missing or {})]
        if self.problem is not None:
            lines.append(_cut(f"({self.problem})"))
        return tuple(lines)


def _cut(line: str) -> str:
    return line if len(line) <= _WIDTH else f"{line[: _WIDTH - 1]}…"


def _marked(words: str, missing: str | None, width: int) -> str:
    """A layer's words, with what is missing behind them, even where the words are long."""
    mark = "" if missing is None else f"  ◀── missing: {missing}"
    room = width - len(mark)
    return (words if len(words) <= room or room < _INDENT else f"{words[: room - 1]}…") + mark


def _drawn(
    layers: tuple[Layer, ...], indent: str, drawn: set[int], depth: int, missing: Mapping[Layer, str]
) -> Iterator[str]:
    """Lines for layers side by side, each with all under it. Of one that was drawn before, its own line alone."""
    if depth >= _DEPTH:
        yield f"{indent}└─ and more"
        return
    if len(layers) > _SIBLINGS:
        layers = tuple(sorted(layers, key=lambda layer: layer not in missing))
    shown = layers if len(layers) <= _SIBLINGS else layers[: _SIBLINGS - 1]
    for number, layer in enumerate(shown, 1):
        last = number == len(layers)
        known = id(layer) in drawn
        drawn.add(id(layer))
        driver = layer.facts.get("driver") or layer.facts.get("carrier")
        words = f"{layer.title} [{driver}]" if driver else layer.title
        words += ", as above" if known and layer.below else ""
        yield f"{indent}{'└─' if last else '├─'} {_marked(words, missing.get(layer), _WIDTH - len(indent) - 3)}"
        if layer.below and not known:
            deeper = indent if len(indent) >= _INDENT else indent + ("   " if last else "│  ")
            yield from _drawn(layer.below, deeper, drawn, depth + 1, missing)
    if len(shown) < len(layers):
        yield f"{indent}└─ and {len(layers) - len(shown)} more"


def of(machine: Machine, volumes: Volumes, *, command_line: str) -> tuple[Stack, ...]:
    """The stacks of /, of /usr where it is apart, of what else fstab has mounted early (`x-initrd.mount`,
    systemd.mount(5)), and of the device to resume from where there is one.

    `command_line` is that of the entry which is judged. Raises `FormatError` and `Unreadable` where the mount table,
    fstab or udev's database cannot be read; what of sysfs cannot be read counts as not there.
    """
    stacks = _Stacks(machine, volumes, cmdline.parse(command_line))
    found = (stacks.root(), stacks.usr(), *stacks.early(), stacks.resume())
    return tuple(stack for stack in found if stack is not None)


@dataclass(frozen=True)
class _Source:
    """A file system as a mount table, fstab or a command line names it. `number` is `MAJOR:MINOR`, if known; `protocol`
    is how its disk is reached over the network."""

    spec: str
    number: str = ""
    fstype: str = ""
    directory: str = "/"
    options: tuple[str, ...] = ()
    protocol: str = ""


class _Stacks:
    def __init__(self, machine: Machine, volumes: Volumes, line: CommandLine) -> None:
        self._machine = machine
        self._volumes = volumes
        self._line = line
        self._devices = Devices(machine, volumes, interfaces=_interfaces(line))

    def root(self) -> Stack:
        """What the entry mounts at /."""
        named = self._named_root()
        mounted = self._mounted("/")
        source = mounted or named or self._listed("/")
        if source is None:
            return Stack("/", None, "nothing here tells what the root file system is")
        if source.fstype in _LAID_OVER:
            return self._stack("/", self._overlay(source, named))
        if named is not None and source is mounted:
            devices, today = set(self._block_names(named)), set(self._block_names(mounted))
            elsewhere = named.fstype in (*_NETWORK_TYPES, "zfs") and named.fstype[:3] != mounted.fstype[:3]
            source = named if elsewhere or (devices and not devices & today) else mounted
        return self._stack("/", self._file_system("/", source))

    def usr(self) -> Stack | None:
        """What is mounted at /usr, where that is another file system. What systemd-sysext(8) lays over it does not come
        from the initramfs."""
        place = self._mounted if self._volumes.mounts else self._listed
        source, root = place("/usr"), place("/")
        devices = set(self._block_names(source)) if source is not None else set()
        if source is None or (root is not None and devices and devices == set(self._block_names(root))):
            return None
        return self._stack("/usr", self._file_system("/usr", source))

    def early(self) -> Iterator[Stack]:
        """What fstab says must be mounted before the root file system is used."""
        for line in self._volumes.fstab:
            needed = "x-initrd.mount" in line.options and not {"noauto", "nofail"}.intersection(line.options)
            if needed and line.point not in ("/", "/usr"):
                source = self._mounted(line.point) or self._listed(line.point)
                if source is not None:
                    yield self._stack(line.point, self._file_system(line.point, source))

    def resume(self) -> Stack | None:
        """What a hibernated system would be resumed from."""
        spec, place = self._line.last("resume"), "resume="
        if not spec:
            spec, place = self._configured_resume(), "/etc/initramfs-tools: RESUME="
        if not spec or spec in ("none", "auto") or "noresume" in self._line:
            return None
        offset = self._line.last("resume_offset")
        devices = self._volumes.source_devices(_spec(spec), _number(spec))
        words = f"swap {'file' if offset else 'area'} ({spec})"
        if self._machine.has_sysfs:
            below = [self._devices.block(name) for name in sorted(devices) if self._devices.has(name)]
            if not below:
                tag = spec.partition("=")[0]
                known = self._volumes.knows(tag) if tag in TAGS else self._machine.live or bool(self._volumes.udev)
                there = "names no device of this machine" if known else "may be any device, as far as is known here"
                return Stack("resume", None, f"{place}{spec} {there}")
            return Stack("resume", Layer("swap", "swap", words, {}, tuple(below)))
        return self._stack("resume", Layer("swap", "swap", words, {}, self._guessed(_spec(spec))))

    def _configured_resume(self) -> str:
        """What initramfs-tools puts into its images where the command line says nothing (initramfs-tools(7))."""
        found = ""
        for path in ("/etc/initramfs-tools/initramfs.conf", "/etc/initramfs-tools/conf.d/resume"):
            try:
                text = self._machine.text(path) or ""
            except Unreadable:
                continue
            found = next(reversed(re.findall(r"(?m)^\s*RESUME=(\S*)", text)), found)
        return found.strip(QUOTES)

    def _named_root(self) -> _Source | None:
        """What root= names; None where it leaves that to fstab or to the partition table."""
        spec = self._line.last("root") or ""
        fstype = (self._line.last("rootfstype") or "").removeprefix("auto")
        flags = tuple(filter(None, (self._line.last("rootflags") or "").split(",")))
        zfs = re.match(r"zfs[:=](.*)", spec, re.IGNORECASE)
        net = _NET_ROOT.match(spec)
        if zfs:
            return _Source("" if zfs.group(1).upper() == "AUTO" else zfs.group(1), "", "zfs", options=flags)
        if net:
            kind = net.group("type") or "nfs"
            return _Source(self._line.last("nfsroot") or net.group("rest") or spec, "", kind, options=flags)
        disk = _NET_DISK.match(spec)
        if disk:
            return _Source(spec, "", fstype, "/", flags, disk.group("type") or "http")
        if spec.startswith(("virtiofs:", "tmpfs", "9p:")):
            return _Source(spec, "", spec.partition(":")[0], options=flags)
        if not spec or spec in ("gpt-auto", "gpt-auto-force", "fstab", "off", "dhcp", "dhcp6") or spec[:5] == "live:":
            return None
        return _Source(_spec(spec), _number(spec), fstype, _subvolume(flags) or "/", flags)

    def _mounted(self, point: str) -> _Source | None:
        at = [mount for mount in self._volumes.mounts if mount.point == point and mount.fstype != "autofs"]
        found = [mount for mount in at if point == "/" or mount.fstype != "overlay"]
        if not found:
            return None
        mount = found[-1]
        return _Source(mount.source, mount.device, mount.fstype, mount.root, mount.super_options)

    def _listed(self, point: str) -> _Source | None:
        line = next((line for line in self._volumes.fstab if line.point == point), None)
        if line is None:
            return None
        fstype = "" if line.fstype == "auto" else line.fstype
        return _Source(_spec(line.spec), "", fstype, _subvolume(line.options) or "/", line.options)

    def _stack(self, purpose: str, top: Layer) -> Stack:
        """The stack, with what is not known of it."""
        if not self._machine.has_sysfs:
            return Stack(purpose, top, "this tree has no sysfs, which would tell what lies under it")
        lost = next((layer for layer in top.walk() if layer.kind == "unknown"), None)
        return Stack(purpose, top, None if lost is None else f"a part of the way is not known: {lost.title}")

    def _block_names(self, source: _Source) -> Iterator[str]:
        """The block devices of a file system, as far as facts name them, all of several; none without sysfs."""
        if source.fstype == "zfs":
            pool = source.spec.partition("/")[0]
            for device, facts in self._volumes.udev.items():
                if facts.get("ID_FS_TYPE") == "zfs_member" and (facts.get("ID_FS_LABEL") == pool or not pool):
                    yield device
            return
        devices: set[str] = set()
        for part in source.spec.split(":") if source.fstype == "bcachefs" else [source.spec]:
            devices |= self._volumes.source_devices(part, source.number)
        found = {device for device in devices if self._devices.has(device)}
        yield from found.union(self._btrfs(found)[1])

    def _file_system(self, point: str, source: _Source) -> Layer:
        """A file system as a layer, with all under it."""
        names = sorted(self._block_names(source))
        stored = next((self._volumes.udev.get(name, {}) for name in names), {})
        line = self._listed(point)
        listed = line.fstype if line is not None and (not names or line.spec == source.spec) else ""
        fstype = source.fstype or stored.get("ID_FS_TYPE") or listed or "unknown"
        facts = {"fstype": fstype, "options": ",".join(self._options(point, source))}
        place, _ = self._btrfs(names)
        if place:
            facts["devices"] = str(len(names))
            checksum = self._text(f"{place}/checksum").split()
            facts.update({"checksum": checksum[0]} if checksum else {})
        layer = Layer("file-system", fstype, f"file system {fstype}", facts, self._under(source, fstype, names))
        if fstype == "btrfs" and source.directory != "/":
            words = f"subvolume {source.directory}"
            return Layer("subvolume", source.directory, words, {}, (layer,))
        return layer

    def _under(self, source: _Source, fstype: str, names: Iterable[str]) -> tuple[Layer, ...]:
        """What lies right under a file system that is on these block devices."""
        below = tuple(map(self._devices.block, names))
        if fstype == "zfs":
            pool = source.spec.partition("/")[0]
            lost = (Layer("unknown", pool or "the pool", f"what the pool {pool} lies on".replace("  ", " ")),)
            return (Layer("zfs-pool", pool, f"ZFS pool {pool}".strip(), {"pool": pool}, below or lost),)
        if fstype in _NETWORK_TYPES or source.protocol:
            network = self._network(source.spec)
            if source.protocol == "nbd":
                return (Layer("nbd", "nbd", f"network block device ({source.spec})", {}, network),)
            if source.protocol == "iscsi":
                return (Layer("controller", "iscsi", f"iSCSI ({source.spec})", {"carrier": "iscsi_tcp"}, network),)
            return network
        if fstype in _IN_MEMORY:
            return ()
        return below or self._guessed(source.spec)

    def _btrfs(self, names: Iterable[str]) -> tuple[str, list[str]]:
        """The place in sysfs of the btrfs that is on any of these block devices, and all of its devices."""
        for one in self._names("/sys/fs/btrfs"):
            members = self._names(f"/sys/fs/btrfs/{one}/devices")
            if not set(members).isdisjoint(names):
                return f"/sys/fs/btrfs/{one}", members
        return "", []

    def _options(self, point: str, source: _Source) -> Iterable[str]:
        """What fstab and, for the root, the command line have it mounted with."""
        line = next((line for line in self._volumes.fstab if line.point == point), None)
        flags = (self._line.last("rootflags") or "").split(",") if point == "/" else []
        options = [*filter(None, flags), *(line.options if line is not None else ())]
        return dict.fromkeys(filter(None, options or source.options))

    def _overlay(self, source: _Source, named: _Source | None) -> Layer:
        """An overlay lies on what root= names, or what holds its directories."""
        facts = {"fstype": source.fstype, "options": ",".join(source.options)}
        below: list[Layer] = []
        fallback = self._listed("/")
        sources = [self._holding(path) for path in islice(_directories(source.options), _LOWER)]
        if named is not None and (named.fstype or any(self._block_names(named)) or not self._machine.has_sysfs):
            sources.append(named)
        elif fallback is not None and not any(sources) and any(self._block_names(fallback)):
            sources.append(fallback)
        seen: set[frozenset[str]] = set()
        for one in filter(None, sources):
            devices = frozenset(self._block_names(one))
            if devices not in seen or not devices:
                seen.add(devices)
                below.append(self._file_system("/", one))
        if not below:
            below.append(Layer("unknown", source.fstype, "what the overlay shows"))
        return Layer("overlay", source.fstype, f"{source.fstype} of several directories", facts, tuple(below))

    def _holding(self, path: str) -> _Source | None:
        """The file system on a device that a directory lies on, where its mount is to be seen."""
        found: Mount | None = None
        for mount in self._volumes.mounts:
            inside = path == mount.point or path.startswith(f"{mount.point.rstrip('/')}/")
            if inside and (found is None or len(mount.point) >= len(found.point)):
                found = mount
        if found is None or found.fstype in (*_LAID_OVER, *_IN_MEMORY):
            return None
        return _Source(found.source, found.device, found.fstype, found.root, found.super_options)

    def _network(self, spec: str) -> tuple[Layer, ...]:
        """The interfaces behind which something on the network is."""
        found = self._devices.networks
        return found or (Layer("unknown", spec, f"the network behind which {spec} is"),)

    def _guessed(self, spec: str) -> tuple[Layer, ...]:
        """What a device's name and the configuration tell of what lies under it."""
        name = spec.rpartition("/")[2]
        if spec.startswith("/dev/mapper/"):
            encrypted = self._encrypted(name)
            if encrypted is not None:
                return (encrypted,)
        volume = self._volume(spec)
        if volume is not None:
            facts = {"group": volume[0], "volume": volume[1]}
            lost = Layer("unknown", volume[0], f"what the LVM group {volume[0]} lies on")
            return (Layer("lvm", spec, f"LVM volume {volume[0]}/{volume[1]}", facts, (lost,)),)
        if re.match(r"/dev/md(?:\d|/)", spec):
            lost = Layer("unknown", spec, f"what the array {spec} lies on")
            return (Layer("md", spec, f"array {spec}", {}, (lost,)),)
        return (Layer("unknown", spec or "root", f"what {spec or 'it'} lies on"),)

    def _encrypted(self, name: str) -> Layer | None:
        """The volume of that name that crypttab or the command line opens."""
        line = self._devices.crypttab.get(name)
        source = line.source if line is not None else ""
        facts = {"dm-name": name, **self._devices.apart(name)}
        for value in self._line.all("rd.luks.name"):
            uuid, _, called = value.partition("=")
            source = f"UUID={uuid}" if called == name else source
        for value in self._line.all("cryptdevice"):  # Arch Linux: DEVICE:NAME[:OPTIONS]
            device, _, rest = value.partition(":")
            source = device if rest.partition(":")[0] == name else source
        if name.startswith("luks-") and not source:
            source = f"UUID={name[len('luks-') :]}"
        if not source:
            return None
        lost = Layer("unknown", source, f"what {source} lies on")
        below = self._guessed(_spec(source)) if self._volume(_spec(source)) is not None else (lost,)
        return Layer("crypt", name, f"encrypted volume {name}", facts, below)

    def _volume(self, spec: str) -> tuple[str, str] | None:
        """Group and volume of a name that can only be LVM's."""
        parts = spec.split("/")
        if len(parts) == 4 and spec.startswith("/dev/") and parts[2] not in ("mapper", "disk", "md", "block", "zvol"):
            return parts[2], parts[3]
        wanted = {re.sub("-", "--", value).replace("/", "-") for value in self._line.all("rd.lvm.lv")}
        name = parts[-1]
        if spec.startswith("/dev/mapper/") and (name in wanted or "--" in name) and len(name) < _NAME:
            split = re.fullmatch(r"((?:[^-]|--)+)-((?:[^-]|--)+)", name)
            if split:
                group, volume = (part.replace("--", "-") for part in split.groups())
                return group, volume
        return None

    def _names(self, directory: str) -> list[str]:
        try:
            return self._machine.listdir(directory)
        except Unreadable:
            return []

    def _text(self, path: str) -> str:
        try:
            return self._machine.text(path) or ""
        except Unreadable:
            return ""


def _spec(text: str) -> str:
    """A device as fstab would name it: without dracut's `block:`, and quotes around a tag's value."""
    text = text.removeprefix("block:")
    tag, equals, value = text.partition("=")
    return f"{tag}={value.strip(QUOTES)}" if equals and tag in TAGS else text


def _number(spec: str) -> str:
    """The number of a device that is named by it: `254:2`, or in hexadecimal digits, as the kernel's early-lookup.c
    takes it (`fe02`)."""
    if re.fullmatch(r"\d{1,4}:\d{1,7}", spec):
        return spec
    number = int(spec, 16) if re.fullmatch(r"[0-9a-f]{3,4}", spec) else 0
    return f"{number >> 8}:{number & 0xFF}" if number else ""


def _interfaces(line: CommandLine) -> Iterator[str]:
    """What may name a network interface in ip=, which has it first or sixth (dracut.cmdline(7), nfsroot.rst)."""
    for value in line.all("ip"):
        yield from re.sub(r"\[[^]]*\]", "", value).split(":")


def _subvolume(options: Iterable[str]) -> str | None:
    names = [option.partition("=")[2] for option in options if option.startswith("subvol=")]
    return "/" + names[-1].strip("/") if names else None


def _directories(options: Iterable[str]) -> Iterator[str]:
    """The directories of an overlay's options (Documentation/filesystems/overlayfs.rst)."""
    for option in options:
        key, _, value = option.partition("=")
        if key in ("lowerdir", "lowerdir+", "datadir+", "upperdir"):
            yield from filter(None, value.split(":"))
