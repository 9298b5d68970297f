from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from safeupdate.kernels import Kernel
from safeupdate.machine import Completed, Machine
from safeupdate.module_tree import ModuleTree
from safeupdate.storage import layers
from safeupdate.storage.image import Image
from safeupdate.storage.requirement import Requirement
from safeupdate.storage.stack import Layer
from safeupdate.storage.target import Target
from safeupdate.volumes import Volumes
from tests.unit import initrd
from tests.unit.elves import kernel_module
from tests.unit.trees import MODULES, RELEASE, tree

UUID = "0f4f4dc2-1d0a-4f3e-9d1b-1b8a3d3f7a10"
ROOT = "11111111-2222-3333-4444-555555555555"
ARRAY = "3aaa0122:29827cfa:5331ad66:ca767371"
PCI = "pci:v00008086d00002922sv00001AF4sd00001100"

MODULES_TEXT = (
    "ahci ata_generic bcache btrfs crc32c_generic dm-cache dm-cache-smq dm-crypt dm-integrity dm-mod "
    "dm-multipath dm-raid dm-round-robin dm-service-time dm-thin-pool dm-verity ecb essiv ext4 iscsi_tcp "
    "jbd2 libcrc32c loop md-mod mpt3sas nbd nfs nfsv4 nvme overlay raid1 raid10 raid456 sd_mod "
    "serpent-avx2 serpent_generic sha256_generic shpchp uas usb-storage virtio_blk xfs xts xxhash_generic aesni-intel "
    "zfs "
)
MODULE_NAMES = MODULES_TEXT.split()
DEPENDS = {"ext4": "jbd2", "xfs": "libcrc32c", "btrfs": "libcrc32c", "dm-crypt": "dm-mod", "dm-raid": "raid456 dm-mod"}
ALIASES = """\
alias fs-ext4 ext4
alias fs-ext3 ext4
alias fs-xfs xfs
alias fs-btrfs btrfs
alias fs-nfs nfs
alias fs-nfs4 nfs
alias crypto-crc32c crc32c_generic
alias crc32c crc32c_generic
alias crypto-xxhash64 xxhash_generic
alias crypto-aes aesni_intel
alias crypto-xts xts
alias crypto-ecb ecb
alias crypto-serpent serpent_generic
alias crypto-essiv essiv
alias crypto-sha256 sha256_generic
alias md-raid1 raid1
alias md-raid10 raid10
alias md-raid4 raid456
alias md-raid5 raid456
alias md-raid6 raid456
alias dm-cache-default dm_cache_smq
alias mpt2sas mpt3sas
alias pci:v00001000d00000072sv*sd*bc*sc*i* mpt3sas
alias pci:v*d*sv*sd*bc01sc06i01* ahci
alias pci:v*d*sv*sd*bc01sc01i* ata_generic
alias pci:v*d*sv*sd*bc06sc04i00* shpchp
alias pci:v*d*sv*sd*bc01sc08i02* nvme
alias scsi:t-0x00* sd_mod
alias usb:v*p*d*dc*dsc*dp*ic08isc06ip62in* uas
alias usb:v*p*d*dc*dsc*dp*ic08isc06ip62in* usb_storage
alias virtio:d00000002v* virtio_blk
"""
SOFTDEP = """\
softdep libcrc32c pre: crc32c
softdep ext4 pre: crypto-crc32c
softdep btrfs pre: sha256
softdep btrfs pre: xxhash64
"""

HELD = {name.replace("-", "_") for name in MODULE_NAMES}

DEBIAN: dict[str, initrd.Content] = {
    "lib": "usr/lib",
    "bin": "usr/bin",
    "sbin": "usr/sbin",
    "init": b"#!/bin/sh\n",
    "conf/initramfs.conf": b"",
    "scripts/functions": b"",
    "scripts/local-premount/btrfs": b"",
    "scripts/local-top/cryptroot": b"cryptsetup",
    "scripts/local-top/multipath": b"",
    "scripts/local-block/mdadm": b"",
    "scripts/zfs": b"",
    "cryptroot/crypttab": f"root_crypt UUID={UUID} none luks\n".encode(),
    "etc/mdadm/mdadm.conf": b"HOMEHOST <system>\n",
    "etc/multipath/wwids": b"/3600/\n",
    "usr/lib/systemd/systemd-udevd": b"",
    "usr/lib/cryptsetup/functions": b"",
    "usr/lib/cryptsetup/askpass": b"",
    "usr/lib/udev/bcache-register": b"",
    "usr/lib/udev/rules.d/55-dm.rules": b"",
    "usr/lib/udev/rules.d/56-lvm.rules": b"",
    "usr/lib/udev/rules.d/60-persistent-storage.rules": b"",
    "usr/lib/udev/rules.d/60-persistent-storage-dm.rules": b"",
    "usr/lib/udev/rules.d/69-bcache.rules": b"",
    "usr/lib/udev/rules.d/69-lvm.rules": b"",
    "usr/lib/udev/rules.d/95-dm-notify.rules": b"",
    **{f"usr/lib/multipath/{name}": b"" for name in ("libchecktur.so", "libprioconst.so")},
    **{f"usr/sbin/{name}": b"" for name in ("cryptsetup", "dmsetup", "lvm", "mdadm", "multipath", "zpool", "zfs")},
    **{f"usr/bin/{name}": b"" for name in ("btrfs", "kpartx", "ipconfig", "nfsmount", "iscsistart", "nbd-client")},
}
FEDORA: dict[str, initrd.Content] = {
    "lib": "usr/lib",
    "bin": "usr/bin",
    "sbin": "usr/sbin",
    "init": "usr/lib/systemd/systemd",
    "usr/lib/systemd/systemd": b"",
    "usr/lib/dracut/build-parameter.txt": b"",
    "usr/lib/systemd/systemd-udevd": b"",
    "usr/lib/systemd/systemd-cryptsetup": b"",
    "usr/lib/systemd/system-generators/systemd-cryptsetup-generator": b"",
    "usr/lib/systemd/system/cryptsetup.target": b"",
    "usr/lib/systemd/system/multipathd.service": b"",
    "usr/lib/udev/rules.d/10-dm.rules": b"",
    "usr/lib/udev/rules.d/11-dm-lvm.rules": b"",
    "usr/lib/udev/rules.d/13-dm-disk.rules": b"",
    "usr/lib/udev/rules.d/63-md-raid-arrays.rules": b'SYMLINK+="disk/by-id/md-uuid-$env{MD_UUID}"\n',
    "usr/lib/udev/rules.d/64-btrfs.rules": b"",
    "usr/lib/udev/rules.d/64-lvm.rules": b"",
    "usr/lib/udev/rules.d/65-md-incremental-imsm.rules": b'RUN+="/sbin/mdadm -I $env{DEVNAME}"\n',
    "usr/lib/udev/rules.d/62-multipath.rules": b'RUN+="$env{MPATH_SBIN_PATH}/kpartx -un -p -part /dev/$name"\n',
    "usr/lib/udev/rules.d/69-bcache.rules": b"",
    "usr/lib/udev/rules.d/95-dm-notify.rules": b"",
    "usr/lib/udev/bcache-register": b"",
    **{f"usr/lib64/multipath/{name}": b"" for name in ("libchecktur.so", "libprioconst.so")},
    **{f"usr/sbin/{name}": b"" for name in ("dmsetup", "kpartx", "lvm", "lvm_scan", "mdadm", "multipathd")},
    **{f"usr/sbin/{name}": b"" for name in ("zpool", "zfs", "iscsiadm", "mount.nfs", "NetworkManager", "nbd-client")},
}
LINE = f"root=/dev/mapper/vg-root rd.lvm.lv=vg/root rd.luks.uuid=luks-{UUID} rd.md.uuid={ARRAY}"


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Target:
    return kernel(tmp_path_factory.mktemp("kernel"))


