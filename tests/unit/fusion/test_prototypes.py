import numpy as np
import torch
import torch.nn.functional as F

from twominds.fusion.prototypes import PrototypeHead, diversity_penalty


def test_logits_are_logsumexp_of_scaled_cosines() -> None:
    head = PrototypeHead(dim=2, num_outputs=2, prototypes_per_class=2, temperature=0.5)
    with torch.no_grad():
        head.prototypes.copy_(torch.tensor([[[2.0, 0.0], [0.0, 3.0]], [[-1.0, 0.0], [1.0, 1.0]]]))
    logits = head(torch.tensor([[5.0, 0.0]]))
    half = np.sqrt(0.5)
    expected = [np.log(np.exp(2) + np.exp(0)), np.log(np.exp(-2) + np.exp(half / 0.5))]
    np.testing.assert_allclose(logits.detach().numpy()[0], expected, rtol=1e-6)


def test_diversity_by_hand() -> None:
    # Cosines within the classes: 0.6 and 0; between them: 0, -1, 0.8 and -0.6.
    prototypes = torch.tensor([[[1.0, 0.0], [0.6, 0.8]], [[0.0, 2.0], [-3.0, 0.0]]])
    within, between = ((0.6 - 0.2) + 0) / 2, (0.8 - 0.2) / 4
    torch.testing.assert_close(diversity_penalty(prototypes, margin=0.2), torch.tensor(within + between))


def test_no_pair_costs_nothing() -> None:
    assert diversity_penalty(torch.randn(1, 1, 4), margin=0.2).item() == 0
    assert diversity_penalty(torch.eye(4).reshape(2, 2, 4), margin=0.2).item() == 0


def cosine_after_a_step(prototypes: torch.Tensor) -> tuple[float, float]:
    prototypes.requires_grad_()
    diversity_penalty(prototypes, margin=0.2).backward()
    assert prototypes.grad is not None
    moved = prototypes - 0.1 * prototypes.grad
    before = F.cosine_similarity(prototypes[0, 0], prototypes[-1, -1], dim=0)
    after = F.cosine_similarity(moved[0, 0], moved[-1, -1], dim=0)
    return before.item(), after.item()


def test_gradient_pushes_similar_prototypes_of_one_class_apart() -> None:
    before, after = cosine_after_a_step(torch.tensor([[[1.0, 0.0], [0.9, 0.3]]]))
    assert after < before - 1e-3


def test_gradient_pushes_similar_prototypes_of_two_classes_apart() -> None:
    before, after = cosine_after_a_step(torch.tensor([[[1.0, 0.0]], [[0.9, 0.3]]]))
    assert after < before - 1e-3


def test_gradient_pushes_apart_within_and_between_classes_at_once() -> None:
    """Four prototypes, all of them alike: every pair of one class, and those of two classes, end further apart."""
    prototypes = torch.tensor(
        [[[1.0, 0.2, 0.0, 0.1], [0.9, 0.0, 0.3, 0.0]], [[1.0, 0.0, 0.1, 0.4], [0.8, 0.3, 0.2, 0.2]]]
    )
    cosines = F.cosine_similarity(prototypes.reshape(4, 1, 4), prototypes.reshape(1, 4, 4), dim=-1)
    assert cosines.min() > 0.7
    moved = prototypes.clone().requires_grad_()
    for _ in range(20):
        (gradient,) = torch.autograd.grad(diversity_penalty(moved, margin=0.2), moved)
        moved = (moved - 0.1 * gradient).detach().requires_grad_()
    after = F.cosine_similarity(moved.reshape(4, 1, 4), moved.reshape(1, 4, 4), dim=-1)
    pairs = torch.triu(torch.ones(4, 4, dtype=torch.bool), diagonal=1)
    assert (after[pairs] < cosines[pairs] - 0.1).all()
