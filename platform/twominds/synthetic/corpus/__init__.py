"""A drawn corpus in exactly the layout of BAH or another: anyone may have it, and what to find in it is known.

`corpus.make_corpus` draws one; `drawing.draw_frame` and `casting.random_scene` draw single pictures.
"""
