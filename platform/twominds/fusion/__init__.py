"""Ways to fuse one token per modality into one answer."""
