"""One file a verb; here, what several of them share."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from safeupdate.errors import UsageError

if TYPE_CHECKING:
    from safeupdate.machine import Machine


def machine_at(root: str | None) -> Machine:
    """This machine, or the one below the directory `root`. Raises `UsageError` where there is no such directory.

    A tree that `safeupdate capture` made comes without what its manifest says is not in it.
    """
    from safeupdate.formats import capture_manifest
    from safeupdate.machine import Machine, Space

    if root is None:
        return Machine.here()
    if not os.path.isdir(root):
        raise UsageError(f"{root} is not a directory")
    data = Machine.tree(root).read_if_there(capture_manifest.PATH)
    if data is None:
        return Machine.tree(root)
    manifest = capture_manifest.parse(data)
    return Machine.tree(
        root,
        left_out=manifest.left_out,
        unreadable=manifest.unreadable,
        spaces={path: Space(**vars(one)) for path, one in manifest.file_systems.items()},
    )
