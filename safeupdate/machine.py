"""A machine as data: a root directory, the files below it, and a runner of programs.

Nothing else in the program opens a file of the machine that it judges. Paths are absolute *inside* the machine;
symbolic links are followed inside the root as the machine itself would follow them, and never lead out of it.
Device nodes, sockets and FIFOs are never opened.
"""

from __future__ import annotations

import errno
import io
import os
import posixpath
import stat
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from safeupdate.errors import Missing, ProgramFailed, Unreadable

TEXT_LIMIT = 64 << 20
"""Bytes that `read` takes at most: the largest text that a check reads (a `modules.dep` of every module, a
captured `mountinfo`) is under 4 MB."""

_PIECE = 64 << 10

_LINK_LIMIT = 40
"""Links followed in one path before it counts as a loop; the kernel's own limit (path_resolution(7))."""

_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}


@dataclass(frozen=True)
class Completed:
    """What a program that ended left behind."""

    code: int
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True)
class Space:
    """What a file system has left. `free` counts what is reserved for root; `available` does not.

    Bytes, and inodes: None for both counts where the file system has no fixed number of them (FAT, btrfs). `device` is
    the file system's number (st_dev, stat(2)).
    """

    device: int
    total: int
    free: int
    available: int
    inodes: int | None
    free_inodes: int | None
    read_only: bool


