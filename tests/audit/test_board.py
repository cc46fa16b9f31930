"""What TensorBoard shows of the recipes of an audit."""

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from seg_mia.audit.board import BOARD, show_audit
from tests.results.recipes import recipe


@pytest.mark.usefixtures("undrawn")
def test_rates_of_a_recipe_that_cannot_be_resolved_are_not_shown(tmp_path: Path) -> None:
    shares = recipe(name="mia-rank", resolution=1 / 16)
    show_audit(tmp_path, [], [], [recipe(), shares])
    (folder,) = (tmp_path / BOARD).glob("*_recipe")
    tags = EventAccumulator(str(folder)).Reload().Tags()["scalars"]
    assert sorted(tags) == ["recipe/auc/mia-lira", "recipe/auc/mia-rank", "recipe/tpr/mia-lira"]
