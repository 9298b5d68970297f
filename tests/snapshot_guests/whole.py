"""The whole way: a snapshot, an update, a kernel that does not start, the fallback, the undo, the old state."""

from __future__ import annotations

import json
from typing import Any

from tests.gate_guests.machine import SETTLED, Lost, Running
from tests.gate_guests.states import BREAK
from tests.snapshot_guests.machine import Machine

_BEFORE = """
echo before > /etc/lab-state
echo kept > /usr/share/lab-file
sync
"""

_AFTER = """
set -e
echo after > /etc/lab-state
rm /usr/share/lab-file
export DEBIAN_FRONTEND=noninteractive
"""

_KERNEL = f"""
{_AFTER}
mkdir -p /mnt/packages
mount -o ro /dev/disk/by-label/packages /mnt/packages
rm -f /etc/apt/sources.list.d/*
echo 'deb [trusted=yes] file:/mnt/packages/kernel ./' > /etc/apt/sources.list
apt-get -q update
apt-get -q --yes install "$(cat /mnt/packages/kernel/name)"
sync
"""

_AGAIN = f"""
{_AFTER}
dpkg-reconfigure -f noninteractive "linux-image-$(ls /lib/modules | sort -V | tail -n 1)"
sync
"""

_STATE = """
cat /etc/lab-state
cat /usr/share/lab-file 2> /dev/null || echo gone
"""

_ASIDE = """
set -e
mount -o subvol=/ "$(findmnt -n -o SOURCE / | cut -d '[' -f 1)" /mnt
btrfs subvolume list /mnt
btrfs subvolume delete "/mnt/@.before-undo-{number}"
umount /mnt
"""

_MERGED = """
export LVM_SUPPRESS_FD_WARNINGS=1
lvs -a vg0
by=itself
for i in $(seq 120); do
	lvs -a --noheadings -o lv_merging vg0 | grep -q merging || break
	# The kernel has the old content at once; that it is all there is to be noticed by LVM.
	if [ "$i" = 24 ]; then by='lvchange --poll y'; lvchange --poll y vg0/root; fi
	sleep 5
done
lvs -a vg0
if lvs -a --noheadings -o lv_merging vg0 | grep -q merging; then by=nothing; fi
echo "ended by $by"
"""


def run(machine: Machine) -> None:
    """From the snapshot to the old state, twice started."""
    with machine.begun() as guest:
        guest.ask(_BEFORE)
        number = take(machine, guest)
        updated = guest.ask(_AGAIN if machine.kind == "zfs" else _KERNEL)
        newest = guest.words("ls /lib/modules | sort -V | tail -n 1")
        what = f"{newest} is configured anew" if machine.kind == "zfs" else f"{newest} is installed"
        machine.tell("the update", f"{what}; {updated.code}", right=updated.code == 0)
        guest.ask(BREAK)
        guest.ask("safeupdate settle")
        status = first(guest, "safeupdate status")
        machine.tell("its initramfs is cut off; status", status, right=status.startswith("CLOSED"))
        machine.tell("`reboot -f`", became := guest.goes("reboot -f", 900), right=became == "reboots")
    with machine.started() as guest:
        came_up(machine, guest)
        words = guest.words(_STATE).split()
        machine.tell("the state there", words[0], right=words == ["after", "gone"])
        undo(machine, guest, number)
        status = first(guest, "safeupdate status")
        machine.tell("status after it", status, right=status.startswith("OPEN"))
        machine.tell("`systemctl reboot`", became := guest.goes("systemctl reboot", 900), right=became == "reboots")
    with machine.started() as guest:
        came_up(machine, guest)
        _is_old(machine, guest, newest)
        _is_over(machine, guest, number)
        machine.tell("`reboot -f`", became := guest.goes("reboot -f", 900), right=became == "reboots")
    with machine.started() as guest:
        came_up(machine, guest)
        _is_old(machine, guest, newest)
        status = first(guest, SETTLED)
        machine.tell("status then", status, right=status.startswith("OPEN"))


