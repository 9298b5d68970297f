"""The states that stories begin with, of base machines of the lab (tests/lab/saved.py), each made from the one before:

booted    the lab's: at multi-user, without the program
older     systemd-boot only: the older kernel runs and has lost its counter, the newest one is next
armed     with the program and its units; the boot that runs was judged safe, and the gate is armed and open
closed    the newest initramfs was cut off, and `safeupdate settle` has closed the gate
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import io
import os
import tarfile

from machines.build import cache
from safeupdate.rehearsal import boot
from safeupdate.rehearsal.agent import DIRECTORY, Agent
from safeupdate.rehearsal.hardware import Hardware
from safeupdate.rehearsal.qemu import GuestError, start
from tests.lab import saved, wheel
from tests.lab.bases import Base
from tests.lab.programs import LabError
from tests.lab.saved import Saved

BIOS = "debian12-initramfstools-ext4-bios"
UEFI = "debian13-initramfstools-ext4-uefi"
SDBOOT = "debian13-initramfstools-ext4-sdboot"

PATIENCE = 3000.0
"""Seconds for anything: the host may have little time for these guests."""

NEWEST = """
newest=$(ls /lib/modules | sort -V | tail -n 1)
image=$(find /boot/efi -path "*/$newest/initrd*" 2> /dev/null)
image=${image:-/boot/initrd.img-$newest}
"""
"""For the shell: the kernel that starts next, and its initramfs."""

BREAK = f"""{NEWEST}
[ -e /var/tmp/initramfs ] || cp "$image" /var/tmp/initramfs
truncate -s $(($(stat -c %s "$image") / 2)) "$image"
sync
"""

MEND = f"""{NEWEST}
cat /var/tmp/initramfs > "$image"
sync
"""

_UNITS = f"""
set -e
tar -xf {DIRECTORY}/units.tar -C /
rm {DIRECTORY}/units.tar
systemctl daemon-reload
systemctl enable safeupdate-boot.service safeupdate-confirm.service safeupdate-alarm.service \\
    safeupdate-settle.timer safeupdate-settle.path safeupdate-alarm.path
systemctl start safeupdate-settle.path safeupdate-alarm.path
safeupdate settle
safeupdate status
sync
"""
"""What a package does beside the program's own files, and the first run."""

_OLDER = """
set -e
older=$(ls /lib/modules | sort -V | head -n 1)
# A pattern, as to the loader the counter of boots is a part of the name.
bootctl set-oneshot "$(cat /etc/machine-id)-$older*.conf"
sync
systemctl reboot --no-block
"""

_SETTLED = """
for i in $(seq 150); do
	case $(systemctl is-system-running) in running|degraded) break ;; esac
	sleep 2
done
safeupdate confirm && echo confirmed
sync
"""


def state(base: Base, name: str, checkout: str) -> Saved:
    """A saved state with that checkout's program, made first where it is missing, in the slot that the caller holds.

    Where another run is making one of this base, that is waited for. Raises `LabError` and `GuestError`.
    """
    directory = os.path.join(cache(), "gate", base.name)
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, "lock"), "w", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        return _state(base, name, checkout, directory)


def _state(base: Base, name: str, checkout: str, directory: str) -> Saved:
    if name == "older" and base.name != SDBOOT:
        name = "program"
    ready = Saved(base, os.path.join(directory, f"{name}-{identity(checkout)}"))
    if ready.exists:
        return ready
    saved.room()
    if name == "program":
        return _program(base, checkout, ready)
    before = _state(base, {"older": "program", "armed": "older", "closed": "armed"}[name], checkout, directory)
    print(f"gate: making {ready.place}", flush=True)
    machine = before.onto(ready.place)
    if name == "older":
        _reboot(before, machine, ready)
    with start(machine, f"{ready.place}.console", saved=before.memory if name != "older" else None) as guest:
        agent = Agent(guest)
        if name == "older":
            if boot.watch(guest, limit=PATIENCE) != "up":
                raise LabError(f"{base.name} does not start its older kernel")
            guest.port.clear()
            _do(agent, _SETTLED, ready, "confirmed")
        else:
            agent.hello(PATIENCE)
        if name == "armed":
            agent.put("units.tar", _units(checkout), PATIENCE)
            _do(agent, _UNITS, ready, "armed: it acts")
        elif name == "closed":
            _do(agent, f"{BREAK}\nsafeupdate settle; [ $? = 4 ] && safeupdate status; sync", ready, "CLOSED")
        guest.save(f"{ready.memory}.new")
    os.rename(f"{ready.memory}.new", ready.memory)
    return ready


