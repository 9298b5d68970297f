"""What `dmsetup table` says of device-mapper's volumes (dmsetup(8); Documentation/admin-guide/device-mapper)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_LINE = re.compile(r"(.+?): (\d+) (\d+) (\S+)(?: (.*))?")


@dataclass(frozen=True)
class Target:
    """A stretch of a volume. `start` and `length` are in sectors of 512 bytes; `arguments` hold no key of dm-crypt's
    that dmsetup was not told to show: it writes zeros, or the key's name in a keyring."""

    kind: str
    start: int
    length: int
    arguments: tuple[str, ...]


def parse(data: bytes) -> Mapping[str, tuple[Target, ...]]:
    """The targets of each volume by its name, in their order. Lines of another form are passed over. Raises nothing."""
    found: dict[str, list[Target]] = {}
    for line in data.decode("utf-8", "surrogateescape").split("\n"):
        match = _LINE.fullmatch(line)
        if match and len(match.group(2) + match.group(3)) <= 40:
            name, start, length, kind, arguments = match.groups(default="")
            found.setdefault(name, []).append(Target(kind, int(start), int(length), tuple(arguments.split())))
    return {name: tuple(targets) for name, targets in found.items()}


def without_keys(data: bytes) -> bytes:
    """The same text without keys: what stands in the place of dm-crypt's, but for a name in a keyring (`:32:logon:…`),
    and what dm-integrity has after the name of an algorithm, which dmsetup shows to everybody who may ask."""
    data = re.sub(rb"(?m)^(.+?: \d+ \d+ crypt \S+ )(?!:)\S+", rb"\1-", data)
    return re.sub(rb"(?m)( (?:internal_hash|journal_crypt|journal_mac):[^:\s]+):\S+", rb"\1", data)
