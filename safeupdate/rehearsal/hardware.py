"""What a virtual machine is made of, and how QEMU is told so (qemu-system-x86_64(1))."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

CODE = "/usr/share/OVMF/OVMF_CODE_4M.fd"
CODE_SECURE_BOOT = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd"
"""OVMF, as Debian and Ubuntu have it. The second one checks signatures, and keeps its variables behind SMM."""

VARIABLES = "/usr/share/OVMF/OVMF_VARS_4M.fd"
VARIABLES_SECURE_BOOT = "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"
"""Its variables on a new machine: none; or as a machine is sold, with Microsoft's keys and Secure Boot on."""


Controller = Literal["virtio", "ahci", "nvme"]


@dataclass(frozen=True)
class Disk:
    """A disk image and what it hangs on; with `forget` what the machine writes to it goes when it ends."""

    image: str
    format: Literal["qcow2", "raw"] = "qcow2"
    controller: Controller = "virtio"
    forget: bool = False


@dataclass(frozen=True)
class Firmware:
    """UEFI, with its variables in this file (raw, changed by the machine)."""

    variables: str
    secure_boot: bool = False


@dataclass(frozen=True)
class Hardware:
    """A machine: its disks in their order, its firmware (BIOS where there is none), its memory in MiB.

    `kernel` starts without firmware and loader: the kernel, its initramfs and its command line.
    """

    disks: tuple[Disk, ...]
    firmware: Firmware | None = None
    memory: int = 1024
    processors: int = 2
    kernel: tuple[str, str, str] | None = None


def arguments(hardware: Hardware) -> list[str]:
    """QEMU's arguments for this machine, emulated in software, without network and screen."""
    secure = hardware.firmware is not None and hardware.firmware.secure_boot
    # Without graphics SeaBIOS shows on the serial line, too, what it and GRUB print on the screen.
    words = ["-machine", f"q35,graphics=off,smm={'on' if secure else 'off'}"]
    # Not the processor `max`: with the AVX and BMI of QEMU 7.2, mount and udevd of Debian 13 fail.
    words += ["-accel", "tcg", "-cpu", "Nehalem"]
    words += ["-smp", str(hardware.processors), "-m", str(hardware.memory), "-display", "none", "-nic", "none"]
    words += ["-no-user-config", "-nodefaults", "-rtc", "base=utc"]
    if hardware.firmware is None:
        # GRUB waits where there is no screen. OVMF is faster without.
        words += ["-vga", "std"]
    else:
        code = CODE_SECURE_BOOT if secure else CODE
        words += ["-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={_escaped(code)}"]
        words += ["-drive", f"if=pflash,unit=1,format=raw,file={_escaped(hardware.firmware.variables)}"]
        if secure:
            words += ["-global", "driver=cfi.pflash01,property=secure,value=on"]
    for number, disk in enumerate(hardware.disks):
        words += _disk(number, disk)
    if hardware.kernel is not None:
        image, initramfs, command_line = hardware.kernel
        words += ["-kernel", image, "-initrd", initramfs, "-append", command_line]
    return words


def _disk(number: int, disk: Disk) -> list[str]:
    drive = f"file={_escaped(disk.image)},format={disk.format},id=disk{number},if=none,cache=unsafe,discard=unmap"
    words = ["-drive", f"{drive},snapshot={'on' if disk.forget else 'off'}"]
    # No bootindex: OVMF would put its boot order behind that.
    device = {
        "virtio": f"virtio-blk-pci,drive=disk{number}",
        "ahci": f"ide-hd,drive=disk{number},bus=ide.{number}",
        "nvme": f"nvme,drive=disk{number},serial=disk{number}",
    }[disk.controller]
    return [*words, "-device", device]


def _escaped(name: str) -> str:
    """A comma in the value of an option is written twice."""
    return name.replace(",", ",,")
