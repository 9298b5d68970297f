"""The root trees that tests and `make run` stand on are what docs/machines.md says."""

from __future__ import annotations

import os
import re
import stat
import struct
import subprocess
from pathlib import Path

import pytest

import machines
from machines import build, copies
from machines.recipes import RECIPES

pytestmark = pytest.mark.machines


@pytest.mark.parametrize("name", machines.names())
def test_a_machine_has_two_kernels_and_a_menu_that_names_them(name: str) -> None:
    tree = machines.root(name)
    older, newest = build.releases(tree)
    with open(f"{tree}/boot/grub/grub.cfg", encoding="utf-8") as file:
        menu = file.read()
    started = re.findall(r"^\s*linux\s+/boot/vmlinuz-(\S+) root=UUID=(\S+) ro", menu, re.MULTILINE)
    assert started == [(release, RECIPES[name].root_uuid) for release in (newest, newest, newest, older, older)]
    for release in (older, newest):
        assert os.path.getsize(f"{tree}/boot/vmlinuz-{release}") > 4 << 20
        assert os.path.getsize(f"{tree}/boot/initrd.img-{release}") > 16 << 20
    assert os.readlink(f"{tree}/vmlinuz") == f"boot/vmlinuz-{newest}"


@pytest.mark.parametrize("name", machines.names())
def test_a_machine_holds_no_devices_and_nothing_of_its_building(name: str) -> None:
    tree = machines.root(name)
    for directory, directories, files in os.walk(tree):
        for entry in directories + files:
            mode = os.lstat(os.path.join(directory, entry)).st_mode
            assert stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode), os.path.join(directory, entry)
    for empty in ("dev", "proc", "sys", "run", "tmp"):
        assert os.listdir(f"{tree}/{empty}") == []
    with open(f"{tree}/usr/sbin/grub-probe", "rb") as file:
        assert file.read(4) == b"\x7fELF"


@pytest.mark.parametrize("name", machines.names())
def test_facts_lead_from_the_root_file_system_to_its_driver(name: str) -> None:
    recipe = RECIPES[name]
    with machines.copy(name) as tree:
        machines.add_facts(tree, name)
        partition = os.path.basename(os.readlink(f"{tree}/dev/disk/by-uuid/{recipe.root_uuid}"))
        block = os.path.realpath(f"{tree}/sys/class/block/{partition}")
        assert os.path.basename(os.path.dirname(block)) == recipe.root_disk
        driver = os.path.realpath(f"{block}/../../../driver")
        assert os.path.basename(driver) in ("virtio_blk", "sd")
        for directory, directories, files in os.walk(f"{tree}/sys"):
            for path in (os.path.join(directory, entry) for entry in directories + files):
                assert os.path.exists(path)
                assert os.path.realpath(path).startswith(f"{tree}/sys/")


@pytest.mark.parametrize("overlay", [True, False])
def test_a_copy_leaves_the_machine_alone(overlay: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not overlay:
        monkeypatch.setattr(copies, "_overlay", lambda source, tree: False)
    shared = machines.root("debian12")
    before = os.stat(f"{shared}/etc/fstab"), sorted(os.listdir(f"{shared}/boot"))
    with machines.copy("debian12") as tree:
        assert tree != shared
        machines.replace(tree, "/etc/fstab", b"# nothing\n")
        machines.replace(tree, "/vmlinuz", b"short")
        machines.remove(tree, f"/boot/initrd.img-{build.releases(tree)[0]}")
        machines.remove(tree, "/lib/modules")
        with open(f"{tree}/boot/{os.path.basename(os.readlink(f'{tree}/vmlinuz'))}", "rb") as file:
            assert file.read() == b"short"
        assert not os.path.exists(f"{tree}/usr/lib/modules")
    assert not os.path.exists(tree)
    after = os.stat(f"{shared}/etc/fstab"), sorted(os.listdir(f"{shared}/boot"))
    assert (before[0].st_ino, before[0].st_size, before[1]) == (after[0].st_ino, after[0].st_size, after[1])
    assert len(build.releases(shared)) == 2


def test_a_link_of_the_machine_does_not_lead_out_of_it() -> None:
    with machines.copy("debian12") as tree:
        os.symlink("/../../../etc", f"{tree}/opt/out")
        machines.replace(tree, "/opt/out/made-here", b"")
        assert os.path.exists(f"{tree}/etc/made-here")
        os.symlink("round", f"{tree}/opt/round")
        with pytest.raises(OSError, match="loops"):
            machines.replace(tree, "/opt/round/x", b"")


def test_an_unknown_machine_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert build.main(["debian0"]) == 2
    assert "debian0" in capsys.readouterr().err


_COMPARE = """#!/bin/sh
export PATH=/usr/sbin:/usr/bin LANG=en_US.UTF-8
mount -o remount,rw /
cp /boot/grub/grub.cfg /root/before
update-grub
cmp /root/before /boot/grub/grub.cfg && echo "the menu ""is the same"
sync
echo o > /proc/sysrq-trigger
sleep 60
"""


@pytest.mark.vm
@pytest.mark.parametrize("name", ["debian12", "debian13"])
def test_the_menu_is_the_one_that_the_machine_itself_writes(name: str, tmp_path: Path) -> None:
    """update-grub on the machine's own disk, against the menu that was made with grub-probe's stand-in."""
    recipe = RECIPES[name]
    disk = tmp_path / "disk"
    sectors, first = 2 << 21, 2048
    entry = struct.pack("<B3sB3sII", 0x80, b"\0\x20\x21", 0x83, b"\xff\xff\xff", first, sectors - first)
    label = struct.pack("<I", int(recipe.root_uuid[:8], 16))
    with open(disk, "wb") as file:
        file.write(bytes(440) + label + bytes(2) + entry + bytes(48) + b"\x55\xaa")
        file.truncate(sectors * 512)
    with machines.copy(name) as tree:
        with open(f"{tree}/usr/sbin/compare", "w", encoding="ascii", opener=_executable) as file:
            file.write(_COMPARE)
        offset, blocks = f"offset={first * 512}", f"{(sectors - first) // 2}k"
        mkfs = ["/sbin/mkfs.ext4", "-q", "-F", "-U", recipe.root_uuid, "-E", offset, "-d", tree, str(disk), blocks]
        subprocess.run(mkfs, timeout=120, check=True)
        console = subprocess.run(
            [
                *("qemu-system-x86_64", "-machine", "q35,accel=tcg", "-cpu", "max", "-smp", "2", "-m", "1024"),
                *("-display", "none", "-serial", "stdio", "-monitor", "none", "-nic", "none", "-no-reboot"),
                *("-drive", f"file={disk},format=raw,if={'virtio' if recipe.root_disk == 'vda' else 'ide'}"),
                *("-kernel", os.path.realpath(f"{tree}/vmlinuz"), "-initrd", os.path.realpath(f"{tree}/initrd.img")),
                *("-append", f"console=ttyS0 root=UUID={recipe.root_uuid} ro panic=-1 init=/usr/sbin/compare"),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=600,
            check=False,
        )
    assert b"the menu is the same" in console.stdout, console.stdout[-3000:].decode("utf-8", "replace")


def _executable(path: str, flags: int) -> int:
    return os.open(path, flags, 0o755)
