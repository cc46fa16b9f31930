"""The settings noted in a checkpoint: those that Lightning itself would note."""

from pathlib import Path

import pytest
import torch
import yaml

from seg_mia.experiment.lightning_cli import run
from seg_mia.runs import checkpoint_file

NUMBERS = ["--model.lr=1e-5", "--trainer.gradient_clip_val=.inf", "--data.value_range=[0, 255]"]


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("options", [[], NUMBERS], ids=["plain", "numbers"])
def test_they_are_what_lightning_notes(tiny: Path, options: list[str]) -> None:
    done = run(["fit", "--config", str(tiny), *options])
    checked = yaml.safe_load(done.parser.dump(done.config, skip_link_targets=False, skip_unset=False))
    assert done.config_dump == checked["fit"]
    content = torch.load(checkpoint_file(done.folder), weights_only=True)
    for part, key in (("model", "hyper_parameters"), ("data", "datamodule_hyper_parameters")):
        spec = checked["fit"][part]
        noted = {name: value for name, value in content[key].items() if name != "_instantiator"}
        assert len(noted) > 10
        assert noted.items() <= {"_class_path": spec["class_path"], **spec["init_args"]}.items()
