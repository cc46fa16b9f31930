"""Settings of a run's split, and the split that they give on a source of samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from seg_mia.data.source import Source
from seg_mia.data.splits import Split, divide, predefined_split, shadow_split, victim_shadow_split
from seg_mia.errors import InputError

Role = Literal["victim", "shadow"]


@dataclass(frozen=True, kw_only=True)
class SplitSettings:
    """Who is a member, a non-member or a reference image in one run.

    Attributes:
        role: whose half of the data is divided.
        shadow: number of a shadow, whose members are drawn anew from a pool; None for all of a half.
        shadow_pool: the half that numbered shadows are drawn from.
        seed: of all draws.
        shadow_share: share of the groups that the shadow's half gets.
        members: images to train on.
        nonmembers: images that are never trained on.
        reference: images that defences may use; None for what is left.
    """

    role: Role
    shadow: int | None
    shadow_pool: Role
    seed: int
    shadow_share: float
    members: int
    nonmembers: int
    reference: int | None

    def __post_init__(self) -> None:
        """Raise InputError for a number or a pool without a shadow that it belongs to."""
        if self.shadow is None and self.shadow_pool != "shadow":
            raise InputError("shadow_pool goes with a numbered shadow; add --data.shadow 0, or leave it out")
        if self.shadow is not None and self.role != "shadow":
            raise InputError(f"data.shadow numbers shadows, the role is {self.role}; add --data.role shadow")

    def split(
        self, source: Source, duplicates: Sequence[Sequence[str]], strata: Sequence[int] | None
    ) -> Split:
        """Return who plays which part in this run: all of its role's half, or a shadow's draw from a pool.

        Args:
            source: the samples, with groups and, where the data states one, a predefined split.
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
        """Return who plays which part in a role's half: as drawn, or as the data states it."""
        ids, groups, parts = source.ids, source.groups, source.predefined_split
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
            counts = {
                name: parts.count(part) for name, part in (("members", "train"), ("nonmembers", "test"))
            }
            if role == "victim":
                counts = {"members": self.members, "nonmembers": self.nonmembers}
            half, indices = predefined_split(parts, ids, groups, duplicates=duplicates, **counts)
            if role == "victim":
                return half
        return divide(
            indices,
            ids,
            groups,
            seed=self.seed,
            members=self.members,
            nonmembers=self.nonmembers,
            reference=self.reference,
            duplicates=duplicates,
            strata=strata,
        )
