"""What stands in for data and weights that can't be had: drawn corpora with planted truth, and debug weights."""
