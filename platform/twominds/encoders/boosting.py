"""Gradient-boosted trees as modules: LightGBM and CatBoost, each kept in its own file format.

Both are trained on one thread (Ray shares out the CPUs) and give the same model for the same seed, to the byte.
"""

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from twominds.errors import ConfigError
from twominds.records import FloatArray

LEAST_PROBABILITY = 1e-9
"""Probabilities are clipped here before their logarithm is taken."""

Predict = Callable[[FloatArray], npt.NDArray[np.float64]]
"""[B, D] -> class probabilities [B, C]; of two classes the second one's [B] will do."""


@dataclass(frozen=True, kw_only=True)
class TreesConfig:
    """Settings of boosted trees."""

    trees: int = 300
    """Number of trees."""
    tree_learning_rate: float = 0.05
    """Weight of each tree."""
    tree_depth: int = 6
    """Largest depth; CatBoost's symmetric trees all have it."""
    tree_leaves: int = 31
    """Most leaves of a tree (LightGBM alone)."""
    tree_min_clips: int = 5
    """Least clips in a leaf (LightGBM alone: CatBoost has no such limit on symmetric trees)."""

    def __post_init__(self) -> None:
        if self.trees < 1:
            raise ConfigError(f"text.trees must be at least 1, it is {self.trees}.")
        if not 0 < self.tree_learning_rate <= 1:
            raise ConfigError(f"text.tree_learning_rate must be in (0, 1], it is {self.tree_learning_rate}.")
        if not 1 <= self.tree_depth <= 16:
            raise ConfigError(f"text.tree_depth must be 1 to 16, it is {self.tree_depth}.")
        if self.tree_leaves < 2:
            raise ConfigError(f"text.tree_leaves must be at least 2, it is {self.tree_leaves}.")
        if self.tree_min_clips < 1:
            raise ConfigError(f"text.tree_min_clips must be at least 1, it is {self.tree_min_clips}.")


class BoostedTrees(nn.Module, ABC):
    """float32 [B, D] -> log probabilities [B, C]; the library's file is the buffer `model`."""

    model: Tensor

    def __init__(self, model_bytes: int = 0) -> None:
        super().__init__()
        self.register_buffer("model", torch.zeros(model_bytes, dtype=torch.uint8))
        self._predict: Predict | None = None
        self.register_load_state_dict_post_hook(_forget)

    def forward(self, inputs: Tensor) -> Tensor:
        """See the class."""
        if self._predict is None:
            self._predict = self.load(self.model.cpu().numpy().tobytes())
        probabilities = self._predict(inputs.float().cpu().numpy())
        if probabilities.ndim == 1:
            probabilities = np.stack([1 - probabilities, probabilities], axis=1)
        logits = np.log(np.clip(probabilities, LEAST_PROBABILITY, 1))
        return torch.from_numpy(logits).to(inputs.device, torch.float32)

    def learn(
        self, inputs: FloatArray, labels: npt.NDArray[np.int64], weights: FloatArray, config: TreesConfig, seed: int
    ) -> None:
        """Fits the trees.

        Args:
            inputs: [N, D].
            labels: [N], every class among them.
            weights: [N], of each clip in the loss.
            config: Number and shape of the trees.
            seed: Of the library's random choices.
        """
        saved = self.fit(inputs, labels, weights, config, seed)
        self.model = torch.frombuffer(bytearray(saved), dtype=torch.uint8)
        self._predict = None

    @abstractmethod
    def fit(
        self, inputs: FloatArray, labels: npt.NDArray[np.int64], weights: FloatArray, config: TreesConfig, seed: int
    ) -> bytes:
        """The fitted trees as a file of the library's."""

    @abstractmethod
    def load(self, saved: bytes) -> Predict:
        """The trees of `fit`'s file, ready to be asked."""


class LightGBMTrees(BoostedTrees):
    """LightGBM (Ke et al., 2017), in its text format."""

    def fit(
        self, inputs: FloatArray, labels: npt.NDArray[np.int64], weights: FloatArray, config: TreesConfig, seed: int
    ) -> bytes:
        """See `BoostedTrees.fit`."""
        import lightgbm

        classes = int(labels.max()) + 1
        settings: dict[str, Any] = {
            **({"objective": "binary"} if classes == 2 else {"objective": "multiclass", "num_class": classes}),
            "learning_rate": config.tree_learning_rate,
            "max_depth": config.tree_depth,
            "num_leaves": config.tree_leaves,
            "min_data_in_leaf": config.tree_min_clips,
            "seed": seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": 1,
            "verbosity": -1,
        }
        clips = lightgbm.Dataset(inputs, labels, weight=weights, params=settings)
        booster = lightgbm.train(settings, clips, num_boost_round=config.trees)
        return booster.model_to_string().encode()

    def load(self, saved: bytes) -> Predict:
        """See `BoostedTrees.load`."""
        import lightgbm

        booster = cast(Any, lightgbm.Booster(model_str=saved.decode()))
        return lambda inputs: booster.predict(inputs, num_threads=1)


class CatBoostTrees(BoostedTrees):
    """CatBoost (Prokhorenkova et al., 2018), in its binary format (cbm, a flatbuffer)."""

    def fit(
        self, inputs: FloatArray, labels: npt.NDArray[np.int64], weights: FloatArray, config: TreesConfig, seed: int
    ) -> bytes:
        """See `BoostedTrees.fit`."""
        import catboost

        model = cast(Any, catboost.CatBoost)(
            {
                "loss_function": "Logloss" if labels.max() == 1 else "MultiClass",
                "iterations": config.trees,
                "learning_rate": config.tree_learning_rate,
                "depth": config.tree_depth,
                "random_seed": seed,
                "thread_count": 1,
                "allow_writing_files": False,
                "logging_level": "Silent",
            }
        )
        model.fit(inputs, labels, sample_weight=weights)
        # When, where and with what id it was trained: with that, no two runs would give the same artifact.
        metadata = model.get_metadata()
        for name in list(metadata.keys()):
            del metadata[name]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.cbm"
            model.save_model(str(path))
            return path.read_bytes()

    def load(self, saved: bytes) -> Predict:
        """See `BoostedTrees.load`."""
        import catboost

        model = cast(Any, catboost.CatBoost)()
        model.load_model(blob=saved)
        return lambda inputs: model.predict(inputs, prediction_type="Probability", thread_count=1)


def _forget(module: nn.Module, incompatible_keys: object) -> None:
    """After `load_state_dict`: the trees that were read from the buffer before are others."""
    cast(BoostedTrees, module)._predict = None  # pyright: ignore[reportPrivateUsage]
