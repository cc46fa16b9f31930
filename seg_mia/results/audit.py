"""Results of an audit: its audit.json."""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from seg_mia.results.base import Number, Result, Settings, VictimRecord
from seg_mia.results.certificate import CertificateResult
from seg_mia.results.folds import FoldsResult
from seg_mia.results.identity import HashedFile, WeightsIdentity
from seg_mia.results.leaks import LeakResult
from seg_mia.results.membership import MembershipResult
from seg_mia.results.perturbation import PerturbationResult
from seg_mia.results.privacy import CanaryResult, DPGuarantee
from seg_mia.results.recipe import RecipeResult
from seg_mia.results.release_context import ReleaseContext

VERSION: Literal[3] = 3
"""Of the layout of audit.json."""

AttackResult = Annotated[MembershipResult | PerturbationResult, Field(discriminator="kind")]
ATTACK_RESULT: TypeAdapter[MembershipResult | PerturbationResult] = TypeAdapter(AttackResult)


class Victim(VictimRecord):
    """One attacked network.

    Attributes:
        victim: folder of its training, or its checkpoint.
        shadow: how the attacker's own network was trained; None without one.
        utility: measures on `nonmembers` and `members`, by name.
        privacy: what its training promises.
        about: what its checkpoint says: network, data, split, training.
        has_canaries: whether canaries were put into its training.
        canaries: what they prove, where the training has said so.
        from_predictions: only its predictions are given; nothing is known of its training.
        weights: identity of the attacked weights; None if only predictions are given.
        utility_folders: folder of the measures of each image, on `nonmembers` and `members`.
    """

    victim: str
    shadow: Literal["undefended", "defended"] | None
    utility: dict[str, dict[str, Number]]
    privacy: DPGuarantee | None
    about: Settings
    has_canaries: bool = False
    canaries: CanaryResult | None = None
    from_predictions: bool = False
    weights: WeightsIdentity | None = None
    utility_folders: dict[str, str] = Field(default_factory=dict)

    def dice(self, subset: str) -> float | None:
        """Return the mean Dice on members or non-members."""
        return self.utility.get(subset, {}).get("dice")

    @property
    def gap(self) -> float | None:
        """Return how much better it segments members than non-members, in Dice."""
        members, nonmembers = self.dice("members"), self.dice("nonmembers")
        return None if members is None or nonmembers is None else members - nonmembers


class Stage(Result):
    """A step of the audit.

    Attributes:
        name: of the stage.
        command: that does the same.
        seconds: that it took.
        cached: whether an earlier run had done it.
        folder: where its files lie.
        kind: of step.
    """

    name: str
    command: str
    seconds: Number
    cached: bool
    folder: str
    kind: str


class AuditResult(Result):
    """All that an audit has found.

    Attributes:
        version: VERSION.
        name: of the audit.
        created: when it was finished, in ISO 8601.
        seconds: that it took.
        tool: versions and machine.
        settings: of the audit.
        victims: the first victim of each seed.
        attacks: results in the order of the steps.
        defences: one victim per row and seed.
        leaks: what membership attacks show together, for each row that they were run on.
        recipes: attacks on the recipe of a row, by a fleet.
        certificates: what is certain of smoothed predictions, in the order of the steps.
        stages: what was run, or taken from an earlier run.
        release_context: how the network is given out, None if not declared.
        files: digests of checkpoints, scores and results.
    """

    version: Literal[3]
    name: str
    created: str
    seconds: Number
    tool: Settings
    settings: Settings
    victims: list[str]
    attacks: list[AttackResult]
    defences: list[Victim]
    leaks: list[LeakResult]
    recipes: list[RecipeResult] = Field(default_factory=list)
    folds: list[FoldsResult] = Field(default_factory=list)
    certificates: list[CertificateResult] = Field(default_factory=list)
    stages: list[Stage]
    release_context: ReleaseContext | None = None
    files: list[HashedFile] = Field(default_factory=list)

    @property
    def membership(self) -> list[MembershipResult]:
        """Results of membership attacks."""
        return [result for result in self.attacks if isinstance(result, MembershipResult)]

    @property
    def perturbations(self) -> list[PerturbationResult]:
        """Results of attacks that change images."""
        return [result for result in self.attacks if isinstance(result, PerturbationResult)]
