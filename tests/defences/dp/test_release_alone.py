"""Least squares as the only release: no step, one Gaussian mechanism, a victim like any other."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor
from torch.testing import assert_close

from seg_mia.cli import main
from seg_mia.defences.dp.accounting import Mechanism, share_of_mu
from seg_mia.defences.dp.dpsgd import DPSGD
from seg_mia.defences.dp.least_squares import NORM, begin_at_least_squares
from seg_mia.errors import InputError
from seg_mia.membership.tradeoff import gaussian_epsilon, of_gaussian
from seg_mia.report.evidence.promises import promise_curve
from seg_mia.results.evaluation import certified_gaussian
from seg_mia.results.privacy import DPGuarantee, guarantee
from seg_mia.results.text import privacy_headline
from tests.defences.dp.helpers import KNOWN, fit, option, privacy, refusal
from tests.trainings import content, weights

ALONE = [
    "--model.frozen=[encoder]",
    "--model.encoder_weights=imagenet",
    option("batch_norm", "fixed"),
    option("least_squares", 1),
    option("epsilon", 4),
    option("population", 6),
]


def read(folder: Path) -> DPGuarantee:
    promised = guarantee(privacy(folder), "test")
    assert promised is not None
    return promised


@pytest.fixture
def released(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """The classifier's weights as they were released, of each training."""
    seen: list[dict[str, Tensor]] = []

    def watched(task: Any, data: Any, private: Any) -> None:
        begin_at_least_squares(task, data, private)
        seen.append({name: each.detach().clone() for name, each in task.trained_parameters().items()})

    monkeypatch.setattr("seg_mia.defences.dp.callback.begin_at_least_squares", watched)
    return seen


@pytest.mark.parametrize("accountant", ["prv", "rdp"])
def test_the_released_weights_are_the_victims_and_spend_the_budget_exactly(
    accountant: str, head: Path, released: list[dict[str, Tensor]]
) -> None:
    folder = fit(head, *ALONE, option("accountant", accountant), "--trainer.check_val_every_n_epoch=3")
    promise = privacy(folder)
    mu = share_of_mu(4.0, delta=1 / 60, share=1.0)
    assert promise["release"] == mu
    assert promise["epsilon"] == gaussian_epsilon(mu, 1 / 60) == pytest.approx(4, rel=1e-9)
    assert promise["epsilon"] <= promise["budget"] == 4
    assert promise["replace_one"] == gaussian_epsilon(2 * mu, 1 / 60)
    assert promise["permitted"] == vars(of_gaussian(mu))
    assert [promise[name] for name in ("steps", "rate", "noise", "clip", "batch")] == [0, 1, None, None, None]
    (start,) = released
    scale = torch.cat([value.flatten() for name, value in start.items() if "weight" in name]).norm()
    assert float(scale) == pytest.approx(NORM, rel=1e-4)
    stored = content(folder)["state_dict"]
    for name, value in start.items():
        assert torch.equal(stored[f"network.{name}"], value)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert sum("val/dice" in row for row in rows) == 1  # validated once, whatever the interval
    assert (folder / "checkpoints" / "best.ckpt").is_file()


def test_it_is_evaluated_like_any_victim(head: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = fit(head, *ALONE)
    capsys.readouterr()
    assert main(["validate", "--victim", str(folder)]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "privacy spent" in line)
    mu = share_of_mu(4.0, delta=1 / 60, share=1.0)
    assert line.startswith("privacy spent: epsilon 4 of 4 at delta 0.0167 per image")
    assert f"(6 declared units, one release of mu {mu:.3g}); epsilon" in line


def test_a_finished_run_is_resumed_without_another_release(
    head: Path, released: list[dict[str, Tensor]]
) -> None:
    folder = fit(head, *ALONE)
    before, promise = content(folder)["state_dict"], privacy(folder)
    assert main(["fit", "--resume", str(folder)]) == 0
    assert len(released) == 1
    assert privacy(folder) == promise
    for name, value in before.items():
        assert torch.equal(value, content(folder)["state_dict"][name])


def test_what_the_epochs_of_a_config_are_has_no_effect(head: Path) -> None:
    folder = fit(head, *ALONE, "--trainer.max_epochs=1", runs="one")
    other = fit(head, *ALONE, "--trainer.max_epochs=7", "--model.lr=3", runs="seven")
    assert_close(weights(other), weights(folder), rtol=0, atol=0)
    assert privacy(other) == privacy(folder)


def test_an_exact_twin_claims_nothing(head: Path) -> None:
    promised = read(fit(head, *ALONE, option("epsilon", ".inf"), option("noise", 0)))
    assert (promised.epsilon, promised.release, promised.steps) == (None, None, 0)
    assert promised.permitted == of_gaussian(math.inf)
    assert not promised.is_gaussian
    assert "one exact release" in privacy_headline(promised)


def test_its_trade_off_curve_and_bounds_are_those_of_one_gaussian_mechanism() -> None:
    mu, delta = 1.5, 1e-3
    epsilon = gaussian_epsilon(mu, delta)
    promised = DPGuarantee(epsilon=epsilon, delta=delta, rate=1.0, steps=0, release=mu, accountant="prv")
    points, by = promise_curve(promised)
    assert by == "exact for this mechanism"
    for point in points[1:-1]:
        assert point.tpr == pytest.approx(norm.cdf(norm.ppf(point.fpr) + mu), rel=1e-9)
    members = np.arange(200) < 100
    scores = 3.0 * members + np.random.default_rng(0).normal(size=200)
    bound = certified_gaussian(scores, members, np.array([str(i) for i in range(200)]), promised)
    assert bound is not None
    assert bound.rule == "gaussian_threshold"
    assert Mechanism(math.inf, 1.0, delta, "rdp", mu).spent(0) == epsilon


@pytest.mark.parametrize(
    ("setting", "telling"),
    [
        ({"noise": 2.0}, "least_squares 1 leaves no budget for steps, and noise belongs to steps, got 2"),
        ({"copies": 4}, "and copies belongs to steps, got 4; leave copies out, or choose a share below 1"),
        ({"ema": 0.9}, "and ema belongs to steps, got 0.9"),
        ({"tail": 0.5}, "and tail belongs to steps, got 0.5"),
    ],
)
def test_settings_of_steps_are_refused_beside_it(setting: dict[str, Any], telling: str) -> None:
    with pytest.raises(InputError, match=telling):
        DPSGD(least_squares=1.0, **setting)


def test_more_than_the_budget_is_refused(head: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refusal(["fit", "--config", str(head), *KNOWN, *ALONE, option("least_squares", 1.1)], capsys)
    assert "least_squares must lie above 0 and be at most 1, got 1.1" in line
