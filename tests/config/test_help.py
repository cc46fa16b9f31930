"""Help tells of the classes that the words name, too."""

import pytest

from seg_mia.cli import main
from seg_mia.config.help import pages, tidy


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (
            ["fit", "--config", "kvasir_victim.yaml", "--help"],
            ["--data.size", "--model.lr", "--model.network.encoder"],
        ),
        (["test", "--attack", "asma", "--help"], ["--attack.steps", "--data.limit", "--victim"]),
        (["test", "--attack=mia-type2", "--help"], ["--attack.scorer.epochs", "--attack.signal.difference"]),
        (["test", "--attack", "mia-global-loss", "--attack.scorer.help"], ["--attack.scorer.rule"]),
        (["adopt", "--help"], ["adopt takes the options of fit", "--data.members"]),
    ],
)
def test_names_are_explained(words: list[str], shown: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    said = capsys.readouterr().out
    assert [option for option in shown if option not in said] == []
    assert "torch.nn.Identity" not in said


def test_the_classes_of_a_config_in_the_order_they_stand() -> None:
    titles = [page.title for page in pages(["fit", "--config", "kvasir_victim", "--help"])]
    assert titles == [
        "",
        "options of --model",
        "options of --model.network",
        "options of --data",
    ]


def test_an_unknown_name_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", "--attack", "asthma", "--help"]) == 2
    assert "known names are" in capsys.readouterr().err


def test_foreign_classes_are_left_out() -> None:
    text = "(required, type: <class 'Module'>, known\n  subclasses: torch.nn.Module, torch.nn.Identity)"
    assert tidy(text) == "(required, type: <class 'Module'>)"
    assert tidy("usage: x.py --signal.a", "attack.signal") == "usage: seg_mia --attack.signal.a"
