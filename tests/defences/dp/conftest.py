import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from seg_mia.defences.dp.mechanism import DPGradient
from seg_mia.models.smp import Smp
from tests.defences.dp.helpers import Draws, with_network

HEAD: dict[str, Any] = {"architecture": "Hypercolumn", "encoder": "resnet18", "channels": 3, "classes": 1}

NETWORKS = """
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from seg_mia.data.samples import Batch
from seg_mia.data.sets.folder import Folder


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 4, 3, padding=1)
        self.last = nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.between(self.body(x)).relu())

    def between(self, x: Tensor) -> Tensor:
        return x


class Centred(Plain):
    def between(self, x: Tensor) -> Tensor:
        return x - x.mean(0, keepdim=True)


class FromTheFirst(Plain):
    def between(self, x: Tensor) -> Tensor:
        return x - x[:1].mean((1, 2, 3), keepdim=True)


class Normed(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def between(self, x: Tensor) -> Tensor:
        return self.norm(x.flatten(2)).view_as(x)


class Counting(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.InstanceNorm2d(4, track_running_stats=True)

    def between(self, x: Tensor) -> Tensor:
        return self.norm(x)


class Asleep(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(2, 4)

    def train(self, mode: bool = True) -> "Asleep":
        super().train(mode)
        self.norm.eval()
        return self

    def between(self, x: Tensor) -> Tensor:
        return self.norm(x)


class Shuffled(Folder):
    def train_dataloader(self) -> DataLoader[Batch]:
        return self._loader(self.dataset(self.trained()), shuffle=True)
"""


@pytest.fixture
def tiny(tiny: Path, folder: Callable[..., Path]) -> Path:
    """The tiny config with 6 members, 4 non-members and 10 reference images; an epoch is 3 steps of 3."""
    folder(count=40)
    text = tiny.read_text().replace("members: 4, nonmembers: 2", "members: 6, nonmembers: 4")
    tiny.write_text(text.replace("max_epochs: 1", "max_epochs: 3"))
    return tiny


@pytest.fixture
def small(tiny: Path, own: Path) -> Path:
    """The same with a network of two convolutions, which costs next to nothing."""
    assert own.is_file()
    return with_network(tiny, "my_network.Plain")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's module of networks, one of which keeps samples apart, and of data."""
    file = tmp_path / "code" / "my_network.py"
    file.parent.mkdir()
    file.write_text(NETWORKS)
    monkeypatch.syspath_prepend(str(file.parent))
    monkeypatch.delitem(sys.modules, "my_network", raising=False)
    return file


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> Draws:
    """What was trained on at each step, after the number of the step."""
    seen: Draws = []
    step = DPGradient.step

    def watch(self: DPGradient, forward: Any, batch: Any, parameters: Any) -> Any:
        seen.append((self.private.steps, *batch.index.tolist()))
        return step(self, forward, batch, parameters)

    monkeypatch.setattr(DPGradient, "step", watch)
    return seen


@pytest.fixture
def head(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny config with a pixel classifier on a pre-trained encoder."""
    read = yaml.safe_load(tiny.read_text())
    read["model"]["init_args"]["network"] = {"class_path": "seg_mia.models.smp.Smp", "init_args": HEAD}
    file = tiny.with_name("other") / tiny.name
    file.parent.mkdir(exist_ok=True)
    file.write_text(yaml.safe_dump(read))
    pretrained = Smp(**HEAD).encoder
    for name, buffer in pretrained.named_buffers():
        if name.endswith("running_var"):
            buffer.fill_(0.5)
    monkeypatch.setattr(Smp, "imagenet_encoder", lambda _: pretrained.state_dict())
    return file


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images that encoder was given, pass by pass."""
    counts: list[int] = []
    kind = type(Smp(**HEAD).encoder)
    forward = kind.forward

    def counted(self: Any, x: Any) -> Any:
        counts.append(len(x))
        return forward(self, x)

    monkeypatch.setattr(kind, "forward", counted)
    return counts
