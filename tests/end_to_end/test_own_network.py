import json
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.checkpoint import load_victim
from seg_mia.cli import main
from seg_mia.errors import InputError
from seg_mia.runs import checkpoint_file
from tests.trained_runs import Trained

RUN = Path("runs/tiny/version_0")
CLASS = "my_network.TwoHeads"
ATTACK = ["test", "--attack", "asma", "--attack.steps=3", "--attack.keep=last"]


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's module: two heads of logits, the final one first, as a tuple."""
    file = tmp_path / "code" / "my_network.py"
    file.parent.mkdir()
    file.write_text("""
from torch import Tensor, nn


class TwoHeads(nn.Module):
    def __init__(self, channels: int = 3, width: int = 4) -> None:
        super().__init__()
        self.body = nn.Conv2d(channels, width, 3, padding=1)
        self.last = nn.Conv2d(width, 1, 3, padding=1)
        self.deep = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(x).relu()
        return self.last(features), self.deep(features)
""")
    monkeypatch.syspath_prepend(str(file.parent))
    monkeypatch.delitem(sys.modules, "my_network", raising=False)
    return file


@pytest.fixture
def config(tiny: Path) -> Path:
    before = "class_path: seg_mia.models.smp.Smp"
    options = "init_args: {encoder: tu-test_resnet, channels: 3, classes: 1, depth: 3}"
    text = tiny.read_text()
    assert before in text
    assert options in text
    tiny.write_text(
        text.replace(before, f"class_path: {CLASS}").replace(options, "init_args: {width: 6}\n    head: 0")
    )
    return tiny


def network() -> nn.Module:
    from importlib import import_module

    made = import_module("my_network").TwoHeads(width=6)
    assert isinstance(made, nn.Module)
    return made


def learned(file: Path) -> dict[str, Tensor]:
    state = torch.load(file, weights_only=True)["state_dict"]
    return {name.removeprefix("network.").removeprefix("network."): value for name, value in state.items()}


def one_error(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "seg_mia: error:" in line]
    return line


