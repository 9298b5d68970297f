"""How each distribution mends what the checks find: one place for the commands."""

from __future__ import annotations

from collections.abc import Sequence

from safeupdate.machine import Machine
from safeupdate.report import Remedy


def make_initramfs(machine: Machine, release: str, image: str | None = None) -> Remedy:
    """Build the initramfs of this release anew, in the file `image`. A full file system is why most images are cut."""
    text = "Build the initramfs anew. Look first whether its file system is full: that is how most images are cut."
    space = ("df", "-h", "/boot")
    if _has(machine, "update-initramfs"):
        there = machine.exists(image or f"/boot/initrd.img-{release}")
        return Remedy(text, (space, ("update-initramfs", "-u" if there else "-c", "-k", release)))
    if _has(machine, "dracut"):
        debian = machine.exists("/usr/bin/dpkg")
        image = image or (f"/boot/initrd.img-{release}" if debian else f"/boot/initramfs-{release}.img")
        return Remedy(text, (space, ("dracut", "--force", image, release)))
    if _has(machine, "mkinitcpio"):
        return Remedy(text, (space, ("mkinitcpio", "-P")))
    return Remedy(text)


def install(machine: Machine, package: str) -> Remedy:
    """Install a package that has the same name everywhere."""
    for program in ("apt-get", "dnf", "zypper"):
        if _has(machine, program):
            return Remedy(f"Install {package}.", ((program, "install", package),))
    return Remedy(f"Install {package}.")


def reinstall_kernel(machine: Machine, release: str) -> Remedy:
    """Put the kernel's files back."""
    text = f"Install the kernel {release} again."
    if machine.exists("/var/lib/dpkg/status"):
        return Remedy(text, (("apt-get", "install", "--reinstall", f"linux-image-{release}"),))
    if machine.exists("/usr/bin/dnf"):
        return Remedy(text, (("dnf", "reinstall", f"kernel-core-{release}"),))
    return Remedy(text)


def write_boot_menu(machine: Machine, loader: str | None, config: str | None) -> Remedy:
    """Write the boot loader's menu from what is installed; `config` is the file that holds GRUB's menu itself."""
    text = "Write the boot menu anew."
    if loader != "grub":
        return Remedy(text)
    if _has(machine, "update-grub"):
        return Remedy(text, (("update-grub",),))
    config = config or "/boot/grub2/grub.cfg"
    tool = "grub2-mkconfig" if _has(machine, "grub2-mkconfig") or "/grub2/" in config else "grub-mkconfig"
    return Remedy(text, ((tool, "-o", config),))


def add_kernels(machine: Machine, releases: Sequence[str]) -> Remedy:
    """Write the entries, or the unified images, of these releases anew; before systemd 255 the image must be named."""
    commands = []
    for release in releases:
        places = (f"/usr/lib/modules/{release}/vmlinuz", f"/boot/vmlinuz-{release}")
        image = next((place for place in places if machine.exists(place)), None)
        commands.append(("kernel-install", "add", release, *([image] if image is not None else [])))
    return Remedy("Have the kernel's boot entry made anew.", tuple(commands))


def change_command_line(machine: Machine, image: str, *, add: str = "", remove: str = "") -> Remedy | None:
    """Change a parameter in the entry of the kernel `image` by grubby(8); None where the machine has no grubby."""
    if not _has(machine, "grubby"):
        return None
    change = f"--args={add}" if add else f"--remove-args={remove}"
    return Remedy("Correct the command line in the boot entry.", (("grubby", f"--update-kernel={image}", change),))


def _has(machine: Machine, program: str) -> bool:
    return any(machine.exists(f"{directory}/{program}") for directory in ("/usr/sbin", "/usr/bin", "/sbin"))
