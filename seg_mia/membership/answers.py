"""Signals of networks on samples, and the training set of each network."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from seg_mia.errors import InputError
from seg_mia.membership.arrays import Members, Values

Sampling = Literal["half", "offline", "online"]


class Maps(Protocol):
    """Signals that are maps, read only when a network is trained on them."""

    def __len__(self) -> int:
        """Return the number of samples."""


@dataclass(frozen=True)
class Answers:
    """One network's signals, with the rows of all fields in one order.

    Attributes:
        ids: names of the samples, unique, (n,).
        groups: patient or video of each sample, (n,).
        members: whether the network was trained on the sample or another one of its group, bool (n,).
        judged: evaluation samples, which show how the network treats members and non-members, bool (n,).
            Other samples are only queried, such as the victim's samples on a shadow model.
        signal: float64 (n, ...), or maps. Lower numbers indicate members.
        features: statistics of images and masks, float64 (n, features), for scorers that use them.

    Raises:
        InputError: fields of different lengths.
    """

    ids: NDArray[np.str_]
    groups: NDArray[np.str_]
    members: Members
    judged: Members
    signal: Values | Maps
    features: Values | None = None

    def __post_init__(self) -> None:
        rows = (self.groups, self.members, self.judged, self.signal)
        lengths = [len(field) for field in (*rows, *([] if self.features is None else [self.features]))]
        if set(lengths) != {len(self.ids)}:
            raise InputError(
                f"a network must have a signal for each of {len(self.ids)} samples, and each sample a group "
                f"and a membership, got {', '.join(map(str, lengths))}; query it again"
            )

    @property
    def numbers(self) -> Values:
        """The signal as float64 (n, ...); raises TypeError for maps."""
        if not isinstance(self.signal, np.ndarray):
            raise TypeError("this scorer takes numbers, got maps; use a scorer of maps")
        values: Values = self.signal
        return values


@dataclass(frozen=True)
class Fleet:
    """Shadow models required by a scorer.

    Attributes:
        count: minimum number of shadows. If shadows may be trained on evaluation samples, it is the minimum
            number per sample of shadows not trained on it (offline and online) and of shadows trained on it
            (online).
        maximum: largest useful number of shadows; None for any number.
        sampling: whether shadows may be trained on evaluation samples. `half`: never, and they are queried
            only on their own samples. `offline`: possibly, and only shadows not trained on a sample are used
            for it. `online`: every sample needs shadows trained on it and shadows not trained on it.
        optional: whether scores need no shadow, only the decision threshold does.
    """

    count: int = 1
    maximum: int | None = 1
    sampling: Sampling = "half"
    optional: bool = False

    @property
    def dispensable(self) -> bool:
        """Whether members can be ranked without any shadow."""
        return self.optional or not self.count

    @property
    def queries_judged(self) -> bool:
        """Whether shadows are queried on the evaluation samples."""
        return self.sampling != "half"

    def check_count(self, shadows: int, command: str | None = None) -> None:
        """Raise InputError for too few or too many shadows; `command` as in `check`."""
        if shadows < self.count and (shadows or not self.optional):
            raise InputError(
                f"this attack needs at least {self.count} shadows, got {shadows}; train more: "
                f"{_command(self.count, command)}"
            )
        if self.maximum is not None and shadows > self.maximum:
            raise InputError(
                f"this attack takes at most {self.maximum} shadow{'s' if self.maximum > 1 else ''}, got "
                f"{shadows}; name fewer with --shadow"
            )

    def check(self, seen: Members, command: str | None = None) -> None:
        """Raise InputError unless each evaluation sample has enough shadows with and without it.

        Args:
            seen: training sets of the shadows over the evaluation samples, bool (shadows, n).
            command: command that trained the shadows' fleet, without `--count`, for the message; None if they
                are of no fleet.
        """
        self.check_count(len(seen), command)
        sides = {"not trained": ~seen, "trained": seen} if self.sampling == "online" else {}
        sides = {"not trained": ~seen} if self.sampling == "offline" else sides
        for relation, side in sides.items():
            missing = self.count - side.sum(axis=0)
            if (missing > 0).any():
                raise InputError(
                    f"each target sample needs at least {self.count} shadows {relation} on it, "
                    f"{int((missing > 0).sum())} of {seen.shape[1]} have fewer among {len(seen)}; train "
                    f"more: {_command(len(seen) + 2 * int(missing.max()), command)}"
                )
        if self.sampling == "half" and seen.any():
            raise InputError(
                f"no shadow may be trained on target samples, {int(seen.any(axis=0).sum())} are in a "
                "shadow's training; train one on the other half: fit --data.role shadow"
            )


def _command(count: int, known: str | None) -> str:
    """Return the command that trains a fleet of `count` networks, or of the next even number."""
    even = count + count % 2
    if known is not None:
        return f"{known} --count {even}, which keeps those there are"
    audit = f"fleet: {{count: {max(6, even)}}}"
    return f"python -m seg_mia fleet --config NAME --count {even}, or in an audit {audit}"


def answered(ids: NDArray[np.str_], networks: Sequence[Answers]) -> tuple[Values, Members]:
    """Return the signals of networks on some samples, and their training sets.

    Args:
        ids: names of the samples, (n,).
        networks: each queried on all of these samples, in any order.

    Returns:
        signals float64 (networks, n, ...) and the matrix of membership bool (networks, n).

    Raises:
        InputError: no network, one not queried on a sample, or networks with different signals.
    """
    if not networks:
        raise InputError("at least one network is needed, got none; name a shadow")
    signals, members = list[Values](), list[Members]()
    for answers in networks:
        rows = rows_of(ids, answers)
        signals.append(answers.numbers[rows])
        members.append(answers.members[rows])
    if len({values.shape for values in signals}) > 1:
        shapes = ", ".join(sorted({str(values.shape) for values in signals}))
        raise InputError(f"networks must give the same signals of each sample, got {shapes}; query again")
    return np.stack(signals), np.stack(members)


def rows_of(ids: NDArray[np.str_], answers: Answers) -> NDArray[np.int64]:
    """Return the rows of some samples in a network's signals, (n,); InputError if one is missing or twice."""
    position: dict[str, int] = {name: row for row, name in enumerate(answers.ids.tolist())}
    if len(position) < len(answers.ids):
        raise InputError(
            f"samples must have different names, {len(answers.ids) - len(position)} of {len(answers.ids)} "
            "repeat another one's; rename them"
        )
    try:
        return np.array([position[name] for name in ids.tolist()], dtype=np.int64)
    except KeyError as error:
        raise InputError(
            f"each network must have an output on every sample, {error.args[0]!r} is missing; query it again"
        ) from None


def check_matrix(signals: NDArray[Any], seen: NDArray[Any]) -> None:
    """Raise InputError unless signals are finite (shadows, n) and seen is bool of the same shape."""
    if signals.ndim != 2 or seen.shape != signals.shape or seen.dtype != np.bool_:
        raise InputError(
            f"signals must be (shadows, n) and seen bool of that shape, got {signals.shape} and {seen.dtype} "
            f"{seen.shape}; give a row for each shadow"
        )
    broken = int(np.count_nonzero(~np.isfinite(signals)))
    if broken:
        raise InputError(
            f"signals must be finite, {broken} of {signals.size} are not; check the networks (seg_mia "
            "validate)"
        )
