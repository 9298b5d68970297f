"""What a capture takes, what it leaves out, and that it is there whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from safeupdate.capture import Summary, capture
from safeupdate.cli import main
from safeupdate.commands import machine_at
from safeupdate.errors import FormatError, Unreadable, UsageError
from safeupdate.formats import capture_manifest
from safeupdate.machine import Machine, Space
from safeupdate.storage import devices
from safeupdate.trust import firmware
from tests.unit import elves
from tests.unit.trees import IMAGE, INITRD, MODULES, RELEASE, Link, tree, x86_image

SDA = "/sys/devices/pci0000:00/0000:00:01.0/virtio0/block/vda"
GUID = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
SHIM = "605dab50-e046-4300-abb6-3dd810dd8b23"
EFIVARS = "/sys/firmware/efi/efivars"
INFO = "/var/lib/dpkg/info"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine with something of each kind."""
    return tree(
        tmp_path / "machine",
        {
            IMAGE: x86_image(),
            INITRD: b"image",
            "/boot/grub/grub.cfg": (
                'set superusers="root"\npassword_pbkdf2 root grub.pbkdf2.sha512.10000.AB12.CD34\n  password me secret\n'
            ),
            "/boot/grub/grubenv": b"# GRUB Environment Block\nkernelopts=password=abc ro\n".ljust(1024, b"#"),
            "/boot/efi/EFI/debian/grubx64.efi": b"MZ loader",
            "/boot/efi/EFI/Linux/linux.efi": b"MZ unified",
            "/boot/efi/loader/random-seed": b"seed",
            "/boot/luks.key": b"key",
            "/vmlinuz": Link("boot/vmlinuz"),
            "/etc/fstab": "//server/x /x cifs username=me,password=secret,rw 0 0\n",
            "/etc/crypttab": "data UUID=x /etc/keys/data.key luks\n",
            "/etc/keys/data.key": "key",
            "/etc/shadow": "root:hash",
            "/etc/kernel/cmdline": "root=UUID=x",
            "/etc/kernel/signing.txt": "-----BEGIN PRIVATE KEY-----\nabc\n",
            "/etc/default/grub": Link("../shared/grub"),
            "/etc/shared/grub": "GRUB_DEFAULT=0\n",
            "/etc/os-release": Link("../usr/lib/os-release"),
            "/usr/lib/os-release": "ID=debian\n",
            "/etc/systemd/system/default.target": Link("/usr/lib/systemd/system/multi-user.target"),
            "/etc/systemd/system/data.mount": "[Mount]\nWhat=/dev/vda\nWhere=/data\n",
            "/etc/systemd/system/app.service": "[Service]\nEnvironment=TOKEN=secret\n",
            "/usr/lib/systemd/system/multi-user.target": "[Unit]\n",
            "/sbin": Link("usr/sbin"),
            "/usr/sbin/init": Link("../lib/systemd/systemd"),
            "/usr/lib/systemd/systemd": elves.program(interpreter="/lib64/ld.so.2", needed=("libc.so.6",)),
            "/lib64": Link("usr/lib64"),
            "/usr/lib64/ld.so.2": Link("ld-2.so"),
            "/usr/lib64/ld-2.so": elves.program(interpreter=None, needed=()),
            "/usr/lib64/libc.so.6": elves.program(interpreter=None, needed=()),
            "/usr/lib64/libother.so": elves.program(interpreter=None, needed=()),
            "/usr/bin/dracut": "#!/bin/sh\n",
            f"{MODULES}/modules.dep": "kernel/x.ko:\n",
            f"{MODULES}/kernel/x.ko": b"module",
            f"{MODULES}/build": Link("/usr/src/linux"),
            "/sys/class/block/vda": Link(f"../..{SDA[4:]}"),
            f"{SDA}/dev": "254:0\n",
            f"{SDA}/serial": "S123\n",
            f"{SDA}/queue/rotational": "0\n",
            f"{SDA}/dm/uuid": "LVM-abc\n",
            f"{SDA}/subsystem": Link("../../../../../../class/block"),
            "/sys/devices/pci0000:00/0000:00:01.0/modalias": "pci:v1AF4\n",
            "/sys/devices/pci0000:00/0000:00:02.0/modalias": "pci:other\n",
            "/sys/class/block/dm-0": Link("../../devices/virtual/block/dm-0"),
            "/sys/devices/virtual/block/dm-0/dm/name": "root\n",
            "/sys/devices/virtual/block/dm-0/slaves/vda": Link(f"../../../../..{SDA[4:]}"),
            devices.TABLE: "root: 0 9 crypt aes-xts-plain64 secret 0 254:0 4096\n",
            "/sys/fs/bcache/0123/cache0": Link(f"../../..{SDA[4:]}/bcache"),
            "/sys/fs/bcache/0123/internal/secret": "secret",
            "/sys/bus/virtio/drivers/virtio_blk/bind": "",
            "/sys/bus/virtio/drivers/virtio_blk/module": Link("../../../../module/virtio_blk"),
            "/sys/bus/virtio/drivers/virtio_blk/virtio0": Link("../../../../devices/pci0000:00/0000:00:01.0/virtio0"),
            "/sys/devices/platform/snd_aloop.0/modalias": "platform:snd_aloop\n",
            "/sys/devices/platform/snd_aloop.0/other": "secret\n",
            "/sys/class/dmi/id": Link("../../devices/virtual/dmi/id"),
            "/sys/devices/virtual/dmi/id/sys_vendor": "QEMU\n",
            "/sys/devices/virtual/dmi/id/product_uuid": "secret\n",
            "/sys/devices/virtual/dmi/id/board_serial": "secret\n",
            f"/sys/firmware/efi/efivars/BootOrder-{GUID}": b"\7\0\0\0\1\0",
            f"/sys/firmware/efi/efivars/LoaderSystemToken-{GUID}": b"\7\0\0\0secret",
            f"/sys/firmware/efi/efivars/LoaderInfo-{GUID}": b"\7\0\0\0x",
            f"/sys/firmware/efi/efivars/Setup-{GUID}": b"\7\0\0\0x",
            f"{EFIVARS}/MokNew-{SHIM}": b"\7\0\0\0certificate",
            f"{EFIVARS}/MokIgnoreDB-{SHIM}": b"\6\0\0\0\1",
            f"{EFIVARS}/SbatPolicy-{SHIM}": b"\7\0\0\0\1",
            f"{EFIVARS}/MokAuth-{SHIM}": b"\7\0\0\0secret of MokManager",
            f"{EFIVARS}/MokPW-{SHIM}": b"\7\0\0\0secret of MokManager",
            f"{EFIVARS}/MokSB-{SHIM}": b"\7\0\0\0\0\0\0\0\x06\0\0\0secret",
            f"{EFIVARS}/MokListTrustedNew-{SHIM}": b"\7\0\0\0\0\0\0\0\x06\0\0\0secret",
            "/sys/firmware/efi/mok-variables/MokListRT": b"list",
            "/sys/firmware/efi/mok-variables/MokXDelAuth": b"secret",
            "/var/lib/dkms/mok.pub": b"0\x82public",
            "/var/lib/dkms/mok.key": b"secret",
            "/var/lib/dkms/zfs/2.1/6.1.0/x86_64/module/zfs.ko": b"module",
            "/var/lib/shim-signed/mok/MOK.der": b"0\x82public",
            "/var/lib/shim-signed/mok/MOK.priv": b"secret",
            "/root/mok/MOK.der": b"0\x82public",
            "/root/notes": "secret",
            "/etc/dkms/framework.conf": "export KBUILD_SIGN_PIN=secret\n",
            "/etc/dkms/zfs.conf": "AUTOINSTALL=yes\n",
            "/usr/lib/depmod.d/dkms.conf": "search updates built-in\n",
            "/var/lib/dkms/zfs/2.1/source": Link("/usr/src/zfs-2.1"),
            "/usr/src/zfs-2.1/dkms.conf": "PACKAGE_NAME=zfs\n",
            "/usr/src/zfs-2.1/zfs.c": "secret",
            "/var/lib/dkms/zfs/2.1/build/make.log": "error: x\n",
            "/var/cache/akmods/acme/1.0-1-for-6.1.0.failed.log": "error: y\n",
            "/var/cache/akmods/acme/kmod-acme.rpm": b"secret",
            "/usr/src/akmods/acme-kmod.latest": Link("acme-kmod-1.0-1.fc40.src.rpm"),
            "/usr/src/akmods/acme-kmod-1.0-1.fc40.src.rpm": b"secret",
            "/usr/src/linux/Makefile": "secret",
            "/usr/src/linux/include/config/auto.conf": "secret",
            "/etc/safeupdate/safeupdate.toml": "[ledger]\nkeep_days = 9\n",
            "/var/lib/safeupdate/ledger.db": b"secret of the ledger",
            "/var/lib/dpkg/status": f"Package: linux-image-{RELEASE}\nStatus: install ok unpacked\nVersion: 1\n",
            "/var/lib/dpkg/status-old": "Package: secret\n",
            "/var/lib/dpkg/updates/0001": "Package: dracut\nStatus: install ok half-configured\nVersion: 1\n",
            "/var/lib/dpkg/triggers/Unincorp": "update-initramfs -\n",
            "/var/lib/dpkg/diversions": "",
            f"{INFO}/linux-image-{RELEASE}.list": f"{IMAGE}\n",
            f"{INFO}/linux-image-{RELEASE}.md5sums": f"{'0' * 32}  {IMAGE[1:]}\n",
            f"{INFO}/linux-image-{RELEASE}.postinst": "secret",
            f"{INFO}/wireguard-modules-{RELEASE}:amd64.list": f"{MODULES}/x.ko\n",
            f"{INFO}/linux-headers-{RELEASE}.list": "/usr/src/secret\n",
            f"{INFO}/openssl.list": "/usr/bin/secret\n",
            "/usr/lib/sysimage/rpm/rpmdb.sqlite": b"SQLite",
            "/usr/lib/shim/shimx64.efi.signed": b"MZ shim",
            f"{MODULES}/pkgbase": "linux\n",
            "/etc/sysctl.d/99-sysctl.conf": Link("../sysctl.conf"),
            "/etc/sysctl.conf": "kernel.panic = 10\nnet.ipv6.conf.all.stable_secret = 2001:db8::5ec\n",
            "/etc/systemd/system.conf": "[Manager]\nRuntimeWatchdogSec=60\nDefaultEnvironment=A=secret \\\n B=secret\n",
            "/sys/class/vtconsole/vtcon0": Link("../../devices/virtual/vtconsole/vtcon0"),
            "/sys/devices/virtual/vtconsole/vtcon0/name": "(S) dummy device\n",
            "/sys/class/drm/card0-DP-1": Link("../../devices/pci0000:00/0000:00:03.0/drm/card0/card0-DP-1"),
            "/sys/devices/pci0000:00/0000:00:03.0/drm/card0/card0-DP-1/status": "disconnected\n",
            "/sys/devices/pci0000:00/0000:00:03.0/drm/card0/card0-DP-1/edid": b"serial number: secret",
            "/sys/class/input/input1": Link("../../devices/virtual/input/input1"),
            "/sys/devices/virtual/input/input1/capabilities/ev": "120013\n",
            "/sys/devices/virtual/input/input1/uniq": "secret\n",
            "/sys/class/tty/console": Link("../../devices/virtual/tty/console"),
            "/sys/devices/virtual/tty/console/active": "tty0\n",
            "/proc/cmdline": "BOOT_IMAGE=/x root=UUID=x\n",
            "/proc/self/mountinfo": "27 1 254:0 / / rw - ext4 /dev/vda rw\n",
            "/proc/modules": "ext4 1 0 - Live 0xffffffffc0123000\n",
            "/proc/cpuinfo": "model\t: x\nSerial\t\t: 0000abc\n",
            "/proc/sys/kernel/osrelease": "6.1.0\n",
            "/proc/sys/kernel/hostname": "me\n",
            "/run/udev/data/b254:0": "E:ID_FS_UUID=x\nE:ID_SERIAL=S123\nE:DM_SERIAL=S123\nS:disk/by-id/x\n",
            "/run/udev/data/n2": "E:ID_NET_NAME=x\n",
            "/dev/disk/by-uuid/x": Link("../../vda"),
            "/dev/vg/home": Link("../dm-0"),
            "/dev/vda": "no node, and no link either",
        },
    )


