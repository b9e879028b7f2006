"""The baseline of the scoring benchmark: the loop that one would write today, one clip and one image at a time.

OpenCV decodes every frame, ultralytics finds the faces, timm and Hugging Face run the backbones in float32 with torch's
default threads. The weights are those of an ensemble of twominds; so are the small heads and the fusion.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import av
import cv2
import numpy as np
import numpy.typing as npt
import timm
import torch
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType] open PathLike
from torch import Tensor
from transformers import AutoTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2Model

from twominds.encoders.artifact import load_encoder
from twominds.media.faces import YoloFaceDetector, crop_faces
from twominds.records import PRESENT, ByteArray, Embedding, FloatArray, Modality, View
from twominds.scoring.ensemble import Ensemble

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
RATE_HZ = 16_000


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the models take of a clip."""

    scene: ByteArray
    """[16, 224, 224, 3] RGB."""
    faces: ByteArray
    """[30, 224, 224, 3] RGB."""
    audio: FloatArray
    """[N] mono at 16 kHz."""
    words: str


class PlainLoop:
    """Reads and scores one clip."""

    def __init__(self, ensemble: str, models: str) -> None:
        """Loads everything once."""
        self._detector = YoloFaceDetector(Path(models, "detect.yolo_face"))
        self._face = timm.create_model("efficientnet_b0", num_classes=0).eval()
        self._face.load_state_dict(load_file(Path(models, "face.emotion_efficientnet_b0", "model.safetensors")))
        audio = Path(models, "audio.wav2vec2_emotion")
        self._wav2vec2: Any = cast(Any, Wav2Vec2Model).from_pretrained(audio).eval()
        self._hear: Any = Wav2Vec2FeatureExtractor(feature_size=1, sampling_rate=RATE_HZ, do_normalize=True)
        self._tokenizer: Any = cast(Any, AutoTokenizer).from_pretrained(Path(models, "text.emotion_distilroberta"))
        self._heads: dict[View, Any] = {m: load_encoder(f"{ensemble}/encoders/{m}")[0] for m in Modality}
        self._ensemble = Ensemble.load(ensemble)

    def read(self, file: str, words: str) -> Seen:
        """Every frame is decoded; 16 are kept for the scene, 30 for the faces."""
        video, frames = cv2.VideoCapture(file), list[ByteArray]()
        count = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
        scene, faces = ([count * (2 * k + 1) // (2 * n) for k in range(n)] for n in (16, 30))
        small: list[ByteArray] = []
        for number in range(count):
            found, picture = video.read()
            if not found:
                break
            if number in scene:
                small.append(_rgb(cv2.resize(picture, (224, 224))))
            if number in faces:
                scale = min(1.0, 1280 / max(picture.shape[:2]))
                frames.append(_rgb(cv2.resize(picture, None, fx=scale, fy=scale)))
        crops = [crop_faces([frame], self._detector.detect([frame]), 224).crops[0] for frame in frames]
        return Seen(scene=np.stack(small), faces=np.stack(crops), audio=_sound(file), words=words)

    @torch.no_grad()
    def score(self, seen: Seen) -> list[float]:
        """Probability of each class."""
        scene, text = self._heads[Modality.SCENE], self._heads[Modality.TEXT]
        tokens = scene.backbone(pixel_values=_normalised(seen.scene)[None]).last_hidden_state
        vectors: dict[View, torch.Tensor] = {Modality.SCENE: tokens.mean(dim=1)}
        rows = torch.cat([self._face(_normalised(crop[None])) for crop in seen.faces])
        statistics = torch.cat([rows.mean(dim=0), rows.std(dim=0, unbiased=False)])[None]
        vectors[Modality.FACE] = self._heads[Modality.FACE].mlp(statistics)
        heard = self._hear(seen.audio, sampling_rate=RATE_HZ, return_tensors="pt")["input_values"]
        steps = self._wav2vec2(heard, output_hidden_states=True).hidden_states[10]
        every = torch.ones(steps.shape[:2], dtype=torch.bool)
        vectors[Modality.AUDIO] = self._heads[Modality.AUDIO]({"values": steps, "mask": every}).embedding
        words = self._tokenizer(seen.words, truncation=True, max_length=256, return_tensors="pt")
        states = text.backbone(input_ids=words["input_ids"], attention_mask=words["attention_mask"]).last_hidden_state
        vectors[Modality.TEXT] = text.mlp(states[:, 0])
        clip = {
            m: Embedding(clip_id="", view=m, presence=PRESENT, vectors=np.atleast_2d(v[0].numpy()))
            for m, v in vectors.items()
        }
        return self._ensemble.probabilities([clip]).mean(axis=0)[0].tolist()


def _rgb(picture: npt.NDArray[Any]) -> ByteArray:
    return np.ascontiguousarray(picture[:, :, ::-1], np.uint8)


def _normalised(images: ByteArray) -> Tensor:
    """[N, H, W, 3] -> [N, 3, H, W]."""
    return ((torch.from_numpy(images) / 255 - MEAN) / STD).permute(0, 3, 1, 2)


def _sound(file: str) -> FloatArray:
    with av.open(file) as container:
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=RATE_HZ)
        frames = [*container.decode(audio=0), None]
        pieces = [piece.to_ndarray()[0] for frame in frames for piece in resampler.resample(frame)]
    return np.concatenate(pieces).astype(np.float32)
