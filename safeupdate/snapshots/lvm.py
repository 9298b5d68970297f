"""What both kinds of LVM's snapshots have in common: lvs(8)'s report, and which volumes hold this machine's state.

The report is that of `--reportformat json`: every value is a text, empty where it does not apply (lvmreport(7)). A
label is tags of the snapshot, `safeupdate.NAME=VALUE`, of characters that lvm(8) takes in tags.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from safeupdate.errors import SafeupdateError
from safeupdate.formats.mountinfo import Mount
from safeupdate.gate.host import Host
from safeupdate.machine import Machine
from safeupdate.snapshots import places, programs
from safeupdate.snapshots.backend import (
    Detected,
    Effect,
    Label,
    Place,
    Snapshot,
    SnapshotError,
    Step,
    UndoPlan,
    Unusable,
    label,
)

SECONDS = 120.0
"""For what changes a volume group: the file system is frozen, and so all that is not written yet is written first."""

LEAST, MOST = 1 << 30, 10 << 30
"""Bytes that an update may replace while the snapshot is there: at least what a kernel and its neighbours have, at most
what an upgrade to another release has; between them a tenth of what it is a snapshot of."""

_TAG = "safeupdate"

_FIELDS = (
    "vg_name,lv_name,lv_layout,pool_lv,origin,lv_size,lv_tags,lv_kernel_major,lv_kernel_minor,data_percent,"
    "metadata_percent,lv_metadata_size,lv_when_full,lv_snapshot_invalid,lv_merging,vg_free"
)

_NAME = re.compile(r"(.+)_safeupdate_([1-9][0-9]*)")

STATE = ("/", "/etc", "/usr", "/var", "/var/lib/dpkg", "/var/lib/rpm", "/usr/lib/sysimage/rpm")
"""What belongs together: what packages consist of, and what the package manager knows of them."""

_DEPTH = 8
"""Devices upon each other: more than a container on a volume on an array."""


@dataclass(frozen=True)
class Volume:
    """A logical volume. Sizes in bytes; `device` is `MAJOR:MINOR` where it is active. `pool` is that of a `thin` one,
    `origin` what a snapshot is of. `data` and `metadata` are the parts in use of a thin pool or a snapshot, None where
    they are not known; `group_free` is what its volume group has left."""

    group: str
    name: str
    thin: bool
    pool: str
    origin: str
    size: int
    tags: tuple[str, ...]
    device: str
    data: float | None
    metadata: float | None
    metadata_size: int
    when_full: str
    invalid: bool
    merging: bool
    group_free: int

    @property
    def id(self) -> str:
        """As LVM's programs take it."""
        return f"{self.group}/{self.name}"


@dataclass(frozen=True)
class State:
    """The volumes that hold this machine's state, the root's first, and what is mounted of them and of others."""

    volumes: tuple[Volume, ...]
    covered: tuple[Place, ...]
    not_covered: tuple[Place, ...]


