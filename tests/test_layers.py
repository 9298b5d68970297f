"""Dependencies run one way: a layer imports what is below it, and nothing that looks imports anything that acts."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

PACKAGE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "safeupdate")

# From the bottom to the top. A module may import its own layer and those below.
LAYERS = (
    {"errors"},
    {"report", "config", "locks", "machine"},
    {"formats"},
    {"closure", "initramfs", "kernels", "packages", "remedies", "steering", "surroundings", "volumes"},
    {"module_tree"},
    {"boot", "builders", "module_interface", "storage", "trust"},
    {"needs"},
    {"fingerprint", "ledger"},
    {"case"},
    {"checks"},
    {"control", "judge"},
    {"capture", "gate", "hooks", "rehearsal", "render", "snapshots"},
    {"commands"},
    {"cli"},
    {"__main__"},
)
RANK = {room: rank for rank, rooms in enumerate(LAYERS) for room in rooms}
ACTING = {"gate", "hooks", "rehearsal", "snapshots", "commands", "cli"}
LOOKING = set(RANK) - ACTING - {"__main__"}

# Python's own start has loaded some of these on one system or another: only what the program adds counts.
HEAVY = {"cryptography", "hashlib", "json", "pefile", "rich", "sqlite3", "subprocess", "zstandard"}


def _modules() -> Iterator[str]:
    for directory, _, files in sorted(os.walk(PACKAGE)):
        for file in sorted(files):
            if file.endswith(".py"):
                path = os.path.relpath(os.path.join(directory, file), os.path.dirname(PACKAGE))
                yield path[: -len(".py")].replace(os.sep, ".").replace(".__init__", "")


def _room(module: str) -> str:
    """The layer's word for a module: `safeupdate.formats.cpio` lies in `formats`; the package itself in none."""
    return module.split(".")[1] if "." in module else ""


def _imports(module: str) -> Iterator[tuple[int, str]]:
    """Line and name of every module of ours that this one imports, inside functions too."""
    path = os.path.join(os.path.dirname(PACKAGE), *module.split("."))
    path = os.path.join(path, "__init__.py") if os.path.isdir(path) else f"{path}.py"
    with open(path, encoding="utf-8") as file:
        tree = ast.parse(file.read(), path)
    known = set(_modules())
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            parent = node.module or ""
            names = [f"{parent}.{alias.name}" if f"{parent}.{alias.name}" in known else parent for alias in node.names]
        yield from ((getattr(node, "lineno", 0), name) for name in names if name.split(".")[0] == "safeupdate")


def _allowed(importer: str, imported: str) -> bool:
    if not imported or imported == importer:
        return True
    if importer == "formats":
        return imported == "errors"
    if importer in LOOKING and imported in ACTING:
        return False
    return RANK[imported] <= RANK[importer]


@pytest.mark.parametrize("module", [module for module in _modules() if _room(module) in LOOKING - {"ledger"}])
def test_nothing_that_looks_writes_the_ledger(module: str) -> None:
    assert not [f"line {line}" for line, name in _imports(module) if name == "safeupdate.ledger.writing"]


def test_the_reading_half_of_the_ledger_does_not_write() -> None:
    for module in ("safeupdate.ledger", "safeupdate.ledger.schema", "safeupdate.ledger.reading"):
        assert "safeupdate.ledger.writing" not in {name for _, name in _imports(module)}


def test_every_module_has_a_layer() -> None:
    assert {_room(module) for module in _modules()} - {""} <= set(RANK)


@pytest.mark.parametrize("module", list(_modules()))
def test_nothing_reaches_upward(module: str) -> None:
    wrong = [f"line {line}: {name}" for line, name in _imports(module) if not _allowed(_room(module), _room(name))]
    assert not wrong, f"{module} imports what lies above it"


@pytest.mark.parametrize("room", sorted({_room(module) for module in _modules()} - {"", "__main__"}))
def test_a_layer_imports_alone(room: str) -> None:
    """Every module, each as the first import of a fresh interpreter, loads nothing from above its layer."""
    for module in (module for module in _modules() if _room(module) == room):
        loaded = _run(f"import sys, {module}; print(*sys.modules)").split()
        ours = {_room(name) for name in loaded if name.startswith("safeupdate.")}
        assert not {name for name in ours if not _allowed(room, name)}, module


def test_the_version_costs_no_heavy_import() -> None:
    before = set(_run("import sys, argparse; print(*sys.modules)").split())
    after = _run(
        "import sys\nfrom safeupdate.cli import main\ntry: main(['--version'])\nexcept SystemExit: print(*sys.modules)"
    ).split()
    assert not {name.split(".")[0] for name in set(after) - before} & HEAVY


def _run(code: str) -> str:
    command = [sys.executable, "-c", code]
    parent = os.path.dirname(PACKAGE)
    done = subprocess.run(command, cwd=parent, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
