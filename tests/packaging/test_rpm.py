"""The packages for RHEL and Fedora: built twice, and installed, upgraded and removed below a tree by dnf."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import machines
from machines.build import BuildError
from machines.namespace import mount, private_mounts, ran
from safeupdate import __version__, steering
from tests.hooks.built import ALONE, chroot, write

TOP = Path(__file__).parents[2]
SPEC = (TOP / "rpm/safeupdate.spec").read_text(encoding="utf-8")

HELD = steering.hold("gnulinux-advanced-x>gnulinux-6.1.0-50-amd64-advanced-x")

OURS = "safeupdate", "python3-dnf-plugin-safeupdate"

STAND_IN = """
Name: stand-in
Version: 1
Release: 1
Summary: What the tree has, and what no repository here has
License: GPL-2.0-or-later
BuildArch: noarch
Provides: /bin/sh
Provides: /usr/bin/python3.9
Provides: coreutils
Provides: python(abi) = 3.9
Provides: python3-cryptography = 36
Provides: python3-dnf
Provides: python3-pefile
Provides: python3-rich
Provides: python3-tomli
Provides: systemd
Provides: zstd
%description
%files
"""


def test_the_spec_has_the_version_of_the_program() -> None:
    assert f"\nVersion: {__version__}\n" in SPEC
    assert f"- {__version__}-1\n" in SPEC.partition("%changelog")[2]


def test_every_unit_that_can_be_enabled_is_named() -> None:
    named = {word for line in SPEC.splitlines() if line.startswith("%global ") for word in line.split()[2:]}
    assert named == {unit.name for unit in (TOP / "systemd").iterdir() if "[Install]" in unit.read_text()}


def _source(place: Path) -> Path:
    """What the packages are made of, in a directory that git does not know."""
    for name in ("safeupdate", "rpm", "docs", "man", "completions", "plugins", "systemd", "bin", "tools"):
        shutil.copytree(TOP / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(TOP / name, place)
    return place


def _build(source: Path, *targets: str) -> dict[str, Path]:
    """The packages, by name and target."""
    for program in ("rpmbuild", "dnf"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    if os.path.exists("/usr/lib/rpm/macros.d/macros.systemd"):
        pytest.skip("a machine with systemd's macros builds for itself only")
    done = subprocess.run(
        [str(source / "tools/rpm.sh"), *targets],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    made = [source / line for line in done.stdout.splitlines()]
    return {f"{path.name.rsplit('-', 2)[0]} {path.name.split('.')[-3]}": path for path in made}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return _build(_source(tmp_path_factory.mktemp("source")))


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    source = _source(tmp_path_factory.mktemp("newer"))
    spec = SPEC.replace("\nRelease: 1", "\nRelease: 2").replace(f"- {__version__}-1\n", f"- {__version__}-2\n")
    (source / "rpm/safeupdate.spec").write_text(spec, encoding="utf-8")
    return _build(source, "el9")


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("stand-in")
    (place / "stand-in.spec").write_text(STAND_IN, encoding="utf-8")
    command = ["rpmbuild", "-bb", "--quiet", f"--define=_topdir {place}", str(place / "stand-in.spec")]
    subprocess.run(command, timeout=120, check=True, capture_output=True)
    (package,) = place.glob("RPMS/noarch/*.rpm")
    return package


@pytest.fixture
def tree() -> Iterator[str]:
    """A system of Debian's, with its systemctl, for dnf to install into."""
    if not private_mounts():
        pytest.skip("this process may make no mounts of its own")
    try:
        with machines.copy("debian12") as place, chroot(place):
            yield place
    except BuildError as error:
        pytest.skip(str(error))


