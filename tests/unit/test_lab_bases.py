"""The lab's base machines: each dimension is there, each machine is told of, and each is judged while it is healthy."""

from __future__ import annotations

import re
from pathlib import Path

from tests.lab.bases import BASES
from tests.lab.scenario import OURS, load

PAGE = Path(__file__).resolve().parents[2] / "docs/lab.md"


def test_every_base_has_a_healthy_scenario() -> None:
    assert {scenario.base.name for scenario in load(OURS) if "healthy" in scenario.tags} == set(BASES)


def test_the_page_tells_what_each_base_is_for() -> None:
    machines = PAGE.read_text(encoding="utf-8").partition("\n## The machines\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `([^`]+)` \|", machines, re.MULTILINE)) == set(BASES)


def test_each_dimension_has_all_its_values() -> None:
    releases, generators, roots, firmwares = (set(values) for values in zip(*(name.split("-") for name in BASES)))
    assert releases == {"debian12", "debian13", "testing"}
    assert generators == {"initramfstools", "dracut"}
    assert roots == {"ext4", "ext4boot", "btrfs", "xfs", "lvm", "lukslvm", "luksonlvm", "md", "zfs"}
    assert firmwares == {"bios", "uefi", "uefisb", "sdboot"}


def test_fstab_is_as_an_installer_writes_it() -> None:
    plain = BASES["debian13-initramfstools-ext4-uefi"]
    assert plain.fstab.splitlines() == [
        f"UUID={plain.root.uuid} / ext4 errors=remount-ro 0 1",
        f"UUID={plain.parts[0].uuid} /boot/efi vfat umask=0077 0 1",
    ]
    volumes = BASES["debian13-initramfstools-luksonlvm-uefi"].fstab.splitlines()
    assert volumes[0] == "/dev/mapper/vg0-root_crypt / ext4 errors=remount-ro 0 1"
    assert [line.split()[1] for line in volumes] == ["/", "/boot", "/boot/efi"]
    snapshots = BASES["testing-dracut-btrfs-uefi"].fstab.splitlines()
    assert [line.split()[1:] for line in snapshots[:2]] == [
        ["/", "btrfs", "defaults,subvol=@", "0", "0"],
        ["/home", "btrfs", "defaults,subvol=@home", "0", "0"],
    ]
