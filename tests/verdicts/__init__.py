"""A corpus of machines, broken and healthy, each with the verdict that is true of it (docs/verdicts.md)."""