def kernel(
    root: Path, *, builtin: str = "kernel/lib/crc16.ko\n", alias: str = ALIASES, dep: str = "", softdep: str = SOFTDEP
) -> Target:
    dep += "".join(f"{_file(name)}: {' '.join(map(_file, DEPENDS.get(name, '').split()))}\n" for name in MODULE_NAMES)
    lists = {"dep": dep, "alias": alias, "softdep": softdep, "builtin": builtin}
    files = {f"{MODULES}/modules.{name}": text for name, text in lists.items()}
    files[f"{MODULES}/modules.builtin.modinfo"] = "crc16.license=GPL\0crc16.alias=crc16\0"
    return Target(ModuleTree(Kernel(RELEASE, f"/boot/vmlinuz-{RELEASE}", tree(root, files))))


def _file(name: str) -> str:
    return f"kernel/{name}.ko"


def image(
    target: Target, files: dict[str, initrd.Content], *gone: str, line: str = LINE, lost: Iterable[str] = ()
) -> Image:
    """An image with all modules but those that are lost, and all these files but those that are gone."""
    dropped = set(lost)
    names = [name for name in MODULE_NAMES if name.replace("-", "_") not in dropped]
    held = {f"usr/lib/modules/{RELEASE}/{_file(name)}": b"" for name in names}
    dep = "".join(f"{_file(name)}: {' '.join(map(_file, DEPENDS.get(name, '').split()))}\n" for name in names)
    kept = {path: content for path, content in files.items() if not path.endswith(gone)} if gone else files
    everything = {**kept, **held, f"usr/lib/modules/{RELEASE}/modules.dep": dep.encode()}
    return Image(initrd.read(initrd.archive(everything)), target, entry_line=line)


def unmet(top: Layer, found: Image) -> list[Requirement]:
    return [one for layer in top.walk() for one in layers.needs(layer, found) if not found.holds(one)]


def stops(top: Layer, found: Image) -> list[str]:
    """The first names of what is missed and must be there."""
    return list(dict.fromkeys(one.names[0] for one in unmet(top, found) if one.must))


def of_disk(fstype: str = "ext4", *between: Layer, **facts: str) -> Layer:
    """A file system on a partition of a SATA disk, with what is between the two, the highest first."""
    driven = {"driver": "ahci", "driver-name": "ahci", "modalias": f"{PCI}bc01sc06i01"}
    controller = Layer("controller", "0000:00:1f.2", "SATA controller", driven)
    driven = {"driver": "sd_mod", "driver-name": "sd", "modalias": "scsi:t-0x00"}
    below = Layer("partition", "sda1", "partition sda1", {}, (Layer("disk", "sda", "disk sda", driven, (controller,)),))
    for one in reversed(between):
        below = Layer(one.kind, one.name, one.title, one.facts, (below,))
    return Layer("file-system", fstype, f"file system {fstype}", {"fstype": fstype, **facts}, (below,))


def layer(kind: str, name: str = "dm-0", **facts: str) -> Layer:
    return Layer(kind, name, f"{kind} {name}", {key.replace("_", "-"): value for key, value in facts.items()})


LUKS = layer("crypt", dm_name="root_crypt", dm_uuid="CRYPT-LUKS2-x", luks_uuid=UUID, cipher="aes-xts-plain64")
LVM = layer("lvm", dm_name="vg-root", dm_uuid="LVM-x", group="vg", volume="root", targets="linear")
THIN = layer("lvm-thin", dm_name="vg-root", dm_uuid="LVM-x", group="vg", volume="root", targets="thin")
MD = layer("md", "md0", level="raid5", array_uuid=ARRAY, metadata="1.2", degraded="0")
MULTIPATH = layer("multipath", dm_name="mpatha", dm_uuid="mpath-3600", wwid="3600")

STACKS = {
    "ext4": of_disk(),
    "ext3": of_disk("ext3"),
    "xfs": of_disk("xfs"),
    "btrfs": of_disk("btrfs", devices="2", checksum="xxhash64"),
    "luks": of_disk("ext4", LUKS),
    "lvm": of_disk("ext4", LVM),
    "thin": of_disk("ext4", THIN, layer("lvm-thin", dm_name="vg-pool_tdata", dm_uuid="LVM-x-tdata", part="yes")),
    "cache": of_disk("ext4", layer("lvm-cache", dm_uuid="LVM-x", group="vg", volume="root", targets="cache")),
    "lvm-raid": of_disk("ext4", layer("lvm-raid", dm_uuid="LVM-x", group="vg", volume="root", level="raid1")),
    "md": of_disk("xfs", MD),
    "md of an old level": of_disk("xfs", layer("md", "md0", level="raid4", array_uuid=ARRAY, metadata="1.2")),
    "lvm on luks on md": of_disk("xfs", LVM, LUKS, MD),
    "bcache": of_disk("ext4", layer("bcache", "bcache0")),
    "multipath": of_disk("xfs", LVM, MULTIPATH),
    "zfs": of_disk("zfs", layer("zfs-pool", "rpool")),
    "loop": of_disk("ext4", layer("loop", "loop0")),
    "nbd": of_disk("ext4", layer("nbd", "nbd0")),
}


@pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS)
@pytest.mark.parametrize("files", [DEBIAN, FEDORA], ids=["initramfs-tools", "dracut"])
def test_an_image_that_has_it_all(target: Target, files: dict[str, initrd.Content], stack: Layer) -> None:
    assert unmet(stack, image(target, files)) == []


MODULES_OF = {
    "ext4": {"ext4", "jbd2", "crc32c_generic"},
    "xfs": {"xfs", "libcrc32c", "crc32c_generic"},
    "btrfs": {"btrfs", "libcrc32c", "xxhash_generic", "crc32c_generic"},
    "luks": {"dm_mod", "dm_crypt", "aesni_intel"},
    "lvm": {"dm_mod"},
    "thin": {"dm_mod", "dm_thin_pool"},
    "cache": {"dm_mod", "dm_cache", "dm_cache_smq"},
    "lvm-raid": {"dm_mod", "dm_raid", "raid456", "raid1"},
    "md": {"md_mod", "raid456"},
    "bcache": {"bcache"},
    "loop": {"loop"},
    "nbd": {"nbd"},
}


@pytest.mark.parametrize("name", MODULES_OF)
def test_each_module_without_which_it_does_not_come_up(target: Target, name: str) -> None:
    """And no other of those in the image."""
    stopping = {module for module in HELD if stops(STACKS[name], image(target, DEBIAN, lost=[module]))}
    assert stopping == MODULES_OF[name] | MODULES_OF[STACKS[name].name] | {"ahci", "sd_mod"}


