"""The catalogue: one literal entry per role, with its source and licence."""

from dataclasses import dataclass

from twominds.errors import BackboneError


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """One pre-trained model of the catalogue."""

    role: str
    """Its name everywhere in the platform, and of its folder in a bundle."""
    hub_id: str | None
    """Repository on the hub; None: import a local file (`jobs/fetch_models.py --import-file`)."""
    revision: str
    """Branch, tag or commit to fetch; the commit it resolved to is in the bundle's manifest."""
    licence: str
    """As stated by its authors; `not stated` where their card states none."""
    non_commercial: bool
    """True: the licence forbids commercial use."""
    purpose: str
    """What the platform uses it for."""
    files: tuple[str, ...]
    """What is taken of the repository; files that are not there are skipped, but for the configuration and weights."""


_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt")


def _descriptor(role: str, purpose: str) -> Backbone:
    """A face descriptor of HSEmotion, which is imported from its authors' file."""
    return Backbone(
        role=role,
        hub_id=None,
        revision="",
        licence="Apache-2.0 (the code; trained on VGGFace2 and AffectNet, which are for research)",
        non_commercial=True,
        purpose=f"{purpose}: embedding and expression scores of each face crop (HSEmotion)",
        files=("config.json", "model.safetensors", "model.onnx", "head.safetensors"),
    )


