"""A stock machine, on which the package of this program is installed, and what is typed and answered there."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from safeupdate.rehearsal.agent import DIRECTORY, Done
from tests.gate_guests import machine as gate
from tests.gate_guests.machine import Lost, Running
from tests.gate_guests.states import PATIENCE
from tests.hook_guests.disks import added
from tests.hook_guests.machine import PACKAGES
from tests.lab import saved, secure_boot
from tests.played import Played

PAGE = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "docs/story.md")

_LINES = 45
"""Of an answer, at most: what a package manager says of all that it does is left out in the midst."""


@dataclass
class Machine(gate.Machine):
    """As that of the gate's stories, but with nothing of ours on it."""

    kept = "story"
    played = Played("story_guests", "story-results.json", "docs/story.md", {})

    _typed: list[str] = field(default_factory=list)

    @contextmanager
    def begun(self) -> Iterator[Running]:
        """As it was installed, started with the disk of packages; our own is in root's home."""
        place = os.path.join(saved.directory(), f"{self.base.name}-{saved.identity(self.base)}", "booted")
        before = saved.Saved(self.base, place)
        if not before.exists:
            saved.state(self.base, 2, self.checkout)
        saved.room()
        self._disk = added(before.onto(os.path.join(self.work, "disk")), f"story-{self.base.name.partition('-')[0]}")
        with self.up() as guest:
            name, data = _package(self.checkout)
            guest.agent.put(name, data, PATIENCE)
            guest.ask(f"mv {DIRECTORY}/{name} /root/; mkdir -p {PACKAGES}; mount -o ro LABEL=packages {PACKAGES}")
            yield guest

    def enrol(self, *certificates: bytes) -> None:
        """Make these its owner's keys, as MokManager does while it starts."""
        assert self._disk is not None and self._disk.firmware is not None
        secure_boot.enrol(self._disk.firmware.variables, *certificates)

    def say(self, text: str) -> None:
        """A paragraph of the page."""
        self._typed.append(f"{text}\n")

    def types(self, guest: Running, command: str, wanted: str, *, code: int | None = 0) -> Done:
        """A command and its answer, for the page; what the answer is to hold, and with which code it is to end."""
        done = guest.ask(f"export DEBIAN_FRONTEND=noninteractive\ncd /root\n{command}")
        lines = [line.rstrip() for line in done.output.strip().splitlines() if "Reading database" not in line]
        if len(lines) > _LINES:
            lines[_LINES // 3 : len(lines) - 2 * _LINES // 3] = ["[...]"]
        self._typed.append("\n".join(["```", f"# {command}", *lines, "```\n"]))
        right = wanted in " ".join(done.output.split()) and code in (None, done.code)
        self.tell(f"`{command}`", f"ends with {done.code}", right=right)
        return done

    def write(self) -> None:
        """Put it into the page, in the place of what this machine showed before."""
        start, end = (f"<!-- {self.story} on {self.base.name} {word} -->\n" for word in ("from here on", "to here"))
        with open(PAGE, encoding="utf-8") as file:
            before, _, rest = file.read().partition(start)
        _, there, after = rest.partition(end)
        if not there:
            raise SystemExit(f"{PAGE} has no place for {self.story} on {self.base.name}")
        with open(PAGE, "w", encoding="utf-8") as file:
            file.write("\n".join([f"{before}{start}", *self._typed, f"{end}{after}"]))


def _package(checkout: str) -> tuple[str, bytes]:
    """What `make deb` makes of this checkout, by its name."""
    done = subprocess.run(
        [os.path.join(checkout, "tools/deb.sh")], capture_output=True, text=True, timeout=900, check=False
    )
    found = re.search(r"(?m)^dist/(safeupdate_.*_all\.deb)$", done.stdout)
    if found is None:
        raise Lost(f"no package was built:\n{done.stderr[-2000:]}")
    with open(os.path.join(checkout, "dist", found[1]), "rb") as file:
        return found[1], file.read()
