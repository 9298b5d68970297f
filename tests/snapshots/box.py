"""A machine with real file systems on loop devices, whose root is / for what is done in it.

This process must be the first of new namespaces of mounts and processes. What is done in the box is done in a child
that has changed its root; `reboot` mounts as the next boot would, by the command line and the default subvolume.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.unit.trees import Content, Link, tree, x86_image

OLD, NEW = "6.1.0-50-amd64", "6.1.0-56-amd64"

UUID, BOOT_UUID = "7b0d1c1e-0000-4000-8000-000000000001", "7b0d1c1e-0000-4000-8000-000000000002"

CHECKOUT = Path(__file__).resolve().parents[2]

SIZE = 6 << 30
"""Bytes of the disk, of which only what is written is there."""


def run(*command: str | Path) -> str:
    """A program of this host that must not fail."""
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout


def menu(*releases: str, prefix: str, uuid: str, flags: str) -> str:
    """A grub.cfg that starts the first of these kernels."""
    text = 'set default="0"\n'
    for release in releases:
        text += (
            f"menuentry 'Linux {release}' --id {release} {{\n"
            f"  search --no-floppy --fs-uuid --set=root {uuid}\n"
            f"  linux {prefix}/vmlinuz-{release} root=UUID={UUID} ro{flags}\n"
            f"  initrd {prefix}/initrd.img-{release}\n}}\n"
        )
    return text


class First:
    """Process 1, whose root is that of all others on a machine that booted."""

    def __init__(self) -> None:
        self.orders, self.answers = os.pipe(), os.pipe()

    def enter(self, root: Path) -> None:
        """Have it change its root to this one."""
        os.write(self.orders[1], f"{root}\n".encode())
        assert os.read(self.answers[0], 1) == b"."

    def obey(self) -> None:
        """Be it, until nobody is left who could order anything."""
        os.close(self.orders[1])
        outside = os.open("/", os.O_RDONLY)
        with os.fdopen(self.orders[0]) as orders:
            for order in orders:
                os.fchdir(outside)
                os.chroot(".")
                os.chroot(order.strip())
                os.chdir("/")
                os.write(self.answers[1], b".")


FIRST = First()


class Box:
    """`subvolume` is the root's, "" for the top of the file system; `flags` what the command line has for it. `boot`
    puts /boot on an ext4 of its own."""

    def __init__(
        self,
        directory: Path,
        *,
        subvolume: str = "@",
        flags: str = " rootflags=subvol=@",
        boot: bool = False,
        size: int = SIZE,
    ) -> None:
        self.directory, self.subvolume, self.flags, self.boot = directory, subvolume, flags, boot
        self.root = directory / "root"
        self.cmdline = directory / "cmdline"
        self.boots = 0
        self.mounted: dict[str, str] = {}
        """Further subvolumes, by the directories that they are mounted on."""
        for name in ("root", "top", "empty"):
            (directory / name).mkdir()
        self.disk = self._disk("disk", size)
        run("mkfs.btrfs", "-q", "-U", UUID, self.disk)
        if boot:
            self.boot_disk = self._disk("boot", 256 << 20)
            run("mkfs.ext4", "-q", "-U", BOOT_UUID, self.boot_disk)
        with_top = self.top()
        if subvolume:
            above = Path(with_top)
            for part in subvolume.split("/"):
                above /= part
                run("btrfs", "subvolume", "create", above)
        if subvolume and not flags:
            run("btrfs", "subvolume", "set-default", f"{with_top}/{subvolume}")
        run("umount", with_top)
        self._start()
        self.fill()

    def _disk(self, name: str, size: int) -> str:
        with open(self.directory / name, "wb") as file:
            file.truncate(size)
        return run("losetup", "--find", "--show", self.directory / name).strip()

    def top(self) -> Path:
        """The top of the file system, mounted until who asked unmounts it."""
        run("mount", "-o", "subvolid=5", self.disk, self.directory / "top")
        return self.directory / "top"

    def _start(self) -> None:
        self.boots += 1
        option = self.flags.partition("rootflags=")[2] or "defaults"
        run("mount", "-o", option, self.disk, self.root)
        for name in ("usr", "proc", "sys", "dev", "run", "boot", f".{CHECKOUT}"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        if self.boot:
            run("mount", self.boot_disk, self.root / "boot")
        for point, subvolume in self.mounted.items():
            run("mount", "-o", f"subvol={subvolume}", self.disk, self.root / point)
        # Of no disk, as if it were the root's own.
        lower = f"lowerdir=/usr:{self.directory / 'empty'}"
        run("mount", "-t", "overlay", "-o", lower, "overlay", self.root / "usr")
        run("mount", "--bind", CHECKOUT, f"{self.root}{CHECKOUT}")
        run("mount", "-t", "proc", "proc", self.root / "proc")
        run("mount", "-t", "sysfs", "sysfs", self.root / "sys")
        run("mount", "--rbind", "/dev", self.root / "dev")
        run("mount", "-t", "tmpfs", "tmpfs", self.root / "run")
        facts = {
            "cmdline": f"root=UUID={UUID} ro{self.flags}\n",
            "sys/kernel/osrelease": f"{OLD}\n",
            "sys/kernel/random/boot_id": f"00000000-0000-4000-8000-{self.boots:012}\n",
        }
        for name, text in facts.items():
            file = self.directory / name.replace("/", "-")
            file.write_text(text)
            run("mount", "--bind", file, self.root / "proc" / name)
        disks = {self.disk: UUID, **({self.boot_disk: BOOT_UUID} if self.boot else {})}
        for disk, uuid in disks.items():
            number = os.stat(disk).st_rdev
            udev = self.root / f"run/udev/data/b{os.major(number)}:{os.minor(number)}"
            udev.parent.mkdir(parents=True, exist_ok=True)
            udev.write_text(f"N:{Path(disk).name}\nE:ID_FS_UUID={uuid}\n")
        FIRST.enter(self.root)

    def fill(self) -> None:
        """The old system: one kernel, its menu, and what a person has."""
        for name in ("bin", "sbin", "lib", "lib64"):
            (self.root / name).symlink_to(f"usr/{name}")
        files: dict[str, Content] = {
            "/etc/machine-id": "0f1d1f3e6f5a4a1c9b7e000000000001\n",
            "/etc/os-release": "ID=debian\nVERSION_ID=12\n",
            "/etc/mtab": Link("../proc/self/mounts"),
            "/etc/motd": "old\n",
            "/var/lib": None,
            "/tmp": None,
        }
        tree(self.root, files)
        self.kernels(OLD)

    def kernels(self, *releases: str) -> None:
        """These kernels and no other are there, the first is next."""
        for path in (self.root / "boot").glob("*-*"):
            path.unlink()
        prefix = "" if self.boot else f"{'/' * bool(self.subvolume)}{self.subvolume}/boot"
        uuid = BOOT_UUID if self.boot else UUID
        files: dict[str, Content] = {
            "/boot/grub/grub.cfg": menu(*releases, prefix=prefix, uuid=uuid, flags=self.flags),
            "/boot/grub/grubenv": "# GRUB Environment Block\n" + "#" * 999,
        }
        for release in releases:
            files[f"/boot/vmlinuz-{release}"] = x86_image(release)
            files[f"/boot/initrd.img-{release}"] = f"initramfs of {release}\n"
        tree(self.root, files)

    def nest(self, path: str) -> None:
        """A subvolume within the root's, with a file."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        run("btrfs", "subvolume", "create", self.root / path)
        (self.root / path / "one").write_text("one\n")

    def reboot(self) -> None:
        """Mount what the next boot does."""
        FIRST.enter(Path("/"))
        with suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)  # all that was started here but this one, and process 1
        time.sleep(0.2)
        run("umount", "--recursive", self.root)
        self._start()

    def do(self, act: Callable[[], Any]) -> Any:
        """What `act` returns, as JSON has it, called in a child whose / is the box's. Raises `AssertionError` with the
        child's traceback."""
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.close(reading)
                os.chroot(self.root)
                os.chdir("/")
                answer = json.dumps(act())
                code = 0
            except BaseException:
                answer = traceback.format_exc()
            with os.fdopen(writing, "w") as pipe:
                pipe.write(answer)
            os._exit(code)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            answer = pipe.read()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, KILLED), answer
        return json.loads(answer) if status == 0 else None

    def command(self, *words: str) -> tuple[int, str]:
        """A `safeupdate` command: its exit code, and what it says."""
        code, text = self.do(lambda: _command(words))
        return code, text

    def program(self, *words: str) -> str:
        """What a program writes to its stdout in the box, where it must not fail."""
        said: str = self.do(lambda: run(*words))
        return said

    def text(self, path: str) -> str | None:
        """A small file of the box."""
        place = self.root / path.lstrip("/")
        return place.read_text() if place.exists() else None


