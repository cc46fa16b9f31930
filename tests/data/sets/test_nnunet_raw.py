"""Raw data of nnU-Net: channels, labels to ignore, sizes, and the members of folds."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seg_mia.data.images.nnunet_source import NnUNetSource
from seg_mia.data.nnunet_folds import fold_members
from seg_mia.data.sets.nnunet import NnUNetRaw
from seg_mia.errors import InputError
from tests import nnunet_layout as layout

PATIENT = r"(p\d+)_"


def opened(place: Path, **settings: Any) -> NnUNetRaw:
    splits = place / "nnUNet_preprocessed" / layout.NAME / "splits_final.json"
    given: dict[str, Any] = {"splits": str(splits), "patient": PATIENT} | settings
    data = NnUNetRaw(root=str(place / "nnUNet_raw" / layout.NAME), **given)
    data.setup()
    return data


def names(data: NnUNetRaw, part: str) -> list[str]:
    return [data.source.ids[index] for index in getattr(data.splits, part)]


def test_members_are_those_of_the_fold(tmp_path: Path) -> None:
    layout.raw(tmp_path)
    data = opened(tmp_path, folds=["1"])
    # Patients 0 to 3 of two cases each are dealt to three folds; patients 4 and 5 are in imagesTs.
    assert names(data, "members") == ["p0_0", "p0_1", "p2_4", "p2_5", "p3_6", "p3_7"]
    assert set(names(data, "nonmembers")) == {"p1_2", "p1_3", "p4_8", "p4_9", "p5_10", "p5_11"}
    assert not names(data, "reference")
    assert data.states_members


def test_unseen_chooses_the_nonmembers(tmp_path: Path) -> None:
    layout.raw(tmp_path)
    data = opened(tmp_path, folds=["1"], unseen="imagesTs")
    assert {name[:2] for name in names(data, "nonmembers")} == {"p4", "p5"}
    assert set(names(data, "reference")) == {"p1_2", "p1_3"}
    both = opened(tmp_path, folds=["0", "1", "2"])
    assert len(both.splits.members) == 8
    assert {name[:2] for name in names(both, "nonmembers")} == {"p4", "p5"}


def test_without_a_split_validation_names_the_cases(tmp_path: Path) -> None:
    layout.raw(tmp_path)
    path = layout.training(tmp_path)
    validation = path / "fold_1" / "validation"
    validation.mkdir()
    for name in ("p1_2.png", "p1_3.npz", "summary.json", "p1_2.pkl"):
        (validation / name).touch()
    cases = {f"p{number // 2}_{number}" for number in range(8)}
    assert fold_members(path, ["1"], cases)["1"] == cases - {"p1_2", "p1_3"}
    assert fold_members(None, ["all"], cases)["all"] == cases
    with pytest.raises(InputError, match="must name cases of imagesTr, got p1_2"):
        fold_members(path, ["1"], cases - {"p1_2"})
    with pytest.raises(InputError, match=r"name splits_final.json: --splits FILE"):
        fold_members(path, ["0"], cases)


def test_images_of_other_sizes_are_padded_and_ignored(tmp_path: Path) -> None:
    root = layout.raw(tmp_path)
    small, mask = (values[:30, :25] for values in layout.picture(0))
    Image.fromarray(small).save(root / "imagesTr" / "p0_0_0000.png")
    Image.fromarray(mask).save(root / "labelsTr" / "p0_0.png")
    source = NnUNetSource(root)
    image, label = source.decode(0)
    assert source.ids[0] == "p0_0"
    assert (image.shape, label.shape, source.unpadded(0)) == ((40, 40, 1), (40, 40), (30, 25))
    assert (image[:30, :25, 0] == small).all()
    assert not image[30:].any()
    assert (label[:, 25:] == 255).all()
    assert "1 images are padded" in source.notes[-1].text


def test_channels_are_files_and_the_label_to_ignore_is_ignored(tmp_path: Path) -> None:
    root = layout.raw(
        tmp_path, channel_names={"0": "T1", "1": "T2"}, labels={"background": 0, "a": 1, "ignore": 2}
    )
    for file in sorted(root.glob("images*/*.png")):
        second = 255 - np.array(Image.open(file))
        Image.fromarray(second).save(file.with_name(file.name.replace("_0000", "_0001")))
    mask = np.zeros((40, 40), np.uint8)
    mask[0, :3] = [1, 2, 0]
    Image.fromarray(mask).save(root / "labelsTr" / "p0_0.png")
    source = NnUNetSource(root)
    image, label = source.decode(0)
    assert (source.channels, source.classes) == (2, 2)
    assert (image[..., 1] == 255 - image[..., 0]).all()
    assert label[0, :3].tolist() == [1, 255, 0]


def test_test_cases_need_labels_and_training_cases_must_have_them(tmp_path: Path) -> None:
    root = layout.raw(tmp_path)
    (root / "labelsTs" / "p4_8.png").unlink()
    source = NnUNetSource(root)
    assert "p4_8" not in source.ids
    assert "1 cases of imagesTs have no labels" in source.notes[0].text
    (root / "labelsTr" / "p0_0.png").unlink()
    with pytest.raises(InputError, match=r"a label for each image of imagesTr, 1 have none \(p0_0\)"):
        NnUNetSource(root)


def test_a_fold_without_nonmembers_is_refused(tmp_path: Path) -> None:
    layout.raw(tmp_path, tests=0)
    with pytest.raises(InputError, match="imagesTs that no fold was trained on"):
        opened(tmp_path, folds=["1"], unseen="imagesTs")
    assert len(opened(tmp_path, folds=["0", "1", "2"]).splits.members) == 8


def test_volumes_and_listed_files_are_refused(tmp_path: Path) -> None:
    root = layout.raw(tmp_path, file_ending=".nii.gz")
    with pytest.raises(InputError, match=r"got files .nii.gz; audit the saved predictions"):
        NnUNetSource(root)
    (root / "dataset.json").write_text(json.dumps(layout.labels(dataset={"a": {"images": ["/etc/passwd"]}})))
    with pytest.raises(InputError, match="got paths of files"):
        NnUNetSource(root)
