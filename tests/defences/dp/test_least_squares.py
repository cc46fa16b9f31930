"""A private least-squares classifier as a start: its sensitivity, its noise, and its place in the budget."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from seg_mia.checkpoint import read_card
from seg_mia.cli import main
from seg_mia.defences.dp.accounting import Mechanism, noise_for, share_of_mu
from seg_mia.defences.dp.least_squares import (
    NORM,
    Moments,
    _images,
    begin_at_least_squares,
    image_moments,
    released,
    solved,
)
from seg_mia.errors import InputError
from seg_mia.membership.tradeoff import gaussian_epsilon
from seg_mia.models.hypercolumn import Hypercolumn
from seg_mia.results.privacy import guarantee
from tests.defences.dp.helpers import DP, EVERYTHING, KNOWN, fit, option, privacy, refusal, same
from tests.trainings import killed


def test_moments_of_one_image_by_hand() -> None:
    # One feature; a foreground pixel of 1 and two background pixels of 0 and -1: u = (x, 1) / sqrt 2.
    columns, inside = torch.tensor([[[1.0, 0.0, -1.0]]]), torch.tensor([[1.0, 0.0, 0.0]])
    second, first = image_moments(columns, torch.stack([1 - inside, inside]), 1)
    # (1/2) [mean of the foreground] + (1/2) [mean of the background], each of u u^T.
    expected = (torch.tensor([[1.0, 1], [1, 1]]) + torch.tensor([[0.5, -0.5], [-0.5, 1]])) / 4
    assert_close(second, expected.double())
    # (mean of the foreground - mean of the background) / 2 = ((1, 1) - (-0.5, 1)) / (2 sqrt 2).
    assert_close(first, torch.tensor([[1.5, 0.0]]).double() / (2 * math.sqrt(2)))
    _, each = image_moments(columns, torch.stack([1 - inside, inside]), 2)
    assert_close(each, torch.tensor([[-0.5, 1.0], [1.0, 1.0]]).double() / (2 * math.sqrt(2)))


@given(st.integers(0, 10**6), st.sampled_from([1, 2, 4]), st.integers(1, 9))
@settings(deadline=None, max_examples=60)
def test_one_image_changes_the_release_by_root_two_at_most(seed: int, maps: int, pixels: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    columns = 100 * torch.randn(5, pixels, 2, generator=generator)
    classes = max(maps, 2)
    labels = torch.randint(-1, classes, (pixels, 2), generator=generator)
    shares = torch.stack([labels == value for value in range(classes)]).float()
    second, first = image_moments(columns, shares, maps)
    assert float(second.norm()) <= 1 + 1e-6
    assert float(first.norm()) <= 1 + 1e-6
    assert float(second.norm() ** 2 + first.norm() ** 2) <= 2 + 1e-5
    if not shares.any():
        assert not second.any()
        assert not first.any()


def test_the_noise_has_the_deviation_that_was_promised() -> None:
    """Over the symmetric matrices as a space of vectors: entries off the diagonal count twice."""
    exact = Moments(torch.zeros(200, 200, dtype=torch.float64), torch.zeros(3, 200, dtype=torch.float64))
    noisy, deviation = released(exact, 0.5, 7)
    assert deviation == math.sqrt(2) / 0.5
    assert_close(noisy.second, noisy.second.T, rtol=0, atol=0)
    above = noisy.second[torch.triu_indices(200, 200, 1).unbind()]
    for values, expected in (
        (math.sqrt(2) * above, deviation),
        (noisy.second.diagonal(), deviation),
        (noisy.first, deviation),
    ):
        count = values.numel()
        assert float(values.std()) == pytest.approx(expected, rel=5 / math.sqrt(2 * count))
        assert abs(float(values.mean())) < 5 * expected / math.sqrt(count)
    again, other = released(exact, 0.5, 7)[0], released(exact, 0.5, 8)[0]
    assert torch.equal(again.second, noisy.second)
    assert not torch.equal(other.second, noisy.second)
    without, none = released(exact, math.inf, 7)
    assert none == 0
    assert not without.second.any()


def test_without_noise_it_is_ridge_regression() -> None:
    rows = torch.randn(50, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    targets = torch.randn(2, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    second, first = rows.T @ rows, targets @ rows
    expected = torch.linalg.solve(second + 0.1 * torch.eye(4, dtype=torch.float64), first.T).T
    assert_close(solved(Moments(second, first), 0.0), expected)


def test_release_and_steps_on_all_units_add_their_squares() -> None:
    mechanism = Mechanism(5.0, 1.0, 1e-3, "prv", release=0.6)
    assert mechanism.spent(16) == gaussian_epsilon(math.hypot(0.6, 4 / 5), 1e-3)
    assert mechanism.spent(0) == gaussian_epsilon(0.6, 1e-3)
    assert mechanism.permitted(16) == Mechanism(1.0, 1.0, 1e-3, "prv").permitted(1)  # 0.36 + 0.64


@pytest.mark.parametrize(
    ("noise", "rate", "steps", "mu", "pld"),
    [(1.0, 0.1, 40, 0.8, 4.972097), (0.8, 0.05, 100, 0.5, 5.096607), (2.0, 0.5, 30, 1.0, 7.682928)],
)
def test_release_and_sampled_steps_compose_as_by_privacy_loss_distributions(
    noise: float, rate: float, steps: int, mu: float, pld: float
) -> None:
    """Numbers of the package dp-accounting 0.6.0 (PLD) for the same composition at delta 1e-4."""
    tight = Mechanism(noise, rate, 1e-4, "prv", mu).spent(steps)
    assert pld <= tight <= pld + 0.02  # its upper bound, with a grid error of 0.01
    assert tight < Mechanism(noise, rate, 1e-4, "rdp", mu).spent(steps)
    assert Mechanism(noise, rate, 1e-4, "prv").spent(steps) < tight


@pytest.mark.parametrize("rate", [1.0, 0.2])
def test_noise_is_calibrated_for_release_and_steps_together(rate: float) -> None:
    release = share_of_mu(4.0, delta=1e-3, share=0.15)
    whole = share_of_mu(4.0, delta=1e-3, share=1.0)
    assert gaussian_epsilon(whole, 1e-3) == pytest.approx(4, rel=1e-6)
    assert release == pytest.approx(math.sqrt(0.15) * whole)
    noise = noise_for(4.0, delta=1e-3, rate=rate, steps=10, accountant="prv", release=release)
    assert 3.95 <= Mechanism(noise, rate, 1e-3, "prv", release).spent(10) <= 4
    if rate == 1:
        assert noise == pytest.approx(math.sqrt(10 / 0.85) / whole, rel=2e-3)


@pytest.mark.parametrize("rate", [1.0, 0.3])
def test_a_release_of_nearly_the_whole_budget_leaves_steps_by_prv_and_is_named_by_rdp(rate: float) -> None:
    """The looser accountant's bound of such a release alone is above epsilon."""
    release = share_of_mu(8.5, delta=1 / 3000, share=0.9)
    noise = noise_for(8.5, delta=1 / 3000, rate=rate, steps=4, accountant="prv", release=release)
    assert 8.4 <= Mechanism(noise, rate, 1 / 3000, "prv", release).spent(4) <= 8.5
    with pytest.raises(InputError, match="least_squares takes too much of epsilon 8.5: by rdp") as caught:
        noise_for(8.5, delta=1 / 3000, rate=rate, steps=4, accountant="rdp", release=release)
    assert "or accountant prv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_exact_release_spends_everything_before_the_first_step() -> None:
    mechanism = Mechanism(0.0, 1.0, 1e-3, "prv", math.inf)
    assert mechanism.spent(0) == mechanism.spent(1) == math.inf
    assert mechanism.permitted(0).auc == mechanism.permitted(1).auc == 1


