"""Rehearsing a boot: a virtual machine is started, its serial console watched, and what became of it decided."""
