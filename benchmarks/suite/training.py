"""`fit` with its callbacks against a bare loop."""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger
from torch.optim import NAdam

from benchmarks.suite.pairs import Pair
from benchmarks.suite.sizes import Sizes
from seg_mia.callbacks.standard import fit_callbacks
from seg_mia.data.base import SegmentationData
from seg_mia.data.sets.phantom import Phantom
from seg_mia.losses import dice_cross_entropy_loss
from seg_mia.metrics.overlap import foreground_dice
from seg_mia.models.heads import predicted
from seg_mia.models.smp import Smp
from seg_mia.tasks.segmentation import Segmentation


def pairs(sizes: Sizes) -> Iterator[Pair]:
    """Yield the pair of a training on the phantom."""
    count = sizes.fit_samples
    data = Phantom(size=sizes.side, patients=4 * count, slices=1, members=count, nonmembers=count)
    data.setup()
    epochs, first = sizes.fit_epochs, sizes.fit_first
    settings = {"encoder": sizes.encoder, "channels": 1, "classes": 1}
    ours, baseline = (partial(way, data, settings) for way in (_fit, _loop))
    yield Pair(
        name="fit, further epochs",
        ours=partial(ours, epochs),
        baseline=partial(baseline, epochs),
        what="a bare loop: training, Dice of validation and a checkpoint in each epoch",
        target=0.97,
        difference=lambda ours, theirs: abs(ours - theirs) / theirs,
        allowed=1e-5,
        brief=(partial(ours, first), partial(baseline, first)),
        share=first / (epochs - first),
    )


def _fit(data: SegmentationData, settings: dict[str, Any], epochs: int) -> float:
    """Train with everything that the command adds: metrics, curves, panels, records, two checkpoints."""
    task = _seeded(settings)
    task.hparams["network"] = {"class_path": "seg_mia.models.smp.Smp", "init_args": settings}
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            logger=TensorBoardLogger(folder, "fit", default_hp_metric=False),
            callbacks=fit_callbacks(0, {}, segments=True),
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            deterministic="warn",
        )
        trainer.fit(task, data)
    return _size(task)


def _loop(data: SegmentationData, settings: dict[str, Any], epochs: int) -> float:
    task = _seeded(settings)
    network, optimizer = task.network, NAdam(task.network.parameters(), lr=1e-3)
    loader, held_out = data.train_dataloader(), data.val_dataloader()
    with tempfile.TemporaryDirectory() as folder:
        for epoch in range(epochs):
            network.train()
            loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
            for image, mask, _ in loader:
                optimizer.zero_grad()
                dice_cross_entropy_loss(network(image), mask).mean().backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            network.eval()
            with torch.no_grad():
                dice = [foreground_dice(predicted(network(image)), mask, 2) for image, mask, _ in held_out]
            content = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save(content | {"dice": torch.cat(dice).mean()}, Path(folder) / "last.ckpt")
    return _size(task)


def _seeded(settings: dict[str, Any]) -> Segmentation:
    seed_everything(0, verbose=False)
    return Segmentation(Smp(**settings), lr=1e-3)


def _size(task: Segmentation) -> float:
    """Return the sum of the absolute values of all weights."""
    return float(sum(parameter.detach().double().abs().sum() for parameter in task.parameters()))
