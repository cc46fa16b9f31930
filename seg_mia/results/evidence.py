"""Evidence of an audit, in ten groups of fields: what was tested, how well, and what follows.

The groups are those that regulators ask for (EDPB Opinion 28/2024; EU AI Act, article 15; NIST SP 800-226).
`docs/evidence.md` describes them and the rules of the statements.
"""

from typing import Literal

from pydantic import Field

from seg_mia.results.base import Measure, Number, Result, Settings
from seg_mia.results.evidence_measures import Certificate, CurveOfDice, Promise, Robustness, Utility
from seg_mia.results.identity import HashedFile, WeightsIdentity
from seg_mia.results.release_context import ReleaseContext

Question = Literal["average", "individuals", "recipe", "folds", "evasion", "promise"]
SHORT: dict[Question, str] = {
    "average": "members on average",
    "individuals": "single patients",
    "recipe": "recipe",
    "folds": "cross-validation",
    "evasion": "changed images",
    "promise": "promise of privacy",
}
"""Subject of each question, in few words."""
Answer = Literal["evidence", "resistance", "unresolvable", "void", "absent"]
"""Evidence of leakage or vulnerability, resistance to the attacks in scope, neither; void; not run."""
Tone = Literal["bad", "fair", "plain", "void"]
"""How a page shows an answer; none of them is green."""


class Statement(Result):
    """The answer to one question on one row, by a written rule.

    Attributes:
        row: row of the comparison.
        defence: name of the row in tables.
        question: the question.
        answer: the kind of answer.
        word: the answer in words.
        rule: the rule that gave it, as in `docs/evidence.md`.
        measures: what `measure` is, in words.
        measure: the number it rests on, None where there is none.
        why: what the answer rests on, in a few sentences.
    """

    row: int
    defence: str
    question: Question
    answer: Answer
    word: str
    rule: str
    measures: str
    measure: Measure | None
    why: str

    @property
    def level(self) -> Tone:
        """How a page shows it."""
        tones: dict[Answer, Tone] = {"evidence": "bad", "unresolvable": "fair", "void": "void"}
        return tones.get(self.answer, "plain")


class AuditedNetwork(Result):
    """One attacked network.

    Attributes:
        row: row of the comparison.
        seed: seed of its training.
        defence: name of the row in tables.
        run: folder of its training, or its checkpoint.
        weights: the attacked weights; None if only predictions are given, or in audits of an earlier version.
        architecture: class and main settings of the network; empty if not known.
        records: number of training records; None if not known.
        patients: number of training patients, as far as they were scored; None if not known.
        parameters_per_record: ratio of parameters to training records; None if either is not known.
        fingerprint: digest of ids and contents of its data; empty if not known.
    """

    row: int
    seed: int
    defence: str
    run: str
    weights: WeightsIdentity | None
    architecture: str
    records: int | None
    patients: int | None
    parameters_per_record: Number
    fingerprint: str


class Identity(Result):
    """Group 1: what was audited, by what.

    Attributes:
        audit: name of the audit.
        created: when it was finished, in ISO 8601.
        layout: schema of the report.
        tool: versions and machine.
        seeds: seeds of the victims' trainings.
        networks: the attacked networks.
        audit_sha256: digest of audit.json.
        files: checkpoints, scores and results of the audit, with digests.
    """

    audit: str
    created: str
    layout: str
    tool: Settings
    seeds: list[int]
    networks: list[AuditedNetwork]
    audit_sha256: str
    files: list[HashedFile]


class Coverage(Result):
    """Group 3: one kind of attack, tested or not.

    Attributes:
        kind: kind of attack, in the terms of EDPB Opinion 28/2024.
        tested: whether any attack of this kind was run.
        methods: the attacks, on any row.
        note: what follows from it.
    """

    kind: str
    tested: bool
    methods: list[str]
    note: str


class ThreatModel(Result):
    """Group 4: what one attack needs, and what it cost.

    Attributes:
        row: row of the comparison.
        defence: name of the row in tables.
        attack: name in tables.
        access: what the attacker sees of the victim.
        knowledge: what else the attacker has.
        shadows: number of the attacker's own networks.
        queries: queries of the victim for one patient; None if they were not counted.
        hours: device hours of the attack itself, over all seeds; None if not measured.
        training_hours: device hours of the attacker's networks, shared by the attacks that use them.
        device: device of these hours.
    """

    row: int
    defence: str
    attack: str
    access: str
    knowledge: str
    shadows: int
    queries: Number
    hours: Number
    training_hours: Number
    device: str


