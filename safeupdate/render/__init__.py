"""Renderers: each draws from one `Report`."""

from __future__ import annotations

import re

_SURROGATE = re.compile("[\ud800-\udfff]")


def plain(text: str) -> str:
    r"""The text with bytes that were not UTF-8 as `\xNN`, and halves of surrogate pairs (EFI variables) as `\uNNNN`."""
    return _SURROGATE.sub(_escape, text)


def visible(text: str) -> str:
    r"""The same, with control characters as `\xNN` too: a file name must not steer a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in plain(text))


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code & 0xFF:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"
