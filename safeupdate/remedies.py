"""How each distribution mends what the checks find: one place for the commands.

Nothing is raised for what cannot be read here: a remedy is beside the answer, and must not take it away.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from safeupdate.errors import Unreadable
from safeupdate.formats import modules
from safeupdate.machine import Machine
from safeupdate.report import Remedy

_PROXMOX = "/etc/kernel/proxmox-boot-uuids"
"""With it, proxmox-boot-tool(8) fills the ESPs, and no other tool writes what the loader reads."""


def make_initramfs(machine: Machine, release: str, image: str | None = None) -> Remedy:
    """Build the initramfs of this release anew, in the file `image`. A full file system is why most images are cut."""
    text = "Build the initramfs anew. Look first whether its file system is full: that is how most images are cut."
    directory = image.rpartition("/")[0] if image is not None else ""
    # An image on the ESP is copied there from /boot, and either may be full.
    places = ["/boot", directory] if directory and _there(machine, directory) else ["/boot"]
    space = ("df", "-h", *dict.fromkeys(places))
    if has(machine, "update-initramfs"):
        there = _there(machine, image or f"/boot/initrd.img-{release}")
        return Remedy(text, (space, ("update-initramfs", "-u" if there else "-c", "-k", release)))
    if has(machine, "dracut"):
        names = {"dpkg": "/boot/initrd.img-{}", "zypper": "/boot/initrd-{}"}
        name = next((names[tool] for tool in names if has(machine, tool)), "/boot/initramfs-{}.img")
        image = image or name.format(release)
        return Remedy(text, (space, ("dracut", "--force", image, release)))
    if has(machine, "mkinitcpio"):
        return Remedy(text, (space, ("mkinitcpio", "-P")))
    return Remedy(text)


def install(machine: Machine, package: str) -> Remedy:
    """Install a package that has the same name everywhere."""
    for program in ("apt-get", "dnf", "zypper"):
        if has(machine, program):
            return Remedy(f"Install {package}.", ((program, "install", package),))
    return Remedy(f"Install {package}.")


def reinstall_kernel(machine: Machine, release: str) -> Remedy:
    """Put the kernel's files back."""
    text = f"Install the kernel {release} again."
    if _there(machine, "/var/lib/dpkg/status") or has(machine, "dpkg"):
        packages = _owners(machine, release) or (f"linux-image-{release}",)
        return Remedy(text, (("apt-get", "install", "--reinstall", *packages),))
    if has(machine, "dnf"):
        # Image and modules have packages of their own, whose names differ by flavour (kernel-rt-core, kernel-uek-core).
        return Remedy(text, (("dnf", "reinstall", f"kernel*-{release}"),))
    if has(machine, "zypper"):
        flavour = release.rpartition("-")[2]
        return Remedy(text, (("zypper", "install", "--force", f"kernel-{flavour}"),))
    if has(machine, "pacman"):
        names: set[str] = set()
        with suppress(Unreadable):
            bases = (machine.value(f"/usr/lib/modules/{one}/pkgbase") for one in machine.listdir("/usr/lib/modules"))
            names = {name for name in bases if name}
        return Remedy(text, tuple(("pacman", "-S", name) for name in sorted(names)))
    return Remedy(text)


