"""Scores of each attack from the evidence of predictions."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from seg_mia.audit.attacks import PreparedAttack
from seg_mia.audit.predictions.attacks import membership_of
from seg_mia.audit.predictions.evidence import Evidence
from seg_mia.audit.predictions.maps import StoredMaps, map_size, stored_maps
from seg_mia.audit.predictions.settings import PredictionSettings
from seg_mia.data.prediction_files.reader import PredictionFiles
from seg_mia.data.prediction_files.table import SHADOW, VICTIM
from seg_mia.experiment.attack_callbacks import membership_callbacks
from seg_mia.experiment.classifier import ClassifierLearner
from seg_mia.experiment.trainer_checks import for_classifier
from seg_mia.membership.answers import Answers
from seg_mia.membership.base import Membership
from seg_mia.membership.scores import Guesses


@dataclass
class Guesser:
    """Runs attacks on evidence; maps for classifiers lie in a temporary folder while it is open.

    Attributes:
        settings: settings of the audit.
        files: the predictions.
        evidence: numbers of each network.
        folder: folder of the audit.
    """

    settings: PredictionSettings
    files: PredictionFiles
    evidence: dict[str, Evidence]
    folder: Path
    _asked: int = 0
    _maps: dict[str, StoredMaps] = field(default_factory=dict)
    _place: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Self:
        self._place = tempfile.TemporaryDirectory(prefix="maps", dir=self.folder)
        return self

    def __exit__(self, *_: object) -> None:
        self._maps.clear()
        if self._place is not None:
            self._place.cleanup()

    def guesses(self, attack: PreparedAttack) -> Guesses:
        """Return the scores of an attack; attacks on numbers come in the order of their signals.

        The threshold is NaN without a shadow to choose it on.
        """
        membership = membership_of(attack)
        if membership.scorer.maps:
            return self._by_classifier(attack.label, membership)
        signal, self._asked = self._asked, self._asked + 1
        victim, scorer = self.evidence[VICTIM].answers(signal), membership.scorer
        if scorer.needs.queries_judged:
            references = [self.evidence[name].answers(signal) for name in self.files.table.references]
            references = references[: scorer.needs.maximum]
        else:
            references = [self.evidence[SHADOW].answers(signal)] if SHADOW in self.evidence else []
        if references:
            scorer.fit(references)
        return scorer.score(victim, references)

    def _by_classifier(self, label: str, attack: Membership) -> Guesses:
        logs = self.folder / label / "classifier"

        def trainer(number: int) -> Trainer:
            return Trainer(
                accelerator="auto",
                devices=1,
                logger=TensorBoardLogger(logs, "", f"seed_{number}", default_hp_metric=False),
                callbacks=membership_callbacks(attack.scorer),
                enable_progress_bar=False,
                **for_classifier(attack.scorer, ()),
            )

        learner = ClassifierLearner(attack.signal, trainer, self.settings.seed)
        shadow, victim = (self._answers(network) for network in (SHADOW, VICTIM))
        attack.scorer.fit([shadow], learner)
        return self._maps[VICTIM].voted(attack.scorer.score(victim, [shadow]))

    def _answers(self, network: str) -> Answers:
        """Return a network's maps as input of a classifier."""
        if network not in self._maps:
            assert self._place is not None
            shapes = [shape for name in (VICTIM, SHADOW) for shape in self.evidence[name].shapes]
            self._maps[network] = stored_maps(
                self.files, self.evidence[network].rows, Path(self._place.name) / network, map_size(shapes)
            )
        maps = self._maps[network]
        return Answers(
            ids=np.array([str(index) for index in maps.indices]),
            groups=maps.groups,
            members=maps.members,
            judged=np.ones(len(maps), dtype=np.bool_),
            signal=maps,
        )
