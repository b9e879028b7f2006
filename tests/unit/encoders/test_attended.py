"""ConflictAwareAH's branches against Hugging Face's own models and the pooling in NumPy."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from twominds.backbones import BackboneStore, BundleEntry, add_to_bundle
from twominds.encoders import attended
from twominds.encoders.attended import AttendedEncoder, AttendedEncoderConfig
from twominds.encoders.embedding import embed
from twominds.encoders.huggingface import load_backbone, transformer_layers
from twominds.encoders.pooling import AttentionPooling
from twominds.errors import ConfigError
from twominds.features.extractor import normalize_images
from twominds.features.face_images import decoded, encoded
from twominds.fusion.catalog import build_fusion
from twominds.fusion.conflict import ConflictFusionConfig
from twominds.records import PRESENT, Features, Modality, View
from twominds.training.progress import seeded

Make = Callable[..., Features]
ROLES: dict[View, str] = {
    Modality.FACE: "scene.videomae_base",
    Modality.AUDIO: "audio.hubert_base",
    Modality.TEXT: "text.emotion_distilroberta",
}


CONVOLUTIONS: dict[str, Any] = {
    "conv_dim": (8, 8, 8),
    "conv_kernel": (10, 3, 2),
    "conv_stride": (5, 4, 2),
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}


@pytest.fixture(scope="session")
def bundle(store: BackboneStore, tmp_path_factory: pytest.TempPathFactory) -> BackboneStore:
    """With a HuBERT-base, whose first convolution is normalised over time."""
    from transformers import HubertConfig, HubertModel

    torch.manual_seed(1)
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, **CONVOLUTIONS}
    config = HubertConfig(intermediate_size=32, mask_time_length=2, **sizes)
    folder = tmp_path_factory.mktemp("hubert")
    cast(Any, HubertModel(config)).save_pretrained(folder)
    add_to_bundle(
        store.uri, "audio.hubert_base", folder, BundleEntry(weights="debug", hub_id=None, revision="x", licence="x")
    )
    return BackboneStore(uri=store.uri)


def encoder_of(store: BackboneStore, view: View, **settings: Any) -> AttendedEncoder:
    torch.manual_seed(0)
    rows: dict[View, int] = {Modality.FACE: 4, Modality.AUDIO: 6, Modality.TEXT: 0}
    config = AttendedEncoderConfig(backbone=ROLES[view], head_dim=6, window_rows=rows[view])
    config = replace(config, **settings)
    example = cast(Features, None)  # it has a backbone: the example is not looked at
    encoder = AttendedEncoder.pretrained(config, num_outputs=2, store=store, example=example)
    encoder.view = view
    return encoder


def clips_of(view: View, count: int = 3) -> list[Features]:
    """Of different lengths, but for frames."""
    rng = np.random.default_rng(0)
    values: Sequence[npt.NDArray[Any]]
    if view is Modality.FACE:
        values = [jpegs(rng, 3 + i) for i in range(count)]
    elif view is Modality.AUDIO:
        values = [(0.1 * rng.normal(size=(5 + 2 * (i % 2), 173))).astype(np.float32) for i in range(count)]
    else:
        values = [rng.integers(2, 50, 4 + 3 * i) for i in range(count)]
    return [Features(clip_id=f"{i}", view=view, presence=PRESENT, values=rows) for i, rows in enumerate(values)]


def jpegs(rng: np.random.Generator, count: int) -> npt.NDArray[np.uint8]:
    files = [encoded(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8), 95) for _ in range(count)]
    return np.stack([np.pad(content, (0, 5_000 - len(content))) for content in files])


def tokens_by_themselves(store: BackboneStore, clip: Features) -> npt.NDArray[np.float64]:
    """Four pictures, of which the last may be shown again; six rows of sound."""
    backbone, values = cast(Any, load_backbone(store, ROLES[clip.view])), cast("npt.NDArray[Any]", clip.values)
    names = {Modality.FACE: "pixel_values", Modality.AUDIO: "input_values", Modality.TEXT: "input_ids"}
    given = torch.from_numpy(values if clip.view is Modality.TEXT else values[:6].ravel())[None]
    if clip.view is Modality.FACE:
        pictures = [*decoded(values[:4], 32), *decoded(values[-1:], 32)][:4]
        given = normalize_images(torch.from_numpy(np.stack(pictures)))[None]
    with torch.no_grad():
        return backbone(**{names[clip.modality]: given}).last_hidden_state[0].double().numpy()


@pytest.mark.parametrize("top", [0, 2])
@pytest.mark.parametrize("view", ROLES)
def test_tokens_are_projected_pooled_and_headed_by_hand(view: Modality, top: int, bundle: BackboneStore) -> None:
    """Whether the last layers run by themselves or not, the tokens are those of Hugging Face's own pass."""
    encoder, clips = encoder_of(bundle, view, trainable_layers=top).eval(), clips_of(view)
    p = {name: tensor.double().numpy() for name, tensor in encoder.state_dict().items()}
    with torch.no_grad():
        output = encoder(encoder.collate(clips))
    for i, clip in enumerate(clips):
        h = tokens_by_themselves(bundle, clip) @ p["projection.weight"].T + p["projection.bias"]
        alpha = np.exp(h @ p["pooling.query.weight"][0])
        embedding = (alpha / alpha.sum()) @ h
        np.testing.assert_allclose(output.embedding[i].numpy(), embedding, rtol=1e-4, atol=1e-5)
        normed = (embedding - embedding.mean()) / np.sqrt(embedding.var() + 1e-5)
        hidden = nn.functional.gelu(torch.from_numpy(p["classifier.1.weight"] @ normed + p["classifier.1.bias"]))
        z = p["classifier.4.weight"] @ hidden.numpy() + p["classifier.4.bias"]
        np.testing.assert_allclose(output.logits[i].numpy(), [0.0, z.item()], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("top", [0, 2])
@pytest.mark.parametrize("view", ROLES)
def test_a_clip_alone_is_as_in_a_batch(view: Modality, top: int, bundle: BackboneStore) -> None:
    encoder, clips = encoder_of(bundle, view, trainable_layers=top).eval(), clips_of(view, 4)
    with torch.no_grad():
        together = encoder(encoder.collate(clips)).embedding
        alone = torch.cat([encoder(encoder.collate([clip])).embedding for clip in clips])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_the_norm_after_the_last_layer_of_the_larger_models_is_not_left_out() -> None:
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, **CONVOLUTIONS}
    backbone = Wav2Vec2Model(Wav2Vec2Config(intermediate_size=32, do_stable_layer_norm=True, **sizes)).eval()
    backbone.encoder.layer_norm.weight.data.uniform_(0.5, 2)
    config = AttendedEncoderConfig(backbone="audio.large", trainable_layers=2)
    encoder = AttendedEncoder(config, num_outputs=2, architecture={"backbone": {"hidden_size": 16}}, backbone=backbone)
    encoder.view = Modality.AUDIO
    clips = clips_of(Modality.AUDIO)
    inputs = encoder.eval().collate(clips)
    with torch.no_grad():
        whole = backbone(torch.from_numpy(cast(Any, clips[0].values).ravel())[None]).last_hidden_state
        expected = encoder.pooling(encoder.projection(whole), torch.ones(whole.shape[:2], dtype=torch.bool))[0]
        torch.testing.assert_close(encoder(inputs).embedding[0], expected)


