"""Adoption of externally trained networks."""

import logging
from pathlib import Path

from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from seg_mia.callbacks.card import check_restored
from seg_mia.data.base import SegmentationData
from seg_mia.errors import InputError
from seg_mia.models.weights import load_state
from seg_mia.models.wrapper import bare
from seg_mia.tasks.sample_check import check_one_sample
from seg_mia.tasks.sanity_check import warning
from seg_mia.tasks.segmentation import Segmentation

log = logging.getLogger(__name__)


def adopt(trainer: Trainer, model: LightningModule, data: LightningDataModule, file: Path) -> None:
    """Load a task's weights, evaluate it on non-members, and write it as the last checkpoint of a run.

    Logs a warning if the network segments nothing there.

    Args:
        trainer: runs the evaluation and writes the checkpoint metadata of its callbacks.
        model: task with the weights file as its `weights`; without, if the network has no weights of its own,
            being a file or a service.
        data: data whose members are the network's training samples.
        file: path of the checkpoint.

    Raises:
        InputError: missing or incompatible weights, unreadable checkpoint metadata, NaN or infinite outputs,
            or a task beyond plain segmentation.
    """
    if not isinstance(model, Segmentation) or (model.weights is None and _has_weights(model)):
        raise InputError(
            "adopt needs the weights of a segmentation network, got none; set --model.weights FILE"
        )
    if model.weights is not None and not _has_weights(model):
        raise InputError(
            f"{type(bare(model.network)).__name__} has no weights of its own to load; leave out "
            "--model.weights"
        )
    if model.defences:
        raise InputError(
            "defences apply to a training, and adopt trains nothing; leave out --defence and model.defences"
        )
    if model.weights is not None:
        load_state(bare(model.network), model.weights, model.weights_key)
    check_restored(model)
    model.adopted = True
    doubt = None
    if isinstance(data, SegmentationData):
        data.setup("validate")
        model.choose_output(data, trained=True)
        check_one_sample(model.network, data)
        doubt = warning(model.network, data)
    trainer.validate(model, datamodule=data, verbose=False)
    trainer.save_checkpoint(file)
    if doubt and trainer.is_global_zero:
        log.warning(doubt)


def _has_weights(model: Segmentation) -> bool:
    return any(True for _ in model.network.parameters())
