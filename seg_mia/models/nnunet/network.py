"""An nnU-Net v2 configuration in 2-D as it is deployed, from an image to logits, with gradients."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seg_mia.errors import InputError, name_some
from seg_mia.models.nnunet.preprocessing import (
    Normalisation,
    bounding_box,
    nonzero_region,
    normalised,
    resampled,
)
from seg_mia.models.nnunet.unet import Architecture, UNet
from seg_mia.models.nnunet.windows import windowed
from seg_mia.models.state_files import State, states

WEIGHTS = "network_weights"
"""Key of the weights in nnU-Net's checkpoints."""
FINAL, STEP = "checkpoint_final.pth", 0.5
"""Weights and step with which nnU-Net predicts the validation cases at the end of a training."""
OUTSIDE = -27.631021
"""Log of 1e-12: logit of the classes outside the cropped region, where nnU-Net gives the background 1, and of
regions there, to which it gives 0.
"""
_ALIASES = (".all_modules.", "decoder.encoder.")
"""Parts of names under which nnU-Net stores a tensor a second time."""


class NnUNet(nn.Module):
    """nnU-Net v2 in 2-D: crop to non-zero, normalisation, patches, mirroring, and the mean over folds.

    Isensee et al., Nature Methods 2021. As in the published predictor, logits are averaged, over mirror
    images, patches and folds, and outside the cropped region the background is certain. Sums are in single
    instead of half precision.

    Args:
        architecture: plan of the U-Net (`seg_mia.models.nnunet.unet.Architecture`).
        channels: of the images.
        classes: number of classes, background included, or of regions.
        patch: height and width of the patches.
        normalisation: of each channel (`seg_mia.models.nnunet.preprocessing.Normalisation`).
        folds: names of the folds whose networks are averaged.
        checkpoint: file of the weights in each fold's folder.
        mirrored: axes of mirroring, 0 for height and 1 for width; none without test-time augmentation.
        step: distance of patches as a fraction of their sides.
        crop: crop images to their non-zero region.
        scale: grey level of an image's value 1: 255 for files of 8 bits, 65535 for 16.
        zoom: size of the resampled image relative to the file's, height and width.

    Attributes:
        networks: network of each fold.
        regions: whether outputs are logits of regions that may overlap, each decided by a sigmoid.

    Raises:
        InputError: invalid plans or settings.
    """

    def __init__(
        self,
        *,
        architecture: dict[str, Any],
        channels: int,
        classes: int,
        patch: list[int],
        normalisation: list[dict[str, Any]],
        folds: list[str],
        checkpoint: str = FINAL,
        mirrored: list[int] | None = None,
        step: float = STEP,
        crop: bool = True,
        scale: float = 255.0,
        zoom: list[float] | None = None,
        regions: bool = False,
    ) -> None:
        super().__init__()
        plan = Architecture.read(architecture)
        self.schemes = [Normalisation.read(values) for values in normalisation]
        self.patch, self.mirrored = _patch(patch), tuple(sorted(mirrored or ()))
        self.zoom = (1.0, 1.0) if zoom is None else (zoom[0], zoom[1])
        if not 0 < step <= 1 or not set(self.mirrored) <= {0, 1} or not scale > 0 or min(self.zoom) <= 0:
            raise InputError(
                f"step must lie in (0, 1], mirrored axes be 0 or 1, scale and zoom above 0, got {step}, "
                f"{list(self.mirrored)}, {scale} and {list(self.zoom)}; correct them"
            )
        if len(self.schemes) != channels or classes < (1 if regions else 2) or not folds:
            raise InputError(
                f"an nnU-Net needs a normalisation for each of {channels} channels, 2 classes or a region, "
                f"and a fold, got {len(self.schemes)}, {classes} and {len(folds)}; correct them"
            )
        self.folds, self.checkpoint, self.channels, self.classes = list(folds), checkpoint, channels, classes
        self.step, self.crop, self.scale, self.regions = step, crop, scale, regions
        self.networks = nn.ModuleList(UNet(plan, channels, classes) for _ in folds)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, classes, H, W) of images (N, C, H, W) in [0, 1].

        Raises:
            InputError: another number of channels.
        """
        return self.averaged(x, range(len(self.networks)))

    def averaged(self, x: Tensor, positions: "range | list[int]") -> Tensor:
        """Return the mean logits of some of the folds' networks, (N, classes, H, W)."""
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise InputError(
                f"this nnU-Net takes images (N, {self.channels}, H, W), got {tuple(x.shape)}; give the "
                "channels of its dataset.json"
            )
        networks = [self.networks[position] for position in positions]
        return torch.stack([self._image(image * self.scale, networks) for image in x])

    def of_fold(self, position: int) -> nn.Module:
        """Return the network of one fold, behind the same preprocessing, with shared weights."""
        return OneFold(self, position)

    def _image(self, image: Tensor, networks: list[nn.Module]) -> Tensor:
        """Return logits (classes, H, W) of one image in grey levels."""
        region = nonzero_region(image)
        rows, columns = bounding_box(region) if self.crop else (slice(None), slice(None))
        cut = normalised(image[:, rows, columns], region[rows, columns], self.schemes)
        size = (round(cut.shape[1] * self.zoom[0]), round(cut.shape[2] * self.zoom[1]))
        prepared = resampled(cut, size, order=3)
        logits = torch.stack(
            [
                windowed(network, prepared, self.patch, step=self.step, mirrored=self.mirrored)
                for network in networks
            ]
        ).mean(dim=0)
        cropped = resampled(logits, (cut.shape[1], cut.shape[2]), order=1)
        full = cropped.new_full((len(cropped), *image.shape[1:]), OUTSIDE)
        if not self.regions:
            full[0] = 0
        full[:, rows, columns] = cropped
        return full

    def references(self, weights: Path) -> list[tuple[Path, nn.Module]]:
        """Return nnU-Net's own predictions of validation cases, and the network of each fold with some.

        None for other weights than the final ones, or other settings than nnU-Net's validation has.

        Args:
            weights: folder with `fold_K`.
        """
        if self.checkpoint != FINAL or self.step != STEP or not self.mirrored or not weights.is_dir():
            return []
        folders = [weights / f"fold_{fold}" / "validation" for fold in self.folds]
        pairs = [(folder, self.of_fold(position)) for position, folder in enumerate(folders)]
        return [(folder, network) for folder, network in pairs if folder.is_dir() and any(folder.iterdir())]

    def read_weights(self, path: Path) -> str:
        """Load the weights of each fold from nnU-Net's folder, in place: all or none.

        Args:
            path: folder with `fold_K`, or, of one fold, the checkpoint itself.

        Returns:
            what was loaded, in words.

        Raises:
            InputError: a missing or damaged file, or weights of another architecture.
        """
        files = [path] if path.is_file() else [path / f"fold_{fold}" / self.checkpoint for fold in self.folds]
        if len(files) != len(self.folds):
            raise InputError(
                f"weights of {len(self.folds)} folds must be nnU-Net's folder with fold_K, got the file "
                f"{path}; name "
                "the folder"
            )
        loaded = [_fitted(_state(file), network.state_dict(), file) for file, network in
                  zip(files, self.networks, strict=True)]  # fmt: skip
        for network, state in zip(self.networks, loaded, strict=True):
            network.load_state_dict(state)
        names = name_some([f"fold_{fold}" for fold in self.folds])
        return f"{path}: weights of {names} loaded from {self.checkpoint}; all names and shapes match"