def test_sound_that_is_too_short_for_specaugment_is_heard_whole(bundle: BackboneStore) -> None:
    encoder = encoder_of(bundle, Modality.AUDIO, frozen_in_training_mode=True, trainable_layers=0).train()
    config = cast(Any, encoder.backbone).config
    config.mask_time_length, config.mask_time_prob = 10, 0.9
    for rows in range(1, 20):
        sound = np.ones((rows, 173), np.float32)
        clip = Features(clip_id="a", view=Modality.AUDIO, presence=PRESENT, values=sound)
        encoder.window_rows = 0
        assert encoder.collate([clip])["tokens"].isfinite().all()
    assert config.apply_spec_augment


def test_an_epochs_specaugment_is_the_same_again(bundle: BackboneStore) -> None:
    encoder = encoder_of(bundle, Modality.AUDIO, frozen_in_training_mode=True).train()
    cast(Any, encoder.backbone).config.mask_time_prob = 0.4
    epochs: list[torch.Tensor] = []
    for epoch in (1, 1, 2):
        np.random.random(3)  # what others drew must not matter
        with seeded(42, epoch, torch.device("cpu")):
            epochs.append(encoder.collate(clips_of(Modality.AUDIO, 1))["tokens"])
    assert torch.equal(epochs[0], epochs[1])
    assert not torch.equal(epochs[0], epochs[2])
    np.random.seed(5)
    with seeded(42, 1, torch.device("cpu")):
        np.random.random(3)
    left = np.random.random()
    np.random.seed(5)
    assert np.random.random() == left, "the global random state is left as it was"


