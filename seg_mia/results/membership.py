"""Results of membership attacks."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ConfigDict, Field

from seg_mia.membership.roc import Confusion
from seg_mia.results.base import AttackRecord, Measure, Number, Result, Settings, Spread
from seg_mia.results.privacy import DPGuarantee, EpsilonLowerBound
from seg_mia.results.rates import ThresholdRates

Role = Literal["attack", "blind", "control"]
Sampling = Literal["online", "offline"]
"""Whether the attacker's networks may be trained on the evaluated samples."""

RATES = {"0.1": "tpr_at_10", "0.01": "tpr_at_1", "0.001": "tpr_at_01"}
"""Field with the true positive rate at each false positive rate."""
FPRS = tuple(map(float, RATES))


def _in_file(field: str) -> str:
    """Return a field's name in a file."""
    return next((f"tpr_at_fpr_{fpr}" for fpr, name in RATES.items() if name == field), field)


class MembershipMeasures(Result):
    """How well scores tell members from non-members, with 95 % intervals.

    Attributes:
        auc: area under the ROC.
        accuracy: at the threshold; without one it has no value, nor have the next two.
        balanced_accuracy: the same, as if there were as many members as non-members.
        f1: at the threshold.
        tpr_at_10: true positive rate at a false positive rate of 10 %.
        tpr_at_1: at 1 %.
        tpr_at_01: at 0.1 %.
        confusion: counts at the threshold; None without one.
        members: how many were scored.
        nonmembers: how many were scored.
        groups: how many patients or videos they come from.
        threshold: the least score of what is called a member; None where no shadow decides it.
    """

    model_config = ConfigDict(alias_generator=_in_file, populate_by_name=True)

    auc: Measure
    accuracy: Measure
    balanced_accuracy: Measure
    f1: Measure
    tpr_at_10: Measure
    tpr_at_1: Measure
    tpr_at_01: Measure
    confusion: Confusion | None
    members: int
    nonmembers: int
    groups: int
    threshold: Number

    @property
    def rates(self) -> dict[str, Measure]:
        """The true positive rate at each false positive rate."""
        return {fpr: getattr(self, name) for fpr, name in RATES.items()}


class SeedValues(Result):
    """A number of each seed, and what sums them up."""

    mean: float
    std: float
    values: list[float]


class ClassifierSeeds(Result):
    """What several seeds of one membership classifier reach each."""

    auc: SeedValues
    balanced_accuracy: SeedValues


class LastEpochs(Result):
    """Means over a classifier's last epochs, decided at 0, as the published code reports."""

    epochs: int
    accuracy: float
    f1: float


class RegressionFit(Result):
    """The fit of a quantile regression to known non-members, each held out once.

    Attributes:
        nonmembers: number of known non-members.
        explained: fraction of their signal's variance that the features explain.
        nominal_fpr: false positive rate at the threshold, by the fit.
        achieved_fpr: fraction of held-out non-members above it.
        covers: whether the nominal rate explains the achieved one, by the binomial at 1 %.
    """

    nonmembers: int
    explained: float
    nominal_fpr: float
    achieved_fpr: float
    covers: bool


GAUSSIAN = ", for Gaussian noise on all units"
"""Addition to an attack's name for its bound by mu."""


class MembershipScores(Result):
    """All that follows from the scores of one attack.

    Attributes:
        results: over images.
        groups: over patients or videos; None where none has two images.
        certified: the epsilon that the scores show, if samples are independent.
        gaussian: the same for a training whose steps use all units with Gaussian noise, by its mu, which
            shows far more; None for any other training, and in results of an earlier version.
        seeds: of the classifier, where there are several.
        published_mean_of_last_epochs: where it was asked for.
        regression: of an attack that is one.
        thresholds: rates by the origin of the threshold, over patients where there are patients; None with
            fewer than two on a side, and in files of an earlier version.
    """

    results: MembershipMeasures
    groups: MembershipMeasures | None
    certified: EpsilonLowerBound | None
    seeds: ClassifierSeeds | None
    published_mean_of_last_epochs: LastEpochs | None
    regression: RegressionFit | None = None
    thresholds: ThresholdRates | None = None
    gaussian: EpsilonLowerBound | None = None

    @property
    def bounds(self) -> dict[str, EpsilonLowerBound]:
        """Lower bounds on epsilon, by what is added to the attack's name."""
        named = {"": self.certified, GAUSSIAN: self.gaussian}
        return {name: bound for name, bound in named.items() if bound is not None}


class ScoredData(Result):
    """Which samples were scored.

    Attributes:
        fingerprint: of the data.
        split_seed: that halves and parts were cut by.
        limit: how many were scored at most on either side, None for all.
        left_out: how many of the victim's and the shadow's members and non-members are not scored, by reason.
        notes: what is to be known of the samples.
    """

    fingerprint: str
    split_seed: int | None
    limit: int | None
    left_out: dict[str, dict[str, int]]
    notes: list[str]


class MembershipSummary(MembershipScores):
    """What one membership attack reached on one victim: its summary.json.

    Attributes:
        kind: of result.
        attack: its settings.
        attacker_knowledge: what the attacker sees.
        release: settings of what limits the victim's outputs, None without.
        defences: names of those in the training of victim and shadow.
        victim: the attacked checkpoint.
        shadows: the checkpoints that the attacker learnt on.
        blind: the attack never queries the victim: a baseline, which must fail.
        control: the shadow was queried instead of the victim: a negative control, which must fail.
        privacy: what the victim's training promises.
        same_seed: victim and shadow began with the same weights.
        data: which samples were scored.
        victim_queries: images that a victim behind a service was asked, none for stored answers; None for a
            network with weights.
        sampling: `online` if shadows that were trained on a sample count for it, `offline` if only others do;
            None for an attack that compares no networks, and in files of an earlier version.
    """

    kind: Literal["membership"] = "membership"
    attack: Settings
    attacker_knowledge: str
    release: Any
    defences: dict[str, list[str]]
    victim: str
    shadows: list[str]
    blind: bool
    control: bool
    privacy: DPGuarantee | None
    same_seed: bool
    data: ScoredData
    victim_queries: int | None = None
    sampling: Sampling | None = None

    @property
    def role(self) -> Role:
        """An attack, or what an attack is compared with."""
        return "blind" if self.blind else "control" if self.control else "attack"

    @property
    def auc(self) -> Measure:
        """AUC over images."""
        return self.results.auc

    @property
    def rates(self) -> Mapping[str, Measure]:
        """The true positive rate over images at each false positive rate."""
        return self.results.rates

    @property
    def pooled(self) -> Measure | None:
        """AUC over patients or videos, where there are such."""
        return None if self.groups is None else self.groups.auc

    @property
    def pooled_rates(self) -> Mapping[str, Measure]:
        """Rates over patients or videos."""
        return {} if self.groups is None else self.groups.rates


class MembershipResult(MembershipSummary, AttackRecord):
    """The same within an audit.

    Attributes:
        difference: AUC minus that on the first victim, where several are compared.
        scores: how scores of members and non-members lie, where a report has found them.
    """

    difference: Measure | None = None
    scores: dict[str, Spread] = Field(default_factory=dict)