class Control(Result):
    """A baseline or negative control, which must be no better than chance.

    Attributes:
        label: name in tables.
        seed: seed of the victim.
        role: a baseline that never queries the victim, or a network that saw none of the samples.
        auc: over patients where there are patients.
        failed: whether an interval lies above chance, over images or over patients.
    """

    label: str
    seed: int
    role: Literal["blind", "control"]
    auc: Measure
    failed: bool


class Scope(Result):
    """Group 5: samples of the membership attacks on one row, and what they can show.

    Attributes:
        row: row of the comparison.
        defence: name of the row in tables.
        unit: what is counted: patients, or images if each is its own patient.
        members: number of units in the training that were scored.
        nonmembers: number of units outside it that were scored.
        records: number of scored records of either side.
        seeds: seeds of the victims.
        false_positives: expected number of units at each false positive rate.
        tests: numbers that are tested jointly.
        detectable: smallest AUC that the joint test would have found with a chance of 80 %; None if none.
        stratified: number of strata in the split; None if the split is not stratified or not known.
        controls: baselines and controls.
        left_out: samples that were not scored, in words.
    """

    row: int
    defence: str
    unit: Literal["patient", "image"]
    members: int
    nonmembers: int
    records: int
    seeds: list[int]
    false_positives: dict[str, float]
    tests: int
    detectable: Number
    stratified: int | None
    controls: list[Control]
    left_out: list[str]


class RateAt(Result):
    """A true positive rate at one false positive rate.

    Attributes:
        fpr: the false positive rate.
        tpr: the true positive rate.
        expected: expected number of false positives.
        ppv: share of right accusations by the prior share of members, from the false positive rate reached;
            None where the rate is not resolvable, or without a false positive.
    """

    fpr: float
    tpr: Measure
    expected: float
    ppv: dict[str, Number]


class UnitResult(Result):
    """Group 6: one attack on one victim, by patient where there are patients.

    Attributes:
        row: row of the comparison.
        defence: name of the row in tables.
        attack: name in tables.
        seed: seed of the victim.
        auc: with its own 95 % interval.
        simultaneous: with an interval that holds for all numbers of the row at once; None if not tested.
        rates: true positive rates, by falling false positive rate.
    """

    row: int
    defence: str
    attack: str
    seed: int
    auc: Measure
    simultaneous: Measure | None
    rates: list[RateAt]


class PatientsAtRisk(Result):
    """Risk of single patients, by a fleet of the recipe.

    Attributes:
        row: row of the comparison.
        defence: name of the row in tables.
        attack: name in tables.
        patients: number of patients.
        exposed: number more exposed than by chance, Benjamini and Hochberg at 5 %.
        worst_decile: mean AUC of the most exposed tenth.
        worst_decile_null: the same without leakage.
    """

    row: int
    defence: str
    attack: str
    patients: int
    exposed: int
    worst_decile: float
    worst_decile_null: Measure


class Limits(Result):
    """Group 10: what the statements do not mean, and when they end.

    Attributes:
        limits: sentences on what is not shown.
        would_change: what would change a statement.
        test_again: when the audit is to be repeated.
        signatures: roles that sign the report.
    """

    limits: list[str]
    would_change: list[str]
    test_again: list[str]
    signatures: list[str]


class Evidence(Result):
    """All groups of fields, and the statements that follow.

    Attributes:
        statements: the answer to each question, row by row.
        identity: group 1.
        release: group 2, as declared; None if nothing is declared.
        coverage: group 3.
        threats: group 4.
        scope: group 5.
        units: group 6, by attack.
        patients: group 6, by patient.
        promises: group 7.
        robustness: group 8, by attack.
        curves: group 8, over the radius.
        certificates: group 8, what is certain of smoothed networks.
        utility: group 9.
        limits: group 10.
    """

    statements: list[Statement]
    identity: Identity
    release: ReleaseContext | None
    coverage: list[Coverage]
    threats: list[ThreatModel]
    scope: list[Scope]
    units: list[UnitResult]
    patients: list[PatientsAtRisk] = Field(default_factory=list)
    promises: list[Promise]
    robustness: list[Robustness]
    curves: list[CurveOfDice] = Field(default_factory=list)
    certificates: list[Certificate] = Field(default_factory=list)
    utility: list[Utility]
    limits: Limits
