"""What is written about the program is true of it: the catalogue of findings, and how to add a check."""

from __future__ import annotations

import ast
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from safeupdate.case import Check
from safeupdate.checks import CHECKS
from safeupdate.report import NotApplicable
from tests.unit.trees import IMAGE, case, tree, x86_image
from tools import findings

HERE = Path(__file__).resolve().parent.parent
STALE = "`make docs` writes it anew"

CATALOGUE = {line.split()[0]: tuple(line.split()[1:]) for line in Path(findings.LIST).read_text().splitlines()}

EXAMPLE = re.search(r"```python\n(.*?)```", (HERE / "docs/architecture.md").read_text(encoding="utf-8"), re.DOTALL)


def test_the_page_of_findings_is_made_from_the_code() -> None:
    assert Path(findings.PAGE).read_text(encoding="utf-8") == findings.page(), STALE


def test_the_list_of_findings_is_made_from_the_code() -> None:
    assert Path(findings.LIST).read_text(encoding="utf-8") == findings.listing(), STALE


def test_the_checks_are_read_in_their_order() -> None:
    told = [(check.id, check.title, check.essential) for check in findings.checks()]
    assert told == [(check.id, check.title, check.essential) for check in CHECKS]


def test_a_finding_belongs_to_a_check() -> None:
    checks = {check.id for check in CHECKS}
    lost = [name for name in CATALOGUE if name != "no-kernel" and name.split(".")[0] not in checks]
    assert not lost, "an id begins with the id of its check"
    assert all(levels and set(levels) <= set(findings.LEVELS) for levels in CATALOGUE.values())


