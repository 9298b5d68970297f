"""A machine from a distribution's packages gets the same report from its capture as from its own files."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable

import pytest

import machines
from safeupdate import config
from safeupdate.capture import capture
from safeupdate.commands import machine_at
from safeupdate.judge import judge
from safeupdate.machine import Machine
from safeupdate.render.json import render

pytestmark = pytest.mark.machines


def reported(machine: Machine) -> dict[str, Any]:
    """The document, without what differs from run to run."""
    document: dict[str, Any] = json.loads(render(judge(machine, config=config.load(machine))))
    del document["time"], document["machine"]["root"]
    for check in document["checks"]:
        del check["seconds"]
    return document


def both(tree: str, place: Path) -> dict[str, Any]:
    """What is said of the machine, which is what is said of its capture."""
    summary = capture(Machine.tree(tree), str(place), boot=True)
    assert summary.unreadable == ()
    said = reported(Machine.tree(tree))
    assert reported(machine_at(str(place))) == said
    shutil.rmtree(place)
    return said


def newest(tree: str) -> str:
    return max(name.partition("-")[2] for name in os.listdir(f"{tree}/boot") if name.startswith("vmlinuz-"))


def without_older(tree: str) -> None:
    """One kernel is enough, and half the work."""
    for name in os.listdir(f"{tree}/usr/lib/modules"):
        if name != newest(tree):
            machines.remove(tree, f"/usr/lib/modules/{name}")


def edited(tree: str, path: str, pattern: str, replacement: str) -> None:
    text, count = re.subn(pattern, replacement, Path(tree + path).read_text(encoding="utf-8"), count=1)
    assert count
    machines.replace(tree, path, text.encode())


@pytest.mark.parametrize("name", ["debian13", "debian13-dracut"])
def test_as_installed(copy_of: Callable[[str], str], tmp_path: Path, name: str) -> None:
    tree = copy_of(name)
    machines.add_facts(tree, name)
    assert both(tree, tmp_path / "c")["verdict"] == "safe"


def test_packages_that_are_not_whole(copy_of: Callable[[str], str], tmp_path: Path) -> None:
    tree = copy_of("debian12")
    machines.add_facts(tree, "debian12")
    without_older(tree)
    package = f"linux-image-{newest(tree)}"
    edited(
        tree, "/var/lib/dpkg/status", rf"(Package: {re.escape(package)}\nStatus: install ok) \S+", r"\1 half-installed"
    )
    Path(f"{tree}/var/lib/dpkg/triggers/Unincorp").write_text("update-initramfs -\n", encoding="ascii")
    next(Path(f"{tree}/usr/lib/modules/{newest(tree)}/kernel/fs/ext4").glob("ext4.ko*")).unlink()
    Path(f"{tree}/etc/sysctl.d/oom.conf").write_text("vm.panic_on_oom = 1\n", encoding="ascii")
    lowered = '[findings."packages.triggers-pending"]\nlevel = "note"\nreason = "at night"\n'
    os.mkdir(f"{tree}/etc/safeupdate")
    Path(f"{tree}/etc/safeupdate/safeupdate.toml").write_text(lowered, encoding="ascii")
    document = both(tree, tmp_path / "c")
    assert document["verdict"] == "unsafe"
    levels = {finding["id"]: finding["level"] for check in document["checks"] for finding in check["findings"]}
    assert levels["packages.files-missing"] == "blocker"
    assert levels["packages.triggers-pending"] == "note"
    assert levels["boot-settings.panic-on-oom"] == "warning"


@contextmanager
def mounted(place: str, image: Path, size: int) -> Iterator[None]:
    with open(image, "wb") as file:
        file.truncate(size << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], timeout=60, check=True, capture_output=True)
    done = subprocess.run(["mount", "-o", "loop", str(image), place], timeout=60, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", place], timeout=60, check=True)


def test_a_boot_without_room_beside_a_root_with_enough(copy_of: Callable[[str], str], tmp_path: Path) -> None:
    if os.geteuid() != 0 or shutil.which("mkfs.ext4", path="/usr/sbin:/sbin:/usr/bin") is None:
        pytest.skip("to mount a file system takes root and mkfs.ext4")
    tree = copy_of("debian12")
    machines.add_facts(tree, "debian12")
    without_older(tree)
    boot, kept = Path(f"{tree}/boot"), Path(f"{tree}/boot.before")
    shutil.copytree(boot, kept)
    with mounted(str(boot), tmp_path / "image", 96):
        shutil.copytree(kept, boot, dirs_exist_ok=True)
        shutil.rmtree(kept)
        document = both(tree, tmp_path / "c")
        finding = next(
            finding
            for check in document["checks"]
            for finding in check["findings"]
            if finding["id"] == "boot-space.little-room"
        )
        assert finding["subject"] == "/boot"
        assert not any("/lib/modules" in line for line in finding["evidence"]), "the modules are on another one"
