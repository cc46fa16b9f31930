"""Split settings of a run, and the resulting split of a source."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from seg_mia.data.source import Source
from seg_mia.data.splits import Split, divide, shadow_split, stated_split, victim_shadow_split
from seg_mia.data.stated_parts import MixedPatients, unmixed
from seg_mia.errors import InputError

Role = Literal["victim", "shadow"]


@dataclass(frozen=True, kw_only=True)
class SplitSettings:
    """Assignment of members, non-members and reference images in one run.

    Attributes:
        role: half of the data to divide.
        shadow: number of a shadow model with members drawn from a pool; None for a whole half.
        shadow_pool: pool of numbered shadow models.
        seed: seed of all draws.
        shadow_share: fraction of samples in the shadow's half.
        members: number of training images; None for all of a stated part.
        nonmembers: number of held-out images; None for all of a stated part.
        reference: number of images for defences; None for the rest.
        mixed_patients: what becomes of patients in several stated parts.
    """

    role: Role
    shadow: int | None
    shadow_pool: Role
    seed: int
    shadow_share: float
    members: int | None
    nonmembers: int | None
    reference: int | None
    mixed_patients: MixedPatients = "refuse"

    def __post_init__(self) -> None:
        """Raise InputError for a number or a pool without a shadow that it belongs to."""
        if self.shadow is None and self.shadow_pool != "shadow":
            raise InputError("shadow_pool needs a numbered shadow; add --data.shadow 0, or leave it out")
        if self.shadow is not None and self.role != "shadow":
            raise InputError(f"data.shadow needs role shadow, got {self.role}; add --data.role shadow")

    def split(
        self, source: Source, duplicates: Sequence[Sequence[str]], strata: Sequence[int] | None
    ) -> Split:
        """Return the split of this run: the whole half of its role, or a shadow model's draw from a pool.

        Args:
            source: samples with groups and, if available, a predefined split.
            duplicates: ids that stay together.
            strata: bin of each sample, (n,); None for a split that is not stratified.

        Raises:
            InputError: too few groups for the counts.
        """
        if self.shadow is None:
            return self._half(self.role, source, duplicates, strata)
        pool = self._half(self.shadow_pool, source, duplicates, strata)
        return shadow_split(
            pool,
            source.ids,
            source.groups,
            shadow=self.shadow,
            seed=self.seed,
            duplicates=duplicates,
            strata=strata,
        )

    def _half(
        self, role: Role, source: Source, duplicates: Sequence[Sequence[str]], strata: Sequence[int] | None
    ) -> Split:
        """Return the random or predefined split of a role's half."""
        ids, groups, parts = source.ids, source.groups, self.parts(source, duplicates)
        if parts is None:
            both = victim_shadow_split(
                ids,
                groups,
                seed=self.seed,
                shadow_share=self.shadow_share,
                duplicates=duplicates,
                strata=strata,
            )
            indices = both[0 if role == "victim" else 1]
        else:
            stated = stated_split(parts, role, members=self.members, nonmembers=self.nonmembers)
            if stated is not None:
                return stated
            indices = tuple(i for i, part in enumerate(parts) if part == "shadow")
        return divide(
            indices,
            ids,
            groups,
            seed=self.seed,
            members=_counted(self.members, "members"),
            nonmembers=_counted(self.nonmembers, "nonmembers"),
            reference=self.reference,
            duplicates=duplicates,
            strata=strata,
        )

    def states_members(self, source: Source) -> bool:
        """Return whether the members of this run are stated, not drawn."""
        stated = source.predefined_split
        if stated is None or self.shadow is not None:
            return False
        return self.role == "victim" or "shadow_train" in stated

    def parts(self, source: Source, duplicates: Sequence[Sequence[str]]) -> tuple[str, ...] | None:
        """Return the stated part of each sample, with patients in several moved; None for a random split.

        Raises:
            InputError: patients in several parts that are not to be moved.
        """
        if source.predefined_split is None:
            return None
        return unmixed(
            source.predefined_split,
            source.ids,
            source.groups,
            duplicates=duplicates,
            mixed=self.mixed_patients,
        )


def _counted(count: int | None, name: str) -> int:
    """Return a number of samples to draw; raise InputError if it is not given."""
    if count is None:
        raise InputError(
            f"{name} must be a number where they are drawn at random, got null; set --data.{name}"
        )
    return count
