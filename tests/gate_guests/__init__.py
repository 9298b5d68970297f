"""The gate in machines that boot: docs/gate.md says what came of it."""
