"""One guest: started straight from a kernel and an image, and watched until it is clear what became of it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from machines.build import cache
from safeupdate.rehearsal.console import Console
from safeupdate.rehearsal.hardware import Hardware, arguments
from safeupdate.rehearsal.outcome import disturbed, mark
from tests.storage_guests.tree import DONE, UP

_GRACE = 3.0


@contextlib.contextmanager
def turn() -> Iterator[None]:
    """One of these guests runs at a time, beside those of the lab."""
    with open(os.path.join(cache(), "roots", "lock"), "w", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


Ending = Literal["up", "done", "stopped", "ended", "late"]

_STOPPED = re.compile(
    r"^.*(?:Rebooting automatically due to panic= boot argument|dracut: FATAL:|Entering emergency mode|dracut:/#"
    r"|Warning: Not all disks have been found|dracut: Refusing to continue|cryptsetup failed, bad password).*$",
    re.MULTILINE,
)
_CAUSE = re.compile(
    r"^.*(?:ALERT! |Gave up waiting|Warning: .*(?:does not exist|timeout)|Timed out waiting|Failed to (?:mount|start)"
    r"|[Nn]ot found|mount: .*failed|Kernel panic - not syncing).*$",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Boot:
    """What became of a guest: how it ended, in how many seconds, the line that tells most, and its whole console."""

    ending: Ending
    seconds: float
    line: str
    text: str

    @property
    def up(self) -> bool:
        """Whether the root was mounted, and its first process ran."""
        return self.ending in ("up", "done")


def start(
    kernel: tuple[str, str, str],
    log: Path,
    *,
    extra: Sequence[str] = (),
    answers: Mapping[str, str] | None = None,
    job: bool = False,
    limit: float = 300,
) -> Boot:
    """Run a guest to its end; whoever calls holds a slot for it. `answers` are typed on its console where it asks for
    what their keys match."""
    hardware = Hardware((), memory=1024, processors=1, kernel=kernel)
    command = ["nice", "-n", "1", "setpriv", "--pdeathsig=KILL", "qemu-system-x86_64", *arguments(hardware), *extra]
    command += ["-no-reboot", "-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]
    while True:
        with log.open("wb") as file:
            boot = _watched(command, Console(file), dict(answers or {}), job, limit)
        if not disturbed(boot.text):
            return boot


def _watched(command: list[str], console: Console, answers: dict[str, str], job: bool, limit: float) -> Boot:
    began = time.monotonic()
    stopped: float | None = None
    answered = 0
    with subprocess.Popen(
        command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        output = process.stdout.fileno()
        ending: Ending = "ended"
        try:
            while True:
                ready, _, _ = select.select([output], [], [], 1.0)
                if ready:
                    data = os.read(output, 65536)
                    if not data:
                        break
                    console.take(data)
                now, text = time.monotonic(), console.text()
                for question, answer in answers.items():
                    asked = list(re.finditer(question, text))
                    if len(asked) > answered and text.endswith(asked[-1][0]):
                        answered = len(asked)
                        process.stdin.write(answer.encode())
                if UP in text and not job:
                    ending = "up"
                    break
                if stopped is None and (_STOPPED.search(text) or mark(text) is not None):
                    stopped = now
                if (stopped is not None and now - stopped > _GRACE) or now - began > limit:
                    ending = "stopped" if stopped is not None else "late"
                    break
        finally:
            process.kill()
    text = console.text()
    if job and DONE in text.splitlines():
        ending = "done"
    return Boot(ending, time.monotonic() - began, _line(text, ending), text)


def _line(text: str, ending: Ending) -> str:
    if ending in ("up", "done"):
        return next(line for line in text.splitlines() if UP in line).strip()
    found = [line[0].strip() for line in _CAUSE.finditer(text)] or [line[0].strip() for line in _STOPPED.finditer(text)]
    lines = found or [line.strip() for line in text.splitlines() if line.strip()] or [""]
    return re.sub(r"^\[ *[\d.]+\] ", "", lines[-1])[:200]
