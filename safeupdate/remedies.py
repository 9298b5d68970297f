"""How each distribution mends what the checks find: one place for the commands."""

from __future__ import annotations

from safeupdate.machine import Machine
from safeupdate.report import Remedy


def make_initramfs(machine: Machine, release: str) -> Remedy:
    """Build the image of this release."""
    if machine.exists("/usr/sbin/update-initramfs"):
        there = machine.exists(f"/boot/initrd.img-{release}")
        return Remedy("Build the initramfs anew.", (("update-initramfs", "-u" if there else "-c", "-k", release),))
    if machine.exists("/usr/bin/dracut") or machine.exists("/usr/sbin/dracut"):
        return Remedy("Build the initramfs anew.", (("dracut", "--force", "--kver", release),))
    if machine.exists("/usr/bin/mkinitcpio"):
        return Remedy("Build the initramfs anew.", (("mkinitcpio", "-P"),))
    return Remedy("Build the initramfs anew with this distribution's tool.")


def reinstall_kernel(machine: Machine, release: str) -> Remedy:
    """Put the kernel's files back."""
    text = f"Install the kernel {release} again."
    if machine.exists("/var/lib/dpkg/status"):
        return Remedy(text, (("apt-get", "install", "--reinstall", f"linux-image-{release}"),))
    if machine.exists("/usr/bin/dnf"):
        return Remedy(text, (("dnf", "reinstall", f"kernel-core-{release}"),))
    return Remedy(text)


def write_boot_menu(machine: Machine, loader: str | None, config: str | None) -> Remedy:
    """Write the boot loader's menu from what is installed."""
    text = "Write the boot menu anew."
    if loader == "grub" and machine.exists("/usr/sbin/update-grub"):
        return Remedy(text, (("update-grub",),))
    if loader == "grub":
        return Remedy(text, (("grub2-mkconfig", "-o", config or "/boot/grub2/grub.cfg"),))
    return Remedy(text)
