"""dkms.conf, which dkms(8) has bash read: what it says of a package's modules and of the kernels that they are for.

What only bash could compute is None, "not known", never a guess: conditions are frequent in these files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from safeupdate.formats import bash, bash_grammar
from safeupdate.formats.bash import LATER, Value

DIRECTIVES = frozenset(
    (
        *("PACKAGE_NAME", "PACKAGE_VERSION", "AUTOINSTALL", "OBSOLETE_BY", "BUILD_DEPENDS"),
        *("BUILT_MODULE_NAME", "BUILT_MODULE_LOCATION", "DEST_MODULE_NAME", "DEST_MODULE_LOCATION"),
        *("BUILD_EXCLUSIVE_KERNEL", "BUILD_EXCLUSIVE_KERNEL_MIN", "BUILD_EXCLUSIVE_KERNEL_MAX"),
        *("BUILD_EXCLUSIVE_ARCH", "BUILD_EXCLUSIVE_CONFIG"),
    )
)
"""What is read here. dkms unsets them before it reads the file, and of several files each sees the others' values."""

FRAMEWORK = frozenset(("dkms_tree", "source_tree", "install_tree"))
"""What is read of framework.conf."""

_NOT_YET = {name: LATER + name for name in ("kernelver", "kernel_source_dir", "kernel_config", "arch")}
_ARRAYS = ("BUILT_MODULE_NAME", "BUILT_MODULE_LOCATION", "DEST_MODULE_NAME", "DEST_MODULE_LOCATION")


class Module(NamedTuple):
    """One module: the name that it is built with, which is the kernel's, its file's, without suffix, and where in
    /lib/modules/R that is to go; None is not known. Debian's nvidia is installed as nvidia-current."""

    built: Value
    name: Value
    location: Value


@dataclass(frozen=True)
class DkmsConf:
    """The directives' values by index; None where a value is not known, no index where nothing is set.

    `unsure` are the directives that may hold more than stands here.
    """

    values: Mapping[str, Mapping[int, Value]] = field(default_factory=dict)
    unsure: frozenset[str] = frozenset()

    def value(self, name: str, index: int = 0) -> Value:
        """One directive's value: empty where it is not set, None where that is not known."""
        if index in self.values.get(name, {}):
            return self.values[name][index]
        return None if name in self.unsure else ""

    def array(self, name: str) -> tuple[str, ...]:
        """The words of a directive that names several, as far as they are known."""
        values = self.values.get(name, {})
        return tuple(word for index in sorted(values) for word in (values[index] or "").split())

    @property
    def modules(self) -> tuple[Module, ...]:
        """The modules, as dkms counts them: as many as the longest of the arrays has, with its defaults."""
        count = 1 + max((index for name in _ARRAYS for index in self.values.get(name, {})), default=-1)
        found = []
        for index in range(count):
            built: Value = self.value("BUILT_MODULE_NAME", index)
            if built == "" and count == 1:
                built = self.value("PACKAGE_NAME")
            name = self.value("DEST_MODULE_NAME", index)
            name = built if name == "" else name
            found.append(Module(built or None, name or None, self.value("DEST_MODULE_LOCATION", index)))
        return tuple(found)

    @property
    def lists_all_modules(self) -> bool:
        """Whether the names of all modules are known."""
        named = not self.unsure & set(_ARRAYS)
        return named and bool(self.modules) and all(module.name is not None for module in self.modules)


def parse(texts: Iterable[bytes], variables: Mapping[str, str], config: Mapping[str, str] | None = None) -> DkmsConf:
    """What dkms.conf and the files of /etc/dkms that override it, in their order, set together.

    `variables` are those that dkms sets (`dkms_tree`, `source_tree`, `module`, `module_version`, and for a kernel
    `kernelver`, `kernel_source_dir`, `arch`): without a kernel, what hangs on it is not known. `config` is that
    kernel's configuration, option to value, where it is known. Raises `FormatError` with the line for what bash would
    not read either.
    """
    given = {**_NOT_YET, **variables}
    source, release = given["kernel_source_dir"], given["kernelver"]
    files = [f"{source}/.config", f"{source}/include/config/auto.conf", f"/boot/config-{release}"]
    files += [f"/lib/modules/{release}/build/.config", f"/lib/modules/{release}/config"]
    shell = bash.Shell(given, unset=DIRECTIVES, options=config, option_files=files)
    for data in texts:
        shell.source(bash_grammar.program(data))
    known = DIRECTIVES & set(shell.values)
    return DkmsConf(
        {name: {index: _value(value) for index, value in shell.values[name].items()} for name in known},
        frozenset(shell.unsure & DIRECTIVES),
    )


def parse_framework(texts: Iterable[bytes]) -> dict[str, Value]:
    """What framework.conf and the files of framework.conf.d set, in their order; None where a value is not known.

    Raises `FormatError` as `parse` does.
    """
    shell = bash.Shell(_NOT_YET, unset=FRAMEWORK)
    for data in texts:
        shell.source(bash_grammar.program(data))
    return {name: _value(shell.get(name)) for name in FRAMEWORK & set(shell.values)}


def _value(value: Value) -> Value:
    return None if value is None or LATER in value else _clean(value)


def _clean(value: str) -> str:
    """Between reading and using, dkms has a shell read each value again: blanks run together."""
    return " ".join(value.split())


def compare(one: str, other: str) -> int:
    """Below, at or above zero: the order of two versions as dkms has it, each number padded to three digits."""
    first, second = (re.sub(r"\d+", lambda number: number.group().zfill(3), version) for version in (one, other))
    return (first > second) - (first < second)
