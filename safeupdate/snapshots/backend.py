"""What a back end is: one way to keep a state, in one file of `snapshots/`, and the values that it speaks in.

What every back end must keep to:

- **It looks, or it acts.** `detect`, `space`, `list` and `undo_plan` change nothing that lasts. `create` and `delete`
  act; `undo_plan` only says what would, and never runs it.
- **Programs** are started by `programs.output` and `programs.answer`, that is through `Host.run` with a time-out, and
  files of the machine are read through `Host.machine`. Where a program speaks JSON, that is read, and never its tables.
- **The label goes with the snapshot**, in whatever the back end has for it (userdata, tags, properties, a file beside
  it), so that `list` tells it again when /var has gone back with the root file system. Names are made of the number:
  `safeupdate-7`, `root_safeupdate_7`. By the label there is one of each kind for a kernel and a boot: who calls
  `create` has looked in `list` first, so that a back end need not, and a number is never given twice.
- **What is not ours is never touched.** Ours is what has our name *and* our label. `delete` looks again, right before
  it removes anything, whether it is that, and refuses everything else.
- **Killed at any point, nothing is left unmentioned.** The manifest, with all that `create` is to make
  (`Detected.parts`), is on the disk before `create` is called (`snapshots/manifest.py`). So `create` needs no record of
  its own if what it has made so far is found by `list`, with fewer `ids` than there are parts: that is told as
  unfinished, and `delete` must remove it. `delete` of what it has removed before, in part or all of it, is no error. A
  temporary mount is one of `programs.mounted`, which are found and undone by the next run.
- **Several parts** (root and /usr on logical volumes of their own) are made one right after the other, and where one
  fails those before it are removed again, before `SnapshotError` is raised.
- Figures are bytes, times RFC 3339 in UTC, sentences are whole and for a tired administrator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from safeupdate.errors import SafeupdateError
from safeupdate.gate.host import Host

Kind = Literal["pre-transaction", "pre-reboot", "by-hand"]
"""`pre-transaction`, taken before the package manager changed anything, undoes the update. `pre-reboot` holds the
update already: it undoes what the first boot with it changes. `by-hand` is whatever a person wanted to keep."""


class SnapshotError(SafeupdateError):
    """A snapshot could not be made, removed or found."""


@dataclass(frozen=True)
class Label:
    """What is written on a snapshot. `number` is ours, over all back ends. `kernel` is the release that was to start
    next, or that the transaction was to bring; `boot_id` the boot in which it was taken."""

    number: int
    kind: Kind
    kernel: str
    boot_id: str
    time: str

    def texts(self) -> dict[str, str]:
        """For what keeps names and values; `label` is the way back."""
        return {name: str(value) for name, value in asdict(self).items()}


def label(texts: Mapping[str, object]) -> Label | None:
    """The label with these texts; None where they are none of ours, as when a person took them away."""
    try:
        number, kind = int(str(texts["number"])), texts["kind"]
        kernel, boot_id, time = (str(texts[name]) for name in ("kernel", "boot_id", "time"))
    except (KeyError, ValueError):
        return None
    known = next((one for one in get_args(Kind) if one == kind), None)
    return Label(number, known, kernel, boot_id, time) if known is not None and number > 0 else None


@dataclass(frozen=True)
class Place:
    """One mount, or a subvolume below one that is not mounted by itself: `device` is `MAJOR:MINOR` of its file system,
    `root` the directory of that which is seen at `point`. Two places are the same only where both are. `why` is a
    sentence that says why it is not covered."""

    point: str
    device: str
    root: str
    why: str = ""


@dataclass(frozen=True)
class Effect:
    """Whether the machine would really start with what an undo puts back. `why` is a sentence that says why not, or by
    what it would."""

    takes_effect: bool
    why: str


@dataclass(frozen=True)
class Detected:
    """The back end can keep this machine's root file system.

    `words` name what it would act on (`the subvolume @ on /dev/vda2`). `parts` name what one `create` makes snapshots
    of, as many as it returns `ids`. `/` is among `covered`. `boot_returns` says whether an undo brings the files back
    that the boot loader reads in /boot; where it does not, a copy of them is kept (`snapshots/manifest.py`).
    """

    words: str
    parts: tuple[str, ...]
    covered: tuple[Place, ...]
    not_covered: tuple[Place, ...]
    undo: Effect
    boot_returns: bool


@dataclass(frozen=True)
class Unusable:
    """The back end cannot. `why` is a sentence, empty where the machine has nothing that it is made for; `hint` says
    what would have to be set up, where that is worth it."""

    why: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Room:
    """What a snapshot takes of one thing that can run out, in bytes: `free` is left, `needed` must be. `what` names it
    (`the data of the thin pool vg/pool`), `why` is the reason for the number needed, as a sentence."""

    what: str
    free: int
    needed: int
    why: str

    @property
    def is_enough(self) -> bool:
        """Whether it can bear a snapshot."""
        return self.free >= self.needed


@dataclass(frozen=True)
class Snapshot:
    """One that is there. `ids` are the back end's own names, one for each part that was found. `problem` is a sentence
    where it cannot be gone back to (it overflowed, it is being merged). `lost`: nor ever will be, and it only takes up
    room."""

    label: Label
    ids: tuple[str, ...]
    problem: str = ""
    lost: bool = False


@dataclass(frozen=True)
class Step:
    """One command of an undo, whole and to be run as root with no shell. `does` and `loses` are sentences; `seconds` is
    how long it may take. `tolerated` are exit codes besides 0 that are no failure."""

    command: tuple[str, ...]
    does: str
    loses: str = ""
    seconds: float = 60.0
    tolerated: tuple[int, ...] = ()


@dataclass(frozen=True)
class UndoPlan:
    """What puts a state back, in this order; a reboot follows. `stays` are sentences on what does not come back.
    `once`: the snapshot is gone afterwards. Where it does not take effect there may be no steps, and
    `effect.why` says what a person could do."""

    steps: tuple[Step, ...]
    effect: Effect
    loses: tuple[str, ...] = ()
    stays: tuple[str, ...] = ()
    once: bool = False


@dataclass(frozen=True)
class Backend:
    """All functions raise `SnapshotError`, or what `Host` raises, for what they could not do.

    `detect` answers in a second where the machine has nothing for it. `space` says what a snapshot takes: it is asked
    before each `create`, and where one `Room` is not enough none is made. `create` returns once the snapshot is on the
    disk. `list` has what is ours, whole or in part, in any order. `undo_plan` may rest on `detect`'s facts of now.

    `adopt` finds a snapshot that somebody else's hook made of the state before a transaction, at this time (RFC 3339)
    or later, as snapper's, Timeshift's and snapm's do: its id, or None; it is then not made twice. `undo_plan` takes it
    as any other, with our label; `delete` is never called for it.

    `slow`: it copies, and never runs within a package manager's hook. `opt_in`: only where the configuration names it
    (`snapshots.also`). `changes_root`: with the snapshot the root file system lies on something else than before
    (dm-snapshot), so that the checks are asked again, and it is removed where they fail then.
    """

    name: str
    title: str
    detect: Callable[[Host], Detected | Unusable]
    space: Callable[[Host], tuple[Room, ...]]
    create: Callable[[Host, Label], Snapshot]
    list: Callable[[Host], tuple[Snapshot, ...]]
    delete: Callable[[Host, Snapshot], None]
    undo_plan: Callable[[Host, Snapshot], UndoPlan]
    adopt: Callable[[Host, str], str | None] | None = None
    slow: bool = False
    opt_in: bool = False
    changes_root: bool = False
