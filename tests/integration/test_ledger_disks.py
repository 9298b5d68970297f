"""The ledger on real file systems: rolled back with a btrfs snapshot, on a full ext4, in an immutable directory."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from safeupdate.ledger.reading import BOOT_ID, read
from safeupdate.machine import Machine
from tests.unit.test_ledger_writing import BOOT, aside, boots, check, ledger
from tests.unit.trees import tree

SIZES = {"btrfs": 128 << 20, "ext4": 2 << 20}


@contextmanager
def mounted(place: Path, *arguments: str) -> Iterator[Path]:
    """A mount that is gone afterwards."""
    place.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", *arguments, str(place)], capture_output=True, timeout=60)
    if done.returncode:
        pytest.skip(f"this host does not mount it: {done.stderr.decode('utf-8', 'replace').strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True, timeout=60)


def made(directory: Path, kind: str) -> Path:
    """An image with an empty file system."""
    if os.geteuid() != 0 or not shutil.which(f"mkfs.{kind}"):
        pytest.skip(f"mkfs.{kind} and mounts are needed")
    image = directory / f"{kind}.img"
    with open(image, "wb") as file:
        file.truncate(SIZES[kind])
    subprocess.run([f"mkfs.{kind}", "-q", str(image)], check=True, capture_output=True, timeout=60)
    return image


def here(root: Path) -> Machine:
    """The machine whose root is mounted at `root`, with the kernel's own word on where that is."""
    mounts = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split(" ")
        if fields[4] == str(root) or fields[4].startswith(f"{root}/"):
            fields[4] = fields[4][len(str(root)) :] or "/"
            mounts.append(" ".join(fields) + "\n")
    return tree(root, {"/var/lib": None, "/run": None, BOOT_ID: "b-1\n", "/proc/self/mountinfo": "".join(mounts)})


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def test_a_snapshot_that_is_made_the_root(tmp_path: Path) -> None:
    """As Timeshift and the undo of a plain snapshot do it: the subvolume is another one under the same name."""
    image = made(tmp_path, "btrfs")
    root = tmp_path / "root"
    with mounted(tmp_path / "top", "-o", "loop", str(image)) as top:
        run("btrfs", "subvolume", "create", str(top / "@"))
        with mounted(root, "-o", "loop,subvol=@", str(image)):
            machine = Machine(here(root).root, live=True)
            assert check(machine) == check(machine) == ()
            run("btrfs", "subvolume", "snapshot", str(top / "@"), str(top / "@old"))
            assert check(machine) == ()
        # Another boot of the same root is no news.
        with mounted(root, "-o", "loop,subvol=@", str(image)):
            shutil.rmtree(root / "run")
            machine = Machine(here(root).root, live=True)
            assert check(machine) == ()
        (top / "@").rename(top / "@broken")
        (top / "@old").rename(top / "@")
        with mounted(root, "-o", "loop,subvol=@", str(image)):
            shutil.rmtree(root / "run")
            machine = Machine(here(root).root, live=True)
            (problem,) = check(machine)
            assert "snapshot" in problem
            assert [event.kind for event in read(machine).events] == ["ledger-moved"]
            assert check(machine) == ()


def test_a_full_ext4(tmp_path: Path) -> None:
    image = made(tmp_path, "ext4")
    with mounted(tmp_path / "root", "-o", "loop", str(image)) as root:
        machine = Machine(here(root).root, live=True)
        assert boots(machine, BOOT) == ()
        with suppress(OSError), open(root / "rest", "wb", buffering=0) as rest:
            while rest.write(bytes(1024)):
                pass
        told: tuple[str, ...] = ()
        done = 0
        while not told and done < 200:
            told = check(machine)
            done += not told
        assert "not in the ledger" in told[0]
        assert len(read(machine, checks=500).checks) == done
        assert read(machine).problems == ()
        (root / "rest").unlink()
        assert check(machine) == ()
        assert len(read(machine, checks=500).checks) == done + 1
        assert os.listdir(ledger(machine).parent) == ["ledger.db"]
        assert aside(machine) == []


@pytest.mark.parametrize("what", ["ledger.db", "."])
def test_an_immutable_ledger(tmp_path: Path, what: str) -> None:
    image = made(tmp_path, "ext4")
    with mounted(tmp_path / "root", "-o", "loop", str(image)) as root:
        machine = Machine(here(root).root, live=True)
        assert check(machine) == ()
        place = str(ledger(machine).parent / what)
        run("chattr", "+i", place)
        try:
            (problem,) = check(machine)
            assert "not in the ledger" in problem
            assert len(read(machine).checks) == 1
        finally:
            run("chattr", "-i", place)
        assert check(machine) == ()
