"""A guest under QEMU's software emulation: started, watched on its serial line, answered, and ended."""

from __future__ import annotations

import os
import re
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FIRMWARE = "/usr/share/OVMF/OVMF_CODE_4M.fd"
VARIABLES = "/usr/share/OVMF/OVMF_VARS_4M.fd"

DONE = "safeupdate-live: done"
"""What a guest says when it has done what it was started for; it then powers off."""

_STOPPED = r"Kernel panic - not syncing|^\(initramfs\) ?$|You are in emergency mode|dracut:/#|grub rescue>|^grub> "

_LIMIT = 2700.0
"""Seconds for one guest: a run takes five minutes on two idle processors, and twenty on busy ones."""


@dataclass(frozen=True)
class Ended:
    """How a guest ended: whether it said that it was done, what its console said, and after how many seconds."""

    done: bool
    console: str
    seconds: int


def drive(image: str, *, snapshot: bool = False) -> list[str]:
    """A virtio disk; with `snapshot` what is written to it is forgotten."""
    return ["-drive", f"file={image},if=virtio,format=raw,cache=unsafe{',snapshot=on' if snapshot else ''}"]


def uefi(variables: str) -> list[str]:
    """OVMF with its variables in that file. No screen: its driver costs time (and GRUB for BIOS waits without one)."""
    code = f"if=pflash,format=raw,unit=0,readonly=on,file={FIRMWARE}"
    return ["-vga", "none", "-drive", code, "-drive", f"if=pflash,format=raw,unit=1,file={variables}"]


def run(arguments: Sequence[str], log: str, *, answers: Mapping[str, str] | None = None) -> Ended:
    """Start the guest and wait for its end: it powers off, stops somewhere, or takes too long.

    `answers` are typed on the serial line, each once, when the console says what its key matches.
    """
    # Not `max`: with the AVX and BMI of QEMU 7.2's emulation, mount and udevd of Debian 13 fail in strange ways.
    command = ["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg", "-cpu", "Nehalem", "-smp", "2", "-m", "1536"]
    command += ["-display", "none", "-serial", "stdio", "-monitor", "none", "-no-reboot", "-nic", "none"]
    command += arguments
    started = time.monotonic()
    pipe = subprocess.PIPE
    with subprocess.Popen(command, bufsize=0, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT) as process:
        try:
            text = _watch(process, log, started, dict(answers or {}))
        finally:
            process.kill()
    return Ended(DONE in text, text, round(time.monotonic() - started))


def _watch(process: subprocess.Popen[bytes], log: str, started: float, answers: dict[str, str]) -> str:
    assert process.stdout is not None and process.stdin is not None
    data = b""
    stopped: float | None = None
    with open(log, "wb") as file:
        while time.monotonic() - started < _LIMIT:
            ready, _, _ = select.select([process.stdout], [], [], 1.0)
            if ready:
                chunk = os.read(process.stdout.fileno(), 65536)
                if not chunk:
                    break
                data += chunk
                file.write(chunk)
                file.flush()
            text = plain(data)
            for question in [question for question in answers if re.search(question, text)]:
                process.stdin.write(answers.pop(question).encode())
            if stopped is None and re.search(_STOPPED, text, re.MULTILINE):
                stopped = time.monotonic()
            if stopped is not None and time.monotonic() - stopped > 3:
                break
    return plain(data)


def plain(data: bytes) -> str:
    """The console without terminal sequences."""
    text = data.decode("utf-8", "replace").replace("\r", "")
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()=>].?|\x1bc", "", text)
