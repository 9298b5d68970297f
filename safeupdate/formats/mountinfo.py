"""/proc/PID/mountinfo: what is mounted now, and where (proc_pid_mountinfo(5))."""

from __future__ import annotations

from dataclasses import dataclass

from safeupdate.errors import FormatError
from safeupdate.formats.fstab import unescape


@dataclass(frozen=True)
class Mount:
    """One mount. `device` is `MAJOR:MINOR`, `root` the directory of the file system that is seen at `point`."""

    id: int
    parent: int
    device: str
    root: str
    point: str
    options: tuple[str, ...]
    fstype: str
    source: str
    super_options: tuple[str, ...] = ()


def parse(data: bytes) -> tuple[Mount, ...]:
    """Every mount, in the kernel's order: later ones hide earlier ones at the same point.

    Raises `FormatError` with the line that has too few fields.
    """
    mounts = []
    for number, line in enumerate(data.decode("utf-8", "surrogateescape").split("\n"), 1):
        if not line.strip():
            continue
        fields = line.split(" ")
        try:
            dash = fields.index("-", 6)
            fstype, source = fields[dash + 1], fields[dash + 2]
            identifier, parent = int(fields[0]), int(fields[1])
        except (ValueError, IndexError):
            raise FormatError("it is no line of a mountinfo file", f"line {number}") from None
        mounts.append(
            Mount(
                id=identifier,
                parent=parent,
                device=fields[2],
                root=unescape(fields[3]),
                point=unescape(fields[4]),
                options=tuple(fields[5].split(",")),
                fstype=unescape(fstype),
                source=unescape(source),
                super_options=tuple(" ".join(fields[dash + 3 :]).split(",")) if len(fields) > dash + 3 else (),
            )
        )
    return tuple(mounts)
