"""Which boot loader really starts this machine, and what it starts next.

UEFI tries BootNext, then the options of BootOrder, then the default path /EFI/BOOT/BOOT*.EFI (UEFI 2.10, sections 3.1
and 3.5.1); the program that it starts is known by its content. BIOS starts GRUB, the only loader for it that is judged
here. Where the firmware's facts are missing, the loaders that are configured on disk must agree.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from safeupdate import kernels, steering
from safeupdate.boot import firmware as firmwares
from safeupdate.boot import grub, grub_core, other, systemd_boot
from safeupdate.boot.firmware import BootOption, Firmware, Program
from safeupdate.boot.plan import BootEntry, BootFile, BootPlan
from safeupdate.errors import FormatError, SafeupdateError
from safeupdate.formats import uki
from safeupdate.machine import Machine
from safeupdate.remedies import add_kernels, write_boot_menu
from safeupdate.report import Finding, Remedy, blocker, unknown
from safeupdate.steering import Steering
from safeupdate.volumes import Volume, Volumes

PROXMOX = "/etc/kernel/proxmox-boot-uuids"
"""The EFI system partitions that proxmox-boot-tool fills; with it, /boot/grub is never read by the loader."""

_FOLLOWED = 4
"""Programs that hand over to one another: shim, its fallback, shim again, the loader."""

GRUB = "grub"

_DEFAULT_NAMES = ("BOOTX64", "BOOTAA64", "BOOTRISCV64", "BOOTLOONGARCH64", "BOOTARM", "BOOTIA32")
"""Programs on the default path (section 3.5.1.1), those of 64-bit firmware first."""

_OF_FIRMWARE = "firmware file"
"""The node of a program that is a part of the firmware: its shell, its setup screen (UEFI PI, volume 3)."""

_NETWORK = {"MAC", "IPv4", "IPv6", "URI", "Wi-Fi"}
"""Nodes of a device path that lead out of the machine."""

_FAT = (None, "vfat", "msdos", "fat")


@dataclass(frozen=True)
class _Start:
    """An EFI program that starts: on which file system, its path there, and here where that is to be seen."""

    volume: Volume | None
    spec: str
    path: str | None
    option: BootOption | None = None


@dataclass(frozen=True)
class _World:
    """What every question here is asked of. `managed` are Proxmox's ESPs, None on any other machine; `texts` stand in
    for files that GRUB's configuration sources."""

    machine: Machine
    volumes: Volumes
    firmware: Firmware
    managed: tuple[Volume, ...] | None = None
    texts: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def esp(self) -> Volume | None:
        """The ESP that is to be seen; never a file system that UEFI cannot read."""
        if self.managed:
            return self.managed[0]
        found = self.volumes.esp()
        return found if found is not None and found.fstype in _FAT else None

    def at(self, volume: Volume | None, spec: str) -> str | None:
        """An existing file on a file system, as a machine path."""
        path = self.volumes.locate(volume, spec) if volume is not None else None
        return path if path is not None and self.machine.exists(path) else None

    def visible(self, volume: Volume | None) -> bool:
        """Whether this file system's files are to be seen at all."""
        return volume is not None and self.volumes.locate(volume, "/") is not None

    def mirrors(self, volume: Volume) -> bool:
        """Whether the ESP that is to be seen is an array that this partition is a part of."""
        arrays = self.esp.devices if self.esp is not None else ()
        pairs = ((array, part) for array in arrays for part in volume.devices)
        return any(self.machine.exists(f"/sys/class/block/{array}/slaves/{part}") for array, part in pairs)


