"""Kills `check` and `confirm` at random moments, and looks at the ledger after each: python3 -m tests.integration.kills

Three kinds, in turn. *Anywhere*: a child process that has all modules loaded, killed within the time that a run takes.
*Writing*: a check, killed within the time that its write takes. *Program*: a process that has just been started, and
does what `safeupdate check` does; the verb itself records nothing where these tests run, in a container.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from statistics import median

from safeupdate.commands.confirm import confirm
from safeupdate.fingerprint import Hasher
from safeupdate.judge import judge
from safeupdate.ledger import schema, witness, writing
from safeupdate.ledger.reading import BOOT_ID, read
from safeupdate.machine import Machine
from tests.unit.test_command_confirm import RUNNING
from tests.unit.trees import tree

HERE = Path(__file__).parents[2]

_MEASURED = 5
"""Runs that are left alone first, to know how long they take."""

_PROGRAM_SECONDS = 1.0
"""Within which the program is killed: it takes some 0.4 s on two idle processors."""

_PROGRAM = """
import sys
from safeupdate.commands.check import check
from safeupdate.machine import Machine
check(Machine(sys.argv[1], live=True))
"""

_ACT = b"w"
_DONE = b"d"


@dataclass
class Found:
    """What the kills found: how many of each kind, and what was seen after them."""

    kinds: Counter[str] = field(default_factory=Counter)
    after: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    rows: int = 0

    def __str__(self) -> str:
        lines = [", ".join(f"{kind}: {count}" for kind, count in sorted(self.kinds.items())) + f"; rows: {self.rows}"]
        lines += [f"{what}: {count}" for what, count in sorted(self.after.items())]
        return "\n".join([*lines, *(f"WRONG: {what}" for what in self.wrong)])


class Ledger:
    """A small machine that runs, its ledger, and the rows that it must have."""

    def __init__(self, root: str, seed: int) -> None:
        self.machine = Machine(root, live=True)
        self.directory = Path(root + os.path.dirname(schema.PATH))
        self.run = Path(root + os.path.dirname(witness.RUNNING))
        self.dice = random.Random(seed)
        self.found = Found()
        self.acknowledged: set[str] = set()
        self.programs = 0
        self._next = 0
        tree(Path(root), RUNNING)

    # -- runs --------------------------------------------------------------------------------------------------

    def child(self, verb: str) -> tuple[int, int, str]:
        """Start a verb in a child: its process, a pipe on which it says how far it is, and the name of its row."""
        self._next += 1
        name = f"{verb}-{self._next}"
        (Path(self.machine.root) / BOOT_ID.lstrip("/")).write_text(f"{name}\n")
        reader, writer = os.pipe()
        process = os.fork()
        if process:
            os.close(writer)
            return process, reader, name
        code = 1
        try:
            if verb == "check":
                hasher = Hasher(self.machine, read(self.machine).hashes)
                report = replace(judge(self.machine, hasher=hasher), version=name)
                os.write(writer, _ACT)
                told = writing.record_check(self.machine, report, hasher.fresh, keep_days=400)
                code = len(told)
            else:
                recorded, _ = confirm(self.machine, datetime.now(timezone.utc))
                code = 0 if recorded else 1
            if not code:
                os.write(writer, _DONE)
        finally:
            os._exit(code)

    def measure(self, verb: str) -> tuple[float, float]:
        """How long a run takes: seconds from the start to the end, and from the write (of a check) to the end."""
        whole, act = [], []
        for _ in range(_MEASURED):
            began = time.monotonic()
            process, pipe, name = self.child(verb)
            os.read(pipe, 1)
            wrote = time.monotonic()
            _, status = os.waitpid(process, 0)
            ended = time.monotonic()
            self._note(name, pipe)
            assert status == 0, f"{name} failed though nobody killed it"
            whole.append(ended - began)
            act.append(ended - wrote)
        return 1.2 * median(whole), 1.2 * median(act)

    def kill_child(self, verb: str, seconds: float, *, writing: bool) -> bool:
        """Kill one run within so many seconds of its start, or of its write. One in ten has another one beside it.

        False where it had ended before.
        """
        beside = self.child("check") if self.dice.random() < 0.1 else None
        process, pipe, name = self.child(verb)
        said = os.read(pipe, 1) if writing else b""
        time.sleep(self.dice.random() * seconds)
        os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        killed = os.WIFSIGNALED(status)
        self.found.kinds[f"{verb}, {'writing' if writing else 'anywhere'}"] += killed
        self._note(name, pipe, said)
        if beside is not None:
            other, pipe, name = beside
            _, status = os.waitpid(other, 0)
            self.found.after["another check beside it"] += 1
            if not self._note(name, pipe):
                self.found.wrong.append(f"{name}, beside {verb}, ended with {status} and recorded nothing")
        return killed

    def _note(self, name: str, pipe: int, said: bytes = b"") -> bool:
        with os.fdopen(pipe, "rb") as rest:
            said += rest.read()
        if _DONE in said:
            self.acknowledged.add(name)
        return _DONE in said

    def program(self, seconds: float) -> bool:
        """Run the program itself, killed within so many seconds. False where it had ended before."""
        command = [sys.executable, "-c", _PROGRAM, self.machine.root]
        process = subprocess.Popen(
            command, cwd=HERE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            process.wait(timeout=self.dice.random() * seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=60)
        killed = process.returncode < 0
        self.found.kinds["check, program"] += killed
        self.programs += not killed
        return killed

    # -- what is left ------------------------------------------------------------------------------------------

    def look(self) -> None:
        """The ledger after a kill: what lies about, whether it opens, and whether it has every row."""
        after, wrong = self.found.after, self.found.wrong
        journal = Path(f"{self.machine.root}{schema.PATH}-journal")
        if journal.exists():
            begun = journal.read_bytes()[:8] == bytes.fromhex("d9d505f920a163d7")
            after["a journal to be taken back" if begun else "a journal that had not begun"] += 1
        after["a witness half written"] += self._beside_witness()
        history = read(self.machine)
        wrong += [f"a kill led to: {problem}" for problem in history.problems]
        if not (self.directory / "ledger.db").exists():
            wrong += [f"{name} is lost, and the ledger too" for name in self.acknowledged]
            return
        with closing(sqlite3.connect(self.directory / "ledger.db")) as database:
            (answer,) = database.execute("PRAGMA integrity_check").fetchone()
            if answer != "ok":
                wrong.append(answer)
            rows: list[str] = []
            if database.execute("PRAGMA user_version").fetchone() != (0,):
                rows += [name for (name,) in database.execute("SELECT version FROM checks")]
                rows += [name for (name,) in database.execute("SELECT boot_id FROM boots WHERE confirmed NOT NULL")]
                wrong += [f"a notice: {detail}" for (detail,) in database.execute("SELECT detail FROM events")]
        wrong += [f"{name} is lost" for name in self.acknowledged - set(rows)]
        programs = sum(not name.startswith(("check-", "confirm-")) for name in rows)
        if programs < self.programs:
            wrong.append(f"{self.programs} programs ended, and {programs} checks are recorded")
        if len(rows) != len(set(rows)) + max(programs - 1, 0):
            wrong.append("a row is there twice")
        self.found.rows = len(rows)

    def _beside_witness(self) -> int:
        return sum(name != "ledger.json" for name in os.listdir(self.run)) if self.run.exists() else 0

    def end(self) -> None:
        """After one more run, which nobody kills, nothing lies about."""
        process, pipe, name = self.child("check")
        os.waitpid(process, 0)
        if not self._note(name, pipe):
            self.found.wrong.append("the last run recorded nothing")
        self.look()
        left = sorted(set(os.listdir(self.directory)) - {"ledger.db"})
        if left or self._beside_witness():
            self.found.wrong.append(f"lying about: {left} {os.listdir(self.run)}")


def run(root: str, count: int, *, seed: int) -> Found:
    """Kill so many runs on a machine below `root`, one in ten of them the program itself. What ended before the kill
    does not count as one, but its row must be there."""
    ledger = Ledger(root, seed)
    kinds = list(_kinds(count))
    ledger.dice.shuffle(kinds)
    # From the first kill on, the ledger may not be there yet.
    times = {verb: Ledger(f"{root}-measured", seed).measure(verb) for verb in ("check", "confirm")}
    for kind, verb in kinds:
        killed = False
        while not killed:
            if kind == "program":
                killed = ledger.program(_PROGRAM_SECONDS)
            else:
                killed = ledger.kill_child(verb, times[verb][kind == "writing"], writing=kind == "writing")
            ledger.look()
    ledger.end()
    return ledger.found


def _kinds(count: int) -> Iterator[tuple[str, str]]:
    for number in range(count):
        if number % 10 == 0:
            yield "program", "check"
        else:
            yield (("anywhere", "check"), ("writing", "check"), ("anywhere", "confirm"))[number % 3]


def main() -> int:
    """Kill, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        began = time.monotonic()
        found = run(f"{directory}/machine", arguments.count, seed=arguments.seed)
        print(found)
        print(f"{arguments.count} kills in {time.monotonic() - began:.0f} s")
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
