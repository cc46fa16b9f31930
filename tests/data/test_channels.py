"""Several files of a case as channels: in folders of images, and of volumes with a window for each."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from seg_mia.data.channel_files import by_channel
from seg_mia.data.sets.folder import Folder
from seg_mia.data.sets.nifti import Nifti
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
