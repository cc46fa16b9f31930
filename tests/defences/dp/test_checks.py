"""Networks and losses that mix samples are found by trying; those that do not are left in peace."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.data.sets.folder import Folder
from seg_mia.defences.dp.checks import choose_mode, precise, require_separable
from seg_mia.errors import InputError
from seg_mia.losses import dice_cross_entropy_loss
from seg_mia.models.smp import Smp
from seg_mia.tasks.segmentation import Segmentation

# A config names its network instead of holding it.
pytestmark = pytest.mark.filterwarnings("ignore:.*is an instance of `nn.Module`.*")


class Layered(nn.Module):
    """A convolution, something in between, and another convolution."""

    def __init__(self, between: nn.Module) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 4, 3, padding=1)
        self.between = between
        self.last = nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.between(self.body(x)).relu())
        return y


class Mixing(nn.Module):
    """A layer without parameters that looks at the batch as a whole."""

    def __init__(self, how: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        return self.how(x)


class OverPixels(nn.Module):
    """BatchNorm1d over the pixels of a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(x.flatten(2)).view_as(x)
        return y


class Remembering(nn.Module):
    """A layer that adds up what it has seen, in a buffer that a checkpoint holds."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(4))
        self.seen: Tensor

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen += x.detach().mean((0, 2, 3)).to(self.seen)
        return x


class Asleep(nn.Module):
    """A BatchNorm1d that does not train when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = OverPixels()
        self.train()

    def train(self, mode: bool = True) -> "Asleep":
        super().train(mode)
        self.inside.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inside(x)
        return y


