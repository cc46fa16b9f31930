"""Private trainings through the command line: what is promised is what was done."""

import json
import math
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from opacus.accountants import create_accountant
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.checkpoint import NETWORK, load_victim, read_card
from seg_mia.cli import main
from seg_mia.data.base import SegmentationData
from seg_mia.data.folder import Folder
from seg_mia.data.poisson import PoissonBatches
from seg_mia.defences.accounting import Mechanism
from seg_mia.defences.base import Defence, check_together
from seg_mia.defences.crop import Crop
from seg_mia.defences.distil import Distil
from seg_mia.defences.dp import DPSGD
from seg_mia.defences.dp_descent import Private, PrivateDescent, Settings
from seg_mia.defences.minmax import MinMax
from seg_mia.defences.mixup import MixUp
from seg_mia.defences.poison import Poison
from seg_mia.errors import InputError
from seg_mia.experiment import run
from seg_mia.losses import LOSSES, dice_loss
from seg_mia.models.group_norm import Apart
from seg_mia.tasks.segmentation import Segmentation

RUN = Path("runs/tiny-dp/version_0")
DP = ["--defence", "dp", "--model.defences.accountant=rdp"]
KNOWN = [*DP, "--model.defences.reproducible=true"]
UNLIMITED = ["--model.defences.noise=1", "--model.defences.epsilon=.inf"]
ONE_EPOCH = "--trainer.max_epochs=1"
EVERYTHING = "--data.batch_size=6"
SGD = ["--model.optimizer=sgd", "--model.lr=0.1"]
SPENT = cache(Mechanism.spent)


class KilledError(Exception):
    """What ends a training in the middle of an epoch."""


@pytest.fixture(autouse=True)
def looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """An accountant that was asked before answers at once."""
    monkeypatch.setattr(Mechanism, "spent", SPENT)


@pytest.fixture
def tiny(tiny: Path, folder: Callable[..., Path]) -> Path:
    """The tiny config with 6 members, 4 non-members and 10 reference images; an epoch is 3 steps of 3."""
    folder(count=40)
    text = tiny.read_text().replace("members: 4, nonmembers: 2", "members: 6, nonmembers: 4")
    tiny.write_text(text.replace("max_epochs: 1", "max_epochs: 3"))
    return tiny


@pytest.fixture
def small(tiny: Path, own: Path) -> Path:
    """The same with a network of two convolutions, which costs next to nothing."""
    assert own.is_file()
    return with_network(tiny, "my_network.Plain")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's module of networks, one of which keeps samples apart, and of data."""
    file = tmp_path / "code" / "my_network.py"
    file.parent.mkdir()
    file.write_text("""
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from seg_mia.data.base import Batch
from seg_mia.data.folder import Folder


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 4, 3, padding=1)
        self.last = nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.between(self.body(x)).relu())

    def between(self, x: Tensor) -> Tensor:
        return x


class Centred(Plain):
    def between(self, x: Tensor) -> Tensor:
        return x - x.mean(0, keepdim=True)


class FromTheFirst(Plain):
    def between(self, x: Tensor) -> Tensor:
        return x - x[:1].mean((1, 2, 3), keepdim=True)


class Normed(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def between(self, x: Tensor) -> Tensor:
        return self.norm(x.flatten(2)).view_as(x)


class Counting(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.InstanceNorm2d(4, track_running_stats=True)

    def between(self, x: Tensor) -> Tensor:
        return self.norm(x)


class Asleep(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(2, 4)

    def train(self, mode: bool = True) -> "Asleep":
        super().train(mode)
        self.norm.eval()
        return self

    def between(self, x: Tensor) -> Tensor:
        return self.norm(x)


class Shuffled(Folder):
    def train_dataloader(self) -> DataLoader[Batch]:
        return self._loader(self.dataset(self.trained()), shuffle=True)
""")
    monkeypatch.syspath_prepend(str(file.parent))
    monkeypatch.delitem(sys.modules, "my_network", raising=False)
    return file


def with_network(config: Path, path: str, **arguments: Any) -> Path:
    """Write a config beside another one that has another network, under its name."""
    content = yaml.safe_load(config.read_text())
    content["model"]["init_args"]["network"] = {"class_path": path, "init_args": arguments}
    file = config.with_name("other") / config.name
    file.parent.mkdir(exist_ok=True)
    file.write_text(yaml.safe_dump(content))
    return file


def option(name: str, value: object) -> str:
    """Return the word that sets an option of DP-SGD."""
    return f"--model.defences.{name}={value}"


