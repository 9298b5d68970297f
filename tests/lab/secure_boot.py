"""The firmware's variables of a machine with Secure Boot: the switch, and the key that its owner has enrolled.

A person enrols a key with mokutil(1) and, at the next boot, in MokManager; what is left then is shim's MokList.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Sequence

from tests.lab import nvram
from tests.lab.nvram import Value

_SWITCH = ("SecureBootEnable", "f0a30bc7-af08-4556-99c4-001009c93a44")
_MOK_LIST = ("MokList", "605dab50-e046-4300-abb6-3dd810dd8b23")
_BEFORE_BOOT = 0x3
"""Kept, and for boot services only (UEFI 2.10, section 8.2)."""

_X509 = "a5c059a1-94e4-4aa7-87b5-ab155c2bf072"


def switch(file: str, *, on: bool) -> None:
    """Turn Secure Boot on or off, as the set-up of the firmware does."""
    _set(file, _SWITCH, bytes([on]))


def enrol(file: str, *certificates: bytes) -> None:
    """Make these certificates (DER) the machine owner keys: an EFI_SIGNATURE_LIST for each (UEFI 2.10, section 32.4.1).
    What mokutil has asked for is over with that."""
    owner, lists = uuid.UUID(_MOK_LIST[1]).bytes_le, b""
    for certificate in certificates:
        entry = owner + certificate
        lists += uuid.UUID(_X509).bytes_le + struct.pack("<III", 28 + len(entry), 0, len(entry)) + entry
    _set(file, _MOK_LIST, lists, gone=("MokNew", "MokAuth"))


def _set(file: str, name: tuple[str, str], data: bytes, gone: Sequence[str] = ()) -> None:
    with open(file, "rb") as old:
        image = old.read()
    variables = nvram.read(image)
    variables[name] = Value(_BEFORE_BOOT, data)
    for one in gone:
        variables.pop((one, name[1]), None)
    with open(file, "wb") as new:
        new.write(nvram.write(image, variables))
