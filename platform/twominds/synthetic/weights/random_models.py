"""The published architectures with seeded random weights, tiny or in full size.

Hugging Face's initialisation (normal, 0.02) is meant for training: stacked up untrained it leaves next to nothing but
the input's linear projection. Here every linear layer has weights of variance 1 / fan-in, so that each block adds
about as much as it gets, and the last layer of each residual branch is scaled by 1 / sqrt(2 * layers) (as in GPT-2),
so that deep models keep their tokens apart.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from twominds.backbones.descriptors import DESCRIPTORS, NETWORKS, Architecture
from twominds.backbones.efficientnet import build_efficientnet

BundleSize = Literal["tiny", "full"]


@dataclass(frozen=True, kw_only=True)
class TransformerSize:
    """Width and depth of one Transformer."""

    hidden: int
    layers: int
    heads: int
    feed_forward: int


SCENE: dict[BundleSize, TransformerSize] = {
    "tiny": TransformerSize(hidden=48, layers=2, heads=4, feed_forward=96),
    "full": TransformerSize(hidden=768, layers=12, heads=12, feed_forward=3072),
}
SCENE_PATCH_PX: dict[BundleSize, int] = {"tiny": 32, "full": 16}
AUDIO: dict[BundleSize, TransformerSize] = {
    "tiny": TransformerSize(hidden=64, layers=12, heads=4, feed_forward=128),
    "full": TransformerSize(hidden=1024, layers=12, heads=16, feed_forward=4096),
}
"""wav2vec2-large cut to 12 layers, all of which `tiny` keeps: the tenth is what is taken."""
AUDIO_BASE: dict[BundleSize, TransformerSize] = {
    "tiny": TransformerSize(hidden=64, layers=2, heads=4, feed_forward=128),
    "full": TransformerSize(hidden=768, layers=12, heads=12, feed_forward=3072),
}
AUDIO_LARGE: dict[BundleSize, TransformerSize] = {
    "tiny": AUDIO_BASE["tiny"],
    "full": TransformerSize(hidden=1024, layers=24, heads=16, feed_forward=4096),
}
AUDIO_CHANNELS: dict[BundleSize, int] = {"tiny": 32, "full": 512}
TEXT: dict[BundleSize, TransformerSize] = {
    "tiny": TransformerSize(hidden=64, layers=2, heads=4, feed_forward=128),
    "full": TransformerSize(hidden=768, layers=6, heads=12, feed_forward=3072),
}
BASE: dict[BundleSize, TransformerSize] = {
    "tiny": TEXT["tiny"],
    "full": TransformerSize(hidden=768, layers=12, heads=12, feed_forward=3072),
}
"""BERT-base, RoBERTa-base and DeBERTa-base; the sizes of `TEXT` are DistilRoBERTa's, half as deep."""
MINILM: dict[BundleSize, TransformerSize] = {
    "tiny": TEXT["tiny"],
    "full": TransformerSize(hidden=384, layers=6, heads=12, feed_forward=1536),
}
FRAMES: dict[BundleSize, TransformerSize] = {
    "tiny": TransformerSize(hidden=48, layers=2, heads=4, feed_forward=96),
    "full": TransformerSize(hidden=768, layers=12, heads=12, feed_forward=3072),
}
VIT_PATCH_PX: dict[BundleSize, int] = {"tiny": 32, "full": 16}
CLIP_TEXT: dict[BundleSize, TransformerSize] = {
    "tiny": TransformerSize(hidden=16, layers=1, heads=2, feed_forward=32),
    "full": TransformerSize(hidden=512, layers=12, heads=8, feed_forward=2048),
}
CLIP_EMBEDDING: dict[BundleSize, int] = {"tiny": 32, "full": 512}
CLIP_VOCABULARY: dict[BundleSize, int] = {"tiny": 16, "full": 49_408}
FACE_WIDTH: dict[BundleSize, float] = {"tiny": 0.2, "full": 1.0}
FACE_IMAGE_PX: dict[BundleSize, int] = {"tiny": 112, "full": 224}
DEBUG_DESCRIPTORS = tuple(role for role, published in DESCRIPTORS.items() if published.architecture in NETWORKS)
"""Roles of face descriptors: all but those of which there are ONNX files alone."""
TINY_DESCRIPTORS: dict[Architecture, tuple[dict[str, Any], int]] = {
    "efficientnet_b0": ({"width": 0.2}, 64),
    "efficientnet_b2": ({"width": 0.2}, 64),
    "mobilevitv2_150": ({"variant": "mobilevitv2_050"}, 64),
    "mobilefacenet": ({"scale": 0.25, "blocks": (1, 1, 1, 1), "dim": 64}, 112),
}
"""What makes the networks of descriptors small, and the side of their images."""
TOKENS: dict[BundleSize, int] = {"tiny": 0, "full": 50_265}
"""What the vocabularies of RoBERTa and DeBERTa are filled to; 0: as they come."""
BERT_TOKENS: dict[BundleSize, int] = {"tiny": 0, "full": 30_522}
"""The same of uncased BERT."""


