"""Text, the classical way: TF-IDF or a frozen language model under a conventional classifier (LEYA, section 3.4).

Rows 4 and 5 of its Table 1 are TF-IDF with logistic regression and with CatBoost; section 4.2 tells what was searched.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from twominds.backbones import BackboneStore
from twominds.encoders.boosting import BoostedTrees, CatBoostTrees, LightGBMTrees, TreesConfig
from twominds.encoders.encoder import Architecture, EncoderOutput, LearnsAtOnce
from twominds.encoders.huggingface import backbone_config, build_backbone, last_hidden_state, load_backbone
from twominds.encoders.padding import pad_sequences
from twominds.errors import ConfigError, TrainingError
from twominds.features.words import words_of
from twominds.records import ByteArray, Features, FloatArray, Modality


@dataclass(frozen=True, kw_only=True)
class ClassicalTextConfig(TreesConfig):
    """Words or embeddings of a frozen language model, and a conventional classifier."""

    kind: Literal["classical"] = "classical"
    """Tells it from the other text encoders in JSON."""
    representation: Literal["tfidf", "cls", "mean"] = "tfidf"
    """TF-IDF of the words (needs the text features `words`), or the first output token of a frozen language model or
    the mean over all of them (needs `tokens`)."""
    backbone: str = ""
    """Role of that language model in the bundle; must be the one whose tokenizer made the features. Empty for tfidf."""
    classifier: Literal["logistic_regression", "lightgbm", "catboost"] = "logistic_regression"
    """The classifier of the TF-IDF features."""
    vocabulary: int = 1000
    """Most n-grams that TF-IDF counts: the most frequent ones. The paper searched 100 to 10,000."""
    ngram_max: int = 2
    """Words in the longest n-gram; the paper searched 1 to 3."""
    min_clips: int = 2
    """Training clips that an n-gram must be said in."""
    min_people: int = 2
    """People who must say it in them; a clip of nobody known counts as a person of its own. From 2 on, what one person
    alone says stays out of the artifact, which is published with its vocabulary."""
    balanced: bool = True
    """Weigh clips inversely to the frequency of their class in the training split."""
    c: float = 1.0
    """Logistic regression: inverse strength of the L2 penalty (scikit-learn's `C`)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.representation == "tfidf") != (not self.backbone):
            raise ConfigError(
                f"text.backbone must name a language model for cls and mean, and be empty for tfidf: it is "
                f"'{self.backbone}' for {self.representation}."
            )
        if self.vocabulary < 1:
            raise ConfigError(f"text.vocabulary must be at least 1, it is {self.vocabulary}.")
        if not 1 <= self.ngram_max <= 3:
            raise ConfigError(f"text.ngram_max must be 1 to 3, it is {self.ngram_max}.")
        if self.min_clips < 1:
            raise ConfigError(f"text.min_clips must be at least 1, it is {self.min_clips}.")
        if self.min_people < 1:
            raise ConfigError(f"text.min_people must be at least 1, it is {self.min_people}.")
        if self.c <= 0:
            raise ConfigError(f"text.c must be positive, it is {self.c}.")


TREES: dict[str, type[BoostedTrees]] = {"lightgbm": LightGBMTrees, "catboost": CatBoostTrees}
"""Boosted trees by the config's name of the classifier."""


class ClassicalTextEncoder(LearnsAtOnce):
    """Words -> TF-IDF [B, V], or token ids -> frozen [CLS] or mean [B, D] -> classifier -> logits.

    The embedding is that vector itself. TF-IDF is scikit-learn's: lower-case words of two and more letters, smoothed
    idf, rows of length 1 (0 for a clip with no known word). Softmax of the logits gives the classifier's own
    probabilities. A vocabulary is learned from clips with their participants.
    """

    modality: ClassVar[Modality] = Modality.TEXT
    idf: Tensor

    def __init__(
        self,
        config: ClassicalTextConfig,
        *,
        num_outputs: int,
        architecture: Architecture,
        backbone: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.config, self.num_outputs = config, num_outputs
        self.architecture = dict(architecture)
        if config.representation == "tfidf":
            self.embedding_dim = len(self.architecture["vocabulary"])
            self.register_buffer("idf", torch.zeros(self.embedding_dim, dtype=torch.float64))
        else:
            self.embedding_dim = int(self.architecture["backbone"]["hidden_size"])
            self.backbone = backbone or build_backbone(self.architecture["backbone"])
        self.classifier = (
            TREES[config.classifier](self.architecture["model_bytes"])
            if config.classifier in TREES
            else nn.Linear(max(1, self.embedding_dim), num_outputs)  # no vocabulary yet: a placeholder
        )
        self.requires_grad_(False)

    @classmethod
    def pretrained(
        cls, config: ClassicalTextConfig, *, num_outputs: int, store: BackboneStore, example: Features
    ) -> Self:
        """See `Encoder.pretrained`; has yet to `learn`.

        Raises:
            ConfigError: the features are words where tokens are needed, or the other way round.
        """
        words = example.values is not None and example.values.dtype == np.uint8
        if words != (config.representation == "tfidf"):
            raise ConfigError(
                f"text.representation {config.representation} needs text features of the kind "
                f"{'tokens' if words else 'words'}, these are {'words' if words else 'tokens'}."
            )
        if words:
            return cls(config, num_outputs=num_outputs, architecture={"vocabulary": [], "model_bytes": 0})
        backbone = load_backbone(store, config.backbone)
        architecture = {"backbone": backbone_config(backbone), "model_bytes": 0}
        return cls(config, num_outputs=num_outputs, architecture=architecture, backbone=backbone)

    @classmethod
    def from_architecture(cls, config: ClassicalTextConfig, *, num_outputs: int, architecture: Architecture) -> Self:
        """See `Encoder.from_architecture`."""
        return cls(config, num_outputs=num_outputs, architecture=architecture)

    def learn_present(
        self, clips: Sequence[Features], labels: npt.NDArray[np.int64], *, seed: int, device: torch.device | str
    ) -> None:
        """Fits vocabulary and classifier; see `LearnsAtOnce`.

        Raises:
            TrainingError: no n-gram is said in enough clips by enough people.
        """
        from sklearn.utils import class_weight

        if self.config.representation == "tfidf":
            self._learn_vocabulary(clips)
        with torch.inference_mode():
            inputs: FloatArray = self.represent(self.collate(clips, device)).cpu().numpy()
        weigh = cast(Any, class_weight).compute_sample_weight
        weights: FloatArray = weigh("balanced" if self.config.balanced else None, labels)
        if isinstance(self.classifier, BoostedTrees):
            self.classifier.learn(inputs, labels, weights, self.config, seed)
            self.architecture["model_bytes"] = len(self.classifier.model)
        else:
            self.classifier = _logistic_regression(inputs, labels, weights, self.config.c)

    def represent(self, inputs: dict[str, Tensor]) -> Tensor:
        """What the classifier sees, and the embedding: float32 [B, D]."""
        if self.config.representation == "tfidf":
            return inputs["tfidf"]
        # One by one: padding would move the last bits, and a tree may cut just there. So alone is as in a batch.
        rows: list[Tensor] = []
        for ids, mask in zip(inputs["input_ids"], inputs["mask"], strict=True):
            own = ids[mask].unsqueeze(0)
            tokens = last_hidden_state(self.backbone, input_ids=own, attention_mask=torch.ones_like(own))[0]
            rows.append(tokens[0] if self.config.representation == "cls" else tokens.mean(dim=0))
        return torch.stack(rows).float()

    def forward(self, inputs: dict[str, Tensor]) -> EncoderOutput:
        """See the class."""
        embedding = self.represent(inputs)
        return EncoderOutput(logits=self.classifier(embedding), embedding=embedding)

    def stack(self, values: Sequence[npt.NDArray[Any]]) -> dict[str, Tensor]:
        """`tfidf`: float32 [B, V]; or `input_ids`: int64 [B, L], and `mask`: [B, L]."""
        if self.config.representation != "tfidf":
            padded, mask = pad_sequences(values)
            return {"input_ids": padded, "mask": mask}
        vectorizer = self._vectorizer(vocabulary=self.architecture["vocabulary"])
        vectorizer.idf_ = self.idf.cpu().numpy()
        matrix = vectorizer.transform([words_of(item) for item in values])
        return {"tfidf": torch.from_numpy(matrix.toarray().astype(np.float32))}

    def _learn_vocabulary(self, clips: Sequence[Features]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        config, terms_of = self.config, self._vectorizer().build_analyzer()
        said = [cast(list[str], terms_of(words_of(cast(ByteArray, clip.values)))) for clip in clips]
        by_person: dict[str | int, set[str]] = {}
        for i, (clip, terms) in enumerate(zip(clips, said, strict=True)):
            by_person.setdefault(clip.participant_id or i, set()).update(terms)
        people = Counter(term for terms in by_person.values() for term in terms)
        shared = [[term for term in terms if people[term] >= config.min_people] for terms in said]
        terms_are_there: Any = list  # an analyzer may be any function, unlike what the stubs say
        vectorizer = TfidfVectorizer(analyzer=terms_are_there, max_features=config.vocabulary, min_df=config.min_clips)
        try:
            vectorizer.fit(shared)
        except ValueError as error:
            raise TrainingError(
                f"No word is left to count: none is said in text.min_clips ({config.min_clips}) of the {len(clips)} "
                f"training clips with text by text.min_people ({config.min_people}) people ({error})."
            ) from error
        self.architecture["vocabulary"] = vectorizer.get_feature_names_out().tolist()
        self.embedding_dim = len(self.architecture["vocabulary"])
        self.idf = torch.from_numpy(vectorizer.idf_)

    def _vectorizer(self, **settings: Any) -> Any:
        from sklearn.feature_extraction.text import TfidfVectorizer

        return TfidfVectorizer(ngram_range=(1, self.config.ngram_max), **settings)


def _logistic_regression(inputs: FloatArray, labels: npt.NDArray[np.int64], weights: FloatArray, c: float) -> nn.Linear:
    """scikit-learn's logistic regression as a layer."""
    from sklearn.linear_model import LogisticRegression

    model = cast(Any, LogisticRegression(C=c, max_iter=10_000))
    model.fit(inputs.astype(np.float64), labels, sample_weight=weights)
    weight, bias = torch.from_numpy(model.coef_), torch.from_numpy(model.intercept_)
    if len(weight) == 1:  # of two classes it has one decision d, and softmax([-d/2, d/2]) is (sigmoid(-d), sigmoid(d))
        weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
    layer = nn.Linear(inputs.shape[1], len(bias))
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer.requires_grad_(False)
