"""Stand-in weights for machines where the published ones can't be had: debug bundles.

The architectures are the published ones (the same classes, configs and tokenizer files), tiny or in full size. Nothing
in a bundle was made from a corpus or knows a label of ambivalence/hesitancy:

- `random_models`: random weights at scales that keep signals alive; `calibration` sets the scales on drawn people;
- `tokenizer`: a byte-level BPE trained on a few sentences;
- `detector`: a small YOLO trained to find drawn faces, since what follows needs real boxes.
"""

from twominds.synthetic.weights.bundle import QUICK, DebugTraining, make_debug_models
from twominds.synthetic.weights.random_models import BundleSize

__all__ = ["QUICK", "BundleSize", "DebugTraining", "make_debug_models"]
