"""What the boot loader will do: the values that every loader's reader fills in."""

from __future__ import annotations

from dataclasses import dataclass

from safeupdate.report import Finding


@dataclass(frozen=True)
class BootFile:
    """A file that an entry names.

    `spec` is the name as the loader's configuration has it. `path` is where the file is on this machine; None when the
    file system that the loader reads is not to be seen here. `absent` says that the loader surely does not find it
    (its file system does not exist, or the file is not on it). `volume` names the file system as the loader does
    (`UUID=…`), where it does.
    """

    spec: str
    path: str | None
    absent: bool = False
    why: str = ""
    volume: str | None = None


@dataclass(frozen=True)
class BootEntry:
    """One thing the loader can start.

    `source` is the file, and where it has lines the line, that defines it. `release` is the kernel release, None where
    nothing tells it. `without_initramfs_first` marks Ubuntu's GRUB_FORCE_PARTUUID entries: the kernel is started with
    `cmdline_without_initramfs` and no image, and with the image only after that has failed.
    """

    loader: str
    id: str
    title: str
    source: str
    kernel: BootFile | None = None
    initramfs: tuple[BootFile, ...] = ()
    cmdline: str = ""
    release: str | None = None
    devicetree: BootFile | None = None
    submenus: tuple[str, ...] = ()
    tries_left: int | None = None
    tries_done: int | None = None
    without_initramfs_first: bool = False
    cmdline_without_initramfs: str = ""
    unresolved: tuple[str, ...] = ()
    machine_id: str | None = None
    embedded: bool = False
    """A unified kernel image: kernel, initramfs and command line are sections of the one file."""


@dataclass(frozen=True)
class BootPlan:
    """What starts this machine next.

    `entries` stand in menu order. `next` is None when nothing would start, or when it cannot be told; `findings` then
    hold a blocker or an unknown with the place. `automatic` is the entry that the loader goes to without a person when
    `next` fails. `menu` says whether a person at the console can choose another entry.
    """

    loader: str | None
    entries: tuple[BootEntry, ...] = ()
    next: BootEntry | None = None
    why: str = ""
    findings: tuple[Finding, ...] = ()
    automatic: BootEntry | None = None
    menu: bool = True
    config: str | None = None
    """The file that defines the menu, or its directory."""
    programs: tuple[str, ...] = ()
    """The EFI programs that hand over to one another, as paths on this machine: the firmware starts the first, the
    last is the loader, or the kernel itself. Empty where they are not to be seen."""
    remembers: bool = False
    """Starting `next` makes it the default of the boots after it (GRUB_SAVEDEFAULT)."""
    actual: BootPlan | None = None
    """What happens while our own lever holds the default; this plan is then told without it. None where it does not."""