def fit(config: Path, *words: str, runs: str = "runs", dp: Sequence[str] = KNOWN) -> Path:
    """Train, and return the run's folder."""
    assert main(["fit", "--config", str(config), *dp, "--runs", runs, *words]) == 0
    return Path(runs) / "tiny-dp" / "version_0"


def content(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return found


def weights(folder: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = content(folder)["state_dict"]
    return state


def privacy(folder: Path) -> dict[str, Any]:
    found = read_card(folder / "checkpoints" / "last.ckpt", trust=["my_network.Plain"]).privacy
    assert found is not None
    return found


def log_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def opacus(promise: dict[str, Any], steps: int | None = None) -> float:
    """Return what Opacus says of a promise's mechanism, step by step."""
    books = create_accountant(mechanism=promise["accountant"])
    for _ in range(promise["steps"] if steps is None else steps):
        books.step(noise_multiplier=promise["noise"], sample_rate=promise["rate"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own numerics, on the safe side
        return float(books.get_epsilon(delta=promise["delta"]))


def same(one: Path, other: Path) -> None:
    """Weights, optimiser, accounting and log are equal to the bit."""
    first, second = content(one), content(other)
    for part in ("state_dict", "optimizer_states"):
        assert_close(first[part], second[part], rtol=0, atol=0)
    assert first["callbacks"]["PrivacyKeeper"] == second["callbacks"]["PrivacyKeeper"]
    assert privacy(one) == privacy(other)
    assert (one / "metrics.jsonl").read_text() == (other / "metrics.jsonl").read_text()


def differ(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return all(not torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What was trained on at each step, after the number of the step."""
    seen: list[tuple[Any, ...]] = []
    step = PrivateDescent.step

    def watch(self: PrivateDescent, forward: Any, batch: Any, parameters: Any) -> Any:
        seen.append((self.private.steps, *batch.index.tolist()))
        return step(self, forward, batch, parameters)

    monkeypatch.setattr(PrivateDescent, "step", watch)
    return seen


def expected_draws(data: SegmentationData, epochs: int) -> list[tuple[Any, ...]]:
    """What the sampler says is drawn in so many epochs."""
    loaded = data.train_dataloader().batch_sampler
    assert isinstance(loaded, PoissonBatches)
    sampler = PoissonBatches(loaded.population, key=loaded.key)
    found = list[tuple[Any, ...]]()
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        for step in range(len(sampler)):
            drawn = np.isin(sampler.population.units, sampler.drawn(step))
            found.append((len(found), *data.trained()[drawn].tolist()))
    return found


# The mechanism


def plain_weights(folder: Path) -> dict[str, Tensor]:
    """Return a run's weights under the names that they have inside all wrappers."""
    return {name.replace(NETWORK, ""): value for name, value in weights(folder).items()}


def test_without_noise_and_with_a_wide_clip_each_step_is_plain_sgd(tiny: Path) -> None:
    """In 64 bits: in 32, sums in another order change which side of 0 a ReLU is on."""
    words = [*SGD, EVERYTHING, "--trainer.precision=64-true"]
    network = {"encoder": "tu-test_resnet", "channels": 3, "classes": 1, "depth": 3, "norm": "group"}
    grouped = with_network(tiny, "seg_mia.models.smp.Smp", **network)
    assert main(["fit", "--config", str(grouped), "--runs", "plain", *words]) == 0
    plain = Path("plain/tiny/version_0")
    losses = [line["val/loss"] for line in log_of(plain)]
    assert min(abs(one - other) for one, other in pairwise(losses)) > 1e-3  # each step changes something
    exact = [option("noise", 0), option("epsilon", ".inf"), option("clip", 1e6), option("physical_batch", 4)]
    for gradients in ("fused", "loop"):
        private = fit(tiny, *words, *exact, option("gradients", gradients), runs=gradients)
        promise = privacy(private)
        assert (promise["rate"], promise["steps"], promise["noise"]) == (1, 3, 0)
        assert promise["epsilon"] == math.inf
        assert_close(plain_weights(private), plain_weights(plain), rtol=1e-9, atol=1e-9)
        assert [line["val/loss"] for line in log_of(private)] == pytest.approx(losses, rel=1e-9)


def test_the_noise_of_a_step_has_the_deviation_that_was_promised(tiny: Path) -> None:
    """All units in one step: w - lr (G + noise clip z) / 6, and z follows from the seed alone."""
    words = [
        *SGD,
        ONE_EPOCH,
        "--data.batch_size=6",
        "--model.defences.epsilon=.inf",
        "--model.defences.clip=0.5",
    ]
    one, two = (
        weights(fit(tiny, *words, f"--model.defences.noise={noise}", runs=f"noise{noise}"))
        for noise in (1, 3)
    )
    changed = torch.cat(
        [(one[name] - two[name]).double().flatten() for name in one if one[name].is_floating_point()]
    )
    noisy = changed[changed != 0]  # input normalisation is no parameter
    assert len(noisy) > 0.99 * len(changed) > 10_000
    deviation = 0.1 * (3 - 1) * 0.5 / 6
    assert float(noisy.std()) == pytest.approx(deviation, rel=5 / math.sqrt(2 * len(noisy)))
    assert abs(float(noisy.mean())) < 5 * deviation / math.sqrt(len(noisy))


def settings(**changed: Any) -> Settings:
    plain: dict[str, Any] = {
        "epsilon": None,
        "noise": 2.0,
        "delta": None,
        "clip": 0.25,
        "unit": "image",
        "accountant": "rdp",
        "physical_batch": 64,
        "gradients": "auto",
        "reproducible": False,
    }
    return Settings(**(plain | changed))


def descent(
    secret: bytes = b"secret", *, units: int = 40, batch: int = 8, noise: float = 2.0
) -> PrivateDescent:
    """Return the descent of a training over so many units that has begun."""
    source = SimpleNamespace(ids=tuple(map(str, range(units))), groups=("one",) * units)
    members = np.arange(units)

    class Sized(SimpleNamespace):
        pass

    data = Sized(source=_Sized(source), batch_size=batch, trained=lambda: members, batches=None)
    private = Private(settings(noise=noise))
    private.begin(cast(SegmentationData, data), secret, lambda _: 1000)
    return PrivateDescent(private)


class _Sized:
    """Names of samples that know how many they are."""

    def __init__(self, names: SimpleNamespace) -> None:
        self.ids, self.groups = names.ids, names.groups

    def __len__(self) -> int:
        return len(self.ids)


def noise_of(found: PrivateDescent, parameters: dict[str, nn.Parameter]) -> Tensor:
    """Return the gradient of a step whose sum is nothing but zeros."""
    found.sums = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    found.write(parameters)
    return torch.cat([cast(Tensor, each.grad).flatten() for each in parameters.values()])


def test_an_empty_sum_is_written_as_noise_over_the_expected_units() -> None:
    shapes = {"a": (200, 300), "b": (200, 300), "c": (50,)}
    parameters = {name: nn.Parameter(torch.zeros(shape)) for name, shape in shapes.items()}
    found = descent()
    steps = [noise_of(found, parameters) for _ in range(3)]
    assert found.private.steps == 3
    count = len(steps[0])
    for gradient in steps:
        expected = 2.0 * 0.25 / 8  # noise times clip over rate times units
        assert float(gradient.std()) == pytest.approx(expected, rel=5 / math.sqrt(2 * count))
        assert abs(float(gradient.mean())) < 5 * expected / math.sqrt(count)
    parts = [*steps, steps[0][60_000:120_000], steps[0][:60_000], noise_of(descent(b"other"), parameters)]
    for one in range(len(parts)):
        for other in range(one):
            length = min(len(parts[one]), len(parts[other]), 60_000)
            pair = torch.stack([parts[one][:length], parts[other][:length]])
            if one != 4 or other != 0:  # the fifth is the first one's beginning
                assert abs(float(torch.corrcoef(pair)[0, 1])) < 5 / math.sqrt(length), (one, other)


def test_a_sum_is_divided_by_the_expected_units_and_the_noise_comes_on_top() -> None:
    parameters = {"a": nn.Parameter(torch.zeros(3, 4))}
    total = torch.arange(12.0).view(3, 4)
    alone, noisy, zero = descent(noise=0.0), descent(), descent()
    for found in (alone, noisy):
        found.sums = {"a": total.clone()}
    alone.write(parameters)
    assert_close(parameters["a"].grad, total / 8, rtol=0, atol=0)
    noisy.write(parameters)
    with_noise = cast(Tensor, parameters["a"].grad).clone()
    assert_close(with_noise, total / 8 + noise_of(zero, parameters).view(3, 4), rtol=0, atol=1e-6)


def test_no_step_is_taken_beyond_the_budget() -> None:
    found = descent()
    found.private.allowed = 0
    with pytest.raises(AssertionError, match="the budget is spent"):
        found.step(cast(Any, None), cast(Any, None), {})


# What is drawn


def test_each_batch_is_the_one_that_was_drawn_and_some_are_empty(
    small: Path, draws: list[tuple[Any, ...]]
) -> None:
    words = [*KNOWN, *UNLIMITED, "--data.batch_size=1", "--trainer.max_epochs=5"]
    done = run(["fit", "--config", str(small), *words])
    assert len(draws) == 30
    assert draws == expected_draws(done.datamodule, 5)
    assert 0 < sum(len(draw) == 1 for draw in draws) < 30
    members = set(done.datamodule.indices("members").tolist())
    assert {index for draw in draws for index in draw[1:]} == members
    assert privacy(done.folder)["steps"] == 30
    logged = log_of(done.folder)
    assert [line["privacy/steps"] for line in logged] == [6, 12, 18, 24, 30]
    assert all(math.isfinite(value) for line in logged for value in line.values())


def test_a_secret_draws_batches_and_noise_unless_they_are_to_be_reproducible(small: Path) -> None:
    words = [ONE_EPOCH, *UNLIMITED]
    secret, other = (fit(small, *words, runs=runs, dp=DP) for runs in ("a", "b"))
    known, again = (fit(small, *words, runs=runs) for runs in ("c", "d"))
    same(known, again)
    assert differ(secret, other)
    assert differ(secret, known)
    assert (privacy(secret)["reproducible"], privacy(known)["reproducible"]) == (False, True)


def test_two_runs_without_a_logger_share_no_secret_either(small: Path) -> None:
    """They write into one folder; equal noise would drop out of the difference of their weights."""
    words = ["fit", "--config", str(small), *DP, *UNLIMITED, ONE_EPOCH, "--trainer.logger=false"]
    found = []
    for _ in range(2):
        assert main(words) == 0
        found.append(weights(Path("runs/tiny-dp")))
    assert all(not torch.equal(found[0][name], found[1][name]) for name in found[0])


def killed(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a training that dies in its second epoch."""
    step = Segmentation.training_step

    def dies(self: Segmentation, batch: Any, batch_idx: int) -> Any:
        if self.trainer.current_epoch == 1 and batch_idx == 1:
            raise KilledError
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patched:
        patched.setattr(Segmentation, "training_step", dies)
        with pytest.raises(KilledError):
            main(words)


def test_a_killed_run_goes_on_as_if_nothing_had_happened(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_dropout = tiny.read_text().replace("depth: 3}", "depth: 3, dropout: 0.3}")
    tiny.write_text(with_dropout.replace("batch_size: 2", "batch_size: 2, augment: flip"))
    limit = ["--model.defences.noise=1", "--model.defences.epsilon=3", "--trainer.max_epochs=2"]
    words = [*limit, "--model.schedule=cosine"]
    whole, broken = fit(tiny, *words, runs="whole"), Path("broken/tiny-dp/version_0")
    killed(["fit", "--config", str(tiny), *KNOWN, *words, "--runs", "broken"], monkeypatch)
    assert privacy(broken)["steps"] == 3
    assert main(["fit", "--resume", str(broken)]) == 0
    same(broken, whole)
    promise = privacy(broken)
    assert promise["steps"] == 6
    assert promise["epsilon"] == pytest.approx(opacus(promise), rel=1e-12)
    assert promise["epsilon"] <= promise["budget"] == 3


@pytest.mark.parametrize("workers", [0, 1])
def test_a_resumed_run_uses_no_coin_twice(workers: int, small: Path, draws: list[tuple[Any, ...]]) -> None:
    """A batch that was drawn before is no new draw, and the accounting assumes that each one is."""
    words = [*UNLIMITED, ONE_EPOCH, f"--data.workers={workers}", "--data.batch_size=3"]
    folder = fit(small, *words, dp=DP)
    done = run(["fit", "--resume", str(folder), "--trainer.max_epochs=4"])
    assert draws == expected_draws(done.datamodule, 4)
    promise = privacy(folder)
    assert (promise["steps"], promise["reproducible"]) == (8, False)
    assert promise["epsilon"] == pytest.approx(opacus(promise), rel=1e-12)


def in_python(epochs: int, folder: Path | None = None, data: SegmentationData | None = None) -> Trainer:
    """Train without the command line, from a checkpoint in a folder if one is given."""
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    torch.manual_seed(0)
    private = DPSGD(noise=1.0, epsilon=None, accountant="rdp", reproducible=True)
    task = Segmentation(nn.Conv2d(3, 1, 3, padding=1), defences=[private])
    file = folder / "by_hand.ckpt" if folder else None
    trainer.fit(task, datamodule=data, ckpt_path=file, weights_only=False)  # a file of its own
    return trainer


def members(root: Path) -> SegmentationData:
    return Folder(root=str(root), threshold=127, members=6, nonmembers=4, batch_size=2)


# A config names its network and defences instead of holding them.
built_by_hand = pytest.mark.filterwarnings(
    "ignore:.*is an instance of `nn.Module`.*", "ignore:Attribute 'defences' removed from hparams.*"
)


@built_by_hand
def test_a_checkpoint_that_was_saved_after_training_is_gone_on_with_new_coins(
    folder: Callable[..., Path], tmp_path: Path, draws: list[tuple[Any, ...]]
) -> None:
    data = members(folder(count=40))
    whole = in_python(4, data=data)
    expected = list(draws)
    draws.clear()
    in_python(2, data=members(folder(count=40))).save_checkpoint(tmp_path / "by_hand.ckpt")
    again = in_python(4, tmp_path, members(folder(count=40)))
    assert draws == expected == expected_draws(data, 4)
    for name, value in whole.lightning_module.state_dict().items():
        assert_close(again.lightning_module.state_dict()[name], value, rtol=0, atol=0)


@built_by_hand
def test_a_second_training_of_the_same_weights_is_refused_or_counted(
    folder: Callable[..., Path], draws: list[tuple[Any, ...]]
) -> None:
    data = members(folder(count=40))
    trainer = in_python(1, data=data)
    task = cast(Segmentation, trainer.lightning_module)
    trainer.fit_loop.max_epochs = 2
    with suppress(InputError):
        trainer.fit(task, datamodule=data)
    assert task.promise is not None
    assert task.promise["steps"] == len(draws)
    assert len(set(draws)) == len(draws)


# What is promised


def test_the_card_tells_what_was_spent_and_nothing_of_the_members(tiny: Path) -> None:
    """Means over members are no function of the noisy weights: they would not keep the promise."""
    folder = fit(tiny, *UNLIMITED, ONE_EPOCH, "--model.defences.clip=0.5")
    card = read_card(folder / "checkpoints" / "last.ckpt")
    assert card.privacy == {
        "epsilon": pytest.approx(opacus(privacy(folder)), rel=1e-12),
        "delta": 1 / 6,
        "budget": None,
        "unit": "image",
        "neighbours": "add or remove one",
        "units": 6,
        "noise": 1.0,
        "clip": 0.5,
        "rate": 1 / 3,
        "steps": 3,
        "accountant": "rdp",
        "reproducible": True,
    }
    assert card.training is not None
    told = set(card.training["metrics"])
    spent = {f"privacy/{name}" for name in ("epsilon", "delta", "noise", "sampling_rate", "steps")}
    assert "val/dice" in told
    assert {name for name in told if not name.startswith("val/")} <= spent
    (logged,) = log_of(folder)
    assert "train/dice" in logged
    assert logged["privacy/epsilon"] == pytest.approx(card.privacy["epsilon"], rel=1e-6)


def test_the_tight_accountant_is_the_default_and_promises_no_more_than_was_asked(small: Path) -> None:
    folder = fit(small, EVERYTHING, "--model.defences.epsilon=4", dp=["--defence", "dp"])
    promise = privacy(folder)
    assert (promise["accountant"], promise["budget"], promise["unit"]) == ("prv", 4, "image")
    assert 3.95 < promise["epsilon"] <= 4
    assert promise["epsilon"] == pytest.approx(opacus(promise), rel=1e-9)


def test_an_exported_file_keeps_the_promise_and_tells_nobody_apart(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fit(small, *UNLIMITED, ONE_EPOCH)
    assert "privacy spent: epsilon " in capsys.readouterr().out
    assert main(["export", str(folder), "public.ckpt"]) == 0
    card = read_card("public.ckpt", trust=["my_network.Plain"])
    assert card.privacy == privacy(folder)
    assert (card.split, card.training, card.data) == (None, None, None)


def test_training_stops_before_the_budget_is_exceeded_and_cannot_be_taken_up_again(
    small: Path, draws: list[tuple[Any, ...]]
) -> None:
    mechanism = Mechanism(1.0, 1 / 3, 1 / 6, "rdp")
    epsilon = (mechanism.spent(4) + mechanism.spent(5)) / 2
    words = ["--model.defences.noise=1", f"--model.defences.epsilon={epsilon}"]
    folder = fit(small, *words)
    promise, before = privacy(folder), weights(folder)
    assert len(draws) == promise["steps"] == 4  # in the middle of the second of three epochs
    assert promise["epsilon"] == mechanism.spent(4) <= promise["budget"] == epsilon
    assert opacus(promise, 5) > epsilon
    assert (folder / "checkpoints" / "best.ckpt").is_file()
    logged = log_of(folder)[-1]
    assert logged["privacy/steps"] == 4
    assert "val/dice" in logged
    assert main(["fit", "--resume", str(folder), "--trainer.max_epochs=5"]) == 0
    assert len(draws) == 4
    assert privacy(folder) == promise
    assert_close(weights(folder), before, rtol=0, atol=0)


def test_more_epochs_need_more_noise_and_spend_no_more(small: Path, draws: list[tuple[Any, ...]]) -> None:
    words = [EVERYTHING, "--model.defences.epsilon=2"]  # one step is an epoch
    short, long = (
        fit(small, *words, f"--trainer.max_epochs={epochs}", runs=f"for{epochs}") for epochs in (2, 7)
    )
    for folder in (short, long):
        assert 1.98 - 1e-9 <= privacy(folder)["epsilon"] <= 2
    assert (privacy(short)["steps"], privacy(long)["steps"]) == (2, 7)
    assert privacy(long)["noise"] > privacy(short)["noise"]
    begun = privacy(short)
    draws.clear()
    assert main(["fit", "--resume", str(short), "--trainer.max_epochs=7"]) == 0
    resumed = privacy(short)
    assert resumed["noise"] == begun["noise"]
    most = max(steps for steps in range(2, 8) if opacus(begun, steps) <= 2)
    assert resumed["steps"] == 2 + len(draws) == most
    assert resumed["epsilon"] <= 2


def test_no_epochs_at_all_are_no_crash(small: Path) -> None:
    assert main(["fit", "--config", str(small), *KNOWN, *UNLIMITED, "--trainer.max_epochs=0"]) in {0, 2}


# Patients


@pytest.fixture
def grouped(small: Path, folder: Callable[..., Path]) -> Path:
    """A config of twelve members: four patients with three slices each."""
    rows = [f"images/s{i:02d}.png,masks/s{i:02d}.png,p{i // 3}\n" for i in range(40)]
    root = folder(count=40)
    (root / "list.csv").write_text("image,mask,patient\n" + "".join(rows))
    read = yaml.safe_load(small.read_text())
    read["data"]["init_args"] |= {
        "manifest": "list.csv",
        "group_column": "patient",
        "members": 12,
        "nonmembers": 6,
        "batch_size": 6,
        "images": ".",
        "masks": ".",
    }
    small.write_text(yaml.safe_dump(read))
    return small


PATIENT = "--model.defences.unit=patient"


def test_a_promise_for_patients_draws_clips_and_counts_patients(
    grouped: Path, draws: list[tuple[Any, ...]], caplog: pytest.LogCaptureFixture
) -> None:
    done = run(["fit", "--config", str(grouped), *KNOWN, *UNLIMITED, PATIENT])
    promise = privacy(done.folder)
    assert "the promise is for single images" not in caplog.text
    assert (promise["unit"], promise["units"], promise["delta"]) == ("patient", 4, 1 / 4)
    assert (promise["rate"], promise["steps"]) == (0.5, 6)
    whose = done.datamodule.source.groups
    members = done.datamodule.indices("members").tolist()
    for _, *drawn in draws:
        patients = {whose[index] for index in drawn}
        assert drawn == [index for index in members if whose[index] in patients]
    assert draws == expected_draws(done.datamodule, 3)
    assert len(cast(PrivateDescent, done.model.descent).norms) == len({whose[i] for i in draws[-1][1:]})


def test_a_step_over_patients_by_hand(grouped: Path) -> None:
    """All four patients in one step of SGD: the mean of their gradients, each clipped to norm 0.01."""
    clip, words = 0.01, [*SGD, ONE_EPOCH, "--data.batch_size=12", "--model.defences.physical_batch=2"]
    exact = ["--model.defences.noise=0", "--model.defences.epsilon=.inf", f"--model.defences.clip={clip}"]
    done = run(["fit", "--config", str(grouped), *KNOWN, PATIENT, *words, *exact])
    start = run(["fit", "--config", str(grouped), ONE_EPOCH, "--model.optimizer=sgd", "--model.lr=1e-12"])
    network, data = start.model.network, done.datamodule
    patients: dict[str, list[int]] = {}
    for index in data.indices("members").tolist():
        patients.setdefault(data.source.groups[index], []).append(index)
    total = [torch.zeros_like(each) for each in network.parameters()]
    for own in patients.values():
        samples = data.dataset(np.array(own))
        rows = [samples[0, row] for row in range(len(own))]
        image, mask = (torch.stack([row[part] for row in rows]) for part in (0, 1))
        loss = LOSSES["dice_cross_entropy"](network(image), mask).mean()
        found = torch.autograd.grad(loss, list(network.parameters()))
        norm = torch.cat([each.flatten() for each in found]).norm()
        assert norm > clip
        total = [kept + each * clip / norm for kept, each in zip(total, found, strict=True)]
    after = list(done.model.network.parameters())
    for weight, before, summed in zip(after, network.parameters(), total, strict=True):
        assert_close(weight, before - 0.1 * summed / 4, rtol=0, atol=1e-7)


def test_a_promise_for_images_warns_where_patients_have_several(
    grouped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "--config", str(grouped), *KNOWN, *UNLIMITED, ONE_EPOCH]) == 0
    said = capsys.readouterr().err
    assert "the promise is for single images, but groups (patients) have up to 3 of them" in said


# What is deployed


def test_a_private_victim_is_validated_attacked_and_loaded_with_group_norm(tiny: Path) -> None:
    folder = fit(tiny, *UNLIMITED, ONE_EPOCH)
    victim = load_victim(folder / "checkpoints" / "last.ckpt")
    assert isinstance(victim, Apart)
    kinds = {type(module) for module in victim.modules()}
    assert nn.BatchNorm2d not in kinds
    assert any(issubclass(kind, nn.GroupNorm) for kind in kinds)
    assert not [kind for kind in kinds if issubclass(kind, nn.modules.batchnorm._BatchNorm)]
    (logged,) = log_of(folder)
    assert main(["validate"]) == 0
    found = json.loads((folder / "validate" / "version_0" / "summary.json").read_text())
    assert found["dice"] == pytest.approx(logged["val/dice"], abs=1e-6)
    assert main(["test", "--attack", "asma", "--attack.steps=1", "--data.limit=1"]) == 0
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together, alone = victim(images), torch.cat([victim(image[None]) for image in images])
        assert_close(victim.train()(images), together)  # nothing that depends on the mode is left
    assert_close(together, alone)


@pytest.mark.slow
def test_a_membership_attack_on_a_private_victim_compares_what_it_proves(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fit(tiny, *UNLIMITED, ONE_EPOCH)
    shadow = ["fit", "--config", str(tiny), ONE_EPOCH, "--data.role=shadow", "--seed_everything=1"]
    assert main(shadow) == 0
    capsys.readouterr()
    assert main(["test", "--attack", "mia-global-loss"]) == 0
    promise = privacy(folder)
    summary = json.loads((folder / "mia-global-loss" / "version_0" / "summary.json").read_text())
    assert summary["privacy"] == promise
    assert summary["certified"]["unit"] == "image"
    assert summary["certified"]["delta"] == promise["delta"]
    assert f"{promise['epsilon']:.3g} was promised" in capsys.readouterr().out


# What is refused


def refusal(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run words that must fail, and return the one line they lead to; nothing was trained."""
    capsys.readouterr()
    assert main(list(words)) == 2
    said = capsys.readouterr().err
    (line,) = [line for line in said.splitlines() if "seg_mia: error:" in line]
    assert "Traceback" not in said
    assert not list(Path("runs").glob("**/*.ckpt"))
    assert not list(Path("runs").glob("**/metrics.jsonl"))
    return line


@pytest.mark.parametrize(
    ("settings", "telling"),
    [
        ({"epsilon": 0}, "epsilon must be above 0 and finite, got 0"),
        ({"epsilon": -1.0}, "epsilon must be above 0 and finite, got -1"),
        ({"epsilon": math.nan}, "epsilon must be above 0 and finite, got nan"),
        ({"delta": -0.1}, "delta must be above 0 and finite, got -0.1"),
        ({"delta": 0.0}, "delta must be above 0 and finite, got 0"),
        ({"delta": 1.0}, "delta must be below 1, got 1"),
        ({"epsilon": None}, "DP-SGD needs epsilon or noise, got neither"),
        ({"epsilon": math.inf}, "DP-SGD needs epsilon or noise, got neither"),
        ({"noise": 0.0}, "noise 0 promises nothing, got epsilon 8.5 with it"),
        ({"noise": -1.0}, "noise must be 0 or more and finite, got -1"),
        ({"noise": math.inf}, "noise must be 0 or more and finite, got inf"),
        ({"noise": math.nan}, "noise must be 0 or more and finite, got nan"),
        ({"clip": 0.0}, "clip must be above 0 and finite, got 0"),
        ({"clip": math.nan}, "clip must be above 0 and finite, got nan"),
        ({"lr_factor": 0.0}, "lr_factor must be above 0 and finite, got 0"),
        ({"physical_batch": 0}, "physical_batch must be at least 1, got 0"),
        ({"gradients": "fused", "unit": "patient"}, "fused gradients are of single images"),
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
        (option("noise", 0), "noise 0 promises nothing, got epsilon 8.5 with it; set epsilon to .inf"),
    ],
)
def test_a_number_that_promises_nothing_is_one_line_before_anything_is_written(
    word: str, telling: str, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert telling in refusal(["fit", "--config", str(small), *KNOWN, word], capsys)
    assert not Path("runs").exists()


@pytest.mark.filterwarnings("ignore:You passed .*precision=.16-mixed")  # and then trains in other bits
@pytest.mark.filterwarnings("ignore:.*overfit_batches")  # Lightning has its say first
@pytest.mark.parametrize(
    ("words", "telling"),
    [
        ([option("delta", 0.2)], "delta must be at most 1/n = 0.167 for 6 units, got 0.2"),
        (["--data.batch_size=7"], "batch_size must be at most the 6 images trained on, got 7"),
        ([option("unit", "patient")], "unit patient needs data with several images to a group, got 6 images"),
        (["--trainer.gradient_clip_val=1"], "gradient_clip_val would clip the noisy sum"),
        (["--trainer.accumulate_grad_batches=2"], "accumulate_grad_batches must be 1 under DP-SGD, got 2"),
        (["--trainer.precision=bf16-mixed"], "DP-SGD needs precision 32-true, got bf16-mixed"),
        (["--trainer.precision=16-mixed"], "DP-SGD needs precision 32-true, got "),
        (["--trainer.overfit_batches=1"], "overfit_batches repeats one batch"),
        (["--trainer.min_epochs=1"], "min_epochs and min_steps cannot be kept"),
        (["--trainer.max_epochs=-1"], "the noise follows from the planned number of steps, got no end"),
        ([option("epsilon", 1e-3), option("delta", 1e-6)], "epsilon 0.001 is out of reach"),
        ([option("epsilon", 0.1), option("noise", 1)], "does not last for one step with noise 1"),
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
    assert "DP-SGD needs a loss that keeps samples apart" in line


def test_data_that_draws_no_coins_is_refused(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = small.read_text().replace("seg_mia.data.folder.Folder", "my_network.Shuffled")
    small.write_text(text)
    line = refusal(["fit", "--config", str(small), *KNOWN, *UNLIMITED], capsys)
    assert "DP-SGD needs batches drawn by Poisson sampling, got a loader with BatchSampler" in line


class Penalty(Defence):
    """A defence that adds something to the loss of a whole batch."""

    def penalty(self, logits: Tensor, batch: Any) -> Tensor | None:
        del batch
        return logits.flatten(1).mean(1)


@pytest.mark.parametrize(
    ("other", "telling"),
    [
        (MixUp(), "a sample's gradient must not depend on others"),
        (MinMax(), "a sample's gradient must not depend on others"),
        (Distil(), "the teacher has learnt from the members without noise"),
        (Penalty(), "a penalty on the whole batch is not clipped per unit"),
        (DPSGD(), "it can stand there once"),
    ],
)
def test_what_couples_samples_does_not_go_with_privacy(other: Defence, telling: str) -> None:
    for pair in ([DPSGD(), other], [other, DPSGD()]):
        with pytest.raises(InputError, match=f"do not go together: .*{telling}.*; leave one out") as caught:
            check_together(pair)
        assert "\n" not in str(caught.value)


def test_privacy_and_what_couples_samples_are_refused_before_anything_is_written(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refusal(["fit", "--config", str(tiny), "--defence", "dp", "--defence", "mixup"], capsys)
    assert "DPSGD and MixUp do not go together" in line
    assert not Path("runs").exists()


def test_what_changes_each_sample_alone_goes_with_privacy(small: Path) -> None:
    for other in (Crop(), Poison()):
        check_together([DPSGD(), other])
        check_together([other, DPSGD()])
    words = ["--defence", "poisoned", "--defence", "crop", *KNOWN, *UNLIMITED]
    assert main(["fit", "--config", str(small), *words]) == 0


def test_a_resumed_run_keeps_the_rate_it_was_accounted_with(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fit(small, *UNLIMITED, ONE_EPOCH)
    before = weights(folder)
    kept = yaml.safe_load((folder / "config.yaml").read_text())
    kept["data"]["init_args"]["batch_size"] = 3
    (folder / "config.yaml").write_text(yaml.safe_dump(kept))
    capsys.readouterr()
    assert main(["fit", "--resume", str(folder), "--trainer.max_epochs=2"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "seg_mia: error:" in line]
    assert "began with sampling rate 0.3333 and delta 0.167, and would go on with 0.5 and 0.167" in line
    assert_close(weights(folder), before, rtol=0, atol=0)
