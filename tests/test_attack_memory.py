"""Memory held by attacks is counted exactly, and every attack is measured."""

from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor

from benchmarks.suite.held_memory import held_bytes
from benchmarks.suite.memory import ATTACKS, CHECKPOINTED, MIB, held

CONFIGS = Path(__file__).parents[1] / "lightning_configs" / "attack"
SIDE = 32


def chained(x: Tensor) -> Tensor:
    y = x + 1  # 4 kB
    z = y + 1  # 4 kB more
    del y
    return z + 1  # again two of them


def differentiated(x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()  # 4 kB
    y = x.sin().sin().sin()  # each keeps its input, and the last one's output is there
    (gradient,) = torch.autograd.grad(y, x, torch.ones_like(y))
    return gradient


def test_what_is_held_at_once_is_counted_and_what_is_freed_is_not() -> None:
    assert held_bytes(chained, torch.zeros(1024)) == 2 * 4096
    assert held_bytes(lambda x: x[10:].view(2, -1), torch.zeros(1024)) == 0  # views hold nothing of their own
    # Four tensors of the forward pass, the ones, and in the backward pass a cosine and a product.
    assert held_bytes(differentiated, torch.zeros(1024)) == pytest.approx(7 * 4096, abs=4096)


def test_every_attack_with_a_network_is_measured() -> None:
    named = {name.partition(",")[0] for name in ATTACKS}
    configs = {file.stem for file in CONFIGS.glob("*.yaml")}
    assert named - {"a query"} == {name for name in configs if not name.startswith("mia-")}
    for name in named & configs:
        path = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())["class_path"]
        assert path.startswith("seg_mia.attacks.")


@pytest.mark.parametrize("name", ["a query, for comparison", "square", "pgd", CHECKPOINTED])
def test_memory_is_the_same_each_time_and_grows_by_the_same_for_each_image(name: str) -> None:
    sizes = [held(ATTACKS[name], SIDE, count) for count in (1, 2, 3)]
    assert sizes == [held(ATTACKS[name], SIDE, count) for count in (1, 2, 3)]
    assert sizes[2] - sizes[1] == pytest.approx(sizes[1] - sizes[0], rel=0.02)


def test_a_gradient_takes_more_than_a_query_and_less_with_checkpointing() -> None:
    query, plain, again = (
        held(ATTACKS[name], SIDE, 2) for name in ("a query, for comparison", "pgd", CHECKPOINTED)
    )
    assert query < again < plain
    assert held(ATTACKS["square"], SIDE, 2) >= query


def test_certificates_hold_the_copies_of_one_image_whatever_their_number() -> None:
    name = next(name for name in ATTACKS if name.startswith("certify"))
    few, many = (held(ATTACKS[name], SIDE, count) for count in (1, 3))
    image = SIDE**2 * 4 / MIB
    assert few > 32 * image
    assert many - few < 20 * image
