"""The machine of a story: it goes on from a saved state, loses its power, starts again; all that it says is kept."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from typing import ClassVar, TypeVar

from machines.build import cache
from safeupdate.rehearsal.agent import DIRECTORY, Agent, Done
from safeupdate.rehearsal.hardware import Hardware
from safeupdate.rehearsal.outcome import GRACE, Ending, disturbed, mark
from safeupdate.rehearsal.qemu import PROGRAM, Guest, GuestError, start
from tests.gate_guests.played import PLAYED
from tests.gate_guests.states import PATIENCE, state
from tests.lab import saved
from tests.lab.bases import Base
from tests.lab.programs import LabError
from tests.lab.slots import slot
from tests.played import Played, Row

_KERNEL = re.compile(r"Linux version (\S+) ")
_LOADED = re.compile(r"Loading Linux (\S+) \.\.\.|Linux version (\S+) ")  # a blank, as half a line may have come
"""What GRUB says of the kernel that it starts, and what a kernel says first."""

_ENDS = (
    ("Starting new kernel", "kexec"),
    ("reboot: Restarting system", "reboots"),
    ("reboot: Power down", "powers off"),
    ("reboot: System halted", "halts"),
)
"""What the kernel says last, and how that is called here."""

SETTLED = "systemctl start safeupdate-settle.service; safeupdate status"
"""At rest: what was started by the boot's confirmation has ended, or is waited for."""


_GUESTS = 3
"""Guests at once, together with those of the lab."""

Self = TypeVar("Self", bound="Machine")


class Lost(LabError):
    """The machine did not do what a story needs to go on."""


@dataclass
class Machine:
    """`tell` writes down what came of a step, `right` whether it is what was to come. `kernels`: from the oldest on.

    `swift`: what is started has both its processors, and the clock of the host.
    """

    kept: ClassVar[str] = "gate"
    """Where below the cache its files are, and what its lines begin with."""
    played: ClassVar[Played] = PLAYED

    base: Base
    story: str
    checkout: str
    _disk: Hardware | None = None
    kernels: tuple[str, ...] = ()
    _boots: int = 0
    _rows: list[Row] = field(default_factory=list)
    swift: bool = False

    def __post_init__(self) -> None:
        os.makedirs(self.work, exist_ok=True)
        with open(os.path.join(self.work, "log"), "w", encoding="utf-8"):
            pass

    @property
    def work(self) -> str:
        """Where the story's files are: what was asked and answered (`log`), and the consoles."""
        return os.path.join(cache(), self.kept, "runs", self.base.name, self.story)

    @property
    def right(self) -> bool:
        """Whether every step was as it was to be."""
        return all(row["right"] for row in self._rows)

    def log(self, text: str) -> None:
        """Keep this."""
        with open(os.path.join(self.work, "log"), "a", encoding="utf-8") as file:
            file.write(f"[{time.strftime('%H:%M:%S')}] {text.rstrip()}\n")

    def tell(self, step: str, seen: str, *, right: bool) -> None:
        """What came of a step, in words for a table."""
        wrong = "" if right else "  <-- WRONG"
        print(f"{self.kept}: {self.base.name} {self.story}: {step}: {seen}{wrong}", flush=True)
        self.log(f"=> {step}: {seen} ({'right' if right else 'WRONG'})")
        self._rows.append({"step": step, "seen": seen, "right": right})
        self.played.store(self.base.name, self.story, self._rows)

    @contextmanager
    def resumed(self, name: str) -> Iterator[Running]:
        """A new machine that goes on from a saved state. It loses its power behind the `with`."""
        before = state(self.base, name, self.checkout)
        saved.room()
        self._disk = before.onto(os.path.join(self.work, "disk"))
        self.log(f"-- goes on from {before.place}")
        with start(self._disk, self._console(), saved=before.memory) as guest:
            running = Running(self, guest)
            running.agent.hello(PATIENCE)
            self.kernels = tuple(running.words("ls /lib/modules | sort -V").split())
            yield running
        self.log("-- its power is cut")

    @contextmanager
    def started(self) -> Iterator[Running]:
        """The same machine, started anew and watched until it is up, or until it stopped."""
        for attempt in range(saved.BOOTS):
            self.log("-- it is started")
            with self._started() as guest:
                running = Running(self, guest, watched(guest))
                if disturbed(guest.console.text()) and attempt + 1 < saved.BOOTS:
                    continue
                self.log(f"-- {running.ending}: {running.kernel}, after {guest.seconds:.0f} s")
                guest.port.clear()
                yield running
            self.log("-- its power is cut")
            return

    @contextmanager
    def up(self) -> Iterator[Running]:
        """The same, where it has to come up; its kernels are those that it has then. Raises `Lost`."""
        with self.started() as guest:
            if guest.ending != "up":
                raise Lost(f"{self.base.name} did not come up: {guest.ending}")
            self.kernels = tuple(guest.words("ls /lib/modules | sort -V").split())
            yield guest

    def starts(self) -> str:
        """Start it until it is clear which kernel starts, and cut the power."""
        with self._started() as guest:
            while guest.poll(1.0) and not _LOADED.search(guest.console.text()):
                if guest.seconds > PATIENCE:
                    break
            found = _LOADED.search(guest.console.text())
        kernel = (found[1] or found[2]) if found is not None else ""
        self.log(f"-- it starts {kernel or 'no kernel'}")
        return kernel

    @contextmanager
    def _started(self) -> Iterator[Guest]:
        assert self._disk is not None
        hardware = self._disk if self.swift else _single(self._disk)
        with nullcontext() if self.swift else _patient(), start(hardware, self._console()) as guest:
            yield guest

    def play(self: Self, story: Callable[[Self], None]) -> bool:
        """Play it to its end, in one of the slots for guests; whether every step was as it was to be."""
        try:
            with slot(_GUESTS):
                story(self)
        except (LabError, GuestError) as error:
            self.tell("the story", f"ended early: {error}", right=False)
        self.forget()
        return self.right

    def named(self, kernel: str) -> str:
        """A kernel as the older or the newest one."""
        names = {self.kernels[0]: "the older kernel", self.kernels[-1]: "the newest kernel"}
        return names.get(kernel, kernel or "no kernel")

    def forget(self) -> None:
        """Remove its own disks."""
        for disk in self._disk.disks if self._disk is not None else ():
            if disk.image.startswith(self.work):
                with suppress(FileNotFoundError):
                    os.unlink(disk.image)

    def _console(self) -> str:
        self._boots += 1
        return os.path.join(self.work, f"{self._boots:02}.console")


