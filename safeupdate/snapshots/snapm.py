"""snapm, on LVM or Stratis (snapm(8)): it makes a set of snapshots, and entries of the loader by boom to start them.

Known from the source of snapm 0.7, not from a machine that has it. On a volume without a thin pool it makes what
`lvm-thick` makes, at the same cost, and so it is used only where the configuration names it. A set carries nothing but
its name, which has number and kind; the rest of the label is in the manifest, as long as that is there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any

from safeupdate.errors import SafeupdateError
from safeupdate.formats.mountinfo import Mount
from safeupdate.gate.host import Host
from safeupdate.machine import Machine
from safeupdate.report import rfc3339
from safeupdate.snapshots import lvm, manifest, places, programs
from safeupdate.snapshots.backend import (
    Backend,
    Detected,
    Effect,
    Label,
    Room,
    Snapshot,
    SnapshotError,
    Step,
    UndoPlan,
    Unusable,
    label,
)

_SECONDS = 300.0
"""It freezes and makes one snapshot after the other, and copies a kernel and its initramfs for the entries."""

_NAME = re.compile(r"safeupdate-([1-9][0-9]*)-(pre-transaction|pre-reboot|by-hand)")

_BOOM = "/boot/boom"
"""Where boom keeps what it knows and the kernels that its entries start."""

_LEFT_FREE = 32 << 20
"""What must be left in /boot, for the next change of the loader's own files."""


def _holds(machine: Machine, mount: Mount) -> bool:
    """Whether it lies on a volume of LVM's or Stratis', by the identifier that each gives its devices."""
    number = machine.value(f"/sys/dev/block/{mount.device}/dm/uuid") or ""
    return number.startswith(("LVM-", "stratis-"))


def _sources(machine: Machine) -> tuple[str, ...]:
    """The mount points that hold this machine's state, as far as snapm can take them."""
    there = [path for path in lvm.STATE if machine.exists(path)]
    mounts = dict.fromkeys(mount for path in there if (mount := places.holding(machine, path)) is not None)
    return tuple(mount.point for mount in mounts if _holds(machine, mount))


def detect(host: Host) -> Detected | Unusable:
    """snapm is installed, and the root file system lies on what it can take."""
    machine = host.machine
    root = places.root(machine)
    if root is None or not machine.has_program("snapm") or not _holds(machine, root):
        return Unusable()
    sources = _sources(machine)
    covered = tuple(places.place(mount) for mount in places.mounts(machine) if mount.point in sources)
    not_covered = tuple(
        places.place(mount, f"{mount.point} is not in the set of snapshots.")
        for mount in places.mounts(machine)
        if mount.point not in sources
    )
    return Detected(
        words=f"the volumes of {' and '.join(sources)}",
        parts=sources,
        covered=covered,
        not_covered=not_covered,
        undo=_effect(not_covered),
        boot_returns=False,
    )


def _effect(not_covered: Sequence[Any]) -> Effect:
    if any(place.point == "/usr" for place in not_covered):
        return Effect(False, "/usr is not in the set of snapshots: the programs would be newer than what goes back.")
    return Effect(True, "The next boot activates the volumes with the content of the snapshots.")


def _has_entries(machine: Machine) -> bool:
    return machine.has_program("boom") and machine.is_dir(_BOOM)


def space(host: Host) -> tuple[Room, ...]:
    """What boom's copies take in /boot. What the snapshots take snapm measures by itself, and refuses."""
    machine = host.machine
    running, left = machine.running_kernel, machine.space("/boot")
    if not _has_entries(machine) or running is None or left is None:
        return ()
    files = [f"/boot/{name}" for name in machine.listdir("/boot") if running in name]
    size = sum(machine.size(file) for file in files if machine.is_file(file))
    why = f"boom copies the kernel that runs and its initramfs, {size >> 20} MiB, for the entries of the loader."
    return (Room("/boot", left.available, size + _LEFT_FREE, why),)


def create(host: Host, label: Label) -> Snapshot:
    """A set of snapshots; with entries of the loader where boom is set up."""
    name = f"safeupdate-{label.number}-{label.kind}"
    entries = ("--bootable", "--revert") if _has_entries(host.machine) else ()
    command = ("snapm", "snapset", "create", "--json", *entries, name, *_sources(host.machine))
    return Snapshot(label, _ids(programs.answer(host, command, _SECONDS)))


