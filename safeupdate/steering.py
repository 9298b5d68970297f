"""What safeupdate itself holds the boot loader's default with, read back from where the loader finds it.

GRUB: `custom.cfg` beside `grub.cfg`, which every distribution's grub.cfg reads last (/etc/grub.d/41_custom; GRUB
manual, "Simple configuration handling"). Ours holds one of two texts of the same length, and is overwritten in its own
blocks: GRUB replays no journal. systemd-boot: the variable LoaderEntryDefault (systemd-boot(7)), which says nothing of
who set it, so that it is ours only where the record that the gate wrote before names the same entry.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from safeupdate.errors import FormatError, Missing, Unreadable
from safeupdate.formats import efi_variables
from safeupdate.machine import Machine

CUSTOM = ("/boot/grub/custom.cfg", "/boot/grub2/custom.cfg")
"""GRUB's file, where distributions have it."""

SIZE = 511
"""Bytes of that file, whatever it says: in one sector of a disk, which is written whole or not at all."""

RECORD = "/var/lib/safeupdate/levers/boot-default.json"
"""What the gate wrote down before it held the default; `gate/record.py` says how."""

VARIABLE = f"/sys/firmware/efi/efivars/LoaderEntryDefault-{efi_variables.LOADER}"

_HOLD = '# safeupdate\nif [ -z "${boot_once}" ]; then set default="%s"; fi\n'
"""The one-time choice of an administrator (grub-reboot) goes first: grub.cfg then sets `boot_once`."""

_PLAIN = r"[A-Za-z0-9 _.,:;+/@()>=~-]+"
"""Characters that mean themselves between GRUB's double quotes, in an id or a title."""

_HELD = re.compile(re.escape(_HOLD).replace("%s", f"({_PLAIN})") + "#+\n")

_RECORD_LIMIT = 1 << 20


@dataclass(frozen=True)
class Steering:
    """The default is held on `entry`: GRUB's path of ids, or systemd-boot's id.

    `path` is GRUB's file. `old` is the value that LoaderEntryDefault had before, None where it was not set.
    """

    loader: Literal["grub", "systemd-boot"]
    entry: str
    path: str | None = None
    old: str | None = None

    @property
    def where(self) -> str:
        """What holds it, for a person."""
        return self.path or "the EFI variable LoaderEntryDefault"


def _padded(text: str) -> bytes:
    # A comment: GRUB takes a line of blanks for a broken assignment.
    return text.encode() + b"#" * (SIZE - 1 - len(text)) + b"\n"


OFF = _padded("# safeupdate off\n")
"""GRUB's file while it holds nothing."""


def hold(entry: str) -> bytes:
    """GRUB's file that holds the default on the entry with this path of ids.

    Raises `FormatError` where the path cannot be written so that GRUB is sure to read the same.
    """
    if not re.fullmatch(_PLAIN, entry):
        raise FormatError(f'the entry "{entry}" has characters in its name that GRUB might read otherwise')
    text = _HOLD % entry
    if len(text) > SIZE - 2:
        raise FormatError(f'the entry "{entry}" has too long a name for the {SIZE} bytes of one sector')
    return _padded(text)


def held_by(data: bytes) -> str | None:
    """The entry that GRUB's file holds the default on; None where it holds nothing, or is not ours."""
    found = _HELD.fullmatch(data.decode("ascii", "replace")) if len(data) == SIZE else None
    return found.group(1) if found else None


def is_ours(data: bytes) -> bool:
    """Whether these are the bytes of our own file, holding or not."""
    return data == OFF or held_by(data) is not None


def read(machine: Machine) -> Steering | None:
    """How the default is held now; None where it is not, or not by safeupdate. Raises nothing."""
    for path in CUSTOM:
        data = _read(machine, path, SIZE)
        entry = held_by(data) if data is not None else None
        if entry is not None:
            return Steering("grub", entry, path)
    return _variable(machine)


def default_variable(machine: Machine) -> str | None:
    """The value of LoaderEntryDefault; None where it is not set, or no text. Raises nothing."""
    data = _read(machine, VARIABLE, efi_variables.SIZE_LIMIT)
    try:
        return None if data is None else efi_variables.text(efi_variables.parse(data).data)
    except FormatError:
        return None


def _variable(machine: Machine) -> Steering | None:
    data = _read(machine, RECORD, _RECORD_LIMIT)
    if data is None:
        return None
    import json

    try:
        record = json.loads(data)
        entry, old = record["new"], record["old"]
    except (ValueError, RecursionError, KeyError, TypeError):
        return None
    if not isinstance(entry, str) or not isinstance(old, (str, type(None))):
        return None
    return Steering("systemd-boot", entry, old=old) if default_variable(machine) == entry else None


def _read(machine: Machine, path: str, limit: int) -> bytes | None:
    try:
        return machine.read(path, limit=limit)
    except (Missing, Unreadable):
        return None
