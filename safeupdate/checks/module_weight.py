"""How much it weighs that kernel modules will not be there: by the strongest need for one of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from safeupdate.case import Case
from safeupdate.module_tree import IN_TREE, ModuleTree
from safeupdate.needs import KINDS, Need
from safeupdate.report import Level


@dataclass(frozen=True)
class Weight:
    """The level at which it is told, what comes of it in a sentence, and the need that decides."""

    level: Level
    consequence: str
    need: Need | None = None

    @property
    def for_root(self) -> bool:
        """Whether the root file system hangs on it."""
        return self.level == "blocker" and self.need is not None and self.need.kind == "root"


def weigh(case: Case, names: Iterable[str]) -> Weight:
    """What it means that the kernel of this case goes without these modules."""
    names = {name.replace("-", "_") for name in names}
    needs = [case.needs[name] for name in sorted(names) if name in case.needs]
    needs.sort(key=lambda need: KINDS.index(need.kind))
    counted = [need for need in needs if not case.config.modules.can_miss(need.module)]
    if needs and not counted:
        return Weight("warning", f"modules.optional says that this machine can do without: {needs[0].why}.", needs[0])
    if not counted:
        return Weight("warning", f"No use of {'them' if len(names) > 1 else 'it'} on this machine is known.")
    need = counted[0]
    if need.kind == "root":
        return Weight("blocker", f"Without {need.module} the root file system is not found: {need.why}.", need)
    if _goes_without(case, need):
        return Weight("warning", f"The running system goes without {need.module}, too, although {need.why}.", need)
    if need.kind in ("boot", "use"):
        return Weight("blocker", f"The machine comes back without what {need.module} does: {need.why}.", need)
    if need.kind == "unclear":
        return Weight(
            "unknown", f"Whether {need.module}, which is loaded now, is in use cannot be told: {need.why}.", need
        )
    return Weight("warning", f"It may not be missed: {need.module} is loaded now, and {need.why}.", need)


def stand_in(tree: ModuleTree, name: str) -> bool:
    """Whether the kernel has a driver of its own by that name."""
    return name in tree.builtin or any(path.startswith(IN_TREE) for path in tree.named(name))


def _goes_without(case: Case, need: Need) -> bool:
    """Whether configuration asks for a module, and the boot that is running came up without it."""
    if need.kind != "boot" or case.machine.running_kernel is None:
        return False
    loaded = case.machine.text("/proc/modules")
    return loaded is not None and not any(line.split(" ", 1)[0] == need.module for line in loaded.splitlines())
