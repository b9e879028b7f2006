"""Ways to fuse one token per view into one answer."""
