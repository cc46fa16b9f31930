import pytest
import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)
from torch import Tensor, nn

from seg_mia.errors import InputError
from seg_mia.models.group_norm import with_group_norm


class Fused(nn.BatchNorm2d):
    """BatchNorm with drop-out and activation inside, as timm has it."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.drop = nn.Identity()
        self.act = nn.ReLU()


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.BatchNorm2d(6)
        self.second = self.first

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.first(x))
        return y


def norm(layer: nn.BatchNorm2d) -> nn.BatchNorm2d:
    nn.init.uniform_(layer.weight)
    nn.init.uniform_(layer.bias)
    return layer


@pytest.mark.parametrize(("channels", "groups"), [(64, 32), (48, 16), (7, 1), (16, 16)])
def test_equals_torch_with_the_old_affine_weights(channels: int, groups: int) -> None:
    old = norm(nn.BatchNorm2d(channels, eps=1e-3))
    network = nn.Sequential(nn.Identity(), old)
    assert with_group_norm(network) is network
    x = torch.rand(2, channels, 4, 4)
    torch.testing.assert_close(network(x), F.group_norm(x, groups, old.weight, old.bias, eps=1e-3))
    assert network[1].weight is old.weight
    assert list(network.state_dict()) == ["1.weight", "1.bias"]


def test_keeps_an_activation_that_the_layer_had_inside() -> None:
    old = norm(Fused(8))
    network = with_group_norm(nn.Sequential(old))
    x = torch.rand(2, 8, 4, 4)
    torch.testing.assert_close(network(x), F.relu(F.group_norm(x, 8, old.weight, old.bias)))
    assert list(network.state_dict()) == ["0.weight", "0.bias"]


def test_a_layer_used_twice_stays_one_layer() -> None:
    network = Shared()
    with_group_norm(network)
    assert isinstance(network.first, nn.GroupNorm)
    assert network.second is network.first


def test_without_affine_and_at_the_root() -> None:
    layer = with_group_norm(nn.BatchNorm2d(6, affine=False).eval(), groups=4)
    assert isinstance(layer, nn.GroupNorm)
    assert (layer.num_groups, layer.affine, layer.training) == (2, False, False)


def test_refuses_a_layer_it_does_not_know() -> None:
    class Odd(nn.BatchNorm2d):
        pass

    with pytest.raises(InputError, match="unsupported Odd"):
        with_group_norm(nn.Sequential(Odd(4)))
