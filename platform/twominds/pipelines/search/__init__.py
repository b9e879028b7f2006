"""Searches on Ray Tune: of the fusion, and of one view's encoder."""
