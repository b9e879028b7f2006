"""ConflictAwareAH's published file, small, with the names of the public code: what comes in is what that computes."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from twominds import artifacts
from twominds.backbones import BackboneStore, BundleEntry, add_to_bundle
from twominds.encoders.artifact import load_encoder
from twominds.encoders.embedding import embed
from twominds.errors import ArtifactError, BackboneError
from twominds.features.extractor import normalize_images
from twominds.features.face_images import decoded, encoded
from twominds.recipes.conflict_aware_published import import_checkpoint
from twominds.records import PRESENT, Embedding, Features, Modality, Score, View
from twominds.scoring.ensemble import Ensemble

FACE, AUDIO, TEXT = Modality.FACE, Modality.AUDIO, Modality.TEXT
DIM, ALPHA, THRESHOLD = 16, 0.55, 0.43


@pytest.fixture(scope="module")
def backbones() -> dict[str, nn.Module]:
    """By the authors' names."""
    from transformers import HubertConfig, HubertModel, RobertaConfig, RobertaModel, VideoMAEConfig, VideoMAEModel

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    words: dict[str, Any] = {"vocab_size": 30, "max_position_embeddings": 20, "type_vocab_size": 1, "pad_token_id": 1}
    convolutions: dict[str, Any] = {"conv_dim": (8, 8, 8), "conv_kernel": (10, 3, 2), "conv_stride": (5, 4, 2)}
    positions: dict[str, Any] = {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
    frames = VideoMAEConfig(image_size=32, num_frames=16, hidden_size=DIM, use_mean_pooling=False, **sizes)
    return {
        "video": VideoMAEModel(frames).eval(),
        "audio": HubertModel(HubertConfig(hidden_size=DIM, **sizes, **convolutions, **positions)).eval(),
        "text": RobertaModel(RobertaConfig(hidden_size=DIM, **words, **sizes)).eval(),
    }


@pytest.fixture(scope="module")
def store(backbones: dict[str, nn.Module], tmp_path_factory: pytest.TempPathFactory) -> BackboneStore:
    uri = str(tmp_path_factory.mktemp("bundle") / "models")
    roles = {"face.videomae_base": "video", "audio.hubert_base": "audio", "text.roberta_go_emotions": "text"}
    for role, name in {**roles, "detect.yolo_face": ""}.items():
        folder = tmp_path_factory.mktemp("model")
        if name:
            cast(Any, backbones[name]).save_pretrained(folder)
        else:
            (folder / "weights").write_text(role)
        add_to_bundle(uri, role, folder, BundleEntry(weights="published", hub_id=None, revision="x", licence="x"))
    return BackboneStore(uri=uri)


class Theirs(nn.Module):
    """As the public code has it, over tokens of its three backbones."""

    def __init__(self, backbones: dict[str, nn.Module], form: str) -> None:
        super().__init__()
        self.form = form
        for name, backbone in backbones.items():
            self.add_module(f"{name}_encoder", backbone)
            self.add_module(f"{name}_proj", nn.Linear(DIM, DIM))
            pool = nn.Module()
            pool.query = nn.Linear(DIM, 1, bias=False)
            self.add_module(f"{name}_pool", pool)
        width = DIM if form == "fusion_transformer" else 6 * DIM
        block = nn.TransformerEncoderLayer(width, 8, 2 * width, 0.0, "relu", batch_first=True, norm_first=True)
        self.add_module(form, nn.TransformerEncoder(block, 2, enable_nested_tensor=False))
        self.classifier = self.head(6 * DIM)
        self.text_head = self.head(DIM)

    @staticmethod
    def head(width: int) -> nn.Sequential:
        return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 12), nn.GELU(), nn.Dropout(0.0), nn.Linear(12, 1))

    def pooled(self, name: str, given: Tensor) -> Tensor:
        backbone, proj, pool = (getattr(self, f"{name}_{part}") for part in ("encoder", "proj", "pool"))
        hidden = proj(backbone(given).last_hidden_state)
        return (pool.query(hidden).softmax(dim=1) * hidden).sum(dim=1)

    def probability(self, frames: Tensor, sound: Tensor, ids: Tensor) -> float:
        v, a, t = self.pooled("video", frames), self.pooled("audio", sound), self.pooled("text", ids)
        tokens = torch.stack([v, a, t, (v - a).abs(), (v - t).abs(), (a - t).abs()], dim=1)
        tokens = tokens if self.form == "fusion_transformer" else tokens.flatten(1).unsqueeze(1)
        full = self.classifier(cast(nn.Module, getattr(self, self.form))(tokens).flatten(1)).sigmoid()
        return float(ALPHA * self.text_head(t).sigmoid() + (1 - ALPHA) * full)