def take(machine: Machine, place: Path, *, boot: bool = False) -> tuple[Summary, Path]:
    return capture(machine, str(place), boot=boot), place


def manifest(place: Path) -> capture_manifest.Manifest:
    return capture_manifest.parse(Path(f"{place}{capture_manifest.PATH}").read_bytes())


def names(place: Path) -> set[str]:
    return {f"/{path.relative_to(place)}" for path in place.rglob("*") if path.is_symlink() or path.is_file()}


def contents(place: Path) -> bytes:
    return b"\0".join(path.read_bytes() for path in place.rglob("*") if path.is_file() and not path.is_symlink())


def test_configuration_and_facts_go_in(machine: Machine, tmp_path: Path) -> None:
    summary, place = take(machine, tmp_path / "c")
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    for path in (
        "/etc/crypttab",
        "/etc/kernel/cmdline",
        "/usr/lib/os-release",
        f"{MODULES}/modules.dep",
        "/proc/cmdline",
        "/proc/self/mountinfo",
        "/proc/sys/kernel/osrelease",
        f"{SDA}/dev",
        f"{SDA}/queue/rotational",
        f"{SDA}/dm/uuid",
        "/sys/devices/pci0000:00/0000:00:01.0/modalias",
        "/sys/devices/virtual/dmi/id/sys_vendor",
        "/sys/devices/platform/snd_aloop.0/modalias",
        "/etc/dkms/zfs.conf",
        "/usr/lib/depmod.d/dkms.conf",
        "/usr/src/zfs-2.1/dkms.conf",
        "/var/lib/dkms/zfs/2.1/build/make.log",
        "/var/cache/akmods/acme/1.0-1-for-6.1.0.failed.log",
        f"/sys/firmware/efi/efivars/BootOrder-{GUID}",
        f"/sys/firmware/efi/efivars/LoaderInfo-{GUID}",
        "/etc/systemd/system/data.mount",
        "/usr/lib/systemd/systemd",
        "/usr/lib64/ld-2.so",
        "/usr/lib64/libc.so.6",
        "/boot/efi/EFI/debian/grubx64.efi",
        f"{EFIVARS}/MokNew-{SHIM}",
        f"{EFIVARS}/MokIgnoreDB-{SHIM}",
        f"{EFIVARS}/SbatPolicy-{SHIM}",
        "/sys/firmware/efi/mok-variables/MokListRT",
        "/var/lib/dkms/mok.pub",
        "/var/lib/shim-signed/mok/MOK.der",
        "/root/mok/MOK.der",
        "/etc/safeupdate/safeupdate.toml",
        "/var/lib/dpkg/status",
        "/var/lib/dpkg/updates/0001",
        "/var/lib/dpkg/triggers/Unincorp",
        f"{INFO}/linux-image-{RELEASE}.list",
        f"{INFO}/linux-image-{RELEASE}.md5sums",
        f"{INFO}/wireguard-modules-{RELEASE}:amd64.list",
        "/usr/lib/shim/shimx64.efi.signed",
        f"{MODULES}/pkgbase",
        "/sys/devices/virtual/vtconsole/vtcon0/name",
        "/sys/devices/pci0000:00/0000:00:03.0/drm/card0/card0-DP-1/status",
        "/sys/devices/virtual/input/input1/capabilities/ev",
        "/sys/devices/virtual/tty/console/active",
    ):
        assert Path(f"{place}{path}").read_bytes() == Path(f"{machine.root}{path}").read_bytes(), path
    for path, target in (
        ("/vmlinuz", "boot/vmlinuz"),
        ("/lib64", "usr/lib64"),
        ("/sbin", "usr/sbin"),
        ("/usr/sbin/init", "../lib/systemd/systemd"),
        ("/usr/lib64/ld.so.2", "ld-2.so"),
        ("/etc/systemd/system/default.target", "/usr/lib/systemd/system/multi-user.target"),
        ("/sys/class/block/vda", f"../..{SDA[4:]}"),
        ("/sys/bus/virtio/drivers/virtio_blk/module", "../../../../module/virtio_blk"),
        ("/sys/bus/virtio/drivers/virtio_blk/virtio0", "../../../../devices/pci0000:00/0000:00:01.0/virtio0"),
        ("/sys/devices/virtual/block/dm-0/slaves/vda", f"../../../../..{SDA[4:]}"),
        ("/sys/fs/bcache/0123/cache0", f"../../..{SDA[4:]}/bcache"),
        ("/dev/disk/by-uuid/x", "../../vda"),
        ("/dev/vg/home", "../dm-0"),
        ("/etc/default/grub", "../shared/grub"),
        (f"{MODULES}/build", "/usr/src/linux"),
        ("/var/lib/dkms/zfs/2.1/source", "/usr/src/zfs-2.1"),
        ("/usr/src/akmods/acme-kmod.latest", "acme-kmod-1.0-1.fc40.src.rpm"),
    ):
        assert os.readlink(f"{place}{path}") == target
    for path in ("/usr/src/akmods/acme-kmod-1.0-1.fc40.src.rpm", "/usr/src/linux/Makefile"):
        assert Path(f"{place}{path}").is_file()
    assert Path(f"{place}/usr/src/linux/include").is_dir()
    assert Path(f"{place}/etc/shared/grub").read_text() == "GRUB_DEFAULT=0\n"
    assert Path(f"{place}{devices.TABLE}").read_text() == "root: 0 9 crypt aes-xts-plain64 - 0 254:0 4096\n"
    assert "kernel.panic = 10\n" in Path(f"{place}/etc/sysctl.conf").read_text()
    assert "RuntimeWatchdogSec=60\n" in Path(f"{place}/etc/systemd/system.conf").read_text()
    assert summary.unreadable == () and summary.files + summary.links == len(names(place)) - 1