def _ids(found: dict[str, Any]) -> tuple[str, ...]:
    """One for each source. Raises `SnapshotError`."""
    try:
        return tuple(f"{found['SnapsetName']}:{source}" for source in found["Sources"])
    except (KeyError, TypeError):
        raise SnapshotError("snapm did not say which snapshots it made") from None


def _sets(host: Host) -> list[dict[str, Any]]:
    if not host.machine.has_program("snapm"):
        return []
    found = programs.answer(host, ("snapm", "snapset", "show", "--json"))
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise SnapshotError("`snapm snapset show` did not answer as expected")
    return found


def _label(machine: Machine, found: dict[str, Any]) -> Label | None:
    name = _NAME.fullmatch(str(found.get("SnapsetName")))
    if name is None:
        return None
    number, kind = int(name[1]), name[2]
    with suppress(SafeupdateError):
        written = manifest.read(machine, number)
        if written is not None and written.backend == BACKEND.name and written.label.kind == kind:
            return written.label
    return label({"number": number, "kind": kind, "kernel": "", "boot_id": "", "time": _time(found)})


def _time(found: dict[str, Any]) -> str:
    try:
        return rfc3339(datetime.fromtimestamp(float(found["Timestamp"]), timezone.utc))
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        raise SnapshotError("snapm did not say when it made a set of snapshots") from None


_PROBLEMS = {
    "Invalid": "It overflowed, and what it kept is lost.",
    "Reverting": "The volumes go back to it when they are activated, with the next boot.",
}


def list_ours(host: Host) -> tuple[Snapshot, ...]:
    """The sets that have our name."""
    named = [(_label(host.machine, found), found) for found in _sets(host)]
    return tuple(
        Snapshot(known, _ids(found), _PROBLEMS.get(str(found.get("Status")), ""))
        for known, found in named
        if known is not None
    )


def delete(host: Host, snapshot: Snapshot) -> None:
    """The set, and its entries of the loader with it."""
    for one in list_ours(host):
        if one.label == snapshot.label:
            programs.output(host, ("snapm", "snapset", "delete", _name(one)), _SECONDS)


def _name(snapshot: Snapshot) -> str:
    """Of one of ours, or of one that was adopted."""
    ours = _NAME.match(snapshot.ids[0])
    return ours[0] if ours is not None else snapshot.ids[0]


def undo_plan(host: Host, snapshot: Snapshot) -> UndoPlan:
    """snapm marks the volumes to go back, which they do when they are activated."""
    found = next((one for one in _sets(host) if snapshot.ids and one.get("SnapsetName") == _name(snapshot)), None)
    detected = detect(host)
    if found is None or isinstance(detected, Unusable):
        raise SnapshotError(f"snapm has no set of snapshots for number {snapshot.label.number}")
    name = _name(snapshot)
    does = "Marks the volumes to go back. Nothing changes before they are activated anew, with the reboot."
    steps = [Step(("snapm", "snapset", "revert", name), does, seconds=_SECONDS)]
    stays = [f"{place.point} stays as it is: {place.why}" for place in detected.not_covered]
    if (found.get("BootEntries") or {}).get("RevertEntry"):
        stays.append(
            f"The menu of the loader has an entry `Revert {name}`, with the kernel that ran then: choose that."
        )
    names = " and ".join(detected.parts)
    lost = (
        f"All that was written to {names} since {snapshot.label.time} is gone for good: packages, configuration, logs, "
        "databases."
    )
    done = found.get("Status") == "Reverting"
    return UndoPlan(() if done else tuple(steps), detected.undo, (lost,), tuple(stays), once=True)


def adopt(host: Host, since: str) -> str | None:
    """The newest set of somebody else's with the root file system in it, made at that time or later."""
    sets = [
        (_time(one), str(one["SnapsetName"]))
        for one in _sets(host)
        if "/" in one.get("Sources", ()) and _NAME.fullmatch(str(one.get("SnapsetName"))) is None
    ]
    return max(((time, name) for time, name in sets if time >= since), default=("", None))[1]


BACKEND = Backend(
    name="snapm",
    title="snapm",
    detect=detect,
    space=space,
    create=create,
    list=list_ours,
    delete=delete,
    undo_plan=undo_plan,
    adopt=adopt,
    opt_in=True,
    changes_root=True,
)