_QEMU = f"""#!/bin/sh
PATH=${{PATH#*:}}
exec {PROGRAM} "$@" -icount shift=2
"""


@contextmanager
def _patient() -> Iterator[None]:
    """A guest started in here has a clock that goes by its own instructions: on a host that has little time for it none
    of its time-outs comes early."""
    directory = os.path.join(cache(), "gate", "bin")
    os.makedirs(directory, exist_ok=True)
    new = os.path.join(directory, f"new.{os.getpid()}")
    with open(new, "w", encoding="ascii") as file:
        file.write(_QEMU)
    os.chmod(new, 0o755)
    # Another run may be about to start it.
    os.replace(new, os.path.join(directory, PROGRAM))
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{directory}:{before}"
    try:
        yield
    finally:
        os.environ["PATH"] = before


def _single(hardware: Hardware) -> Hardware:
    """With one processor: of several, by instructions, one waits for the other and keeps it from running."""
    return replace(hardware, processors=1)


def watched(guest: Guest) -> Ending:
    """How a boot ends. As `safeupdate.rehearsal.boot.watch`, but that silence says nothing on such a host."""
    stopped: float | None = None
    while guest.poll(1.0):
        if stopped is None and Agent(guest).ready:
            return "up"
        if stopped is None and mark(guest.console.last()) is not None:
            stopped = guest.seconds
        if stopped is not None and guest.seconds - stopped > GRACE:
            return "stopped"
        if guest.seconds > PATIENCE:
            return "late"
    return "ended"


@dataclass
class Running:
    """A machine that runs; `ending` says how its boot was."""

    machine: Machine
    guest: Guest
    ending: Ending = "up"

    @property
    def agent(self) -> Agent:
        """Who does what is asked."""
        return Agent(self.guest)

    @property
    def kernel(self) -> str:
        """The kernel whose start the console shows last; empty where there was none."""
        return next(reversed(_KERNEL.findall(self.guest.console.text())), "")

    @property
    def stopped(self) -> str:
        """Where the boot stopped, in words, or how its watching ended."""
        found = mark(self.guest.console.text())
        return found.stage if found is not None else self.ending

    def ask(self, script: str, limit: float = PATIENCE) -> Done:
        """Run it, and keep what it printed."""
        done = self.agent.run(script, limit)
        self.machine.log(f"$ {script.strip()}\n{done.output.rstrip()}\n[{done.code}]")
        return done

    def words(self, script: str) -> str:
        """What it printed, without the end of its line."""
        return self.ask(script).output.strip()

    def put(self, name: str, text: str) -> str:
        """A file in the guest; its path."""
        self.agent.put(name, text.encode())
        return f"{DIRECTORY}/{name}"

    def goes(self, script: str, seconds: float) -> str:
        """What becomes of the machine within so many seconds after this: one of `_ENDS`, `ends`, or `stays up`.

        Its answer is not waited for, as that may go down with the machine.
        """
        self.machine.log(f"$ {script.strip()}")
        began = self.guest.seconds
        with suppress(GuestError, OSError):
            self.agent.put("script", script.encode())
            self.guest.send(b"run script\n")
        while self.guest.poll(1.0) and self.guest.seconds - began < seconds:
            if any(words in self.guest.console.last() for words, _ in _ENDS):
                break
        said = self.guest.console.last()
        ended = next((name for words, name in _ENDS if words in said), "ends" if self.guest.ended else "stays up")
        self.machine.log(f"{self.guest.port.decode('utf-8', 'replace').strip()}\n-- {ended}")
        self.guest.port.clear()
        return ended
