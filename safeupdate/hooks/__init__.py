"""What package managers call before and after a transaction (docs/hooks.md): a file each, whose `parse` turns what its
manager tells into one `Transaction`. Whether there is anything to do is decided before, in `plugins/hook`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from safeupdate.hooks import apt, dnf
from safeupdate.hooks.transaction import Transaction

PARSERS: Mapping[str, Callable[[bytes], Transaction]] = {"apt": apt.parse, "dnf": dnf.parse, "dnf5": dnf.parse}
"""By the name of the manager; dnf 4 and dnf 5 are told of in the same lines, which our own plug-ins write."""
