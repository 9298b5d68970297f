"""The manual pages tell what the parser and the configuration know, all of it and nothing else."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest

from safeupdate.config import DEFAULTS, SETTINGS
from safeupdate.render.config import render
from tests.unit.verbs import EXIT_CODES, PARSERS, options, positionals

MAN = Path(__file__).parents[2] / "man"
PAGES = ("safeupdate.8", "safeupdate-open.8", "safeupdate.toml.5")


def source(page: str) -> str:
    """What is written in it, with quotes."""
    return (MAN / page).read_text(encoding="ascii").replace(r"\(dq", '"')


def section(page: str, name: str) -> str:
    return re.split(r"^\.Sh ", source(page).split(f".Sh {name}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]


def items(text: str, kind: str) -> dict[str, str]:
    """What is said of each thing in a text, by its name."""
    parts = re.split(rf"^\.{kind} (.*)\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2]))


def test_every_command_and_option_is_told() -> None:
    told = {name: list(items(text, "It")) for name, text in items(section("safeupdate.8", "COMMANDS"), "Ss").items()}
    expected = {}
    for words, parser in PARSERS.items():
        takes = "".join(f" {'Op ' * optional}Ar {name}" for name, optional in positionals(parser))
        expected[f"{words}{takes}"] = [
            f"Fl {name[1:]}{f' Ar {value}' if value else ''}" for name, value in options(parser).items()
        ]
    assert {name: sorted(given) for name, given in told.items()} == {
        name: sorted(given) for name, given in expected.items()
    }
    assert list(told) == list(expected), "they stand in the order of the help"


def test_every_exit_code_is_told() -> None:
    told = {
        name.split()[1]: set(re.findall(r"\b\d+(?=:)", text))
        for name, text in items(section("safeupdate.8", "EXIT STATUS"), "It").items()
    }
    assert told == {verb: codes for verb, codes in EXIT_CODES.items() if codes}


def test_every_setting_is_told_with_its_default_and_what_is_allowed() -> None:
    told = items(section("safeupdate.toml.5", "SETTINGS"), "It Va")
    lines = [line.partition(" # ")[0].strip() for line in render(DEFAULTS).splitlines()]
    expected, table = [], ""
    for line in lines:
        if line.startswith("["):
            table = line[1:-1]
        elif "=" in line:
            expected.append(f"{table}.{line.replace(' =', ' No =', 1)}")
    assert list(told) == expected
    said = {name.partition(" ")[0]: text for name, text in told.items()}
    for table in SETTINGS:
        for one in fields(getattr(DEFAULTS, table)):
            text = said[f"{table}.{one.name}"]
            for choice in one.metadata.get("choices", ()):
                assert f".Ql {choice}" in text
            if "least" in one.metadata:
                assert f"{one.metadata['least']} to {one.metadata['most']}" in text
            assert ("duration" in text) == ("duration" in one.metadata)


@pytest.mark.parametrize("page", PAGES)
def test_mandoc_finds_nothing(page: str) -> None:
    if shutil.which("mandoc") is None:
        pytest.skip("mandoc is not installed")
    done = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "style", str(MAN / page)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    lines = (done.stdout + done.stderr).splitlines()
    # Of pages that are not installed here.
    assert [line for line in lines if "referenced manual not found" not in line and "mandoc.db" not in line] == []


@pytest.mark.parametrize("page", PAGES)
def test_groff_warns_of_nothing(page: str) -> None:
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed")
    done = subprocess.run(
        ["groff", "-mandoc", "-Tutf8", "-ww", str(MAN / page)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
