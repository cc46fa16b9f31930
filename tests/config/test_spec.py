"""Arguments of classes outside this package: which a card can say, and what comes back of them."""

from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from seg_mia.checkpoint import build, load_victim
from seg_mia.cli import main
from seg_mia.config.spec import SUCCESSORS, ClassSpec, check_spec, resolve, restorable
from seg_mia.errors import InputError
from seg_mia.runs import checkpoint_file

PATH = f"{__name__}.Odd"
OPEN = f"{__name__}.Open"
NETWORK = """
from torch import nn
from seg_mia.errors import InputError


class Net(nn.Module):
    def __init__(
        self,
        channels: int = 3,
        act: str | tuple = ("LeakyReLU", {"negative_slope": 0.1, "inplace": True}),
        norm: type[nn.Module] = nn.BatchNorm2d,
        window: tuple[int, ...] = (3, 3),
        kind=nn.ReLU,
        pick=max,
    ) -> None:
        super().__init__()
        if not (isinstance(act, tuple) and isinstance(window, tuple) and isinstance(kind, type)):
            raise TypeError((act, window, kind))
        if not callable(pick):
            raise TypeError(pick)
        self.body = nn.Sequential(nn.Conv2d(channels, 4, window, padding=1), norm(4), kind())
        self.head = nn.Conv2d(4, 1, 1)

    def forward(self, x):
        return self.head(self.body(x))
"""


class Kind(Enum):
    """A choice."""

    FIRST = 1
    SECOND = 2


class Odd(nn.Module):
    """Takes what plain values cannot say."""

    def __init__(
        self,
        width: int = 4,
        act: str | tuple[Any, ...] = ("relu", {"inplace": True}),
        norm: type[nn.Module] = nn.LayerNorm,
        dtype: torch.dtype = torch.float32,
        window: tuple[int, ...] = (7, 7),
        features: Sequence[int] = (8, 16),
        kind: Kind = Kind.FIRST,
        call: Callable[..., Any] = max,
        loose: Any = None,
    ) -> None:
        super().__init__()
        self.given = {name: value for name, value in locals().items() if name not in {"self", "__class__"}}


class Base(nn.Module):
    """Takes nothing."""

    def __init__(self) -> None:
        super().__init__()


class Open(Base):
    """Passes arguments on to a function, not to its base, as networks of segmentation_models_pytorch do."""

    def __init__(self, width: int = 4, **others: Any) -> None:
        super().__init__()
        self.given = {"width": width, "depth": others.pop("depth", None), **others}


class Closed(Open):
    """Passes arguments on only to its base, and takes none besides."""

    def __init__(self, width: int = 4) -> None:
        super().__init__(width)


WRITTEN = {
    "act": ["relu", {"inplace": True}], "norm": "torch.nn.LayerNorm", "dtype": "torch.float32",
    "window": [7, 7], "features": [8, 16], "kind": "FIRST", "call": "builtins.max",
}  # fmt: skip


def spec(**arguments: Any) -> ClassSpec:
    return {"class_path": PATH, "init_args": arguments}


def test_defaults_that_plain_values_cannot_say_are_left_out() -> None:
    kept = restorable(spec(width=4, loose=None, **WRITTEN))
    assert kept == spec(width=4, loose=None)
    check_spec(kept, trust=[PATH])
    built: Any = build(kept, trust=[PATH])
    assert built.given["act"] == ("relu", {"inplace": True})


@pytest.mark.parametrize(
    "given",
    [{"act": ["relu", {"inplace": False}]}, {"norm": "torch.nn.Identity"}, {"window": [7, 5]},
     {"kind": "SECOND"}, {"dtype": "torch.float64"}, {"features": [8]}, {"call": "builtins.min"}],
)  # fmt: skip
def test_what_was_given_stays(given: dict[str, Any]) -> None:
    assert restorable(spec(**{**WRITTEN, **given})) == spec(**given)


