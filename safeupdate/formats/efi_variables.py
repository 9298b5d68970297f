"""EFI variables as efivarfs shows them, and the values of those that decide what the firmware starts.

The file format is the kernel's (Documentation/filesystems/efivarfs.rst): 4 bytes of attributes, then the value. The
values are defined in the UEFI specification 2.10 (section 3.1 "Firmware Boot Manager", 3.3 "Globally Defined
Variables", 10.3 "Device Path Nodes") and, for the loader's own, in systemd's Boot Loader Interface.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from safeupdate.errors import FormatError

GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
"""Vendor of the variables that the UEFI specification defines (section 3.3)."""

LOADER = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
"""Vendor of the variables that the boot loader and systemd share (Boot Loader Interface)."""

SIZE_LIMIT = 1 << 20
"""Bytes of the largest file worth reading: firmware stores at most some 100 KiB for all variables together."""

_ACTIVE = 0x1
_HIDDEN = 0x8
_CATEGORY = 0x1F00
_CATEGORY_BOOT = 0x0

_NODES = {
    (1, 1): "PCI",
    (1, 4): "vendor hardware",
    (2, 1): "ACPI",
    (2, 2): "ACPI",
    (3, 1): "ATAPI",
    (3, 2): "SCSI",
    (3, 5): "USB",
    (3, 10): "vendor messaging",
    (3, 11): "MAC",
    (3, 12): "IPv4",
    (3, 13): "IPv6",
    (3, 15): "USB",
    (3, 16): "USB",
    (3, 17): "logical unit",
    (3, 18): "SATA",
    (3, 19): "iSCSI",
    (3, 20): "VLAN",
    (3, 22): "SAS",
    (3, 23): "NVMe",
    (3, 24): "URI",
    (3, 26): "SD",
    (3, 28): "Wi-Fi",
    (3, 29): "eMMC",
    (3, 32): "NVDIMM",
    (4, 1): "HD",
    (4, 2): "CD-ROM",
    (4, 3): "vendor media",
    (4, 4): "file",
    (4, 6): "firmware file",
    (4, 7): "firmware volume",
    (4, 9): "RAM disk",
    (5, 1): "BIOS",
}
"""Type and sub-type of the nodes that boot options are made of (section 10.3), by the names used here."""

_END = 0x7F
_HD_GUID = 2
_HD_MBR = 1


@dataclass(frozen=True)
class Variable:
    """One file of efivarfs: its attribute bits (section 8.2) and its value."""

    attributes: int
    data: bytes


@dataclass(frozen=True)
class LoadOption:
    """EFI_LOAD_OPTION (section 3.1.3), one entry of the firmware's boot menu.

    `partition` is the partition as a PARTUUID has it, `path` the file on it with backslashes; None where the device
    path has no such node. `nodes` names all nodes of the device path. `data` is what the program gets as its
    arguments. `application` marks an entry that the boot manager shows but never takes by itself (a setup screen).
    """

    active: bool
    hidden: bool
    application: bool
    description: str
    nodes: tuple[str, ...] = ()
    partition: str | None = None
    path: str | None = None
    data: bytes = b""


def parse(data: bytes) -> Variable:
    """One file of efivarfs. Raises `FormatError` where the attributes are not whole."""
    if len(data) < 4:
        raise FormatError("an EFI variable ends inside its attributes", f"byte {len(data)}")
    return Variable(int.from_bytes(data[:4], "little"), data[4:])


def numbers(data: bytes) -> tuple[int, ...]:
    """The value of BootOrder, BootNext or BootCurrent: numbers of Boot#### variables (section 3.3)."""
    if len(data) % 2:
        raise FormatError("a list of 16-bit numbers has an odd length", f"byte {len(data)}")
    return struct.unpack(f"<{len(data) // 2}H", data)


def text(data: bytes) -> str:
    """A UTF-16 string up to its NUL, or to its end without one (LoaderInfo, LoaderEntryDefault, ...)."""
    if len(data) % 2:
        raise FormatError("a UTF-16 string has an odd length", f"byte {len(data)}")
    end = next((at for at in range(0, len(data), 2) if data[at : at + 2] == b"\0\0"), len(data))
    return _utf16(data[:end])


