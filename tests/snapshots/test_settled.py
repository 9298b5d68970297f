"""The hook of a package manager, `settle` and its levers, on a btrfs: what is taken when, and what is held."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.snapshots.box import NEW, missing, told

pytestmark = pytest.mark.skipif(bool(missing("btrfs")), reason=missing("btrfs") or "-")


def test_an_update_from_the_hook_to_the_reboot_and_back(tmp_path: Path) -> None:
    end = told("settled", "updated", tmp_path)
    assert end["before"] == [0, "safeupdate: Snapshot 1 (btrfs, pre-transaction) was taken.\n"]
    assert end["again"] == [0, ""]
    open_ = f"The gate is open. {NEW}, which is to start next, has everything that it needs.\n"
    assert end["settled"] == [0, f"safeupdate: Snapshot 2 (btrfs, pre-reboot) was taken.\n{open_}"]
    assert end["unchanged"] == [0, open_]
    rows = [line.split() for line in end["list"][1].splitlines()]
    assert [(row[0], *row[3:]) for row in rows[1:3]] == [
        ("1", "pre-transaction", NEW, "btrfs"),
        ("2", "pre-reboot", NEW, "btrfs"),
    ]
    assert "To go back to it undoes the update." in " ".join(end["list"][1].split())
    assert "of the package manager, and undoes that." in end["undone"][1]
    assert end["undone"][1].endswith("Done. It counts from the reboot on: reboot now.\n")
    # Nothing is judged and nothing is taken of what is between two states.
    assert "the undo of snapshot 1 waits for the reboot" in end["after the undo"][1]
    assert "was taken" not in end["after the undo"][1]
    assert (end["motd"], end["menu"]) == ("old\n", False)


def test_the_gate_is_closed_until_there_is_a_way_back(tmp_path: Path) -> None:
    end = told("settled", "required", tmp_path)
    closed = "The gate is closed, what reboots by itself is held back; a person may reboot."
    for name, why in (("no room", "and 1024 MiB are needed"), ("no effect", "To go back to snapshot 1 would not take")):
        said = end[name][1]
        assert closed in said
        assert why in said.partition(closed)[2]
        assert said.endswith("`safeupdate settle --force` tries again.\n")
    assert end["no effect"][1].startswith("safeupdate: Snapshot 1 (btrfs, pre-reboot) was taken.\nThe gate")
    open_ = f"The gate is open. {NEW}, which is to start next, has everything that it needs.\n"
    assert end["there"] == [0, open_]
    assert end["apart"] == [0, f"Snapshot 1 (btrfs, pre-reboot) was taken.\n{open_}"]


def test_settle_notices_that_somebody_removed_the_snapshot(tmp_path: Path) -> None:
    end = told("settled", "removed", tmp_path)
    open_ = f"The gate is open. {NEW}, which is to start next, has everything that it needs.\n"
    assert end["unchanged"] == [0, open_]
    code, said = end["removed"]
    assert code == 1
    assert "safeupdate: Snapshot 1 (btrfs, pre-reboot) was taken.\n" in said
    assert open_ in said
    assert said.endswith(", taken for this reboot, cannot be gone back to: Somebody removed it.\n")
    assert end["another"] == end["required"] == [0, open_]
    for name in ("no room", "still"):
        assert "The gate is closed" in end[name][1]
        assert "and 1024 MiB are needed" in end[name][1]
