"""The manifest of a capture (`docs/capture.md`): which files a captured tree holds by name only, or not at all."""

from __future__ import annotations

import json
from dataclasses import dataclass

from safeupdate.errors import FormatError

PATH = "/safeupdate-capture.json"
FORMAT = 1


@dataclass(frozen=True)
class Manifest:
    """`left_out`: files of which the tree has the name, mode and size. `unreadable`: files and directories that could
    not be read when it was made."""

    left_out: frozenset[str] = frozenset()
    unreadable: frozenset[str] = frozenset()


def parse(data: bytes) -> Manifest:
    """The manifest. Raises `FormatError` for what is none."""
    try:
        manifest = json.loads(data)
        paths = (manifest["left_out"], manifest["unreadable"])
        left_out, unreadable = (frozenset(path for path in group if isinstance(path, str)) for group in paths)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise FormatError("it is no manifest of a capture", PATH) from None
    return Manifest(left_out, unreadable)


def compose(contents: Manifest, *, version: str, boot: bool) -> bytes:
    """The manifest's text."""
    manifest = {
        "format": FORMAT,
        "safeupdate": version,
        "boot": boot,
        "left_out": sorted(contents.left_out),
        "unreadable": sorted(contents.unreadable),
    }
    return json.dumps(manifest, indent=1).encode("ascii") + b"\n"
