from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from safeupdate import packages
from safeupdate.errors import ProgramFailed, Unreadable
from safeupdate.machine import Machine
from safeupdate.packages.package import Package
from safeupdate.packages.rpm import Rpm
from tests.unit.trees import RELEASE, tree

pytestmark = pytest.mark.skipif(
    shutil.which("rpmbuild") is None or shutil.which("rpm") is None, reason="there is no rpm here"
)

KERNEL = f"""
Name: kernel-core
Version: 6.1
Release: 1
Summary: The kernel
License: GPL-2.0-only
BuildArch: noarch
AutoReqProv: no
Provides: installonlypkg(kernel)
%description
%install
mkdir -p %buildroot/lib/modules/{RELEASE}/kernel %buildroot/boot
echo image > %buildroot/lib/modules/{RELEASE}/vmlinuz
echo module > %buildroot/lib/modules/{RELEASE}/kernel/a.ko
echo index > %buildroot/lib/modules/{RELEASE}/modules.dep
touch %buildroot/boot/initramfs-{RELEASE}.img
%files
/lib/modules/{RELEASE}
%ghost /boot/initramfs-{RELEASE}.img
"""
MONOLITH = f"""
Name: own
Version: 1
Release: 1
Summary: A kernel without modules, in a package of a name that tells nothing
License: GPL-2.0-only
BuildArch: noarch
%description
%install
mkdir -p %buildroot/boot
echo image > %buildroot/boot/vmlinuz-{RELEASE}
%files
/boot/vmlinuz-{RELEASE}
"""
DRACUT = """
Name: dracut
Epoch: 1
Version: {}
Release: 1
Summary: The generator
License: GPL-2.0-only
BuildArch: noarch
%description
%files
"""


def installed(root: Path, work: Path, *specs: str) -> Machine:
    """A tree in which these packages are installed, without their files."""
    machine = tree(root, {"/var/lib/rpm": None})
    for number, text in enumerate(specs):
        spec = work / f"{number}.spec"
        spec.write_text(text, encoding="utf-8")
        build = ["rpmbuild", "-bb", "--quiet", f"--define=_topdir {work}/{number}", "--define=debug_package %{nil}"]
        subprocess.run([*build, str(spec)], check=True, capture_output=True, timeout=120)
        rpms = [str(path) for path in (work / str(number)).rglob("*.rpm")]
        command = ["rpm", "--dbpath", str(root / "var/lib/rpm"), "--install", "--justdb", "--nodeps", "--noscripts"]
        subprocess.run([*command, *rpms], check=True, capture_output=True, timeout=120)
    return machine


def found(machine: Machine) -> Rpm:
    rpm = Rpm.find(machine)
    assert rpm is not None
    return rpm


def test_packages_and_files(tmp_path: Path) -> None:
    root = tmp_path / "root"
    machine = installed(root, tmp_path, KERNEL, DRACUT.format("057"), DRACUT.format("059"))
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    rpm = found(machine)
    kernel = Package("kernel-core", "6.1-1", "noarch")
    assert rpm.packages() == (
        Package("dracut", "1:057-1", "noarch"),
        Package("dracut", "1:059-1", "noarch"),
        kernel,
    )
    assert packages.states([rpm])[-1] == "rpm kernel-core 6.1-1 noarch installed"
    assert rpm.of_kernel(RELEASE) == (kernel,)
    assert rpm.of_kernel("6.1.0") == ()
    image, module = sorted(rpm.files(kernel, RELEASE), key=lambda file: file.path, reverse=True)
    assert (image.path, image.algorithm, image.size) == (f"/lib/modules/{RELEASE}/vmlinuz", "sha256", 6)
    assert module.path == f"/lib/modules/{RELEASE}/kernel/a.ko"
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before, "nothing is written into a tree"

    place = tmp_path / "file"
    for content, mtime, touched in (
        (b"module", 1, True),
        (b"module\n", module.mtime, False),
        (b"", module.mtime, True),
    ):
        place.write_bytes(content)
        os.utime(place, (mtime or 0, mtime or 0))
        assert module.touched(place.stat()) == touched


def test_a_kernel_that_only_its_image_tells(tmp_path: Path) -> None:
    rpm = found(installed(tmp_path / "root", tmp_path, MONOLITH))
    assert rpm.of_kernel(RELEASE) == (Package("own", "1-1", "noarch"),)
    assert rpm.of_kernel("6.1.0") == ()


def test_who_brought_a_module(tmp_path: Path) -> None:
    rpm = found(installed(tmp_path / "root", tmp_path, KERNEL, DRACUT.format("057"), DRACUT.format("059")))
    kernel = Package("kernel-core", "6.1-1", "noarch")
    for place in ("/lib/modules", "/usr/lib/modules"):
        assert rpm.owner(f"{place}/{RELEASE}/kernel/a.ko", RELEASE) == kernel
        assert rpm.owner(f"{place}/{RELEASE}/extra/b.ko", RELEASE) is None
    assert rpm.named("kernel-core") == rpm.named("kernel-core-6.1-1.noarch") == kernel
    assert rpm.named("dracut") == Package("dracut", "1:059-1", "noarch")
    assert rpm.named("kernel-core-6.2-1.noarch") is None


@pytest.mark.parametrize("name", ["rpmdb.sqlite", "Packages", "Packages.db"])
def test_a_database_that_is_broken_or_of_an_unknown_form(tmp_path: Path, name: str) -> None:
    machine = tree(tmp_path, {f"/usr/lib/sysimage/rpm/{name}": b"no database" * 1000})
    with pytest.raises(ProgramFailed, match="database in /usr/lib/sysimage/rpm"):
        found(machine).packages()


def test_a_database_that_a_capture_left_out(tmp_path: Path) -> None:
    path = "/var/lib/rpm/rpmdb.sqlite"
    tree(tmp_path, {path: bytes(100)})
    with pytest.raises(Unreadable, match="left out"):
        found(Machine.tree(str(tmp_path), left_out=frozenset({path}))).packages()
