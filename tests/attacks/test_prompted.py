"""Attacks on a promptable network: every image is shown with the prompt of its own mask."""

import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.attacks.base import Perturbation
from seg_mia.attacks.certify import certify
from seg_mia.attacks.transfer import transfer
from seg_mia.attacks.universal import fit_universal
from seg_mia.data.samples import Batch
from seg_mia.errors import InputError
from seg_mia.models.prompts import Prompt, boxes, check_same_prompts, prompt_rule, prompts_from
from seg_mia.models.segment_anything import SegmentAnything
from seg_mia.models.smoothing import SmoothedNetwork
from seg_mia.tasks.halving import Halving
from tests.attacks.test_contract import attack, weights  # noqa: F401  # fixtures

PROMPTED = "seg_mia.models.segment_anything.SegmentAnything"


class Boxed(nn.Module):
    """Three classes, the first below the mean grey level; answers only where the box is that of the image.

    A mark in the first pixel names the sample. A wrong or missing prompt is an error.
    """

    takes_prompts = True

    def __init__(self, masks: Tensor) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 3, 3, padding=1)
        self.masks = masks
        self.seen = 0

    def forward(self, x: Tensor) -> Tensor:
        given = boxes(x, 0)
        with prompts_from(self.masks):
            of_all = boxes(self.masks.new_zeros(len(self.masks), 1, *x.shape[2:]), 0)
        for box, image in zip(given, x, strict=True):
            sample = int((image[0, 0, 0] * 4).round()) if len(self.masks) > 1 else 0
            assert_close(box, of_all[sample].to(box))
            self.seen += 1
        logits: Tensor = self.body(x)
        return logits


def samples() -> tuple[Tensor, Tensor]:
    """Three images whose first pixel is 0, 1/4 and 1/2, further apart than budgets, and their masks."""
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(3, 3, 36, 32, generator=generator)
    x[:, 0, 0, 0] = torch.tensor([0.0, 0.25, 0.5])
    masks = torch.zeros(3, 36, 32, dtype=torch.int64)
    for number in range(3):
        masks[number, 4 + 6 * number : 12 + 6 * number, 3 : 10 + 5 * number] = 1 + number % 2
    return x, masks


@pytest.fixture
def network() -> Iterator[Boxed]:
    torch.manual_seed(0)
    boxed = Boxed(samples()[1])
    yield boxed
    assert boxed.seen


def test_every_attack_shows_each_image_with_its_own_prompt(
    attack: Perturbation,  # noqa: F811
    network: Boxed,
) -> None:
    x, masks = samples()
    if "diverse" in attack.settings:
        attack.knobs["diverse"] = 0.0  # smaller copies, whose prompts move along: below
    halving = Halving(network)
    assert halving.largest == 1

    def run(part: Batch, target: Tensor) -> object:
        sample = int((part.image[0, 0, 0, 0] * 4).round())
        network.masks = masks[sample : sample + 1]
        return attack.run(network, part.image, target)

    halving.parts(run, Batch(x, masks, torch.arange(3)), masks)


def test_a_universal_change_is_fitted_with_the_prompt_of_each_image(network: Boxed) -> None:
    x, masks = samples()
    fit_universal(network, x, masks, epsilon=0.02, epochs=2, tiles=[8])
    assert network.seen > 2 * len(x)


def test_a_smaller_copy_moves_its_prompt_along() -> None:
    x, masks = samples()
    seen = list[Tensor]()

    class Recording(nn.Module):
        takes_prompts = True

        def forward(self, image: Tensor) -> Tensor:
            seen.append(boxes(image, 0))
            return image

    with prompts_from(masks):
        transfer(Recording(), x, masks, steps=3, diverse=1.0, smallest=0.5)
        whole = boxes(x, 0)
    assert all((box[:, 2:] - box[:, :2] <= whole[:, 2:] - whole[:, :2]).all() for box in seen)
    assert any((box != whole).any() for box in seen)


def test_certificates_and_smoothed_answers_take_the_prompt_of_each_image(network: Boxed) -> None:
    x, masks = samples()
    certify(network, x, masks, sigma=0.01, first=3, draws=3, batch=3)
    smoothed = SmoothedNetwork(network, sigma=0.01, first=3, draws=3, batch=3, gradient_draws=3)
    with prompts_from(masks):
        smoothed(x)
        smoothed(x.clone().requires_grad_()).sum().backward()


def test_victim_and_shadow_must_have_the_same_rule() -> None:
    def spec(**arguments: object) -> dict[str, object]:
        inner = {"class_path": PROMPTED, "init_args": arguments}
        return {"class_path": "seg_mia.models.one_head.OneHead", "init_args": {"network": inner}}

    assert prompt_rule(spec(prompt="point")) == "the pixel of the true mask nearest to its middle"
    check_same_prompts(("victim", spec()), {"shadow": spec(prompt="box", margin="0")})
    check_same_prompts(("victim", {"class_path": "own.Net"}), {"shadow": None})
    line = (
        "victim and shadow must get prompts by the same rule, got the box around the true mask for runs/a, "
        "and .* for runs/b; state one prompt and margin in both configs"
    )
    for other in (spec(margin=2), spec(prompt="point"), {"class_path": "own.Net", "init_args": {}}):
        with pytest.raises(InputError, match=line):
            check_same_prompts(("runs/a", spec()), {"runs/b": other})


class OwnPoint(SegmentAnything):
    """A subclass with another default."""

    def __init__(self, *, prompt: Prompt = "point") -> None:
        super().__init__(prompt=prompt)


BOX, POINT = "the box around the true mask", "the pixel of the true mask nearest to its middle"
OWN_POINT = f"{__name__}.OwnPoint"


@pytest.fixture
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, __name__, SimpleNamespace(OwnPoint=OwnPoint, Boxed=Boxed))


@pytest.mark.usefixtures("_importable")
@pytest.mark.parametrize(
    ("network", "rule"),
    [
        ({"class_path": PROMPTED}, BOX),
        (PROMPTED, BOX),
        ("SegmentAnything", BOX),
        ({"class_path": "SegmentAnything", "init_args": {"prompt": "point"}}, POINT),
        ({"class_path": OWN_POINT}, POINT),
        (
            {"class_path": "OwnPoint", "init_args": {"prompt": "box", "margin": 3}},
            f"{BOX} and 3 pixels more on each side",
        ),
        ({"class_path": f"{__name__}.Boxed", "init_args": {}}, f"the prompt of {__name__}.Boxed"),
        ({"class_path": "own.Pair", "init_args": {"first": {"class_path": PROMPTED}, "mean": 0.5}}, BOX),
        (
            {
                "class_path": "own.Many",
                "init_args": {"parts": [{"class_path": PROMPTED}, {"class_path": OWN_POINT}]},
            },
            f"{BOX} and {POINT}",
        ),
        ({"class_path": "own.Around", "init_args": {"network": "SegmentAnything"}}, BOX),
        ({"class_path": "own.Net", "init_args": {"title": "SegmentAnything"}}, ""),
        ({"class_path": "not_imported.Net"}, ""),
        (None, ""),
    ],
)
def test_the_rule_is_that_of_the_class_wherever_it_stands(network: object, rule: str) -> None:
    assert prompt_rule(network) == rule


def test_a_description_imports_no_module() -> None:
    name = "antigravity"
    assert prompt_rule({"class_path": f"{name}.Net"}) == ""
    assert name not in sys.modules
