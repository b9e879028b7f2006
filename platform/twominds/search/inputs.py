"""What candidates are trained and selected on: the points of the labelled clips, as the fusion takes them."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from twominds.fusion.batch import FusionInputs, count_points, count_rows, fusion_inputs
from twominds.recipes.recipe import FusionRecipe
from twominds.records import BoolArray, Embedding, FloatArray, Labels, View
from twominds.tasks import Classes, Intensities
from twominds.training.examples import Targets
from twominds.training.selection import SelectionView


@dataclass(frozen=True, kw_only=True)
class LabelledInputs:
    """The known points of one split as the fusion takes them."""

    inputs: FusionInputs
    labels: Tensor

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as NumPy arrays: those Ray keeps once per node, and every process there reads them in place."""
        tokens = {view: token.numpy() for view, token in self.inputs.tokens.items()}
        return _unpickled, (tokens, self.inputs.mask.numpy(), self.labels.numpy())


def _unpickled(tokens: Mapping[View, FloatArray], mask: BoolArray, labels: npt.NDArray[Any]) -> LabelledInputs:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # nobody writes to it
        found = {view: torch.from_numpy(token) for view, token in tokens.items()}
        inputs = FusionInputs(tokens=found, mask=torch.from_numpy(mask))
        return LabelledInputs(inputs=inputs, labels=torch.from_numpy(labels))


@dataclass(frozen=True, kw_only=True)
class LabelledClips:
    """Labelled clips with all their points: smoothing looks at those that nobody annotated, too."""

    embeddings: Sequence[Mapping[View, Embedding]]
    labels: Sequence[Labels]


SearchData = SelectionView[LabelledInputs]
"""What every candidate is trained and selected on: a view without the test split, but under the paper's protocol."""


def labelled_inputs(
    embeddings: Sequence[Mapping[View, Embedding]],
    labels: Sequence[Labels],
    fusion: FusionRecipe,
    output: Classes | Intensities,
    dims: Mapping[View, int] | None = None,
) -> LabelledInputs:
    """The points of clips of which something is known, clip after clip.

    Args:
        embeddings: Of each clip by view. One that could not be processed has its labelled points all the same, of which
            no modality is there.
        labels: What is known of each clip.
        fusion: What of the embeddings it takes.
        output: What the labels say: classes or intensities.
        dims: Length of each view's token in the model; None: taken from the embeddings.
    """
    inputs = fusion_inputs(embeddings, fusion.views, fusion.inputs, dims)
    times = [next((e.points_s for e in clip.values() if e.points_s is not None), None) for clip in embeddings]
    targets = Targets.of(labels, times, output)
    counts = np.array([count_points(clip) for clip in embeddings], np.int64)
    first = torch.from_numpy(np.concatenate([[0], np.cumsum([count_rows(clip) for clip in embeddings])])[:-1])
    last = torch.from_numpy(counts - 1)[targets.owners]
    places = first[targets.owners] + torch.minimum(targets.points, last)
    return LabelledInputs(inputs=inputs.select(places), labels=targets.values)
