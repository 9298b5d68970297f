"""GRUB's core on a disk, by the real grub-mkimage of two releases."""

from __future__ import annotations

import lzma
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import machines
from safeupdate.boot.grub_core import findings
from safeupdate.formats import grub_core
from safeupdate.machine import Machine

MODULES = ("biosdisk", "part_msdos", "ext2")
SECTORS = 2048

Disk = bytearray


def _core(release: str, file: Path, *modules: str) -> bytes:
    command = ["chroot", machines.root(release), "grub-mkimage", "-O", "i386-pc", "-p", "(hd0,msdos1)/boot/grub"]
    with open(file, "wb") as output:
        subprocess.run([*command, *modules], stdout=output, check=True, timeout=60)
    return file.read_bytes()


def _made(release: str, directory: Path) -> tuple[bytes, bytes]:
    """boot.img and a core of that release."""
    copied = directory / "usr/lib/grub/i386-pc"
    shutil.copytree(f"{machines.root(release)}/usr/lib/grub/i386-pc", copied)
    return (copied / "boot.img").read_bytes(), _core(release, directory / "core.img", *MODULES)


def _disk(boot: bytes, core: bytes) -> Disk:
    """As grub-bios-setup embeds a core in the gap behind the first sector, without redundancy."""
    disk = Disk(SECTORS * 512)
    disk[:512] = boot
    disk[0x5C:0x64] = struct.pack("<Q", 1)
    disk[512 : 512 + len(core)] = core
    disk[512 + 0x1F4 : 1024] = struct.pack("<QHH", 2, -(-len(core) // 512) - 1, 0x820)
    return disk


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, bytes, bytes]]:
    made = {}
    for name in ("debian12", "debian13"):
        place = tmp_path_factory.mktemp(name)
        made[name] = (place, *_made(name, place))
    return made


@pytest.fixture
def machine(made: dict[str, tuple[Path, bytes, bytes]], tmp_path: Path) -> Machine:
    """A machine of the older release, started by GRUB."""
    place, _, core = made["debian12"]
    shutil.copytree(place / "usr/lib/grub/i386-pc", tmp_path / "boot/grub/i386-pc")
    (tmp_path / "boot/grub/i386-pc/core.img").write_bytes(core)
    (tmp_path / "boot/grub/grub.cfg").write_text("")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cmdline").write_text("BOOT_IMAGE=/boot/vmlinuz root=/dev/vda1\n")
    return Machine.tree(str(tmp_path))


def _asked(machine: Machine, *disks: Disk) -> list[tuple[str, str, str]]:
    def reader(disk: Disk) -> Callable[[int, int], bytes]:
        return lambda start, count: bytes(disk[start * 512 : (start + count) * 512])

    among = [(f"vd{letter}", reader(disk)) for letter, disk in zip("abcdefghijklmnopq", disks)]
    return [(each.level, each.id, each.subject) for each in findings(machine, among)]


def test_a_core_as_it_was_written(machine: Machine, made: dict[str, tuple[Path, bytes, bytes]]) -> None:
    _, boot, core = made["debian12"]
    whole = _disk(boot, core)
    assert _asked(machine, whole) == []
    assert _asked(machine, Disk(SECTORS * 512), whole) == []  # a disk with data only
    assert b"grub_calloc\0" in grub_core.unpack(core)


def test_a_core_with_other_built_in_modules_fits(machine: Machine, made: dict[str, tuple[Path, bytes, bytes]]) -> None:
    _, boot, core = made["debian12"]
    assert _core("debian12", Path(machine.root, "boot/grub/i386-pc/core.img"), "biosdisk", "xfs") != core
    assert _asked(machine, _disk(boot, core)) == []


def test_no_boot_code(machine: Machine, made: dict[str, tuple[Path, bytes, bytes]]) -> None:
    _, boot, core = made["debian12"]
    disk = _disk(boot, core)
    disk[:440] = bytes(440)
    assert _asked(machine, disk) == [("blocker", "boot-entry.boot-code-missing", "/dev/vda")]
    other = Disk(b"\xeb\x63".ljust(510, b"\0") + b"\x55\xaa" + bytes(512))
    assert _asked(machine, disk, other) == []  # somebody else's program, which may start GRUB


def test_a_damaged_core(machine: Machine, made: dict[str, tuple[Path, bytes, bytes]]) -> None:
    _, boot, core = made["debian12"]
    disk = _disk(boot, core)
    disk[512:131072] = bytes(131072 - 512)
    assert _asked(machine, disk) == [("blocker", "boot-entry.core-damaged", "/dev/vda")]
    assert _asked(machine, disk, _disk(boot, core)) == [("warning", "boot-entry.core-elsewhere-damaged", "/dev/vda")]
    disk = _disk(boot, core)
    disk[512 + 0x230] ^= 0xFF  # in the code that unpacks
    assert _asked(machine, disk) == [("blocker", "boot-entry.core-damaged", "/dev/vda")]
    disk = _disk(boot, core)
    disk[20000:20512] = bytes(512)  # GRUB's Reed-Solomon code mends that
    assert _asked(machine, disk) == [("unknown", "boot-entry.core-unproved", "/dev/vda")]


def _without(core: bytes, symbol: bytes) -> bytes:
    """The core as it would be if it had been built before that symbol was there."""
    unpacked = grub_core.unpack(core).replace(symbol + b"\0", b"x" * len(symbol) + b"\0")
    filters = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 16, "lc": 3, "lp": 0, "pb": 2}]
    packed = lzma.compress(unpacked, lzma.FORMAT_RAW, filters=filters)
    (before,) = struct.unpack_from("<I", core, 0x208)
    start = core[: len(core) - before]
    return start[:0x208] + struct.pack("<II", len(packed), len(unpacked)) + start[0x210:] + packed


def test_a_core_of_another_build(machine: Machine, made: dict[str, tuple[Path, bytes, bytes]]) -> None:
    _, boot, core = made["debian13"]
    assert _asked(machine, _disk(boot, core)) == []  # a newer one, which has all that these modules ask for
    _, boot, core = made["debian12"]
    older = _disk(boot, _without(core, b"grub_calloc"))
    assert _asked(machine, older) == [("blocker", "boot-entry.core-of-another-build", "/dev/vda")]


def test_a_damaged_module_asks_for_nothing(machine: Machine, made: dict[str, tuple[Path, bytes, bytes]]) -> None:
    _, boot, core = made["debian12"]
    for module in Path(machine.root, "boot/grub/i386-pc").glob("*.mod"):
        module.write_bytes(b"damaged")
    assert _asked(machine, _disk(boot, _without(core, b"grub_calloc"))) == []


def test_a_tree_has_no_disks(machine: Machine) -> None:
    assert list(findings(machine)) == []
