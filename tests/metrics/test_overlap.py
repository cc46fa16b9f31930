import math
from collections.abc import Callable

import pytest
import segmentation_models_pytorch as smp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, jaccard_score
from torch import Tensor
from torch.testing import assert_close
from torchmetrics.functional.classification import binary_f1_score, binary_jaccard_index

from seg_mia.errors import InputError
from seg_mia.metrics.label_sets import LabelSets
from seg_mia.metrics.labels import IGNORE
from seg_mia.metrics.overlap import (
    confusion,
    dice_per_class,
    foreground_dice,
    foreground_iou,
    iou_per_class,
    mean_iou,
    pixel_accuracy,
)

Metric = Callable[[Tensor, Tensor, int], Tensor]
METRICS: list[Metric] = [
    iou_per_class,
    dice_per_class,
    foreground_iou,
    foreground_dice,
    mean_iou,
    pixel_accuracy,
]
PER_IMAGE: list[Metric] = [foreground_iou, foreground_dice, mean_iou, pixel_accuracy]
every_metric = pytest.mark.parametrize("metric", METRICS)
per_image_metric = pytest.mark.parametrize("metric", PER_IMAGE)


def draw(
    classes: int, *, seed: int = 0, n: int = 3, size: int = 6, ignored: float = 0.2
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pred = torch.randint(classes, (n, size, size), generator=generator)
    true = torch.randint(classes, (n, size, size), generator=generator)
    return pred, true.masked_fill(torch.rand(true.shape, generator=generator) < ignored, IGNORE)


def one(*pixels: int) -> Tensor:
    return torch.tensor([[pixels]])


PRED = one(0, 0, 1, 1, 2, 2, 2)
TRUE = one(0, 1, 1, 1, 0, 2, IGNORE)


@pytest.mark.parametrize("metric", [iou_per_class, dice_per_class, foreground_iou, foreground_dice, mean_iou])
@pytest.mark.parametrize("classes", [2, 3, 7, LabelSets(("one", "two"))])
@pytest.mark.parametrize("ignored", [0.0, 0.2, 1.0])
def test_maps_that_are_checked_already_have_the_same_overlap(
    metric: Callable[..., Tensor], classes: int, ignored: float
) -> None:
    pred, true = draw(classes, ignored=ignored)
    assert_close(
        metric(pred, true, classes, checked=True), metric(pred, true, classes), rtol=0, atol=0, equal_nan=True
    )


def test_three_classes_by_hand() -> None:
    assert confusion(PRED, TRUE, 4).tolist() == [[[1, 0, 1, 0], [1, 2, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]]
    assert iou_per_class(PRED, TRUE, 4)[0].tolist() == pytest.approx(
        [1 / 3, 2 / 3, 1 / 2, math.nan], nan_ok=True
    )
    assert dice_per_class(PRED, TRUE, 4)[0].tolist() == pytest.approx(
        [1 / 2, 4 / 5, 2 / 3, math.nan], nan_ok=True
    )
    assert foreground_iou(PRED, TRUE, 4).item() == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert foreground_dice(PRED, TRUE, 4).item() == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert mean_iou(PRED, TRUE, 4).item() == pytest.approx((1 / 3 + 2 / 3 + 1 / 2) / 3)
    assert pixel_accuracy(PRED, TRUE, 4).item() == pytest.approx(4 / 6)


def test_a_class_that_is_only_predicted_lowers_the_foreground_mean_but_is_not_in_the_target_mean() -> None:
    pred, true = one(0, 0, 1, 2), one(0, 0, 1, 1)
    assert foreground_iou(pred, true, 3).item() == pytest.approx((1 / 2 + 0) / 2)
    assert mean_iou(pred, true, 3).item() == pytest.approx((1 + 1 / 2) / 2)


def test_a_class_that_is_only_in_the_target_counts_as_missed() -> None:
    pred, true = one(0, 0, 1, 1), one(0, 0, 1, 2)
    assert foreground_iou(pred, true, 3).item() == pytest.approx((1 / 2 + 0) / 2)
    assert mean_iou(pred, true, 3).item() == pytest.approx((1 + 1 / 2 + 0) / 3)


@pytest.mark.parametrize(
    ("pred", "true", "foreground", "over_target", "accuracy"),
    [
        (0, 0, 1.0, 1.0, 1.0),
        (1, 0, 0.0, 0.0, 0.0),
        (0, 1, 0.0, 0.0, 0.0),
        (1, 1, 1.0, 1.0, 1.0),
    ],
)
def test_constant_maps(pred: int, true: int, foreground: float, over_target: float, accuracy: float) -> None:
    maps = torch.full((1, 3, 3), pred), torch.full((1, 3, 3), true)
    assert foreground_iou(*maps, 2).item() == foreground_dice(*maps, 2).item() == foreground
    assert mean_iou(*maps, 2).item() == over_target
    assert pixel_accuracy(*maps, 2).item() == accuracy


def test_all_ignored_has_no_counts_and_no_class() -> None:
    pred, true = torch.zeros(2, 3, 3, dtype=torch.int64), torch.full((2, 3, 3), IGNORE)
    assert confusion(pred, true, 2).eq(0).all()
    for metric in METRICS:  # nothing is known of such an image: it is not right, it is undefined
        assert metric(pred, true, 2).isnan().all()
    true[1, 0, 0] = 0
    for metric in PER_IMAGE:
        assert metric(pred, true, 2).nan_to_num(nan=-1).tolist() == [-1, 1]


def test_counts_are_exact_for_large_images() -> None:
    pred, true = torch.ones(2, 2048, 2048, dtype=torch.int64), torch.ones(2, 2048, 2048, dtype=torch.int64)
    pred[1, 0, 0] = 0
    counts = confusion(pred, true, 2)
    assert counts.dtype == torch.int64
    assert counts.tolist() == [[[0, 0], [0, 2048**2]], [[0, 0], [1, 2048**2 - 1]]]


@settings(deadline=None)
@given(classes=st.integers(2, 6), seed=st.integers(0, 2**31))
def test_equal_to_scikit_learn(classes: int, seed: int) -> None:
    pred, true = draw(classes, seed=seed, n=1)
    p, t = pred[true != IGNORE].numpy(), true[true != IGNORE].numpy()
    labels = list(range(classes))
    assert confusion(pred, true, classes)[0].tolist() == confusion_matrix(t, p, labels=labels).tolist()
    iou, dice = (
        score(t, p, labels=labels, average=None, zero_division=0).tolist()
        for score in (jaccard_score, f1_score)
    )
    assert iou_per_class(pred, true, classes)[0].nan_to_num(0).tolist() == pytest.approx(iou)
    assert dice_per_class(pred, true, classes)[0].nan_to_num(0).tolist() == pytest.approx(dice)
    assert pixel_accuracy(pred, true, classes).item() == pytest.approx(accuracy_score(t, p))


def test_equal_to_segmentation_models_pytorch() -> None:
    pred, true = draw(4, size=20)
    stats = smp.metrics.get_stats(pred, true, mode="multiclass", num_classes=4, ignore_index=IGNORE)
    torch.testing.assert_close(iou_per_class(pred, true, 4), smp.metrics.iou_score(*stats))
    torch.testing.assert_close(dice_per_class(pred, true, 4), smp.metrics.f1_score(*stats))


def test_foreground_means_of_two_classes_equal_those_of_torchmetrics() -> None:
    pred, true = draw(2, size=20, ignored=0)
    torch.testing.assert_close(
        foreground_iou(pred, true, 2),
        torch.stack([binary_jaccard_index(p, t) for p, t in zip(pred, true, strict=True)]),
    )
    torch.testing.assert_close(
        foreground_dice(pred, true, 2), binary_f1_score(pred, true, multidim_average="samplewise")
    )


@every_metric
@settings(deadline=None)
@given(classes=st.integers(2, 5), seed=st.integers(0, 2**31), ignored=st.sampled_from([0, 0.5, 1]))
def test_an_image_has_the_same_value_alone_and_wherever_its_pixels_lie(
    metric: Metric, classes: int, seed: int, ignored: float
) -> None:
    pred, true = draw(classes, seed=seed, ignored=ignored)
    together = metric(pred, true, classes)
    alone = torch.cat([metric(pred[i : i + 1], true[i : i + 1], classes) for i in range(3)])
    order = torch.randperm(36, generator=torch.Generator().manual_seed(seed))
    moved_pred, moved_true = (maps.flatten(1)[:, order].view_as(maps) for maps in (pred, true))
    shuffled = metric(moved_pred, moved_true, classes)
    torch.testing.assert_close(together, alone, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(together, shuffled, rtol=0, atol=0, equal_nan=True)


@per_image_metric
@settings(deadline=None)
@given(classes=st.integers(2, 5), seed=st.integers(0, 2**31), ignored=st.sampled_from([0, 0.5, 1]))
def test_values_lie_in_their_range_and_only_agreement_is_1(
    metric: Metric, classes: int, seed: int, ignored: float
) -> None:
    pred, true = draw(classes, seed=seed, ignored=ignored)
    value = metric(pred, true, classes)
    assert value.shape == (3,)
    counted = (true != IGNORE).any(dim=2).any(dim=1)
    assert value.isnan().equal(~counted)
    value = value.nan_to_num(nan=1.0)
    assert value.ge(0).all()
    assert value.le(1).all()
    agree = ((pred == true) | (true == IGNORE)).all(dim=(1, 2))
    assert value.eq(1).equal(agree)
    assert metric(true, true, classes)[counted].eq(1).all()


@settings(deadline=None)
@given(classes=st.integers(2, 5), seed=st.integers(0, 2**31))
def test_dice_follows_from_iou(classes: int, seed: int) -> None:
    pred, true = draw(classes, seed=seed)
    iou = iou_per_class(pred, true, classes)
    torch.testing.assert_close(dice_per_class(pred, true, classes), 2 * iou / (1 + iou), equal_nan=True)


@settings(deadline=None)
@given(classes=st.integers(2, 5), seed=st.integers(0, 2**31))
def test_all_but_mean_iou_are_symmetric_and_blind_to_the_order_of_foreground_classes(
    classes: int, seed: int
) -> None:
    pred, true = draw(classes, seed=seed, ignored=0)
    renamed = torch.arange(classes)
    renamed[1:] = 1 + torch.randperm(classes - 1, generator=torch.Generator().manual_seed(seed))
    for metric in (foreground_iou, foreground_dice, pixel_accuracy):
        torch.testing.assert_close(metric(true, pred, classes), metric(pred, true, classes))
        torch.testing.assert_close(metric(renamed[pred], renamed[true], classes), metric(pred, true, classes))
    torch.testing.assert_close(confusion(true, pred, classes), confusion(pred, true, classes).transpose(1, 2))


@every_metric
def test_an_empty_batch_has_no_value(metric: Metric) -> None:
    empty = torch.zeros(0, 4, 4, dtype=torch.int64)
    assert metric(empty, empty, 2).shape[0] == 0


@every_metric
def test_maps_that_do_not_fit_are_refused(metric: Metric) -> None:
    maps = torch.zeros(1, 2, 2, dtype=torch.int64)
    with pytest.raises(InputError, match=r"got \(1, 2, 2\) and \(1, 2, 3\); crop or resize"):
        metric(maps, torch.zeros(1, 2, 3, dtype=torch.int64), 2)
    with pytest.raises(InputError, match=r"convert it with \.long\(\)"):
        metric(maps, maps.float(), 2)
    with pytest.raises(InputError, match="keep its batch axis"):
        metric(maps[0], maps[0], 2)
    with pytest.raises(InputError, match=r"got \(1, 2, 2\) and \(1, 1, 2, 2\); crop or resize"):
        metric(maps, maps[None], 2)
    with pytest.raises(InputError, match=r"classes 0 to 1, .* got \[2\]"):
        metric(maps, maps + 2, 2)
    with pytest.raises(InputError, match=r"classes 0 to 1, .* got \[-1\]"):
        metric(maps - 1, maps, 2)
    with pytest.raises(InputError, match=r"classes must lie in 2 \.\. 255"):
        metric(maps, maps, 1)
    with pytest.raises(InputError, match=r"got 256"):
        metric(maps, maps, 256)
