"""What apt tells before it starts dpkg: `DPkg::Pre-Install-Pkgs`, version 3 (apt.conf(5), "DPkg::Tools::Options").

A line of the version, lines of configuration, an empty line, and then a line for each package: name, the version that
is there with its architecture and multi-arch kind, `<`, `=` or `>`, the same three of the version that comes, and the
file that is installed, or `**CONFIGURE**`, or `**REMOVE**`; `-` is for a version that there is none of. Our wrapper
passes on only lines of packages that matter to the boot.
"""

from __future__ import annotations

from safeupdate.errors import FormatError
from safeupdate.hooks.transaction import LIMIT, Change, Source, Transaction

_COLUMNS = 9


def parse(data: bytes) -> Transaction:
    """The transaction. Raises `FormatError` with the number of the line."""
    if len(data) > LIMIT:
        raise FormatError("there is more than a package manager tells")
    changes, configured = [], set()
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), start=1):
        words = line.split(" ")
        if not line or len(words) == 1 or words[0] == "VERSION":
            continue  # how apt is configured, in which a space is written as %20
        if len(words) < _COLUMNS or words[4] not in ("<", "=", ">"):
            raise FormatError("this is no package as apt tells of it, in version 3", f"line {number}")
        name, old, old_architecture, _, _, new, new_architecture, _ = words[: _COLUMNS - 1]
        what = " ".join(words[_COLUMNS - 1 :])
        if what == "**CONFIGURE**":
            configured.add(name)
            continue
        comes = what != "**REMOVE**" and new != "-"
        changes.append(
            Change(name, new_architecture if comes else old_architecture, _version(old), new if comes else None)
        )
    return Transaction(tuple(changes), frozenset(configured))


def _version(word: str) -> str | None:
    return None if word == "-" else word


def source(name: str, root: str | None = None) -> Source | None:
    """Where a package is, by python-apt; None where it cannot be told. It comes later where an installed package can be
    upgraded to a version that depends on it: unattended-upgrades makes many transactions of one upgrade.

    With `root`, of the system below that directory.
    """
    try:
        import apt_pkg
    except ImportError:
        return None
    try:
        apt_pkg.init()
        if root is not None:
            apt_pkg.config.set("Dir", root)
            apt_pkg.config.set("Dir::State::status", f"{root}/var/lib/dpkg/status")
        cache = apt_pkg.Cache(None)
        if name not in cache or not cache[name].has_versions:
            return "nowhere"
        policy = apt_pkg.DepCache(cache)
        for package in {one.parent_pkg.id: one.parent_pkg for one in cache[name].rev_depends_list}.values():
            candidate = policy.get_candidate_ver(package)
            if package.current_ver is None or candidate is None or candidate == package.current_ver:
                continue
            groups = candidate.depends_list.get("Depends", [])
            if any(option.target_pkg.name == name for group in groups for option in group):
                return "later"
        return "offered" if policy.get_candidate_ver(cache[name]) is not None else "nowhere"
    except apt_pkg.Error:
        return None
