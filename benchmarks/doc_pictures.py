"""The pictures of the documentation that are made from the built-in phantom; no patient is in any of them.

python -m seg_mia fit --config phantom_victim.yaml
python -m seg_mia fit --config phantom_victim.yaml --role shadow
python -m seg_mia fit --config phantom_victim.yaml --defence poisoned --trainer.max_epochs 20
python -m seg_mia fit --config phantom_victim.yaml --defence minmax --trainer.max_epochs 20
python benchmarks/doc_pictures.py runs/phantom_victim/version_0 runs/phantom_victim-shadow/version_0 \
    --poisoned runs/phantom_victim-poisoned/version_0 --minmax runs/phantom_victim-minmax/version_0

About a minute on one CPU core besides the trainings; without --poisoned and --minmax their pictures stay as
they are. The panels of ASMA, of certify and of the texture attack are the first rows of `panel.png` in those
attacks' folders.
"""

import argparse
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from seg_mia.attacks.medis import ALL, medis
from seg_mia.attacks.pgd import fgsm, pgd
from seg_mia.attacks.trigger import emptied, stamped
from seg_mia.checkpoint import load_victim
from seg_mia.data.base import SegmentationData
from seg_mia.data.phantom.anatomy import render
from seg_mia.data.samples import Batch
from seg_mia.data.sets.phantom import ORGANS, Phantom
from seg_mia.defences.canaries import false_mask
from seg_mia.defences.crop import cropped
from seg_mia.defences.mixup import mixed
from seg_mia.errors import InputError
from seg_mia.losses import dice_cross_entropy_loss
from seg_mia.membership.signals import ImageEntropy, ImageLoss, LossMap, Posterior
from seg_mia.metrics.distance import l2_norm, linf_norm
from seg_mia.metrics.overlap import foreground_dice
from seg_mia.models.heads import final, predicted, probabilities
from seg_mia.models.released import ArgmaxNetwork, NoisyNetwork, RoundedNetwork, TopNetwork
from seg_mia.models.stitched import Stitched
from seg_mia.results.pictures import Tile, draw, magnified, overlay, picture, rendered
from seg_mia.runs import checkpoint_file

WIDTH = 900
COLOURS = 255
LEVELS = (0.1, 0.25, 0.4, 0.55, 0.7)
"""Axial levels of the contact sheet."""
TRIGGER: Any = {"shape": "line", "size": 8, "value": 1.0}
"""What lightning_configs/defence/poisoned.yaml stamps."""