HELPERS = {
    "btrfs": ({"bin/btrfs", "local-premount/btrfs"}, {"64-btrfs.rules"}),
    "luks": (
        {"cryptsetup", "cryptsetup/functions", "askpass", "local-top/cryptroot", "cryptroot/crypttab"},
        {"systemd-cryptsetup", "systemd-cryptsetup-generator", "13-dm-disk.rules"},
    ),
    "lvm": ({"sbin/lvm", "69-lvm.rules", "60-persistent-storage.rules"}, {"sbin/lvm", "64-lvm.rules", "lvm_scan"}),
    "md": (
        {"sbin/mdadm", "local-block/mdadm"},
        {"sbin/mdadm", "63-md-raid-arrays.rules", "65-md-incremental-imsm.rules"},
    ),
    "bcache": ({"69-bcache.rules", "bcache-register"}, {"69-bcache.rules", "bcache-register"}),
    "zfs": ({"zpool", "sbin/zfs", "scripts/zfs"}, {"zpool", "sbin/zfs"}),
    "nbd": ({"nbd-client"}, {"nbd-client"}),
}


@pytest.mark.parametrize("name", HELPERS)
def test_each_helper_without_which_it_does_not_come_up(target: Target, name: str) -> None:
    for files, gone in zip((DEBIAN, FEDORA), HELPERS[name]):
        for one in gone | ({"95-dm-notify.rules", "dmsetup"} if name in ("luks", "lvm") else set()):
            assert stops(STACKS[name], image(target, files, one)), one


def test_what_boots_without_is_no_must(target: Target) -> None:
    for gone in ("60-persistent-storage-dm.rules", "multipath", "btrfs", "mdadm", "lvm", "zpool"):
        assert stops(STACKS["ext4"], image(target, DEBIAN, gone)) == []
    assert stops(STACKS["md"], image(target, DEBIAN, "mdadm.conf")) == []
    assert stops(STACKS["luks"], image(target, DEBIAN, lost=["xts", "ecb"])) == []  # aesni_intel brings xts(aes)
    assert stops(STACKS["luks"], image(target, DEBIAN, lost=["ecb", "raid1"])) == []


def test_a_kernel_whose_btrfs_brings_its_checksums(tmp_path: Path) -> None:
    """Since Linux 7.0 it calls the library, whatever modules there are for the crypto API besides."""
    lost = image(kernel(tmp_path, softdep="softdep ext4 pre: crc32c\n"), DEBIAN, lost=["xxhash_generic"])
    assert unmet(STACKS["btrfs"], lost) == []


def test_a_partition_of_a_multipath_device_that_root_names(target: Target) -> None:
    part = layer("partition", dm_name="mpatha-part1", dm_uuid="part1-mpath-3600", targets="linear")
    stack, line = of_disk("xfs", part, MULTIPATH), "root=/dev/mapper/mpatha-part1"
    assert stops(stack, image(target, DEBIAN, line=line)) == []
    assert stops(stack, image(target, FEDORA, line=line)) == []
    assert stops(stack, image(target, DEBIAN, "/kpartx", line=line)) == ["kpartx"]
    assert stops(stack, image(target, FEDORA, "/kpartx", "62-multipath.rules", line=line)) == [
        "kpartx",
        "66-kpartx.rules",
    ]
    assert unmet(stack, image(target, FEDORA, "/kpartx", line="root=UUID=1")) == []  # nothing here names the device


def test_algorithms_of_other_ciphers(target: Target) -> None:
    serpent = of_disk("ext4", layer("crypt", dm_uuid="CRYPT-PLAIN", dm_name="c", cipher="serpent-cbc-essiv:sha256"))
    lost = ["serpent_generic", "essiv", "sha256_generic"]
    assert stops(serpent, image(target, FEDORA, lost=lost)) == lost[:2] + lost[2:]
    xts = of_disk("ext4", layer("crypt", dm_uuid="CRYPT-PLAIN", dm_name="c", cipher="capi:xts(serpent)-plain64"))
    assert stops(xts, image(target, FEDORA, lost=["ecb"])) == ["ecb"]
    assert stops(xts, image(target, FEDORA, lost=["serpent_generic", "xts"])) == ["xts", "serpent_generic"]


@pytest.mark.parametrize(("features", "lost"), [("0000,0099,0120", []), ("0000,0120", ["aesni_intel"])])
def test_a_cipher_that_this_processor_has_not(tmp_path: Path, features: str, lost: list[str]) -> None:
    """aesni_intel is loaded and gives up where there is no AES in the processor."""
    alias = f"{ALIASES}alias cpu:type:x86,ven*fam*mod*:feature:*0099* aesni-intel\nalias crypto-aes serpent_generic\n"
    found = kernel(tmp_path, alias=alias)
    tree(tmp_path, {"/sys/devices/system/cpu/modalias": f"cpu:type:x86,ven0000fam0006mod008E:feature:,{features},\n"})
    held = image(found, FEDORA, lost=["serpent_generic"])
    assert stops(STACKS["luks"], held) == (["serpent_generic"] if lost else [])
    assert stops(STACKS["luks"], image(found, FEDORA)) == []


def test_a_cipher_for_this_processor_brings_the_simple_modes(tmp_path: Path) -> None:
    """Seen on 6.1: serpent-xts opens with serpent_avx2 and xts alone."""
    found = kernel(tmp_path, alias=ALIASES + "alias crypto-serpent serpent-avx2\n")
    xts = of_disk("ext4", layer("crypt", dm_uuid="CRYPT-PLAIN", dm_name="c", cipher="serpent-xts-plain64"))
    assert stops(xts, image(found, FEDORA, lost=["ecb", "serpent_generic"])) == []
    assert stops(xts, image(found, FEDORA, lost=["xts"])) == ["xts"]


def test_another_volume_in_crypttab(target: Target) -> None:
    files = {**DEBIAN, "cryptroot/crypttab": b"swap UUID=11111111-2222-3333-4444-555555555555 none luks\n"}
    assert stops(STACKS["luks"], image(target, files)) == ["root_crypt in /cryptroot/crypttab"]
    assert stops(STACKS["luks"], image(target, files, line="cryptopts=source=/dev/sda1")) == []


@pytest.mark.parametrize("source", [f"UUID={UUID.upper()}", f"/dev/disk/by-uuid/{UUID}", "/dev/sda1", "PARTUUID=12-01"])
def test_the_number_of_a_header(target: Target, source: str) -> None:
    """A header that was given another one is not found, whatever the volume is called."""
    files = {**DEBIAN, "cryptroot/crypttab": f"root_crypt {source} none luks\n".encode()}
    assert stops(STACKS["luks"], image(target, files)) == []
    files = {**DEBIAN, "cryptroot/crypttab": f"root_crypt UUID={ROOT} none luks\n".encode()}
    assert stops(STACKS["luks"], image(target, files)) == ["root_crypt in /cryptroot/crypttab"]


def test_a_script_of_ones_own_that_opens_the_volume(target: Target) -> None:
    files = {**DEBIAN, "scripts/local-top/unlock": b"#!/bin/sh\ncryptsetup open /dev/sda1 root\n"}
    found = image(target, files, "cryptroot/crypttab", "local-top/cryptroot")
    assert stops(STACKS["luks"], found) == []


@pytest.mark.parametrize(
    ("line", "lost"),
    [
        ("none luks,keyscript=decrypt_keyctl", "/lib/cryptsetup/scripts/decrypt_keyctl"),
        ("none luks,keyscript=/usr/local/bin/key", "/usr/local/bin/key"),
        ("/cryptroot/keyfiles/root_crypt.key luks", "/cryptroot/keyfiles/root_crypt.key"),
    ],
)
def test_where_the_key_comes_from(target: Target, line: str, lost: str) -> None:
    files = {**DEBIAN, "cryptroot/crypttab": f"root_crypt UUID={UUID} {line}\n".encode()}
    assert stops(STACKS["luks"], image(target, files)) == [lost]
    assert stops(STACKS["luks"], image(target, {**files, lost.lstrip("/"): b""}, "askpass")) == []


