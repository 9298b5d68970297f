"""Fuzz: `python -m tests.fuzz [--seconds N | --runs N] [TARGET...]`, N for each target; whole trees get more seconds.

Each target runs in a process of its own, starts from what earlier runs have found to be worth keeping, and ends with
its whole corpus going through the plain program: what counts against the limits of time and memory is measured there.
The exit code is 1 where there was a defect; its input is then in the directory that the last line names.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from machines.build import cache
from tests.fuzz import hostile, seeds
from tests.fuzz.replay import fault
from tests.fuzz.targets import LIMIT, TARGETS, Target

_RESTARTS = 5
"""Times that a target is started again after its process ended before its time."""

_MORE = 6
"""Times the seconds that a whole tree gets: it takes 20 ms, a parser takes 20 µs."""

_SHOWN = 5
"""Defects in one line."""

_PLACE = Path(cache()) / "fuzz"


@dataclass
class Outcome:
    """One target's run."""

    name: str
    inputs: int = 0
    seconds: float = 0.0
    edges: int = 0
    corpus: int = 0
    slowest: float = 0.0
    peak: int = 0
    found: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        costs = f"{self.slowest:9.2f} s {self.peak >> 20:7} MB"
        more = f" and {len(self.found) - _SHOWN} more" if len(self.found) > _SHOWN else ""
        defects = ", ".join(self.found[:_SHOWN]) + more or "nothing"
        return f"{self.name:18} {self.inputs:11,} {self.seconds:9.0f} {self.edges:7} {self.corpus:7} {costs}  {defects}"


def _quoted(word: bytes) -> str:
    return '"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n'


def _fuzz(outcome: Outcome, target: Target, corpus: Path, found: Path, limits: list[int]) -> None:
    """Run libFuzzer until it has had its runs or its time; a process that a hang or a dead end has cost goes on."""
    dictionary = found / "words.dict"
    dictionary.write_text("# words\n" + "".join(map(_quoted, target.words)) + _quoted(b"\0"))
    runs, seconds = limits
    for _ in range(_RESTARTS):
        command = [sys.executable, "-m", "tests.fuzz.engine", outcome.name, str(found)]
        command += [f"-runs={runs - outcome.inputs if runs else -1}", f"-max_total_time={seconds}", f"-max_len={LIMIT}"]
        command += ["-timeout=20", "-rss_limit_mb=1500", f"-dict={dictionary}", "-print_final_stats=1", "-verbosity=1"]
        command += [f"-artifact_prefix={found}/", str(corpus)]
        started = time.monotonic()
        log = found / "libfuzzer.log"
        with log.open("wb") as output:
            code = subprocess.run(command, stdout=output, stderr=output, check=False).returncode
        outcome.seconds += time.monotonic() - started
        text = log.read_text(errors="replace")
        counts = re.findall(r"^#(\d+)\s.* cov: (\d+) .* corp: (\d+)", text, re.MULTILINE)
        if counts:
            outcome.inputs += int(counts[-1][0])
            outcome.edges = int(counts[-1][1])
        left = seconds - outcome.seconds if seconds else runs - outcome.inputs
        if not code or left < 1:
            return
        if not counts:
            outcome.found.append(f"it does not start ({log})")
            return
        seconds = int(left) if seconds else 0


def _replay(outcome: Outcome, inputs: list[Path]) -> None:
    """The plain program's time and memory for each input; adds what breaks a limit to `outcome.found`."""
    while inputs:
        command = [sys.executable, "-m", "tests.fuzz.replay", outcome.name, *map(str, inputs)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        results = [json.loads(line) for line in done.stdout.splitlines()]
        for result in results:
            outcome.slowest = max(outcome.slowest, result["seconds"])
            outcome.peak = max(outcome.peak, result["memory"])
            what = fault(result)
            if what:
                outcome.found.append(f"{what} {inputs[result['number']]}")
        if done.returncode and len(results) < len(inputs):
            outcome.found.append(f"hang {inputs[len(results)]}")
            print(done.stderr, file=sys.stderr)
            results.append({})
        inputs = inputs[len(results) :]


def _keep(directory: Path, inputs: list[bytes]) -> list[Path]:
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for data in inputs:
        paths.append(directory / hashlib.sha1(data).hexdigest())
        paths[-1].write_bytes(data)
    return paths


def main() -> int:
    """The runs that the arguments ask for."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.partition("\n")[0])
    limit = parser.add_mutually_exclusive_group()
    limit.add_argument("--seconds", type=int, default=0, help="how long each target is fuzzed (60)")
    limit.add_argument("--runs", type=int, default=0, help="how many inputs each target gets")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="what is fuzzed (everything)")
    arguments = parser.parse_args()
    if not arguments.seconds and not arguments.runs:
        arguments.seconds = 60
    unknown = set(arguments.targets) - set(TARGETS)
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    # Trees are written ten thousands of times: in memory, where there is such a place. A fuzzer leaves its own behind.
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as trees:
        os.environ["TMPDIR"] = trees
        return _run(arguments)


def _run(arguments: argparse.Namespace) -> int:
    real, extreme = seeds.everything(), hostile.inputs()
    total = Outcome("together")
    print(f"{'target':18} {'inputs':>11} {'seconds':>9} {'edges':>7} {'corpus':>7} {'slowest':>11} {'peak':>10}  found")
    for name in arguments.targets or TARGETS:
        outcome = Outcome(name)
        corpus, found = _PLACE / "corpus" / name, _PLACE / "found" / name
        _keep(corpus, real.get(name, []))
        found.mkdir(parents=True, exist_ok=True)
        before = set(found.iterdir())
        seconds = arguments.seconds * (_MORE if name.startswith("tree") else 1)
        _fuzz(outcome, TARGETS[name], corpus, found, [arguments.runs, seconds])
        kept = sorted(path for path in found.iterdir() if not path.suffix)
        inputs = [*corpus.iterdir(), *kept, *_keep(_PLACE / "hostile" / name, extreme.get(name, []))]
        outcome.corpus = len(list(corpus.iterdir()))
        _replay(outcome, inputs)
        news = (f"crash {path}" for path in kept if path.name.startswith("crash-") and path not in before)
        outcome.found += [what for what in news if what not in outcome.found]
        print(outcome, flush=True)
        total.inputs += outcome.inputs
        total.seconds += outcome.seconds
        total.edges += outcome.edges
        total.corpus += outcome.corpus
        total.slowest = max(total.slowest, outcome.slowest)
        total.peak = max(total.peak, outcome.peak)
        total.found += outcome.found
    print(f"{total}\nwhat was found is in {_PLACE / 'found'}" if total.found else total)
    return 1 if total.found else 0


if __name__ == "__main__":
    sys.exit(main())