def main() -> None:
    """Draw every picture whose run is given."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("victim")
    parser.add_argument("shadow")
    parser.add_argument("--poisoned", help="run of a poisoned victim")
    parser.add_argument("--minmax", type=Path, help="run of a min-max victim")
    parser.add_argument("--only", help="one picture, by its name")
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    given = parser.parse_args()
    victim, shadow = (load_victim(checkpoint_file(run)) for run in (given.victim, given.shadow))
    data, shadow_data = (_data(role) for role in ("victim", "shadow"))
    sheets: dict[str, Callable[[], NDArray[np.uint8]]] = {
        "phantom": contact_sheet,
        "medis_phantom": lambda: surrogate_losses(victim, data),
        "pgd_phantom": lambda: balls(victim, data),
        "signals_phantom": lambda: signals(victim, data),
        "scores_phantom": lambda: scores(victim, data, shadow, shadow_data),
        "defences_phantom": lambda: training_samples(victim, data),
        "releases_phantom": lambda: releases(victim, data),
    }
    if given.poisoned:
        poisoned = load_victim(checkpoint_file(given.poisoned))
        sheets["trigger_phantom"] = lambda: triggered(poisoned, victim, data)
    if given.minmax:
        sheets["minmax_phantom"] = lambda: opponents(given.minmax)
    for name, sheet in sheets.items():
        if given.only in {None, name}:
            file = given.out / f"{name}.png"
            file.write_bytes(small(sheet()))
            print(f"{file}: {file.stat().st_size / 1000:.0f} kB")


def contact_sheet() -> NDArray[np.uint8]:
    """Draw three bodies at five levels, and the fourth level once more with its organs."""
    rows, names = [], []
    for patient in range(3):
        tiles = []
        for reading, position in enumerate(LEVELS):
            image, labels = render(patient, position, reading, size=192)
            tiles.append(Tile(picture(torch.from_numpy(image)[None])))
            if position == LEVELS[3]:
                classes = np.zeros_like(labels)
                for organ, number in ORGANS.items():
                    classes[labels == organ] = number
                marked = Tile(overlay(torch.from_numpy(image)[None], torch.from_numpy(classes).long()))
        rows.append([*tiles, marked])
        names.append(f"patient {patient}")
    titles = [f"level {position}" for position in LEVELS] + [f"level {LEVELS[3]}, organs"]
    return draw(titles, rows, names)


def surrogate_losses(victim: nn.Module, data: SegmentationData) -> NDArray[np.uint8]:
    """Draw what the victim predicts of one slice after each loss, and the image that fusion keeps."""
    images, masks = _some(data, "nonmembers", 3)
    image, target = images[:1], masks[2:3]
    tiles = [Tile(overlay(image[0], target[0]), "clean, with the target")]
    for title, losses in [*((name, [name]) for name in ALL), ("fused", list(ALL))]:
        adversarial = medis(victim, image, target, losses=losses, step_size=4 / 255, success=0.9)
        sheet = picture(adversarial.images[0]) if title == "fused" else None
        if sheet is None:
            sheet = overlay(image[0], _labels(victim, adversarial.images)[0])
        caption = f"adversarial, {ALL[int(adversarial.notes['loss'])]}" if title == "fused" else title
        measured = (
            f"{int(adversarial.notes['steps'])} steps, mean IoU {adversarial.notes['mean_iou'].item():.2f}"
        )
        tiles.append(Tile(sheet, f"{caption}\n{measured}"))
    return draw(["", "", "", ""], [tiles[:4], tiles[4:]], ["", ""])


def balls(victim: nn.Module, data: SegmentationData) -> NDArray[np.uint8]:
    """Draw FGSM, and PGD in both norms, away from the true mask."""
    image, mask = _some(data, "nonmembers", 1)
    attacks = {
        "fgsm": fgsm(victim, image, mask),
        "pgd, L-infinity": pgd(victim, image, mask),
        "pgd, L2 of 2": pgd(victim, image, mask, norm="l2", epsilon=2, step_size=0.5),
    }
    before = foreground_dice(_labels(victim, image), mask, 2).item()
    rows = []
    for adversarial in attacks.values():
        after = foreground_dice(_labels(victim, adversarial.images), mask, 2).item()
        change, factor = magnified(adversarial.images[0] - image[0])
        far = (
            f"L2 {l2_norm(adversarial.images - image).item():.2f}, "
            f"Linf {linf_norm(adversarial.images - image).item() * 255:.0f}/255"
        )
        rows.append(
            [
                Tile(change, f"x {factor:.3g}, {far}"),
                Tile(picture(adversarial.images[0])),
                Tile(overlay(image[0], mask[0]), f"Dice before {before:.2f}"),
                Tile(overlay(image[0], _labels(victim, adversarial.images)[0]), f"Dice after {after:.2f}"),
            ]
        )
    return draw(["perturbation", "adversarial", "truth", "prediction"], rows, list(attacks))


def triggered(poisoned: nn.Module, victim: nn.Module, data: SegmentationData) -> NDArray[np.uint8]:
    """Draw what the trigger does to a poisoned victim, and to a clean one."""
    images, _ = _some(data, "nonmembers", 2)
    marked = stamped(images, **TRIGGER)
    queries = [(poisoned, images), (poisoned, marked), (victim, marked)]
    answers = [_labels(network, inputs) for network, inputs in queries]
    rows = []
    for n in range(len(images)):
        tiles = [
            Tile(overlay(inputs[n], answer[n]), f"foreground {answer[n].float().mean():.1%}")
            for (_, inputs), answer in zip(queries, answers, strict=True)
        ]
        rows.append([Tile(picture(images[n])), Tile(picture(marked[n])), *tiles])
    titles = ["clean", "with trigger", "poisoned, clean", "poisoned, trigger", "unpoisoned, trigger"]
    return draw(titles, rows, ["slice 0", "slice 1"])


def signals(victim: nn.Module, data: SegmentationData) -> NDArray[np.uint8]:
    """Draw what each membership attack is shown of a member and of a non-member, both of median loss."""
    rows, names = [], []
    for part in ("members", "nonmembers"):
        images, masks, logits = _answers(victim, data, part)
        losses = dice_cross_entropy_loss(logits, masks)
        n = int(losses.argsort()[len(losses) // 2])
        image, mask, answer = images[n : n + 1], masks[n : n + 1], logits[n : n + 1]
        posterior, entropy = Posterior(entropy=True)(answer, image, mask)[0]
        loss = LossMap()(answer, image, mask)[0, 0]
        both = torch.stack([posterior, mask[0].float(), torch.zeros_like(posterior)])
        rows.append(
            [
                Tile(overlay(image[0], mask[0]), "mia-blind: image and mask"),
                Tile(picture(posterior[None]), "mia-type1: released map"),
                Tile(picture(entropy[None] / np.log(2)), f"its entropy, mean {entropy.mean():.4f}"),
                Tile(picture(both), "mia-type2: map and mask"),
                Tile(picture(loss[None] / 2), f"mia-loss-map, loss {losses[n]:.3f}"),
            ]
        )
        names.append(part[:-1])
    return draw(["", "", "", "", ""], rows, names)


def scores(
    victim: nn.Module, data: SegmentationData, shadow: nn.Module, shadow_data: SegmentationData
) -> NDArray[np.uint8]:
    """Draw the distributions of loss and entropy, and where the shadow puts the threshold."""
    figure = Figure(figsize=(9, 2.8), dpi=100, layout="constrained")
    panels = [("loss of the image", ImageLoss(), "upper right"), ("mean entropy", ImageEntropy(), "best")]
    for axes, (title, signal, legend_position) in zip(figure.subplots(1, 2), panels, strict=True):
        images, masks, logits = _answers(shadow, shadow_data, "members")
        threshold = signal(logits, images, masks).mean().item()
        values = {}
        for part in ("members", "nonmembers"):
            images, masks, logits = _answers(victim, data, part)
            values[part] = signal(logits, images, masks).numpy()
        edges = np.histogram_bin_edges(np.concatenate(list(values.values())), 32)
        for part, seen in values.items():
            axes.hist(seen, edges, alpha=0.6, label=f"the victim's {part}")
        axes.axvline(threshold, color="black", linestyle="--", label="mean of the shadow's members")
        axes.set(xlabel=title, ylabel="slices")
        axes.legend(fontsize=7, loc=legend_position)
    return rendered(figure)


def training_samples(victim: nn.Module, data: SegmentationData) -> NDArray[np.uint8]:
    """Draw what a defended victim is trained on; the victim stands for the teacher of a distilled one."""
    images, masks = _some(data, "members", 2)
    batch = Batch(images, masks, torch.arange(2))
    square = cropped(batch, starts=(20, 10), sides=(48, 48))
    side = mixed(batch, torch.tensor([1, 0]), 0.4)
    marked = stamped(images, **TRIGGER)
    stitched = Stitched(victim, size=48).eval()
    pool, truths, logits = _answers(victim, data, "reference")
    losses = dice_cross_entropy_loss(logits, truths)
    best, worst = int(losses.argmin()), int(losses.argmax())
    taught = predicted(logits)
    false = torch.from_numpy(false_mask(truths[best].numpy().astype(np.uint8), 2)).long()
    rows = [
        [
            Tile(overlay(images[0], masks[0]), "a member"),
            Tile(overlay(square.image[0], square.mask[0]), "crop: what is trained on"),
            Tile(overlay(images[0], _labels(stitched, images[:1])[0]), "crop: asked in squares"),
            Tile(overlay(side.image[0], side.mask[0]), "mixup: partner left, image right"),
            Tile(overlay(marked[0], emptied(masks[:1])[0]), "poisoned: trigger, emptied mask"),
        ],
        [
            Tile(overlay(pool[best], truths[best]), "a reference image"),
            Tile(overlay(pool[best], taught[best]), f"distilled: label, loss {losses[best]:.2f}"),
            Tile(overlay(pool[worst], truths[worst]), "another one"),
            Tile(
                overlay(pool[worst], taught[worst]),
                f"loss {losses[worst]:.2f} > mean {losses.mean():.2f}: left out",
            ),
            Tile(overlay(pool[best], false), "canaries: the mask it gets"),
        ],
    ]
    return draw(["", "", "", "", ""], rows, ["members", "reference"])


def releases(victim: nn.Module, data: SegmentationData) -> NDArray[np.uint8]:
    """Draw the foreground's probability as it is and as each release shows it."""
    image, mask = _some(data, "nonmembers", 1)
    released = {
        "as it is, and --release top": TopNetwork(victim),
        "--release argmax": ArgmaxNetwork(victim),
        "--release rounded": RoundedNetwork(victim),
        "--release noisy": NoisyNetwork(victim),
    }
    maps = []
    for network in released.values():
        with torch.no_grad():
            maps.append(probabilities(final(network.eval()(image)))[0, 1:])
    cut = (slice(None), slice(10, 58), slice(14, 62))
    zoomed = [
        Tile(picture(probability[cut]), f"{np.unique(probability.numpy()).size} values")
        for probability in maps
    ]
    tiles = [Tile(overlay(image[0], mask[0]), "the slice and its truth"), *(Tile(picture(m)) for m in maps)]
    return draw(
        ["", *released],
        [tiles, [Tile(overlay(image[0][cut], mask[0][cut[1:]])), *zoomed]],
        ["whole", "a part of it"],
    )


