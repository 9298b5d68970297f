"""fstab: which file systems are mounted at boot (fstab(5); read as getmntent(3) does, which systemd and mount use)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_BLANKS = re.compile(r"[ \t]+")
_ESCAPE = re.compile(rb"\\([0-7]{3}|\\)")
_OPTION = re.compile(r'(?:[^,"]|"[^"]*"?)+')
_NUMBER = re.compile(r"[+-]?\d{1,9}")


@dataclass(frozen=True)
class Line:
    """One file system or swap area. `number` is the line's, from 1; a missing type is `auto`, missing options none."""

    number: int
    spec: str
    point: str
    fstype: str
    options: tuple[str, ...] = ()
    freq: int = 0
    passno: int = 0

    def has(self, *names: str) -> bool:
        """Whether one of these options is there, with or without a value."""
        return any(option.partition("=")[0] in names for option in self.options)

    def values(self, name: str) -> tuple[str, ...]:
        """What follows `name=`, as often as it is there, quotes removed."""
        pairs = (option.partition("=") for option in self.options)
        return tuple(value.strip('"') for key, equals, value in pairs if key == name and equals)


@dataclass(frozen=True)
class BadLine:
    """A line that is neither empty nor a comment and names no mount point."""

    number: int
    text: str
    why: str


@dataclass(frozen=True)
class Fstab:
    """The whole file, in its order."""

    lines: tuple[Line, ...]
    bad: tuple[BadLine, ...] = ()


def parse(data: bytes) -> Fstab:
    """Every line of the file; bytes that are not UTF-8 are kept as surrogates. Raises nothing: a line that cannot be
    one is passed over by every reader of fstab, and is here in `bad`."""
    lines, bad = [], []
    for number, raw in enumerate(data.decode("utf-8", "surrogateescape").split("\n"), 1):
        text = raw.strip(" \t\r")
        if not text or text.startswith("#"):
            continue
        if "\0" in text:
            bad.append(BadLine(number, text, "it holds a NUL byte"))
            continue
        fields = [unescape(field) for field in _BLANKS.split(text)[:6]]
        if len(fields) < 2:
            bad.append(BadLine(number, text, "it names no mount point"))
            continue
        spec, point, fstype, options, freq, passno = fields + [""] * (6 - len(fields))
        lines.append(
            Line(
                number=number,
                spec=spec,
                point=_clean(point),
                fstype=fstype or "auto",
                options=tuple(option.strip() for option in _OPTION.findall(options)),
                freq=_number(freq),
                passno=_number(passno),
            )
        )
    return Fstab(tuple(lines), tuple(bad))


def unescape(text: str) -> str:
    r"""Octal escapes replaced: `\040` is a blank, `\011` a tab, `\012` a newline, `\134` or `\\` a backslash."""
    if "\\" not in text:
        return text

    # Replaced as bytes: an escape above 177 is one byte of a UTF-8 letter.
    raw = _ESCAPE.sub(_byte, text.encode("utf-8", "surrogateescape"))
    return raw.decode("utf-8", "surrogateescape")


def _byte(match: re.Match[bytes]) -> bytes:
    code = match.group(1)
    return code if code == b"\\" else bytes([int(code, 8) & 0xFF])


def _clean(point: str) -> str:
    """A mount point without doubled and trailing slashes; `none` and `swap` as they are."""
    if not point.startswith("/"):
        return point
    return re.sub("/+", "/", point).rstrip("/") or "/"


def _number(text: str) -> int:
    match = _NUMBER.match(text)
    return int(match.group()) if match else 0
