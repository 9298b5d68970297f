"""The ledger's file as a thing on a disk: made for root alone, held by one writer at a time, put aside when damaged."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from safeupdate import locks
from safeupdate.errors import FormatError, Missing, SafeupdateError, Unreadable
from safeupdate.formats import mountinfo
from safeupdate.ledger.schema import BUSY_SECONDS, PATH

if TYPE_CHECKING:
    from safeupdate.machine import Machine

_DIRECTORY, _NAME = os.path.split(PATH)

_DAMAGED_KEPT = 3
"""Damaged ledgers that are kept: enough to see that it happens again, without filling a disk that does it."""

_LASTING = {"btrfs", "ext2", "ext3", "ext4", "f2fs", "xfs", "zfs"}
"""File systems on which a file keeps its inode number as long as it lives."""

_TRY_AGAIN = 0.02


class NotWritten(SafeupdateError):
    """Nothing could be written; the message says why, as the end of a sentence."""


@contextmanager
def held(machine: Machine) -> Iterator[str]:
    """The ledger's path on the host, with no other writer until the end. Raises `NotWritten`."""
    try:
        directory = machine.host_path(_DIRECTORY)
        path = f"{directory}/{_NAME}"
        _make_directory(directory)
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (Missing, Unreadable) as error:
        raise NotWritten(str(error)) from None
    except OSError as error:
        raise NotWritten(f"{_DIRECTORY}: {error.strerror}") from None
    try:
        _lock(lock)
        yield path
    except OSError as error:
        raise NotWritten(error.strerror or str(error)) from None
    finally:
        os.close(lock)


def make(path: str) -> None:
    """Make the file, empty, where there is none. Raises `NotWritten` for what is not this user's own plain file, as
    SQLite would follow a link anywhere."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode):
            raise NotWritten(f"{PATH} is not a regular file") from None
        _keep_private(path, status, 0o600)
    else:
        os.close(descriptor)


def _make_directory(directory: str) -> None:
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        status = os.lstat(directory)
        if not stat.S_ISDIR(status.st_mode):
            raise NotWritten(f"{_DIRECTORY} is not a directory") from None
        _keep_private(directory, status, 0o700)


def _keep_private(path: str, status: os.stat_result, mode: int) -> None:
    if status.st_uid != os.geteuid():
        raise NotWritten(f"{PATH} is for its owner alone")
    if stat.S_IMODE(status.st_mode) & ~mode:
        os.chmod(path, mode)


def _lock(descriptor: int) -> None:
    try:
        if not locks.taken(descriptor, BUSY_SECONDS, again=_TRY_AGAIN):
            raise NotWritten("another process holds it")
    except OSError:
        return  # a file system without such locks; SQLite has its own


def put_aside(path: str) -> str:
    """Rename a damaged ledger, and the journal that belongs to it. Returns its new name; only some are kept."""
    directory, name = os.path.split(path)
    aside = f"{name}.damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    os.rename(path, f"{directory}/{aside}")
    if os.path.lexists(f"{path}-journal"):
        os.rename(f"{path}-journal", f"{directory}/{aside}-journal")
    kept = sorted(one for one in os.listdir(directory) if one.startswith(f"{name}.damaged-") and one[-1] == "Z")
    for one in kept[:-_DAMAGED_KEPT]:
        os.unlink(f"{directory}/{one}")
        with suppress(FileNotFoundError):
            os.unlink(f"{directory}/{one}-journal")
    return aside


def home(machine: Machine, path: str) -> str | None:
    """Where the ledger lies: its path on its file system, the subvolume, its inode. None where none of it lasts.

    A snapshot that is made the root again is another subvolume, and a copy another inode. Bind mounts, as in a service
    with a view of its own, change nothing.
    """
    try:
        inside = machine.resolve(PATH)
        mounts = mountinfo.parse(machine.read("/proc/self/mountinfo"))
    except (FormatError, Missing, Unreadable):
        return None
    over = [mount for mount in mounts if inside.startswith(mount.point.rstrip("/") + "/")]
    if not over:
        return None
    mount = max(reversed(over), key=lambda mount: len(mount.point))  # of several at one point the last is to be seen
    if mount.fstype not in _LASTING:
        return None
    place = mount.root.rstrip("/") + "/" + inside[len(mount.point) :].lstrip("/")
    subvolume = [option for option in mount.super_options if option.startswith("subvolid=")]
    dataset = [mount.source] if mount.fstype == "zfs" else []
    return " ".join([mount.fstype, *dataset, place, *subvolume, f"inode={os.stat(path).st_ino}"])
