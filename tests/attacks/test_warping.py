import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.testing import assert_close

from seg_mia.attacks.warping import moments, nearest_patches, standardised, warped


def naive_nearest(content: Tensor, style: Tensor, patch: int) -> Tensor:
    """One filter per patch of the style, as the published code does it."""
    filters = functional.unfold(style[None], patch)[0].T
    lengths = filters.norm(dim=1, keepdim=True) + 1e-7
    kernel = (filters / lengths).view(-1, len(style), patch, patch)
    return functional.conv2d(content[None], kernel)[0].argmax(0)


def naive_swap(content: Tensor, style: Tensor, semantic: Tensor, weight: float, patch: int) -> Tensor:
    """Paste whole patches and divide by how often each pixel was pasted."""
    fused = [torch.cat((standardised(each[None])[0], weight * semantic)) for each in (content, style)]
    nearest = naive_nearest(fused[0], fused[1], patch).flatten()
    pasted = functional.unfold(style[None], patch)[:, :, nearest]
    size = style.shape[1:]
    times = functional.fold(torch.ones_like(pasted), size, patch)
    return (functional.fold(pasted, size, patch) / times)[0]


@pytest.mark.parametrize(("height", "width", "patch"), [(7, 9, 3), (6, 6, 5), (5, 8, 1), (4, 4, 4)])
@pytest.mark.parametrize("largest", [1, 10**9])
def test_finds_what_one_filter_per_patch_finds(height: int, width: int, patch: int, largest: int) -> None:
    generator = torch.Generator().manual_seed(height * patch)
    content, style = torch.randn(2, 5, height, width, generator=generator, dtype=torch.float64)
    found = nearest_patches(content, style, patch, largest=largest)
    assert torch.equal(found, naive_nearest(content, style, patch))


def test_a_patch_is_nearest_to_itself_where_all_are_of_one_length() -> None:
    codes = torch.eye(16, dtype=torch.float64).view(16, 4, 4)
    assert torch.equal(nearest_patches(codes, codes, 2).flatten(), torch.arange(9))


@pytest.mark.parametrize("patch", [3, 5])
def test_swaps_as_the_obvious_way_does(patch: int) -> None:
    generator = torch.Generator().manual_seed(1)
    content, style = torch.rand(2, 2, 4, 8, 7, generator=generator, dtype=torch.float64)
    semantic = torch.rand(2, 3, 8, 7, generator=generator, dtype=torch.float64)
    found = warped(content, style, semantic, weight=2.0, patch=patch)
    for n in range(2):
        assert_close(found[n], naive_swap(content[n], style[n], semantic[n], 2.0, patch))


def test_content_that_is_the_style_stays_where_patches_are_told_apart() -> None:
    features = torch.zeros(1, 36, 6, 6, dtype=torch.float64)
    features.view(36, 36)[torch.arange(36), torch.arange(36)] = 1
    semantic = features[:, :1]
    assert_close(warped(features, features, semantic, weight=0.0, patch=2), features)


def test_never_holds_more_than_it_was_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    held = []
    view = torch.Tensor.view

    def watched(self: Tensor, *shape: int) -> Tensor:
        if len(shape) == 4:
            held.append(self.numel())
        return view(self, *shape)

    monkeypatch.setattr(torch.Tensor, "view", watched)
    content = torch.rand(3, 20, 10)
    nearest_patches(content, content, 3, largest=10 * 200 * 4)
    assert max(held) <= 10 * 200 * 4
    assert len(held) > 1


def test_moments_are_unbiased_and_never_zero() -> None:
    features = torch.tensor([[[[1.0, 3.0], [5.0, 7.0]], [[2.0, 2.0], [2.0, 2.0]]]])
    mean, std = moments(features)
    assert_close(mean.flatten(), torch.tensor([4.0, 2.0]))
    assert_close(std.flatten(), torch.tensor([(20 / 3 + 1e-5) ** 0.5, 1e-5**0.5]))
