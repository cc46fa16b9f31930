"""Which shadows an attack needs, known before it is built."""

from pathlib import Path
from typing import Any

import pytest

from seg_mia.config.files import find_config
from seg_mia.config.options import options_in
from seg_mia.experiment.named_attack import scorer_needs
from seg_mia.membership.scorers import Calibrated, Threshold

CALIBRATED = "seg_mia.membership.scorers.Calibrated"


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
