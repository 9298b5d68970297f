"""The script language of grub.cfg: what GRUB's own parser accepts, and where it gives up.

What is expected here was seen in GRUB 2.06 itself (grub-emu).
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safeupdate.errors import FormatError
from safeupdate.formats import grub_cfg
from safeupdate.formats.grub_cfg import Broken, Command, For, Function, If, While

DATA = Path(__file__).parent.parent / "data" / "grub"
REAL = sorted(DATA.glob("*.cfg"))


def words(text: str) -> list[list[str]]:
    """The plain words of each simple command of a script."""
    script = grub_cfg.parse(text.encode())
    return [[word.plain for word in one.words] for one in script.statements if isinstance(one, Command)]


def broken_lines(text: str) -> list[tuple[int, int]]:
    return [(error.line, error.end) for error in grub_cfg.parse(text.encode()).broken]


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_real_files_have_no_syntax_error(path: Path) -> None:
    assert grub_cfg.parse(path.read_bytes()).broken == ()


def test_words_and_quotes() -> None:
    text = r"""echo a 'b c' "d e" f\ g "h\"i\\" 'j\' x#y # comment"""
    assert words(text) == [["echo", "a", "b c", "d e", "f g", 'h"i\\', "j\\", "x#y"]]


def test_variables_are_kept_apart() -> None:
    word = grub_cfg.parse(b"""echo a$b"c${d}e"'$f'\n""").statements[0].words[1]  # type: ignore[union-attr]
    assert [(piece.kind, piece.text) for piece in word.pieces if piece.text] == [
        ("text", "a"),
        ("variable", "b"),
        ("quoted", "c"),
        ("quoted-variable", "d"),
        ("quoted", "e"),
        ("quoted", "$f"),
    ]
    assert word.variables == ("b", "d")


def test_a_backslash_at_the_end_joins_lines() -> None:
    assert words("echo a\\\n b\necho c\\\nd\n") == [["echo", "a", "b"], ["echo", "cd"]]


def test_a_line_that_begins_with_a_hash_does_not_exist() -> None:
    assert words("echo 'a\n# b\nc'\n") == [["echo", "a\nc"]]
    assert words("echo 'a\n # b\nc'\n") == [["echo", "a\n # b\nc"]]


def test_carriage_returns_vanish_and_a_nul_ends_a_line() -> None:
    assert words("echo a\r\necho b\0 c\necho d\n") == [["echo", "a"], ["echo", "b"], ["echo", "d"]]


def test_lines_are_counted_as_in_the_file() -> None:
    script = grub_cfg.parse(b"# one\n\necho three\n# four\nif true\nthen echo six; fi\n")
    assert [statement.line for statement in script.statements] == [3, 5]


def test_menu_entries_have_a_block() -> None:
    entry = grub_cfg.parse(b"menuentry 'T' --id x {\n\tlinux /v\n\tinitrd /i\n}\n").statements[0]
    assert isinstance(entry, Command)
    assert entry.block is not None
    assert [statement.line for statement in entry.block] == [2, 3]
    assert grub_cfg.parse(b"menuentry x { true }\n").broken == ()


def test_control_flow() -> None:
    text = """
if [ a ]; then x; elif [ b ]; then y; else z; fi
for i in 1 2 3; do echo $i; done
while false; do true; done
until true
do
  true
done
function f { return 1; }
function g
{
  true
}
"""
    one, two, three, four, five, six = grub_cfg.parse(text.encode()).statements
    assert isinstance(one, If)
    assert len(one.branches) == 2
    assert one.otherwise
    assert isinstance(two, For)
    assert (two.name, [word.plain for word in two.words]) == ("i", ["1", "2", "3"])
    assert isinstance(three, While)
    assert not three.until
    assert isinstance(four, While)
    assert four.until
    assert isinstance(five, Function)
    assert isinstance(six, Function)
    assert six.name == "g"


def test_a_syntax_error_costs_its_line() -> None:
    text = "a=1; fi\necho b\n"
    assert words(text) == [["echo", "b"]]
    assert broken_lines(text) == [(1, 1)]