@dataclass(frozen=True)
class Machine:
    """The world below `root`. `live` means that it is the machine that this program runs on.

    A captured tree may hold files by name and size only (`left_out`), and lack what could not be read when it was
    captured (`unreadable`): both are unreadable here, neither missing nor what their bytes say. `spaces` is what its
    file systems had left, by their topmost directories.
    """

    root: str = "/"
    live: bool = False
    left_out: frozenset[str] = frozenset()
    unreadable: frozenset[str] = frozenset()
    spaces: Mapping[str, Space] = field(default_factory=dict, repr=False, compare=False)
    _directories: dict[str, str] = field(default_factory=dict, repr=False, compare=False)
    _below: dict[str, dict[str, os.stat_result]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def here(cls) -> Machine:
        """The machine that this program runs on."""
        return cls("/", live=True)

    @classmethod
    def tree(
        cls,
        directory: str,
        *,
        left_out: frozenset[str] = frozenset(),
        unreadable: frozenset[str] = frozenset(),
        spaces: Mapping[str, Space] | None = None,
    ) -> Machine:
        """A machine's files below `directory`."""
        return cls(os.path.realpath(directory), False, left_out, unreadable, spaces or {})

    # -- paths ---------------------------------------------------------------------------------------------

    def host_path(self, path: str, *, follow: bool = True) -> str:
        """Where `path` really is, on the host, with every link resolved inside the root.

        The last component need not exist, nor be followed (`follow=False`). Raises `Missing` when a directory
        on the way is not there, a link loops or the name cannot be one.
        """
        try:
            inside = self.resolve(path, follow=follow)
        except Missing:
            self._refuse_hidden(path)
            raise
        self._refuse_hidden(inside)
        return inside if self.root == "/" else self.root + (inside if inside != "/" else "")

    def _refuse_hidden(self, path: str) -> None:
        """What lies below a directory that a capture could not read is in no tree, and yet not missing."""
        if any(path == hidden or path.startswith(f"{hidden}/") for hidden in self.unreadable):
            raise Unreadable(path, "it could not be read when this machine was captured")

    def resolve(self, path: str, *, follow: bool = True) -> str:
        """`path` with every link resolved, as a path inside the machine (realpath(3), but inside the root)."""
        try:
            os.fsencode(path)
        except UnicodeEncodeError:
            raise Missing(path) from None
        if "\0" in path:
            raise Missing(path)
        links = 0
        done: list[str] = []
        above, _, name = path.rpartition("/")
        if name in ("", ".", ".."):
            above = ""
        if above in self._directories:  # of thousands of files in few directories the last step alone is left
            done, pending = self._directories[above].split("/")[1:], [name]
        else:
            pending = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        while pending:
            part = pending.pop()
            if part == "..":
                if done:
                    done.pop()
                continue
            parent = "/" + "/".join(done)
            key = f"{parent}\0{part}"
            if pending and key in self._directories:
                done = self._directories[key].split("/")[1:]
                continue
            if above and done and not pending:
                self._directories[above], above = parent, ""
            done.append(part)
            if not pending and not follow:
                break
            host = self._join(done)
            try:
                mode = os.lstat(host).st_mode
            except OSError as error:
                if error.errno in _ABSENT and not pending:
                    break
                raise self._problem(path, error) from None
            if not stat.S_ISLNK(mode):
                if pending and not stat.S_ISDIR(mode):
                    raise Missing(path)
                if pending:
                    self._directories[key] = "/" + "/".join(done)
                continue
            links += 1
            if links > _LINK_LIMIT:
                raise Missing(path)
            try:
                target = os.readlink(host)
            except OSError as error:
                raise self._problem(path, error) from None
            done.pop()
            if target.startswith("/"):
                done = []
            pending += [part for part in reversed(target.split("/")) if part not in ("", ".")]
        return "/" + "/".join(done)

    def _join(self, parts: list[str]) -> str:
        return ("" if self.root == "/" else self.root) + "/" + "/".join(parts)

    @staticmethod
    def _problem(path: str, error: OSError) -> Missing | Unreadable:
        if error.errno in _ABSENT:
            return Missing(path)
        return Unreadable(path, os.strerror(error.errno or 0))

    # -- looking -------------------------------------------------------------------------------------------

    def stat(self, path: str, *, follow: bool = True) -> os.stat_result | None:
        """The file's status, or None where there is no such file. Raises `Unreadable` on any other error.

        A captured file has the number of the file system that it was on.
        """
        try:
            host = self.host_path(path, follow=follow)
            status = os.lstat(host)
            space = self._captured_space(host)
            return status if space is None else _on_device(status, space.device)
        except Missing:
            return None
        except OSError as error:
            problem = self._problem(path, error)
            if isinstance(problem, Missing):
                return None
            raise problem from None

    def exists(self, path: str) -> bool:
        """Whether `path`, links followed, names anything."""
        return self.stat(path) is not None

    def is_file(self, path: str) -> bool:
        """Whether `path`, links followed, is a regular file."""
        status = self.stat(path)
        return status is not None and stat.S_ISREG(status.st_mode)

    def has_program(self, name: str) -> bool:
        """Whether a program of that name lies where packages put programs."""
        return any(self.is_file(f"{directory}/{name}") for directory in ("/usr/bin", "/usr/sbin", "/bin", "/sbin"))

    def is_dir(self, path: str) -> bool:
        """Whether `path`, links followed, is a directory."""
        status = self.stat(path)
        return status is not None and stat.S_ISDIR(status.st_mode)

    def is_link(self, path: str) -> bool:
        """Whether `path` itself is a symbolic link."""
        status = self.stat(path, follow=False)
        return status is not None and stat.S_ISLNK(status.st_mode)

    def size(self, path: str) -> int:
        """The file's length in bytes. Raises `Missing`."""
        status = self.stat(path)
        if status is None:
            raise Missing(path)
        return status.st_size

    def readlink(self, path: str) -> str:
        """Where the link points, as written. Raises `Missing` where there is none."""
        try:
            return os.readlink(self.host_path(path, follow=False))
        except OSError as error:
            if error.errno == errno.EINVAL:
                raise Missing(path) from None
            raise self._problem(path, error) from None

    def space(self, path: str) -> Space | None:
        """What is left on the file system of the directory `path` (statvfs(3)); None where this cannot be known.

        A tree that was copied somewhere has no file system of its own: what is left there is the host's. It counts
        only where the machine's file system itself is mounted, at the tree's root or below it. A capture tells what
        was left on the machine.
        """
        try:
            host = self.host_path(path)
            if self.spaces:
                return self._captured_space(host) if os.path.isdir(host) else None
            if not self.live and os.stat(host).st_dev == os.stat(os.path.dirname(self.root)).st_dev:
                return None
            left = os.statvfs(host)
        except (Missing, Unreadable, OSError):
            return None
        counts = left.f_files > 0
        return Space(
            device=os.stat(host).st_dev,
            total=left.f_blocks * left.f_frsize,
            free=left.f_bfree * left.f_frsize,
            available=left.f_bavail * left.f_frsize,
            inodes=left.f_files if counts else None,
            free_inodes=left.f_ffree if counts else None,
            read_only=bool(left.f_flag & os.ST_RDONLY),
        )

    def _captured_space(self, host: str) -> Space | None:
        """What the file system with a captured file had left; None where that is not known."""
        inside = host[len(self.root) :] or "/"
        while self.spaces and inside not in self.spaces and inside != "/":
            inside = posixpath.dirname(inside)
        return self.spaces.get(inside)

    def listdir(self, path: str) -> list[str]:
        """The names in a directory, sorted; none where there is no such directory."""
        try:
            return sorted(os.listdir(self.host_path(path)))
        except Missing:
            return []
        except OSError as error:
            problem = self._problem(path, error)
            if isinstance(problem, Missing):
                return []
            raise problem from None

    def walk(self, path: str, *, limit: int = 200_000) -> Iterator[os.DirEntry[str]]:
        """Every entry below a directory, links not followed, at most `limit`; nothing where it is missing."""
        try:
            pending = [self.host_path(path)]
        except Missing:
            return
        while pending:
            directory = pending.pop()
            try:
                with os.scandir(directory) as entries:
                    for entry in entries:
                        limit -= 1
                        if limit < 0:
                            raise Unreadable(path, "it holds too many files")
                        if entry.is_dir(follow_symlinks=False):
                            pending.append(entry.path)
                        yield entry
            except OSError as error:
                problem = self._problem(path, error)
                if isinstance(problem, Unreadable):
                    raise problem from None

    def below(self, path: str) -> Mapping[str, os.stat_result]:
        """What is below a directory and no directory itself, by its relative path, with its status, links not followed.

        It is looked at once: several checks ask about the thousands of files of a kernel's modules. Empty where there
        is no such directory. Raises `Unreadable`.
        """
        try:
            place = self.host_path(path)
        except Missing:
            return {}
        if place not in self._below:
            found, top = {}, len(place) + 1
            for entry in self.walk(path):
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:  # an update is at work
                    continue
                if not stat.S_ISDIR(status.st_mode):
                    found[entry.path[top:]] = status
            self._below[place] = found
        return self._below[place]

    def populated(self, path: str) -> bool:
        """Whether a directory of facts was captured: it is there and holds something."""
        return bool(self.listdir(path))

    @cached_property
    def has_sysfs(self) -> bool:
        """Whether the tree holds this machine's hardware (`/sys/class/block` has entries)."""
        return self.populated("/sys/class/block")

    # -- reading -------------------------------------------------------------------------------------------

    def open(self, path: str) -> io.BufferedReader:
        """The file, opened for reading. Raises `Missing`, or `Unreadable` for whatever is no regular file."""
        host = self.host_path(path)
        if self.left_out and self.resolve(path) in self.left_out:
            raise Unreadable(path, "its content was left out when this machine was captured")
        try:
            # To open a device may act on it (a watchdog starts, a tape rewinds), so that it is looked at first.
            if not stat.S_ISREG(os.lstat(host).st_mode):
                raise Unreadable(path, "it is not a regular file")
            descriptor = os.open(host, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise self._problem(path, error) from None
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Unreadable(path, "it is not a regular file")
            return io.BufferedReader(io.FileIO(descriptor))  # without what open() asks to tell a terminal
        except BaseException:
            os.close(descriptor)
            raise

    def read(self, path: str, *, limit: int = TEXT_LIMIT) -> bytes:
        """The file's bytes. Raises `Missing`, and `Unreadable` for errors or more than `limit` bytes."""
        parts, left = [], limit + 1
        with self.open(path) as file:
            try:
                # Files of /proc/sys have no size, and refuse to be read in one large piece (ENOMEM).
                size = os.fstat(file.fileno()).st_size + 1
                while left and (part := file.read(min(left, max(size, _PIECE)))):
                    parts.append(part)
                    left -= len(part)
            except OSError as error:
                raise Unreadable(path, os.strerror(error.errno or 0)) from None
        if not left:
            raise Unreadable(path, f"it is larger than {limit} bytes")
        return b"".join(parts)

    def sectors(self, disk: str, start: int, count: int) -> bytes | None:
        """Sectors of 512 bytes of one of this machine's disks, fewer at its end; None in a tree, which has no disks.

        The one place where a device is opened, and a block device only: reading it changes nothing. Raises `Missing`
        and `Unreadable`.
        """
        if not self.live:
            return None
        path = f"/dev/{disk}"
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                if not stat.S_ISBLK(os.fstat(descriptor).st_mode):
                    raise Unreadable(path, "it is not a block device")
                return os.pread(descriptor, count * 512, start * 512)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise self._problem(path, error) from None
        except OverflowError:
            raise Unreadable(path, "it has no such sector") from None

    def read_if_there(self, path: str, *, limit: int = TEXT_LIMIT) -> bytes | None:
        """The file's bytes, or None where there is no such file."""
        try:
            return self.read(path, limit=limit)
        except Missing:
            return None

    def text(self, path: str) -> str | None:
        """A small text file, bytes that are not UTF-8 kept as surrogates; None where there is none."""
        data = self.read_if_there(path)
        return None if data is None else data.decode("utf-8", "surrogateescape")

    def value(self, path: str) -> str | None:
        """The one line of a sysfs or procfs attribute, stripped; None where there is none."""
        text = self.text(path)
        return None if text is None else text.strip("\n\0 ")

    # -- running -------------------------------------------------------------------------------------------

    def run(self, command: Sequence[str], *, timeout: float = 30.0, stdin: bytes = b"") -> Completed:
        """Run a program with a time-out in seconds, in the C locale, and return how it ended.

        Raises `ProgramFailed` when it cannot be started or does not end in time; its own exit code is the
        caller's to judge. A tree's programs are never run: the caller passes only programs that read the files
        they are given.
        """
        environment = {**os.environ, "LC_ALL": "C", "LANGUAGE": "C"}
        try:
            done = subprocess.run(
                list(command), input=stdin, capture_output=True, timeout=timeout, env=environment, check=False
            )
        except subprocess.TimeoutExpired:
            raise ProgramFailed(f"{command[0]} did not end within {timeout:g} seconds") from None
        except OSError as error:
            raise ProgramFailed(f"{command[0]} cannot be started: {error.strerror}") from None
        return Completed(done.returncode, done.stdout, done.stderr)

    # -- what it is ----------------------------------------------------------------------------------------

    @cached_property
    def running_kernel(self) -> str | None:
        """The release that is running now, where that is known."""
        return self._fact("/proc/sys/kernel/osrelease").strip() or None

    @cached_property
    def distribution(self) -> str | None:
        """`ID VERSION_ID` of os-release(5), as `debian 12`; None without one."""
        text = self._fact("/etc/os-release") or self._fact("/usr/lib/os-release")
        fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        parts = (fields.get(key, "").strip("\"' ") for key in ("ID", "VERSION_ID"))
        return " ".join(part for part in parts if part) or None

    def _fact(self, path: str) -> str:
        """A text that a report may do without: nothing where it cannot be read."""
        try:
            return self.text(path) or ""
        except Unreadable:
            return ""


_FIRST = frozenset(f"st_{name}" for name in ("mode", "ino", "dev", "nlink", "uid", "gid", "size"))
"""Of a status, which from Python 3.13 on may not be given twice."""


def _on_device(status: os.stat_result, device: int) -> os.stat_result:
    """The same status, with another number for the file system. The times have more digits than the first ten items."""
    items = [*status]
    items[stat.ST_DEV] = device
    more = (name for name in dir(status) if name.startswith("st_") and name not in _FIRST)
    return os.stat_result(items, {name: getattr(status, name) for name in more})
