"""What stops the boot on hardware that no guest here has.

The devices are those of `test_storage_stack`, and the aliases such as Linux 6.12 lists them; both are made from the
kernel's documentation and public listings, and no such machine was started.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from safeupdate.storage import layers
from safeupdate.storage.image import Image
from safeupdate.storage.stack import Layer
from safeupdate.storage.target import Target
from tests.unit import initrd
from tests.unit.test_storage_layers import DEBIAN, FEDORA, kernel
from tests.unit.test_storage_stack import (
    behind_vmd,
    board,
    hyper_v,
    interface,
    iscsi,
    memory_card,
    mounted,
    nvme_paths,
    pcie_of_a_board,
    root,
    virtio,
    xen,
)
from tests.unit.trees import RELEASE, Content, tree

MODULES = (
    "ext4 sd_mod vmd nvme nvme_tcp hv_vmbus hv_storvsc xen-blkfront mmc_block sdhci_iproc iscsi_tcp igb ixgbe e1000e "
    "nfs nfsv4 zfs virtio_blk virtio_pci ata_generic usb-storage sdhci-of-arasan phy-rockchip-emmc rk808-regulator "
    "rk8xx-i2c i2c-rk3x pl330 rockchip-iommu pcie-brcmstb reset-brcmstb-rescal rockchip-saradc gpio_keys"
)
NAMES = MODULES.split()
ALIASES = """\
alias fs-ext4 ext4
alias fs-nfs4 nfs
alias fs-zfs zfs
alias pci:v00008086d0000467Fsv*sd*bc*sc*i* vmd
alias pci:v*d*sv*sd*bc01sc08i02* nvme
alias vmbus:d96361baa104294db60572e2ffb1dc7f hv_storvsc
alias acpi*:VMBUS:* hv_vmbus
alias xen:vbd xen-blkfront
alias mmc:block mmc_block
alias of:N*T*Cbrcm,bcm2711-emmc2 sdhci_iproc
alias of:N*T*Crockchip,rk3399-emmc-phy phy_rockchip_emmc
alias of:N*T*Cbrcm,bcm2712-pcie pcie_brcmstb
alias scsi:t-0x00* sd_mod
alias virtio:d00000002v* virtio_blk
alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci
"""
PROGRAMS: dict[str, initrd.Content] = {"usr/sbin/nvme": b""}


def zfs() -> dict[str, Content]:
    return {
        **virtio(),
        "/sys/devices/pci0000:00/0000:00:02.0/virtio2/block/vda/vda1/dev": "254:1\n",
        "/run/udev/data/b254:1": "E:ID_FS_TYPE=zfs_member\nE:ID_FS_LABEL=rpool\nE:ID_FS_UUID=1234\n",
        **mounted("rpool/ROOT/debian", "zfs"),
    }


def nfs() -> dict[str, Content]:
    return {**interface("eth0", "e1000e", 3), **mounted("10.0.0.1:/srv", "nfs4", "rw,vers=4.2")}


WAYS: dict[str, tuple[Callable[[], Mapping[str, Content]], str, set[str]]] = {
    "VMD": (behind_vmd, "", {"ext4", "nvme", "vmd"}),
    "Hyper-V": (hyper_v, "", {"ext4", "sd_mod", "hv_storvsc", "hv_vmbus"}),
    "Xen": (xen, "", {"ext4", "xen_blkfront"}),
    "MMC": (memory_card, "", {"ext4", "mmc_block", "sdhci_iproc"}),
    "MMC of a board": (
        board,
        "",
        {"ext4", "mmc_block", "sdhci_of_arasan", "phy_rockchip_emmc", "rk808_regulator", "rk8xx_i2c", "i2c_rk3x"},
    ),
    "NVMe behind the PCIe of a board": (pcie_of_a_board, "", {"ext4", "nvme", "pcie_brcmstb", "reset_brcmstb_rescal"}),
    "NVMe with a local and a remote path": (nvme_paths, "", {"ext4"}),
    "iSCSI": (iscsi, "", {"ext4", "sd_mod", "iscsi_tcp"}),
    "iSCSI through one interface": (iscsi, "ip=ens4:dhcp", {"ext4", "sd_mod", "iscsi_tcp", "ixgbe"}),
    "NFS": (nfs, "root=/dev/nfs nfsroot=10.0.0.1:/srv", {"nfs", "nfsv4", "e1000e"}),
    "ZFS": (zfs, "root=ZFS=rpool/ROOT/debian", {"zfs", "virtio_blk", "virtio_pci"}),
}


def stops(top: Layer, target: Target, files: dict[str, initrd.Content], *lost: str) -> bool:
    held = [name for name in NAMES if name.replace("-", "_") not in lost]
    modules: dict[str, initrd.Content] = {f"usr/lib/modules/{RELEASE}/kernel/{name}.ko": b"" for name in held}
    dep = "".join(f"kernel/{name}.ko:\n" for name in held).encode()
    contents = {**files, **PROGRAMS, **modules, f"usr/lib/modules/{RELEASE}/modules.dep": dep}
    image = Image(initrd.read(initrd.archive(contents)), target)
    without: dict[tuple[str, ...], set[Layer]] = {}
    for layer in top.walk():
        for one in layers.needs(layer, image):
            if one.must and not image.holds(one):
                without.setdefault(one.names, set()).add(layer)
    return bool(layers.decisive(top, image, without))


@pytest.mark.parametrize("files", [DEBIAN, FEDORA], ids=["initramfs-tools", "dracut"])
@pytest.mark.parametrize("name", WAYS)
def test_each_module_without_which_the_root_is_lost(
    tmp_path: Path, name: str, files: dict[str, initrd.Content]
) -> None:
    make, command_line, wanted = WAYS[name]
    top = root(tree(tmp_path / "machine", make()), command_line).top
    assert top is not None
    listed = "".join(f"kernel/{each}.ko:\n" for each in NAMES)
    target = kernel(tmp_path / "kernel", dep=listed, alias=ALIASES)
    assert not stops(top, target, files)
    assert {one.replace("-", "_") for one in NAMES if stops(top, target, files, one.replace("-", "_"))} == wanted
