"""Plain btrfs and snapper: taken, undone by the printed plan, and mounted as the next boot mounts it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.snapshots.box import NEW, OLD, missing, told

pytestmark = pytest.mark.skipif(bool(missing("btrfs")), reason=missing("btrfs") or "-")

SNAPPER = pytest.mark.skipif(shutil.which("snapper") is None, reason="there is no snapper here")


BUS = pytest.mark.skipif(shutil.which("dbus-daemon") is None, reason="there is no dbus-daemon here")


def _names(*releases: str) -> list[str]:
    return sorted(f"{kind}-{release}" for kind in ("vmlinuz", "initrd.img") for release in releases)


def _numbers(listed: str) -> list[str]:
    return [line.split()[0] for line in listed.splitlines() if line[:1].isdecimal()]


@pytest.mark.parametrize(
    ("story", "backend", "releases", "machines"),
    [
        ("by_name", "btrfs", [OLD], "one\n"),
        ("with_boot", "btrfs", [OLD, NEW], None),
        ("flat", "btrfs", [OLD], "one\n"),
        ("by_default", "btrfs", [OLD], None),
        pytest.param("snapper_by_name", "snapper", [OLD], None, marks=SNAPPER),
        pytest.param("snapper_by_default", "snapper", [OLD], None, marks=SNAPPER),
        pytest.param("snapper_of_suse", "snapper", [OLD], None, marks=SNAPPER),
        pytest.param("snapper_on_the_bus", "snapper", [OLD], None, marks=[SNAPPER, BUS]),
    ],
)
def test_there_and_back(story: str, backend: str, releases: list[str], machines: str | None, tmp_path: Path) -> None:
    end: dict[str, Any] = told("stories", story, tmp_path)
    assert end["created"][0] == 0
    assert end["created"][1].startswith(f"Snapshot 1 ({backend}, by-hand) was taken.\nIt holds ")
    kept = "/boot (its files are kept beside it)"
    assert (kept in end["created"][1]) == (story in ("with_boot", "flat", "by_default", "snapper_by_default"))
    said = " ".join(end["plan"][1].split())
    assert said.endswith("Nothing was changed. `safeupdate snapshot undo 1 --execute` runs these commands.")
    # To print the plan changes nothing.
    updated = {"motd": "new\n", "new": "", "boot": _names(NEW), "menu": False, "machines": machines}
    assert end["plan"][0] == 0
    assert end["planned"] == updated
    assert end["undone"][0] == 0, end["undone"][1]
    if story == "by_name":
        assert "kept as the subvolume /@.before-undo-1 until you remove that" in said
        assert "/var/lib/machines is a subvolume of its own, and stays as it is." in said
    assert "allowed it at" in end["undone"][1]
    assert end["undone"][1].endswith("Done. It counts from the reboot on: reboot now.\n")
    assert end["after"] == {"motd": "old\n", "new": None, "boot": _names(*releases), "menu": True, "machines": machines}
    assert f"by-hand  {OLD}  {backend}\n" in end["listed"][1]
    assert end["deleted"] == [0, "Snapshot 1 is removed.\n"]
    assert end["empty"] == [0, "There is no snapshot to go back to.\n"]
    # The daemon was asked, and nothing without it.
    assert "asked" not in end or end["asked"][0] == "snapper --jsonout --utc list-configs"
    assert not any("--no-dbus" in command for command in end.get("asked", []))
    assert "others" not in end or "not ours" in end["others"]


@SNAPPER
def test_what_snappers_own_hook_made_is_adopted(tmp_path: Path) -> None:
    end = told("stories", "adopted", tmp_path)
    assert end["taken"] == [1, ["Snapshot 1 (snapper, pre-transaction) was adopted."]]
    assert "/@/.snapshots/2/snapshot" in end["plan"][1]
    assert "The menu of GRUB has @/.snapshots/2/snapshot too" in " ".join(end["plan"][1].split())
    assert end["deleted"] == [0, "Snapshot 1 is forgotten, and left to whom it belongs.\n"]
    assert end["snapper"].split() == ["number,type", "0,single", "1,single", "2,pre"]
    assert end["empty"] == [0, "There is no snapshot to go back to.\n"]


def test_without_room_nothing_is_made(tmp_path: Path) -> None:
    end = told("stories", "no_room", tmp_path)
    code, said = end["created"]
    assert code == 1
    assert said.startswith("safeupdate: no snapshot was taken: the btrfs of / has ")
    assert "MiB free, and 1024 MiB are needed" in said
    assert end["listed"] == [0, "There is no snapshot to go back to.\n"]
    assert end["left"] == {"snapshots": [], "top": ["@"], "manifests": [], "mounts": []}


def test_what_packages_consist_of_is_divided(tmp_path: Path) -> None:
    end = told("stories", "divided", tmp_path)
    assert "/var" in end["var"][1].partition("Not in it: ")[2]
    said = " ".join(end["plan"][1].split())
    assert "/var/lib/dpkg, where the package manager has written what is installed, does not come back" in said
    code, said = end["usr"]
    assert code == 1
    assert "This undo would not take effect. /usr is not in the subvolume /@: the programs would be newer" in said


def test_an_undo_that_would_not_take_effect_is_not_begun(tmp_path: Path) -> None:
    end = told("stories", "by_number", tmp_path)
    assert end["created"][0] == 0
    code, said = end["undone"]
    assert code == 1
    assert "This undo would not take effect. /etc/fstab has `subvolid=256` for /" in said
    assert end["left"]["top"] == [".safeupdate-snapshots", "@"]


def test_one_of_each_kind_for_a_kernel_and_a_boot(tmp_path: Path) -> None:
    end = told("stories", "often", tmp_path)
    assert end["first"] == [1, ["Snapshot 1 (btrfs, pre-reboot) was taken."]]
    assert end["again"] == [1, []]
    assert [end[name][0] for name in ("other kind", "by hand", "next boot", "third boot")] == [2, 3, 4, 5]
    assert "Snapshot 1 of" in end["next boot"][1][1]
    assert "Snapshot 4 of" in end["third boot"][1][1]
    assert _numbers(end["listed"][1]) == ["2", "3", "5"]
    # What has no label of ours is never touched.
    assert end["not ours"][0] == 1
    assert {"77", "backup"} <= set(end["left"]["snapshots"])
    assert end["left"]["manifests"] == ["2", "3", "5"]


def test_cut_off_before_any_act_nothing_is_left_unmentioned(tmp_path: Path) -> None:
    end = told("stories", "killed", tmp_path)
    assert len(end["acts"]) == len(end["ends"]) - 1
    for one in end["ends"]:
        assert one["listed"][0] == 0
        number, said = one["again"]
        assert number == 2
        taken = said[-1:] == ["Snapshot 2 (btrfs, pre-reboot) was taken."]
        # Taken already, so that it is listed; or taken now, after what was begun was told.
        rows = [line for line in one["listed"][1].splitlines() if line.startswith("2 ")]
        assert taken != (bool(rows) and "There is no such snapshot" not in one["listed"][1])
        assert one["left"] == {
            "snapshots": ["1", "1.json", "2", "2.json"],
            "top": [".safeupdate-snapshots", "@"],
            "manifests": ["1", "2"],
            "mounts": [],
        }
    assert any("was never made" in said for one in end["ends"] for said in one["again"][1])
    assert any("was not begun" in said for one in end["ends"] for said in one["again"][1])


def test_an_undo_stops_where_it_fails(tmp_path: Path) -> None:
    end = told("stories", "damaged", tmp_path)
    code, said = end["read-only"]
    assert code == 1
    assert "step 1 failed" in said
    assert "nothing was changed, and the rest is not begun" in said
    code, said = end["rotten"]
    assert code == 1
    assert f"initrd.img-{OLD} is damaged" in said
    assert end["state"] == end["after"]


def test_an_undo_that_is_cut_off_can_be_gone_on_with(tmp_path: Path) -> None:
    """By the steps that it wrote down; there is no root for as long as one rename."""
    end = told("stories", "undo_killed", tmp_path)
    assert [end[step]["begun"] for step in ("4", "5", "6")] == [4, 5, 6]
    assert end["4"]["left"] == [".safeupdate-snapshots", "@", "@.undo-1"]
    assert end["4"]["said"][0] == 0
    assert "/@.undo-1 is left of an undo that was not finished; nothing needs it." in end["4"]["said"][1]
    assert "@" not in end["5"]["left"]
    assert "@" in end["6"]["left"]
    assert [end[step]["motd"] for step in ("4", "5", "6")] == ["old\n"] * 3


def test_back_to_what_the_old_state_knows_nothing_of(tmp_path: Path) -> None:
    end = told("stories", "gone_back_twice", tmp_path)
    assert [end["first"], end["second"]] == ["old\n", "new\n"]
    assert _numbers(end["listed"][1]) == ["1", "2"]
    # A number that is in use is not given again.
    assert end["third"][1].startswith("Snapshot 3 (btrfs, by-hand) was taken.\n")
