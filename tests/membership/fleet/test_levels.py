"""Levels of networks: over like shares of members, or over samples outside all trainings."""

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from seg_mia.errors import InputError
from seg_mia.experiment.membership import _warn_of_levels
from seg_mia.membership import auc
from seg_mia.membership.answers import Answers
from seg_mia.membership.fleet.scorers import Base, Calibrated, Lira, Rmia
from seg_mia.results.evaluation import membership_scores
from tests.membership.fleet.test_scorers import IDS, fleet
from tests.membership.fleet.worlds import members_of, signals_of


def skewed(share: float, seed: int) -> tuple[list[Answers], list[Answers]]:
    """Return victim and 16 shadows on 500 samples, of which a share is the victim's, and 300 outside."""
    generator = np.random.default_rng(seed)
    inside = np.zeros((17, 800), dtype=np.bool_)
    inside[0, :500] = generator.permutation(500) < share * 500
    inside[1:, :500] = members_of(generator, 16, 500)
    effects = 1.5 * generator.gamma(2, 0.5, 800)
    signals = generator.normal(size=800) + effects * inside + 0.7 * generator.normal(size=inside.shape)
    signals = np.exp(0.3 * generator.normal(size=(17, 1))) * signals + generator.normal(size=(17, 1))
    names = np.char.zfill(np.arange(800).astype(str), 3)
    known = np.ones(800, dtype=np.bool_)
    return tuple(  # type: ignore[return-value]
        [
            Answers(names[part], names[part], row[part], known[part], -values[part])
            for row, values in zip(inside, signals, strict=True)
        ]
        for part in (slice(500), slice(500, None))
    )


@pytest.mark.parametrize("kind", [Lira, Calibrated])
@pytest.mark.parametrize(("share", "shifted"), [(0.2, 0.24), (0.5, 0.1), (0.8, 0.02)])
def test_levels_over_samples_outside_keep_thresholds_at_any_share_of_members(
    kind: type[Lira | Calibrated], share: float, shifted: float
) -> None:
    reached, by_patient = dict[str, list[float]](), dict[str, list[float]]()
    areas = dict[str, list[float]]()
    for seed in range(4):
        judged, outside = skewed(share, seed)
        for scorer in (kind(), kind(level="outside")):
            assert scorer.by_population == (scorer.level == "outside")
            if scorer.by_population:
                scorer.know(outside[0], outside[1:])
            scorer.fit(judged[1:])
            guesses = scorer.score(judged[0], judged[1:])
            rates = membership_scores(guesses, judged[0].members, judged[0].groups).thresholds
            assert rates is not None
            reached.setdefault(scorer.level, []).append(rates.transferred[0].achieved_fpr.value or 0.0)
            by_patient.setdefault(scorer.level, []).append(rates.calibrated[0].achieved_fpr.value or 0.0)
            areas.setdefault(scorer.level, []).append(auc(guesses.scores, judged[0].members))
    assert np.mean(reached["evaluated"]) == pytest.approx(shifted, abs=0.04)
    # 100 to 400 non-members in each of four worlds.
    assert np.mean(reached["outside"]) == pytest.approx(0.1, abs=0.05)
    # The level itself is estimated on 300 samples, and the likelihood ratio of 16 references has a wider
    # spread than that of the 14 of a shadow in turn.
    assert np.mean(by_patient["outside"]) == pytest.approx(0.1, abs=0.08)
    assert np.mean(areas["evaluated"]) == pytest.approx(np.mean(areas["outside"]), abs=0.03)


def other_half(seed: int) -> tuple[Answers, list[Answers]]:
    """Return a victim on 500 samples, and 16 shadows with members among 500 others, queried on all."""
    generator = np.random.default_rng(seed)
    inside = np.zeros((17, 1000), dtype=np.bool_)
    inside[0, :500] = generator.permutation(500) < 250
    inside[1:, 500:] = members_of(generator, 16, 500)
    signals = signals_of(generator, inside, effect=1.5, difficulty=1.0, level=1.0)
    names = np.char.zfill(np.arange(1000).astype(str), 3)
    own = np.arange(1000) >= 500
    shadows = [
        Answers(names, names, row, own, -values) for row, values in zip(inside[1:], signals[1:], strict=True)
    ]
    return Answers(names[~own], names[~own], inside[0, ~own], ~own[~own], -signals[0, ~own]), shadows