def test_cryptsetup_before_2_0(target: Target) -> None:
    files: dict[str, initrd.Content] = {path: data for path, data in DEBIAN.items() if "crypttab" not in path}
    files["conf/conf.d/cryptroot"] = f"target=root_crypt,source=UUID={UUID},key=none,rootdev\n".encode()
    assert stops(STACKS["luks"], image(target, files, "cryptsetup/functions")) == []


@pytest.mark.parametrize(
    ("line", "crypttab", "opens"),
    [
        (f"rd.luks.uuid={UUID}", "", True),
        ("rd.luks.uuid=luks-0f4f4dc2", "", True),
        (f"rd.luks.name={UUID}=root_crypt", "", True),
        (f"luks.uuid={UUID.upper()}", "", True),
        ("rd.auto", "", True),
        ("rd.auto=0", "", False),
        (f"rd.luks=0 rd.luks.uuid={UUID}", "", False),
        ("rd.luks.uuid=luks-11111111-2222-3333-4444-555555555555", "", False),
        ("rd.luks.partuuid=1234", "", True),
        ("", f"root_crypt UUID={UUID} none\n", True),
        ("", f"other UUID={UUID} none\n", True),
        ("", "other UUID=11111111-2222-3333-4444-555555555555 none\n", False),
        ("", "other /dev/sda2 none\n", True),  # it may be the one
    ],
)
def test_how_dracut_is_told_to_open_a_volume(target: Target, line: str, crypttab: str, opens: bool) -> None:
    files = {**FEDORA, "etc/crypttab": crypttab.encode()}
    lost = stops(STACKS["luks"], image(target, files, line=f"root=UUID=1 {line}"))
    assert lost == ([] if opens else [f"rd.luks.uuid={UUID}"])


def test_dracut_reads_its_own_command_line(target: Target) -> None:
    files = {**FEDORA, "etc/cmdline.d/90crypt.conf": f" rd.luks.uuid=luks-{UUID}\n".encode()}
    assert stops(STACKS["luks"], image(target, files, line="root=UUID=1 ro")) == []


def test_what_opens_a_volume_without_a_question_is_missed_and_no_must(target: Target) -> None:
    crypttab = f"root_crypt UUID={UUID} /etc/keys/root tpm2-device=auto,keyscript=/bin/k\n"
    lost = unmet(STACKS["luks"], image(target, {**FEDORA, "etc/crypttab": crypttab.encode()}))
    assert [(one.names[0], one.must) for one in lost] == [
        ("/etc/keys/root", False),
        ("libtss2-esys.so", False),
        ("a way to open it without a keyscript", False),
    ]


@pytest.mark.parametrize(
    ("line", "lost"),
    [
        ("rd.lvm.lv=vg/root", []),
        ("rd.lvm.lv=vg/swap rd.lvm.lv=vg/root", []),
        ("rd.lvm.vg=vg", []),
        ("rd.auto=1", []),
        ("rd.lvm.lv=vg/swap", ["rd.lvm.lv=vg/root"]),
        ("", []),
        ("rd.lvm=0", ["rd.lvm.lv=vg/root"]),
        ("rd.lvm=0 rd.lvm.lv=vg/root", ["rd.lvm.lv=vg/root"]),
    ],
)
def test_how_dracut_is_told_to_activate_a_volume(target: Target, line: str, lost: list[str]) -> None:
    assert stops(STACKS["lvm"], image(target, FEDORA, line=line)) == lost


def test_the_link_that_root_names(target: Target) -> None:
    """By its UUID the volume is found without any."""
    gone = ("55-dm.rules", "56-lvm.rules")
    for line, lost in (("root=/dev/mapper/vg-root", gone[:1]), ("root=/dev/vg/root", gone[1:]), ("root=UUID=1", ())):
        assert stops(STACKS["lvm"], image(target, DEBIAN, *gone, line=line)) == list(lost)


def test_what_dracut_waits_for_is_made_by_rules_of_udevs(target: Target) -> None:
    """Where the command line names nothing, it does not wait; older dracut has a rule of its own for arrays."""
    own: dict[str, initrd.Content] = {**FEDORA, "etc/udev/rules.d/59-md.rules": b'SYMLINK+="disk/by-id/md-uuid-x"\n'}
    assert stops(STACKS["md"], image(target, own, "63-md-raid-arrays.rules")) == []
    assert stops(STACKS["md"], image(target, FEDORA, "63-md-raid-arrays.rules", line="rd.auto")) == []
    own = {**FEDORA, "etc/udev/rules.d/59-dm.rules": b'SYMLINK+="disk/by-id/dm-uuid-x"\n'}
    assert stops(STACKS["luks"], image(target, own, "13-dm-disk.rules")) == []
    assert stops(STACKS["luks"], image(target, FEDORA, "13-dm-disk.rules", line="rd.auto")) == []
    both: dict[str, initrd.Content] = {**FEDORA, "usr/lib/udev/rules.d/69-dm-lvm.rules": b""}
    assert stops(STACKS["lvm"], image(target, both, "11-dm-lvm.rules")) == ["56-lvm.rules"]


def test_lvm_on_another_volume_of_device_mapper(target: Target) -> None:
    """Debian's rule learns from others that the device is a part of a group."""
    gone = "60-persistent-storage-dm.rules"
    assert stops(of_disk("ext4", LVM, LUKS), image(target, DEBIAN, gone)) == [gone]
    assert stops(of_disk("ext4", LVM, LUKS), image(target, DEBIAN, "60-persistent-storage.rules")) == []
    files = {**DEBIAN, "scripts/local-block/lvm2": b""}
    assert stops(of_disk("ext4", LVM, LUKS), image(target, files, gone, "69-lvm.rules")) == []


@pytest.mark.parametrize(
    ("line", "stopped"),
    [
        (f"rd.md.uuid={ARRAY}", False),
        (f"rd.md.uuid={ARRAY.replace(':', '-')}", False),
        ("rd.auto", False),
        ("rd.md.uuid=11111111:22222222:33333333:44444444", True),
        ("", True),
        (f"rd.md=0 rd.md.uuid={ARRAY}", True),
    ],
)
def test_how_dracut_is_told_to_put_an_array_together(target: Target, line: str, stopped: bool) -> None:
    assert stops(STACKS["md"], image(target, FEDORA, line=line)) == ([f"rd.md.uuid={ARRAY}"] if stopped else [])


@pytest.mark.parametrize(
    ("conf", "stopped"),
    [
        ("ARRAY /dev/md0 metadata=1.2\n  UUID=3aaa0122:29827cfa:5331ad66:ca767371\nAUTO -all\n", False),
        ("ARRAY /dev/md9 UUID=11111111:22222222:33333333:44444444\n", False),
        ("AUTO -all\nARRAY /dev/md9 UUID=11111111:22222222:33333333:44444444\n", True),
        ("AUTO +imsm +1.x -all\n", False),
        ("AUTO +imsm -all\n", True),
        ("AUTO homehost -all\n", False),
        ("ARRAY <ignore> UUID=3aaa0122:29827cfa:5331ad66:ca767371\n", True),
        ("# AUTO -all\n", False),
        ("", False),
    ],
)
def test_what_mdadm_conf_keeps_from_being_put_together(target: Target, conf: str, stopped: bool) -> None:
    files = {**DEBIAN, "etc/mdadm/mdadm.conf": conf.encode()}
    assert bool(stops(STACKS["md"], image(target, files))) is stopped


