"""Several files of a case as channels: in folders of images, and of volumes with a window for each."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from seg_mia.data.case_files import by_channel
from seg_mia.data.sets.folder import Folder
from seg_mia.data.sets.nifti import Nifti
from seg_mia.data.sets.volumes import VolumeFiles
from seg_mia.data.volumes.windows import Windows
from seg_mia.errors import InputError
from tests.data.scans import AFFINE, ramp, save

ENDINGS = ["_t1", "_t1ce", "_t2", "_flair"]


def write(path: Path, pixels: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(pixels).save(path)


def pictures(root: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        for number, ending in enumerate(ENDINGS):
            write(root / "images" / f"{name}{ending}.png", np.full((6, 8), 10 * number + 1, np.uint8))
        write(root / "masks" / f"{name}.png", rng.integers(0, 2, (6, 8), np.uint8))
    return root


def test_each_channel_is_a_file(tmp_path: Path) -> None:
    root = pictures(tmp_path)
    source = Folder(root=str(root), members=1, nonmembers=1, channel_endings=ENDINGS).read_source()
    assert (source.ids, source.channels) == (("a", "b", "c"), 4)
    image, _ = source.decode(1)
    assert image.shape == (6, 8, 4)
    assert image[0, 0].tolist() == [1, 11, 21, 31]  # _t1 is no end of b_t1ce
    before = source.image_digest(1)
    write(root / "images" / "b_flair.png", np.zeros((6, 8), np.uint8))
    again = Folder(root=str(root), members=1, nonmembers=1, channel_endings=ENDINGS).read_source()
    assert again.image_digest(1) != before


def test_pictures_and_masks_in_one_folder_by_patterns(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"{name}.png", np.full((6, 8), 9, np.uint8))
        write(tmp_path / f"{name}_seg.png", np.eye(6, 8, dtype=np.uint8))
        for ending in ("_t1", "_post_t1"):
            write(tmp_path / f"{name}{ending}.tif", np.full((6, 8), 9, np.uint8))
    options: dict[str, Any] = {"root": str(tmp_path), "members": 1, "nonmembers": 1, "channels": 1}
    source = Folder(**options, images="{case}.png", masks="./{case}_seg.png").read_source()
    assert source.ids == ("a", "b")
    options |= {"images": "./{case}{channel}.tif", "masks": "{case}_seg.png"}
    source = Folder(**options, channel_endings=["_t1", "_post_t1"]).read_source()
    assert (source.ids, source.channels) == (("a", "b"), 2)


def test_a_missing_channel_and_another_size_are_one_line(tmp_path: Path) -> None:
    root = pictures(tmp_path)
    write(root / "images" / "c_t2.png", np.zeros((6, 9), np.uint8))
    data = Folder(root=str(root), members=1, nonmembers=1, channel_endings=ENDINGS)
    with pytest.raises(InputError, match=r"number of bits, got 8x6 of uint8 .* 9x6 of uint8"):
        data.read_source().decode(2)
    (root / "images" / "b_t1ce.png").unlink()
    with pytest.raises(InputError, match=r"have 4 channels, 1 of 3 lack one \(b\), the first _t1ce"):
        data.read_source()
    for endings in (["_t1", "_t1"], ["", "_t1"]):
        with pytest.raises(InputError, match="must be different ends of names"):
            by_channel({}, endings)


def test_volumes_have_a_window_for_each_channel(tmp_path: Path) -> None:
    label = np.zeros(ramp().shape, np.uint8)
    label[2:4, 2:4, 1:3] = 1
    for name in ("p", "q"):
        for number in range(2):
            save(tmp_path / "images" / f"{name}_{number:04}.nii.gz", ramp() * np.int16(number + 1))
        save(tmp_path / "masks" / f"{name}.nii.gz", label)
    options: dict[str, Any] = {"root": str(tmp_path), "size": None, "members": 1, "nonmembers": 1}
    options |= {"channel_endings": ["_0000", "_0001"], "cache": str(tmp_path / "cache")}
    source = Nifti(**options, windows=[[200, 400], [100, 1000]]).read_source()
    assert (source.ids[0], source.channels) == ("p/axial_001", 2)
    image, mask = source.decode(0)
    grey = ramp()[::-1, ::-1, 1].T.astype(float)
    expected = np.stack([grey / 400, (2 * grey + 400) / 1000], axis=2).clip(0, 1)
    assert np.array_equal(image, np.rint(expected * 255).astype(np.uint8))
    assert mask.sum() == 4
    with pytest.raises(InputError, match="one for each of 2 channels, got 1"):
        Nifti(**options, windows=[[200, 400]]).read_source()
    with pytest.raises(InputError, match="pairs of level and width"):
        Nifti(**options, windows=[[200], [200, 400]])
    moved = AFFINE.copy()
    moved[0, 3] += 9
    save(tmp_path / "images" / "q_0001.nii.gz", ramp(), affine=moved)
    with pytest.raises(InputError, match=r"q\.nii\.gz is .* voxels away from .*q_0001"):
        Nifti(**options).read_source()


def brats(root: Path, *, ending: str = ".nii.gz", codes: str = "RAS") -> Path:
    """Write cases of four sequences and a label, each sequence with its own range and axes as `codes` say."""
    label = np.zeros(ramp().shape, np.uint8)
    label[2:4, 2:4, 1:3] = 1
    for name in ("B001", "B002"):
        for number, sequence in enumerate(ENDINGS):
            values = ramp() * np.int16(number + 1) + np.int16(1)
            save(root / name / f"{name}{sequence}{ending}", values, codes if number == 2 else "RAS")
        save(root / name / f"{name}_seg{ending}", label)
    return root


SEQUENCES: dict[str, Any] = {"images": "{case}/{case}{channel}.nii.gz", "masks": "{case}/{case}_seg.nii.gz"}


def planes(number: int) -> Any:
    """Return a channel of `brats` (D, H, W) by hand."""
    return ((ramp().astype(np.float64)) * (number + 1) + 1).transpose(2, 1, 0)[:, ::-1, ::-1]


def test_sequences_of_volumes_are_channels_with_windows_or_percentiles(tmp_path: Path) -> None:
    root = brats(tmp_path / "root", codes="LPS")
    options: dict[str, Any] = {"root": str(root), "members": 1, "nonmembers": 1, "channel_endings": ENDINGS}
    options |= {"windows": [[200, 400], None, [100, 1000], None], "percentiles": [10, 90], **SEQUENCES}
    volumes = VolumeFiles(**options).read_source()
    assert (volumes.ids, volumes.channels) == (("B001", "B002"), 4)
    image, mask = volumes.decode(0)
    assert image.shape == (4, 5, 6, 4)
    for number, window in enumerate([(0, 400), None, (-400, 600), None]):
        low, high = window or np.percentile(planes(number), [10, 90])
        wanted = np.rint(((planes(number) - low) / (high - low)).clip(0, 1) * 255)
        assert np.abs(image[..., number] - wanted).max() <= (0 if window else 1)
    slices = Nifti(**options, size=None, minimum=0).read_source()
    for number in range(4):
        assert np.array_equal(slices.decode(number)[0], image[number])
        assert np.array_equal(slices.decode(number)[1], mask[number])
    assert volumes.settings != VolumeFiles(**(options | {"percentiles": [5, 90]})).read_source().settings


def test_percentiles_leave_out_the_background(tmp_path: Path) -> None:
    values = np.zeros(ramp().shape, np.int16)
    values[2:5, 1:4, 1:3] = np.arange(1, 19).reshape(3, 3, 2) * 10
    save(tmp_path / "root" / "images" / "a.nii", values)
    save(tmp_path / "root" / "masks" / "a.nii", (values > 50).astype(np.uint8))
    options: dict[str, Any] = {"root": str(tmp_path / "root"), "members": 1, "nonmembers": 1}
    image, _ = VolumeFiles(**options, percentiles=[0, 100]).read_source().decode(0)
    shown = values.transpose(2, 1, 0)[:, ::-1, ::-1].astype(float)
    assert np.abs(image[..., 0] - ((shown - 10) / 170).clip(0, 1) * 255).max() <= 0.51
    source = VolumeFiles(**options, percentiles=[0, 100]).read_source()
    assert source.window == "percentiles 0 to 100 of each volume are shown"


def test_names_of_nnunet_and_grids_of_all_channels(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name in ("p", "q"):
        for number in range(2):
            save(root / "imagesTr" / f"{name}_{number:04}.nii.gz", ramp() * np.int16(number + 1))
        save(root / "labelsTr" / f"{name}.nii.gz", (ramp() > 200).astype(np.uint8))
    options: dict[str, Any] = {"root": str(root), "members": 1, "nonmembers": 1, "images": "imagesTr"}
    options |= {"masks": "labelsTr", "channel_endings": ["_0000", "_0001"], "width": 1000}
    source = VolumeFiles(**options, spacing=[2, 3, 2], size=[8, 4, 6]).read_source()
    image, mask = source.decode(0)
    assert image.shape == (8, 4, 6, 2)
    assert mask.shape == (8, 4, 6)
    before = source.image_digest(1)
    save(root / "imagesTr" / "q_0001.nii.gz", ramp())
    assert VolumeFiles(**options).read_source().image_digest(1) != before
    moved = AFFINE.copy()
    moved[0, 3] += 9
    save(root / "imagesTr" / "q_0001.nii.gz", ramp(), affine=moved)
    with pytest.raises(InputError, match=r"q_0000\.nii\.gz is .* voxels away from .*q_0001"):
        VolumeFiles(**options).read_source()
    with pytest.raises(InputError, match="one for each of 2 channels, got 1"):
        VolumeFiles(**options | {"width": None}, windows=[[40, 400]]).read_source()


@pytest.mark.parametrize("kind", [VolumeFiles, Nifti])
def test_a_path_is_of_the_longest_ending_and_masks_are_no_images(tmp_path: Path, kind: Any) -> None:
    label = np.zeros(ramp().shape, np.uint8)
    label[2:4, 2:4, 1:3] = 1
    for name in ("p", "q"):
        for number, ending in enumerate(("_t1", "_post_t1", "_seg")):
            values = label if ending == "_seg" else ramp() * np.int16(number + 1)
            save(tmp_path / "root" / f"{name}{ending}.nii.gz", values)
    options: dict[str, Any] = {"root": str(tmp_path / "root"), "members": 1, "nonmembers": 1}
    options |= {"masks": "./{case}_seg.nii.gz"} | ({"size": None, "minimum": 0} if kind is Nifti else {})
    images = "./{case}{channel}.nii.gz"
    source = kind(**options, channel_endings=["_t1", "_post_t1"], images=images).read_source()
    assert (set(source.groups), source.channels) == ({"p", "q"}, 2)
    for name in ("p", "q"):
        for ending in ("_t1", "_post_t1"):
            (tmp_path / "root" / f"{name}{ending}.nii.gz").unlink()
        save(tmp_path / "root" / f"{name}.nii.gz", ramp())
    assert set(kind(**options, images="{case}.nii.gz").read_source().groups) == {"p", "q"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": "{case}/{case}_t1.nii.gz"}, r"must have \{channel\}"),
        ({"images": "{case}/{channel}{case}.nii.gz"}, "found none; correct the pattern"),
        ({"channel_endings": ["_t1", "_t9"]}, r"2 channels, 2 of 2 lack one \(B001, B002\), the first _t9"),
        ({"percentiles": [90, 10]}, "two ascending numbers of 0 to 100"),
        ({"percentiles": [1]}, "two ascending numbers of 0 to 100"),
        ({"windows": [None, None, None, None]}, "without a window needs percentiles"),
        (
            {"windows": [[1, 2]] * 4, "percentiles": [1, 99]},
            "windows has one for each; leave out percentiles",
        ),
        ({"windows": [[1, 0]] * 4}, "width must be above 0"),
        ({"windows": [[1]] * 4}, "pairs of level and width"),
    ],
)
def test_settings_of_channels_out_of_place(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    settings = {"members": 1, "nonmembers": 1, "channel_endings": ENDINGS, **SEQUENCES}
    root = str(brats(tmp_path / "root"))
    with pytest.raises(InputError, match=message):
        VolumeFiles(root=root, **(settings | options)).read_source()


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({}, "--data.level 50 --data.width 100"),
        ({"percentiles": (1, 99)}, "--data.level 50 --data.width 100, without --data.percentiles"),
        ({"channels": ((1, 2), None), "percentiles": (1, 99)}, "--data.windows '[[50, 100], ...]', one for"),
    ],
)
def test_the_option_that_has_an_effect_is_advised(options: dict[str, Any], option: str) -> None:
    assert Windows(**options).option(0, 100).startswith(option)
