"""What the judged kernel and the mount programs can mount. A part of the check `mounts`."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from safeupdate.case import Case
from safeupdate.errors import FormatError, Unreadable
from safeupdate.formats import modules
from safeupdate.formats.fstab import Line
from safeupdate.machine import Machine


def words(text: str) -> frozenset[str]:
    """A set, written as a text."""
    return frozenset(text.split())


_ON_DEVICES = words("""
    bcachefs btrfs erofs exfat ext2 ext3 ext4 f2fs hfs hfsplus iso9660 jfs minix msdos nilfs2 ntfs ntfs3 ntfs-3g
    reiserfs squashfs udf vfat xfs
""")

_FAMILIES = (
    frozenset({"ext2", "ext3", "ext4"}),
    frozenset({"vfat", "msdos"}),
    frozenset({"ntfs", "ntfs3", "ntfs-3g", "fuseblk"}),
    frozenset({"iso9660", "udf"}),
)
"""Types that one driver mounts under several names."""

_NO_FILE_SYSTEM = frozenset(
    {"crypto_LUKS", "LVM2_member", "linux_raid_member", "zfs_member", "swap", "DM_snapshot_cow"}
)


def is_on_device(fstype: str) -> bool:
    """Whether one of the types that a line names lies on a block device."""
    return any(name == "auto" or name in _ON_DEVICES for name in fstype.split(","))


def same_type(wanted: str, real: str) -> bool:
    """Whether a file system is mounted under that type's name; types that are not known count as the same."""
    for name in wanted.split(","):
        if name == real or any({name, real} <= family for family in _FAMILIES):
            return True
        if real in _NO_FILE_SYSTEM and (name == "auto" or name in _ON_DEVICES):
            continue
        if name not in _ON_DEVICES or real not in _ON_DEVICES:
            return True
    return False


class Support:
    """What the judged kernel and the mount programs can mount."""

    def __init__(self, case: Case) -> None:
        self._case = case

    def lacking(self, line: Line) -> list[str]:
        """What a mount of this line would not find, as half sentences; nothing where it is all there, or not known."""
        machine, release = self._case.machine, self._case.release
        names = ["fuse" if name.startswith("fuse") else name for name in line.fstype.split(",")]
        if release is None or "auto" in names or self._present is None:
            return []
        if not any(self._has(name) or self._helper(name) for name in names):
            return [f"neither the kernel {release} nor a program /sbin/mount.{names[0]} knows that type"]
        if names != ["vfat"] or machine.is_file("/sbin/mount.vfat"):
            return []
        return [
            f"the module {name} that it needs for file names is not there for the kernel {release}"
            for name in self._charsets(line)
            if not self._has(name)
        ]

    def _has(self, name: str) -> bool:
        """Whether the kernel has that type, or module, built in or as a module with all that it depends on."""
        present = self._present
        if present is None:
            return True
        names = {name.replace("-", "_"), *present.aliases.get(f"fs-{name}", ())}
        if name in ("ext2", "ext3"):
            names.add("ext4")  # mounts them too; kernels before 5.2 have no list of a built-in driver's aliases
        return f"fs-{name}" in present.aliases_builtin or any(
            each in present.builtin or present.whole(each) for each in names
        )

    def _helper(self, name: str) -> bool:
        names = (f"mount.{name}", "mount.fuse3") if name == "fuse" else (f"mount.{name}",)
        return any(self._case.machine.has_program(helper) for helper in names)

    def _charsets(self, line: Line) -> list[str]:
        """vfat loads the character sets of its options, else those that the kernel was configured with."""
        kernel = self._case.kernel
        config = (kernel.config if kernel is not None else None) or {}
        page = next(iter(line.values("codepage")), config.get("CONFIG_FAT_DEFAULT_CODEPAGE", ""))
        charset = next(iter(line.values("iocharset")), config.get("CONFIG_FAT_DEFAULT_IOCHARSET", ""))
        names = [f"nls_cp{page}"] if page else []
        return names + ([f"nls_{charset.strip(chr(34))}"] if charset else [])

    @cached_property
    def _present(self) -> _Modules | None:
        """The judged kernel's modules; None where they are not known (`kernel-files` says why)."""
        machine, release = self._case.machine, self._case.release
        directory = f"/lib/modules/{release}"
        try:
            dep = machine.read_if_there(f"{directory}/modules.dep")
            builtin = machine.read_if_there(f"{directory}/modules.builtin")
        except Unreadable:
            return None
        if dep is None or builtin is None:
            return None
        try:
            listed = modules.parse_dep(dep)
        except FormatError:
            return None
        aliases: dict[str, set[str]] = {}
        text = machine.read_if_there(f"{directory}/modules.alias") or b""
        for alias, module in re.findall(rb"^alias (fs-\S+) (\S+)$", text, re.MULTILINE):
            aliases.setdefault(alias.decode("ascii", "replace"), set()).add(
                module.decode("ascii", "replace").replace("-", "_")
            )
        built = machine.read_if_there(f"{directory}/modules.builtin.modinfo") or b""
        return _Modules(
            machine=machine,
            directory=directory,
            builtin=modules.parse_builtin(builtin),
            aliases_builtin=frozenset(
                alias.decode("ascii", "replace") for alias in re.findall(rb"\.alias=(fs-[^\0]+)", built)
            ),
            aliases={alias: tuple(names) for alias, names in aliases.items()},
            files={modules.module_name(path): (path, *needed) for path, needed in listed.items()},
        )


@dataclass(frozen=True)
class _Modules:
    """What depmod's lists say, by module name and by `fs-` alias (request_module of the kernel's fs/filesystems.c)."""

    machine: Machine
    directory: str
    builtin: frozenset[str]
    aliases_builtin: frozenset[str]
    aliases: Mapping[str, tuple[str, ...]]
    files: Mapping[str, tuple[str, ...]]

    def whole(self, name: str) -> bool:
        """Whether the module and all that it depends on are there and not empty."""
        files = [self.machine.stat(posixpath.join(self.directory, path)) for path in self.files.get(name, ())]
        return bool(files) and all(status is not None and status.st_size for status in files)
