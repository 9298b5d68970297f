"""Captures of real machines, without boot files, made in them by `safeupdate capture` (tests/lab/capture.py)."""

from __future__ import annotations

import tarfile
from pathlib import Path

from safeupdate.commands import machine_at
from safeupdate.machine import Machine

_CAPTURES = Path(__file__).parent.parent / "data" / "captures"


def unpack(archive: tarfile.TarFile, directory: str | Path) -> None:
    """Unpack a captured tree, whose links lead out of it, as a machine's do."""
    if hasattr(tarfile, "data_filter"):
        archive.extraction_filter = tarfile.fully_trusted_filter
    archive.extractall(directory)


def captured(name: str, directory: Path) -> Machine:
    """The captured machine of that name, unpacked into a directory."""
    with tarfile.open(_CAPTURES / f"{name}.tar.xz") as archive:
        unpack(archive, directory)
    return machine_at(str(directory))