def test_a_level_that_the_kernel_has_lost(target: Target) -> None:
    (lost,) = unmet(of_disk("ext4", layer("md", "md0", level="linear")), image(target, DEBIAN))
    assert (lost.kind, lost.names, lost.must, lost.met) == ("module", ("linear",), True, False)


def test_multipath_is_missed_only_where_root_names_it(target: Target) -> None:
    stack = of_disk("xfs", layer("partition", "dm-1", dm_name="mpatha1", dm_uuid="part1-mpath-3600"), MULTIPATH)
    lost = ["dm_mod", "dm_multipath", "dm_service_time", "dm_round_robin"]
    assert stops(stack, image(target, DEBIAN, "multipath", lost=lost, line="root=UUID=1")) == []
    found = image(target, DEBIAN, "multipath", lost=lost, line="root=/dev/mapper/mpatha1")
    assert stops(stack, found) == [
        "dm_mod",
        "dm_multipath",
        "dm_service_time",
        "multipath",
        "/scripts/local-top/multipath",
    ]


PART = layer("partition", "dm-1", dm_name="mpatha-part1", dm_uuid="part1-mpath-3600", targets="linear")


@pytest.mark.parametrize("files", [DEBIAN, {**FEDORA, "etc/multipath/wwids": b"/3600/\n"}], ids=["Debian", "Fedora"])
def test_a_multipath_device_that_is_made_holds_its_paths(target: Target, files: dict[str, initrd.Content]) -> None:
    """Then nobody finds the partition on one of them, whatever root= says."""
    stack = of_disk("xfs", PART, MULTIPATH)
    assert stops(stack, image(target, files, "/kpartx", line="root=UUID=1")) == ["kpartx"]
    rules = "95-dm-notify.rules"
    waits = [] if files is not DEBIAN else [rules]  # multipathd does, in the background
    assert stops(stack, image(target, files, rules, line="root=UUID=1")) == waits
    # Without what makes the device they are free, and so are they where multipath does not know it.
    assert stops(stack, image(target, files, "/kpartx", "multipath", "multipathd", line="root=UUID=1")) == []
    assert stops(stack, image(target, files, "/kpartx", line="root=UUID=1", lost=["dm_multipath"])) == []
    other = {**files, "etc/multipath/wwids": b"/3601/\n"}
    assert stops(stack, image(target, other, "/kpartx", line="root=LABEL=root")) == []


_CONFLICT = b"[Unit]\nConflicts=shutdown.target\nConflicts=initrd-cleanup.service\n"
_AGAIN: dict[str, initrd.Content] = {
    "etc/multipath/wwids": b"/3600/\n",
    "etc/systemd/system/sockets.target.wants/multipathd.socket": "/usr/lib/systemd/system/multipathd.socket",
    "usr/lib/dracut/hooks/cleanup/80-multipathd-needshutdown.sh": b"multipath -l -v1\n",
    "usr/lib/systemd/system/multipathd.service": _CONFLICT,
    "usr/lib/systemd/system/multipathd.socket": b"",
}


@pytest.mark.parametrize("gone", [(), *((path,) for path in _AGAIN if "wwids" not in path)], ids=str)
def test_multipathd_that_starts_again_takes_the_switch_back(target: Target, gone: tuple[str, ...]) -> None:
    """Only where all comes together, whatever root= names."""
    found = image(target, {**FEDORA, **_AGAIN}, *gone, line="root=UUID=1")
    again = "a multipathd.service without Also=multipathd.socket"
    stack = of_disk("xfs", PART, MULTIPATH)
    assert stops(stack, found) == ([again] if not gone else [])


@pytest.mark.parametrize(
    ("named", "stopped"),
    [
        ("/dev/mapper/mpatha-part1", True),
        ("/dev/mapper/mpathap1", True),
        ("/dev/mapper/mpathaa", False),
        ("/dev/disk/by-id/dm-name-mpatha-part1", True),
        ("/dev/disk/by-id/dm-uuid-part1-mpath-3600", True),
        ("/dev/disk/by-id/dm-name-luks-root", False),
        ("/dev/disk/by-id/wwn-0x600-part1", False),
        ("/dev/disk/by-id/scsi-3600-part1", False),
        ("/dev/dm-1", True),
        ("/dev/dm-0", True),
        ("/dev/dm-7", False),
        ("LABEL=root", False),
        ("UUID=1", False),
    ],
)
def test_what_names_a_multipath_device(target: Target, tmp_path: Path, named: str, stopped: bool) -> None:
    uuids = {"dm-0": "mpath-3600", "dm-1": "part1-mpath-3600", "dm-7": "LVM-x"}
    machine = tree(tmp_path, {f"/sys/class/block/{name}/dm/uuid": f"{uuid}\n" for name, uuid in uuids.items()})
    found = image(target, DEBIAN, lost=["dm_multipath"])
    found = Image(found.index, target, entry_line=f"root={named}", volumes=Volumes(machine))
    assert stops(of_disk("xfs", MULTIPATH), found) == (["dm_multipath"] if stopped else [])


def several_paths(*upper: Layer) -> Layer:
    """A file system on layers that lie on a multipath device of two paths."""
    disks = tuple(Layer("disk", name, name, {"driver": "sd_mod", "driver-name": "sd"}) for name in ("sda", "sdb"))
    top = Layer("multipath", "dm-0", "multipath device mpatha", MULTIPATH.facts, disks)
    for one in reversed(upper):
        top = Layer(one.kind, one.name, one.title, one.facts, (top,))
    return Layer("file-system", "xfs", "file system xfs", {"fstype": "xfs"}, (top,))


def test_lvm_takes_no_volume_that_is_there_several_times(target: Target) -> None:
    """And what lies between LVM and the paths makes one of them."""
    gone = image(target, DEBIAN, "multipath", lost=["dm_multipath"])
    wanted = ["dm_multipath", "multipath", "/scripts/local-top/multipath"]
    assert stops(several_paths(LVM), gone) == wanted
    assert stops(several_paths(LVM, PART), gone) == wanted
    assert stops(several_paths(LVM, LUKS), image(target, DEBIAN, "multipath", lost=["dm_multipath"])) == []
    assert stops(several_paths(LVM), image(target, FEDORA, "multipathd")) == ["multipathd"]
    assert stops(of_disk("xfs", LVM, MULTIPATH), gone) == []  # on the one path that is left
    for stack in (several_paths(LVM), several_paths(LVM, PART), several_paths(LVM, LUKS)):
        assert unmet(stack, image(target, DEBIAN)) == unmet(stack, image(target, FEDORA)) == []


