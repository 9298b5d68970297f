"""What is done in the boxes. Each story returns what a test then looks at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.snapshots.box import NEW, OLD, Box


def _update(box: Box) -> None:
    """A transaction that changes a file, and brings a kernel in the place of the old one."""
    (box.root / "etc/motd").write_text("new\n")
    (box.root / "etc/new").write_text("")
    box.kernels(NEW)


def _state(box: Box) -> dict[str, Any]:
    return {
        "motd": box.text("/etc/motd"),
        "new": box.text("/etc/new"),
        "boot": sorted(path.name for path in (box.root / "boot").glob("*-*")),
        "menu": OLD in (box.text("/boot/grub/grub.cfg") or ""),
        "machines": box.text("/var/lib/machines/one"),
    }


def _there_and_back(box: Box) -> dict[str, Any]:
    """Take one, update, look at the plan, execute it, reboot."""
    created = box.command("snapshot", "create")
    _update(box)
    plan = box.command("snapshot", "undo", "1")
    planned = _state(box)
    undone = box.command("snapshot", "undo", "1", "--execute")
    box.reboot()
    return {
        "created": created,
        "plan": plan,
        "planned": planned,
        "undone": undone,
        "after": _state(box),
        "listed": box.command("snapshot", "list"),
        "deleted": box.command("snapshot", "delete", "1"),
        "empty": box.command("snapshot", "list"),
    }


def by_name(directory: Path) -> Any:
    box = Box(directory)
    box.nest("var/lib/machines")
    return _there_and_back(box)


def with_boot(directory: Path) -> Any:
    return _there_and_back(Box(directory, boot=True))


def flat(directory: Path) -> Any:
    box = Box(directory, subvolume="", flags="")
    box.nest("var/lib/machines")
    return _there_and_back(box)


def by_default(directory: Path) -> Any:
    return _there_and_back(Box(directory, subvolume="root", flags=""))


STORIES = {one.__name__: one for one in (by_name, with_boot, flat, by_default)}
