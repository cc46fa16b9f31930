"""Training by Lightning against a bare loop."""

from collections.abc import Iterator

import torch
from lightning.pytorch import Trainer, seed_everything

from benchmarks.suite.pairs import Pair
from seg_mia.data.sets.phantom import Phantom
from seg_mia.losses import dice_cross_entropy_loss
from seg_mia.models.smp import Smp
from seg_mia.tasks.segmentation import Segmentation

EPOCHS = 6
SAMPLES = 8
"""Times the number of images of an attack."""


def pairs(size: int, count: int) -> Iterator[Pair]:
    """Yield the pair of six epochs on the phantom."""
    half = SAMPLES * count
    data = Phantom(size=size, patients=4 * half, slices=1, members=half, nonmembers=half)
    data.setup()

    def fit() -> float:
        task = _seeded()
        trainer = Trainer(
            max_epochs=EPOCHS,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
        )
        trainer.fit(task, data)
        return _size(task)

    def loop() -> float:
        task = _seeded()
        network, optimizer = task.network.train(), torch.optim.NAdam(task.network.parameters(), lr=1e-3)
        loader = data.train_dataloader()
        for epoch in range(EPOCHS):
            loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
            for image, mask, _ in loader:
                optimizer.zero_grad()
                dice_cross_entropy_loss(network(image), mask).mean().backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        return _size(task)

    yield Pair(
        "fit",
        fit,
        loop,
        "a bare loop over the same batches, without metrics, logging or validation",
        0.97,
        lambda ours, theirs: abs(ours - theirs) / theirs,
        1e-5,
    )


def _seeded() -> Segmentation:
    seed_everything(0, verbose=False)
    return Segmentation(Smp(encoder="resnet18", channels=1, classes=1), lr=1e-3)


def _size(task: Segmentation) -> float:
    """Return the sum of the absolute values of all weights."""
    return float(sum(parameter.detach().double().abs().sum() for parameter in task.parameters()))
