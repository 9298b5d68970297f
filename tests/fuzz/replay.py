"""Inputs, one after the other, through the plain program: `python -m tests.fuzz.replay TARGET FILE...`.

A line of JSON an input: its number, processor seconds, peak of the memory in bytes, and the error that came out.
Whatever does not end within `_WALL` seconds is told with the place where it was, and ends the process.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import sys
import time
import traceback
from pathlib import Path

from tests.fuzz import ADDRESS_SPACE
from tests.fuzz.targets import MEMORY, SECONDS, TARGETS, WORLDS

_WALL = 60


def _peak() -> int:
    """The most memory that the process has held since the last `_forget`."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    return 0


def _forget() -> None:
    """Start the peak anew (proc_pid_clear_refs(5))."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def measured(name: str, data: bytes) -> dict[str, object]:
    """What one input costs, and what came out."""
    target = TARGETS[name]
    error = ""
    _forget()
    started = time.process_time()
    try:
        target(data)
    except Exception:
        error = traceback.format_exc()
    return {"seconds": time.process_time() - started, "memory": _peak(), "error": error}


def fault(result: dict[str, object]) -> str:
    """What of it is a defect: `crash`, `slow`, `memory`, or nothing."""
    seconds, memory = result["seconds"], result["memory"]
    assert isinstance(seconds, float)
    assert isinstance(memory, int)
    if result["error"]:
        return "crash"
    return "slow" if seconds > SECONDS else "memory" if memory > MEMORY else ""


def main() -> None:
    """Replay the files."""
    os.environ["PATH"] = ""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    name = sys.argv[1]
    measured(name, b"")  # a tree is built, modules are imported
    for number, path in enumerate(sys.argv[2:]):
        faulthandler.dump_traceback_later(_WALL, exit=True)
        print(json.dumps({"number": number, **measured(name, Path(path).read_bytes())}), flush=True)
        faulthandler.cancel_dump_traceback_later()
    for world in WORLDS.values():
        world.close()


if __name__ == "__main__":
    main()
