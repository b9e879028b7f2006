"""Frozen backbones: a decoded clip becomes arrays, one extractor per modality."""
