"""Which shadows an attack needs, known before it is built."""

from pathlib import Path
from typing import Any

import pytest

from seg_mia.config.files import find_config
from seg_mia.config.options import options_in
from seg_mia.experiment.attack_classes import scorer_needs, shows_shadows_images
from seg_mia.experiment.plan import plan
from seg_mia.experiment.request import RunRequest
from seg_mia.membership.fleet.scorers import Calibrated
from seg_mia.membership.scorers import Threshold

CALIBRATED = "seg_mia.membership.fleet.scorers.Calibrated"
QUANTILE = "seg_mia.membership.fleet.scorers.Quantile"
LIRA = "seg_mia.membership.fleet.scorers.Lira"
WHOLE = f"--attack.scorer={{class_path: {LIRA}, init_args: {{mode: offline}}}}"


@pytest.mark.parametrize(
    ("attack", "words", "many"),
    [
        (str(find_config("mia-calibrated", "attack")), [], True),
        (str(find_config("mia-global-loss", "attack")), [], False),
        (str(find_config("mia-global-loss", "attack")), [f"--attack.scorer={CALIBRATED}"], True),
        (str(find_config("mia-global-loss", "attack")), ["--attack.scorer", "Calibrated", "--x"], True),
        (str(find_config("mia-calibrated", "attack")), ["--attack.scorer", "Threshold"], False),
        ({"class_path": "M", "init_args": {"scorer": {"class_path": CALIBRATED}}}, [], True),
        ({"class_path": "M", "init_args": {"scorer": CALIBRATED}}, [], True),
        (
            "seg_mia.membership.base.Membership",
            ['--attack.scorer={"class_path": "' + CALIBRATED + '"}'],
            True,
        ),
        ("seg_mia.membership.base.Membership", ["--attack.scorer=Nothing"], False),
    ],
)
def test_by_the_scorers_class(attack: Any, words: list[str], many: bool) -> None:
    assert not isinstance(attack, str) or "." in Path(attack).name
    needs, expected = scorer_needs(attack, options_in(words)), Calibrated.needs if many else Threshold.needs
    assert (needs.count, needs.maximum, needs.sampling) == (
        expected.count,
        expected.maximum,
        expected.sampling,
    )


def test_by_the_bare_name_of_an_attack_with_references() -> None:
    config = str(find_config("mia-global-loss", "attack"))
    assert scorer_needs(config, options_in(["--attack.scorer", "Lira"])).sampling == "online"
    offline = ["--attack.scorer", "Lira", "--attack.scorer.mode", "offline"]
    assert scorer_needs(config, options_in(offline)).sampling == "offline"


@pytest.mark.parametrize(
    ("words", "sampling"),
    [
        ([], "online"),
        (["--attack.scorer.mode=offline"], "offline"),
        (["--attack.scorer.init_args.mode", "offline"], "offline"),
        (["--attack.scorer.mode=offline", "--attack.scorer.mode=online"], "online"),
        ([WHOLE], "offline"),
        ([WHOLE, "--attack.scorer.mode=online"], "online"),
        (["--attack.scorer.mode=online", WHOLE], "offline"),
    ],
)
def test_by_the_scorers_mode(words: list[str], sampling: str) -> None:
    lira = str(find_config("mia-lira", "attack"))
    assert scorer_needs(lira, options_in(words)).sampling == sampling
    inline = {
        "class_path": "M",
        "init_args": {"scorer": {"class_path": LIRA, "init_args": {"mode": "offline"}}},
    }
    assert scorer_needs(inline, []).sampling == "offline"
    assert scorer_needs(inline, options_in([f"--attack.scorer={LIRA}"])).sampling == "online"


@pytest.mark.parametrize(
    ("name", "words", "control", "shown"),
    [
        ("mia-global-loss", [], False, True),
        ("mia-type2", [], False, True),
        ("mia-lira", [], False, True),
        ("mia-quantile", [], False, False),  # learns from the victim's own outputs
        ("mia-quantile", [], True, True),
        ("mia-blind", [], False, False),
        ("mia-blind", [], True, False),
        ("mia-blind-statistics", [], False, False),
        ("mia-blind", ["--attack.signal=seg_mia.membership.signals.ImageLoss"], False, True),
        ("mia-global-loss", [f"--attack.scorer={QUANTILE}"], False, False),
    ],
)
def test_some_attacks_show_a_shadow_no_image(name: str, words: list[str], control: bool, shown: bool) -> None:
    attack = str(find_config(name, "attack"))
    assert shows_shadows_images(attack, options_in(words), control=control) == shown


def test_a_line_is_told_once_in_a_process(caplog: pytest.LogCaptureFixture) -> None:
    for name in ("base", "top"):
        network = f"{{class_path: own.{name.title()}, init_args: {{{name}: 1}}}}"
        base = "base: told_base.yaml\n" if name == "top" else ""
        Path(f"told_{name}.yaml").write_text(f"{base}model: {{init_args: {{network: {network}}}}}\n")
    with caplog.at_level("INFO", logger="seg_mia"):
        for _ in range(3):
            plan(RunRequest("fit", configs=("told_top.yaml",)))
    assert [record.message for record in caplog.records].count(
        "told_top.yaml: the network is own.Top; left out of own.Base: base"
    ) == 1
