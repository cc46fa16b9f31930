"""Victims with the images that they are attacked on: undefended, adversarially trained, smoothed."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.trained import train
from seg_mia.atomic import written_whole
from seg_mia.attacks.best import mask_dice
from seg_mia.checkpoint import load_victim, read_card
from seg_mia.config.spec import resolve
from seg_mia.data.base import SegmentationData
from seg_mia.defences.noise import GaussianNoise
from seg_mia.errors import InputError
from seg_mia.metrics.overlap import foreground_dice
from seg_mia.models.heads import final, probabilities
from seg_mia.models.smoothing import DRAWS, class_votes
from seg_mia.runs import checkpoint_file

DEFENCES = {"undefended": None, "adversarial": "adversarial", "smoothed": "noise"}
"""The victims of a table, and the defence that each is trained with."""
VOTES = 25
"""Draws of which the class of most votes is a smoothed victim's prediction."""


class Pair(NamedTuple):
    """Images (N, C, *S) in [0, 1] and masks (N, *S) of class ids."""

    images: Tensor
    masks: Tensor


class Expected(nn.Module):
    """Logarithm of a network's mean probabilities over noisy copies, with the same noise in each pass.

    What a white-box attacker of a smoothed network follows (expectation over transformation; Athalye et al.,
    ICML 2018). With common random numbers it is one function of an image, whatever else is in the batch, so
    that an attack which keeps its best iterate does not choose by chance. All images share a pass, unlike
    those of `--release smoothed`.

    Args:
        network: network from images to logits.
        sigma: standard deviation of the noise.
        draws: noisy copies of an image in a pass.
    """

    def __init__(self, network: nn.Module, sigma: float, draws: int) -> None:
        super().__init__()
        self.network, self.sigma, self.draws = network, sigma, draws

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, K, *S), K at least 2, of images (N, C, *S)."""
        noise = torch.randn(self.draws, *x.shape[1:], generator=torch.Generator().manual_seed(0))
        copies = x + self.sigma * noise.to(x)[:, None]
        maps: Tensor = probabilities(final(self.network(copies.flatten(0, 1))).float())
        mean: Tensor = maps.reshape(self.draws, len(x), *maps.shape[1:]).mean(0).clamp(min=1e-12)
        return mean.log()


class Attacked(NamedTuple):
    """A victim and the images it is attacked on.

    Attributes:
        name: in tables.
        digest: of the checkpoint, the numbers of images, and the draws of a smoothed victim, for results
            that are kept.
        network: the trained network in evaluation mode.
        sigma: noise of a smoothed victim, None of others.
        shown: what is attacked.
        others: images of other patients, which a universal change is fitted to.
        patients: number of patients shown.
        draws: noisy copies behind each gradient of a smoothed victim.
        groups: the patient of each image shown; empty where each is a patient of its own.
    """

    name: str
    digest: str
    network: nn.Module
    sigma: float | None
    shown: Pair
    others: Pair
    patients: int
    draws: int = 16
    groups: tuple[str, ...] = ()

    @property
    def followed(self) -> nn.Module:
        """The network that attacks are given: gradients of a smoothed victim are those of its mean."""
        return self.network if self.sigma is None else Expected(self.network, self.sigma, self.draws)

    def dice(self, images: Tensor, votes: int = VOTES) -> Tensor:
        """Return the foreground Dice of each image, (N,); of most votes where the victim is smoothed."""
        masks = self.shown.masks
        with torch.no_grad():
            if self.sigma is None:
                return mask_dice(final(self.network(images)), masks)
            counts = [
                class_votes(
                    self.network, image, sigma=self.sigma, draws=votes, seed=1, stream=DRAWS, batch=votes
                )[0]
                for image in images
            ]
        prediction = torch.stack(counts).argmax(1)
        return foreground_dice(prediction, masks, counts[0].shape[0])


def read_victim(name: str, run: str | Path, count: int, fitted: int, draws: int = 16) -> Attacked:
    """Return a victim with `count` non-members and `fitted` others, of as many patients as possible.

    Others, at most, where no more non-members of other patients are left; none of them is possible.
    """
    file = checkpoint_file(run)
    card = read_card(file)
    assert card.data is not None
    settings = {**card.data["init_args"], "subset": "nonmembers"}
    data: SegmentationData = resolve(card.data["class_path"])(**settings, limit=count)
    data.setup()
    chosen, groups = data.attacked(), data.source.groups
    seen = {groups[index] for index in chosen}
    rest = [index for index in data.scored("nonmembers").tolist() if groups[index] not in seen]
    sigma = noise_of(card.model["init_args"].get("defences") or ())
    counted = f" {count} {fitted}" + ("" if sigma is None else f" {draws} {VOTES}")
    digest = hashlib.sha256(file.read_bytes() + counted.encode()).hexdigest()[:16]
    shown, network = _opened(data, chosen.tolist()), load_victim(file)
    others = _opened(data, rest[:fitted]) if rest[:fitted] else Pair(shown.images[:0], shown.masks[:0])
    if shown.images.ndim == 4:
        network = network.to(memory_format=torch.channels_last)  # 1.4 times as fast on a CPU
    patients = tuple(str(groups[index]) for index in chosen)
    return Attacked(name, digest, network, sigma, shown, others, len(seen), draws, patients)


def noise_of(defences: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the standard deviation of the noise that a victim was trained with, None without such a defence.

    Args:
        defences: specifications of a checkpoint, each a `class_path` with optional `init_args`.
    """
    path = f"{GaussianNoise.__module__}.{GaussianNoise.__qualname__}"
    found = [spec.get("init_args") or {} for spec in defences if spec["class_path"] == path]
    return GaussianNoise(**found[0]).sigma if found else None


def _opened(data: SegmentationData, indices: Sequence[int]) -> Pair:
    rows = data.dataset(np.array(indices, dtype=np.int64))
    batch = [rows[0, row] for row in range(len(rows))]
    images = torch.stack([row.image for row in batch])
    if images.ndim == 4:
        images = images.contiguous(memory_format=torch.channels_last)
    return Pair(images, torch.stack([row.mask for row in batch]))


def held_victims(folder: Path) -> dict[str, Path]:
    """Return the runs of the victims that `trained_victims` has put into a folder, by name."""
    return {name: _latest(folder / name) for name in DEFENCES if (folder / name / "trained").is_file()}


def _latest(folder: Path) -> Path:
    return max(folder.glob("*/version_*"), key=lambda run: run.stat().st_mtime)


def trained_victims(folder: Path, words: Sequence[str]) -> dict[str, Path]:
    """Train the victims that `folder` does not hold yet by `fit`, and return their runs.

    Args:
        folder: for the runs.
        words: options of `fit` for the undefended victim.

    Raises:
        InputError: `folder` holds a victim that was trained with other words.
    """
    runs = {}
    for name, defence in DEFENCES.items():
        done = folder / name / "trained"
        given = [*words, *([] if defence is None else ["--defence", defence])]
        if not done.is_file():
            train([*given, "--runs", str(folder / name)])
            with written_whole(done) as file:
                file.write(json.dumps(given).encode())
        elif (kept := done.read_text()) != json.dumps(given):
            raise InputError(
                f"{folder / name} holds a victim trained with {kept or 'words that were not kept'}, got "
                f"{json.dumps(given)}; give the same words or another folder, or name the runs instead"
            )
        runs[name] = _latest(folder / name)
    return runs
