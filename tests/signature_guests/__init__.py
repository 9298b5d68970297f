"""Crafted modules and kernel images, shown to a real kernel and a real shim (docs/signatures-guests.md)."""
