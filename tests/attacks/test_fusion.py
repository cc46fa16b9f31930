"""Six losses side by side: each does what it does alone, and each image keeps the best of them."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.attacks.base import Adversarial
from seg_mia.attacks.fusion import AttackState, Keep, SuccessCriterion, chosen
from seg_mia.attacks.medis import ALL, medis
from seg_mia.losses import SurrogateName

STEP = 1 / 255
WAYS: list[dict[str, Any]] = [
    {"targeted": True, "success": 0.5, "stop": 1.0},
    {"targeted": False, "success": 0.2, "stop": 0.0},
    {"targeted": True, "success": 0.5, "stop": 1.0, "keep": "last"},
    {"targeted": False, "success": 0.2, "stop": 0.1, "keep": "last"},
]
every_way = pytest.mark.parametrize("way", WAYS)


ALL_AT_ONCE = 1000


def drawn(classes: int, seed: int = 1, count: int = 8) -> tuple[nn.Module, Tensor, Tensor]:
    """A random network that the losses lead to different ends, images and masks."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = nn.Conv2d(2, 6, 3, padding=1), nn.Tanh(), nn.Conv2d(6, classes, 3, padding=1)
        network = nn.Sequential(*layers).double()
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(count, 2, 8, 7, generator=generator, dtype=torch.float64)
    return network, x, torch.randint(max(2, classes), (count, 8, 7), generator=generator)


def attack(inputs: tuple[nn.Module, Tensor, Tensor], **knobs: Any) -> Adversarial:
    return medis(*inputs, **{"steps": 8, "step_size": 0.02, "history": True} | knobs)


def rung(*steps: int) -> tuple[nn.Module, Tensor, Tensor]:
    """A linear network and images of one pixel each that it calls 1 after so many steps upwards."""
    away = (torch.tensor(steps, dtype=torch.float64) - 0.5) * STEP
    network = nn.Conv2d(1, 1, 1).double()
    nn.init.constant_(network.weight, 8.0)
    assert network.bias is not None
    nn.init.constant_(network.bias, -4.0)
    return network, (0.5 - away).view(-1, 1, 1, 1), torch.ones(len(steps), 1, 1, dtype=torch.int64)


@every_way
@pytest.mark.parametrize("classes", [1, 3])
def test_each_image_keeps_the_best_of_its_six_runs(way: dict[str, Any], classes: int) -> None:
    inputs = drawn(classes)
    if classes == 3:
        way = way | {"success": 0.2 if way["targeted"] else 0.12}
    alone = {name: attack(inputs, losses=[name], **way) for name in ALL}
    fused = attack(inputs, **way)
    sign = 1 if way["targeted"] else -1
    winners, solved = [], []
    for n in range(8):
        wins = [name for name in ALL if alone[name].notes["success"][n]]

        def rank(name: SurrogateName, n: int = n, wins: list[SurrogateName] = wins) -> tuple[float, float]:
            notes = alone[name].notes
            return notes["steps"][n].item() if wins else 0, -sign * notes["mean_iou"][n].item()

        best = min(wins or ALL, key=rank)
        assert ALL[int(fused.notes["loss"][n])] == best
        assert fused.notes["success"][n] == bool(wins)
        for name in ("steps", "mean_iou"):
            assert fused.notes[name][n] == alone[best].notes[name][n]
        assert_close(fused.images[n], alone[best].images[n], rtol=0, atol=0)
        assert all(fused.notes["steps"][n] <= alone[name].notes["steps"][n] for name in wins)
        winners.append(best)
        solved.append(bool(wins))
    assert len(set(winners)) > 1  # or nothing was tried
    assert any(solved)


@every_way
@pytest.mark.parametrize("classes", [1, 3])
def test_a_loss_does_in_company_what_it_does_alone(way: dict[str, Any], classes: int) -> None:
    inputs = drawn(classes, seed=2)
    truth = inputs[2].roll(1, 0)
    fused = attack(inputs, truth=truth, **way)
    for name in ALL:
        alone = attack(inputs, truth=truth, losses=[name], **way)
        for note in ("success", "steps", "mean_iou"):
            assert_close(fused.notes[f"{name}.{note}"], alone.notes[note], rtol=0, atol=0)
            assert_close(alone.notes[f"{name}.{note}"], alone.notes[note], rtol=0, atol=0)
        for measure in ("mean_iou", "iou", "truth_iou"):
            assert_close(fused.history[f"{name}.{measure}"], alone.history[measure], rtol=0, atol=0)
        for note in ("clean_success", "skipped", "counted"):
            assert_close(fused.notes[note], alone.notes[note], rtol=0, atol=0)


@every_way
def test_without_fusion_the_first_loss_is_kept(way: dict[str, Any]) -> None:
    inputs = drawn(1, seed=2)
    alone = attack(inputs, losses=["structure"], **way)
    kept = attack(inputs, losses=["structure", "bce_dice", "combined"], fusion=False, **way)
    assert_close(kept.images, alone.images, rtol=0, atol=0)
    assert kept.notes["loss"].eq(0).all()
    for note in ("success", "steps", "mean_iou"):
        assert_close(kept.notes[note], alone.notes[note], rtol=0, atol=0)
    assert kept.notes["bce_dice.steps"].ne(kept.notes["steps"]).any()  # measured all the same


