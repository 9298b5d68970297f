"""Runs scenarios, several guests at once, and writes down each as it ends: a run that is killed goes on from there."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from tests.lab import results, saved
from tests.lab.perform import perform
from tests.lab.results import Row
from tests.lab.scenario import Scenario

TYPICAL = 180
"""Seconds for a scenario that was never run."""


def run(
    scenarios: Sequence[Scenario], file: str, *, program: str, guests: int, again: bool, keep: bool
) -> dict[str, Row]:
    """Run what was not run since it, its machine or the program changed; return the rows of these scenarios.

    `program` is the checkout that is asked. Every row of the file stays, those of other scenarios too. Raises
    `LabError` where a machine cannot be made.
    """
    rows = results.load(file)
    # The machines first, and here: their mounts are for this thread alone.
    states = {base: saved.state(base, program) for base in {scenario.base: None for scenario in scenarios}}
    identities = {scenario.name: f"{scenario.identity} {states[scenario.base].identity}" for scenario in scenarios}
    waiting = {
        scenario.name: scenario
        for scenario in scenarios
        if again or not _is_done(rows.get(scenario.name), identities[scenario.name])
    }
    print(f"lab: {len(waiting)} scenarios to run, {len(scenarios) - len(waiting)} were run before", flush=True)
    typical = {name: _seconds(row) if name in rows else TYPICAL for name, row in rows.items()}
    left = sum(typical.get(name, TYPICAL) for name in waiting)
    count = len(waiting)
    with ThreadPoolExecutor(guests) as pool:
        # The longest first, so that none is left to run alone.
        order = sorted(waiting, key=lambda name: -typical.get(name, TYPICAL))
        running = {pool.submit(perform, waiting[name], states[waiting[name].base], keep=keep): name for name in order}
        for number, ended in enumerate(as_completed(running), 1):
            name = running[ended]
            rows[name] = row = results.row(waiting[name], identities[name], ended.result())
            results.store(file, rows)
            left -= typical.get(name, TYPICAL)
            more = f", about {round(left / guests / 60)} min left" if number < count else ""
            print(f"[{number}/{count}] {name}: {_words(row)} ({_seconds(row)} s{more})", flush=True)
    return {scenario.name: rows[scenario.name] for scenario in scenarios}


def _is_done(row: Row | None, identity: str) -> bool:
    return row is not None and row["identity"] == identity and not row["problem"]


def _seconds(row: Row) -> int:
    return sum(row["seconds"].values()) or TYPICAL


def _words(row: Row) -> str:
    if row["problem"]:
        return f"NOT RUN: {row['problem']}"
    worth = row["judgement"] if row["judgement"] in ("right", "unknown") else row["judgement"].upper()
    return f"{row['verdict']} ({row['decisive'] or '-'}), {row['outcome']} ({row['stage']}): {worth}"
