"""A /boot of its own, really mounted and really full, in which the machine's own update-initramfs runs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Callable

import pytest

from safeupdate.judge import judge
from safeupdate.machine import Machine
from safeupdate.report import Finding, Report

pytestmark = pytest.mark.machines

MKFS = {"ext4": ("mkfs.ext4", "-q", "-F"), "vfat": ("mkfs.vfat",)}


def ran(*command: str) -> None:
    subprocess.run(command, timeout=60, check=True, capture_output=True)


@contextmanager
def mounted(where: str, *arguments: str) -> Iterator[None]:
    """A mount that is gone afterwards, and its loop device with it, whatever happens in between."""
    done = subprocess.run(["mount", *arguments, where], timeout=60, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", where], timeout=60, check=True)


@contextmanager
def boot_of_its_own(tree: str, image: Path, size: int, *options: str, kind: str = "ext4") -> Iterator[None]:
    """The machine with its newest kernel only, whose /boot is a file system of `size` MiB."""
    if os.geteuid() != 0 or shutil.which(MKFS[kind][0], path="/usr/sbin:/sbin") is None:
        pytest.skip("to mount a file system takes root, and its mkfs")
    boot = f"{tree}/boot"
    older = min(name for name in os.listdir(boot) if name.startswith("vmlinuz-")).partition("-")[2]
    for name in os.listdir(boot):
        if name.endswith(older):
            os.unlink(f"{boot}/{name}")
    with open(image, "wb") as file:
        file.truncate(size << 20)
    ran(*MKFS[kind], *options, str(image))
    kept = f"{tree}/boot.before"
    shutil.copytree(boot, kept)
    with mounted(boot, "-o", "loop", str(image)):
        ran("cp", "-r", "--preserve=timestamps", f"{kept}/.", boot)
        shutil.rmtree(kept)
        yield


@contextmanager
def programs(tree: str) -> Iterator[None]:
    """What the machine's programs need of a system to run below it; checks must not see it."""
    with ExitStack() as mounts:
        mounts.enter_context(mounted(f"{tree}/dev", "-t", "tmpfs", "tmpfs"))
        mounts.enter_context(mounted(f"{tree}/proc", "-t", "proc", "proc"))
        for name, minor in {"null": 3, "zero": 5, "urandom": 9}.items():
            os.mknod(f"{tree}/dev/{name}", 0o20666, os.makedev(1, minor))
        yield


def update_initramfs(tree: str) -> str:
    """Let it run to its end, and return what it said."""
    with programs(tree):
        command = ["chroot", tree, "update-initramfs", "-u", "-k", "all"]
        done = subprocess.run(command, timeout=300, capture_output=True, text=True)
    assert done.returncode != 0
    return done.stderr


def checked(tree: str) -> tuple[Report, dict[str, Finding]]:
    report = judge(Machine.tree(tree), required_drivers=())
    findings = [finding for check in report.checks if check.id == "boot-space" for finding in check.findings]
    return report, {finding.id: finding for finding in findings}


@pytest.mark.parametrize("kind", ["ext4", "vfat"])
def test_where_update_initramfs_finds_no_room_the_check_had_said_so(
    copy_of: Callable[[str], str], tmp_path: Path, kind: str
) -> None:
    tree = copy_of("debian12")
    with boot_of_its_own(tree, tmp_path / "boot", 64, kind=kind):
        _, before = checked(tree)
        assert list(before) == ["boot-space.little-room"]
        assert before["boot-space.little-room"].level == "warning"
        names = sorted(os.listdir(f"{tree}/boot"))
        assert "No space left on device" in update_initramfs(tree)
        # It cleans up after itself: the previous image is whole, and the machine starts with it.
        assert sorted(os.listdir(f"{tree}/boot")) == names
        report, after = checked(tree)
        assert (report.verdict, list(after)) == ("safe", ["boot-space.little-room"])


def test_with_room_there_is_nothing_to_say(copy_of: Callable[[str], str], tmp_path: Path) -> None:
    tree = copy_of("debian12")
    with boot_of_its_own(tree, tmp_path / "boot", 160):
        assert checked(tree)[1] == {}


def test_what_a_killed_update_initramfs_leaves(copy_of: Callable[[str], str], tmp_path: Path) -> None:
    tree = copy_of("debian12")
    with boot_of_its_own(tree, tmp_path / "boot", 64):
        release = next(name for name in os.listdir(f"{tree}/boot") if name.startswith("vmlinuz-")).partition("-")[2]
        new = Path(f"{tree}/boot/initrd.img-{release}.new")
        with programs(tree):
            command = ["chroot", tree, "update-initramfs", "-u", "-k", release]
            running = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
            try:
                while running.poll() is None and not (new.exists() and new.stat().st_size > 1 << 20):
                    time.sleep(0.01)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(running.pid, signal.SIGKILL)
                running.wait(timeout=60)
        assert new.stat().st_size > 1 << 20, "it came to its end before it could be stopped"
        report, found = checked(tree)
        assert report.verdict == "safe", "the previous image is still there, and whole"
        finding = found["boot-space.not-replaced"]
        assert finding.subject == f"/boot/initrd.img-{release}.new"
        assert finding.remedy.commands[0] == ("rm", f"/boot/initrd.img-{release}.new")


def test_room_for_bytes_but_not_for_files(copy_of: Callable[[str], str], tmp_path: Path) -> None:
    tree = copy_of("debian12")
    used = sum(len(directories) + len(files) for _, directories, files in os.walk(f"{tree}/boot"))
    with boot_of_its_own(tree, tmp_path / "boot", 160, "-N", str(used + 20)):
        left = os.statvfs(f"{tree}/boot").f_ffree
        for number in range(left - 2):
            Path(f"{tree}/boot/grub/{number}").touch()
        assert list(checked(tree)[1]) == ["boot-space.few-inodes"]
