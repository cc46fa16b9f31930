"""What one step of a private training is: clipped sums, and noise of the deviation that was promised."""

import math
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.checkpoint import NETWORK
from seg_mia.cli import main
from seg_mia.data.base import SegmentationData
from seg_mia.defences.dp.mechanism import DPGradient, DPTraining, Settings
from tests.defences.dp.helpers import EVERYTHING, ONE_EPOCH, SGD, fit, option, privacy, with_network
from tests.trainings import log_of, weights


def plain_weights(folder: Path) -> dict[str, Tensor]:
    """Return a run's weights under the names that they have inside all wrappers."""
    return {name.replace(NETWORK, ""): value for name, value in weights(folder).items()}


def test_without_noise_and_with_a_wide_clip_each_step_is_plain_sgd(tiny: Path) -> None:
    """In 64 bits: in 32, sums in another order change which side of 0 a ReLU is on."""
    words = [*SGD, EVERYTHING, "--trainer.precision=64-true"]
    network = {"encoder": "tu-test_resnet", "channels": 3, "classes": 1, "depth": 3, "norm": "group"}
    grouped = with_network(tiny, "seg_mia.models.smp.Smp", **network)
    assert main(["fit", "--config", str(grouped), "--runs", "plain", *words]) == 0
    plain = Path("plain/tiny/version_0")
    losses = [line["val/loss"] for line in log_of(plain)]
    assert min(abs(one - other) for one, other in pairwise(losses)) > 1e-3  # each step changes something
    exact = [option("noise", 0), option("epsilon", ".inf"), option("clip", 1e6), option("physical_batch", 4)]
    for gradients in ("fused", "loop"):
        private = fit(tiny, *words, *exact, option("gradients", gradients), runs=gradients)
        promise = privacy(private)
        assert (promise["rate"], promise["steps"], promise["noise"]) == (1, 3, 0)
        assert promise["epsilon"] == math.inf
        assert_close(plain_weights(private), plain_weights(plain), rtol=1e-9, atol=1e-9)
        assert [line["val/loss"] for line in log_of(private)] == pytest.approx(losses, rel=1e-9)


def test_the_noise_of_a_step_has_the_deviation_that_was_promised(tiny: Path) -> None:
    """All units in one step: w - lr (G + noise clip z) / 6, and z follows from the seed alone."""
    words = [
        *SGD,
        ONE_EPOCH,
        "--data.batch_size=6",
        "--model.defences.epsilon=.inf",
        "--model.defences.clip=0.5",
    ]
    one, two = (
        weights(fit(tiny, *words, f"--model.defences.noise={noise}", runs=f"noise{noise}"))
        for noise in (1, 3)
    )
    changed = torch.cat(
        [(one[name] - two[name]).double().flatten() for name in one if one[name].is_floating_point()]
    )
    noisy = changed[changed != 0]  # input normalisation is no parameter
    assert len(noisy) > 0.99 * len(changed) > 10_000
    deviation = 0.1 * (3 - 1) * 0.5 / 6
    assert float(noisy.std()) == pytest.approx(deviation, rel=5 / math.sqrt(2 * len(noisy)))
    assert abs(float(noisy.mean())) < 5 * deviation / math.sqrt(len(noisy))


def settings(**changed: Any) -> Settings:
    plain: dict[str, Any] = {
        "epsilon": None,
        "noise": 2.0,
        "delta": None,
        "clip": 0.25,
        "unit": "image",
        "accountant": "rdp",
        "physical_batch": 64,
        "gradients": "auto",
        "reproducible": False,
    }
    return Settings(**(plain | changed))


