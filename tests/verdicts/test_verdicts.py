"""Every machine of the corpus gets the verdict that is true of it; `docs/verdicts.md` is the table of what came out."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from importlib import resources
from multiprocessing import get_context

import jsonschema
import pytest

import machines
from machines.recipes import RECIPES
from tests.verdicts import boot, corpus
from tests.verdicts.corpus import CASES, Case

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs", "verdicts.md")

_LEVELS = {"safe": ("warning", "note"), "unsafe": ("blocker",), "unknown": ("unknown",)}
"""The level of a finding that decides for each verdict; on a safe machine it is what is worth telling."""


@dataclass(frozen=True)
class Outcome:
    """What `check` says of one machine: the findings in the report's order, each an id and a level."""

    verdict: str
    findings: tuple[tuple[str, str], ...]
    problems: tuple[str, ...]

    def deciding(self) -> tuple[str, ...]:
        """The findings that make the verdict, once each."""
        levels = _LEVELS[self.verdict]
        return tuple(dict.fromkeys(name for name, level in self.findings if level in levels))


def judged(name: str) -> Outcome:
    """Make the machine, check it as `safeupdate check --root DIR --json` does, and read the document."""
    from safeupdate import config
    from safeupdate.judge import judge
    from safeupdate.machine import Machine
    from safeupdate.render.json import render

    case = corpus.BY_NAME[name]
    with machines.copy(case.base) as tree:
        corpus.apply(case, tree)
        machine = Machine.tree(tree)
        document = json.loads(render(judge(machine, config=config.load(machine))))
    schema = json.loads(resources.files("safeupdate.render").joinpath("report.schema.json").read_text())
    errors = jsonschema.Draft202012Validator(schema).iter_errors(document)
    findings = [(found["id"], found["level"]) for check in document["checks"] for found in check["findings"]]
    return Outcome(document["verdict"], tuple(findings), tuple(error.message for error in errors))


@pytest.fixture(scope="session")
def outcomes(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[Outcome]]]:
    """Answers for the machines that this run asks for, made on two processors."""
    wanted = {
        item.callspec.params["case"].name
        for item in request.session.items
        if hasattr(item, "callspec") and isinstance(item.callspec.params.get("case"), Case)
    }
    with _judged(wanted) as found:
        yield found


@contextlib.contextmanager
def _judged(names: set[str]) -> Iterator[dict[str, Future[Outcome]]]:
    for base in sorted({corpus.BY_NAME[name].base for name in names}):
        machines.root(base)
    with ProcessPoolExecutor(max_workers=2, mp_context=get_context("fork")) as pool:
        yield {case.name: pool.submit(judged, case.name) for case in CASES if case.name in names}


def _cases() -> list[object]:
    """Every machine; those that are known to get a wrong answer must go on to do so until they are mended."""
    wrong = pytest.mark.xfail(reason="a known defect", strict=True)
    return [pytest.param(case, id=case.name, marks=wrong if case.wrong else ()) for case in CASES]


@pytest.mark.parametrize("case", _cases())
def test_verdict(case: Case, outcomes: dict[str, Future[Outcome]]) -> None:
    outcome = outcomes[case.name].result()
    assert outcome.problems == (), "the document breaks its schema"
    assert (outcome.verdict, outcome.findings) == (case.verdict, outcome.findings)
    if case.finding is not None:
        assert (case.finding in outcome.deciding(), outcome.findings) == (True, outcome.findings)


def test_real_boots_agree() -> None:
    for name, result in boot.results().items():
        came_up = result["end"] == "up"
        assert (name, came_up) == (name, corpus.BY_NAME[name].verdict == "safe")


def test_page(outcomes: dict[str, Future[Outcome]]) -> None:
    """The page in the repository is what this run found; a new text is left in its place."""
    if set(outcomes) != {case.name for case in CASES}:
        pytest.skip("only some of the machines were asked for")
    text = page({name: future.result() for name, future in outcomes.items()})
    with open(PAGE, encoding="utf-8") as file:
        old = file.read()
    if text != old:
        with open(PAGE, "w", encoding="utf-8") as file:
            file.write(text)
    assert text == old, "docs/verdicts.md was not what this run found; it is now"