@pytest.mark.parametrize("kind", [partial(Lira, mode="offline"), Calibrated])
def test_shadows_of_the_other_half_decide_at_the_nominal_rate(kind: Callable[[], Lira | Calibrated]) -> None:
    """Levels of shadows are over their own samples, half of them members, as the victim's over its own."""
    reached = list[float]()
    for seed in range(4):
        victim, shadows = other_half(seed)
        scorer = kind()
        scorer.fit(shadows)
        rates = membership_scores(scorer.score(victim, shadows), victim.members, victim.groups).thresholds
        assert rates is not None
        assert rates.calibrated == [], "no shadow has members among these samples"
        reached.append(rates.transferred[0].achieved_fpr.value or 0.0)
    assert np.mean(reached) == pytest.approx(0.1, abs=0.05)


def test_a_signal_that_is_constant_where_levels_are_taken_is_left_out_and_stops_nothing() -> None:
    victim, shadows, _, inside = fleet(8, signals=2)
    outside = [
        Answers(IDS[:50], IDS[:50], np.zeros(50, dtype=np.bool_), np.ones(50, dtype=np.bool_), values)
        for values in np.random.default_rng(3).normal(size=(9, 50, 2)) * [1.0, 0.0]
    ]
    scorer, first = Lira(level="outside"), Lira(level="outside")
    scorer.know(outside[0], outside[1:])
    scorer.fit(shadows)
    first.know(*(_first(outside)[0], _first(outside)[1:]))
    first.fit(_first(shadows))
    expected = first.score(_first([victim])[0], _first(shadows)).scores
    np.testing.assert_allclose(scorer.score(victim, shadows).scores, expected)
    assert auc(expected, inside[0]) > 0.7


def _first(networks: list[Answers]) -> list[Answers]:
    """Return answers with the first signal alone, as the only one of several."""
    return [replace(answers, signal=answers.numbers[:, :1]) for answers in networks]


def test_thresholds_are_of_the_signals_that_the_victim_has() -> None:
    victim, shadows, _, _ = fleet(8, signals=2)
    constant = replace(victim, signal=victim.numbers * [1.0, 0.0])
    scorer, alone = Lira(), Lira()
    scorer.fit(shadows)
    alone.fit(_first(shadows))
    found, expected = scorer.score(constant, shadows), alone.score(_first([victim])[0], _first(shadows))
    np.testing.assert_allclose(found.scores, expected.scores)
    assert found.threshold == pytest.approx(expected.threshold)
    assert found.thresholds is not None
    assert expected.thresholds is not None
    assert found.thresholds.lowest == pytest.approx(expected.thresholds.lowest)


def test_a_level_outside_needs_samples_and_an_attack_that_takes_levels_out() -> None:
    _, shadows, _, _ = fleet(4)
    for kind in (Lira, Calibrated):
        scorer = kind(level="outside")
        scorer.know(None, [])
        with pytest.raises(InputError, match="level outside needs samples outside"):
            scorer.fit(shadows)
        with pytest.raises(InputError, match="level=outside has no effect without standardise"):
            kind(level="outside", standardise=False)


def test_another_share_of_members_than_the_shadows_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    victim, shadows = other_half(0)
    attack = cast("Any", SimpleNamespace(scorer=Lira(mode="offline")))
    with caplog.at_level(logging.WARNING):
        _warn_of_levels(attack, victim, shadows)
        assert not caplog.records
        few = [replace(shadow, members=shadow.members & (np.arange(1000) % 2 == 0)) for shadow in shadows]
        _warn_of_levels(attack, victim, few)
        assert "50 % of the evaluated samples are members, of the shadows' own 25 %" in caplog.text
        assert "level outside takes levels elsewhere" in caplog.text
        # A population of evaluated samples, too, has the victim's share; likelihoods alone do not.
        caplog.clear()
        for scorer in (Base(), Lira(level="outside")):
            _warn_of_levels(cast("Any", SimpleNamespace(scorer=scorer)), victim, few)
        assert not caplog.records
        _warn_of_levels(cast("Any", SimpleNamespace(scorer=Rmia())), victim, few)
        assert "compare offline, with samples outside all trainings" in caplog.text