def test_what_never_goes_in(machine: Machine, tmp_path: Path) -> None:
    _, place = take(machine, tmp_path / "c", boot=True)
    found = names(place)
    for path in (
        "/etc/shadow",
        "/etc/keys/data.key",
        "/dev/vda",
        "/run/udev/data/n2",
        "/usr/lib64/libother.so",
        "/proc/sys/kernel/hostname",
        f"{SDA}/serial",
        "/sys/devices/virtual/dmi/id/product_uuid",
        "/sys/devices/virtual/dmi/id/board_serial",
        "/sys/devices/pci0000:00/0000:00:02.0/modalias",
        f"/sys/firmware/efi/efivars/LoaderSystemToken-{GUID}",
        f"/sys/firmware/efi/efivars/Setup-{GUID}",
        "/root/notes",
        "/var/lib/shim-signed/mok/MOK.priv",
        "/var/lib/safeupdate/ledger.db",
        f"{INFO}/linux-image-{RELEASE}.postinst",
        f"{INFO}/linux-headers-{RELEASE}.list",
        f"{INFO}/openssl.list",
        "/sys/devices/virtual/input/input1/uniq",
        "/sys/fs/bcache/0123/internal/secret",
        "/sys/devices/pci0000:00/0000:00:03.0/drm/card0/card0-DP-1/edid",
    ):
        assert path not in found
    for path in (
        "/boot/luks.key",
        "/boot/efi/loader/random-seed",
        "/etc/kernel/signing.txt",
        "/etc/systemd/system/app.service",
        "/var/lib/dkms/mok.key",
        "/var/lib/dkms/zfs/2.1/6.1.0/x86_64/module/zfs.ko",
        "/var/lib/dpkg/status-old",
        f"{EFIVARS}/MokAuth-{SHIM}",
        f"{EFIVARS}/MokPW-{SHIM}",
        f"{EFIVARS}/MokSB-{SHIM}",
        f"{EFIVARS}/MokListTrustedNew-{SHIM}",
        "/sys/firmware/efi/mok-variables/MokXDelAuth",
    ):
        data = Path(f"{place}{path}").read_bytes()
        assert data == bytes(len(data)) and path in manifest(place).left_out
    everything = contents(place).replace(b"stable_secret", b"")
    for secret in (b"secret", b"AB12.CD34", b"abc ro", b"S123", b"c0123000", b"TOKEN", b"0000abc", b"db8::5ec"):
        assert secret not in everything


