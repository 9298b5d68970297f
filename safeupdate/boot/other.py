"""Ways to start a machine that this version recognises and does not judge: one line each.

A sign is a file or a fact that gives the loader away; where one is found, the answer is `unknown`, and says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from safeupdate.machine import Machine
from safeupdate.report import Finding, unknown


@dataclass(frozen=True)
class Recogniser:
    """`sign` returns what gives the loader away, or None. `first`: it counts whatever else is on the disk."""

    name: str
    sign: Callable[[Machine], str | None]
    first: bool = False


def _file(*paths: str) -> Callable[[Machine], str | None]:
    """A sign: the first of these that exists."""
    return lambda machine: next((path for path in paths if machine.exists(path)), None)


def _below(pattern: str, *directories: str) -> Callable[[Machine], str | None]:
    """A sign: a file in one of these directories whose whole name matches, letter case aside."""

    def sign(machine: Machine) -> str | None:
        names = ((directory, name) for directory in directories for name in machine.listdir(directory))
        return next((f"{where}/{name}" for where, name in names if re.fullmatch(pattern, name, re.IGNORECASE)), None)

    return sign


def _parameter(pattern: str) -> Callable[[Machine], str | None]:
    """A sign: a parameter of the running kernel's command line."""

    def sign(machine: Machine) -> str | None:
        match = re.search(rf"(?:^|\s){pattern}", machine.value("/proc/cmdline") or "")
        return f"{match.group().strip()} in /proc/cmdline" if match else None

    return sign


def _any(*signs: Callable[[Machine], str | None]) -> Callable[[Machine], str | None]:
    return lambda machine: next((found for sign in signs if (found := sign(machine)) is not None), None)


def _all(*signs: Callable[[Machine], str | None]) -> Callable[[Machine], str | None]:
    def sign(machine: Machine) -> str | None:
        found = [found for one in signs if (found := one(machine)) is not None]
        return found[0] if len(found) == len(signs) else None

    return sign


def _no_efi(machine: Machine) -> str | None:
    """No UEFI, which on these boards can take the place of their own loader."""
    return None if machine.exists("/sys/firmware/efi") else "/sys/firmware/efi does not exist"


_DEVICE_TREE = _file("/proc/device-tree", "/sys/firmware/devicetree")
"""What x86 does not have: there, GRUB starts only by UEFI."""


def _wsl(machine: Machine) -> str | None:
    release = machine.running_kernel or ""
    return release if re.search("microsoft", release, re.IGNORECASE) else None


def _no_loader(machine: Machine) -> str | None:
    """A kernel that runs with a command line which no boot loader has touched."""
    cmdline = machine.value("/proc/cmdline")
    if cmdline is None or re.search(r"(?:^|\s)(?:BOOT_IMAGE|initrd)=", cmdline):
        return None
    return "/proc/cmdline has no BOOT_IMAGE= as GRUB writes it"


_BOOT = ("/boot", "/boot/firmware", "/boot/efi", "/efi")
_EXTLINUX = _file("/boot/extlinux/extlinux.conf", "/boot/firmware/extlinux/extlinux.conf", "/extlinux/extlinux.conf")
_BOOT_SCRIPT = _below(r"boot\.scr(?:\.uimg)?|uEnv\.txt", *_BOOT)
_SYSLINUX = _below(r"(?:sys|iso|ext)linux\.cfg|extlinux\.conf", *_BOOT, "/boot/syslinux", "/boot/extlinux", "/syslinux")
_EFI = tuple(f"{place}/EFI/{name}" for place in _BOOT for name in ("refind", "BOOT", "limine", "ZBM", "zbm"))

RECOGNISERS: tuple[Recogniser, ...] = (
    Recogniser(
        "ostree or bootc", _any(_parameter(r"ostree=\S*"), _file("/ostree/repo", "/sysroot/ostree")), first=True
    ),
    Recogniser("NixOS generations", _any(_file("/etc/NIXOS"), _parameter(r"init=/nix/store/\S*")), first=True),
    Recogniser("the Windows Subsystem for Linux", _wsl, first=True),
    Recogniser(
        "a live medium", _parameter(r"(?:boot=(?:live|casper)|root=live:\S+|rd\.live\.image)(?!\S)"), first=True
    ),
    Recogniser("snapd, from a kernel snap", _parameter(r"snapd_recovery_mode=\S+"), first=True),
    Recogniser("zipl (s390)", _any(_file("/sys/firmware/ipl"), _file("/etc/zipl.conf")), first=True),
    Recogniser("petitboot (OPAL)", _any(_file("/sys/firmware/opal"), _file("/proc/device-tree/ibm,opal")), first=True),
    Recogniser(
        "the Raspberry Pi's firmware",
        _all(_below(r"config\.txt", *_BOOT), _below(r"start\w*\.elf|kernel\w*\.img|bcm27\w+\.dtb", *_BOOT), _no_efi),
        first=True,
    ),
    Recogniser(
        "U-Boot", _all(_any(_EXTLINUX, _below(r"boot\.scr(?:\.uimg)?", *_BOOT)), _DEVICE_TREE, _no_efi), first=True
    ),
    Recogniser("rEFInd", _below(r"refind(?:_linux)?\.conf", *_BOOT, *_EFI)),
    Recogniser("Limine", _below(r"limine\.(?:conf|cfg)", *_BOOT, "/boot/limine", *_EFI)),
    Recogniser("ZFSBootMenu", _any(_below(r"(?:vmlinuz|zfsbootmenu).*\.efi", *_EFI), _parameter(r"zbm\.\S*"))),
    Recogniser("U-Boot", _BOOT_SCRIPT),
    Recogniser("syslinux", _SYSLINUX),
    Recogniser("GRUB legacy", _file("/boot/grub/menu.lst", "/boot/grub/grub.conf")),
    Recogniser("LILO", _file("/etc/lilo.conf")),
    Recogniser(
        "a server on the network", _parameter(r"(?:BOOTIF|nfsroot|netroot|root=(?:/dev/nfs|nfs|nbd:|iscsi:))\S*")
    ),
    Recogniser("a hypervisor that loads the kernel itself", _no_loader),
)


def recognise(machine: Machine, *, first: bool) -> Finding | None:
    """The finding for the first loader that is recognised: of those that count before everything, or of the rest."""
    for recogniser in RECOGNISERS:
        if recogniser.first == first and (sign := recogniser.sign(machine)) is not None:
            return unsupported(recogniser.name, sign)
    return None


def unsupported(name: str, sign: str) -> Finding:
    """This machine starts in a way that is not judged; `sign` is what showed it."""
    return unknown(
        "boot-entry.unsupported-loader",
        name,
        f"This machine is started by {name}, which this version of safeupdate does not judge.",
        "What starts at the next boot cannot be told.",
        evidence=[sign],
    )
