"""What belongs to a snapshot: /var/lib/safeupdate/snapshots/NUMBER/manifest.json, and copies of files of the loader.

It is whole and on the disk before the snapshot is taken, and so within it, where /var is: the state that is put back
finds in itself the kernel that it needs. Where the undo does not bring the loader's files back, kernel and initramfs of
what runs and of what would start next are copied too, each at its path below `NUMBER/files`. They name one another, so
that they must be of one moment: `changed` tells what was touched since.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from safeupdate import kernels, steering
from safeupdate.boot import find_plan
from safeupdate.boot.plan import BootEntry, BootPlan
from safeupdate.errors import Missing, SafeupdateError, Unreadable
from safeupdate.fingerprint import Hasher
from safeupdate.gate import document
from safeupdate.gate.document import Damaged
from safeupdate.gate.host import SNAPSHOTS, VAR, Host, NotDone
from safeupdate.ledger import reading
from safeupdate.machine import Machine
from safeupdate.snapshots.backend import Label, Room, SnapshotError, label
from safeupdate.volumes import Volumes

DIRECTORY = SNAPSHOTS

_STATE = (
    *(f"/boot/{grub}/{name}" for grub in ("grub", "grub2") for name in ("grub.cfg", "grubenv", "custom.cfg")),
    *(f"{esp}/loader/loader.conf" for esp in ("/boot", "/boot/efi", "/efi", "/boot/esp")),
)
"""What a loader reads to choose, besides the files of its entries."""

_TEXT_LIMIT = 4 << 20
"""Bytes of one such file; a `grub.cfg` has 60 kB."""

_LEFT_FREE = 256 << 20
"""What must be left where the copies lie, for the machine to go on working."""

_PIECE = 1 << 20


@dataclass(frozen=True)
class File:
    """A file of the loader, as it was: SHA-256 in hexadecimal, size in bytes, the permission bits. `state`: it is one
    by which the loader chooses. `copied`: its content is kept."""

    path: str
    sha256: str
    size: int
    mode: int
    state: bool
    copied: bool


@dataclass(frozen=True)
class Manifest:
    """All but the snapshot itself. `parts` are what the back end was to make snapshots of, `adopted` the id of one that
    somebody else had made. `running` is the release that ran, `next_kernel` and `entry` what the loader would have
    started; `releases` were installed. `boot_returns`: the undo brings the loader's files back by itself."""

    label: Label
    backend: str
    parts: tuple[str, ...]
    adopted: str | None
    running: str | None
    loader: str | None
    entry: str | None
    next_kernel: str | None
    releases: tuple[str, ...]
    boot_returns: bool
    files: tuple[File, ...]

    def copy_of(self, file: File) -> str:
        """Where the copy of one of its files lies."""
        return f"{_directory(self.label.number)}/files{file.path}"


@dataclass(frozen=True)
class Draft:
    """A manifest that is not written yet. `stamps` are of its files when they were read. `disagreements` are sentences:
    with any, this is no state that could be gone back to."""

    manifest: Manifest
    stamps: Mapping[str, tuple[int, ...]]
    disagreements: tuple[str, ...]


def _directory(number: int) -> str:
    return f"{DIRECTORY}/{number}"


def _path(number: int) -> str:
    return f"{_directory(number)}/manifest.json"


