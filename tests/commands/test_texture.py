"""`texture`: one image in, one image out, in every format; and what is refused in one line."""

import contextlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from seg_mia.attacks.feature_statistics import Texture, retextured
from seg_mia.cli import main
from seg_mia.metrics.similarity import ssim
from seg_mia.models.style_autoencoder import load_texture
from tests.texture_weights import by_rule
from tests.trainings import one_error

GOLDEN = Path(__file__).parents[1] / "golden" / "texture_synthetic_default.npz"
Array = NDArray[Any]
Call = Callable[..., str]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return by_rule(tmp_path_factory.mktemp("weights"), widths=(6, 6, 6, 6, 6), first=6)


def sample(channels: int = 1) -> tuple[Array, Array]:
    """An image (32, 48) or (32, 48, 3) of 8 bits, and organ ids (32, 48)."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (32, 48) if channels == 1 else (32, 48, 3), dtype=np.uint8)
    label = np.zeros((32, 48), np.uint8)
    label[8:20, 10:30], label[22:30, 30:40] = 6, 3
    return image, label


def expected(weights: Path, image: Array, label: Array, **knobs: Any) -> Array:
    """Return what the attack makes of arrays, uint8; images of 8 bits become [0, 1]."""
    planes = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
    scaled = torch.from_numpy(planes.astype(np.float32) / (255 if image.dtype == np.uint8 else 1))[None]
    ids = torch.from_numpy(label.astype(np.int64))[None]
    with torch.no_grad():
        (found,) = retextured(load_texture(weights), scaled, ids, Texture(**knobs))
    output: Array = (found[0] * 255).round().byte().numpy()
    return output[0] if len(output) == 1 else output.transpose(1, 2, 0)


def same(found: Array, wanted: Array) -> None:
    assert found.dtype == np.uint8
    assert found.shape == wanted.shape
    assert np.abs(found.astype(int) - wanted).max() <= 1
    assert wanted.std() > 1


def textured(weights: Path, image: Path | str, label: Path | str, *words: str) -> Array:
    files = ["--image", str(image), "--label", str(label), "--weights", str(weights), "--out", "out"]
    assert main(["texture", *files, *words]) == 0
    found: Array = np.load("out/output.npy")
    return found


def npy(name: str, values: Array) -> Path:
    np.save(name, values)
    return Path(name)


def png(name: str, values: Array) -> Path:
    Image.fromarray(values).save(name)
    return Path(name)


def nifti(name: str, planes: Array, axes: str = "RAS") -> Path:
    """Write axial slices (n, H, W), each as it is looked at, as a volume whose axes run as said.

    The left of a picture is the patient's right, its top the front.
    """
    values = planes.transpose(2, 1, 0)[::-1, ::-1]
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    for axis, (own, usual) in enumerate(zip(axes, "RAS", strict=True)):
        if own != usual:
            values, affine[axis, axis], affine[axis, 3] = np.flip(values, axis), -1, values.shape[axis] - 1
    volume = nibabel.Nifti1Image(np.ascontiguousarray(values), affine)  # type: ignore[no-untyped-call]
    nibabel.save(volume, name)
    return Path(name)


def test_reproduces_the_published_script(tmp_path: Path) -> None:
    with np.load(GOLDEN) as archive:
        vectors = dict(archive)
    knobs = [f"--{name}={vectors[name].item()}" for name in Texture.__dataclass_fields__]
    files = npy("image.npy", vectors["image"]), npy("label.npy", vectors["label"])
    found = textured(by_rule(tmp_path / "weights"), *files, *knobs)
    assert (np.abs(found.astype(int) - vectors["output"]) <= 1).mean() >= 0.999


def test_what_is_written(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image, label = sample()
    files = npy("image.npy", image), npy("label.npy", label)
    found = textured(weights, *files, "--noise_mu", "0.9", "--fine_psize=2")
    same(found, expected(weights, image, label, noise_mu=0.9, fine_psize=2))
    assert sorted(file.name for file in Path("out").iterdir()) == [
        "output.npy",
        "picture.png",
        "summary.json",
    ]
    with Image.open("out/picture.png") as sheet:
        assert sheet.width > 4 * 200
    summary = json.loads(Path("out/summary.json").read_text())
    assert (summary["image"], summary["label"]) == ("image.npy", "label.npy")
    assert str(weights) in summary["weights"]
    assert summary["settings"] == asdict(Texture(noise_mu=0.9, fine_psize=2))
    before, after = (torch.from_numpy(each.astype(np.float32) / 255)[None, None] for each in (image, found))
    assert summary["ssim"] == pytest.approx(float(ssim(after, before)), abs=1e-5)
    assert summary["mean_absolute_change"] == pytest.approx(float((after - before).abs().mean()), abs=1e-5)
    said = capsys.readouterr().out
    assert "written to out: output.npy, picture.png, summary.json" in said
    assert f"SSIM {summary['ssim']:.3f}" in said


@pytest.mark.parametrize("channels", [1, 3])
def test_arrays_and_pictures_give_the_same(weights: Path, channels: int) -> None:
    image, label = sample(channels)
    wanted = expected(weights, image, label)
    floats = image.astype(np.float64) / 255
    for own in (npy("a.npy", image), npy("b.npy", floats), png("c.png", image)):
        for ids in (npy("d.npy", label), npy("e.npy", label.astype(np.float32)), png("f.png", label)):
            same(textured(weights, own, ids), wanted)


def test_a_grey_picture_saved_in_colour_is_grey(weights: Path) -> None:
    image, label = sample()
    colour = png("image.png", np.stack([image] * 3, axis=-1))
    same(textured(weights, colour, png("label.png", label)), expected(weights, image, label))


def test_a_mask_of_one_organ(weights: Path) -> None:
    image, label = sample()
    wanted = expected(weights, image, (label == 6) * 3)
    for ones in (1, 255):
        mask = ((label == 6) * ones).astype(np.uint8)
        same(textured(weights, npy("i.npy", image), npy("m.npy", mask), "--organ", "3"), wanted)
        same(textured(weights, npy("i.npy", image), png("m.png", mask), "--organ", "3"), wanted)


def test_ids_that_stand_for_organs(weights: Path) -> None:
    image, label = sample()
    own = np.select([label == 6, label == 3], [5, 200], 9).astype(np.uint8)  # 9 stands for nothing
    found = textured(weights, npy("i.npy", image), npy("l.npy", own), "--organs", "{5: 6, 200: 3}")
    same(found, expected(weights, image, label))


@pytest.mark.parametrize(("axes", "of_label"), [("RAS", "RAS"), ("LPS", "RAS"), ("LAI", "LPS")])
@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
def test_slices_of_volumes(weights: Path, axes: str, of_label: str, ending: str) -> None:
    image, label = sample()
    houndsfield = image.astype(np.float32) * 2 - 200
    planes = np.stack([houndsfield[:, ::-1], houndsfield, houndsfield[::-1]])
    ids = np.stack([label * 0, label, label * (label == 3)])  # the middle one has most of the organs
    volume, organs = nifti(f"v.{ending}", planes, axes), nifti(f"l.{ending}", ids, of_label)
    window = ["--window", "[-100, 250]"]

    def seen(values: Array) -> Array:
        clipped: Array = np.clip((values + 100) / 350, 0, 1)
        return clipped.astype(np.float32)

    same(textured(weights, volume, organs, *window), expected(weights, seen(planes[1]), label))
    third = textured(weights, volume, organs, *window, "--slice", "2")
    same(third, expected(weights, seen(planes[2]), ids[2]))
    flat = textured(weights, volume, npy("l.npy", label), *window, "--slice", "1")
    same(flat, expected(weights, seen(planes[1]), label))


def test_help_names_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    for word in ("--help", "-h"):
        with contextlib.suppress(SystemExit):  # argparse ends the process after help
            assert main(["texture", word]) == 0
        said = capsys.readouterr().out
        assert all(f"--{name}" in said for name in ("image", "label", "weights", "organ", "noise_mu"))


@pytest.fixture
def said(weights: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run words that must fail, and return the one line they lead to."""
    image, label = sample()
    npy("image.npy", image)
    npy("label.npy", label)

    def run(*words: str, image: Path | str = "image.npy", label: Path | str = "label.npy") -> str:
        capsys.readouterr()
        files = ["--image", str(image), "--label", str(label), "--weights", str(weights), "--out", "out"]
        assert main(["texture", *files, *words]) == 2
        assert not Path("out").exists()
        return one_error(capsys)

    return run


