"""A paper's whole table: makes the parts that its rows share, trains the rows, and has them reported."""
