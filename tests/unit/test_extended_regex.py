"""Extended regular expressions, held against bash's `=~`."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import suppress

import pytest

from safeupdate.errors import FormatError
from safeupdate.formats.extended_regex import search

TEXTS = ("5.5.0-1-amd64", "6.1.0-50-amd64", "4.19.0", "x86_64", "aarch64", "aaa", "a-]", "a{1", "a.b", "a b\tc", "")
PATTERNS = (
    *(
        r"^((5\.[0-5]($|[.-]))|(4\.)|(3\.1[0-9]))",
        r"^(4\.1[7-9]\.|4\.[2-9][0-9]\.|[5-9]\.)",
        "REQUIRES CONFIG_VIDEO_DEV",
    ),
    *(
        "^(x86_64|aarch64)$",
        "x86.*",
        "a{2,3}$",
        "^a{3}",
        "a{4,}",
        "^[^0-5]",
        "[[:digit:]]{2}",
        "^[[:alpha:]_]*$",
        "[]a]",
    ),
    *(
        "[a-]",
        r"\.",
        "x(86|_)+64",
        "^$",
        "^",
        "$",
        "a|",
        "()",
        "a**",
        "(a|b)?c",
        r"^\w+$",
        r"a\sb",
        r"a\Wb",
        "[^]]]$",
        "a+?",
    ),
)
WRONG = ("*a", "(", "a)", "a\\", "[a", "[b-a]", "a{2,1}", "a{", "{1}", "[[:nothing:]]")
MORE_THAN_IS_READ = (r"(a)\1", "a{,2}", "[[=a=]]", "a{300}")


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize("pattern", PATTERNS)
def test_what_bash_finds(pattern: str) -> None:
    script = "pattern=$1; shift; for text; do [[ $text =~ $pattern ]]; echo $?; done"
    done = subprocess.run(["bash", "-c", script, "-", pattern, *TEXTS], capture_output=True, timeout=20, check=True)
    codes = dict(zip(TEXTS, map(int, done.stdout.split())))
    assert set(codes.values()) <= {0, 1}, "bash does not read it"
    assert {text: search(pattern, text) for text in TEXTS} == {text: code == 0 for text, code in codes.items()}


@pytest.mark.parametrize("pattern", [*WRONG, *MORE_THAN_IS_READ])
def test_what_is_refused(pattern: str) -> None:
    with pytest.raises(FormatError):
        search(pattern, "aaa")


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(a*)*b", "(.*){200}x", "((a?){50}){50}b", "(" * 2000, "a" * 5000, "(a|a)*" * 300 + "b"]
)
def test_hostile_patterns_end(pattern: str) -> None:
    with suppress(FormatError):
        search(pattern, "a" * 200)


def test_a_text_has_an_end() -> None:
    with pytest.raises(FormatError, match="too long"):
        search("a", "a" * 1000)