def test_a_network_of_ones_own_is_trained_refused_trusted_and_attacked(
    config: Path, trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trained(config) == RUN
    log = json.loads((RUN / "metrics.jsonl").read_text())
    assert {"train/loss", "val/dice"} <= set(log)

    capsys.readouterr()
    for command in (ATTACK, ["validate"], ["predict"]):
        assert main(command) == 2
        line = one_error(capsys)
        assert line.endswith(f"if you trust it: --trust {CLASS}")
    assert not (RUN / "asma").exists()

    assert main([*ATTACK, "--trust", CLASS]) == 0
    summary = json.loads((RUN / "asma" / "version_0" / "summary.json").read_text())
    assert summary["images"] == 2
    assert summary["results"]["l2"]["max"] > 0
    assert main(["validate", "--trust", CLASS]) == 0
    again = json.loads((RUN / "validate" / "version_0" / "summary.json").read_text())
    assert again["dice"] == pytest.approx(log["val/dice"], abs=1e-6)


def test_the_loss_reaches_both_heads(config: Path) -> None:
    start = network()
    torch.save(start.state_dict(), "start.pth")
    assert main(["fit", "--config", str(config), "--model.weights", "start.pth"]) == 0
    after = learned(checkpoint_file(RUN))
    for name, value in start.state_dict().items():
        assert not torch.equal(after[name], value), name


def test_training_starts_from_a_local_state_dict(config: Path) -> None:
    start = network().state_dict()
    torch.save(start, "start.pth")
    words = ["fit", "--config", str(config), "--model.weights", "start.pth"]
    assert main([*words, "--model.lr=1e-9"]) == 0
    assert_close(learned(checkpoint_file(RUN)), dict(start), rtol=0, atol=1e-6)


def test_a_state_dict_of_another_network_is_one_line(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(nn.Conv2d(3, 6, 3).state_dict(), "start.pth")
    assert main(["fit", "--config", str(config), "--model.weights", "start.pth"]) == 2
    line = one_error(capsys)
    assert "start.pth does not fit TwoHeads" in line
    assert "missing: body.weight" in line


def test_an_exported_file_gives_the_same_output(config: Path, trained: Trained) -> None:
    assert trained(config) == RUN
    assert main(["export", str(RUN), "public.ckpt"]) == 0
    with pytest.raises(InputError, match=f"--trust {CLASS}"):
        load_victim("public.ckpt")
    x = torch.rand(2, 3, 32, 32)
    by_hand = network()
    by_hand.load_state_dict(learned(checkpoint_file(RUN)))
    for file in (Path("public.ckpt"), checkpoint_file(RUN)):
        victim = load_victim(file, trust=[CLASS])
        with torch.no_grad():
            for one, other in zip(victim(x), by_hand(x), strict=True):
                assert_close(one, other, rtol=0, atol=0)


def test_the_module_must_be_importable_where_the_victim_is_used(
    config: Path,
    own: Path,
    trained: Trained,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trained(config)
    own.rename(own.with_name("renamed.py"))
    monkeypatch.delitem(sys.modules, "my_network", raising=False)
    assert main([*ATTACK, "--trust", CLASS]) == 2
    assert "PYTHONPATH" in one_error(capsys)


def test_a_network_that_returns_a_dict_is_one_line(
    config: Path, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own.write_text(own.read_text().replace("return self.last(features), self.deep(features)", "return {}"))
    assert main(["fit", "--config", str(config)]) == 2
    assert "must be among the network's maps none" in one_error(capsys)
    assert main(["fit", "--config", str(config), "--model.head=null"]) == 2
    assert "network must return its logits" in one_error(capsys)


def test_of_two_maps_of_one_size_the_user_says_which_decides(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "--config", str(config), "--model.head=null"]) == 2
    line = one_error(capsys)
    assert "2 maps of the expected shape (0, 1)" in line
    assert "--model.head" in line
    assert not RUN.exists()
    assert main(["fit", "--config", str(config), "--model.head=-1"]) == 0
    x, by_hand = torch.rand(2, 3, 32, 32), network()
    by_hand.load_state_dict(learned(checkpoint_file(RUN)))
    with torch.no_grad():
        first = load_victim(checkpoint_file(RUN), trust=[CLASS])(x)[0]
        assert_close(first, by_hand(x)[1], rtol=0, atol=0)
    assert main(["fit", "--resume", str(RUN), "--trainer.max_epochs=2"]) == 0
    assert main([*ATTACK, "--trust", CLASS]) == 0


BODY = "features = self.body(x)"
ONE_CHANNEL = "x[:, :1].expand(-1, 2, -1, -1) if x.shape[1] > 1 else x.expand(-1, 3, -1, -1)"
LINE = "(my_network.py, line 13, in forward)"


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("super().__init__()", "{}['plans']", "TwoHeads cannot be built: KeyError: 'plans'"),
        (
            "super().__init__()",
            "import nowhere.sub",
            "(my_network.py, line 7, in __init__); pip install nowhere",
        ),
        ("channels: int", "channels: Whatever", "name 'Whatever' is not defined"),
        (BODY, f"assert x.shape[-1] == 64, 'no'; {BODY}", f"AssertionError: no {LINE}; it takes 64x64: set"),
        (BODY, BODY.replace("(x)", f"({ONE_CHANNEL})"), "it takes 1 channel: set its channels"),
        (BODY, f"{{}}[x.ndim]; {BODY}", f"KeyError: 4 {LINE}; set its channels or size"),
    ],
    ids=["constructor", "package", "types", "size", "channels", "anything"],
)
def test_whatever_a_network_raises_is_one_line(
    config: Path, own: Path, capsys: pytest.CaptureFixture[str], before: str, after: str, expected: str
) -> None:
    assert before in own.read_text()
    own.write_text(own.read_text().replace(before, after))
    assert main(["fit", "--config", str(config)]) == 2
    assert expected in one_error(capsys)
    assert not RUN.exists()