def find_plan(
    machine: Machine, volumes: Volumes, *, without: Steering | None = None, under: Steering | None = None
) -> tuple[Firmware, BootPlan]:
    """The firmware, and the plan of the loader that it starts. Broken files are findings and raise nothing.

    Both are those of the machine as it is, or as it would be `without` what our own lever holds the default with now,
    or `under` it.
    """
    try:
        firmware = firmwares.read(machine)
    except SafeupdateError as error:
        firmware = Firmware("unknown", findings=(_unreadable(str(error)),))
    texts: dict[str, bytes] = {}
    for held, entry in ((without, None), (under, under.entry if under is not None else None)):
        if held is not None and held.path is not None:
            texts[held.path] = steering.OFF if entry is None else steering.hold(entry)
        elif held is not None:
            firmware = _with_default(firmware, held.old if entry is None else entry)
    try:
        plan = _plan(_World(machine, volumes, firmware, texts=texts))
    except SafeupdateError as error:
        plan = BootPlan(None, findings=(_unreadable(str(error)),))
    return firmware, replace(plan, findings=firmware.findings + plan.findings)


def _with_default(firmware: Firmware, entry: str | None) -> Firmware:
    if firmware.loader is None:
        return firmware
    loader = {name: text for name, text in firmware.loader.items() if name != "LoaderEntryDefault"}
    return replace(firmware, loader=loader if entry is None else {**loader, "LoaderEntryDefault": entry})


def _plan(world: _World) -> BootPlan:
    first = other.recognise(world.machine, first=True)
    if first is not None:
        return BootPlan(None, findings=(first,), why=first.problem)
    uuids = re.findall(r"^\s*([0-9A-Fa-f-]+)\s*$", world.machine.text(PROXMOX) or "", re.MULTILINE)
    if uuids:
        seen = [world.volumes.tagged("UUID", uuid) for uuid in uuids]
        managed = tuple(v for v in seen if v is not None and not v.assumed and world.visible(v))
        if not managed:
            return BootPlan(None, findings=(_managed_not_visible(uuids),), why=f"{PROXMOX} names the ESPs that count")
        world = replace(world, managed=managed)
    firmware = world.firmware
    if firmware.kind == "uefi" and (firmware.order is not None or firmware.next is not None):
        return _by_firmware(world)
    return _on_disk(world)


# -- what the firmware starts ----------------------------------------------------------------------------------


def _by_firmware(world: _World) -> BootPlan:
    passed: list[str] = []
    for start in _starts(world, passed):
        plan = _started(world, start)
        origin = start.option.name if start.option is not None else "no boot option leads anywhere, so the default path"
        once = start.option is not None and start.option.number == world.firmware.next
        origin = f"BootNext, {origin}," if once else origin
        current = world.firmware.option(world.firmware.current) if world.firmware.current is not None else None
        differs = current is not None and current != start.option
        running = f"this boot was started by {current.name}" if current is not None and differs else ""
        why = "; ".join(filter(None, [*passed, f"the firmware starts {start.spec} ({origin})", running, plan.why]))
        return replace(plan, why=why)
    esp = world.esp
    if any(_NETWORK & set(option.option.nodes) for option in world.firmware.options):
        finding = other.unsupported("its firmware from the network", "; ".join(passed))
    elif esp is None or not world.visible(esp):
        finding = _no_loader_visible(esp.name if esp is not None else "the EFI system partition", passed)
    else:
        finding = _no_loader("no boot option of the firmware leads to an existing program", passed)
    return BootPlan(None, findings=(finding,), why="; ".join(passed))


def _starts(world: _World, passed: list[str]) -> Iterator[_Start]:
    """What the firmware would start, in the order in which it tries; the reasons against the others go to `passed`."""
    firmware = world.firmware
    order = firmware.order or ()
    wanted = [(firmware.next, True)] if firmware.next is not None else []
    wanted += [(number, False) for number in order]
    for number, once in wanted:
        option = firmware.option(number)
        if number in firmware.broken:
            raise FormatError(f"the variable Boot{number:04X} has a form that is not understood")
        if option is None:
            passed.append(f"Boot{number:04X} does not exist")
        elif once and _OF_FIRMWARE in option.option.nodes:
            yield _Start(None, f'its own program "{option.option.description}"', None, option)
        elif option.option.application or (not option.option.active and not once):
            continue
        elif "fwupd" in (option.option.path or "") or b"f\0w\0u\0p\0d" in option.option.data:
            passed.append(f"{option.name} installs a firmware update, and restarts")
        elif option.option.path is None and option.option.partition is None:
            # No program. The firmware went past it to start what runs now, or it started just that.
            start = None
            if number == firmware.current:
                remote = bool(_NETWORK & set(option.option.nodes))
                start = _Start(None, "the network", None, option) if remote else _default(world, option)
            if start is not None:
                yield start
            elif _NETWORK & set(option.option.nodes):
                passed.append(f"{option.name} starts from the network, where nothing is known to answer")
            else:
                passed.append(f"{option.name} is a device, not a program")
        else:
            start = _of_option(world, option)
            if start is not None:
                yield start
            else:
                passed.append(f"{option.name} names a file or a partition that does not exist")
    start = _default(world, None)
    if start is not None:
        yield start


