from __future__ import annotations

from pathlib import Path

import pytest

from safeupdate.storage import awaited
from safeupdate.storage.image import Contents
from safeupdate.volumes import Volumes
from tests.unit import initrd
from tests.unit.trees import RELEASE, Content, tree

HERE = "0f4f4dc2-1d0a-4f3e-9d1b-1b8a3d3f7a10"
GONE = "11111111-2222-3333-4444-555555555555"
PV = "Bj0jRT-M3l9-5vXc-Vx0p-6Qqz-8N2T-cF1dZu"
ARRAY = "3aaa0122:29827cfa:5331ad66:ca767371"
HOOKS = "usr/lib/dracut/hooks/initqueue/finished"
WANTS = "etc/systemd/system/initrd.target.wants"

MACHINE: dict[str, Content] = {
    "/sys/class/block/sda1/dev": "8:1\n",
    "/sys/class/block/sda2/dev": "8:2\n",
    "/sys/class/block/sda3/dev": "8:3\n",
    "/sys/class/block/dm-0/dev": "253:0\n",
    "/sys/class/block/dm-0/dm/name": "vg-root\n",
    "/run/udev/data/b8:1": f"S:disk/by-uuid/{HERE}\nE:ID_FS_TYPE=crypto_LUKS\nE:ID_FS_UUID={HERE}\n",
    "/run/udev/data/b8:2": f"E:ID_FS_TYPE=LVM2_member\nE:ID_FS_UUID={PV}\n",
    "/run/udev/data/b8:3": f"S:md/home\nE:ID_FS_TYPE=linux_raid_member\nE:ID_FS_UUID={ARRAY.replace(':', '')}\n",
}


def hook(device: str) -> str:
    return f"{HOOKS}/devexists-{device}.sh".replace(device, device.replace("/", "\\x2f"))


def image(*files: str, line: str = "", timeout: str = "0") -> Contents:
    names = ("usr/lib/dracut/build-parameter.txt", *files)
    contents: dict[str, initrd.Content] = {"lib": "usr/lib", **dict.fromkeys(names, b"")}
    contents["etc/cmdline.d/90.conf"] = f" {line}\n".encode()
    for unit in (name.rpartition("/")[2] for name in names if name.startswith(WANTS)):
        contents[f"etc/systemd/system/{unit}.d/timeout.conf"] = f"[Unit]\nJobTimeoutSec={timeout}\n".encode()
    return Contents(initrd.read(initrd.archive(contents)), RELEASE)


def gone(root: Path, found: Contents, machine: dict[str, Content] = MACHINE) -> list[str]:
    return [one.device for one in awaited.gone(found, Volumes(tree(root, machine)))]


@pytest.mark.parametrize(
    ("file", "device"),
    [
        (hook(f"/dev/disk/by-uuid/{GONE}"), f"/dev/disk/by-uuid/{GONE}"),
        (f"{WANTS}/dev-disk-by\\x2duuid-{GONE}.device".replace(GONE, GONE.replace("-", "\\x2d")), f"by-uuid/{GONE}"),
        (hook("/dev/mapper/vg-swap"), "/dev/mapper/vg-swap"),
        (hook("/dev/vg/swap"), "/dev/vg/swap"),
        (hook(f"/dev/disk/by-id/lvm-pv-uuid-{PV.lower()[:-1]}q"), "lvm-pv-uuid"),
        (hook(f"/dev/disk/by-id/md-uuid-{GONE}"), "md-uuid"),
    ],
)
def test_what_an_image_waits_for_in_vain(tmp_path: Path, file: str, device: str) -> None:
    (found,) = gone(tmp_path, image(file))
    assert device in found


def test_a_unit_that_is_waited_for_for_a_while(tmp_path: Path) -> None:
    unit = f"{WANTS}/dev-vg-swap.device"
    assert gone(tmp_path, image(unit, timeout="infinity")) == ["/dev/vg/swap"]
    assert gone(tmp_path, image(unit, timeout="90")) == []


def test_what_is_there(tmp_path: Path) -> None:
    files = [
        *map(hook, (f"/dev/disk/by-uuid/{HERE}", "/dev/mapper/vg-root", "/dev/vg/root", "/dev/sda1", "/dev/md/home")),
        hook(f"/dev/disk/by-id/lvm-pv-uuid-{PV}"),
        hook(f"/dev/disk/by-id/md-uuid-{ARRAY}"),
        hook("/dev/disk/by-id/scsi-3600"),  # no fact shows these names of a captured machine
        hook("/dev/disk/by-path/pci-0000:00:1f.2-ata-1"),
        f"{WANTS}/dracut-initqueue.service",
        f"{HOOKS}/network.sh",
    ]
    line = f"rd.lvm.lv=vg/root rd.luks.uuid=luks-{HERE} rd.luks.uuid=0f4f4dc2 rd.md.uuid={ARRAY}"
    assert gone(tmp_path, image(*files, line=line)) == []


def test_a_machine_of_which_nothing_is_known(tmp_path: Path) -> None:
    files = (hook(f"/dev/disk/by-uuid/{GONE}"), hook("/dev/mapper/vg-swap"), hook(f"/dev/disk/by-id/md-uuid-{GONE}"))
    assert gone(tmp_path, image(*files, line="rd.lvm.lv=vg/swap"), {}) == []


@pytest.mark.parametrize(
    ("line", "device"),
    [
        ("rd.lvm.lv=vg/swap", "/dev/vg/swap"),
        (f"rd.luks.uuid=luks-{GONE}", f"/dev/disk/by-uuid/{GONE}"),
        (f"rd.luks.name={GONE}=root", f"/dev/disk/by-uuid/{GONE}"),
        (f"rd.md.uuid={GONE}", f"/dev/disk/by-id/md-uuid-{GONE}"),
    ],
)
def test_what_the_image_adds_to_the_command_line(tmp_path: Path, line: str, device: str) -> None:
    assert gone(tmp_path, image(line=line)) == [device]
