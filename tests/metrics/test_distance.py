import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seg_mia.errors import InputError
from seg_mia.metrics.distance import l2_norm, linf_norm, rounded


def test_norms_by_hand() -> None:
    difference = torch.zeros(3, 2, 2, 2)
    difference[0, 0, 0, 0], difference[0, 1, 1, 1] = 3, -4
    difference[1] = -0.5
    assert l2_norm(difference).tolist() == pytest.approx([5, math.sqrt(8) / 2, 0])
    assert linf_norm(difference).tolist() == [4, 0.5, 0]


@pytest.mark.parametrize("value", [1 / 255, 1e-7, 1e-15])
def test_the_norm_of_a_large_image_is_exact_to_float32(value: float) -> None:
    difference = torch.full((2, 3, 512, 512), value)
    expected = difference.double().flatten(1).norm(dim=1)
    torch.testing.assert_close(l2_norm(difference).double(), expected, rtol=2e-7, atol=0)


def test_the_sum_of_squares_may_exceed_half_precision() -> None:
    difference = torch.ones(1, 1, 512, 512, dtype=torch.float16)
    assert l2_norm(difference).item() == 512


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_float_type_is_kept(dtype: torch.dtype) -> None:
    image = torch.full((2, 1, 3, 3), 0.5, dtype=dtype)
    assert l2_norm(image).dtype == linf_norm(image).dtype == rounded(image).dtype == dtype


@given(st.integers(0, 2**31), st.floats(-1e3, 1e3))
def test_norms_are_ordered_scale_and_do_not_see_the_batch(seed: int, factor: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    difference = torch.randn(4, 2, 3, 5, generator=generator, dtype=torch.float64)
    l2, linf = l2_norm(difference), linf_norm(difference)
    assert (linf <= l2).all()
    assert (l2 <= math.sqrt(30) * linf).all()
    torch.testing.assert_close(l2_norm(factor * difference), abs(factor) * l2)
    torch.testing.assert_close(linf_norm(factor * difference), abs(factor) * linf)
    torch.testing.assert_close(torch.cat([l2_norm(one[None]) for one in difference]), l2)
    torch.testing.assert_close(torch.cat([linf_norm(one[None]) for one in difference]), linf)


def test_an_empty_batch_has_no_norm() -> None:
    empty = torch.zeros(0, 3, 4, 4)
    assert l2_norm(empty).shape == linf_norm(empty).shape == (0,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_256_levels_are_fixed_points(dtype: torch.dtype) -> None:
    levels = (torch.arange(256, dtype=dtype) / 255).view(1, 1, 16, 16)
    assert rounded(levels).equal(levels)
    assert rounded(levels + 0.49 / 255).equal(levels)
    assert rounded(levels - 0.49 / 255).equal(levels)


@given(st.integers(0, 2**31))
def test_rounding_is_that_of_saving_and_reading_a_file(seed: int) -> None:
    image = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(seed))
    saved = np.rint(image.numpy() * np.float32(255)).astype(np.uint8)
    assert rounded(image).equal(torch.from_numpy(saved).float() / 255)
    assert linf_norm(rounded(image) - image).le(0.5 / 255 + 1e-7).all()


@pytest.mark.parametrize("images", [torch.ones(2, 3, 4, 4, dtype=torch.uint8), torch.ones(())])
def test_integers_and_scalars_are_refused(images: torch.Tensor) -> None:
    for measure in (l2_norm, linf_norm, rounded):
        with pytest.raises(InputError, match="images must be floats with a batch axis, got torch"):
            measure(images)