def draft(
    host: Host, label: Label, backend: str, parts: Sequence[str], *, boot_returns: bool, adopted: str | None = None
) -> Draft:
    """What would go with a snapshot of now. Reads each file whole, unless the ledger knows its checksum."""
    machine = Machine(host.machine.root, host.machine.live)  # one that remembers nothing of the last look
    plan = find_plan(machine, Volumes(machine), without=steering.read(machine))[1]
    hasher = Hasher(machine, reading.read(machine).hashes)
    files: dict[str, File] = {}
    stamps: dict[str, tuple[int, ...]] = {}
    disagreements: list[str] = []
    for path, needed, state in _wanted(machine, plan):
        if path in files:
            continue
        try:
            stamp = _stamp(machine, path)
            if state and stamp[1] > _TEXT_LIMIT:
                continue
            mode = stat.S_IMODE(stamp[0])
            files[path] = File(path, hasher.file(path), stamp[1], mode, state, copied=state or not boot_returns)
            stamps[path] = stamp
        except (Missing, Unreadable) as error:
            if needed:
                disagreements.append(f"What the loader starts next is not whole: {error}.")
    if plan.next is None:
        disagreements.append("What the loader starts next cannot be told.")
    for named in () if plan.next is None else (plan.next.kernel, *plan.next.initramfs):
        if named is not None and (named.absent or named.path is None):
            disagreements.append(f"What the loader starts next is not whole: {named.spec} is not to be seen here.")
    manifest = Manifest(
        label=label,
        backend=backend,
        parts=tuple(parts),
        adopted=adopted,
        running=machine.running_kernel,
        loader=plan.loader,
        entry=plan.next.id if plan.next is not None else None,
        next_kernel=plan.next.release if plan.next is not None else None,
        releases=tuple(kernel.release for kernel in kernels.installed(machine)),
        boot_returns=boot_returns,
        files=tuple(files[path] for path in sorted(files)),
    )
    return Draft(manifest, stamps, tuple(disagreements))


def _wanted(machine: Machine, plan: BootPlan) -> Iterator[tuple[str, bool, bool]]:
    """Path of each file that belongs to it, whether it is needed, and whether the loader chooses by it. What our own
    lever holds the default with is no part of the state."""
    running = [entry for entry in plan.entries if entry.release == machine.running_kernel]
    for entry in ([plan.next] if plan.next is not None else []) + running[:1]:
        for path in _of(entry):
            yield path, entry is plan.next, False
    sources = [entry.source.partition(", line ")[0] for entry in plan.entries if not entry.embedded]
    for path in dict.fromkeys((*_STATE, *sources)):
        if machine.is_file(path) and not (path in steering.CUSTOM and steering.is_ours(machine.read(path))):
            yield path, False, True


def _of(entry: BootEntry) -> Iterator[str]:
    files = (entry.kernel, entry.devicetree, *entry.initramfs)
    yield from (file.path for file in files if file is not None and file.path is not None and not file.absent)


def _stamp(machine: Machine, path: str) -> tuple[int, ...]:
    status = machine.stat(path)
    if status is None:
        raise Missing(path)
    return status.st_mode, status.st_size, status.st_ino, status.st_dev, status.st_mtime_ns, status.st_ctime_ns


def changed(host: Host, draft: Draft) -> tuple[str, ...]:
    """The files that are not any more as they were read."""
    machine = Machine(host.machine.root, host.machine.live)
    found = []
    for path, stamp in draft.stamps.items():
        try:
            same = _stamp(machine, path) == stamp
        except SafeupdateError:
            same = False
        if not same:
            found.append(path)
    return tuple(found)


def space(host: Host, draft: Draft) -> tuple[Room, ...]:
    """What the copies take; nothing where there are none but texts."""
    known = _known_copies(host.machine)
    size = sum(one.size for one in draft.manifest.files if one.copied and one.sha256 not in known)
    left = host.machine.space(VAR) or host.machine.space("/var/lib")
    if left is None or size == 0:
        return ()
    why = f"The boot files that a snapshot does not hold take {size >> 20} MiB, and {_LEFT_FREE >> 20} MiB stay free."
    return (Room(f"the file system of {VAR}", left.available, size + _LEFT_FREE, why),)


def write(host: Host, draft: Draft) -> None:
    """The copies first, the manifest last. Raises `SnapshotError`, with nothing left."""
    manifest, machine = draft.manifest, host.machine
    known = _known_copies(machine)
    try:
        for file in manifest.files:
            if file.copied:
                _keep(host, manifest, file, known.get(file.sha256))
        host.write(_path(manifest.label.number), document.text(asdict(manifest)), mode=0o600)
    except (SafeupdateError, OSError) as error:
        remove(host, manifest.label.number)
        reason = error if isinstance(error, SafeupdateError) else os.strerror(error.errno or 0)
        raise SnapshotError(f"the boot files cannot be kept: {reason}") from None


