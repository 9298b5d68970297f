"""What a package manager is about to do, as one value whichever it is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from safeupdate.packages import Package

LIMIT = 8 << 20
"""Bytes that are read of a package manager: an upgrade to another release has 3,000 packages, of 200 bytes each."""

Source = Literal["later", "offered", "nowhere"]
"""Where a package is that a transaction does not bring: it comes by itself with one that can be upgraded, maybe in the
manager's next transaction; it can be installed by its name; or nobody has it."""

_DEBIAN = re.compile(
    r"(?:linux-(?:image|signed-image)(?:-unsigned)?-(?=\d+\.\d+\.\d)|(?:pve|proxmox)-kernel-(?=.+-pve))"
    r"(?P<release>\d.*?)(?:-signed)?"
)
"""A metapackage has no third number (linux-image-6.8-generic), or no `-pve` (proxmox-kernel-6.8)."""

_DEBUG = re.compile(r".+-(?:dbg|dbgsym)")

_RPM = re.compile(r"kernel(?:-(?P<flavour>uek|rt|64k|rt-64k|debug))?-core")
"""The package that brings the image, on Fedora and RHEL and their kin."""


@dataclass(frozen=True)
class Change:
    """One package: the version that is there and the one that comes, either None where there is none.

    Versions are as the manager writes them, of rpm with the epoch if it has one.
    """

    name: str
    architecture: str
    old: str | None
    new: str | None

    @property
    def release(self) -> str | None:
        """The release of the kernel whose image is in the package; None for every other package."""
        found = _DEBIAN.fullmatch(self.name)
        if found is not None:
            return None if _DEBUG.fullmatch(self.name) else found["release"]
        found = _RPM.fullmatch(self.name)
        version = self.new or self.old
        if found is None or version is None:
            return None
        flavour = found["flavour"]
        # UEK has its flavour within its release.
        return f"{version.rpartition(':')[2]}.{self.architecture}" + (
            f"+{flavour}" if flavour not in (None, "uek") else ""
        )


@dataclass(frozen=True)
class Transaction:
    """What comes and what goes, in the manager's order. `configured` are packages that are only set up: they were
    unpacked before. `removes_last`: what goes is removed after what comes is in, as rpm does it. `sources` says of
    packages that do not come where they are, as far as the manager has told it; by names as `remedies` has them."""

    changes: tuple[Change, ...] = ()
    configured: frozenset[str] = frozenset()
    removes_last: bool = False
    sources: tuple[tuple[str, Source], ...] = ()

    @property
    def coming(self) -> tuple[str, ...]:
        """Releases of kernels whose package was not there."""
        gone = self._releases(old=True)
        return tuple(release for release in self._releases(old=False) if release not in gone)

    @property
    def going(self) -> tuple[str, ...]:
        """Releases of kernels whose package is not there any more afterwards."""
        come = self._releases(old=False)
        return tuple(release for release in self._releases(old=True) if release not in come)

    def _releases(self, *, old: bool) -> tuple[str, ...]:
        found = (one.release for one in self.changes if (one.old if old else one.new) is not None)
        return tuple(dict.fromkeys(release for release in found if release is not None))

    def brings(self, name: str) -> bool:
        """Whether a package comes, given its name, or, of rpm, name, version and architecture as `remedies` has it."""
        return any(
            one.new is not None and name in (one.name, f"{one.name}-{one.new.rpartition(':')[2]}.{one.architecture}")
            for one in self.changes
        )

    def touches(self, package: Package) -> bool:
        """Whether the package is installed, set up or removed in this transaction."""
        return package.name in self.configured or any(one.name == package.name for one in self.changes)
