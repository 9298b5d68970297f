"""Packages of Debian 12 that are unpacked and not installed: EFI programs as the distribution signs them, and the
kernel's sign-file. No root tree has them: the sample machines start without UEFI and build no modules."""

from __future__ import annotations

import glob
import os
import re
import tempfile

from machines.build import BuildError, _locked, _run, cache

_PACKAGES = {
    "shim-signed": "x/shim-signed",
    "shim-helpers-amd64-signed": "x/shim-helpers-amd64-signed",
    "grub-efi-amd64-signed": "x/grub-efi-amd64-signed",
    "refind": "x/refind",
    "ipxe": "x/ipxe",
    "syslinux-efi": "x/syslinux-efi",
    "linux-kbuild-6.1": "kbuild/x",
}
"""Where each one goes, below the directory that `unpacked` returns."""

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_SOURCES = f"""deb [arch=amd64 signed-by={_KEYRING}] http://deb.debian.org/debian bookworm main
deb [arch=amd64 signed-by={_KEYRING}] http://deb.debian.org/debian-security bookworm-security main
"""
_OFFLINE = "Temporary failure resolving|Could not resolve|Could not connect|Network is unreachable|onnection timed out"

TIMEOUT = 600
"""Seconds for apt-get: 20 MB, a quarter of a minute with a near mirror."""


class Offline(BuildError):
    """The packages are not here, and there is no network."""


def unpacked() -> str:
    """The directory in which they are, fetched first where one is missing. Raises `BuildError`.

    The host may be of another release, and its own lists of packages are neither used nor changed.
    """
    directory = os.path.join(cache(), "debs")
    if _missing(directory):
        with _locked(os.path.join(directory, "lock")):
            missing = _missing(directory)
            if missing:
                _fetch(directory, missing)
    return directory


def _missing(directory: str) -> list[str]:
    return [name for name, place in _PACKAGES.items() if not os.path.isdir(os.path.join(directory, place))]


def _fetch(directory: str, packages: list[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="new.", dir=directory) as work:
        for name in ("lists/partial", "cache/archives/partial", "debs"):
            os.makedirs(os.path.join(work, name))
        for name, content in (("sources.list", _SOURCES), ("status", "")):
            with open(os.path.join(work, name), "w", encoding="ascii") as file:
                file.write(content)
        options = {
            "Dir::Etc::sourcelist": f"{work}/sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::State::lists": f"{work}/lists",
            "Dir::State::status": f"{work}/status",
            "Dir::Cache": f"{work}/cache",
            "APT::Architecture": "amd64",
            "APT::Sandbox::User": "",
            "APT::Update::Error-Mode": "any",
            "Acquire::Languages": "none",
            "Acquire::Retries": "2",
            "Acquire::http::Timeout": "30",
        }
        apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
        try:
            for command in ("update",), ("download", *packages):
                # What is downloaded comes into the current directory.
                _run(["env", f"--chdir={work}/debs", *apt, *command], {"LC_ALL": "C"}, timeout=TIMEOUT)
        except BuildError as error:
            raise Offline(str(error)) if re.search(_OFFLINE, str(error)) else error from None
        for name in packages:
            (package,) = glob.glob(f"{work}/debs/{name}_*.deb")
            tree = os.path.join(work, name)
            _run(["dpkg-deb", "--extract", package, tree], {}, timeout=60)
            place = os.path.join(directory, _PACKAGES[name])
            os.makedirs(os.path.dirname(place), exist_ok=True)
            os.rename(tree, place)
