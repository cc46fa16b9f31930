"""Negative controls of a recipe: nothing is found where nothing is, and faults of the design are."""

import numpy as np
import pytest

from seg_mia.membership.fleet import difficulty_calibrated, lira_online, pooled_auc, recipe_audit
from seg_mia.membership.fleet.arrays import standardised
from seg_mia.membership.fleet.controls import (
    member_control,
    permuted_control,
    recipe_controls,
    untrained_control,
)
from seg_mia.membership.fleet.scoring import FleetAttack
from seg_mia.membership.fleet.vectors import lira_vector
from tests.membership.fleet.worlds import Inside, Values, coins, members_of, signals_of


def number_of_references(target: Values, references: Values, inside: Inside) -> Values:
    """Score by how many other networks did not see the sample: no attack, but a leak of the design."""
    del references
    return np.asarray((~inside).sum(axis=0) + 1e-3 * np.argsort(target) / len(target), dtype=np.float64)


@pytest.mark.parametrize("effect", [0.0, 2.0])
@pytest.mark.parametrize("attack", [lira_online, difficulty_calibrated])
def test_controls_of_a_leaking_recipe_are_at_chance(attack: object, effect: float) -> None:
    held = dict.fromkeys(("permuted", "members"), 0)
    for seed in range(40):
        generator = np.random.default_rng(seed)
        inside = members_of(generator, 8, 60)
        controls = recipe_controls(signals_of(generator, inside, effect=effect), inside, attack, seed=seed)  # type: ignore[arg-type]
        assert controls.members is not None
        for name in held:
            interval = getattr(controls, name)
            held[name] += interval.low <= 0.5 <= interval.high
    assert min(held.values()) >= 34  # 38 are expected, fewer than 34 once in 700


@pytest.mark.parametrize("attack", [lira_online, difficulty_calibrated])
def test_untrained_networks_are_told_nothing_of_unless_something_else_carries_the_members(
    attack: FleetAttack,
) -> None:
    held, found = 0, 0
    for seed in range(40):
        generator = np.random.default_rng(seed)
        inside = members_of(generator, 8, 60)
        signals = standardised(signals_of(generator, inside, effect=2))
        first = signals_of(generator, inside, effect=0, difficulty=0.5, level=3)
        fair = untrained_control(signals, standardised(first), inside, attack)
        faulty = untrained_control(signals, standardised(first + inside), inside, attack)
        assert fair is not None
        assert faulty is not None
        assert fair.low is not None
        assert faulty.low is not None
        held += fair.low <= 0.5 <= (fair.high or 0)
        found += faulty.low > 0.5
    assert held >= 34  # 38 are expected, fewer than 34 once in 700
    assert found == 40


def test_references_that_tell_the_members_are_found_without_any_training() -> None:
    generator = np.random.default_rng(0)
    inside = generator.permuted(np.tile(np.arange(8)[:, None] < 4, (1, 200)), axis=0)
    signals, first = (signals_of(generator, inside, effect=effect) for effect in (1, 0))
    control = untrained_control(signals, first, inside, number_of_references)
    assert control is not None
    assert control.low is not None
    assert control.low > 0.95


def test_one_untrained_network_would_give_complements_the_same_scores() -> None:
    generator = np.random.default_rng(0)
    inside = members_of(generator, 6, 40)
    signals, first = signals_of(generator, inside), np.tile(generator.normal(size=40), (6, 1))
    control = untrained_control(signals, first, inside, lira_online)
    assert control is not None
    assert control.value == pytest.approx(0.5, abs=1e-12)


def test_an_audit_takes_untrained_networks_as_its_own() -> None:
    generator = np.random.default_rng(3)
    inside = members_of(generator, 8, 60)
    signals, first = (signals_of(generator, inside, effect=effect, level=2) for effect in (2, 0))
    names = [f"p{number:02}" for number in range(60)]

    def control(*, initial: Values, values: Values = signals, attack: FleetAttack = lira_online) -> object:
        settings = {"resamples": 20, "permutations": 20}
        audit = recipe_audit(values, inside, names, attack, initial=initial, **settings)  # type: ignore[arg-type]
        assert audit.controls is not None
        return audit.controls.untrained

    expected = untrained_control(standardised(signals), standardised(first), inside, lira_online)
    assert control(initial=first) == expected
    assert control(initial=1000 * first - 5) == pytest.approx(expected)
    # Of several signals those count that differ in every network of the fleet.
    several = np.stack([signals, np.zeros_like(signals), signals + generator.normal(size=(8, 60))], axis=2)
    vector = np.stack([first, np.zeros_like(first), first], axis=2)
    assert control(initial=vector, values=several, attack=lira_vector) is not None
    for broken in (np.full_like(first, np.nan), np.zeros_like(first)):
        assert control(initial=broken) is None


def test_memberships_are_exchanged_without_a_change_of_the_design() -> None:
    seen = list[Inside]()

    def attack(target: Values, references: Values, inside: Inside) -> Values:
        del references
        seen.append(inside)
        return target

    inside = members_of(np.random.default_rng(0), 6, 30)
    permuted_control(signals_of(np.random.default_rng(1), inside), inside, attack)
    columns = sorted(map(bytes, inside[2:].T.copy()))
    assert sorted(map(bytes, seen[0].T.copy())) == columns
    assert not np.array_equal(seen[0], inside[2:])


def test_only_members_are_compared_by_networks_that_neither_side_is_a_reference_of() -> None:
    inside = members_of(np.random.default_rng(0), 6, 40)
    used = list[int]()

    def attack(target: Values, references: Values, chosen: Inside) -> Values:
        del references
        used.append(len(chosen))
        return target

    signals = inside[[2, 3, 4, 5, 0, 1]].astype(float)  # the membership in the first network of the next fold
    signals[1::2] = 1 - signals[1::2]
    interval = member_control(signals, inside, attack)
    assert interval is not None
    assert (interval.value, used) == (1.0, [2] * 6)


def test_too_few_networks_have_no_control_of_members() -> None:
    for networks, attack in ((4, difficulty_calibrated), (6, lira_online)):
        inside = members_of(np.random.default_rng(0), networks, 30)
        assert member_control(signals_of(np.random.default_rng(1), inside), inside, attack) is None


def test_a_design_that_tells_the_members_is_found() -> None:
    # Each sample is in half of networks that are no complements: in fewer of the others if in the target.
    generator = np.random.default_rng(0)
    inside = generator.permuted(np.tile(np.arange(8)[:, None] < 4, (1, 200)), axis=0)
    control = permuted_control(signals_of(generator, inside, effect=0), inside, number_of_references)
    assert control.low > 0.95


def test_decisions_that_do_not_count_change_nothing() -> None:
    generator = np.random.default_rng(2)
    inside = coins(generator, 6, 50)
    scores, judged = generator.normal(size=(6, 50)), generator.random((6, 50)) < 0.5
    before = pooled_auc(scores, inside, judged=judged)
    scores[~judged] = 9
    assert pooled_auc(scores, inside, judged=judged) == before
    assert pooled_auc(scores, inside, judged=np.ones_like(judged)) == pooled_auc(scores, inside)
