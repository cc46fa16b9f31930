"""Result of a cross-validation's audit: each case was left out by exactly one of its networks."""

from typing import Literal

from pydantic.dataclasses import dataclass

from seg_mia.results.base import EXACT, Measure, Number, Result
from seg_mia.results.rates import RecipeRate


@dataclass(frozen=True, config=EXACT)
class FoldQuality:
    """Segmentation of one fold's network.

    Attributes:
        fold: name of the fold.
        members: mean Dice on the cases that it was trained on.
        left_out: mean Dice on the cases that it was not trained on.
    """

    fold: str
    members: Number
    left_out: Number


class FoldsResult(Result):
    """Leak of the networks of a cross-validation, without any further training.

    Attributes:
        kind: of result.
        row: row of the comparison.
        defence: name of the victim in tables.
        attacker_knowledge: what the attacker sees.
        networks: number of networks.
        patients: number of patients.
        samples: number of samples.
        levelled_by: cases by whose median each network's level is removed: `imagesTs`, which no network was
            trained on, or `all`.
        lowest: patients whose signal is lowest under the network that left them out.
        chance: expected share of these without a leak.
        share: their share.
        p_value: of as many or more without a leak, exact if folds were drawn at random.
        ranks: number of patients by rank of the signal under the network that left them out, the lowest
            first.
        auc: of telling a network trained on a patient from the one that was not, both relative to the
            others.
        auc_p_value: of an AUC of 0.5 or less.
        rates: at one threshold, chosen on these decisions, by falling false positive rate.
        quality: of each network.
        excluded: cases left out by none or several of the networks, which are not scored.
    """

    kind: Literal["folds"] = "folds"
    row: int = 0
    defence: str
    attacker_knowledge: str
    networks: int
    patients: int
    samples: int
    levelled_by: Literal["imagesTs", "all"]
    lowest: int
    chance: float
    share: Measure
    p_value: float
    ranks: list[float]
    auc: Measure
    auc_p_value: float
    rates: list[RecipeRate]
    quality: list[FoldQuality]
    excluded: int = 0

    @property
    def tpr_at_10(self) -> RecipeRate:
        """Rates at 10 % FPR."""
        return self.rates[0]