def test_what_multipath_is_told_to_leave_alone(target: Target) -> None:
    def lost(files: dict[str, initrd.Content], line: str = "") -> list[tuple[str, bool]]:
        found = image(target, files, line=f"root=/dev/mapper/mpatha {line}")
        return [(one.names[0], one.must) for one in unmet(of_disk("xfs", MULTIPATH), found)]

    files = {**DEBIAN, "etc/multipath/bindings": b"mpatha 3600\n"}
    number = "3600 in /etc/multipath/wwids"
    assert lost(files) == []
    assert lost({**files, "etc/multipath/wwids": b"/3601/\n"}) == [(number, True)]
    greedy: dict[str, initrd.Content] = {"etc/multipath/conf.d/own.conf": b"defaults {\n\tfind_multipaths greedy\n}\n"}
    assert lost({**files, **greedy, "etc/multipath/wwids": b"/3601/\n"}) == [(number, False)]
    files = {**FEDORA, "etc/multipath/bindings": b"mpatha 3600\n"}
    assert lost({**files, "etc/multipath/wwids": b"/3601/\n"}) == [(number, False)]
    strict: dict[str, initrd.Content] = {"etc/multipath.conf": b"defaults {\n\tfind_multipaths strict\n}\n"}
    assert lost({**files, **strict}) == [(number, True)]


@pytest.mark.parametrize("word", ["rd.multipath=0", "rd.multipath=no", "nompath", "multipath=off"])
def test_multipath_that_the_command_line_switches_off(target: Target, word: str) -> None:
    files = {**FEDORA, "etc/multipath/bindings": b"mpatha 3600\n"}
    stack, line = of_disk("xfs", MULTIPATH), f"root=/dev/mapper/mpatha {word}"
    assert stops(stack, image(target, files, line=line)) == [
        "rd.multipath=1, without a word that switches multipath off"
    ]
    assert stops(stack, image(target, files, line=f"root=UUID=1 {word}")) == []
    assert stops(stack, image(target, {**DEBIAN, "etc/multipath/bindings": b"mpatha 3600\n"}, line=line)) == []


def test_a_multipathd_that_wants_its_configuration(target: Target) -> None:
    unit = {"usr/lib/systemd/system/multipathd.service": b"[Unit]\nConditionPathExists=/etc/multipath.conf\n"}
    files: dict[str, initrd.Content] = {**FEDORA, **unit, "etc/multipath/bindings": b"mpatha 3600\n"}
    stack, line = of_disk("xfs", MULTIPATH), "root=/dev/mapper/mpatha"
    assert stops(stack, image(target, files, line=line)) == ["/etc/multipath.conf"]
    assert stops(stack, image(target, files, line=f"{line} rd.multipath=default")) == []
    assert stops(stack, image(target, {**files, "etc/multipath.conf": b""}, line=line)) == []
    without_systemd = {**files, "init": b"#!/bin/sh\n"}
    assert stops(stack, image(target, without_systemd, line=line)) == ["/etc/multipath.conf"]


def test_what_chooses_the_path(target: Target) -> None:
    facts = {**MULTIPATH.facts, "selector": "round-robin", "handler": "alua"}
    stack = of_disk("xfs", Layer("multipath", "dm-0", "multipath mpatha", facts))
    files = {**DEBIAN, "etc/multipath/bindings": b"mpatha 3600\n"}
    lost = unmet(stack, image(target, files, lost=["dm_round_robin"], line="root=/dev/mapper/mpatha"))
    assert [(one.names, one.must) for one in lost] == [(("dm_round_robin",), True), (("scsi_dh_alua",), False)]


def test_a_driver_that_was_merged_is_followed(target: Target) -> None:
    alias = "pci:v00001000d00000072sv00001028sd00001F1Cbc01sc07i00"
    old = {"driver": "mpt2sas", "driver-name": "mpt2sas", "modalias": alias}
    controller = Layer("controller", "0000:02:00.0", "SAS controller", old)
    assert stops(controller, image(target, DEBIAN)) == []
    assert stops(controller, image(target, DEBIAN, lost=["mpt3sas"])) == ["mpt3sas"]


def test_a_driver_that_the_kernel_does_not_have(target: Target, tmp_path: Path) -> None:
    gone = Layer("controller", "c", "RAID controller", {"driver": "hpsa", "driver-name": "hpsa"})
    (lost,) = unmet(gone, image(target, DEBIAN))
    assert (lost.names, lost.met) == (("hpsa",), False)
    assert unmet(gone, image(kernel(tmp_path, builtin="kernel/hpsa.ko\n"), DEBIAN)) == []


def test_one_driver_of_several_that_speak_of_a_device(target: Target) -> None:
    """usb-storage leaves to uas what both could drive."""
    facts = {"driver": "uas", "driver-name": "uas", "modalias": "usb:v174Cp55AAd0100dc00dsc00dp00ic08isc06ip62in00"}
    assert stops(Layer("disk", "sda", "USB disk", facts), image(target, DEBIAN, lost=["uas"])) == ["uas"]


def test_what_is_built_in_today(target: Target) -> None:
    """The new kernel may have it as a module; what never is one is not looked for."""
    nvme = Layer("disk", "d", "disk", {"driver": "", "driver-name": "nvme", "modalias": f"{PCI}bc01sc08i02"})
    assert stops(nvme, image(target, DEBIAN)) == []
    assert stops(nvme, image(target, DEBIAN, lost=["nvme"])) == ["nvme"]
    bridge = Layer("controller", "b", "bridge", {"driver": "", "driver-name": "port", "modalias": f"{PCI}bc06sc04i00"})
    assert stops(bridge, image(target, DEBIAN, lost=["shpchp"])) == []
    disk = Layer("disk", "sda", "disk", {"driver": "", "driver-name": "sd"})
    assert stops(disk, image(target, DEBIAN, lost=["sd_mod"])) == ["sd_mod"]


def test_roots_on_the_network(target: Target) -> None:
    adapter = Layer("network", "eth0", "network interface eth0", {"driver": "e1000", "driver-name": "e1000"})
    nfs = Layer("file-system", "nfs4", "nfs4", {"fstype": "nfs4", "options": "vers=4.2"}, (adapter,))
    found = image(target, DEBIAN, "ipconfig", "nfsmount", lost=["nfs", "nfsv4"])
    assert stops(nfs, found) == ["nfs", "nfsv4", "nfsmount", "ipconfig", "e1000"]
    disk = Layer("controller", "host3", "SCSI", {"carrier": "iscsi_tcp"})
    assert stops(disk, image(target, FEDORA)) == []
    assert stops(disk, image(target, FEDORA, "iscsiadm", lost=["iscsi_tcp"])) == ["iscsi_tcp", "iscsistart"]


@pytest.mark.parametrize(
    ("lost", "decides"),
    [({"e1000"}, set()), ({"vmxnet3"}, set()), ({"e1000", "vmxnet3"}, {"e1000", "vmxnet3"}), ({"pcnet"}, {"pcnet"})],
)
def test_one_of_several_interfaces_is_enough(target: Target, lost: set[str], decides: set[str]) -> None:
    """And what lies under each of them is missed only with it."""
    buses = [Layer("controller", name, name, {"driver": name}) for name in ("e1000", "vmxnet3")]
    either = tuple(Layer("network", f"eth{n}", "", {"one-of": "eth0 eth1"}, (bus,)) for n, bus in enumerate(buses))
    plain = Layer("disk", "sda", "sda", {"driver": "pcnet"})
    top = Layer("drbd", "drbd0", "drbd0", {}, (plain, *either))
    gone = {name: [one for one in top.walk() if one.facts.get("driver") == name] for name in lost}
    assert layers.decisive(top, image(target, DEBIAN), gone) == decides


