"""Scorers on the answers of networks: what they learn, and which shadows they refuse."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from seg_mia.errors import InputError
from seg_mia.membership.answers import Answers, Fleet, answered
from seg_mia.membership.fleet.scorers import Calibrated
from seg_mia.membership.scorers import Classifier, CrossFitted, Threshold

Flags = Sequence[int]


def answers(ids: str, signal: Sequence[float], members: Flags, judged: Flags | None = None) -> Answers:
    """Answers about samples whose names are letters."""
    return Answers(
        ids=np.array(list(ids)),
        groups=np.array(list(ids)),
        members=np.array(members, dtype=bool),
        judged=np.ones(len(ids), dtype=bool) if judged is None else np.array(judged, dtype=bool),
        signal=np.array(signal, dtype=np.float64),
    )


def test_a_threshold_learns_on_its_shadows_own_samples() -> None:
    shadow = answers("stuvw", [0.1, 0.3, 0.6, 1.0, -9.0], [1, 1, 0, 0, 0], [1, 1, 1, 1, 0])
    scorer = Threshold()
    scorer.fit([shadow])
    guesses = scorer.score(answers("ab", [0.2, 0.9], [True, False]), [shadow])
    np.testing.assert_allclose(guesses.scores, [-0.2, -0.9])
    assert guesses.threshold == pytest.approx(-0.2)
    assert guesses.seeds == guesses.last == []


def test_calibration_finds_samples_by_their_names() -> None:
    # The victim's samples are a and b; c, d, e and f are the shadows', each in two of four.
    rows = {
        "abcdef": ([1.0, 3.0, 4.0, 4.0, 5.0, 5.0], "cd"),
        "fedcba": ([4.0, 4.0, 5.0, 5.0, 3.0, 1.0], "ef"),
        "bacdef": ([3.0, 1.0, 4.0, 5.0, 4.0, 5.0], "ce"),
        "cdefab": ([5.0, 4.0, 5.0, 4.0, 1.0, 3.0], "df"),
    }
    fleet = [
        answers(ids, signal, [name in own for name in ids], [name not in "ab" for name in ids])
        for ids, (signal, own) in rows.items()
    ]
    scorer = Calibrated(standardise=False)
    scorer.fit(fleet)
    guesses = scorer.score(answers("ba", [2.0, 1.5], [True, False]), fleet)
    np.testing.assert_allclose(guesses.scores, [1.0, -0.5])
    assert guesses.threshold == pytest.approx(0.5)  # members cost 4, others 5


def test_the_victims_membership_is_not_looked_at() -> None:
    shadow = answers("abcd", [1, 2, 3, 4], [0, 0, 0, 0], [0, 0, 1, 1])
    for members in ([True, False], [False, True]):
        scorer = Calibrated(standardise=False)
        scorer.fit([shadow])
        np.testing.assert_allclose(scorer.score(answers("ab", [0, 0], members), [shadow]).scores, [1, 2])


@dataclass
class Parrot:
    """Stands for a classifier whose scores are its number."""

    number: int
    threshold: float = 0.5

    def scores(self, answers: Answers) -> NDArray[np.float64]:
        return np.full(len(answers.ids), float(self.number))

    def last(self, answers: Answers) -> list[NDArray[np.float64]]:
        return [self.scores(answers)]


def test_a_classifiers_scores_are_the_mean_over_seeds() -> None:
    shadow, scorer = answers("st", [0, 0], [True, False]), Classifier(seeds=3)
    scorer.fit(
        [shadow], lambda settings, given, number: Parrot(number + (settings is scorer and given is shadow))
    )
    guesses = scorer.score(answers("a", [0], [True]), [shadow])
    assert guesses.scores.tolist() == [2.0]
    assert [scores.tolist() for scores, _ in guesses.seeds] == [[1.0], [2.0], [3.0]]
    assert guesses.threshold == 0.5
    assert guesses.last[0].tolist() == [1.0]
    assert scorer.training is scorer
    with pytest.raises(TypeError, match="learner"):
        scorer.fit([shadow])


def test_one_shadow_is_one() -> None:
    shadow = answers("st", [0, 0], [True, False])
    for scorer in (Threshold(), Classifier()):
        with pytest.raises(InputError, match="takes at most 1 shadow, got 2; name fewer"):
            scorer.fit([shadow, shadow])
    with pytest.raises(InputError, match="at least 1 shadows, got 0; train more"):
        Classifier().fit([])
    assert Classifier().needs == Fleet()
    assert Threshold().training is None


def test_numbers_rank_without_a_shadow_and_decide_nothing() -> None:
    scorer = Threshold()
    scorer.fit([])
    guesses = scorer.score(answers("st", [2, 1], [True, False]), [])
    assert guesses.scores.tolist() == [-2, -1]
    assert math.isnan(guesses.threshold)


def test_statistics_of_images_rank_members_where_the_split_is_unfair() -> None:
    members = np.arange(40) % 2 == 0
    victim = answers("".join(map(chr, range(200, 240))), [0.0] * 40, members.tolist())
    features = np.stack([members + 0.1 * np.arange(40) / 40, np.ones(40)], axis=1)
    scorer = CrossFitted()
    scorer.fit([])
    guesses = scorer.score(replace(victim, features=features), [])
    assert guesses.scores[members].min() > guesses.scores[~members].max()
    assert math.isnan(guesses.threshold)
    with pytest.raises(InputError, match="at most 0 shadow"):
        scorer.fit([victim])
    with pytest.raises(TypeError, match="statistics"):
        scorer.score(victim, [])


SEEN = np.array([[True, False, False], [False, True, False]])


@pytest.mark.parametrize(
    ("needs", "telling"),
    [
        (Fleet(maximum=None), "no shadow may be trained on target samples, 2 are"),
        (Fleet(count=3, maximum=None, sampling="offline"), "at least 3 shadows, got 2"),
        (
            Fleet(count=2, maximum=None, sampling="offline"),
            "at least 2 shadows not trained on it, 2 of 3 have",
        ),
        (
            Fleet(maximum=None, sampling="online"),
            "at least 1 shadows trained on it, 1 of 3 have fewer among 2",
        ),
    ],
)
def test_a_fleet_that_does_not_do(needs: Fleet, telling: str) -> None:
    with pytest.raises(InputError, match=telling):
        needs.check(SEEN)


def test_a_fleet_that_does() -> None:
    Fleet(maximum=None, sampling="offline").check(SEEN)
    Fleet(maximum=None, sampling="online").check(SEEN[:, :2])
    Fleet().check(SEEN[:1, 1:])


def test_the_matrix_of_membership_and_a_sample_that_was_not_asked() -> None:
    fleet = [answers("abc", [1, 2, 3], [1, 0, 0]), answers("cb", [4, 5], [1, 0])]
    signals, members = answered(np.array(["b", "c"]), fleet)
    assert signals.tolist() == [[2, 3], [5, 4]]
    assert members.tolist() == [[False, False], [False, True]]
    with pytest.raises(InputError, match="'a' is missing"):
        answered(np.array(["a"]), fleet)
