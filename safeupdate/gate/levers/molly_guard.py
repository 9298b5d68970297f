"""`molly-guard`: `reboot` and `shutdown -r` tell a person why not, where molly-guard is installed.

Its script (plugins/molly-guard/50-safeupdate) prints the file that this lever writes, and refuses while there is one.
"""

from __future__ import annotations

from safeupdate.gate.host import RUN, Host
from safeupdate.gate.lever import Lever, Order, State

NAME = "molly-guard"

REFUSED = f"{RUN}/refused"

_SCRIPT = "/etc/molly-guard/run.d/50-safeupdate"
_PROGRAM = "/lib/molly-guard/molly-guard"

_HELP = """\
What is wrong, and what helps:     safeupdate status
To reboot all the same:            safeupdate allow --reason TEXT
If safeupdate itself is broken:    safeupdate-open
"""


def state(host: Host) -> State:
    """How it stands."""
    machine = host.machine
    if not machine.is_file(_PROGRAM) or not machine.is_file(_SCRIPT):
        return State("not-here", "molly-guard is not installed.")
    if machine.is_file(REFUSED):
        return State("closed", "molly-guard refuses `reboot` and `shutdown -r`.")
    return State("open", "molly-guard does not refuse reboots for our sake.")


def close(host: Host, order: Order) -> State:
    """Write what it is to say."""
    found = state(host)
    if found.position == "not-here":
        return found
    text = f"safeupdate holds reboots back: {order.why}\n{_HELP}".encode("utf-8", "replace")
    if host.machine.read_if_there(REFUSED) != text:
        host.write(REFUSED, text)
    return state(host)


def reopen(host: Host) -> State:
    """Remove it."""
    host.remove(REFUSED)
    return state(host)


LEVER = Lever(NAME, "molly-guard says why not", state, close, reopen)
