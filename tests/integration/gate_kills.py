"""Kills `settle` before each thing that it does, and at random moments: python3 -m tests.integration.gate_kills

After each kill the machine goes on, or loses its power and starts again, and settles: it must then stand as if nobody
had killed anything, and must not have opened anything on the way that was to be held.
"""

from __future__ import annotations

import argparse
import copy
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from safeupdate.errors import SafeupdateError
from safeupdate.gate import permits, state
from safeupdate.gate.host import Host
from safeupdate.gate.parts import parts_now
from safeupdate.gate.permits import Allowed, Rejected
from safeupdate.ledger.reading import UNKNOWN, boot_id
from tests.unit.gates import World
from tests.unit.test_boot_grub import NEW, OLD

_AFTER_SECONDS = 0.5
"""Within which a run is killed at random; it takes 0.1 to 0.4 s."""


@dataclass(frozen=True)
class Dying(Host):
    """A host whose process is killed before its act number `left`, counted from 0."""

    left: list[int] = field(default_factory=list)

    def _act(self) -> None:
        self.left[0] -= 1
        if self.left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        self._act()
        super().write(path, data, mode)

    def remove(self, path: str) -> None:
        self._act()
        super().remove(path)


def closing(world: World) -> None:
    """A kernel that does not boot was installed."""
    world.update("unsafe")


def opening(world: World) -> None:
    """It is mended."""
    world.update("unsafe")
    world.settle()
    world.update("safe")


def allowed(world: World) -> None:
    """A person lets a reboot into it through."""
    world.update("unsafe")
    world.settle()
    machine = world.machine
    parts = parts_now(machine, UNKNOWN)
    permits.allow(world.host(), Allowed("a test", "root", "now", boot_id(machine), False, NEW, parts))


def rejected(world: World) -> None:
    """A person does not want it."""
    world.update("safe")
    world.settle()
    permits.reject(world.host(), (Rejected(NEW, "a test", "root", "now"),))


def worse(world: World) -> None:
    """What could not be told is found to be broken."""
    world.update("unknown")
    world.settle()
    world.update("unsafe")


def early(world: World) -> None:
    """It is held for a broken kernel, and the machine came back on the fallback."""
    world.update("unsafe")
    world.settle()
    world.reboot(OLD)


STORIES: tuple[Callable[[World], None], ...] = (closing, opening, allowed, rejected, worse, early)


@dataclass
class Found:
    """How many runs were killed in each story, and what was wrong after one."""

    killed: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [", ".join(f"{story}: {count}" for story, count in sorted(self.killed.items()))]
        return "\n".join([*lines, *(f"WRONG: {what}" for what in self.wrong)])


class Story:
    """One machine just before its run, of which copies are killed."""

    def __init__(self, directory: Path, tell: Callable[[World], None], found: Found) -> None:
        self.name = tell.__name__
        self._directory = directory / self.name
        self._found = found
        self._world = World(self._directory / "machine").armed()
        tell(self._world)
        self._copies = 0
        alone = self._copy()
        alone.settle()
        self._end = self._standing(alone)
        self._held = alone.held()
        rebooted = self._copy()
        rebooted.reboot(OLD)
        rebooted.settle()
        self._end_after_power = self._standing(rebooted)

    def kill(self, *, act: int | None = None, seconds: float = 0.0) -> bool:
        """Kill one run before its act of that number, or after so many seconds. False where it had ended before."""
        world = self._copy()
        before = world.held()
        process = os.fork()
        if not process:
            code = 1
            try:
                host = world.host() if act is None else Dying(world.machine, lambda: world.clock, left=[act])
                world.settle(host=host)
                code = 0
            finally:
                os._exit(code)
        if act is None:
            time.sleep(seconds)
            os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        where = f"{self.name}, killed " + (f"before act {act}" if act is not None else f"after {seconds:.3f} s")
        if not os.WIFSIGNALED(status):
            if os.WEXITSTATUS(status):
                self._found.wrong.append(f"{where}: it failed by itself")
            shutil.rmtree(world.root)
            return False
        self._found.killed[self.name] += 1
        lost = (before & self._held) - world.held()
        if lost:
            self._found.wrong.append(f"{where}: {sorted(lost)} held before and is to hold after, and does not")
        power = self._copy(world)
        self._settles(world, self._end, where)
        power.reboot(OLD)
        self._settles(power, self._end_after_power, f"{where}, and the power cut")
        return True

    def _settles(self, world: World, end: object, where: str) -> None:
        """Settled twice it stands as it should, and the second run changes nothing."""
        try:
            gate = world.settle()
            if gate.problems:
                self._found.wrong.append(f"{where}: {gate.problems}")
            first = self._standing(world)
            looks = len(world.during)
            world.settle()
            if first != end:
                self._found.wrong.append(f"{where}: it ends with {first}, and not with {end}")
            if self._standing(world) != first or len(world.during) != looks:
                self._found.wrong.append(f"{where}: it is not at rest")
        except SafeupdateError as error:
            self._found.wrong.append(f"{where}: {error}")
        left = [name for _, _, names in os.walk(world.root) for name in names if name.endswith(".new")]
        if left:
            self._found.wrong.append(f"{where}: {left} lies about")
        shutil.rmtree(world.root)

    def _copy(self, world: World | None = None) -> World:
        world = world or self._world
        self._copies += 1
        other = copy.copy(world)
        other.root = self._directory / f"copy-{self._copies}"
        other.during = []
        shutil.copytree(world.root, other.root, symlinks=True)
        return other

    @staticmethod
    def _standing(world: World) -> object:
        gate = state.read(world.machine)
        assert gate is not None
        files = ("run/motd.d/safeupdate", "run/safeupdate/alarm")
        told = tuple((world.root / path).exists() for path in files)
        records = world.root / "var/lib/safeupdate/levers"
        kept = sorted(os.listdir(records)) if records.exists() else []
        held = sorted(world.held())
        return gate.position, gate.mode, gate.verdict, gate.cause, gate.people, gate.unattended, held, kept, told


def run(directory: Path, *, each: int, seed: int, stories: tuple[Callable[[World], None], ...] = STORIES) -> Found:
    """Kill the run of every story before each of its acts, and `each` times more at random."""
    found = Found()
    dice = random.Random(seed)
    for tell in stories:
        story = Story(directory, tell, found)
        act = 0
        while story.kill(act=act):
            act += 1
        for _ in range(each):
            story.kill(seconds=dice.random() * _AFTER_SECONDS)
        shutil.rmtree(directory / story.name)
    return found


def main() -> int:
    """Kill, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, default=50, help="kills at random in each story (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        found = run(Path(directory), each=arguments.each, seed=arguments.seed)
    print(found)
    return 1 if found.wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