def _of_option(world: _World, option: BootOption) -> _Start | None:
    """The program of a boot option; None where it surely does not exist."""
    partition, path = option.option.partition, option.option.path
    volume = world.volumes.tagged("PARTUUID", partition) if partition is not None else world.esp
    if volume is not None and volume.assumed:
        volume = world.esp or volume
    if volume is None and partition is not None:
        return None
    if path is None:
        return _default(world, option, volume)
    spec = path.replace("\\", "/")
    if not world.visible(volume) and volume is not None and world.mirrors(volume):
        volume = world.esp
    if not world.visible(volume):
        return _Start(volume, spec, None, option)
    found = world.at(volume, spec)
    return _Start(volume, spec, found, option) if found is not None else None


def _default(world: _World, option: BootOption | None, volume: Volume | None = None) -> _Start | None:
    """The default path for removable media, which firmware also takes where no option works (section 3.5.1.1)."""
    volume = volume or world.esp
    bits = world.machine.value(f"{firmwares.EFI}/fw_platform_size")
    names = _DEFAULT_NAMES[::-1] if bits == "32" else _DEFAULT_NAMES
    for name in names:
        spec = f"/EFI/BOOT/{name}.EFI"
        path = world.at(volume, spec)
        if path is not None:
            return _Start(volume, spec, path, option)
    if option is not None and not world.visible(volume):
        return _Start(volume, "/EFI/BOOT", None, option)
    return None


# -- what the program does -------------------------------------------------------------------------------------


def _started(world: _World, start: _Start) -> BootPlan:
    if start.option is not None and _NETWORK & set(start.option.option.nodes):
        finding = other.unsupported("its firmware from the network", start.option.name)
        return BootPlan(None, findings=(finding,), why=finding.problem)
    if start.option is not None and start.path is None and _OF_FIRMWARE in start.option.option.nodes:
        name = start.option.option.description
        entry = BootEntry(name, start.option.name, name, start.option.name)
        return BootPlan(name, (entry,), entry, "which waits for a person", menu=False)
    programs: list[str] = []
    for _ in range(_FOLLOWED):
        if start.path is None:
            return _unseen(world, start)
        programs.append(start.path)
        if re.search(r"/(?:zbm|zfsbootmenu)/|zfsbootmenu", start.spec, re.IGNORECASE):
            finding = other.unsupported("ZFSBootMenu", start.path)
            return BootPlan(None, findings=(finding,), why=finding.problem)
        program = firmwares.identify(world.machine, start.path)
        if program.kind != "shim":
            return replace(_of_program(world, start, program), programs=tuple(programs))
        following = _after_shim(world, start)
        if isinstance(following, Finding):
            return BootPlan(None, findings=(following,), why=following.problem)
        start = following
    finding = _no_loader(f"{start.spec} and others hand over to one another in a circle", [])
    return BootPlan(None, findings=(finding,))


