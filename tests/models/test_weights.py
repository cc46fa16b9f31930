from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from seg_mia.errors import InputError
from seg_mia.models.smp import Smp
from seg_mia.models.weights import load_encoder, load_state


class Network(nn.Module):
    """Any network with an encoder."""

    encoder: nn.Sequential

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1))
        self.head = nn.Conv2d(4, 1, 1)


@pytest.fixture
def state() -> dict[str, Tensor]:
    torch.manual_seed(1)
    state: dict[str, Tensor] = Network().encoder.state_dict()
    return {**state, "classifier.weight": torch.ones(2, 4)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weights.pth"


def assert_loaded(network: nn.Module, state: dict[str, Tensor]) -> None:
    for key, tensor in network.get_submodule("encoder").state_dict().items():
        assert torch.equal(tensor, state[key]), key


@pytest.mark.parametrize(
    "prefix", ["", "module.", "model.", "encoder.", "module.model.encoder.", "model.module."]
)
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_reads_the_usual_wrappers(
    state: dict[str, Tensor], path: Path, prefix: str, wrapper: str | None
) -> None:
    named = {prefix + key: tensor for key, tensor in state.items()}
    torch.save({wrapper: named, "epoch": 3} if wrapper else named, path)
    network = Network()
    load_encoder(network, path)
    assert_loaded(network, state)


def test_takes_the_encoder_out_of_a_whole_network(path: Path) -> None:
    source, network = Network(), Network()
    torch.save(source.state_dict(), path)
    before = network.head.weight.clone()
    load_encoder(network, str(path))
    assert_loaded(network, source.encoder.state_dict())
    assert torch.equal(network.head.weight, before)


def test_reads_safetensors(state: dict[str, Tensor], tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    save_file(state, file)
    network = Network()
    load_encoder(network, file)
    assert_loaded(network, state)


def test_sums_the_first_convolution_over_rgb_for_one_channel(state: dict[str, Tensor], path: Path) -> None:
    torch.save(state, path)
    grey, colour = Network(1).double().eval(), Network().double().eval()
    load_encoder(grey, path)
    load_encoder(colour, path)
    x = torch.rand(2, 1, 8, 8).double()
    torch.testing.assert_close(grey.encoder(x), colour.encoder(x.expand(-1, 3, 8, 8)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("channels", [2, 5])
def test_repeats_and_scales_the_first_convolution_for_other_channels(
    state: dict[str, Tensor], path: Path, channels: int
) -> None:
    torch.save(state, path)
    network = Network(channels)
    load_encoder(network, path)
    expected = torch.stack([state["0.weight"][:, i % 3] for i in range(channels)], 1) * 3 / channels
    torch.testing.assert_close(network.encoder.state_dict()["0.weight"], expected)


def test_batch_statistics_are_dropped_where_group_norm_took_over(path: Path) -> None:
    source = Smp(encoder="resnet18", channels=3)
    torch.save(source.encoder.state_dict(), path)
    network = Smp(encoder="resnet18", channels=3, norm="group")
    load_encoder(network, path)
    assert_loaded(network, source.encoder.state_dict())


def test_old_files_without_a_batch_counter_are_read(state: dict[str, Tensor], path: Path) -> None:
    del state["1.num_batches_tracked"]
    torch.save(state, path)
    load_encoder(Network(), path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"2.weight": None}, "does not fit encoder Sequential: missing: 2.weight;"),
        ({"other.weight": torch.ones(1)}, "unexpected: other.weight;"),
        ({"2.weight": torch.ones(4, 5, 1, 1)}, r"other shape: 2.weight \(4, 5, 1, 1\) for \(4, 4, 1, 1\);"),
        ({f"x{i}": torch.ones(1) for i in range(5)}, "unexpected: x0, x1, x2 and 2 more;"),
    ],
)
def test_refuses_weights_of_another_encoder_and_leaves_the_network_alone(
    state: dict[str, Tensor], path: Path, change: dict[str, Tensor | None], message: str
) -> None:
    changed = {key: tensor for key, tensor in {**state, **change}.items() if tensor is not None}
    torch.save(changed, path)
    network = Network()
    before = {key: tensor.clone() for key, tensor in network.encoder.state_dict().items()}
    with pytest.raises(InputError, match=message) as caught:
        load_encoder(network, path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert_loaded(network, before)


def test_refuses_networks_it_cannot_serve(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="with an `encoder`, got Conv2d"):
        load_encoder(nn.Conv2d(1, 1, 1), "imagenet")
    with pytest.raises(InputError, match="ImageNet weights are not available for .*Network"):
        load_encoder(Network(), "imagenet")
    with pytest.raises(InputError, match="found none at .*nowhere.pth"):
        load_encoder(Network(), tmp_path / "nowhere.pth")


@pytest.mark.parametrize("wrapper", [None, "state_dict"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_loads_a_whole_network(path: Path, wrapper: str | None, prefix: str) -> None:
    source, network = Network(), Network()
    named = {prefix + key: tensor for key, tensor in source.state_dict().items()}
    torch.save({wrapper: named} if wrapper else named, path)
    load_state(network, path)
    for key, tensor in network.state_dict().items():
        assert torch.equal(tensor, source.state_dict()[key])


PREFIXES = ["model.", "net.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "a.b.model.network."]
WRAPPERS = [["state_dict"], ["model_state_dict"], ["network_weights"], ["checkpoint", "ema", "params"]]


class Inside(nn.Module):
    """A network in another, as this package's adapters hold it."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Network()


@pytest.mark.parametrize("wanted", [Network, Inside])
@pytest.mark.parametrize("keys", WRAPPERS)
@pytest.mark.parametrize("prefix", PREFIXES)
def test_what_stands_before_all_names_and_around_them_is_dropped_and_told(
    path: Path, prefix: str, keys: list[str], wanted: type[nn.Module]
) -> None:
    source, network = Network(), wanted()
    content: Any = {prefix + key: tensor for key, tensor in source.state_dict().items()}
    for key in reversed(keys):
        content = {key: content, "epoch": 3, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}}
    torch.save(content, path)
    told = load_state(network, path)
    assert repr(".".join(keys)) in told
    assert f"without {prefix.removesuffix('network.')!r}" in told.replace("network.'", "'")
    loaded = {key.removeprefix("network."): tensor for key, tensor in network.state_dict().items()}
    assert loaded.keys() == source.state_dict().keys()
    assert all(torch.equal(loaded[key], tensor) for key, tensor in source.state_dict().items())


class Held(nn.Module):
    """A network in a user's wrapper."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.ModuleDict({"core": Network()})


@pytest.mark.parametrize("prefix", ["", "model.", "core."])
def test_a_wrapper_of_the_user_is_put_before_the_names_of_a_file_without_it(path: Path, prefix: str) -> None:
    source, network = Network(), Held()
    torch.save({prefix + key: tensor for key, tensor in source.state_dict().items()}, path)
    told = load_state(network, path)
    assert f"with {'net.' if prefix == 'core.' else 'net.core.'!r} in front" in told
    assert ("without 'model.' in front" in told) == (prefix == "model.")
    loaded = network.net["core"].state_dict()
    assert all(torch.equal(loaded[key], tensor) for key, tensor in source.state_dict().items())


def test_numpy_scalars_beside_the_weights_are_passed_over(path: Path) -> None:
    source, network = Network(), Network()
    logging = {"dice": [np.float32(0.5), np.float64(0.25)], "epoch": np.int64(3), "best": np.bool_(True)}
    torch.save({"network_weights": source.state_dict(), "logging": logging, "init_args": {"fold": 0}}, path)
    assert "under 'network_weights'" in load_state(network, path)
    assert all(torch.equal(network.state_dict()[key], each) for key, each in source.state_dict().items())


class Scalar:
    """An object behind NumPy's name for scalars: its type is pointers, its bytes are an address."""

    def __reduce__(self) -> Any:
        return np.float32(0).__reduce__()[0], (np.dtype("O"), b"12345678")


def test_numpy_scalars_are_never_built(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"network_weights": Network().state_dict(), "logging": Scalar()}, path)
    monkeypatch.setattr("numpy._core.multiarray.scalar", pytest.fail)
    load_state(Network(), path)


def test_what_compiling_and_parallel_parts_put_into_names_is_dropped(path: Path) -> None:
    source, network = Network(), Network()
    named = {
        key.replace("encoder.", "encoder._orig_mod.").replace("head.", "head.module."): tensor
        for key, tensor in source.state_dict().items()
    }
    torch.save(named, path)
    assert "'_orig_mod' within and 'module' within" in load_state(network, path)
    assert all(torch.equal(network.state_dict()[key], each) for key, each in source.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss.weight": torch.ones(2)}, "all weights are present, and also loss.weight"),
        ({"model.head.weight": None}, "missing: head.weight; give"),
        ({"model.head.weight": torch.ones(1, 5, 1, 1)}, r"head.weight \(1, 5, 1, 1\) for \(1, 4, 1, 1\)"),
        ({"head.weight": torch.ones(1, 4, 1, 1)}, "all weights are present, and also head.weight"),
    ],
    ids=["more", "less", "shape", "twice"],
)
def test_a_prefix_is_no_reason_to_take_what_does_not_fit(
    path: Path, change: dict[str, Tensor | None], message: str
) -> None:
    state = {f"model.{key}": tensor for key, tensor in Network().state_dict().items()}
    torch.save({key: tensor for key, tensor in {**state, **change}.items() if tensor is not None}, path)
    network = Network()
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    with pytest.raises(InputError, match=f"without 'model.' in front.*{message}"):
        load_state(network, path)
    assert all(torch.equal(network.state_dict()[key], each) for key, each in before.items())


def test_of_several_state_dicts_nobody_but_the_user_chooses(path: Path) -> None:
    torch.manual_seed(0)
    one, other = Network().state_dict(), Network().state_dict()
    torch.save({"model": one, "model_ema": other}, path)
    for load in (load_state, load_encoder):
        with pytest.raises(InputError, match="2 matching state dicts that differ, under model, model_ema"):
            load(Network(), path)
    torch.save({"model": one, "copy": dict(one), "deep": {"encoder.0.weight": torch.ones(1)}}, path)
    assert "under 'model'" in load_state(Network(), path)


def test_the_user_chooses_by_the_key(path: Path) -> None:
    torch.manual_seed(0)
    network, other = Network(), Network().state_dict()
    torch.save({"model": Network().state_dict(), "ema": {"state": other}, "optimizer": {}}, path)
    with pytest.raises(InputError, match=r"under model, ema\.state; .* --model\.weights_key ema\.state$"):
        load_state(network, path)
    assert "under 'ema.state'" in load_state(network, path, "ema.state")
    assert all(torch.equal(network.state_dict()[key], each) for key, each in other.items())
    with pytest.raises(InputError, match=r"got 'ema'; it has one under 'model', 'ema\.state'$"):
        load_state(network, path, "ema")
    torch.save(other, path)
    with pytest.raises(InputError, match="at the file's top level: leave it out"):
        load_state(network, path, "ema")


def test_a_folder_names_the_weights_in_it(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    with pytest.raises(InputError, match="no file that looks like them"):
        load_state(Network(), tmp_path)
    torch.save(Network().state_dict(), tmp_path / "models" / "model.pt")
    with pytest.raises(InputError, match=r"is a folder; give the weights in it: models/model\.pt$"):
        load_state(Network(), tmp_path)


def test_a_wrong_ending_is_no_damage(tmp_path: Path) -> None:
    source, network, path = Network(), Network(), tmp_path / "weights.safetensors"
    torch.save(source.state_dict(), path)
    load_state(network, path)
    assert all(torch.equal(network.state_dict()[key], each) for key, each in source.state_dict().items())


def test_a_file_that_holds_itself_is_refused(path: Path) -> None:
    content: dict[str, Any] = {"epoch": 1}
    content |= {f"again{number}": content for number in range(20)}
    torch.save(content, path)
    with pytest.raises(InputError, match="must hold a state dict, got a dict with epoch, again0"):
        load_state(Network(), path)


def traced(path: Path) -> None:
    torch.jit.save(torch.jit.trace(nn.Conv2d(1, 1, 1), torch.ones(1, 1, 2, 2)), path)  # type: ignore[no-untyped-call]


def exported(path: Path) -> None:
    torch.export.save(torch.export.export(nn.Conv2d(1, 1, 1), (torch.ones(1, 1, 2, 2),)), path)


def of_lightning(path: Path) -> None:
    content = {"pytorch-lightning_version": "2.5", "state_dict": Network().state_dict(), "hyper": Path("x")}
    torch.save(content, path)


def of_numpy(path: Path) -> None:
    torch.save({"network_weights": Network().state_dict(), "logging": Path("x")}, path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize(
    ("write", "message"),
    [
        (traced, r"is a TorchScript archive.*torch\.jit\.load\(FILE\)\.state_dict\(\)"),
        (exported, r"is a program of torch\.export.*torch\.export\.load"),
        (of_lightning, r"is a checkpoint of Lightning .*pathlib.*weights_only=False\)\[\"state_dict\"\]"),
        (of_numpy, r"holds more than tensors \(.*weights_only=False\)\[\"network_weights\"\]"),
        (lambda path: path.write_bytes(b"\x08\x08\x12\x07pytorch\x1a\x052.6.0"), "is an ONNX graph"),
        (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64)), "is an HDF5 file"),
        (lambda path: path.write_bytes(b"PK\x03\x04" + bytes(64)), "is cut short or damaged"),
    ],
    ids=["TorchScript", "export", "Lightning", "objects", "ONNX", "HDF5", "cut"],
)
def test_a_healthy_file_of_another_kind_is_called_by_its_name(
    path: Path, write: Callable[[Path], Any], message: str
) -> None:
    write(path)
    with pytest.raises(InputError, match=message) as caught:
        load_state(Network(), path)
    assert ("damaged" in str(caught.value)) == ("cut" in message)


def test_safetensors_are_known_by_their_content(path: Path) -> None:
    source, network = Network(), Network()
    save_file(source.state_dict(), path)
    assert load_state(network, path) == ""
    assert all(torch.equal(network.state_dict()[key], each) for key, each in source.state_dict().items())


def test_a_whole_network_loads_strictly(path: Path) -> None:
    torch.save(Network().encoder.state_dict(), path)
    with pytest.raises(
        InputError, match="does not fit Network: missing: encoder.0.weight, .*unexpected: 0.weight"
    ):
        load_state(Network(), path)


class Code:
    """Would run code if it were unpickled."""

    ran = False

    def __reduce__(self) -> Any:
        return exec, ("from pathlib import Path; Path('ran').touch()",)


@pytest.mark.parametrize(
    "content", [Code(), Network(), {"state_dict": Network().state_dict(), "net": Code()}]
)
def test_a_pickle_with_code_is_refused_and_not_run(
    content: object, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    torch.save(content, path)
    with pytest.raises(InputError, match=r"holds more than tensors .*save network\.state_dict\(\)$"):
        load_state(Network(), path)
    assert not Path("ran").exists()


@pytest.mark.parametrize("content", [torch.ones(2), {"lr": 0.1}, {}, [1, 2], {"state_dict": {"a": "b"}}])
def test_a_file_without_a_state_dict_is_refused(content: object, path: Path) -> None:
    torch.save(content, path)
    with pytest.raises(InputError, match="must hold a state dict"):
        load_state(Network(), path)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 cut short", b"\x80\x02}q\x00."])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_damaged_file_is_refused_in_one_line(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=str(path)) as caught:
        load_state(Network(), path)
    assert "\n" not in str(caught.value)