def take(machine: Machine, guest: Running) -> int:
    """A snapshot by hand; its number. Raises `Lost` where there is none."""
    done = guest.ask("safeupdate snapshot create")
    machine.tell("`safeupdate snapshot create`", last(done.output), right=done.code == 0)
    guest.ask("safeupdate snapshot list; lvs -a; zfs list -t all -r rpool/ROOT")
    numbers = [one["number"] for one in listed(guest) if one["kind"] == "by-hand" and one["state"] == "whole"]
    if done.code != 0 or not numbers:
        raise Lost(f"no snapshot was taken:\n{done.output}")
    return int(numbers[-1])


def listed(guest: Running) -> list[dict[str, Any]]:
    """What `safeupdate snapshot list` knows of each."""
    said = guest.ask("safeupdate snapshot list --json 2> /dev/null").output
    found: list[dict[str, Any]] = json.loads(said)["snapshots"]
    return found


def undo(machine: Machine, guest: Running, number: int) -> None:
    """The plan is printed, and executed."""
    printed = guest.ask(f"safeupdate snapshot undo {number}")
    steps = sum(line.startswith("       ") for line in printed.output.splitlines())
    step = "`safeupdate snapshot undo`"
    machine.tell(step, f"{steps} commands; {printed.code}", right=printed.code == 0 and steps > 0)
    done = guest.ask(f"safeupdate snapshot undo {number} --execute")
    machine.tell(f"{step} `--execute`", last(done.output), right=done.code == 0)
    guest.ask("lvs -a; zfs list -r rpool/ROOT; ls -l /boot /boot/grub; sync")
    if done.code != 0:
        raise Lost("the undo was not executed")


def _is_old(machine: Machine, guest: Running, newest: str) -> None:
    words = guest.words(_STATE).split()
    source = guest.words("findmnt -n -o SOURCE /")
    machine.tell("the state there", f"{words[0]}, on {source}", right=words == ["before", "kept"])
    if machine.kind != "zfs":
        there = guest.words(f"ls -d /lib/modules/{newest}; dpkg-query -W -f '${{Status}}' linux-image-{newest}")
        gone = f"/lib/modules/{newest}" not in there.split() and "install ok installed" not in there
        machine.tell("the kernel that the update brought", "is not there" if gone else "is there", right=gone)


def _is_over(machine: Machine, guest: Running, number: int) -> None:
    if machine.kind == "zfs":
        aside = f"rpool/ROOT/debian_before-undo-{number}"
        done = guest.ask(f"zfs list -o name,origin,canmount,mounted -r rpool/ROOT; zfs destroy -r {aside}")
        machine.tell("`zfs destroy` of what was set aside", str(done.code), right=done.code == 0)
        done = guest.ask(f"safeupdate snapshot delete {number}")
        machine.tell("`safeupdate snapshot delete`", last(done.output), right=done.code == 0)
    elif machine.kind == "btrfs":
        done = guest.ask(_ASIDE.format(number=number))
        machine.tell("`btrfs subvolume delete` of what was set aside", str(done.code), right=done.code == 0)
        guest.ask("safeupdate snapshot list")
        done = guest.ask(f"safeupdate snapshot delete {number}")
        machine.tell("`safeupdate snapshot delete`", last(done.output), right=done.code == 0)
    else:
        merged = last(guest.ask(_MERGED).output)
        machine.tell("the merge", merged, right=merged != "ended by nothing")
    # Its manifest is a part of the old state.
    left = next((str(one["state"]) for one in listed(guest) if one["number"] == number), "not there")
    machine.tell("`safeupdate snapshot list` of it", left, right=left in ("gone", "not there"))


def came_up(machine: Machine, guest: Running) -> None:
    """That the boot led to multi-user, on a kernel from before the update. Raises `Lost`."""
    named = machine.named(guest.kernel)
    right = guest.ending == "up" and guest.kernel in machine.kernels
    machine.tell("the next boot", f"{guest.ending}, on {named}", right=right)
    if guest.ending != "up":
        raise Lost(f"{machine.base.name} did not come up")


def first(guest: Running, script: str) -> str:
    """The first line of what it says that is of the gate."""
    lines = guest.words(script).splitlines()
    return next((line for line in lines if line.startswith(("OPEN", "CLOSED"))), (lines or [""])[0])


def last(text: str) -> str:
    """The last line."""
    return (text.strip().splitlines() or [""])[-1]