@pytest.mark.parametrize(
    ("given", "built"),
    [
        ({"window": [5, 5]}, {"window": (5, 5)}),
        ({"act": ["relu", {"inplace": False}]}, {"act": ("relu", {"inplace": False})}),
        ({"act": "prelu"}, {"act": "prelu"}),
        ({"norm": "torch.nn.modules.batchnorm.BatchNorm2d"}, {"norm": nn.BatchNorm2d}),
        ({"features": [1, 2]}, {"features": [1, 2]}),
        ({"loose": "word"}, {"loose": "word"}),
    ],
)
def test_what_is_read_back_has_the_type_that_was_declared(
    given: dict[str, Any], built: dict[str, Any]
) -> None:
    found: Any = build(spec(**given), trust=[PATH])
    for name, value in built.items():
        assert found.given[name] == value
        assert type(found.given[name]) is type(value)


def test_a_constructor_that_passes_arguments_on_takes_plain_values() -> None:
    kept = restorable({"class_path": OPEN, "init_args": {"depth": None, "stride": 16, "mode": "word"}})
    found: Any = build(kept, trust=[OPEN])
    assert found.given == {"width": 4, "depth": None, "stride": 16, "mode": "word"}
    for value in ("os.system", {"class_path": PATH}):
        with pytest.raises(InputError, match="of plain values"):
            check_spec({"class_path": OPEN, "init_args": {"mode": value}}, trust=[OPEN, PATH])
    closed = f"{__name__}.Closed"
    with pytest.raises(InputError, match="argument 'depth' to Closed, which takes width"):
        check_spec({"class_path": closed, "init_args": {"depth": 3}}, trust=[closed])


@pytest.mark.parametrize(
    "given",
    [{"norm": "os.system"}, {"norm": "torch.nn.init.normal_"}, {"norm": "torch.nn.Parameter.x"},
     {"norm": "nowhere.Layer"},
     {"loose": "{class_path: os.system}"}, {"loose": "os.system"}, {"loose": {"class_path": PATH}},
     {"loose": "null"},
     {"loose": ["a: b"]}, {"act": ["x", {"class_path": PATH}]}, {"act": ["x", "y: z"]}],
)  # fmt: skip
def test_text_that_could_mean_more_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="of plain values"):
        check_spec(spec(**given), trust=[PATH])


@pytest.fixture
def config(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A victim whose network has odd defaults, none of which the user has written."""
    (tmp_path / "odd_defaults.py").write_text(NETWORK)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "odd_defaults", raising=False)
    text = tiny.read_text().replace("seg_mia.models.smp.Smp", "odd_defaults.Net")
    tiny.write_text(
        text.replace("{encoder: tu-test_resnet, channels: 3, classes: 1, depth: 3}", "{channels: 3}")
    )
    return tiny


def test_a_network_with_odd_defaults_is_trained_resumed_and_attacked(config: Path) -> None:
    assert main(["fit", "--config", str(config)]) == 0
    run = Path("runs/tiny/version_0")
    assert "LeakyReLU" not in (run / "config.yaml").read_text()
    assert main(["fit", "--resume", str(run), "--trainer.max_epochs=2"]) == 0
    assert main(["validate", "--trust", "odd_defaults.Net"]) == 0
    network = load_victim(checkpoint_file(run), trust=["odd_defaults.Net"])
    torch.save(network.state_dict(), "theirs.pth")
    assert main(["adopt", "--config", str(config), "--model.weights=theirs.pth"]) == 0
    adopted = load_victim(checkpoint_file("runs/tiny/version_1"), trust=["odd_defaults.Net"])
    x = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(adopted(x), network(x), rtol=0, atol=0)


@pytest.mark.parametrize("command", [["fit"], ["adopt", "--model.weights=theirs.pth"]])
def test_what_no_card_can_say_is_refused_before_anything_is_trained(
    config: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    from importlib import import_module

    torch.save(import_module("odd_defaults").Net().state_dict(), "theirs.pth")
    assert main([*command, "--config", str(config), "--model.network.pick=builtins.min"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "a checkpoint of this network could not be restored" in line
    assert "pick=" in line
    assert not Path("runs/tiny/version_0").exists()


def test_a_class_of_an_earlier_version_is_refused_with_what_it_is_now() -> None:
    with pytest.raises(InputError, match=r"which is now .*\.Lira \(mode: offline\); write that instead"):
        resolve("seg_mia.membership.fleet.scorers.LiraOffline")
    for path in SUCCESSORS.values():
        assert isinstance(resolve(path.split()[0]), type)
