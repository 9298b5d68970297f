"""Taking a snapshot, and removing those that are of no use any more.

The way of each: what could hold it is looked for, the room is measured, the manifest with the boot files is written,
the snapshot is taken, and the boot files are looked at again. Wherever that is cut off, the next run finds a manifest
whose snapshot is missing or not whole, removes the rest and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from safeupdate.errors import SafeupdateError
from safeupdate.gate import need, state, systemd
from safeupdate.gate.host import RUN, VAR, Host
from safeupdate.ledger import reading
from safeupdate.report import rfc3339
from safeupdate.snapshots import BACKENDS, kept, manifest, programs
from safeupdate.snapshots.backend import Backend, Detected, Effect, Kind, Label, Room, Snapshot, SnapshotError
from safeupdate.snapshots.kept import Kept

if TYPE_CHECKING:
    from safeupdate.config import SnapshotSettings
    from safeupdate.report import Report

_TOLD = f"{VAR}/snapshots/told"
"""What was said last about a machine on which no snapshot can be taken, so that it is said once."""

_TRIES = 2
"""A package manager may be writing /boot while it is read: then once more."""

_FEW = 16 << 20
"""Bytes below which KiB tell more: the metadata of a small pool."""

_ADOPTED_WITHIN = timedelta(minutes=10)
"""A snapshot that another hook made just before ours runs is of this transaction; between both lies the questions that
a package manager asks, and what it downloads is downloaded before."""


UNIT = "safeupdate-snapshot.service"
"""What is started apart where a back end copies for minutes; it settles when it is done."""

_APART = f"{RUN}/snapshot-apart"
"""There from the start of that to its end, so that it is still there after one that was killed: moment, kernel, and how
often it was begun, between spaces. Only where it is there systemd is asked whether it runs."""

_BEGINNINGS = 2
"""What was killed once may have been in somebody's way; what was killed twice is killed again."""

_AGAIN = "`safeupdate settle --force` tries again."


class Unfit(SnapshotError):
    """What starts next does not fit together, or would not with the snapshot: whatever the policy, nothing is to reboot
    into that by itself."""


class CutOff(SnapshotError):
    """What copies it apart was killed each time."""


class Slow(SnapshotError):
    """It would be copied for minutes, and who asked does not wait."""


@dataclass(frozen=True)
class Taken:
    """What became of it. `told` are sentences. `holds` are those that say why the gate must stay closed, empty where it
    need not."""

    snapshot: Snapshot | None = None
    told: tuple[str, ...] = ()
    holds: str = ""


def before_reboot(
    host: Host,
    report: Report,
    settings: SnapshotSettings,
    look: Callable[[], Report],
    *,
    backends: Sequence[Backend] = BACKENDS,
    waits: bool = False,
) -> Taken:
    """The snapshot of the state that is to be rebooted, after a verdict that lets it; where nothing asks for a reboot
    none is taken, and only what is too old goes. For `settle`. `look` judges the machine again, where the root file
    system lies on something else with the snapshot than without. `waits`: as in `take`; else one that is copied for
    minutes is begun apart, and the gate waits for it."""
    is_needed = True
    with suppress(SafeupdateError):
        gate = state.read(host.machine)
        if gate is not None:
            now = replace(gate, judged=replace(gate.judged, kernel=report.target.kernel))
            is_needed = need.reboot_needed(host.machine, now) is not None
    if is_needed:
        taken = _by_policy(host, "pre-reboot", report.target.kernel, settings, look, backends, waits=waits)
    else:
        taken = Taken(None, _too_old(host, settings, backends))
    if waits:  # it came to its end, whatever that is
        with suppress(SafeupdateError):
            host.remove(_APART)
    return taken


def before_transaction(
    host: Host,
    kernel: str | None,
    settings: SnapshotSettings,
    look: Callable[[], Report],
    *,
    backends: Sequence[Backend] = BACKENDS,
) -> Taken:
    """The snapshot of the state that a package manager is about to change; `kernel` is the release that it brings, None
    where it brings none. For the hooks; never slow."""
    return _by_policy(host, "pre-transaction", kernel, settings, look, backends)


