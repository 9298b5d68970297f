"""What package managers call before and after a transaction (docs/hooks.md): a file each, whose `parse` turns what its
manager tells into one `Transaction`, and whose `source` asks where a package is that does not come. Whether there is
anything to do is decided before, in `plugins/hook`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from safeupdate.hooks import apt, dnf, dnf5
from safeupdate.hooks.transaction import Source, Transaction

PARSERS: Mapping[str, Callable[[bytes], Transaction]] = {"apt": apt.parse, "dnf": dnf.parse, "dnf5": dnf.parse}
"""By the name of the manager; dnf 4 and dnf 5 are told of in the same lines, which our own plug-ins write."""

SOURCES: Mapping[str, Callable[[str], Source | None]] = {"apt": apt.source, "dnf5": dnf5.source}
"""By the name of the manager. The plug-in for dnf 4 tells of it unasked, as it has all repositories open."""
