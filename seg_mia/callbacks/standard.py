"""Standard callbacks of training runs."""

from collections.abc import Mapping

from lightning.pytorch import Callback

from seg_mia.callbacks.card import CardWriter
from seg_mia.callbacks.checkpoints import KeptCheckpoint
from seg_mia.callbacks.history import History
from seg_mia.callbacks.hyperparameters import Hyperparameters
from seg_mia.callbacks.panels import Panels
from seg_mia.callbacks.randomness import EpochSeed
from seg_mia.callbacks.scores import Scores
from seg_mia.callbacks.seen_samples import SeenSamples
from seg_mia.runs import BEST, LAST


def fit_callbacks(seed: int, settings: Mapping[str, object], *, segments: bool) -> list[Callback]:
    """Return the callbacks for checkpoint metadata, curves and checkpoints.

    Args:
        seed: seed of the run.
        settings: config, nested, plain values.
        segments: whether masks are predicted; adds Dice, mask panels and the best checkpoint.
    """
    measured = [Scores(), Panels()] if segments else []
    best = [KeptCheckpoint(BEST, monitor="val/dice")] if segments else []
    seen = SeenSamples()
    watched = [seen, CardWriter(seed, seen), EpochSeed(seed), *measured, History(), Hyperparameters(settings)]
    return [*watched, *best, KeptCheckpoint(LAST)]  # the last one also holds the best one's score