def _of_program(world: _World, start: _Start, program: Program) -> BootPlan:
    assert start.path is not None
    if program.kind == systemd_boot.NAME:
        started = start.path, program
        return systemd_boot.plan(world.machine, world.volumes, world.firmware, esp=start.volume, started=started)
    if program.kind == "grub":
        return _grub_of(world, start, program)
    if program.kind in ("uki", "linux"):
        return _direct(world, start, program)
    name = program.kind or f"the EFI program {start.spec}"
    if program.kind in ("Windows", "the EFI shell"):
        entry = BootEntry(name, start.spec, name, start.path)
        return BootPlan(name, (entry,), entry, f"{start.spec} is {name}", menu=False)
    finding = other.unsupported(name, start.path)
    return BootPlan(None, findings=(finding,), why=finding.problem)


def _after_shim(world: _World, start: _Start) -> _Start | Finding:
    """shim's second stage: what its arguments name, else fbx64.efi on the default path, else grubx64.efi."""
    assert start.path is not None
    directory, _, name = start.path.rpartition("/")
    spec = start.spec.rpartition("/")[0]
    suffix = re.sub(r"^(?:shim|boot)", "", name.lower())
    names = {other_name.lower(): other_name for other_name in world.machine.listdir(directory)}
    arguments = start.option.option.data.decode("utf-16-le", "replace").split("\0")[0] if start.option else ""
    if re.fullmatch(r"[\w.\\/-]+\.efi", arguments.strip(), re.IGNORECASE):
        wanted = arguments.strip().replace("\\", "/")
        for place in (f"{spec}/{wanted.lstrip('/')}", f"/{wanted.lstrip('/')}"):
            found = world.at(start.volume, place)
            if found is not None:
                return _Start(start.volume, place, found)
    # SUSE's shim knows its stages by names without the architecture; copies of shim lack it in their own name.
    if name.lower().startswith("boot") and {f"fb{suffix}", "fallback.efi"} & names.keys():
        registered = _registered(world, start.volume, suffix)
        if registered is not None:
            return registered
    for stage in (f"grub{suffix}", "grub.efi", "grubx64.efi", "grubaa64.efi"):
        if stage in names:
            return _Start(start.volume, f"{spec}/{names[stage]}", f"{directory}/{names[stage]}")
    return blocker(
        "boot-entry.no-loader",
        start.path,
        f"{start.path} is shim, and the program that it starts, grub{suffix} in the same directory, does not exist.",
        "shim stops with an error, and the firmware tries its next boot option or gives up.",
        remedy=_reinstall(world.machine),
    )


def _registered(world: _World, volume: Volume | None, suffix: str) -> _Start | None:
    """What shim's fallback program starts: the first line of the first \\EFI\\*\\BOOT*.CSV (shim, README.fallback)."""
    top = world.at(volume, "/EFI")
    for vendor in world.machine.listdir(top) if top is not None else ():
        if vendor.lower() == "boot":
            continue
        for name in world.machine.listdir(f"{top}/{vendor}"):
            if name.lower() not in (f"boot{suffix}".replace(".efi", ".csv"), "boot.csv"):
                continue
            data = world.machine.read(f"{top}/{vendor}/{name}", limit=1 << 16)
            text = (
                data.decode("utf-16", "replace") if data[:2] in (b"\xff\xfe", b"\xfe\xff") else data.decode("latin-1")
            )
            spec = f"/EFI/{vendor}/{text.split(',')[0].strip()}"
            found = world.at(volume, spec)
            if found is not None:
                return _Start(volume, spec, found)
    return None


def _unseen(world: _World, start: _Start) -> BootPlan:
    """The ESP is not mounted, by design on many machines: the file's name and the running boot must do."""
    name = start.spec.rsplit("/", 1)[-1].lower()
    info = world.firmware.text("LoaderInfo") or ""
    running = start.option is not None and start.option.number == world.firmware.current
    if name.startswith(systemd_boot.NAME) or (running and info.startswith(systemd_boot.NAME)):
        return systemd_boot.plan(world.machine, world.volumes, world.firmware, esp=start.volume)
    by_grub = "BOOT_IMAGE=" in (world.machine.value("/proc/cmdline") or "") or info.startswith("GRUB")
    if name.startswith(("grub", "shim")) or (running and by_grub):
        current = world.firmware.option(world.firmware.current) if world.firmware.current is not None else None
        if running or current is None or _place(current) == _place(start.option):
            return _grub(world, f"{start.spec} is GRUB's by its name; the ESP is not mounted")
    if name in ("bootmgfw.efi", "bootmgr.efi"):
        entry = BootEntry("Windows", start.spec, "Windows", start.spec)
        return BootPlan("Windows", (entry,), entry, f"{start.spec} is Windows by its name", menu=False)
    finding = _no_loader_visible(start.volume.name if start.volume is not None else "the ESP", [start.spec])
    return BootPlan(None, findings=(finding,), why=finding.problem)


