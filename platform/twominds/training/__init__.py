"""Training in plain torch: the loop, its losses and metrics, and who may see which split."""