def spoiled(host: Host, kernel: str | None = None, *, backends: Sequence[Backend] = BACKENDS) -> str:
    """Why there is nothing to go back to any more of what was taken for this reboot (into this kernel, where one is
    named), as a sentence: a snapshot with room of its own may have overflowed since, and any may have been removed.
    Empty where one is good, or none was taken. Only back ends that have taken one for it are asked, and so no program
    is run where there is none. Raises `SafeupdateError`."""
    boot_id = reading.boot_id(host.machine)

    def is_for_it(label: Label) -> bool:
        return (label.kind, label.boot_id) == ("pre-reboot", boot_id) and kernel in (None, label.kernel)

    asked = set()
    for number in manifest.numbers(host.machine):
        with suppress(SafeupdateError):
            one = manifest.read(host.machine, number)
            asked |= {one.backend} if one is not None and is_for_it(one.label) else set()
    if not asked or host.machine.exists(kept.UNDONE):
        return ""
    every = kept.find(host, [backend for backend in backends if backend.name in asked])[0]
    ours = [one for one in every if is_for_it(one.label)]
    if not ours or any(one.state == "whole" and not one.snapshot.problem for one in ours):
        return ""
    last = ours[-1]
    why = last.snapshot.problem or ("Somebody removed it." if last.state == "gone" else "It is not whole.")
    # The number is given again to the next one, which may be lost in turn.
    return f"Snapshot {last.label.number} of {last.label.time}, taken for this reboot, cannot be gone back to: {why}"


def _by_policy(
    host: Host,
    kind: Kind,
    kernel: str | None,
    settings: SnapshotSettings,
    look: Callable[[], Report],
    backends: Sequence[Backend],
    *,
    waits: bool = False,
) -> Taken:
    if settings.policy == "off" or host.machine.exists(kept.UNDONE):
        return Taken()
    told: list[str] = []
    try:
        if not waits and (since := apart(host)):
            return Taken(None, (), is_copied(since))
        try:
            snapshot = take(host, kind, kernel, settings, told, look, backends=backends, waits=waits)
        except Slow:
            if kind != "pre-reboot":
                raise
            since = _begun_apart(host, kernel, told)
            return Taken(None, tuple(told), is_copied(since))
        if settings.policy == "required":
            effect = choose(host, settings, backends)[1].undo
            if not effect.takes_effect:
                why = _no_effect(snapshot, effect)
                return Taken(snapshot, tuple(one for one in told if one != why), f"{why} {_AGAIN}")
        return Taken(snapshot, tuple(told))
    except SafeupdateError as error:
        why = f"There is no snapshot to go back to: {error}. {error.hint}".strip()
        if settings.policy == "required" or isinstance(error, Unfit):
            return Taken(None, tuple(told), why if isinstance(error, CutOff) else f"{why} {_AGAIN}")
        return Taken(None, (*told, *_once(host, why)))


def _no_effect(snapshot: Snapshot, effect: Effect) -> str:
    return f"To go back to snapshot {snapshot.label.number} would not take effect. {effect.why}"


def apart(host: Host) -> str:
    """Since when one is being copied apart from all that waits for it; empty where none is."""
    begun = (host.machine.text(_APART) or "").partition(" ")[0]
    # One that is told to stop holds its locks until it has.
    runs = begun and systemd.show(host, UNIT, "ActiveState").get("ActiveState") not in ("inactive", "failed", None)
    return begun if runs else ""


def _begun_apart(host: Host, kernel: str | None, told: list[str]) -> str:
    """Have it copied by a run of its own, which `_create` of `safeupdate snapshot` is; returns since when. One that was
    killed is told, and begun again. Raises `CutOff` where that was done before, and `SafeupdateError`."""
    before, _, rest = (host.machine.text(_APART) or "").partition(" ")
    known, _, times = rest.partition(" ")
    done = int(times) if known == (kernel or "-") and times.isdecimal() else 0
    if done >= _BEGINNINGS:
        raise CutOff(
            f"it is copied by {UNIT}, which was begun {done} times and ended before it was done, the last begun at "
            f"{before}",
            f"`journalctl -u {UNIT}` may show why; `safeupdate snapshot create --kind=pre-reboot` does it while you "
            "wait.",
        )
    if done:
        told.append(f"{UNIT}, begun at {before} to copy this system, ended before it was done, and is begun again.")
    host.write(_APART, f"{host.time} {kernel or '-'} {done + 1}".encode())
    create = ("/usr/bin/safeupdate", "snapshot", "create", "--kind=pre-reboot")
    try:
        programs.output(host, ("systemd-run", f"--unit={UNIT}", "--collect", "--nice=10", *create))
    except SafeupdateError:
        host.remove(_APART)
        raise
    return host.time


def is_copied(since: str) -> str:
    """The sentence on that."""
    return (
        f"This system is being copied since {since}, to have something to go back to; that takes minutes, and the gate "
        f"is set anew when it is done. `journalctl -u {UNIT}` shows what became of it."
    )


