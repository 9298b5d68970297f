"""crypttab: which encrypted devices are opened at boot (crypttab(5), both of systemd and of Debian's cryptsetup)."""

from __future__ import annotations

from dataclasses import dataclass

from safeupdate.formats.fstab import unescape


@dataclass(frozen=True)
class Line:
    """One volume. `number` is the line's, from 1; a missing key file is `none`."""

    number: int
    name: str
    source: str
    key: str = "none"
    options: tuple[str, ...] = ()

    def has(self, *names: str) -> bool:
        """Whether one of these options is there, with or without a value."""
        return any(option.partition("=")[0] in names for option in self.options)

    def value(self, name: str) -> str | None:
        """What follows `name=`, the last one of several; None where it is not there."""
        pairs = (option.partition("=") for option in self.options)
        return next((value for key, equals, value in reversed([*pairs]) if key == name and equals), None)


def parse(data: bytes) -> tuple[Line, ...]:
    """The lines that name a volume and a device, in their order; others are passed over. Raises nothing."""
    lines = []
    for number, raw in enumerate(data.decode("utf-8", "surrogateescape").split("\n"), 1):
        fields = [unescape(field) for field in raw.split()[:4]]
        if len(fields) >= 2 and not fields[0].startswith("#"):
            key = fields[2] if len(fields) > 2 and fields[2] != "-" else "none"
            options = tuple(filter(None, fields[3].split(","))) if len(fields) > 3 else ()
            lines.append(Line(number, fields[0], fields[1], key, options))
    return tuple(lines)
