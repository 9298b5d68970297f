"""What is installed, by package managers: a new one is one file with the methods of `Database`, and one line here."""

from __future__ import annotations

import os
from collections.abc import Iterable

from safeupdate.errors import Unreadable
from safeupdate.formats import file_locks
from safeupdate.machine import Machine
from safeupdate.packages.dpkg import Dpkg
from safeupdate.packages.package import Database, Package, PackedFile
from safeupdate.packages.rpm import Rpm

__all__ = ["BACK_ENDS", "Database", "Package", "PackedFile", "at_work", "databases", "locked", "states"]

BACK_ENDS = (Dpkg, Rpm)


def databases(machine: Machine) -> tuple[Database, ...]:
    """Every database on this machine: more than one where a foreign package manager is installed too."""
    return tuple(found for back_end in BACK_ENDS if (found := back_end.find(machine)) is not None)


def states(found: Iterable[Database]) -> tuple[str, ...]:
    """Name, version, architecture and state of every package that the boot hangs on, one a line, sorted.

    Equal where nothing changed. Raises `FormatError`, `Unreadable` and `ProgramFailed` as the back ends do.
    """
    return tuple(
        sorted(
            f"{database.name} {one.name} {one.version} {one.architecture} {one.state}{' reinstall' * one.reinstall}"
            for database in found
            for one in database.packages()
        )
    )


def at_work(machine: Machine, database: Database) -> int | None:
    """The process that is changing what is installed at this moment, where there is one."""
    return locked(machine, database.locks)


def locked(machine: Machine, paths: Iterable[str]) -> int | None:
    """The process that holds a lock for writing on one of these files, where there is one."""
    try:
        files = [status for path in paths if (status := machine.stat(path)) is not None]
        held = file_locks.parse(machine.read_if_there("/proc/locks") or b"")
    except Unreadable:
        return None
    for lock in held:
        for file in files:
            device = os.major(file.st_dev), os.minor(file.st_dev)
            # A subvolume of btrfs has a number of its own there, which no lock has.
            if lock.inode == file.st_ino and (lock.device == device or device[0] == 0):
                return lock.process
    return None
