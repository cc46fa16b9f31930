"""What would void the promise is refused in one line, before anything is trained."""

import math
from pathlib import Path
from typing import Any, cast

import pytest
from torch import Tensor, nn

from seg_mia.cli import main
from seg_mia.defences.base import Defence, check_together
from seg_mia.defences.crop import Crop
from seg_mia.defences.distil import Distil
from seg_mia.defences.dp.dpsgd import DPSGD
from seg_mia.defences.minmax import MinMax
from seg_mia.defences.mixup import MixUp
from seg_mia.defences.poison import Poison
from seg_mia.errors import InputError
from seg_mia.losses import LOSSES, dice_loss
from tests.defences.dp.helpers import KNOWN, UNLIMITED, option, refusal, with_network


@pytest.mark.parametrize(
    ("settings", "telling"),
    [
        ({"epsilon": 0}, "epsilon must be above 0 and finite, got 0"),
        ({"epsilon": -1.0}, "epsilon must be above 0 and finite, got -1"),
        ({"epsilon": math.nan}, "epsilon must be above 0 and finite, got nan"),
        ({"delta": -0.1}, "delta must be above 0 and finite, got -0.1"),
        ({"delta": 0.0}, "delta must be above 0 and finite, got 0"),
        ({"delta": 1.0}, "delta must be below 1, got 1"),
        ({"population": 0}, "population must be at least 1, got 0"),
        ({"epsilon": None}, "DP-SGD needs epsilon or noise, got neither"),
        ({"epsilon": math.inf}, "DP-SGD needs epsilon or noise, got neither"),
        ({"noise": 0.0}, "noise 0 gives no guarantee, got epsilon 8.5 with it"),
        ({"noise": -1.0}, "noise must be 0 or more and finite, got -1"),
        ({"noise": math.inf}, "noise must be 0 or more and finite, got inf"),
        ({"noise": math.nan}, "noise must be 0 or more and finite, got nan"),
        ({"clip": 0.0}, "clip must be above 0 and finite, got 0"),
        ({"clip": math.nan}, "clip must be above 0 and finite, got nan"),
        ({"lr_factor": 0.0}, "lr_factor must be above 0 and finite, got 0"),
        ({"physical_batch": 0}, "physical_batch must be at least 1, got 0"),
        ({"copies": 0}, "copies must be at least 1, got 0"),
        ({"copies": 8, "physical_batch": 4, "gradients": "fused"}, "at most physical_batch, 4, got 8"),
        ({"ema": 1.0}, "ema must lie between 0 and 1, got 1"),
        ({"tail": 0.0}, "tail must lie above 0 and be at most 1, got 0"),
        ({"ema": 0.9, "tail": 0.5}, "weights have one average, got ema 0.9 and tail 0.5"),
        ({"least_squares": 1.5}, "least_squares must lie above 0 and be at most 1, got 1.5"),
        ({"least_squares": 0.1, "epsilon": None, "noise": 1.0}, "takes a share of epsilon, got noise 1"),
        ({"gradients": "fused", "unit": "patient"}, "fused gradients are per image"),
    ],
)
def test_numbers_that_promise_nothing_are_refused(settings: dict[str, Any], telling: str) -> None:
    with pytest.raises(InputError) as caught:
        DPSGD(**settings)
    assert telling in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("word", "telling"),
    [
        (option("epsilon", 0), "epsilon must be above 0 and finite, got 0"),
        (option("delta", -0.1), "delta must be above 0 and finite, got -0.1"),
        (option("epsilon", ".inf"), "DP-SGD needs epsilon or noise, got neither"),
        (option("noise", 0), "noise 0 gives no guarantee, got epsilon 8.5 with it; set epsilon to .inf"),
    ],
)
def test_a_number_that_promises_nothing_is_one_line_before_anything_is_written(
    word: str, telling: str, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert telling in refusal(["fit", "--config", str(small), *KNOWN, word], capsys)
    assert not Path("runs").exists()


@pytest.mark.filterwarnings("ignore:You passed .*precision=.16-mixed")  # and then trains in other bits
@pytest.mark.parametrize(
    ("words", "telling"),
    [
        ([option("delta", 0.2)], "delta must be at most 1/n = 0.167 for 6 units, got 0.2"),
        (["--data.batch_size=7"], "batch_size must be at most the 6 images trained on, got 7"),
        ([option("population", 4), option("delta", 0.3)], "delta must be at most 1/n = 0.25 for 4 units"),
        (
            [option("population", 4), "--data.batch_size=5"],
            "batch_size must be at most the declared population of 4 images trained on, got 5",
        ),
        ([option("unit", "patient")], "unit patient needs data with several images to a group, got 6 images"),
        (["--trainer.gradient_clip_val=1"], "gradient_clip_val would clip the noisy sum"),
        (["--trainer.accumulate_grad_batches=2"], "accumulate_grad_batches must be 1 under DP-SGD, got 2"),
        (["--trainer.precision=bf16-mixed"], "DP-SGD needs precision 32-true, got bf16-mixed"),
        (["--trainer.precision=16-mixed"], "DP-SGD needs precision 32-true, got "),
        (["--trainer.overfit_batches=1"], "--trainer.overfit_batches must be 0, got 1"),
        (["--trainer.min_epochs=1"], "min_epochs and min_steps contradict"),
        (["--trainer.max_epochs=-1"], "the noise depends on the planned number of steps, got no limit"),
        ([option("epsilon", 1e-3), option("delta", 1e-6)], "epsilon 0.001 cannot be reached"),
        ([option("epsilon", 0.1), option("noise", 1)], "does not suffice for one step with noise 1"),
    ],
)
def test_what_would_void_the_promise_is_refused_before_training(
    words: list[str], telling: str, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert telling in refusal(["fit", "--config", str(small), *KNOWN, *words], capsys)


@pytest.mark.parametrize(
    ("network", "telling"),
    [
        ("Centred", "find the layer that computes over the batch axis and replace it"),
        ("FromTheFirst", "network"),
        ("Normed", "BatchNorm1d network.norm uses statistics of the batch; use group normalisation instead"),
        ("Counting", "DP-SGD needs a network"),
        ("Asleep", "got network.norm (GroupNorm) in evaluation mode"),
    ],
)
@pytest.mark.filterwarnings("ignore:Found .* module.* in eval mode")  # Lightning has seen it too
def test_networks_of_ones_own_are_tried_before_training(
    network: str, telling: str, tiny: Path, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert own.is_file()
    config = with_network(tiny, f"my_network.{network}")
    words = [*KNOWN, *UNLIMITED, option("gradients", "fused")]
    assert telling in refusal(["fit", "--config", str(config), *words], capsys)


def test_a_loss_over_the_batch_is_found_before_training(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def over_the_batch(logits: Tensor, mask: Tensor) -> Tensor:
        return dice_loss(logits, mask) * 0 + dice_loss(logits.view(1, 1, -1, 32), mask.view(1, -1, 32))

    monkeypatch.setitem(cast(Any, LOSSES), "dice", over_the_batch)
    line = refusal(["fit", "--config", str(small), *KNOWN, *UNLIMITED, "--model.loss=dice"], capsys)
    assert "DP-SGD needs a per-sample loss" in line


def test_data_that_draws_no_coins_is_refused(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = small.read_text().replace("seg_mia.data.sets.folder.Folder", "my_network.Shuffled")
    small.write_text(text)
    line = refusal(["fit", "--config", str(small), *KNOWN, *UNLIMITED], capsys)
    assert "DP-SGD needs batches drawn by Poisson sampling, got a loader with BatchSampler" in line


class Penalty(Defence):
    """A defence that adds something to the loss of a whole batch."""

    def penalty(self, logits: Tensor, batch: Any, network: nn.Module) -> Tensor | None:
        del batch, network
        return logits.flatten(1).mean(1)


@pytest.mark.parametrize(
    ("other", "telling"),
    [
        (MixUp(), "a sample's gradient must not depend on others"),
        (MinMax(), "a sample's gradient must not depend on others"),
        (Distil(), "the teacher was trained on the members without noise"),
        (Penalty(), "a penalty on the whole batch"),
        (DPSGD(), "it may be given only once"),
    ],
)
def test_what_couples_samples_does_not_go_with_privacy(other: Defence, telling: str) -> None:
    for pair in ([DPSGD(), other], [other, DPSGD()]):
        with pytest.raises(InputError, match=f"are incompatible: .*{telling}.*; leave one out") as caught:
            check_together(pair)
        assert "\n" not in str(caught.value)


def test_privacy_and_what_couples_samples_are_refused_before_anything_is_written(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refusal(["fit", "--config", str(tiny), "--defence", "dp", "--defence", "mixup"], capsys)
    assert "DPSGD and MixUp are incompatible" in line
    assert not Path("runs").exists()


def test_what_changes_each_sample_alone_goes_with_privacy(small: Path) -> None:
    for other in (Crop(), Poison()):
        check_together([DPSGD(), other])
        check_together([other, DPSGD()])
    words = ["--defence", "poisoned", "--defence", "crop", *KNOWN, *UNLIMITED]
    assert main(["fit", "--config", str(small), *words]) == 0


def test_an_option_of_another_defence_than_the_last_is_refused_with_the_remedy(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["fit", "--config", str(tiny)]
    both = ["--defence", "canaries", "--model.defences.kind=mislabelled", "--defence", "dp"]
    line = refusal([*words, *both], capsys)
    assert "--model.defences: Option 'kind' is not accepted; DPSGD takes accountant, batch_norm" in line
    assert line.endswith(
        "; options set the last of the 2 defences: put another one's into a file with class_path and "
        "init_args, --defence FILE"
    )
    alone = refusal([*words, "--defence", "dp", "--model.defences.kind=mislabelled"], capsys)
    assert "options set the last" not in alone
