"""Whose machine this is, where it is somebody's cloud or a hypervisor's guest, by what its firmware says (DMI)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from safeupdate.errors import Unreadable
from safeupdate.machine import Machine
from safeupdate.storage.devices import Devices, Layer

_KNOWN = (
    ("sys_vendor", r"Amazon EC2$", "EC2 instance (Nitro)", True),
    ("bios_version", r".*\.amazon$", "EC2 instance (Xen)", True),
    ("product_name", r"Google Compute Engine$", "Google Compute Engine instance", True),
    ("chassis_asset_tag", r"7783-7084-3265-9085-8269-3286-77$", "Azure virtual machine", True),
    ("chassis_asset_tag", r"OracleCloud\.com$", "Oracle Cloud instance", True),
    ("product_name", r"OpenStack (?:Nova|Compute)$", "OpenStack instance", True),
    ("sys_vendor", r"OpenStack Foundation$", "OpenStack instance", True),
    ("sys_vendor", r"DigitalOcean$", "DigitalOcean droplet", True),
    ("sys_vendor", r"Hetzner$", "Hetzner Cloud server", True),
    ("sys_vendor", r"Alibaba Cloud$", "Alibaba Cloud instance", True),
    ("sys_vendor", r"Tencent Cloud$", "Tencent Cloud instance", True),
    ("sys_vendor", r"(?:Akamai|Linode)$", "Linode instance", True),
    ("sys_vendor", r"(?:Vultr|Scaleway|Exoscale|UpCloud|CloudSigma)$", "cloud server", True),
    ("sys_vendor", r"VMware", "VMware guest", False),
    ("sys_vendor", r"Microsoft Corporation$", "Hyper-V guest", False),
    ("sys_vendor", r"Xen$", "Xen guest", False),
    ("sys_vendor", r"innotek GmbH$", "VirtualBox guest", False),
)
"""An attribute of DMI, what it is like, words for the machine, and whether it is a cloud's. Of a plain QEMU there is
nothing to explain."""

_CARRIERS = frozenset({"sd_mod", "sd", "virtio_pci", "virtio-pci", "pci"})
"""Drivers that tell nothing of how a disk is attached."""

_LIMIT = 10_000
"""Interfaces that are looked at: a host of containers has some thousands, nearly all of them without a device."""


@dataclass(frozen=True)
class Platform:
    """What a machine is, in words without an article. `cloud`: nobody sits before it. Its only ways in are the network
    and, on some, a serial console, on which the images of clouds let nobody log in: they have no passwords."""

    title: str
    cloud: bool


def of(machine: Machine) -> Platform | None:
    """What the machine is, where it is a cloud's or a guest of another hypervisor than plain QEMU; else None."""

    def found(attribute: str) -> str:
        return _read(machine, f"/sys/class/dmi/id/{attribute}")

    for attribute, pattern, title, cloud in _KNOWN:
        if re.match(pattern, found(attribute)):
            if title == "Hyper-V guest" and found("product_name") != "Virtual Machine":
                continue
            return Platform(title, cloud)
    return None


def adapters(machine: Machine) -> tuple[Layer, ...]:
    """The network interfaces of hardware, or of what a hypervisor shows as such, that have a carrier now. What has no
    device is none of them: bridges, bonds, tunnels, the ends of containers."""
    devices, top = Devices(machine), "/sys/class/net"
    try:
        names = [name for name in machine.listdir(top)[:_LIMIT] if machine.exists(f"{top}/{name}/device")]
    except Unreadable:
        return ()
    found = map(devices.interface, (name for name in names if _read(machine, f"{top}/{name}/carrier") == "1"))
    return tuple(one for one in found if "driver" in one.facts)


def words(layers: Iterable[Layer]) -> str:
    """The drivers of disks, controllers and interfaces; empty where none is known."""
    facts = (layer.facts for layer in layers)
    names = (one.get("driver") or one.get("driver-name") or one.get("carrier") for one in facts)
    found = list(dict.fromkeys(filter(None, names)))
    return " and ".join([name for name in found if name not in _CARRIERS] or found)


def _read(machine: Machine, path: str) -> str:
    """An attribute; empty where it cannot be read, as the carrier of an interface that is down."""
    try:
        return machine.value(path) or ""
    except Unreadable:
        return ""
