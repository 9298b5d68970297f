"""A kernel's configuration: `/boot/config-R` (Documentation/kbuild/kconfig-language.rst)."""

from __future__ import annotations

import re

from safeupdate.errors import FormatError

_SET = re.compile(rb"^(CONFIG_\w+)=(.*)$", re.MULTILINE)


def parse(data: bytes) -> dict[str, str]:
    """Option to value (`y`, `m`, a number, a string without its quotes). Options that are not set are absent.

    Raises `FormatError` for a file that was cut: what is missing from it would pass for an option that is not set.
    """
    if not data.endswith(b"\n") or b"\0" in data:
        raise FormatError("the configuration was cut", f"{len(data)} bytes")
    return {
        match.group(1).decode("ascii"): match.group(2).strip().strip(b'"').decode("utf-8", "surrogateescape")
        for match in _SET.finditer(data)
    }
