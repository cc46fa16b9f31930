"""Content of a report, shown on the page and stored in report.json."""

from typing import Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from seg_mia.results.audit import Stage, Victim
from seg_mia.results.base import EXACT, Measure, Number, Result, Settings
from seg_mia.results.certificate import CertificateResult
from seg_mia.results.evidence import Evidence
from seg_mia.results.folds import FoldsResult
from seg_mia.results.leaks import LeakResult
from seg_mia.results.membership import MembershipResult
from seg_mia.results.perturbation import PerturbationResult
from seg_mia.results.recipe import RecipeResult

SCHEMA: Literal["urn:seg_mia:report:3"] = "urn:seg_mia:report:3"
"""Identifier of the layout of report.json; the same as `$id` in schema.json."""

Level = Literal["good", "fair", "bad", "void", "none"]
"""Level of a verdict: nothing found, something, much; void numbers; nothing to judge."""


@dataclass(frozen=True, config=EXACT)
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


class Verdicts(Result):
    """What is made of one row of the comparison, over all of its seeds.

    Attributes:
        row: of the comparison.
        defence: what tables call it.
        leak: of its victims.
        robustness: of its victims.
        privacy: what its trainings promise.
        recipe: on the leak of any network of its recipe, None without a fleet.
        folds: on the leak of the networks of its cross-validation, None without one.
    """

    row: int
    defence: str
    leak: Verdict
    robustness: Verdict
    privacy: Verdict
    recipe: Verdict | None = None
    folds: Verdict | None = None


class SeedSpread(Result):
    """One attack's number over several seeds.

    Attributes:
        row: of the comparison.
        defence: what tables call the victim.
        label: of the attack.
        measures: what the number is.
        mean: over seeds.
        std: over seeds, of a sample.
        values: of each seed.
    """

    row: int
    defence: str
    label: str
    measures: str
    mean: float
    std: float
    values: list[float]


class Exposed(Result):
    """A sample that an attack is surest of; never part of a report without images.

    Attributes:
        kind: member or not, and how it was classified.
        id: salted hash of the sample's id, or the id in a report with `ids`.
        group: salted hash of the patient's name, or the name.
        score: the attack's.
    """

    kind: str
    id: str
    group: str
    score: float


class Report(Result):
    """All that a report says.

    Attributes:
        layout: SCHEMA; `schema` in the file.
        name: of the audit.
        created: when the audit was finished, in ISO 8601.
        seconds: that it took.
        images: whether it shows samples.
        ids: whether it names samples by their ids; by salted hashes otherwise.
        names_in: folders, below that of runs, of `identities.csv`, the owner's table that leads from hashes
            back to names; empty without hashes, or if there is no table.
        tool: versions and machine.
        evidence: ten groups of fields, and the answer to each question by a written rule.
        warnings: what makes other numbers void, or less than they seem.
        verdicts: one per row.
        victims: one per row and seed.
        leaks: what membership attacks show together, for each row that they were run on.
        membership: results of membership attacks.
        folds: results of attacks on the networks of a cross-validation.
        recipes: results of attacks on a recipe, each network of a fleet in turn the victim.
        perturbations: results of the others.
        certificates: what is certain of smoothed predictions.
        seeds: spread over seeds, where there are several.
        exposed: samples that the strongest membership attack is surest of.
        caveats: what to bear in mind of this audit.
        missing: what could not be shown, and why.
        settings: of the audit.
        stages: what was run.
    """

    model_config = ConfigDict(
        alias_generator=lambda field: "schema" if field == "layout" else field, populate_by_name=True
    )

    layout: Literal["urn:seg_mia:report:3"] = SCHEMA
    name: str
    created: str
    seconds: Number
    images: bool
    ids: bool = False
    names_in: list[str] = Field(default_factory=list)
    tool: Settings
    evidence: Evidence
    warnings: list[str]
    verdicts: list[Verdicts]
    victims: list[Victim]
    leaks: list[LeakResult]
    membership: list[MembershipResult]
    recipes: list[RecipeResult] = Field(default_factory=list)
    folds: list[FoldsResult] = Field(default_factory=list)
    perturbations: list[PerturbationResult]
    certificates: list[CertificateResult] = Field(default_factory=list)
    seeds: list[SeedSpread]
    exposed: list[Exposed]
    caveats: list[str]
    missing: list[str]
    settings: Settings
    stages: list[Stage]