def _dnf(tree: str, *words: str) -> str:
    command = ["dnf", "--assumeyes", f"--installroot={tree}", "--disablerepo=*", "--setopt=reposdir=/nonexistent"]
    done = subprocess.run(
        [*command, "--releasever=9", "--nogpgcheck", "--noplugins", *words],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "scriptlet failed" not in done.stdout + done.stderr
    return done.stdout


def _below(tree: str, *command: str) -> str:
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    done = subprocess.run(
        ["chroot", tree, *command], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.vm
def test_the_same_source_makes_the_same_bytes(made: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(next(iter(made.values())).parents[1], tmp_path / "again", ignore=shutil.ignore_patterns("dist"))
    again = _build(tmp_path / "again")
    assert {name: path.read_bytes() for name, path in again.items()} == {
        name: path.read_bytes() for name, path in made.items()
    }


@pytest.mark.vm
def test_each_system_gets_what_it_can_use(made: dict[str, Path]) -> None:
    assert set(made) == {
        *(f"{name} {target}" for name in OURS for target in ("el9", "el10", "fc43")),
        "libdnf5-plugin-safeupdate fc43",
    }
    for target, version in (("el9", "3.9"), ("el10", "3.12"), ("fc43", "3.14")):
        asked = subprocess.check_output(["rpm", "-qp", "--requires", str(made[f"safeupdate {target}"])], text=True)
        assert f"python(abi) = {version}\n" in asked
        assert ("python3-tomli\n" in asked) == (target == "el9")


@pytest.mark.vm
def test_rpmlint_finds_nothing(made: dict[str, Path]) -> None:
    if shutil.which("rpmlint") is None:
        pytest.skip("rpmlint is not installed")
    command = ["rpmlint", "-c", str(TOP / "rpm/rpmlint.toml"), str(TOP / "rpm/safeupdate.spec")]
    done = subprocess.run(
        [*command, *map(str, made.values())], capture_output=True, text=True, timeout=300, check=False
    )
    assert "0 errors, 0 warnings" in done.stdout, done.stdout


@pytest.mark.vm
def test_dnf_installs_upgrades_and_removes_it(
    made: dict[str, Path], newer: dict[str, Path], stand_in: Path, tree: str, tmp_path: Path
) -> None:
    _dnf(tree, "install", str(stand_in))
    # What is built on such a system is for that system alone.
    dist = tmp_path / "dist"
    dist.mkdir()
    for name in OURS:
        shutil.copy(made[f"{name} el9"], dist)
    (pattern,) = re.findall("(?m)^dnf install ./(dist/.*)$", (TOP / "README.md").read_text(encoding="utf-8"))
    _dnf(tree, "install", *map(str, tmp_path.glob(pattern)))
    place = "/usr/lib/python3.9/site-packages"
    program = subprocess.run(
        [sys.executable, "-s", f"{tree}/usr/bin/safeupdate", "--version"],
        env={"PYTHONPATH": tree + place, "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=tree,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert program.stdout == f"safeupdate {__version__}\n"
    assert Path(tree, "usr/bin/safeupdate").read_text().startswith("#!/usr/bin/python3.9 -s\n")
    wants = Path(tree, "etc/systemd/system/multi-user.target.wants")
    assert {path.name for path in wants.glob("safeupdate-*")} >= {"safeupdate-boot.service", "safeupdate-changed.path"}
    for name in OURS:
        verified = subprocess.run(["rpm", f"--root={tree}", "-V", name], capture_output=True, text=True, check=False)
        assert verified.stdout == ""

    plugins = f"--setopt=pluginpath={tree}{place}/dnf-plugins", f"--setopt=pluginconfpath={tree}/etc/dnf/plugins"
    loaded = subprocess.run(
        ["dnf", "--verbose", f"--installroot={tree}", "--disablerepo=*", *plugins, "repolist"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Loaded plugins: safeupdate\n" in loaded.stdout

    grub = "/boot/grub/custom.cfg"
    write(tree, {grub: HELD, "/var/lib/safeupdate/levers/boot-default.json": b"{}"})
    _dnf(tree, "install", *(str(newer[f"{name} el9"]) for name in OURS))
    assert Path(tree + grub).read_bytes() == HELD, "an upgrade opens nothing"
    assert {path.name for path in wants.glob("safeupdate-*")} >= {"safeupdate-boot.service", "safeupdate-changed.path"}

    write(tree, {f"{place}/safeupdate/__pycache__/cli.cpython-39.pyc": b"by Python itself"})
    _dnf(tree, "remove", "safeupdate")
    assert not os.path.exists(tree + grub)
    found = _below(tree, "find", "/", "-xdev", "-name", "*safeupdate*").splitlines()
    assert found == ["/var/lib/safeupdate"], "the ledger stays"
    assert _below(tree, "find", "/var/lib/safeupdate").split() == ["/var/lib/safeupdate", "/var/lib/safeupdate/levers"]


@pytest.mark.vm
@pytest.mark.parametrize("left", [0, 1])
def test_what_is_held_is_given_back_when_the_last_version_goes(made: dict[str, Path], tree: str, left: int) -> None:
    """The script itself, as process 1 of the tree: the machine that boots, but for systemd."""
    script = subprocess.check_output(["rpm", "-qp", "--qf", "%{PREUN}", str(made["safeupdate el9"])])
    held = "/run/safeupdate/held/reboot-required"
    write(tree, {"/preun": script, held: b"", "/usr/sbin/safeupdate-open": (TOP / "bin/safeupdate-open").read_bytes()})
    ran("umount", "--lazy", f"{tree}/proc")
    command = [*ALONE, tree, "sh", "-c", f"mount -t proc proc /proc && sh /preun {left}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert mount("proc", f"{tree}/proc", "ro")
    assert done.returncode == 0, done.stderr
    assert os.path.exists(tree + held) == (left == 1)
    assert os.path.exists(f"{tree}/run/reboot-required") == (left == 0)
