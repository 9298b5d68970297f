"""The list of machines, those that do not come back first."""

from tests.verdicts import broken, kin, odd  # importing them fills the list
from tests.verdicts.entry import BY_NAME, CASES, Case, apply, root_uuid
from tests.verdicts.tree import Tree

__all__ = ["BY_NAME", "CASES", "Case", "Tree", "apply", "broken", "kin", "odd", "root_uuid"]
