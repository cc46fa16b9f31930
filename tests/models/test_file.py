import copy
import io
import json
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.checkpoint import build
from seg_mia.config.spec import check_spec, paths_to_trust, restorable
from seg_mia.errors import InputError
from seg_mia.models.answers import check_gradients, gives_gradients, in_batches
from seg_mia.models.file import Exported, FileNetwork, Onnx, TorchScript

SIZE = 8


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Tanh(), nn.Conv2d(3, 2, 1))
    return layers.eval().requires_grad_(False)


def images(count: int = 3) -> Tensor:
    return torch.rand(count, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def torchscript(path: Path, module: nn.Module, *, traced: bool) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch advises to use torch.export
        scripted = torch.jit.script(module)
        if traced:
            scripted = torch.jit.trace(module, images())  # type: ignore[no-untyped-call]
        torch.jit.save(scripted, path)
    return path


def exported(path: Path, module: nn.Module, *, free: bool) -> Path:
    shapes = ({0: torch.export.Dim("batch", min=1, max=64)},) if free else None
    torch.export.save(torch.export.export(module, (images(2),), dynamic_shapes=shapes), path)
    return path


@pytest.fixture(params=["scripted", "traced", "fixed", "free"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> FileNetwork:
    """The network in each kind of file with gradients."""
    if request.param in {"scripted", "traced"}:
        return TorchScript(str(torchscript(tmp_path / "n.ts", network(), traced=request.param == "traced")))
    return Exported(str(exported(tmp_path / "n.pt2", network(), free=request.param == "free")))


def test_answers_and_gradients_are_those_of_the_network_for_any_number_of_images(opened: FileNetwork) -> None:
    for count in (1, 2, 5):
        x = images(count).requires_grad_()
        assert_close(opened(x), network()(x))
        for candidate in (opened, network()):
            (gradient,) = torch.autograd.grad(candidate(x).square().sum(), x)
            if candidate is opened:
                mine = gradient
        assert_close(mine, gradient)


def test_the_content_is_in_the_weights_and_the_path_is_not(opened: FileNetwork) -> None:
    name = f"seg_mia.models.file.{type(opened).__name__}"
    card = restorable({"class_path": name, "init_args": {"file": "/home/someone/model"}})
    assert card["init_args"] == {}
    rebuilt = build(card, trust=[name])
    rebuilt.load_state_dict(opened.state_dict())
    assert_close(rebuilt(images()), opened(images()), rtol=0, atol=0)
    assert_close(copy.deepcopy(opened)(images()), opened(images()), rtol=0, atol=0)
    assert isinstance(rebuilt, FileNetwork)
    assert rebuilt.digest == opened.digest
    assert not list(opened.parameters())


def test_weights_survive_a_safe_checkpoint(opened: FileNetwork) -> None:
    file = io.BytesIO()
    torch.save(opened.state_dict(), file)
    file.seek(0)
    rebuilt = type(opened)()
    rebuilt.load_state_dict(torch.load(file, weights_only=True))
    assert rebuilt.digest == opened.digest


@pytest.mark.parametrize("name", ["TorchScript", "Exported"])
def test_a_checkpoint_needs_trust_for_files_that_are_programs(name: str) -> None:
    spec = {"class_path": f"seg_mia.models.file.{name}", "init_args": {}}
    assert paths_to_trust(spec) == [spec["class_path"]]
    with pytest.raises(InputError, match=f"--trust seg_mia.models.file.{name}"):
        check_spec(spec)
    check_spec(spec, trust=[str(spec["class_path"])])


def test_a_checkpoint_cannot_name_a_file() -> None:
    spec = {"class_path": "seg_mia.models.file.Onnx", "init_args": {"file": "/etc/passwd"}}
    with pytest.raises(InputError, match="whose content the weights hold"):
        check_spec(spec)


def test_torchscript_that_writes_files_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    class Writer(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            torch.save(x, "written")
            return x

    file = torchscript(tmp_path / "n.ts", Writer(), traced=False)
    with pytest.raises(InputError, match="its code calls 'save'"):
        TorchScript(str(file))
    assert not Path("written").exists()


def changed(file: Path, entry: str, old: bytes, new: bytes) -> Path:
    """Replace a text in an entry of an archive."""
    out = file.with_name(f"changed{file.suffix}")
    with zipfile.ZipFile(file) as before, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as after:
        for name in before.namelist():
            content = before.read(name)
            if name.endswith(entry):
                assert old in content
                content = content.replace(old, new, 1)
            after.writestr(name, content)
    return out


@pytest.mark.parametrize("target", ["torch.os.system", "torch.hub.load", "torch.ops.aten.from_file.default"])
def test_a_graph_that_calls_anything_but_operators_is_refused(tmp_path: Path, target: str) -> None:
    file = exported(tmp_path / "n.pt2", network(), free=False)
    forged = changed(file, "models/model.json", b"torch.ops.aten.conv2d.default", target.encode())
    with pytest.raises(InputError, match=f"its target '{target}' is more than"):
        Exported(str(forged))


def test_a_size_that_is_code_is_refused(tmp_path: Path) -> None:
    file = exported(tmp_path / "n.pt2", network(), free=True)
    with zipfile.ZipFile(file) as archive:
        (entry,) = [name for name in archive.namelist() if name.endswith("models/model.json")]
        texts = json.dumps(json.loads(archive.read(entry)))
    assert "Symbol('s" in texts
    forged = changed(file, "models/model.json", b"Symbol(", b"exit() or Symbol(")
    with pytest.raises(InputError, match="its expr_str .* is more than"):
        Exported(str(forged))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"guards_code": []', b'"guards_code": ["open(1)"]'),
        (b'"name": "p_0_weight"', b'"name": "p=open(1)"'),
        (b'"in_spec": "', b'"in_spec": "__enum__'),
    ],
)
def test_text_that_torch_would_paste_into_code_is_refused(tmp_path: Path, old: bytes, new: bytes) -> None:
    file = exported(tmp_path / "n.pt2", network(), free=True)
    with pytest.raises(InputError, match="and torch would run it"):
        Exported(str(changed(file, "models/model.json", old, new)))
    assert not Path("written").exists()


def test_guards_of_torch_itself_pass(tmp_path: Path) -> None:
    class Halved(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.interpolate(x[..., ::2, ::2], size=x.shape[-2:], mode="bilinear")

    shapes = ({0: torch.export.Dim("batch", min=1, max=64), 2: torch.export.Dim.AUTO},)
    program = torch.export.export(Halved(), (images(2),), dynamic_shapes=shapes)
    torch.export.save(program, tmp_path / "n.pt2")
    with zipfile.ZipFile(tmp_path / "n.pt2") as archive:
        (entry,) = [name for name in archive.namelist() if name.endswith("models/model.json")]
        assert json.loads(archive.read(entry))["guards_code"]
    x = torch.rand(3, 1, SIZE + 4, SIZE)
    assert_close(Exported(str(tmp_path / "n.pt2"))(x), Halved()(x))


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return exec, ("open('written', 'w')",)

    file = exported(tmp_path / "n.pt2", network(), free=False)
    stream = io.BytesIO()
    torch.save(Harmful(), stream)
    with zipfile.ZipFile(file) as before, zipfile.ZipFile(tmp_path / "bad.pt2", "w") as after:
        for name in before.namelist():
            is_inputs = name.endswith("sample_inputs/model.pt")
            after.writestr(name, stream.getvalue() if is_inputs else before.read(name))
    with pytest.raises(InputError, match="pickled objects other than tensors"):
        Exported(str(tmp_path / "bad.pt2"))
    assert not Path("written").exists()


def test_a_second_entry_of_one_name_is_refused(tmp_path: Path) -> None:
    file = torchscript(tmp_path / "n.ts", network(), traced=True)
    with zipfile.ZipFile(file, "a") as archive:
        (entry,) = [name for name in archive.namelist() if name.endswith(".py")][:1]
        archive.writestr(entry.upper(), "nothing")
    with pytest.raises(InputError, match="two entries of one name"):
        TorchScript(str(file))


def test_pickled_weights_and_operators_as_arguments_are_refused(tmp_path: Path) -> None:
    file = exported(tmp_path / "n.pt2", network(), free=False)
    forged = changed(file, "model_weights_config.json", b'"use_pickle": false', b'"use_pickle": true')
    with pytest.raises(InputError, match="it holds pickled weights"):
        Exported(str(forged))
    operator = b'{"as_operator": "torch.os.system"}'
    forged = changed(file, "models/model.json", b'{"as_ints": [1, 1]}', operator)
    with pytest.raises(InputError, match="its as_operator 'torch.os.system' is more than"):
        Exported(str(forged))


def test_other_files_are_named_in_one_line(tmp_path: Path) -> None:
    script = str(torchscript(tmp_path / "n.ts", network(), traced=True))
    with pytest.raises(InputError, match="use seg_mia.models.file.TorchScript"):
        Exported(script)
    with pytest.raises(InputError, match="use seg_mia.models.file.Exported"):
        TorchScript(str(exported(tmp_path / "n.pt2", network(), free=False)))
    weights = tmp_path / "w.pt"
    torch.save(network().state_dict(), weights)
    with pytest.raises(InputError, match="looks like weights"):
        TorchScript(str(weights))
    (tmp_path / "text.ts").write_text("no archive")
    with pytest.raises(InputError, match="another or a damaged file"):
        TorchScript(str(tmp_path / "text.ts"))
    with pytest.raises(InputError, match="found none at"):
        Exported("absent.pt2")
    with pytest.raises(InputError, match="has no network; set its file"):
        TorchScript()(images())


def test_two_inputs_are_refused(tmp_path: Path) -> None:
    class Prompted(nn.Module):
        def forward(self, x: Tensor, prompt: Tensor) -> Tensor:
            return x + prompt

    torch.export.save(torch.export.export(Prompted(), (images(), images())), tmp_path / "n.pt2")
    with pytest.raises(InputError, match="must take one input, the images, got 2"):
        Exported(str(tmp_path / "n.pt2"))


def test_batches_are_filled_cut_and_joined() -> None:
    sizes = list[int]()

    def ask(x: Tensor) -> dict[str, Tensor | tuple[Tensor]]:
        sizes.append(len(x))
        return {"a": x, "b": (x + 1,)}

    x = images(5)
    output = in_batches(ask, x, 2, exact=True)
    assert sizes == [2, 2, 2]
    assert torch.equal(output["a"], x)
    assert torch.equal(output["b"][0], x + 1)
    assert torch.equal(in_batches(ask, x, 3)["a"], x)
    assert sizes[3:] == [3, 2]


def onnx_file(path: Path, *, count: int | None) -> Path:
    """Softmax of a 1x1 convolution, written without torch."""
    import onnx

    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    weight = helper.make_tensor("w", kind, (2, 1, 1, 1), [2.0, -1.0])
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["z"]),
        helper.make_node("Softmax", ["z"], ["p"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", kind, (count or "n", 1, SIZE, SIZE))],
        [helper.make_tensor_value_info("p", kind, (count or "n", 2, SIZE, SIZE))],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.peers("onnx", "onnxruntime")
@pytest.mark.parametrize("count", [None, 2])
def test_onnx_gives_answers_and_no_gradients(tmp_path: Path, count: int | None) -> None:
    opened = Onnx(str(onnx_file(tmp_path / "n.onnx", count=count)))
    x = images(3)
    assert_close(opened(x), torch.cat([2 * x, -x], dim=1).softmax(1))
    rebuilt = Onnx()
    rebuilt.load_state_dict(opened.state_dict())
    assert torch.equal(copy.deepcopy(rebuilt)(x), opened(x))
    assert not gives_gradients(nn.Sequential(opened))
    with pytest.raises(
        InputError, match="pgd needs gradients, and Onnx gives answers only; use --attack square"
    ):
        check_gradients(nn.Sequential(opened), "pgd")


@pytest.mark.peers("onnxruntime")
def test_a_file_that_is_not_onnx_is_refused(tmp_path: Path) -> None:
    (tmp_path / "n.onnx").write_text("nothing")
    with pytest.raises(InputError, match="must be an ONNX network in one file"):
        Onnx(str(tmp_path / "n.onnx"))


def test_networks_with_gradients_pass() -> None:
    check_gradients(network(), "pgd")
    assert gives_gradients(network())
