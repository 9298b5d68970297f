"""What goes wrong: no room in a pool, a snapshot that overflows, the power that is cut."""

from __future__ import annotations

import re

from tests.gate_guests.machine import Running
from tests.snapshot_guests.machine import Machine
from tests.snapshot_guests.whole import came_up, last, listed, take

_FILL = """
export LVM_SUPPRESS_FD_WARNINGS=1
used() { lvs --noheadings -o "$1" vg0/pool | tr -d ' ' | cut -d . -f 1; }
fill() { dd if=/dev/zero of=/dev/vg0/fill bs="$1" seek="$2" count="$3" oflag=direct conv=notrunc 2> /dev/null; }
lvcreate -y -V 4g --thinpool pool -n fill vg0
"""

_METADATA = f"""{_FILL}
fill 1M 0 512
copy=0
# Each write to another leaf of the tree of blocks, which the last copy shares, makes a new one.
while [ "$(used metadata_percent)" -lt 76 ] && [ "$copy" -lt 60 ]; do
	lvcreate -y -q -s -n "copy$copy" vg0/fill
	for at in $(seq 0 63); do fill 64k $((at * 128)) 1; done
	copy=$((copy + 1))
done
lvs -a -o +data_percent,metadata_percent vg0
"""

_DATA = f"""{_FILL}
at=0
while [ "$(used data_percent)" -lt 77 ] && [ "$at" -lt 62 ]; do
	fill 1M $((at * 64)) 64
	at=$((at + 1))
done
lvs -a -o +data_percent,metadata_percent vg0
"""

_EMPTY = """
export LVM_SUPPRESS_FD_WARNINGS=1
lvremove -y $(lvs --noheadings -o vg_name,lv_name --separator / vg0 | tr -d ' ' | grep -E '/(fill|copy[0-9]+)$')
"""

_OURS = "LVM_SUPPRESS_FD_WARNINGS=1 lvs -a --noheadings -o lv_name vg0 | grep -c _safeupdate_"


def full(machine: Machine) -> None:
    """Too little is left of the metadata, then of the data; then there is room again."""
    with machine.begun() as guest:
        for what, script in (("metadata", _METADATA), ("data", _DATA)):
            guest.ask(script)
            used = guest.words(f"lvs --noheadings -o {what}_percent vg0/pool")
            done = guest.ask("safeupdate snapshot create")
            right = done.code != 0 and f"the {what} of the thin pool vg0/pool has" in done.output
            said = re.search(rf"the {what} of .*?needed", done.output)
            machine.tell(f"{used} % of the {what} in use", said[0] if said else last(done.output), right=right)
            left = guest.words(_OURS)
            machine.tell("snapshots of ours then", left, right=left == "0")
            guest.ask(_EMPTY)
        take(machine, guest)


_OVERFLOW = """
export LVM_SUPPRESS_FD_WARNINGS=1
for at in $(seq 0 23); do
	lvs --noheadings -o lv_snapshot_invalid vg0 | grep -q invalid && break
	dd if=/dev/zero of=/var/tmp/fill bs=1M seek=$((at * 64)) count=64 conv=notrunc,fsync
done
rm /var/tmp/fill
sync
lvs -a -o +lv_snapshot_invalid vg0
"""


def overflow(machine: Machine) -> None:
    """More is written than it can hold: the snapshot is lost, the machine is not."""
    with machine.begun() as guest:
        number = take(machine, guest)
        guest.ask(_OVERFLOW)
        _told(machine, guest, number)
        done = guest.ask(f"safeupdate snapshot undo {number} --execute")
        machine.tell("`safeupdate snapshot undo`", last(done.output), right=done.code == 1)
        machine.tell("`reboot -f`", became := guest.goes("reboot -f", 900), right=became == "reboots")
    with machine.started() as guest:
        came_up(machine, guest)
        _told(machine, guest, number)
        done = guest.ask(f"safeupdate snapshot delete {number}")
        machine.tell("`safeupdate snapshot delete`", last(done.output), right=done.code == 0)
        left = guest.words(_OURS)
        machine.tell("snapshots of ours then", left, right=left == "0")
        take(machine, guest)


def _told(machine: Machine, guest: Running, number: int) -> None:
    problem = next((one["problem"] for one in listed(guest) if one["number"] == number), None) or "nothing"
    machine.tell("`safeupdate snapshot list` of it", problem, right="overflowed" in problem)


_CUT = """
import sys, time
from safeupdate import cli
from safeupdate.commands import snapshot
from safeupdate.gate.host import Host

point, acting = sys.argv[1], snapshot.acting

def cut():
    with open("/proc/sysrq-trigger", "w") as file:
        file.write("b")
    time.sleep(60)

class Dying(Host):
    def write(self, path, data, mode=0o644):
        if point == "before its manifest" and path.endswith("/manifest.json"):
            cut()
        super().write(path, data, mode)
    def run(self, command, timeout):
        if point == "before it" and command[0] == "lvcreate":
            cut()
        done = super().run(command, timeout)
        if point == "right after it" and command[0] == "lvcreate":
            cut()
        return done

snapshot.acting = lambda: Dying(acting().machine, acting().now)
sys.exit(cli.main(["snapshot", "create"]))
"""

_POINTS = {
    "before its manifest": (0, "was not begun"),
    "before it": (0, "is removed"),
    "right after it": (1, ""),
}
"""How many snapshots are there then, and what the next `create` says of what was cut off."""


def cut(machine: Machine) -> None:
    """Before and after each thing that is to be on the disk before the next one."""
    with machine.begun() as guest:
        _die(machine, guest, next(iter(_POINTS)))
    for point, following in zip(_POINTS, [*list(_POINTS)[1:], ""]):
        with machine.started() as guest:
            came_up(machine, guest)
            wanted, words = _POINTS[point]
            there = guest.words(_OURS)
            states = ", ".join(f"{one['number']} {one['state']}" for one in listed(guest)) or "none"
            right = there == str(wanted) and states.count("whole") == wanted
            machine.tell(f"the power was cut {point}; `list`", f"{states}; LVM has {there}", right=right)
            done = guest.ask("safeupdate snapshot create")
            told = " ".join(done.output.split())
            machine.tell("the next `create`", told, right=done.code == 0 and words in told)
            for one in listed(guest):
                guest.ask(f"safeupdate snapshot delete {one['number']}")
            left = guest.words(f"{_OURS}; ls /var/lib/safeupdate/snapshots | grep -c '^[0-9]'")
            machine.tell("all deleted: snapshots and manifests left", left.replace("\n", ", "), right=left == "0\n0")
            if following:
                _die(machine, guest, following)


def _die(machine: Machine, guest: Running, point: str) -> None:
    path = guest.put("cut.py", _CUT)
    became = guest.goes(f"python3 -I {path} '{point}'", 900)
    machine.tell(f"a snapshot is taken; {point}", became, right=became == "ends")
