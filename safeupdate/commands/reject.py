"""`safeupdate reject`: a kernel that is not wanted does not start by itself."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from safeupdate.commands import acting, note, settled, who
from safeupdate.errors import SafeupdateError, UsageError

if TYPE_CHECKING:
    from safeupdate.gate.host import Host
    from safeupdate.gate.permits import Rejected

    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]


def add(verbs: Verbs) -> None:
    """The verb's arguments."""
    parser = verbs.add_parser(
        "reject",
        help="keep a kernel from starting by itself",
        description="Hold the boot loader's default on the fallback for as long as it would start this kernel, by "
        "default the one that is next now. Exit code 0: done, 1: it starts all the same, or could not be told.",
    )
    parser.add_argument("kernel", metavar="KERNEL", nargs="?", help="the kernel release")
    parser.add_argument("--reason", metavar="TEXT", help="why; it is kept in the ledger")
    parser.add_argument("--withdraw", action="store_true", help="take it back, for KERNEL or for all")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write it down, settle, and say what starts."""
    from safeupdate.gate.words import headline
    from safeupdate.render import visible

    host = acting()
    if arguments.withdraw:
        _withdraw(host, arguments.kernel)
    else:
        reason = (arguments.reason or "").strip()
        if not reason:
            raise UsageError("reject needs a reason", "safeupdate reject --reason TEXT")
        _reject(host, arguments.kernel, reason)
    gate = settled(host)
    print(visible(headline(gate)))
    if gate.rejected is not None and not gate.held:
        words = gate.levers["boot-default"].words if "boot-default" in gate.levers else ""
        print(f"The boot loader starts it all the same. {visible(words)}", file=sys.stderr)
        return 1
    return 0


def _reject(host: Host, kernel: str | None, reason: str) -> None:
    from safeupdate import kernels
    from safeupdate.gate import permits
    from safeupdate.gate.permits import Rejected

    if kernel is None:
        kernel = settled(host).judged.kernel
        if kernel is None:
            raise SafeupdateError("which kernel starts next could not be told", "safeupdate reject KERNEL")
    elif kernel not in (found := [one.release for one in kernels.installed(host.machine)]):
        raise UsageError(f"the kernel {kernel} is not installed", f"installed: {', '.join(found) or 'none'}")
    others = tuple(one for one in _known(host) if one.kernel != kernel)
    permits.reject(host, (*others, Rejected(kernel, reason, who(), host.time)))
    note(host, "rejected", f"{who()} rejected the kernel {kernel}: {reason}")


def _withdraw(host: Host, kernel: str | None) -> None:
    from safeupdate.gate import permits

    known = _known(host)
    gone = [one.kernel for one in known if kernel in (None, one.kernel)]
    if kernel is not None and not gone:
        raise UsageError(f"the kernel {kernel} was not rejected", f"rejected: {', '.join(x.kernel for x in known)}")
    permits.reject(host, tuple(one for one in known if one.kernel not in gone))
    note(host, "reject-withdrawn", f"{who()} took back that {', '.join(gone) or 'any kernel'} is not wanted.")


def _known(host: Host) -> tuple[Rejected, ...]:
    """What was rejected before; a list that is damaged is begun anew."""
    from safeupdate.gate import permits
    from safeupdate.gate.document import Damaged

    try:
        return permits.rejected(host.machine)
    except Damaged as error:
        print(f"safeupdate: {error}; it is begun anew", file=sys.stderr)
        return ()
