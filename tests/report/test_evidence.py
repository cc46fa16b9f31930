"""Fields of the evidence, against numbers worked out by hand."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from seg_mia.membership.compare import Scored
from seg_mia.report.evidence.attacks import (
    coverage,
    right_accusations,
    threats,
    unit_results,
)
from seg_mia.report.evidence.build import evidence
from seg_mia.report.evidence.networks import architecture, identity, scopes
from seg_mia.report.evidence.promises import promise_curve, promises
from seg_mia.report.evidence.robustness import certificates, curves, robustness_rows
from seg_mia.report.evidence.utility import difference, exposed_effect, read_dice
from seg_mia.results.audit import AuditResult
from seg_mia.results.base import Measure
from seg_mia.results.privacy import DPGuarantee
from tests.report.audits import (
    audit,
    certificate,
    certified,
    compared,
    fool,
    guess,
    interval,
    leaks,
    of_attack,
    promise,
    rate,
    scored,
    source,
)
from tests.results.test_text import thresholds


def read(content: dict[str, Any]) -> AuditResult:
    return AuditResult.read(content, "audit.json")


def full_batch(epsilon: float, mu: float) -> DPGuarantee:
    """Return a promise of 16 steps that use all units: noise 4 / mu gives mu-Gaussian privacy."""
    settings = promise(epsilon, rate=1.0, steps=16, noise=4 / mu, delta=1e-3, accountant="prv")
    return DPGuarantee.read(settings, "test")


def test_the_curve_of_a_full_batch_is_that_of_the_gaussian_mechanism() -> None:
    # Of the table in the method: mu 1.08 permits a true positive rate of 0.105 at 1 % false positives.
    points, by = promise_curve(full_batch(50.0, 1.08))
    assert by == "exact for this mechanism"
    curve = {round(point.fpr, 6): point.tpr for point in points}
    assert curve[0.01] == pytest.approx(stats.norm.cdf(stats.norm.ppf(0.01) + 1.08))
    assert curve[0.01] == pytest.approx(0.105, abs=0.002)
    assert (points[0].fpr, points[-1].fpr, points[-1].tpr) == (0.0, 1.0, 1.0)
    rates = [point.tpr for point in points]
    assert rates == sorted(rates)


def test_the_curve_never_exceeds_epsilon_and_delta() -> None:
    points, _ = promise_curve(full_batch(1.0, 3.0))  # a mechanism that does not keep its epsilon
    at_1 = next(point.tpr for point in points if math.isclose(point.fpr, 0.01))
    assert at_1 == pytest.approx(math.e * 0.01 + 1e-3)
    assert points[0].tpr == 0.0, "the mechanism gives no certainty"


def test_the_curve_counts_the_release_before_the_first_step() -> None:
    steps = promise(50.0, rate=1.0, steps=16, noise=5.0, release=0.6)
    points, _ = promise_curve(DPGuarantee.read(steps, "test"))
    at_1 = next(point.tpr for point in points if math.isclose(point.fpr, 0.01))
    assert at_1 == pytest.approx(stats.norm.cdf(stats.norm.ppf(0.01) + 1.0))  # 0.36 + 0.64
    _, by = promise_curve(DPGuarantee.read(steps | {"release": 1e9}, "test"))
    assert by == "epsilon and delta alone, which permit the most"


@pytest.mark.parametrize(
    "changes",
    [{"noise": None}, {"noise": 1e-9}, {"steps": 10**12}, {"rate": 7.0}, {"accountant": "own"}, {"steps": 0}],
)
def test_what_no_accountant_can_compute_is_drawn_by_epsilon_and_delta(changes: dict[str, Any]) -> None:
    points, by = promise_curve(DPGuarantee.read(promise(3.0, **changes), "test"))
    assert by == "epsilon and delta alone, which permit the most"
    at_10 = next(point.tpr for point in points if math.isclose(point.fpr, 0.1))
    assert at_10 == pytest.approx(min(math.exp(3) * 0.1 + 1e-3, 1 - math.exp(-3) * (1 - 1e-3 - 0.1)))


def test_an_infinite_epsilon_has_no_curve() -> None:
    assert promise_curve(DPGuarantee.read(promise(None), "test")) == ([], "")


def test_a_promise_lists_its_audits_with_their_ceilings() -> None:
    row = compared(privacy=promise(8.0, neighbours="add or remove one", replace_one=20.5))
    content = read(audit([guess(certified=certified(0.4, 2.7))], defences=[row]))
    (given,) = promises(content.defences, content.membership, content.leaks)
    assert given.adjacency == "add or remove one"
    assert given.replace_one == 20.5
    assert given.sampling == "Poisson sampling at rate 0.5, steps 10, noise multiplier 1, clip 1"
    (tried,) = given.audits
    assert (tried.by, tried.proved, tried.ceiling, tried.comparable) == ("mia-type2", 0.4, 2.7, True)


def test_coverage_says_what_was_not_run() -> None:
    trigger = fool("trigger", attack={"class_path": "seg_mia.attacks.trigger.Trigger", "init_args": {}})
    rows = {row.kind: row for row in coverage(read(audit([guess(), fool(), trigger])))}
    assert list(rows) == [
        "membership inference",
        "attribute inference",
        "extraction",
        "regurgitation",
        "inversion",
        "reconstruction",
        "poisoning",
        "evasion",
    ]
    assert [kind for kind, row in rows.items() if row.tested] == [
        "membership inference",
        "poisoning",
        "evasion",
    ]
    assert (rows["poisoning"].methods, rows["evasion"].methods) == (["trigger"], ["asma"])
    assert all(row.note.startswith("Not run: no evidence") for row in rows.values() if not row.tested)
    nothing = coverage(read(audit([guess("mia-blind", signal="ImageAndMask")])))
    assert not nothing[0].tested, "a baseline is no attack"


def test_costs_are_those_of_the_stages() -> None:
    def stage(folder: str, kind: str, seconds: float) -> dict[str, Any]:
        return {
            "name": folder,
            "command": "",
            "seconds": seconds,
            "cached": False,
            "folder": folder,
            "kind": kind,
        }

    attack = guess(shadows=["runs/shadow/version_0/checkpoints/last.ckpt"])
    stages = [  # folders are below that of runs, checkpoints are paths
        stage("shadow/version_0", "shadow", 7200.0),
        stage("shadow/version_01", "network", 3600.0),
        stage("other/version_0", "shadow", 3600.0),
        stage(attack["folder"], "attack", 90.0),
    ]
    content = audit([attack, fool()], stages=stages, tool={"device": "cpu"}, settings={"runs": "runs"})
    one, other = threats(read(content))
    assert (one.hours, one.training_hours, one.shadows, one.device) == (0.025, 2.0, 1, "cpu")
    assert one.queries == 1.0
    assert (other.hours, other.training_hours, other.queries) == (None, None, 5.0)
    attack["shadows"] = ["/data/runs/fleet/version_0/checkpoints/last.ckpt"]
    elsewhere = [stage("/data/runs/fleet/version_0", "network", 1800.0)]
    (outside,) = threats(read(audit([attack], stages=elsewhere, settings={"runs": "runs"})))
    assert outside.training_hours == 0.5


def test_queries_are_those_counted_and_unknown_for_mirror_images() -> None:
    signal = {"class_path": "seg_mia.membership.fleet.confidences.LogCrossEntropy"}
    mirrored = {"class_path": "seg_mia.membership.base.Membership", "init_args": {"signal": signal}}
    queries = [
        threats(read(audit([guess(**changes)])))[0].queries
        for changes in (
            {"victim_queries": 24},
            {"victim_queries": 0},
            {"attack": mirrored},
            {"attack": mirrored, "victim_queries": 32},
        )
    ]
    assert queries == [3.0, 1.0, None, 4.0]


def test_scope_counts_patients_and_false_positives() -> None:
    blind = guess("mia-blind", auc=(0.5, 0.4, 0.6), signal="ImageAndMask")
    attack = guess(
        data=scored(left_out={"victim": {"untrained": 3}, "shadow": {}}, limit=50, notes=["small"])
    )
    tested = leaks(of_attack(), grouped=True, members=40, nonmembers=250, detectable=0.61)
    content = read(audit([blind, attack], leaks=[tested]))
    (scope,) = scopes(content.leaks, content.membership, content.defences)
    assert (scope.unit, scope.members, scope.nonmembers, scope.records) == ("patient", 40, 250, 8)
    assert scope.false_positives == {"0.1": 25.0, "0.01": 2.5, "0.001": 0.25}
    assert (scope.tests, scope.detectable) == (1, 0.61)
    assert [(control.label, control.failed) for control in scope.controls] == [("mia-blind", False)]
    assert scope.left_out == ["3 untrained", "limited to 50 samples of either side", "small"]


def test_results_are_by_patient_with_an_interval_for_all_numbers() -> None:
    groups = guess()["results"] | {"auc": interval(0.7, 0.5, 0.8), "tpr_at_fpr_0.1": rate(0.4, 0.1, 0.7)}
    number = of_attack(kind="groups.auc", value=0.7, low=0.45) | {"high": 0.85}
    attack = guess(groups=groups)
    content = read(audit([attack], leaks=[leaks(number)]))
    (result,) = unit_results(content.membership, content.leaks)
    assert (result.auc, result.simultaneous) == (Measure(0.7, 0.5, 0.8), Measure(0.7, 0.45, 0.85))
    assert [at.fpr for at in result.rates] == [0.1, 0.01, 0.001]
    assert result.rates[0].expected == pytest.approx(0.4)
    # Of 100 asked about, 10 members: 4 found; 90 others: 9 accused.
    assert result.rates[0].ppv["0.1"] == pytest.approx(4 / 13)
    assert set(result.rates[1].ppv.values()) == {None}, "the rate is not resolvable"
    assert right_accusations(1.0, 0.01, 0.01) == pytest.approx(0.01 / 0.0199)


def test_right_accusations_are_those_of_the_rate_reached() -> None:
    rates = thresholds(2000)
    resolved = guess()["results"] | {f"tpr_at_fpr_{one.fpr:g}": rate(0.4, 0.3, 0.5) for one in rates.pooled}
    attack = guess(results=resolved | {"nonmembers": 2000}, thresholds=rates.plain())
    content = read(audit([attack], leaks=[leaks(of_attack())]))
    (result,) = unit_results(content.membership, content.leaks)
    assert [at.ppv for at in result.rates] == [one.ppv for one in rates.pooled]


def test_robustness_states_the_allowed_change() -> None:
    ball = {"class_path": "seg_mia.attacks.pgd.Pgd", "init_args": {"epsilon": 8 / 255, "steps": 10}}
    euclidean = ball | {"init_args": {"epsilon": 0.5, "norm": "l2"}}
    rows = robustness_rows(
        read(audit([fool(attack=ball), fool("b", attack=euclidean), fool("c")])).perturbations
    )
    assert [row.budget for row in rows] == ["linf 8/255", "l2 0.5", ""]
    assert rows[0].dice_lost is not None
    assert rows[0].dice_lost.value == pytest.approx(0.5)


def test_the_curve_over_the_radius_is_a_field() -> None:
    points = [
        {"radius": radius, "dice": dice, "low": dice - 0.1, "high": dice + 0.1, "fooled": fooled}
        for radius, dice, fooled in ((0.0, 0.8, 0.0), (2.0, 0.5, 0.25), (8.0, 0.2, 1.0))
    ]
    results = read(audit([fool("robustness-curve", curve={"fooled": 0.5, "points": points}), fool()]))
    (row,) = curves(results.perturbations)
    assert (row.attack, row.images, row.patients) == ("robustness-curve", 101, 101)
    assert [(point.radius, point.dice.value, point.fooled) for point in row.points] == [
        (0.0, 0.8, 0.0),
        (2.0, 0.5, 0.25),
        (8.0, 0.2, 1.0),
    ]
    assert row.points[1].dice.low == pytest.approx(0.4)


def test_certificates_are_a_field_with_intervals() -> None:
    (row,) = certificates(read(audit([], certificates=[certificate()])).certificates)
    assert (row.images, row.patients, row.sigma, row.radius) == (40, 20, 0.25, 0.17)
    assert row.probability == pytest.approx(0.999)
    assert row.dice_certified.value == 0.6
    assert row.dice_certified.low is not None
    assert row.dice_certified.low < 0.6
    assert row.abstained.value == 0.1


def test_an_architecture_is_one_line() -> None:
    inner = {"class_path": "seg_mia.models.smp.Smp", "init_args": {"encoder": "resnet18", "depth": 3, "x": 1}}
    wrapped = {"class_path": "seg_mia.models.released.Released", "init_args": {"network": inner}}
    assert architecture(wrapped) == "Released, Smp, encoder resnet18, depth 3"
    assert architecture(None) == ""
    assert architecture("odd") == "odd"


def test_patients_are_unknown_where_not_all_records_were_scored() -> None:
    about = {"split": {"members": 9, "nonmembers": 4}, "fingerprint": "e" * 64}
    network = identity(read(audit([guess()], defences=[compared(about=about)])), "layout", "digest").networks[
        0
    ]
    assert (network.records, network.patients, network.fingerprint) == (9, None, "e" * 64)


def test_what_was_not_declared_is_a_limit() -> None:
    content = audit([guess()])
    stored = source(content)
    found = evidence(stored, stored.audit, {})
    assert found.release is None
    assert any("The release is not declared" in text for text in found.limits.limits)
    assert any("No negative control" in text for text in found.limits.limits)
    declared = source(content | {"release_context": {"access": "open_weights"}})
    found = evidence(declared, declared.audit, {})
    assert found.release is not None
    assert "weights and gradients" in found.release.surface
    assert not any("not declared" in text for text in found.limits.limits)


def table(before: list[float], after: list[float]) -> tuple[Scored, Scored]:
    """Return scores of as many members and non-members before and after a defence, a patient each."""
    half = len(before) // 2
    names = np.char.mod("p%03d", np.arange(len(before)))
    members = np.arange(len(before)) < half
    one, two = (Scored(names, names, members, np.array(scores)) for scores in (before, after))
    return one, two


def test_the_effect_is_that_on_the_patients_exposed_before() -> None:
    # 50 members; the five of highest score are found before, and two of these after. Others have 0 to 49.
    others = [float(number) for number in range(50)]
    before = [0.0] * 45 + [100.0] * 5 + others
    after = [60.0] * 10 + [0.0] * 35 + [70.0, 70.0, 1.0, 1.0, 1.0] + others
    effect = exposed_effect("mia", *table(before, after))
    assert effect is not None
    assert (effect.patients, effect.before.value, effect.after.value) == (5, 1.0, 0.4)
    assert effect.all_after.value == pytest.approx(12 / 50)
    assert effect.after.low == pytest.approx(stats.beta.ppf(0.025, 2, 4))
    assert exposed_effect("mia", *table(before[5:95], after[5:95])) is None, "fewer than five"


def test_a_defence_is_no_better_for_patients_chosen_by_chance() -> None:
    # Scores of the second row have nothing to do with the first: a tenth is found, chosen or not.
    rng = np.random.default_rng(0)
    effects = [exposed_effect("mia", *table(*rng.normal(size=(2, 400)).tolist())) for _ in range(200)]
    shares = [effect.after.value or 0.0 for effect in effects if effect is not None]
    assert np.mean(shares) == pytest.approx(0.1, abs=0.02)


def test_a_difference_of_dice_is_paired_and_by_patient() -> None:
    dice, reference = {"a": 0.8, "b": 0.6, "c": 0.9}, {"a": 0.7, "b": 0.4, "c": 0.6, "d": 1.0}
    change = difference(dice, reference, {})
    assert change is not None
    expected = stats.ttest_1samp([0.1, 0.2, 0.3], 0).confidence_interval()
    assert change.value == pytest.approx(0.2)
    assert (change.low, change.high) == pytest.approx((expected.low, expected.high))
    one_patient = difference(dice, reference, dict.fromkeys("abc", "p"))
    assert one_patient is not None
    assert one_patient.value == pytest.approx(0.2)
    assert (one_patient.low, one_patient.high) == (None, None)
    assert difference(dice, {}, {}) is None


def test_a_table_of_dice_is_read_without_trust(tmp_path: Path) -> None:
    file = tmp_path / "per_image.csv"
    file.write_text("id,loss,dice\na,1,0.5\nb,1,\nc,1,nan\n")
    assert read_dice(file) == {"a": 0.5}
    for text in ("", "id,loss\na,1\n", "id,dice\na,high\n"):
        file.write_text(text)
        assert read_dice(file) == {}
    assert read_dice(tmp_path / "none.csv") == {}