def videomae(size: BundleSize, *, fine_tuned: bool = True) -> nn.Module:
    """VideoMAE over 16 frames of 224 px in tubelets of 2; as published, the fine-tuned one has no final LayerNorm.

    `tiny` has patches of 32 px, so a quarter of the 1,568 tokens, whose attention is what takes the time.
    """
    from transformers import VideoMAEConfig, VideoMAEModel

    shape = SCENE[size]
    config = VideoMAEConfig(
        image_size=224,
        num_frames=16,
        tubelet_size=2,
        patch_size=SCENE_PATCH_PX[size],
        use_mean_pooling=fine_tuned,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.feed_forward,
    )
    model = VideoMAEModel(config)
    _rescale(model, shape.layers, ("attention.output.dense", "output.dense"))
    _draw_tubelet_filters(model.embeddings.patch_embeddings.projection)
    _attend_to_movement(cast(Any, model).encoder.layer[0].intermediate.dense)
    return model.eval()


def wav2vec2(size: BundleSize) -> nn.Module:
    """wav2vec2 as `wav2vec2-large-robust` cut to 12 layers: 7 layer-normed convolutions, pre-norm Transformer."""
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    return _listener(Wav2Vec2Config, Wav2Vec2Model, AUDIO[size], size)


def wav2vec2_base(size: BundleSize) -> nn.Module:
    """wav2vec2-base: convolutions without biases, the first normalised over time (group norm); post-norm."""
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    return _listener(Wav2Vec2Config, Wav2Vec2Model, AUDIO_BASE[size], size, layer_normed=False)


def hubert(size: BundleSize) -> nn.Module:
    """HuBERT-large: convolutions and Transformer as in wav2vec2-large, which it has 24 layers of."""
    from transformers import HubertConfig, HubertModel

    return _listener(HubertConfig, HubertModel, AUDIO_LARGE[size], size)


def hubert_base(size: BundleSize) -> nn.Module:
    """HuBERT-base: convolutions and Transformer as in wav2vec2-base."""
    from transformers import HubertConfig, HubertModel

    return _listener(HubertConfig, HubertModel, AUDIO_BASE[size], size, layer_normed=False)


def _listener(
    config: Callable[..., Any],
    model: Callable[[Any], nn.Module],
    shape: TransformerSize,
    size: BundleSize,
    *,
    layer_normed: bool = True,
) -> nn.Module:
    """wav2vec2 or HuBERT; layer norm in the convolutions and before each block comes as one (large) or not (base)."""
    listener = model(
        config(
            conv_dim=(AUDIO_CHANNELS[size],) * 7,
            conv_kernel=(10, 3, 3, 3, 3, 2, 2),
            conv_stride=(5, 2, 2, 2, 2, 2, 2),
            conv_bias=layer_normed,
            feat_extract_norm="layer" if layer_normed else "group",
            do_stable_layer_norm=layer_normed,
            num_conv_pos_embeddings=128,
            num_conv_pos_embedding_groups=16,
            hidden_size=shape.hidden,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            intermediate_size=shape.feed_forward,
            apply_spec_augment=False,
        )
    )
    _rescale(listener, shape.layers, ("attention.out_proj", "feed_forward.output_dense"))
    return listener.eval()


