"""Trained unimodal models: features of one modality become logits and one embedding per clip."""
