"""What there is to go back to: the back ends' snapshots and their manifests, brought together by their numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from safeupdate.errors import SafeupdateError
from safeupdate.gate import lock
from safeupdate.gate.host import RUN, Host
from safeupdate.snapshots import BACKENDS, manifest
from safeupdate.snapshots.backend import Backend, Label, Snapshot, SnapshotError
from safeupdate.snapshots.manifest import Manifest

LOCK = f"{RUN}/snapshots.lock"

UNDONE = f"{RUN}/undone"
"""The number that was gone back to, or half-way so, until the reboot: what runs is not the state that is to be kept."""

_SECONDS = 120
"""How long to wait for another run that takes or removes a snapshot: each takes seconds, on a busy disk a minute."""

State = Literal["whole", "unfinished", "gone"]


@dataclass(frozen=True)
class Kept:
    """One number. `unfinished`: what was to make it was cut off. `gone`: a manifest whose snapshot is not there any
    more, as somebody else removed it, or an undo used it up. `manifest` is None where it went back with /var, and for
    what cannot be read. `listed`: the back end knows of it, be it a label alone."""

    label: Label
    backend: Backend
    snapshot: Snapshot
    manifest: Manifest | None
    state: State
    listed: bool = True

    @property
    def adopted(self) -> bool:
        """Whether somebody else made it, whom it belongs to."""
        return self.manifest is not None and self.manifest.adopted is not None


@contextmanager
def alone(host: Host) -> Iterator[None]:
    """No other run that takes or removes one, until the end. Raises `SafeupdateError`."""
    with lock.held(host, LOCK, _SECONDS):
        yield


def find(host: Host, backends: Sequence[Backend] = BACKENDS) -> tuple[tuple[Kept, ...], tuple[str, ...]]:
    """All of them by number, and sentences on what could not be seen. A back end that does not answer says nothing
    about its snapshots: they are neither unfinished nor gone."""
    problems, found = [], {}
    manifests: dict[int, Manifest] = {}
    for number in manifest.numbers(host.machine):
        try:
            one = manifest.read(host.machine, number)
        except SafeupdateError as error:
            problems.append(f"{error}.")
            continue
        if one is not None:
            manifests[number] = one
    for backend in backends:
        try:
            listed = {snapshot.label.number: snapshot for snapshot in backend.list(host)}
        except SafeupdateError as error:
            problems.append(f"Which snapshots {backend.title} has cannot be seen: {error}.")
            continue
        for number, one in manifests.items():
            if one.backend == backend.name:
                adopted = () if one.adopted is None else (one.adopted,)
                snapshot = listed.get(number, Snapshot(one.label, adopted))
                found[number] = Kept(one.label, backend, snapshot, one, _state(snapshot, one), number in listed)
        for number, snapshot in listed.items():
            if number not in found:
                state: State = "whole" if snapshot.ids else "unfinished"
                found[number] = Kept(snapshot.label, backend, snapshot, None, state)
    return tuple(found[number] for number in sorted(found)), tuple(problems)


def _state(snapshot: Snapshot, manifest: Manifest) -> State:
    if manifest.adopted is None and len(snapshot.ids) < len(manifest.parts):
        return "unfinished" if snapshot.ids else "gone"
    return "whole"


def numbered(host: Host, number: int, backends: Sequence[Backend] = BACKENDS) -> Kept:
    """The one with this number. Raises `SnapshotError`."""
    every, problems = find(host, backends)
    for one in every:
        if one.label.number == number:
            return one
    hint = " ".join(problems) or "`safeupdate snapshot list` shows those that there are."
    raise SnapshotError(f"there is no snapshot {number}", hint)
