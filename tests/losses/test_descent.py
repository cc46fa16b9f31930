"""Where the surrogate losses lead: to the mask, from everywhere, with a gradient all the way."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.cli import main
from seg_mia.data.samples import Batch
from seg_mia.losses import SURROGATES, SurrogateName
from seg_mia.metrics.labels import IGNORE
from seg_mia.tasks.segmentation import Segmentation
from tests.losses.helpers import confident, draw, every_channels, every_loss


@every_loss
@every_channels
@pytest.mark.parametrize("heads", [1, 2])
def test_gradients_are_those_of_the_value(name: SurrogateName, channels: int, heads: int) -> None:
    mask = draw(channels, n=1, size=(4, 4))[1]
    logits = [draw(channels, seed=seed, n=1, size=(4, 4))[0].requires_grad_() for seed in range(heads)]
    assert torch.autograd.gradcheck(lambda *each: SURROGATES[name](each, mask), logits)


@every_loss
@every_channels
def test_nothing_costs_less_than_the_mask(name: SurrogateName, channels: int) -> None:
    _, mask = draw(channels)
    logits = confident(mask, channels, 60).double()
    best = SURROGATES[name](logits, mask)
    assert best.abs().max() < 1e-9
    for seed in range(20):
        for size in (0.1, 10.0, 200.0):
            other = logits + size * draw(channels, seed=seed)[0]
            assert (SURROGATES[name](other, mask) >= best - 1e-12).all()


@every_loss
@every_channels
def test_descent_ends_at_the_mask(name: SurrogateName, channels: int) -> None:
    logits, mask = draw(channels, size=(6, 6))
    logits.requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=1.0)
    for _ in range(150):
        optimizer.zero_grad()
        (logits.grad,) = torch.autograd.grad(SURROGATES[name](logits, mask).sum(), logits)
        optimizer.step()
    assert SURROGATES[name](logits, mask).max() < 1e-3
    prediction = (logits[:, 0] > 0).long() if channels == 1 else logits.argmax(1)
    assert prediction[mask != IGNORE].equal(mask[mask != IGNORE])


@every_loss
@every_channels
@pytest.mark.parametrize("heads", [1, 2])
def test_extremes_stay_finite(name: SurrogateName, channels: int, heads: int) -> None:
    generator = torch.Generator().manual_seed(0)
    masks = [torch.full((1, 6, 6), kind) for kind in (0, 1, IGNORE)] + [draw(channels, n=1, size=(6, 6))[1]]
    for mask in masks:
        for size in (20.0, 100.0):
            for signs in (torch.ones, lambda *shape: -torch.ones(*shape), _coins(generator)):
                outputs = [(size * signs(1, channels, 6, 6)).requires_grad_() for _ in range(heads)]
                cost = SURROGATES[name](tuple(outputs), mask)
                assert cost.isfinite().all()
                assert cost.ge(0).all()
                for gradient in torch.autograd.grad(cost.sum(), outputs):
                    assert gradient.isfinite().all()
                    assert (gradient == 0).all() or not (mask == IGNORE).all()
                if (mask == IGNORE).all():
                    assert cost.item() == 0


def _coins(generator: torch.Generator) -> Callable[..., Tensor]:
    return lambda *shape: 2.0 * torch.randint(2, shape, generator=generator) - 1


@every_loss
@every_channels
@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("kind", [0, 1])
def test_one_confident_mistake_is_pulled_the_right_way(
    name: SurrogateName, channels: int, heads: int, kind: int
) -> None:
    mask = torch.zeros(1, 6, 6, dtype=torch.int64)
    mask[:, 3:] = 1
    row = 4 if kind else 1
    told = mask.clone()
    told[:, row, 2] = 1 - kind
    outputs = [confident(told, channels, 20).float().requires_grad_() for _ in range(heads)]
    pulls = torch.autograd.grad(SURROGATES[name](tuple(outputs), mask).sum(), outputs)
    for pull in pulls:  # of one logit or of the true class's: descent must make it larger or smaller
        rises = pull[0, 0 if channels == 1 else kind, row, 2] < 0
        assert rises == (kind == 1 or channels > 1)
        assert pull[0, :, row, 2].ne(0).any()


@every_channels
@pytest.mark.parametrize("name", [name for name in SURROGATES if name != "lovasz_hinge"])
def test_no_pixel_of_a_confidently_wrong_map_is_left_without_a_gradient(
    name: SurrogateName, channels: int
) -> None:
    # the Lovasz hinge leaves some by its definition: once all of a class is wrong, no more can be lost
    mask = torch.zeros(1, 6, 6, dtype=torch.int64)
    mask[:, 3:] = 1
    logits = confident(1 - mask, channels, 20).float().requires_grad_()
    (gradient,) = torch.autograd.grad(SURROGATES[name](logits, mask).sum(), logits)
    finer = logits.detach().double().requires_grad_()
    (exact,) = torch.autograd.grad(SURROGATES[name](finer, mask).sum(), finer)
    if channels > 1:  # the true class's: what a softmax leaves to the one it is sure of is rounded
        gradient, exact = (each.gather(1, mask.unsqueeze(1)) for each in (gradient, exact))
    assert gradient.ne(0).all()
    assert_close(gradient.double(), exact, rtol=1e-3, atol=0)


@pytest.mark.filterwarnings("ignore:.*is an instance of `nn.Module`.*")  # a config names it instead
@every_loss
def test_each_trains_a_network_on_its_own(name: SurrogateName) -> None:
    torch.manual_seed(0)
    mask = torch.randint(2, (4, 12, 12))
    batch = Batch(mask.unsqueeze(1).float(), mask, torch.arange(4))
    task = Segmentation(nn.Conv2d(1, 1, 1), loss=name)
    optimizer = torch.optim.Adam(task.parameters(), lr=0.3)
    losses = []
    for step in range(80):
        output = task.training_step(batch, step)
        assert output["losses"].shape == (4,)
        optimizer.zero_grad()
        task.backward(output["loss"])
        optimizer.step()
        losses.append(output["loss"].item())
    assert losses[-1] < 0.5 * losses[0]
    assert task.validation_step(batch, 0)["prediction"].equal(mask)


def test_one_is_named_on_the_command_line(tiny: Path) -> None:
    assert main(["fit", "--config", str(tiny), "--model.loss", "lovasz_hinge"]) == 0
    run = Path("runs/tiny/version_0")
    assert "loss: lovasz_hinge" in (run / "config.yaml").read_text()
    assert '"train/loss": ' in (run / "metrics.jsonl").read_text()
