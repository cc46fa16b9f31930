"""Adversarial training and training with noise: what the network is shown, and what stays as it was."""

import json
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.checkpoint import load_victim
from seg_mia.cli import main
from seg_mia.data.base import SegmentationData
from seg_mia.data.samples import Batch
from seg_mia.defences.adversarial import AdversarialTraining, InnerAttack, strongest
from seg_mia.defences.noise import GaussianNoise
from seg_mia.errors import InputError
from seg_mia.experiment.lightning_cli import Experiment
from seg_mia.losses import cross_entropy_loss
from seg_mia.models.stitched import Stitched
from seg_mia.models.wrapper import bare
from seg_mia.tasks.segmentation import Segmentation, _poly
from tests.trained_runs import Trained
from tests.trainings import killed, same

STEP, BALL = 0.01, 4 / 255


class Line(nn.Module):
    """One logit per pixel, 8 (x - 0.5)."""

    def forward(self, x: Tensor) -> Tensor:
        return 8 * (x - 0.5)


class Valley(nn.Module):
    """One logit per pixel that is lowest at 0.501: a step of 0.01 from 0.5 climbs out on the other side."""

    def forward(self, x: Tensor) -> Tensor:
        return 100 * (x - 0.501).abs()


def network() -> nn.Module:
    """Batch statistics and dropout: all that could couple images, or change."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(4, 1, 1)
    )


def batch_of(image: Tensor, mask: Tensor | None = None) -> Batch:
    mask = torch.ones(len(image), *image.shape[2:], dtype=torch.int64) if mask is None else mask
    return Batch(image, mask, torch.arange(len(image)))


def drawn(count: int = 5) -> Batch:
    generator = torch.Generator().manual_seed(1)
    return batch_of(
        torch.rand(count, 1, 6, 6, generator=generator),
        torch.randint(0, 2, (count, 6, 6), generator=generator),
    )


def test_images_move_by_signed_steps_into_the_ball_and_stay_in_range() -> None:
    batch = batch_of(torch.tensor([[[[0.9, 0.5, 0.005]]]]))
    one, two, five = (AdversarialTraining(steps=n).perturb(batch, Line()).image[0, 0, 0] for n in (1, 2, 5))
    assert_close(one, torch.tensor([0.9 - STEP, 0.5 - STEP, 0.0]))
    assert_close(two, torch.tensor([0.9 - BALL, 0.5 - BALL, 0.0]))
    assert torch.equal(two, five)


def test_the_iterate_of_highest_loss_is_trained_on_even_if_it_is_the_image() -> None:
    batch = batch_of(torch.tensor([[[[0.5]]], [[[0.52]]]]))
    image, before, after = strongest(Valley(), batch, epsilon=BALL, step_size=STEP, steps=3)
    assert image[0].item() == 0.5
    assert image[1].item() == pytest.approx(0.52 - BALL)
    assert_close(after, cross_entropy_loss(Valley()(image), batch.mask))
    assert after[0] == before[0]
    assert after[1] > before[1]


def test_the_network_is_asked_in_evaluation_mode_and_left_as_it_was() -> None:
    net, batch = network().train(), drawn()
    net[1].eval()  # type: ignore[index]
    net[0].weight.requires_grad_(False)  # type: ignore[index]
    state = {name: value.clone() for name, value in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    first = AdversarialTraining().perturb(batch, net).image
    assert torch.equal(first, AdversarialTraining().perturb(batch, net).image)  # no dropout
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert [module.training for module in net.modules()] == modes
    assert [parameter.requires_grad for parameter in net.parameters()] == [False] + [True] * 5
    assert all(parameter.grad is None for parameter in net.parameters())


def test_an_images_perturbation_does_not_depend_on_its_batch() -> None:
    # The sensitivity that differential privacy needs.
    net, batch = network().train(), drawn()
    together = AdversarialTraining().perturb(batch, net).image
    alone = [
        AdversarialTraining().perturb(Batch(*(part[n : n + 1] for part in batch)), net).image
        for n in range(5)
    ]
    assert torch.equal(together, torch.cat(alone))
    assert not torch.equal(together, batch.image)


def test_crops_are_perturbed_as_they_are_trained_on() -> None:
    net, batch = network().eval(), drawn()
    expected = AdversarialTraining().perturb(batch, net).image
    wrapped = Stitched(net, size=3).train()
    assert torch.equal(AdversarialTraining().perturb(batch, wrapped).image, expected)
    assert wrapped.training


def test_noise_is_gaussian_new_at_each_draw_and_leaves_the_range() -> None:
    torch.manual_seed(0)
    batch = batch_of(torch.full((4, 1, 50, 50), 0.9))
    noise = [GaussianNoise(sigma=0.25).sample(batch, Line()).image - 0.9 for _ in range(2)]
    assert not torch.equal(*noise)
    for draw in noise:
        assert abs(float(draw.mean())) < 0.01
        assert float(draw.std()) == pytest.approx(0.25, rel=0.03)
        assert draw.max() > 0.5
    torch.manual_seed(0)
    assert torch.equal(GaussianNoise(sigma=0.25).sample(batch, Line()).image - 0.9, noise[0])


def test_the_schedule_rises_for_a_tenth_and_decays_to_zero() -> None:
    factors = [_poly(step, steps=100) for step in range(102)]
    assert factors[:10] == pytest.approx([n / 10 for n in range(1, 11)])
    assert factors[10] == 1
    assert factors[55] == pytest.approx(0.5**0.9)
    assert factors[99] > 0 == factors[100] == factors[101]
    assert sorted(factors[9:], reverse=True) == factors[9:]


@pytest.mark.parametrize("values", [{"epsilon": 0.0}, {"step_size": 2.0}, {"steps": 0}, {"epsilon": 8.0}])
def test_settings_that_mean_nothing_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(InputError, match="must be"):
        AdversarialTraining(**values)  # type: ignore[arg-type]


@pytest.mark.usefixtures("undrawn")
def test_a_defended_training_logs_its_inner_attack_and_goes_with_crops(tiny: Path, trained: Trained) -> None:
    run = trained(tiny, "--defence", "adversarial", "--defence", "crop", "--model.schedule=poly")
    (epoch,) = (json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines())
    assert epoch["adversarial/loss"] > epoch["adversarial/loss_clean"] > 0


def test_the_config_of_pirat_has_its_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    built = list[tuple[Segmentation, SegmentationData, int]]()

    def fit(self: Experiment, model: Segmentation, datamodule: SegmentationData) -> None:
        built.append((model, datamodule, self.config["fit"]["trainer"]["max_epochs"]))

    monkeypatch.setattr(Experiment, "fit", fit)
    assert main(["fit", "--config", "kvasir_pirat"]) == 0
    ((model, data, epochs),) = built
    (defence,) = model.defences
    assert isinstance(defence, AdversarialTraining)
    assert defence.epsilon == pytest.approx(4 / 255, abs=1e-6)
    assert (defence.step_size, defence.steps) == (0.01, 5)
    assert (model.optimizer, model.lr, model.weight_decay, model.schedule) == ("adamw", 1e-3, 0.01, "poly")
    assert (data.batch_size, epochs) == (32, 50)


@pytest.mark.usefixtures("undrawn")
def test_a_training_begins_with_the_encoder_of_a_robust_run(
    tiny: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    robust = trained(tiny, "--defence", "adversarial") / "checkpoints" / "last.ckpt"
    begun = list[nn.Module]()

    def noted(self: InnerAttack, trainer: Trainer, pl_module: Segmentation) -> None:
        del self, trainer
        begun.append(deepcopy(bare(pl_module.network)))

    monkeypatch.setattr(InnerAttack, "on_train_epoch_start", noted)
    words = ["fit", "--config", str(tiny), "--defence", "adversarial"]
    for more in ([], ["--model.encoder_weights", str(robust)]):
        assert main([*words, *more]) == 0
    before, taken, trained_before = map(parts, (*begun, bare(load_victim(robust))))
    assert all(map(torch.equal, taken[0], trained_before[0]))
    assert not all(map(torch.equal, before[0], trained_before[0]))
    assert all(map(torch.equal, taken[1], before[1])), "the rest begins anew"
    assert not all(map(torch.equal, taken[1], trained_before[1]))


def parts(network: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Return the weights and statistics of a network's encoder, and the weights of the rest."""
    encoder = network.encoder
    assert isinstance(encoder, nn.Module)
    inside = {id(parameter) for parameter in encoder.parameters()}
    rest = [parameter.detach() for parameter in network.parameters() if id(parameter) not in inside]
    assert inside
    assert rest
    return list(encoder.state_dict().values()), rest


@pytest.mark.slow
def test_a_run_killed_in_mid_epoch_ends_with_the_same_weights(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.write_text(
        tiny.read_text().replace("epochs: 1", "epochs: 3").replace("depth: 3}", "depth: 3, dropout: 0.3}")
    )
    fit = ["fit", "--config", str(tiny), "--defence", "adversarial", "--model.schedule=poly"]
    assert main([*fit, "--runs", "whole"]) == 0
    killed([*fit, "--runs", "broken"], monkeypatch)
    whole, broken = (Path(runs) / "tiny-adversarial" / "version_0" for runs in ("whole", "broken"))
    assert main(["fit", "--resume", str(broken)]) == 0
    same(whole, broken)


@pytest.mark.slow
def test_private_training_takes_perturbed_images(tiny: Path) -> None:
    words = ["--defence", "adversarial", "--defence", "dp", "--model.defences.epsilon=20"]
    assert main(["fit", "--config", str(tiny), *words]) == 0
    run = Path("runs/tiny-adversarial-dp/version_0")
    (epoch,) = (json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines())
    assert epoch["adversarial/loss"] >= epoch["adversarial/loss_clean"]
