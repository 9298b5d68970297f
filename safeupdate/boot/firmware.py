"""What the firmware is, what it would start, and which program an EFI file is.

UEFI: the variables in /sys/firmware/efi/efivars (UEFI 2.10, section 3.1 for the order in which boot options are
tried). BIOS: nothing to read, it starts whatever is in the boot sector.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from safeupdate.errors import FormatError, Missing, Unreadable
from safeupdate.formats import efi_variables, uki
from safeupdate.formats.efi_variables import GLOBAL, LOADER, LoadOption
from safeupdate.machine import Machine
from safeupdate.report import Finding, Remedy, unknown, warning

EFI = "/sys/firmware/efi"
VARIABLES = f"{EFI}/efivars"

_LOADER_TEXTS = (
    "LoaderInfo",
    "LoaderEntryDefault",
    "LoaderEntryPreferred",
    "LoaderEntryOneShot",
    "LoaderEntrySelected",
    "LoaderEntryLastBooted",
    "LoaderConfigTimeout",
    "LoaderConfigTimeoutOneShot",
    "LoaderDevicePartUUID",
    "StubInfo",
)

_SETUP_SCREEN = 1
"""EFI_OS_INDICATIONS_BOOT_TO_FW_UI (UEFI 2.10, section 8.5.4)."""

_PROGRAM_LIMIT = 8 << 20
"""Bytes of an EFI program that are searched for its marks. The largest loader of the distributions, a signed GRUB with
all its modules, has 4 MB; where more follows it is not a loader's."""

_Value = TypeVar("_Value")

Kind = Literal["uefi", "bios", "unknown"]


@dataclass(frozen=True)
class BootOption:
    """One Boot#### variable."""

    number: int
    option: LoadOption

    @property
    def name(self) -> str:
        """The variable and what a person calls it: `Boot0001 "debian"`."""
        return f'Boot{self.number:04X} "{self.option.description}"'


@dataclass(frozen=True)
class Firmware:
    """The firmware's facts; None where the variables were not captured, or this one is not set.

    `entries` are the ids that systemd-boot had in its menu at the last start.
    `options` holds those that BootNext, BootOrder and BootCurrent name and that could be understood, `broken` the
    numbers of the others. `loader` holds the texts of the variables that systemd-boot shares with the system.
    `findings` tell of broken variables other than boot options, and of a setup screen that would come first.
    """

    kind: Kind
    secure_boot: bool | None = None
    order: tuple[int, ...] | None = None
    next: int | None = None
    current: int | None = None
    options: tuple[BootOption, ...] = ()
    broken: frozenset[int] = frozenset()
    loader: dict[str, str] | None = field(default=None, hash=False)
    features: int | None = None
    findings: tuple[Finding, ...] = ()
    entries: tuple[str, ...] = ()

    @property
    def captured(self) -> bool:
        """Whether the variables are there to be read."""
        return self.loader is not None

    def option(self, number: int) -> BootOption | None:
        """The boot option of this number; None where the firmware has none that makes sense."""
        return next((option for option in self.options if option.number == number), None)

    def text(self, variable: str) -> str | None:
        """A variable that the loader and the system share; None where it is not set or not known."""
        return (self.loader or {}).get(variable)


@dataclass(frozen=True)
class Program:
    """An EFI program, known by its content. `kind` is empty where nothing tells it.

    `version` is systemd-boot's. `prefix` is where a GRUB looks for its configuration: the file system's UUID, empty for
    the one that GRUB was started from, and the directory.
    """

    kind: str
    architecture: str | None = None
    version: str | None = None
    prefix: tuple[str, str] | None = None


def read(machine: Machine) -> Firmware:
    """The firmware of the machine. Broken variables are findings; nothing is raised."""
    if not machine.is_dir(EFI):
        return Firmware("bios", secure_boot=False) if machine.has_sysfs else Firmware("unknown")
    files = {name.lower(): name for name in machine.listdir(VARIABLES)}
    if not files:
        return Firmware("uefi")
    findings: list[Finding] = []

    def value(name: str, vendor: str, parser: Callable[[bytes], _Value]) -> _Value | None:
        file = files.get(f"{name}-{vendor}".lower())
        if file is None:
            return None
        path = f"{VARIABLES}/{file}"
        try:
            return parser(efi_variables.parse(machine.read(path, limit=efi_variables.SIZE_LIMIT)).data)
        except (FormatError, Missing, Unreadable) as error:
            findings.append(_broken(path, str(error)))
            return None

    order = value("BootOrder", GLOBAL, efi_variables.numbers)
    following = value("BootNext", GLOBAL, efi_variables.numbers)
    current = value("BootCurrent", GLOBAL, efi_variables.numbers)
    secure = value("SecureBoot", GLOBAL, efi_variables.flag)
    setup = value("SetupMode", GLOBAL, efi_variables.flag)
    texts = {name: value(name, LOADER, efi_variables.text) for name in _LOADER_TEXTS}
    features = value("LoaderFeatures", LOADER, efi_variables.bits)
    entries = value("LoaderEntries", LOADER, efi_variables.texts)
    if (value("OsIndications", GLOBAL, efi_variables.bits) or 0) & _SETUP_SCREEN:
        findings.append(_setup_screen())
    told = tuple(findings)
    # A boot option that is broken matters only where the firmware would come to it: that is the caller's to see.
    wanted = dict.fromkeys((following or ())[:1] + (order or ()) + (current or ())[:1])
    options = {number: value(f"Boot{number:04X}", GLOBAL, efi_variables.load_option) for number in wanted}
    there = {number for number in wanted if f"Boot{number:04X}-{GLOBAL}".lower() in files}
    return Firmware(
        "uefi",
        None if secure is None else secure and not setup,
        order,
        following[0] if following else None,
        current[0] if current else None,
        tuple(BootOption(number, option) for number, option in options.items() if option is not None),
        frozenset(number for number in there if options[number] is None),
        {name: text for name, text in texts.items() if text is not None},
        features,
        told,
        entries or (),
    )


