"""Labels that may overlap as classes of their sets: the identities, with numbers."""

import math
import pickle
from typing import Any

import pytest
import torch
from torch.nn import functional
from torch.testing import assert_close

from seg_mia.errors import InputError
from seg_mia.losses import LOSSES, cross_entropy_loss, label_dice_bce_loss, label_dice_loss
from seg_mia.metrics.label_sets import LabelSets, label_masks
from seg_mia.models.heads import predicted, probabilities
from seg_mia.models.label_logits import label_log_probabilities, label_logits_of, set_logits
from seg_mia.models.output_form import as_logits

LABELS = 3
Z = torch.randn((2, LABELS, 4, 5), generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
MASK = torch.randint(0, 1 << LABELS, (2, 4, 5), generator=torch.Generator().manual_seed(1))
IGNORED = MASK.masked_fill(torch.rand(MASK.shape, generator=torch.Generator().manual_seed(2)) < 0.3, 255)
EXACT: Any = {"rtol": 0, "atol": 1e-6}


def test_two_labels_by_hand() -> None:
    z = torch.tensor([[math.log(3), math.log(1)]]).view(1, 2, 1, 1)  # sigmoids 3/4 and 1/2
    sets = set_logits(z)
    assert_close(sets.flatten(), torch.tensor([0, math.log(3), 0, math.log(3)]))
    assert_close(probabilities(sets).flatten(), torch.tensor([1 / 8, 3 / 8, 1 / 8, 3 / 8]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_softmax_over_sets_is_the_product_of_the_sigmoids(dtype: torch.dtype) -> None:
    z = Z.to(dtype)
    p, sets = z.sigmoid(), probabilities(set_logits(z))
    for number in range(1 << LABELS):
        bits = [number >> label & 1 for label in range(LABELS)]
        product = torch.stack([p[:, k] if bit else 1 - p[:, k] for k, bit in enumerate(bits)]).prod(0)
        assert_close(sets[:, number], product, **EXACT)


def test_marginals_are_the_sigmoids_and_odds_the_logits() -> None:
    log_p, log_q = label_log_probabilities(set_logits(Z))
    assert_close(log_p.exp(), Z.sigmoid(), **EXACT)
    assert_close(log_q.exp(), (-Z).sigmoid(), **EXACT)
    assert_close(label_logits_of(set_logits(Z)), Z, **EXACT)


def test_the_most_likely_set_is_each_label_at_one_half() -> None:
    prediction = predicted(set_logits(Z))
    assert torch.equal(label_masks(prediction, LABELS), (Z > 0).long())


@pytest.mark.parametrize("mask", [MASK, IGNORED])
def test_cross_entropy_over_sets_is_the_sum_of_binary_cross_entropies_with_its_gradient(
    mask: torch.Tensor,
) -> None:
    valid = (mask != 255).unsqueeze(1)
    truth = label_masks(mask, LABELS).masked_fill(~valid, 0).double()
    z = Z.clone().requires_grad_()
    binary = functional.binary_cross_entropy_with_logits(z, truth, reduction="none") * valid
    expected = binary.sum((1, 2, 3)) / valid.sum((1, 2, 3))
    loss = cross_entropy_loss(set_logits(z), mask)
    assert_close(loss, expected, **EXACT)
    gradients = [torch.autograd.grad(value.sum(), z, retain_graph=True)[0] for value in (loss, expected)]
    assert gradients[0].abs().max() > 1e-3
    assert_close(*gradients, **EXACT)


def test_label_dice_bce_is_dice_and_bce_of_each_label_as_of_a_binary_network() -> None:
    per_label = [
        LOSSES["dice"](Z[:, label : label + 1], label_masks(IGNORED, LABELS)[:, label])
        for label in range(LABELS)
    ]
    dice = label_dice_loss(set_logits(Z), IGNORED)
    assert_close(dice, torch.stack(per_label).mean(0), **EXACT)
    binary = [
        LOSSES["dice_cross_entropy"](Z[:, label : label + 1], label_masks(IGNORED, LABELS)[:, label])
        for label in range(LABELS)
    ]
    assert_close(label_dice_bce_loss(set_logits(Z), IGNORED), torch.stack(binary).mean(0), **EXACT)
    gone = torch.full_like(MASK, 255)
    assert label_dice_bce_loss(set_logits(Z), gone).tolist() == [0, 0]


def test_values_of_labels_are_converted_to_logits_of_sets() -> None:
    assert_close(as_logits(Z, "multilabel"), set_logits(Z))
    assert_close(as_logits(Z.sigmoid(), "multilabel_sigmoid"), set_logits(Z), rtol=0, atol=1e-5)


def test_sets_are_a_number_with_names() -> None:
    classes = LabelSets(("whole", "core"))
    assert (classes, classes.names, pickle.loads(pickle.dumps(classes)).names) == (  # noqa: S301  (own bytes)
        4,
        ("whole", "core"),
        ("whole", "core"),
    )
    for names in ((), tuple("abcdefg"), ("a", "a")):
        with pytest.raises(InputError, match="must be 1 to 6 different names"):
            LabelSets(names)


def test_other_numbers_of_channels_are_refused() -> None:
    with pytest.raises(InputError, match="must have 2, 4, .* or 64 channels, got 3"):
        label_log_probabilities(torch.zeros(1, 3, 2, 2))
    with pytest.raises(InputError, match="at most 6, got logits of 7"):
        set_logits(torch.zeros(1, 7, 2, 2))
