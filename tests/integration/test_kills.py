"""`check` and `confirm` killed at random moments. A thousand, with what was found: docs/ledger.md."""

from __future__ import annotations

from pathlib import Path

from tests.integration import kills


def test_no_kill_loses_a_row_or_leaves_anything(tmp_path: Path) -> None:
    found = kills.run(str(tmp_path / "machine"), 100, seed=100)
    assert not found.wrong, str(found)
    assert sum(found.kinds.values()) == 100
    assert found.rows
