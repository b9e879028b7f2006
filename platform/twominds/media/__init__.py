"""A file becomes frames, 16 kHz sound, face crops and words: `reader.MediaReader` is the way in."""
