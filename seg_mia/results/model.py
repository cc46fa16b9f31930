"""What a report says, in plain values: the page shows these numbers, and `report.json` holds them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from seg_mia.membership.tradeoff import Permitted
from seg_mia.results.leaks import LeakTested

SCHEMA = "urn:seg_mia:report:1"
"""Names the form of `report.json`; the same as `$id` in schema.json."""

Kind = Literal["attack", "blind", "control"]
Level = Literal["good", "fair", "bad", "void", "none"]
"""How a verdict is meant: nothing found, something, much; numbers that mean nothing; nothing to judge."""


@dataclass(frozen=True)
class Measure:
    """A number with its 95 % interval; None where there is none.

    `resolvable` is whether the samples suffice to show a rate at all.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    resolvable: bool = True


@dataclass(frozen=True)
class Place:
    """Which victim: `round` counts seeds and `row` defences, both from 0."""

    seed: int
    round: int
    row: int
    defence: str


@dataclass(frozen=True)
class Proved:
    """The epsilon that an attack's right guesses prove, and the most that they could have."""

    epsilon: float | None
    most: float | None
    confidence: float | None
    unit: str | None
    delta: float | None


@dataclass(frozen=True)
class Spread:
    """Five numbers that sum up the scores of one side."""

    count: int
    lowest: float
    lower_quartile: float
    median: float
    upper_quartile: float
    highest: float


@dataclass(frozen=True)
class Guessed:
    """What a membership attack reached on one victim.

    Attributes:
        place: which victim.
        name: of the attack.
        label: the name, and what tells it from others of that name.
        kind: an attack, the blind baseline, or the negative control.
        sees: what the attacker sees.
        folder: where its files lie.
        members: how many were scored.
        nonmembers: the same.
        auc: over images.
        balanced_accuracy: at the threshold that the shadow taught.
        rates: the true positive rate at each false positive rate.
        group_count: how many patients or videos, where images have such.
        group_sides: how many of these are members, and how many are not.
        pooled: AUC over these.
        pooled_rates: rates over these.
        proved: of epsilon.
        difference: AUC minus that on the first victim.
        same_seed: victim and shadow began with the same weights.
        limit: how many samples were scored at most, if that was limited.
        left_out: how many of the victim's members and non-members are not scored, by the reason.
        notes: what is to be known of the victim's samples.
        fingerprint: of the data.
        settings: of the attack, as plain values.
        scores: how scores of members and non-members lie, where their file is at hand.
    """

    place: Place
    name: str
    label: str
    kind: Kind
    sees: str
    folder: str
    members: int
    nonmembers: int
    auc: Measure
    balanced_accuracy: Measure
    rates: Mapping[str, Measure]
    group_count: int | None = None
    group_sides: tuple[int, int] | None = None
    pooled: Measure | None = None
    pooled_rates: Mapping[str, Measure] = field(default_factory=dict)
    proved: Proved | None = None
    difference: Measure | None = None
    same_seed: bool = False
    limit: int | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    fingerprint: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Spread] = field(default_factory=dict)


@dataclass(frozen=True)
class Average:
    """A measure over the attacked images."""

    mean: float | None
    std: float | None
    min: float | None
    median: float | None
    max: float | None


@dataclass(frozen=True)
class Success:
    """How often one loss succeeded, of the images that count."""

    asked: str
    loss: str
    images: int
    skipped: int
    clean_success: int
    no_gradient: int
    counted: int
    successes: int
    rate: Measure
    steps: float | None
    mean_iou: float | None
    transferred: float | None


@dataclass(frozen=True)
class Fooled:
    """What a perturbation did to one victim.

    Attributes:
        place: which victim.
        name: of the attack.
        label: the name, and what tells it from others of that name.
        sees: what the attacker sees.
        folder: where its files lie.
        asks: whether a mask was asked for; otherwise the target is the true mask.
        subset: which samples were attacked.
        images: how many.
        units: of how many patients, images where each is a patient of its own.
        unchanged: how many of them the attack left as they were.
        no_gradient: of how many of them an attack that follows gradients had none.
        results: each measure's average over images.
        success: a row per loss, where rates were counted.
        strengths: a row per strength, where several were tried.
        settings: of the attack, as plain values.
    """

    place: Place
    name: str
    label: str
    sees: str
    folder: str
    asks: bool
    subset: str | None
    images: int
    units: int
    unchanged: int
    results: Mapping[str, Average]
    success: list[Success] = field(default_factory=list)
    strengths: list[dict[str, float | None]] = field(default_factory=list)
    settings: Mapping[str, Any] = field(default_factory=dict)
    no_gradient: int = 0

    @property
    def untested(self) -> str:
        """Why this says nothing of how robust the victim is, nothing where it does."""
        if not self.images:
            return "no image was attacked"
        if self.success and not any(row.counted for row in self.success):
            return "no image counts"
        if 2 * self.no_gradient > self.images:
            return f"no gradient reached {self.no_gradient} of {self.images} images"
        if self.unchanged >= self.images and not self.success:
            return f"none of {self.images} images was changed"
        return ""

    def mean(self, name: str) -> float | None:
        """Return a measure's mean, None where it was not taken."""
        return self.results[name].mean if name in self.results else None


