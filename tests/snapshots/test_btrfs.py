"""Plain btrfs: taken, undone by the printed plan, and mounted as the next boot mounts it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.snapshots.box import NEW, OLD, missing, told

pytestmark = pytest.mark.skipif(bool(missing("btrfs")), reason=missing("btrfs") or "-")


def _names(*releases: str) -> list[str]:
    return sorted(f"{kind}-{release}" for kind in ("vmlinuz", "initrd.img") for release in releases)


@pytest.mark.parametrize(
    ("story", "releases", "machines"),
    [
        ("by_name", [OLD], "one\n"),
        ("with_boot", [OLD, NEW], None),
        ("flat", [OLD], "one\n"),
        ("by_default", [OLD], None),
    ],
)
def test_there_and_back(story: str, releases: list[str], machines: str | None, tmp_path: Path) -> None:
    end: dict[str, Any] = told("stories", story, tmp_path)
    assert end["created"] == [0, "Snapshot 1 (btrfs, by-hand) was taken.\n"]
    # To print the plan changes nothing.
    updated = {"motd": "new\n", "new": "", "boot": _names(NEW), "menu": False, "machines": machines}
    assert end["plan"][0] == 0
    assert end["planned"] == updated
    assert end["undone"][0] == 0, end["undone"][1]
    assert end["undone"][1].endswith("Done. It counts from the reboot on: reboot now.\n")
    assert end["after"] == {"motd": "old\n", "new": None, "boot": _names(*releases), "menu": True, "machines": machines}
    assert "1       2" in end["listed"][1]
    assert end["deleted"] == [0, "Snapshot 1 is removed.\n"]
    assert end["empty"] == [0, "There is no snapshot to go back to.\n"]


def test_the_plan_says_what_is_lost_and_what_stays(tmp_path: Path) -> None:
    plan = told("stories", "by_name", tmp_path)["plan"][1]
    assert "kept as the subvolume /@.before-undo-1 until you remove that" in plan
    assert "/var/lib/machines is a subvolume of its own, and stays as it is." in plan
    assert "/usr is another file system, and stays as it is." in plan
