"""Fuzz one target with atheris, in a process of its own: `python -m tests.fuzz.engine TARGET FOUND [ARGUMENT...]`.

The arguments are libFuzzer's. A defect ends nothing: its input is kept in the directory FOUND, one for each place in
the program, and fuzzing goes on. Inputs that look slow here are kept as well, for the plain program to judge.
"""

from __future__ import annotations

import os
import resource
import sys
import time
import traceback
from pathlib import Path

import atheris

from tests.fuzz import ADDRESS_SPACE

_SLOW_KEPT = 20

with atheris.instrument_imports(include=["safeupdate"]):
    import safeupdate
    from tests.fuzz import targets


def _place(error: BaseException) -> str:
    """Where in the program it was raised, for a file's name."""
    if isinstance(error, targets.Crashed):
        return error.place
    frames = traceback.extract_tb(error.__traceback__)
    package = os.path.dirname(safeupdate.__file__)
    frame = [*frames[:1], *(frame for frame in frames if frame.filename.startswith(package))][-1]
    return f"{Path(frame.filename).stem}-{frame.lineno}"


def main() -> None:
    """Does not return."""
    name, found = sys.argv[1], Path(sys.argv[2])
    target = targets.TARGETS[name]
    slowest = targets.SECONDS
    slow = 0

    def keep(what: str, data: bytes, why: str) -> None:
        place = found / what
        if not place.exists() or place.stat().st_size > len(data):
            place.write_bytes(data)
            if not place.with_suffix(".txt").exists():
                print(f"FOUND {place}: {why}", file=sys.stderr, flush=True)
            place.with_suffix(".txt").write_text(why)

    def one(data: bytes) -> None:
        nonlocal slowest, slow
        started = time.process_time()
        try:
            target(data)
        except Exception as error:
            keep(f"crash-{type(error).__name__}-{_place(error)}", data, traceback.format_exc())
        seconds = time.process_time() - started
        if seconds > slowest and slow < _SLOW_KEPT:
            slowest, slow = seconds * 1.2, slow + 1
            keep(f"slow-{slow}", data, f"{seconds:.1f} s while it was instrumented")

    # No program is started: of the decoders, the libraries are used.
    os.environ["PATH"] = ""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    atheris.Setup([sys.argv[0], *sys.argv[3:]], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
