"""The policy, held against its rules in every situation that there is, and against the table of docs/gate.md."""

from __future__ import annotations

import itertools
from dataclasses import fields, replace
from typing import Any, get_args

import pytest

from safeupdate.gate import policy
from safeupdate.gate.policy import (
    LEVERS,
    PEOPLE,
    STEERING,
    UNATTENDED,
    Evidence,
    Mode,
    Situation,
    Verdict,
    decide,
    mode,
)

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
MODES: tuple[Mode, ...] = get_args(Mode)
ARMED = Situation("safe", "armed", fallback=True, had_fallback=True)
BOTH = (False, True)
FACTS: dict[str, tuple[Any, ...]] = {
    "verdict": VERDICTS,
    "mode": MODES,
    "rejected": (False, True, None),
    **{one.name: BOTH for one in fields(Situation) if one.name not in ("verdict", "mode", "rejected", "wanted")},
    "wanted": (("safe", "fallback"), ("safe",), ("fallback",), ()),
}
EVERY = [Situation(**dict(zip(FACTS, values))) for values in itertools.product(*FACTS.values())]


def moves(situation: Situation, names: frozenset[str]) -> set[str]:
    return {decide(situation).levers[name] for name in names}


@pytest.mark.parametrize(
    ("verdict", "unattended", "people", "steering"),
    [
        # as it is after a safe verdict, and nothing was shut: `leave` is then as good as `open`
        ("safe", {"open"}, {"open"}, {"open"}),
        ("unsafe", {"closed"}, {"closed"}, {"closed"}),
        ("unknown", {"closed"}, {"open"}, {"open"}),
        ("pending", {"closed"}, {"leave"}, {"leave"}),
    ],
)
def test_the_table(verdict: Verdict, unattended: set[str], people: set[str], steering: set[str]) -> None:
    situation = replace(ARMED, verdict=verdict)
    assert (moves(situation, UNATTENDED), moves(situation, PEOPLE), moves(situation, STEERING)) == (
        unattended,
        people,
        steering,
    )
    allowed = decide(replace(situation, allowed=True))
    assert set(allowed.levers.values()) == ({"open"})
    assert allowed.people and allowed.unattended


def test_every_lever_has_its_place_in_every_situation() -> None:
    for situation in EVERY:
        assert decide(situation).levers.keys() == LEVERS


def test_nothing_is_ever_closed_for_people_but_by_an_unsafe_verdict() -> None:
    for situation in EVERY:
        wanted = decide(situation)
        closed = "closed" in {wanted.levers[name] for name in PEOPLE}
        assert not closed or (situation.verdict == "unsafe" and not situation.allowed and not situation.attended_only)
        if not wanted.people:
            assert situation.verdict == "unsafe" or (situation.verdict == "pending" and situation.shut)


def test_a_machine_never_reboots_by_itself_into_what_is_not_safe_unless_a_person_said_so() -> None:
    for situation in EVERY:
        wanted = decide(situation)
        if wanted.unattended and not situation.allowed and "safe" in situation.wanted:
            on_fallback = bool(situation.rejected) and situation.held and situation.fallback
            assert situation.verdict == "safe" or (on_fallback and situation.verdict != "pending")
        if wanted.unattended and situation.verdict == "unsafe":
            assert situation.allowed or (situation.rejected and situation.held)


def test_armed_every_reboot_without_a_person_is_held_exactly_where_it_is_not_let_through() -> None:
    for situation in EVERY:
        wanted = decide(situation)
        if situation.mode == "armed":
            assert {wanted.levers[name] for name in UNATTENDED} == {"open" if wanted.unattended else "closed"}


def test_a_permission_opens_everything_but_the_hold_that_a_person_wished_for() -> None:
    for situation in EVERY:
        if situation.allowed:
            wanted = decide(situation)
            assert wanted.people
            assert wanted.unattended
            assert {wanted.levers[name] for name in UNATTENDED | PEOPLE} == {"open"}
            if situation.rejected is False:
                assert {wanted.levers[name] for name in STEERING} == {"open"}


def test_observing_nothing_is_held_but_what_a_person_wished_for() -> None:
    for situation in EVERY:
        if situation.mode == "observing":
            wanted = decide(situation)
            assert {wanted.levers[name] for name in UNATTENDED | PEOPLE} == {"open"}
            if situation.rejected is False:
                assert {wanted.levers[name] for name in STEERING} == {"open"}
            # Who asks gets the same answer in both modes.
            armed = decide(replace(situation, mode="armed"))
            assert (armed.people, armed.unattended, armed.cause) == (wanted.people, wanted.unattended, wanted.cause)


def test_an_offline_update_finds_nothing_masked() -> None:
    for situation in EVERY:
        if situation.offline_update:
            assert moves(situation, PEOPLE) == {"open"}


def test_what_is_pending_opens_nothing_that_holds_for_a_broken_kernel() -> None:
    for situation in EVERY:
        if situation.verdict == "pending" and situation.mode == "armed" and not situation.allowed:
            wanted = decide(situation)
            assert {wanted.levers[name] for name in STEERING} == {"leave"}
            if not situation.offline_update:
                assert {wanted.levers[name] for name in PEOPLE} == {"leave"}
            if situation.shut:
                assert not wanted.people
                assert not wanted.unattended


def test_the_default_is_held_only_where_there_is_something_to_hold_it_on() -> None:
    for situation in EVERY:
        for name in STEERING:
            if decide(situation).levers[name] == "closed":
                assert situation.fallback


def test_the_default_is_held_on_the_fallback_for_what_is_broken_or_not_wanted() -> None:
    for situation in EVERY:
        broken = situation.verdict == "unsafe" and situation.mode == "armed" and not situation.allowed
        if situation.fallback and situation.verdict != "pending" and (broken or situation.rejected):
            assert moves(situation, STEERING) == {"closed"}


def test_an_attended_reboot_is_left_open_for_what_it_mends() -> None:
    situation = replace(ARMED, verdict="unsafe", attended_only=True)
    wanted = decide(situation)
    assert wanted.people
    assert not wanted.unattended
    assert (moves(situation, UNATTENDED), moves(situation, PEOPLE)) == ({"closed"}, {"open"})


@pytest.mark.parametrize(
    ("had", "has", "wanted", "cause"),
    [
        (True, True, ("safe", "fallback"), "safe"),
        (True, False, ("safe", "fallback"), "no-fallback"),
        (False, False, ("safe", "fallback"), "safe"),
        (True, False, ("safe",), "safe"),
    ],
)
def test_a_machine_that_had_a_fallback_needs_one(had: bool, has: bool, wanted: tuple[str, ...], cause: str) -> None:
    situation = replace(ARMED, had_fallback=had, fallback=has, wanted=wanted)
    assert decide(situation).cause == cause
    assert decide(situation).unattended == (cause == "safe")
    assert decide(situation).people


def test_what_is_asked_of_a_reboot_without_a_person_can_be_less() -> None:
    for verdict in VERDICTS:
        assert decide(replace(ARMED, verdict=verdict, wanted=())).unattended == (verdict != "unsafe")


# -- armed or observing ----------------------------------------------------------------------------------------


def test_what_arms_it() -> None:
    for loader, judged, confirmed, before in itertools.product(
        ("grub", "systemd-boot", "Windows", None), BOTH, BOTH, MODES
    ):
        found = mode(Evidence(loader, judged, confirmed, before))
        if loader not in policy.LOADERS:
            assert found == "observing"
        elif judged:
            assert found == "armed"
        elif confirmed:
            assert found == "observing"
        else:
            assert found == before
