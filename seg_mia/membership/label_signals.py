"""Signals of networks whose labels may overlap: one per label."""

from dataclasses import dataclass

import torch
from torch import Tensor

from seg_mia.membership.signals import Signal
from seg_mia.metrics.label_sets import label_masks, label_names
from seg_mia.models.label_logits import label_logits_of


@dataclass(frozen=True)
class PerLabel(Signal):
    """A signal of each label as a network of two classes: channels of maps side by side, the mean of numbers.

    Args:
        signal: signal of one label.
        labels: number of labels.
    """

    signal: Signal
    labels: int

    def __post_init__(self) -> None:
        for name in ("maps", "queries_victim", "mirrors"):
            object.__setattr__(self, name, getattr(self.signal, name))

    @property
    def attacker_knowledge(self) -> str:
        """As of the signal."""
        return self.signal.attacker_knowledge

    def __call__(self, logits: Tensor, image: Tensor, mask: Tensor) -> Tensor:
        """Return the signal of each sample, from logits and masks of label sets."""
        odds, truth = label_logits_of(logits), label_masks(mask, self.labels)
        parts = [
            self.signal(odds[:, label : label + 1], image, truth[:, label]) for label in range(self.labels)
        ]
        return torch.cat(parts, dim=1) if self.maps else torch.stack(parts).mean(dim=0)


def of_classes(signal: Signal, classes: int) -> Signal:
    """Return a signal for the classes of some data: of labels that may overlap one for each label."""
    names = label_names(classes)
    return PerLabel(signal, len(names)) if names and signal.queries_victim else signal