def test_padding_gets_no_attention() -> None:
    pooling = AttentionPooling(3)
    values = torch.randn(2, 5, 3)
    mask = torch.arange(5) < torch.tensor([[5], [2]])
    values[1, 2:] = torch.nan
    pooled = pooling(values, mask)
    weights = (values[1, :2] @ pooling.query.weight[0]).softmax(dim=0)
    torch.testing.assert_close(pooled[1], weights @ values[1, :2])
    assert pooled.isfinite().all()


@pytest.mark.parametrize("view", ROLES)
def test_what_is_frozen_answers_alike_in_training_unless_told_otherwise(view: Modality, bundle: BackboneStore) -> None:
    """In training mode Hugging Face drops values, in sound whole stretches and layers, too."""
    clip = clips_of(view, 1)

    def tokens(encoder: AttendedEncoder) -> torch.Tensor:
        with torch.no_grad():
            return encoder(encoder.collate(clip)).embedding

    quiet = encoder_of(bundle, view).train()
    assert torch.equal(tokens(quiet), tokens(quiet))
    if view is not Modality.FACE:  # VideoMAE drops nothing
        as_published = encoder_of(bundle, view, frozen_in_training_mode=True).train()
        assert not torch.equal(tokens(as_published), tokens(as_published))
    top = encoder_of(bundle, view, trainable_layers=2).train()
    layers = transformer_layers(top.backbone)
    assert [layer.training for layer in layers] == [False, True, True]


@pytest.mark.parametrize("top", [0, 2])
@pytest.mark.parametrize("view", ROLES)
def test_what_is_kept_is_what_would_be_computed_to_the_bit(view: Modality, top: int, bundle: BackboneStore) -> None:
    encoder, clips = encoder_of(bundle, view, trainable_layers=top).eval(), clips_of(view, 4)

    def logits(chosen: Sequence[Features]) -> torch.Tensor:
        with torch.no_grad():
            return encoder(encoder.collate(chosen)).logits

    anew = logits(clips)
    encoder.keep(10_000_000)
    assert torch.equal(logits(clips), anew)
    first = next(child for child in encoder.backbone.children())
    for parameter in first.parameters():
        parameter.data.zero_()  # what is kept does not look at the backbone's first layers again
    assert torch.equal(logits(clips), anew)
    assert torch.equal(logits(clips[::-1]), logits(clips).flip(0))
    encoder.keep(0)
    assert not torch.equal(logits(clips), anew)


def test_layers_that_are_left_out_in_training_do_not_move_the_others(bundle: BackboneStore) -> None:
    """HuBERT with all its layers left out: what the layers that learn are given is what came before them all."""
    encoder = encoder_of(bundle, Modality.AUDIO, trainable_layers=1, frozen_in_training_mode=True).train()
    backbone = cast(Any, encoder.backbone)
    backbone.config.layerdrop, backbone.config.apply_spec_augment = 1.0, False
    for module in backbone.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    for name in ("hidden_dropout", "attention_dropout", "feat_proj_dropout"):
        setattr(backbone.config, name, 0.0)
    (clip,) = clips_of(Modality.AUDIO, 1)
    (tokens,) = encoder.collate([clip])["tokens"]
    encoder.eval()
    heard: list[torch.Tensor] = []
    first = transformer_layers(encoder.backbone)[0]
    hook = first.register_forward_pre_hook(lambda _, given: heard.append(given[0]))
    encoder.collate([clip])
    hook.remove()
    torch.testing.assert_close(tokens, heard[0][0])