def remove_kernels(machine: Machine, releases: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The commands that remove these kernels, or all that the distribution calls old; none where they are not known."""
    if has(machine, "apt-get"):
        return (("apt-get", "autoremove", "--purge"),)
    if has(machine, "dnf"):
        return (("dnf", "remove", *(f"kernel*-{release}" for release in releases)),)
    return (("zypper", "purge-kernels"),) if has(machine, "zypper") else ()


def _owners(machine: Machine, release: str) -> tuple[str, ...]:
    """The Debian packages that brought the image and the modules: every package has a list of its files (dpkg(1))."""
    directory = "/var/lib/dpkg/info"
    wanted = (f"/boot/vmlinuz-{release}", *(f"{usr}/lib/modules/{release}/kernel" for usr in ("", "/usr")))
    names = []
    with suppress(Unreadable):
        for name in machine.listdir(directory):
            # Its name tells: all distributions that use dpkg put the release into the names of such packages.
            if name.endswith(".list") and release in name:
                lines = (machine.read_if_there(f"{directory}/{name}") or b"").split(b"\n")
                if any(path.encode("utf-8", "surrogateescape") in lines for path in wanted):
                    names.append(name[: -len(".list")])
    return tuple(names)


def build_module(machine: Machine, release: str, name: str) -> tuple[tuple[str, ...], ...]:
    """The commands that build, sign and install a module anew, by the program that built it; none where that is not
    known."""
    top = "/var/lib/dkms"
    with suppress(Unreadable):
        for package in machine.listdir(top):
            for version in machine.listdir(f"{top}/{package}"):
                for architecture in machine.listdir(f"{top}/{package}/{version}/{release}"):
                    built = machine.listdir(f"{top}/{package}/{version}/{release}/{architecture}/module")
                    if name in map(modules.module_name, built):
                        which = (f"{package}/{version}", "-k", release)
                        return ("dkms", "build", "--force", *which), ("dkms", "install", "--force", *which)
    if _there(machine, "/usr/sbin/akmods"):
        return (("akmods", "--force", "--kernels", release),)
    return ()


def install_headers(machine: Machine, release: str) -> tuple[str, ...]:
    """The command that installs what modules of a kernel are built against; empty where it is not known."""
    if has(machine, "apt-get"):
        kind = "linux"
        if release.endswith("-pve"):
            kind = "pve" if release.startswith(("4.", "5.")) else "proxmox"
        return ("apt-get", "install", f"{kind}-headers-{release}")
    if has(machine, "dnf"):
        return ("dnf", "install", kernel_devel(release))
    if has(machine, "zypper"):
        # The package's version has a number more than the kernel's release.
        return ("zypper", "install", f"kernel-{release.rpartition('-')[2]}-devel")
    if has(machine, "pacman"):
        with suppress(Unreadable):
            package = machine.value(f"/usr/lib/modules/{release}/pkgbase")
            return ("pacman", "-S", f"{package}-headers") if package else ()
    return ()


def kernel_devel(release: str) -> str:
    """Fedora's and RHEL's package with the headers of a kernel, whose flavour stands behind its release, or within
    (UEK)."""
    base, _, flavour = release.partition("+")
    flavour = flavour or ("uek" if "uek" in release else "")
    return f"kernel-{flavour}-devel-{base}" if flavour else f"kernel-devel-{base}"


def write_boot_menu(machine: Machine, loader: str | None, config: str | None) -> Remedy:
    """Write the boot loader's menu from what is installed; `config` is the file that holds GRUB's menu itself."""
    text = "Write the boot menu anew."
    if _there(machine, _PROXMOX):
        return _refresh()
    if loader != "grub":
        return Remedy(text)
    if has(machine, "update-grub"):
        return Remedy(text, (("update-grub",),))
    config = config or "/boot/grub2/grub.cfg"
    tool = "grub2-mkconfig" if has(machine, "grub2-mkconfig") or "/grub2/" in config else "grub-mkconfig"
    return Remedy(text, ((tool, "-o", config),))


def add_kernels(machine: Machine, releases: Sequence[str]) -> Remedy:
    """Write the entries, or the unified images, of these releases anew; before systemd 255 the image must be named."""
    if _there(machine, _PROXMOX):
        return _refresh()
    commands = []
    for release in releases:
        places = (f"/usr/lib/modules/{release}/vmlinuz", f"/boot/vmlinuz-{release}")
        image = next((place for place in places if _there(machine, place)), None)
        commands.append(("kernel-install", "add", release, *([image] if image is not None else [])))
    return Remedy("Have the kernel's boot entry made anew.", tuple(commands))


def change_command_line(machine: Machine, image: str, *, add: str = "", remove: str = "") -> Remedy | None:
    """Change a parameter in the entry of the kernel `image` by grubby(8); None where the machine has no grubby."""
    if not has(machine, "grubby"):
        return None
    change = f"--args={add}" if add else f"--remove-args={remove}"
    return Remedy("Correct the command line in the boot entry.", (("grubby", f"--update-kernel={image}", change),))


def _refresh() -> Remedy:
    return Remedy("Have the kernels and their entries copied to the ESPs anew.", (("proxmox-boot-tool", "refresh"),))


def has(machine: Machine, program: str) -> bool:
    """Whether an administrator's program is there."""
    return any(_there(machine, f"{directory}/{program}") for directory in ("/usr/sbin", "/usr/bin", "/sbin"))


def _there(machine: Machine, path: str) -> bool:
    with suppress(Unreadable):
        return machine.exists(path)
    return False