def _place(option: BootOption | None) -> tuple[str | None, str] | None:
    """The partition and the directory that a boot option's program is in."""
    if option is None:
        return None
    return option.option.partition, (option.option.path or "").lower().rpartition("\\")[0]


# -- GRUB ------------------------------------------------------------------------------------------------------


def _grub_of(world: _World, start: _Start, program: Program) -> BootPlan:
    """The plan of the GRUB in an EFI file: its configuration is where the image has it built in, else beside it."""
    beside = start.volume, start.spec.rpartition("/")[0]
    places = [beside]
    if program.prefix is not None:
        uuid, directory = program.prefix
        volume = world.volumes.tagged("UUID", uuid) if uuid else start.volume
        if volume is not None and not volume.assumed and not world.visible(volume):
            finding = _no_loader_visible(f"the file system {volume.name} with GRUB's configuration", [start.spec])
            return BootPlan(GRUB, findings=(finding,), why=f"{start.spec} is GRUB")
        # A signed image, whose directory is on its own file system, also looks beside itself.
        places = [(volume, directory)] if uuid else [(volume, directory), beside]
    for volume, directory in places:
        config = world.at(volume, f"{directory}/grub.cfg")
        if config is not None:
            return _grub_plan(world, config)
    if program.prefix is None or any(volume is not None and volume.assumed for volume, _ in places):
        return _grub(world, f"{start.spec} is GRUB")
    wanted = " or ".join(f"{directory}/grub.cfg" for _, directory in dict.fromkeys(places))
    device = f" on the file system {program.prefix[0]}" if program.prefix[0] else ""
    finding = blocker(
        "boot-entry.grub-config-missing",
        start.path or start.spec,
        f"The GRUB in {start.path} reads its configuration from {wanted}{device}, which does not exist.",
        "GRUB stops at its prompt, and nothing boots.",
        remedy=_reinstall(world.machine),
    )
    return BootPlan(GRUB, findings=(finding,), why=f"{start.spec} is GRUB")


def _grub(world: _World, why: str) -> BootPlan:
    """The plan of GRUB's configuration on disk, where several exist that of all if they agree."""
    plans = [_grub_plan(world, config) for config in _grub_configs(world)]
    if not plans:
        finding = (
            _no_loader_visible("GRUB's configuration", [])
            if _hides(world)
            else _no_loader(f"{why}, and it has no configuration", [])
        )
        return BootPlan(GRUB, findings=(finding,), why=why)
    return _agreed(world, plans)


def _grub_plan(world: _World, config: str) -> BootPlan:
    return grub.plan(world.machine, world.volumes, config=config, texts=world.texts)


def _grub_configs(world: _World) -> tuple[str, ...]:
    if world.managed is None:
        return grub.find_configs(world.machine, world.volumes)
    found = (world.at(volume, "/grub/grub.cfg") for volume in world.managed)
    return tuple(config for config in found if config is not None)


# -- kernels that start by themselves --------------------------------------------------------------------------


