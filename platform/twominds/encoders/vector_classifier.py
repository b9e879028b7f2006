"""A conventional classifier of whole clips: one vector of a clip's rows, and an SVC or a logistic regression.

The clip-level classifiers of HSEmotion (sections 3 and 4 of its fact sheet) are of this kind: an RBF SVC of mean text
features, or a linear one of rows of length 1. Its filter of frames by the class of their clip is one that answers for
whole clips (section 5).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from twominds.backbones import BackboneStore
from twominds.encoders.encoder import Architecture, EncoderOutput, LearnsAtOnce
from twominds.encoders.rows import Columns, count_columns
from twominds.encoders.statistics import PER_COLUMN, Pooling, row_length, statistics
from twominds.errors import ConfigError, TrainingError
from twominds.records import Features, Modality


@dataclass(frozen=True, kw_only=True)
class VectorClassifierConfig:
    """What one vector is made of a clip, and what classifies it."""

    kind: Literal["vector_classifier"] = "vector_classifier"
    """Tells it from the other encoders in JSON."""
    columns: Columns = (None, None)
    """From which column to before which each row is seen, as in a slice."""
    pooling: Pooling = "mean"
    """What of the rows is kept."""
    first_share: float = 1.0
    """Only this first part of a clip's rows is looked at, rounded down, but one row at least. HSEmotion's public code
    finds sound at 50 rows a second by the numbers of 24 frames a second, and so sees its first 48 %."""
    normalize: Literal["none", "l2", "standardize"] = "none"
    """How the vector is scaled: not, to length 1, or by the mean and population standard deviation of training."""
    classifier: Literal["rbf_svc", "linear_svc", "logistic_regression"] = "rbf_svc"
    """What decides, as scikit-learn fits it by default: the kernel's gamma is its `scale`. An SVC is of two classes."""
    c: float = 1.0
    """Inverse strength of the penalty (scikit-learn's `C`)."""
    balanced: bool = True
    """Weigh clips inversely to the frequency of their class in the training split."""
    calibrated: bool = False
    """Make the decisions of two classes probabilities by a sigmoid that is fitted to training clips of other people
    (Platt 1999), five times a fifth of them; for classifiers that are linear."""
    whole_clip: bool = False
    """Answer once for the whole clip where the task asks per frame: the clip's class is the last one where any known
    point is. Of two classes only; the embedding is then the logits, as it is stored at each point."""

    def __post_init__(self) -> None:
        """Raise ConfigError where a setting is out of range."""
        if not 0 < self.first_share <= 1:
            raise ConfigError(f"first_share must be above 0 and at most 1, got {self.first_share}.")
        if self.c <= 0:
            raise ConfigError(f"c must be above 0, got {self.c}.")
        if self.calibrated and self.classifier == "rbf_svc":
            raise ConfigError("calibrated is for linear classifiers: leave it out, or take logistic_regression.")


