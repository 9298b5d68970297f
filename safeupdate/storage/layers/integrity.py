"""A volume of dm-integrity that stands alone (integritytab(5))."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from safeupdate.storage.requirement import Requirement

if TYPE_CHECKING:
    from safeupdate.storage.image import Image
    from safeupdate.storage.stack import Layer

KINDS = ("integrity",)


def needs(layer: Layer, image: Image) -> Iterator[Requirement]:
    # Below an encrypted volume cryptsetup makes it.
    if image.generator and layer.facts.get("dm-uuid", "").startswith("CRYPT-INTEGRITY-"):
        programs = ("integritysetup", "/usr/lib/systemd/systemd-integritysetup", "/lib/systemd/systemd-integritysetup")
        yield Requirement("program", programs, True, "it makes the volume", layer)