def _direct(world: _World, start: _Start, program: Program) -> BootPlan:
    """A kernel that the firmware starts without a loader: a unified image, or a kernel with an EFI stub."""
    assert start.path is not None
    loader = "EFI stub"
    arguments = start.option.option.data.decode("utf-16-le", "replace").split("\0")[0] if start.option else ""
    embedded = program.kind == "uki"
    cmdline, release = arguments, None
    findings: list[Finding] = []
    if embedded:
        with world.machine.open(start.path) as file:
            try:
                image = uki.parse(file)
            except FormatError as error:
                return BootPlan(loader, findings=(_unreadable(f"{start.path}: {error}"),))
        profile = image.profiles[0]
        release = profile.release
        if profile.cmdline is not None and (world.firmware.secure_boot or not arguments.strip()):
            cmdline = profile.cmdline
        if not image.whole:
            findings.append(
                blocker(
                    "boot-entry.unified-image-truncated",
                    start.path,
                    f"The unified kernel image {start.path} is cut short.",
                    "The firmware refuses to load it, and the machine does not start with it.",
                    remedy=add_kernels(world.machine, [release] if release else []),
                )
            )
    kernel = kernels.kernel_at(world.machine, start.path, embedded=embedded)
    entry = BootEntry(
        loader=loader,
        id=start.option.name if start.option is not None else start.spec,
        title=start.option.option.description if start.option is not None else start.spec,
        source=start.path,
        kernel=BootFile(start.spec, start.path),
        initramfs=tuple(_initrd(world, start.volume, spec) for spec in re.findall(r"(?:^|\s)initrd=(\S+)", cmdline)),
        cmdline=cmdline.strip(),
        release=release or (kernel.release if kernel is not None else None),
        embedded=embedded,
    )
    return BootPlan(
        loader, (entry,), entry, f"{start.spec} is a kernel", tuple(findings), menu=False, config=start.path
    )


def _initrd(world: _World, volume: Volume | None, spec: str) -> BootFile:
    """A file that the kernel's EFI stub loads, from the file system that it was itself loaded from."""
    clean = "/" + spec.replace("\\", "/").strip("/")
    path = world.volumes.locate(volume, clean) if volume is not None else None
    absent = path is not None and not world.machine.exists(path)
    return BootFile(spec, path, absent)


# -- what is configured on disk --------------------------------------------------------------------------------


def _on_disk(world: _World) -> BootPlan:
    """Where the firmware does not tell: the loaders that have a configuration here, and they must agree."""
    plans = [_grub_plan(world, config) for config in _grub_configs(world)]
    if world.firmware.kind != "bios":
        plans += _systemd_boot_on_disk(world)
    if not plans:
        return _nothing(world)
    info = (world.firmware.text("LoaderInfo") or "").lower()
    running = [plan for plan in plans if plan.loader is not None and info.startswith(plan.loader)]
    plan = _agreed(world, running or plans)
    if world.firmware.kind == "bios" and plan.loader == GRUB:
        return replace(plan, findings=(*plan.findings, *grub_core.findings(world.machine)))
    return plan


def _systemd_boot_on_disk(world: _World) -> list[BootPlan]:
    esp = world.esp
    if esp is None or not world.visible(esp):
        return []
    installed = systemd_boot.program(world.machine, world.volumes, esp) is not None
    if not installed and world.at(esp, "/loader/loader.conf") is None:
        return []
    plan = systemd_boot.plan(world.machine, world.volumes, world.firmware, esp=esp)
    return [plan] if plan.entries else []


def _agreed(world: _World, plans: Sequence[BootPlan]) -> BootPlan:
    """The first plan, if all start the same kernel next; else one that can tell nothing, and why."""
    first = plans[0]
    if len({_next_kernel(world, plan) for plan in plans}) == 1:
        return first
    names = [f"{plan.loader} ({plan.config})" for plan in plans]
    finding = unknown(
        "boot-entry.ambiguous-loader",
        " and ".join(names),
        f"Several boot loaders are configured here and start different kernels next: {', '.join(names)}.",
        "Which of them the firmware starts is not known here, and so neither is the next kernel.",
        evidence=[f"{plan.loader}: {_next_kernel(world, plan) or 'nothing'}, {plan.why}" for plan in plans],
        remedy=Remedy("See what the firmware starts.", (("efibootmgr", "-v"),)),
    )
    entries = tuple(entry for plan in plans for entry in plan.entries)
    return BootPlan(None, entries, findings=(finding,), why=finding.problem)


