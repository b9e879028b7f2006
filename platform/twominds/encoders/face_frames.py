"""Face, otherwise: Mamba or a Transformer over raw embeddings of the face crops (LEYA, section 4.2)."""

from dataclasses import dataclass
from typing import Literal

from twominds.encoders.sequence import SequenceEncoder, SequenceEncoderConfig
from twominds.records import Modality


@dataclass(frozen=True, kw_only=True)
class FaceFramesEncoderConfig(SequenceEncoderConfig):
    """A sequence encoder over frames. The paper gives no sizes for it: the defaults are those of audio."""

    modality = Modality.FACE

    kind: Literal["frames"] = "frames"
    """Tells it from the other face encoder in JSON."""


class FaceFramesEncoder(SequenceEncoder):
    """One embedding per face crop, of ViT [B, F, 768] or CLIP [B, F, 512], through a `SequenceEncoder`."""

    modality = Modality.FACE
