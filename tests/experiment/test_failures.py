"""Whatever a user's own code raises is one line that says what came, and from where."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from seg_mia.cli import main
from seg_mia.experiment.failures import LIMIT, failure, message

NETWORK = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 1, 1)
        {init}

    def forward(self, x):
        {forward}
"""
CALLBACK = """
from lightning.pytorch import Callback

class Watches(Callback):
    def on_train_batch_end(self, *arguments, **more) -> None:
        raise KeyError("late")
"""
LOGGER = """
from lightning.pytorch.loggers import CSVLogger

class Sends(CSVLogger):
    def __init__(self, save_dir: str = "logs") -> None:
        raise ConnectionError("no service\\nat this address")
"""
PASSES = {"init": "pass", "forward": "return self.body(x)"}


@pytest.fixture(autouse=True)
def own(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The user's module."""
    monkeypatch.syspath_prepend(str(Path.cwd()))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    yield Path("mine.py")
    sys.modules.pop("mine", None)


def with_network(tiny: Path) -> None:
    text = tiny.read_text()
    start, end = text.index("      class_path: seg_mia.models.smp.Smp"), text.index("    lr:")
    tiny.write_text(text[:start] + "      class_path: mine.Net\n" + text[end:])


@pytest.mark.parametrize(
    ("code", "words", "told"),
    [
        (NETWORK.format(**PASSES | {"init": '{}["a"]'}), [], "KeyError: 'a' (mine.py, line 9, in __init__)"),
        (NETWORK.format(**PASSES | {"init": 'open("none.pt")'}), [], "none.pt' (mine.py, line 9,"),
        (NETWORK.format(**PASSES | {"forward": "return self.head(x)"}), [],
         "AttributeError: 'Net' object has no attribute 'head' (mine.py, line 12, in forward)"),
        (CALLBACK, ["--trainer.callbacks=mine.Watches"], "'late' (mine.py, line 6, in on_train_batch_end)"),
        (LOGGER, ["--trainer.logger=mine.Sends"],
         "ConnectionError: no service at this address (mine.py, line 6, in __init__)"),
    ],
    ids=["constructor", "file", "forward", "callback", "logger"],
)  # fmt: skip
def test_what_a_users_code_raises_is_one_line_from_where_it_is(
    own: Path, tiny: Path, capsys: pytest.CaptureFixture[str], code: str, words: list[str], told: str
) -> None:
    own.write_text(code)
    if "class Net" in code:
        with_network(tiny)
    assert main(["fit", "--config", str(tiny), *words]) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    line = said.strip().splitlines()[-1]
    assert told in line
    if "network" not in line and "cannot be built" not in line:  # which say what helps there
        assert line.endswith("correct it there, or run again with --debug for the traceback")
    assert not Path("runs/tiny").exists()


def test_the_traceback_is_shown_where_it_is_asked_for(
    own: Path, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own.write_text(NETWORK.format(**PASSES | {"init": '{}["a"]'}))
    with_network(tiny)
    assert main(["fit", "--debug", "--config", str(tiny)]) == 2
    said = capsys.readouterr().err
    assert 'mine.py", line 9, in __init__' in said
    assert said.strip().splitlines()[-1].startswith("seg_mia: error: Net cannot be built: KeyError: 'a'")
    assert main(["report", "nowhere", "--debug"]) == 2  # any command takes it
    assert "Traceback" in capsys.readouterr().err


def test_a_fault_of_this_tool_says_how_to_report_it(
    tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seg_mia.experiment.lightning_cli.import_all", None)
    assert main(["fit", "--config", str(tiny)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "TypeError: 'NoneType' object is not callable (seg_mia/experiment/lightning_cli.py, line " in line
    assert "--debug for the traceback, and report it" in line


def test_the_help_of_every_command_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "--debug" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["report", "--help"])
    assert "--debug" in capsys.readouterr().out


def test_a_long_message_is_cut_between_words() -> None:
    words = message(RuntimeError("first\n" + "pip install something " * 100))
    assert len(words) <= LIMIT + 4
    assert words.removesuffix(" ...").split()[-1] in {"pip", "install", "something"}
    assert words.endswith(" ...")
    assert message(RuntimeError()) == "no message"
    assert len(message(RuntimeError("x" * 10_000))) <= LIMIT + 4


class Fails(Dataset[int]):
    """As a user's data set may."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        raise LookupError(f"no sample {index}")


def test_what_a_loading_process_raises_is_told_as_if_it_were_this_one() -> None:
    with pytest.raises(LookupError) as caught:
        next(iter(DataLoader(Fails(), num_workers=1)))
    line = failure(caught.value)
    assert line.startswith("LookupError: no sample 0 (")
    assert "test_failures.py, line " in line
    assert "in __getitem__" in line


def test_memory_that_is_short_has_its_own_remedy() -> None:
    line = failure(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert "lower --data.batch_size or --data.size" in line


def test_another_rank_that_has_ended_is_no_fault_of_this_tool() -> None:
    text = failure(RuntimeError("[gloo/transport/tcp/pair.cc:545] Read error: Connection reset by peer"))
    assert text.startswith("a rank has failed, so the run ends: RuntimeError: [gloo/transport")
    assert "report it" not in text