def _named() -> Iterator[tuple[str, str]]:
    """Every finding that the tests and the pages name: its id, and where."""
    of_a_check = re.compile(rf"(?:{'|'.join(check.id for check in CHECKS)})\.[a-z0-9-]+|no-kernel")
    for path in sorted((HERE / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and of_a_check.fullmatch(node.value):
                yield node.value, f"{path.relative_to(HERE)}:{node.lineno}"
    for path in (HERE / "README.md", *sorted((HERE / "docs").glob("*.md"))):
        for code in re.findall(r"`([^`\n]+)`", path.read_text(encoding="utf-8")):
            if of_a_check.fullmatch(code) and not code.endswith(".py"):
                yield code, str(path.relative_to(HERE))


def test_only_findings_that_exist_are_named() -> None:
    named = list(_named())
    assert len(named) > 100
    assert not [f"{where}: {name}" for name, where in named if name not in (*CATALOGUE, *findings.NO_IDS)]


def test_links_between_pages_lead_somewhere() -> None:
    for page in (HERE / "README.md", *sorted((HERE / "docs").glob("*.md"))):
        for target in re.findall(r"\]\((?!https?:)([^)#\s]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


# -- the generator ---------------------------------------------------------------------------------------------


def _generated(root: Path) -> subprocess.CompletedProcess[str]:
    """What becomes of the program below `root`."""
    for directory in ("tools", "docs"):
        (root / directory).mkdir()
    shutil.copy(HERE / "tools/findings.py", root / "tools")
    command = [sys.executable, str(root / "tools/findings.py")]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=False)


def _alone(root: Path, call: str) -> subprocess.CompletedProcess[str]:
    """A program with one check, whose last finding is told by this call."""
    (root / "safeupdate/checks").mkdir(parents=True)
    shutil.copy(HERE / "safeupdate/report.py", root / "safeupdate")
    (root / "safeupdate/checks/so.py").write_text(_check(call), encoding="utf-8")
    order = "from safeupdate.checks import so\n\nCHECKS = (so.CHECK,)\n"
    (root / "safeupdate/checks/__init__.py").write_text(order, encoding="utf-8")
    return _generated(root)


def _check(call: str) -> str:
    return f'''"""Is it so?"""
from safeupdate import report
from safeupdate.case import Check
from safeupdate.report import blocker, unknown, warning

def check(case):
    level = blocker if case.entry else warning
    name = "so.variable"
    yield report.note("so.attribute", "x", "y")
    yield unknown(name, "x", "y", "z")
    for finding in helper(level, "so.helped", case):
        yield finding
    {call}

def helper(report, id, case):
    yield report(id, "x", f"{{case.release}} is bad.", "It fails.")

CHECK = Check("so", "It is so", essential=False, run=check)
'''


def test_an_id_is_found_through_variables_and_helpers(tmp_path: Path) -> None:
    done = _alone(tmp_path, 'yield (warning if case.kernel else level)(name, "x", "y", "z")')
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "safeupdate/findings.txt").read_text().splitlines()
    assert lines == ["so.attribute note", "so.helped blocker warning", "so.variable blocker unknown warning"]
    page = (tmp_path / "docs/findings.md").read_text()
    assert "## so: It is so\n\nIs it so?\n\n### so.attribute\n\n**note**" in page
    assert "### so.helped\n\n**blocker** or **warning** (`safeupdate/checks/so.py`)\n\nRELEASE is bad.\n" in page
    assert "- Consequence: It fails.\n" in page


@pytest.mark.parametrize(
    "call",
    [
        'yield warning(f"so.{case.release}", "x", "y", "z")',
        'yield warning(case.release, "x", "y", "z")',
        'yield warning("so.Not a name", "x", "y", "z")',
        'yield Finding("so.built", "note", "x", "y")',
        'yield replace(finding, id="so.other")',
        'yield {True: blocker}[True]("so.hidden", "x", "y", "z")',
    ],
)
def test_an_id_that_cannot_be_read_stops_it_and_names_the_line(tmp_path: Path, call: str) -> None:
    done = _alone(tmp_path, call)
    line = _check(call).splitlines().index(f"    {call}") + 1
    assert done.returncode == 1
    assert done.stderr.startswith(f"safeupdate/checks/so.py:{line}: "), done.stderr
    assert not (tmp_path / "docs/findings.md").exists()


# -- the example of a check ------------------------------------------------------------------------------------


def _example(root: Path) -> Check:
    assert EXAMPLE is not None
    (root / "journal.py").write_text(EXAMPLE.group(1), encoding="utf-8")
    check = runpy.run_path(str(root / "journal.py"))["CHECK"]
    assert isinstance(check, Check)
    return check


def test_the_example_has_ten_lines() -> None:
    assert EXAMPLE is not None
    (function,) = (node for node in ast.parse(EXAMPLE.group(1)).body if isinstance(node, ast.FunctionDef))
    assert len(function.body) <= 10
    assert (function.end_lineno or 0) - function.lineno < 13


def test_the_example_judges_a_machine(tmp_path: Path) -> None:
    check = _example(tmp_path)
    one = case(tree(tmp_path / "machine", {IMAGE: x86_image()}))
    with pytest.raises(NotApplicable):
        list(check.run(one))
    one = case(tree(tmp_path / "machine", {"/usr/lib/systemd/systemd": b""}))
    assert [(finding.id, finding.level) for finding in check.run(one)] == [("journal.not-kept", "warning")]
    one = case(tree(tmp_path / "machine", {"/var/log/journal": None}))
    assert list(check.run(one)) == []


def test_the_example_is_one_file_and_one_line(tmp_path: Path) -> None:
    assert EXAMPLE is not None
    shutil.copytree(HERE / "safeupdate", tmp_path / "safeupdate", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "safeupdate/checks/journal.py").write_text(EXAMPLE.group(1), encoding="utf-8")
    order = tmp_path / "safeupdate/checks/__init__.py"
    text = re.sub(r"(?m)^CHECKS: .*$", r"\g<0>\n    journal.CHECK,", order.read_text(encoding="utf-8"))
    order.write_text(text.replace("\nCHECKS", "\nfrom safeupdate.checks import journal\n\nCHECKS"), encoding="utf-8")
    done = _generated(tmp_path)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "safeupdate/findings.txt").read_text().splitlines()
    assert {"journal.not-kept warning", "journal.could-not-tell unknown"} <= {*lines}
    code = "from safeupdate.checks import CHECKS; print([check.id for check in CHECKS])"
    told = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert "'journal'" in told.stdout, told.stderr


def test_the_example_passes_lint(tmp_path: Path) -> None:
    if shutil.which("ruff", path=str(Path(sys.executable).parent)) is None:
        pytest.skip("ruff is a tool of the development environment")
    _example(tmp_path)
    shutil.copy(HERE / "pyproject.toml", tmp_path)
    for command in (["ruff", "format", "--check", "journal.py"], ["ruff", "check", "--no-cache", "journal.py"]):
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr
