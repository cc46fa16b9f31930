"""Level and scale of each network's signals, over samples of like shares of members."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from seg_mia.errors import InputError, refuse_idle
from seg_mia.membership.answers import Answers
from seg_mia.membership.arrays import Members, Values
from seg_mia.membership.fleet.arrays import NORMAL_MAD, finite

Level = Literal["evaluated", "outside"]


class Levels:
    """Takes level and scale out of networks' signals, as `seg_mia.membership.fleet.arrays.standardised`.

    Medians describe networks with other shares of members at different points: with 20 % or 80 % of members
    in one network and half in the others, a threshold of the others at a false positive rate of 10 % reached
    24 % and 2 % in simulated fleets; the AUC changes by 0.01. A shadow's are therefore taken over its own
    evaluation samples, about half of them members, also where it is compared on samples of the other half,
    and a victim's over the evaluated ones; or all over samples outside all trainings, without members in any
    network (tests/membership/fleet/test_scorers.py).

    Of several signals those are used that differ between the samples that give the level, in every network:
    a signal may be constant for one kind of released output.

    Args:
        level: `evaluated`, or `outside` all trainings (`know`).
        standardise: whether level and scale are removed; otherwise only signals are chosen.

    Raises:
        InputError: a level that is not taken out.
    """

    def __init__(self, level: Level, *, standardise: bool) -> None:
        if not standardise:
            refuse_idle("without standardise", level=(level, "evaluated"))
        self.level = level
        self.standardise = standardise
        self.outside: Values | None = None
        self._samples = list[Values]()
        self._kept: Members | None = None

    def know(self, victim: Answers | None, shadows: Sequence[Answers]) -> None:
        """Keep signals outside all trainings, higher for members, the victim's last; none if it is None."""
        self.outside = None if victim is None else np.stack([-known.numbers for known in (*shadows, victim)])

    def fit(self, signals: Values, judged: Members) -> Values:
        """Return the shadows' signals without levels, which are kept.

        Args:
            signals: higher for members, (shadows, n) or (shadows, n, signals).
            judged: each shadow's own samples, bool (shadows, n).

        Raises:
            InputError: values that are not finite, a signal that is constant, a level `outside` without
                such samples.
        """
        values = finite(signals, "signals")
        if self.level == "outside":
            self._samples = list(self._known()[: len(values)])
        else:
            self._samples = [row[own] if own.any() else row for row, own in zip(values, judged, strict=True)]
        self._kept = _varying(self._samples) if values.ndim == 3 else None
        return self._without(values, self._samples)

    def narrows(self, victim: Values) -> bool:
        """Return whether a victim, (n,) or (n, signals), has fewer signals that differ; they are then used.

        Raises:
            InputError: no signal differs in every network.
        """
        if self._kept is None:
            return False
        kept = _varying([*self._samples, self._of_victim(victim)])
        fewer = bool((kept != self._kept).any())
        self._kept = kept
        return fewer

    def of_shadows(self, signals: Values) -> Values:
        """Return signals as given to `fit` without levels, of those that the victim has, too."""
        return self._without(signals, self._samples)

    def apply(self, signals: Values) -> Values:
        """Return signals without levels, the victim's first, then the shadows' of `fit` in their order."""
        values = finite(signals, "signals")
        if len(values) != len(self._samples) + 1:
            raise InputError(
                f"the shadows must be those of the fit, {len(self._samples)}, got {len(values) - 1}; fit "
                "again"
            )
        return self._without(values, [self._of_victim(values[0]), *self._samples])

    def _of_victim(self, victim: Values) -> Values:
        return self._known()[-1] if self.level == "outside" else victim

    def _known(self) -> Values:
        if self.outside is None:
            raise InputError(
                "level outside needs samples outside all networks' training, got none; keep some back by "
                "data.reference, or leave --attack.scorer.level out"
            )
        return finite(self.outside, "signals")

    def _without(self, values: Values, samples: Sequence[Values]) -> Values:
        """Return the signals used of each network, less their median over its samples, over 1.4826 MAD."""
        used: Members | slice = slice(None) if self._kept is None else self._kept
        chosen = values[:, :, used] if values.ndim == 3 else values
        if not self.standardise:
            return chosen
        rows = list[Values]()
        for number, (row, known) in enumerate(zip(chosen, samples, strict=True)):
            level = known[:, used] if known.ndim == 2 else known
            spread, middle = _spread(level), np.median(level, axis=0)
            if (spread == 0).any():
                raise InputError(
                    "the signals of a network must differ between samples, got equal ones on half of the "
                    f"samples or more for network {number}; leave the network out, or use signals without "
                    "rounding"
                )
            rows.append((row - middle) / spread)
        return np.stack(rows)


def _spread(samples: Values) -> NDArray[np.float64]:
    """Return 1.4826 times the median absolute deviation of samples, (n, ...), of each signal.

    Raises:
        InputError: no sample.
    """
    if not len(samples):
        raise InputError(
            "every network's level needs samples, got none; name shadows and a victim with samples to judge"
        )
    deviation = np.abs(samples - np.median(samples, axis=0))
    return np.asarray(NORMAL_MAD * np.median(deviation, axis=0), dtype=np.float64)


def _varying(samples: Sequence[Values]) -> Members:
    """Return which signals differ between each network's samples, (n, signals) each, bool (signals,)."""
    spread = np.stack([_spread(known) for known in samples])
    varying = np.asarray((spread > 0).all(axis=0), dtype=np.bool_)
    if not varying.any():
        raise InputError(
            f"one of the {len(varying)} signals must differ between samples in every network, got equal "
            "ones on half of the samples or more; use signals without rounding"
        )
    return varying
