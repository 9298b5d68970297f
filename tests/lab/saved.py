"""Base machines as they are kept: a disk, and states at multi-user from which a guest goes on within a second.

    NAME-HASH/disk.{0.img,fd}            the machine before its first boot: its first disk, its firmware's variables
    NAME-HASH/booted.{0.qcow2,fd,state}  at multi-user: what was written since, the variables, the memory
    NAME-HASH/HASH.{0.qcow2,fd,state}    the same with the program, which has judged the machine once

The first hash is that of what the machine is made of, the second that of the program.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass

from machines.build import KEPT, cache
from machines.build import path as tree_path
from safeupdate.rehearsal import boot, report
from safeupdate.rehearsal.agent import DIRECTORY, Agent
from safeupdate.rehearsal.hardware import Disk, Firmware, Hardware, arguments
from safeupdate.rehearsal.outcome import disturbed, of
from safeupdate.rehearsal.qemu import start
from tests.lab import build, wheel
from tests.lab.bases import Base
from tests.lab.programs import LabError, run
from tests.lab.slots import slot

MEMORY = 1024
"""MiB: the smallest machine that Debian's installer recommends, and what a saved state may take on disk."""

BOOTS = 3
"""Attempts at one boot, where the emulation, and not the machine, brings it to an end before the root is mounted."""

ROOM = 6 << 30
"""Bytes that must be free where the disks are: one base takes five."""


@dataclass(frozen=True)
class Saved:
    """A saved state of a base: the files that begin with `place`."""

    base: Base
    place: str

    @property
    def machine(self) -> str:
        """The hash of what the machine is made of."""
        return os.path.dirname(self.place).rpartition("-")[2]

    @property
    def program(self) -> str:
        """The hash of the program on it."""
        return os.path.basename(self.place)

    @property
    def memory(self) -> str:
        """What a guest is resumed from."""
        return f"{self.place}.state"

    @property
    def exists(self) -> bool:
        """Whether it is complete: its memory is written last."""
        return os.path.exists(self.memory)

    def onto(self, place: str) -> Hardware:
        """A machine that goes on from here, whose own files begin with `place`."""
        return _machine(self.base, self.place, place, "qcow2")


def _machine(base: Base, before: str, place: str, form: str) -> Hardware:
    disks = []
    for number in range(base.disks):
        image = f"{place}.{number}.qcow2"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(image)
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", _image(before, number, form), "-F", form, image)
        disks.append(Disk(image))
    firmware = None
    if base.uefi:
        firmware = Firmware(f"{place}.fd", base.secure_boot)
        shutil.copyfile(f"{before}.fd", firmware.variables)
    return Hardware(tuple(disks), firmware, MEMORY)


def _image(place: str, number: int, form: str) -> str:
    return f"{place}.{number}.{'img' if form == 'raw' else form}"


def directory() -> str:
    """Where the lab keeps its machines."""
    place = os.path.join(cache(), "lab")
    os.makedirs(place, exist_ok=True)
    return place


def identity(base: Base) -> str:
    """The hash of what a base machine is made of."""
    hardware = arguments(Hardware((Disk(""),), memory=MEMORY))
    made_of = (base, build.recipe(), os.path.basename(tree_path(base.tree)), hardware)
    return hashlib.sha256(repr(made_of).encode()).hexdigest()[:12]


def state(base: Base, guests: int, checkout: str = wheel.OURS) -> Saved:
    """The base at multi-user with that checkout's program, made first where it is missing, in one of the slots for that
    many guests. Raises `LabError`."""
    room()
    place = os.path.join(directory(), f"{base.name}-{identity(base)}")
    with _locked(os.path.join(directory(), f"{base.name}.lock")):
        _forget(f"{directory()}/{base.name}-{'[0-9a-f]' * 12}", place)
        os.makedirs(place, exist_ok=True)
        os.utime(place)
        number, program = wheel.made(checkout)
        ready = Saved(base, os.path.join(place, number))
        if not ready.exists:
            with slot(guests):
                booted = Saved(base, os.path.join(place, "booted"))
                if not booted.exists:
                    _boot(base, place, booted)
                _forget_programs(place)
                _install(base, booted, ready, program)
        return ready


