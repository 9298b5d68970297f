"""What people said: that a reboot is allowed against the verdict, and that a kernel is not wanted.

Both lie in /var/lib/safeupdate until they are used up or taken back. One that is damaged permits nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from safeupdate.gate import document
from safeupdate.gate.document import Damaged
from safeupdate.gate.host import VAR, Host
from safeupdate.machine import Machine

ALLOWED = f"{VAR}/allowed.json"
REJECTED = f"{VAR}/rejected.json"

_LIMIT = 1 << 16

_NOT_MEANT = {"loader-state", "config", "program"}
"""Parts of a fingerprint that a permission does not hang on: loaders count boots; a rule, or who judges by it, changes
no file."""


@dataclass(frozen=True)
class Allowed:
    """A person let a reboot through against the verdict. `kernel` was to start next then, made of `parts`. `boot_id` is
    the boot in which it was said, and `once` that it ends with it."""

    reason: str
    by: str
    time: str
    boot_id: str | None
    once: bool
    kernel: str | None
    parts: Mapping[str, str] = field(default_factory=dict, hash=False)

    def is_for(self, parts: Mapping[str, str], *, boot_id: str | None, running: str | None) -> bool:
        """Whether it still holds: nothing that boots next has changed, and no boot since came up on another kernel."""
        if not parts or _meant(parts) != _meant(self.parts):
            return False
        return boot_id == self.boot_id or (not self.once and running == self.kernel)


@dataclass(frozen=True)
class Rejected:
    """A kernel that a person does not want to be started by itself."""

    kernel: str
    reason: str
    by: str
    time: str


def allowed(machine: Machine) -> Allowed | None:
    """What was allowed, whether it still holds or not. Raises `Damaged` and `Unreadable`."""
    found = document.read(machine, ALLOWED, limit=_LIMIT)
    if found is None:
        return None
    kinds = {"reason": str, "by": str, "time": str, "once": bool, "parts": dict}
    if not all(isinstance(found.get(name), kind) for name, kind in kinds.items()):
        raise Damaged(ALLOWED, "nothing is allowed by it")
    return Allowed(
        reason=found["reason"],
        by=found["by"],
        time=found["time"],
        boot_id=_text(found.get("boot_id")),
        once=found["once"],
        kernel=_text(found.get("kernel")),
        parts={str(name): str(part) for name, part in found["parts"].items()},
    )


def rejected(machine: Machine) -> tuple[Rejected, ...]:
    """The kernels that are not wanted. Raises `Damaged` and `Unreadable`."""
    found = document.read(machine, REJECTED, limit=_LIMIT)
    if found is None:
        return ()
    kernels = found.get("kernels")
    names = ("kernel", "reason", "by", "time")
    if not isinstance(kernels, list) or not all(
        isinstance(one, dict) and all(isinstance(one.get(name), str) for name in names) for one in kernels
    ):
        raise Damaged(REJECTED, "which kernels are not wanted is not known")
    return tuple(Rejected(*(one[name] for name in names)) for one in kernels)


def allow(host: Host, permission: Allowed) -> None:
    """Write it down. Raises `NotDone`."""
    host.write(ALLOWED, document.text(asdict(permission)), mode=0o600)


def end_permission(host: Host) -> None:
    """Take it back. Raises `NotDone`."""
    host.remove(ALLOWED)


def reject(host: Host, kernels: tuple[Rejected, ...]) -> None:
    """Write down all that are not wanted from now on. Raises `NotDone`."""
    if kernels:
        host.write(REJECTED, document.text({"kernels": [asdict(one) for one in kernels]}), mode=0o600)
    else:
        host.remove(REJECTED)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _meant(parts: Mapping[str, str]) -> dict[str, str]:
    return {name: part for name, part in parts.items() if name not in _NOT_MEANT}