def test_an_overlay_that_nothing_in_the_image_lays(target: Target) -> None:
    overlay = Layer("overlay", "overlay", "overlay", {})
    assert stops(overlay, image(target, DEBIAN, lost=["overlay"])) == []
    files = {**DEBIAN, "scripts/init-bottom/overlayroot": b""}
    assert stops(overlay, image(target, files, lost=["overlay"])) == ["overlay"]


def test_images_of_other_programs_are_asked_for_modules_alone(target: Target) -> None:
    files: dict[str, initrd.Content] = {"lib": "usr/lib", "init": b""}
    for stack in STACKS.values():
        assert [one.kind for one in unmet(stack, image(target, files))] == []
    assert stops(STACKS["luks"], image(target, files, lost=["dm_crypt"])) == ["dm_crypt"]


def test_without_an_image_everything_must_be_built_in(target: Target) -> None:
    lost = unmet(STACKS["ext4"], Image(None, target))
    assert [one.names[0] for one in lost] == ["ext4", "crc32c_generic", "sd_mod", "ahci"]


def mirror(*drivers: str, level: str = "raid1", kind: str = "md", degraded: str = "0") -> Layer:
    legs = tuple(Layer("disk", f"sd{n}", f"sd{n}", {"driver": one}) for n, one in enumerate(drivers))
    return Layer(kind, "md0", "array", {"level": level, "degraded": degraded}, legs)


@pytest.mark.parametrize(
    ("top", "lost", "decides"),
    [
        (mirror("ahci", "nvme"), {"ahci"}, set()),
        (mirror("ahci", "nvme"), {"ahci", "nvme"}, {"ahci", "nvme"}),
        (mirror("ahci", "ahci"), {"ahci"}, {"ahci"}),
        (mirror("ahci", "nvme", "uas", level="raid5"), {"uas"}, set()),
        (mirror("ahci", "nvme", "uas", level="raid5", degraded="1"), {"uas"}, {"uas"}),
        (mirror("ahci", "nvme", "nvme", "uas", level="raid6"), {"nvme"}, set()),
        (mirror("ahci", "nvme", level="raid0"), {"nvme"}, {"nvme"}),
        (mirror("ahci", "nvme", kind="multipath", level=""), {"nvme"}, set()),
        (mirror("ahci", "nvme", kind="lvm-raid"), {"nvme"}, {"nvme"}),
        (mirror("ahci", "nvme", kind="lvm"), {"nvme"}, {"nvme"}),
    ],
)
def test_what_keeps_a_mirror_from_coming_up(target: Target, top: Layer, lost: set[str], decides: set[str]) -> None:
    """LVM's rules in images of initramfs-tools wait for all disks of a group."""
    gone = {name: [one for one in top.walk() if one.facts.get("driver") == name] for name in lost}
    assert layers.decisive(top, image(target, DEBIAN), gone) == decides


def test_targets_of_device_mapper(target: Target) -> None:
    """linear and zero: the one is a part of dm-mod, of the other this kernel tells nothing."""
    stack = of_disk("ext4", layer("dm", dm_uuid="x", targets="linear thin snapshot-origin zero crypt"))
    assert stops(stack, image(target, DEBIAN, lost=["dm_crypt", "dm_thin_pool"])) == [
        "dm_thin_pool",
        "dm_snapshot",
        "dm_crypt",
    ]


FILTERS = [
    ('filter = [ "a|.*|" ]', True),
    ('filter = [ "a|^/dev/sda|", "r|.*|" ]', True),
    ('filter = [ "a|^/dev/disk/by-id/lvm-pv-uuid-x$|", "r|.*|" ]', True),
    ('global_filter = [\n  "r|^/dev/sd[ab]$|"\n]', True),
    ('filter = [ "a|^/dev/nvme.*|", "r|.*|" ]', False),
    ('global_filter="r/sda/"', False),
    ('filter = [ "r{.*}" ]', False),
    ('# filter = [ "r|.*|" ]', True),
    ("", True),
]


@pytest.mark.parametrize(("line", "seen"), FILTERS)
def test_filters_of_lvm(target: Target, line: str, seen: bool) -> None:
    links = "/dev/disk/by-id/lvm-pv-uuid-x /dev/disk/by-partuuid/1"
    member = layer("partition", "sda2", content="LVM2_member", content_uuid="aaaaaa-bbbb", links=links)
    top = of_disk("ext4", LVM, member)
    files = {**DEBIAN, "etc/lvm/lvm.conf": f"devices {{\n    {line}\n}}\n".encode()}
    assert stops(top, image(target, files)) == ([] if seen else ["a filter in /etc/lvm/lvm.conf that lets sda2 pass"])


@pytest.mark.parametrize(
    ("listed", "conf", "must"),
    [
        ("IDTYPE=devname IDNAME=/dev/vdb DEVNAME=/dev/vdb PVID=zzzz", "use_devicesfile = 1", True),
        ("IDTYPE=devname IDNAME=/dev/vdb DEVNAME=/dev/vdb PVID=zzzz", "", False),
        ("IDTYPE=devname IDNAME=/dev/vdb DEVNAME=/dev/vdb PVID=zzzz", "use_devicesfile = 0", None),
        ("IDTYPE=sys_wwid IDNAME=naa.5 DEVNAME=/dev/sdq2 PVID=aaaaaabbbb PART=2", "use_devicesfile = 1", None),
        ("IDTYPE=devname IDNAME=/dev/disk/by-id/x DEVNAME=/dev/sdq PVID=.", "use_devicesfile = 1", None),
    ],
)
def test_the_list_of_lvms_devices(target: Target, listed: str, conf: str, must: bool | None) -> None:
    member = layer("partition", "sda2", content="LVM2_member", content_uuid="aaaaaa-bbbb", links="/dev/disk/by-id/x")
    files = {**FEDORA, "etc/lvm/lvm.conf": conf.encode(), "etc/lvm/devices/system.devices": listed.encode()}
    lost = unmet(of_disk("ext4", LVM, member), image(target, files))
    assert [(one.names, one.must) for one in lost] == (
        [] if must is None else [(("sda2 in /etc/lvm/devices/system.devices",), must)]
    )


@pytest.mark.parametrize(
    ("bindings", "must"),
    [("# alias wwid\nmpatha 3600\n", None), ("mpathb 3600\nmpatha 3601\n", True), ("", False)],
)
def test_the_name_of_a_multipath_device(target: Target, bindings: str, must: bool | None) -> None:
    files: dict[str, initrd.Content] = {**DEBIAN, "etc/multipath/bindings": bindings.encode()}
    found = image(target, files, line="root=/dev/mapper/mpatha-part1")
    lost = [one for one in unmet(of_disk("xfs", MULTIPATH), found) if one.kind == "configuration"]
    assert [one.must for one in lost] == ([] if must is None else [must])
    assert unmet(of_disk("xfs", MULTIPATH), image(target, files, line="root=UUID=1")) == []


def on(machine: Machine, found: Image, before: Image | None = None) -> Image:
    """The same image on a machine of which the running kernel was started with another one."""
    return Image(found.index, found.target, entry_line=LINE, volumes=Volumes(machine), before=lambda: before)