class OneFold(nn.Module):
    """Network of one fold of an `NnUNet`, behind the ensemble's preprocessing.

    Args:
        ensemble: networks of several folds.
        position: of the network among them.
    """

    def __init__(self, ensemble: NnUNet, position: int) -> None:
        super().__init__()
        self.ensemble, self.position = ensemble, position

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, classes, H, W) of images (N, C, H, W) in [0, 1]."""
        return self.ensemble.averaged(x, [self.position])


def _patch(sides: list[int]) -> tuple[int, int]:
    if len(sides) != 2 or min(sides) < 1:
        raise InputError(
            f"patches must have a height and a width, got {sides}; configurations in 3-D are not "
            "supported: audit "
            "their saved predictions, audit --predictions"
        )
    return sides[0], sides[1]


def _state(file: Path) -> State:
    """Return the weights in a checkpoint of nnU-Net, each tensor under one name."""
    if not file.is_file():
        raise InputError(
            f"nnU-Net's weights must be a file, found none at {file}; correct --folds or --checkpoint"
        )
    contents = states(file)
    if WEIGHTS not in contents:
        raise InputError(f"{file} must hold {WEIGHTS}, as checkpoints of nnU-Net v2 do; name another file")
    state = {
        name.removeprefix("module.").removeprefix("_orig_mod."): tensor
        for name, tensor in contents[WEIGHTS].items()
    }
    return {name: tensor for name, tensor in state.items() if not any(alias in name for alias in _ALIASES)}


def _fitted(state: State, expected: Mapping[str, Tensor], file: Path) -> State:
    """Return weights with the names and shapes of a network; raise InputError if they differ."""
    problems = {
        "missing": [name for name in expected if name not in state],
        "unexpected": [name for name in state if name not in expected],
        "other shape": [
            f"{name} {tuple(state[name].shape)} for {tuple(tensor.shape)}"
            for name, tensor in expected.items()
            if name in state and state[name].shape != tensor.shape
        ],
    }
    if any(problems.values()):
        words = "; ".join(f"{kind}: {name_some(names)}" for kind, names in problems.items() if names)
        raise InputError(
            f"{file} does not fit the network in plans.json: {words}; a trainer with a network of its own "
            "is not "
            "supported, audit its saved predictions: audit --predictions"
        )
    return state
