"""dnf 4: safeupdate looks at what a transaction is about to change, and checks the next boot afterwards.

Its place is dnf's directory of plug-ins, `dnf-plugins` in Python's site-packages. All that is done here is to call
/usr/libexec/safeupdate/hook, so that nothing that goes wrong there is an error of dnf's (docs/hooks.md).
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import dnf
import dnf.exceptions

HOOK = "/usr/libexec/safeupdate/hook"

REFUSED = 3

SECONDS = 900
"""The hook has a time-out of its own, of ten minutes at most."""


class Safeupdate(dnf.Plugin):
    """`dnf --disableplugin=safeupdate` leaves it out; `enabled = 0` in /etc/dnf/plugins/safeupdate.conf for good."""

    name = "safeupdate"

    def pre_transaction(self) -> None:
        """Nothing is changed yet: an error of dnf's here ends it cleanly, every other is passed over."""
        lines = "".join(f"{line}\n" for line in self._packages())
        if self._hook("dnf-pre", lines) == REFUSED:
            raise dnf.exceptions.Error("safeupdate refuses this transaction; nothing was changed")

    def transaction(self) -> None:
        """All is done, the scripts that come last (%posttrans) too."""
        self._hook("dnf-post", "")

    def _packages(self) -> Iterator[str]:
        # The items of the transaction have no package where only the reason changes, for which it was installed.
        for way, packages in (("in", self.base.transaction.install_set), ("out", self.base.transaction.remove_set)):
            for package in packages:
                yield f"{package.name} {package.arch} {package.evr} {way}"

    def _hook(self, name: str, lines: str) -> int:
        if self.base.conf.installroot != "/":
            return 0
        try:
            return subprocess.run([HOOK, name], input=lines, text=True, timeout=SECONDS, check=False).returncode
        except (OSError, subprocess.SubprocessError):
            return 0  # the package was removed, and this file is left
