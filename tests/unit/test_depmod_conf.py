from __future__ import annotations

import pytest

from safeupdate.errors import FormatError
from safeupdate.formats import depmod_conf
from safeupdate.formats.depmod_conf import DepmodConf, External, Override

TEXT = b"""# dist.conf
search updates \\
 extra built-in\tweak-updates

  override kmod * extra
override kvm ^6[.]1[.] updates/dkms more
override kvm
external 6.1.0-50-amd64 /opt/modules
external *
exclude old older
make_map_files no
\xff what
"""


def test_a_file() -> None:
    assert depmod_conf.parse(TEXT) == DepmodConf(
        search=("updates", "extra", "built-in", "weak-updates"),
        overrides=(Override("kmod", "*", "extra"), Override("kvm", "^6[.]1[.]", "updates/dkms")),
        externals=(External("6.1.0-50-amd64", "/opt/modules"),),
        excludes=frozenset(["old", "older"]),
    )
    assert depmod_conf.parse(b"") == DepmodConf()


def test_more_lines_than_anybody_writes() -> None:
    with pytest.raises(FormatError):
        depmod_conf.parse(b"\n" * 100_000)


def test_several_files_in_order() -> None:
    one = depmod_conf.parse(b"search a\noverride x * a\nexclude p\n")
    other = depmod_conf.parse(b"search b\noverride x * b\nexternal * /e\nexclude q\n")
    both = depmod_conf.together([one, other])
    assert both.search == ("a", "b")
    assert [override.directory for override in both.overrides] == ["a", "b"]
    assert both.externals == (External("*", "/e"),)
    assert both.excludes == {"p", "q"}
    assert depmod_conf.together([]) == DepmodConf()


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("*", True),
        ("6.1.0-50-amd64", True),
        ("6.1.0-51-amd64", False),
        ("^6[.]1[.][[:digit:]]+-.*-(amd64|arm64)$", True),
        ("1.0-50", True),
        ("(", False),
        ("(a*)*(a*)*(a*)*(a*)*(a*)*$b", False),
    ],
)
def test_patterns_of_kernels(pattern: str, matches: bool) -> None:
    assert depmod_conf.matches(pattern, "6.1.0-50-amd64") is matches
