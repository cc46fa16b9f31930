from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.data.predictions import SignalSamples, predictions
from seg_mia.data.sets.folder import Folder
from seg_mia.errors import InputError


class Counting(nn.Module):
    """Counts how often it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 2, 3, padding=1)
        self.norm = nn.BatchNorm2d(2)
        self.asked = 0

    def forward(self, x: Tensor) -> Tensor:
        self.asked += len(x)
        answer: Tensor = self.norm(self.layer(x))
        return answer


@pytest.fixture
def data(folder: Callable[..., Path]) -> Folder:
    made = Folder(root=str(folder()), threshold=127, members=4, nonmembers=2, batch_size=3, augment="flips")
    made.setup()
    return made


@pytest.fixture
def ask(data: Folder, tmp_path: Path) -> Callable[..., np.ndarray]:
    file = tmp_path / "last.ckpt"
    file.write_bytes(b"weights")

    def asked(network: nn.Module, indices: list[int] | None = None, built: object = None) -> np.ndarray:
        return predictions(
            network,
            data,
            data.indices("all") if indices is None else np.array(indices),
            built=built,
            checkpoint=file,
            folder=tmp_path / "run",
            device=torch.device("cpu"),
        )

    return asked


def test_answers_are_the_networks_in_evaluation_mode_without_augmentation(
    data: Folder, ask: Callable[..., np.ndarray]
) -> None:
    network = Counting().train()
    indices = data.indices("all")
    answers = ask(network)
    images = torch.stack([data.dataset(indices)[0, row].image for row in range(len(indices))])
    with torch.no_grad():
        expected = network.eval()(images)
    assert answers.dtype == np.float16
    assert_close(torch.from_numpy(np.array(answers)).float(), expected, atol=2e-3, rtol=1e-3)


def test_a_network_is_asked_once(ask: Callable[..., np.ndarray]) -> None:
    network = Counting()
    first = ask(network)
    assert network.asked == len(first)
    np.testing.assert_array_equal(ask(network), first)
    assert network.asked == len(first)


def test_other_samples_another_file_and_damage_ask_again(
    ask: Callable[..., np.ndarray], data: Folder, tmp_path: Path
) -> None:
    network = Counting()
    ask(network)
    ask(network, data.indices("members").tolist())
    assert network.asked == 6 + 4
    (tmp_path / "last.ckpt").write_bytes(b"other weights")
    ask(network, built={"mean": 0.5})
    assert network.asked == 6 + 4 + 6
    ask(network, built={"mean": 0.4})  # not among the weights, and yet another network
    assert network.asked == 6 + 4 + 6 + 6
    for file in (tmp_path / "run").glob("*.npy"):
        file.write_bytes(file.read_bytes()[:100])
    assert len(ask(network, built={"mean": 0.4})) == 6
    assert network.asked == 6 + 4 + 6 + 6 + 6
    assert not list((tmp_path / "run").glob(".*"))


def test_huge_logits_stay_finite_and_broken_ones_are_refused(ask: Callable[..., np.ndarray]) -> None:
    class Fixed(nn.Module):
        def __init__(self, value: float) -> None:
            super().__init__()
            self.value = value

        def forward(self, x: Tensor) -> Tensor:
            return x.new_full((len(x), 1, *x.shape[2:]), self.value)

    with pytest.raises(InputError, match="must be finite, got NaN or infinity near sample 's"):
        ask(Fixed(float("nan")))
    assert np.isfinite(ask(Fixed(1e9))).all()


def test_a_part_keeps_each_samples_answer_and_group(data: Folder, ask: Callable[..., np.ndarray]) -> None:
    indices = data.indices("all")
    whole = SignalSamples(data, indices, np.arange(6) < 4, ask(Counting()))
    part = whole.part(np.array([5, 1]))
    assert part.indices.tolist() == [indices[5], indices[1]]
    assert part.members.tolist() == [False, True]
    for here, there in ((0, 5), (1, 1)):
        for one, other in zip(part[0, here], whole[0, there], strict=True):
            assert_close(one, other)
        assert part.groups[here] == whole.groups[there]
    asked: list[int] = []

    def answer(row: int) -> np.ndarray:
        asked.append(row)
        return np.array(whole.logits[row])  # type: ignore[index]  # an array here

    some = SignalSamples(data, indices, whole.members, answer).part(np.array([5, 1]))
    assert_close(some[0, 0].logits, whole[0, 5].logits)
    assert asked == [5]
    kept = some.answered(np.array([1]))
    assert asked == [5, 1]
    assert_close(kept[0, 1].logits, whole[0, 1].logits)
    assert asked == [5, 1]
    assert whole.answered(np.array([1])) is whole
    again = part.part(np.array([1]))
    assert_close(again[0, 0].logits, whole[0, 1].logits)
