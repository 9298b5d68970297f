"""A multipath device, which multipath-tools make of the paths to one disk, and the partitions of it.

Where nothing makes it, its paths are left to themselves: `multipath -u`, which udev's rule asks, claims none where no
multipathd answers, nor what could not be made (is_path_valid of libmultipath). What is on the device is then found on
one of the paths. Not so where root= has a name that the device alone bears, and where LVM lies right on it: of a volume
that is there several times LVM activates nothing (lvmcache.c and toollib.c of LVM since 2.02.157). And where it is
made, it holds its paths: then nothing is found but on the device, by whatever name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from safeupdate.errors import Unreadable
from safeupdate.storage.layers import ask
from safeupdate.storage.requirement import Requirement

if TYPE_CHECKING:
    from safeupdate.storage.image import Image
    from safeupdate.storage.stack import Layer

KINDS = ("multipath", "partition")

_SELECTORS = ("dm_service_time", "dm_round_robin", "dm_queue_length", "dm_historical_service_time", "dm_io_affinity")

_CONFIGURATION = "/etc/multipath.conf"
_UNITS = ("/usr/lib/systemd/system", "/lib/systemd/system", "/etc/systemd/system")

_CLEANUP = ("/usr/lib/dracut/hooks/cleanup", "/lib/dracut/hooks/cleanup")

_MADE = "it makes the multipath device"
_STAYS = "The machine comes up on one of the paths, and stays on it: when that path fails, its root is gone."


def needs(layer: Layer, image: Image) -> Iterator[Requirement]:
    if layer.kind == "multipath":
        must = not goes_without(layer, image)
        yield from _made(layer, image, must=must)
        if layer.facts.get("handler"):
            why = "it tells the good paths to a disk array from the others"
            yield from ask.module(layer, image, f"scsi_dh_{layer.facts['handler']}", why, must=False)
        if must:
            yield from _bound(layer, image)
            yield from _let_go(layer, image)
    elif is_of_multipath(layer) and not goes_without(layer, image):
        yield from _partition(layer, image)


def under_lvm(layer: Layer, image: Image) -> Iterator[Requirement]:
    """What a volume of LVM's needs of the multipath devices that it lies right on."""
    for device in filter(None, map(_device, layer.below)):
        if len(device.below) > 1:
            yield from ask.module(device, image, "dm-multipath", f"{_MADE}, and of its paths LVM takes none")
            yield from _made(device, image, must=True)
            yield from _let_go(device, image)


def goes_without(layer: Layer, image: Image) -> bool:
    """Whether the machine comes up without a layer of multipath, or a partition of it, as far as these tell."""
    device = _device(layer)
    return device is not None and not _is_named(layer, image) and not _is_made(device, image)


def is_of_multipath(layer: Layer) -> bool:
    """Whether it is a multipath device, or a partition of one."""
    return layer.kind == "multipath" or "mpath-" in layer.facts.get("dm-uuid", "")


def _device(layer: Layer) -> Layer | None:
    """The multipath device that a layer is, or is a partition of."""
    if not is_of_multipath(layer):
        return None
    return next((one for one in (layer, *layer.below) if one.kind == "multipath"), layer)


def _is_named(layer: Layer, image: Image) -> bool:
    """Whether root= has a name of the layer's, or of a partition of it, that no path bears."""
    directory, _, name = (ask.arguments(image).last("root") or "").rpartition("/")
    called, uuid = layer.facts.get("dm-name", layer.name), layer.facts.get("dm-uuid", "mpath-")
    if directory == "/dev/disk/by-id":
        named = name[len("dm-name-") :] if name.startswith("dm-name-") else ""
        return _is_part(named, called) or (name.startswith("dm-uuid-") and name.endswith(uuid))
    if directory == "/dev" and re.match(r"dm-\d+$", name) and image.machine is not None:
        with suppress(Unreadable):
            return (image.machine.value(f"/sys/class/block/{name}/dm/uuid") or "").endswith(uuid)
    return directory == "/dev/mapper" and _is_part(name, called)


