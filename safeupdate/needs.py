"""Why this machine needs a kernel module: the way to root, what is configured for the boot, what is in use now.

What counts as a use, and what does not:

- A device that is bound to a module's driver. What the device is worth to the machine sysfs does not tell: a stick that
  somebody left plugged in and the only network adapter look the same, so that any of them counts. An administrator can
  name modules that the machine can do without.
- Not a device that hid-generic drives, if less well, without the module. Nor a platform device that a module makes for
  itself to have something to bind to: no firmware describes it, and it would be there on any machine.
- A mounted file system, a network interface, a reference count. A reference that another module holds counts for what
  that other module is needed for: two idle modules that hold one another are idle.

A module that is loaded and not used was loaded because of an alias or by a program, and nothing shows that it would be
missed. Modules that early user space loads and nothing uses afterwards are among these.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from safeupdate.errors import FormatError, Unreadable
from safeupdate.formats import cmdline, modules
from safeupdate.machine import Machine
from safeupdate.storage import drivers, stack
from safeupdate.storage.devices import module_of
from safeupdate.storage.stack import Stack
from safeupdate.volumes import Volumes

Kind = Literal["root", "boot", "use", "unclear", "loaded"]

KINDS: tuple[Kind, ...] = ("root", "boot", "use", "unclear", "loaded")
"""From the strongest to the weakest."""

_LISTS = ("/etc/modules-load.d", "/run/modules-load.d", "/usr/local/lib/modules-load.d", "/usr/lib/modules-load.d")
"""modules-load.d(5): a file in an earlier directory stands for those of the same name in later ones."""

_MODPROBE = (
    "/etc/modprobe.d",
    "/run/modprobe.d",
    "/usr/local/lib/modprobe.d",
    "/usr/lib/modprobe.d",
    "/lib/modprobe.d",
)

_BLOCKING = ("module_blacklist", "modprobe.blacklist", "rd.driver.blacklist")

_DRACUT = ("/etc/dracut.conf.d", "/usr/lib/dracut/dracut.conf.d")
_NETWORK = (
    "/etc/systemd/network",
    "/run/systemd/network",
    "/usr/local/lib/systemd/network",
    "/usr/lib/systemd/network",
)

_OF_DRIVERS = frozenset({"bind", "unbind", "uevent", "module", "new_id", "remove_id"})
"""What a driver's directory in sysfs has besides the links to its devices, mostly."""


@dataclass(frozen=True)
class Need:
    """One module, and the strongest reason for it. `why` is a sentence without its full stop; "it" is the module.

    `root`: without it the root file system is not mounted. `boot`: configuration asks for it. `use`: it is in use now.
    `unclear`: it is loaded, and nothing here would show a use. `loaded`: it is loaded and not used.
    """

    module: str
    kind: Kind
    why: str


def of(
    machine: Machine,
    volumes: Volumes,
    *,
    command_line: str = "",
    stacks: Iterable[Stack] | None = None,
    required: Iterable[str] | None = None,
    release: str | None = None,
) -> Mapping[str, Need]:
    """The need for each module by its name, as the kernel lists it; a module that is not there has none.

    `command_line` is that of the entry which is judged, `stacks` what it leads to, where that was read already
    (`stack.of`), `required` what `--require-driver` says lies under root, and `release` the kernel whose lists name
    dependencies and file systems where nothing is running. A name may be that of a driver which is built in. What of
    sysfs cannot be read counts as not there. Raises `FormatError` and `Unreadable` where it is the mount table, fstab
    or udev's database.
    """
    facts = _Facts(machine, release)
    found: dict[str, Need] = {}

    def add(need: Need) -> None:
        old = found.get(need.module)
        if old is None or KINDS.index(need.kind) < KINDS.index(old.kind):
            found[need.module] = need

    for name in required or ():
        add(Need(_name(name), "root", "the root file system lies on what it drives (--require-driver)"))
    line = cmdline.parse(command_line)
    for need in (
        *_root(facts, stack.of(machine, volumes, command_line=command_line) if stacks is None else stacks),
        *_configured(facts, volumes, line),
        *_used(facts, volumes),
        *_loaded(facts),
    ):
        add(need)
    for kind in KINDS:
        pending = [need.module for need in found.values() if need.kind == kind]
        while pending:
            user = pending.pop()
            for name in facts.dependencies(user):
                old = found.get(name)
                if old is None or KINDS.index(old.kind) > KINDS.index(kind):
                    found[name] = Need(name, kind, f"the module {user} depends on it")
                    pending.append(name)
    return found


