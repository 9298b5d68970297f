"""The layout of the keyboard on which somebody types the passphrase of a volume (keyboard(5), vconsole.conf(5))."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from safeupdate.errors import Unreadable
from safeupdate.storage.layers import crypt
from safeupdate.storage.requirement import Requirement
from safeupdate.volumes import QUOTES

if TYPE_CHECKING:
    from safeupdate.storage.image import Image
    from safeupdate.storage.stack import Layer

KINDS = ("crypt",)

_SETTINGS = {
    "initramfs-tools": ("/etc/default/keyboard", "XKBLAYOUT"),
    "dracut": ("/etc/vconsole.conf", "KEYMAP"),
}
"""By what made the image: where the layout comes from that it puts in."""

_PROGRAMS = ("setupcon", "loadkeys")
_KERNELS = re.compile(r"(?:us\b.*|@kernel)?$")
"""The layout that the kernel has by itself."""


def needs(layer: Layer, image: Image) -> Iterator[Requirement]:
    path, name = _SETTINGS.get(image.generator, ("", ""))
    layout = _layout(image, path, name)
    if _KERNELS.match(layout) or not _is_asked(layer, image):
        return
    if image.running is not None and image.running.program(*_PROGRAMS) is None:
        return  # whoever types it has learned to do so with the kernel's own
    why = f"it sets the layout “{layout}” of {path}, with which the passphrase is typed"
    otherwise = (
        "The keyboard is a US one while the passphrase is asked for, which is then refused if that matters for it."
    )
    yield Requirement("program", _PROGRAMS, False, why, layer, otherwise=otherwise)


def _layout(image: Image, path: str, name: str) -> str:
    """The machine's layout, the first of several; empty where it is not known, or nothing here could load it."""
    machine = image.machine
    places = (f"{directory}/{program}" for directory in ("/bin", "/usr/bin") for program in _PROGRAMS)
    try:
        if not path or machine is None or not any(map(machine.exists, places)):
            return ""
        found = re.findall(rf"(?m)^\s*{name}=(\S*)", machine.text(path) or "")
    except Unreadable:
        return ""
    return found[-1].strip(QUOTES).partition(",")[0] if found else ""


def _is_asked(layer: Layer, image: Image) -> bool:
    """Whether the image asks a person for the passphrase."""
    entry = crypt.entry_of(layer, image.text(crypt.LISTS[image.generator]))
    return entry is None or (
        entry.key == "none" and not entry.has("keyscript", "tpm2-device", "fido2-device", "pkcs11-uri")
    )