def identity(checkout: str) -> str:
    """That of the program and of the units that go with it."""
    return hashlib.sha256(wheel.made(checkout)[0].encode() + _units(checkout)).hexdigest()[:12]


def _units(checkout: str) -> bytes:
    """An archive that is the same whenever it is made."""
    out = io.BytesIO()
    places = [(f"systemd/{name}", "usr/lib/systemd/system") for name in os.listdir(os.path.join(checkout, "systemd"))]
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path, target in sorted([("bin/safeupdate-open", "usr/sbin"), *[(path[0], path[1]) for path in places]]):
            with open(os.path.join(checkout, path), "rb") as file:
                data = file.read()
            info = tarfile.TarInfo(f"{target}/{os.path.basename(path)}")
            info.size = len(data)
            info.mode = 0o755 if target.endswith("bin") else 0o644
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def _program(base: Base, checkout: str, ready: Saved) -> Saved:
    """The lab's state with this program, where it has one; else another program of the lab's gives way to it."""
    place = os.path.join(saved.directory(), f"{base.name}-{saved.identity(base)}")
    number, program = wheel.made(checkout)
    states = sorted(glob.glob(f"{place}/{'[0-9a-f]' * 12}.state"), key=os.path.getmtime)
    if not states:
        raise LabError(f"the lab has no program in {base.name}: python3 -m tests.lab build {base.name}")
    ours = Saved(base, os.path.join(place, number))
    theirs = ours if ours.exists else Saved(base, states[-1].rpartition(".")[0])
    kept = Saved(base, os.path.join(os.path.dirname(ready.place), f"lab-{theirs.program}"))
    # The lab forgets its states in time.
    for end in (*(f".{disk}.qcow2" for disk in range(base.disks)), *[".fd"] * base.uefi, ".state"):
        with contextlib.suppress(FileExistsError):
            os.link(f"{theirs.place}{end}", f"{kept.place}{end}")
    if theirs == ours:
        return kept
    print(f"gate: making {ready.place}", flush=True)
    with start(kept.onto(ready.place), f"{ready.place}.console", saved=kept.memory) as guest:
        agent = Agent(guest)
        agent.hello(PATIENCE)
        agent.put("wheel.whl", program, PATIENCE)
        install = wheel.INSTALL.format(directory=DIRECTORY).partition("safeupdate check")[0]
        _do(agent, f"{install}\nsync\necho installed", ready, "installed")
        guest.save(f"{ready.memory}.new")
    os.rename(f"{ready.memory}.new", ready.memory)
    return ready


def _do(agent: Agent, script: str, ready: Saved, words: str) -> None:
    done = agent.run(script, limit=PATIENCE)
    with open(f"{ready.place}.log", "a", encoding="utf-8") as file:
        file.write(done.output)
    if done.code != 0 or words not in done.output:
        raise LabError(f"{ready.place} did not come about ({done.code}):\n{done.output[-3000:]}")


def _reboot(before: Saved, machine: Hardware, ready: Saved) -> None:
    """Into the older kernel."""
    with start(machine, f"{ready.place}.console", saved=before.memory) as guest:
        agent = Agent(guest)
        agent.hello(PATIENCE)
        with contextlib.suppress(GuestError):
            agent.run(_OLDER)
        while guest.poll(1.0):
            if guest.seconds > PATIENCE:
                raise LabError(f"{before.base.name} does not reboot")
