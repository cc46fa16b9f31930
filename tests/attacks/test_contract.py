"""What every attack keeps; attacks are found among the configs, so that a new one is held to it too."""

from argparse import ArgumentError
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.attacks.adain import Adain
from seg_mia.attacks.base import Perturbation, attack_mode
from seg_mia.attacks.targets import Targeted
from seg_mia.attacks.universal import Universal
from seg_mia.config.files import find_config, known
from seg_mia.errors import InputError
from seg_mia.experiment.attack_classes import is_certification, is_membership
from tests.texture_weights import by_rule


def parser() -> ArgumentParser:
    attacks = ArgumentParser(exit_on_error=False)
    attacks.add_subclass_arguments(Perturbation, "attack")
    return attacks


def configured(name: str, **options: Any) -> Perturbation:
    """Return an attack as its config names it, with options of the command line."""
    words = [f"--attack={find_config(name, 'attack')}"]
    words += [f"--attack.{option}={value}" for option, value in options.items()]
    attack: Perturbation = parser().instantiate(parser().parse_args(words))["attack"]
    return attack


SHORT = {"steps": 5, "queries": 200}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Very narrow auto-encoders."""
    return str(by_rule(tmp_path_factory.mktemp("weights"), widths=(2, 2, 3, 4, 4), first=2))


@pytest.fixture(
    params=[
        name
        for name in known("attack")
        for file in [str(find_config(name, "attack"))]
        if not is_membership(file) and not is_certification(file)
    ]
)
def attack(request: pytest.FixtureRequest, weights: str, tmp_path: Path) -> Perturbation:
    attack = configured(request.param)
    if isinstance(attack, Universal):
        change = np.random.default_rng(0).uniform(-0.03, 0.03, (1, 3, 8, 8)).astype(np.float32)
        np.save(tmp_path / "universal.npy", change)
        return configured(request.param, fitted=str(tmp_path / "universal.npy"))
    if isinstance(attack, Adain):
        return configured(request.param, weights=weights, organs="[6, 3]")
    return configured(request.param, **{name: n for name, n in SHORT.items() if name in attack.settings})


class Small(nn.Module):
    """Convolution, batch statistics, dropout: all that an attack may not disturb."""

    def __init__(self, channels: int = 3, classes: int = 3) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Conv2d(6, classes, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.body(x)
        return output


@pytest.fixture
def model() -> Small:
    torch.manual_seed(0)
    network = Small()
    network.body[0].weight.requires_grad_(False)
    network.body[1].eval()
    return network


def inputs(count: int = 3, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(count, 3, 36, 32, generator=generator, dtype=dtype)
    return x, torch.randint(0, 3, (count, 36, 32), generator=generator)


def state(network: nn.Module) -> tuple[Any, ...]:
    return (
        {name: value.clone() for name, value in network.state_dict().items()},
        [module.training for module in network.modules()],
        [(parameter.requires_grad, parameter.grad) for parameter in network.parameters()],
        [len(module._forward_hooks) + len(module._backward_hooks) for module in network.modules()],
    )


@pytest.mark.parametrize("mode", ["plain", "no_grad", "inference"])
def test_returns_images_in_range_and_leaves_everything_as_found(
    attack: Perturbation, model: Small, mode: str
) -> None:
    x, target = inputs()
    kept, before = x.clone(), state(model)
    switches = {"plain": torch.enable_grad, "no_grad": torch.no_grad, "inference": torch.inference_mode}
    with switches[mode]():
        if mode == "inference":
            x, target = x.clone(), target.clone()  # made under inference mode, as a Trainer's batch is
        result = attack.run(model, x, target)
    assert result.images.shape == x.shape
    assert result.images.dtype == x.dtype
    assert not result.images.requires_grad
    assert result.images.min() >= 0
    assert result.images.max() <= 1
    assert all(note.shape == (len(x),) for note in result.notes.values())
    assert all(rows.shape[1] == len(x) for rows in result.history.values())
    assert_close(x, kept, rtol=0, atol=0)
    assert_close(state(model), before)


def test_no_gradient_reaches_the_parameters(attack: Perturbation, model: Small) -> None:
    attack.run(model, *inputs())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_batch_gives_each_image_what_it_gets_alone(attack: Perturbation, model: Small) -> None:
    model = model.double()
    x, target = inputs(8, torch.float64)
    together = attack.run(model, x, target)
    for n in range(8):
        alone = attack.run(model, x[n : n + 1], target[n : n + 1])
        assert_close(together.images[n : n + 1], alone.images, atol=1e-9, rtol=0)
        for name, note in alone.notes.items():
            assert_close(together.notes[name][n : n + 1], note, atol=1e-9, rtol=0, equal_nan=True)


def test_a_model_that_fails_is_restored_too(attack: Perturbation, model: Small) -> None:
    before = state(model)
    model.body[4].register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        attack.run(model, *inputs())
    assert state(model)[1:3] == before[1:3]


def test_attack_mode_gives_gradients_under_inference_mode(model: Small) -> None:
    with torch.inference_mode(), attack_mode(model):
        x = torch.rand(1, 3, 4, 4).requires_grad_()
        (gradient,) = torch.autograd.grad(model(x).sum(), x)
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize(
    ("x", "target", "message"),
    [
        (torch.zeros(4, 4), torch.zeros(1, 4, 4).long(), r"\(N, C, H, W\)"),
        (torch.zeros(1, 3, 4, 4).byte(), torch.zeros(1, 4, 4).long(), "floating point"),
        (torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4).long(), "one-hot"),
        (torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4), "int64"),
        (torch.zeros(1, 3, 4, 4), torch.zeros(2, 4, 4).long(), "masks must be"),
        (torch.full((1, 3, 4, 4), 2.0), torch.zeros(1, 4, 4).long(), r"\[0, 1\]"),
        (torch.full((1, 3, 4, 4), float("nan")), torch.zeros(1, 4, 4).long(), r"\[0, 1\]"),
        (torch.zeros(1, 3, 12, 12), torch.full((1, 12, 12), 7), "classes 0..2"),
        (torch.zeros(1, 3, 12, 12), torch.zeros(1, 11, 12).long(), "logits must be"),
        (torch.zeros(0, 3, 4, 4), torch.zeros(0, 4, 4).long(), "at least one image"),
    ],
)
def test_refuses_what_it_would_misread(
    attack: Perturbation, model: Small, x: Tensor, target: Tensor, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        attack.run(model, x, target)


def test_arrays_are_refused(attack: Perturbation, model: Small) -> None:
    x, target = inputs()
    for images, masks, name in ((x.numpy(), target, "images"), (x, target.numpy(), "masks")):
        with pytest.raises(TypeError, match=f"{name} must be a torch tensor, got ndarray; .*from_numpy"):
            attack.run(model, images, masks)  # type: ignore[arg-type]


def test_says_what_the_attacker_sees(attack: Perturbation) -> None:
    assert attack.attacker_knowledge


def test_targeted_attacks_check_their_choice(attack: Perturbation) -> None:
    if not isinstance(attack, Targeted):
        pytest.skip("not a targeted attack")
    with pytest.raises(InputError, match="target_folder"):
        type(attack)(target="folder")
    with pytest.raises(InputError, match="foreground class"):
        type(attack)(target_class=0)


def test_the_functions_options_are_those_of_the_command_line(attack: Perturbation) -> None:
    options = {
        name: parameter
        for name, parameter in signature(attack.function).parameters.items()
        if parameter.kind is Parameter.KEYWORD_ONLY
    }
    path = f"{type(attack).__module__}.{type(attack).__name__}"
    parsed = parser().parse_args([f"--attack={path}"]).attack.init_args.as_dict()
    shared = {name: option.default for name, option in options.items() if name in parsed}
    given_by_run = set(options) - set(shared)  # by the class itself: what is no plain value
    assert given_by_run <= {"on_step", "truth", "pairs"}
    assert {name: parsed[name] for name in shared} == {
        name: list(value) if isinstance(value, tuple) else value for name, value in shared.items()
    }
    assert set(attack.knobs) <= set(parsed)
    with pytest.raises(TypeError, match="unexpected keyword argument 'no_such'"):
        type(attack)(no_such=1)


@pytest.mark.parametrize("option", ["no_such=1", "target=1.5", "steps=many"])
def test_options_that_no_function_has_and_values_of_another_kind_are_refused(
    attack: Perturbation, option: str
) -> None:
    path = f"{type(attack).__module__}.{type(attack).__name__}"
    with pytest.raises(ArgumentError):
        parser().parse_args([f"--attack={path}", f"--attack.{option}"])
