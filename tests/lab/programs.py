"""Programs that the lab starts: each with a time-out, and none that outlives it."""

from __future__ import annotations

import os
import subprocess

ENDS_WITH_US = ("setpriv", "--pdeathsig=KILL")
IN_A_NAMESPACE = (*ENDS_WITH_US, "unshare", "--pid", "--fork", "--kill-child=KILL")
"""What such a program starts ends with it, too."""


class LabError(Exception):
    """The lab itself failed: this says nothing of the machine."""


def run(*command: str, timeout: float = 900, environment: dict[str, str] | None = None) -> str:
    """A program's output. Raises `LabError` with what it said."""
    words = (*ENDS_WITH_US, *command) if command[0] != "chroot" else (*IN_A_NAMESPACE, *command)
    try:
        done = subprocess.run(
            words,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin", **(environment or {})},
        )
    except subprocess.TimeoutExpired:
        raise LabError(f"{' '.join(command)} did not end within {timeout:g} seconds") from None
    if done.returncode != 0:
        raise LabError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-4000:]}")
    return done.stdout