def test_lengths_stay_where_passwords_are_taken_out(machine: Machine, tmp_path: Path) -> None:
    _, place = take(machine, tmp_path / "c")
    for path in ("/boot/grub/grubenv", "/boot/grub/grub.cfg", "/etc/fstab"):
        assert Path(f"{place}{path}").stat().st_size == Path(f"{machine.root}{path}").stat().st_size
    assert "username=me,password=XXXXXX,rw" in Path(f"{place}/etc/fstab").read_text()


def test_boot_files_only_when_asked(machine: Machine, tmp_path: Path) -> None:
    boot_files = {IMAGE, INITRD, f"{MODULES}/kernel/x.ko", "/boot/efi/EFI/Linux/linux.efi"}
    boot_files |= {"/usr/lib/sysimage/rpm/rpmdb.sqlite"}
    _, without = take(machine, tmp_path / "without")
    assert boot_files <= manifest(without).left_out
    for path in boot_files:
        assert Path(f"{without}{path}").stat().st_size == Path(f"{machine.root}{path}").stat().st_size
        assert not any(Path(f"{without}{path}").read_bytes())
    _, place = take(machine, tmp_path / "with", boot=True)
    assert not boot_files & manifest(place).left_out
    for path in boot_files:
        assert Path(f"{place}{path}").read_bytes() == Path(f"{machine.root}{path}").read_bytes()


