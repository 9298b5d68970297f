"""Real machines that check themselves: layouts, their disks, and the guests that run on them. See docs/live.md."""
