"""python3 -m tests.lab: every verdict held against a real boot (docs/lab.md)."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
from collections.abc import Collection, Sequence
from typing import NoReturn

from safeupdate.rehearsal.console import plain
from safeupdate.rehearsal.hardware import CODE
from safeupdate.rehearsal.qemu import PROGRAM, GuestError
from tests.lab import page, results, saved, wheel
from tests.lab.bases import BASES
from tests.lab.capture import capture, thin
from tests.lab.programs import LabError
from tests.lab.run import run
from tests.lab.scenario import OURS, Scenario, load
from tests.lab.slots import slot

_PROGRAMS = (PROGRAM, "qemu-img", "setpriv", "unshare", "losetup", "mkfs.ext4", "mkfs.xfs", "mkfs.btrfs", "mkfs.vfat")
_PACKAGES = "qemu-system-x86 qemu-utils ovmf util-linux mount e2fsprogs xfsprogs btrfs-progs dosfstools"


def main(arguments: Sequence[str]) -> int:
    """0: no false alarm, no miss, and everything ran. Else 1; usage errors 2."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.lab", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    build = verbs.add_parser("build", help="make the base machines that are missing")
    build.add_argument("bases", nargs="*", metavar="BASE")
    runs = verbs.add_parser("run", help="run scenarios: those named, or all")
    runs.add_argument("names", nargs="*", metavar="NAME")
    runs.add_argument("--scenarios", default=OURS, metavar="DIR", help="scenarios kept elsewhere; results go there too")
    runs.add_argument("--results", metavar="FILE", help="write the results there instead")
    runs.add_argument("--tag", help="only those with this tag")
    facts = verbs.add_parser("capture", help="what `safeupdate capture` writes in a base machine")
    facts.add_argument("base", metavar="BASE")
    facts.add_argument("directory", metavar="DIR")
    facts.add_argument("--thin", action="store_true", help="without what says nothing of this machine, for tests/data")
    for verb in (build, runs, facts):
        verb.add_argument("--program", default=wheel.OURS, metavar="DIR", help="a checkout of the program (this one)")
        verb.add_argument("--guests", type=int, default=2, metavar="N", help="guests at once, on this host (2)")
    runs.add_argument("--without", metavar="CHECK", help="what would be missed without it; writes nothing down")
    runs.add_argument("--again", action="store_true", help="also what was run before and has not changed")
    runs.add_argument("--keep", action="store_true", help="keep the disks")
    runs.add_argument("--console", metavar="NAME", help="run nothing: print what that scenario's last boot said")
    verbs.add_parser("page", help="write the results into docs/lab.md")
    options = parser.parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, _end)
    try:
        _needs(options)
        if options.verb == "build":
            _known(options.bases, BASES)
            for base in options.bases or BASES:
                print(saved.state(BASES[base], options.guests, options.program).place)
        elif options.verb == "capture":
            _known([options.base], BASES)
            state = saved.state(BASES[options.base], options.guests, options.program)
            with slot(options.guests):
                capture(state, options.directory)
            if options.thin:
                thin(options.directory)
        elif options.verb == "page":
            page.write(results.load(os.path.join(OURS, results.NAME)))
        elif options.console:
            _print(options.console)
        else:
            return _run(options)
    except (LabError, GuestError) as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    return 0


def _needs(options: argparse.Namespace) -> None:
    if options.verb == "page" or getattr(options, "console", None):
        return
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    missing = [program for program in _PROGRAMS if shutil.which(program, path=path) is None]
    if missing or not os.path.exists(CODE):
        raise LabError(f"there is no {', '.join(missing) or CODE} here. On Debian: apt-get install {_PACKAGES}")
    if os.geteuid() != 0:
        raise LabError("the lab mounts disks: it needs root")


def _run(options: argparse.Namespace) -> int:
    scenarios = _chosen(load(options.scenarios), options.names, options.tag)
    file = os.path.abspath(options.results or os.path.join(options.scenarios, results.NAME))
    rows = run(
        scenarios,
        file,
        program=options.program,
        guests=options.guests,
        without=options.without,
        again=options.again,
        keep=options.keep,
    )
    print(*page.confusion(rows), page.worth(rows), sep="\n")
    wrong = [row for row in rows.values() if row["judgement"] not in ("right", "unknown")]
    return 1 if wrong else 0


def _chosen(scenarios: Sequence[Scenario], names: Sequence[str], tag: str | None) -> list[Scenario]:
    _known(names, [scenario.name for scenario in scenarios])
    chosen = [scenario for scenario in scenarios if not names or scenario.name in names]
    return [scenario for scenario in chosen if tag is None or tag in scenario.tags]


def _known(names: Sequence[str], all_: Collection[str]) -> None:
    for name in names:
        if name not in all_:
            raise LabError(f"there is no {name}; there are {', '.join(all_)}")


def _print(name: str) -> None:
    work = os.path.join(saved.directory(), "runs", name)
    if not os.path.exists(os.path.join(work, "console")):
        raise LabError(f"{name} has not been started")
    with open(os.path.join(work, "console"), "rb") as file:
        print(plain(file.read()))
    print(f"(before the reboot, what was done, the disk if it was kept: {work})", file=sys.stderr)


def _end(number: int, _frame: object) -> NoReturn:
    """The guests end with their threads, mounts and loop devices with this process; the results are written."""
    print("lab: ended; what has ended is written down, the same command goes on from there", file=sys.stderr)
    os._exit(128 + number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
