"""What all volumes of device-mapper need: its modules, and the udev rules that say when a volume is there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from safeupdate.storage.layers import ask, multipath
from safeupdate.storage.requirement import Requirement

if TYPE_CHECKING:
    from safeupdate.storage.image import Image
    from safeupdate.storage.stack import Layer

KINDS = (
    "crypt",
    "dm",
    "dmraid",
    "integrity",
    "lvm",
    "lvm-cache",
    "lvm-mirror",
    "lvm-raid",
    "lvm-snapshot",
    "lvm-thin",
    "lvm-vdo",
    "lvm-writecache",
    "multipath",
    "partition",
    "stratis",
    "verity",
)

_SAME = {"thin": "thin-pool", "snapshot-origin": "snapshot", "snapshot-merge": "snapshot"}
"""Targets that come with another one."""

TARGETS = {
    "crypt": "crypt",
    "integrity": "integrity",
    "lvm-cache": "cache",
    "lvm-mirror": "mirror",
    "lvm-raid": "raid",
    "lvm-snapshot": "snapshot",
    "lvm-thin": "thin-pool",
    "lvm-vdo": "vdo",
    "lvm-writecache": "writecache",
    "multipath": "multipath",
    "verity": "verity",
}
"""By the kind of a layer: its target, where device-mapper's tables are not known."""

_UDEV = ("/usr/lib/systemd/systemd-udevd", "/lib/systemd/systemd-udevd", "udevd")

LINKS = ("55-dm.rules", "10-dm.rules")
BY_ID = ("60-persistent-storage-dm.rules", "13-dm-disk.rules")
"""As Debian and as all others call the rules by which udev makes links to a volume below /dev and /dev/disk."""


def needs(layer: Layer, image: Image) -> Iterator[Requirement]:
    if "dm-uuid" not in layer.facts and layer.kind not in TARGETS and layer.kind != "lvm":
        return
    must = not multipath.goes_without(layer, image)
    yield from ask.module(layer, image, "dm_mod", "it makes all volumes of device-mapper", must=must)
    listed = layer.facts.get("targets", "").split()
    for target in listed or filter(None, [TARGETS.get(layer.kind)]):
        yield from _target(layer, image, _SAME.get(target, target), must)
    level = layer.facts.get("level", "")
    if level.startswith("raid"):
        yield from ask.module(layer, image, level, f"it is the {level} of this volume", alias=f"md-{level}")
    if must and image.generator and image.program(*_UDEV) is not None:
        why = "whatever makes a volume waits for udev to say that it is there, and without it waits for ever"
        # With dracut it is multipathd and a rule of udev's that wait, and nothing waits for these.
        waited_for = image.generator != "dracut" or not multipath.is_of_multipath(layer)
        yield Requirement("rule", ("95-dm-notify.rules",), waited_for, why, layer)
        yield Requirement("program", ("dmsetup",), True, why, layer)
    root = ask.arguments(image).last("root")
    if must and image.generator == "dracut" and image.systemd:
        why = "systemd waits for links to the volume that udev makes by this rule"
        yield Requirement("rule", LINKS, True, why, layer)
    elif must and image.generator == "initramfs-tools" and root == f"/dev/mapper/{layer.facts.get('dm-name')}":
        why = "by it udev makes the link to the volume that root= names"
        yield Requirement("rule", LINKS, True, why, layer)


def _target(layer: Layer, image: Image, target: str, must: bool) -> Iterator[Requirement]:
    """The module of a target. Of one that is in no module of its name nothing is known: some are a part of dm-mod."""
    why = f"the volume's target {target} comes from it"
    if target == "vdo" and not image.target.by_name("dm-vdo"):
        yield from ask.module(layer, image, "kvdo", why)  # before Linux 6.9
        return
    if target in TARGETS.values() or image.target.by_name(f"dm-{target}"):
        yield from ask.module(layer, image, f"dm-{target}", why, must=must)
    if target == "cache":
        yield from ask.module(layer, image, "dm-cache-smq", "it decides what the volume's cache keeps")
