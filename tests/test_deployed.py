"""docs/deployed.md: every network that it shows is built and queried."""

import re
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

import seg_mia
from seg_mia import models
from seg_mia.checkpoint import build
from seg_mia.config.parsing import import_all
from seg_mia.config.spec import ClassSpec, class_paths, paths_to_trust
from seg_mia.models.heads import final
from seg_mia.models.one_head import OneHead
from seg_mia.models.prompts import whole_image_prompts

PAGE = Path(seg_mia.__file__).resolve().parents[1] / "docs" / "deployed.md"
SIZE = 64

if not PAGE.is_file():
    pytest.skip("only a checkout has the documents", allow_module_level=True)

TEXT = PAGE.read_text()
CONFIGS = [
    yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
]
NETWORKS = [config["network"] for config in CONFIGS if "network" in config]


def name_of(spec: ClassSpec) -> str:
    return "-".join(path.rpartition(".")[2] for path in class_paths(spec))


def write_torchscript(network: nn.Module, images: torch.Tensor) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(network, images), "model.ts")  # type: ignore[no-untyped-call]


def write_exported(network: nn.Module, images: torch.Tensor) -> None:
    torch.export.save(torch.export.export(network, (images,)), "model.pt2")


def write_onnx(network: nn.Module, images: torch.Tensor) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(network, (images,), dynamo=True, verbose=False)
        assert program is not None
        program.save("model.onnx")


WRITERS: dict[str, Callable[[nn.Module, torch.Tensor], None]] = {
    "TorchScript": write_torchscript,
    "Exported": write_exported,
    "Onnx": write_onnx,
}


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The page's `my_client.py` in the working folder."""
    (text,) = re.findall(r"^`my_client.py`:\n\n```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    Path("my_client.py").write_text(text)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    yield
    sys.modules.pop("my_client", None)


def made(spec: ClassSpec) -> nn.Module:
    """Build a network as a config would, its file given to it as one."""
    kind = spec["class_path"].rpartition(".")[2]
    if kind in WRITERS:
        torch.manual_seed(0)
        module = nn.Conv2d(1, 2, 3, padding=1).eval().requires_grad_(False)
        WRITERS[kind](module, torch.rand(1, 1, SIZE, SIZE))
        opened: nn.Module = vars(sys.modules["seg_mia.models.file"])[kind](**spec["init_args"])
        return opened
    return build(spec, trust=[*class_paths(spec), *paths_to_trust(spec)])


def packages(spec: ClassSpec) -> list[str]:
    """Return the frameworks that a network needs, beside the dependencies."""
    kinds = {path.rpartition(".")[2] for path in class_paths(spec)}
    found = {path.partition(".")[0] for path in class_paths(spec)} & {"monai"}
    if kinds & {"Transformers", "SegmentAnything"}:
        found.add("transformers")
    if "Onnx" in kinds:
        found |= {"onnx", "onnxscript", "onnxruntime"}
    return sorted(found)


def case(spec: ClassSpec) -> Any:
    """Return the test's parameter, marked where it needs a framework."""
    needed = packages(spec)
    return pytest.param(spec, id=name_of(spec), marks=[pytest.mark.peers(*needed)] if needed else [])


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize("spec", [case(spec) for spec in NETWORKS])
def test_every_shown_network_answers(spec: ClassSpec) -> None:
    import_all(models)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries
        network = OneHead(made(spec), resize=True).eval()
    if "url" in spec["init_args"]:
        return  # nobody listens there
    classes = 1 if spec["class_path"].endswith("SegmentAnything") else 2
    with torch.no_grad(), whole_image_prompts():
        assert final(network(torch.rand(2, 1, SIZE, SIZE))).shape == (2, classes, SIZE, SIZE)


def test_the_page_shows_every_kind() -> None:
    kinds = {path.rpartition(".")[2] for spec in NETWORKS for path in class_paths(spec)}
    assert kinds >= {
        *WRITERS,
        "Service",
        "Tiled",
        "InputAdapter",
        "Torchvision",
        "Transformers",
        "SegmentAnything",
        "UNet",
        "Unet",
    }
