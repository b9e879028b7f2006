"""Searches on Ray Tune: of the fusion, and of one modality's encoder."""
