"""A paper's whole table: the parts that its rows share, the rows, and their report."""
