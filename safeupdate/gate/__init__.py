"""Whether a reboot is let through: the verdict, a policy, and one file for each lever that holds reboots back.

All of it acts, through `host.Host` alone, and only `settle` decides to. `docs/gate.md` has the promises.
"""