def test_an_empty_file_is_no_secret(tmp_path: Path) -> None:
    _, place = take(tree(tmp_path / "m", {IMAGE: b""}), tmp_path / "c")
    assert Path(f"{place}{IMAGE}").stat().st_size == 0 and manifest(place).left_out == frozenset()


def test_a_capture_of_a_capture_is_the_same(machine: Machine, tmp_path: Path) -> None:
    _, first = take(machine, tmp_path / "first", boot=True)
    _, second = take(Machine.tree(str(first)), tmp_path / "second", boot=True)
    assert names(first) == names(second)


def test_nothing_leads_out_of_the_machine(tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("outside")
    outside = os.path.relpath(tmp_path / "outside", tmp_path / "m/etc")
    machine = tree(tmp_path / "m", {"/etc/fstab": Link(outside), "/etc/crypttab": Link(str(tmp_path / "outside"))})
    _, place = take(machine, tmp_path / "c")
    assert not any(
        path.is_file() and path.read_bytes() == b"outside" for path in place.rglob("*") if not path.is_symlink()
    )


def test_loops_and_odd_files(tmp_path: Path) -> None:
    machine = tree(
        tmp_path / "m",
        {
            "/etc/fstab": Link("fstab"),
            "/boot/a": Link("."),
            "/etc/kernel/x": Link("../kernel"),
            "/sys/class/block/x": Link("x"),
        },
    )
    os.mkfifo(tmp_path / "m/boot/fifo")
    summary, place = take(machine, tmp_path / "c")
    assert not os.path.lexists(place / "boot/fifo")
    assert summary.files == 0


def test_the_destination(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").write_text("")
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir(mode=0o755)
    for name in ("full", "file", "gone/deep"):
        with pytest.raises(UsageError):
            take(machine, tmp_path / name)
    _, place = take(machine, tmp_path / "empty")
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "full", "machine"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_cannot_be_read_is_named(machine: Machine, tmp_path: Path) -> None:
    os.chmod(f"{machine.root}/etc/fstab", 0)
    os.chmod(f"{machine.root}/boot/efi", 0)
    summary, place = take(machine, tmp_path / "c")
    os.chmod(f"{machine.root}/boot/efi", 0o700)
    assert summary.unreadable == ("/boot/efi", "/etc/fstab")
    assert "/etc/fstab" in manifest(place).left_out and hides(str(place), manifest(place), "/boot/efi/EFI")


def test_a_destination_inside_the_machine(machine: Machine) -> None:
    _, place = take(machine, Path(machine.root) / "boot/captured")
    assert not (place / "boot/captured").exists()
    assert not [name for name in os.listdir(place / "boot") if name.startswith(".captured")]


def test_the_verb(machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = str(tmp_path / "c")
    assert main(["capture", "--root", machine.root, place]) == 0
    said = capsys.readouterr().out
    assert f"safeupdate check --root {place}" in said and "--boot" in said
    assert main(["capture", "--root", machine.root, place]) == 2
    assert capsys.readouterr().out == ""


def hides(place: str, given: capture_manifest.Manifest, path: str) -> bool:
    """Whether the tree, taken with its manifest, says that nothing can be said of `path`."""
    try:
        Machine.tree(place, left_out=given.left_out, unreadable=given.unreadable).exists(path)
    except Unreadable:
        return True
    return False


def test_requests_to_mok_manager_are_known_without_what_they_say(machine: Machine, tmp_path: Path) -> None:
    _, place = take(machine, tmp_path / "c")
    store = firmware.read(machine_at(str(place)))
    assert store == firmware.read(machine)
    assert store.requests == ("MokNew", "MokAuth", "MokXDelAuth", "MokSB", "MokPW", "MokListTrustedNew")


def test_what_a_file_system_has_left(tmp_path: Path) -> None:
    machine = Machine(str(tmp_path / "m"), live=True)
    tree(tmp_path / "m", {IMAGE: b"x", f"{MODULES}/modules.dep": b"", "/lib/modules/empty/modules.dep": b""})
    _, place = take(machine, tmp_path / "c")
    known = manifest(place).file_systems
    assert list(known) == ["/"] and known["/"].device == os.stat(machine.root).st_dev
    captured = machine_at(str(place))
    assert captured.space("/boot") == captured.space(MODULES) == Space(**vars(known["/"]))
    assert captured.space("/none") is None and captured.space(IMAGE) is None
    assert Machine.tree(str(place)).space("/boot") is None, "without its manifest it tells nothing of the host's disk"


def test_two_file_systems_stay_two(tmp_path: Path) -> None:
    root = Space(1, 1000, 500, 400, 10, 5, read_only=False)
    boot = Space(2, 100, 50, 50, None, None, read_only=True)
    place = tmp_path / "c"
    tree(place, {"/boot/efi/x": b"", "/bootleg/x": b"", "/usr/lib/modules/x": b"", "/lib": Link("usr/lib")})
    given = {path: capture_manifest.FileSystem(**vars(one)) for path, one in {"/": root, "/boot": boot}.items()}
    data = capture_manifest.compose(capture_manifest.Manifest(file_systems=given), version="1", boot=False)
    Path(f"{place}{capture_manifest.PATH}").write_bytes(data)
    machine = machine_at(str(place))
    assert [machine.space(path) for path in ("/", "/boot", "/boot/efi", "/bootleg", "/lib/modules")] == (
        [root, boot, boot, root, root]
    )
    plain = Machine.tree(str(place))
    for path in ("/", "/boot", "/boot/efi/x", "/bootleg/x", "/lib"):
        status, real = machine.stat(path, follow=False), plain.stat(path, follow=False)
        assert status is not None and real is not None
        assert status.st_dev == (2 if path.startswith("/boot/") or path == "/boot" else 1)
        assert (status.st_mtime_ns, status.st_mtime, status.st_size) == (real.st_mtime_ns, real.st_mtime, real.st_size)


def test_manifests(tmp_path: Path) -> None:
    given = capture_manifest.Manifest(frozenset({"/a"}), frozenset({"/b"}))
    data = capture_manifest.compose(given, version="1", boot=False)
    assert capture_manifest.parse(data) == given
    (tmp_path / "b").mkdir()  # an empty directory is all that the tree has of it
    hidden = [path for path in ("/b", "/b/c/d", "/bc", "/a") if hides(str(tmp_path), given, path)]
    assert hidden == ["/b", "/b/c/d"]
    spaces = (b'"x"', b"[1]", b'{"/": 1}', b'{"/": {}}', data.replace(b"{}", b'{"/": {"device": "x"}}'))
    mistakes = [b'{"left_out": [], "unreadable": [], "file_systems": %s}' % one for one in spaces]
    broken_ones = (b"", b"[]", b"{}", data[:-5], b'{"left_out": 1, "unreadable": []}', b"[" * 100_000, b"\xff")
    assert capture_manifest.parse(b'{"left_out": [], "unreadable": []}').file_systems == {}
    for broken in (*broken_ones, *mistakes):
        with pytest.raises(FormatError):
            capture_manifest.parse(broken)
