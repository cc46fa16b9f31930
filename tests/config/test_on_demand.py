import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from seg_mia import cli
from seg_mia.config import on_demand

PAGES = (
    ["fit", "--config", "phantom_victim.yaml", "--help"],
    ["test", "--attack", "mia-type2", "--attack.scorer.help"],
)
UNUSED = (
    "albumentations",
    "matplotlib",
    "scipy.fft",
    "scipy.ndimage",
    "scipy.optimize",
    "scipy.signal",
    "scipy.special",
    "scipy.stats",
    "segmentation_models_pytorch",
    "tensorboard",
    "timm",
    "torch._dynamo",
    "torchmetrics.image",
    "torchmetrics.utilities.plot",
    "torchvision",
    "triton",
)
"""What no page of help runs."""
DEFERRED = """
import sys
from importlib.util import find_spec
from seg_mia.config.on_demand import PACKAGES, defer, without_compiler

defer()
with without_compiler():
    import lightning.pytorch.cli
import seg_mia.experiment.lightning_cli

import torch
from lightning.fabric.wrappers import OptimizedModule

assert not isinstance(torch.nn.Linear(1, 1), OptimizedModule)
assert isinstance(torch.compile(torch.nn.Linear(1, 1)), OptimizedModule)
if find_spec("triton"):
    from triton.runtime.jit import JITFunction

    assert JITFunction.__module__ == "triton.runtime.jit"

import albumentations, scipy.optimize, scipy.signal, segmentation_models_pytorch, timm, torchmetrics
from scipy import fft, ndimage, special, stats
from timm.layers import DropPath

assert albumentations.HorizontalFlip(p=1)
assert stats.norm.cdf(0) == 0.5
assert scipy.optimize.brentq(lambda x: x - 1, 0, 3) == 1
assert scipy.signal.windows.hamming(1) == 1
assert ndimage.binary_fill_holes([[1]]).all()
assert special.ndtr(0) == 0.5 and fft.fft([1]) == 1
assert timm.is_model("resnet18") and timm.layers.DropPath is DropPath
assert "unet" in segmentation_models_pytorch.MODEL_ARCHITECTURES_MAPPING
assert issubclass(torchmetrics.Accuracy, torchmetrics.Metric) and torchmetrics.functional.accuracy
total = torchmetrics.SumMetric()
total.update(3)
figure, _ = total.plot()
assert figure.axes
assert type(sys.modules["timm"]).__name__ == "module"
"""


def printed(*words: str, **environment: str) -> tuple[str, str]:
    """Return the output and the error stream of a process."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout, done.stderr


def test_deferred_packages_run_when_they_are_used() -> None:
    printed("-c", DEFERRED)


ALL_AT_ONCE = """
import sys
from seg_mia.cli import main

words, sys.argv[:] = sys.argv[1:], ["__main__.py"]
code = main(words)
from seg_mia.config.on_demand import _OnDemand
assert not [module for module in sys.modules.values() if type(module) is _OnDemand]
assert "torchmetrics.image" in sys.modules
import lightning.fabric.wrappers, torch._dynamo
assert lightning.fabric.wrappers.OptimizedModule is torch._dynamo.OptimizedModule
sys.exit(code)
"""


@pytest.mark.parametrize("words", PAGES, ids=[words[0] for words in PAGES])
def test_help_runs_no_further_package_and_is_the_help_with_all_of_them(words: list[str]) -> None:
    page, imports = printed("-m", "seg_mia", *words, COLUMNS="110", PYTHONPROFILEIMPORTTIME="1")
    ran = set(re.findall(r"^import time:.*\| +(\S+)$", imports, flags=re.MULTILINE))
    assert {"torch", "lightning.pytorch.cli", "seg_mia.experiment.lightning_cli"} <= ran
    assert [name for name in ran if any(f"{name}.".startswith(f"{unused}.") for unused in UNUSED)] == []
    assert page == printed("-c", ALL_AT_ONCE, *words, COLUMNS="110")[0]
    assert "--" in page


@pytest.mark.parametrize(
    ("words", "alone", "deferred"),
    [
        (["verify"], True, True),
        (["fit", "--help"], True, True),
        (["verify"], False, False),
        (["--version"], True, False),
    ],
)
def test_a_command_of_a_process_of_its_own_defers_packages(
    words: list[str], alone: bool, deferred: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[None] = []
    monkeypatch.setattr(on_demand, "defer", lambda: calls.append(None))
    monkeypatch.setitem(cli.PLAIN, "verify", lambda _: 0)
    monkeypatch.setattr(cli, "_explain", lambda *_, **__: None)
    assert cli._dispatch(words, is_process=alone) == 0
    assert bool(calls) == deferred


def test_a_package_whose_import_fails_is_imported_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "fails_once"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('a library is missing')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(on_demand, "PACKAGES", ("fails_once",))
    on_demand.defer()
    module = sys.modules["fails_once"]
    with pytest.raises(ImportError, match="a library is missing"):
        module.value  # noqa: B018
    assert "fails_once" not in sys.modules
    with pytest.raises(ImportError, match="a library is missing"):
        import_module("fails_once")
    with pytest.raises(ImportError, match="a library is missing"):
        module.value  # noqa: B018  # whoever holds it is told the same
    (package / "__init__.py").write_text("value = 3  # and no longer")
    assert module.value == 3
    assert import_module("fails_once") is module