@dataclass(frozen=True)
class Promise:
    """What a differentially private training promises; epsilon is None where it is infinite.

    Attributes:
        declared: the number of units was declared; else it is taken as public, and so not protected.
        permitted: the most that attacks on one unit may reach; None where no delta is known.
    """

    epsilon: float | None
    delta: float | None
    unit: str
    units: int | None
    budget: float | None
    noise: float | None
    clip: float | None
    rate: float | None
    steps: int | None
    accountant: str | None
    reproducible: bool
    declared: bool = False
    permitted: Permitted | None = None


@dataclass(frozen=True)
class Canaries:
    """What mislabelled images, put into a training to be found again, prove of it.

    Attributes:
        inserted: how many.
        left_out: how many were drawn, too, and not put in.
        auc: of telling the ones from the others.
        certified: by the rates at a threshold, as if the samples of one training were independent.
        one_run: by the number of right guesses, however these samples hang together.
        promise: of the training that was asked, None without one.
    """

    inserted: int
    left_out: int
    auc: float | None
    certified: Proved
    one_run: Proved
    promise: Promise | None


@dataclass(frozen=True)
class Victim:
    """One attacked network.

    Attributes:
        place: seed and defence.
        run: its folder.
        shadow: how the attacker's own network was trained: undefended, defended, or None without one.
        utility: measures on `nonmembers` and `members`, by name.
        promise: of differential privacy.
        about: what its card says: network, data, split, training.
        canaries: what those in its training prove, where there were any.
    """

    place: Place
    run: str
    shadow: str | None
    utility: Mapping[str, Mapping[str, float | None]]
    promise: Promise | None
    about: Mapping[str, Any]
    canaries: Canaries | None = None

    def dice(self, subset: str) -> float | None:
        """Return the mean Dice on members or non-members."""
        return self.utility.get(subset, {}).get("dice")

    @property
    def gap(self) -> float | None:
        """Return how much better it segments members than non-members, in Dice."""
        inside, outside = self.dice("members"), self.dice("nonmembers")
        return None if inside is None or outside is None else inside - outside


@dataclass(frozen=True)
class Stage:
    """A step of the audit; `kept` where an earlier run had done it."""

    what: str
    command: str | None
    seconds: float | None
    kept: bool
    folder: str | None


@dataclass(frozen=True)
class Verdict:
    """A judgement in words, the number it rests on, and why.

    Attributes:
        level: how it is meant.
        word: the judgement.
        measures: what `measure` is, in words.
        measure: the number, None where there is none.
        why: what the word rests on, in one or two sentences.
    """

    level: Level
    word: str
    measures: str
    measure: Measure | None
    why: str


@dataclass(frozen=True)
class Verdicts:
    """What is made of one row of the comparison, over all of its seeds."""

    row: int
    defence: str
    leak: Verdict
    robustness: Verdict
    privacy: Verdict


@dataclass(frozen=True)
class OverSeeds:
    """One attack's number over several seeds."""

    defence: str
    label: str
    measures: str
    mean: float
    std: float
    values: list[float]


@dataclass(frozen=True)
class Exposed:
    """A sample that an attack is surest of; never part of a report without images."""

    kind: str
    id: str
    group: str
    score: float


@dataclass(frozen=True)
class Report:
    """All that a report says; `schema` names its form.

    Attributes:
        schema: SCHEMA.
        name: of the audit.
        created: when it was finished, as the audit says it.
        seconds: that it took.
        images: whether it shows and names samples.
        tool: versions and machine.
        warnings: what makes other numbers void, or less than they seem.
        verdicts: one per row.
        victims: one per row and seed.
        leaks: what membership attacks show together, for each row that they were run on.
        membership: results of membership attacks.
        perturbations: results of the others.
        seeds: spread over seeds, where there are several.
        exposed: samples that the strongest membership attack is surest of.
        caveats: what to bear in mind of this audit.
        missing: what could not be shown, and why.
        settings: of the audit.
        stages: what was run.
    """

    schema: str
    name: str
    created: str | None
    seconds: float | None
    images: bool
    tool: Mapping[str, Any]
    warnings: list[str]
    verdicts: list[Verdicts]
    victims: list[Victim]
    leaks: list[LeakTested]
    membership: list[Guessed]
    perturbations: list[Fooled]
    seeds: list[OverSeeds]
    exposed: list[Exposed]
    caveats: list[str]
    missing: list[str]
    settings: Mapping[str, Any]
    stages: list[Stage]