def driving(machine: Machine) -> frozenset[str]:
    """The modules that drive a device now, as far as sysfs tells."""
    return frozenset(module for module, _, _ in _Facts(machine, None).bound)


def _name(text: str) -> str:
    return text.replace("-", "_")


@dataclass(frozen=True)
class _Module:
    """A line of /proc/modules. `held`: references that no other module holds; None where the kernel does not count."""

    held: int | None
    users: tuple[str, ...]


class _Facts:
    """What several questions ask about, read once."""

    def __init__(self, machine: Machine, release: str | None) -> None:
        self.machine = machine
        self._releases = [one for one in (machine.running_kernel, release) if one]

    def text(self, path: str) -> str:
        """A text; nothing where it cannot be read."""
        try:
            return self.machine.text(path) or ""
        except Unreadable:
            return ""

    def names(self, directory: str) -> list[str]:
        """A directory's names; none where it cannot be read."""
        try:
            return self.machine.listdir(directory)
        except Unreadable:
            return []

    def is_link(self, path: str) -> bool:
        """Whether a link is there, whatever it leads to."""
        try:
            return self.machine.is_link(path)
        except Unreadable:
            return False

    @cached_property
    def loaded(self) -> Mapping[str, _Module]:
        """What is loaded now (proc_modules(5)): name, size, references, their holders."""
        found = {}
        for line in self.text("/proc/modules").splitlines():
            fields = line.split()
            if len(fields) >= 4:
                users = tuple(one for one in fields[3].split(",") if one not in ("", "-") and one[0] != "[")
                held = int(fields[2]) - len(users) if re.fullmatch(r"-?[0-9]{1,9}", fields[2]) else None
                found[fields[0]] = _Module(held, users)
        return found

    def dependencies(self, name: str) -> Iterable[str]:
        """The modules that this one cannot be loaded without."""
        if name in self.loaded:
            return self._held_by.get(name, ())
        return self._listed.get(name, ())

    @cached_property
    def _held_by(self) -> Mapping[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name, module in self.loaded.items():
            for user in module.users:
                found.setdefault(user, []).append(name)
        return found

    @cached_property
    def _listed(self) -> Mapping[str, tuple[str, ...]]:
        for release in self._releases:
            try:
                listed = modules.parse_dep(self._list(release, "dep"))
            except FormatError:
                continue
            if listed:
                name = modules.module_name
                return {name(path): tuple(map(name, needed)) for path, needed in listed.items()}
        return {}

    def providers(self, alias: str, name: str) -> tuple[str, ...]:
        """The modules that the kernel would ask for by an alias (`fs-xfs`), or that are named so: those of them that
        are loaded now, all if none is."""
        names = tuple(dict.fromkeys([_name(name), *self._aliases.get(alias, ())]))
        return tuple(name for name in names if name in self.loaded) or names

    @cached_property
    def bound(self) -> tuple[tuple[str, str, str], ...]:
        """Modules with the bus and the name of every device that one of their drivers is bound to."""
        return tuple(
            (module, bus, device)
            for bus, driver, module in self._drivers
            if module is not None and module in self.loaded
            for device in self._bound_to(f"/sys/bus/{bus}/drivers/{driver}")
        )

    @cached_property
    def untold(self) -> frozenset[str]:
        """Loaded modules that may drive something which sysfs, as far as it is here, does not show: an old capture has
        all drivers, and not what is bound to them."""
        if not self._drivers:
            return frozenset(self.loaded)
        if any(self._bound_to(f"/sys/bus/{bus}/drivers/{driver}") for bus, driver, _ in self._drivers):
            return frozenset()
        return frozenset(module for _, _, module in self._drivers if module is not None)

    @cached_property
    def _drivers(self) -> tuple[tuple[str, str, str | None], ...]:
        """Bus, name and module of each driver."""
        return tuple(
            (bus, driver, module_of(self.machine, f"/sys/bus/{bus}/drivers/{driver}"))
            for bus in self.names("/sys/bus")
            for driver in self.names(f"/sys/bus/{bus}/drivers")
        )

    def _bound_to(self, driver: str) -> list[str]:
        return [name for name in self.names(driver) if name not in _OF_DRIVERS and self.is_link(f"{driver}/{name}")]

    @cached_property
    def _aliases(self) -> Mapping[str, list[str]]:
        found: dict[str, list[str]] = {}
        text = next(filter(None, (self._list(release, "alias") for release in self._releases)), b"")
        for prefix in (b"fs-", b"rtnl-link-"):
            # A search by a regular expression takes ten times as long: the file has 20,000 lines.
            for part in (b"\n" + text).split(b"\nalias " + prefix)[1:]:
                words = part.partition(b"\n")[0].decode("utf-8", "replace").split()
                if len(words) == 2:
                    found.setdefault(prefix.decode() + words[0], []).append(_name(words[1]))
        return found

    def _list(self, release: str, kind: str) -> bytes:
        try:
            return self.machine.read_if_there(f"/lib/modules/{release}/modules.{kind}") or b""
        except Unreadable:
            return b""


# -- the way to root -------------------------------------------------------------------------------------------


def _root(facts: _Facts, stacks: Iterable[Stack]) -> Iterator[Need]:
    """What mounts / and /usr, and what lies under them."""
    for found in stacks:
        point = found.purpose
        if found.top is None or point == "resume":
            continue
        for layer in found.walk():
            fstype = layer.facts.get("fstype", "unknown")
            if fstype != "unknown":
                for name in facts.providers(f"fs-{fstype}", fstype):
                    yield Need(name, "root", f"{point} is a file system of the type {fstype}")
            elif layer.kind == "network" and "type" in layer.facts:
                kind = layer.facts["type"]
                for name in facts.providers(f"rtnl-link-{kind}", kind):
                    yield Need(name, "root", f"{point} is reached through {layer.name}, which is driven by it")
        for driver in drivers.of(facts.machine, found.top):
            yield Need(driver.module, "root", f"{driver.why}, and {point} lies there")


# -- configured for the boot -----------------------------------------------------------------------------------


def _configured(facts: _Facts, volumes: Volumes, line: cmdline.CommandLine) -> Iterator[Need]:
    """What configuration has loaded, mounted or set up at the boot."""
    blocked = _blocked(facts, line)
    for name, why in (*_listed(facts), *_early(facts)):
        if name not in blocked:
            yield Need(name, "boot", why)
    for parameter in ("modules_load", "rd.modules_load", "rd.driver.pre", "rd.driver.post"):
        for value in line.all(parameter):
            for name in filter(None, value.split(",")):
                yield Need(_name(name), "boot", f"{parameter}= on the kernel's command line asks for it")
    for entry in volumes.fstab:
        if (not entry.has("noauto") or entry.has("x-systemd.automount")) and entry.fstype not in (
            "auto",
            "swap",
            "none",
        ):
            for fstype in entry.fstype.split(","):
                for name in facts.providers(f"fs-{fstype}", fstype):
                    yield Need(name, "boot", f"/etc/fstab mounts {entry.point}, of the type {fstype}")
    for kind, why in _links(facts):
        for name in facts.providers(f"rtnl-link-{kind}", kind):
            yield Need(name, "boot", why)


def _listed(facts: _Facts) -> Iterator[tuple[str, str]]:
    """Modules in lists of what to load, one a line."""
    files: dict[str, str] = {}
    for directory in _LISTS:
        for name in facts.names(directory):
            if name.endswith(".conf"):
                files.setdefault(name, f"{directory}/{name}")
    for path in (*sorted(files.values()), "/etc/modules", "/etc/initramfs-tools/modules"):
        for text in facts.text(path).splitlines():
            word = text.split()[0] if text.strip() else "#"
            if word[0] not in "#;":
                yield _name(word), f"{path} asks for it"


def _early(facts: _Facts) -> Iterator[tuple[str, str]]:
    """Modules that the programs which make initramfs images are told to have loaded early."""
    places = [f"{top}/{name}" for top in _DRACUT for name in facts.names(top) if name.endswith(".conf")]
    for path in ("/etc/dracut.conf", *places):
        for _, words in re.findall(r"^\s*force_drivers\+?=([\"']?)([^\"'\n]*)\1", facts.text(path), re.MULTILINE):
            for word in words.split():
                yield _name(word), f"{path} asks for it"
    for words in re.findall(r"^\s*MODULES=\(([^)]*)\)", facts.text("/etc/mkinitcpio.conf"), re.MULTILINE):
        for word in words.split():
            yield _name(word.strip("\"'?")), "/etc/mkinitcpio.conf asks for it"


def _blocked(facts: _Facts, line: cmdline.CommandLine) -> frozenset[str]:
    """What is not loaded although a list asks for it (modprobe.d(5))."""
    names = [name for key in _BLOCKING for value in line.all(key) for name in value.split(",")]
    for directory in _MODPROBE:
        for file in facts.names(directory):
            if file.endswith(".conf"):
                names += re.findall(r"^\s*blacklist\s+(\S+)", facts.text(f"{directory}/{file}"), re.MULTILINE)
    return frozenset(map(_name, names))


def _links(facts: _Facts) -> Iterator[tuple[str, str]]:
    """Kinds of virtual network interfaces that are set up at boot: systemd.netdev(5), wg-quick(8), interfaces(5)."""
    for directory in _NETWORK:
        for name in facts.names(directory):
            if name.endswith(".netdev"):
                path = f"{directory}/{name}"
                for kind in re.findall(r"^\s*Kind\s*=\s*(\w+)", facts.text(path), re.MULTILINE):
                    yield kind, f"{path} sets up a network interface of the kind {kind}"
    for unit in facts.names("/etc/systemd/system/multi-user.target.wants"):
        kind = {"wg-quick": "wireguard", "awg-quick": "amneziawg"}.get(unit.partition("@")[0])
        if kind is not None:
            yield kind, f"the unit {unit} sets up a network interface of the kind {kind}"
    files = [f"/etc/network/interfaces.d/{name}" for name in facts.names("/etc/network/interfaces.d")]
    for path in ("/etc/network/interfaces", *files):
        for kind in re.findall(r"^\s*[\w-]*up\s+ip link add\b.*\btype\s+(\w+)", facts.text(path), re.MULTILINE):
            yield kind, f"{path} sets up a network interface of the kind {kind}"


# -- in use ----------------------------------------------------------------------------------------------------


def _used(facts: _Facts, volumes: Volumes) -> Iterator[Need]:
    """What drives a device, mounts a file system or is held now."""
    for interface, name in _interfaces(facts):
        yield Need(name, "use", f"the network interface {interface} is driven by it")
    points = {mount.fstype: mount.point for mount in reversed(volumes.mounts)}
    for fstype, point in points.items():
        for name in facts.providers(f"fs-{fstype}", fstype):
            if name in facts.loaded:
                yield Need(name, "use", f"{point} is mounted, of the type {fstype}")
    for name, bus, device in facts.bound:
        if bus == "hid":
            yield Need(name, "loaded", f"{device} is driven by it, which the kernel's hid-generic drives, too")
        elif _made_by_module(facts, bus, device):
            yield Need(name, "loaded", f"it drives {device} alone, which no firmware describes")
        else:
            yield Need(name, "use", f"the device {device} ({bus}) is driven by it")
    for name, module in facts.loaded.items():
        if module.held is not None and module.held > 0:
            yield Need(name, "use", f"it is in use now, by its count in /proc/modules ({module.held})")


def _interfaces(facts: _Facts) -> Iterator[tuple[str, str]]:
    """Each network interface, and the module that drives it."""
    for interface in facts.names("/sys/class/net"):
        place = f"/sys/class/net/{interface}"
        driver = module_of(facts.machine, f"{place}/device/driver")
        if driver is not None:
            yield interface, driver
        elif kind := re.search(r"^DEVTYPE=(\w+)$", facts.text(f"{place}/uevent"), re.MULTILINE):
            for name in facts.providers(f"rtnl-link-{kind.group(1)}", kind.group(1)):
                if name in facts.loaded:
                    yield interface, name


def _made_by_module(facts: _Facts, bus: str, device: str) -> bool:
    """Whether a device is there only because a module made it. What the firmware describes has a modalias of ACPI's or
    of the device tree's, and what a larger device is made of lies below that."""
    if bus == "faux":
        return True
    modalias = facts.text(f"/sys/devices/platform/{device}/modalias")
    return bus == "platform" and modalias.startswith("platform:")


def _loaded(facts: _Facts) -> Iterator[Need]:
    """The rest of what is loaded."""
    for name, module in facts.loaded.items():
        if module.held is None:
            yield Need(name, "unclear", "this kernel does not count its uses")
        elif name in facts.untold:
            yield Need(name, "unclear", "which devices it drives is not known")
        else:
            yield Need(name, "loaded", "nothing here shows a use of it")
