"""Identity of the weights that a training started from."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from seg_mia.models.pretraining import loaded_file, loaded_network, tensors_digest

STATE = {"b": torch.tensor([1.0, 2.0]), "a": torch.tensor(3)}


def test_the_digest_of_tensors_by_hand() -> None:
    values = torch.tensor([1.0, 2.0]).numpy().tobytes()
    content = b"a torch.int64 ()\0" + torch.tensor(3).numpy().tobytes() + b"b torch.float32 (2,)\0" + values
    assert tensors_digest(STATE) == hashlib.sha256(content).hexdigest()
    assert tensors_digest(dict(reversed(STATE.items()))) == tensors_digest(STATE)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state | {"b": torch.tensor([1.0, 2.5])},
        lambda state: state | {"b": torch.tensor([[1.0, 2.0]])},
        lambda state: state | {"b": torch.tensor([1.0, 2.0], dtype=torch.bfloat16)},
        lambda state: {"c": state["b"], "a": state["a"]},
        lambda state: {"b": state["b"]},
    ],
)
def test_another_value_shape_type_or_name_has_another_digest(
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]],
) -> None:
    assert tensors_digest(change(STATE)) != tensors_digest(STATE)


def test_strides_do_not_matter() -> None:
    matrix = torch.arange(6.0).reshape(2, 3)
    assert tensors_digest({"w": matrix.T.contiguous().T}) == tensors_digest({"w": matrix})


def test_a_file_is_known_by_its_base_name_and_its_bytes(tmp_path: Path) -> None:
    file = tmp_path / "private place" / "encoder.pth"
    file.parent.mkdir()
    file.write_bytes(b"abc")
    assert loaded_file(file, "encoder") == {
        "name": "encoder.pth",
        "part": "encoder",
        # NIST's example of SHA-256
        "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "of": "file",
    }
    assert loaded_network(file, nn.Identity())["of"] == "file"


def test_a_folder_of_weights_is_known_by_the_tensors_loaded(tmp_path: Path) -> None:
    network = nn.Linear(2, 1)
    assert loaded_network(tmp_path, network) == {
        "name": tmp_path.name,
        "part": "network",
        "sha256": tensors_digest(network.state_dict()),
        "of": "tensors",
    }