def test_the_keyboard_for_the_passphrase(target: Target, tmp_path: Path) -> None:
    def lost(keyboard: str, gone: str, before: Image | None = None) -> list[tuple[str, ...]]:
        machine = tree(tmp_path, {"/etc/default/keyboard": keyboard, "/usr/bin/setupcon": b""})
        files = {**DEBIAN, "usr/bin/setupcon": b""}
        return [one.names for one in unmet(STACKS["luks"], on(machine, image(target, files, gone), before))]

    assert lost('XKBLAYOUT="de,us"\n', "bin/setupcon") == [("setupcon", "loadkeys")]
    assert lost('XKBLAYOUT="us"\n', "bin/setupcon") == []
    assert lost('XKBLAYOUT="de"\n', "nothing") == []
    assert lost('XKBLAYOUT="de"\n', "bin/setupcon", image(target, DEBIAN)) == []


HOSTID: dict[str, initrd.Content] = {"etc/hostid": b"\x0c\xb1\xba\0"}
LABEL = b"    version: 5000\n    name: 'rpool'\n    pool_guid: 11\n    hostid: %d\n    labels = 0 1 2 3\n"
"""A part of what `zdb -l` tells of a disk."""


def test_the_number_by_which_a_pool_knows_the_machine(target: Target, tmp_path: Path) -> None:
    machine = tree(tmp_path, {"/etc/hostid": HOSTID["etc/hostid"]})
    held, without = image(target, {**DEBIAN, **HOSTID}), image(target, DEBIAN)
    other = image(target, {**DEBIAN, "etc/hostid": b"\xef\xbe\xad\xde"})
    assert unmet(STACKS["zfs"], on(machine, held)) == []
    assert [one.must for one in unmet(STACKS["zfs"], on(machine, without))] == [False]
    assert [one.must for one in unmet(STACKS["zfs"], on(machine, without, without))] == [False]
    assert [one.must for one in unmet(STACKS["zfs"], on(machine, without, held))] == [True]
    assert [one.must for one in unmet(STACKS["zfs"], on(machine, other, held))] == [True]
    assert unmet(STACKS["zfs"], on(machine, held, held)) == []


@pytest.mark.parametrize(
    ("label", "files", "words", "wanted"),
    [
        (LABEL % 0xBAB10C, HOSTID, "", []),
        (LABEL % 0xBAB10C, {}, "", ["00bab10c in /etc/hostid"]),
        (LABEL % 0xBAB10C, {}, "spl_hostid=0x00bab10c", []),
        (LABEL % 0xBAB10C, {}, "spl.spl_hostid=12235020", []),
        (LABEL % 0xBAB10C, {}, "spl_hostid=0xdeadbeef", ["00bab10c in /etc/hostid"]),
        (LABEL % 0xDEADBEEF, HOSTID, "", ["deadbeef in /etc/hostid"]),
        (LABEL % 0xDEADBEEF, HOSTID, "zfsforce=1", []),
        (LABEL % 0xDEADBEEF, {}, "zfs_force", []),
        (LABEL.replace(b"hostid: %d", b"hostname: 'x'"), {}, "", []),
        (LABEL.replace(b"hostid: %d", b"hostname: 'x'"), HOSTID, "", []),
        (b"failed to unpack label 0\n", {}, "", []),
        (b"failed to unpack label 0\n", HOSTID, "", []),
    ],
)
def test_the_number_in_the_label_of_a_pool(
    target: Target, tmp_path: Path, label: bytes, files: dict[str, initrd.Content], words: str, wanted: list[str]
) -> None:
    class Asked(Machine):
        def run(self, command: Sequence[str], *, timeout: float = 30.0, stdin: bytes = b"") -> Completed:
            assert (list(command), timeout, stdin) == (["zdb", "-l", "/dev/sda3"], 10, b"")
            return Completed(0, label, b"")

    assert stops(POOL, on_pool(target, Asked(str(tmp_path), live=True), files, words)) == wanted


POOL = Layer(
    "file-system",
    "zfs",
    "file system zfs",
    {"fstype": "zfs"},
    (
        Layer(
            "zfs-pool",
            "rpool",
            "ZFS pool rpool",
            {"pool": "rpool"},
            (layer("partition", "sda3", content="zfs_member"),),
        ),
    ),
)


def on_pool(target: Target, machine: Machine, files: dict[str, initrd.Content], words: str = "") -> Image:
    found = image(target, {**DEBIAN, **files})
    return Image(found.index, target, entry_line=f"root=ZFS=rpool/ROOT/debian {words}", volumes=Volumes(machine))


@pytest.mark.parametrize(
    ("version", "must"), [("2.1.11-1", None), ("2.2.0-1", True), ("2.3.2-2", True), ("0.8.6-1", None), ("", False)]
)
def test_a_list_of_pools_that_lets_a_pool_pass(tmp_path: Path, version: str, must: bool | None) -> None:
    """zfs-hostid-changed of the lab: with 2.1 the second try, by the list in the image, imports the pool."""
    target = kernel(tmp_path)
    tree(tmp_path, {f"{MODULES}/{_file('zfs')}": kernel_module([f"version={version}".encode()] if version else [])})

    class Asked(Machine):
        def run(self, command: Sequence[str], *, timeout: float = 30.0, stdin: bytes = b"") -> Completed:
            assert (command[0], timeout, stdin) == ("zdb", 10, b"")
            return Completed(0, LABEL % 0xDEADBEEF, b"")

    machine = Asked(str(tmp_path), live=True)
    listed: dict[str, initrd.Content] = {"etc/zfs/zpool.cache": b""}
    for files in ({**HOSTID, **listed}, listed):
        lost = unmet(POOL, on_pool(target, machine, files))
        assert [(one.names, one.must) for one in lost] == (
            [] if must is None else [(("deadbeef in /etc/hostid",), must)]
        )
    assert stops(POOL, on_pool(target, machine, HOSTID)) == ["deadbeef in /etc/hostid"]


def test_firmware_that_the_running_image_has(tmp_path: Path) -> None:
    found = kernel(tmp_path, dep=f"{_file('bnx2')}:\n{_file('tg3')}:\n")
    for name in ("bnx2", "tg3"):
        fields = [b"firmware=x/one.fw", b"firmware=x/two.fw", b"license=GPL"]
        tree(tmp_path, {f"{MODULES}/{_file(name)}": kernel_module(fields)})
    both: dict[str, initrd.Content] = {**DEBIAN, "usr/lib/firmware/x/one.fw": b"", "usr/lib/firmware/x/two.fw.xz": b""}
    machine, before = found.tree.kernel.machine, image(found, both)

    def lost(driver: str, files: dict[str, initrd.Content], before: Image | None) -> list[tuple[tuple[str, ...], bool]]:
        adapter = Layer("network", "eth0", "eth0", {"driver": driver, "driver-name": driver})
        lacking = unmet(adapter, on(machine, image(found, files), before))
        return [(one.names, one.must) for one in lacking if one.kind == "firmware"]

    assert lost("bnx2", DEBIAN, before) == [(("x/one.fw", "x/two.fw"), True)]
    assert lost("tg3", DEBIAN, before) == [(("x/one.fw", "x/two.fw"), False)]
    assert lost("bnx2", DEBIAN, None) == []
    assert lost("bnx2", DEBIAN, image(found, DEBIAN)) == []
    assert lost("bnx2", {**DEBIAN, "usr/lib/firmware/x/two.fw": b""}, before) == []
    assert lost("e1000", DEBIAN, before) == []


def test_every_kind_is_known() -> None:
    for stack in STACKS.values():
        assert {one.kind for one in stack.walk()} <= layers.KNOWN
    assert "unknown" not in layers.KNOWN
