"""Prompts of victim and shadows are compared where the attack shows images to shadows."""

from pathlib import Path

import pytest

from seg_mia.checkpoint import Card
from seg_mia.config.files import find_config
from seg_mia.config.spec import ClassSpec
from seg_mia.errors import InputError
from seg_mia.experiment.prompts import check_shadow_prompts, imported_classes
from seg_mia.experiment.request import RunRequest
from seg_mia.models.prompts import prompt_rule

PROMPTED = "seg_mia.models.segment_anything.SegmentAnything"
OWN = """
from torch import nn

class Own(nn.Module):
    takes_prompts = True
"""


def card(prompt: str) -> Card:
    network = {"class_path": PROMPTED, "init_args": {"prompt": prompt}}
    model: ClassSpec = {
        "class_path": "seg_mia.tasks.segmentation.Segmentation",
        "init_args": {"network": network},
    }
    return Card(model=model, classes=2, channels=3)


@pytest.mark.parametrize(
    ("name", "control", "refused"),
    [
        ("mia-global-loss", False, True),
        ("mia-quantile", False, False),
        ("mia-quantile", True, True),
        ("mia-blind", False, False),
    ],
)
def test_another_prompt_is_refused_where_it_is_shown(name: str, control: bool, refused: bool) -> None:
    attack, request = str(find_config(name, "attack")), RunRequest("test", control=control)
    victim, shadows = (Path("a"), card("box")), [(Path("b"), card("box")), (Path("c"), card("point"))]
    check_shadow_prompts(attack, request, victim, shadows[:1])
    if not refused:
        check_shadow_prompts(attack, request, victim, shadows)
        return
    with pytest.raises(InputError, match="true mask for a, and the pixel .* for c;"):
        check_shadow_prompts(attack, request, victim, shadows)


def test_classes_of_a_config_are_imported_for_their_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("own_prompted.py").write_text(OWN)
    monkeypatch.syspath_prepend(".")
    network = {"class_path": "own_prompted.Own", "init_args": {"network": {"class_path": "not_there.Net"}}}
    assert prompt_rule(network) == ""
    assert prompt_rule(imported_classes(network)) == "the prompt of own_prompted.Own"
    assert imported_classes(None) is None
