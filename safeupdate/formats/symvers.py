"""Module.symvers: what a kernel and its modules export, with checksums (Documentation/kbuild/modules.rst)."""

from __future__ import annotations

from typing import NamedTuple

from safeupdate.errors import FormatError

KERNEL = "vmlinux"
"""What `Exported.module` says of the kernel itself; of a module it is a path without suffix, as `fs/jbd2/jbd2`."""


class Exported(NamedTuple):
    """One symbol: its checksum (0 in a kernel without symbol versions), and the module that brings it."""

    checksum: int
    module: str


def parse(data: bytes) -> dict[str, Exported]:
    """Every symbol by its name. Raises `FormatError` with the line for one that is no symbol's, and for a file that was
    cut. The columns behind the module (licence, namespace) have changed their order over the years, and are not read.
    """
    if not data.endswith(b"\n"):
        raise FormatError("the last line was cut", f"line {data.count(bytes([10])) + 1}")
    found = {}
    for number, line in enumerate(data.decode("utf-8", "surrogateescape").split("\n")[:-1], 1):
        try:
            checksum, name, module, *_ = line.split("\t", 3)
            found[name] = Exported(int(checksum, 16), module)
        except ValueError:
            raise FormatError("a line that names no symbol", f"line {number}") from None
    return found
