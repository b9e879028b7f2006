"""Which clips there are: BAH's own layout, any folder or table of videos, and a drawn corpus with planted truth."""