class VectorClassifier(LearnsAtOnce):
    """Pooled rows [B, D, 2 D or 4 D], normalised -> the classifier's decision -> logits.

    The embedding is that vector (or the logits, see `whole_clip`). All is computed in float64, as scikit-learn does. Of
    two classes the logits are -d/2 and d/2 of its decision function d: the answer is its `predict`, and the softmax of
    a logistic regression its `predict_proba`; that of an SVC is no calibrated probability. Of more classes the logits
    are those of a multinomial logistic regression.

    An RBF SVC keeps training clips: each of its support vectors is the vector of one, and is published with the
    artifact. The other classifiers keep sums over all clips alone.
    """

    modality: ClassVar[Modality] = Modality.FACE
    """Until it is built for a view: it takes rows of any."""
    mean: Tensor
    """[W]: of the training vectors; 0 where nothing is standardised."""
    scale: Tensor
    """[W]: their population standard deviation; 1 where that is 0, and where nothing is standardised."""
    support_vectors: Tensor
    """[S, W]; S is 0 of a linear classifier."""
    gamma: Tensor
    """[]: of the kernel."""
    weight: Tensor
    """[R, W], or [1, S] dual coefficients; R is 1 of two classes."""
    bias: Tensor
    """[R]."""

    def __init__(self, config: VectorClassifierConfig, *, num_outputs: int, architecture: Architecture) -> None:
        """Builds one that has yet to `learn`, or to be filled.

        Args:
            config: The classifier's settings.
            num_outputs: Number of classes.
            architecture: With `input_dim`, the length D of a row, and the number of `support_vectors`.

        Raises:
            ConfigError: there are no such columns, or the classifier can't tell so many classes apart.
        """
        super().__init__()
        if num_outputs != 2 and config.classifier != "logistic_regression":
            raise ConfigError(
                f"The classifier {config.classifier} tells two classes apart, not {num_outputs}: take "
                "logistic_regression."
            )
        if num_outputs != 2 and config.calibrated:
            raise ConfigError(f"calibrated is for two classes, not for {num_outputs}.")
        if num_outputs != 2 and config.whole_clip:
            raise ConfigError(f"whole_clip is for tasks of two classes, not of {num_outputs}.")
        self.config, self.num_outputs, self.whole_clip = config, num_outputs, config.whole_clip
        self.architecture = dict(architecture)
        width = count_columns(config.columns, int(self.architecture["input_dim"]))
        width *= PER_COLUMN[config.pooling]
        self.embedding_dim = num_outputs if config.whole_clip else width
        support_vectors, decisions = int(self.architecture["support_vectors"]), 1 if num_outputs == 2 else num_outputs
        weights = support_vectors if config.classifier == "rbf_svc" else width
        empty = {
            "mean": torch.zeros(width),
            "scale": torch.ones(width),
            "support_vectors": torch.zeros(support_vectors, width),
            "gamma": torch.ones(()),
            "weight": torch.zeros(decisions, weights),
            "bias": torch.zeros(decisions),
        }
        for name, tensor in empty.items():
            self.register_buffer(name, tensor.double())

    @classmethod
    def pretrained(
        cls, config: VectorClassifierConfig, *, num_outputs: int, store: BackboneStore, example: Features
    ) -> Self:
        """A classifier that has yet to `learn`, for rows such as those of `example`; see `Encoder.pretrained`.

        Raises:
            ConfigError: the features are no rows, or the settings do not go with them or with the classes.
        """
        del store
        architecture = {"input_dim": row_length(example), "support_vectors": 0}
        return cls(config, num_outputs=num_outputs, architecture=architecture)

    @classmethod
    def from_architecture(cls, config: VectorClassifierConfig, *, num_outputs: int, architecture: Architecture) -> Self:
        """An empty classifier of the right shapes, to be filled; see `Encoder.from_architecture`."""
        return cls(config, num_outputs=num_outputs, architecture=architecture)

    def stack(self, values: Sequence[npt.NDArray[Any]]) -> dict[str, Tensor]:
        """`rows`: float32 [B, W], pooled and not yet normalised."""
        rows = [statistics(self._seen(item), self.config.pooling) for item in values]
        return {"rows": torch.from_numpy(np.stack(rows))}

    def forward(self, inputs: dict[str, Tensor]) -> EncoderOutput:
        """See the class; logits are float64."""
        vectors = self.normalized(inputs["rows"])
        decisions = F.linear(self._features(vectors), self.weight, self.bias)
        logits = torch.cat([-decisions, decisions], dim=1) / 2 if self.num_outputs == 2 else decisions
        return EncoderOutput(logits=logits, embedding=(logits if self.whole_clip else vectors).float())

    def normalized(self, rows: Tensor) -> Tensor:
        """What the classifier sees of pooled rows [B, W]: float64 [B, W]."""
        vectors = rows.double()
        if self.config.normalize == "l2":
            lengths = vectors.square().sum(dim=1, keepdim=True).sqrt()
            return vectors / torch.where(lengths > 0, lengths, 1.0)
        return (vectors - self.mean) / self.scale

    def learn_present(
        self, clips: Sequence[Features], labels: npt.NDArray[np.int64], *, seed: int, device: torch.device | str
    ) -> None:
        """Fits normalisation and classifier; see `LearnsAtOnce`."""
        rows = self.collate(clips, device)["rows"]
        if self.config.normalize == "standardize":
            self.mean, deviation = rows.double().mean(dim=0), rows.double().std(dim=0, correction=0)
            varies = rows.amax(dim=0) > rows.amin(dim=0)  # the deviation of a constant may be a rounding error
            self.scale = torch.where(varies, deviation, 1.0)
        vectors = self.normalized(rows).cpu().numpy()
        model = self._fitted(vectors, labels, seed)
        kernel = self.config.classifier == "rbf_svc"
        weight = model.dual_coef_ if kernel else model.coef_
        if kernel:
            self.support_vectors = torch.from_numpy(model.support_vectors_)
            self.gamma = torch.tensor(model.gamma, dtype=torch.float64)
            self.architecture["support_vectors"] = len(self.support_vectors)
        bias = np.atleast_1d(model.intercept_)
        if self.config.calibrated:
            slope, offset = self._sigmoid(
                model, vectors, labels, [clip.participant_id or clip.clip_id for clip in clips]
            )
            weight, bias = slope * weight, slope * bias + offset
        self.weight, self.bias = torch.from_numpy(weight), torch.from_numpy(bias)

    def _seen(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        # The last bits of a share such as 0.29 of 100 rows must not cost a row.
        count = max(1, int(self.config.first_share * len(rows) + 1e-9))
        return rows[:count, slice(*self.config.columns)]

    def _features(self, vectors: Tensor) -> Tensor:
        """What the decision is linear in: the vectors [B, W], or their kernel with each support vector [B, S]."""
        if self.config.classifier != "rbf_svc":
            return vectors
        exact = "donot_use_mm_for_euclid_dist"  # of differences: a product of large vectors would cancel out
        return (-self.gamma * torch.cdist(vectors, self.support_vectors, compute_mode=exact).square()).exp()

    def _sigmoid(
        self, model: Any, vectors: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], people: Sequence[str]
    ) -> tuple[float, float]:
        """Slope and offset that make decisions the logits of probabilities.

        Raises:
            TrainingError: there are too few people of a class.
        """
        from sklearn.calibration import CalibratedClassifierCV
        from sklearn.model_selection import StratifiedGroupKFold

        of_class = [len({who for who, label in zip(people, labels, strict=True) if label == one}) for one in (0, 1)]
        if min(of_class) < 2:
            raise TrainingError("A classifier is calibrated on other people: there must be two or more of each class.")
        folds = StratifiedGroupKFold(n_splits=min(5, *of_class))
        parts = [*folds.split(vectors, labels, people)]
        fitted = cast("Any", CalibratedClassifierCV)(model, method="sigmoid", cv=parts, ensemble=False)
        (of_all,) = fitted.fit(vectors, labels).calibrated_classifiers_
        (sigmoid,) = of_all.calibrators  # 1 / (1 + exp(a d + b))
        return -float(sigmoid.a_), -float(sigmoid.b_)

    def _fitted(self, vectors: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], seed: int) -> Any:
        """scikit-learn's classifier of vectors [N, W]."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.svm import SVC, LinearSVC

        config = self.config
        settings: dict[str, Any] = {"C": config.c, "class_weight": "balanced" if config.balanced else None}
        if config.classifier == "rbf_svc":
            variance = float(vectors.var())
            # Its own `scale`, of which it would not tell the number.
            settings["gamma"] = 1 / (vectors.shape[1] * variance) if variance else 1.0
            model = SVC(**settings)
        elif config.classifier == "linear_svc":
            model = LinearSVC(**settings, random_state=seed, max_iter=10_000)
        else:
            model = LogisticRegression(**settings, max_iter=10_000)
        return cast(Any, model).fit(vectors, labels)