def _is_part(name: str, device: str) -> bool:
    """Whether it is the name of a device, or of a partition, as kpartx(8) and others call these."""
    return name.startswith(device) and re.match(r"(?:(?:-part|_part|p)?\d+)?$", name[len(device) :]) is not None


def _is_made(device: Layer, image: Image) -> bool:
    """Whether early user space surely makes the device: all is there, and it has been told to."""
    listed = f"/{device.facts.get('wwid')}/" in (image.text("/etc/multipath/wwids") or "")
    return (
        image.generator in ("initramfs-tools", "dracut")
        and listed
        and image.has_module("dm_multipath")
        and all(map(image.holds, _made(device, image, must=True)))
    )


def _made(layer: Layer, image: Image, *, must: bool) -> Iterator[Requirement]:
    """What makes the device, besides what all volumes of device-mapper need."""
    otherwise = "" if must else _STAYS
    selector = layer.facts.get("selector")
    why = "it chooses the path for each request to the multipath device"
    if selector:
        yield from ask.module(layer, image, f"dm-{selector}", why, must=must)
    else:
        yield Requirement("module", _SELECTORS, must, why, layer)
    if image.generator == "initramfs-tools":
        yield Requirement("program", ("multipath",), must, _MADE, layer, otherwise=otherwise)
        scripts = (
            "/scripts/local-top/multipath",
            "/scripts/init-premount/multipath*",
            "/scripts/local-block/multipath",
        )
        yield Requirement("file", scripts, must, _MADE, layer, otherwise=otherwise)
    elif image.generator == "dracut":
        yield Requirement("program", ("multipathd",), must, _MADE, layer, otherwise=otherwise)
        if image.systemd:
            why = "it starts what makes the multipath device"
            yield Requirement("unit", ("multipathd.service",), must, why, layer, otherwise=otherwise)
        yield from _switched_on(layer, image, must=must)
    if image.generator in ("initramfs-tools", "dracut"):
        yield from _plugins(layer, image, must=must)
        yield from _listed(layer, image, must=must)


def _plugins(layer: Layer, image: Image, *, must: bool) -> Iterator[Requirement]:
    """Without its usual checker and prioritizer, which it loads by their names, neither multipath nor multipathd goes
    on (init_checkers and init_prio of libmultipath)."""
    for name in ("libchecktur.so", "libprioconst.so"):
        places = tuple(f"{directory}/multipath/{name}" for directory in ask.library_directories(image))
        why = "without it multipath, which makes the device, ends at once"
        yield Requirement("file", places, must, why, layer, otherwise="" if must else _STAYS)


def _switched_on(layer: Layer, image: Image, *, must: bool) -> Iterator[Requirement]:
    """What keeps multipathd from being started: dracut's script and drop-in, and conditions of its own unit."""
    line = ask.arguments(image)
    off = ask.is_off(line, "rd.multipath") or "rd_NO_MULTIPATH" in line
    if image.systemd:
        off = off or "nompath" in line or line.last("multipath") == "off"
        asked = any(f"ConditionPathExists={_CONFIGURATION}" in text for text in _units(image))
    else:
        asked = True
    why, otherwise = "without it multipathd is not started, which makes the multipath device", "" if must else _STAYS
    if off:
        name = "rd.multipath=1, without a word that switches multipath off"
        yield Requirement("configuration", (name,), must, why, layer, met=False, otherwise=otherwise)
    if asked and line.last("rd.multipath") != "default":
        yield Requirement("file", (_CONFIGURATION,), must, why, layer, otherwise=otherwise)


def _units(image: Image) -> list[str]:
    """What multipathd.service says in the image, wherever it lies."""
    return [text for text in (image.text(f"{one}/multipathd.service") for one in _UNITS) if text]


