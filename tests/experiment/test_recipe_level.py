"""Settings of an attack that the audit of a recipe does not take."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from seg_mia.experiment.recipe import _warn_of_level
from seg_mia.membership.fleet.scorers import Lira
from seg_mia.membership.scorers import Threshold


def test_a_level_outside_is_said_to_have_no_effect_on_a_recipe(caplog: pytest.LogCaptureFixture) -> None:
    for scorer in (Lira(), Threshold()):
        _warn_of_level("mia", cast("Any", SimpleNamespace(scorer=scorer)))
    assert not caplog.records
    _warn_of_level("mia-lira", cast("Any", SimpleNamespace(scorer=Lira(level="outside"))))
    assert "mia-lira: level outside has no effect on the audit of a recipe" in caplog.text
