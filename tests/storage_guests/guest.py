"""One guest: started straight from a kernel and an image, and watched until it is clear what became of it."""

from __future__ import annotations

import contextlib
import os
import re
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safeupdate.rehearsal import outcome
from safeupdate.rehearsal.console import Console
from safeupdate.rehearsal.hardware import Hardware, arguments
from safeupdate.rehearsal.outcome import Ending
from tests.lab.slots import slot
from tests.storage_guests.tree import DONE, UP

SLOTS = 4
"""Guests at once, together with those of the lab."""

_CLOCK = ("-icount", "shift=2")
"""The guest's clock goes by its own instructions, so that it is not late for itself on a busy host: the time-outs of an
initramfs are minutes, and a boot there takes longer."""

_SILENCE = 100.0
"""Seconds without a word, and without the wish for a processor, after which a guest hangs: longer than whatever waits
for a device in the images that are started here (`boots.py`)."""

_IDLE = 0.2
"""Processors that QEMU may want for a guest that does nothing."""


_LOST = re.compile("Warning: .* does not exist")


def turn() -> contextlib.AbstractContextManager[None]:
    """A slot beside the guests of the lab."""
    return slot(SLOTS)


@dataclass(frozen=True)
class Boot:
    """What became of a guest: how it ended (`up` with its root there, or its job done; `silent` where it waits for what
    does not come; `late` proves nothing), in how many seconds, the line that tells most, and its whole console."""

    ending: Ending
    seconds: float
    line: str
    text: str


def start(
    kernel: tuple[str, str, str],
    log: Path,
    *,
    extra: Sequence[str] = (),
    answers: Mapping[str, str] | None = None,
    job: bool = False,
    limit: float = 2400,
) -> Boot:
    """Run a guest to its end; whoever calls has its turn. `answers` are typed on its console where it asks for what
    their keys match."""
    hardware = Hardware((), memory=1024, processors=1, kernel=kernel)
    command = ["setpriv", "--pdeathsig=KILL", "qemu-system-x86_64", *arguments(hardware), *extra]
    command += [*_CLOCK, "-no-reboot", "-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]
    while True:
        with log.open("wb") as file:
            boot = _watched(command, Console(file), dict(answers or {}), job, limit)
        if not outcome.disturbed(boot.text):
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
        heard, wanted = began, 0.0
        try:
            while True:
                ready, _, _ = select.select([output], [], [], 1.0)
                now = time.monotonic()
                if ready:
                    data = os.read(output, 65536)
                    if not data:
                        break
                    console.take(data)
                    heard, wanted = now, _wanted(process.pid)
                text = console.text()
                for question, answer in answers.items():
                    asked = list(re.finditer(question, text))
                    if len(asked) > answered and text.endswith(asked[-1][0]):
                        answered = len(asked)
                        process.stdin.write(answer.encode())
                if UP in text and not job:
                    ending = "up"
                    break
                if stopped is None and outcome.mark(text) is not None:
                    stopped = now
                if stopped is not None and now - stopped > outcome.GRACE:
                    ending = "stopped"
                    break
                if now - heard > _SILENCE:
                    if _wanted(process.pid) - wanted < _IDLE * (now - heard):
                        ending = "silent"
                        break
                    heard, wanted = now, _wanted(process.pid)
                if now - began > limit:
                    ending = "late"
                    break
        finally:
            process.kill()
    text = console.text()
    if job and DONE in text.splitlines():
        ending = "up"
    return Boot(ending, time.monotonic() - began, _line(text, ending), text)


def _wanted(process: int) -> float:
    """Seconds for which the threads of a process have run, or waited for a processor (the kernel's sched-stats.rst)."""
    found = 0.0
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{process}/task").iterdir():
            running, waiting, _ = (task / "schedstat").read_text().split()
            found += (int(running) + int(waiting)) / 1e9
    return found


def _line(text: str, ending: Ending) -> str:
    if ending == "up":
        return next(line for line in text.splitlines() if UP in line).strip()
    # dracut's last words are of no use.
    lost = _LOST.findall(text)
    return re.sub(r"^\[ *[\d.]+\] ", "", lost[-1] if lost else outcome.of(text, ending).line)[:200]
