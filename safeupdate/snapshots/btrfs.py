"""Plain btrfs: a read-only snapshot of the subvolume that is the root file system (btrfs-subvolume(8)).

Snapshots lie in `.safeupdate-snapshots` at the top of the file system, each as its number, with its label beside it as
`NUMBER.json`: neither goes back when the root subvolume does. The undo puts a copy of the snapshot where the next boot
looks for its root: under the name that the kernel command line or fstab has (`subvol=@`), or as the default subvolume.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass

from safeupdate.errors import SafeupdateError
from safeupdate.formats import cmdline, fstab
from safeupdate.formats.mountinfo import Mount
from safeupdate.gate import document
from safeupdate.gate.host import Host
from safeupdate.machine import Machine
from safeupdate.snapshots import places, programs
from safeupdate.snapshots.backend import (
    Backend,
    Detected,
    Effect,
    Label,
    Place,
    Room,
    Snapshot,
    SnapshotError,
    Step,
    UndoPlan,
    Unusable,
    label,
)

DIRECTORY = ".safeupdate-snapshots"

_UNDO_MOUNT = f"{programs.MOUNTS}/undo"

_SUBVOLUME_INODE = 256
"""The inode number of every subvolume's own directory (BTRFS_FIRST_FREE_OBJECTID)."""

_LEAST_FREE, _MOST_FREE = 1 << 30, 10 << 30
"""What an update replaces stays on the disk for as long as the snapshot does: at least what a kernel and its neighbours
have, at most what an upgrade to another release has; between them a tenth of the file system."""

_METADATA_FULL, _UNALLOCATED = 0.8, 1 << 30
"""btrfs allocates metadata in pieces of up to 1 GiB: with less unallocated, and what is allocated nearly full, even
deleting fails for want of room."""

_COMMIT = 300.0
"""Seconds for a snapshot: all that is not written yet is written first, on a busy hard disk for minutes."""

_NESTED_TOLD = 20

_LISTED = re.compile(r"^ID \d+ gen \d+ top level \d+ path (.+)$", re.MULTILINE)


def _root(machine: Machine) -> Mount | None:
    mount = places.root(machine)
    return mount if mount is not None and mount.fstype == "btrfs" else None


def detect(host: Host) -> Detected | Unusable:
    """The root file system is btrfs."""
    machine = host.machine
    root = _root(machine)
    if root is None:
        return Unusable()
    if not programs.installed(machine, "btrfs"):
        return Unusable("The root file system is btrfs, and the program btrfs is missing.", "Install btrfs-progs.")
    top = machine.stat("/")
    if top is None or top.st_ino != _SUBVOLUME_INODE:
        return Unusable("What is mounted at / is a directory, and not a subvolume.")
    way = _way(host, root)
    nested = [
        Place(point, root.device, f"{root.root.rstrip('/')}{point}", f"{point} is a subvolume of its own.")
        for point in _nested(host, root)
    ]
    covered, not_covered = [], []
    for mount in places.mounts(machine):
        if places.same(mount, root):
            covered.append(places.place(mount))
        elif mount.device == root.device:
            not_covered.append(places.place(mount, f"{mount.point} is the subvolume {mount.root}."))
        else:
            not_covered.append(places.place(mount, f"{mount.point} is another file system."))
    told = {one.point for one in not_covered}
    boot = places.holding(machine, "/boot")
    return Detected(
        words=f"the subvolume {root.root} on {root.source}",
        parts=(root.root,),
        covered=tuple(covered),
        not_covered=(*not_covered, *(one for one in nested if one.point not in told)),
        undo=way.effect,
        boot_returns=way.by_name and boot is not None and places.same(boot, root) and machine.is_dir("/boot"),
    )


@dataclass(frozen=True)
class _Way:
    """How the next boot finds its root: under the name that the subvolume has now, or as the default one."""

    by_name: bool
    effect: Effect


def _way(host: Host, root: Mount) -> _Way:
    machine = host.machine
    options = [("the kernel's command line", one) for one in _flags(machine)]
    for line in fstab.parse(machine.read_if_there("/etc/fstab") or b"").lines:
        if line.point == "/":
            options += [("/etc/fstab", one) for one in line.options]
    for place, option in options:
        if option.startswith("subvolid="):
            why = (
                f"{place[0].upper()}{place[1:]} has `{option}` for /, and the number stays with the subvolume that is "
                f"set aside. Write `subvol={root.root}` there instead."
            )
            return _Way(by_name=True, effect=Effect(False, why))
    named = {option.partition("=")[2].strip("/"): place for place, option in options if option.startswith("subvol=")}
    if named:
        other = next((f"`subvol={name}` in {place}" for name, place in named.items() if name != root.root[1:]), None)
        if other is not None:
            why = f"The machine runs from the subvolume {root.root}, and {other} names another one."
            return _Way(by_name=True, effect=Effect(False, why))
        why = f"The next boot mounts / by its name, {root.root}."
        return _Way(by_name=True, effect=Effect(True, why))
    return _Way(by_name=False, effect=Effect(True, "The next boot mounts the default subvolume as /."))


