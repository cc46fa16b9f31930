import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from seg_mia.errors import InputError
from seg_mia.metrics.similarity import has_similarity, mean_absolute, ssim


def draw(n: int = 3, channels: int = 1, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.rand(2, n, channels, 14, 17, generator=generator, dtype=torch.float64)
    return a, (0.7 * a + 0.3 * b)


def gaussian_blur(image: NDArray[np.float64]) -> NDArray[np.float64]:
    weights = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    mirrored = np.pad(image, 5, mode="reflect")
    for axis in (0, 1):
        mirrored = np.apply_along_axis(np.convolve, axis, mirrored, weights / weights.sum(), mode="valid")
    return mirrored


def ssim_as_published(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    c1, c2 = 0.01**2, 0.03**2
    mean_a, mean_b = gaussian_blur(a), gaussian_blur(b)
    variance_a, variance_b = gaussian_blur(a * a) - mean_a**2, gaussian_blur(b * b) - mean_b**2
    covariance = gaussian_blur(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    result: NDArray[np.float64] = luminance * (2 * covariance + c2) / (variance_a + variance_b + c2)
    return result


def test_ssim_equals_the_published_formula() -> None:
    a, b = draw()
    expected = [ssim_as_published(p[0].numpy(), q[0].numpy()) for p, q in zip(a, b, strict=True)]
    assert ssim(a, b).tolist() == pytest.approx([float(e.mean()) for e in expected], abs=1e-9)
    where = torch.zeros(3, 14, 17, dtype=torch.bool)
    where[:, 2:5, 3:9] = True
    inside = [float(e[2:5, 3:9].mean()) for e in expected]
    assert ssim(a, b, where=where).tolist() == pytest.approx(inside, abs=1e-9)


def test_ssim_equals_that_of_torchmetrics() -> None:
    a, b = draw(channels=3)
    expected = structural_similarity_index_measure(a, b, data_range=1.0, reduction="none")
    torch.testing.assert_close(ssim(a, b), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_identical_images_have_1_and_the_float_type_is_kept(dtype: torch.dtype) -> None:
    noise = draw()[0].to(dtype)
    for image in (noise, torch.zeros_like(noise), torch.full_like(noise, 0.7), torch.ones_like(noise)):
        value = ssim(image, image)
        torch.testing.assert_close(value, torch.ones(3, dtype=dtype), rtol=0, atol=1e-6)
        assert mean_absolute(image, image).equal(torch.zeros(3, dtype=dtype))


def test_constant_images_differ_in_luminance_alone() -> None:
    a, b = torch.full((1, 1, 11, 11), 0.2).double(), torch.full((1, 1, 11, 11), 0.6).double()
    assert ssim(a, b).item() == pytest.approx((2 * 0.12 + 1e-4) / (0.04 + 0.36 + 1e-4))
    assert mean_absolute(a, b).item() == pytest.approx(0.4)


def test_data_range_is_the_unit_of_the_values() -> None:
    a, b = draw()
    torch.testing.assert_close(ssim(255 * a, 255 * b, data_range=255), ssim(a, b))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.integers(1, 3))
def test_ssim_is_bounded_symmetric_and_does_not_see_the_batch(seed: int, channels: int) -> None:
    a, b = draw(channels=channels, seed=seed)
    value = ssim(a, b)
    assert value.abs().le(1).all()
    torch.testing.assert_close(ssim(b, a), value)
    alone = torch.cat([ssim(a[i : i + 1], b[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(alone, value)
    everywhere = torch.ones(3, 14, 17, dtype=torch.bool)
    torch.testing.assert_close(ssim(a, b, where=everywhere), value)
    torch.testing.assert_close(mean_absolute(a, b, where=everywhere), mean_absolute(a, b))


def test_mean_absolute_by_hand() -> None:
    a = torch.zeros(2, 2, 2, 2)
    b = a.clone()
    b[0, 0, 0, 0], b[0, 1, 0, 0], b[0, 1, 1, 1] = 0.5, -0.5, 1.0
    where = torch.zeros(2, 2, 2, dtype=torch.bool)
    where[0, 0] = True
    assert mean_absolute(a, b).tolist() == [0.25, 0]
    assert mean_absolute(a, b, where=where).nan_to_num(-1).tolist() == [0.25, -1]
    assert mean_absolute(a, b, where=~where).tolist() == [0.25, 0]


def test_many_pixels_are_averaged_beyond_the_range_of_half_precision() -> None:
    a, b = torch.zeros(1, 1, 300, 300, dtype=torch.float16), torch.ones(1, 1, 300, 300, dtype=torch.float16)
    everywhere = torch.ones(1, 300, 300, dtype=torch.bool)
    assert mean_absolute(a, b, where=everywhere).item() == mean_absolute(a, b).item() == 1


def test_images_smaller_than_the_window_are_refused() -> None:
    small = torch.zeros(1, 1, 10, 20)
    with pytest.raises(InputError, match=r"11 x 11 window, got \(1, 1, 10, 20\)"):
        ssim(small, small)
    assert not has_similarity(small.shape)
    assert not has_similarity((1, 1, 20, 20, 10))
    assert has_similarity((1, 1, 3, 11, 11))
    assert mean_absolute(small, small).item() == 0


def test_images_that_do_not_fit_are_refused() -> None:
    a = torch.zeros(2, 1, 11, 11)
    for measure in (ssim, mean_absolute):
        with pytest.raises(InputError, match=r"\(2, 1, 11, 11\) and .* \(2, 3, 11, 11\); resize"):
            measure(a, torch.zeros(2, 3, 11, 11))
        with pytest.raises(InputError, match=r"of shape \(2, 11, 11\) and"):
            measure(a[:, 0], a[:, 0])
        with pytest.raises(InputError, match=r"got torch\.uint8 of shape .* divide bytes by 255"):
            measure(a.byte(), a.byte())
        for where in (torch.ones(2, 11, 11), torch.ones(2, 1, 11, 11, dtype=torch.bool)):
            with pytest.raises(InputError, match="`where` must be bool"):
                measure(a, a, where=where)
