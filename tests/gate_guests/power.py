"""The power is cut between any two acts of holding the loader's default and of letting it go: which kernel starts then.

The machine resets itself at once (SysRq, `b`), before it syncs anything, in the place of an act of the lever.
"""

from __future__ import annotations

import re
from contextlib import suppress

from safeupdate.rehearsal.qemu import GuestError
from tests.gate_guests.fallback import came_up
from tests.gate_guests.machine import SETTLED, Machine, Running
from tests.gate_guests.states import MEND

_LEVER = """
import sys, time
from datetime import datetime, timezone
from safeupdate import steering
from safeupdate.boot import find_plan
from safeupdate.gate.host import Host
from safeupdate.gate.lever import Order
from safeupdate.gate.levers import boot_default
from safeupdate.machine import Machine
from safeupdate.volumes import Volumes

move, left = sys.argv[1], int(sys.argv[2])

def act(what):
    global left
    if left == 0:
        with open("/dev/kmsg", "w") as file:
            file.write(f"<2>instead of: {what}")
        with open("/proc/sysrq-trigger", "w") as file:
            file.write("b")
        time.sleep(60)
    left -= 1

class Dying(Host):
    def write(self, path, data, mode=0o644):
        act(f"write {path}")
        super().write(path, data, mode)
    def overwrite(self, path, data):
        act(f"overwrite {path}")
        super().overwrite(path, data)
    def remove(self, path):
        act(f"remove {path}")
        super().remove(path)
    def run(self, command, timeout):
        if command[:2] != ("bootctl", "list"):
            act(" ".join(command[:2]))
        return super().run(command, timeout)

machine = Machine.here()
host = Dying(machine, lambda: datetime.now(timezone.utc))
if move == "close":
    plan = find_plan(machine, Volumes(machine), without=steering.read(machine))[1]
    older = next(e for e in plan.entries if e.kernel and e.release == machine.running_kernel)
    boot_default.close(host, Order("a test", fallback=older.id, release=older.release))
else:
    boot_default.let_go(host)
if left == 0:
    act("nothing more")
print(f"{left} too many")
"""

_STATES = {"close": "armed", "open": "closed"}
_WORDS = {"close": "held", "open": "let go"}
_NOT_YET = {"close": "newest", "open": "older"}
_DONE = {"close": "older", "open": "newest"}

_POINTS = (1, 2, 0, 3, 4, 5)
"""Acts by their number: those around the one that decides come first."""

_ACT = re.compile(r"instead of: (.+)")


def run(machine: Machine) -> None:
    """Every point of both ways, then one of each seen through until the machine is up and has settled."""
    for move in ("close", "open"):
        for number in _POINTS:
            with machine.resumed(_STATES[move]) as guest:
                act = _cut(guest, move, number)
            if act:
                kernel = machine.named(machine.starts())
                wanted = (_NOT_YET if _decides(act) or act.startswith("write") else _DONE)[move]
                step = f"the default is being {_WORDS[move]}; the power is cut instead of: {act}"
                machine.tell(step, f"{kernel} starts", right=kernel == f"the {wanted} kernel")
    for move in ("close", "open"):
        _through(machine, move)


def _through(machine: Machine, move: str) -> None:
    """Cut where the record and the loader disagree: before the hold is written, and after it is taken away."""
    with machine.resumed(_STATES[move]) as guest:
        if move == "open":
            guest.ask(MEND)
        act = _cut(guest, move, 1)
    with machine.started() as guest:
        came_up(machine, guest.ending, guest.kernel, "newest")
        status = guest.ask(SETTLED).output
        left = guest.words("ls /var/lib/safeupdate/levers")
        seen = f"{status.splitlines()[0]} Records: {left or 'none'}."
        right = status.startswith("OPEN") and not left
        machine.tell(f"the default is being {_WORDS[move]}; cut instead of: {act}; once it is up", seen, right=right)


def _decides(act: str) -> bool:
    return act.startswith(("overwrite", "bootctl set-default"))


def _cut(guest: Running, move: str, number: int) -> str:
    """The act in whose place the power was cut; empty where there are not so many."""
    path = guest.put("lever.py", _LEVER)
    with suppress(GuestError):
        guest.ask(f"python3 -I {path} {move} {number}")
    while not guest.guest.ended and "instead of: " in guest.guest.console.last():
        guest.guest.poll(1.0)
    acts: list[str] = _ACT.findall(guest.guest.console.text())
    if guest.guest.ended and not acts:
        raise GuestError("the machine ended, and not where it was to")
    return acts[-1].strip() if acts else ""