def descent(
    secret: bytes = b"secret",
    *,
    units: int = 40,
    batch: int = 8,
    noise: float | None = 2.0,
    each: int = 1,
    **changed: Any,
) -> DPGradient:
    """Return the descent of a training that has begun, over units of `each` images, the last of one."""
    count = (units - 1) * each + 1
    source = SimpleNamespace(
        ids=tuple(map(str, range(count))), groups=tuple(str(i // each) for i in range(count))
    )
    members = np.arange(count)

    class Sized(SimpleNamespace):
        pass

    data = Sized(source=_Sized(source), batch_size=batch, trained=lambda: members, batches=None)
    private = DPTraining(settings(noise=noise, **changed))
    private.begin(cast(SegmentationData, data), secret, lambda _: 1000)
    return DPGradient(private)


class _Sized:
    """Names of samples that know how many they are."""

    def __init__(self, names: SimpleNamespace) -> None:
        self.ids, self.groups = names.ids, names.groups

    def __len__(self) -> int:
        return len(self.ids)


def noise_of(found: DPGradient, parameters: dict[str, nn.Parameter]) -> Tensor:
    """Return the gradient of a step whose sum is nothing but zeros."""
    found.sums = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    found.write(parameters)
    return torch.cat([cast(Tensor, each.grad).flatten() for each in parameters.values()])


def test_an_empty_sum_is_written_as_noise_over_the_expected_units() -> None:
    shapes = {"a": (200, 300), "b": (200, 300), "c": (50,)}
    parameters = {name: nn.Parameter(torch.zeros(shape)) for name, shape in shapes.items()}
    found = descent()
    steps = [noise_of(found, parameters) for _ in range(3)]
    assert found.private.steps == 3
    count = len(steps[0])
    for gradient in steps:
        expected = 2.0 * 0.25 / 8  # noise times clip over rate times units
        assert float(gradient.std()) == pytest.approx(expected, rel=5 / math.sqrt(2 * count))
        assert abs(float(gradient.mean())) < 5 * expected / math.sqrt(count)
    parts = [*steps, steps[0][60_000:120_000], steps[0][:60_000], noise_of(descent(b"other"), parameters)]
    for one in range(len(parts)):
        for other in range(one):
            length = min(len(parts[one]), len(parts[other]), 60_000)
            pair = torch.stack([parts[one][:length], parts[other][:length]])
            if one != 4 or other != 0:  # the fifth is the first one's beginning
                assert abs(float(torch.corrcoef(pair)[0, 1])) < 5 / math.sqrt(length), (one, other)


def test_a_sum_is_divided_by_the_expected_units_and_the_noise_comes_on_top() -> None:
    parameters = {"a": nn.Parameter(torch.zeros(3, 4))}
    total = torch.arange(12.0).view(3, 4)
    alone, noisy, zero = descent(noise=0.0), descent(), descent()
    for found in (alone, noisy):
        found.sums = {"a": total.clone()}
    alone.write(parameters)
    assert_close(parameters["a"].grad, total / 8, rtol=0, atol=0)
    noisy.write(parameters)
    with_noise = cast(Tensor, parameters["a"].grad).clone()
    assert_close(with_noise, total / 8 + noise_of(zero, parameters).view(3, 4), rtol=0, atol=1e-6)


ONE_MORE = [
    ({"unit": "image", "batch": 8}, 40),
    ({"unit": "image", "batch": 40}, 39),
    ({"unit": "patient", "batch": 8, "each": 3}, 40),
    ({"unit": "patient", "batch": 40, "each": 3}, 39),
]


@pytest.mark.parametrize(("options", "units"), ONE_MORE)
def test_one_unit_more_or_less_changes_no_bit_of_a_step_without_gradients(
    options: dict[str, Any], units: int
) -> None:
    """Else the scale of the noise gives the unit away: each of many weights shows it."""
    parameters = {"a": nn.Parameter(torch.zeros(300, 100)), "b": nn.Parameter(torch.zeros(7))}
    one, other = (descent(units=count, **options) for count in (units, units + 1))
    for _ in range(3):
        assert torch.equal(noise_of(one, parameters), noise_of(other, parameters))


@pytest.mark.parametrize(("options", "units"), ONE_MORE)
def test_of_a_declared_population_all_follows_and_nothing_of_how_many_there_are(
    options: dict[str, Any], units: int
) -> None:
    """Calibrated noise, rate, steps and delta, too; and what is promised does not tell the number."""
    parameters = {"a": nn.Parameter(torch.zeros(300, 100))}
    told = []
    for count in (units, units + 1):
        found = descent(units=count, noise=None, epsilon=3.0, population=40, **options)
        gradient = noise_of(found, parameters)
        promise = found.private.dp_guarantee()
        told.append((gradient, promise, found.private.population.steps, found.private.allowed))
    (one, first, *steps), (other, second, *same_steps) = told
    assert torch.equal(one, other)
    assert first is not None
    assert first == second
    assert steps == same_steps
    assert (first["units"], first["declared"], first["neighbours"]) == (40, True, "add or remove one")
    assert (first["rate"], first["batch"]) == (options["batch"] / 40, options["batch"])
    assert first["delta"] == 1 / 400


def test_a_number_of_units_that_was_not_declared_is_said_to_be_public() -> None:
    promise = descent(units=40).private.dp_guarantee()
    assert promise is not None
    assert (promise["units"], promise["declared"], promise["delta"]) == (40, False, 1 / 400)
    assert promise["neighbours"] == "blank one, the number of units being public"


def test_no_step_is_taken_beyond_the_budget() -> None:
    found = descent()
    found.private.allowed = 0
    with pytest.raises(AssertionError, match="the budget is spent"):
        found.step(cast(Any, None), cast(Any, None), {})
