"""Team LEYA at the 10th ABAW challenge: four unimodal encoders and a Transformer over modality tokens.

Numbers are the paper's (section 4.2); "public code" marks what the paper leaves open and the authors' implementation
says; "ours" what neither says.
"""

from dataclasses import replace

from twominds.encoders.audio import AudioEncoderConfig
from twominds.encoders.face import FaceEncoderConfig
from twominds.encoders.scene import SceneEncoderConfig
from twominds.encoders.text import TextEncoderConfig
from twominds.features.audio import AudioFeaturesConfig
from twominds.features.face import FaceFeaturesConfig
from twominds.features.scene import SceneFeaturesConfig
from twominds.features.text import TextFeaturesConfig
from twominds.fusion.transformer import TransformerFusionConfig
from twominds.media.reader import MediaConfig
from twominds.recipes.leya_searches import FACE_SEARCH, HEAD_SEARCH
from twominds.recipes.recipe import FusionRecipe, Recipe
from twominds.recipes.space import Candidate, Choice, LogUniform, SearchSpace, Uniform
from twominds.records import Modality
from twominds.training.fit import FitConfig
from twominds.training.losses import FusionLoss

SOURCE = "Ryumina et al., Team LEYA in 10th ABAW Competition"

SPACE: SearchSpace = {
    "optimizer": Choice(values=("rmsprop", "adamw")),
    "hidden_dim": Choice(values=(128, 256, 384, 512)),
    "dropout": Choice(values=(0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65)),
    "num_layers": Choice(values=(1, 2, 3, 4, 5, 6)),
    "num_heads": Choice(values=(2, 4, 8, 16)),
    "feedforward_factor": Choice(values=(2, 4, 6, 8)),
    "use_cls": Choice(values=(False, True)),
    "learning_rate": LogUniform(low=8e-5, high=5e-4),
    "weight_decay": LogUniform(low=1e-4, high=2e-3),
    "scheduler": Choice(values=("plateau", "cosine")),
    "label_smoothing": Uniform(low=0.0, high=0.06),
    "grad_clip": Uniform(low=0.5, high=2.0),
    "prototypes_per_class": Choice(values=(4, 6, 8, 10, 12, 14, 16)),
    "prototype_temperature": Uniform(low=0.05, high=0.40),
    "prototype_weight": Uniform(low=0.05, high=0.80),
    "diversity_weight": Uniform(low=0.0, high=0.15),
}
"""Section 4.2 names the search, the public code its ranges."""

PAPER_CANDIDATE: Candidate = {
    "optimizer": "rmsprop",
    "hidden_dim": 128,
    "dropout": 0.45,
    "num_layers": 6,
    "num_heads": 4,
    "feedforward_factor": 6,
    "use_cls": False,
    "learning_rate": 9.44e-5,
    "weight_decay": 5.55e-4,
    "scheduler": "cosine",
    "label_smoothing": 0.02,
    "grad_clip": 0.5,
    "prototypes_per_class": 16,
    "prototype_temperature": 0.3,
    "prototype_weight": 0.2,
    "diversity_weight": 0.0,
}
"""The selected fusion model of section 4.2."""


def leya() -> Recipe:
    """Row 14 of Table 1: scene, face, audio and text, and the ensemble of five fusion models with prototypes."""
    return Recipe(
        name="leya",
        description="four encoders, Transformer fusion with prototypes, ensemble of five seeds",
        source=f"{SOURCE}, Table 1, rows 1, 2, 3, 7, 12 and 14",
        media=MediaConfig(),
        features={
            Modality.SCENE: SceneFeaturesConfig(),
            Modality.FACE: FaceFeaturesConfig(),
            Modality.AUDIO: AudioFeaturesConfig(),
            Modality.TEXT: TextFeaturesConfig(),
        },
        encoders={
            Modality.SCENE: SceneEncoderConfig(),
            Modality.FACE: FaceEncoderConfig(),
            Modality.AUDIO: AudioEncoderConfig(),
            Modality.TEXT: TextEncoderConfig(),
        },
        encoder_fits={
            Modality.SCENE: FitConfig(
                epochs=15,
                batch_size=4,
                optimizer="adamw",
                learning_rate=2e-5,
                weight_decay=1e-2,
                scheduler="cosine",
                label_smoothing=0.1,
                class_weights=False,
                grad_clip=None,
                patience=15,
            ),
            Modality.FACE: FitConfig(
                epochs=100,
                batch_size=32,
                optimizer="adamw",
                learning_rate=1e-3,
                weight_decay=1e-3,  # public code, as are the epochs, the patience and the class weights
                scheduler="none",
                label_smoothing=0.0,
                class_weights=True,
                grad_clip=None,
                patience=20,
            ),
            Modality.AUDIO: FitConfig(  # ours, but for the optimizer
                epochs=50,
                batch_size=16,
                optimizer="adamw",
                learning_rate=1e-4,
                weight_decay=1e-2,
                scheduler="cosine",
                label_smoothing=0.0,
                class_weights=True,
                grad_clip=1.0,
                patience=10,
            ),
            Modality.TEXT: FitConfig(  # the learning rate is ours, within the range of the paper's search
                epochs=20,
                batch_size=16,
                optimizer="adamw",
                learning_rate=5e-5,
                weight_decay=1e-2,
                scheduler="none",
                label_smoothing=0.0,
                class_weights=True,
                grad_clip=1.0,
                patience=5,
            ),
        },
        encoder_seed=42,
        encoder_searches={Modality.FACE: FACE_SEARCH, Modality.TEXT: HEAD_SEARCH},
        fusion=FusionRecipe(
            model=TransformerFusionConfig(),
            fit=FitConfig(),
            loss=FusionLoss(),
            space=SPACE,
            first_points=(PAPER_CANDIDATE,),
        ),
    )


