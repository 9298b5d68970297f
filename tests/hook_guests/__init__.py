"""The hooks in machines that boot, and real kernels through real package managers: docs/hooks.md tells of it."""
