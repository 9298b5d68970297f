"""Which keys a kernel will trust that is not running yet, and whether it will enforce signatures."""
