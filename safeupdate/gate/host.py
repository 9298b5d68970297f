"""The machine as the gate acts on it: every file that it writes and every program that it starts goes through here.

Paths are those of the machine, below its root. What returned is on the disk, as far as fsync(2) can tell; what was cut
off leaves the old file or the new one, and at most a hidden `.NAME.new` beside it, which the next write takes over.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from safeupdate.errors import Missing, SafeupdateError, Unreadable
from safeupdate.machine import Completed, Machine
from safeupdate.report import rfc3339

RUN = "/run/safeupdate"
"""What ends with this boot. Anyone may read it."""

VAR = "/var/lib/safeupdate"
"""What outlasts a reboot, for root alone, as the ledger that lies there."""

SNAPSHOTS = f"{VAR}/snapshots"
"""What is on record about snapshots: without it there is none that could be lost."""

_OURS = {RUN: 0o755, VAR: 0o700, "/run/motd.d": 0o755}

Runner = Callable[[Sequence[str], float], Completed]


class NotDone(SafeupdateError):
    """A file could not be written, or a program not be run. `what` is its path."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(f"{what}: {reason}")
        self.what = what
        self.reason = reason


@dataclass(frozen=True)
class Host:
    """`now` is the clock. `runner` stands in for the programs of a machine that this one only plays."""

    machine: Machine
    now: Callable[[], datetime]
    runner: Runner | None = None

    @property
    def time(self) -> str:
        """Now, as RFC 3339 in UTC, for what is written down."""
        return rfc3339(self.now())

    def record(self, kind: str, sentence: str) -> tuple[str, ...]:
        """Write into the ledger what is done. Returns what came in the way of that, as sentences."""
        from safeupdate import config
        from safeupdate.ledger import writing

        keep_days = config.in_force(self.machine).ledger.keep_days
        return writing.record_event(self.machine, kind, sentence, time=self.time, keep_days=keep_days)

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Replace the file, at once and for good; a link of that name is replaced, not followed.

        Directories of ours on the way are made. Raises `NotDone`.
        """
        place = self._place(path, make=True)
        directory, name = os.path.split(place)
        new = f"{directory}/.{name}.new"
        try:
            with suppress(FileNotFoundError):  # of a run that was cut off, with whatever mode
                os.unlink(new)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                with open(os.open(new, flags, 0o600), "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fchmod(file.fileno(), mode)
                    os.fsync(file.fileno())
                os.replace(new, place)
            except OSError:
                with suppress(OSError):
                    os.unlink(new)
                raise
            _sync_directory(directory)
        except OSError as error:
            raise NotDone(path, _reason(error)) from None

    def overwrite(self, path: str, data: bytes) -> None:
        """Put `data` in the place of as many bytes, in the file's own blocks, which are never freed: a boot loader
        that does not replay a journal sees it at once. Raises `NotDone`, and for another length changes nothing."""
        try:
            descriptor = os.open(self._place(path), os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise NotDone(path, _reason(error)) from None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise NotDone(path, "it is not a regular file")
            if status.st_size != len(data):
                raise NotDone(path, f"it has {status.st_size} bytes, and not {len(data)}")
            if os.pwrite(descriptor, data, 0) != len(data):
                raise NotDone(path, "it was written in part")
            os.fsync(descriptor)
        except OSError as error:
            raise NotDone(path, _reason(error)) from None
        finally:
            os.close(descriptor)

    def remove(self, path: str) -> None:
        """Remove the file, or the link of that name; nothing where there is none. Raises `NotDone`."""
        try:
            place = self.machine.host_path(path, follow=False)
            os.unlink(place)
            _sync_directory(os.path.dirname(place))
        except (Missing, FileNotFoundError):
            return
        except Unreadable as error:
            raise NotDone(path, error.reason) from None
        except OSError as error:
            raise NotDone(path, _reason(error)) from None

    def move(self, old: str, new: str) -> None:
        """Rename within one file system, over what is there. Directories of ours on the way are made.

        Raises `NotDone`, also where `old` does not exist.
        """
        source, target = self._place(old), self._place(new, make=True)
        try:
            os.rename(source, target)
            for directory in {os.path.dirname(target), os.path.dirname(source)}:
                _sync_directory(directory)
        except OSError as error:
            raise NotDone(old, f"it cannot be moved to {new}: {_reason(error)}") from None

    def run(self, command: Sequence[str], timeout: float) -> Completed:
        """Run a program of the machine, with a time-out in seconds. Raises `NotDone` where it has none of its own to
        run, and `ProgramFailed` as `Machine.run` does; the exit code is the caller's to judge."""
        if self.runner is not None:
            return self.runner(command, timeout)
        if not self.machine.live or self.machine.root != "/":
            raise NotDone(command[0], "programs are run on this machine only")
        return self.machine.run(command, timeout=timeout)

    def _place(self, path: str, *, make: bool = False) -> str:
        if make:
            self.make_directory(posixpath.dirname(path))
        try:
            return self.machine.host_path(path, follow=False)
        except Missing:
            raise NotDone(path, "there is no such directory") from None
        except Unreadable as error:
            raise NotDone(path, error.reason) from None

    def make_directory(self, directory: str) -> None:
        """Make a directory of ours, and those above it; others must be there. Raises `NotDone`."""
        ours = next((top for top in _OURS if directory == top or directory.startswith(f"{top}/")), None)
        if ours is None:
            return
        below = [part for part in directory[len(ours) :].split("/") if part]
        for depth in range(len(below) + 1):
            path = "/".join([ours, *below[:depth]])
            try:
                place = self.machine.host_path(path)
                os.mkdir(place, _OURS[ours])
                os.chmod(place, _OURS[ours])  # whatever umask(2) took away
            except FileExistsError:
                continue
            except Missing:
                raise NotDone(path, "there is no directory to make it in") from None
            except Unreadable as error:
                raise NotDone(path, error.reason) from None
            except OSError as error:
                raise NotDone(path, _reason(error)) from None


def _sync_directory(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)
