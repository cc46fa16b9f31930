"""Lightning's finder of a batch size works with the data modules, and options of memory with whole runs."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from seg_mia.cli import main


def content(run: str) -> dict[str, object]:
    read: dict[str, object] = torch.load(Path(run) / "checkpoints" / "last.ckpt", weights_only=True)
    return read


@pytest.mark.slow
def test_a_batch_size_is_found_by_doubling(tiny: Path) -> None:
    finder = "--trainer.callbacks=lightning.pytorch.callbacks.BatchSizeFinder"
    limits = [f"--trainer.callbacks.{name}" for name in ("init_val=1", "max_trials=3", "steps_per_trial=1")]
    assert main(["fit", "--config", str(tiny), finder, *limits]) == 0
    assert content("runs/tiny/version_0")["global_step"] == 1  # 4 members in one batch, configured are 2


def test_options_of_memory_train_the_same_weights_and_their_victim_is_attacked(
    tiny: Path, folder: Callable[..., Path], undrawn: None
) -> None:
    del folder, undrawn
    for options in ([], ["--model.checkpointing=true", "--model.channels_last=true"]):
        assert main(["fit", "--config", str(tiny), *options]) == 0
    plain, other = (content(f"runs/tiny/version_{number}")["state_dict"] for number in range(2))
    torch.testing.assert_close(other, plain, atol=1e-3, rtol=1e-2)  # NAdam divides rounding by tiny gradients
    attack = ["test", "--attack", "fgsm", "--victim", "runs/tiny/version_1"]
    assert main(attack) == 0
    assert main([*attack, "--model.channels_last=false"]) == 0
    first, second = (
        (Path("runs/tiny/version_1/fgsm") / f"version_{number}" / "per_image.csv").read_text().splitlines()
        for number in range(2)
    )
    assert [line.split(",")[0] for line in first] == [line.split(",")[0] for line in second]
