"""LVM with a thin pool: a snapshot shares all blocks with its origin until one of both is written (lvmthin(7)).

It takes no room at first and costs no second write. What it needs it takes from the pool, and where the pool runs full
all its volumes stand still: so the pool's data and metadata are measured before.
"""

from __future__ import annotations

from functools import partial

from safeupdate.gate.host import Host
from safeupdate.snapshots import lvm
from safeupdate.snapshots.backend import Backend, Detected, Label, Room, Snapshot, SnapshotError, Unusable
from safeupdate.snapshots.lvm import Volume

_METADATA_PART, _METADATA_MOST = 4, 32 << 20
"""A fourth of the metadata must be free, as lvcreate asks for too, but not more than twice what the kernel keeps of it:
that is the last tenth, and at most 16 MiB (dm-thin's `metadata_reserve`). The blocks that an update replaces are
entered for the snapshot and for the origin."""


def _is_thin(volume: Volume) -> bool:
    return volume.thin


def detect(host: Host) -> Detected | Unusable:
    """The root file system is on a volume of a thin pool."""
    reason = lvm.unusable(host)
    if reason is not None:
        return reason
    every = lvm.volumes(host)
    root = lvm.root_volume(host, every)
    if not _is_thin(root):
        return Unusable(
            f"The root file system is on {root.id}, which is not in a thin pool.",
            f"Snapshots of another kind need {lvm.needed(root) >> 20} MiB free in {root.group} and make each write to "
            'it a second one: `also = ["lvm-thick"]` in the section [snapshots] of the configuration permits them.',
        )
    return lvm.detected(lvm.state(host, every, _is_thin), every)


def space(host: Host) -> tuple[Room, ...]:
    """What the pools' data and metadata have left."""
    every = lvm.volumes(host)
    state = lvm.state(host, every, _is_thin)
    rooms = []
    for group, name in dict.fromkeys((volume.group, volume.pool) for volume in state.volumes):
        pool = next((one for one in every if (one.group, one.name) == (group, name)), None)
        if pool is None or pool.data is None or pool.metadata is None:
            raise SnapshotError(f"lvs does not report how full the thin pool {group}/{name} is")
        held = [volume for volume in state.volumes if (volume.group, volume.pool) == (group, name)]
        full = "waits for room" if pool.when_full == "queue" else "fails"
        why = f"What an update replaces stays in the pool, and once that is full all that is written to it {full}."
        free = int(pool.size * (1 - pool.data))
        rooms.append(Room(f"the data of the thin pool {pool.id}", free, sum(map(lvm.needed, held)), why))
        why = "The kernel takes no writes any more when a tenth of it is left, and an update needs some."
        free = int(pool.metadata_size * (1 - pool.metadata))
        needed = min(pool.metadata_size // _METADATA_PART, _METADATA_MOST)
        rooms.append(Room(f"the metadata of the thin pool {pool.id}", free, needed, why))
    return tuple(rooms)


def create(host: Host, label: Label) -> Snapshot:
    """One of each volume; it is not activated by itself, so that no file system is there twice."""
    state = lvm.state(host, lvm.volumes(host), _is_thin)
    return lvm.make(host, state.volumes, label, lambda _: ("--setactivationskip", "y"))


BACKEND = Backend(
    name="lvm-thin",
    title="LVM (thin pool)",
    detect=detect,
    space=space,
    create=create,
    list=partial(lvm.listed, thin=True),
    delete=partial(lvm.remove, thin=True),
    undo_plan=partial(lvm.undo_plan, thin=True),
)
