"""Runs scenarios, several guests at once, and writes down each as it ends: a run that is killed goes on from there."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from tests.lab import results, saved
from tests.lab.perform import Result, Truth, perform
from tests.lab.results import Row
from tests.lab.scenario import Scenario
from tests.lab.slots import slot

TYPICAL = 180
"""Seconds for a scenario that was never run."""


def run(
    scenarios: Sequence[Scenario],
    file: str,
    *,
    program: str,
    guests: int,
    without: str | None = None,
    again: bool = False,
    keep: bool = False,
) -> dict[str, Row]:
    """Run what was not run since it or its machine changed; return the rows of these scenarios.

    `program` is the checkout that is asked. Where only it has changed, the machines are judged anew and not started
    again. `guests` run at once, over all runs on this host. Every row of the file stays, those of other scenarios too.
    Raises `LabError` where a machine cannot be made.

    `without` a check nothing is written down: the scenarios that `file` knows the truth of are judged by the others.
    """
    rows = results.load(file)
    # The machines first, and here: their mounts are for this thread alone.
    states = {base: saved.state(base, guests, program) for base in {scenario.base: None for scenario in scenarios}}
    waiting: dict[str, Scenario] = {}
    known: dict[str, Truth] = {}
    for scenario in scenarios:
        old, state = rows.get(scenario.name), states[scenario.base]
        if again or old is None or old["problem"] or old["identity"] != results.identity(scenario, state):
            waiting[scenario.name] = scenario
        elif without is not None or old["program"] != state.program:
            waiting[scenario.name] = scenario
            known[scenario.name] = results.truth(old)
    print(
        f"lab: {len(waiting)} scenarios to run, {len(known)} of them only to be judged anew; "
        f"{len(scenarios) - len(waiting)} were run before",
        flush=True,
    )
    typical = {name: _seconds(rows[name], name in known) if name in rows else TYPICAL for name in waiting}
    left, count = sum(typical.values()), len(waiting)

    def result(scenario: Scenario) -> Result:
        with slot(guests):
            truth = known.get(scenario.name)
            return perform(scenario, states[scenario.base], truth=truth, without=without, keep=keep)

    with ThreadPoolExecutor(guests) as pool:
        # The longest first, so that none is left to run alone.
        order = sorted(waiting, key=lambda name: -typical[name])
        running = {pool.submit(result, waiting[name]): name for name in order}
        for number, ended in enumerate(as_completed(running), 1):
            name = running[ended]
            row = results.row(waiting[name], states[waiting[name].base], ended.result())
            if name in known:
                row["seconds"] = {**rows[name]["seconds"], **row["seconds"]}
            rows[name] = row
            if without is None:
                results.store(file, name, row)
            left -= typical[name]
            more = f", about {round(left / guests / 60)} min left" if number < count else ""
            print(f"[{number}/{count}] {name}: {_words(row)} ({_seconds(row, name in known)} s{more})", flush=True)
    return {scenario.name: rows[scenario.name] for scenario in scenarios}


def _seconds(row: Row, judged_only: bool) -> int:
    """What it takes, or, where what became of the machine is known, took without the boot."""
    boot = ("power off", "boot") if judged_only else ()
    return sum(seconds for lap, seconds in row["seconds"].items() if lap not in boot) or TYPICAL


def _words(row: Row) -> str:
    if row["problem"]:
        return f"NOT RUN: {row['problem']}"
    worth = row["judgement"] if row["judgement"] in ("right", "unknown") else row["judgement"].upper()
    return f"{row['verdict']} ({row['decisive'] or '-'}), {row['outcome']} ({row['stage']}): {worth}"
