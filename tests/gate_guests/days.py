"""What happens to a machine over time: reboots and bad kernels in turn, an offline update, no room and no writing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.gate_guests.fallback import came_up
from tests.gate_guests.machine import SETTLED, Machine, Running
from tests.gate_guests.states import BREAK, MEND

_LOSE = """
newest=$(ls /lib/modules | sort -V | tail -n 1)
[ -e /var/tmp/initramfs ] || cp "/boot/initrd.img-$newest" /var/tmp/initramfs
rm "/boot/initrd.img-$newest"
sync
"""


def reboots(machine: Machine) -> None:
    """Ten, in every way, with two bad kernels in between."""
    with machine.resumed("armed") as guest:
        _goes(machine, guest, 1, "systemctl reboot")
    with _up(machine, "newest", "OPEN") as guest:
        _goes(machine, guest, 2, "shutdown -r now")
    with _up(machine, "newest", "OPEN") as guest:
        _settle(machine, guest, BREAK, "the first bad kernel", 4)
        _goes(machine, guest, 3, "reboot -f")
    with _up(machine, "older", "CLOSED") as guest:
        machine.tell("the power", "is cut: start 4", right=True)
        guest.ask("true")
    with _up(machine, "older", "CLOSED") as guest:
        _goes(machine, guest, 5, "systemctl poweroff", "powers off")
    with _up(machine, "older", "CLOSED") as guest:
        _settle(machine, guest, MEND, "it is mended", 0)
        _goes(machine, guest, 6, "systemctl reboot")
    with _up(machine, "newest", "OPEN") as guest:
        _settle(machine, guest, _LOSE, "the second bad kernel", 4)
        _goes(machine, guest, 7, "echo b > /proc/sysrq-trigger", "ends")
    with _up(machine, "older", "CLOSED") as guest:
        _settle(machine, guest, MEND, "it is mended", 0)
        _goes(machine, guest, 8, "reboot")
    with _up(machine, "newest", "OPEN") as guest:
        _goes(machine, guest, 9, "reboot -f")
    with _up(machine, "newest", "OPEN") as guest:
        _goes(machine, guest, 10, "systemctl reboot")
    with _up(machine, "newest", "OPEN") as guest:
        _no_nologin(machine, guest)


_UPDATE = """
set -e
cat > /etc/systemd/system/offline.service <<END
[Unit]
DefaultDependencies=no
Requires=sysinit.target
After=sysinit.target system-update-pre.target
Before=shutdown.target system-update.target
FailureAction=reboot
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'rm /system-update; uname -r > /var/tmp/updated; systemctl reboot'
END
mkdir -p /etc/systemd/system/system-update.target.wants
ln -s ../offline.service /etc/systemd/system/system-update.target.wants/
ln -s /var/cache /system-update
systemctl daemon-reload
sync
"""
"""As systemd.offline-updates(7) asks of a program that updates, which here just ends."""


def offline(machine: Machine) -> None:
    """An update with all else stopped, asked for while the gate is closed."""
    with machine.resumed("closed") as guest:
        guest.ask(_UPDATE)
        settled = guest.ask("safeupdate settle; safeupdate status")
        told = "reboot-target:" in settled.output and "closed    reboot-target" not in settled.output
        machine.tell("asked for with the gate closed, `settle`", _first(settled.output), right=told)
        _goes(machine, guest, 1, "systemctl reboot")
    with machine.started() as guest:
        seen = f"{guest.ending}, on {machine.named(guest.kernel)}"
        machine.tell("the update runs, and reboots", seen, right=guest.ending == "ended")
    with _up(machine, "older", "CLOSED") as guest:
        updated = machine.named(guest.words("cat /var/tmp/updated"))
        machine.tell("the update ran", f"on {updated}", right=updated == "the older kernel")
        refused = guest.ask("systemctl reboot")
        machine.tell("`systemctl reboot` after it", _last(refused.output), right=refused.code == 1)


_WAIT = """
for i in $(seq 170); do [ -e /run/systemd/shutdown/scheduled ] || break; sleep 1; done
ls /run/systemd/shutdown
"""


_APART = """
mount -t tmpfs -o size=8m agent /run/safeupdate-rehearsal
: > /run/safeupdate-rehearsal/output
"""
"""Who does what is asked keeps its own room."""

_FULL = """
mount -o "remount,size=$(df --output=used -k /run | tail -n 1 | tr -d ' ')k" /run
dd if=/dev/zero of=/run/fill bs=4k
df /run
"""

_EMPTY = """
rm -f /run/fill
mount -o remount,size=20% /run
"""


def rooms(machine: Machine) -> None:
    """/run is full, /var is read-only, a reboot is scheduled into a closed gate."""
    with machine.resumed("armed") as guest:
        guest.ask(_APART)
        guest.ask(_FULL)
        guest.ask(BREAK)
        _shows(machine, guest, "/run full, a bad kernel: `settle`", 1)
        refused = guest.ask("systemctl reboot")
        machine.tell("`systemctl reboot` with /run full", _last(refused.output), right=refused.code == 1)
        guest.ask(_EMPTY)
        _shows(machine, guest, "room again: `settle`", 4)
        guest.ask(_FULL)
        guest.ask(MEND)
        _shows(machine, guest, "/run full, the kernel mended: `settle`", 1)
        guest.ask(_EMPTY)
        _shows(machine, guest, "room again: `settle`", 0)

        guest.ask("mount --bind /var /var && mount -o remount,bind,ro /var && ! touch /var/tmp/written")
        guest.ask(BREAK)
        _shows(machine, guest, "/var read-only, a bad kernel: `settle`", 1)
        guest.ask("umount --lazy /var")
        _shows(machine, guest, "/var writable again: `settle`", 4)
        guest.ask("mount --bind /var /var && mount -o remount,bind,ro /var")
        guest.ask(MEND)
        _shows(machine, guest, "/var read-only, the kernel mended: `settle`", 1)
        guest.ask("umount --lazy /var")
        _shows(machine, guest, "/var writable again: `settle`", 0)
    with machine.resumed("closed") as guest:
        guest.ask("shutdown -r +3; ls /run/nologin /run/systemd/shutdown")
        waiting = guest.words(_WAIT)
        machine.tell("`shutdown -r +3` with the gate closed", f"scheduled: {waiting or 'no more'}", right=not waiting)
        _no_nologin(machine, guest)
        guest.ask("systemctl stop safeupdate-settle.path safeupdate-settle.service; shutdown -r +1; sleep 90")
        left = guest.words("ls /run/systemd/shutdown; [ ! -e /run/nologin ] || echo /run/nologin")
        stays = guest.words("systemctl is-system-running") in ("running", "degraded")
        seen = f"{'stays up' if stays else 'is on its way down'}; there is left: {', '.join(left.split()) or 'nothing'}"
        machine.tell("`shutdown -r +1`, unnoticed until it is due", seen, right=stays)
        guest.ask("safeupdate settle")
        _no_nologin(machine, guest)


@contextmanager
def _up(machine: Machine, which: str, gate: str) -> Iterator[Running]:
    """The machine started, up on that kernel and at rest, with its gate so."""
    with machine.started() as guest:
        came_up(machine, guest.ending, guest.kernel, which)
        status = guest.ask(SETTLED).output
        machine.tell("status", _first(status), right=status.startswith(gate))
        yield guest


def _goes(machine: Machine, guest: Running, number: int, command: str, wanted: str = "reboots") -> None:
    became = guest.goes(command, 900)
    machine.tell(f"{number}: `{command}`", became, right=became == wanted)


def _settle(machine: Machine, guest: Running, script: str, what: str, code: int) -> None:
    guest.ask(script)
    _shows(machine, guest, f"{what}: `settle`", code)


def _shows(machine: Machine, guest: Running, step: str, code: int) -> None:
    settled = guest.ask("safeupdate settle")
    status = guest.ask("safeupdate status").output
    held = [line.split()[1].rstrip(":") for line in status.splitlines() if line.startswith("closed ")]
    seen = f"{settled.code}; {_first(status)} Held: {', '.join(held) or 'nothing'}."
    machine.tell(step, seen, right=settled.code == code)


def _no_nologin(machine: Machine, guest: Running) -> None:
    left = guest.words("ls /run/nologin 2> /dev/null")
    machine.tell("/run/nologin", left or "is not there", right=not left)


def _first(text: str) -> str:
    return (text.strip().splitlines() or [""])[0]


def _last(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]
