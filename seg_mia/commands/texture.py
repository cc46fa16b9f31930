"""Texture attack on single images, following the published script."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jsonargparse import ArgumentParser
from numpy.typing import NDArray
from torch import Tensor

from seg_mia.attacks.auto_encoders import load_pairs
from seg_mia.attacks.feature_statistics import ORGANS, Texture, check_texture, retextured
from seg_mia.config.messages import one_line
from seg_mia.data.images.reading import read_image, read_mask
from seg_mia.data.volumes.geometry import check_same
from seg_mia.data.volumes.nifti_file import NiftiFile, axial, is_volume, read_volume
from seg_mia.errors import NUMPY_ERRORS, InputError, reason_of, unwritable
from seg_mia.metrics.similarity import mean_absolute, ssim
from seg_mia.results.files import write_bytes, write_json
from seg_mia.results.pictures import Tile, draw, magnified, overlay, picture, png

TITLES = ("image", "organs", "change", "re-textured")


@dataclass(frozen=True, kw_only=True)
class Request:
    """One image to re-texture.

    Args:
        image: (H, W) in [0, 1] as .npy, or 0..255 of uint8; PNG, JPEG, TIFF; or a slice of NIfTI.
        label: organ ids (H, W), 0 to 14, in one of these formats.
        weights: folder of E1..5.pth and D1..5.pth (or SE, SD), or a run of `fit --config texture_phantom`.
        out: output folder for `output.npy` (uint8), `picture.png` and `summary.json`.
        organ: id for a mask of 0 and 255, or of 0 and 1, whose ones are this organ.
        organs: the organ id, 1 to 14, that each id of the label stands for, {5: 6}; others are background.
        slice: axial slice of a NIfTI volume; the one with most of the organs if not given.
        window: the values of a NIfTI image that become 0 and 1, such as [-160, 240] HU.
        device: cpu, cuda, ...
    """

    image: Path
    label: Path
    weights: str
    out: Path
    organ: int | None = None
    organs: dict[int, int] | None = None
    slice: int | None = None
    window: list[float] | None = None
    device: str = "cpu"


def texture(words: Sequence[str]) -> list[str]:
    """Run `texture` and return lines with its results; raise InputError for invalid input."""
    request, knobs = _parsed(words)
    for name, file in (("image", request.image), ("label", request.label)):
        if not file.exists():
            raise InputError(f"--{name} must be a file, found no {file}; correct the path")
    if is_volume(request.image) and is_volume(request.label):
        check_same(NiftiFile(request.image), NiftiFile(request.label))
    flat = not (is_volume(request.image) or is_volume(request.label))
    if request.slice is not None and flat and request.image.is_file() and request.label.is_file():
        raise InputError("--slice applies to NIfTI volumes, got neither as image nor as label; leave it out")
    _check_device(request.device)
    label = _label(request)
    image = _image(request)
    check_texture(image, label)
    pairs = load_pairs(request.weights).to(request.device)
    with torch.inference_mode():
        (output,) = retextured(pairs, image.to(request.device), label.to(request.device), knobs)
    output = output.cpu()
    similarity, change = float(ssim(output, image)), float(mean_absolute(output, image))
    try:
        request.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(request.out, error, "--out") from None
    pixels = (output[0] * 255).round().to(torch.uint8).numpy()
    np.save(request.out / "output.npy", pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    write_bytes(request.out / "picture.png", png(_sheet(image[0], label[0], output[0], similarity)))
    write_json(
        request.out / "summary.json",
        {
            "image": str(request.image),
            "label": str(request.label),
            "weights": pairs.source,
            "settings": asdict(knobs),
            "ssim": similarity,
            "mean_absolute_change": change,
        },
    )
    return [
        f"written to {request.out}: output.npy, picture.png, summary.json",
        f"SSIM {similarity:.3f}, mean absolute change {change:.4f} of [0, 1]; auto-encoders: {pairs.source}",
    ]


def _parsed(words: Sequence[str]) -> tuple[Request, Texture]:
    parser = ArgumentParser(
        prog="seg_mia texture",
        description="Re-texture one image (Lee et al. 2024), with the options of the published script.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_class_arguments(Request)
    parser.add_class_arguments(Texture)
    try:
        parsed = parser.parse_args(list(words)).as_dict()
    except argparse.ArgumentError as error:
        known = [field.name for kind in (Request, Texture) for field in fields(kind)]
        raise InputError(one_line(str(error), known)) from None
    knob_names = {field.name for field in fields(Texture)}
    knobs = Texture(**{name: value for name, value in parsed.items() if name in knob_names})
    return Request(**{name: value for name, value in parsed.items() if name not in knob_names}), knobs


def _label(request: Request) -> Tensor:
    """Return organ ids (1, H, W), int64."""
    path = request.label
    values = _array(path, request, mask=True)
    has_integer_ids = (
        values.dtype.kind in "biuf" and np.isfinite(values).all() and np.array_equal(values, values.round())
    )
    if values.ndim != 2 or not has_integer_ids:
        raise InputError(f"label {path} must hold whole organ ids (H, W), got {values.dtype} {values.shape}")
    label = torch.from_numpy(values.astype(np.int64))[None]
    organs = [*([] if request.organ is None else [request.organ]), *(request.organs or {}).values()]
    if not all(1 <= organ <= ORGANS for organ in organs) or (request.organ is not None and request.organs):
        raise InputError(f"either organ or organs must be given, with ids from 1 to {ORGANS}, got {organs}")
    if request.organs is not None:
        mapped = torch.zeros_like(label)
        for source_id, organ in request.organs.items():
            mapped[label == source_id] = organ
        return mapped
    if request.organ is not None:
        beyond = set(np.unique(values).tolist()) - {0, 1, 255}
        if beyond:
            raise InputError(
                f"with organ given, label {path} must hold only 0 and 1 or 255, got {sorted(beyond)}"
            )
        label = (label > 0) * request.organ
    return label


def _image(request: Request) -> Tensor:
    """Return the image (1, C, H, W) in [0, 1]."""
    values = _array(request.image, request, mask=False)
    if values.dtype.kind not in "biuf" or not values.size:
        raise InputError(f"image {request.image} must hold numbers, got {values.dtype} {values.shape}")
    if request.window is not None:
        low, high = _window(request.window)
        values = ((values - low) / (high - low)).clip(0, 1)
    elif values.dtype == np.uint8:
        values = values.astype(np.float32) / 255
    if values.ndim not in {2, 3} or not (values.min() >= 0 and values.max() <= 1):
        raise InputError(
            f"image {request.image} must be (H, W) or (H, W, 3) in [0, 1], got {values.shape} in "
            f"[{values.min():.3g}, {values.max():.3g}]; --window '[-160, 240]' maps Hounsfield units"
        )
    if values.max() == values.min():
        raise InputError(
            f"image {request.image} must have a texture, got {values.max():.3g} everywhere; choose another "
            "image or slice"
        )
    planes = values[None] if values.ndim == 2 else values.transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(planes, dtype=np.float32))[None]


def _array(path: Path, request: Request, *, mask: bool) -> NDArray[Any]:
    if is_volume(path):
        number = request.slice if request.slice is not None else _fullest(request.label)
        return axial(read_volume(path), number)
    if path.suffix == ".npy":
        try:
            with path.open("rb") as file:
                loaded = np.load(file, allow_pickle=False)
        except NUMPY_ERRORS as error:
            raise InputError(
                f"{path} must be a .npy array, cannot be read ({reason_of(error)}); write it with np.save"
            ) from None
        if not isinstance(loaded, np.ndarray):
            raise InputError(f"{path} must be one array, got an archive of several; write one with np.save")
        return loaded
    if mask:
        return read_mask(path, threshold=None, classes=255, remedy="save class ids of 8 bits")
    try:
        return read_image(path, 1)[..., 0]
    except InputError:
        return read_image(path, 3)


def _fullest(label: Path) -> int:
    """Return the slice with most of the organs."""
    if not is_volume(label):
        raise InputError(f"a NIfTI image needs --slice, or a NIfTI label that determines it, got {label}")
    return int((read_volume(label) > 0).sum((0, 1)).argmax())


def _check_device(device: str) -> None:
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built for the device
        raise InputError(f"device {device!r} is not available: {one_line(str(error))}; use cpu") from None


def _window(window: Sequence[float]) -> tuple[float, float]:
    if len(window) != 2 or not window[0] < window[1]:
        raise InputError(f"window must be two numbers in ascending order, got {list(window)}")
    return window[0], window[1]


def _sheet(image: Tensor, label: Tensor, output: Tensor, similarity: float) -> NDArray[np.uint8]:
    change, factor = magnified(output - image)
    tiles = [
        Tile(picture(image)),
        Tile(overlay(image, label)),
        Tile(change, f"x {factor:.2g}"),
        Tile(picture(output), f"SSIM {similarity:.3f}"),
    ]
    return draw(TITLES, [tiles], [""])
