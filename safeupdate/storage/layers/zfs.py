"""A pool of ZFS (zfs-initramfs' script, and OpenZFS' module for dracut)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from safeupdate.errors import ProgramFailed, Unreadable
from safeupdate.storage.layers import ask
from safeupdate.storage.requirement import Requirement

if TYPE_CHECKING:
    from safeupdate.machine import Machine
    from safeupdate.storage.image import Image
    from safeupdate.storage.stack import Layer

KINDS = ("zfs-pool", "zfs-volume")

_NUMBER = "/etc/hostid"
_CACHE = "/etc/zfs/zpool.cache"
_CHECKED = (2, 2)
"""Since then `zpool import` goes by the number on the disk also where it is given a list of pools, which both
generators' scripts try when it has refused the pool without (openzfs 54b1b1d893)."""

_FORCED = ("zfsforce", "zfs_force", "zfs.force", "zfs.zfs_force")
"""With any of these the pool is imported whoever used it last."""


def needs(layer: Layer, image: Image) -> Iterator[Requirement]:
    yield from ask.module(layer, image, "zfs", "it imports the pool")
    if image.generator not in ("initramfs-tools", "dracut", "mkinitcpio"):
        return
    yield Requirement("program", ("zpool",), True, "it imports the pool", layer)
    yield Requirement("program", ("zfs", "mount.zfs"), True, "it mounts the root dataset", layer)
    if image.generator == "initramfs-tools":
        yield Requirement("file", ("/scripts/zfs",), True, "it imports the pool and mounts the root dataset", layer)
    yield from _identity(layer, image)


def _identity(layer: Layer, image: Image) -> Iterator[Requirement]:
    """The number by which a pool knows the machine that used it last (zgenhostid(8)): another is refused the pool, and
    so is a machine without one. A pool that was never imported by a machine with a number knows none."""
    line, why = ask.arguments(image), "by it the pool knows this machine"
    if any(ask.is_on(line, word) for word in _FORCED):
        return
    running = image.running.data(_NUMBER) if image.running is not None else None
    known, own = _known(layer, image.machine), image.data(_NUMBER)
    if known is None and running is not None:
        known = _number(running)
    given = [value for name in ("spl_hostid", "spl.spl_hostid") for value in line.all(name)]
    if given:
        held = int(given[-1], 0) if re.fullmatch(r"0x[0-9a-fA-F]{1,8}|[1-9]\d{0,9}", given[-1]) else None
    else:
        held = None if own is None else _number(own)
    if known is None:
        there = False
        with suppress(Unreadable):
            there = image.machine is not None and image.machine.exists(_NUMBER)
        if there and not given:
            otherwise = "If the pool has been imported with that number, it is refused without it, and the boot stops."
            yield Requirement("file", (_NUMBER,), False, why, layer, otherwise=otherwise)
    elif known and (held not in (None, known) or (own is None and not given)):
        yield from _refused(layer, image, f"{known:08x} in {_NUMBER}", why)


def _refused(layer: Layer, image: Image, name: str, why: str) -> Iterator[Requirement]:
    """A number that the image has not: nothing where the pool is imported all the same, by the list in the image."""
    listed, version = image.exists(_CACHE), re.match(r"(\d+)\.(\d+)", image.target.version("zfs"))
    if not listed or version is None or (int(version.group(1)), int(version.group(2))) >= _CHECKED:
        must = not listed or version is not None
        otherwise = f"The pool is refused, and the boot stops, unless {_CACHE} in the image lets it pass."
        yield Requirement("configuration", (name,), must, why, layer, met=False, otherwise=otherwise)


def _number(data: bytes) -> int:
    """What /etc/hostid says: four bytes as the machine has its numbers, which with ZFS is nearly always this way."""
    return int.from_bytes(data[:4], "little")


def _known(layer: Layer, machine: Machine | None) -> int | None:
    """The number in a label of the pool's, 0 where it has none; None where it cannot be told. zdb(8) reads past what
    the kernel has of the disk in its memory, which ZFS does not keep true."""
    disk = next((one.name for one in layer.walk() if one.facts.get("content") == "zfs_member"), None)
    if machine is None or not machine.live or disk is None:
        return None
    try:
        told = machine.run(["zdb", "-l", f"/dev/{disk}"], timeout=10).stdout.decode("utf-8", "replace")
    except ProgramFailed:
        return None
    found = re.search(r"(?m)^\s*hostid: (\d+)$", told)
    return int(found.group(1)) if found else 0 if re.search(r"(?m)^\s*pool_guid: \d", told) else None
