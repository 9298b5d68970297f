"""`settle` killed before each of its acts, and at random. docs/gate.md says what was found with more."""

from __future__ import annotations

from pathlib import Path

from tests.integration import gate_kills


def test_no_kill_leaves_the_gate_other_than_it_should_be(tmp_path: Path) -> None:
    found = gate_kills.run(tmp_path, each=3, seed=8, stories=(gate_kills.closing, gate_kills.opening, gate_kills.early))
    assert not found.wrong, str(found)
    assert len(found.killed) == 3
    assert min(found.killed.values()) > 10
