"""A volume of dm-verity (veritytab(5))."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from safeupdate.storage.requirement import Requirement

if TYPE_CHECKING:
    from safeupdate.storage.image import Image
    from safeupdate.storage.stack import Layer

KINDS = ("verity",)


def needs(layer: Layer, image: Image) -> Iterator[Requirement]:
    if image.generator:
        programs = ("veritysetup", "/usr/lib/systemd/systemd-veritysetup", "/lib/systemd/systemd-veritysetup")
        yield Requirement("program", programs, True, "it makes the volume", layer)
