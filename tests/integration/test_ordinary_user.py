"""The real command line, run by a user who may not read everything: what it could not read, and no verdict from it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any, Callable

import jsonschema
import pytest

import machines
import safeupdate
from machines.namespace import private_mounts, ran
from tests.unit.trees import open_directory

pytestmark = [
    pytest.mark.machines,
    pytest.mark.skipif(os.geteuid() != 0, reason="root becomes nobody, and mounts the tree where nobody may enter"),
]

NOBODY = 65534
SCHEMA = json.loads(resources.files("safeupdate.render").joinpath("report.schema.json").read_text())

Check = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a copy of the program: checkout and trees may be in a home that others may not enter."""
    with open_directory() as directory:
        shutil.copytree(Path(safeupdate.__file__).parent, directory / "safeupdate")
        (directory / "machine").mkdir()
        yield directory


@pytest.fixture
def opened(place: Path, copy_of: Callable[[str], str]) -> Iterator[Callable[[str], Path]]:
    """A function: name of a machine to the root of a copy that every user may enter."""
    where = place / "machine"

    def open_copy(name: str) -> Path:
        tree = copy_of(name)
        machines.add_facts(tree, name)
        if not private_mounts() or not ran("mount", "--bind", tree, str(where)):
            pytest.skip("nothing can be mounted here")
        return where

    yield open_copy
    ran("umount", "--lazy", str(where))


@pytest.fixture
def check(place: Path) -> Check:
    """A function that runs `safeupdate check` on the machine, as nobody."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "safeupdate", "check", "--root", str(place / "machine"), *arguments]
        try:
            return subprocess.run(
                command,
                cwd=place,
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"},
                user=NOBODY,
                group=NOBODY,
                extra_groups=[],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=120,
            )
        except PermissionError:
            pytest.skip(f"{sys.executable} is where others may not enter")

    return run


def document(done: subprocess.CompletedProcess[str]) -> Any:
    """The report, which keeps to its schema and to its exit code; nothing crashed."""
    assert done.stderr == ""
    report = json.loads(done.stdout)
    jsonschema.validate(report, SCHEMA)
    assert done.returncode == {"safe": 0, "unsafe": 1, "unknown": 3}[report["verdict"]]
    assert not [one["id"] for check in report["checks"] for one in check["findings"] if one["id"].endswith("crashed")]
    return report


def outcomes(report: Any) -> dict[str, str]:
    return {check["id"]: check["outcome"] for check in report["checks"]}


def newest(tree: Path) -> str:
    return max(name.partition("-")[2] for name in os.listdir(tree / "boot") if name.startswith("vmlinuz-"))


def with_menu(tree: Path) -> None:
    (tree / "boot/grub/grub.cfg").chmod(0o644)


@pytest.mark.parametrize("name", ["debian12", "debian13-dracut"])
def test_as_installed_the_menu_is_for_root_only(opened: Callable[[str], Path], check: Check, name: str) -> None:
    assert (opened(name) / "boot/grub/grub.cfg").stat().st_mode & 0o077 == 0, "grub-mkconfig makes it so"
    report = document(check("--json"))
    assert (report["verdict"], outcomes(report)["boot-entry"]) == ("unknown", "unknown")
    said = check()
    assert (said.returncode, said.stderr) == (3, "")
    assert "/boot/grub/grub.cfg cannot be" in said.stdout and "Permission denied" in said.stdout
    quiet = check("--quiet")
    assert quiet.returncode == 3 and "safe" not in quiet.stdout


def test_an_image_for_root_only(opened: Callable[[str], Path], check: Check) -> None:
    tree = opened("debian13-dracut")
    with_menu(tree)
    image = f"/boot/initrd.img-{newest(tree)}"
    assert (tree / image[1:]).stat().st_mode & 0o077 == 0, "dracut makes them so"
    report = document(check("--json"))
    assert (report["verdict"], outcomes(report)["initramfs"]) == ("unknown", "unknown")
    (finding,) = next(one["findings"] for one in report["checks"] if one["id"] == "initramfs")
    assert finding["level"] == "unknown"
    assert f"{image} cannot be read: Permission denied" in f"{finding['problem']} {finding['evidence']}"


def test_who_may_read_everything_is_told_what_root_is_told(opened: Callable[[str], Path], check: Check) -> None:
    tree = opened("debian12")
    with_menu(tree)
    assert document(check("--json"))["verdict"] == "safe", "the user as such makes nothing unknown"


def test_one_file_that_may_not_be_read(opened: Callable[[str], Path], check: Check) -> None:
    tree = opened("debian12")
    with_menu(tree)
    release = newest(tree)
    modules = f"/lib/modules/{release}"
    for path in (
        "/boot",
        "/boot/grub/grub.cfg",
        f"/boot/vmlinuz-{release}",
        f"/boot/initrd.img-{release}",
        modules,
        f"{modules}/modules.dep.bin",
        "/etc/fstab",
        "/var/lib/dpkg/status",
        f"/var/lib/dpkg/info/linux-image-{release}.md5sums",
        "/sys/class/block",
    ):
        mode = (tree / path[1:]).stat().st_mode
        (tree / path[1:]).chmod(0)
        done = check("--json")
        (tree / path[1:]).chmod(mode)
        report = document(done)
        told = [one["id"] for one in report["checks"] if one["essential"] and one["outcome"] == "unknown"]
        assert (path, report["verdict"], bool(told)) == (path, "unknown", True)
        assert path in done.stdout, "it says which file"
        said = [json.dumps(one) for answer in report["checks"] for one in answer["findings"]]
        assert len(said) == len(set(said)), "and says it once"


def test_a_driver_that_the_initramfs_loads_need_not_be_read(opened: Callable[[str], Path], check: Check) -> None:
    tree = opened("debian12")
    with_menu(tree)
    path = f"/lib/modules/{newest(tree)}/kernel/fs/ext4/ext4.ko"
    (tree / path[1:]).chmod(0)
    report = document(check("--json"))
    told = [one for answer in report["checks"] for one in answer["findings"] if one["level"] in ("unknown", "blocker")]
    assert (report["verdict"], told) == ("safe", []), "it is read where it is loaded from"
