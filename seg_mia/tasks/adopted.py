"""A network that was trained elsewhere, taken as it is."""

from pathlib import Path

from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from seg_mia.errors import InputError
from seg_mia.models.weights import load_state
from seg_mia.models.wrapper import bare
from seg_mia.tasks.segmentation import Segmentation


def adopt(trainer: Trainer, model: LightningModule, data: LightningDataModule, file: Path) -> None:
    """Load a task's weights, measure it on non-members, and write it as a training's last checkpoint.

    Args:
        trainer: measures, and writes its callbacks' card.
        model: with the weights' file as its `weights`.
        data: whose members are those that the network was trained on.
        file: the checkpoint.

    Raises:
        InputError: no weights, weights that do not fit, or a task that does more than segment.
    """
    if not isinstance(model, Segmentation) or model.weights is None:
        raise InputError("adopt takes the weights of a segmentation network; name them, --model.weights FILE")
    if model.defences:
        raise InputError("an adopted network stays as it was trained; leave out --defence and model.defences")
    load_state(bare(model.network), model.weights)
    model.adopted = True
    trainer.validate(model, datamodule=data, verbose=False)
    trainer.save_checkpoint(file)
