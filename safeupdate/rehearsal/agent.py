"""A guest that does what it is asked, over its second serial port: nothing is mounted or loaded in it for that.

A request is a line, an answer a line and what it announces:

    hello                       READY
    put NAME SIZE, bytes        DONE 0 0
    run NAME                    DONE CODE SIZE, and so many bytes that the script printed
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from safeupdate.rehearsal.qemu import Guest, GuestError

SCRIPT = """#!/bin/sh
# Does what is asked over the second serial port. Only what every machine has: a shell and coreutils.
port=/dev/ttyS1
work=/run/safeupdate-rehearsal
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8
mkdir -p "$work"
stty -F "$port" raw -echo clocal || exit 1
exec < "$port" > "$port" 2> /dev/null
echo READY
while read -r request name size; do
	case $request in
	hello) echo READY ;;
	put)
		head -c "$size" >> "$work/$name"
		echo DONE 0 0
		;;
	run)
		(cd / && exec sh "$work/$name") < /dev/null > "$work/output" 2>&1
		code=$?
		echo "DONE $code $(wc -c < "$work/output")"
		cat "$work/output"
		rm -f "$work/$name"
		;;
	esac
done
"""

UNIT = """[Unit]
Description=Do what is asked over the second serial port
Requires=multi-user.target
After=multi-user.target
DefaultDependencies=no
Conflicts=shutdown.target
Before=shutdown.target
[Service]
ExecStart=/bin/sh {script}
"""
"""systemd.unit(5), wanted by multi-user.target. Without the default dependencies, which would have the target wait for
it. What is only ordered behind a target is started, too, when that target fails."""

READY = b"READY\n"

DIRECTORY = "/run/safeupdate-rehearsal"
"""Where in the guest the files are that were put there."""

_CHUNK = 8192
"""Bytes that are sent before the guest has to say that it has them: a terminal that is not read drops what comes
after 64 KiB."""


@dataclass(frozen=True)
class Done:
    """The exit code of a script, and what it printed."""

    code: int
    output: str


class Agent:
    """What answers on the second serial port of a guest."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    @property
    def ready(self) -> bool:
        """Whether it has said that it is there."""
        return READY in self._guest.port

    def hello(self, limit: float = 60) -> None:
        """Wait until a resumed guest answers. Raises `GuestError`."""
        self._guest.send(b"hello\n")
        until = time.monotonic() + limit
        while not self.ready:
            self._wait(until, "hello")
        self._guest.port.clear()

    def put(self, name: str, data: bytes, limit: float = 300) -> None:
        """Append these bytes to a file in the guest's `DIRECTORY`. Raises `GuestError`."""
        until = time.monotonic() + limit
        for at in range(0, len(data), _CHUNK):
            chunk = data[at : at + _CHUNK]
            self._guest.send(f"put {name} {len(chunk)}\n".encode() + chunk)
            self._answer(until, f"put {name}")

    def run(self, script: str, limit: float = 600) -> Done:
        """Run a shell script as root, with nothing to read. Raises `GuestError`, also when it takes longer."""
        until = time.monotonic() + limit
        self.put("script", script.encode())
        self._guest.send(b"run script\n")
        code, size = self._answer(until, "run")
        while len(self._guest.port) < size:
            self._wait(until, "run")
        output = bytes(self._guest.port[:size])
        del self._guest.port[:size]
        return Done(code, output.decode("utf-8", "replace"))

    def _answer(self, until: float, request: str) -> tuple[int, int]:
        while True:
            line, newline, rest = self._guest.port.partition(b"\n")
            if newline:
                self._guest.port[:] = rest
                words = line.split()
                if len(words) == 3 and words[0] == b"DONE":
                    return int(words[1]), int(words[2])
                continue
            self._wait(until, request)

    def _wait(self, until: float, request: str) -> None:
        if not self._guest.poll(1.0):
            raise GuestError(f"the guest ended at the request {request}")
        if time.monotonic() > until:
            raise GuestError(f"the guest did not do what it was asked in time: {request}")
