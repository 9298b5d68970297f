"""What a root on the network goes through, besides the adapter: what mounts it or logs in, and what sets up addresses
(dracut.cmdline(7), initramfs-tools(7), the scripts of open-iscsi)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from safeupdate.storage.layers import ask
from safeupdate.storage.requirement import Requirement

if TYPE_CHECKING:
    from safeupdate.storage.image import Image
    from safeupdate.storage.stack import Layer

KINDS = ("file-system", "controller", "nbd")

_MOUNTED: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "nfs": {"initramfs-tools": ("nfsmount", "mount.nfs"), "dracut": ("mount.nfs", "mount.nfs4")},
    "nfs4": {"initramfs-tools": ("nfsmount", "mount.nfs", "mount.nfs4"), "dracut": ("mount.nfs4", "mount.nfs")},
    "cifs": {"initramfs-tools": ("mount.cifs",), "dracut": ("mount.cifs",)},
}
"""By file system and by what made the image: the programs that mount it."""

_INITIATORS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "iscsi_tcp": {"initramfs-tools": ("iscsistart",), "dracut": ("iscsistart", "iscsiadm")},
    "ib_iser": {"initramfs-tools": ("iscsistart",), "dracut": ("iscsistart", "iscsiadm")},
    "nvme_tcp": {"dracut": ("nvme",)},
    "nvme_rdma": {"dracut": ("nvme",)},
}
"""By the module that carries a disk: the programs that reach it."""

_SET_UP = {
    "initramfs-tools": ("ipconfig", "dhcpcd", "dhclient", "udhcpc"),
    "dracut": (
        "ifup",
        "/usr/libexec/nm-initrd-generator",
        "/usr/lib/nm-initrd-generator",
        "/usr/lib/NetworkManager/nm-initrd-generator",
        "NetworkManager",
        "/usr/lib/systemd/systemd-networkd",
        "/lib/systemd/systemd-networkd",
        "connmand",
        "wicked",
    ),
}
"""Programs that give an adapter its address; the kernel does it itself where its driver is built in (nfsroot.rst)."""


def needs(layer: Layer, image: Image) -> Iterator[Requirement]:
    fstype, carrier = layer.facts.get("fstype", ""), layer.facts.get("carrier", "")
    if carrier:
        yield from ask.module(layer, image, carrier, f"it carries the disk ({layer.title})")
    if fstype in ("nfs", "nfs4"):
        yield from _version(layer, image)
    programs = (_MOUNTED.get(fstype) or _INITIATORS.get(carrier) or {}).get(image.generator)
    if programs:
        what = "it mounts the file system" if fstype else "it reaches the disk"
        yield Requirement("program", programs, True, what, layer)
    if (programs or layer.kind == "nbd") and image.generator in _SET_UP:
        must = not any("driver" in one.facts and not one.facts["driver"] for one in layer.walk())
        yield Requirement("program", _SET_UP[image.generator], must, "it sets up the network", layer)


def _version(layer: Layer, image: Image) -> Iterator[Requirement]:
    """The module of the protocol's version, where that is known; the kernel asks for it when it mounts."""
    found = re.search(r"(?:^|,)(?:nfs)?vers=([234])", layer.facts.get("options", ""))
    version = found.group(1) if found else "4" if layer.facts["fstype"] == "nfs4" else ""
    if version:
        yield from ask.module(layer, image, f"nfsv{version}", f"it speaks version {version} of NFS")