def roberta(size: BundleSize, vocabulary: int, shapes: Mapping[BundleSize, TransformerSize] = TEXT) -> nn.Module:
    """The encoder of a RoBERTa without a pooler: by default DistilRoBERTa, which has half the layers."""
    from transformers import RobertaConfig, RobertaModel

    shape = shapes[size]
    config = RobertaConfig(
        vocab_size=vocabulary,
        max_position_embeddings=514,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.feed_forward,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    )
    model = RobertaModel(config, add_pooling_layer=False)
    _rescale(model, shape.layers, ("attention.output.dense", "output.dense"))
    return model.eval()


def bert(size: BundleSize, vocabulary: int, shapes: Mapping[BundleSize, TransformerSize]) -> nn.Module:
    """The encoder of a BERT without a pooler, as sentence encoders are published: E5 (`BASE`), MiniLM (`MINILM`)."""
    from transformers import BertConfig, BertModel

    shape = shapes[size]
    config = BertConfig(
        vocab_size=vocabulary,
        max_position_embeddings=512,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.feed_forward,
        pad_token_id=0,
    )
    model = BertModel(config, add_pooling_layer=False)
    _rescale(model, shape.layers, ("attention.output.dense", "output.dense"))
    return model.eval()


def deberta(size: BundleSize, vocabulary: int) -> nn.Module:
    """DeBERTa v1: attention to content and to relative positions, no absolute ones; `tiny` is as small as RoBERTa's."""
    from transformers import DebertaConfig, DebertaModel

    shape = BASE[size]
    config = DebertaConfig(
        vocab_size=vocabulary,
        max_position_embeddings=512,
        relative_attention=True,
        max_relative_positions=-1,
        pos_att_type=["c2p", "p2c"],
        position_biased_input=False,
        type_vocab_size=0,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.feed_forward,
        pad_token_id=0,
    )
    model = DebertaModel(config)
    _rescale(model, shape.layers, ("attention.output.dense", "output.dense"))
    return model.eval()


def vit(size: BundleSize) -> nn.Module:
    """ViT over images of 224 px without a pooler, which the published classifier lacks; `tiny` has patches of 32 px."""
    from transformers import ViTConfig, ViTModel

    shape = FRAMES[size]
    config = ViTConfig(
        image_size=224,
        patch_size=VIT_PATCH_PX[size],
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.feed_forward,
    )
    model = ViTModel(config, add_pooling_layer=False)
    _rescale(model, shape.layers, ("attention.o_proj", "mlp.fc2"))
    return model.eval()


def clip(size: BundleSize) -> nn.Module:
    """CLIP ViT-B/32, both towers as published, of which the platform uses the one for images."""
    from transformers import CLIPConfig, CLIPModel

    image, text, vocabulary = FRAMES[size], CLIP_TEXT[size], CLIP_VOCABULARY[size]
    config = CLIPConfig(
        vision_config={
            "image_size": 224,
            "patch_size": 32,
            "projection_dim": CLIP_EMBEDDING[size],
            "hidden_size": image.hidden,
            "num_hidden_layers": image.layers,
            "num_attention_heads": image.heads,
            "intermediate_size": image.feed_forward,
        },
        text_config={
            "vocab_size": vocabulary,
            "bos_token_id": vocabulary - 2,
            "eos_token_id": vocabulary - 1,
            "projection_dim": CLIP_EMBEDDING[size],
            "hidden_size": text.hidden,
            "num_hidden_layers": text.layers,
            "num_attention_heads": text.heads,
            "intermediate_size": text.feed_forward,
        },
        projection_dim=CLIP_EMBEDDING[size],
    )
    model = CLIPModel(config)
    _rescale(model, image.layers, ("self_attn.out_proj", "mlp.fc2"))
    return model.eval()


def whisper(size: BundleSize) -> nn.Module:
    """whisper-base; `tiny` has 2 layers of width 64. With random weights it writes noise: for speed figures alone."""
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    hidden, layers, heads = (512, 6, 8) if size == "full" else (64, 2, 4)
    config = WhisperConfig(
        d_model=hidden,
        encoder_layers=layers,
        decoder_layers=layers,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=4 * hidden,
        decoder_ffn_dim=4 * hidden,
    )
    return WhisperForConditionalGeneration(config).eval()