def of_older_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names as version 4 saved them."""
    changed = {
        ".attention.attention.query.bias": ".attention.attention.q_bias",
        ".attention.attention.value.bias": ".attention.attention.v_bias",
        ".conv.parametrizations.weight.original0": ".conv.weight_g",
        ".conv.parametrizations.weight.original1": ".conv.weight_v",
    }
    found: dict[str, Tensor] = {"text_encoder.embeddings.position_ids": torch.arange(20)[None]}
    for name, tensor in state.items():
        new = next((new for new in changed if name.endswith(new)), "")
        found[name.removesuffix(new) + changed.get(new, "")] = tensor
    return found


def clip() -> dict[View, Features]:
    rng = np.random.default_rng(3)
    files = [encoded(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8), 95) for _ in range(18)]
    values: dict[View, npt.NDArray[Any]] = {
        FACE: np.stack([np.pad(content, (0, 4_000 - len(content))) for content in files]),
        AUDIO: rng.normal(scale=0.1, size=(18, 40)).astype(np.float32),
        TEXT: rng.integers(2, 30, 7),
    }
    return {v: Features(clip_id="a", view=v, presence=PRESENT, values=rows) for v, rows in values.items()}


@pytest.mark.parametrize("form", ["fusion_transformer", "temporal_transformer"])
@pytest.mark.parametrize(("old", "windows"), [(True, 1), (False, 5)])
def test_it_says_what_the_authors_model_says(
    form: str, old: bool, windows: int, backbones: dict[str, nn.Module], store: BackboneStore, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    model = Theirs(backbones, form).eval()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    content = {
        "epoch": 3,
        "model": of_older_transformers(state) if old else state,
        "best_thresh": THRESHOLD,
        "args": {"text_blend": ALPHA, "num_heads": 8, "dropout": 0.4},
    }
    torch.save(content, tmp_path / "best_model.pt")
    card = import_checkpoint(str(tmp_path / "out"), tmp_path / "best_model.pt", store, windows=windows)
    assert card.selected_on == "validation"
    assert {backbone.role for backbone in card.backbones} >= {"face.videomae_base", "audio.hubert_base"}
    ensemble, features = Ensemble.load(str(tmp_path / "out" / "ensemble")), clip()
    embeddings: dict[View, Embedding] = {}
    for view, of_view in features.items():
        encoder, _ = load_encoder(str(tmp_path / "out" / "ensemble" / "encoders" / view))
        (embeddings[view],) = embed(encoder, [of_view])
    (score,) = ensemble.score([embeddings])
    files, sound, ids = (cast(Any, features[view].values) for view in (FACE, AUDIO, TEXT))
    places = [0] if windows == 1 else (np.random.default_rng(42).random(windows) * (len(files) - 16 + 1)).astype(int)
    assert len(set(places)) == (1 if windows == 1 else 3), "of three places each is looked at"
    expected: list[float] = []
    for start in places:
        with torch.no_grad():
            frames = normalize_images(torch.from_numpy(decoded(files[start : start + 16], 32)))[None]
            heard = torch.from_numpy(sound[start : start + 16].ravel())[None]
            expected.append(model.probability(frames, heard, torch.from_numpy(ids)[None]))
    assert isinstance(score, Score)
    assert score.probabilities[1] == pytest.approx(np.mean(expected), abs=1e-5)
    assert score.threshold == np.nextafter(THRESHOLD, 1), "there what is at the threshold is not above it"
    assert embeddings[FACE].probabilities is None, "no head was trained for the face alone"


def test_other_files_are_refused_in_the_authors_names(
    backbones: dict[str, nn.Module], store: BackboneStore, tmp_path: Path
) -> None:
    state = Theirs(backbones, "fusion_transformer").state_dict()

    def refuse(content: object, why: str, error: type[Exception] = ArtifactError) -> None:
        torch.save(content, tmp_path / "file.pt")
        with pytest.raises(error, match=why):
            import_checkpoint(str(tmp_path / "out"), tmp_path / "file.pt", store)
        assert not (tmp_path / "out" / "ensemble" / artifacts.CARD).exists()

    refuse({"model": {n: t for n, t in state.items() if "transformer" not in n}}, "no fusion_transformer")
    without = {n: t for n, t in state.items() if n != "text_head.4.bias"}
    refuse({"model": without}, r"text_head\.4\.bias is missing")
    refuse({"model": state | {"audio_gate.weight": torch.ones(1)}}, r"audio_gate\.weight is not known")
    refuse({"model": state | {"video_proj.weight": torch.ones(DIM, 3)}}, r"video_proj\.weight has another shape")
    refuse(
        {"model": {n: t for n, t in state.items() if n != "classifier.1.weight"}}, r"classifier\.1\.weight is missing"
    )
    refuse({"model": state, "best_thresh": "high"}, "best_thresh is 'high', not a number")
    refuse({"model": state, "extra": tmp_path}, "can't be read as weights alone", BackboneError)
