"""LEYA's published files, small, with the names and shapes of the authors' code: what comes in is what they compute."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType] open PathLike
from torch import Tensor, nn

from twominds import artifacts
from twominds.artifacts import from_json
from twominds.backbones import BackboneStore, BundleEntry, add_to_bundle
from twominds.encoders.artifact import check_backbones, load_encoder
from twominds.encoders.encoder import Encoder
from twominds.errors import ArtifactError, BackboneError
from twominds.features.catalog import features_from_json
from twominds.media.reader import MediaConfig
from twominds.recipes.leya import leya
from twominds.recipes.leya_published import import_encoder, import_ensemble
from twominds.records import PRESENT, Embedding, Modality, View, absent
from twominds.scoring.ensemble import Ensemble

SIZES: dict[str, Any] = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
DIMS = {Modality.FACE: 20, Modality.AUDIO: 64, Modality.TEXT: 10, Modality.SCENE: 12}
"""Of the embeddings, in the authors' order."""


@pytest.fixture(scope="session")
def scene_model() -> nn.Module:
    from transformers import VideoMAEConfig, VideoMAEForVideoClassification

    torch.manual_seed(0)
    config = VideoMAEConfig(image_size=32, num_frames=4, hidden_size=12, use_mean_pooling=True, **SIZES)
    model = VideoMAEForVideoClassification(config).eval()
    nn.init.normal_(cast(nn.LayerNorm, model.fc_norm).weight)  # trained: not 1 and 0
    nn.init.normal_(cast(nn.LayerNorm, model.fc_norm).bias)
    for name, parameter in cast(Any, model.named_parameters()):
        if name.endswith("attention.attention.query.bias"):
            nn.init.normal_(parameter)
    return model


@pytest.fixture(scope="session")
def text_model() -> nn.Module:
    from transformers import RobertaConfig, RobertaModel

    torch.manual_seed(1)
    words: dict[str, Any] = {"vocab_size": 30, "max_position_embeddings": 20, "type_vocab_size": 1, "pad_token_id": 1}
    model = nn.Module()
    model.bert = RobertaModel(RobertaConfig(hidden_size=16, **words, **SIZES))
    model.fc = nn.Linear(16, DIMS[Modality.TEXT])
    model.fc2 = nn.Linear(DIMS[Modality.TEXT], 1)
    return model.eval()


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory, scene_model: nn.Module, text_model: nn.Module) -> BackboneStore:
    """A bundle in which scene and text can be loaded, and the rest is only named."""
    bundle = str(tmp_path_factory.mktemp("bundle"))
    models = {"scene.videomae_base": scene_model, "text.emotion_distilroberta": text_model.bert}
    for role in (*models, "face.emotion_efficientnet_b0", "audio.wav2vec2_emotion", "detect.yolo_face"):
        folder = tmp_path_factory.mktemp("model")
        if role in models:
            cast(Any, models[role]).save_pretrained(folder)
        (folder / "config.txt").write_text(role)
        entry = BundleEntry(weights="published", hub_id=None, revision="x", licence="x")
        add_to_bundle(bundle, role, folder, entry)
    return BackboneStore(uri=bundle)


def face_model() -> nn.Module:
    torch.manual_seed(2)
    dim, model = DIMS[Modality.FACE], nn.Module()
    first, second = (nn.Linear(12, 8), nn.LayerNorm(8)), (nn.Linear(8, dim), nn.LayerNorm(dim))
    rest = (nn.ReLU(), nn.Dropout(0.3))
    model.feature_extractor = nn.Sequential(*first, *rest, *second, *rest)
    model.classifier = nn.Linear(dim, 2)
    return model.eval()


def audio_model() -> nn.Module:
    from transformers import MambaConfig
    from transformers.models.mamba.modeling_mamba import MambaMixer

    torch.manual_seed(3)
    config = MambaConfig(hidden_size=16, state_size=8, conv_kernel=4, expand=2, num_hidden_layers=2)
    encoder, stack, head, model = nn.Module(), nn.Module(), nn.Module(), nn.Module()
    stack.layers = nn.ModuleList(MambaMixer(config, layer_idx=i) for i in range(2))
    stack.norms = nn.ModuleList(nn.LayerNorm(16) for _ in range(2))
    encoder.input_proj, encoder.stack = nn.Linear(10, 16), stack
    head.net = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 2))
    model.encoder, model.head = encoder, head
    return model.eval()


