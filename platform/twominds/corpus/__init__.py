"""Which clips there are: BAH's own layout, and any folder or table of videos."""
