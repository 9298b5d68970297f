"""The power is cut between any two acts of holding the loader's default and of letting it go: which kernel starts then.

The machine resets itself at once (SysRq, `b`), before it syncs anything, in the place of an act of the lever.
"""

from __future__ import annotations

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
    print(what, flush=True)
    if left == 0:
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
print("steering:", steering.read(Machine.here()))
if left >= 0:
    act("the end")
"""

_STATES = {"close": "armed", "open": "closed"}
_FIRST = {"close": "newest", "open": "older"}
_THEN = {"close": "older", "open": "newest"}
_WORDS = {"close": "closing", "open": "opening"}


def run(machine: Machine) -> None:
    """Every point of both ways, then one of each seen through until the machine is up and has settled."""
    for move in ("close", "open"):
        with machine.resumed(_STATES[move]) as guest:
            done = guest.ask(f"python3 -I {guest.put('lever.py', _LEVER)} {move} -1")
            acts = [line for line in done.output.splitlines() if not line.startswith("steering:")]
        decides = next(n for n, act in enumerate(acts) if act.startswith(("overwrite", "bootctl set-default")))
        for number, act in enumerate([*acts, "the end"]):
            with machine.resumed(_STATES[move]) as guest:
                _cut(guest, move, number)
            kernel = machine.named(machine.starts())
            wanted = f"the {(_THEN if number > decides else _FIRST)[move]} kernel"
            machine.tell(f"{_WORDS[move]}, cut before: {act}", f"{kernel} starts", right=kernel == wanted)
        # Before the hold is written, its record is there; after it is taken away, its record still is.
        number = decides if move == "close" else decides + 1
        with machine.resumed(_STATES[move]) as guest:
            if move == "open":
                guest.ask(MEND)
            _cut(guest, move, number)
        with machine.started() as guest:
            came_up(machine, guest.ending, guest.kernel, "newest")
            status = guest.ask(SETTLED).output
            left = guest.words("ls /var/lib/safeupdate/levers")
            machine.tell(
                f"{_WORDS[move]}, cut before: {[*acts, 'the end'][number]}; status once it is up",
                f"{status.splitlines()[0]} Records: {left or 'none'}.",
                right=status.startswith("OPEN") and not left,
            )


def _cut(guest: Running, move: str, number: int) -> None:
    path = guest.put("lever.py", _LEVER)
    became = guest.goes(f"python3 -I {path} {move} {number}", 900)
    if became == "stays up":
        raise GuestError("the machine did not reset itself")
