import subprocess
import sys

import pytest

from seg_mia.cli import main

PAGES = (
    ["fit", "--config", "phantom_victim.yaml", "--help"],
    ["test", "--attack", "mia-type2", "--attack.scorer.help"],
)
DEFERRED = """
import sys
from seg_mia.config.on_demand import PACKAGES, defer, without_compiler

defer()
with without_compiler():
    import lightning.pytorch.cli
import seg_mia.experiment.lightning_cli

unused = ("torch._dynamo", "torchvision", "scipy.stats._stats_py", "timm.models", "torchmetrics.image")
assert not set(unused) & set(sys.modules)

import torch
from lightning.fabric.wrappers import OptimizedModule

assert not isinstance(torch.nn.Linear(1, 1), OptimizedModule)
assert isinstance(torch.compile(torch.nn.Linear(1, 1)), OptimizedModule)

import albumentations, scipy.optimize, scipy.signal, segmentation_models_pytorch, timm, torchmetrics
from scipy import ndimage, stats
from timm.layers import DropPath

assert albumentations.HorizontalFlip(p=1)
assert stats.norm.cdf(0) == 0.5
assert scipy.optimize.brentq(lambda x: x - 1, 0, 3) == 1
assert scipy.signal.windows.hamming(1) == 1
assert ndimage.binary_fill_holes([[1]]).all()
assert timm.is_model("resnet18") and timm.layers.DropPath is DropPath
assert "unet" in segmentation_models_pytorch.MODEL_ARCHITECTURES_MAPPING
assert issubclass(torchmetrics.Accuracy, torchmetrics.Metric) and torchmetrics.functional.accuracy
assert type(sys.modules["timm"]).__name__ == "module"
"""


def printed(*words: str) -> str:
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_deferred_packages_run_when_they_are_used() -> None:
    printed("-W", "ignore", "-c", DEFERRED)


@pytest.mark.parametrize("words", PAGES, ids=[words[0] for words in PAGES])
def test_help_with_deferred_packages_is_the_help_with_all_of_them(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["__main__.py"])
    monkeypatch.setenv("COLUMNS", "110")
    assert main(words) == 0  # in a process that has imported all packages
    assert capsys.readouterr().out == printed("-m", "seg_mia", *words)
