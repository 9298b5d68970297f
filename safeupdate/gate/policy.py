"""What is to be held back: from a verdict and what people said, to the position of the gate and of each lever.

Nothing here looks at the machine, or acts on it. `docs/gate.md` has the same as a table.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["safe", "unsafe", "unknown", "pending"]
"""`pending`: what boots next has changed, and was not judged since."""

Mode = Literal["armed", "observing"]
Move = Literal["closed", "open", "leave"]

UNATTENDED = frozenset({"reboot-required", "scheduled", "dnf-automatic"})
"""They hold what reboots by itself."""

PEOPLE = frozenset({"reboot-target", "molly-guard", "inhibitor"})
"""They hold what a person at a prompt would start, and machines with it."""

STEERING = frozenset({"boot-default"})
"""They hold nothing back: a reboot that comes all the same goes to the fallback."""

LEVERS = UNATTENDED | PEOPLE | STEERING

LOADERS = frozenset({"grub", "systemd-boot"})
"""Loaders whose next entry is understood, so that a verdict is about what really starts."""


@dataclass(frozen=True)
class Evidence:
    """What arms the gate. `judged_safe`: this program has judged the boot that is running `safe`, with the files that
    it was started with. `confirmed`: that boot is known to have come up. `before`: the mode so far, over reboots."""

    loader: str | None
    judged_safe: bool
    confirmed: bool
    before: Mode = "observing"


def mode(evidence: Evidence) -> Mode:
    """Whether the gate acts. A program that calls a machine broken that is running well is to hold nothing there.

    Until a boot has come up nothing can be said about it: then all stays as it was before the reboot.
    """
    if evidence.loader not in LOADERS:
        return "observing"
    if evidence.judged_safe:
        return "armed"
    return "observing" if evidence.confirmed else evidence.before


@dataclass(frozen=True)
class Situation:
    """`allowed`, `rejected`: what a person said about this very state, and about this kernel (None: not known).
    `held`: the loader's default is held on the fallback. `shut`: people were held back when this change came, and
    nothing was judged since. `attended_only`: a reboot with a person at the console mends every blocker. `fallback`:
    there is another kernel to go to; `had_fallback`: there was one before the update. `skipped`: essential checks are
    not asked here. `unprotected`: there is no snapshot, which the configuration requires. `wanted`: what an unattended
    reboot asks for (`[gate] unattended`).
    """

    verdict: Verdict
    mode: Mode
    allowed: bool = False
    rejected: bool | None = False
    held: bool = False
    shut: bool = False
    attended_only: bool = False
    fallback: bool = False
    had_fallback: bool = False
    skipped: bool = False
    unprotected: bool = False
    offline_update: bool = False
    wanted: Collection[str] = ("safe", "fallback")


Cause = Literal[
    "safe",
    "unsafe",
    "unknown",
    "pending",
    "allowed",
    "rejected",
    "rejected-held",
    "no-fallback",
    "no-snapshot",
    "skipped",
]


@dataclass(frozen=True)
class Wanted:
    """`unattended` and `people`: whether a reboot that a machine, or a person, starts would be let through, in either
    mode, for whoever asks first. `cause` is what decided. `levers` has every lever by its name."""

    unattended: bool
    people: bool
    cause: Cause
    levers: dict[str, Move]


def decide(situation: Situation) -> Wanted:
    """The one place where it is decided what is held back."""
    cause = _cause(situation)
    unattended = cause in ("safe", "allowed", "rejected-held") or (
        cause in ("unknown", "pending") and "safe" not in situation.wanted
    )
    people = cause != "unsafe" or situation.attended_only
    if cause == "pending" and situation.shut:
        people = unattended = False
    levers: dict[str, Move] = dict.fromkeys(UNATTENDED, "open" if unattended else "closed")
    for name in PEOPLE:
        levers[name] = "open" if people and cause != "pending" else "closed" if cause == "unsafe" else "leave"
    for name in STEERING:
        levers[name] = _steering(situation, cause)
    if situation.mode == "observing":
        levers = dict.fromkeys(LEVERS, "open")
        if situation.rejected:  # that is a person's wish, and no verdict
            levers.update((name, _steering(situation, cause)) for name in STEERING)
    if situation.offline_update:
        # Such an update has stopped all services: its own reboot is the only way out (systemd.offline-updates(7)).
        levers.update((name, "open") for name in PEOPLE)
    return Wanted(unattended, people, cause, levers)


def _cause(situation: Situation) -> Cause:
    if situation.allowed:
        return "allowed"
    if situation.rejected and situation.verdict != "pending":
        if situation.held and situation.fallback:
            return "rejected-held"
        return "unsafe" if situation.verdict == "unsafe" else "rejected"
    if situation.verdict != "safe":
        return situation.verdict
    if "fallback" in situation.wanted and situation.had_fallback and not situation.fallback:
        return "no-fallback"
    if situation.unprotected:
        return "no-snapshot"
    return "skipped" if situation.skipped else "safe"


def _steering(situation: Situation, cause: Cause) -> Move:
    if cause == "pending":
        return "leave"  # what was held for a kernel that does not boot stays held until it is judged anew
    if cause == "unsafe" or situation.rejected:
        return "closed" if situation.fallback else "leave"
    return "open" if situation.rejected is not None else "leave"