def _flags(machine: Machine) -> list[str]:
    """The options of `rootflags=`."""
    try:
        flags = cmdline.parse(machine.text("/proc/cmdline") or "").last("rootflags")
    except SafeupdateError:
        return []
    return (flags or "").split(",")


def _nested(host: Host, root: Mount) -> list[str]:
    """Where subvolumes lie directly within the root's, as paths below /; ours and snapper's left out."""
    listed = programs.output(host, ("btrfs", "subvolume", "list", "-o", "/")).decode("utf-8", "surrogateescape")
    above = root.root.strip("/")
    found = []
    for path in _LISTED.findall(listed):
        inside = path.removeprefix(f"{above}/") if above else path
        if f"{above}/" == "/" or path.startswith(f"{above}/"):
            parts = inside.split("/")
            # Snapshots of others are no part of the state.
            if not {DIRECTORY, ".snapshots", "timeshift-btrfs"} & set(parts):
                found.append(f"/{inside}")
    return found[:_NESTED_TOLD]


def space(host: Host) -> tuple[Room, ...]:
    """What is free by the pessimistic count of `btrfs filesystem usage`, and what metadata has left."""
    # There is no JSON of this.
    text = programs.output(host, ("btrfs", "filesystem", "usage", "-b", "/")).decode("utf-8", "replace")
    size, unallocated = _figure(text, r"Device size:\s+(\d+)"), _figure(text, r"Device unallocated:\s+(\d+)")
    least = _figure(text, r"\(min: (\d+)\)")
    allocated = _figure(text, r"^Metadata,[^:]+: Size:(\d+)")
    used = _figure(text, r"^Metadata,[^:]+: Size:\d+, Used:(\d+)")
    needed = max(_LEAST_FREE, min(_MOST_FREE, size // 10))
    why = "What an update replaces stays on the disk for as long as the snapshot does."
    rooms = [Room("the btrfs of /", least, needed, why)]
    if used > _METADATA_FULL * allocated:
        why = "Its metadata is nearly full, and what is not allocated yet is all that it can grow into."
        rooms.append(Room("what the btrfs of / has not allocated", unallocated, _UNALLOCATED, why))
    return tuple(rooms)


def _figure(text: str, pattern: str) -> int:
    found = re.search(pattern, text, re.MULTILINE)
    if found is None:
        raise SnapshotError(f"`btrfs filesystem usage` did not say what was expected (`{pattern}`)")
    return int(found.group(1))


def _top(host: Host, root: Mount) -> AbstractContextManager[str]:
    """The top of the file system, mounted for as long as needed."""
    return programs.mounted(host, "btrfs", _mount(root))


def _mount(root: Mount) -> tuple[str, ...]:
    return ("mount", "-t", "btrfs", "-o", "subvolid=5,noatime", root.source)


def _needed(host: Host) -> Mount:
    root = _root(host.machine)
    if root is None:
        raise SnapshotError("the root file system is not btrfs")
    return root


def create(host: Host, label: Label) -> Snapshot:
    """The snapshot; btrfs has written it when the program ends."""
    with _top(host, _needed(host)) as top:
        directory = f"{top}/{DIRECTORY}"
        if not host.machine.is_dir(directory):
            # Old programs with a set-uid bit are in there.
            try:
                os.mkdir(host.machine.host_path(directory, follow=False), 0o700)
            except OSError as error:
                raise SnapshotError(f"{directory} cannot be made: {error.strerror}") from None
        place = f"{directory}/{label.number}"
        if host.machine.exists(place):
            raise SnapshotError(f"{DIRECTORY}/{label.number} is there already, and was not made by this program")
        host.write(f"{place}.json", document.text(asdict(label)), mode=0o600)
        programs.output(host, ("btrfs", "subvolume", "snapshot", "-r", "/", place), _COMMIT)
    return Snapshot(label, (f"{DIRECTORY}/{label.number}",))


def list_ours(host: Host) -> tuple[Snapshot, ...]:
    """What has our name and a label beside it."""
    root = _root(host.machine)
    if root is None or not programs.installed(host.machine, "btrfs"):
        return ()
    with _top(host, root) as top:
        return tuple(_ours(host.machine, top))


def _ours(machine: Machine, top: str) -> Iterator[Snapshot]:
    for name in machine.listdir(f"{top}/{DIRECTORY}"):
        number, dot, _ = name.partition(".json")
        if not dot or not number.isdecimal():
            continue
        try:
            found = label(document.read(machine, f"{top}/{DIRECTORY}/{name}") or {})
        except SafeupdateError:
            continue
        if found is not None and found.number == int(number):
            status = machine.stat(f"{top}/{DIRECTORY}/{number}", follow=False)
            there = status is not None and status.st_ino == _SUBVOLUME_INODE
            yield Snapshot(found, (f"{DIRECTORY}/{number}",) if there else ())


def delete(host: Host, snapshot: Snapshot) -> None:
    """The subvolume first, and its label last."""
    with _top(host, _needed(host)) as top:
        found = next((one for one in _ours(host.machine, top) if one.label == snapshot.label), None)
        number = snapshot.label.number
        if found is None and host.machine.exists(f"{top}/{DIRECTORY}/{number}"):
            raise SnapshotError(f"{DIRECTORY}/{number} has not the label of this snapshot; it is left as it is")
        for name in found.ids if found is not None else ():
            programs.output(host, ("btrfs", "subvolume", "delete", "--commit-after", f"{top}/{name}"))
        if found is not None:
            host.remove(f"{top}/{DIRECTORY}/{number}.json")


def undo_plan(host: Host, snapshot: Snapshot) -> UndoPlan:
    """A writable copy of the snapshot takes the place of the root subvolume, which is set aside and kept."""
    root, number = _needed(host), snapshot.label.number
    way = _way(host, root)
    nested = _nested(host, root)
    with _top(host, root) as top:
        if not host.machine.is_dir(f"{top}/{DIRECTORY}/{number}"):
            raise SnapshotError(f"there is no {DIRECTORY}/{number} on {root.source}")
        new = _free(host.machine, top, f"{root.root}.undo-{number}" if way.by_name else f"/safeupdate-undo-{number}")
        aside = _free(host.machine, top, f"{root.root}.before-undo-{number}")
        # In a snapshot a nested subvolume is an empty directory that takes no file.
        moved = [point for point in nested if host.machine.is_dir(f"{top}/{DIRECTORY}/{number}{point}")]
    if not way.effect.takes_effect:
        return UndoPlan((), way.effect)
    at = _UNDO_MOUNT
    steps = [
        Step(("mkdir", "-p", at), "Makes a directory to mount in."),
        Step((*_mount(root), at), "Mounts the top of the file system there."),
        Step(
            ("btrfs", "subvolume", "snapshot", f"{at}/{DIRECTORY}/{number}", f"{at}{new}"),
            "Makes a copy of the snapshot that can be written to.",
            seconds=_COMMIT,
        ),
    ]
    if way.by_name:
        steps += [
            Step(
                ("mv", "-T", f"{at}{root.root}", f"{at}{aside}"),
                f"Sets the present root aside as {aside}. Should this stop right after it, run the next command: with "
                f"no {root.root} the machine does not start.",
            ),
            Step(("mv", "-T", f"{at}{new}", f"{at}{root.root}"), "Puts the copy in its place."),
        ]
        kept, now = aside, root.root
    else:
        steps.append(
            Step(("btrfs", "subvolume", "set-default", f"{at}{new}"), "Makes the copy what is mounted as / by default.")
        )
        kept, now = root.root.rstrip("/"), new
    for point in moved:
        steps += [
            Step(("rmdir", f"{at}{now}{point}"), f"Removes what stands for {point} in a snapshot."),
            Step(
                ("mv", "-T", f"{at}{kept}{point}", f"{at}{now}{point}"),
                f"Takes the subvolume {point} over as it is.",
                f"Until the reboot {point} is not to be seen.",
            ),
        ]
    steps.append(Step(("umount", at), "Takes the mount away.", tolerated=(32,)))
    called = f"the subvolume {kept}" if kept else "the top of the file system (subvolid=5)"
    stays = [
        f"{point} is a subvolume of its own, and stays {'as it is' if point in moved else f'in {called}'}."
        for point in nested
    ]
    if not way.by_name:
        stays.append(
            f"GRUB, where it starts this machine, goes on reading /boot of {called}: run grub-install and write its "
            "menu anew once the machine is up with the old state."
        )
    lost = (
        f"All that was written to the root file system since {snapshot.label.time}: packages, configuration, logs, "
        f"databases in /var. It is kept as {called} until you remove that."
    )
    return UndoPlan(tuple(steps), way.effect, loses=(lost,), stays=tuple(stays))


def _free(machine: Machine, top: str, path: str) -> str:
    """A name that nothing has."""
    found, again = path, 1
    while machine.exists(f"{top}{found}"):
        again += 1
        found = f"{path}-{again}"
    return found


BACKEND = Backend(
    name="btrfs",
    title="btrfs",
    detect=detect,
    space=space,
    create=create,
    list=list_ours,
    delete=delete,
    undo_plan=undo_plan,
)