def volumes(host: Host) -> tuple[Volume, ...]:
    """All of them, with those that are parts of others. Raises `SnapshotError`."""
    command = ("lvs", "-a", "--reportformat", "json", "--units", "b", "--nosuffix", "-o", _FIELDS)
    try:
        return tuple(_volume(row) for report in programs.answer(host, command)["report"] for row in report["lv"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise SnapshotError("lvs did not report what was asked") from None


def _volume(row: dict[str, str]) -> Volume:
    major, minor = row["lv_kernel_major"], row["lv_kernel_minor"]
    return Volume(
        group=row["vg_name"],
        # In brackets are those that are part of another, as one is that is being merged.
        name=row["lv_name"].strip("[]"),
        # Those of VDO have a pool too.
        thin="thin" in row["lv_layout"].split(","),
        pool=row["pool_lv"].strip("[]"),
        origin=row["origin"].strip("[]"),
        size=int(row["lv_size"]),
        tags=tuple(row["lv_tags"].split(",")),
        device="" if major in ("", "-1") else f"{major}:{minor}",
        data=float(row["data_percent"]) / 100 if row["data_percent"] else None,
        metadata=float(row["metadata_percent"]) / 100 if row["metadata_percent"] else None,
        metadata_size=int(row["lv_metadata_size"] or 0),
        when_full=row["lv_when_full"],
        # As numbers where lvm.conf(5) has binary_values_as_numeric.
        invalid=row["lv_snapshot_invalid"] in ("snapshot invalid", "1"),
        merging=row["lv_merging"] in ("merging", "1"),
        group_free=int(row["vg_free"]),
    )


def root(machine: Machine) -> Mount | None:
    """The mount at /, where it lies on a logical volume, or on one device upon another that does."""
    mount = places.root(machine)
    if mount is None:
        return None
    for device in _chain(machine, mount.device):
        if (machine.value(f"/sys/dev/block/{device}/dm/uuid") or "").startswith("LVM-"):
            return mount
    return None


def _chain(machine: Machine, device: str) -> Iterator[str]:
    """The device, and those below as long as there is one each (a LUKS container on a volume)."""
    for _ in range(_DEPTH):
        yield device
        below = machine.listdir(f"/sys/dev/block/{device}/slaves")
        number = machine.value(f"/sys/class/block/{below[0]}/dev") if len(below) == 1 else None
        if number is None:
            return
        device = number


def _under(machine: Machine, mount: Mount, every: Sequence[Volume]) -> Volume | None:
    active = {volume.device: volume for volume in every if volume.device}
    return next((active[device] for device in _chain(machine, mount.device) if device in active), None)


def unusable(host: Host) -> Unusable | None:
    """Why no snapshot of LVM's can be taken of this root file system, whatever its volume is; None where one can."""
    mount = root(host.machine)
    if mount is None:
        return Unusable()
    if not host.machine.has_program("lvs"):
        return Unusable("The root file system is on a logical volume, and LVM's programs are missing.", "Install lvm2.")
    if mount.fstype == "btrfs":
        # btrfs finds its devices by what is written on them, and takes the one that it sees last.
        return Unusable("The root file system is btrfs, and must not be there twice, as with a snapshot of its volume.")
    return None


def root_volume(host: Host, every: Sequence[Volume]) -> Volume:
    """The one below /. Raises `SnapshotError`."""
    mount = root(host.machine)
    volume = _under(host.machine, mount, every) if mount is not None else None
    if volume is None:
        raise SnapshotError("lvs does not report the volume of the root file system")
    return volume


def state(host: Host, every: Sequence[Volume], fits: Callable[[Volume], bool]) -> State:
    """Which of the volumes hold this machine's state and are fit for it, and what is mounted of them."""
    machine = host.machine
    there = [path for path in STATE if machine.exists(path)]
    chosen: dict[str, Volume] = {}
    for mount in dict.fromkeys(mount for path in there if (mount := places.holding(machine, path)) is not None):
        volume = _under(machine, mount, every)
        if volume is not None and fits(volume):
            chosen[volume.id] = volume
    covered, not_covered = [], []
    for mount in places.mounts(machine):
        volume = _under(machine, mount, every)
        if volume is None:
            not_covered.append(places.place(mount, f"{mount.point} is not on a logical volume."))
        elif volume.id in chosen:
            covered.append(places.place(mount))
        else:
            not_covered.append(places.place(mount, f"{mount.point} is on {volume.id}, which is not kept."))
    return State(tuple(chosen.values()), tuple(covered), tuple(not_covered))


def detected(found: State, every: Sequence[Volume]) -> Detected | Unusable:
    """The answer of `Backend.detect`."""
    going_back = {f"{one.group}/{one.origin}" for one in every if one.merging}
    waiting = next((one.id for one in found.volumes if one.id in going_back), None)
    if waiting is not None:
        hint = f"Reboot. Where that was done, `lvchange --poll y {waiting}` brings it to an end."
        return Unusable(f"{waiting} is going back to an earlier snapshot.", hint)
    return Detected(
        words=" and ".join(f"the logical volume {one.id}" for one in found.volumes),
        parts=tuple(one.id for one in found.volumes),
        covered=found.covered,
        not_covered=found.not_covered,
        undo=_effect(found),
        # GRUB cannot read a thin volume; of a thick one it sees what has not been merged yet.
        boot_returns=False,
    )


def _effect(found: State) -> Effect:
    usr = next((one for one in found.not_covered if one.point == "/usr"), None)
    if usr is not None:
        return Effect(False, f"{usr.why} The programs would be newer than what goes back.")
    return Effect(True, f"The next boot activates {found.volumes[0].id} with the content of the snapshot.")


def needed(volume: Volume) -> int:
    """Bytes that a snapshot of it must be able to take up. More than it has, and what a snapshot needs to keep account
    of that (a 64th is plenty), it never is."""
    return min(max(LEAST, min(MOST, volume.size // 10)), volume.size + (volume.size >> 6))


def make(host: Host, parts: Sequence[Volume], label: Label, options: Callable[[Volume], Sequence[str]]) -> Snapshot:
    """A snapshot of each of them, with the same label; none where one fails. Raises `SnapshotError`."""
    tags = [word for tag in (_TAG, *_tags(label)) for word in ("--addtag", tag)]
    made: list[str] = []
    try:
        for volume in parts:
            name = f"{volume.name}_safeupdate_{label.number}"
            command = ("lvcreate", "-y", "-s", "-n", name, *tags, *options(volume), volume.id)
            programs.output(host, command, SECONDS)
            made.append(f"{volume.group}/{name}")
    except SafeupdateError:
        for name in made:
            with suppress(SafeupdateError):
                programs.output(host, ("lvremove", "-y", name), SECONDS)
        raise
    return Snapshot(label, tuple(made))


def _tags(label: Label) -> list[str]:
    return [f"{_TAG}.{name}={value}" for name, value in label.texts().items()]


def _label(volume: Volume) -> Label | None:
    """Ours, where it has our name and our label."""
    name = _NAME.fullmatch(volume.name)
    pairs = [tag[len(_TAG) + 1 :].partition("=") for tag in volume.tags if tag.startswith(f"{_TAG}.")]
    found = label({key: value for key, _, value in pairs})
    if name is None or _TAG not in volume.tags:
        return None
    return found if found is not None and found.number == int(name[2]) else None


def ours(host: Host, *, thin: bool) -> dict[Label, list[Volume]]:
    """Our snapshots that are thin, or that are not, by their labels; the root's first. Raises `SnapshotError`."""
    if root(host.machine) is None or not host.machine.has_program("lvs"):
        return {}
    every = volumes(host)
    top = _under(host.machine, mount, every) if (mount := places.root(host.machine)) is not None else None
    found: dict[Label, list[Volume]] = {}
    for volume in sorted(every, key=lambda one: (top is None or not one.name.startswith(f"{top.name}_"), one.id)):
        known = _label(volume)
        if known is not None and volume.thin == thin:
            found.setdefault(known, []).append(volume)
    return found


def listed(host: Host, *, thin: bool) -> tuple[Snapshot, ...]:
    """The answer of `Backend.list`."""
    return tuple(
        Snapshot(known, tuple(part.id for part in parts), " ".join(_problems(parts)), any(map(_overflowed, parts)))
        for known, parts in ours(host, thin=thin).items()
    )


def _problems(parts: Sequence[Volume]) -> Iterator[str]:
    for part in parts:
        if part.merging:
            yield f"{part.group}/{part.origin} goes back to it when it is activated, with the next boot."
        elif _overflowed(part):
            yield f"{part.id} overflowed, and what it kept is lost: more was written than it could hold."
        elif not part.origin:
            # As soon as one of several thin snapshots is merged: the origin of the others is no more.
            yield f"LVM does not know any more of what {part.id} is a snapshot, as another one was gone back to."


def _overflowed(part: Volume) -> bool:
    return not part.merging and (part.invalid or (not part.thin and part.data == 1))


def remove(host: Host, snapshot: Snapshot, *, thin: bool) -> None:
    """Remove what is there of it, with our name and its label. Raises `SnapshotError`."""
    for part in ours(host, thin=thin).get(snapshot.label, ()):
        if part.merging:
            raise SnapshotError(f"{part.group}/{part.origin} is going back to {part.id}", "Reboot, and it is gone.")
        programs.output(host, ("lvremove", "-y", part.id), SECONDS)


def undo_plan(host: Host, snapshot: Snapshot, *, thin: bool) -> UndoPlan:
    """The snapshots are merged into what they were taken of: at once they are marked so, and with the next activation
    the volumes have the old content (lvconvert(8))."""
    every = volumes(host)
    parts = [one for one in every if one.id in snapshot.ids]
    rest = [one for one in parts if not one.merging]
    problems = " ".join(_problems(rest)).rstrip(".")
    if problems or len(parts) != len(snapshot.ids) or not parts:
        raise SnapshotError(problems or f"not all of snapshot {snapshot.label.number} is there")
    found = state(host, every, lambda volume: any((volume.group, volume.name) == (p.group, p.origin) for p in parts))
    names = " and ".join(f"{part.group}/{part.origin}" for part in parts)
    stays = [f"{place.point} stays as it is: {place.why}" for place in found.not_covered]
    if not found.volumes:
        return UndoPlan((), Effect(False, f"The machine does not run from {names}."), stays=tuple(stays))
    does = f"Marks {names} to go back. Nothing changes before the volume is activated anew, with the reboot."
    steps = [Step(("lvconvert", "--merge", *(part.id for part in rest)), does, seconds=SECONDS)] if rest else []
    if thin:
        stays.append(f"Should lvs show it as `merging` after the reboot, `lvchange --poll y` with {names} ends that.")
    else:
        stays.append("What goes back is copied while the machine runs; that slows it down, and outlasts a power cut.")
    lost = (
        f"All that was written to {names} since {snapshot.label.time} is gone for good: packages, configuration, logs, "
        "databases. What is written after the command and before the reboot is lost too."
    )
    # LVM forgets of what they are snapshots when one of them takes the origin's place.
    origins = {(part.group, part.origin) for part in parts}
    others = [one.id for one in every if one.thin and (one.group, one.origin) in origins and one not in parts]
    loses = (lost, *(f"{other} cannot be gone back to any more, as LVM merges one of several." for other in others))
    return UndoPlan(tuple(steps), _effect(found), loses, tuple(stays), once=True)
