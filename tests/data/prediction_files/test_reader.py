"""Predictions of every kind become the logits that a network would have given."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.testing import assert_close

from seg_mia.data.prediction_files.reader import PredictionFiles, Predictions
from seg_mia.errors import InputError
from seg_mia.models.heads import predicted, probabilities
from tests.data.prediction_files.releases import FOREGROUND, MASK, four, opened, save, table

BOTH = np.stack([1 - FOREGROUND, FOREGROUND])


def first(files: PredictionFiles) -> Any:
    return files.record(files.rows("victim")[0])


@pytest.mark.parametrize(
    ("values", "name", "settings"),
    [
        (BOTH, "p.npy", {}),
        (BOTH.astype(np.float16), "p.npy", {}),
        (np.moveaxis(BOTH, 0, -1), "p.npz", {}),
        (BOTH[:, None], "p.npz", {}),  # the third axis of a 2-D network of nnU-Net
        (FOREGROUND, "p.npy", {}),
        (FOREGROUND[None], "p.npy", {"released": "foreground"}),
        (np.rint(FOREGROUND * 65535).astype(np.uint16), "p.png", {}),
        (FOREGROUND[..., None].astype(np.float32), "p.nii.gz", {"axes": "xyz"}),
        (BOTH[:, :, :, None], "p.npy", {"channel_axis": 0}),
    ],
)
def test_probabilities_are_those_in_the_file(
    tmp_path: Path, values: NDArray[Any], name: str, settings: dict[str, Any]
) -> None:
    record = first(opened(tmp_path, values, names=(name, "m.npy"), **settings))
    expected = torch.from_numpy(FOREGROUND)[None]
    assert_close(probabilities(record.logits)[:, 1].double(), expected, atol=2e-5, rtol=0)
    assert record.mask.tolist() == [MASK.tolist()]


def test_arrays_of_nnunet_lie_beside_nifti_masks_in_reverse_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    mask = rng.integers(0, 3, (4, 3, 2)).astype(np.uint8)  # x, y, z
    p = rng.dirichlet(np.ones(3), (2, 3, 4)).transpose(3, 0, 1, 2).astype(np.float32)  # class, z, y, x
    files = opened(tmp_path, p, mask, names=("p.npz", "m.nii.gz"), classes=3)
    record = first(files)
    assert files.layout.reverse
    assert "zyx" in files.description()
    assert_close(probabilities(record.logits)[0], torch.from_numpy(p.transpose(0, 3, 2, 1).copy()))
    assert record.mask[0].tolist() == mask.tolist()


def test_a_cube_does_not_tell_the_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    mask, p = rng.integers(0, 2, (3, 3, 3)).astype(np.uint8), rng.random((3, 3, 3))
    with pytest.raises(InputError, match="state axes: zyx"):
        opened(tmp_path, p, mask, names=("p.npy", "m.nii"))
    for axes, expected in (("xyz", p), ("zyx", p.transpose())):
        record = first(opened(tmp_path, p, mask, names=("p.npy", "m.nii"), axes=axes))
        assert_close(record.logits[0, 0].sigmoid(), torch.from_numpy(expected.copy()))


def test_two_volumes_are_turned_alike(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    mask, p = rng.integers(0, 2, (4, 3, 2)).astype(np.uint8), rng.random((4, 3, 2)).astype(np.float32)
    save(tmp_path / "m.nii.gz", mask)
    save(tmp_path / "p.nii.gz", p[::-1], np.diag([-1.0, 1, 1, 1]))
    files = PredictionFiles(Predictions(str(table(tmp_path, four("p.nii.gz", "m.nii.gz"))), classes=2))
    record = first(files)
    assert_close(record.logits[0, 0].sigmoid(), torch.from_numpy(p))
    assert record.mask[0].tolist() == mask.tolist()


def test_sizes_may_differ_and_be_mixed(tmp_path: Path) -> None:
    rows = four("", "")
    shapes = [(2, 3), (5, 4), (2, 3, 4), (3, 3)]
    for row, shape in zip(rows, shapes, strict=True):
        row |= {"prediction": f"{row['case']}.npy", "mask": f"{row['case']}_m.npy"}
        save(tmp_path / row["prediction"], np.full((2, *shape), 0.5))
        save(tmp_path / row["mask"], np.ones(shape, np.uint8))
    files = PredictionFiles(Predictions(str(table(tmp_path, rows)), classes=2))
    assert [tuple(files.record(row).mask.shape[1:]) for row in files.rows("victim")] == shapes


@pytest.mark.parametrize(
    ("values", "name", "classes"),
    [
        (np.array([[0, 1, 1], [0, 0, 1]], bool), "p.npy", 2),
        (np.array([[0, 1, 1], [0, 0, 1]], np.int64), "p.npy", 2),
        (np.array([[0, 255, 255], [0, 0, 255]], np.uint8), "p.png", 2),
        (np.array([[0.0, 1, 1], [0, 0, 1]]), "p.npz", 2),
        (np.array([[0, 2, 1], [0, 3, 1]], np.uint8), "p.png", 4),
    ],
)
def test_labels_are_nearly_certain(tmp_path: Path, values: NDArray[Any], name: str, classes: int) -> None:
    files = opened(tmp_path, values, names=(name, "m.npy"), classes=classes)
    record = first(files)
    assert files.layout.released == "labels"
    assert (
        predicted(record.logits)[0].tolist() == (values > 0 if classes == 2 else values).astype(int).tolist()
    )
    certain = probabilities(record.logits).max(dim=1).values
    assert_close(certain, torch.full_like(certain, 1 - 1e-6), atol=1e-7, rtol=0)


def test_a_map_that_looks_like_labels_at_first_is_told_by_the_others(tmp_path: Path) -> None:
    rows = four("p.npy", "m.npy")
    save(tmp_path / "p.npy", np.array([[0.0, 1, 1], [0, 0, 1]]))
    save(tmp_path / "q.npy", FOREGROUND)
    save(tmp_path / "m.npy", MASK)
    rows[3]["prediction"] = "q.npy"
    files = PredictionFiles(Predictions(str(table(tmp_path, rows)), classes=2))
    assert files.layout.released == "foreground"
    certain = first(files).logits.sigmoid()
    assert 0 < certain.min() < 1e-7
    assert 1 - 1e-6 < certain.max() < 1


def test_sigmoid_channels_may_overlap(tmp_path: Path) -> None:
    channels = np.stack([FOREGROUND, FOREGROUND[::-1]])
    masks = np.stack([MASK, np.ones_like(MASK)])
    record = first(opened(tmp_path, channels, masks, classes=3, released="sigmoid"))
    assert record.logits.shape == (2, 1, 2, 3)
    assert_close(record.logits[:, 0].sigmoid(), torch.from_numpy(channels))
    assert record.mask.tolist() == masks.tolist()


def test_sigmoid_channels_of_class_ids_are_one_against_the_rest(tmp_path: Path) -> None:
    channels = np.stack([FOREGROUND, FOREGROUND[::-1]])
    mask = np.array([[0, 1, 2], [2, 0, 255]], np.uint8)
    files = opened(tmp_path, channels, mask, classes=3)
    assert files.layout.released == "sigmoid"
    assert first(files).mask.tolist() == [[[0, 1, 0], [0, 0, 255]], [[0, 0, 1], [1, 0, 255]]]


@pytest.mark.parametrize(
    ("values", "settings", "message"),
    [
        (np.full((2, 2, 3), np.nan), {}, "finite numbers, got 12 NaN"),
        (BOTH - 1, {}, r"in \[0, 1\], got -0.875 to -0.125"),
        (np.log(BOTH), {}, "apply softmax or sigmoid"),
        (BOTH * 0.9, {}, "sum to 1 over 2 channels, got sums up to 0.1 off"),
        (BOTH[:, :, :2], {}, "shape of .*m.npy, 2x3, with or without a class axis, got 2x2x2"),
        (np.full((4, 2, 3), 0.25), {}, "2 class channels, got 4x2x3; correct classes"),
        (BOTH, {"released": "labels"}, "must hold labels in the shape"),
        (FOREGROUND, {"released": "labels"}, "labels, whole numbers of 0 to 1, got 0.125 to 0.875"),
        (FOREGROUND, {"released": "probabilities"}, "must hold probabilities in the shape of"),
        (FOREGROUND, {"released": "foreground", "channel_axis": 0}, "foreground have none"),
        (np.array([["a", "b"]]), {}, "must hold numbers, got <U1"),
    ],
)
def test_what_a_prediction_may_not_be(
    tmp_path: Path, values: NDArray[Any], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as refused:
        first(opened(tmp_path, values, **settings))
    assert "release.csv line 2: " in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("mask", "settings", "message"),
    [
        (np.full((2, 3), 3, np.uint8), {}, "class ids below 2 or 255"),
        (np.full((2, 3), 0.5), {}, "whole numbers, got others"),
    ],
)
def test_what_a_mask_may_not_be(
    tmp_path: Path, mask: NDArray[Any], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        first(opened(tmp_path, BOTH, mask, **settings))


def test_a_threshold_makes_255_the_foreground(tmp_path: Path) -> None:
    record = first(opened(tmp_path, BOTH, MASK // 255 * 255, threshold=127))
    assert record.mask.tolist() == [[[0, 0, 0], [0, 0, 1]]]


class Harmful:
    """Runs when it is read as a pickle."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path("harmed").touch, ())


