"""What a search tells at its end: a page, its figures, and every number."""