def test_nothing_is_kept_of_windows_that_change_or_layers_that_drop(bundle: BackboneStore) -> None:
    clip = clips_of(Modality.AUDIO, 1)
    for settings in ({}, {"frozen_in_training_mode": True}):
        encoder = encoder_of(bundle, Modality.AUDIO, **settings).train()
        encoder.keep(10_000_000)
        before = encoder.collate(clip)["tokens"]
        for parameter in encoder.backbone.parameters():
            parameter.data.zero_()
        assert not torch.equal(encoder.collate(clip)["tokens"], before), "the backbone was asked again"


def test_no_more_is_kept_than_there_is_room_for(bundle: BackboneStore) -> None:
    encoder, clips = encoder_of(bundle, Modality.TEXT).eval(), clips_of(Modality.TEXT, 3)
    tokens = encoder.collate(clips[:1])["tokens"]
    encoder.keep(tokens.nbytes + 1)
    encoder.collate(clips)
    for parameter in encoder.backbone.parameters():
        parameter.data.zero_()
    assert torch.equal(encoder.collate(clips[:1])["tokens"], tokens)
    assert not encoder.collate(clips[1:2])["tokens"].any()


def test_words_are_those_that_are_said_from_the_stretch_on_or_all(bundle: BackboneStore) -> None:
    encoder = encoder_of(bundle, Modality.TEXT, words_s=2.0).eval()
    ids, times_s = np.arange(10, 18), np.array([0.5, 0.5, 1.0, 2.5, 3.0, 9.0, 9.5, 9.5])
    clip = Features(clip_id="a", view=Modality.TEXT, presence=PRESENT, values=ids, times_s=times_s)

    def seen(time_s: float, item: Features = clip) -> list[int]:
        values = encoder.stretch(item, 25, time_s).values
        assert values is not None
        return cast("list[int]", values.tolist())

    assert seen(0.0) == [10, 11, 12, 17], "the special tokens are there with any of the words"
    assert seen(2.5) == [10, 13, 14, 17]
    assert seen(4.5) == ids.tolist(), "none is said then"
    assert seen(0.0, replace(clip, times_s=None)) == ids.tolist()
    (first,) = embed(encoder, [clip])
    (alone,) = embed(encoder, [replace(clip, values=np.array([10, 11, 12, 17]), times_s=None)])
    assert first.vectors is not None
    assert alone.vectors is not None
    np.testing.assert_array_equal(first.vectors, alone.vectors)