@pytest.mark.parametrize("name", ["p.npy", "p.npz"])
def test_no_pickle_is_read(tmp_path: Path, name: str) -> None:
    opened(tmp_path, BOTH)
    if name == "p.npy":
        (tmp_path / name).write_bytes(pickle.dumps(Harmful()))
    else:
        np.savez(tmp_path / name, np.array([Harmful()], dtype=object))
    with pytest.raises(InputError, match="plain numbers"):
        PredictionFiles(Predictions(str(table(tmp_path, four(name, "m.npy"))), classes=2))
    np.save(tmp_path / "o.npy", np.array([Harmful()], dtype=object))
    with pytest.raises(InputError, match="plain numbers"):
        PredictionFiles(Predictions(str(table(tmp_path, four("o.npy", "m.npy"))), classes=2))
    assert not Path("harmed").exists()


def test_an_archive_of_several_arrays_needs_a_key(tmp_path: Path) -> None:
    opened(tmp_path, BOTH)
    np.savez(tmp_path / "several.npz", probabilities=BOTH, other=MASK)
    file = str(table(tmp_path, four("several.npz", "m.npy")))
    with pytest.raises(InputError, match="got probabilities, other; set key"):
        PredictionFiles(Predictions(file, classes=2))
    with pytest.raises(InputError, match="must hold 'softmax', got probabilities, other"):
        PredictionFiles(Predictions(file, classes=2, key="softmax"))
    record = first(PredictionFiles(Predictions(file, classes=2, key="probabilities")))
    assert_close(probabilities(record.logits)[0], torch.from_numpy(BOTH))


def test_images_have_the_shape_of_the_mask(tmp_path: Path) -> None:
    opened(tmp_path, BOTH)
    save(tmp_path / "i.png", np.arange(18, dtype=np.uint8).reshape(2, 3, 3))
    files = PredictionFiles(
        Predictions(str(table(tmp_path, four("p.npy", "m.npy", image="i.png"))), classes=2)
    )
    image = first(files).image
    assert image.shape == (3, 2, 3)
    assert image[1].tolist() == [[1, 4, 7], [10, 13, 16]]
    save(tmp_path / "i.png", np.zeros((3, 3), np.uint8))
    with pytest.raises(InputError, match="must have the shape of .*m.npy, 2x3, got 3x3"):
        first(files)
