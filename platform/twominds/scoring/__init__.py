"""From embeddings to a defensible score, and the one path from a clip to it."""
