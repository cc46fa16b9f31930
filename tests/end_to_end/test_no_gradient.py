"""A victim that lets no gradient through is told, whatever attack follows gradients."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from seg_mia.cli import main
from seg_mia.tasks.perturbation import unreached

STOPS = """
import torch
from torch import nn

class Rounds(nn.Module):
    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.body = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, x):
        with torch.set_grad_enabled(self.training):
            return self.body(x)
"""


class Half(nn.Module):
    """Passes gradients for images whose first pixel is above a half."""

    def forward(self, x: Tensor) -> Tensor:
        bright = (x[:, :1, :1, :1] > 0.5).to(x)
        return x.round() + bright * x.log_softmax(3)


def test_images_that_no_gradient_reaches_are_counted_one_by_one() -> None:
    x = torch.full((3, 1, 2, 2), 0.3)
    x[1] = 0.7
    assert unreached(Half(), x).tolist() == [1, 0, 1]


def test_a_loss_that_is_flat_stops_no_gradient() -> None:
    """Probabilities sum to one everywhere, and a saturated sigmoid is flat in half precision alone."""
    assert unreached(nn.Softmax(1), torch.rand(2, 3, 4, 4)).tolist() == [0, 0]


@pytest.mark.parametrize("attack", [["asma", "--attack.steps=2"], ["fgsm"]], ids=["asma", "fgsm"])
def test_the_attack_says_that_it_saw_none(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], attack: list[str]
) -> None:
    Path("stopping.py").write_text(STOPS)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    text = tiny.read_text()
    start, end = text.index("      class_path: seg_mia.models.smp.Smp"), text.index("    lr:")
    tiny.write_text(text[:start] + "      class_path: stopping.Rounds\n" + text[end:])
    assert main(["fit", "--config", str(tiny)]) == 0
    capsys.readouterr()
    assert main(["test", "--attack", *attack, "--trust", "stopping.Rounds"]) == 0
    said = capsys.readouterr().out
    assert f"{attack[0]} (attacker knowledge: weights, no gradient for 2 of 2 images)" in said
    assert f"WARNING: {attack[0]}: no gradient reached 2 of 2 images" in said
    summary = json.loads(Path(f"runs/tiny/version_0/{attack[0]}/version_0/summary.json").read_text())
    assert summary["no_gradient"] == 2
