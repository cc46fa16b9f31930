"""Prompts from masks, by hand, and a tiny Segment Anything that is given them."""

import warnings

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from seg_mia.errors import InputError
from seg_mia.models.bundle.network import BundleInput
from seg_mia.models.prompts import boxes, points, prompts_from, whole_image_prompts
from seg_mia.models.segment_anything import SegmentAnything
from seg_mia.models.stitched import Stitched
from seg_mia.models.tiled import Tiled
from tests.peers import imported
from tests.tiny_sam import TINY

IMAGES = torch.zeros(2, 1, 6, 8)


def masks() -> torch.Tensor:
    """An L of three pixels, with an ignored corner, and an empty mask."""
    made = torch.zeros(2, 6, 8, dtype=torch.int64)
    made[0, 2, 3] = made[0, 3, 3] = made[0, 3, 5] = 1
    made[:, 5, 7] = 255
    return made


def test_a_box_is_around_the_foreground_and_without_it_the_whole_image() -> None:
    with prompts_from(masks()):
        assert_close(boxes(IMAGES, 0), torch.tensor([[3.0, 2.0, 5.0, 3.0], [0.0, 0.0, 7.0, 5.0]]))
        assert_close(boxes(IMAGES, 3)[0], torch.tensor([0.0, 0.0, 7.0, 5.0]))


def test_a_point_is_a_pixel_of_the_foreground() -> None:
    # The mean place is row 8/3, column 11/3: (3, 3) is nearest.
    with prompts_from(masks()):
        assert_close(points(IMAGES), torch.tensor([[3.0, 3.0], [3.5, 2.5]]))


def test_one_mask_serves_any_number_of_images_and_several_their_own_number() -> None:
    with prompts_from(masks()[:1]):
        assert boxes(torch.zeros(5, 1, 6, 8), 0).tolist() == [[3, 2, 5, 3]] * 5
    with (
        prompts_from(masks()),
        pytest.raises(InputError, match="ask one sample at a time, --data.batch_size 1"),
    ):
        boxes(IMAGES[:1], 0)
    with pytest.raises(InputError, match="here none is stated"):
        boxes(IMAGES, 0)
    with whole_image_prompts():
        assert boxes(IMAGES, 0)[0].tolist() == [0, 0, 7, 5]


@pytest.mark.peers("transformers")
def test_segment_anything_is_shown_images_as_its_processor_does() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the library
        import transformers

        torch.manual_seed(0)
        network = SegmentAnything(settings=TINY, prompt="box").eval()
        processor = transformers.SamImageProcessor(
            size={"longest_edge": 64}, pad_size={"height": 64, "width": 64}
        )
        image = torch.randint(0, 256, (1, 3, 32, 24), dtype=torch.uint8)
        mask = torch.zeros(1, 32, 24, dtype=torch.int64)
        mask[0, 8:17, 4:13] = 1
        encoded = processor(image, return_tensors="pt")
        with torch.no_grad():
            box = torch.tensor([[[4.0, 8.0, 12.0, 16.0]]]) * 2
            theirs = network.network(
                pixel_values=encoded["pixel_values"], input_boxes=box, multimask_output=False
            ).pred_masks
            (theirs,) = processor.post_process_masks(
                theirs, encoded["original_sizes"], encoded["reshaped_input_sizes"], binarize=False
            )
            with prompts_from(mask):
                own = network(image / 255)
    assert own.shape == (1, 1, 32, 24)
    assert_close(own, theirs, atol=2e-2, rtol=0)  # its images are rounded to 8 bits when resized


@pytest.mark.peers("transformers")
def test_gradients_reach_the_image_and_not_the_prompt() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the library
        imported("transformers")
        network = SegmentAnything(settings=TINY, prompt="point").eval()
        x = torch.rand(2, 1, 32, 24, requires_grad=True)
        mask = torch.zeros(2, 32, 24, dtype=torch.int64)
        mask[:, 8:17, 4:13] = 1
        with prompts_from(mask):
            network(x).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


class Prompted(nn.Module):
    """A network that takes prompts."""

    takes_prompts = True


def test_windows_crops_and_turned_images_have_no_prompts() -> None:
    network = nn.Sequential(Prompted())
    for make in (
        lambda: Tiled(network, patch=[4, 4]),
        lambda: Stitched(network),
        lambda: BundleInput(network, order=[1, 0]),
        lambda: BundleInput(network, flipped=[0]),
    ):
        with pytest.raises(InputError, match="a promptable network has no prompts; show it whole images"):
            make()
    BundleInput(network)


def test_segment_anything_takes_prompts() -> None:
    assert SegmentAnything.takes_prompts
