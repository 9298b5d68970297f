"""The manifest of a capture (`docs/capture.md`): what a captured tree itself cannot tell of the machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from safeupdate.errors import FormatError

PATH = "/safeupdate-capture.json"
FORMAT = 1


@dataclass(frozen=True)
class FileSystem:
    """What a file system had left, as `Machine.space` tells it, and its number (st_dev, stat(2))."""

    device: int
    total: int
    free: int
    available: int
    inodes: int | None
    free_inodes: int | None
    read_only: bool


@dataclass(frozen=True)
class Manifest:
    """`left_out`: files of which the tree has the name, mode and size. `unreadable`: files and directories that could
    not be read when it was made. `file_systems`: by the topmost of their directories that went in."""

    left_out: frozenset[str] = frozenset()
    unreadable: frozenset[str] = frozenset()
    file_systems: Mapping[str, FileSystem] = field(default_factory=dict)


def parse(data: bytes) -> Manifest:
    """The manifest. Raises `FormatError` for what is none."""
    try:
        manifest = json.loads(data)
        paths = (manifest["left_out"], manifest["unreadable"])
        left_out, unreadable = (frozenset(path for path in group if isinstance(path, str)) for group in paths)
        # Captures of the first versions have none.
        file_systems = {path: _file_system(one) for path, one in manifest.get("file_systems", {}).items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise FormatError("it is no manifest of a capture", PATH) from None
    return Manifest(left_out, unreadable, file_systems)


def _file_system(values: Mapping[str, object]) -> FileSystem:
    def number(name: str) -> int:
        value = values[name]
        if not isinstance(value, int):
            raise ValueError(name)
        return value

    def count(name: str) -> int | None:
        return None if values[name] is None else number(name)

    return FileSystem(
        device=number("device"),
        total=number("total"),
        free=number("free"),
        available=number("available"),
        inodes=count("inodes"),
        free_inodes=count("free_inodes"),
        read_only=bool(number("read_only")),
    )


def compose(contents: Manifest, *, version: str, boot: bool) -> bytes:
    """The manifest's text."""
    manifest = {
        "format": FORMAT,
        "safeupdate": version,
        "boot": boot,
        "left_out": sorted(contents.left_out),
        "unreadable": sorted(contents.unreadable),
        "file_systems": {path: vars(one) for path, one in sorted(contents.file_systems.items())},
    }
    return json.dumps(manifest, indent=1).encode("ascii") + b"\n"