def _next_kernel(world: _World, plan: BootPlan) -> str | None:
    """The release that a plan starts next, its file where nothing tells the release."""
    entry = plan.next
    if entry is None or entry.kernel is None:
        return None
    if entry.release is not None:
        return entry.release
    path = entry.kernel.path
    kernel = kernels.kernel_at(world.machine, path, embedded=entry.embedded) if path is not None else None
    return kernel.release if kernel is not None else entry.kernel.spec


def _nothing(world: _World) -> BootPlan:
    finding = other.recognise(world.machine, first=False)
    if finding is None and world.firmware.kind == "bios" and not _hides(world):
        config = "/boot/grub2/grub.cfg" if world.machine.is_dir("/boot/grub2") else "/boot/grub/grub.cfg"
        remedy = write_boot_menu(world.machine, GRUB, config)
        finding = _no_loader("neither GRUB nor another boot loader has a configuration here", [], remedy)
    if finding is None:
        finding = _no_loader_visible("a boot loader's configuration", [])
    return BootPlan(None, findings=(finding,), why=finding.problem)


def _hides(world: _World) -> bool:
    """Whether a configuration may be on a file system that is not mounted here, or was not captured."""
    if not world.machine.has_sysfs or not world.volumes.mounts:
        return True
    mounted = {mount.point for mount in world.volumes.mounts}
    return any(
        line.point in ("/boot", "/boot/efi", "/efi") and line.point not in mounted for line in world.volumes.fstab
    )


# -- findings --------------------------------------------------------------------------------------------------


def _reinstall(machine: Machine) -> Remedy:
    text = "Install the boot loader anew."
    commands = {
        "/usr/sbin/proxmox-boot-tool": (("proxmox-boot-tool", "reinit"),),
        "/usr/sbin/update-grub": (("grub-install",), ("update-grub",)),
        "/usr/bin/dnf": (("dnf", "reinstall", "shim-*", "grub2-efi-*"),),
        "/sbin/update-bootloader": (("update-bootloader", "--reinit"),),
        "/usr/bin/grub-mkconfig": (("grub-install",), ("grub-mkconfig", "-o", "/boot/grub/grub.cfg")),
    }
    return Remedy(text, next((commands[path] for path in commands if machine.exists(path)), (("bootctl", "install"),)))


def _no_loader(what: str, passed: Sequence[str], remedy: Remedy | None = None) -> Finding:
    return blocker(
        "boot-entry.no-loader",
        "boot loader",
        f"Nothing starts this machine: {what}.",
        "The next boot ends in the firmware or at a boot loader's prompt.",
        evidence=passed,
        remedy=remedy or Remedy("See what the firmware starts.", (("efibootmgr", "-v"),)),
    )


def _no_loader_visible(what: str, passed: Sequence[str]) -> Finding:
    return unknown(
        "boot-entry.no-loader",
        what,
        f"What starts this machine is not to be seen here: {what} is not mounted or not part of this tree.",
        "What starts at the next boot cannot be told.",
        evidence=passed,
        remedy=Remedy("Mount the EFI system partition and /boot, and check again.", (("mount", "-a"),)),
    )


def _managed_not_visible(uuids: Sequence[str]) -> Finding:
    return unknown(
        "boot-entry.proxmox-partition-not-visible",
        PROXMOX,
        f"proxmox-boot-tool starts this machine from partitions that are not mounted: {', '.join(uuids)}. What is in "
        "/boot is only where it copies from.",
        "What the loader on them starts next cannot be told.",
        remedy=Remedy(
            "Mount one of them, read-only, and check again.",
            (("proxmox-boot-tool", "status"), ("mount", "-o", "ro", f"/dev/disk/by-uuid/{uuids[0]}", "/mnt")),
        ),
    )


def _unreadable(why: str) -> Finding:
    return unknown(
        "boot-entry.unreadable",
        "boot loader",
        f"The boot loader's files could not be read: {why}.",
        "What starts at the next boot cannot be told.",
    )
