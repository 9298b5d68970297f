"""Does the initramfs hold the drivers that lie under the root file system?

The drivers are those that `--require-driver` names; without any the question is not asked, and the report does not list
it. Which ones a machine needs, read from its devices, is not asked yet.
"""

from __future__ import annotations

from collections.abc import Iterator

from safeupdate.case import Case, Check
from safeupdate.errors import FormatError
from safeupdate.formats import modules
from safeupdate.initramfs import Index
from safeupdate.kernels import Kernel
from safeupdate.remedies import make_initramfs
from safeupdate.report import Finding, NotApplicable, blocker


def check(case: Case) -> Iterator[Finding]:
    """Every required driver is built in, or in the image with all that it depends on."""
    if case.kernel is None or case.entry is None:
        raise NotApplicable("it is not known which kernel boots next")
    index = case.index
    if index is not None and index.problem is not None:
        raise NotApplicable("the initramfs is damaged, as the check of that name says")
    builtin = _builtin(case, case.kernel, index)
    for name in case.required_drivers or ():
        missing = _missing(index, case.kernel.release, name.replace("-", "_"), builtin)
        if missing is not None:
            yield blocker(
                "root-storage.driver-missing",
                name,
                f"The driver {name} is neither built into the kernel {case.kernel.release} nor whole in the initramfs: "
                f"{missing} is not there.",
                "The root file system is not found, and the boot stops in the initramfs.",
                remedy=make_initramfs(case.machine, case.kernel.release),
            )


def _builtin(case: Case, kernel: Kernel, index: Index | None) -> frozenset[str]:
    data = case.machine.read_if_there(f"{kernel.modules}/modules.builtin")
    if data is None and index is not None:
        data = index.content(f"/lib/modules/{kernel.release}/modules.builtin")
    return modules.parse_builtin(data or b"")


def _missing(index: Index | None, release: str, name: str, builtin: frozenset[str]) -> str | None:
    """The first module that is not there, of the driver and all that it depends on; None where it is whole."""
    if name in builtin:
        return None
    if index is None:
        return name
    present = {modules.module_name(path) for path in index.modules(release)}
    try:
        listed = modules.parse_dep(index.content(f"/lib/modules/{release}/modules.dep") or b"")
    except FormatError:
        return f"a readable modules.dep that finds {name}"
    needed = {modules.module_name(path): (path, *others) for path, others in listed.items()}
    if name not in present:
        return name
    if name not in needed:
        return f"the line for {name} in modules.dep"
    return next((gone for path in needed[name] if (gone := modules.module_name(path)) not in present), None)


CHECK = Check(
    "root-storage",
    "The initramfs holds the drivers under the root",
    essential=True,
    run=check,
    asked=lambda case: case.required_drivers is not None,
)
