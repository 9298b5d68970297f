"""An array of md's: its level, mdadm, and what tells mdadm which arrays to put together (md(4), mdadm.conf(5))."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from safeupdate.storage.image import RULES
from safeupdate.storage.layers import ask
from safeupdate.storage.requirement import Requirement

if TYPE_CHECKING:
    from safeupdate.storage.image import Image
    from safeupdate.storage.stack import Layer

KINDS = ("md",)

_CONFIGURATION = ("/etc/mdadm/mdadm.conf", "/etc/mdadm.conf")
_LEVELS = ("linear", "multipath", "faulty")


def needs(layer: Layer, image: Image) -> Iterator[Requirement]:
    yield from ask.module(layer, image, "md_mod", "it makes all arrays")
    level = layer.facts.get("level", "")
    if level.startswith("raid") or level in _LEVELS:
        why = f"it is the level of the array ({level})"
        yield from ask.module(layer, image, level, why, alias=f"md-{level}")
    if not image.generator or image.generator == "booster":
        return
    yield Requirement("program", ("mdadm",), True, "it puts the array together", layer)
    if _is_external(layer):
        why = "it keeps the metadata of the array; until it runs, the array is read-only"
        yield Requirement("program", ("mdmon",), False, why, layer)
    gathers = "by it mdadm puts the array together when its disks are there"
    if image.generator == "initramfs-tools":
        rules = tuple(f"{directory}/64-md-raid*.rules" for directory in RULES)
        scripts = ("/scripts/local-top/mdadm", "/scripts/local-block/mdadm")
        yield Requirement("file", (*scripts, *rules), True, gathers, layer)
    elif image.generator == "dracut":
        if not re.search(r"mdadm\s+(--incremental|-I)\b", image.rules):
            yield Requirement("rule", ("65-md-incremental-imsm.rules", "65-md-inc*.rules"), True, gathers, layer)
        met = _is_named(layer, image)
        if met is not None:
            why = "dracut puts no array together but those that the command line names"
            name = f"rd.md.uuid={layer.facts.get('array-uuid', 'UUID')}"
            yield Requirement("configuration", (name,), True, why, layer, met=met)
        if "rd.md.uuid" in ask.arguments(image):
            why = "dracut waits for the array below /dev/disk/by-id, where udev puts it by this rule"
            yield from ask.link(layer, image, ("63-md-raid-arrays.rules",), "/by-id/md-uuid-", why)
    yield from _configuration(layer, image)


def _is_external(layer: Layer) -> bool:
    return layer.facts.get("metadata", "").startswith(("external", "imsm", "ddf"))


def _digits(uuid: str) -> str:
    return re.sub("[^0-9a-f]", "", uuid.lower())


def _is_named(layer: Layer, image: Image) -> bool | None:
    """Whether dracut is told to put an array together (parse-md.sh of its module mdraid). None where it cannot be told:
    of arrays in a container it is the container that is named."""
    line = ask.arguments(image)
    given = [_digits(value) for name in ("rd.md.uuid", "rd_MD_UUID") for value in line.all(name)]
    if ask.is_off(line, "rd.md"):
        return False
    if not given:
        return ask.is_on(line, "rd.auto")
    uuid = _digits(layer.facts.get("array-uuid", ""))
    if not uuid or (_is_external(layer) and uuid not in given):
        return None
    return uuid in given


def _configuration(layer: Layer, image: Image) -> Iterator[Requirement]:
    """Whether the image's mdadm.conf lets the array be. One that it does not list is put together all the same, unless
    the word AUTO forbids it."""
    uuid = _digits(layer.facts.get("array-uuid", ""))
    path = next((path for path in _CONFIGURATION if image.text(path)), None)
    if path is None or not uuid:
        return
    listed, ignored, automatic = False, False, True
    # A line that begins with a blank goes on with the one before (mdadm.conf(5)).
    text = re.sub(r"\n[ \t]+", " ", re.sub(r"(?m)^\s*#.*$", "", image.text(path) or ""))
    for words in filter(None, (line.partition("#")[0].split() for line in text.splitlines())):
        if words[0].lower() == "array" and any(
            word.lower().startswith("uuid=") and _digits(word[5:]) == uuid for word in words
        ):
            listed, ignored = True, ignored or "<ignore>" in words
        elif words[0].lower() == "auto":
            automatic = _is_automatic(words[1:], layer.facts.get("metadata", ""))
    if ignored or (not listed and not automatic):
        why = f"{path} in the image keeps mdadm from putting the array together"
        names = (f"ARRAY … UUID={layer.facts['array-uuid']} in {path}",)
        yield Requirement("configuration", names, True, why, layer, met=False)


def _is_automatic(words: list[str], metadata: str) -> bool:
    """Whether the first word of AUTO that speaks of an array lets it be put together."""
    for word in words:
        sign, kind = (word[0], word[1:]) if word[:1] in ("+", "-") else ("+", word)
        own = kind == "all" or kind == metadata or (kind == "1.x" and metadata.startswith("1."))
        if own or kind == "homehost" or not metadata:
            return sign == "+" or not own
    return True
