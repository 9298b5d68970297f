"""dnf 4: safeupdate looks at what a transaction is about to change, and checks the next boot afterwards.

Its place is dnf's directory of plug-ins, `dnf-plugins` in Python's site-packages. All that is done here is to call
/usr/libexec/safeupdate/hook, so that nothing that goes wrong there is an error of dnf's (docs/hooks.md).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
from collections.abc import Iterator

import dnf
import dnf.exceptions

HOOK = "/usr/libexec/safeupdate/hook"

LOCK = "/run/safeupdate/dnf"
"""Held from before the transaction until the hook behind it has ended. rpm's own lock is given up before that, and what
watches for changes (safeupdate/hooks/idle.py) would look first, and leave nothing to be told here."""

REFUSED = 3

SECONDS = 900
"""The hook has a time-out of its own, of ten minutes at most."""


class Safeupdate(dnf.Plugin):
    """`dnf --disableplugin=safeupdate` leaves it out; `enabled = 0` in /etc/dnf/plugins/safeupdate.conf for good."""

    name = "safeupdate"

    _lock = -1

    def pre_transaction(self) -> None:
        """Nothing is changed yet: an error of dnf's ends it cleanly, and so does Ctrl-C; others are passed over."""
        lines = "".join(f"{line}\n" for line in self._packages())
        if self._hook("dnf-pre", lines) == REFUSED:
            raise dnf.exceptions.Error("safeupdate refuses this transaction; nothing was changed")
        if self.base.conf.installroot == "/":
            self._begin()

    def transaction(self) -> None:
        """All is done, the scripts that come last (%posttrans) too."""
        with _interrupts_are_for_the_hook():
            self._hook("dnf-post", "")
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _begin(self) -> None:
        """Take the lock, which is given up at the latest when dnf ends. Where it cannot be had nothing hangs on it."""
        with contextlib.suppress(OSError):
            lock = os.open(LOCK, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(lock)
                raise
            self._lock = lock

    def _packages(self) -> Iterator[str]:
        # The items of the transaction have no package where only the reason changes, for which it was installed.
        coming = self.base.transaction.install_set
        for way, packages in (("in", coming), ("out", self.base.transaction.remove_set)):
            for package in packages:
                yield f"{package.name} {package.arch} {package.evr} {way}"
        offered = self.base.sack.query().available()
        for kernel in coming:
            flavour, core, _ = kernel.name.rpartition("-core")
            if core and kernel.name.startswith("kernel-"):
                headers = f"{flavour}-devel"
                found = offered.filter(name=headers, evr=kernel.evr, arch=kernel.arch)
                yield f"{headers} {kernel.arch} {kernel.evr} {'offered' if found else 'nowhere'}"

    def _hook(self, name: str, lines: str) -> int:
        if self.base.conf.installroot != "/":
            return 0
        try:
            # No pipe: dnf lets SIGPIPE end it, and a hook that ends early reads nothing.
            with open(os.memfd_create("safeupdate"), "w+", encoding="utf-8") as told:
                told.write(lines)
                told.seek(0)
                return subprocess.run([HOOK, name], stdin=told, timeout=SECONDS, check=False).returncode
        except (OSError, subprocess.SubprocessError):
            return 0  # the package was removed, and this file is left


@contextlib.contextmanager
def _interrupts_are_for_the_hook() -> Iterator[None]:
    """At Ctrl-C it ends its check; dnf, which gets that too, has done all that it was asked for.

    A handler that does nothing is not inherited, as SIG_IGN would be.
    """
    try:
        before = signal.signal(signal.SIGINT, lambda *_: None)
    except ValueError:  # only the main thread may set it, and gets it
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)
