from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from safeupdate.kernels import Kernel
from safeupdate.machine import Machine
from safeupdate.module_tree import ModuleTree
from safeupdate.storage.target import Target
from tests.unit.trees import MODULES, REAL_MACHINES, RELEASE, Content, tree

KERNELS = sorted(path for boot in REAL_MACHINES for path in (boot.parent / "lib/modules").glob("*"))

ALIASES = """\
# Aliases extracted from modules themselves.
alias fs-ext4 ext4
alias fs-ext3 ext4
alias mpt2sas mpt3sas
alias pci:v*d*sv*sd*bc01sc06i01* ahci
alias pci:v00008086d00002922sv*sd*bc*sc*i* ahci
alias pci:v*d*sv*sd*bc01sc01i* ata_generic
alias usb:v0781p5581d0[1-3]??dc* ums_odd
alias usb:v*p*d*dc*dsc*dp*ic08isc06ip62in* uas
alias of:N*T*Cbrcm,bcm2711-emmc2C* sdhci_iproc
alias of:N*T*Cbrcm,bcm2711-emmc2 sdhci_iproc
alias crypto-xts xts
alias crypto-crc32c crc32c-intel
alias crypto-crc32c crc32c_generic
alias scsi:t-0x00* sd_mod
alias block-major-8-* sd_mod
"""
DEP = """\
kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko.xz kernel/lib/crc16.ko.xz
kernel/fs/jbd2/jbd2.ko.xz:
kernel/drivers/md/dm-mod.ko.xz:
kernel/drivers/scsi/mpt3sas/mpt3sas.ko.xz:
"""
MODINFO = "nvme.author=A\0nvme.alias=pci:v*d*sv*sd*bc01sc08i02*\0sha256_generic.alias=crypto-sha256\0"
SOFTDEP = """\
softdep ext4 pre: crypto-crc32c
softdep ipmi_msghandler post: ipmi_devintf
softdep r8169 pre: realtek phy post: late
softdep cifs gcm
"""


def target(root: Path, **lists: Content) -> Target:
    texts: dict[str, Content] = {"alias": ALIASES, "dep": DEP, "builtin": "kernel/drivers/nvme/host/nvme.ko\n", **lists}
    files = {f"{MODULES}/modules.{name.replace('_', '.')}": text for name, text in texts.items()}
    return Target(ModuleTree(Kernel(RELEASE, f"/boot/vmlinuz-{RELEASE}", tree(root, files))))


@pytest.mark.parametrize(
    ("alias", "modules"),
    [
        ("fs-ext4", ("ext4",)),
        ("fs_ext3", ("ext4",)),
        ("pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01", ("ahci",)),
        ("pci:v00001022d00007901sv00001022sd00007901bc01sc06i01", ("ahci",)),
        ("pci:v00008086d00007010sv00001AF4sd00001100bc01sc01i80", ("ata_generic",)),
        ("pci:v00008086d0000A340sv00001AF4sd00001100bc06sc04i00", ()),
        ("usb:v0781p5581d0210dc00", ("ums_odd",)),
        ("usb:v0781p5581d0410dc00", ()),
        ("usb:v174Cp55AAd0100dc00dsc00dp00ic08isc06ip62in00", ("uas",)),
        ("of:Nmmc2T(null)Cbrcm,bcm2711-emmc2", ("sdhci_iproc",)),
        ("scsi:t-0x00", ("sd_mod",)),
        ("scsi:t-0x05", ()),
        ("", ()),
    ],
)
def test_what_an_alias_leads_to(tmp_path: Path, alias: str, modules: tuple[str, ...]) -> None:
    assert target(tmp_path).by_alias(alias) == modules


def test_a_driver_goes_by_its_name(tmp_path: Path) -> None:
    found = target(tmp_path)
    assert found.by_name("dm-mod") == found.by_name("dm_mod") == ("dm_mod",)


def test_a_driver_that_was_merged_into_another(tmp_path: Path) -> None:
    assert target(tmp_path).by_name("mpt2sas") == ("mpt3sas",)


def test_a_driver_that_is_built_in(tmp_path: Path) -> None:
    found = target(tmp_path, builtin_modinfo=MODINFO)
    assert found.by_name("nvme") == ("nvme",)
    assert found.by_alias("pci:v00001D0Fd00008061sv00001D0Fsd00008061bc01sc08i02") == ("nvme",)


def test_a_driver_that_is_not_there(tmp_path: Path) -> None:
    found = target(tmp_path, builtin_modinfo=MODINFO)
    assert found.by_name("megaraid_sas") == ()
    assert found.lists_modules
    assert found.lists_aliases


def test_kernels_before_5_2_do_not_list_the_aliases_of_what_is_built_in(tmp_path: Path) -> None:
    found = target(tmp_path)
    assert found.by_alias("pci:v00001D0Fd00008061sv00001D0Fsd00008061bc01sc08i02") == ()
    assert found.lists_modules
    assert not found.lists_aliases


def test_without_lists_nothing_is_known(tmp_path: Path) -> None:
    found = target(tmp_path, alias="", dep="", builtin="")
    assert found.by_name("ext4") == ()
    assert not found.lists_modules


def test_all_modules_that_bring_an_algorithm(tmp_path: Path) -> None:
    builtin = "kernel/crypto/aes_generic.ko\n"
    found = target(tmp_path, builtin=builtin, builtin_modinfo=MODINFO)
    assert found.algorithm("crc32c") == ("crc32c_intel", "crc32c_generic")
    assert found.algorithm("sha256") == ("sha256_generic",)
    assert found.algorithm("aes") == ("aes_generic",)
    assert found.algorithm("serpent") == ()


def test_what_a_module_depends_on(tmp_path: Path) -> None:
    found = target(tmp_path)
    assert found.closure("ext4") == ("jbd2", "crc16")
    assert found.closure("jbd2") == found.closure("nvme") == found.closure("none") == ()


def test_what_is_to_be_loaded_before_a_module(tmp_path: Path) -> None:
    found = target(tmp_path, softdep=SOFTDEP)
    assert found.before("ext4") == ("crypto-crc32c",)
    assert found.before("r8169") == ("realtek", "phy")
    assert found.before("ipmi_msghandler") == found.before("cifs") == ()


def test_damaged_lists(tmp_path: Path) -> None:
    found = target(tmp_path, alias=b"alias \xff\xfe\nalias a b c\nalias [ x\nalias *a*a*a*a*a*a*a*a y\n")
    assert found.by_alias("a" * 4000) == ("y",)
    assert found.by_alias("b" * 100_000) == ()


@pytest.mark.skipif(shutil.which("modprobe") is None, reason="kmod is not installed")
@pytest.mark.parametrize("directory", KERNELS[:1] + KERNELS[-1:], ids=lambda directory: directory.name)
def test_as_modprobe_resolves_it(directory: Path) -> None:
    """On the lists of a real kernel; every four-hundredth alias, its wildcards filled in."""
    root = str(directory.parents[2])
    machine = Machine.tree(root)
    found = Target(ModuleTree(Kernel(directory.name, f"/boot/vmlinuz-{directory.name}", machine)))
    aliases = [line.split()[1] for line in (directory / "modules.alias").read_text().splitlines()[1:]]
    for alias in aliases[::400]:
        asked = re.sub(r"\[(.)[^]]*\]", r"\1", alias).replace("*", "0").replace("?", "7")
        command = ["modprobe", "-S", directory.name, "-d", root, "-R", asked]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False, timeout=30)
        assert set(found.by_alias(asked)) == set(done.stdout.decode().split()), asked
