"""Settings of kernel variables: sysctl.d(5)."""

from __future__ import annotations


def parse(data: bytes) -> tuple[tuple[str, str], ...]:
    """The assignments in their order, names with dots; a line that is none is left out, as systemd-sysctl(8) does."""
    found = []
    for line in data.decode("utf-8", "surrogateescape").splitlines():
        line = line.strip()
        name, equals, value = line.partition("=")
        if equals and line[0] not in "#;":
            found.append((_dotted(name.strip().lstrip("-").strip()), value.strip()))
    return tuple(found)


def _dotted(name: str) -> str:
    """The first separator decides which one it is: with a slash in front, dots belong to the names."""
    dot, slash = name.find("."), name.find("/")
    if slash == -1 or -1 < dot < slash:
        return name
    return name.translate(str.maketrans("/.", "./"))
