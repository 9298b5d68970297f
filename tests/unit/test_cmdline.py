from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safeupdate.formats import cmdline


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("root=UUID=ab-cd ro quiet", [("root", "UUID=ab-cd"), ("ro", None), ("quiet", None)]),
        ("  a \t b\n", [("a", None), ("b", None)]),
        ('dyndbg="file a.c +p; file b.c +p" x', [("dyndbg", "file a.c +p; file b.c +p"), ("x", None)]),
        ('"dyndbg=file a.c +p" x', [("dyndbg", "file a.c +p"), ("x", None)]),
        ('root="UUID=ab"', [("root", "UUID=ab")]),
        ('root="LABEL=my root', [("root", "LABEL=my root")]),
        ("root=", [("root", "")]),
        ('a=""', [("a", "")]),
        ("=x", [("", "x")]),
        ("", []),
        ('""', [("", None)]),
    ],
)
def test_words(text: str, parameters: list[tuple[str, str | None]]) -> None:
    assert list(cmdline.parse(text).parameters) == parameters


def test_the_last_counts() -> None:
    line = cmdline.parse("root=/dev/sda1 console=tty0 ro root=/dev/sda2 console=ttyS0 ro")
    assert line.last("root") == "/dev/sda2"
    assert line.all("console") == ("tty0", "ttyS0")
    assert line.last("ro") == ""
    assert line.last("rw") is None
    assert "ro" in line
    assert "rw" not in line


@given(st.text(max_size=200))
@settings(deadline=None)
def test_anything(text: str) -> None:
    for name, value in cmdline.parse(text).parameters:
        assert value is None or isinstance(value, str)
        assert "=" not in name


def test_a_long_line_is_fast() -> None:
    assert len(cmdline.parse('"' * 100_001).parameters) <= 100_001
    assert cmdline.parse("a" * 1_000_000 + ' "').parameters
