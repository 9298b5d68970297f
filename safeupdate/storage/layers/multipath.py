"""A multipath device: without it the machine comes up on one of its paths, unless root= names the device itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from safeupdate.storage.layers import ask
from safeupdate.storage.requirement import Requirement

if TYPE_CHECKING:
    from safeupdate.storage.image import Image
    from safeupdate.storage.stack import Layer

KINDS = ("multipath", "partition")

_SELECTORS = ("dm_service_time", "dm_round_robin", "dm_queue_length", "dm_historical_service_time", "dm_io_affinity")


def needs(layer: Layer, image: Image) -> Iterator[Requirement]:
    if layer.kind == "multipath":
        yield from _device(layer, image)
    elif "mpath-" in layer.facts.get("dm-uuid", "") and not ask.goes_without(layer, image):
        yield from _partition(layer, image)


def _device(layer: Layer, image: Image) -> Iterator[Requirement]:
    must = not ask.goes_without(layer, image)
    why = "it chooses the path for each request to the multipath device"
    selector = layer.facts.get("selector")
    if selector:
        yield from ask.module(layer, image, f"dm-{selector}", why, must=must)
    else:
        yield Requirement("module", _SELECTORS, must, why, layer)
    if layer.facts.get("handler"):
        why = "it tells the good paths to a disk array from the others"
        yield from ask.module(layer, image, f"scsi_dh_{layer.facts['handler']}", why, must=False)
    if image.generator == "initramfs-tools":
        yield Requirement("program", ("multipath",), must, "it makes the multipath device", layer)
        scripts = (
            "/scripts/local-top/multipath",
            "/scripts/init-premount/multipath*",
            "/scripts/local-block/multipath",
        )
        yield Requirement("file", scripts, must, "it makes the multipath device", layer)
        yield from _wwids(layer, image)
    elif image.generator == "dracut":
        yield Requirement("program", ("multipathd",), must, "it makes the multipath device", layer)
        if image.systemd:
            yield Requirement("unit", ("multipathd.service",), must, "it starts what makes the multipath device", layer)
        yield from _wwids(layer, image)


def _partition(layer: Layer, image: Image) -> Iterator[Requirement]:
    """The kernel finds none on a multipath device: kpartx(8) does. initramfs-tools' script for multipath runs it,
    dracut leaves that to udev."""
    made = "makes the partition of the multipath device, which root= names"
    if image.generator in ("initramfs-tools", "dracut"):
        yield Requirement("program", ("kpartx",), True, f"it {made}", layer)
    # Fedora has it among the rules of multipath itself.
    if image.generator == "dracut" and not re.search("RUN.*kpartx", image.rules):
        yield Requirement("rule", ("66-kpartx.rules", "60-kpartx.rules"), True, f"by it udev {made}", layer)


def _wwids(layer: Layer, image: Image) -> Iterator[Requirement]:
    """/etc/multipath/wwids names the devices that multipath has taken before; by default it takes no others
    (find_multipaths of multipath.conf(5)). /etc/multipath/bindings has the names that it gave them."""
    wwid, listed = layer.facts.get("wwid"), image.text("/etc/multipath/wwids")
    called, bindings = layer.facts.get("dm-name"), image.text("/etc/multipath/bindings")
    if wwid and called and re.match(r"mpath[a-z]+$", called) and not ask.goes_without(layer, image):
        given = dict(line.split()[::-1] for line in (bindings or "").splitlines() if len(line.split()) == 2)
        why = f"by it the device gets the name {called}, which root= names"
        met = given.get(wwid) == called or called in (image.text("/etc/multipath.conf") or "")
        name = f"{called} for {wwid} in /etc/multipath/bindings"
        # Without any, names are given in the order in which devices come.
        otherwise = "Names are given in the order in which devices are found: if another one comes first, root is lost."
        yield Requirement("configuration", (name,), wwid in given, why, layer, met=met, otherwise=otherwise)
    if wwid and listed is not None:
        why = "multipath takes the devices of which it knows the number"
        met = f"/{wwid}/" in listed
        yield Requirement("configuration", (f"{wwid} in /etc/multipath/wwids",), False, why, layer, met=met)
