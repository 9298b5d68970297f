"""What a BIOS starts of GRUB: its core in the first sectors of a disk, and the modules that this asks for.

The core is small; what reads a menu is a module, in the directory of its configuration, and has to be of the same
build. Both are asked of where GRUB has started the boot that runs now, so that it has been installed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Optional

from safeupdate.errors import FormatError, Missing, Unreadable
from safeupdate.formats import grub_core, module_symbols
from safeupdate.machine import Machine
from safeupdate.report import Finding, Remedy, blocker, unknown, warning

Sectors = Callable[[int, int], Optional[bytes]]
"""Reads a disk: the first sector and how many, to their bytes."""

_DISKS_LIMIT = 16
"""A BIOS shows at most this many (numbers 80h to 8Fh are what GRUB scans), and a storage network may have thousands."""

_READERS = ("normal", "linux")
"""The modules that show the menu and start an entry of it."""

_INSTALL = Remedy("Install the boot loader anew, on the disk that the firmware starts.", (("lsblk",),))


@dataclass(frozen=True)
class _Core:
    """A disk with GRUB's boot code, and what is wrong with the core that it loads: empty where nothing is."""

    disk: str
    damage: str = ""
    certain: bool = True
    missing: tuple[str, ...] = ()


def disks(machine: Machine) -> Iterator[tuple[str, Sectors]]:
    """The disks that a BIOS could start, by name."""
    names = [name for name in machine.listdir("/sys/class/block") if machine.exists(f"/sys/class/block/{name}/device")]
    disks = [name for name in names if not machine.exists(f"/sys/class/block/{name}/partition")]
    # An empty card reader is a disk without a size.
    there = [name for name in disks if machine.value(f"/sys/class/block/{name}/size") not in (None, "0")]
    for name in sorted(each for each in there if not each.startswith(("fd", "sr")))[:_DISKS_LIMIT]:
        yield name, partial(machine.sectors, name)


def findings(machine: Machine, among: Iterable[tuple[str, Sectors]] | None = None) -> Iterator[Finding]:
    """What is wrong with GRUB's own files and sectors, on a machine with a BIOS, by default on its own disks."""
    if "BOOT_IMAGE=" not in (machine.value("/proc/cmdline") or ""):
        return
    for directory in ("/boot/grub", "/boot/grub2"):
        names = machine.listdir(directory)
        if "grub.cfg" not in names:
            continue
        whole = [name for name in names if machine.exists(f"{directory}/{name}/normal.mod")]
        # grub-install makes `fonts` beside the modules; without either, the image has them all built in.
        installed = "i386-pc" in names or ("fonts" in names and not whole)
        if installed and "i386-pc" not in whole:
            module = f"{directory}/i386-pc/normal.mod"
            yield blocker(
                "boot-entry.loader-files-missing",
                module,
                f"GRUB's module {module} does not exist.",
                "GRUB stops at “grub rescue>” before it reads its menu.",
                remedy=_INSTALL,
            )
        elif machine.exists(f"{directory}/i386-pc/core.img"):
            yield from _on_disks(machine, f"{directory}/i386-pc", disks(machine) if among is None else among)


def _on_disks(machine: Machine, directory: str, among: Iterable[tuple[str, Sectors]]) -> Iterator[Finding]:
    cores: list[_Core] = []
    others: list[str] = []
    empty: list[str] = []
    unread: list[str] = []
    for name, sectors in among:
        try:
            first = sectors(0, 1)
            if first is None:
                return  # a tree has no disks
            start = grub_core.core_sector(first)
            if start is not None:
                cores.append(_core(machine, directory, name, sectors, start))
            else:
                (others if grub_core.has_boot_code(first) else empty).append(name)
        except (Missing, Unreadable) as error:
            # The passive path of a storage network cannot be read, nor can anything by an ordinary user.
            unread.append(str(error))
    if unread and not cores and not others:
        yield unknown(
            "boot-entry.boot-code-unread",
            directory,
            "The first sectors of the disks could not be read, which the firmware starts.",
            "Whether the boot loader in them is whole is not known.",
            evidence=unread,
            remedy=Remedy("Ask again as root.", (("sudo", "safeupdate", "check"),)),
        )
        return
    if not cores and not others and empty:
        yield blocker(
            "boot-entry.boot-code-missing",
            ", ".join(f"/dev/{name}" for name in empty),
            "No disk of this machine has boot code in its first sector.",
            "The firmware finds nothing to start, or runs into zeros and hangs, before any menu is shown.",
            evidence=[f"/dev/{name}: no boot code" for name in empty],
            remedy=_INSTALL,
        )
    # What the firmware starts is not told: a core that is whole may be the one, and so may another program.
    sure = not others and all(core.damage for core in cores)
    for core in cores:
        if core.damage:
            yield _damaged(core, directory, sure=sure)