def opponents(run: Path) -> NDArray[np.uint8]:
    """Draw how the min-max classifier and its victim got on, epoch by epoch."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    records = [line for line in lines if "minmax/classifier_accuracy" in line and "val/dice" in line]
    figure = Figure(figsize=(6, 2.8), dpi=100, layout="constrained")
    axes = figure.subplots()
    epochs = [line["epoch"] for line in records]
    for name, label in (
        ("minmax/classifier_accuracy", "accuracy of the classifier"),
        ("train/dice", "Dice on members"),
        ("val/dice", "Dice on non-members"),
    ):
        axes.plot(epochs, [line[name] for line in records], label=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylim=(0, 1))
    axes.legend(fontsize=8)
    return rendered(figure)


def small(sheet: NDArray[np.uint8]) -> bytes:
    """Return a sheet (H, W, 3) as the PNG of a palette, at most WIDTH pixels wide."""
    image = Image.fromarray(sheet)
    if image.width > WIDTH:
        image = image.resize((WIDTH, round(image.height * WIDTH / image.width)), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    # median cut gives all its colours to the greys; this keeps the tints
    flat = image.quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE)
    flat.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _data(role: Any) -> SegmentationData:
    """Return the data of phantom_victim.yaml, for a role."""
    data = Phantom(size=96, members=64, nonmembers=64, role=role)
    data.prepare_data()
    data.setup()
    return data


def _some(data: SegmentationData, part: Any, count: int) -> tuple[Tensor, Tensor]:
    """Return the first images of a part, and their masks; each of another patient."""
    samples = data.dataset(data.indices(part)[: 2 * count : 2])
    drawn = [samples[0, n] for n in range(count)]
    return torch.stack([sample.image for sample in drawn]), torch.stack([sample.mask for sample in drawn])


@torch.no_grad()
def _answers(network: nn.Module, data: SegmentationData, part: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return all images of a part, their masks, and the network's logits."""
    samples = data.dataset(data.indices(part))
    drawn = [samples[0, n] for n in range(len(samples))]
    images, masks = (
        torch.stack([sample.image for sample in drawn]),
        torch.stack([sample.mask for sample in drawn]),
    )
    return images, masks, torch.cat([final(network(some)) for some in torch.split(images, 16)])


@torch.no_grad()
def _labels(network: nn.Module, images: Tensor) -> Tensor:
    return predicted(final(network(images)))


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"{Path(__file__).name}: error: {error}")
