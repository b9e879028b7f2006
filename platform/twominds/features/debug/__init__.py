"""Stand-in weights for machines where the published ones can't be had: debug bundles.

The architectures are the published ones (the same classes, configs and tokenizer files), tiny or in full size; the
weights are random for a seed, so what they see is what random filters see. Nothing in a bundle knows of any label:

- `random_models`: random weights at scales that keep signals alive, calibrated on drawn people (`calibration`);
- `tokenizer`: a byte-level BPE trained on the sentences of this folder;
- `detector`: the exception, a small YOLO *trained* to find drawn faces, since what follows needs real boxes.
"""

from twominds.features.debug.bundle import BundleSize, make_debug_models

__all__ = ["BundleSize", "make_debug_models"]
