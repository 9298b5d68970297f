"""ZFS: a snapshot of the root dataset and of all below it, at one moment (zfs-snapshot(8)).

The undo makes a clone of it the root, and keeps the present one: `zfs rollback` would destroy that, and every later
snapshot. What the next boot mounts as / is named on the kernel command line (`root=ZFS=rpool/ROOT/debian`), and then
the two change their names, or by the pool's property `bootfs`.

What is read is what zfs and zpool write with `-H -p`, a line each, fields divided by tabs: they have JSON since 2.3
only. A label is user properties of the snapshot, `safeupdate:NAME` (zfsprops(7)).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from safeupdate.errors import SafeupdateError
from safeupdate.formats import cmdline
from safeupdate.formats.mountinfo import Mount
from safeupdate.gate.host import Host
from safeupdate.machine import Machine
from safeupdate.snapshots import places, programs
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

_LEAST_FREE, _MOST_FREE = 1 << 30, 10 << 30
"""What an update replaces stays in the pool: at least what a kernel and its neighbours have, at most what an upgrade to
another release has; between them a tenth of the pool."""

_SECONDS = 120.0
"""A transaction group is written first, on a busy hard disk with all that waits for it."""

_LABEL = ("number", "kind", "kernel", "boot_id", "time")

_NAME = re.compile(r"(.+)@safeupdate-([1-9][0-9]*)")

_RENAMES = (2, 1)
"""The version since which all have `zfs rename -u`, which leaves a mounted dataset mounted."""

_SET_ONCE = {
    "canmount",
    "casesensitivity",
    "encryption",
    "keyformat",
    "keylocation",
    "normalization",
    "pbkdf2iters",
    "utf8only",
}
"""Properties that a clone has from its origin and does not take, and the one that is set by itself."""


def _root(machine: Machine) -> Mount | None:
    mount = places.root(machine)
    return mount if mount is not None and mount.fstype == "zfs" else None


def _needed(host: Host) -> str:
    """The dataset that is mounted as /."""
    root = _root(host.machine)
    if root is None:
        raise SnapshotError("the root file system is not ZFS")
    return root.source


def _lines(host: Host, *command: str) -> list[list[str]]:
    text = programs.output(host, command).decode("utf-8", "surrogateescape")
    return [line.split("\t") for line in text.splitlines()]


def _tree(host: Host, dataset: str) -> list[str]:
    """The file system and those below it, each before its own."""
    return [line[0] for line in _lines(host, "zfs", "list", "-H", "-r", "-t", "filesystem", "-o", "name", dataset)]


def _within(name: str, dataset: str) -> bool:
    return name == dataset or name.startswith(f"{dataset}/")


def _pool(dataset: str) -> str:
    return dataset.partition("/")[0]


def detect(host: Host) -> Detected | Unusable:
    """The root file system is a dataset."""
    machine = host.machine
    root = _root(machine)
    if root is None:
        return Unusable()
    if not (machine.has_program("zfs") and machine.has_program("zpool")):
        return Unusable("The root file system is ZFS, and its programs are missing.", "Install zfsutils-linux.")
    covered, not_covered = [], []
    for mount in places.mounts(machine):
        if mount.fstype != "zfs":
            not_covered.append(places.place(mount, f"{mount.point} is not on ZFS."))
        elif _within(mount.source, root.source):
            covered.append(places.place(mount))
        else:
            not_covered.append(places.place(mount, f"{mount.point} is the dataset {mount.source}."))
    way = _way(host, root.source)
    boot = places.holding(machine, "/boot") if machine.exists("/boot") else None
    return Detected(
        words=f"the dataset {root.source} and all below it",
        parts=tuple(_tree(host, root.source)),
        covered=tuple(covered),
        not_covered=tuple(not_covered),
        undo=way.effect,
        boot_returns=way.by_name and boot is not None and boot.fstype == "zfs" and _within(boot.source, root.source),
    )


@dataclass(frozen=True)
class _Way:
    """How the next boot finds its root: by a name, or by the pool's property. `bootfs` is that, where it is set."""

    by_name: bool
    bootfs: str
    effect: Effect


