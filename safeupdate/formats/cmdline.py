"""The kernel's command line (Documentation/admin-guide/kernel-parameters.rst; lib/cmdline.c, next_arg)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_WORD = re.compile(r'(?:"[^"]*"?|[^\s"])+')


@dataclass(frozen=True)
class CommandLine:
    """The parameters in their order; a value is None for a bare word."""

    parameters: tuple[tuple[str, str | None], ...]

    def all(self, name: str) -> tuple[str, ...]:
        """Every value given to `name`, a bare word as the empty string."""
        return tuple(value or "" for key, value in self.parameters if key == name)

    def last(self, name: str) -> str | None:
        """The value that counts: kernel, initramfs-tools and dracut all take the last. None: not given."""
        values = self.all(name)
        return values[-1] if values else None

    def __contains__(self, name: object) -> bool:
        return any(key == name for key, _ in self.parameters)


def parse(text: str) -> CommandLine:
    """Split a command line; double quotes hold blanks together, around a value or a whole word."""
    parameters = []
    for word in _WORD.findall(text):
        if word.startswith('"') and word.endswith('"'):
            word = word[1:-1]
        name, equals, value = word.partition("=")
        parameters.append((name, value.strip('"') if equals else None))
    return CommandLine(tuple(parameters))
