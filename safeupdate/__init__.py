"""safeupdate: if this machine reboots now, will it come back?"""

__version__ = "0.1.0"
