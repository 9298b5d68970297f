"""A machine with 2,000 disks, as sysfs and udev show it: 100 multipath devices of 20 paths each, and a root on LVM over
all of them."""

from __future__ import annotations

import os

DISKS, DEVICES = 2000, 100
RELEASE, LINE = "6.1.0-50-amd64", "root=/dev/mapper/vg-root"

_MODULES = ("dm-mod", "dm-multipath", "dm-service-time", "qla2xxx", "sd_mod", "xfs")
LACKS = len(_MODULES)
"""What stops it without an initramfs: all of its kernel's modules."""

_CARD = "/sys/devices/pci0000:00/0000:05:00.0"
_VIRTUAL = "/sys/devices/virtual/block"


def make(root: str) -> None:
    """Write its tree of facts below a directory."""
    _link(root, f"{_CARD}/driver", "/sys/bus/pci/drivers/qla2xxx")
    _write(root, f"{_CARD}/modalias", "pci:v00001077d00002532sv00001077sd0000015Dbc0Csc04i00")
    for number in range(DISKS):
        name, unit = f"sd{number}", f"{_CARD}/host{number % 20}/target0:0:{number}/0:0:{number}:0"
        _link(root, f"{unit}/driver", "/sys/bus/scsi/drivers/sd")
        _write(root, f"{unit}/modalias", "scsi:t-0x00")
        _write(root, f"{unit}/block/{name}/dev", f"8:{number}")
        _link(root, f"/sys/class/block/{name}", f"{unit}/block/{name}")
        _link(root, f"{_VIRTUAL}/dm-{number % DEVICES}/slaves/{name}", f"{unit}/block/{name}")
        _write(root, f"/run/udev/data/b8:{number}", f"S:disk/by-path/pci-{number}\nE:ID_FS_TYPE=mpath_member")
    for number in range(DEVICES + 1):
        place = f"{_VIRTUAL}/dm-{number}"
        last = number == DEVICES
        _write(root, f"{place}/dev", f"253:{number}")
        _write(root, f"{place}/dm/name", "vg-root" if last else f"mpath{number}")
        _write(root, f"{place}/dm/uuid", "LVM-" + "x" * 64 if last else f"mpath-{number}")
        _link(root, f"/sys/class/block/dm-{number}", place)
        kind = "xfs" if last else "LVM2_member"
        _write(root, f"/run/udev/data/b253:{number}", f"E:ID_FS_TYPE={kind}\nE:ID_FS_UUID=uuid-{number}")
        if not last:
            _link(root, f"{_VIRTUAL}/dm-{DEVICES}/slaves/dm-{number}", place)
    dep = "".join(f"kernel/{module}.ko:\n" for module in _MODULES)
    for name, text in (("dep", dep.rstrip()), ("builtin", "kernel/lib/crc16.ko"), ("alias", "alias fs-xfs xfs")):
        _write(root, f"/lib/modules/{RELEASE}/modules.{name}", text)
    for bus, driver, module in (("pci", "qla2xxx", "qla2xxx"), ("scsi", "sd", "sd_mod")):
        _link(root, f"/sys/bus/{bus}/drivers/{driver}/module", f"/sys/module/{module}")
    _write(root, "/proc/self/mountinfo", f"25 1 253:{DEVICES} / / rw - xfs /dev/mapper/vg-root rw")


def _write(root: str, path: str, text: str) -> None:
    os.makedirs(os.path.dirname(root + path), exist_ok=True)
    with open(root + path, "w", encoding="ascii") as file:
        file.write(f"{text}\n")


def _link(root: str, path: str, target: str) -> None:
    os.makedirs(os.path.dirname(root + path), exist_ok=True)
    os.symlink(target, root + path)