def efficientnet(size: BundleSize) -> nn.Module:
    """EfficientNet-B0 with timm's own random weights; BatchNorm is still to be calibrated.

    Before an activation BatchNorm gets a bias of 1.5: most of what it normalises then passes the activation's linear
    part. With timm's bias of 0, sixteen random blocks in a row let next to nothing of a crop's colours through. The
    last layer keeps 0: the features would lie far from zero, and an MLP without standardisation learn nothing.
    """
    model = build_efficientnet(width=FACE_WIDTH[size])
    _pass_activations(model)
    return model.eval()


def _pass_activations(model: nn.Module) -> None:
    """Lets most of a signal pass the activations of a random EfficientNet, for the reason that `efficientnet` gives."""
    for module in model.modules():
        activation = getattr(module, "act", None)
        if isinstance(module, nn.BatchNorm2d) and not isinstance(activation, nn.Identity | None):
            nn.init.constant_(module.bias, 1.5)
    nn.init.zeros_(cast(Tensor, cast(Any, model).bn2.bias))


def descriptor(architecture: Architecture, options: Mapping[str, Any]) -> nn.Module:
    """The network of a face descriptor, without its head; BatchNorm is still to be calibrated."""
    model = NETWORKS[architecture](**options)
    if architecture.startswith("efficientnet"):
        _pass_activations(model)
    return model.eval()


def seeded(seed: int, build: Callable[[], nn.Module]) -> nn.Module:
    """What `build` makes when torch's random numbers start at `seed`; they go on afterwards as if nothing was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def save_transformer(model: nn.Module, folder: Path) -> None:
    """config.json and model.safetensors as Hugging Face writes them."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    cast(Any, model).save_pretrained(folder, max_shard_size="50GB")


def _rescale(model: nn.Module, layers: int, branch_ends: tuple[str, ...]) -> None:
    """Weights of variance 1 / fan-in; the last layers of residual branches smaller by sqrt(2 * layers)."""
    with torch.no_grad():
        for name, module in cast(Iterable[tuple[str, nn.Module]], model.named_modules()):
            if isinstance(module, nn.Linear):
                std = 1.0 / math.sqrt(module.in_features)
                if name.endswith(branch_ends):
                    std /= math.sqrt(2.0 * layers)
                module.weight.normal_(0.0, std)


def _draw_tubelet_filters(projection: nn.Conv3d) -> None:
    """Random filters of three kinds, a third each, for patches [3 colours, 2 frames, P, P].

    White noise over a patch mostly measures its brightness, which in pictures outweighs all else. So one third of the
    filters are smooth random patterns (what is where), one third the same with zero mean over the patch (edges), and
    one third change sign between the two frames (movement), as trained first layers do. Scales come from `calibration`.
    """
    with torch.no_grad():
        channels, _, _, *patch = projection.weight.shape
        coarse = torch.randn(channels, 3, 1, 4, 4)
        smooth = nn.functional.interpolate(coarse, size=(1, *patch), mode="trilinear").repeat(1, 1, 2, 1, 1)
        third = channels // 3
        edges = smooth[third : 2 * third]
        edges -= edges.mean(dim=(1, 2, 3, 4), keepdim=True)
        smooth[2 * third :, :, 1] *= -1.0
        projection.weight.copy_(smooth)
        cast(Tensor, projection.bias).zero_()


def _attend_to_movement(hidden: nn.Linear) -> None:
    """Half of the first block's hidden units see only the filters for movement, and four times as strongly.

    A movement filter's answers average out over the tokens; GELU keeps how strong they are, and so does the average
    of the output (eq. 1), as in a trained VideoMAE, which was fine-tuned to tell movements apart.
    """
    with torch.no_grad():
        units, channels = hidden.weight.shape
        static = 2 * (channels // 3)
        hidden.weight[: units // 2, :static] = 0.0
        hidden.weight[: units // 2, static:] *= 4.0 * math.sqrt(3.0)