KILLED = 99
"""What a child ends with that was to be cut off."""


def _command(words: tuple[str, ...]) -> tuple[int, str]:
    import contextlib
    import io

    from safeupdate.cli import main

    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = main(words)
    return code, out.buffer.getvalue().decode()


def told(module: str, story: str, directory: Path) -> Any:
    """What a story of that module ends with, told in namespaces of its own below the directory."""
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
    command += [sys.executable, "-m", "tests.snapshots.box", module, story, str(directory)]
    try:
        done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=600, check=False)
    finally:
        for line in run("losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE").splitlines():
            device, _, file = line.partition(" ")
            if str(directory) in file:
                run("losetup", "--detach", device)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def missing(*programs: str) -> str:
    """Why no box can be made here; empty where one can."""
    if os.geteuid() != 0:
        return "only root can mount"
    lacking = [name for name in ("losetup", "unshare", "mkfs.btrfs", *programs) if shutil.which(name) is None]
    if lacking:
        return f"there is no {lacking[0]} here"
    with open("/proc/filesystems", encoding="ascii") as file:
        if "btrfs" not in file.read().split():
            return "this kernel has no btrfs"
    probe = ["unshare", "--mount", "--pid", "--fork", "losetup", "--find"]
    return (
        "" if subprocess.run(probe, capture_output=True, timeout=60, check=False).returncode == 0 else "no loop devices"
    )


def main(arguments: list[str]) -> None:
    """Tell one story, and print what it ends with."""
    module, story, directory = arguments
    child = os.fork()
    if child:
        FIRST.obey()
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    stories: Mapping[str, Callable[[Path], Any]] = importlib.import_module(f"tests.snapshots.{module}").STORIES
    print(json.dumps(stories[story](Path(directory))))


if __name__ == "__main__":
    # Stories must see the same module.
    importlib.import_module("tests.snapshots.box").main(sys.argv[1:])
