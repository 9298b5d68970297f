"""The lab: machines that judge themselves, and are then started for real. See docs/lab.md."""
