"""Settings of an attack that the audit of a recipe does not take."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from seg_mia.audit.fleet import recipe_attack
from seg_mia.commands.fleet import read_settings
from seg_mia.errors import InputError
from seg_mia.experiment.recipe import _tell_of_level
from seg_mia.membership.fleet.scorers import Lira
from seg_mia.membership.scorers import Threshold

ATTACK = """\
class_path: seg_mia.membership.base.Membership
init_args:
  signal: {{class_path: seg_mia.membership.signals.ImageLoss}}
  scorer: {{class_path: seg_mia.membership.{scorer}}}
"""


@pytest.mark.parametrize(
    ("scorer", "telling"),
    [
        ("fleet.scorers.Lira, init_args: {level: outside}", "level=outside"),
        ("fleet.scorers.Calibrated, init_args: {level: outside}", "level=outside"),
        ("scorers.Threshold, init_args: {rule: shadow_roc}", "rule=shadow_roc"),
    ],
)
def test_a_fleet_refuses_options_of_attacks_on_a_victim_before_it_trains(scorer: str, telling: str) -> None:
    Path("mine.yaml").write_text(ATTACK.format(scorer=scorer))
    with pytest.raises(InputError, match=f"{telling} has no effect on the audit of a recipe; leave it out"):
        read_settings(["--config", "phantom_victim", "--attacks", "mine.yaml"])


def test_their_defaults_and_other_options_are_taken() -> None:
    Path("mine.yaml").write_text(ATTACK.format(scorer="fleet.scorers.Lira, init_args: {level: evaluated}"))
    assert isinstance(recipe_attack("mine.yaml").scorer, Lira)


def test_an_audit_says_where_the_levels_of_its_recipe_come_from(caplog: pytest.LogCaptureFixture) -> None:
    for scorer in (Lira(), Threshold()):
        _tell_of_level("mia", cast("Any", SimpleNamespace(scorer=scorer)))
    assert not caplog.records
    _tell_of_level("mia-lira", cast("Any", SimpleNamespace(scorer=Lira(level="outside"))))
    assert "mia-lira: level outside is that of the attack on the victim; its recipe is audited" in caplog.text
