"""The house itself: its scripts, its package, and what the README promises."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent.parent
SHELL_FILES = [
    str(path.relative_to(HERE))
    for pattern in (".ci/*", "tools/*", "machines/*", "plugins/**/*")
    for path in sorted(HERE.glob(pattern))
    if path.is_file() and path.read_bytes().startswith((b"#!/bin/sh", b"#!/bin/bash"))
]
README = (HERE / "README.md").read_text(encoding="utf-8")
MAKEFILE = (HERE / "Makefile").read_text(encoding="utf-8")
CI = (HERE / ".ci/run").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", SHELL_FILES)
def test_shellcheck(path: str) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not in this distribution's repositories")
    done = subprocess.run(["shellcheck", path], cwd=HERE, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", SHELL_FILES)
def test_shell_files_run_and_are_linted(path: str) -> None:
    assert os.access(HERE / path, os.X_OK)
    patterns = re.findall("^SHELL_FILES = (.*)$", MAKEFILE, re.MULTILINE)[0].split()
    assert any(HERE / path in HERE.glob(pattern) for pattern in patterns)


def test_the_readme_names_what_there_is_and_what_ci_runs() -> None:
    targets = set(re.findall("^([a-z-]+):", MAKEFILE, re.MULTILINE))
    named = set(re.findall("`make ([a-z-]+)`", README)) | set(re.findall("^make ([a-z-]+)$", README, re.MULTILINE))
    run_by_ci = set(re.findall("^for target in (.*); do$", CI, re.MULTILINE)[0].split())
    assert named <= targets
    assert run_by_ci <= named


def test_the_pages_name_commands_that_there_are() -> None:
    """Each verb, and each option that is named with it."""
    lines = re.findall(r"(?m)^safeupdate ([a-z].*?)(?:  .*)?$", README)
    assert len(lines) > 10
    for page in sorted((HERE / "docs").glob("*.md")):
        lines += re.findall(r"`safeupdate ([a-z][^`]*)`", page.read_text(encoding="utf-8"))
    named: dict[tuple[str, ...], set[str]] = {}
    for line in lines:
        verb, *words = line.replace("[", "").replace("]", "").split()
        below = [word for word in words if word.isalpha() and word.islower()][:1]
        named.setdefault((verb, *below), set()).update(word for word in words if word.startswith("--"))
    for command, options in named.items():
        whole = [sys.executable, "-m", "safeupdate", *command, "--help"]
        done = subprocess.run(whole, cwd=HERE, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, command
        assert not [option for option in options if option not in done.stdout], command


def test_the_wheel_holds_the_whole_program(tmp_path: Path) -> None:
    """Built with the setuptools that is here, as a distribution's package build does."""
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(HERE / name, tmp_path)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(HERE / "safeupdate", tmp_path / "safeupdate", ignore=ignored)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps", "--no-index"]
    done = subprocess.run(
        [*pip, "--no-build-isolation", "--wheel-dir", str(tmp_path / "wheels"), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = (tmp_path / "wheels").iterdir()
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("safeupdate/")}
        scripts = next(archive.read(name) for name in archive.namelist() if name.endswith("/entry_points.txt"))
    source = {str(path.relative_to(tmp_path)) for path in (tmp_path / "safeupdate").rglob("*") if path.is_file()}
    assert packed == source
    assert b"safeupdate = safeupdate.cli:main" in scripts
