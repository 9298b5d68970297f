"""A btrfs on several devices: the kernel must have been told of all of them before it is mounted (btrfs-device(8))."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from safeupdate.storage.requirement import Requirement

if TYPE_CHECKING:
    from safeupdate.storage.image import Image
    from safeupdate.storage.stack import Layer

KINDS = ("file-system",)

_STAGES = ("local-premount", "local-top", "local-block", "init-premount")
_WHY = "the kernel must be told of all devices of this btrfs before it is mounted"


def needs(layer: Layer, image: Image) -> Iterator[Requirement]:
    if layer.facts.get("fstype") != "btrfs" or int(layer.facts.get("devices", "1")) < 2:
        return
    if any(option.startswith("device=") for option in layer.facts.get("options", "").split(",")):
        return  # these are found without a scan
    if image.generator == "initramfs-tools":
        if image.rule("*-btrfs.rules") and image.is_built_in("btrfs"):
            return  # udev tells the kernel, which it can as soon as there is /dev/btrfs-control
        yield Requirement("program", ("btrfs",), True, _WHY, layer)
        yield Requirement(
            "file",
            ("/scripts/local-premount/btrfs", *(f"/scripts/{stage}/*btrfs*" for stage in _STAGES)),
            True,
            _WHY,
            layer,
        )
    elif image.generator == "dracut" and image.systemd:
        yield Requirement("rule", ("64-btrfs.rules", "80-btrfs.rules"), True, _WHY, layer)
    elif image.generator == "dracut":
        scan = ("/lib/dracut/hooks/initqueue/timeout/*btrfs*", "/usr/lib/dracut/hooks/initqueue/timeout/*btrfs*")
        rules = ("/usr/lib/udev/rules.d/64-btrfs.rules", "/lib/udev/rules.d/*-btrfs.rules")
        yield Requirement("file", (*rules, "/etc/udev/rules.d/*-btrfs.rules", *scan), True, _WHY, layer)
