"""nnU-Net as it is deployed: equal to its own predictor, exact where the answer is known, differentiable."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.testing import assert_close

from seg_mia.errors import InputError
from seg_mia.models.nnunet.folder import read_folder
from seg_mia.models.nnunet.network import NnUNet
from seg_mia.models.nnunet.preprocessing import bounding_box, nonzero_region
from seg_mia.models.nnunet.resampling import resampled
from seg_mia.models.nnunet.specification import network_spec
from seg_mia.models.nnunet.unet import UNet
from tests import nnunet_layout as layout

GOLDEN = Path(__file__).parents[2] / "golden" / "nnunet.npz"
CASES = ("plain", "residual", "resampled")


def stored_case(name: str, place: Path, **changes: Any) -> tuple[NnUNet, Tensor, Tensor]:
    """Return a network from a folder of nnU-Net's, an image in [0, 1] and nnU-Net 2.8.1's probabilities."""
    with np.load(GOLDEN) as file:
        content = {
            key.removeprefix(f"{name}/"): file[key] for key in file.files if key.startswith(f"{name}/")
        }
    path = place / layout.TRAINING
    path.mkdir(parents=True)
    for key, target in (("plans", "plans.json"), ("labels", "dataset.json")):
        (path / target).write_text(str(content[key]))
    folds = sorted({key.split("/")[0].removeprefix("fold_") for key in content if key.startswith("fold_")})
    for fold in folds:
        state = {
            key.removeprefix(f"fold_{fold}/"): torch.from_numpy(value)
            for key, value in content.items()
            if key.startswith(f"fold_{fold}/")
        }
        axes = content["axes"].tolist() or None
        layout.save_checkpoint(path / f"fold_{fold}" / "checkpoint_final.pth", state, axes=axes)
    spec = network_spec(read_folder(path), folds, checkpoint="checkpoint_final.pth")
    network = NnUNet(**spec["init_args"] | changes).eval()
    network.read_weights(path)
    image = torch.from_numpy(content["image"]).float() / 255
    return network, image, torch.from_numpy(content["probabilities"])


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_probabilities_are_those_of_nnunet(name: str, tmp_path: Path) -> None:
    # The reference is computed by benchmarks/nnunet_reference.py with nnunetv2 2.8.1, in half precision.
    network, image, expected = stored_case(name, tmp_path)
    answer = network(image[None]).softmax(dim=1)[0]
    error = (answer - expected).abs().amax(dim=0)
    # Its half-precision weights are coarse in corners of patches that only one patch covers.
    assert (error < 1e-3).float().mean() > 0.98
    assert error.max() < 0.01
    assert (answer.argmax(0) == expected.argmax(0)).float().mean() > 0.995


@pytest.mark.parametrize(
    "change", [{"crop": False}, {"mirrored": []}, {"levels": [[0.0, 1.0]]}, {"step": 1.0}]
)
@torch.no_grad()
def test_another_adapter_is_another_network(change: dict[str, Any], tmp_path: Path) -> None:
    network, image, expected = stored_case("plain", tmp_path / "right")
    right = (network(image[None]).softmax(dim=1)[0] - expected).abs().mean()
    network, _, _ = stored_case("plain", tmp_path / "other", **change)
    assert (network(image[None]).softmax(dim=1)[0] - expected).abs().mean() > 10 * right


def test_gradients_pass_patches_and_mirrors(tmp_path: Path) -> None:
    network, image, _ = stored_case("plain", tmp_path)
    network = network.double()
    x = image.double()[None].requires_grad_()
    (gradient,) = torch.autograd.grad(network(x)[0, 1, 20, 20], x)
    shift = 1e-5 * torch.zeros_like(x).index_put(
        (torch.tensor(0), torch.tensor(0), torch.tensor(21), torch.tensor(22)), torch.tensor(1.0).double()
    )
    with torch.no_grad():
        difference = network(x + shift)[0, 1, 20, 20] - network(x - shift)[0, 1, 20, 20]
    assert gradient[0, 0, 21, 22].item() == pytest.approx(difference.item() / 2e-5, rel=1e-3)
    assert gradient[0, 0, 21, 22].item() != 0


def test_a_unet_of_two_stages_is_its_formula() -> None:
    network = UNet(layout.architecture(), 1, 2).eval()
    network.load_state_dict(layout.weights(0))
    state = layout.weights(0)
    x = torch.rand(1, 1, 8, 12)

    def block(x: Tensor, name: str, stride: int = 1) -> Tensor:
        y = functional.conv2d(x, state[f"{name}.conv.weight"], state[f"{name}.conv.bias"], stride, padding=1)
        y = functional.instance_norm(y, weight=state[f"{name}.norm.weight"], bias=state[f"{name}.norm.bias"])
        return functional.leaky_relu(y, 0.01)

    fine = block(x, "encoder.stages.0.0.convs.0")
    coarse = block(fine, "encoder.stages.1.0.convs.0", stride=2)
    up = "decoder.transpconvs.0"
    raised = functional.conv_transpose2d(coarse, state[f"{up}.weight"], state[f"{up}.bias"], stride=2)
    joined = block(torch.cat((raised, fine), dim=1), "decoder.stages.0.convs.0")
    last = "decoder.seg_layers.0"
    expected = functional.conv2d(joined, state[f"{last}.weight"], state[f"{last}.bias"])
    assert_close(network(x), expected)


def test_the_box_is_that_of_saved_grey_levels() -> None:
    image = torch.zeros(2, 5, 6)
    image[0, 1, 2], image[1, 3, 4], image[0, 4, 5] = 1.0, 7.0, 0.4  # 0.4 would be saved as 0
    assert bounding_box(nonzero_region(image, 0.5, filled=False)) == (slice(1, 4), slice(2, 5))
    assert bounding_box(nonzero_region(torch.zeros(1, 5, 6), 0.5, filled=False)) == (
        slice(0, 5),
        slice(0, 6),
    )


def test_resampling_keeps_lines_and_limits() -> None:
    line = torch.arange(12.0).expand(6, 12)
    wide = resampled(line, (6, 24), order=1)[3]
    assert_close(wide[1:-1], (torch.arange(24.0)[1:-1] + 0.5) / 2 - 0.5)
    step = (torch.arange(12) > 5).float().expand(6, 12)
    cubic = resampled(step, (9, 30), order=3)
    limits = (float(cubic.min()), float(cubic.max()))
    assert limits == (0, 1)  # limited to the image's own range, like nnU-Net's


def test_padding_that_is_cropped_changes_nothing(tmp_path: Path) -> None:
    network, image, _ = stored_case("plain", tmp_path)
    with torch.no_grad():
        whole, padded = network(image[None]), network(functional.pad(image, (0, 9, 0, 4))[None])
    assert_close(padded[..., :45, :50], whole)
    assert padded[0, :, -1, -1].softmax(0)[1] < 1e-9


def test_folds_are_averaged_and_asked_alone(tmp_path: Path) -> None:
    network, image, _ = stored_case("plain", tmp_path)
    with torch.no_grad():
        alone = torch.stack([network.of_fold(position)(image[None]) for position in range(2)])
        assert_close(network(image[None]), alone.mean(0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("damage", "telling"),
    [
        (lambda state: state.pop("encoder.stages.0.0.convs.0.conv.weight"), "missing: encoder.stages.0.0"),
        (lambda state: state.update(other=torch.zeros(1)), "unexpected: other"),
        (lambda state: state.update({"decoder.seg_layers.0.bias": torch.zeros(5)}), "(5,) for (2,)"),
    ],
)
def test_weights_of_another_network_are_refused(damage: Any, telling: str, tmp_path: Path) -> None:
    path = layout.training(tmp_path, folds=1)
    state = layout.weights(0)
    damage(state)
    layout.save_checkpoint(path / "fold_0" / "checkpoint_final.pth", state)
    spec = network_spec(read_folder(path), ["0"], checkpoint="checkpoint_final.pth")
    network = NnUNet(**spec["init_args"])
    with pytest.raises(InputError, match="does not fit the network in plans.json") as error:
        network.read_weights(path)
    assert telling in str(error.value)


def test_arguments_are_plain(tmp_path: Path) -> None:
    spec = network_spec(read_folder(layout.training(tmp_path)), ["0", "2"], checkpoint="checkpoint_final.pth")
    assert json.loads(json.dumps(spec)) == spec
    assert isinstance(NnUNet(**spec["init_args"]), nn.Module)
