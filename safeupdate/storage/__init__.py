"""What lies under a file system, from sysfs."""
