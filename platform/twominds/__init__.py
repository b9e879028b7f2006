"""twominds: recognise ambivalence and hesitancy in videos of people talking."""

__version__ = "0.1.0"
