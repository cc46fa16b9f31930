from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)
from torch import Tensor, nn

from seg_mia.errors import InputError
from seg_mia.models.adapter import InputAdapter


class Recorder(nn.Module):
    """Returns its input as logits and keeps it."""

    seen: Tensor

    def forward(self, x: Tensor) -> Tensor:
        self.seen = x
        return x


class DeepSupervision(nn.Module):
    """A network of a user: the final head, and one at half its resolution."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x[:, :1], F.avg_pool2d(x[:, :2], 2)


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_default_leaves_images_and_logits_alone() -> None:
    x = images(2, 3, 5, 7)
    assert torch.equal(InputAdapter(Recorder())(x), x)


def test_normalises_each_channel() -> None:
    x = images(2, 3, 4, 4)
    expected = torch.stack(
        [(x[:, i] - m) / s for i, (m, s) in enumerate([(0.1, 0.5), (0.2, 1), (0.3, 2)])], 1
    )
    torch.testing.assert_close(InputAdapter(Recorder(), mean=[0.1, 0.2, 0.3], std=[0.5, 1, 2])(x), expected)


def test_one_mean_serves_any_number_of_channels() -> None:
    adapter = InputAdapter(Recorder(), mean=0.5, std=0.25)
    for channels in (1, 4):
        x = images(1, channels, 3, 3)
        torch.testing.assert_close(adapter(x), (x - 0.5) / 0.25)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 9), (8, 16), (17, 3)])
def test_pads_with_the_edge_and_crops_back(height: int, width: int) -> None:
    network, x = Recorder(), images(2, 1, height, width)
    assert torch.equal(InputAdapter(network, multiple=8)(x), x)
    assert [side % 8 for side in network.seen.shape[-2:]] == [0, 0]
    assert torch.equal(
        network.seen[..., height:, :width], x[..., -1:, :].expand_as(network.seen[..., height:, :width])
    )
    assert torch.equal(
        network.seen[..., :, width:],
        network.seen[..., width - 1 : width].expand_as(network.seen[..., width:]),
    )


def test_resizes_inside_and_back_as_torch_does() -> None:
    network, x = Recorder(), images(2, 3, 10, 14)
    y = InputAdapter(network, size=20)(x)
    inside = F.interpolate(x, size=(20, 20), mode="bilinear", align_corners=False)
    assert torch.equal(network.seen, inside)
    assert torch.equal(y, F.interpolate(inside, size=(10, 14), mode="bilinear", align_corners=False))


def test_resizing_and_padding_go_together() -> None:
    network, x = Recorder(), torch.full((1, 1, 30, 50), 0.25)
    y = InputAdapter(network, size=20, multiple=16)(x)
    assert network.seen.shape == (1, 1, 32, 32)
    torch.testing.assert_close(y, x)


@pytest.mark.parametrize(("size", "multiple"), [(None, 8), (24, 1), (24, 16)])
def test_every_map_of_a_tuple_comes_back_at_the_size_of_the_image(size: int | None, multiple: int) -> None:
    x = images(2, 2, 12, 20)
    heads = InputAdapter(DeepSupervision(), size=size, multiple=multiple)(x)
    assert isinstance(heads, tuple)
    assert [head.shape for head in heads] == [(2, 1, 12, 20), (2, 2, 12, 20)]


def test_a_tuple_passes_unchanged_where_sizes_are_left_alone() -> None:
    x = images(2, 2, 12, 20)
    for mine, expected in zip(InputAdapter(DeepSupervision())(x), DeepSupervision()(x), strict=True):
        assert torch.equal(mine, expected)


@pytest.mark.parametrize(("size", "multiple"), [(None, 1), (None, 4), (6, 1), (6, 4)])
def test_gradient_reaches_the_image_and_is_right(size: int | None, multiple: int) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Tanh()).double()
    adapter = InputAdapter(network, mean=0.4, std=0.3, size=size, multiple=multiple).double()
    x = images(1, 1, 5, 7).double().requires_grad_()
    assert torch.autograd.gradcheck(adapter, x)


def test_an_image_gets_alone_what_it_gets_in_a_batch() -> None:
    adapter = InputAdapter(
        nn.Conv2d(2, 2, 3, padding=1), mean=[0.1, 0.2], std=0.3, size=9, multiple=4
    ).double()
    x = images(3, 2, 7, 6).double()
    torch.testing.assert_close(adapter(x)[1:2], adapter(x[1:2]), rtol=0, atol=1e-12)


def test_statistics_move_with_the_module_and_stay_out_of_the_checkpoint() -> None:
    adapter = InputAdapter(nn.Conv2d(1, 1, 1), mean=0.5, std=2.0).double()
    assert adapter.mean.dtype == torch.float64
    assert list(adapter.state_dict()) == ["network.weight", "network.bias"]


def test_unpadded_view_is_kept_where_sizes_are_left_alone_and_refused_otherwise() -> None:
    unpadded, x = nn.Conv2d(1, 2, 3), images(1, 1, 10, 10)
    assert InputAdapter(unpadded)(x).shape == (1, 2, 8, 8)
    with pytest.raises(InputError, match="needs size=None and multiple=1"):
        InputAdapter(unpadded, size=16)(x)


def test_refuses_images_that_do_not_fit_with_the_remedy() -> None:
    adapter = InputAdapter(Recorder(), mean=[0.1, 0.2, 0.3])
    with pytest.raises(
        InputError, match=r"takes 3 channels, got images of 1; set --model\.network\.channels 1"
    ):
        adapter(images(1, 1, 4, 4))
    with pytest.raises(InputError, match=r"\(N, C, H, W\), got \(3, 4, 4\)"):
        adapter(images(3, 4, 4))


def test_named_maps_come_back_by_their_names_at_the_size_of_the_image() -> None:
    class Named(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"out": x[..., ::2, ::2], "features": x.flatten(1)}

    found = InputAdapter(Named(), multiple=2)(images(1, 1, 4, 4))
    assert isinstance(found, dict)
    assert {name: each.shape for name, each in found.items()} == {"out": (1, 1, 4, 4)}


def test_refuses_a_network_without_logits() -> None:
    class Named(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"features": x.flatten(1)}

    with pytest.raises(InputError, match="got dict"):
        InputAdapter(Named())(images(1, 1, 4, 4))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, "size must be at least 1, got 0"),
        ({"multiple": 0}, "multiple must be at least 1, got 0"),
        ({"std": 0.0}, "std must be above 0"),
        ({"mean": [0.1, 0.2], "std": [1.0, 1.0, 1.0]}, "agree in the number of channels"),
        ({"mean": [0.1, 0.2], "channels": 1}, "agree in the number of channels"),
    ],
)
def test_refuses_settings_that_mean_nothing(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        InputAdapter(Recorder(), **settings)