BACKBONES: dict[str, Backbone] = {
    "scene.videomae_base": Backbone(
        role="scene.videomae_base",
        hub_id="MCG-NJU/videomae-base-finetuned-kinetics",
        revision="main",
        licence="CC-BY-NC-4.0",
        non_commercial=True,
        purpose="VideoMAE-Base fine-tuned on Kinetics-400: the scene encoder starts from it",
        files=("config.json", "preprocessor_config.json", "model.safetensors"),
    ),
    "face.emotion_efficientnet_b0": Backbone(
        role="face.emotion_efficientnet_b0",
        hub_id=None,
        revision="",
        licence="depends on the file you import",
        non_commercial=False,
        purpose="EfficientNet-B0 fine-tuned for facial expressions: features of each face crop",
        files=("config.json", "model.safetensors"),
    ),
    "face.vit_base": Backbone(
        role="face.vit_base",
        hub_id="google/vit-base-patch16-224",
        revision="main",
        licence="Apache-2.0",
        non_commercial=False,
        purpose="ViT-Base trained on ImageNet: embeddings of each face crop, an alternative to EfficientNet",
        files=("config.json", "preprocessor_config.json", "model.safetensors"),
    ),
    "face.clip_vit_b32": Backbone(
        role="face.clip_vit_b32",
        hub_id="openai/clip-vit-base-patch32",
        revision="main",
        licence="not stated (the code is MIT)",
        non_commercial=False,
        purpose="CLIP ViT-B/32: image embeddings of each face crop, an alternative to EfficientNet",
        files=("config.json", "preprocessor_config.json", "model.safetensors"),
    ),
    "face.videomae_base": Backbone(
        role="face.videomae_base",
        hub_id="MCG-NJU/videomae-base",
        revision="main",
        licence="CC-BY-NC-4.0",
        non_commercial=True,
        purpose="VideoMAE-Base as it was pre-trained: sees face crops, one after another (ConflictAwareAH)",
        files=("config.json", "preprocessor_config.json", "model.safetensors"),
    ),
    **{
        role: _descriptor(role, purpose)
        for role, purpose in {
            "face.emotieffnet_b0": "EmotiEffNet-B0 (enet_b0_8_best_vgaf or _afew), eight expressions",
            "face.emotieffnet_b0_mtl": "MT-EmotiEffNet (enet_b0_8_va_mtl), expressions, valence and arousal",
            "face.emotieffnet_b2": "EmotiEffNet-B2 (enet_b2_8), eight expressions",
            "face.emotimobilevit_mtl": "MT-EmotiMobileViT (mobilevit_va_mtl), expressions, valence and arousal",
            "face.emotimobilefacenet_mtl": "MT-EmotiMobileFaceNet (mbf_va_mtl), expressions, valence and arousal",
            "face.ddamfn": "DDAMFN, of which only ONNX files are read",
            "face.ddamfn_mtl": "MT-DDAMFN, of which only ONNX files are read",
        }.items()
    },
    "audio.wav2vec2_emotion": Backbone(
        role="audio.wav2vec2_emotion",
        hub_id="audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim",
        revision="main",
        licence="CC-BY-NC-SA-4.0",
        non_commercial=True,
        purpose="wav2vec2 (12 layers) fine-tuned for emotion dimensions: features of the voice",
        files=("config.json", "preprocessor_config.json", "model.safetensors"),
    ),
    "audio.wav2vec2_base": Backbone(
        role="audio.wav2vec2_base",
        hub_id="facebook/wav2vec2-base-960h",
        revision="main",
        licence="Apache-2.0",
        non_commercial=False,
        purpose="wav2vec2-base fine-tuned to recognise speech: features of the voice (HSEmotion)",
        files=("config.json", "preprocessor_config.json", "model.safetensors"),
    ),
    "audio.hubert_large": Backbone(
        role="audio.hubert_large",
        hub_id="facebook/hubert-large-ls960-ft",
        revision="main",
        licence="Apache-2.0",
        non_commercial=False,
        purpose="HuBERT-large fine-tuned to recognise speech: features of the voice (HSEmotion)",
        files=("config.json", "preprocessor_config.json", "model.safetensors"),
    ),
    "audio.hubert_base": Backbone(
        role="audio.hubert_base",
        hub_id="facebook/hubert-base-ls960",
        revision="main",
        licence="Apache-2.0",
        non_commercial=False,
        purpose="HuBERT-base as it was pre-trained: hears the sound under the face crops (ConflictAwareAH)",
        files=("config.json", "preprocessor_config.json", "model.safetensors"),
    ),
    "text.emotion_distilroberta": Backbone(
        role="text.emotion_distilroberta",
        hub_id="j-hartmann/emotion-english-distilroberta-base",
        revision="main",
        licence="not stated",
        non_commercial=False,
        purpose="DistilRoBERTa fine-tuned for seven emotions: the text encoder starts from it",
        files=("config.json", "model.safetensors", *_TOKENIZER),
    ),
    "text.emotion_text_classifier": Backbone(
        role="text.emotion_text_classifier",
        hub_id="michellejieli/emotion_text_classifier",
        revision="main",
        licence="not stated",
        non_commercial=False,
        purpose="EmotionTextClassifier, DistilRoBERTa fine-tuned on lines of a series: an alternative text encoder",
        files=("config.json", "model.safetensors", *_TOKENIZER),
    ),
    "text.roberta_go_emotions": Backbone(
        role="text.roberta_go_emotions",
        hub_id="SamLowe/roberta-base-go_emotions",
        revision="main",
        licence="MIT",
        non_commercial=False,
        purpose="RoBERTa fine-tuned for the 28 emotions of GoEmotions: features of each token (HSEmotion)",
        files=("config.json", "model.safetensors", *_TOKENIZER),
    ),
    "text.sentence_distilroberta": Backbone(
        role="text.sentence_distilroberta",
        hub_id="distilbert/distilroberta-base",
        revision="main",
        licence="Apache-2.0",
        non_commercial=False,
        purpose="DistilRoBERTa as it was pre-trained, averaged over its tokens: HSEmotion's SentenceBERT",
        files=("config.json", "model.safetensors", *_TOKENIZER),
    ),
    "text.e5_base": Backbone(
        role="text.e5_base",
        hub_id="intfloat/e5-base-v2",
        revision="main",
        licence="MIT",
        non_commercial=False,
        purpose="E5-base v2: a vector of a sentence (HSEmotion)",
        files=("config.json", "model.safetensors", "vocab.txt", *_TOKENIZER[:3]),
    ),
    "text.deberta_base": Backbone(
        role="text.deberta_base",
        hub_id="microsoft/deberta-base",
        revision="main",
        licence="MIT",
        non_commercial=False,
        # Version 3 comes with a SentencePiece model alone, which fast tokenizers only read with another package.
        purpose="DeBERTa v1 (its vocabulary needs no SentencePiece, unlike v3's): an alternative text encoder",
        files=("config.json", "model.safetensors", *_TOKENIZER),
    ),
    "text.all_minilm": Backbone(
        role="text.all_minilm",
        hub_id="sentence-transformers/all-MiniLM-L6-v2",
        revision="main",
        licence="Apache-2.0",
        non_commercial=False,
        purpose="small sentence encoder: the text encoder of the demo, free for any use",
        files=("config.json", "model.safetensors", "vocab.txt", *_TOKENIZER[:3]),
    ),
    "text.all_minilm_v1": Backbone(
        role="text.all_minilm_v1",
        hub_id="sentence-transformers/all-MiniLM-L6-v1",
        revision="main",
        licence="Apache-2.0",
        non_commercial=False,
        purpose="the version of all-MiniLM before: a vector of a sentence (HSEmotion)",
        files=("config.json", "model.safetensors", "vocab.txt", *_TOKENIZER[:3]),
    ),
    "detect.yolo_face": Backbone(
        role="detect.yolo_face",
        hub_id=None,
        revision="",
        licence="AGPL-3.0",
        non_commercial=False,
        purpose="YOLOv8 face detector, run by ultralytics (AGPL-3.0 as well)",
        files=("model.onnx",),
    ),
    "detect.yunet": Backbone(
        role="detect.yunet",
        hub_id=None,
        revision="",
        licence="MIT",
        non_commercial=False,
        purpose="OpenCV's YuNet face detector, for those who can't take AGPL",
        files=("model.onnx",),
    ),
    "speech.whisper": Backbone(
        role="speech.whisper",
        hub_id="openai/whisper-base",
        revision="main",
        licence="Apache-2.0",
        non_commercial=False,
        purpose="transcript of clips that come without one",
        files=(
            "config.json",
            "generation_config.json",
            "preprocessor_config.json",
            "model.safetensors",
            "normalizer.json",
            "added_tokens.json",
            *_TOKENIZER,
        ),
    ),
}


def catalogue_entry(role: str) -> Backbone:
    """The catalogue's entry of `role`.

    Raises:
        BackboneError: no such role.
    """
    if role not in BACKBONES:
        raise BackboneError(f"No backbone is called {role!r}. There are: {', '.join(BACKBONES)}.")
    return BACKBONES[role]
