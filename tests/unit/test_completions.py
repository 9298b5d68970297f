"""The shells themselves complete what the parser knows, all of it and nothing else."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.unit.verbs import PARSERS, options

COMPLETIONS = Path(__file__).parents[2] / "completions"
SHELLS = ("bash", "zsh", "fish")

NAMES = {
    "": {words.split()[0] for words in PARSERS},
    "snapshot": {words.split()[1] for words in PARSERS if words.startswith("snapshot ")},
    "config": {"show"},
    "hook": {name for action in PARSERS["hook"]._actions if action.choices for name in action.choices},
}
"""What may stand where no option does, by the words before."""


def _bash(line: str) -> list[str]:
    words = line.replace("=", " = ").split(" ")  # as bash divides it
    script = f"""
        source {COMPLETIONS}/safeupdate.bash
        COMP_WORDS=("$@") COMP_CWORD={len(words) - 1}
        _safeupdate 2> /dev/null
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    return _said(["bash", "--norc", "-c", script, "bash", *words]).split()


def _fish(line: str) -> list[str]:
    script = f"source {COMPLETIONS}/safeupdate.fish; complete -C $argv[1]"
    return [one.split("\t")[0] for one in _said(["fish", "--no-config", "-c", script, line]).splitlines()]


def _said(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    return done.stdout


def _zsh(line: str) -> list[str]:
    """zsh completes at a terminal only: the list that it shows there."""
    ours, theirs = pty.openpty()
    environment = {"PATH": os.environ["PATH"], "TERM": "dumb", "LC_ALL": "C", "HOME": "/nonexistent"}
    shell = subprocess.Popen(
        ["zsh", "-f", "-i"], stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
    )
    os.close(theirs)
    try:
        setup = f"stty rows 1000 columns 200; fpath=({COMPLETIONS} $fpath); autoload -Uz compinit; compinit -u -D"
        os.write(ours, f"{setup}; setopt no_list_ambiguous no_auto_menu; PS1=rea''dy\n".encode())
        _until(ours, b"ready")
        # What was typed is thrown away, so that nothing of ours is run.
        os.write(ours, line.encode() + b"\t\x15echo do''ne\n")
        shown = _until(ours, b"done\r\n").decode().partition(line)[2]
    finally:
        os.close(ours)
        shell.kill()
        shell.wait()
    listed, again, _ = shown.partition(f"ready{line}")
    if not again:
        return [line.rpartition(" ")[2] + shown.split()[0]]
    return " ".join(one.partition(" -- ")[0] for one in listed.strip("\x07").splitlines()).split()


def _until(terminal: int, end: bytes) -> bytes:
    read = b""
    while end not in read:
        assert select.select([terminal], [], [], 60)[0], read
        read += os.read(terminal, 1 << 16)
    return read


def complete(shell: str, line: str) -> list[str]:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](line)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_command_is_completed(shell: str) -> None:
    assert complete(shell, "safeupdate ch") == ["check"]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("words", NAMES)
def test_every_name_is_offered(shell: str, words: str) -> None:
    offered = complete(shell, f"safeupdate {words} ".replace("  ", " "))
    assert {one for one in offered if not one.startswith("-")} == NAMES[words]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("words", PARSERS)
def test_every_option_is_offered(shell: str, words: str) -> None:
    assert set(complete(shell, f"safeupdate {words} --")) == {*options(PARSERS[words]), "--help"}


@pytest.mark.parametrize("shell", ["bash", "fish"])  # zsh breaks so long a line
@pytest.mark.parametrize("option", ["--root ", "--root="])
def test_a_root_is_a_directory(shell: str, option: str, tmp_path: Path) -> None:
    (tmp_path / "image").mkdir()
    (tmp_path / "file").touch()
    (one,) = complete(shell, f"safeupdate check {option}{tmp_path}/")
    assert one.rstrip("/").endswith(f"{tmp_path}/image")
