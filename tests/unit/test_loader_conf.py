"""loader.conf, patterns, boot counters and versions as systemd-boot takes them."""

from __future__ import annotations

import fnmatch
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safeupdate.errors import FormatError
from safeupdate.formats import loader_conf
from safeupdate.formats.loader_conf import Counter, LoaderConf


def test_what_bootctl_install_writes_sets_nothing() -> None:
    assert loader_conf.parse(b"#timeout 3\n#console-mode keep\n") == LoaderConf()


def test_all_keys() -> None:
    data = (
        b"timeout 3\ndefault  Debian-*.conf\npreferred\tA?.EFI\neditor no\nauto-entries off\nauto-firmware 0\nother x\n"
    )
    assert loader_conf.parse(data) == LoaderConf(3, "debian-*.conf", "a?.efi", False, False, False)


@pytest.mark.parametrize(
    ("line", "timeout"),
    [
        (b"timeout menu-force", "menu-force"),
        (b"timeout menu-hidden", "menu-hidden"),
        (b"timeout menu-disabled", "menu-disabled"),
        (b"timeout 0", 0),
        (b"timeout 5\ntimeout soon", 5),
        (b"timeout 4294967296", None),
        (b"timeout " + b"9" * 1000, None),
        (b"timeout -1", None),
        (b"timeout", None),
    ],
)
def test_timeouts(line: bytes, timeout: int | str | None) -> None:
    assert loader_conf.parse(line).timeout == timeout


def test_special_defaults() -> None:
    assert loader_conf.parse(b"default @Saved").default == "@saved"
    assert loader_conf.parse(b"default a.conf\ndefault @oldest").default == "a.conf"
    assert loader_conf.parse(b"default a.conf\ndefault b.conf").default == "b.conf"


def test_lines_are_read_as_the_loader_reads_them() -> None:
    data = b'\xef\xbb\xbfx y\r\n  # no\n\n title "Debian 12" \n options  root=/dev/sda1  quiet \nempty\n\0after end'
    assert loader_conf.pairs(data) == (
        ("\ufeffx", "y"),
        ("title", "Debian 12"),
        ("options", "root=/dev/sda1  quiet"),
    )
    assert loader_conf.pairs(b"ID='debian'\nNAME=Debian GNU/Linux\nBAD", "=") == (
        ("ID", "debian"),
        ("NAME", "Debian GNU/Linux"),
    )
    with pytest.raises(FormatError):
        loader_conf.pairs(bytes(loader_conf.LIMIT + 1))


@pytest.mark.parametrize(
    ("name", "counter"),
    [
        ("a.conf", None),
        ("a+3.conf", Counter("a", 3, 0, ".conf")),
        ("a+2-1.conf", Counter("a", 2, 1, ".conf")),
        ("a+0-3.CONF", Counter("a", 0, 3, ".CONF")),
        ("a+b+1.conf", Counter("a+b", 1, 0, ".conf")),
        ("6.1.0+deb12.conf", None),
        ("a+3x.conf", None),
        ("a+.conf", None),
        ("a+3-.conf", None),
        ("a+3.efi", None),
        ("a+2147483648.conf", None),
        ("a+1+x.conf", None),
    ],
)
def test_counters(name: str, counter: Counter | None) -> None:
    assert loader_conf.counter(name, ".conf") == counter


def test_a_try_renames_the_file() -> None:
    counter = loader_conf.counter("a+2.conf", ".conf")
    names = []
    for _ in range(3):
        assert counter is not None
        counter = counter.after_a_try()
        names.append(counter.name)
    assert names == ["a+1-1.conf", "a+0-2.conf", "a+0-3.conf"]


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("a.conf", "a.conf", True),
        ("a", "a.conf", False),
        ("a*", "a+1-2.conf", True),
        ("*", "", True),
        ("", "", True),
        ("", "a", False),
        ("*50*.conf", "debian-6.1.0-50-amd64.conf", True),
        ("a*b*c", "abbc", True),
        ("a*b*c", "acb", False),
        ("*ab*ab", "ab", False),
        ("*a", "ba", True),
        ("a?c", "abc", True),
        ("a?", "a", False),
        ("[abc].conf", "b.conf", True),
        ("[a-c].conf", "d.conf", False),
        ("[a-c-f]", "e", False),
        ("[a-c-f]", "-", True),
        ("[]a]", "]", True),
        ("[-a]", "-", True),
        ("[a-]", "-", True),
        ("[a", "a", False),
        (r"\*", "*", True),
        (r"\*", "a", False),
        ("a\\", "a", False),
        (r"[\]]", "]", True),
        ("[!a]", "b", False),
    ],
)
def test_patterns(pattern: str, name: str, matches: bool) -> None:
    assert loader_conf.matches(pattern, name) is matches


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=8))
def test_stars_and_question_marks_are_those_of_the_shell(pattern: str, name: str) -> None:
    assert loader_conf.matches(pattern, name) == fnmatch.fnmatchcase(name, pattern)


OLDEST_FIRST = [
    "122.1", "123~rc1-1", "123", "123-a", "123-a.1", "123-1", "123-1.1", "123^post1", "123.a-1", "123.1-1", "123a-1",
    "124-1",
]  # fmt: skip
"""The example of UAPI.10."""


def test_the_order_of_the_specification() -> None:
    for older, newer in combinations(OLDEST_FIRST, 2):
        assert loader_conf.compare_versions(older, newer) == -1
        assert loader_conf.compare_versions(newer, older) == 1


@pytest.mark.parametrize(
    ("one", "other", "order"),
    [
        ("6.1.0-50-amd64", "6.1.0-9-amd64", 1),
        ("6.1.0-50", "6.1.0-050", 0),
        ("6.10", "6.9", 1),
        ("a", "1", -1),
        ("abc", "ab", 1),
        ("", "~", 1),
        ("", "", 0),
        ("1", "", 1),
        ("debian-6.1.conf", "fedora-6.1.conf", -1),
        ("a_1", "a 1", 0),
        ("247.2-3.1.fc33.x86_64", "5.11.0-0.rc5.20210128git76c057c84d28.137.fc34", 1),
    ],
)
def test_versions(one: str, other: str, order: int) -> None:
    assert loader_conf.compare_versions(one, other) == order
    assert loader_conf.compare_versions(other, one) == -order


@given(st.text("ab01.-~^_+ä", max_size=12), st.text("ab01.-~^_+ä", max_size=12))
def test_comparing_ends_and_is_antisymmetric(one: str, other: str) -> None:
    assert loader_conf.compare_versions(one, other) == -loader_conf.compare_versions(other, one)
    assert loader_conf.compare_versions(one, one) == 0


@given(st.binary(max_size=400))
def test_any_bytes_are_a_configuration(data: bytes) -> None:
    loader_conf.parse(data)
    loader_conf.pairs(data, "=")


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_name_is_taken(pattern: str, name: str) -> None:
    loader_conf.matches(pattern, name)
    loader_conf.counter(name, ".conf")
    loader_conf.compare_versions(pattern, name)
