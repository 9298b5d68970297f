"""A lab run that is killed leaves no process, mount or loop device, and goes on from there (`make vm`)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from machines.build import cache
from safeupdate.rehearsal.qemu import PROGRAM
from tests.lab import results
from tests.lab.bases import BASES
from tests.lab.wheel import OURS

pytestmark = [pytest.mark.vm, pytest.mark.skipif(shutil.which(PROGRAM) is None, reason="needs QEMU")]

BASE = next(iter(BASES))


@contextmanager
def _lab(*arguments: str, log: Path, cache_at: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, **({"SAFEUPDATE_CACHE": str(cache_at)} if cache_at is not None else {})}
    command = [sys.executable, "-m", "tests.lab", *arguments, "--guests", "1"]
    with open(log, "wb") as file:
        process = subprocess.Popen(command, cwd=OURS, env=environment, stdout=file, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def _wait(what: Callable[[], bool], process: subprocess.Popen[bytes] | None = None, limit: float = 1800) -> None:
    until = time.monotonic() + limit
    while not what():
        assert process is None or process.poll() is None, "the lab ended by itself"
        assert time.monotonic() < until
        time.sleep(0.2)


def _processes(of: str) -> list[str]:
    """The command lines of all processes that name this."""
    found = []
    for number in filter(str.isdigit, os.listdir("/proc")):
        try:
            command = Path(f"/proc/{number}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if of in command and int(number) != os.getpid():
            found.append(command)
    return found


def _loop_devices(below: Path) -> list[str]:
    output = subprocess.run(["losetup", "--list", "-n", "-O", "BACK-FILE"], capture_output=True, text=True, timeout=60)
    return [line for line in output.stdout.splitlines() if str(below) in line]


def _scenario(directory: Path, name: str, inject: str) -> None:
    (directory / name).mkdir(parents=True)
    (directory / name / "scenario.toml").write_text(f'base = "{BASE}"\nwhat = "A test of the lab."\ntags = []\n')
    (directory / name / "inject").write_text(inject)


def test_a_run_that_is_killed_goes_on_from_there(tmp_path: Path) -> None:
    _scenario(tmp_path, "killed-1", ":\n")
    _scenario(tmp_path, "killed-2", "sleep 3600\n")
    written, log, second = tmp_path / results.NAME, tmp_path / "log", Path(cache(), "lab/runs/killed-2")
    shutil.rmtree(second, ignore_errors=True)
    with _lab("run", "--scenarios", str(tmp_path), log=log) as process:
        _wait((second / "before.json").exists, process)
        assert _processes(str(second))
        process.send_signal(signal.SIGKILL)
    _wait(lambda: not _processes(str(second)), limit=60)
    assert set(results.load(str(written))) == {"killed-1"}
    shutil.rmtree(second)
    with _lab("run", "--scenarios", str(tmp_path), log=log) as process:
        _wait((second / "before.json").exists, process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    assert "1 scenarios to run, 0 of them only to be judged anew; 1 were run before" in log.read_text()
    _wait(lambda: not _processes(str(second)), limit=60)


@pytest.mark.parametrize("moment", ["the disk is mounted", "the loader is installed"])
def test_a_machine_that_is_half_built_is_no_machine(tmp_path: Path, moment: str) -> None:
    (tmp_path / "machines").symlink_to(Path(cache(), "machines"))
    mounts = Path("/proc/self/mounts").read_text()
    lab = tmp_path / "lab"
    with _lab("build", BASE, log=tmp_path / "log", cache_at=tmp_path) as process:
        if moment == "the disk is mounted":
            _wait(lambda: any("apt-get" in each for each in _processes(str(lab))), process)
            assert _loop_devices(tmp_path)
        else:
            _wait(lambda: any(PROGRAM in each for each in _processes(str(lab))), process)
        process.send_signal(signal.SIGKILL)
    _wait(lambda: not _processes(str(tmp_path)) and not _loop_devices(tmp_path), limit=60)
    assert Path("/proc/self/mounts").read_text() == mounts
    assert not list(lab.glob("*/disk.*.img"))