@every_way
def test_the_size_of_a_pass_changes_nothing(way: dict[str, Any]) -> None:
    inputs = drawn(1, count=4)
    whole = watched(inputs[0], lambda: attack(inputs, steps=5, largest_batch=ALL_AT_ONCE, **way))
    for largest in (1, 4, 7, 1000):
        parts = watched(
            inputs[0], lambda largest=largest: attack(inputs, steps=5, largest_batch=largest, **way)
        )
        assert max(parts.sizes) == min(largest, max(whole.sizes))
        assert sum(parts.sizes) == sum(whole.sizes)
        assert_close(parts.result.images, whole.result.images, rtol=0, atol=0)
        assert_close(parts.result.notes, whole.result.notes, rtol=0, atol=0)
        assert_close(parts.result.history, whole.result.history, rtol=0, atol=0)


class Seen:
    """How many images went through a network at each pass, and what came out in the end."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.result: Any = None


def watched(network: nn.Module, call: Any) -> Seen:
    seen = Seen()
    hook = network.register_forward_hook(lambda _module, inputs, _output: seen.sizes.append(len(inputs[0])))
    seen.result = call()
    hook.remove()
    return seen


def test_what_has_ended_is_not_looked_at_again() -> None:
    # Solved from the start, after 1 step, after 3, never: one pass for all losses, then six runs of the rest.
    inputs = rung(0, 1, 3, 20)
    seen = watched(inputs[0], lambda: medis(*inputs, steps=5, largest_batch=ALL_AT_ONCE))
    assert seen.sizes == [4, 6 * 3, 6 * 2, 6 * 2, 6, 6]
    assert seen.result.notes["steps"].tolist() == [0, 1, 3, 5]
    parts = watched(inputs[0], lambda: medis(*inputs, steps=5, largest_batch=4))
    assert parts.sizes == [4, *[4] * 4, 2, *[4] * 3, *[4] * 3, 4, 2, 4, 2]
    names: list[SurrogateName] = ["combined", "structure"]
    fewer = watched(inputs[0], lambda: medis(*inputs, steps=5, losses=names, largest_batch=ALL_AT_ONCE))
    assert fewer.sizes == [4, 2 * 3, 2 * 2, 2 * 2, 2, 2]


def test_on_a_cpu_a_pass_is_as_large_as_the_batch() -> None:
    inputs = rung(0, 1, 3, 20)
    own = watched(inputs[0], lambda: medis(*inputs, steps=5))
    parts = watched(inputs[0], lambda: medis(*inputs, steps=5, largest_batch=4))
    assert own.sizes == parts.sizes


@pytest.mark.parametrize(
    ("knobs", "passes"), [({}, 5), ({"history": True}, 10), ({"keep": "last"}, 10), ({"fusion": False}, 5)]
)
def test_a_run_goes_on_after_its_success_only_where_something_of_it_is_kept(
    knobs: dict[str, Any], passes: int
) -> None:
    network, rungs, _ = rung(*range(1, 11))  # as one image: 5 of 10 pixels is a success, 10 of 10 the end
    target = torch.ones(1, 1, 10, dtype=torch.int64)
    x = rungs.view(1, 1, 1, 10)
    seen = watched(network, lambda: medis(network, x, target, largest_batch=ALL_AT_ONCE, **knobs))
    assert seen.sizes == [1, *[6] * passes]


def test_a_run_without_a_gradient_ends() -> None:
    network, x, target = rung(1, 3)
    seen = watched(network, lambda: medis(nn.Sequential(network, Sign()), x, target, history=True))
    assert seen.sizes == [2]
    assert seen.result.notes["no_gradient"].tolist() == [1, 1]
    assert seen.result.history["mean_iou"].tolist() == [[0, 0]] * 11


class Sign(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sign()


@pytest.mark.parametrize("truth", [False, True])
def test_history_has_every_iterate_and_what_has_ended_stays(truth: bool) -> None:
    network, x, target = rung(1, 3, 20)
    knobs: dict[str, Any] = {"truth": target} if truth else {}
    history = medis(network, x, target, steps=5, history=True, **knobs).history
    measures = ("mean_iou", "iou", *(("truth_iou",) if truth else ()))
    own = [f"{name}.{measure}" for name in ALL for measure in measures]
    assert set(history) == {"step", *measures, *own}
    assert history["step"].tolist() == [[n] * 3 for n in range(6)]
    for name in (*measures, *own):
        assert history[name].tolist() == [[n >= 1, n >= 3, 0] for n in range(6)], name
    assert not medis(network, x, target, steps=5, **knobs).history


@pytest.mark.parametrize("targeted", [True, False])
@pytest.mark.parametrize("keep", ["success", "last"])
def test_the_choice_by_hand(targeted: bool, keep: Keep) -> None:
    # columns: one is faster; equally fast, another better; none succeeds; all alike
    first = torch.tensor([[-1, 3, -1, 2], [4, 3, -1, 2], [2, -1, -1, 2]])
    good = torch.tensor([[0.9, 0.5, 0.1, 0.6], [0.7, 0.6, 0.3, 0.6], [0.5, 0.9, 0.3, 0.6]]).double()
    values = good if targeted else 1 - good
    other = torch.full_like(values, 0.5)
    runs = AttackState(
        torch.zeros(4, 1, 1, 1), torch.ones(4, 1, 1).long(), SuccessCriterion(targeted, 0.5, 0.5), losses=3
    )
    runs.first = first.flatten()
    runs.reached = (values if keep == "success" else other).flatten()
    runs.now = {"mean_iou": (values if keep == "last" else other).flatten()}
    assert chosen(runs, keep=keep, fusion=True).tolist() == [2 * 4 + 0, 4 + 1, 4 + 2, 3]
    assert chosen(runs, keep=keep, fusion=False).tolist() == [0, 1, 2, 3]
