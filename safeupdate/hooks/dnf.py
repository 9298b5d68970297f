"""What our plug-ins for dnf 4 and dnf 5 tell before rpm starts: a line for each package, with its name, architecture,
epoch, version and release (`[EPOCH:]VERSION-RELEASE`), and `in` or `out`.

That of dnf 4 has a line more for each kernel that comes, of the package with its headers: `offered` by a repository, or
`nowhere` to be had.
"""

from __future__ import annotations

from safeupdate.errors import FormatError
from safeupdate.hooks.transaction import LIMIT, Change, Source, Transaction


def parse(data: bytes) -> Transaction:
    """The transaction. Raises `FormatError` with the number of the line."""
    if len(data) > LIMIT:
        raise FormatError("there is more than a package manager tells")
    changes: list[Change] = []
    sources: list[tuple[str, Source]] = []
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), start=1):
        words = line.split(" ")
        if len(words) != 4 or words[3] not in ("in", "out", "offered", "nowhere"):
            raise FormatError("this is no package as the plug-in tells of it", f"line {number}")
        name, architecture, version, way = words
        version = version.removeprefix("0:")
        if way in ("in", "out"):
            changes.append(Change(name, architecture, *((None, version) if way == "in" else (version, None))))
        else:
            place: Source = "offered" if way == "offered" else "nowhere"
            sources.append((f"{name}-{version.rpartition(':')[2]}.{architecture}", place))
    return Transaction(tuple(changes), removes_last=True, sources=tuple(sources))
