"""EFI programs, variables and partitions for small machines."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from safeupdate.formats.efi_variables import GLOBAL, LOADER
from tests.unit.trees import Content, x86_image

X64 = 0x8664
ESP_UUID = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
XBOOTLDR_UUID = "bc13c2ff-59e6-4262-a352-b275fd6f7172"
ESP_PARTUUID = "12345678-9abc-def0-1122-334455667788"
VARIABLES = "/sys/firmware/efi/efivars"

REAL = [*sorted((Path.home() / ".cache/safeupdate/debs/x").glob("*")), Path("/usr/lib/systemd/boot/efi")]
"""Where EFI programs of a distribution are, unpacked or installed; a host need not have any."""


def real(name: str) -> Path | None:
    """A distribution's EFI program of this name, if this host has one."""
    return next((path for place in REAL if place.is_dir() for path in sorted(place.rglob(name))), None)


def pe(sections: Sequence[tuple[str, bytes]] = (), *, machine: int = X64) -> bytes:
    """A PE32+ file with these sections, in this order; a name may come several times."""
    optional = struct.pack("<HBBIIIII", 0x20B, 0, 0, 0, 0, 0, 0x1000, 0x1000)
    optional += struct.pack("<QII", 0x10000, 0x1000, 0x200) + bytes(8) + struct.pack("<HH", 0, 0) + bytes(4)
    headers = 0x80 + 24 + 240 + 40 * len(sections)
    start = -(-headers // 0x200) * 0x200
    optional += struct.pack("<IIIHH", 0x10000, start, 0, 10, 0) + bytes(40) + struct.pack("<I", 16) + bytes(128)
    optional = optional[:236] + bytes(240 - len(optional[:236]))
    table, bodies, at = b"", b"", start
    for number, (name, content) in enumerate(sections, 2):
        padded = content + bytes(-len(content) % 0x200)
        table += struct.pack(
            "<8sIIIIIIHHI", name.encode(), len(content), number << 20, len(padded), at, 0, 0, 0, 0, 0x40
        )
        bodies += padded
        at += len(padded)
    head = b"MZ" + bytes(58) + struct.pack("<I", 0x80) + bytes(0x40)
    head += b"PE\0\0" + struct.pack("<HHIIIHH", machine, len(sections), 0, 0, 0, 240, 0x22E) + optional + table
    return head + bytes(start - len(head)) + bodies


def uki(
    release: str = "6.1.0-50-amd64",
    *,
    cmdline: str | None = "root=/dev/sda2 ro",
    os_release: str = "ID=debian\nPRETTY_NAME=Debian\n",
    more: Sequence[tuple[str, bytes]] = (),
    machine: int = X64,
) -> bytes:
    """A unified kernel image of a kernel of this release."""
    sections = [(".osrel", os_release.encode()), (".uname", release.encode())]
    if cmdline is not None:
        sections.append((".cmdline", cmdline.encode()))
    sections += [(".linux", x86_image(release)), (".initrd", b"070701" + bytes(600)), *more]
    return pe(sections, machine=machine)


def systemd_boot(version: str = "252.39-1") -> bytes:
    """A program with systemd-boot's mark."""
    return pe([(".text", b"x"), (".sdmagic", f"#### LoaderInfo: systemd-boot {version} ####".encode())])


def grub(prefix: str = "", search: str = "") -> bytes:
    """A program with GRUB's marks: `prefix` as a signed image has it, `search` (a UUID) as grub-install embeds it."""
    body = b"Welcome to GRUB!\n\0grub rescue> \0"
    if search:
        body += f"search.fs_uuid {search} root hd0,gpt2 \nset prefix=($root)'{prefix}'\n\0".encode()
    elif prefix:
        body += b"\0\0" + prefix.encode() + b"\0\0"
    return pe([(".text", body)])


def shim() -> bytes:
    """A program with shim's mark."""
    return pe([(".text", b"UEFI SHIM\n$Version: 15.8 $\0\\grubx64.efi")])


# -- variables -------------------------------------------------------------------------------------------------


def node(kind: int, subtype: int, body: bytes = b"") -> bytes:
    """A device path node."""
    return struct.pack("<BBH", kind, subtype, 4 + len(body)) + body


def hd(partuuid: str = ESP_PARTUUID) -> bytes:
    """The node of a GPT partition."""
    first, second, third, rest, last = partuuid.split("-")
    guid = struct.pack("<IHH", int(first, 16), int(second, 16), int(third, 16)) + bytes.fromhex(rest + last)
    return node(4, 1, struct.pack("<IQQ", 1, 2048, 1 << 20) + guid + b"\2\2")


def file_node(path: str) -> bytes:
    """The node of a file."""
    return node(4, 4, path.encode("utf-16-le") + b"\0\0")


def option(
    path: str | None,
    *,
    description: str = "x",
    attributes: int = 1,
    partuuid: str | None = ESP_PARTUUID,
    data: bytes = b"",
    nodes: bytes = b"",
) -> bytes:
    """The value of a Boot#### variable."""
    device = nodes + (hd(partuuid) if partuuid else b"") + (file_node(path) if path is not None else b"")
    device += node(0x7F, 0xFF)
    return struct.pack("<IH", attributes, len(device)) + description.encode("utf-16-le") + b"\0\0" + device + data


def variables(
    *,
    order: Sequence[int] | None = None,
    options: Mapping[int, bytes] | None = None,
    current: int | None = None,
    following: int | None = None,
    secure_boot: bool | None = False,
    loader: Mapping[str, str] | None = None,
    **named: str,
) -> dict[str, Content]:
    """efivarfs with these variables; `loader` and `named` are the texts of the Loader* ones."""
    values: dict[str, bytes] = {f"Boot{n:04X}-{GLOBAL}": value for n, value in (options or {}).items()}
    if order is not None:
        values[f"BootOrder-{GLOBAL}"] = struct.pack(f"<{len(order)}H", *order)
    for name, number in (("BootCurrent", current), ("BootNext", following)):
        if number is not None:
            values[f"{name}-{GLOBAL}"] = struct.pack("<H", number)
    if secure_boot is not None:
        values[f"SecureBoot-{GLOBAL}"] = bytes([secure_boot])
    values.update(
        {f"{name}-{LOADER}": text.encode("utf-16-le") + b"\0\0" for name, text in {**(loader or {}), **named}.items()}
    )
    return {f"{VARIABLES}/{name}": b"\7\0\0\0" + value for name, value in values.items()}


def disks(*, esp: str | None = "/boot/efi", boot: str | None = None, xbootldr: bool = False) -> dict[str, Content]:
    """Facts of a GPT disk sda: ESP sda1 (mounted at `esp`, or not), root sda2, perhaps sda3 for `boot`."""
    mounts = ["22 1 8:2 / / rw - ext4 /dev/sda2 rw"]
    files: dict[str, Content] = {}
    parts = {"1": ("ABCD-1234", "vfat", ESP_PARTUUID, ESP_UUID), "2": ("1" * 8, "ext4", "2" * 8, "0fc63daf")}
    if boot is not None:
        parts["3"] = ("3" * 8, "vfat" if xbootldr else "ext4", "4" * 8, XBOOTLDR_UUID if xbootldr else "0fc63daf")
        if boot:
            mounts.append(f"23 22 8:3 / {boot} rw - {parts['3'][1]} /dev/sda3 rw")
    if esp is not None:
        mounts.append(f"24 22 8:1 / {esp} rw - vfat /dev/sda1 rw")
    for number, (uuid, fstype, partuuid, kind) in parts.items():
        files[f"/sys/class/block/sda{number}/dev"] = f"8:{number}\n"
        files[f"/run/udev/data/b8:{number}"] = (
            f"E:ID_FS_UUID={uuid}\nE:ID_FS_TYPE={fstype}\nE:ID_PART_ENTRY_UUID={partuuid}\nE:ID_PART_ENTRY_TYPE={kind}\n"
        )
    files["/proc/self/mountinfo"] = "\n".join(mounts) + "\n"
    return files
