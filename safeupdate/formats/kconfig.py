"""A kernel's configuration: `/boot/config-R` (Documentation/kbuild/kconfig-language.rst)."""

from __future__ import annotations

from safeupdate.errors import FormatError


def parse(data: bytes) -> dict[str, str]:
    """Option to value (`y`, `m`, a number, a string without its quotes). Options that are not set are absent.

    Raises `FormatError` for a file that was cut: what is missing from it would pass for an option that is not set.
    """
    if not data.endswith(b"\n") or b"\0" in data:
        raise FormatError("the configuration was cut", f"{len(data)} bytes")
    options = {}
    for line in data.decode("utf-8", "surrogateescape").split("\n"):
        if line.startswith("CONFIG_"):
            name, equals, value = line.partition("=")
            if equals:
                options[name] = value.strip().strip('"')
    return options
