"""Who brings modules from outside the kernel's own package: a file each, that tells what it has made for one kernel.

Only files tell: what a builder prints, or its exit code, says nothing (dkms ends with 0 after a failure). Package
databases give names, for words and remedies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from safeupdate.formats.make_log import MakeLog
from safeupdate.machine import Machine
from safeupdate.module_interface import Interface
from safeupdate.module_tree import ModuleTree
from safeupdate.packages import Database
from safeupdate.report import Remedy

NOTHING = Remedy()

State = Literal["installed", "built", "building", "waiting", "failed", "absent", "lost", "unwanted"]
"""`waiting`: its builder will make it at the next boot by itself. `absent`: it was to be made, and nothing was tried.
`lost`: no builder makes it; the running kernel has it, and this one has not. `unwanted`: it is not made for this kernel
on purpose."""

Fault = Literal["", "headers", "compiler", "build", "sign", "source", "link", "file"]
"""What stood in the way: no headers of this kernel, another compiler than the kernel's, an error in the build, no tool
to sign with, no source, a link that leads nowhere, a file that is gone or not the one that was built."""


@dataclass(frozen=True)
class World:
    """What a builder may look at: the kernel that is judged, what it offers to modules, and the kernel that is running,
    where that is another."""

    machine: Machine
    databases: tuple[Database, ...]
    tree: ModuleTree
    interface: Interface
    running: ModuleTree | None = None


@dataclass(frozen=True)
class Brought:
    """A module that a builder brings, or was to bring, for one kernel release.

    `module` is the kernel's name, `provider` is for a sentence ("the DKMS package nvidia/535.183"), `path` the file
    below the modules directory where there is one, `why` a whole sentence why it is not as it should be, `evidence` the
    last lines of a log, bounded.
    """

    module: str
    provider: str
    state: State
    path: str | None = None
    fault: Fault = ""
    why: str = ""
    evidence: tuple[str, ...] = ()
    remedy: Remedy = NOTHING


def log_says(path: str, log: MakeLog | None) -> str:
    """What the log of a build that failed tells, a sentence. `log` is None where it cannot be read."""
    return f"The log {path} says: {log.said}" if log is not None and log.said else f"The log {path} tells why."