def _too_old(host: Host, settings: SnapshotSettings, backends: Sequence[Backend]) -> tuple[str, ...]:
    """What is to be said of the removal of those beyond the age that is kept; their manifests alone are read first."""
    told: list[str] = []
    oldest = rfc3339(host.now() - timedelta(days=settings.keep_days))
    with suppress(SafeupdateError):
        every = [manifest.read(host.machine, number) for number in manifest.numbers(host.machine)]
        old = [one for one in every if one and one.label.kind != "by-hand" and one.label.time < oldest]
        if old and not host.machine.exists(kept.UNDONE) and not apart(host):
            with kept.alone(host):
                prune(host, settings, told, backends)
    return tuple(told)


def _once(host: Host, sentence: str) -> tuple[str, ...]:
    with suppress(SafeupdateError):
        if host.machine.read_if_there(_TOLD) == sentence.encode("utf-8", "replace"):
            return ()
        host.write(_TOLD, sentence.encode("utf-8", "replace"), mode=0o600)
    return (sentence,)


def take(
    host: Host,
    kind: Kind,
    kernel: str | None,
    settings: SnapshotSettings,
    told: list[str],
    look: Callable[[], Report],
    *,
    backends: Sequence[Backend] = BACKENDS,
    waits: bool = True,
) -> Snapshot:
    """The snapshot of this kind for this kernel and boot: the one that is there, or a new one. Sentences on the way go
    to `told`. `look` judges the machine, with a new one that changes what the root file system lies on. `waits`: a back
    end that copies for minutes may be used. Raises `SafeupdateError`."""
    if host.machine.exists(kept.UNDONE):
        raise SnapshotError("an undo was begun, and waits for the reboot")
    with kept.alone(host):
        every = _tidied(host, told, backends)
        boot_id = reading.boot_id(host.machine) or ""
        kernel = kernel or host.machine.running_kernel or ""
        for one in every if kind != "by-hand" else ():
            found = one.label
            same = (found.kind, found.kernel, found.boot_id) == (kind, kernel, boot_id)
            if same and one.state == "whole" and not one.snapshot.problem:
                return one.snapshot
        backend, detected = choose(host, settings, backends)
        number = 1 + max([*(one.label.number for one in every), *manifest.numbers(host.machine)], default=0)
        label = Label(number, kind, kernel, boot_id, host.time)
        adopted = None
        if kind == "pre-transaction" and backend.adopt is not None:
            adopted = backend.adopt(host, rfc3339(host.now() - _ADOPTED_WITHIN))
        if adopted is None and backend.slow and not waits:
            raise Slow(
                f"{backend.title} copies for minutes, and is not started from here",
                "`safeupdate snapshot create` does it.",
            )
        before = look() if backend.changes_root and adopted is None else None
        snapshot = _made(host, backend, detected, label, adopted)
        if before is not None:
            _proven(host, backend, snapshot, before, look)
        told.append(f"Snapshot {number} ({backend.title}, {kind}) was {'adopted' if adopted else 'taken'}.")
        host.record("snapshot-taken", told[-1])
        if not detected.undo.takes_effect:
            told.append(_no_effect(snapshot, detected.undo))
        with suppress(SafeupdateError):
            prune(host, settings, told, backends)
        return snapshot


def choose(host: Host, settings: SnapshotSettings, backends: Sequence[Backend] = BACKENDS) -> tuple[Backend, Detected]:
    """The first back end that can keep this machine's root file system. Raises `SnapshotError`, which says of each that
    this machine has something for why it cannot."""
    if host.machine.exists("/run/ostree-booted"):
        raise SnapshotError(
            "this system is an image that goes back by itself", "`rpm-ostree rollback` or `bootc rollback` does it."
        )
    reasons, hints = [], []
    for backend in backends:
        if backend.opt_in and backend.name not in settings.also:
            continue
        found = backend.detect(host)
        if isinstance(found, Detected):
            return backend, found
        reasons += [found.why] if found.why else []
        hints += [found.hint] if found.hint else []
    if not reasons:
        reasons = ["nothing here can take one (btrfs, LVM with a thin pool, ZFS, Timeshift)"]
    raise SnapshotError(" ".join(reasons).rstrip("."), " ".join(hints))


def _made(host: Host, backend: Backend, detected: Detected, label: Label, adopted: str | None) -> Snapshot:
    touched: tuple[str, ...] = ()
    for _ in range(_TRIES):
        draft = manifest.draft(
            host, label, backend.name, detected.parts, boot_returns=detected.boot_returns, adopted=adopted
        )
        if draft.disagreements:
            raise Unfit(" ".join(draft.disagreements).rstrip("."))
        _refuse_without_room((*(() if adopted else backend.space(host)), *manifest.space(host, draft)))
        manifest.write(host, draft)
        try:
            snapshot = backend.create(host, label) if adopted is None else Snapshot(label, (adopted,))
        except SafeupdateError:
            with suppress(SafeupdateError):
                _remove(host, kept.numbered(host, label.number, (backend,)))
            raise
        touched = manifest.changed(host, draft)
        if not touched:
            return snapshot
        _remove(host, kept.numbered(host, label.number, (backend,)))
    raise Unfit(f"{', '.join(touched)} changed while the snapshot was taken")