def _way(host: Host, dataset: str) -> _Way:
    machine, pool = host.machine, _pool(dataset)
    bootfs = _lines(host, "zpool", "get", "-H", "-p", "-o", "value", "bootfs", pool)[0][0]
    usr = places.holding(machine, "/usr") if machine.exists("/usr") else None
    named = _named(machine)
    if "/" not in dataset:
        why = "The root is the pool's own dataset, and no other can take its place."
    elif usr is not None and not (usr.fstype == "zfs" and _within(usr.source, dataset)):
        why = f"/usr is not below {dataset}: the programs would be newer than what goes back."
    elif named is not None and named != dataset:
        why = f"The machine runs from {dataset}, and the kernel's command line names {named}."
    elif named is None and bootfs != dataset:
        why = f"The machine runs from {dataset}, and `bootfs` of the pool {pool}, which decides, is {bootfs}."
    elif named is not None and _version(machine) < _RENAMES:
        why = (
            f"The kernel's command line names {dataset}, and this ZFS cannot rename it while it is mounted. Write "
            "`root=zfs:AUTO` there instead, and `bootfs` of the pool decides."
        )
    elif named is not None:
        return _Way(True, bootfs, Effect(True, f"The next boot mounts / by its name, {dataset}."))
    else:
        return _Way(False, bootfs, Effect(True, f"The next boot mounts as / what `bootfs` of the pool {pool} names."))
    return _Way(named is not None, bootfs, Effect(False, why))


def _named(machine: Machine) -> str | None:
    """The dataset on the command line, as zfs-initramfs and OpenZFS' module for dracut understand it; None where it
    names none."""
    with suppress(SafeupdateError):
        value = cmdline.parse(machine.text("/proc/cmdline") or "").last("root") or ""
        for prefix in ("ZFS=", "zfs:"):
            if value.startswith(prefix) and value != f"{prefix}AUTO":
                return value[len(prefix) :].replace("+", " ") or None
    return None


def _version(machine: Machine) -> tuple[int, ...]:
    found = re.match(r"(\d+)\.(\d+)", machine.value("/sys/module/zfs/version") or "")
    return tuple(map(int, found.groups())) if found is not None else (0, 0)


