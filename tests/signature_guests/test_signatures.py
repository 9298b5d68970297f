"""What the program says of signatures, beside what real guests did with them (docs/signatures-guests.md)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from safeupdate.rehearsal.hardware import CODE_SECURE_BOOT
from tests.signature_guests import cases, held_out
from tests.signature_guests.__main__ import BEFOREHAND, RESULTS, SETS, load, said, tables
from tests.signature_guests.guests import ask, confirmed
from tests.signature_guests.states import DELETING, DELETING_ALL, STATES, STORE, Said, State, of_modules
from tests.signature_guests.table import WITH_DIGEST, expected

KNOWN_MISSES: dict[tuple[str, str, str], str] = {}
"""Set, kind and case: where the program is known to be wrong, and why."""


_GUESTS = os.geteuid() == 0 and shutil.which("qemu-system-x86_64") is not None and os.path.exists(CODE_SECURE_BOOT)
_needs_guests = pytest.mark.skipif(not _GUESTS, reason="needs root, QEMU and OVMF")


def _cannot(name: str) -> str | None:
    return cases.available() or (held_out.available() if name == "held-out" else None)


def _misses(name: str, state: State, ours: dict[str, dict[str, Said]], did: dict[str, Any]) -> Iterator[str]:
    for kind in ours:
        for case, what in did[kind].items():
            one = ours[kind][case.removesuffix(WITH_DIGEST)]
            want = expected(asdict(one), with_digest=case.endswith(WITH_DIGEST))
            if (want == what["outcome"]) == ((name, kind, case) in KNOWN_MISSES):
                yield f"{state.name}, {case}: the program says {one.verdict} ({want}), and it {what['outcome']}: {what}"


@pytest.mark.machines
@pytest.mark.skipif(not os.path.exists(STORE), reason="needs OVMF")
@pytest.mark.parametrize("state", STATES, ids=lambda state: state.name)
@pytest.mark.parametrize("name", SETS)
def test_the_program_says_what_the_guests_did(name: str, state: State) -> None:
    did = load(RESULTS).get(name, {}).get(state.name)
    reason = "no guest was asked" if did is None else _cannot(name)
    if reason:
        pytest.skip(reason)
    made = SETS[name]()
    ours = said(state, made)
    assert set(ours["modules"]) == {case.removesuffix(WITH_DIGEST) for case in did["modules"]}
    assert set(ours["images"]) == set(did["images"])
    assert list(_misses(name, state, ours, did)) == []


def test_the_held_out_set_was_decided_before_it_was_shown() -> None:
    decided = load(BEFOREHAND)["held-out"]
    for state, did in load(RESULTS).get("held-out", {}).items():
        for kind in ("modules", "images"):
            assert {case.removesuffix(WITH_DIGEST) for case in did[kind]} == set(decided[state][kind])


def test_the_page_shows_what_was_recorded() -> None:
    page = Path(__file__).parents[2] / "docs/signatures-guests.md"
    assert tables().strip() in page.read_text(encoding="utf-8")


@pytest.mark.vm
@_needs_guests
@pytest.mark.parametrize("state", STATES, ids=lambda state: state.name)
@pytest.mark.parametrize("name", SETS)
def test_guests_do_what_was_recorded(name: str, state: State) -> None:
    did = load(RESULTS).get(name, {}).get(state.name)
    reason = "no guest was asked" if did is None else _cannot(name)
    if reason:
        pytest.skip(reason)
    answers = ask(state, SETS[name]())
    assert {case: one.outcome for case, one in answers.modules.items()} == _outcomes(did["modules"])
    assert {case: one.outcome for case, one in answers.images.items()} == _outcomes(did["images"])
    assert (answers.enforces, answers.lockdown) == (did["enforces"], did["lockdown"])


@pytest.mark.vm
@_needs_guests
def test_a_key_counts_after_a_person_confirmed_it() -> None:
    if reason := _cannot("known"):
        pytest.skip(reason)
    made = cases.known()
    state = next(state for state in STATES if state.pending)
    answers = confirmed(state, made)
    assert answers.modules["waiting-key.ko"].outcome == "loads"
    assert answers.modules["stranger.ko"].outcome == "refused"
    assert of_modules(state, made)["waiting-key.ko"].verdict == "pending-key"
    assert of_modules(state, made, answers.variables)["waiting-key.ko"] == Said("ok", "loads")


@pytest.mark.vm
@_needs_guests
@pytest.mark.parametrize(
    ("state", "gone"), [(DELETING, ["mok.ko"]), (DELETING_ALL, ["mok.ko", "mok-expired.ko"])], ids=["one", "all"]
)
def test_a_key_counts_until_a_person_confirmed_its_deletion(state: State, gone: list[str]) -> None:
    if reason := _cannot("known"):
        pytest.skip(reason)
    known = cases.known()
    names = ("vendor.ko", "mok.ko", "mok-expired.ko")
    made = replace(known, modules={name: known.modules[name] for name in names})
    before = of_modules(state, made)
    assert [name for name, one in before.items() if one.verdict == "ok, leaving"] == gone
    assert {one.outcome for one in ask(state, made).modules.values()} == {"loads"}
    answers = confirmed(state, made)
    assert [name for name, one in answers.modules.items() if one.outcome == "refused"] == gone
    after = of_modules(state, made, answers.variables)
    assert [name for name, one in after.items() if one.verdict == "unknown-key"] == gone


def _outcomes(did: dict[str, Any]) -> dict[str, str]:
    return {case: what["outcome"] for case, what in did.items()}
