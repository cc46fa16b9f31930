"""An nnU-Net v2 configuration as it is deployed, from an image or volume to logits, with gradients."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seg_mia.errors import InputError, name_some
from seg_mia.models.nnunet.preprocessing import Normalisation, bounding_box, nonzero_region
from seg_mia.models.nnunet.resampling import Grid, resampled
from seg_mia.models.nnunet.sample_geometry import SampleGeometry, stated_geometry
from seg_mia.models.nnunet.unet import Architecture, UNet
from seg_mia.models.state_files import State, states
from seg_mia.models.tiled import Tiled

WEIGHTS = "network_weights"
"""Key of the weights in nnU-Net's checkpoints."""
FINAL, STEP = "checkpoint_final.pth", 0.5
"""Weights and step with which nnU-Net predicts the validation cases at the end of a training."""
OUTSIDE = -27.631021
"""Log of 1e-12: logit of the classes outside the cropped region, where nnU-Net gives the background 1, and of
regions there, to which it gives 0.
"""
PATCHES, POSITIONS = 8, 2**21
"""Patches of one forward pass, at most, and their pixels or voxels, unless a single patch has more."""
_ALIASES = (".all_modules.", "decoder.encoder.")
"""Parts of names under which nnU-Net stores a tensor a second time."""


class NnUNet(nn.Module):
    """nnU-Net v2: crop to non-zero, normalisation, resampling, patches, mirroring, and the mean over folds.

    Isensee et al., Nature Methods 2021. As in the published predictor, logits are averaged, over mirror
    images, patches and folds, and outside the cropped region the background is certain. Sums are in single
    instead of half precision. Channels are prepared one after the other, and without gradients answers
    are written where they stay: beside the answer, memory holds the resampled image, its logits, and a few
    copies of one channel.

    Args:
        architecture: plan of the U-Net (`seg_mia.models.nnunet.unet.Architecture`).
        channels: of the images.
        classes: number of classes, background included, or of regions.
        patch: lengths of the patches; two of a configuration in 2-D, which predicts volumes slice by slice.
        normalisation: of each channel (`seg_mia.models.nnunet.preprocessing.Normalisation`).
        folds: names of the folds whose networks are averaged.
        checkpoint: file of the weights in each fold's folder.
        mirrored: spatial axes of mirroring, from 0; none without test-time augmentation.
        step: distance of patches as a fraction of their sides.
        crop: crop images to their non-zero region.
        levels: value in the files of a channel's 0 and of its 1; 0 and 255 if not given, as of 8 bits.
        zero: values of the files below it, in magnitude, count as zero in the crop.
        grid: distances of pixels and resampling (`seg_mia.models.nnunet.resampling.Grid`); none if files and
            network have one distance.
        volumes: whether samples are volumes (N, C, D, H, W). Without the files' spacing in `grid`, each
            states its size and spacing (`seg_mia.models.nnunet.sample_geometry`), and what lies beyond the
            size is not read.
        regions: whether outputs are logits of regions that may overlap, each decided by a sigmoid.

    Attributes:
        networks: network of each fold, in windows.

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
        levels: list[list[float]] | None = None,
        zero: float = 0.5,
        grid: dict[str, Any] | None = None,
        volumes: bool = False,
        regions: bool = False,
    ) -> None:
        super().__init__()
        plan = Architecture.read(architecture)
        self.schemes = [Normalisation.read(values) for values in normalisation]
        self.axes, self.mirrored = 3 if volumes else 2, tuple(sorted(mirrored or ()))
        self.grid = _grid(grid, plan.dimensions, self.axes)
        self.levels = [(float(low), float(high)) for low, high in levels or [[0.0, 255.0]] * channels]
        self._check(patch, plan.dimensions, step=step, zero=zero)
        if (
            {len(self.schemes), len(self.levels)} != {channels}
            or classes < (1 if regions else 2)
            or not folds
        ):
            raise InputError(
                f"an nnU-Net needs a normalisation and levels for each of {channels} channels, 2 classes or "
                f"a region, and a fold, got {len(self.schemes)}, {len(self.levels)}, {classes} and "
                f"{len(folds)}; correct them"
            )
        self.folds, self.checkpoint, self.channels, self.classes = list(folds), checkpoint, channels, classes
        self.step, self.crop, self.zero, self.regions = step, crop, zero, regions
        batch = min(PATCHES, max(1, POSITIONS // math.prod(patch)))
        settings: dict[str, Any] = {"patch": patch, "overlap": 1 - step, "mirror": self.mirrored}
        self.networks = nn.ModuleList(
            Tiled(UNet(plan, channels, classes), batch=batch, **settings) for _ in folds
        )

    def _check(self, patch: Sequence[int], dimensions: int, *, step: float, zero: float) -> None:
        """Raise InputError for settings out of range."""
        if len(patch) != dimensions or min(patch) < 1 or len(patch) > self.axes:
            raise InputError(
                f"patches must have {dimensions} lengths, as many as the network's axes and at most those of "
                f"the samples, {self.axes}, got {list(patch)}; correct them"
            )
        rising = all(low < high for low, high in self.levels)
        if not 0 < step <= 1 or not set(self.mirrored) <= set(range(len(patch))) or not rising or zero < 0:
            raise InputError(
                f"step must lie in (0, 1], mirrored axes be below {len(patch)}, levels rise and zero not be "
                f"negative, got {step}, {list(self.mirrored)}, {self.levels} and {zero}; correct them"
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, classes, *S) of images (N, C, *S) in [0, 1].

        Raises:
            InputError: another number of channels or axes, volumes that do not state their size and spacing.
        """
        return self.averaged(x, range(len(self.networks)))

    def averaged(self, x: Tensor, positions: "range | list[int]") -> Tensor:
        """Return the mean logits of some of the folds' networks, (N, classes, *S)."""
        if x.ndim != self.axes + 2 or x.shape[1] != self.channels:
            raise InputError(
                f"this nnU-Net takes {'volumes' if self.axes == 3 else 'images'} (N, {self.channels}, "
                f"{'D, ' if self.axes == 3 else ''}H, W), got {tuple(x.shape)}; give the channels of its "
                "dataset.json"
            )
        networks = [self.networks[position] for position in positions]
        if len(x) == 1:  # of a volume a second copy is not made
            return self._image(x[0], networks)[None]
        return torch.stack([self._image(image, networks) for image in x])

    def of_fold(self, position: int) -> nn.Module:
        """Return the network of one fold, behind the same preprocessing, with shared weights."""
        return OneFold(self, position)

    def _image(self, image: Tensor, networks: Sequence[nn.Module]) -> Tensor:
        """Return logits (classes, *S) of one image in [0, 1]."""
        whole = tuple(image.shape[1:])
        geometry = self._geometry(image)
        order = self.grid.transpose or tuple(range(self.axes))
        image = image[(slice(None), *(slice(length) for length in geometry.size))]
        image = image.permute(0, *(axis + 1 for axis in order))
        spacing = [geometry.spacing[axis] for axis in order]
        region = nonzero_region(self._channels(image), self.zero, filled=any(s.masked for s in self.schemes))
        box = bounding_box(region) if self.crop else tuple(slice(0, length) for length in region.shape)
        logits = self._mean(self._prepared(image, region, box, spacing), networks)
        channels = self._restored(logits, box, spacing, whole)
        if torch.is_grad_enabled() and logits.requires_grad:
            return torch.stack(list(channels))
        full = logits.new_empty((len(logits), *whole))
        for place, channel in zip(full, channels, strict=True):
            place.copy_(channel)
        return full

    def _geometry(self, image: Tensor) -> SampleGeometry:
        """Return size and spacing of an image (C, *S) without its padding, in its own order of axes."""
        if self.grid.spacing is None:
            return stated_geometry(image)
        return SampleGeometry(tuple(image.shape[1:]), self.grid.spacing)

    def _channels(self, image: Tensor) -> Iterator[Tensor]:
        """Yield the channels (*S) of an image (C, *S) in [0, 1], in the values of the files."""
        for channel, (low, high) in zip(image, self.levels, strict=True):
            yield channel * (high - low) + low

    def _prepared(
        self, image: Tensor, region: Tensor, box: tuple[slice, ...], spacing: Sequence[float]
    ) -> Tensor:
        """Return the input of the networks (C, *s): cropped, normalised and resampled, channel by channel."""
        size = self.grid.size([part.stop - part.start for part in box], spacing)
        axis = self.grid.separated(spacing, self.grid.target_for(spacing))
        channels = self._channels(image[(slice(None), *box)])
        return torch.stack(
            [
                resampled(scheme(channel, region[box]), size, self.grid.image_order, axis)
                for scheme, channel in zip(self.schemes, channels, strict=True)
            ]
        )

    def _mean(self, prepared: Tensor, networks: Sequence[nn.Module]) -> Tensor:
        """Return the mean logits (K, *s) for an input (C, *s), in 2-D of volumes slice by slice."""
        slices = prepared.ndim - 1 > len(self.grid.target)
        batch = prepared.movedim(1, 0) if slices else prepared[None]
        total: Tensor = networks[0](batch)
        for network in networks[1:]:
            total = total.add_(network(batch))
        total = total.div_(len(networks)) if len(networks) > 1 else total
        return total.movedim(0, 1) if slices else total[0]

    def _restored(
        self, logits: Tensor, box: tuple[slice, ...], spacing: Sequence[float], whole: tuple[int, ...]
    ) -> Iterator[Tensor]:
        """Yield each class's logits in the axes and the size of the image, (*S)."""
        order = self.grid.transpose or tuple(range(self.axes))
        back = sorted(range(self.axes), key=lambda axis: order[axis])
        size = [part.stop - part.start for part in box]
        axis = self.grid.separated(self.grid.target_for(spacing), spacing)
        place = tuple(box[axis] for axis in back)
        for number, channel in enumerate(logits):
            cropped = resampled(channel, size, self.grid.logit_order, axis).permute(back)
            full = cropped.new_full(whole, 0.0 if number == 0 and not self.regions else OUTSIDE)
            full[place] = cropped
            yield full

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
        bare = [_inner(windows) for windows in self.networks]
        loaded = [_fitted(_state(file), network.state_dict(), file) for file, network in
                  zip(files, bare, strict=True)]  # fmt: skip
        for network, state in zip(bare, loaded, strict=True):
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
        """Return logits (N, classes, *S) of images (N, C, *S) in [0, 1]."""
        return self.ensemble.averaged(x, [self.position])


def _inner(windows: nn.Module) -> nn.Module:
    """Return the network that is predicted in windows."""
    assert isinstance(windows, Tiled)
    return windows.network


def _grid(values: dict[str, Any] | None, dimensions: int, axes: int) -> Grid:
    """Return the grid of samples with some axes, by default that of the files."""
    if values is None:
        return Grid(target=(1.0,) * dimensions, spacing=(1.0,) * axes)
    grid = Grid.read(values)
    if (
        len(grid.target) != dimensions
        or len(grid.spacing or (1.0,) * axes) != axes
        or (grid.transpose and len(grid.transpose) != axes)
        or (grid.spacing is None and axes < 3)
    ):
        raise InputError(
            f"a grid must have {dimensions} distances of the network's pixels, and {axes} of the files' with "
            f"their axes, got {values}; correct it"
        )
    return grid


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
