"""The manifest of a capture (`docs/capture.md`): which files a captured tree holds by name only, or not at all."""

from __future__ import annotations

import json

from safeupdate.errors import FormatError

PATH = "/safeupdate-capture.json"
FORMAT = 1


def parse(data: bytes) -> frozenset[str]:
    """The paths whose content is not in the tree, those that could not be read when it was made among them.

    A directory stands for all that is below it. Raises `FormatError` for what is no manifest.
    """
    try:
        manifest = json.loads(data)
        paths = [*manifest["left_out"], *manifest["unreadable"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise FormatError("it is no manifest of a capture", PATH) from None
    return frozenset(path for path in paths if isinstance(path, str))


def compose(*, version: str, boot: bool, left_out: frozenset[str], unreadable: frozenset[str]) -> bytes:
    """The manifest's text."""
    manifest = {
        "format": FORMAT,
        "safeupdate": version,
        "boot": boot,
        "left_out": sorted(left_out),
        "unreadable": sorted(unreadable),
    }
    return json.dumps(manifest, indent=1).encode("ascii") + b"\n"
