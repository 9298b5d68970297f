"""Guests whose root lies on each of the layers that `root-storage` speaks of: made, captured, and started from images
of which something was taken out. Not a part of CI."""