def _setup_screen() -> Finding:
    return warning(
        "boot-entry.waits-for-person",
        "OsIndications",
        "The firmware is asked to show its setup screen at the next start (the EFI variable OsIndications).",
        "The machine waits there for a person, and starts only then.",
        remedy=Remedy("Take the wish back.", (("bootctl", "reboot-to-firmware", "false"),)),
    )


def _broken(path: str, why: str) -> Finding:
    return unknown(
        "boot-entry.efi-variable-unreadable",
        path,
        f"The EFI variable in {path} cannot be understood: {why}.",
        "What the firmware or the boot loader makes of it at the next boot is not known.",
    )


_SYSTEMD_BOOT = re.compile(rb"#### LoaderInfo: systemd-boot ([^#\0]{1,100}) ####")
_GRUB_SEARCH = re.compile(
    rb"search\.fs_uuid ([0-9A-Za-z-]{1,64}) root[^\n]{0,200}\n\s*set prefix=\(\$root\)'?([^'\n\0]{1,200})"
)
_GRUB_PREFIX = re.compile(rb"/EFI/[A-Za-z0-9_.-]{1,64}(?=\0)")
_MARKS: tuple[tuple[str, tuple[bytes, ...]], ...] = (
    # rEFInd speaks of shim and GRUB, and shim of GRUB: the order counts.
    ("rEFInd", ("\\refind.conf".encode("utf-16-le"), b"refind.conf")),
    ("shim", (b"UEFI SHIM",)),
    ("grub", (b"Welcome to GRUB", b"grub_mod_init", b"grub rescue")),
    ("Limine", (b"limine.conf", b"limine.cfg")),
    ("syslinux", (b"ldlinux.e64", b"ldlinux.e32", b"SYSLINUX")),
    ("iPXE", (b"iPXE",)),
    ("Windows", ("bootmgfw".encode("utf-16-le"), b"bootmgfw.pdb", "BCD\0".encode("utf-16-le"))),
    ("the EFI shell", ("startup.nsh".encode("utf-16-le"),)),
)


def identify(machine: Machine, path: str) -> Program:
    """Which program the EFI file at `path` is. Raises `Missing` and `Unreadable`.

    Kinds: `systemd-boot`, `grub`, `shim`, `uki`, `linux` (a kernel that starts by itself), names of others, or nothing.
    """
    with machine.open(path) as file:
        try:
            data = file.read(_PROGRAM_LIMIT)
        except OSError as error:
            raise Unreadable(path, error.strerror or "it cannot be read") from None
    architecture = uki.architecture(data[:4096])
    # These two hold programs and texts of others within them: the headers decide.
    if uki.looks_like(data[:4096]):
        return Program("uki", architecture)
    if data[0x202:0x206] == b"HdrS" or data[0x38:0x3C] == b"ARM\x64" or data[0x38:0x3C] == b"RSC\x05":
        return Program("linux", architecture)
    if data[:2] == b"MZ" and data[4:8] == b"zimg":
        return Program("linux", architecture)
    loader = _SYSTEMD_BOOT.search(data)
    if loader:
        return Program("systemd-boot", architecture, loader.group(1).decode("ascii", "replace"))
    kind = next((kind for kind, marks in _MARKS if any(mark in data for mark in marks)), "")
    return Program(kind, architecture, prefix=_grub_prefix(data) if kind == "grub" else None)


def _grub_prefix(data: bytes) -> tuple[str, str] | None:
    """Where the configuration is that grub-install, or the distribution's signed image, has built in."""
    found = _GRUB_SEARCH.search(data)
    if found:
        return found.group(1).decode(), found.group(2).decode("utf-8", "surrogateescape")
    # A string of its own, perhaps after a device: `(hd0,gpt1)/EFI/debian`.
    prefixes = [match.group() for match in _GRUB_PREFIX.finditer(data) if data[match.start() - 1] in b"\0)"]
    return ("", prefixes[-1].decode()) if prefixes else None
