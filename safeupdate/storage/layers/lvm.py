"""A volume of LVM's: what activates it.

initramfs-tools: since lvm2 2.03.15 Debian's rule 69-lvm.rules does, before that the scripts of its own in local-top and
local-block. dracut: its module `lvm`, whose rule 64-lvm.rules runs lvm_scan for what the command line names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from safeupdate.errors import ProgramFailed, Unreadable
from safeupdate.storage.image import RULES
from safeupdate.storage.layers import ask, mapper, multipath
from safeupdate.storage.requirement import Requirement

if TYPE_CHECKING:
    from safeupdate.storage.image import Image
    from safeupdate.storage.stack import Layer

KINDS = (
    "lvm",
    "lvm-cache",
    "lvm-mirror",
    "lvm-raid",
    "lvm-snapshot",
    "lvm-thin",
    "lvm-vdo",
    "lvm-writecache",
)

_LINKS = ("56-lvm.rules", "11-dm-lvm.rules")
_MEMBER = re.compile(r'\bpv\d+\s*\{\s*id\s*=\s*"([0-9A-Za-z-]+)"')
_STAGES = ("local-top", "local-block")


def needs(layer: Layer, image: Image) -> Iterator[Requirement]:
    yield from multipath.under_lvm(layer, image)
    if not image.generator or image.generator == "booster":
        return
    yield Requirement("program", ("lvm",), True, "it activates the volume", layer)
    if image.generator == "initramfs-tools":
        activates = "by it the volume is activated when its disks are there"
        rules = ("/usr/lib/udev/rules.d/69-lvm.rules", *(f"{directory}/69-*lvm*.rules" for directory in RULES))
        scripts = tuple(f"/scripts/{stage}/*lvm*" for stage in _STAGES)
        yield Requirement("file", (*rules, *scripts), True, activates, layer)
        if not any(image.exists(script) for script in scripts):
            yield from _rules(layer)
        named = f"/dev/{layer.facts.get('group')}/{layer.facts.get('volume')}"
        if ask.arguments(image).last("root") == named:
            yield Requirement("rule", _LINKS, True, f"by it udev makes {named}, which root= names", layer)
    elif image.generator == "dracut":
        activates = "by it the volume is activated when its disks are there"
        rules = ("64-lvm.rules", "69-dm-lvm*.rules", "69-lvm*.rules")
        yield Requirement("rule", rules, True, activates, layer)
        if image.rule("64-lvm.rules"):
            yield Requirement("program", ("lvm_scan",), True, "it activates the volume", layer)
        yield from _named(layer, image)


def absent(layer: Layer, image: Image) -> tuple[str, ...]:
    """The numbers of disks that a volume's group has and this machine has not, where the volume is not activated then:
    LVM's own rules wait for all of a group (lvmautoactivation(7))."""
    group, volumes = layer.facts.get("group", ""), image.volumes
    if volumes is None or not group or image.generator != "initramfs-tools" or not image.rule("69-lvm.rules"):
        return ()
    try:
        # What LVM writes after each change of the group (vgcfgbackup(8)).
        text = volumes.machine.text(f"/etc/lvm/backup/{group}") or ""
        there = {facts.get("ID_FS_UUID") for facts in volumes.udev.values() if facts.get("ID_FS_TYPE") == "LVM2_member"}
        lost = tuple(number for number in _MEMBER.findall(text) if number not in there)
        if lost and there and volumes.machine.live:
            # It may be older than the group: another system may have changed that.
            asked = ["vgs", "--readonly", "--noheadings", "-o", "vg_missing_pv_count", group]
            return lost if volumes.machine.run(asked, timeout=10).stdout.strip() not in (b"", b"0") else ()
    except (ProgramFailed, Unreadable):
        return ()
    return ()


def _rules(layer: Layer) -> Iterator[Requirement]:
    """What udev learns by that a device is a part of a group."""
    why = "by it udev learns that {} is a part of the LVM group"
    for one in layer.below:
        if one.kind in ("disk", "partition") and "dm-uuid" not in one.facts:
            yield Requirement("rule", ("60-persistent-storage.rules",), True, why.format(one.name), layer)
        elif "dm-uuid" in one.facts and not one.kind.startswith("lvm"):
            yield Requirement("rule", mapper.LINKS, True, why.format(one.name), layer)
            yield Requirement("rule", mapper.BY_ID, True, why.format(one.name), layer)


def _named(layer: Layer, image: Image) -> Iterator[Requirement]:
    """What tells dracut which volumes to activate and to wait for (parse-lvm.sh and lvm_scan.sh of its module lvm).

    Where the command line names none at all it activates whatever it finds: parse-lvm.sh means to leave that to
    rd.auto, but what it looks at for this is never empty.
    """
    group, volume = layer.facts.get("group"), layer.facts.get("volume")
    if not group or not volume or "part" in layer.facts:
        return
    line = ask.arguments(image)
    volumes = [*line.all("rd.lvm.lv"), *line.all("rd_LVM_LV")]
    groups = [*line.all("rd.lvm.vg"), *line.all("rd_LVM_VG")]
    named = f"{group}/{volume}"
    given, off = named in volumes or group in groups, ask.is_off(line, "rd.lvm")
    # LVM's own rules activate whatever is there.
    if image.rule("64-lvm.rules") and not image.rule("69-*lvm*.rules") and (off or volumes or groups):
        why = "dracut activates no volume but those that the command line names"
        yield Requirement("configuration", (f"rd.lvm.lv={named}",), True, why, layer, met=given and not off)
    if given and not off:
        yield Requirement("rule", _LINKS, True, f"dracut waits for /dev/{named}, which udev makes by it", layer)