def _damaged(core: _Core, directory: str, *, sure: bool) -> Finding:
    """`sure`: the firmware has no other program to start."""
    subject = f"/dev/{core.disk}"
    evidence = [core.damage, *(f"missing: {name}" for name in core.missing[:10])]
    if sure and core.missing:
        return blocker(
            "boot-entry.core-of-another-build",
            subject,
            f"GRUB's core on {subject} is of another build than its modules in {directory}.",
            "GRUB stops at “grub rescue>”: its modules ask for what this core does not have.",
            evidence=evidence,
            remedy=_INSTALL,
        )
    if sure and core.certain:
        return blocker(
            "boot-entry.core-damaged",
            subject,
            f"GRUB's core in the first sectors of {subject} is damaged.",
            "The machine stops before any menu is shown.",
            evidence=evidence,
            remedy=_INSTALL,
        )
    if sure:
        return unknown(
            "boot-entry.core-unproved",
            subject,
            f"A part of GRUB's core in the first sectors of {subject} is damaged.",
            "GRUB can mend such a part as it starts, up to a point; whether it can mend this one is not known.",
            evidence=evidence,
            remedy=_INSTALL,
        )
    return warning(
        "boot-entry.core-elsewhere-damaged",
        subject,
        f"GRUB's core on {subject} is damaged, or of another build than its modules.",
        "The machine stops before any menu is shown if the firmware starts this disk, and not another one.",
        evidence=evidence,
        remedy=_INSTALL,
    )


def _core(machine: Machine, directory: str, disk: str, sectors: Sectors, start: int) -> _Core:
    """Held against core.img, which grub-install left as it wrote the disk, or another disk."""
    written = machine.read(f"{directory}/core.img")
    head = sectors(start, 1) or b""
    try:
        blocks = grub_core.blocks(head)
    except FormatError as error:
        return _Core(disk, f"sector {start}: {error}")
    core = head + b"".join(sectors(block.start, block.count) or b"" for block in blocks)
    if grub_core.same(core[: len(written)], written):
        return _Core(disk)
    # Nothing protects the code that unpacks; what follows it GRUB mends by itself, up to a point.
    plain = grub_core.unprotected(written)
    certain = not grub_core.same(core[:plain], written[:plain])
    try:
        has, asked = grub_core.unpack(core), grub_core.unpack(written)
    except FormatError as error:
        return _Core(disk, f"the core at sector {start}: {error}", certain)
    if has == asked:
        return _Core(disk, f"the core at sector {start}: its first {plain} bytes are not core.img's" if certain else "")
    missing = tuple(name for name in sorted(_asked(machine, directory)) if _has(asked, name) and not _has(has, name))
    return _Core(disk, f"the core at sector {start} is another one than core.img" if missing else "", missing=missing)


def _has(core: bytes, name: str) -> bool:
    return f"{name}\0".encode() in core


def _asked(machine: Machine, directory: str) -> frozenset[str]:
    """The symbols that the modules ask for which GRUB needs to start anything; none of a module that is damaged."""
    lines = (machine.text(f"{directory}/moddep.lst") or "").splitlines()
    needs = {name.strip(): rest.split() for name, _, rest in (line.partition(":") for line in lines)}
    wanted, waiting = set(), [*_READERS]
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted.add(name)
            waiting += needs.get(name, [])
    asked: set[str] = set()
    for name in wanted:
        path = f"{directory}/{name}.mod"
        if machine.is_file(path):
            with machine.open(path) as file, suppress(FormatError):
                asked |= module_symbols.parse(file).undefined
    return frozenset(asked)
