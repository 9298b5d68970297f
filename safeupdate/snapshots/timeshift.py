"""Timeshift in its rsync mode: a copy of all files, those that have not changed as hard links of the copy before.

Known from the source of Timeshift 25.12, not from a machine that has it. It has no JSON to ask for, but keeps some
beside each copy: `timeshift/snapshots/NAME/info.json` on its own disk, which is written last, so that a copy without it
is not finished, and Timeshift removes it by itself. Our label is its comment. In btrfs mode the back end for btrfs does
what it would do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from datetime import datetime, timezone
from typing import Any

from safeupdate.errors import SafeupdateError
from safeupdate.gate.host import Host
from safeupdate.machine import Machine
from safeupdate.report import rfc3339
from safeupdate.snapshots import manifest, places, programs
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

_SETTINGS = ("/etc/timeshift/timeshift.json", "/etc/timeshift.json")

_SNAPSHOTS = "timeshift/snapshots"

_UUID = re.compile(r"[0-9A-Fa-f-]+")

_NAME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}_[0-9]{2}-[0-9]{2}-[0-9]{2}")
"""The local time at which it was begun."""

_LIMIT = 1 << 20

_SECONDS = 6 * 3600.0
"""The first copy of a system takes an hour on a hard disk."""

_MARK = "safeupdate"

_COPIED = ("bin", "boot", "etc", "lib", "lib64", "opt", "sbin", "srv", "usr", "var")
"""Mounts below / that it copies, by their first name; what is mounted elsewhere it leaves out."""

_LEAST, _MOST = 1 << 30, 10 << 30
"""Bytes of a further copy: what an update replaces, at least a kernel and its neighbours."""


def _settings(machine: Machine) -> dict[str, Any] | None:
    """None where it has not been set up."""
    for path in _SETTINGS:
        try:
            found = json.loads(machine.read_if_there(path, limit=_LIMIT) or b"null")
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict) and _UUID.fullmatch(str(found.get("backup_device_uuid"))):
            return found
    return None


def _device(settings: dict[str, Any]) -> str:
    return f"/dev/disk/by-uuid/{settings['backup_device_uuid']}"


def _is_btrfs(settings: dict[str, Any]) -> bool:
    return settings.get("btrfs_mode") in ("true", True)


def detect(host: Host) -> Detected | Unusable:
    """It is set up to copy, and its disk is there."""
    machine = host.machine
    root = places.root(machine)
    if root is None or not machine.has_program("timeshift"):
        return Unusable()
    settings = _settings(machine)
    if settings is None:
        return Unusable(
            "Timeshift is installed, and was not set up.", "`timeshift-gtk` asks where its copies are to be."
        )
    if _is_btrfs(settings):
        return Unusable()
    if not machine.exists(_device(settings)):
        return Unusable(f"The disk of Timeshift's copies is not there ({_device(settings)}).")
    covered, not_covered = [], []
    for mount in places.mounts(machine):
        if mount.point == "/" or mount.point.split("/")[1] in _COPIED:
            covered.append(places.place(mount))
        else:
            not_covered.append(places.place(mount, f"Timeshift leaves out {mount.point}, unless it is told otherwise."))
    return Detected(
        words=f"all files but those of people, copied to {_device(settings)}",
        parts=("/",),
        covered=tuple(covered),
        not_covered=tuple(not_covered),
        undo=Effect(True, "Timeshift copies the files back over the running system, and restarts it."),
        boot_returns=not any(place.point == "/efi" for place in not_covered),
    )


def _disk(host: Host) -> AbstractContextManager[str]:
    settings = _settings(host.machine)
    if settings is None:
        raise SnapshotError("Timeshift was not set up")
    return programs.mounted(host, "timeshift", ("mount", "-o", "noatime", _device(settings)))


def space(host: Host) -> tuple[Room, ...]:
    """What its disk has left: for the first copy all that is used is needed, later what an update replaces."""
    with _disk(host) as point:
        left, root = host.machine.space(point), host.machine.space("/")
        first = not any(_NAME.fullmatch(name) for name in host.machine.listdir(f"{point}/{_SNAPSHOTS}"))
    if left is None or root is None:
        raise SnapshotError("how much room Timeshift's disk has cannot be told")
    if first:
        return (Room("Timeshift's disk", left.available, root.total - root.free, "The first copy is of all files."),)
    needed = max(_LEAST, min(_MOST, root.total // 10))
    return (Room("Timeshift's disk", left.available, needed, "A copy holds what has changed since the last one."),)


def create(host: Host, label: Label) -> Snapshot:
    """A copy; it takes minutes, and the first one much longer."""
    words = " ".join(f"{name}={value}" for name, value in label.texts().items())
    comment = f"{_MARK} {words}"
    programs.output(host, ("timeshift", "--create", "--scripted", "--tags", "O", "--comments", comment), _SECONDS)
    # Its exit code says nothing.
    made = next((one for one in list_ours(host) if one.label == label), None)
    if made is None:
        raise SnapshotError("Timeshift has ended, and has made no copy", "/var/log/timeshift has what it said.")
    return made


def _copies(host: Host) -> Iterator[tuple[str, dict[str, Any]]]:
    """By name, what stands beside each that is finished."""
    with _disk(host) as point:
        for name in host.machine.listdir(f"{point}/{_SNAPSHOTS}"):
            path = f"{point}/{_SNAPSHOTS}/{name}/info.json"
            try:
                found = json.loads(host.machine.read_if_there(path, limit=_LIMIT) or b"null")
            except (SafeupdateError, ValueError, RecursionError):
                continue
            if _NAME.fullmatch(name) and isinstance(found, dict):
                yield name, found


def _label(found: dict[str, Any]) -> Label | None:
    mark, *pairs = str(found.get("comments")).split(" ")
    texts = {name: value for name, equals, value in (pair.partition("=") for pair in pairs) if equals}
    return label(texts) if mark == _MARK else None


def list_ours(host: Host) -> tuple[Snapshot, ...]:
    """The copies that have our label as their comment. Raises `SnapshotError` where there were some and their disk is
    not there: they are not gone."""
    settings = _settings(host.machine)
    if settings is None or _is_btrfs(settings):
        return ()
    if not host.machine.exists(_device(settings)):
        if _were_some(host.machine):
            raise SnapshotError(f"their disk is not there ({_device(settings)})")
        return ()
    named = [(name, _label(found)) for name, found in _copies(host)]
    return tuple(Snapshot(known, (name,)) for name, known in named if known is not None)


def _were_some(machine: Machine) -> bool:
    with suppress(SafeupdateError):
        written = [manifest.read(machine, number) for number in manifest.numbers(machine)]
        return any(one is not None and one.backend == BACKEND.name for one in written)
    return True


def delete(host: Host, snapshot: Snapshot) -> None:
    """The copy, where it is there."""
    for one in list_ours(host):
        if one.label == snapshot.label:
            programs.output(host, ("timeshift", "--delete", "--scripted", "--snapshot", one.ids[0]), _SECONDS)


def undo_plan(host: Host, snapshot: Snapshot) -> UndoPlan:
    """Timeshift copies all back, and restarts the machine as its last act."""
    detected, root = detect(host), places.root(host.machine)
    if isinstance(detected, Unusable) or root is None:
        raise SnapshotError("Timeshift's copies cannot be seen")
    if not snapshot.ids or snapshot.ids[0] not in {name for name, _ in _copies(host)}:
        raise SnapshotError(f"Timeshift has no copy for snapshot {snapshot.label.number}")
    command = ("timeshift", "--restore", "--scripted", "--snapshot", snapshot.ids[0], "--target-device", root.source)
    step = Step(
        (*command, "--skip-grub"),
        "Copies all files back, removes those that were not there, and restarts the machine by itself.",
        "Whoever works on it is cut off. Should it stop half-way, the system is of both states: run it again.",
        seconds=_SECONDS,
    )
    lost = (
        f"All that was written since {snapshot.label.time}, but for the directories of people and what Timeshift's "
        "settings leave out. Nothing of it is kept."
    )
    return UndoPlan((step,), detected.undo, (lost,), tuple(place.why for place in detected.not_covered))


def adopt(host: Host, since: str) -> str | None:
    """The newest copy of somebody else's, begun at that time or later."""
    made = []
    for name, found in _copies(host):
        try:
            time = rfc3339(datetime.fromtimestamp(float(str(found.get("created"))), timezone.utc))
        except (ValueError, OverflowError, OSError):
            continue
        if _label(found) is None and time >= since:
            made.append((time, name))
    return max(made, default=("", None))[1]


BACKEND = Backend(
    name="timeshift",
    title="Timeshift",
    detect=detect,
    space=space,
    create=create,
    list=list_ours,
    delete=delete,
    undo_plan=undo_plan,
    adopt=adopt,
    slow=True,
)
