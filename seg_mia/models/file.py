"""Networks in files: TorchScript and torch.export with gradients, ONNX with answers alone.

The file's content goes into the checkpoint, and with it into every cache key; its path does not.
"""

import hashlib
import io
import warnings
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from seg_mia.errors import InputError
from seg_mia.models.answers import AnswersOnly, in_batches
from seg_mia.models.file_guard import check_exported, check_torchscript

_CONTENT = "content"
_ONNX_TYPES = {"tensor(float16)": torch.float16, "tensor(double)": torch.float64}


class FileNetwork(nn.Module, ABC):
    """A network whose architecture and weights are one file.

    It maps images (N, C, H, W) in [0, 1] to what the file's network returns; `seg_mia.models.adapter.
    InputAdapter` around it adds normalisation. It cannot be trained.

    Args:
        file: the file; not needed if a checkpoint holds its content.

    Raises:
        InputError: no such file, or not of this kind.
    """

    in_weights: ClassVar = ("file",)
    """Arguments left out of checkpoints, which hold their content."""

    def __init__(self, file: str | None = None) -> None:
        super().__init__()
        self.name = "the network's file" if file is None else file
        self._content, self._opened = b"", list[Any]()
        if file is not None:
            self._take(_read(Path(file)))

    @abstractmethod
    def _open(self, content: bytes) -> Any:
        """Return the network in the content of a file; raise InputError for another kind."""

    @abstractmethod
    def _ask(self, network: Any, x: Tensor) -> Any:
        """Return the network's output for images `x`."""

    def _take(self, content: bytes) -> None:
        self._content, self._opened = content, [self._open(content)]

    def forward(self, x: Tensor) -> Any:
        """Return the output for images `x` (N, C, H, W).

        Raises:
            InputError: no file, and no checkpoint was loaded.
        """
        if not self._opened:
            if not self._content:
                raise InputError(f"{type(self).__name__} has no network; set its file")
            self._take(self._content)
        return self._ask(self._opened[0], x)

    def get_extra_state(self) -> dict[str, Tensor]:
        """Return the file's content as bytes in a tensor, for checkpoints."""
        return {_CONTENT: torch.frombuffer(bytearray(self._content or b"\0"), dtype=torch.uint8)}

    def set_extra_state(self, state: object) -> None:
        """Open the content in a checkpoint; raise InputError for anything else."""
        content = state.get(_CONTENT) if isinstance(state, dict) else None
        if not isinstance(content, Tensor) or content.dtype != torch.uint8 or content.ndim != 1:
            raise InputError(f"a checkpoint of {type(self).__name__} must hold its file; adopt it again")
        self._take(content.cpu().numpy().tobytes())

    @property
    def digest(self) -> str:
        """SHA-256 of the file's content."""
        return hashlib.sha256(self._content).hexdigest()

    def __getstate__(self) -> dict[str, object]:
        """Leave out the opened network, which cannot be copied; a copy opens the content itself."""
        return {**self.__dict__, "_opened": []}


class TorchScript(FileNetwork):
    """A network saved by `torch.jit.save`, scripted or traced.

    TorchScript is a programming language: its code can write files. Code that calls such operators is
    refused before it is loaded, and checkpoints with a TorchScript file need `--trust`.

    Args:
        file: the .ts or .pt file.

    Raises:
        InputError: no such file, no TorchScript archive, or code that does more than compute.
    """

    def _open(self, content: bytes) -> nn.Module:
        check_torchscript(content, self.name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch advises those who write such files to use torch.export
            module = torch.jit.load(io.BytesIO(content), map_location="cpu")  # type: ignore[no-untyped-call]
        return _frozen(module.eval())

    def _ask(self, network: nn.Module, x: Tensor) -> Any:
        return network.to(x.device)(x)


class Exported(FileNetwork):
    """A network saved by `torch.export.save` (.pt2); a fixed number of images is respected.

    The graph's behaviour is that of its export: export in evaluation mode. Graphs with operators other than
    torch's own, and archives with pickled objects or compiled parts, are refused before they are loaded;
    checkpoints with such a file need `--trust`.

    Args:
        file: the .pt2 file.

    Raises:
        InputError: no such file, no such archive, or a refused part.
    """

    def _open(self, content: bytes) -> tuple[nn.Module, int | None]:
        check_exported(content, self.name)
        program = torch.export.load(io.BytesIO(content))
        (images,) = _one(_user_inputs(program), self.name)
        count = images.shape[0] if isinstance(images.shape[0], int) else None
        return _frozen(program.module()), count

    def _ask(self, network: tuple[nn.Module, int | None], x: Tensor) -> Any:
        module, count = network
        return in_batches(module.to(x.device), x, count, exact=True)


class Onnx(FileNetwork, AnswersOnly):
    """A network in ONNX format, run by onnxruntime on the CPU: answers without gradients.

    ONNX is data: the runtime computes its graph, and no code of the file is run. Tensors outside the file are
    refused. Several outputs are returned by name.

    Args:
        file: the .onnx file.

    Raises:
        InputError: no such file, no ONNX network of one input, or onnxruntime is not installed.
    """

    def _open(self, content: bytes) -> Any:
        try:
            import onnxruntime
        except ModuleNotFoundError:
            raise InputError("ONNX files need onnxruntime; pip install 'seg_mia[onnx]'") from None
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001  (its exceptions have no common base)
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{self.name} must be an ONNX network in one file, got {reason}") from None
        _one(session.get_inputs(), self.name)
        return session

    def _ask(self, network: Any, x: Tensor) -> Tensor | dict[str, Tensor]:
        entry = network.get_inputs()[0]
        kind = {"tensor(float16)": torch.float16, "tensor(double)": torch.float64}.get(
            entry.type, torch.float32
        )
        names = [output.name for output in network.get_outputs()]

        def ask(images: Tensor) -> dict[str, Tensor]:
            values = network.run(None, {entry.name: images.detach().to("cpu", kind).numpy()})
            return {
                name: torch.from_numpy(value).to(x.device) for name, value in zip(names, values, strict=True)
            }

        count = entry.shape[0] if entry.shape and isinstance(entry.shape[0], int) else None
        outputs: dict[str, Tensor] = in_batches(ask, x, count, exact=count is not None)
        return outputs if len(outputs) > 1 else outputs[names[0]]


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise InputError(f"the network's file must exist, found none at {path}; check the path")
    return path.read_bytes()


def _user_inputs(program: torch.export.ExportedProgram) -> list[Tensor]:
    """Return the inputs that a caller gives, as tensors without content."""
    names = set(program.graph_signature.user_inputs)
    nodes = [node for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    return [node.meta["val"] for node in nodes]


def _frozen(module: nn.Module) -> nn.Module:
    # A scripted module has no requires_grad_ of its own.
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module


def _one(inputs: list[Any], name: str) -> list[Any]:
    if len(inputs) != 1:
        raise InputError(f"{name} must take one input, the images, got {len(inputs)}; export it with one")
    return inputs