def _known_copies(machine: Machine) -> dict[str, str]:
    """By checksum, where a copy with that content lies already."""
    found = {}
    for number in numbers(machine):
        with suppress(SafeupdateError):
            one = read(machine, number)
            found.update({file.sha256: one.copy_of(file) for file in one.files if file.copied} if one else {})
    return found


def _keep(host: Host, manifest: Manifest, file: File, known: str | None) -> None:
    from hashlib import sha256

    copy = manifest.copy_of(file)
    host.make_directory(os.path.dirname(copy))
    place = host.machine.host_path(copy, follow=False)
    if known is not None:
        # A copy of an earlier snapshot: the same blocks serve for both.
        with suppress(SafeupdateError, OSError):
            os.link(host.machine.host_path(known, follow=False), place, follow_symlinks=False)
            return
    digest = sha256()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with host.machine.open(file.path) as source, open(os.open(place, flags, 0o600), "wb") as target:
        while piece := source.read(_PIECE):
            digest.update(piece)
            target.write(piece)
        target.flush()
        os.fsync(target.fileno())
    if digest.hexdigest() != file.sha256:
        raise NotDone(file.path, "it changed while it was copied")


def numbers(machine: Machine) -> tuple[int, ...]:
    """The numbers that have a directory here, with a manifest or without."""
    return tuple(sorted(int(name) for name in machine.listdir(DIRECTORY) if name.isdecimal()))


def read(machine: Machine, number: int) -> Manifest | None:
    """The manifest of that number; None where there is none. Raises `Damaged` and `Unreadable`."""
    found = document.read(machine, _path(number), limit=_TEXT_LIMIT)
    if found is None:
        return None
    try:
        made = label(found["label"])
        files = tuple(_made(File, one) for one in found["files"])
        if made is None or made.number != number:
            raise ValueError
        return _made(Manifest, {**found, "label": made, "files": files})
    except (KeyError, TypeError, ValueError, AttributeError):
        raise Damaged(_path(number), "it is not what this program writes") from None


_Made = TypeVar("_Made", File, Manifest)


def _made(kind: type[_Made], found: Mapping[str, Any]) -> _Made:
    """The value with these fields. Raises `KeyError`, and `TypeError` for one that is of another kind."""
    values = {}
    for one in fields(kind):
        value, declared = found[one.name], str(one.type)
        if declared.startswith("str") and not (isinstance(value, str) or (value is None and "None" in declared)):
            raise TypeError(one.name)
        if declared in ("int", "bool") and type(value).__name__ != declared:
            raise TypeError(one.name)
        if declared == "tuple[str, ...]":
            if not all(isinstance(text, str) for text in value):
                raise TypeError(one.name)
            value = tuple(value)
        values[one.name] = value
    return kind(**values)


def remove(host: Host, number: int) -> None:
    """Forget the manifest, and its copies with it: the manifest first, so that no copy is missing from one that is
    there. Raises `NotDone`."""
    host.remove(_path(number))
    try:
        shutil.rmtree(host.machine.host_path(_directory(number), follow=False))
    except (Missing, FileNotFoundError):
        return
    except OSError as error:
        raise NotDone(_directory(number), os.strerror(error.errno or 0)) from None


def damaged_copies(machine: Machine, manifest: Manifest, files: Iterable[File]) -> tuple[str, ...]:
    """The copies, of those files, that are not what they were."""
    hasher, found = Hasher(machine), []
    for file in files:
        try:
            whole = hasher.file(manifest.copy_of(file)) == file.sha256
        except (Missing, Unreadable):
            whole = False
        if not whole:
            found.append(manifest.copy_of(file))
    return tuple(found)
