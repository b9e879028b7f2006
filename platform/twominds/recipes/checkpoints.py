"""Tensors of published checkpoints under our names: what is missing, strange or of another shape is said in theirs."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, cast

from torch import Tensor, nn

from twominds.artifacts import Card
from twominds.backbones import file_sha256
from twominds.errors import ArtifactError
from twominds.recipes.recipe import Recipe
from twominds.training.selection import SelectionProtocol

State = dict[str, Tensor]

UNUSED = ("pooler.dense.weight", "pooler.dense.bias", "embeddings.position_ids", "embeddings.token_type_ids")
"""How names end of parts of language models that reach no token."""

_TODAY = {
    ".attention.attention.q_bias": ".attention.attention.query.bias",
    ".attention.attention.v_bias": ".attention.attention.value.bias",
    ".pos_conv_embed.conv.weight_g": ".pos_conv_embed.conv.parametrizations.weight.original0",
    ".pos_conv_embed.conv.weight_v": ".pos_conv_embed.conv.parametrizations.weight.original1",
}
"""How names of VideoMAE and HuBERT ended in transformers 4, and end now."""


@contextmanager
def explained(what: str, names: Mapping[str, str]) -> Generator[None]:
    """Makes a tensor that is not there, or not as it must be, a sentence."""
    try:
        yield
    except KeyError as error:
        raise ArtifactError(f"{what}: {theirs(str(error.args[0]), names)} is missing.") from error
    except (IndexError, ValueError, RuntimeError) as error:
        raise ArtifactError(f"{what}: {error}.") from error


def renamed(state: Mapping[str, Tensor], names: Mapping[str, str]) -> State:
    """Our names for theirs, and today's for those of older transformers; one that is not known stays, for `fill`."""
    found: State = {}
    for name, tensor in state.items():
        start = next((start for start in names if name.startswith(start)), "")
        ours = names.get(start, "") + name.removeprefix(start)
        old = next((old for old in _TODAY if ours.endswith(old)), "")
        found[ours.removesuffix(old) + _TODAY.get(old, "")] = tensor
    return found


def imported_card(
    kind: Literal["encoder", "ensemble"], recipe: Recipe, files: Sequence[Path], selected_on: SelectionProtocol
) -> Card:
    """The card of what is made of the authors' files, with their digests.

    Args:
        kind: What it is.
        recipe: The system that it belongs to.
        files: The authors'.
        selected_on: What the authors say they chose it on.
    """
    imported = {file.name: f"sha256 {file_sha256(file)}" for file in files}
    return Card(
        kind=kind, task=recipe.task, recipe=recipe.name, config={}, data={"imported": imported}, selected_on=selected_on
    )


def theirs(name: str, names: Mapping[str, str]) -> str:
    """Their name for one of ours."""
    start = next((theirs for theirs, ours in names.items() if name.startswith(ours)), "")
    return start + name.removeprefix(names.get(start, ""))


def fill(model: nn.Module, tensors: State, names: Mapping[str, str], what: str) -> None:
    """Loads the tensors, all of them and no others.

    Raises:
        ArtifactError: says which are missing, not known, or of another shape, by the authors' names.
    """
    expected = cast(State, model.state_dict())
    found = {
        "is missing": [name for name in expected if name not in tensors],
        "is not known": [name for name in tensors if name not in expected],
        "has another shape": [n for n, t in tensors.items() if n in expected and t.shape != expected[n].shape],
    }
    wrong = [
        f"{theirs(of_kind[0], names)} {problem}" + (f" ({len(of_kind)} in all)" if len(of_kind) > 1 else "")
        for problem, of_kind in found.items()
        if of_kind
    ]
    if wrong:
        raise ArtifactError(f"{what}: {', '.join(wrong)}.")
    model.load_state_dict(tensors)