def _listed(layer: Layer, image: Image, *, must: bool) -> Iterator[Requirement]:
    """/etc/multipath/wwids names the devices that multipath has taken before. With `find_multipaths strict`, as Debian
    builds it (multipath.conf(5)), it takes no others; elsewhere that depends on how it was built."""
    wwid, listed = layer.facts.get("wwid"), image.text("/etc/multipath/wwids")
    said = _find_multipaths(image)
    strict = said == "strict" or (not said and image.generator == "initramfs-tools")
    if wwid and (listed is not None or strict):
        why = "multipath takes the devices of which it knows the number"
        met = f"/{wwid}/" in (listed or "")
        name = f"{wwid} in /etc/multipath/wwids"
        otherwise = (
            "If multipath takes no others, root is not found, and the boot stops." if must and not strict else _STAYS
        )
        yield Requirement("configuration", (name,), must and strict, why, layer, met=met, otherwise=otherwise)


def _find_multipaths(image: Image) -> str:
    """What the image's configuration says of it; empty where it says nothing."""
    places = [_CONFIGURATION, *(f"/etc/multipath/conf.d/{name}" for name in image.names("/etc/multipath/conf.d"))]
    text = "\n".join(image.text(path) or "" for path in places)
    found = re.findall(r'(?m)^\s*find_multipaths\s+"?(\w+)', text)
    return found[-1] if found else ""


def _bound(layer: Layer, image: Image) -> Iterator[Requirement]:
    """/etc/multipath/bindings has the names that multipath gave to devices."""
    wwid, called, bindings = layer.facts.get("wwid"), layer.facts.get("dm-name"), image.text("/etc/multipath/bindings")
    if wwid and called and re.match(r"mpath[a-z]+$", called) and _is_named(layer, image):
        given = dict(line.split()[::-1] for line in (bindings or "").splitlines() if len(line.split()) == 2)
        why = f"by it the device gets the name {called}, which root= names"
        met = given.get(wwid) == called or called in (image.text(_CONFIGURATION) or "")
        name = f"{called} for {wwid} in /etc/multipath/bindings"
        # Without any, names are given in the order in which devices come.
        otherwise = "Names are given in the order in which devices are found: if another one comes first, root is lost."
        yield Requirement("configuration", (name,), wwid in given, why, layer, met=met, otherwise=otherwise)


def _let_go(layer: Layer, image: Image) -> Iterator[Requirement]:
    """multipathd is stopped before root is switched to (its unit conflicts with initrd-cleanup.service). Dracut 059
    enables its socket, too, and a hook asks `multipath -l` meanwhile, which goes by that socket: multipathd starts
    again, and initrd-cleanup.service is never reached (dracut's issues 2175 and 2289)."""
    hooks = any(image.exists(f"{place}/*multipathd-needshutdown.sh") for place in _CLEANUP)
    conflicts = any(re.search(r"(?m)^Conflicts=.*\binitrd-cleanup\.service", text) for text in _units(image))
    enabled = image.exists("/etc/systemd/system/sockets.target.wants/multipathd.socket")
    if hooks and conflicts and enabled and image.systemd and image.unit("multipathd.socket"):
        name = "a multipathd.service without Also=multipathd.socket"
        why = "by its socket multipathd is started again when it is to end, and root is never switched to"
        yield Requirement("configuration", (name,), True, why, layer, met=False)


def _partition(layer: Layer, image: Image) -> Iterator[Requirement]:
    """The kernel finds none on a multipath device: kpartx(8) does. initramfs-tools' script for multipath runs it,
    dracut leaves that to udev."""
    made = "makes the partition of the multipath device"
    if image.generator in ("initramfs-tools", "dracut"):
        yield Requirement("program", ("kpartx",), True, f"it {made}", layer)
    if image.generator == "dracut":
        # Fedora has it among the rules of multipath itself.
        running = tuple(name for name, text in image.rule_files.items() if re.search("RUN.*kpartx", text))
        names = running or ("66-kpartx.rules", "60-kpartx.rules")
        yield Requirement("rule", names, True, f"by it udev {made}", layer)