def fusion_model(seed: int, *, use_cls: bool = False, flat_prototypes: bool = False) -> nn.Module:
    torch.manual_seed(seed)
    exchange, proto, model = nn.Module(), nn.Module(), nn.Module()
    model.proj = nn.ModuleDict({m: nn.Module() for m in DIMS})
    for view, dim in DIMS.items():
        cast(Any, model.proj)[view].proj = nn.Sequential(
            nn.Linear(dim, 16), nn.LayerNorm(16), nn.GELU(), nn.Dropout(0.45)
        )
    exchange.mod_emb = nn.Parameter(torch.randn(1, len(DIMS) + use_cls, 16))
    if use_cls:
        exchange.cls_token = nn.Parameter(torch.randn(1, 1, 16))
    layer = nn.TransformerEncoderLayer(16, 4, 32, 0.45, "gelu", batch_first=True, norm_first=True)
    exchange.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    exchange.out_norm, model.exchange, model.classifier = nn.LayerNorm(16), exchange, nn.Linear(16, 2)
    proto.P = nn.Parameter(torch.randn(6, 16) if flat_prototypes else torch.randn(2, 3, 16))
    model.proto = proto
    return model.eval()


@torch.no_grad()
def fusion_logits(model: Any, tokens: Mapping[View, Tensor], mask: Tensor) -> Tensor:
    """What the authors' model answers; `mask` [N, 4] in their order."""
    x = torch.stack([model.proj[m].proj(tokens[m]) for m in DIMS], dim=1)
    cls = getattr(model.exchange, "cls_token", None)
    if cls is not None:
        x = torch.cat([cls.expand(len(x), 1, -1), x], dim=1)
        mask = torch.cat([torch.ones(len(x), 1, dtype=torch.bool), mask], dim=1)
    x = model.exchange.out_norm(model.exchange.encoder(x + model.exchange.mod_emb, src_key_padding_mask=~mask))
    pooled = x[:, 0] if cls is not None else (x * mask.unsqueeze(-1)).sum(dim=1) / mask.sum(dim=1, keepdim=True)
    return model.classifier(pooled)


def settings(**changes: object) -> dict[str, object]:
    values: dict[str, object] = {
        "modalities": [str(m) for m in DIMS],
        "input_type": "emb",
        "fusion": "exchange_transformer",
        "d_model": 16,
        "drop": 0.45,
        "x_layers": 2,
        "x_heads": 4,
        "x_ff_mult": 2,
        "x_use_cls": False,
        "use_prototypes": True,
        "num_prototypes": 3,
        "proto_tau": 0.3,
    }
    return values | changes


def saved(path: Path, model: nn.Module, **more: object) -> Path:
    torch.save({"model_state": model.state_dict(), **more} if more else model.state_dict(), path)
    return path


@pytest.fixture
def read(tmp_path: Path, store: BackboneStore) -> Callable[[View, Path], Encoder]:
    def read(view: View, file: Path) -> Encoder:
        import_encoder(str(tmp_path / view), view, file, store)
        return load_encoder(str(tmp_path / view))[0]

    return read


Read = Callable[[View, Path], Encoder]


