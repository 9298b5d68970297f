"""Snapshots on real file systems, on loop devices: each story is told by processes alone in their namespaces."""
