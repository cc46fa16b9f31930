"""A file from a stranger must not run code or import a module."""

import os
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from seg_mia.checkpoint import FORMAT, KEY, load_victim, read, read_card
from seg_mia.cli import main
from seg_mia.errors import InputError
from seg_mia.experiment.plan import plan
from seg_mia.experiment.request import RunRequest

NETWORK = {
    "class_path": "seg_mia.models.unpadded_unet.UnpaddedUNet",
    "init_args": {"widths": [2, 2, 2, 2, 2]},
}
SMP = "seg_mia.models.smp.Smp"
TASK = "seg_mia.tasks.segmentation.Segmentation"
DATA = {"class_path": "seg_mia.data.sets.phantom.Phantom", "init_args": {"size": 64}}


def network_of(spec: dict[str, Any]) -> dict[str, Any]:
    return {"class_path": TASK, "init_args": {"network": spec}}


def write(file: Path, **changes: Any) -> Path:
    from seg_mia.models.unpadded_unet import UnpaddedUNet

    network = UnpaddedUNet(widths=[2, 2, 2, 2, 2])
    card = {"format": FORMAT, "model": network_of(NETWORK), "data": DATA, "classes": 2, "channels": 3}
    state = {f"network.{name}": value for name, value in network.state_dict().items()}
    torch.save({KEY: card | changes, "state_dict": state}, file)
    return file


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that leaves a file behind when it is imported."""
    (tmp_path / "trap_module.py").write_text(
        f"import pathlib, torch\npathlib.Path({str(tmp_path / 'sprung')!r}).touch()\n"
        "class Net(torch.nn.Conv2d):\n"
        "    def __init__(self, channels: int = 3) -> None:\n        super().__init__(channels, 2, 1)\n"
        "def run(x): return x\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("trap_module", None)
    return tmp_path / "sprung"


def test_a_good_file_loads(tmp_path: Path) -> None:
    file = write(tmp_path / "good.ckpt")
    assert read_card(file).classes == 2
    network = load_victim(file)
    assert not network.training
    assert network(torch.rand(1, 3, 188, 188)).shape == (1, 2, 4, 4)


def test_metadata_is_read_once_while_its_file_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, loads, load = write(tmp_path / "kept.ckpt", training={"epoch": 1}), list[object](), torch.load

    def counted(*words: Any, **options: Any) -> Any:
        loads.append(words)
        return load(*words, **options)

    monkeypatch.setattr(torch, "load", counted)
    os.utime(file, (1e9, 1e9))
    first = read_card(file)
    assert first.training is not None
    first.training["epoch"] = 7  # which is the caller's
    assert read_card(file).training == {"epoch": 1}
    for attack in ("asma", "medis"):
        assert plan(RunRequest("test", victim=str(file), attack=attack)).card == read_card(file)
    assert len(loads) == 1
    os.utime(write(tmp_path / "kept.ckpt", training={"epoch": 2}), (1e9, 1e9))  # of the same size and time
    assert read_card(file).training == {"epoch": 2}
    write(file, training={"epoch": 3})
    for _ in range(2):
        assert read_card(file).training == {"epoch": 3}
    assert len(loads) == 4  # a file may change again within a tick of the clock


@pytest.mark.parametrize(
    "model",
    [
        network_of({"class_path": "trap_module.Net", "init_args": {}}),
        {"class_path": "trap_module.Net", "init_args": {"network": NETWORK}},
        network_of(
            {
                "class_path": "seg_mia.models.adapter.InputAdapter",
                "init_args": {"network": {"class_path": "trap_module.Net", "init_args": {}}},
            }
        ),
        network_of({"class_path": SMP, "init_args": {"options": {"class_path": "trap_module.Net"}}}),
        network_of({"class_path": SMP, "init_args": {"options": {"x": '{"class_path": "trap_module.Net"}'}}}),
        {"class_path": TASK, "init_args": {"network": NETWORK, "loss": {"class_path": "trap_module.run"}}},
        {"class_path": TASK, "init_args": {"network": "trap_module.Net"}},
        {"class_path": TASK, "init_args": {"network": NETWORK, "loss": "trap_module.run"}},
        {"class_path": "os.system", "init_args": {"command": "true"}},
        {"class_path": "seg_mia.checkpoint.os.system", "init_args": {}},
        {"class_path": "seg_mia.checkpoint.load_victim", "init_args": {"path": "x"}},
        {"class_path": "seg_mia.checkpoint.Path", "init_args": {}},
        {"class_path": "seg_mia/../trap_module.Net", "init_args": {}},
    ],
    ids=[
        "network", "task", "nested", "in a dict", "text in a dict",
        "as a loss", "bare class name", "callable name",
        "function", "through a module", "own function", "imported name", "odd path",
    ],
)  # fmt: skip
def test_a_foreign_name_is_refused_before_any_import(
    tmp_path: Path, trap: Path, model: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "foreign.ckpt", model=model)
    with pytest.raises(InputError, match="is refused: its card|options must be arguments"):
        load_victim(file)
    for command in (["test", "--attack", "asma"], ["validate"], ["predict"]):
        assert main([*command, "--victim", str(file)]) == 2
        (line,) = [text for text in capsys.readouterr().err.splitlines() if text]
        assert line.startswith("seg_mia: error:")
    assert not trap.exists()
    assert "trap_module" not in sys.modules


def test_foreign_data_is_refused(tmp_path: Path, trap: Path) -> None:
    file = write(tmp_path / "foreign.ckpt", data={"class_path": "trap_module.Net", "init_args": {}})
    with pytest.raises(InputError, match="trap_module.Net"):
        read_card(file)
    assert not trap.exists()


def test_trust_names_one_class_and_no_other(tmp_path: Path, trap: Path) -> None:
    file = write(tmp_path / "own.ckpt", model=network_of({"class_path": "trap_module.Net", "init_args": {}}))
    with pytest.raises(InputError, match="--trust trap_module.Net"):
        load_victim(file, trust=["trap_module.Other"])
    assert not trap.exists()
    with pytest.raises(InputError, match="do not fit"):  # it was built, the weights are another network's
        load_victim(file, trust=["trap_module.Net"])
    assert trap.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"widths": "many"}, "not a"),
        ({"channels": 2.5}, "not a"),
        ({"channels": True}, "not a"),
        ({"speed": 1}, "which takes"),
        ({"widths": [2, 2, 2, 2, {"class_path": "seg_mia.models.unpadded_unet.UnpaddedUNet"}]}, "not a"),
    ],
)
def test_arguments_must_have_the_declared_types(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    spec = {"class_path": NETWORK["class_path"], "init_args": arguments}
    with pytest.raises(InputError, match=message):
        load_victim(write(tmp_path / "odd.ckpt", model=network_of(spec)))


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("sprung",))


def test_a_pickle_payload_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({KEY: {"format": FORMAT}, "state_dict": {}, "more": Payload()}, tmp_path / "evil.ckpt")
    (tmp_path / "plain.ckpt").write_bytes(pickle.dumps(Payload()))
    for name in ("evil.ckpt", "plain.ckpt"):
        assert main(["test", "--attack", "asma", "--victim", str(tmp_path / name)]) == 2
        assert "nothing was executed" in capsys.readouterr().err
    assert not Path("sprung").exists()


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"PK\x03\x04 not a zip", b"\x80\x02" + bytes(range(256)) * 20]
)
def test_what_is_no_checkpoint(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "odd.ckpt").write_bytes(content)
    with pytest.raises(InputError, match="checkpoint"):
        read(tmp_path / "odd.ckpt")


def test_a_truncated_checkpoint(tmp_path: Path) -> None:
    file = write(tmp_path / "cut.ckpt")
    file.write_bytes(file.read_bytes()[:-500])
    with pytest.raises(InputError, match="checkpoint"):
        read(file)


def test_another_tool_and_another_format(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(InputError, match="as written by seg_mia"):
        read(tmp_path / "other.ckpt")
    with pytest.raises(InputError, match="format 1, got 99"):
        read_card(write(tmp_path / "new.ckpt", format=99))


def test_weights_of_another_network(tmp_path: Path) -> None:
    spec = {"class_path": NETWORK["class_path"], "init_args": {"widths": [2, 2, 2, 2, 4]}}
    with pytest.raises(InputError, match="do not fit"):
        load_victim(write(tmp_path / "odd.ckpt", model=network_of(spec)))


def test_a_network_of_networks_is_rebuilt(tmp_path: Path) -> None:
    from seg_mia.models.adapter import InputAdapter
    from seg_mia.models.unpadded_unet import UnpaddedUNet

    inner: nn.Module = InputAdapter(UnpaddedUNet(widths=[2, 2, 2, 2, 2]), mean=0.5, std=0.25)
    spec = {
        "class_path": "seg_mia.models.adapter.InputAdapter",
        "init_args": {"network": NETWORK, "mean": 0.5, "std": 0.25},
    }
    card = {"format": FORMAT, "model": network_of(spec), "classes": 2, "channels": 3}
    torch.save(
        {KEY: card, "state_dict": {f"network.{k}": v for k, v in inner.state_dict().items()}},
        tmp_path / "n.ckpt",
    )
    x = torch.rand(1, 3, 188, 188)
    assert_close(load_victim(tmp_path / "n.ckpt")(x), inner.eval()(x))
