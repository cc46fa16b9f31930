"""A network whose weights lie elsewhere: what it reads and answers is part of a stage's key."""

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from seg_mia.audit.outside import outside, watched
from seg_mia.audit.stage_key import key_of
from seg_mia.cli import main
from seg_mia.config import on_demand
from seg_mia.experiment.modules import DataModules
from seg_mia.experiment.plan import plan
from seg_mia.experiment.request import requested

TRUST = ["--trust", "elsewhere.Elsewhere"]
CODE = """
import torch
from torch import nn


class Elsewhere(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(1 + torch.rand(()))
        self.kept = [torch.load("kept.pt", weights_only=True)]

    def forward(self, x):
        return self.scale * (x.mean(1, keepdim=True) - self.kept[0])
"""


@pytest.fixture(autouse=True)
def config(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Train on the squares a network of one weight; another lies in a file that its constructor reads."""
    Path("elsewhere.py").write_text(CODE)
    torch.save(torch.tensor(0.5), "kept.pt")
    monkeypatch.syspath_prepend(str(Path.cwd()))
    monkeypatch.delitem(sys.modules, "elsewhere", raising=False)
    text = tiny.read_text()
    start, end = text.index("      class_path: seg_mia.models.smp.Smp"), text.index("    lr:")
    tiny.write_text(text[:start] + "      class_path: elsewhere.Elsewhere\n" + text[end:])
    yield tiny
    sys.modules.pop("elsewhere", None)


def key(*words: str) -> str:
    return key_of(plan(requested(words)), DataModules())


@pytest.mark.usefixtures("undrawn")
def test_exchanged_weights_are_asked_and_are_another_key(config: Path) -> None:
    fit = ["fit", "--config", str(config)]
    trained = key(*fit)
    assert main(fit) == 0
    assert main([*fit, "--data.role=shadow", "--seed_everything=1"]) == 0
    both = ["--victim=runs/tiny/version_0", "--shadow=runs/tiny/version_1"]
    words = ["test", "--attack", "mia-global-loss", *both, *TRUST]
    fooled = ["test", "--attack", "fgsm", "--victim=runs/tiny/version_0", *TRUST]
    before = [key(*words), key(*fooled)]
    assert main(words) == 0
    assert [key(*words), key(*fooled), key(*fit)] == [*before, trained]
    torch.save(torch.rand(32, 32), "kept.pt")  # the checkpoint stays as it was
    assert not {key(*words), key(*fooled), key(*fit)} & {*before, trained}
    assert main(words) == 0
    losses = [
        (Path("runs/tiny/version_0/mia-global-loss") / version / "scores.csv").read_text()
        for version in ("version_0", "version_1")
    ]
    assert losses[0] != losses[1]
    assert not Path("runs/tiny/version_0/predictions").exists()


def test_what_is_read_without_a_change_of_answers_counts(tmp_path: Path) -> None:
    file = tmp_path / "list.txt"

    def make() -> nn.Module:
        file.read_text()
        return nn.Conv2d(3, 1, 1)

    file.write_text("one")
    first = outside([], make, None)
    assert outside([], make, None) == first
    file.write_text("two")
    assert outside([], make, None) != first


def test_of_a_network_that_turns_to_a_service_nothing_is_kept() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def make() -> nn.Module:
            socket.create_connection(server.getsockname()).close()
            return nn.Conv2d(3, 1, 1)

        assert outside(["a.Net"], make, None) != outside(["a.Net"], make, None)


def test_only_what_is_read_meanwhile_is_noted(tmp_path: Path) -> None:
    read, written = tmp_path / "read", tmp_path / "written"
    read.write_text("x")
    with watched() as reads:
        read.read_text()
        os.close(os.open(read, os.O_RDONLY))
        written.write_text("y")
    (tmp_path / "later").write_text("z")
    (tmp_path / "later").read_text()
    assert reads.files == {str(read)}
    assert not reads.services


def test_what_a_package_reads_that_runs_on_demand_is_not_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "table.txt").write_text("of the package")
    (tmp_path / "reads_once").mkdir()
    (tmp_path / "reads_once" / "__init__.py").write_text(
        f"import subprocess\nwith open({str(tmp_path / 'table.txt')!r}) as file:\n    value = file.read()\n"
        "subprocess.run(['true'])\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(on_demand, "PACKAGES", ("reads_once",))
    on_demand.defer()
    with watched() as reads:
        assert sys.modules["reads_once"].value == "of the package"
        (tmp_path / "asked.txt").write_text("")
        (tmp_path / "asked.txt").read_text()
    monkeypatch.delitem(sys.modules, "reads_once")
    assert {Path(name).name for name in reads.files} == {"asked.txt"}
    assert not reads.services
