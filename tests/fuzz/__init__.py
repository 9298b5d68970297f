"""Coverage-guided fuzzing of every parser and of whole trees (docs/fuzzing.md)."""

ADDRESS_SPACE = 4 << 30
"""Bytes of virtual memory of a process here: what runs away is stopped before it takes the host along."""