def space(host: Host) -> tuple[Room, ...]:
    """What the root dataset may still take of the pool."""
    dataset = _needed(host)
    try:
        free = int(_lines(host, "zfs", "get", "-H", "-p", "-o", "value", "available", dataset)[0][0])
        size = int(_lines(host, "zpool", "list", "-H", "-p", "-o", "size", _pool(dataset))[0][0])
    except (IndexError, ValueError):
        raise SnapshotError(f"how full the pool {_pool(dataset)} is cannot be told") from None
    why = "What an update replaces stays in the pool for as long as the snapshot does."
    return (Room(f"the pool of {dataset}", free, max(_LEAST_FREE, min(_MOST_FREE, size // 10)), why),)


def create(host: Host, label: Label) -> Snapshot:
    """One of each dataset, all of one moment."""
    dataset = _needed(host)
    properties = [word for name, value in label.texts().items() for word in ("-o", f"safeupdate:{name}={value}")]
    name = f"safeupdate-{label.number}"
    tree = _tree(host, dataset)
    programs.output(host, ("zfs", "snapshot", "-r", *properties, f"{dataset}@{name}"), _SECONDS)
    return Snapshot(label, tuple(f"{one}@{name}" for one in tree))


def list_ours(host: Host) -> tuple[Snapshot, ...]:
    """What has our name and our properties, of the root and of what lies beside it, as an older root that an undo set
    aside."""
    root = _root(host.machine)
    if root is None or not host.machine.has_program("zfs"):
        return ()
    columns = ",".join(["name", *(f"safeupdate:{name}" for name in _LABEL)])
    beside = root.source.rpartition("/")[0] or root.source
    found: dict[Label, list[str]] = {}
    for line in _lines(host, "zfs", "list", "-H", "-p", "-r", "-t", "snapshot", "-o", columns, beside):
        name = _NAME.fullmatch(line[0])
        known = label(dict(zip(_LABEL, line[1:])))
        if name is not None and known is not None and known.number == int(name[2]):
            found.setdefault(known, []).append(line[0])
    return tuple(Snapshot(known, tuple(sorted(ids, key=_depth))) for known, ids in found.items())


def _depth(identifier: str) -> tuple[int, str]:
    return identifier.count("/"), identifier


def delete(host: Host, snapshot: Snapshot) -> None:
    """What is there of it, with our name and its label; ZFS refuses one that a clone was made of."""
    for identifier in next((one.ids for one in list_ours(host) if one.label == snapshot.label), ()):
        programs.output(host, ("zfs", "destroy", identifier), _SECONDS)


def undo_plan(host: Host, snapshot: Snapshot) -> UndoPlan:
    """Clones take the place of the root dataset and of those below it, which are set aside and kept."""
    dataset, number = _needed(host), snapshot.label.number
    if not snapshot.ids:
        raise SnapshotError(f"there is no snapshot {number} in the pool")
    way = _way(host, dataset)
    if not way.effect.takes_effect:
        return UndoPlan((), way.effect)
    top = snapshot.ids[0].partition("@")[0]
    below = {identifier.partition("@")[0][len(top) :]: identifier for identifier in snapshot.ids}
    beside = set(_tree(host, dataset.rpartition("/")[0]))
    new = _free(beside, f"{dataset}_undo-{number}")
    aside = _free(beside, f"{dataset}_before-undo-{number}") if way.by_name else dataset
    local, present = _local(host, dataset), [name[len(dataset) :] for name in _tree(host, dataset)]
    steps = list(_clones(below, local, dataset, new))
    now = dataset if way.by_name else new
    if way.by_name:
        steps += [
            Step(
                ("zfs", "rename", "-u", dataset, aside),
                f"Sets the present root aside as {aside}. Should this stop right after it, run the next command: with "
                f"no {dataset} the machine does not start.",
            ),
            Step(("zfs", "rename", "-u", new, dataset), "Puts the clone in its place."),
        ]
    if not way.by_name or way.bootfs == dataset:
        steps.append(Step(("zpool", "set", f"bootfs={now}", _pool(dataset)), "Makes the clone what the pool starts."))
    steps += _mounting(below, local, present, aside, now)
    steps += [
        Step(("zfs", "promote", now + path), f"Makes {now + path} independent of {aside}.", seconds=_SECONDS)
        for path in below
    ]
    lost = (
        f"All that was written to {dataset} and below it since {snapshot.label.time}: packages, configuration, logs, "
        f"databases. It is kept as {aside} until you remove that (`zfs destroy -r {aside}`)."
    )
    stays = [f"{dataset}{path} was made since, and goes with {aside}." for path in present if path not in below]
    for mount in places.mounts(host.machine):
        if not (mount.fstype == "zfs" and _within(mount.source, dataset)):
            stays.append(f"{mount.point} is {mount.source}, and stays as it is.")
    return UndoPlan(tuple(steps), way.effect, (lost,), tuple(stays))


def _local(host: Host, dataset: str) -> dict[str, dict[str, str]]:
    """The properties that were set on the dataset and on those below it, by the rest of their names."""
    found: dict[str, dict[str, str]] = {}
    asked = ("-t", "filesystem", "-s", "local,received", "-o", "name,property,value")
    for name, prop, *value in _lines(host, "zfs", "get", "-H", "-p", "-r", *asked, "all", dataset):
        found.setdefault(name[len(dataset) :], {})[prop] = "\t".join(value)
    return found


def _clones(below: dict[str, str], local: dict[str, dict[str, str]], dataset: str, new: str) -> Iterator[Step]:
    """A clone has no property of its own: what its origin has is set again. None is mounted, the machine runs."""
    for path, identifier in below.items():
        own = {prop: value for prop, value in local.get(path, {}).items() if prop not in _SET_ONCE}
        own["canmount"] = "off" if local.get(path, {}).get("canmount") == "off" else "noauto"
        options = [word for prop, value in own.items() for word in ("-o", f"{prop}={value}")]
        does = f"Makes a copy of {dataset}{path} as it was, which can be written to."
        yield Step(("zfs", "clone", *options, identifier, new + path), does, seconds=_SECONDS)


def _mounting(
    below: dict[str, str], local: dict[str, dict[str, str]], present: list[str], aside: str, now: str
) -> Iterator[Step]:
    """What is mounted by itself in the next boot: the new one, and not the old one too. Nothing is mounted or unmounted
    at once (`canmount`, zfsprops(7))."""
    for path in present:
        # It is not inherited, and `on` where it was not set.
        if local.get(path, {}).get("canmount", "on") == "on":
            does = f"Keeps {aside + path} from being mounted at boot."
            yield Step(("zfs", "set", "canmount=noauto", aside + path), does)
            if path in below:
                yield Step(("zfs", "set", "canmount=on", now + path), f"Has {now + path} mounted at boot instead.")


def _free(taken: set[str], name: str) -> str:
    """A name that nothing has."""
    found, again = name, 1
    while found in taken:
        again += 1
        found = f"{name}-{again}"
    return found


BACKEND = Backend(
    name="zfs",
    title="ZFS",
    detect=detect,
    space=space,
    create=create,
    list=list_ours,
    delete=delete,
    undo_plan=undo_plan,
)
