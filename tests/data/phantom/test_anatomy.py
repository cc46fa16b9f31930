import subprocess
import sys
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from seg_mia.data.phantom.anatomy import render
from seg_mia.data.phantom.scanner import ORGAN_IDS, Texture, Tissue, annotate, scan
from seg_mia.errors import InputError

LIVER, SPLEEN, KIDNEY_RIGHT, KIDNEY_LEFT, AORTA = 6, 1, 2, 3, 8
DIGEST = (
    "import hashlib; from seg_mia.data.phantom.anatomy import render;"
    "image, labels = render(3, 0.4, 5, size=64);"
    "print(hashlib.sha256(image.tobytes() + labels.tobytes()).hexdigest())"
)


def dice(one: NDArray[Any], other: NDArray[Any]) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def liver(patient: int, position: float, reading: int = 0, size: int = 128) -> NDArray[np.bool_]:
    return np.asarray(render(patient, position, reading, size=size)[1] == LIVER)


def column(mask: NDArray[np.bool_]) -> float:
    return float(np.nonzero(mask)[1].mean() / mask.shape[1])


def test_same_seeds_give_the_same_slice_whatever_was_drawn_before() -> None:
    image, labels = render(3, 0.4, 5, size=64)
    render(4, 0.1, 0, size=32)
    again, same = render(3, 0.4, 5, size=64)
    np.testing.assert_array_equal(image, again)
    np.testing.assert_array_equal(labels, same)


def test_another_process_draws_the_same_slice() -> None:
    digests = [
        subprocess.run([sys.executable, "-c", DIGEST], capture_output=True, check=True) for _ in range(2)
    ]
    assert digests[0].stdout == digests[1].stdout != b""


@pytest.mark.parametrize("change", [{"patient": 4}, {"reading": 6}, {"seed": 1}, {"position": 0.45}])
def test_every_seed_matters(change: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {"patient": 3, "position": 0.4, "reading": 5, "seed": 0, "size": 64}
    assert not np.array_equal(render(**arguments)[0], render(**(arguments | change))[0])


@pytest.mark.parametrize("size", [32, 64, 100, 128, 256])
@pytest.mark.parametrize("position", [0.0, 0.5, 1.0])
def test_shape_type_and_range(size: int, position: float) -> None:
    image, labels = render(1, position, 0, size=size)
    assert image.shape == labels.shape == (size, size)
    assert image.dtype == np.float32
    assert labels.dtype == np.uint8
    assert 0 == image.min() < image.max() == 1
    assert set(np.unique(labels).tolist()) <= {0, *ORGAN_IDS.values()}


def test_liver_lies_on_image_left_spleen_right_and_kidneys_on_their_sides() -> None:
    for patient in range(5):
        upper, lower = render(patient, 0.3, 0, size=128)[1], render(patient, 0.68, 0, size=128)[1]
        assert column(upper == LIVER) < 0.45
        assert column(upper == SPLEEN) > 0.6
        assert column(lower == KIDNEY_RIGHT) < 0.42
        assert column(lower == KIDNEY_LEFT) > 0.58


def test_every_slice_above_four_fifths_shows_liver() -> None:
    assert all(
        liver(patient, position, size=64).any() for patient in range(30) for position in (0.0, 0.5, 0.79)
    )


def test_liver_is_the_largest_organ_and_shrinks_downwards() -> None:
    for patient in range(5):
        labels = render(patient, 0.25, 0, size=128)[1]
        assert np.bincount(labels.ravel(), minlength=12)[1:].argmax() + 1 == LIVER
        assert liver(patient, 0.25).sum() > liver(patient, 0.55).sum() > liver(patient, 0.79).sum()


def test_grey_levels_are_those_of_the_abdominal_window() -> None:
    means = []
    for patient in range(8):
        image, labels = render(patient, 0.3, 0, size=128)
        core = cv2.erode((labels == LIVER).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
        means.append(image[core].mean() * 400 - 160)  # back to Hounsfield units
        assert image[:4].max() == 0  # air above the patient
    assert 55 < min(means) < max(means) < 115


def test_contrast_agent_brightens_the_aorta_beyond_the_liver() -> None:
    image, labels = render(1, 0.6, 0, size=256)
    core = cv2.erode((labels == AORTA).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    assert image[core].mean() > image[labels == LIVER].mean()


def test_neighbouring_levels_of_a_patient_are_more_alike_than_patients() -> None:
    for patient in range(4):
        here = render(patient, 0.3, 0, size=64)[0]
        near = render(patient, 0.32, 1, size=64)[0]
        others = [render(other, 0.3, 0, size=64)[0] for other in range(10, 16)]
        assert np.abs(here - near).mean() < min(np.abs(here - other).mean() for other in others)


def test_anatomy_is_the_same_at_every_size() -> None:
    for patient in range(4):
        large = liver(patient, 0.35, size=256)[::2, ::2]
        assert dice(large, liver(patient, 0.35)) > 0.95
        assert dice(large[::2, ::2], liver(patient, 0.35, size=64)) > 0.9


def test_two_annotators_agree_but_near_the_border() -> None:
    agreement = []
    for patient in range(6):
        one, two = liver(patient, 0.3, 0), liver(patient, 0.3, 1)
        agreement.append(dice(one, two))
        core = cv2.erode(one.astype(np.uint8), np.ones((19, 19), np.uint8)) > 0
        reach = cv2.dilate(one.astype(np.uint8), np.ones((19, 19), np.uint8)) > 0
        assert two[core].mean() > 0.97  # vessels that are organs of their own lie inside
        assert not (two & ~reach).any()
    assert 0.85 < min(agreement) <= max(agreement) < 0.99


def test_two_scans_differ_by_noise_alone() -> None:
    one, two = (render(2, 0.3, reading, size=128)[0] for reading in (0, 1))
    difference = (one - two)[liver(2, 0.3)]
    assert abs(difference.mean()) < 0.01
    assert 0.01 < difference.std() < 0.1


def test_an_annotation_moves_a_straight_border_by_one_to_three_pixels() -> None:
    tissues = np.full((256, 256), Tissue.FAT, np.uint8)
    tissues[:, :128] = Tissue.LIVER
    shifts = [(annotate(tissues, np.random.default_rng(n), size=128) == LIVER).sum(1) - 64 for n in range(50)]
    assert 1 < np.std(shifts) < 3
    assert abs(np.mean(shifts)) < 0.3


@pytest.mark.parametrize(("tissue", "grey"), [(Tissue.FAT, 0.14), (Tissue.AIR, 0.0), (Tissue.BONE, 1.0)])
def test_uniform_tissue_has_its_grey_level(tissue: Tissue, grey: float) -> None:
    rng = np.random.default_rng(0)
    image = scan(np.full((128, 128), tissue, np.uint8), Texture.draw(rng), 0.5, rng, size=64)
    assert image.mean() == pytest.approx(grey, abs=0.03)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 31}, "size must be at least 32, got 31"),
        ({"position": 1.01}, r"position must lie in \[0, 1\], got 1.01"),
        ({"position": -0.1}, r"position must lie in \[0, 1\], got -0.1"),
        ({"position": float("nan")}, r"position must lie in \[0, 1\], got nan"),
        ({"patient": -1}, "patient, reading and seed must be at least 0"),
        ({"reading": -1}, "patient, reading and seed must be at least 0"),
    ],
)
def test_refuses_what_it_cannot_draw(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        render(**({"patient": 0, "position": 0.5, "reading": 0, "size": 64} | change))
