"""dpkg's record of what is installed: `status`, and the journal entries in `updates/` (dpkg(1), deb822(5)).

A stanza a package, of which the states are read: the third word of `Status` (dpkg(1), "INFORMATION ABOUT PACKAGES").
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from safeupdate.errors import FormatError

WANTS = frozenset({"unknown", "install", "hold", "deinstall", "purge"})
FLAGS = frozenset({"ok", "reinstreq", "hold", "hold-reinstreq"})
"""The last two were written before dpkg 1.14 and are still read."""

STATES = frozenset(
    {
        *("not-installed", "config-files", "half-installed", "unpacked", "half-configured"),
        *("triggers-awaited", "triggers-pending", "installed"),
    }
)

_FIELDS = frozenset({b"Package", b"Status", b"Version", b"Architecture", b"Multi-Arch", b"Triggers-Pending"})
_NAME = re.compile(rb"[!-9;-~]+")


@dataclass(frozen=True)
class Record:
    """One package. `reinstall` says that dpkg wants it installed anew (`reinstreq`) before it does anything else."""

    name: str
    version: str
    architecture: str
    state: str
    reinstall: bool = False
    per_architecture: bool = False
    """`Multi-Arch: same`: it may be there more than once, for different architectures."""
    triggers: tuple[str, ...] = ()
    """What it has still to act upon (`Triggers-Pending`)."""


def parse(data: bytes) -> tuple[Record, ...]:
    """Every stanza, in the order of the file. Raises `FormatError` with the line, as dpkg itself would refuse it."""
    if data and not data.endswith(b"\n"):
        raise FormatError("the last line was cut", f"line {data.count(bytes([10])) + 1}")
    records: list[Record] = []
    fields: dict[bytes, bytes] = {}
    begin = 0
    for number, line in enumerate(data.split(b"\n"), 1):
        if line[:1] in (b" ", b"\t"):
            continue  # goes on with the field before
        if not line:
            if begin:
                records.append(_record(fields, f"line {begin}"))
            fields, begin = {}, 0
            continue
        name, colon, value = line.partition(b":")
        if not colon or not _NAME.fullmatch(name):
            raise FormatError("what stands here is no field of a package", f"line {number}")
        begin = begin or number
        if name in _FIELDS:
            fields[name] = value
    if begin:
        records.append(_record(fields, f"line {begin}"))
    return tuple(records)


def _record(fields: dict[bytes, bytes], place: str) -> Record:
    texts = {name: value.decode("utf-8", "surrogateescape").strip() for name, value in fields.items()}
    name = texts.get(b"Package")
    if not name:
        raise FormatError("the package that begins here has no name", place)
    words = texts.get(b"Status", "unknown ok not-installed").split()
    if len(words) != 3 or words[0] not in WANTS or words[1] not in FLAGS or words[2] not in STATES:
        raise FormatError(f"the package {name} has no state that dpkg knows", place)
    return Record(
        name=name,
        version=texts.get(b"Version", ""),
        architecture=texts.get(b"Architecture", ""),
        state=words[2],
        reinstall=words[1].endswith("reinstreq"),
        per_architecture=texts.get(b"Multi-Arch") == "same",
        triggers=tuple(texts.get(b"Triggers-Pending", "").split()),
    )
