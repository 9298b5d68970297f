"""What fuzzing starts from, and what it has found: each input once, without a fuzzer (docs/fuzzing.md)."""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from safeupdate import formats
from tests.fuzz import seeds, targets
from tests.fuzz.targets import LIMIT, TARGETS, WORLDS

REGRESSIONS = Path(__file__).parents[1] / "fuzz" / "regressions"


@pytest.fixture(scope="module", autouse=True)
def _trees() -> Iterator[None]:
    yield
    for world in WORLDS.values():
        world.close()


@pytest.fixture(autouse=True)
def _no_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")


_THROUGH_OTHERS = {"der": "cms"}
"""Modules of formats/ that another parser is fuzzed through."""


def test_every_parser_is_fuzzed() -> None:
    table = Path(targets.__file__).read_text()
    for module in pkgutil.iter_modules(formats.__path__):
        name = _THROUGH_OTHERS.get(module.name, module.name)
        assert re.search(rf"\b{name}\.\w", table), f"{name} has no line in tests/fuzz/targets.py"


@cache
def made() -> seeds.Seeds:
    return seeds.made()


@pytest.mark.parametrize("target", TARGETS)
def test_the_seeds(target: str) -> None:
    inputs = made()[target]
    assert inputs
    # A whole tree takes 20 ms, and has a hundred files.
    for data in inputs[::10] if target.startswith("tree") else inputs:
        assert len(data) <= LIMIT
        TARGETS[target](data)


@pytest.mark.parametrize("path", sorted(REGRESSIONS.glob("*/*")), ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_was_found(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())
