"""From a clip's file to a `ClipMedia`: frames, face crops, sound and words, each present or absent for a reason."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from twominds.backbones import BackboneStore
from twominds.errors import ConfigError, MediaError, TwomindsError
from twominds.media.container import MediaFile
from twominds.media.decode import Pictures, sample_pictures
from twominds.media.dense import frame_times, regular_times
from twominds.media.faces import (
    CorpusFaceCrops,
    FaceCrops,
    FaceDetector,
    YoloFaceDetector,
    YuNetFaceDetector,
    crop_faces,
)
from twominds.media.images import SceneFit
from twominds.media.sound import Sound, read_sound
from twominds.media.speech import Transcriber, Transcript, no_transcript
from twominds.records import (
    PRESENT,
    ByteArray,
    Clip,
    ClipMedia,
    Failure,
    FloatArray,
    Modality,
    Presence,
    Times,
    View,
    absent,
    modality_of,
)
from twominds.tasks import AH_VIDEO, Task

_SHORTEST_SOUND_S = 0.1


@dataclass(frozen=True, kw_only=True)
class MediaConfig:
    """What is taken from each clip. Changing any of it changes the features."""

    scene_frames: int = 16
    """Frames for the scene, uniform over the clip, at 224x224 (LEYA, section 3.1)."""
    scene_fit: SceneFit = "squeeze"
    """`squeeze`: the whole frame, out of shape; `crop`: its middle, as VideoMAE's processor and LEYA's code have it."""
    face_frames: int = 30
    """Frames in which the face is looked for, uniform over the clip (LEYA, section 3.2)."""
    face_size_px: int = 224
    """Side of a face crop."""
    detector: Literal["yolo", "yunet", "corpus"] = "yolo"
    """`yolo`: the paper's (AGPL-3.0); `yunet`: OpenCV's; `corpus`: the crops that come with the corpus."""
    yolo_confidence: float = 0.01
    """Least score of a YOLO box (LEYA's public code)."""
    yunet_confidence: float = 0.6
    """Least score of a YuNet box."""
    min_face_frames: int = 1
    """A clip with a face in fewer frames has no face modality. 0: the paper's way, full frames stand in."""
    min_face_score: float = 0.25
    """What counts as a face for `min_face_frames` (the paper's 0.01 lets nearly anything pass for one)."""
    max_side_px: int = 1280
    """Frames are shrunk to this long side before faces are looked for."""
    max_audio_s: float = 600.0
    """Sound after this is left out."""
    silence_dbfs: float = -60.0
    """A sound track whose peak is below this is no sound."""
    recognise_speech: bool = True
    """Let Whisper transcribe clips that come without words, where the bundle has it."""
    language: str | None = "en"
    """Language spoken, for Whisper; None: it recognises it."""

    def __post_init__(self) -> None:
        for name in ("scene_frames", "face_frames", "face_size_px", "max_side_px"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if self.scene_fit not in ("squeeze", "crop"):
            raise ConfigError(f"scene_fit must be squeeze or crop, not {self.scene_fit!r}.")
        if self.detector not in ("yolo", "yunet", "corpus"):
            raise ConfigError(f"detector must be yolo, yunet or corpus, not {self.detector!r}.")
        for name in ("yolo_confidence", "yunet_confidence", "min_face_score"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must be between 0 and 1, not {getattr(self, name)}.")
        if not 0 <= self.min_face_frames <= self.face_frames:
            raise ConfigError(
                f"min_face_frames must be between 0 and face_frames ({self.face_frames}), not {self.min_face_frames}."
            )
        if self.max_audio_s <= 0:
            raise ConfigError(f"max_audio_s must be positive, not {self.max_audio_s}.")
        if self.silence_dbfs > 0:
            raise ConfigError(f"silence_dbfs must be 0 or below, not {self.silence_dbfs}.")


def for_new_videos(media: MediaConfig, detector: Literal["yolo", "yunet"] | None) -> MediaConfig:
    """How videos are read that are not the corpus's: with the detector given, else the one of the training.

    Raises:
        ConfigError: the training took the corpus's own face crops, which no other video has, and none is given.
    """
    chosen = detector or media.detector
    if chosen == "corpus":
        raise ConfigError(
            "This ensemble was trained on the face crops that came with its corpus; new videos have none. Say who is "
            "to find faces: `detector` `yolo` (AGPL-3.0) or `yunet`."
        )
    return replace(media, detector=chosen)


class MediaReader:
    """Reads clips, each by itself: what a clip gives never depends on the clips beside it."""

    def __init__(
        self,
        config: MediaConfig,
        store: BackboneStore,
        device: str = "cpu",
        views: Sequence[View] = tuple(Modality),
        task: Task = AH_VIDEO,
    ) -> None:
        """Load the face detector.

        Args:
            config: what is taken from each clip.
            store: where the detector's and the speech recogniser's weights are.
            device: where YOLO and Whisper run.
            views: what is wanted; modalities that none looks at are absent, and cost nothing.
            task: what is recognised. Where it has points, a clip says when they are, and Whisper when words were said.

        Raises:
            BackboneError: the detector's weights are not to be had.
        """
        self.config = config
        self._wanted = frozenset(modality_of(view) for view in views)
        self._task = task
        self._detector = build_detector(config, store, device) if Modality.FACE in self._wanted else None
        self._transcriber = Transcriber(
            store,
            recognise=config.recognise_speech,
            language=config.language,
            device=device,
            in_time=task.per_frame,
        )

    def read(
        self, clip: Clip, *, transcript: str | None = None, source: str | Path | bytes | ByteArray | None = None
    ) -> ClipMedia:
        """Decode one clip.

        Args:
            clip: the clip; its own `transcript` is the corpus's.
            transcript: the caller's words, which come before every other source; None where the caller has none.
            source: where the video is, when not at `clip.video_uri` (an upload: its bytes; an array is not copied).

        Raises:
            MediaError: there is no such file, it is no video, or it has neither a picture nor sound that decodes.
            BackboneError: the speech recogniser cannot be loaded.
        """
        return self._read(clip, transcript, source, _Stage())

    def read_many(self, clips: Sequence[Clip]) -> list[ClipMedia | Failure]:
        """Decode each clip; one that cannot be read becomes a `Failure` and never stops the others."""
        results: list[ClipMedia | Failure] = []
        for clip in clips:
            stage = _Stage()
            try:
                results.append(self._read(clip, None, None, stage))
            except TwomindsError as error:
                results.append(Failure(clip_id=clip.clip_id, stage=stage.name, reason=str(error)))
            except Exception as error:  # anything may lurk in a damaged file: one of 10,000 must not end the job
                reason = f"{clip.video_uri} could not be processed ({type(error).__name__}: {error})."
                results.append(Failure(clip_id=clip.clip_id, stage=stage.name, reason=reason))
        return results

    def _read(
        self, clip: Clip, transcript: str | None, source: str | Path | bytes | ByteArray | None, stage: "_Stage"
    ) -> ClipMedia:
        config = self.config
        name = clip.video_uri if source is None else clip.clip_id
        with MediaFile(clip.video_uri if source is None else source, name=name) as file:
            pictures = sample_pictures(
                file,
                # One frame where none is wanted: whether a file is a video must not depend on what is made of it.
                scene_frames=config.scene_frames if Modality.SCENE in self._wanted else 1,
                scene_fit=config.scene_fit,
                face_frames=config.face_frames if self._detector else 0,
                max_side_px=config.max_side_px,
                threads=torch.get_num_threads(),  # what this process may take, here as in the models
            )
            hears = Modality.AUDIO in self._wanted or (Modality.TEXT in self._wanted and clip.transcript is None)
            sound = (
                read_sound(file, pictures=pictures, max_s=config.max_audio_s, audible=self._audible)
                if hears or pictures is None
                else None
            )
            if pictures is None and (sound is None or not len(sound.samples)):
                raise MediaError(f"{name} has neither a picture nor sound that can be decoded.")
            audio, audio_presence = self._judge_sound(sound)
            stage.name = "faces"
            faces, face_presence = self._find_faces(clip, pictures)
            stage.name = "speech"
            zero_s = pictures.start_s if pictures else sound.start_s if sound else 0.0
            audio_start_s = sound.start_s - zero_s if sound else 0.0
            words = (
                self._transcriber.read(
                    file,
                    audio,
                    caller=transcript,
                    corpus=clip.transcript,
                    words=clip.words,
                    zero_s=zero_s,
                    audio_start_s=audio_start_s,
                )
                if Modality.TEXT in self._wanted
                else no_transcript(_NOT_WANTED)
            )
            face_times_s = _face_times(file, faces, pictures)
            points_s = self._points(file, pictures, sound) if self._task.per_frame else None
        presence = {
            Modality.SCENE: PRESENT if pictures else absent(_NO_PICTURE),
            Modality.FACE: face_presence,
            Modality.AUDIO: audio_presence,
            Modality.TEXT: words.presence,
        }
        return ClipMedia(
            clip_id=clip.clip_id,
            duration_s=pictures.duration_s if pictures else _duration_s(sound),
            scene_frames=pictures.scene if pictures and Modality.SCENE in self._wanted else None,
            scene_times_s=pictures.scene_times_s if pictures and Modality.SCENE in self._wanted else None,
            face_crops=faces.crops if faces and face_presence.present else None,
            face_detected=faces.detected if faces else None,
            face_times_s=face_times_s,
            audio=audio if Modality.AUDIO in self._wanted else None,
            audio_start_s=audio_start_s,
            transcript=words.text,
            transcript_source=words.source,
            words=words.words,
            vectors=clip.vectors,
            presence={m: p if m in self._wanted else absent(_NOT_WANTED) for m, p in presence.items()},
            points_s=points_s,
            video=_kept(clip.video_uri if source is None else source),
            face_crops_uri=clip.face_crops_uri,
            warnings=self._warnings(pictures, sound, words),
        )

    def _points(self, file: MediaFile, pictures: Pictures | None, sound: Sound | None) -> Times:
        """When the task wants answers: at each frame, or so often a second; without a picture, while there is sound."""
        if pictures:
            return frame_times(file, rate_hz=self._task.rate_hz)
        heard = len(sound.samples) if sound else 0
        return regular_times(Fraction(heard, ClipMedia.sample_rate_hz), self._task.rate_hz or _USUAL_FRAMES_PER_S)

    @property
    def _audible(self) -> float:
        """The least peak of a sound track that is not silent."""
        return 10 ** (self.config.silence_dbfs / 20)

    def _warnings(self, pictures: Pictures | None, sound: Sound | None, words: Transcript) -> tuple[str, ...]:
        cut = (f"Only the first {self.config.max_audio_s:g} s of the sound were used.",)
        return (
            *(pictures.warnings if pictures else ()),
            *(sound.warnings if sound else ()),
            *(cut if sound and sound.truncated else ()),
            *words.warnings,
        )

    def _judge_sound(self, sound: Sound | None) -> tuple[FloatArray | None, Presence]:
        if sound is None:
            return None, absent("the file has no sound track")
        if not len(sound.samples):
            return None, absent("nothing of the sound track can be decoded")
        if sound.heard_s < _SHORTEST_SOUND_S:
            return None, absent(f"the sound track is shorter than {_SHORTEST_SOUND_S} s")
        if np.abs(sound.samples).max() < self._audible:
            return None, absent(f"the sound track is silent: it stays below {self.config.silence_dbfs:g} dBFS")
        return sound.samples, PRESENT

    def _find_faces(self, clip: Clip, pictures: Pictures | None) -> tuple[FaceCrops | None, Presence]:
        count, size = self.config.face_frames, self.config.face_size_px
        if Modality.FACE not in self._wanted:
            return None, absent(_NOT_WANTED)
        if self._detector is None:
            faces = (
                CorpusFaceCrops().read(clip.face_crops_uri, count=count, size_px=size) if clip.face_crops_uri else None
            )
            return faces, PRESENT if faces else absent("the corpus has no face crops for this clip")
        if pictures is None:
            return None, absent(_NO_PICTURE)
        faces = crop_faces(pictures.faces, self._detector.detect(pictures.faces), size)
        seen = int((faces.detected & (faces.scores >= self.config.min_face_score)).sum())
        if seen >= self.config.min_face_frames:
            return faces, PRESENT
        if seen == 0:
            return faces, absent(f"no face was found in any of {count} frames")
        return faces, absent(f"a face was found in {seen} of {count} frames, fewer than {self.config.min_face_frames}")


_NOT_WANTED = "not asked for"
_NO_PICTURE = "the file has no picture that can be decoded"
_USUAL_FRAMES_PER_S = 25.0
"""Points of a task per frame where there are no frames."""


@dataclass
class _Stage:
    """How far the reading of one clip has come."""

    name: str = "decode"


def _duration_s(sound: Sound | None) -> float:
    return len(sound.samples) / ClipMedia.sample_rate_hz if sound else 0.0


def _face_times(file: MediaFile, faces: FaceCrops | None, pictures: Pictures | None) -> Times | None:
    """[F]: when the frames of the crops are shown; of the corpus's crops, the frames with their numbers."""
    if faces is None or pictures is None:
        return None
    if faces.numbers is None:
        return pictures.face_times_s
    shown = frame_times(file)
    return shown[np.minimum(faces.numbers, len(shown) - 1)]


def _kept(source: str | Path | bytes | ByteArray) -> str | ByteArray:
    """A file's place, or its bytes where they are."""
    if isinstance(source, bytes):
        return np.frombuffer(source, np.uint8)
    return str(source) if isinstance(source, str | Path) else source


def build_detector(config: MediaConfig, store: BackboneStore, device: str) -> FaceDetector | None:
    """The detector that the config names; None where the corpus's crops are used."""
    if config.detector == "yolo":
        return YoloFaceDetector(store.folder("detect.yolo_face"), confidence=config.yolo_confidence, device=device)
    if config.detector == "yunet":
        return YuNetFaceDetector(store.folder("detect.yunet"), confidence=config.yunet_confidence)
    return None
