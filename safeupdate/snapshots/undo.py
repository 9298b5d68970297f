"""Going back: one list of commands for this machine, to be read before it is run.

What the loader reads goes back around the back end's own steps: kernels that are missing come first, as they harm
nothing, and what the loader chooses by comes last, so that wherever it stops the machine has a kernel and a root file
system that fit together or the ones that it has now.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from safeupdate import kernels, steering
from safeupdate.boot import find_plan
from safeupdate.boot.plan import BootEntry
from safeupdate.errors import ProgramFailed, SafeupdateError
from safeupdate.fingerprint import Hasher
from safeupdate.gate import document
from safeupdate.gate.host import Host
from safeupdate.snapshots import kept, manifest, places
from safeupdate.snapshots.backend import Effect, SnapshotError, Step, UndoPlan, Unusable
from safeupdate.snapshots.kept import Kept
from safeupdate.snapshots.manifest import File, Manifest
from safeupdate.volumes import Volumes

PROGRESS = f"{manifest.DIRECTORY}/undo.json"
"""Which step of which undo was begun last."""

_COPY_SECONDS = 300.0
"""For 100 MB onto a slow SD card or stick, and their sync."""

_DATABASES = ("/var/lib/dpkg", "/usr/lib/sysimage/rpm", "/var/lib/rpm", "/var/lib/pacman")

_UNDOES = {
    "pre-transaction": "It was taken before a transaction of the package manager, and undoes that.",
    "pre-reboot": "It was taken after the update: it undoes what was changed since, and not the update.",
    "by-hand": "It was taken by hand, and undoes what was changed since.",
}


def plan(host: Host, one: Kept) -> UndoPlan:
    """All of it, the boot files with it. Raises `SafeupdateError`."""
    if one.state != "whole":
        raise SnapshotError(f"snapshot {one.label.number} is not whole, and cannot be gone back to")
    if one.snapshot.problem:
        raise SnapshotError(f"snapshot {one.label.number} cannot be gone back to: {one.snapshot.problem.rstrip('.')}")
    found = one.backend.undo_plan(host, one.snapshot)
    if not found.effect.takes_effect:
        return found
    detected = one.backend.detect(host)
    if isinstance(detected, Unusable):
        raise SnapshotError(f"{one.backend.title} cannot be used any more: {detected.why.rstrip('.')}", detected.hint)
    told = {sentence.split(" ", 1)[0] for sentence in found.stays}
    stays = [
        f"{place.why.rstrip('.')}, and stays as it is."
        for place in detected.not_covered
        if place.point not in told and not place.point.startswith("/boot")
    ]
    for path in filter(host.machine.exists, _DATABASES):
        lies = host.machine.resolve(path)
        if any(_below(lies, place.point) for place in detected.not_covered):
            stays.append(
                f"{path}, where the package manager has written what is installed, does not come back: it will take "
                "the old files for those of the new packages."
            )
    found = replace(found, stays=(*found.stays, *stays))
    if one.manifest is None and not detected.boot_returns:
        why = "What /boot held then is not known, as the manifest is not there: see that its kernels fit the old state."
        return replace(found, stays=(*found.stays, why))
    if one.manifest is None or one.manifest.boot_returns:
        return found
    return _with_boot(host, one.manifest, found)


def _below(path: str, directory: str) -> bool:
    return path == directory or path.startswith(f"{directory}/")


def _with_boot(host: Host, then: Manifest, found: UndoPlan) -> UndoPlan:
    hasher = Hasher(host.machine)
    differing = [file for file in then.files if file.copied and _now(hasher, file) != file.sha256]
    damaged = manifest.damaged_copies(host.machine, then, differing)
    if damaged:
        why = f"The copy {damaged[0]} is damaged: the old state would be started with boot files that do not fit it."
        return UndoPlan((), Effect(False, why))
    missing = [file for file in differing if not file.state and not host.machine.exists(file.path)]
    others = [file for file in differing if file not in missing]
    lacking = _lacking(host, missing)
    if lacking:
        return UndoPlan((), Effect(False, lacking))
    since = [one.release for one in kernels.installed(host.machine) if one.release not in then.releases]
    stays = [
        f"The kernel {release} came since. Its files stay in /boot, where nothing starts them; the old state has no "
        "modules for it, so remove them before its boot menu is written anew."
        for release in since
    ]
    before = [*_directories(host, differing), *(step for file in missing for step in _back(host, then, file))]
    plan = find_plan(host.machine, Volumes(host.machine), without=steering.read(host.machine))[1]
    after = [_aside(path) for path in newer(plan.entries, then)]
    after += [step for file in sorted(others, key=lambda file: file.state) for step in _back(host, then, file)]
    flushed = (Step(("sync",), "Waits until all of it is on the disk.", seconds=_COPY_SECONDS),)
    return replace(found, steps=(*before, *found.steps, *after, *flushed), stays=(*found.stays, *stays))


def newer(entries: Sequence[BootEntry], then: Manifest) -> tuple[str, ...]:
    """The files of entries that came since, each with a kernel that was not installed then: loaders take the newest."""
    known = {file.path for file in then.files}
    sources = [
        entry.source
        for entry in entries
        if entry.release is not None and entry.release not in then.releases and entry.source.endswith((".conf", ".efi"))
    ]
    return tuple(path for path in dict.fromkeys(sources) if path not in known)


def _aside(path: str) -> Step:
    return Step(("mv", "-fT", path, f"{path}.undone"), f"Sets {path} aside, which starts a kernel that came since.")


def _now(hasher: Hasher, file: File) -> str | None:
    try:
        return hasher.file(file.path)
    except SafeupdateError:
        return None


def _lacking(host: Host, missing: Sequence[File]) -> str:
    """The sentence where one of the file systems has no room for what is put back."""
    for directory in {posixpath.dirname(file.path) for file in missing}:
        space = host.machine.space(directory)
        needed = sum(file.size for file in missing if posixpath.dirname(file.path) == directory)
        if space is not None and space.free < needed:
            return (
                f"{directory} has {space.free >> 20} MiB free, and the kernels to be put back there need "
                f"{needed >> 20} MiB."
            )
    return ""


def _directories(host: Host, missing: Sequence[File]) -> Iterator[Step]:
    for directory in sorted({posixpath.dirname(file.path) for file in missing}):
        if not host.machine.is_dir(directory):
            yield Step(("mkdir", "-p", directory), f"Makes {directory}.")


def _back(host: Host, then: Manifest, file: File) -> Iterator[Step]:
    """The old file in its place, which holds the old or the new one whole at any moment."""
    mount = places.holding(host.machine, file.path)
    # FAT has no modes, and refuses to be given one.
    fat = mount is not None and mount.fstype in ("vfat", "msdos")
    put = ("cp", "--no-preserve=all") if fat else ("install", "-m", f"{file.mode:04o}")
    does = f"Puts {file.path} back as it was."
    if posixpath.basename(file.path) == "grubenv":
        # GRUB writes to its blocks, which must stay where they are.
        yield Step(("cp", "--no-preserve=all", then.copy_of(file), file.path), does, seconds=_COPY_SECONDS)
        return
    new = f"{file.path}.undo"
    yield Step((*put, then.copy_of(file), new), f"Copies what {file.path} was.", seconds=_COPY_SECONDS)
    yield Step(("mv", "-fT", new, file.path), does)


def describe(one: Kept, plan: UndoPlan) -> tuple[str, ...]:
    """What this undo is for, in sentences."""
    lines = [_UNDOES[one.label.kind], plan.effect.why]
    if plan.once:
        lines.append("The snapshot is used up by it: there is no second time.")
    return tuple(lines)


def execute(host: Host, one: Kept, plan: UndoPlan, tell: Callable[[str], None]) -> None:
    """Run the steps one by one, each written down before it is begun. Raises `SnapshotError` at the first that fails,
    with where it stands."""
    with kept.alone(host):
        for problem in host.record("undo-begun", f"The undo of snapshot {one.label.number} was begun."):
            tell(problem)
        host.write(kept.UNDONE, f"{one.label.number}\n".encode())
        for number, step in enumerate(plan.steps, 1):
            _progress(host, one, plan, number)
            tell(f"{number}/{len(plan.steps)} {' '.join(step.command)}")
            try:
                done = host.run(step.command, step.seconds)
                said = done.stderr.decode("utf-8", "replace").strip()
                problem = "" if done.code in (0, *step.tolerated) else f"it ended with {done.code}: {said}"
            except ProgramFailed as error:
                problem = str(error)
            if problem:
                raise _stopped(host, one, plan, number, problem)
        _progress(host, one, plan, len(plan.steps) + 1)
        host.record("undo-done", f"The undo of snapshot {one.label.number} was done; it counts from the reboot on.")


def _stopped(host: Host, one: Kept, plan: UndoPlan, number: int, problem: str) -> SnapshotError:
    done = f"{number - 1} of {len(plan.steps)} steps are done" if number > 1 else "nothing was changed"
    if number == 1:
        host.remove(kept.UNDONE)
    error = SnapshotError(
        f"step {number} failed ({problem}); {done}, and the rest is not begun",
        f"{PROGRESS} has the steps: go on with them by hand, or put back what was done.",
    )
    host.record("undo-stopped", f"The undo of snapshot {one.label.number} stopped: {error}.")
    return error


def _progress(host: Host, one: Kept, plan: UndoPlan, number: int) -> None:
    content = {
        "number": one.label.number,
        "time": host.time,
        "begun": number,
        "steps": [list(step.command) for step in plan.steps],
    }
    host.write(PROGRESS, document.text(content), mode=0o600)