@torch.no_grad()
@pytest.mark.parametrize("old_names", [True, False])
def test_scene_is_hugging_faces_classifier(read: Read, scene_model: Any, tmp_path: Path, old_names: bool) -> None:
    state: dict[str, Tensor] = scene_model.state_dict()
    if old_names:  # as transformers 4 saved them
        short = {"query.bias": "q_bias", "value.bias": "v_bias"}
        for name in list(state):
            for new, old in short.items():
                if name.endswith(new):
                    state[name.removesuffix(new) + old] = state.pop(name)
    torch.save(state, tmp_path / "best_model.pth")
    encoder = read(Modality.SCENE, tmp_path / "best_model.pth")
    frames = np.random.default_rng(0).integers(0, 256, (2, 4, 32, 32, 3), dtype=np.uint8)
    scaled = (frames / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    pixels = torch.from_numpy(scaled.transpose(0, 1, 4, 2, 3)).float()
    expected = scene_model(pixel_values=pixels, output_hidden_states=True)
    output = encoder({"frames": torch.from_numpy(frames)})
    torch.testing.assert_close(output.logits, expected.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(output.embedding, expected.hidden_states[-1].mean(dim=1), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_face_is_their_mlp(read: Read, tmp_path: Path) -> None:
    model: Any = face_model()
    encoder = read(Modality.FACE, saved(tmp_path / "best_model_weights.pt", model))
    frames = torch.randn(3, 7, 6)
    statistics = torch.cat([frames.mean(dim=1), frames.std(dim=1, unbiased=False)], dim=1)
    output = encoder({"values": frames, "mask": torch.ones(3, 7, dtype=torch.bool)})
    torch.testing.assert_close(output.embedding, model.feature_extractor(statistics))
    torch.testing.assert_close(output.logits, model.classifier(model.feature_extractor(statistics)))


@torch.no_grad()
def test_audio_is_their_mamba(read: Read, tmp_path: Path) -> None:
    model: Any = audio_model()
    cfg = {"model": {"d_model": 16, "pooling": "mean"}}
    encoder = read(Modality.AUDIO, saved(tmp_path / "best.pt", model, cfg=cfg, epoch=3, optimizer_state={"a": 1}))
    steps = torch.randn(1, 9, 10)
    x = model.encoder.input_proj(steps)
    for layer, norm in zip(model.encoder.stack.layers, model.encoder.stack.norms, strict=True):
        x = norm(x + layer(x))
    hidden = model.head.net[:2](x.mean(dim=1))
    padded = torch.cat([steps, torch.zeros(1, 4, 10)], dim=1)
    output = encoder({"values": padded, "mask": torch.arange(13)[None] < 9})
    torch.testing.assert_close(output.embedding, hidden, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(output.logits, model.head.net[3](hidden), atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_text_is_their_classifier_of_one_logit(read: Read, text_model: Any, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"model{suffix}"
    if suffix == ".pt":
        torch.save(text_model.state_dict(), file)
    else:
        save_file(text_model.state_dict(), file)
    encoder = read(Modality.TEXT, file)
    ids = torch.tensor([[0, 5, 9, 2], [0, 7, 2, 1]])
    mask = ids != 1
    hidden = text_model.fc(text_model.bert(input_ids=ids, attention_mask=mask.long()).last_hidden_state[:, 0])
    logit = text_model.fc2(hidden)
    output = encoder({"input_ids": ids, "mask": mask})
    assert (hidden < 0).any()  # no activation
    torch.testing.assert_close(output.embedding, hidden, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(output.logits, torch.cat([torch.zeros_like(logit), logit], dim=1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(output.logits.softmax(dim=1)[:, 1:], torch.sigmoid(logit), atol=1e-5, rtol=1e-4)


@pytest.fixture(scope="module")
def encoders(
    tmp_path_factory: pytest.TempPathFactory, store: BackboneStore, scene_model: nn.Module, text_model: nn.Module
) -> dict[View, str]:
    """All four, imported; treat them as read-only."""
    folder = tmp_path_factory.mktemp("encoders")
    models = {
        Modality.SCENE: scene_model,
        Modality.FACE: face_model(),
        Modality.AUDIO: audio_model(),
        Modality.TEXT: text_model,
    }
    for view, model in models.items():
        import_encoder(str(folder / view), view, saved(folder / f"{view}.pt", model), store)
    return {view: str(folder / view) for view in models}


@pytest.mark.parametrize("use_cls", [False, True])
def test_ensemble_is_the_mean_of_their_models(encoders: dict[View, str], tmp_path: Path, use_cls: bool) -> None:
    models = [fusion_model(seed, use_cls=use_cls, flat_prototypes=seed == 1) for seed in range(3)]
    cfg = settings(x_use_cls=use_cls)
    files = [saved(tmp_path / f"proto_{i}.pt", model, model_cfg=cfg) for i, model in enumerate(models)]
    card = import_ensemble(str(tmp_path / "ensemble"), files, encoders)
    assert card.seeds == (1, 2, 3)
    tokens: dict[View, Tensor] = {m: torch.randn(4, dim) for m, dim in DIMS.items()}
    mask = torch.tensor([[1, 1, 1, 1], [0, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 1]], dtype=torch.bool)
    clips: list[dict[View, Embedding]] = [
        {
            m: Embedding(clip_id=str(i), view=m, presence=PRESENT, vectors=np.atleast_2d(tokens[m][i].numpy()))
            if mask[i, column]
            else Embedding(clip_id=str(i), view=m, presence=absent("left out"))
            for column, m in enumerate(DIMS)
        }
        for i in range(4)
    ]
    expected = torch.stack([fusion_logits(model, tokens, mask).softmax(dim=-1) for model in models])
    ensemble = Ensemble.load(str(tmp_path / "ensemble"))
    np.testing.assert_allclose(ensemble.probabilities(clips), expected.numpy(), atol=1e-5)
    prototypes = torch.stack([cast(Any, model).prototype_head.prototypes for model in ensemble.models.values()])
    assert torch.equal(prototypes, torch.stack([cast(Any, model).proto.P.reshape(2, 3, 16) for model in models]))


def test_cards_tell_where_they_came_from(encoders: dict[View, str], tmp_path: Path, store: BackboneStore) -> None:
    file = saved(tmp_path / "proto_1.pt", fusion_model(0), model_cfg=settings())
    ensemble = import_ensemble(str(tmp_path / "ensemble"), [file], encoders)
    copied = [artifacts.read_card(f"{tmp_path}/ensemble/encoders/{view}") for view in Modality]
    for card in (ensemble, *copied):
        assert card.selected_on == "validation+test"
        assert card.metrics == {}
        assert card.weights == "published"
        check_backbones(card, store)
    assert list(ensemble.data["imported"]) == ["proto_1.pt"]
    assert {b.role for b in ensemble.backbones} >= {"face.emotion_efficientnet_b0", "audio.wav2vec2_emotion"}
    for card in copied:  # what the service reads
        assert features_from_json(card.config["features"]) == leya().features
        assert from_json(MediaConfig, card.config["media"]) == MediaConfig(scene_fit="crop", min_face_frames=0)
    text = (tmp_path / "ensemble" / "README.md").read_text()
    assert "Test labels took part in choosing this model" in text
    assert "None were measured with these weights here." in text


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"classifier.weight": None}, r"weights\.pt is not LEYA's face encoder: classifier\.weight is missing"),
        ({"feature_extractor.0.weight": None}, r"feature_extractor\.0\.weight is missing"),
        ({"feature_extractor.5.bias": None, "extra.a": torch.ones(1), "extra.b": torch.ones(1)}, "5.bias is missing, "),
        ({"extra.a": torch.ones(1), "extra.b": torch.ones(1)}, r"extra\.a is not known \(2 in all\)"),
        ({"feature_extractor.1.bias": torch.ones(9)}, r"feature_extractor\.1\.bias has another shape"),
        ({"feature_extractor.0.weight": torch.ones(9)}, "not enough values"),
    ],
)
def test_other_tensors_are_refused_by_the_authors_names(
    change: dict[str, Tensor | None], sentence: str, tmp_path: Path, store: BackboneStore
) -> None:
    state = {name: tensor for name, tensor in (face_model().state_dict() | change).items() if tensor is not None}
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(ArtifactError, match=sentence):
        import_encoder(str(tmp_path / "a"), Modality.FACE, tmp_path / "weights.pt", store)
    assert not (tmp_path / "a").exists()


class Intruder:
    """Anything that a pickle would have to import."""


def test_nothing_is_unpickled(tmp_path: Path, store: BackboneStore) -> None:
    torch.save({"model_state": face_model().state_dict(), "cfg": Intruder()}, tmp_path / "whole.pt")
    with pytest.raises(BackboneError, match="can't be read as weights alone"):
        import_encoder(str(tmp_path / "a"), Modality.FACE, tmp_path / "whole.pt", store)
    with pytest.raises(BackboneError, match="can't be read as weights alone"):
        import_ensemble(str(tmp_path / "a"), [tmp_path / "whole.pt"], {})


@pytest.mark.parametrize(
    ("cfg", "sentence"),
    [
        (None, "has no `model_cfg`"),
        (settings(fusion="attn"), "is a fusion 'attn' of 'emb'"),
        (settings(input_type="prob"), "'exchange_transformer' of 'prob'"),
        (settings(x_layers=3), r"exchange\.encoder\.layers\.2\.\S+ is missing"),
        (settings(x_layers=1), r"exchange\.encoder\.layers\.1\.\S+ is not known"),
        (settings(x_use_cls=True), r"exchange\.cls_token is missing"),
        (settings(use_prototypes=False), r"proto\.P is not known"),
        (settings(num_prototypes=4), r"proto\.P has another shape"),
        (settings(modalities=["face", "audio", "text"]), r"proj\.scene\.proj\.0\.weight is not known"),
        (settings(modalities=["face", "audio", "text", "pose"]), "'pose' is not a valid Modality"),
    ],
)
def test_other_fusions_are_refused(cfg: Any, sentence: str, tmp_path: Path) -> None:
    more = {"model_cfg": cfg} if cfg is not None else {"epoch": 1}
    file = saved(tmp_path / "proto_1.pt", fusion_model(0), **more)
    with pytest.raises(ArtifactError, match=sentence):
        import_ensemble(str(tmp_path / "ensemble"), [file], {})


def test_files_that_make_no_ensemble(encoders: dict[View, str], tmp_path: Path) -> None:
    first = saved(tmp_path / "proto_1.pt", fusion_model(0), model_cfg=settings())
    other = saved(tmp_path / "proto_2.pt", fusion_model(1), model_cfg=settings(x_heads=2))
    with pytest.raises(ArtifactError, match=r"proto_2\.pt is a model of another configuration than .*proto_1\.pt"):
        import_ensemble(str(tmp_path / "e"), [first, other], encoders)
    with pytest.raises(ArtifactError, match="of which no encoder is given"):
        import_ensemble(str(tmp_path / "e"), [first], {})
    swapped = encoders | {Modality.AUDIO: encoders[Modality.FACE]}
    with pytest.raises(ArtifactError, match="audio embeddings of 64 values, the encoder makes 20"):
        import_ensemble(str(tmp_path / "e"), [first], swapped)