def room() -> None:
    """Raises `LabError` where the disk is nearly full: a guest that cannot write would prove nothing."""
    if shutil.disk_usage(directory()).free < ROOM:
        raise LabError(f"less than {ROOM >> 30} GiB are free for {directory()}")


def _forget(pattern: str, but: str) -> None:
    for other in set(glob.glob(pattern)) - {but}:
        if os.stat(other).st_mtime < time.time() - KEPT:
            shutil.rmtree(other)


def _forget_programs(place: str) -> None:
    """All but the last one, which another run may be using."""
    states = sorted(glob.glob(f"{place}/{'[0-9a-f]' * 12}.state"), key=os.path.getmtime)
    for old in states[:-1]:
        for file in glob.glob(f"{old.rpartition('.')[0]}.*"):
            os.unlink(file)


@contextlib.contextmanager
def _locked(name: str) -> Iterator[None]:
    with open(name, "w", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _boot(base: Base, place: str, booted: Saved) -> None:
    disk = os.path.join(place, "disk")
    if not os.path.exists(_image(disk, 0, "raw")):
        print(f"lab: building {base.name}", flush=True)
        new = [os.path.join(place, f"new.{number}.img") for number in range(base.disks)]
        build.build(base, new, f"{disk}.fd")
        # The first one last: it says that all are there.
        for number in reversed(range(base.disks)):
            os.rename(new[number], _image(disk, number, "raw"))
    print(f"lab: starting {base.name} for the first time", flush=True)
    log = os.path.join(place, "booted.log")
    for _ in range(BOOTS):
        with start(_machine(base, disk, booted.place, "raw"), log) as guest:
            ending = boot.watch(guest, answers=dict(base.answers))
            if ending == "up":
                _settle(Agent(guest))
                guest.save(f"{booted.memory}.new")
                os.rename(f"{booted.memory}.new", booted.memory)
                return
            console = guest.console.text()
        if not disturbed(console):
            break
    raise LabError(f"{base.name} does not start, see {log}: {of(console, ending)}")


def _install(base: Base, booted: Saved, ready: Saved, program: bytes) -> None:
    print(f"lab: installing the program in {base.name}", flush=True)
    machine = booted.onto(ready.place)
    with start(machine, f"{ready.place}.log", saved=booted.memory) as guest:
        agent = Agent(guest)
        agent.hello()
        agent.put("wheel.whl", program)
        done = agent.run(wheel.INSTALL.format(directory=DIRECTORY))
        if done.code != 0:
            raise LabError(f"the program could not be installed in {base.name}:\n{done.output[-2000:]}")
        with open(f"{ready.place}.json", "w", encoding="utf-8") as file:
            file.write(done.output[done.output.index("{") :])
        agent.run(_UNCACHE)
        guest.save(f"{ready.memory}.new")
    os.rename(f"{ready.memory}.new", ready.memory)


_UNCACHE = """sync
python3 - << 'EOF'
import os
for top in ("/boot", "/usr", "/var"):
    for directory, _, names in os.walk(top):
        for name in names:
            path = os.path.join(directory, name)
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
EOF
"""
"""What was read of files leaves the memory: ext4 of Debian 12's kernel (6.1.192) fails (ext4_mb_load_buddy_gfp: NULL
pointer dereference) once memory is scarce and its own caches are reclaimed. For that reason it is not drop_caches."""


def _settle(agent: Agent) -> None:
    """Wait until nothing starts any more: what a machine says of itself then, it says again after a healthy boot."""
    until = time.monotonic() + 300
    while time.monotonic() < until:
        said = report.parse(agent.run(report.SCRIPT, limit=120).output)
        if said is not None and said.system in ("running", "degraded"):
            return
    raise LabError("the machine does not come to rest within five minutes")
