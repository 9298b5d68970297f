"""Plain btrfs: a read-only snapshot of the subvolume that is the root file system (btrfs-subvolume(8)).

Snapshots lie in `.safeupdate-snapshots` at the top of the file system, each as its number, with its label beside it as
`NUMBER.json`: neither goes back when the root subvolume does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict

from safeupdate.errors import SafeupdateError
from safeupdate.gate import document
from safeupdate.gate.host import Host
from safeupdate.machine import Machine
from safeupdate.snapshots import programs, subvolumes
from safeupdate.snapshots.backend import Backend, Label, Snapshot, SnapshotError, UndoPlan, label
from safeupdate.snapshots.subvolumes import OURS


def create(host: Host, label: Label) -> Snapshot:
    """The snapshot; btrfs has written it when the program ends."""
    with subvolumes.top(host, subvolumes.needed(host)) as top:
        directory = f"{top}/{OURS}"
        if not host.machine.is_dir(directory):
            # Old programs with a set-uid bit are in there.
            try:
                os.mkdir(host.machine.host_path(directory, follow=False), 0o700)
            except OSError as error:
                raise SnapshotError(f"{directory} cannot be made: {error.strerror}") from None
        place = f"{directory}/{label.number}"
        if host.machine.exists(place):
            raise SnapshotError(f"{OURS}/{label.number} is there already, and was not made by this program")
        host.write(f"{place}.json", document.text(asdict(label)), mode=0o600)
        programs.output(host, ("btrfs", "subvolume", "snapshot", "-r", "/", place), subvolumes.COMMIT)
    return Snapshot(label, (f"{OURS}/{label.number}",))


def list_ours(host: Host) -> tuple[Snapshot, ...]:
    """What has our name and a label beside it."""
    root = subvolumes.root(host.machine)
    if root is None or not host.machine.has_program("btrfs"):
        return ()
    with subvolumes.top(host, root) as top:
        return tuple(_ours(host.machine, top))


def _ours(machine: Machine, top: str) -> Iterator[Snapshot]:
    for name in machine.listdir(f"{top}/{OURS}"):
        number, dot, _ = name.partition(".json")
        if not dot or not number.isdecimal():
            continue
        try:
            found = label(document.read(machine, f"{top}/{OURS}/{name}") or {})
        except SafeupdateError:
            continue
        if found is not None and found.number == int(number):
            status = machine.stat(f"{top}/{OURS}/{number}", follow=False)
            there = status is not None and status.st_ino == subvolumes.INODE
            yield Snapshot(found, (f"{OURS}/{number}",) if there else ())


def delete(host: Host, snapshot: Snapshot) -> None:
    """The subvolume first, and its label last."""
    with subvolumes.top(host, subvolumes.needed(host)) as top:
        found = next((one for one in _ours(host.machine, top) if one.label == snapshot.label), None)
        number = snapshot.label.number
        if found is None and host.machine.exists(f"{top}/{OURS}/{number}"):
            raise SnapshotError(f"{OURS}/{number} has not the label of this snapshot; it is left as it is")
        for name in found.ids if found is not None else ():
            programs.output(host, ("btrfs", "subvolume", "delete", "--commit-after", f"{top}/{name}"))
        if found is not None:
            host.remove(f"{top}/{OURS}/{number}.json")


def undo_plan(host: Host, snapshot: Snapshot) -> UndoPlan:
    """A copy of the snapshot becomes the root."""
    return subvolumes.undo_plan(host, f"/{OURS}/{snapshot.label.number}", snapshot.label.number, snapshot.label.time)


BACKEND = Backend(
    name="btrfs",
    title="btrfs",
    detect=subvolumes.detect,
    space=subvolumes.space,
    create=create,
    list=list_ours,
    delete=delete,
    undo_plan=undo_plan,
)