class Scaled(nn.Module):
    """A parameter that no known layer uses."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


def from_the_first(x: Tensor) -> Tensor:
    """Return all samples less what the first one has on average: the first itself sees no other."""
    return x - x[:1].mean((1, 2, 3), keepdim=True)


MIXING: dict[str, Callable[[], nn.Module]] = {
    "batch norm": lambda: nn.BatchNorm2d(4),
    "batch norm over pixels": OverPixels,
    "the batch's mean": lambda: Mixing(lambda x: x - x.mean(0, keepdim=True)),
    "the batch's spread, without a gradient": lambda: Mixing(lambda x: x / (x.detach().std() + 1)),
    "a softmax over the batch": lambda: Mixing(lambda x: x.softmax(0)),
    "the next sample": lambda: Mixing(lambda x: x + 0.1 * x.roll(-1, 0)),
    "the sample before": lambda: Mixing(lambda x: x + 0.1 * torch.cat([torch.zeros_like(x[:1]), x[:-1]])),
    "the first sample": lambda: Mixing(from_the_first),
}
APART: dict[str, Callable[[], nn.Module]] = {
    "group norm": lambda: nn.GroupNorm(2, 4),
    "instance norm": lambda: nn.InstanceNorm2d(4, affine=True),
    "layer norm": lambda: nn.LayerNorm([4, 32, 32]),
    "dropout": lambda: nn.Dropout2d(0.5),
    "own parameters": Scaled,
}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def data(folder: Callable[..., Path]) -> Folder:
    made = Folder(root=str(folder()), threshold=127, members=4, nonmembers=2, batch_size=2)
    made.setup()
    return made


def task_of(network: nn.Module) -> Segmentation:
    return Segmentation(network)


@pytest.mark.parametrize("name", MIXING)
def test_a_network_that_mixes_samples_is_refused(name: str, data: Folder) -> None:
    with pytest.raises(InputError, match="a network without mixing of samples, ") as refusal:
        require_separable(task_of(Layered(MIXING[name]())), data)
    assert "\n" not in str(refusal.value)


def test_a_normalisation_that_mixes_samples_is_named_with_the_remedy(data: Folder) -> None:
    with pytest.raises(InputError, match="BatchNorm1d between.norm uses .*; use group normalisation"):
        require_separable(task_of(Layered(OverPixels())), data)


@pytest.mark.parametrize(
    "between", [Remembering, lambda: nn.InstanceNorm2d(4, track_running_stats=True)], ids=["own", "instance"]
)
def test_a_layer_that_keeps_what_it_saw_is_refused(between: Callable[[], nn.Module], data: Folder) -> None:
    """Statistics in buffers go into the checkpoint as they are, without clipping or noise."""
    with pytest.raises(InputError, match="DP-SGD needs"):
        require_separable(task_of(Layered(between())), data)


def test_a_layer_in_evaluation_mode_is_refused(data: Folder) -> None:
    with pytest.raises(InputError, match=r"training mode, got .*inside.* \(.*\) in evaluation mode"):
        require_separable(task_of(Layered(Asleep())), data)
    stopped = Layered(nn.GroupNorm(2, 4))
    task = task_of(stopped)
    stopped.between.eval()
    with pytest.raises(InputError, match=r"got .*between \(GroupNorm\) in evaluation mode"):
        require_separable(task, data)


@pytest.mark.parametrize(
    "loss",
    [
        lambda logits, mask: dice_cross_entropy_loss(logits, mask) * 0 + _batch_dice(logits, mask),
        lambda logits, mask: dice_cross_entropy_loss(logits, mask).roll(1),
        lambda logits, mask: dice_cross_entropy_loss(logits, mask) / logits.detach().square().mean(),
    ],
    ids=["Dice of the batch", "another's loss", "scaled by the batch"],
)
def test_a_loss_that_mixes_samples_is_refused(loss: Callable[[Tensor, Tensor], Tensor], data: Folder) -> None:
    task = task_of(Layered(nn.GroupNorm(2, 4)))
    require_separable(task, data)
    task.loss_per_image = loss
    with pytest.raises(InputError, match="a per-sample loss, .*; return one value per image"):
        require_separable(task, data)


def _batch_dice(logits: Tensor, mask: Tensor) -> Tensor:
    p = logits[:, 0].sigmoid()
    return 1 - 2 * (p * mask).sum() / (p.sum() + mask.sum() + 1)


def test_a_loss_of_the_whole_batch_is_refused(data: Folder) -> None:
    task = task_of(Layered(nn.GroupNorm(2, 4)))
    task.loss_per_image = _batch_dice
    with pytest.raises(InputError, match=r"a per-sample loss, got values of shape \(\) for 2"):
        require_separable(task, data)


@pytest.mark.parametrize("name", APART)
def test_a_network_that_keeps_samples_apart_is_left_as_it_was(name: str, data: Folder) -> None:
    task = task_of(Layered(APART[name]()))
    network, before = task.network, {key: value.clone() for key, value in task.network.state_dict().items()}
    torch.manual_seed(3)
    state = torch.get_rng_state()
    for _ in range(3):
        require_separable(task, data)
        choose_mode(task, data)
    assert torch.equal(torch.get_rng_state(), state)
    assert task.network is network
    assert all(module.training for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert_close(dict(network.state_dict()), before, rtol=0, atol=0)


@pytest.mark.parametrize("members", [1, 2, 4])
def test_few_samples_are_enough_to_find_a_mixing_layer(members: int, folder: Callable[..., Path]) -> None:
    data = Folder(root=str(folder()), threshold=127, members=members, nonmembers=2)
    data.setup()
    require_separable(task_of(Layered(nn.GroupNorm(2, 4))), data)
    with pytest.raises(InputError, match="without mixing of samples"):
        require_separable(task_of(Layered(OverPixels())), data)


def test_the_network_is_tried_on_patches_where_training_has_them(folder: Callable[..., Path]) -> None:
    data = Folder(root=str(folder()), threshold=127, members=4, nonmembers=2, patch=[16, 24])
    data.setup()
    require_separable(task_of(Layered(nn.LayerNorm([4, 16, 24]))), data)  # takes no other size


def test_the_precise_copy_is_gone_after_an_error(data: Folder) -> None:
    task = task_of(Layered(nn.Dropout(0.5)))
    network = task.network
    with precise(task):
        assert task.network is not network
        assert {parameter.dtype for parameter in task.network.parameters()} == {torch.float64}
    with pytest.raises(ZeroDivisionError), precise(task):
        raise ZeroDivisionError
    assert task.network is network
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert all(module.training for module in network.modules())
    require_separable(task, data)


def test_layers_of_known_kinds_are_taken_together(data: Folder) -> None:
    small = Smp(encoder="tu-test_resnet", channels=3, classes=1, depth=3, norm="group", dropout=0.3)
    for network in (small, Layered(nn.GroupNorm(2, 4)), Layered(nn.InstanceNorm2d(4))):
        assert choose_mode(task_of(network), data) == "fused"


def test_what_is_not_known_is_taken_image_by_image(data: Folder, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert choose_mode(task_of(Layered(Scaled())), data) == "loop"
    assert "image by image, which is slower" in caplog.text
    assert "scale" in caplog.text


def test_what_comes_out_otherwise_together_is_taken_image_by_image(
    data: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert choose_mode(task_of(Layered(Mixing(from_the_first))), data) == "loop"
    assert "batched ones differ" in caplog.text
