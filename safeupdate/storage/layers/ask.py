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

_OWN_LINES = ("/etc/cmdline.d", "/run/cmdline.d", "/usr/lib/cmdline.d")
_OFF = ("0", "no", "off")


def module(layer: Layer, image: Image, name: str, why: str, *, must: bool = True) -> Iterator[Requirement]:
    """The module of a name, or what answers to it in the target kernel. Where that kernel tells what it has and has
    neither, it is not there."""
    plain = name.replace("-", "_")
    target = image.target
    names = (plain,) if target is None else target.by_name(name)
    if names:
        yield Requirement("module", names, must, why, layer)
    elif target is not None and target.lists_modules:
        yield Requirement("module", (plain,), must, f"{why}, and this kernel has none", layer, met=False)


def algorithm(
    layer: Layer, image: Image, name: str, why: str, *, others: tuple[str, ...] = (), must: bool = True
) -> Iterator[Requirement]:
    """What brings an algorithm of the kernel's crypto API, or one of `others`. Nothing where the kernel's lists do not
    tell what does: many algorithms are a part of the kernel without being a module."""
    names = () if image.target is None else image.target.algorithm(name)
    if names:
        yield Requirement("module", tuple(dict.fromkeys(names + others)), must, why, layer)


def arguments(image: Image) -> CommandLine:
    """The parameters that early user space reads: those of the entry, and for dracut also the image's own."""
    parts = []
    if image.generator == "dracut":
        paths = ["/etc/cmdline"]
        for directory in _OWN_LINES:
            paths += [f"{directory}/{name}" for name in image.names(directory) if name.endswith(".conf")]
        parts = [image.text(path) or "" for path in paths]
    return cmdline.parse("\n".join([*parts, image.command_line]))


def is_off(line: CommandLine, name: str) -> bool:
    """Whether a switch of dracut's that is on by itself is off."""
    return line.last(name) in _OFF


def is_on(line: CommandLine, name: str) -> bool:
    """Whether a switch of dracut's that is off by itself is on."""
    value = line.last(name)
    return value is not None and value not in _OFF
