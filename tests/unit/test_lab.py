"""The lab's own rules: what a scenario may say, what a verdict was worth, and that its results are never lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab import page, results, wheel
from tests.lab.bases import BASES
from tests.lab.perform import Result, Truth
from tests.lab.programs import LabError, run
from tests.lab.saved import Saved
from tests.lab.scenario import OURS, Scenario, load
from tests.lab.slots import slot

BASE = next(iter(BASES))
STATE = Saved(BASES[BASE], f"lab/{BASE}-0123/4567")


def _scenario(tmp_path: Path, toml: str = f'base = "{BASE}"\nwhat = "x"\ntags = []\n', inject: str = ":\n") -> Scenario:
    (tmp_path / "one").mkdir(exist_ok=True)
    (tmp_path / "one/scenario.toml").write_text(toml)
    (tmp_path / "one/inject").write_text(inject)
    (found,) = load(str(tmp_path))
    return found


def test_every_scenario_can_be_read() -> None:
    ours = load(OURS)
    assert all(scenario.what.endswith(".") for scenario in ours)
    assert len([scenario for scenario in ours if "smoke" in scenario.tags]) == 8
    for scenario in ours:
        subprocess.run(["sh", "-n"], input=scenario.inject.encode(), timeout=10, check=True)


def test_a_scenario_changes_with_its_files(tmp_path: Path) -> None:
    assert _scenario(tmp_path).identity != _scenario(tmp_path, inject="true\n").identity


def test_a_scenario_names_another_machine_for_the_next_boot(tmp_path: Path) -> None:
    text = f'base = "{BASE}"\nwhat = "x"\ntags = []\n[next-boot]\nmemory = 256\ncontroller = "ahci"\n'
    found = _scenario(tmp_path, text)
    assert (found.memory, found.controller) == (256, "ahci")


@pytest.mark.parametrize(
    "wrong",
    [
        'base = "debian12"\nwhat = "x"\ntags = []\n',
        f'base = "{BASE}"\nwhat = "x"\ntags = []\nexpected = "unsafe"\n',
        f'base = "{BASE}"\nwhat = "x"\ntags = []\n[next-boot]\ncontroller = "floppy"\n',
        f'base = "{BASE}"\nwhat = "x"\ntags = []\ncorpus = [38]\n',
        "base\n",
    ],
)
def test_a_mistake_in_a_scenario_names_the_file(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(LabError, match=r"one/scenario\.toml: "):
        _scenario(tmp_path, wrong)


@pytest.mark.parametrize(
    ("verdict", "outcome", "expected"),
    [
        ("safe", "booted", "right"),
        ("safe", "degraded", "miss"),
        ("safe", "failed", "miss"),
        ("unsafe", "booted", "false alarm"),
        ("unsafe", "degraded", "right"),
        ("unsafe", "failed", "right"),
        ("unknown", "booted", "unknown"),
        ("unknown", "failed", "unknown"),
        ("", "failed", "not run"),
    ],
)
def test_truth_is_what_happened(verdict: str, outcome: str, expected: str) -> None:
    assert results.judgement(Result(verdict, "6.1", truth=Truth(outcome, "", "", "6.1"))) == expected


def test_a_kernel_that_was_not_judged_is_no_success() -> None:
    assert results.judgement(Result("safe", "6.1.0-56", truth=Truth("booted", "", "", "6.1.0-55"))) == "other kernel"


def test_what_the_lab_could_not_do_counts_nowhere(tmp_path: Path) -> None:
    broken = results.row(_scenario(tmp_path), STATE, Result("safe", problem="the host's disk is full"))
    assert broken["judgement"] == "not run"
    assert not results.confusion({"one": broken})


def test_results_are_written_and_read(tmp_path: Path) -> None:
    findings = (("warning", "a.b", "x", "y"), ("blocker", "c.d", "x", "y"))
    truth = Truth("failed", "kernel panic", "Kernel |")
    row = results.row(_scenario(tmp_path), STATE, Result("unsafe", "6.1", findings, truth))
    file = str(tmp_path / results.NAME)
    assert results.load(file) == {}
    results.store(file, "one", row)
    results.store(file, "two", row)
    rows = results.load(file)
    assert set(rows) == {"one", "two"}
    assert results.truth(rows.pop("two")) == truth
    assert rows["one"]["decisive"] == "c.d"
    assert "| `unsafe` | 0 | 0 | 1 |" in page.confusion(rows)
    assert page.worth(rows) == "1 right"


def test_what_became_of_a_machine_is_one_question_and_what_judged_it_another(tmp_path: Path) -> None:
    row = results.row(_scenario(tmp_path), STATE, Result("safe"))
    assert row["identity"].endswith(" 0123")
    assert row["program"] == "4567"


def test_guests_wait_for_a_slot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAFEUPDATE_CACHE", str(tmp_path))
    code = "from tests.lab.slots import slot\nwith slot(2): print('in', flush=True)\n"
    with slot(2), slot(2):
        other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=wheel.OURS)
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(1)
    assert other.communicate(timeout=60)[0] == b"in\n"


def test_a_program_that_does_not_end_is_ended() -> None:
    with pytest.raises(LabError, match="did not end within"):
        run("sleep", "600", timeout=0.2)
    with pytest.raises(LabError, match="ended with 3:\nsaid"):
        run("sh", "-c", "echo said; exit 3")
    assert os.path.isdir(OURS)
