"""snapper, where it has a configuration for / on btrfs (snapper(8), snapper-configs(5)).

Its own `rollback` sets the default subvolume, which a machine that mounts its root by a name never looks at: there the
plan puts a copy of the snapshot under that name, as for plain btrfs. Ours carry their label as userdata, and no cleanup
algorithm: what removes them is our own retention.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from safeupdate.formats.mountinfo import Mount
from safeupdate.gate.host import Host
from safeupdate.machine import Machine
from safeupdate.snapshots import places, programs, subvolumes
from safeupdate.snapshots.backend import (
    Backend,
    Detected,
    Label,
    Snapshot,
    SnapshotError,
    Step,
    UndoPlan,
    Unusable,
    label,
)

_MARK = "safeupdate"

_CONFIGS = "/etc/snapper/configs"

_BUS = "/run/dbus/system_bus_socket"

_SUSE = ("opensuse", "sles", "sled", "sle", "suse")
"""Distributions, as os-release(5) names them, whose GRUB reads relative to the default subvolume."""


def _run(host: Host, *arguments: str) -> bytes:
    """What snapper says, through its daemon where that can be reached: it knows what others are just doing."""
    if host.machine.exists(_BUS):
        try:
            return programs.output(host, ("snapper", *arguments), subvolumes.COMMIT)
        except SnapshotError as error:
            if "dbus" not in str(error).lower():
                raise
    return programs.output(host, ("snapper", "--no-dbus", *arguments), subvolumes.COMMIT)


def _answer(host: Host, key: str, *arguments: str) -> list[dict[str, Any]]:
    """The objects that snapper lists below a key of its answer."""
    import json

    said = _run(host, "--jsonout", "--utc", *arguments)
    try:
        found = json.loads(said)[key]
        if not all(isinstance(one, dict) for one in found):
            raise TypeError
        return list(found)
    except (ValueError, RecursionError, LookupError, TypeError):
        raise SnapshotError(f"`snapper {' '.join(arguments)}` did not answer in the JSON that is known") from None


def _configuration(host: Host) -> str | None:
    """The configuration for /; snapper is not asked where it has none at all."""
    configurations = _answer(host, "configs", "list-configs") if host.machine.populated(_CONFIGS) else []
    return next((str(one.get("config")) for one in configurations if one.get("subvolume") == "/"), None)


def _needed(host: Host) -> str:
    name = _configuration(host)
    if name is None:
        raise SnapshotError("snapper has no configuration for / any more")
    return name


def detect(host: Host) -> Detected | Unusable:
    """snapper is there and has a configuration for /, which is a btrfs."""
    if not host.machine.has_program("snapper") or subvolumes.root(host.machine) is None:
        return Unusable()
    try:
        if _configuration(host) is None:
            return Unusable("snapper has no configuration for /.", "`snapper -c root create-config /` makes one.")
    except SnapshotError as error:
        return Unusable(f"snapper does not work: {error}.")
    if not host.machine.is_dir("/.snapshots"):
        return Unusable("snapper's /.snapshots is missing.")
    found = subvolumes.detect(host, grub_follows=_grub_follows(host.machine))
    return replace(found, words=f"snapper, {found.words}") if isinstance(found, Detected) else found


def _grub_follows(machine: Machine) -> bool:
    return (machine.distribution or "").split(" ")[0].partition("-")[0] in _SUSE


def create(host: Host, label: Label) -> Snapshot:
    """A single snapshot with our label."""
    userdata = {_MARK: str(label.number), **label.texts(), "important": "yes"}
    said = _run(
        host,
        *("--config", _needed(host), "create", "--type", "single", "--print-number"),
        *("--description", f"safeupdate {label.kind} {label.kernel}"),
        *("--userdata", ",".join(f"{name}={value}" for name, value in userdata.items())),
    )
    number = said.decode("ascii", "replace").strip()
    if not number.isdecimal():
        raise SnapshotError(f"snapper did not say the number of what it made, but {number!r}")
    return Snapshot(label, (number,))


def _listed(host: Host, configuration: str) -> Iterator[Mapping[str, Any]]:
    """What snapper has, but for the present state."""
    listed = _answer(host, configuration, "--config", configuration, "list")
    yield from (one for one in listed if isinstance(one.get("number"), int) and one["number"] > 0)


def list_ours(host: Host) -> tuple[Snapshot, ...]:
    """Those whose userdata is our label."""
    if not host.machine.has_program("snapper") or subvolumes.root(host.machine) is None:
        return ()
    configuration = _configuration(host)
    if configuration is None:
        return ()
    listed = [(one, _label(one)) for one in _listed(host, configuration)]
    return tuple(Snapshot(found, (str(one["number"]),)) for one, found in listed if found is not None)


def _label(one: Mapping[str, Any]) -> Label | None:
    userdata = one.get("userdata")
    if not isinstance(userdata, dict):
        return None
    found = label(userdata)
    return found if found is not None and userdata.get(_MARK) == str(found.number) else None


def delete(host: Host, snapshot: Snapshot) -> None:
    """By snapper, which refuses what the machine runs from."""
    configuration = _needed(host)
    for one in _listed(host, configuration):
        if _label(one) == snapshot.label:
            _run(host, "--config", configuration, "delete", str(one["number"]))


def undo_plan(host: Host, snapshot: Snapshot) -> UndoPlan:
    """snapper's own rollback where the next boot mounts the default subvolume, else a copy under the root's name. So
    too where /.snapshots lies within the root: after a rollback snapper would find it empty."""
    configuration, (number,) = _needed(host), snapshot.ids
    if not any(str(one["number"]) == number for one in _listed(host, configuration)):
        raise SnapshotError(f"snapper has no snapshot {number} any more")
    way, mount = subvolumes.way(host), subvolumes.needed(host)
    within, snapshots = _snapshots(host.machine, mount)
    if way.by_name or within:
        source = f"{snapshots}/{number}/snapshot"
        return subvolumes.undo_plan(host, source, snapshot.label.number, snapshot.label.time)
    called = "a snapshot that snapper makes of it"
    bus = () if host.machine.exists(_BUS) else ("--no-dbus",)
    return UndoPlan(
        (
            Step(
                ("snapper", *bus, "--config", configuration, "--ambit", "classic", "rollback", number),
                "Makes a snapshot of the present state, and a copy of the old one the default subvolume.",
                seconds=subvolumes.COMMIT,
            ),
        ),
        way.effect,
        loses=(subvolumes.lost(snapshot.label.time, called),),
    )


def _snapshots(machine: Machine, root: Mount) -> tuple[bool, str]:
    """Whether /.snapshots lies within the root's subvolume, and where, from the top of the file system on."""
    mount = places.holding(machine, "/.snapshots")
    if mount is None or mount.device != root.device:
        raise SnapshotError("/.snapshots is not on the root file system")
    above = mount.root.rstrip("/")
    return (False, above) if mount.point == "/.snapshots" else (True, f"{above}/.snapshots")


def adopt(host: Host, since: str) -> str | None:
    """The newest that a package manager's hook made before its transaction (type `pre`), at that time or later."""
    newest = None
    for one in _listed(host, _needed(host)):
        if one.get("type") == "pre" and _moment(one.get("date")) >= datetime.fromisoformat(since):
            newest = str(one["number"])
    return newest


def _moment(date: object) -> datetime:
    """snapper's date, in UTC as it was asked for."""
    try:
        return datetime.strptime(str(date), "%Y-%m-%d %H:%M:%S").replace(tzinfo=timezone.utc)
    except ValueError:
        return datetime.min.replace(tzinfo=timezone.utc)


BACKEND = Backend(
    name="snapper",
    title="snapper",
    detect=detect,
    space=subvolumes.space,
    create=create,
    list=list_ours,
    delete=delete,
    undo_plan=undo_plan,
    adopt=adopt,
)
