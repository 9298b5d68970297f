"""`inhibitor`: a lock of systemd-inhibit(1), which has the reason that a refusal by systemd itself does not give.

Only where the configuration asks for it: it holds power-off back too. It binds root since systemd 257.
"""

from __future__ import annotations

from safeupdate.gate import systemd
from safeupdate.gate.host import Host, NotDone
from safeupdate.gate.lever import Lever, Order, State

NAME = "inhibitor"

_UNIT = "safeupdate-inhibitor.service"


def state(host: Host) -> State:
    """How it stands."""
    if not systemd.runs(host.machine):
        return State("not-here", "systemd does not run here.")
    if systemd.show(host, _UNIT, "ActiveState").get("ActiveState") in ("active", "activating"):
        return State("closed", "A lock holds reboots back, and power-off too (`systemd-inhibit --list` shows it).")
    return State("open", "No lock of ours is held.")


def close(host: Host, order: Order) -> State:
    """Take the lock. It is a service of the runtime, and ends with the boot."""
    found = state(host)
    if found.position != "open" or systemd.offline_update(host):
        return found
    lock = ["systemd-inhibit", "--what=shutdown", "--mode=block", "--who=safeupdate", f"--why={order.why}"]
    service = ["systemd-run", f"--unit={_UNIT}", "--collect", "--quiet", "--description=safeupdate holds reboots back"]
    done = host.run([*service, "--", *lock, "sleep", "infinity"], systemd.SECONDS)
    if done.code:
        raise NotDone("systemd-run", done.stderr.decode("utf-8", "replace").strip())
    return state(host)


def reopen(host: Host) -> State:
    """Let the lock go."""
    found = state(host)
    if found.position != "closed":
        return found
    host.run(["systemctl", "stop", _UNIT], systemd.SECONDS)
    return state(host)


LEVER = Lever(NAME, "a lock with the reason, which holds power-off back too", state, close, reopen, opt_in=True)
