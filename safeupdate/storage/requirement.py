"""What a layer of storage needs in the initramfs, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from safeupdate.storage.stack import Layer

Kind = Literal["module", "program", "file", "unit", "rule", "firmware", "configuration"]


@dataclass(frozen=True)
class Requirement:
    """One need. Any one of `names` will do.

    Of a `module` they are the target kernel's own names, as the kernel lists them; of a `program` bare names, looked
    for where early user space looks, or absolute paths; of a `file` absolute paths, with the wildcards of fnmatch; of
    a `unit` the names of units; of a `rule` wildcards for the names of files of udev's rules; of `firmware` paths below
    lib/firmware without what compression appends; of a `configuration` words for what is looked for.

    `must`: without it the boot stops; otherwise it is missed, and the machine comes up, or does so with somebody's
    help: `otherwise` is a sentence that says what becomes of it. `why` is a sentence without its full stop. `met` is
    the answer where the layer has found it out itself: of configuration, which the layer alone understands, and of a
    driver that the target kernel does not have at all. None: whoever holds the image asks it.
    """

    kind: Kind
    names: tuple[str, ...]
    must: bool
    why: str
    layer: Layer
    met: bool | None = None
    otherwise: str = ""
