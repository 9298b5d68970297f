"""A guest: a QEMU process, its serial console, its monitor, and a second serial port for whoever answers there.

The monitor speaks QMP (QEMU's documentation, "QEMU Machine Protocol Specification"). The guest ends with the thread
that started it, whatever ends that: it leaves no process behind, and no socket in the file system.
"""

from __future__ import annotations

import json
import os
import select
import shlex
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import IO, Any

from safeupdate.errors import SafeupdateError
from safeupdate.rehearsal.console import Console
from safeupdate.rehearsal.hardware import Hardware, arguments

PROGRAM = "qemu-system-x86_64"

MONITOR_LIMIT = 60.0
"""Seconds for an answer of the monitor: it answers at once, unless this host is out of breath."""

SAVE_LIMIT = 300.0
"""Seconds for a gigabyte of memory to or from a disk, on a host that is busy otherwise."""


class GuestError(SafeupdateError):
    """The guest could not be started, saved or resumed, or its host let it down: it proves nothing about the boot."""


@contextmanager
def start(hardware: Hardware, log: str, *, saved: str | None = None) -> Iterator[Guest]:
    """A guest that runs, and is ended behind the `with`. Raises `GuestError`.

    `log` gets what the serial console says. `saved` is the file of a saved state, of the same hardware, whose disks are
    as they were then: the guest goes on from there.
    """
    with ExitStack() as stack:
        errors = stack.enter_context(tempfile.TemporaryFile())
        console = Console(stack.enter_context(open(log, "wb")))
        ours, theirs = [], []
        for _ in ("monitor", "second"):
            one, other = socket.socketpair()
            ours.append(stack.enter_context(one))
            theirs.append(stack.enter_context(other))
        # setpriv(1) has the kernel end QEMU with the thread that started it.
        command = ["setpriv", "--pdeathsig=KILL", PROGRAM, *arguments(hardware), "-no-reboot"]
        command += ["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]
        command += ["-chardev", f"socket,id=monitor,fd={theirs[0].fileno()}", "-mon", "chardev=monitor,mode=control"]
        command += ["-chardev", f"socket,id=second,fd={theirs[1].fileno()}", "-serial", "chardev:second"]
        if saved is not None:
            command += ["-incoming", f"exec:cat {shlex.quote(saved)}"]
        try:
            process = subprocess.Popen(
                command,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                pass_fds=[each.fileno() for each in theirs],
            )
        except OSError as error:
            raise GuestError(f"{command[0]} could not be started: {error}") from None
        stack.enter_context(process)
        stack.callback(process.kill)
        for each in theirs:
            each.close()
        guest = Guest(process, console, ours[0], ours[1], errors)
        guest.ask("qmp_capabilities")
        if saved is not None:
            guest.wait_for("query-status", ("paused", "running"))
            guest.ask("cont")
        yield guest


class Guest:
    """A guest that runs. `port` collects what its second serial port says, and whoever reads that takes it out."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        console: Console,
        monitor: socket.socket,
        second: socket.socket,
        errors: IO[bytes],
    ) -> None:
        self.console = console
        self.port = bytearray()
        self.ended = False
        self._started = self._heard = time.monotonic()
        self._process = process
        self._monitor = monitor
        self._second = second
        self._errors = errors
        self._said = bytearray()
        self._replies: list[dict[str, Any]] = []

    @property
    def seconds(self) -> float:
        """Since the guest was started."""
        return time.monotonic() - self._started

    @property
    def silence(self) -> float:
        """Seconds since the console last said something."""
        return time.monotonic() - self._heard

    def poll(self, seconds: float) -> bool:
        """Take in what the guest says, waiting not longer than this; False once it has ended."""
        assert self._process.stdout is not None
        if self.ended:
            return False
        output = self._process.stdout.fileno()
        second, monitor = self._second.fileno(), self._monitor.fileno()
        ready, _, _ = select.select([output, second, monitor], [], [], seconds)
        if output in ready:
            data = os.read(output, 65536)
            if data:
                self.console.take(data)
                self._heard = time.monotonic()
            else:
                self.ended = True
        if second in ready:
            self.port += _received(self._second)
        if monitor in ready:
            self._listen(_received(self._monitor))
        return not self.ended

    def _listen(self, data: bytes) -> None:
        self._said += data
        *lines, self._said[:] = self._said.split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "event" not in message:
                self._replies.append(message)
            elif message["event"] == "BLOCK_IO_ERROR":
                reason = message["data"].get("reason", "an input or output error")
                raise GuestError(f"this host could not read or write the guest's disk: {reason}")

    def ask(self, command: str, *, limit: float = MONITOR_LIMIT, **values: object) -> Any:
        """What the monitor answers to a command. Raises `GuestError`."""
        try:
            self._monitor.sendall(json.dumps({"execute": command, "arguments": values}).encode() + b"\n")
        except OSError:
            raise GuestError(f"QEMU ended: {self.last_words()}") from None
        until = time.monotonic() + limit
        while time.monotonic() < until:
            while self._replies:
                reply = self._replies.pop(0)
                if "error" in reply:
                    raise GuestError(f"QEMU refuses {command}: {reply['error']['desc']}")
                if "return" in reply:
                    return reply["return"]
            if not self.poll(1.0):
                raise GuestError(f"QEMU ended: {self.last_words()}")
        raise GuestError(f"QEMU did not answer {command} within {limit:g} seconds")

    def wait_for(self, query: str, states: tuple[str, ...]) -> None:
        """Ask until the status is one of these. Raises `GuestError`."""
        until = time.monotonic() + SAVE_LIMIT
        while time.monotonic() < until:
            status = self.ask(query).get("status")
            if status in states:
                return
            if status in ("failed", "cancelled", "internal-error", "io-error"):
                raise GuestError(f"QEMU answers {query} with {status}: {self.last_words()}")
            self.poll(0.1)
        raise GuestError(f"QEMU did not come to an end with {query} within {SAVE_LIMIT:g} seconds")

    def save(self, name: str) -> None:
        """Stop the guest, and write its memory and devices to a file: with its disks as they are now it can be
        resumed from there. It runs no more. Raises `GuestError`."""
        self.ask("stop")
        self.ask("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
        self.ask("migrate", uri=f"exec:cat > {shlex.quote(name)}")
        self.wait_for("query-migrate", ("completed",))
        # It may be gone before it has answered.
        with suppress(GuestError):
            self.ask("quit")
        self._process.wait(MONITOR_LIMIT)

    def type(self, text: str) -> None:
        """Type on the serial console."""
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode())

    def send(self, data: bytes) -> None:
        """Say this on the second serial port."""
        while data:
            _, writable, _ = select.select([], [self._second], [], 1.0)
            if not self.poll(0):
                return
            if writable:
                data = data[self._second.send(data, socket.MSG_DONTWAIT) :]

    def last_words(self) -> str:
        """The end of what QEMU itself printed."""
        self._errors.seek(0)
        return self._errors.read(1 << 20).decode("utf-8", "replace").strip()[-2000:]


def _received(line: socket.socket) -> bytes:
    """What QEMU wrote; nothing once it has ended, which its console tells."""
    try:
        return line.recv(65536)
    except ConnectionResetError:
        return b""
