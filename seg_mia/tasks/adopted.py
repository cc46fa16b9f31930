"""Adoption of externally trained networks."""

import logging
from pathlib import Path

from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from seg_mia.callbacks.card import check_restored
from seg_mia.data.base import SegmentationData
from seg_mia.errors import InputError
from seg_mia.models.weights import load_state
from seg_mia.models.wrapper import bare
from seg_mia.tasks.agreement import LEAST, HasReferences, Reference, compared
from seg_mia.tasks.sample_check import check_one_sample
from seg_mia.tasks.sanity_check import warning
from seg_mia.tasks.segmentation import Segmentation

log = logging.getLogger(__name__)


def adopt(
    trainer: Trainer,
    model: LightningModule,
    data: LightningDataModule,
    file: Path,
    *,
    reference: str | None = None,
    least: float | None = None,
) -> None:
    """Load a task's weights, evaluate it on non-members, and write it as the last checkpoint of a run.

    Logs a warning if the network segments nothing there. Predictions of the deployed system, if given or
    stored beside the weights, must agree with the network's.

    Args:
        trainer: runs the evaluation and writes the checkpoint metadata of its callbacks.
        model: task with the weights file as its `weights`; without, if the network has no weights of its own,
            being a file or a service.
        data: data whose members are the network's training samples.
        file: path of the checkpoint.
        reference: folder of the deployed system's predictions; those beside the weights if not given.
        least: lowest accepted agreement, mean Dice; 0.99 if not given.

    Raises:
        InputError: missing or incompatible weights, unreadable checkpoint metadata, NaN or infinite outputs,
            a task beyond plain segmentation, or masks other than the deployed system's.
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
        _compare(model, data, reference, LEAST if least is None else least)
        doubt = warning(model.network, data)
    trainer.validate(model, datamodule=data, verbose=False)
    trainer.save_checkpoint(file)
    if doubt and trainer.is_global_zero:
        log.warning(doubt)


def _has_weights(model: Segmentation) -> bool:
    return any(True for _ in model.network.parameters())


def _compare(model: Segmentation, data: SegmentationData, reference: str | None, least: float) -> None:
    """Compare a network with predictions of the deployed system, if there are any."""
    network = bare(model.network)
    references = list[Reference]()
    if reference is not None:
        references = [Reference(Path(reference), model.network)]
    elif isinstance(network, HasReferences):
        references = [Reference(*pair) for pair in network.references(Path(model.weights or ""))]
    if not references:
        log.info("not compared with the deployed system: --reference-predictions FOLDER does")
        return
    agreement = compared(references, data, least)
    log.info(
        "masks agree with the deployed system's: Dice %.4f on %d of %d predictions, lowest %.3f",
        agreement.dice,
        agreement.samples,
        agreement.available,
        agreement.lowest,
    )
    model.agreement = agreement.plain()
