"""Folders of results, as they rest between jobs: rows in Parquet, what made them, what was put aside and why."""
