"""Every reboot command, with the gate closed and with it open: the table of docs/gate.md, in machines that boot."""

from __future__ import annotations

from safeupdate.rehearsal.agent import DIRECTORY
from tests.gate_guests.machine import Machine, Running

_LOGIN1 = "busctl call org.freedesktop.login1 /org/freedesktop/login1 org.freedesktop.login1.Manager"

_SOFT = ("systemctl soft-reboot", "systemctl start soft-reboot.target", "kill -RTMIN+7 1")
"""systemd 254 and later."""

_HELD = (
    "systemctl reboot",
    "reboot",
    "shutdown -r now",
    "init 6",
    "telinit 6",
    "systemctl start reboot.target",
    "systemctl start kexec.target",
    "systemctl start ctrl-alt-del.target",
    "systemctl isolate reboot.target",
    f"{_LOGIN1} Reboot b false",
    f"{_LOGIN1} RebootWithFlags t 1",
    f"{_LOGIN1} ScheduleShutdown st reboot $(date -d '1 second' +%s000000)",
    "kill -RTMIN+5 1",
    "kill -RTMIN+6 1",
    "kill -INT 1",
    "systemd-run --wait --property=FailureAction=reboot false",
)

_KEXEC = ("systemctl kexec", "reboot", "shutdown -r now")
"""With a kernel loaded for kexec."""

_NOT_HELD = {
    "reboot -f": "reboots",
    "systemctl reboot --force": "reboots",
    "echo b > /proc/sysrq-trigger": "ends",
    "systemctl poweroff": "powers off",
    "shutdown -h now": "powers off",
    "poweroff": "powers off",
    "kill -RTMIN+4 1": "powers off",
    "halt": "halts",
}

_LOAD = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
kernel, image = (os.open(path, os.O_RDONLY) for path in sys.argv[1:])
with open("/proc/cmdline", "rb") as file:
    line = file.read().strip() + b"\\0"
done = libc.syscall(320, kernel, image, ctypes.c_ulong(len(line)), line, ctypes.c_ulong(0))
print(done, os.strerror(ctypes.get_errno()))
"""
"""kexec_file_load(2), on x86-64: the machines have no kexec-tools."""

_KEYS = [{"type": "qcode", "data": key} for key in ("ctrl", "alt", "delete")]

_VERSION = "systemctl --version | sed -n '1s/^systemd \\([0-9]*\\).*/\\1/p'"

_ANSWERS = """
for i in $(seq 100); do
	systemctl show --property=Version && busctl --timeout=5 call org.freedesktop.systemd1 /org/freedesktop/systemd1 \\
		org.freedesktop.DBus.Peer Ping && break
	sleep 1
done
"""
"""After daemon-reexec it takes systemd a while to be back, for systemctl and on the bus."""

_STANDS = """
cat /proc/sys/kernel/random/boot_id
systemctl is-system-running | sed s/degraded/running/
systemctl list-jobs --no-legend | grep -E 'reboot|kexec|shutdown|soft'
systemctl show --property=SoftRebootsCount --value
"""


def closed(machine: Machine) -> None:
    """With the gate closed."""
    with machine.resumed("closed") as guest:
        version = int(guest.words(_VERSION))
        before = guest.words(_STANDS)
        for command in (*_HELD, *(_SOFT if version >= 254 else ())):
            _refused(machine, guest, command, before)
        guest.ask("sleep 5")
        for command in ("systemctl daemon-reload", "systemctl daemon-reexec"):
            guest.ask(f"{command}{_ANSWERS}")
            _refused(machine, guest, "systemctl reboot", before, f", after `{command}`")
        guest.guest.ask("send-key", keys=_KEYS)
        guest.ask("sleep 10")
        stands = guest.words(_STANDS) == before
        machine.tell("Ctrl-Alt-Del once", "stays up" if stands else "is on its way down", right=stands)
        if _loaded(guest):
            for command in _KEXEC:
                _refused(machine, guest, command, before, ", a kernel loaded for kexec")
        else:
            machine.tell("`systemctl kexec`", "no kernel could be loaded", right=False)
    for command, wanted in _NOT_HELD.items():
        with machine.resumed("closed") as guest:
            became = guest.goes(command, 900)
            machine.tell(f"`{command}`", became, right=became == wanted)
    with machine.resumed("closed") as guest:
        guest.guest.ask("system_powerdown")
        became = guest.goes("true", 900)
        machine.tell("the power button (ACPI)", became, right=became == "powers off")
    with machine.resumed("closed") as guest:
        for _ in range(10):
            # Each key is held down for, and let go after, a tenth of a second, if nothing else is said.
            guest.guest.ask("send-key", keys=_KEYS, **{"hold-time": 20})
        became = guest.goes("true", 300)
        machine.tell("Ctrl-Alt-Del ten times within two seconds", became, right=became in ("reboots", "ends"))


def opened(machine: Machine) -> None:
    """With the gate open."""
    version = 0
    for command in _HELD:
        with machine.resumed("armed") as guest:
            version = version or int(guest.words(_VERSION))
            became = guest.goes(command, 900)
            machine.tell(f"`{command}`", became, right=became == "reboots")
    for command in _SOFT if version >= 254 else ():
        with machine.resumed("armed") as guest:
            _soft(machine, guest, command)
    for command in _KEXEC:
        with machine.resumed("armed") as guest:
            _loaded(guest)
            became = guest.goes(command, 900)
            # shutdown(8) and reboot(8) take the loaded kernel since systemd 230; `systemctl reboot` never does.
            machine.tell(f"`{command}`, a kernel loaded for kexec", became, right=became in ("kexec", "reboots"))


def _refused(machine: Machine, guest: Running, command: str, before: str, when: str = "") -> None:
    done = guest.ask(f"{command} 2>&1", 900)
    stands = guest.words(_STANDS) == before
    said = [line for line in done.output.splitlines() if "denied" in line or "masked" in line or "refused" in line]
    words = f"; {done.code}{', ' + said[0].strip() if said else ''}"
    machine.tell(f"`{command}`{when}", f"stays up{words}" if stands else f"is on its way down{words}", right=stands)


def _loaded(guest: Running) -> bool:
    path = guest.put("load.py", _LOAD)
    release = "$(uname -r)"
    guest.ask(f"python3 -I {path} /boot/vmlinuz-{release} /boot/initrd.img-{release}")
    return guest.words("cat /sys/kernel/kexec_loaded") == "1"


def _soft(machine: Machine, guest: Running, command: str) -> None:
    """Its processes are started anew, the agent too. /run stays, and what is put into a file there is appended."""
    guest.goes(f"rm {DIRECTORY}/script; {command}", 5)
    began = guest.guest.seconds
    while guest.guest.poll(1.0) and not guest.agent.ready and guest.guest.seconds - began < 900:
        pass
    guest.guest.port.clear()
    count = guest.words("systemctl show --property=SoftRebootsCount --value")
    machine.tell(f"`{command}`", "starts its processes anew" if count == "1" else "stays up", right=count == "1")
