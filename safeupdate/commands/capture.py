"""`safeupdate capture`: what a check reads, copied into a tree that can be judged elsewhere."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from safeupdate.errors import UsageError

if TYPE_CHECKING:
    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]

_SHOWN = 5
"""Unreadable files that are named one by one."""


def add(verbs: Verbs) -> None:
    """The verb's arguments."""
    parser = verbs.add_parser(
        "capture",
        help="copy what a check reads into a directory",
        description="Copy what a check reads into DIR, for `safeupdate check --root DIR` on this or another machine. "
        "Secrets are left out. Exit code 0: captured, 1: it could not be written.",
    )
    parser.add_argument("directory", metavar="DIR", help="where to; must not exist, or be empty")
    parser.add_argument(
        "--boot",
        action="store_true",
        help="with the content of kernels, initramfs images and modules (an initramfs may hold keys)",
    )
    parser.add_argument("--root", metavar="DIR", dest="tree", help="capture the machine whose files lie below DIR")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Capture, and say what went in and what did not."""
    from safeupdate.capture import capture
    from safeupdate.formats import capture_manifest
    from safeupdate.machine import Machine

    if arguments.tree is not None and not os.path.isdir(arguments.tree):
        raise UsageError(f"{arguments.tree} is not a directory")
    machine = Machine.here() if arguments.tree is None else Machine.tree(arguments.tree)
    summary = capture(machine, arguments.directory, boot=arguments.boot)
    print(f"Captured {summary.files} files and {summary.links} links in {summary.destination} ({_size(summary.size)}).")
    print(f"Of {summary.left_out} files only name and size went in; {capture_manifest.PATH[1:]} there lists them.")
    if not summary.boot:
        print("Kernels, initramfs images and modules are among those; --boot takes them with their content.")
    else:
        print("Initramfs images may hold keys: look before you hand them on.")
    for path in summary.unreadable[:_SHOWN]:
        print(f"Could not be read: {path}")
    if len(summary.unreadable) > _SHOWN:
        print(f"... and {len(summary.unreadable) - _SHOWN} more.")
    if summary.unreadable and os.geteuid() != 0:
        print("Run it as root to have those too.")
    print(f"Judge it with: safeupdate check --root {summary.destination}")
    sys.stdout.flush()
    return 0


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count / 1e3:.1f} kB"