def texts(data: bytes) -> tuple[str, ...]:
    """UTF-16 strings, each with its NUL (LoaderEntries of the Boot Loader Interface)."""
    if len(data) % 2:
        raise FormatError("a UTF-16 string has an odd length", f"byte {len(data)}")
    return tuple(part for part in _utf16(data).split("\0") if part)


def flag(data: bytes) -> bool:
    """The value of SecureBoot or SetupMode, one byte (section 3.3)."""
    if len(data) != 1 or data[0] > 1:
        raise FormatError("a mode variable is not one byte of 0 or 1")
    return data == b"\1"


def bits(data: bytes) -> int:
    """The value of OsIndications (section 8.5.4) or LoaderFeatures (Boot Loader Interface): 64 bits."""
    if len(data) != 8:
        raise FormatError("a set of 64 bits is not 8 bytes long", f"byte {len(data)}")
    return int.from_bytes(data, "little")


def load_option(data: bytes) -> LoadOption:
    """The value of a Boot#### variable; of its device paths the first, which is the one that counts."""
    if len(data) < 6:
        raise FormatError("a load option ends inside its header", f"byte {len(data)}")
    attributes, length = struct.unpack_from("<IH", data)
    start = next((at for at in range(6, len(data) - 1, 2) if data[at : at + 2] == b"\0\0"), None)
    if start is None:
        raise FormatError("the description of a load option has no end", "byte 6")
    paths = start + 2
    if paths + length > len(data):
        raise FormatError("the device path of a load option is cut short", f"byte {paths}")
    nodes, partition, path = _device_path(data[paths : paths + length], paths)
    return LoadOption(
        active=bool(attributes & _ACTIVE),
        hidden=bool(attributes & _HIDDEN),
        application=attributes & _CATEGORY != _CATEGORY_BOOT,
        description=_utf16(data[6:start]),
        nodes=nodes,
        partition=partition,
        path=path,
        data=data[paths + length :],
    )


def _device_path(data: bytes, offset: int) -> tuple[tuple[str, ...], str | None, str | None]:
    nodes: list[str] = []
    partition = None
    files: list[str] = []
    at = 0
    while at < len(data):
        if at + 4 > len(data):
            raise FormatError("a device path ends inside a node's header", f"byte {offset + at}")
        kind, subtype, length = struct.unpack_from("<BBH", data, at)
        if length < 4 or at + length > len(data):
            raise FormatError(f"a device path node has the length {length}", f"byte {offset + at}")
        body = data[at + 4 : at + length]
        if kind == _END:
            break
        nodes.append(_NODES.get((kind, subtype), f"{kind}/{subtype}"))
        if (kind, subtype) == (4, 1):
            partition = _partition(body, offset + at)
        elif (kind, subtype) == (4, 4):
            files.append(_utf16(body).split("\0", 1)[0])
        at += length
    # Several file nodes are one path, with or without separators between them (section 10.3.5.4).
    path = "\\".join(part.strip("\\") for part in files)
    return tuple(nodes), partition, "\\" + path if files else None


def _partition(body: bytes, offset: int) -> str | None:
    """The PARTUUID of a hard drive node (section 10.3.5.1), for GPT and for MBR."""
    if len(body) < 38:
        raise FormatError("a hard drive node is cut short", f"byte {offset}")
    (number,) = struct.unpack_from("<I", body)
    signature, kind = body[20:36], body[37]
    if kind == _HD_GUID:
        first, second, third = struct.unpack_from("<IHH", signature)
        return f"{first:08x}-{second:04x}-{third:04x}-{signature[8:10].hex()}-{signature[10:].hex()}"
    if kind == _HD_MBR:
        return f"{int.from_bytes(signature[:4], 'little'):08x}-{number:02x}"
    return None


def _utf16(data: bytes) -> str:
    """UTF-16 as UEFI has it; what is no character becomes U+FFFD, so that no name is taken for another."""
    return data.decode("utf-16-le", "replace")
