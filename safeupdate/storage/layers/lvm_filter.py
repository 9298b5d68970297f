"""Which devices LVM in the image looks at: the filters of lvm.conf(5), and the list of lvmdevices(8)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from safeupdate.errors import FormatError
from safeupdate.formats import extended_regex
from safeupdate.storage.layers import lvm
from safeupdate.storage.requirement import Requirement

if TYPE_CHECKING:
    from safeupdate.storage.image import Image
    from safeupdate.storage.stack import Layer

KINDS = lvm.KINDS

_CONFIGURATION = ("/etc/lvm/lvm.conf", "/etc/lvm/lvmlocal.conf")
_LIST = "/etc/lvm/devices/system.devices"

_FILTERS = re.compile(
    r'^\s*(?:devices/)?(?:global_filter|filter)\s*=\s*(\[\s*(?:"(?:[^"\\]|\\.)*"[\s,]*)*\]|"[^"\n]*")', re.MULTILINE
)
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_LISTED = re.compile(r"\b(?:IDNAME|DEVNAME|PVID)=(\S+)")


def needs(layer: Layer, image: Image) -> Iterator[Requirement]:
    if not image.exists("/etc/lvm"):
        return
    below = [one for one in layer.below if not one.kind.startswith("lvm") and one.facts.get("content") == "LVM2_member"]
    text = "\n".join(re.sub(r"(?m)^\s*#.*$", "", image.text(path) or "") for path in _CONFIGURATION)
    asked = re.findall(r"(?m)^\s*(?:devices/)?use_devicesfile\s*=\s*(\d)", text)
    listed = image.text(_LIST)
    if listed is not None and listed.strip() and asked[-1:] != ["0"]:
        for one in below:
            if not _is_listed(one, listed):
                why = "LVM looks at no device but those of its list"
                # Where lvm.conf does not say so, it depends on how LVM was built.
                must, name = asked[-1:] == ["1"], f"{one.name} in {_LIST}"
                otherwise = "If LVM is built to use that list, the volume is not found, and the boot stops."
                yield Requirement("configuration", (name,), must, why, layer, met=False, otherwise=otherwise)
        return
    filters = [[re.sub(r"\\(.)", r"\1", one) for one in _STRING.findall(value)] for value in _FILTERS.findall(text)]
    for one in below:
        names = one.facts.get("links", "").split()
        if names and any(_refuses(patterns, [f"/dev/{one.name}", *names]) for patterns in filters):
            why = "LVM looks at no device that a filter refuses"
            name = f"a filter in {_CONFIGURATION[0]} that lets {one.name} pass"
            yield Requirement("configuration", (name,), True, why, layer, met=False)


def _is_listed(one: Layer, listed: str) -> bool:
    known = {f"/dev/{one.name}", *one.facts.get("links", "").split(), one.facts["content-uuid"].replace("-", "")}
    return not known.isdisjoint(_LISTED.findall(listed))


def _refuses(patterns: list[str], names: list[str]) -> bool:
    """Whether a filter lets a device pass by none of its names. What no pattern speaks of passes."""
    signs = [_decides(patterns, name) for name in names]
    return "a" not in signs and "r" in signs


def _decides(patterns: list[str], name: str) -> str:
    """`a` or `r` of the first pattern that is found in a name; nothing without any."""
    for pattern in patterns:
        sign, mark = pattern[:1], pattern[1:2]
        expression = pattern[2:].rpartition(_CLOSING.get(mark, mark) or "|")[0]
        try:
            if extended_regex.search(expression, name):
                return sign
        except FormatError:
            return "a"  # whatever LVM makes of it
    return ""