@pytest.mark.vm
@pytest.mark.parametrize("case", [case for case in CASES if case.boot], ids=lambda case: case.name)
def test_boot(case: Case) -> None:
    result = boot.boot(case.name)
    assert (result.end == "up", result) == (case.verdict == "safe", result)


# -- the page ----------------------------------------------------------------------------------------------------

_HEAD = """# Verdicts

Machines made from real packages, one thing changed in each, and what `safeupdate check` says of them. This page is
written by `tests/verdicts/test_verdicts.py`; the machines are in `tests/verdicts/broken.py`, `kin.py` and `odd.py`.

- **Release**: the Debian release, and the generator of its initramfs: *it* is initramfs-tools.
- **Finding**: the one that decided; for a machine that is safe, what is worth telling of it, if anything.
- **Row**: the row of the failure corpus in *initramfs and boot loaders* that the machine stands for.
- **Real boot**: what became of the machine in QEMU (software emulation), where it was started: by GRUB from a BIOS
  disk, or by systemd-boot from OVMF. Only the serial console was added to what the loader reads. Repeat one with
  `python3 -m tests.verdicts.boot NAME`.

Trees have the facts of hardware and mounts that a capture has, made by hand (`docs/machines.md`), except where it says
"bare". Superscripts are notes on what comes from documentation, below each table.
"""


def page(outcomes: dict[str, Outcome]) -> str:
    """The whole page."""
    count = {True: sum(case.healthy for case in CASES), False: sum(not case.healthy for case in CASES)}
    booted = boot.results()
    parts = [_HEAD, f"{count[False]} broken machines, {count[True]} healthy ones; {len(booted)} were booted.\n"]
    parts.append("## Machines that do not come back, or of which nobody could tell\n")
    parts.append(_table([case for case in CASES if not case.healthy], outcomes))
    parts.append("## Machines that come back, however odd\n")
    parts.append(_table([case for case in CASES if case.healthy], outcomes))
    return "\n".join(parts)


def _table(cases: list[Case], outcomes: dict[str, Outcome]) -> str:
    lines = [
        "| machine | what it is | release | verdict | finding | row | real boot |",
        "|---|---|---|---|---|---|---|",
    ]
    notes: list[str] = []
    for case in cases:
        outcome = outcomes[case.name]
        title = case.title.replace("|", "\\|").replace("$", "\\$")
        if case.note:
            notes.append(f"{len(notes) + 1}. {case.note}.")
            title += f" <sup>{len(notes)}</sup>"
        deciding = outcome.deciding()
        finding = (
            case.finding
            if case.finding in deciding
            else next(iter(deciding), None)
            if outcome.verdict != "safe"
            else None
        )
        verdict = f"**{outcome.verdict}**" + (
            f", wrongly: it is {case.verdict}" if outcome.verdict != case.verdict else ""
        )
        cells = [case.name, title, _release(case), verdict, f"`{finding}`" if finding else "-"]
        lines.append("| " + " | ".join([*cells, case.row or "-", _booted(case.name)]) + " |")
    return "\n".join(lines) + "\n" + ("\n" + "\n".join(notes) + "\n" if notes else "")


def _release(case: Case) -> str:
    version = "12" if RECIPES[case.base].suite == "bookworm" else "13"
    return f"{version} {'dracut' if case.base.endswith('dracut') else 'it'}{'' if case.facts else ', bare'}"


def _booted(name: str) -> str:
    result = boot.results().get(name)
    if result is None:
        return "-"
    said = result["said"]
    assert isinstance(said, list)
    lines = "; ".join(line if len(line) <= 90 else line[:87] + "..." for line in said).replace("|", "\\|")
    if result["end"] == "up":
        return f"came up with {result['kernel']} kernel" + (f", after: {lines}" if lines else "")
    return f"{result['end']}: {lines}" if lines else str(result["end"])


if __name__ == "__main__":
    with _judged({case.name for case in CASES}) as found:
        text = page({name: future.result() for name, future in found.items()})
    with open(PAGE, "w", encoding="utf-8") as file:
        file.write(text)
