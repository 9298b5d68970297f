"""`reboot -f` into a kernel that does not boot, the loader's default held: back by itself, and onward from there."""

from __future__ import annotations

from tests.gate_guests.machine import SETTLED, Lost, Machine
from tests.gate_guests.states import MEND


def run(machine: Machine) -> None:
    """The whole way: held, back on the fallback, still held, mended, let go, on the newest kernel."""
    with machine.resumed("closed") as guest:
        guest.ask("safeupdate status; head -n 2 /boot/grub/custom.cfg; bootctl list --no-pager")
        machine.tell("`reboot -f`", became := guest.goes("reboot -f", 300), right=became == "reboots")
    onward(machine)


def onward(machine: Machine) -> None:
    """From the power on."""
    with machine.started() as guest:
        came_up(machine, guest.ending, guest.kernel, "older")
        status = guest.ask("safeupdate status").output
        machine.tell("status when it is up", status.splitlines()[0], right=status.startswith("CLOSED: reboots"))
        status = guest.ask(SETTLED).output
        machine.tell(
            "status once that boot is confirmed", status.splitlines()[0], right=status.startswith("CLOSED: reboots")
        )
        refused = guest.ask("systemctl reboot")
        stays = guest.ask("systemctl is-system-running; systemctl list-jobs --no-legend").output
        machine.tell(
            "`systemctl reboot` there",
            f"{refused.code}, {_last(refused.output)}",
            right=refused.code == 1 and "Access denied" in refused.output and "reboot" not in stays,
        )
        failed = guest.words("systemctl --failed --no-legend --plain | cut -d ' ' -f 1")
        machine.tell("failed units", failed or "none", right=failed == "safeupdate-alarm.service")
        guest.ask(MEND)
        settled = guest.ask("safeupdate settle")
        machine.tell("the initramfs mended, `settle`", _last(settled.output), right=settled.code == 0)
        status = guest.ask("safeupdate status").output
        machine.tell("status then", status.splitlines()[0], right=status.startswith("OPEN"))
        failed = guest.words("systemctl --failed --no-legend --plain | cut -d ' ' -f 1")
        machine.tell("failed units", failed or "none", right=not failed)
        machine.tell("`systemctl reboot`", became := guest.goes("systemctl reboot", 900), right=became == "reboots")
    with machine.started() as guest:
        came_up(machine, guest.ending, guest.kernel, "newest")
        status = guest.ask(SETTLED).output
        machine.tell("status then", status.splitlines()[0], right=status.startswith("OPEN"))


def came_up(machine: Machine, ending: str, kernel: str, which: str) -> None:
    """That the boot led to multi-user on the older or the newest kernel. Raises `Lost` where it did not come up."""
    named = machine.named(kernel)
    machine.tell("the next boot", f"{ending}, on {named}", right=ending == "up" and named == f"the {which} kernel")
    if ending != "up":
        raise Lost(f"{machine.base.name} did not come up")


def _last(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]
