"""A drawn corpus in exactly BAH's layout, with planted truth: anyone may have it, and what to find in it is known.

`corpus.make_corpus` draws one; `drawing.draw_frame` and `casting.random_scene` draw single pictures.
"""
