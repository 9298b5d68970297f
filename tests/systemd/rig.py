"""systemd of a machine's tree as process 1 of namespaces of its own: it starts in two seconds, and reboots for real.

    with rig.started("debian13") as machine:
        assert machine.run("systemctl", "reboot").code == 0
        assert machine.ended() == "rebooted"

It has no disk, no network and no kernel of its own. Its reboot(2) ends process 1 of its process namespace, and tells
the parent of that whether a reboot or the end was asked for (pid_namespaces(7)).
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

import pytest

import machines
from machines.build import BuildError
from safeupdate.gate.host import Host
from safeupdate.machine import Completed, Machine

SYSTEMD = {"debian12": 252, "debian13": 257}
"""The machines, and the version of systemd that each has."""

_KEEPER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "keeper.py")
_NAMESPACES = {"pid": "pid", "mnt": "mount", "uts": "uts", "ipc": "ipc", "net": "net", "cgroup": "cgroup"}
"""By their names in /proc/PID/ns, and the options of nsenter(1)."""

_START = 120.0
"""Seconds until a rig has started. It takes two; a starved machine may need much more."""

_ENDS = {-signal.SIGHUP: "rebooted", -signal.SIGINT: "powered off"}


@dataclass(frozen=True)
class Rig:
    """A rig that runs. `machine` is its files, `number` that of its process 1 on the host."""

    machine: Machine
    number: int
    keeper: subprocess.Popen[bytes]
    enter: tuple[str, ...]
    descriptors: tuple[int, ...]

    @property
    def host(self) -> Host:
        """The rig as the gate acts on it."""
        return Host(self.machine, lambda: datetime.now(timezone.utc), self._run)

    def run(self, *command: str, timeout: float = 60.0) -> Completed:
        """Run a program in the rig, as root and without a terminal."""
        return self._run(command, timeout)

    def _run(self, command: Sequence[str], timeout: float) -> Completed:
        # It is `timeout` that forks, and its child that is in the namespace. nsenter(1), if it were to fork, would stop
        # for ever with a child that systemd stops on its way down.
        done = subprocess.run(
            [*self.enter, "timeout", "--kill-after=1", f"{timeout:g}", *command],
            pass_fds=self.descriptors,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout + 10,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "TERM": "dumb"},
            check=False,
        )
        return Completed(done.returncode, done.stdout, done.stderr)

    def ended(self, seconds: float = 60.0) -> str | None:
        """How the rig ended, "rebooted" or "powered off"; None when it still runs after that time."""
        assert self.keeper.stdout is not None
        if not select.select([self.keeper.stdout], [], [], seconds)[0]:
            return None
        code = int(self.keeper.stdout.readline())
        return _ENDS.get(code, f"ended with {code}")

    def rebooted_softly(self, seconds: float = 60.0) -> bool:
        """Whether its processes are started anew, and itself is not, within that time (systemd 254 and later)."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.run("systemctl", "show", "--property=SoftRebootsCount").stdout == b"SoftRebootsCount=1\n":
                return True
            time.sleep(0.1)
        return False

    def stays(self) -> bool:
        """Whether nothing of it is being stopped: neither is it on its way down, nor does it wait to be."""
        state = self.run("systemctl", "is-system-running").stdout.strip()
        return state in (b"running", b"degraded") and self.run("systemctl", "list-jobs", "--no-legend").stdout == b""


@contextlib.contextmanager
def started(name: str, files: Mapping[str, bytes] | None = None, tree: str | None = None) -> Iterator[Rig]:
    """A rig of the tree of this machine (`machines`), or of the directory `tree`, with these files too, started, and
    gone at the end.

    Skips the test where there can be none.
    """
    _skip_where_impossible()
    try:
        tree = tree or machines.root(name)
    except BuildError as error:
        pytest.skip(str(error))
    with contextlib.ExitStack() as stack:
        front = ""
        if files:
            front = tempfile.mkdtemp(prefix="safeupdate-rig.")
            stack.callback(shutil.rmtree, front, ignore_errors=True)
            _lay(front, files)
        keeper = subprocess.Popen(
            [sys.executable, "-I", _KEEPER, tree, front],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C ends the tests, and the keeper then takes the rig away
            bufsize=0,
        )
        assert keeper.stdin is not None and keeper.stdout is not None
        stack.callback(keeper.wait)
        stack.enter_context(keeper.stdout)
        stack.enter_context(keeper.stdin)
        number = int(keeper.stdout.readline())
        # Held open, none of these is ever that of another process which was given the number since.
        held = []
        for kind in _NAMESPACES:
            held.append(os.open(f"/proc/{number}/ns/{kind}", os.O_RDONLY))
            stack.callback(os.close, held[-1])
        top = os.open(f"/proc/{number}/root", os.O_RDONLY | os.O_DIRECTORY)
        stack.callback(os.close, top)
        enter = [f"--{option}=/proc/self/fd/{one}" for option, one in zip(_NAMESPACES.values(), held)]
        rig = Rig(
            Machine(f"/proc/self/fd/{top}", live=True),
            number,
            keeper,
            ("nsenter", "--no-fork", *enter, "--"),
            tuple(held),
        )
        _wait(rig)
        yield rig


def _lay(directory: str, files: Mapping[str, bytes]) -> None:
    """Make the files below a directory, scripts so that they can be run. Their directories are for everyone."""
    os.chmod(directory, 0o755)
    for path, data in files.items():
        place = directory + path
        os.makedirs(os.path.dirname(place), mode=0o755, exist_ok=True)
        with open(place, "wb") as file:
            file.write(data)
        os.chmod(place, 0o755 if data.startswith(b"#!") else 0o644)


def _wait(rig: Rig) -> None:
    """Until nothing is left to be started."""
    until = time.monotonic() + _START
    while time.monotonic() < until:
        state = rig.run("systemctl", "is-system-running", "--wait", timeout=_START).stdout.strip()
        if state in (b"running", b"degraded"):
            return
        assert rig.ended(0.05) is None
    raise AssertionError("the rig did not start")


def _skip_where_impossible() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make the namespaces that systemd needs")
    for program in ("unshare", "nsenter", "setpriv", "pivot_root"):
        if shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
            pytest.skip(f"{program} is not installed")
    with open("/proc/self/mounts", encoding="utf-8") as file:
        if not any(line.split()[2] == "cgroup2" for line in file):
            pytest.skip("control groups of version 2 are not mounted")
    probe = ["unshare", "--pid", "--mount", "--net", "--cgroup", "--fork", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    if subprocess.run(probe, capture_output=True, timeout=60, check=False).returncode:
        pytest.skip("this process may make no namespaces")
