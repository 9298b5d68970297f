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

_OFF = ("0", "no", "off")


def module(
    layer: Layer, image: Image, name: str, why: str, *, alias: str = "", must: bool = True
) -> Iterator[Requirement]:
    """The module that the target kernel finds by an alias, which it asks for itself; else the one of a name, or what
    answers to it. Where that kernel tells what it has and has none of them, it is not there."""
    names = (image.target.by_alias(alias) if alias else ()) or image.target.by_name(name)
    if names:
        yield Requirement("module", names, must, why, layer)
    elif image.target.lists_modules:
        yield Requirement("module", (name.replace("-", "_"),), must, why, layer, met=False)


def algorithm(
    layer: Layer, image: Image, name: str, why: str, *, others: tuple[str, ...] = ()
) -> Iterator[Requirement]:
    """What brings an algorithm of the kernel's crypto API, or one of `others`. Nothing where the kernel's lists do not
    tell what does: many algorithms are a part of the kernel without being a module."""
    target = image.target
    names = target.algorithm(name)
    if names:
        names += tuple(one for one in others if one in target.by_name(one) and target.suits(one))
        yield Requirement("module", tuple(dict.fromkeys(names)), True, why, layer)


def link(layer: Layer, image: Image, rules: tuple[str, ...], name: str, why: str) -> Iterator[Requirement]:
    """The rule by which udev makes a link that early user space waits for; nothing where only another rule speaks of
    the link, as older dracut has rules of its own."""
    if any(map(image.rule, rules)) or name not in image.rules:
        yield Requirement("rule", rules, True, why, layer)


def arguments(image: Image) -> CommandLine:
    """The parameters that early user space reads."""
    return cmdline.parse(image.command_line)


def is_off(line: CommandLine, name: str) -> bool:
    """Whether a switch of dracut's that is on by itself is off."""
    return line.last(name) in _OFF


def is_on(line: CommandLine, name: str) -> bool:
    """Whether a switch of dracut's that is off by itself is on."""
    value = line.last(name)
    return value is not None and value not in _OFF


def library_directories(image: Image) -> Iterator[str]:
    """Where libraries may lie in an image (Filesystem Hierarchy Standard 3.0, 4.7; Debian's multiarch)."""
    for top in ("/usr/lib", "/usr/lib64", "/lib", "/lib64"):
        yield top
        yield from (f"{top}/{name}" for name in image.names(top) if "-linux-" in name)
