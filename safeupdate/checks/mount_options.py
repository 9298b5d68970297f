"""Options of a mount that neither mount(8) nor the file system's driver knows. A part of `mounts` and `boot-entry`.

A driver holds the names of its options as C strings (`struct fs_parameter_spec`, `match_table_t` before): with one that
it does not know nothing is mounted (the kernel's fs/fs_context.c, "Unknown parameter").
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from safeupdate.case import Case
from safeupdate.checks.mount_types import words
from safeupdate.errors import FormatError, Missing, NoDecoder, Unreadable

_GENERAL = words("""
    async atime auto bind comment context defaults defcontext dev diratime dirsync exec fscontext group helper iversion
    lazytime loop loud make-private make-rprivate make-rshared make-rslave make-runbindable make-shared make-slave
    make-unbindable mand move noatime noauto nodev nodiratime noexec nofail nogroup noiversion nolazytime nomand noowner
    norelatime nostrictatime nosuid nosymfollow nouser nousers offset owner private rbind relatime remount ro
    rootcontext rprivate rshared rslave runbindable rw seclabel shared silent sizelimit slave smackfsdef smackfsdefault
    smackfsfloor smackfshat smackfsroot smackfstransmute source strictatime suid symfollow sync uhelper unbindable user
    users verbose _netdev _rnetdev
""")
"""What mount(8), the kernel's own layer above the drivers, and its security modules take."""

_KEPT = ("x-", "X-", "verity.")
"""How options begin that mount(8) keeps for itself."""

_DRIVERS = {
    "btrfs": ("compress", ("btrfs",)),
    "ext4": ("errors", ("ext4",)),
    "vfat": ("umask", ("fat", "vfat")),
    "xfs": ("logbufs", ("xfs",)),
}
"""The modules that read the options of a type, and an option that each version knows: names of options can be seen."""

_DRIVER_LIMIT = 32 << 20
"""Bytes of a module; btrfs has three million."""

_SIZE = re.compile(r"(?:0[xX][0-9a-fA-F]+|\d+)[kKmMgGtTpPeE]?%?")
"""memparse() of the kernel's lib/cmdline.c, and the sign for a share of the memory."""


def refused(case: Case, fstype: str, options: Iterable[str]) -> list[str]:
    """Those of the options with which the judged kernel does not mount that type; none where that cannot be told."""
    if fstype == "tmpfs":
        pairs = ((option, *option.partition("=")) for option in options)
        return [
            option
            for option, name, _, value in pairs
            if name in ("size", "nr_blocks", "nr_inodes") and value and not _SIZE.fullmatch(value)
        ]
    own = [option for option in options if option and not _is_general(option)]
    if not own or fstype not in _DRIVERS:
        return []
    witness, modules = _DRIVERS[fstype]
    driver = _content(case, modules)
    if not _knows(driver, witness):
        return []
    return [option for option in own if not _knows(driver, option.partition("=")[0])]


def _is_general(option: str) -> bool:
    return option.partition("=")[0] in _GENERAL or option.startswith(_KEPT)


def _knows(driver: bytes, name: str) -> bool:
    """Whether the driver may know it: a flag that can be denied is there once, without its `no`."""
    names = (name, name[2:]) if name.startswith("no") else (name,)
    return any(
        each.encode("utf-8", "surrogateescape") + end in driver for each in names if each for end in (b"\0", b"=")
    )


def _content(case: Case, modules: Iterable[str]) -> bytes:
    """What these modules hold; nothing where one is built in, or cannot be read (`kernel-files` speaks of that)."""
    found = []
    for name in modules:
        path = case.tree.chosen(name) if case.tree is not None else None
        if case.tree is None or path is None:
            return b""
        try:
            with case.tree.open(path) as file:
                found.append(file.read(_DRIVER_LIMIT))
        except (Missing, Unreadable, NoDecoder, FormatError):
            return b""
    return b"".join(found)