def leya_demo() -> Recipe:
    """The same system for `make demo`: tiny debug backbones, the real all-MiniLM for text, shorter training.

    A few hundred clips are too few to train a random VideoMAE on: it learns who they are. So its head has a learning
    rate of its own, and of the backbone only the last layer moves. Nor does all-MiniLM train for long: once it knows
    the training transcripts by heart, the fusion, which learns from the same clips, believes it more than it deserves.
    The first epochs are none to choose: validation is small, and chance would. Drawn clips are short: ten frames show
    the face.
    """
    recipe, fits, encoders = leya(), leya().encoder_fits, leya().encoders
    return replace(
        recipe,
        name="leya/demo",
        description="leya on tiny debug backbones and all-MiniLM, for the demo and for tests",
        media=replace(recipe.media, face_frames=10),
        features={**recipe.features, Modality.TEXT: TextFeaturesConfig(backbone="text.all_minilm")},
        encoders={
            **encoders,
            Modality.SCENE: replace(encoders[Modality.SCENE], trainable_layers=1, backbone_lr_scale=0.03),
            Modality.AUDIO: replace(encoders[Modality.AUDIO], hidden_dim=64, num_layers=1, head_hidden_dim=32),
            Modality.TEXT: replace(encoders[Modality.TEXT], backbone="text.all_minilm", pooling="mean", dropout=0.3),
        },
        encoder_fits={
            Modality.SCENE: replace(fits[Modality.SCENE], learning_rate=3e-3, epochs=12, min_epochs=4),
            Modality.FACE: replace(fits[Modality.FACE], epochs=60, min_epochs=10),
            Modality.AUDIO: replace(fits[Modality.AUDIO], learning_rate=1e-3, epochs=12, min_epochs=4),
            Modality.TEXT: replace(fits[Modality.TEXT], epochs=6, min_epochs=3),
        },
        fusion=replace(recipe.fusion, fit=replace(recipe.fusion.fit, epochs=60), trials=6),
    )


POOLED_CANDIDATE: Candidate = {
    **PAPER_CANDIDATE,
    "num_layers": 2,
    "feedforward_factor": 2,
    "dropout": 0.3,
    "prototypes_per_class": 8,
    "learning_rate": 5e-4,
}
"""A lighter model of the same space (ours): pooled features come without a trained encoder's help."""


def over_pooled_features(recipe: Recipe) -> Recipe:
    """The same system with a fusion over pooled frozen features: no trained encoder is in its path (ours).

    Encoders trained on labels that no modality can tell alone throw the evidence away; this fusion sees the evidence
    as the backbones left it, projected onto the directions that bear on the class alone or with another modality.
    """
    fusion = replace(
        recipe.fusion,
        inputs="pooled",
        model=TransformerFusionConfig(standardize="interaction"),
        # It can stay at chance for some epochs before it sees an interaction.
        fit=replace(recipe.fusion.fit, min_epochs=25),
        first_points=(POOLED_CANDIDATE, PAPER_CANDIDATE),
    )
    return replace(
        recipe,
        name=f"{recipe.name}-pooled",
        description=f"{recipe.name} with a fusion over pooled frozen features",
        source="ours",
        fusion=fusion,
    )
