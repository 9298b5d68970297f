"""Time and memory of the whole program, beside their limits."""