def test_assigned_weights_classify_the_columns() -> None:
    torch.manual_seed(0)
    network = Hypercolumn("resnet18", classes=3).eval()
    x = torch.rand(2, 3, 64, 64)
    features = network.encoder(x)
    columns = network.columns(features)
    weights, bias = torch.randn(3, columns.shape[1]), torch.randn(3)
    network.assign(weights, bias)
    scores = torch.einsum("kd,ndhw->nkhw", weights, columns) + bias[:, None, None]
    expected = torch.nn.functional.interpolate(scores, size=(64, 64), mode="bilinear")
    assert_close(network(x), expected, rtol=1e-4, atol=1e-3)


START = [
    "--model.frozen=[encoder]",
    "--model.encoder_weights=imagenet",
    option("batch_norm", "fixed"),
    option("least_squares", 0.15),
]


def test_a_training_begins_there_and_spends_no_more_than_its_budget(
    head: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[Tensor] = []

    def watched(task: Any, data: Any, private: Any) -> None:
        begin_at_least_squares(task, data, private)
        classifier = {name: each for name, each in task.trained_parameters().items() if "weight" in name}
        starts.append(torch.cat([each.detach().flatten() for each in classifier.values()]))

    monkeypatch.setattr("seg_mia.defences.dp.callback.begin_at_least_squares", watched)
    words = [*START, EVERYTHING, option("epsilon", 4), option("accountant", "prv")]
    folder = fit(head, *words)
    promise = privacy(folder)
    assert 3.95 <= promise["epsilon"] <= promise["budget"] == 4
    assert promise["release"] == pytest.approx(share_of_mu(4.0, delta=promise["delta"], share=0.15))
    assert promise["noise"] > noise_for(4.0, delta=promise["delta"], rate=1.0, steps=3, accountant="prv")
    assert float(starts[0].norm()) == pytest.approx(NORM, rel=1e-4)
    fit(head, *words, runs="again")
    assert torch.equal(starts[0], starts[1])


def test_a_killed_run_goes_on_as_if_nothing_had_happened(head: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [*START, "--data.batch_size=3", option("epsilon", 4), option("ema", 0.5)]
    whole, broken = fit(head, *words, runs="whole"), Path("broken/tiny-dp/version_0")
    killed(["fit", "--config", str(head), *KNOWN, *words, "--runs", "broken"], monkeypatch)
    assert main(["fit", "--resume", str(broken)]) == 0
    same(broken, whole)


def test_another_network_has_no_such_start(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refusal(["fit", "--config", str(small), *DP, option("least_squares", 0.1)], capsys)
    assert "least_squares begins a linear classifier of pixels, got another network" in line


TWIN = [*START, EVERYTHING, option("epsilon", ".inf"), option("noise", 0), "--trainer.max_epochs=1"]


def test_a_twin_without_noise_claims_nothing_from_its_first_step_on(head: Path) -> None:
    folder = fit(head, *TWIN)
    assert privacy(folder)["release"] == privacy(folder)["epsilon"] == math.inf
    kept = guarantee(read_card(folder / "checkpoints" / "last.ckpt").privacy, "here")
    assert kept is not None
    assert (kept.release, kept.epsilon) == (None, None)
    assert kept.permitted is not None
    assert kept.permitted.auc == 1


def test_a_patient_of_several_images_contributes_their_mean(
    head: Path, folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Patients of four and of two images, without noise: the sum over both of the means of their images."""
    rows = [f"images/s{i:02d}.png,masks/s{i:02d}.png,p{(i % 6) // 4 + 2 * (i // 6)}\n" for i in range(40)]
    root = folder(count=40)
    (root / "list.csv").write_text("image,mask,patient\n" + "".join(rows))
    read = yaml.safe_load(head.read_text())
    read["data"]["init_args"] |= {
        "manifest": "list.csv",
        "group_column": "patient",
        "images": ".",
        "masks": ".",
    }
    head.write_text(yaml.safe_dump(read))
    totals, images = list[Moments](), dict[int, Moments]()

    def sums(exact: Moments, mu: float, seed: int) -> tuple[Moments, float]:
        assert mu == math.inf
        totals.append(exact)
        return released(exact, mu, seed)

    def begun(task: Any, data: Any, private: Any) -> None:
        begin_at_least_squares(task, data, private)
        whose = data.source.groups
        for patient in {whose[index] for index in data.trained()}:
            own = [images[index] for index in data.trained().tolist() if whose[index] == patient]
            sizes.append(len(own))
            means.append(Moments(*(torch.stack(part).mean(0) for part in zip(*own, strict=True))))

    order = list[int]()
    sizes, means = list[int](), list[Moments]()

    def watched(data: Any) -> Any:
        for image, mask, index in _images(data):
            order.append(index)
            yield image, mask, index

    def each(columns: Tensor, shares: Tensor, maps: int) -> Moments:
        images[order[-1]] = image_moments(columns, shares, maps)
        return images[order[-1]]

    place = "seg_mia.defences.dp.least_squares"
    monkeypatch.setattr(f"{place}.released", sums)
    monkeypatch.setattr(f"{place}._images", watched)
    monkeypatch.setattr(f"{place}.image_moments", each)
    monkeypatch.setattr("seg_mia.defences.dp.callback.begin_at_least_squares", begun)
    fit(head, *TWIN, option("unit", "patient"), "--data.batch_size=2")
    assert sorted(sizes) == [2, 4]
    (total,) = totals
    assert_close(total, Moments(*(torch.stack(part).sum(0) for part in zip(*means, strict=True))))


@pytest.mark.parametrize(
    ("words", "telling"),
    [
        (
            ["--model.network.size=64"],
            "least_squares needs features at the place of their pixels, got size 64",
        ),
        ([], "least_squares needs finite features, got others of s"),
    ],
)
def test_features_that_have_no_moments_are_refused(
    words: list[str],
    telling: str,
    head: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if not words:
        monkeypatch.setattr(
            Hypercolumn, "columns", lambda _, features: torch.full((1, 9, *features[1].shape[2:]), math.nan)
        )
    assert telling in refusal(["fit", "--config", str(head), *KNOWN, *TWIN, *words], capsys)
