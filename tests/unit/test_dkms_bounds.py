"""What the check of DKMS reads is bounded: by the bytes that the kernel says were read, and by having an end."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.unit.test_check_dkms import HEADERS, LOG, READY, ask, installed, machine, registered
from tests.unit.trees import MODULES, RELEASE, Content, Link

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/io"), reason="this kernel does not count what is read")

GIGABYTE = 1 << 30
LINES = 64 << 20
"""As many bytes of lines as can be written in a moment: what is read does not hang on it."""

ERROR = "/var/lib/dkms/acme/1.0/build/acme.c:7:2: error: implicit declaration of function 'gone'"


class Reading:
    """Bytes that this process has read since this began (proc_pid_io(5))."""

    def __init__(self) -> None:
        self._before = self._counted()

    @staticmethod
    def _counted() -> int:
        return int(Path("/proc/self/io").read_text().split()[1])

    @property
    def bytes(self) -> int:
        return self._counted() - self._before


@pytest.mark.parametrize("between", ["a hole", "lines"])
def test_a_log_of_a_gigabyte(tmp_path: Path, between: str) -> None:
    """One of warnings without end, and one that is a hole, which is a single line without an end."""
    checked = machine(tmp_path, READY)
    log = tmp_path / "var/lib/dkms/acme/1.0/build/make.log"
    log.parent.mkdir()
    warning = f"{ERROR.partition(':')[0]}:5:1: warning: 'unused' defined but not used\n".encode()
    block = warning * ((8 << 20) // len(warning))
    with log.open("wb") as file:
        file.write(LOG.encode())
        if between == "lines":
            for _ in range(LINES // len(block)):
                file.write(block)
        else:
            file.truncate(GIGABYTE)
        file.seek(0, os.SEEK_END)
        file.write(f"\n{ERROR}\nmake[2]: *** [acme.o] Error 1\n".encode())
    reading = Reading()
    (finding,) = ask(checked)
    assert finding.id == "dkms.build-failed"
    assert finding.evidence[0] == ERROR
    assert sum(map(len, finding.evidence)) < 10_000
    assert reading.bytes < 2 << 20


LOOPS: tuple[dict[str, Content], ...] = (
    {"/var/lib/dkms/acme/1.0/source": Link("source")},
    {"/var/lib/dkms/acme/1.0/source": Link("..")},
    {"/var/lib/dkms/acme/1.0/build": Link(".")},
    {f"/var/lib/dkms/acme/1.0/{RELEASE}": Link("../1.0")},
    {f"/var/lib/dkms/acme/1.0/{RELEASE}/x86_64": Link("../..")},
    {f"/var/lib/dkms/acme/1.0/{RELEASE}/x86_64/module": Link(".")},
    {f"/var/lib/dkms/acme/1.0/{RELEASE}/x86_64/module/acme.ko": Link("acme.ko")},
    {f"/var/lib/dkms/acme/kernel-{RELEASE}-x86_64": Link(f"kernel-{RELEASE}-x86_64")},
    {"/var/lib/dkms/acme/2.0": Link("1.0")},
    {"/var/lib/dkms/bravo": Link("acme")},
    {"/var/lib/dkms/bravo": Link(".")},
    {"/var/lib/dkms/bravo": Link("bravo")},
    {f"{MODULES}/updates/dkms": Link("..")},
    {f"{MODULES}/updates/dkms/acme.ko": Link("acme.ko")},
    {f"{MODULES}/weak-updates": Link("weak-updates")},
    {f"{MODULES}/weak-updates/acme.ko": Link("../weak-updates/acme.ko")},
    {f"{MODULES}/build": Link("source"), f"{MODULES}/source": Link("build")},
    {"/usr/src/acme-1.0/dkms.conf": Link("dkms.conf")},
    {"/etc/dkms/framework.conf": Link("framework.conf")},
)


@pytest.mark.parametrize("with_build", [False, True])
@pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: next(iter(loop)).rpartition("/")[2])
def test_links_in_a_loop(tmp_path: Path, loop: dict[str, Content], with_build: bool) -> None:
    files = {**READY, **(installed("acme") if with_build else {})}
    (place, *_) = loop
    files = {path: content for path, content in files.items() if path != place and not path.startswith(f"{place}/")}
    checked = machine(tmp_path, {**files, **loop}, listed=("updates/dkms/acme.ko",))
    reading = Reading()
    assert len(ask(checked)) <= 3
    assert reading.bytes < 2 << 20


@pytest.mark.skipif(shutil.which("depmod") is None, reason="without kmod there is no index of modules")
def test_five_hundred_modules_for_twenty_kernels(tmp_path: Path) -> None:
    """Only what is there for the kernel that is judged is read."""
    releases = [f"6.1.0-{number}-amd64" for number in range(31, 50)]
    packages = {f"pack{number}": [f"pack{number}_{module}" for module in range(5)] for number in range(100)}
    files: dict[str, Content] = {**HEADERS}
    for name, modules in packages.items():
        files.update({**registered(*modules, name=name), **installed(*modules, name=name)})
    checked = machine(tmp_path, {**files, f"{MODULES}/modules.dep.bin": ""})
    (tmp_path / "lib/modules").mkdir(parents=True, exist_ok=True)
    subprocess.run(["depmod", "-b", str(tmp_path), RELEASE], check=True, timeout=60)
    top = tmp_path / "var/lib/dkms"
    for name, modules in packages.items():
        for release in releases:
            directory = top / name / "1.0" / release / "x86_64/module"
            directory.mkdir(parents=True)
            (top / name / f"kernel-{release}-x86_64").symlink_to(f"1.0/{release}/x86_64")
            for module in modules:
                os.link(top / name / "1.0" / RELEASE / f"x86_64/module/{module}.ko", directory / f"{module}.ko")
    sizes = sum(path.stat().st_size for path in (tmp_path / MODULES[1:] / "updates/dkms").iterdir())
    reading = Reading()
    assert ask(checked) == []
    assert reading.bytes < 4 * sizes + (2 << 20)
