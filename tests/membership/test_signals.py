import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.testing import assert_close

from seg_mia.errors import InputError
from seg_mia.losses import LOSSES
from seg_mia.membership.signals import (
    ImageAndMask,
    ImageDice,
    ImageEntropy,
    ImageLoss,
    LossMap,
    Posterior,
    PosteriorAndMask,
    Released,
    Signal,
    checked,
    one_hot,
    released,
)
from seg_mia.models.released import LABEL

SIGNALS: list[Callable[..., Signal]] = [Posterior, PosteriorAndMask, LossMap, ImageLoss, ImageEntropy]


def sample(classes: int, *, ignored: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(classes)
    maps = 1 if classes == 2 else classes
    logits = 3 * torch.randn(2, maps, 4, 5, generator=generator)
    mask = torch.randint(0, classes, (2, 4, 5), generator=generator)
    if ignored:
        mask[:, 0, :2] = 255
    return logits, torch.rand(2, 3, 4, 5, generator=generator), mask


def test_the_released_map_is_the_foregrounds_probability_or_one_per_class() -> None:
    logits, image, mask = sample(2)
    assert_close(Posterior()(logits, image, mask), logits.sigmoid())
    logits, image, mask = sample(4)
    assert_close(Posterior()(logits, image, mask), logits.softmax(1))


@pytest.mark.parametrize("kind", ["probabilities", "logits", "labels"])
@pytest.mark.parametrize("signal", SIGNALS)
def test_one_logit_and_two_say_the_same(signal: Callable[..., Signal], kind: Released) -> None:
    logits, image, mask = sample(2)
    pair = torch.cat((torch.ones_like(logits), logits + 1), dim=1)
    own = signal(released=kind)
    assert_close(own(logits, image, mask), own(pair, image, mask), atol=1e-5, rtol=1e-5)


def test_mask_and_map_are_stacked_class_by_class() -> None:
    logits, image, mask = sample(3, ignored=True)
    maps = PosteriorAndMask()(logits, image, mask)
    assert maps.shape == (2, 6, 4, 5)
    assert maps[:, :, 0, :2].abs().max() == 0
    seen = mask != 255
    for value in range(3):
        assert_close(maps[:, value][seen], logits.softmax(1)[:, value][seen])
        assert_close(maps[:, 3 + value], (mask == value).float())
    assert_close(maps[:, 3:].sum(1), seen.float())


def test_two_classes_need_one_channel_of_mask() -> None:
    logits, image, mask = sample(2, ignored=True)
    maps = PosteriorAndMask()(logits, image, mask)
    assert maps.shape == (2, 2, 4, 5)
    assert_close(maps[:, 1], (mask == 1).float())


@pytest.mark.parametrize("classes", [2, 4])
def test_the_loss_map_is_torchs_cross_entropy(classes: int) -> None:
    logits, image, mask = sample(classes, ignored=True)
    several = logits if classes > 2 else torch.cat((torch.zeros_like(logits), logits), dim=1)
    expected = functional.cross_entropy(several, mask, ignore_index=255, reduction="none").log1p()
    assert_close(LossMap()(logits, image, mask), expected.unsqueeze(1))


def test_the_images_loss_is_the_one_of_training() -> None:
    logits, image, mask = sample(4)
    for name, loss in LOSSES.items():
        assert_close(ImageLoss(loss=name)(logits, image, mask), loss(logits, mask))


def test_entropy_needs_no_mask_and_is_largest_where_nothing_is_known() -> None:
    entropy = ImageEntropy()
    image, mask = torch.rand(1, 1, 2, 2), torch.zeros(1, 2, 2, dtype=torch.int64)
    assert_close(entropy(torch.zeros(1, 1, 2, 2), image, mask), torch.tensor([math.log(2)]))
    assert_close(entropy(torch.zeros(1, 5, 2, 2), image, mask), torch.tensor([math.log(5)]))
    assert entropy(torch.full((1, 1, 2, 2), 50.0), image, mask).item() < 1e-6


def test_the_entropy_of_each_pixel_may_be_stacked() -> None:
    logits, image, mask = sample(4)
    maps = Posterior(entropy=True)(logits, image, mask)
    p = logits.softmax(1)
    assert_close(maps[:, :4], p)
    assert_close(maps[:, 4], -(p * p.log()).sum(1))


def test_the_difference_of_map_and_mask_may_be_stacked() -> None:
    logits, image, mask = sample(2, ignored=True)
    maps = PosteriorAndMask(difference=True)(logits, image, mask)
    assert_close(maps[:, 2], (maps[:, 0] - maps[:, 1]).abs())
    assert maps[:, :, 0, :2].abs().max() == 0


def test_the_blind_baseline_sees_the_masks_part_of_the_image_and_no_answer() -> None:
    image = torch.rand(1, 3, 8, 8)
    mask = torch.randint(0, 2, (1, 4, 4))
    maps = ImageAndMask()(torch.full((1, 1, 1, 1), float("nan")), image, mask)
    assert_close(maps[:, :3], image[:, :, 2:6, 2:6])
    assert_close(maps[:, 3], mask.float())
    assert not ImageAndMask.queries_victim


@pytest.mark.parametrize("classes", [2, 4])
def test_labels_hide_everything_but_the_most_likely_class(classes: int) -> None:
    logits, image, mask = sample(classes)
    certain = released(logits, "labels")
    probabilities = certain.softmax(1) if classes > 2 else certain.sigmoid()
    label = logits.argmax(1) if classes > 2 else (logits[:, 0] > 0).long()
    if classes > 2:
        assert_close(probabilities.gather(1, label.unsqueeze(1)), torch.full((2, 1, 4, 5), 1 - LABEL))
    else:
        assert_close(probabilities, (1 - 2 * LABEL) * label.unsqueeze(1).float() + LABEL)
    sharper = 7 * logits
    for kind in SIGNALS:
        signal = kind(released="labels")
        assert_close(signal(sharper, image, mask), signal(logits, image, mask))
        assert torch.isfinite(signal(logits, image, mask)).all()


def test_every_signal_says_what_it_sees() -> None:
    assert Posterior().attacker_knowledge == "released probabilities"
    assert PosteriorAndMask(released="labels").attacker_knowledge == "released labels, true mask"
    assert LossMap(released="logits").attacker_knowledge == "released logits, true mask"
    assert "without the victim" in ImageAndMask().attacker_knowledge


def test_one_hot_of_two_classes_is_the_foreground() -> None:
    mask = torch.tensor([[[0, 1, 255]]])
    assert one_hot(mask, 2).tolist() == [[[[0.0, 1.0, 0.0]]]]
    assert one_hot(mask, 3)[0, :, 0].T.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_what_is_not_finite_is_refused() -> None:
    with pytest.raises(InputError, match="LossMap must be finite, 1 of 2 values"):
        checked(torch.tensor([1.0, float("nan")]), "LossMap")


@pytest.mark.parametrize("channels", [1, 3])
def test_what_the_network_says_of_padding_is_no_signal(channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, channels, 3, 4, 5, generator=generator)
    mask = torch.zeros(2, 3, 4, 5, dtype=torch.int64)
    mask[:, 2] = 255
    changed = logits.clone()
    changed[:, :, 2] = 7.0
    image = torch.zeros(2, 1, 3, 4, 5)
    for signal in (
        Posterior(entropy=True),
        PosteriorAndMask(),
        LossMap(),
        ImageLoss(),
        ImageEntropy(),
        ImageDice(),
    ):
        assert torch.equal(signal(logits, image, mask), signal(changed, image, mask)), signal
    kept = ImageEntropy()(logits[:, :, :2], image[:, :, :2], mask[:, :2])
    torch.testing.assert_close(ImageEntropy()(logits, image, mask), kept)
