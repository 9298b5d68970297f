"""What is asked of dnf 5: its plug-in for actions, which calls the hook, can tell only of what comes and goes."""

from __future__ import annotations

from safeupdate.hooks.transaction import Source


def source(name: str) -> Source | None:
    """Whether a repository that is switched on has a kernel's headers (`NAME-devel-VERSION-RELEASE.ARCHITECTURE`), by
    libdnf5 and what it has fetched; None where that cannot be told."""
    try:
        import libdnf5  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return None
    try:
        base = libdnf5.base.Base()
        base.load_config()
        # Other actions are not to run here, and nothing is to be fetched.
        base.get_config().get_plugins_option().set(False)
        base.get_config().get_cacheonly_option().set("all")
        base.setup()
        repositories = base.get_repo_sack()
        repositories.create_repos_from_system_configuration()
        repositories.load_repos(libdnf5.repo.Repo.Type_AVAILABLE)
        found, kernel = [], name.replace("-devel-", "-core-")
        for one in (name, kernel):
            packages = libdnf5.rpm.PackageQuery(base)
            packages.filter_available()
            packages.filter_nevra([one])
            found.append(not packages.empty())
    except RuntimeError:  # all that libdnf5 raises
        return None
    if found[0]:
        return "offered"
    # Where not even the kernel is known, its repository was not fetched, or named on the command line.
    return "nowhere" if found[1] else None
