"""LVM without a thin pool: what is overwritten is copied into room that is set aside for that (dm-snapshot).

Every first write to a block becomes a read and two writes, the root file system needs dm-snapshot to be activated, and
a snapshot whose room is used up is lost at once (`lv_snapshot_invalid`), with the origin unharmed. So it is taken only
where the configuration names it.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial

from safeupdate.errors import SafeupdateError
from safeupdate.formats import cmdline, fstab
from safeupdate.gate.host import Host
from safeupdate.machine import Machine
from safeupdate.snapshots import lvm
from safeupdate.snapshots.backend import Backend, Detected, Label, Room, Snapshot, Unusable
from safeupdate.snapshots.lvm import State, Volume

_WRITTEN = ("UUID=", "LABEL=", "/dev/disk/by-uuid/", "/dev/disk/by-label/")


def _is_thick(volume: Volume) -> bool:
    return not volume.thin and not volume.origin


def detect(host: Host) -> Detected | Unusable:
    """The root file system is on a volume of its own."""
    reason = lvm.unusable(host)
    if reason is not None:
        return reason
    every = lvm.volumes(host)
    if not _is_thick(lvm.root_volume(host, every)):
        return Unusable()
    found = lvm.state(host, every, _is_thick)
    ambiguous = _ambiguous(host.machine, found)
    if ambiguous:
        return Unusable(f"{ambiguous}, and with a snapshot of LVM's that is there twice.")
    return lvm.detected(found, every)


def _ambiguous(machine: Machine, found: State) -> str:
    """What finds one of the volumes by something written on it, which is on its snapshot too, and that is active from
    the beginning of each boot: the wrong one may be taken. Empty where nothing does."""
    inner = next((one for one in found.covered if one.device not in {volume.device for volume in found.volumes}), None)
    if inner is not None:
        return f"What {inner.point} lies on is found within its logical volume"
    with suppress(SafeupdateError):
        root = cmdline.parse(machine.text("/proc/cmdline") or "").last("root") or ""
        if root.startswith(_WRITTEN):
            return f"The kernel's command line finds / by `{root}`"
    points = {one.point for one in found.covered}
    for line in fstab.parse(machine.read_if_there("/etc/fstab") or b"").lines:
        if line.point in points and line.spec.startswith(_WRITTEN):
            return f"/etc/fstab finds {line.point} by `{line.spec}`"
    return ""


def space(host: Host) -> tuple[Room, ...]:
    """What the volume groups have left."""
    state = lvm.state(host, lvm.volumes(host), _is_thick)
    why = "What is overwritten while the snapshot is there must find room in it, or it is lost."
    groups = dict.fromkeys((volume.group, volume.group_free) for volume in state.volumes)
    return tuple(
        Room(
            f"the volume group {group}",
            free,
            sum(lvm.needed(volume) for volume in state.volumes if volume.group == group),
            why,
        )
        for group, free in groups
    )


def create(host: Host, label: Label) -> Snapshot:
    """One of each volume, which cannot be written to."""
    state = lvm.state(host, lvm.volumes(host), _is_thick)
    return lvm.make(host, state.volumes, label, lambda one: ("-p", "r", "-L", f"{lvm.needed(one) >> 20}m"))


BACKEND = Backend(
    name="lvm-thick",
    title="LVM (no thin pool)",
    detect=detect,
    space=space,
    create=create,
    list=partial(lvm.listed, thin=False),
    delete=partial(lvm.remove, thin=False),
    undo_plan=partial(lvm.undo_plan, thin=False),
    opt_in=True,
    changes_root=True,
)
