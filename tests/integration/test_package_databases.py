"""Kernel installations that are killed half-way, by the machine's own dpkg and by rpm, and what they leave behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Callable

import pytest

import machines
from safeupdate import packages
from safeupdate.judge import judge
from safeupdate.machine import Machine
from safeupdate.report import Finding, Report
from tests.integration.programs import ENVIRONMENT, newest, next_build, other_signature, programs

pytestmark = pytest.mark.machines

DEBIAN = ("debian12", "debian13")


def killed(tree: str, command: list[str], moment: Callable[[], bool]) -> None:
    """Run a program that works on `tree` and kill it, with all that it started, when `moment` has come."""
    with programs(tree):
        running = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=ENVIRONMENT,
            start_new_session=True,
        )
        until = time.monotonic() + 120
        try:
            while not moment():
                assert running.poll() is None, f"{command} came to its end before it could be killed"
                assert time.monotonic() < until, f"{command} did not come so far"
                time.sleep(0.01)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
            running.wait(timeout=60)


def killed_at_rename(tree: str, command: list[str], number: int) -> None:
    """The same, by strace(1): as the program is about to rename its file of this number."""
    calls = "rename,renameat,renameat2"
    inject = f"inject={calls}:signal=SIGKILL:when={number}"
    tracer = ["strace", "-o", "/dev/null", "-e", f"trace={calls}", "-e", inject]
    with programs(tree):
        for _ in range(3):
            done = subprocess.run([*tracer, *command], timeout=120, capture_output=True, env=ENVIRONMENT)
            if done.returncode == -signal.SIGKILL:
                return
            # rpm may stumble over a directory that the killed one before left; it takes that away, and fails.
            time.sleep(1.1)
    raise AssertionError(done.stderr.decode(errors="replace"))


def checked(tree: str) -> tuple[Report, dict[str, Finding]]:
    """The report, and what it says of packages."""
    report = judge(Machine.tree(tree))
    findings = [finding for check in report.checks if check.id == "packages" for finding in check.findings]
    return report, {finding.id: finding for finding in findings}


def states(tree: str) -> set[str]:
    return {line for line in packages.states(packages.databases(Machine.tree(tree))) if not line.endswith(" installed")}


@pytest.fixture(params=DEBIAN)
def machine(request: pytest.FixtureRequest, copy_of: Callable[[str], str]) -> str:
    if os.geteuid() != 0 or shutil.which("strace") is None:
        pytest.skip("to run a machine's dpkg, and to kill it at a rename, takes root and strace")
    tree = copy_of(request.param)
    machines.add_facts(tree, request.param)
    return tree


def test_a_kernel_killed_half_way(machine: str) -> None:
    release = newest(machine)
    name = f"linux-image-{release}"
    assert checked(machine)[1] == {}
    build = next_build(machine, name)
    installed = Path(f"{machine}/var/lib/dpkg/info/{name}.list").read_text(encoding="utf-8").splitlines()
    modules = [f"{machine}{path}" for path in installed if "/kernel/arch/" in path and ".ko" in path]

    # While it unpacks, everything has a name of its own.
    killed(machine, ["chroot", machine, "dpkg", "--install", build], lambda: os.path.exists(f"{modules[-1]}.dpkg-new"))
    assert os.listdir(f"{machine}/var/lib/dpkg/updates"), "the states are in the journal, and not in status"
    assert [line.split()[-2:] for line in states(machine)] == [["half-installed", "reinstall"]]
    report, found = checked(machine)
    assert (report.verdict, list(found)) == ("safe", ["packages.kernel-not-configured"]), "the old files are all there"
    assert ("dpkg", "--configure", "-a") in found["packages.kernel-not-configured"].remedy.commands

    # Then the names are changed, one file after the other.
    killed_at_rename(machine, ["chroot", machine, "dpkg", "--install", build], 2000)
    report, found = checked(machine)
    assert (report.verdict, list(found)) == ("unsafe", ["packages.half-replaced"])
    assert found["packages.half-replaced"].level == "blocker"

    # Its script makes the initramfs, after all files are in their place.
    new = f"{machine}/boot/initrd.img-{release}.new"
    killed(machine, ["chroot", machine, "dpkg", "--install", build], lambda: os.path.exists(new))
    assert [line.split()[-1] for line in states(machine)] == ["half-configured"]
    report, found = checked(machine)
    assert (report.verdict, list(found)) == ("safe", ["packages.kernel-not-configured"])


def test_an_initramfs_killed_in_its_trigger(machine: str) -> None:
    with programs(machine):
        command = ["chroot", machine, "dpkg-trigger", "--by-package=initramfs-tools", "update-initramfs"]
        subprocess.run(command, timeout=60, check=True, env=ENVIRONMENT)
    report, found = checked(machine)
    assert (report.verdict, list(found)) == ("safe", ["packages.triggers-pending"])
    assert "update-initramfs" in found["packages.triggers-pending"].problem
    new = f"{machine}/boot/initrd.img-{newest(machine)}.new"
    killed(machine, ["chroot", machine, "dpkg", "--triggers-only", "--pending"], lambda: os.path.exists(new))
    report, found = checked(machine)
    assert (report.verdict, list(found)) == ("safe", ["packages.not-configured"])
    assert found["packages.not-configured"].subject == "initramfs-tools"


SPEC = """
Name: kernel-core
Version: 1
Release: {build}
Summary: The kernel
License: GPL-2.0-only
AutoReqProv: no
Provides: installonlypkg(kernel)
%description
%pre
{stop}
%post
{stop}
%posttrans
{stop}
%files
{files}
"""

STOP = 'if [ "$(cat /stop-in)" = {0} ]; then touch /in-{0}; sleep 60; fi'


def kernel_rpm(tree: str, work: Path, build: int) -> str:
    """The machine's newest kernel as an rpm; the second build has other signatures in some modules."""
    release = newest(tree)
    root = work / "buildroot"
    shutil.rmtree(root, ignore_errors=True)
    kernel = f"/usr/lib/modules/{release}/kernel"
    files = [f"/boot/vmlinuz-{release}", *(f"{kernel}/{part}" for part in ("arch", "crypto", "fs", "net"))]
    for path in files:
        (root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", f"{tree}{path}", str(root / path[1:])], timeout=60, check=True)
    if build > 1:
        for module in (root / files[1][1:]).rglob("*.ko*"):
            module.write_bytes(other_signature(bytearray(module.read_bytes()), packed=module.suffix == ".xz"))
    text = SPEC.format(build=build, stop="{stop}", files="\n".join(files))
    for stage in ("pre", "post", "posttrans"):
        text = text.replace("{stop}", STOP.format(stage), 1)
    (work / "kernel.spec").write_text(text, encoding="utf-8")
    options = {"_topdir": work, "_binary_payload": "w.ufdio", "__os_install_post": "%{nil}", "_build_id_links": "none"}
    defines = [f"--define={name} {value}" for name, value in options.items()]
    command = ["rpmbuild", "-bb", "--quiet", *defines, f"--buildroot={root}", "--noclean", str(work / "kernel.spec")]
    subprocess.run(command, timeout=120, check=True, capture_output=True)
    return str(next(work.glob(f"RPMS/*/kernel-core-1-{build}.*.rpm")))


def test_an_rpm_transaction_killed_half_way(copy_of: Callable[[str], str], tmp_path: Path) -> None:
    if os.geteuid() != 0 or shutil.which("rpmbuild") is None or shutil.which("strace") is None:
        pytest.skip("to run rpm on a machine, and to kill it at a rename, takes root, rpmbuild and strace")
    tree = copy_of("debian13")
    machines.add_facts(tree, "debian13")
    shutil.rmtree(f"{tree}/var/lib/dpkg")
    os.mkdir(f"{tree}/var/lib/rpm")
    release = newest(tree)
    rpm = ["rpm", "--root", tree, "--dbpath", "/var/lib/rpm", "--nodeps", "--upgrade"]
    first, second = (kernel_rpm(tree, tmp_path, build) for build in (1, 2))
    subprocess.run([*rpm, "--justdb", "--noscripts", first], timeout=60, check=True, capture_output=True)
    before = sorted(os.listdir(f"{tree}/var/lib/rpm"))
    assert checked(tree)[1] == {}
    assert sorted(os.listdir(f"{tree}/var/lib/rpm")) == before
    modules = f"{tree}/usr/lib/modules/{release}/kernel/arch/x86/crypto"

    def stopped(stage: str, moment: Callable[[], bool]) -> tuple[str, dict[str, Finding]]:
        Path(f"{tree}/stop-in").write_text(stage, encoding="ascii")
        killed(tree, [*rpm, second], moment)
        report, found = checked(tree)
        return report.verdict, found

    assert stopped("pre", lambda: os.path.exists(f"{tree}/in-pre")) == ("safe", {}), "nothing has changed"
    verdict, found = stopped("never", lambda: any(";" in name for name in os.listdir(modules)))
    assert (verdict, list(found)) == ("safe", ["packages.unpacking-cut-short"]), "the old files are all there"
    killed_at_rename(tree, [*rpm, second], 40)
    report, found = checked(tree)
    verdict = report.verdict
    assert (verdict, list(found)) == ("unsafe", ["packages.half-replaced", "packages.unpacking-cut-short"])
    assert found["packages.half-replaced"].level == "blocker"
    verdict, found = stopped("post", lambda: os.path.exists(f"{tree}/in-post"))
    assert (verdict, list(found)) == ("safe", ["packages.two-versions", "packages.unpacking-cut-short"])
    assert found["packages.two-versions"].evidence == ("kernel-core 1-1", "kernel-core 1-2")