IMAGES: dict[str, tuple[Array, str]] = {
    "beyond 1": (np.full((32, 48), 1.5) * np.linspace(0, 1, 48), "in [0, 1], got (32, 48) in [0, 1.5]"),
    "Hounsfield units": (np.arange(32 * 48, dtype=np.int16).reshape(32, 48) - 500, "--window '[-160, 240]'"),
    "no number": (np.full((32, 48), np.nan), "in [0, 1]"),
    "one grey": (np.full((32, 48), 0.5), "0.5 everywhere"),
    "too small": (np.random.default_rng(0).random((16, 16)), "organ ids must be int64 of the images'"),
    "a line": (np.linspace(0, 1, 48), "(H, W) or (H, W, 3)"),
    "four channels": (np.random.default_rng(0).random((32, 48, 4)), "1 or 3"),
    "channels first": (np.random.default_rng(0).random((3, 32, 48)), "1 or 3"),
    "nothing": (np.zeros((0, 0)), "image.npy"),
    "words": (np.full((32, 48), "a"), "image.npy"),
    "complex numbers": (np.full((32, 48), 1j), "image.npy"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_images_that_are_none(said: Call, name: str) -> None:
    values, message = IMAGES[name]
    npy("image.npy", values)
    assert message in said()


LABELS: dict[str, tuple[Array, str]] = {
    "fractions": (np.full((32, 48), 0.5), "whole organ ids (H, W)"),
    "no number": (np.full((32, 48), np.nan), "whole organ ids"),
    "infinite": (np.full((32, 48), np.inf), "label.npy"),
    "channels": (np.zeros((32, 48, 3)), "whole organ ids (H, W), got float64 (32, 48, 3)"),
    "too large an id": (np.full((32, 48), 15), "organ ids must lie in 0 .. 14, got 15 .. 15"),
    "below 0": (np.full((32, 48), -1), "organ ids must lie in 0 .. 14, got -1"),
    "another size": (np.zeros((48, 32), int), "organ ids must be int64 of the images' (N, H, W)"),
    "words": (np.full((32, 48), "a"), "label.npy"),
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_that_are_none(said: Call, name: str) -> None:
    values, message = LABELS[name]
    npy("label.npy", values)
    assert message in said()


def test_too_small_an_image(said: Call) -> None:
    npy("image.npy", np.random.default_rng(0).random((16, 48)))
    npy("label.npy", np.zeros((16, 48), int))
    assert "at least 32 pixels wide and high" in said()


def test_masks_that_are_not_of_one_organ(said: Call) -> None:
    assert "must hold only 0 and 1 or 255, got [3, 6]" in said("--organ", "6")
    npy("label.npy", np.full((32, 48), 255))
    assert "organ ids must lie in 0 .. 14" in said()
    assert "ids from 1 to 14" in said("--organ", "15")
    assert "ids from 1 to 14" in said("--organs", "{255: 15}")


def test_background_is_no_organ(said: Call) -> None:
    npy("label.npy", np.eye(32, 48, dtype=np.uint8))
    assert "organ" in said("--organ", "0")
    assert "organ" in said("--organs", "{1: 0}")


def test_volumes_that_do_not_fit(said: Call) -> None:
    image, _ = sample()
    volume = nifti("v.nii.gz", np.stack([image] * 2).astype(np.float32) / 255)
    assert "a NIfTI image needs --slice, or a NIfTI label" in said(image=volume)
    assert "slice must lie in 0 .. 1, got 2" in said("--slice", "2", image=volume)
    assert "slice must lie in 0 .. 1, got -1" in said("--slice=-1", image=volume)
    assert "--window" in said("--slice", "0", image=nifti("hu.nii", np.stack([image] * 2).astype(np.int16)))
    volume.write_bytes(volume.read_bytes()[:-40])
    assert "v.nii.gz cannot be read as NIfTI" in said("--slice", "0", image=volume)
    Path("text.nii").write_text("no volume")
    assert "text.nii cannot be read as NIfTI" in said("--slice", "0", image="text.nii")


def test_a_label_of_another_scan(said: Call) -> None:
    image, label = sample()
    more = nifti("more.nii", np.stack([label] * 5))
    volume = nifti("v.nii", np.stack([image] * 2).astype(np.float32) / 255)
    assert "more.nii" in said("--slice", "1", image=volume, label=more)


def test_files_that_are_not_there_or_not_whole(said: Call) -> None:
    for name in ("nowhere.npy", "nowhere.png", "nowhere.nii", "nowhere.nii.gz"):
        assert f"--image must be a file, found no {name}" in said("--slice", "0", image=name)
        assert f"--label must be a file, found no {name}" in said("--slice", "0", label=name)
    assert "nowhere" in said("--weights", "nowhere")
    content = Path("image.npy").read_bytes()
    Path("short.npy").write_bytes(content[:-10])
    Path("empty.npy").write_bytes(b"")
    np.save("objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    for name in ("short.npy", "empty.npy", "objects.npy"):
        assert f"{name} must be a .npy array" in said(image=name)
    whole = png("image.png", sample()[0])
    whole.write_bytes(whole.read_bytes()[:-100])
    assert "image.png must be a whole PNG" in said(image=whole)


def test_several_arrays_are_none(said: Call) -> None:
    np.savez("many.npz", a=np.zeros(3))
    many = Path("many.npz").rename("many.npy")
    assert "many.npy" in said(image=many)
    assert "many.npy" in said(label=many)


def test_words_that_do_not_fit(said: Call, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "window must be two numbers in ascending order, got [2.0, 1.0]" in said("--window", "[2, 1]")
    assert "window must be two numbers" in said("--window", "[1, 2, 3]")
    assert "window must be two numbers" in said("--window", "[.nan, 1]")
    assert "slice" in said("--slice", "first")
    assert "fine_alpha must lie in [0, 1]" in said("--fine_alpha", "2")
    assert "noise_mu" in said("--noise_mu", "[0.3, 0.6]")
    assert "a patch of 5 must fit" in said("--fine_psize", "5")
    assert "noise" in said("--noise", "0.3")
    assert "did you mean --organs?" in said("--organss", "3")
    assert main(["texture"]) == 2
    assert "image" in one_error(capsys)
    Path("out").write_text("a file")
    words = ["--image", "image.npy", "--label", "label.npy", "--weights", str(weights), "--out", "out"]
    assert main(["texture", *words]) == 2
    assert "cannot write to out: File exists; choose another folder with --out" in one_error(capsys)


@pytest.mark.parametrize("device", ["nowhere", "cuda:7"])
def test_devices_that_are_not_there(said: Call, device: str) -> None:
    assert device in said("--device", device)
