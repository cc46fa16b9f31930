"""Auto-encoder weights drawn by a rule, which the synthetic reference vectors were made with."""

import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from seg_mia.models.style_autoencoder import LAYERS

WIDTHS = (16, 32, 64, 128, 128)


def drawn(file: str, key: str, shape: tuple[int, ...]) -> Tensor:
    """He-normal weights that depend on the file's and the layer's name alone."""
    rng = np.random.default_rng(zlib.crc32(f"{file}:{key}".encode()))
    deviation = (2 / np.prod(shape[1:])) ** 0.5
    return torch.from_numpy(rng.normal(0, deviation, shape).astype(np.float32))


def by_rule(folder: Path, widths: tuple[int, ...] = WIDTHS, first: int = 24) -> Path:
    """Write SE1..5.pth and SD1..5.pth; level 1 has `first` channels, as in the compressed published set."""
    folder.mkdir(parents=True, exist_ok=True)
    for level in range(1, 6):
        encoder = {"conv0.weight": torch.eye(3).reshape(3, 3, 1, 1), "conv0.bias": torch.zeros(3)}
        decoder = {}
        inward = 3
        for name in LAYERS[: LAYERS.index(f"conv{level}1") + 1]:
            outward = first if level == 1 else widths[int(name[4]) - 1]
            encoder[f"{name}.weight"] = drawn(f"SE{level}", f"{name}.weight", (outward, inward, 3, 3))
            encoder[f"{name}.bias"] = torch.zeros(outward)
            decoder[f"{name}.weight"] = drawn(f"SD{level}", f"{name}.weight", (inward, outward, 3, 3))
            decoder[f"{name}.bias"] = torch.zeros(inward)
            inward = outward
        torch.save({"model": encoder}, folder / f"SE{level}.pth")
        torch.save({"model": decoder}, folder / f"SD{level}.pth")
    return folder