def test_a_syntax_error_costs_the_open_block_up_to_it() -> None:
    text = "if [ x = x ]; then\n  echo in\n  ;\n  echo out\nfi\necho end\n"
    assert words(text) == [["echo", "out"], ["echo", "end"]]
    assert broken_lines(text) == [(1, 3), (5, 5)]


@pytest.mark.parametrize(
    "line",
    [
        "echo $",
        'echo "$ x"',
        "echo ${bad",
        "echo a;; echo b",
        "echo a; ; echo b",
        "; echo a",
        "echo a | echo b",
        "echo a && echo b",
        "echo a > b",
        "echo a }",
        "[[ a ]]",
        "case x in y) echo z;; esac",
        "if true; then fi",
        "menuentry x { }",
        "function w { echo x }",
        "if function q { true; }; then true; fi",
        "for 1 in a; do true; done",
        "menuentry x { true; } y",
    ],
)
def test_lines_that_grub_refuses(line: str) -> None:
    text = f"{line}\necho next\n"
    assert broken_lines(text) == [(1, 1)]
    assert words(text) == [["echo", "next"]]


def test_reserved_words_are_arguments_too() -> None:
    assert words("echo if then fi done in\n") == [["echo", "if", "then", "fi", "done", "in"]]


@pytest.mark.parametrize("text", ["menuentry x {\n echo a\n", "if true; then\n echo a\n", "echo 'a\n b\n", 'echo "a\n'])
def test_a_file_that_ends_too_early_keeps_what_was_before(text: str) -> None:
    script = grub_cfg.parse(b"echo first\n" + text.encode())
    assert len(script.statements) == 2
    assert isinstance(script.statements[1], Broken)
    assert script.statements[1].line == 2


def test_an_empty_file() -> None:
    assert grub_cfg.parse(b"").statements == ()
    assert grub_cfg.parse(b"# only\n#comments").statements == ()


def test_nesting_has_a_bound() -> None:
    grub_cfg.parse(b"submenu x {\n" * 60 + b"true\n" + b"}\n" * 60)
    with pytest.raises(FormatError, match="nested"):
        grub_cfg.parse(b"submenu x {\n" * 5000)
    with pytest.raises(FormatError, match="nested"):
        grub_cfg.parse(b"if " * 5000 + b"\n")


@pytest.mark.parametrize("piece", ["a;", "''", '"$a"', "\n", "$a", "a "])
def test_words_have_a_bound(piece: str) -> None:
    with pytest.raises(FormatError, match="too many words"):
        grub_cfg.parse(b"a " + piece.encode() * 420_000)


def test_many_branches_are_no_nesting() -> None:
    script = grub_cfg.parse(b"if false; then true; " + b"elif false; then true; " * 3000 + b"fi\n")
    assert script.broken == ()


def test_size_has_a_bound() -> None:
    with pytest.raises(FormatError, match="large"):
        grub_cfg.parse(b"\n" * (5 << 20))


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_cut_at_every_line(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    for count in range(len(lines)):
        whole = grub_cfg.parse(b"".join(lines[:count]))
        assert len(whole.broken) <= 1


@given(st.text(st.sampled_from(list("ab01 \t\n;{}'\"\\$#|&<>[]=if")), max_size=60))
def test_any_text(text: str) -> None:
    grub_cfg.parse(text.encode())


SCRAPS = ["if ", "then ", "fi", "; ", "\n", "{ ", "} ", "echo a ", "menuentry 'x' ", "$x ", '"', "'", "\\", "for i in "]


@given(st.lists(st.sampled_from([*SCRAPS, "do ", "done", "else ", "elif ", "function f ", "while "]), max_size=30))
def test_any_words_of_the_language(scraps: list[str]) -> None:
    grub_cfg.parse("".join(scraps).encode())


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    grub_cfg.parse(data)


@given(st.sampled_from(REAL), st.integers(0, 8000), st.binary(max_size=4), st.integers(0, 40))
def test_any_change_of_a_real_file(path: Path, place: int, put: bytes, dropped: int) -> None:
    data = path.read_bytes()
    grub_cfg.parse(data[:place] + put + data[place + dropped :])
