"""How layers ask for modules, and what early user space is told by the command line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from safeupdate.formats import cmdline
from safeupdate.formats.cmdline import CommandLine
from safeupdate.storage.requirement import Requirement

if TYPE_CHECKING:
    from safeupdate.storage.image import Image
    from safeupdate.storage.stack import Layer

UDEV = ("/usr/lib/systemd/systemd-udevd", "/lib/systemd/systemd-udevd", "udevd")

_OFF = ("0", "no", "off")

LEVELS = {"raid4": "raid456", "raid5": "raid456", "raid6": "raid456"}
"""Modules that answer to other names, where the kernel's lists do not tell."""


def module(layer: Layer, image: Image, name: str, why: str, *, must: bool = True) -> Iterator[Requirement]:
    """The module of a name, or what answers to it in the target kernel. Where that kernel tells what it has and has
    neither, it is not there."""
    plain = name.replace("-", "_")
    target = image.target
    names = (LEVELS.get(plain, plain),) if target is None else target.by_name(name)
    if names:
        yield Requirement("module", names, must, why, layer)
    elif target is not None and target.lists_modules:
        yield Requirement("module", (plain,), must, why, layer, met=False)


def algorithm(
    layer: Layer, image: Image, name: str, why: str, *, others: tuple[str, ...] = (), must: bool = True
) -> Iterator[Requirement]:
    """What brings an algorithm of the kernel's crypto API, or one of `others`. Nothing where the kernel's lists do not
    tell what does: many algorithms are a part of the kernel without being a module."""
    target = image.target
    names = () if target is None else target.algorithm(name)
    if target is not None and names:
        names += tuple(one for one in others if one in target.by_name(one) and target.suits(one))
        yield Requirement("module", tuple(dict.fromkeys(names)), must, why, layer)


def arguments(image: Image) -> CommandLine:
    """The parameters that early user space reads."""
    return cmdline.parse(image.command_line)


def goes_without(layer: Layer, image: Image) -> bool:
    """Whether the machine comes up without a layer of multipath, or a partition of it: what lies on it is found through
    one of its paths, unless root= names the layer itself."""
    if layer.kind != "multipath" and "mpath-" not in layer.facts.get("dm-uuid", ""):
        return False
    directory, _, name = (arguments(image).last("root") or "").rpartition("/")
    called = layer.facts.get("dm-name", layer.name)
    if directory == "/dev/disk/by-id":
        return not name.startswith("dm-")
    return directory != "/dev/mapper" or not name.startswith(called)


def is_off(line: CommandLine, name: str) -> bool:
    """Whether a switch of dracut's that is on by itself is off."""
    return line.last(name) in _OFF


def is_on(line: CommandLine, name: str) -> bool:
    """Whether a switch of dracut's that is off by itself is on."""
    value = line.last(name)
    return value is not None and value not in _OFF