@pytest.mark.parametrize("top", [0, 1])
def test_sound_of_a_whole_clip_is_heard_in_equal_parts(
    top: int, bundle: BackboneStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = encoder_of(bundle, Modality.AUDIO, window_rows=0, trainable_layers=top).eval()
    heard = (0.1 * np.random.default_rng(0).normal(size=(20, 200))).astype(np.float32)

    def tokens(rows: npt.NDArray[np.float32]) -> torch.Tensor:
        of_clip = Features(clip_id="a", view=Modality.AUDIO, presence=PRESENT, values=rows)
        return encoder.collate(encoder.seen(of_clip))["tokens"][0]

    whole, halves = tokens(heard), [tokens(heard[:10]), tokens(heard[10:])]
    assert len(whole) > 3 * len(tokens(heard[:6]))
    monkeypatch.setattr(attended, "_HEARD_AT_ONCE", 3_900)
    torch.testing.assert_close(tokens(heard), torch.cat(halves))


@pytest.mark.parametrize("view", [Modality.FACE, Modality.AUDIO])
def test_several_windows_are_what_each_of_them_is_alone(view: Modality, bundle: BackboneStore) -> None:
    encoder = encoder_of(bundle, view, windows=3).eval()
    rng, rows = np.random.default_rng(0), encoder.window_rows
    long = jpegs(rng, 30) if view is Modality.FACE else (0.1 * rng.normal(size=(30, 173))).astype(np.float32)
    clip = Features(clip_id="long", view=view, presence=PRESENT, values=long)
    short = replace(clip, clip_id="short", values=long[:rows])
    (of_long, of_short) = embed(encoder, [clip, short])
    assert (of_long.stretches, of_short.stretches) == (3, 1)
    assert of_long.vectors is not None
    starts = (np.random.default_rng(42).random(3) * (30 - rows + 1)).astype(int)
    assert len(set(starts.tolist())) == 3
    for start, vector in zip(starts, of_long.vectors, strict=True):
        (alone,) = embed(encoder, [replace(clip, values=long[start : start + rows])])
        assert alone.vectors is not None
        np.testing.assert_allclose(vector, alone.vectors[0], atol=1e-6)


@pytest.mark.parametrize("view", ROLES)
def test_only_the_last_layers_learn_at_a_rate_of_their_own(view: Modality, bundle: BackboneStore) -> None:
    encoder = encoder_of(bundle, view, trainable_layers=2)
    backbone, head = encoder.parameter_groups(3e-5)
    assert (backbone["lr"], head["lr"]) == (pytest.approx(3e-6), 3e-5)
    layers = transformer_layers(encoder.backbone)
    assert {id(p) for p in backbone["params"]} == {id(p) for layer in layers[1:] for p in layer.parameters()}
    assert [len(group["params"]) for group in encoder_of(bundle, view).parameter_groups(1.0)] == [9]


def test_published_sizes() -> None:
    """Projections 1,771,776 and pools 2,304 of three branches, the text's head 395,777; HuBERT-base 94,371,712."""
    from transformers import HubertConfig, HubertModel, RobertaConfig, RobertaModel, VideoMAEConfig, VideoMAEModel

    with torch.device("meta"):
        roberta = RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1)
        models = {
            86_227_200: VideoMAEModel(VideoMAEConfig(use_mean_pooling=False)),
            94_371_712: HubertModel(HubertConfig()),
            124_645_632: RobertaModel(roberta),
        }
        for count, model in models.items():
            assert sum(p.numel() for p in cast(nn.Module, model).parameters()) == count
        architecture = {"backbone": {"hidden_size": 768, "pad_token_id": 1}}
        branch = AttendedEncoder(
            AttendedEncoderConfig(backbone="text.roberta_go_emotions"),
            num_outputs=2,
            architecture=architecture,
            backbone=cast(nn.Module, models[124_645_632]),
        )
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in branch.named_children()}
    assert (3 * parts["projection"], 3 * parts["pooling"], parts["classifier"]) == (1_771_776, 2_304, 395_777)
    model = ConflictFusionConfig(project=False, one_logit=True)
    fusion = build_fusion(model, dims=dict.fromkeys(("face", "audio", "text"), 768), num_outputs=2)
    above = 3 * (parts["projection"] + parts["pooling"]) + parts["classifier"]
    learning = above + sum(p.numel() for p in fusion.parameters())
    assert learning == 13_993_474, "all but the backbones"
    of_layers = [
        sum(p.numel() for layer in transformer_layers(cast(nn.Module, model))[-2:] for p in layer.parameters())
        for model in models.values()
    ]
    assert learning + sum(of_layers) == 56_519_170, "with the last two layers of each"


def test_settings_that_are_none_are_refused(bundle: BackboneStore) -> None:
    for settings in (
        {"trainable_layers": -1},
        {"backbone_lr_scale": 0.0},
        {"dropout": 1.0},
        {"windows": 3},
        {"words_s": -1.0},
    ):
        with pytest.raises(ConfigError):
            AttendedEncoderConfig(backbone="x", **cast(Any, settings))
    with pytest.raises(ConfigError, match="two classes, not for 3"):
        AttendedEncoder.pretrained(
            AttendedEncoderConfig(backbone=ROLES[Modality.TEXT]),
            num_outputs=3,
            store=bundle,
            example=cast(Features, None),
        )