def _proven(host: Host, backend: Backend, snapshot: Snapshot, before: Report, look: Callable[[], Report]) -> None:
    """With this snapshot the next boot must find its root all the same, and so must the fallback; else it is removed.
    Raises `Unfit`."""
    try:
        report = look()
        why = "" if report.verdict == "safe" else f"with it the verdict is {report.verdict}"
        if not why and report.fallback.quality == "none" != before.fallback.quality:
            why = f"with it {before.fallback.kernel}, the fallback, would not come up"
    except SafeupdateError as error:
        why = f"with it the machine cannot be judged: {error}"
    if not why:
        return
    became = "is removed"
    try:
        _remove(host, kept.numbered(host, snapshot.label.number, (backend,)))
    except SafeupdateError as error:
        became = f"cannot be removed ({error}), and must be"
    hint = f'Without "{backend.name}" in `also` of [snapshots] none is tried.'
    raise Unfit(f"the snapshot that {backend.title} made {became}, as {why}", hint)


def _refuse_without_room(rooms: Sequence[Room]) -> None:
    lacking = [
        f"{room.what} has {_amount(room.free)} free, and {_amount(room.needed)} are needed ({room.why.rstrip('.')})"
        for room in rooms
        if not room.is_enough
    ]
    if lacking:
        raise SnapshotError("; ".join(lacking), "`safeupdate snapshot list` shows what could be removed.")


def _amount(size: int) -> str:
    return f"{size >> 20} MiB" if size >= _FEW else f"{size >> 10} KiB"


def _tidied(host: Host, told: list[str], backends: Sequence[Backend]) -> list[Kept]:
    """What is left when what was cut off, or is gone, is removed."""
    every, problems = kept.find(host, backends)
    told += problems
    whole = []
    for one in every:
        number = one.label.number
        if one.state == "whole" and not (one.snapshot.lost and one.label.kind != "by-hand"):
            whole.append(one)
            continue
        what = {
            "unfinished": "was not finished",
            "gone": "was never made, or somebody removed it",
            "whole": "overflowed",
        }[one.state]
        try:
            _remove(host, one)
            told.append(f"Snapshot {number} of {one.label.time} {what}; what is left of it is removed.")
            host.record("snapshot-removed", told[-1])
        except SafeupdateError as error:
            told.append(f"Snapshot {number} of {one.label.time} {what}, and cannot be removed: {error}.")
            whole.append(one)
    known = {one.label.number for one in every}
    for number in manifest.numbers(host.machine):
        # No manifest, so no snapshot was begun; one that cannot be read is left for a person.
        if number not in known and not host.machine.exists(f"{manifest.DIRECTORY}/{number}/manifest.json"):
            manifest.remove(host, number)
            told.append(f"Snapshot {number} was not begun; the boot files copied for it are removed.")
    return whole


def prune(host: Host, settings: SnapshotSettings, told: list[str], backends: Sequence[Backend] = BACKENDS) -> None:
    """Remove ours beyond the age that is kept, and beyond the number, of these never the newest of a kind."""
    every = [one for one in kept.find(host, backends)[0] if one.state == "whole" and one.label.kind != "by-hand"]
    newest = {one.label.kind: one.label.number for one in every}
    oldest = rfc3339(host.now() - timedelta(days=settings.keep_days))
    surplus = len(every) - settings.keep
    for one in every:
        number = one.label.number
        is_old = one.label.time < oldest
        if is_old or (surplus > 0 and number != newest[one.label.kind]):
            try:
                remove(host, one)
            except SafeupdateError as error:
                told.append(f"Snapshot {number} of {one.label.time} cannot be removed: {error}.")
                continue
            surplus -= 1
            why = "it is old" if is_old else "there are newer ones"
            told.append(f"Snapshot {number} of {one.label.time} was removed, as {why}.")


def remove(host: Host, one: Kept) -> None:
    """Remove a snapshot of ours, or forget one that was adopted; that is recorded before. Raises `SafeupdateError`."""
    host.record("snapshot-removed", f"Snapshot {one.label.number} of {one.label.time} is being removed.")
    _remove(host, one)


def _remove(host: Host, one: Kept) -> None:
    if one.listed and not one.adopted:
        one.backend.delete(host, one.snapshot)
    manifest.remove(host, one.label.number)
