"""Devices that early user space waits for, whether or not the root file system lies on them.

dracut writes down the devices under the root as they are when it makes an image for one machine (wait_for_dev in its
dracut-dev-lib.sh): a unit that initrd.target wants, without a time-out, and a script in initqueue/finished. For a unit
with one the boot goes on after that. What it puts into etc/cmdline.d counts like what the entry's command line says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from safeupdate.errors import Unreadable
from safeupdate.formats import cmdline
from safeupdate.storage.image import Contents
from safeupdate.volumes import TAGS, Volumes

_WANTED = "/etc/systemd/system/initrd.target.wants"
_HOOKS = tuple(f"{top}/dracut/hooks/initqueue/finished" for top in ("/usr/lib", "/lib", "/var/lib"))
_HOOK = re.compile(r"devexists-(.+)\.sh$")
_ENDLESS = re.compile(r"^Job(?:Running)?TimeoutSec\s*=\s*(?:0|infinity)\s*$", re.MULTILINE)
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")

_PLAIN = re.compile(r"/dev/(?!disk/)[^/]+(?:/[^/]+)?$")

_CONTENTS = {"lvm-pv-uuid-": "LVM2_member", "md-uuid-": "linux_raid_member"}
"""By the beginning of a name in /dev/disk/by-id: what is on the devices that bear the number behind it."""


@dataclass(frozen=True)
class Awaited:
    """A device by its path, and the file of the image that says so."""

    device: str
    place: str


def gone(image: Contents, volumes: Volumes) -> Iterator[Awaited]:
    """What an image of dracut's waits for and this machine surely does not have, each device once."""
    if image.generator == "dracut":
        told: set[str] = set()
        for one in (*_noted(image), *_named(image)):
            if one.device not in told and _is_gone(one.device, volumes):
                told.add(one.device)
                yield one


def _noted(image: Contents) -> Iterator[Awaited]:
    for name in image.names(_WANTED):
        if name.endswith(".device") and _waits_for_ever(image, name):
            path = name[: -len(".device")].replace("-", "/")
            yield Awaited("/" + _unescaped(path), f"{_WANTED}/{name}")
    for directory in _HOOKS:
        for name in image.names(directory):
            found = _HOOK.match(name)
            if found:
                yield Awaited(_unescaped(found.group(1)), f"{directory}/{name}")


def _waits_for_ever(image: Contents, unit: str) -> bool:
    directory = f"/etc/systemd/system/{unit}.d"
    texts = (image.text(f"{directory}/{name}") or "" for name in image.names(directory))
    return any(_ENDLESS.search(text) for text in texts)


def _unescaped(name: str) -> str:
    """A name as systemd.unit(5) escapes it; dracut's hooks escape the slash alone."""
    return _ESCAPED.sub(lambda match: chr(int(match.group(1), 16)), name)


def _named(image: Contents) -> Iterator[Awaited]:
    line, place = cmdline.parse(image.own_line), "/etc/cmdline.d"
    for value in line.all("rd.lvm.lv"):
        yield Awaited(f"/dev/{value}", place)
    for name in ("rd.luks.uuid", "rd.luks.name"):
        for value in line.all(name):
            uuid = value.partition("=")[0].removeprefix("luks-")
            yield Awaited(f"/dev/disk/by-uuid/{uuid}", place)
    for value in line.all("rd.md.uuid"):
        yield Awaited(f"/dev/disk/by-id/md-uuid-{value}", place)


def _is_gone(device: str, volumes: Volumes) -> bool:
    """Whether this machine has no such device. What the facts would not show is taken to be there."""
    directory, _, name = device.rpartition("/")
    tag = next((tag for tag, by in TAGS.items() if directory == f"/dev/disk/{by}"), None)
    try:
        if tag is not None:
            known = volumes.knows(tag)
            return known and volumes.device_named(device) is None and not volumes.has_prefix(tag, name)
        if directory == "/dev/disk/by-id":
            return _has_no_content(name, volumes)
        known = volumes.machine.has_sysfs and (volumes.machine.live or bool(volumes.udev))
        return known and _PLAIN.match(device) is not None and volumes.device_named(device) is None
    except Unreadable:
        return False


def _has_no_content(name: str, volumes: Volumes) -> bool:
    for beginning, content in _CONTENTS.items():
        if name.startswith(beginning):
            wanted = _digits(name[len(beginning) :])
            stored = [facts for facts in volumes.udev.values() if facts.get("ID_FS_TYPE")]
            there = {_digits(facts.get("ID_FS_UUID", "")) for facts in stored if facts["ID_FS_TYPE"] == content}
            return bool(stored) and bool(wanted) and wanted not in there
    return False


def _digits(text: str) -> str:
    return re.sub("[^0-9A-Za-z]", "", text).lower()
