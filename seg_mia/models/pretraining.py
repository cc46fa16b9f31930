"""Identity of the pre-trained weights that a training started from."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypedDict

import torch
from torch import Tensor, nn

Part = Literal["encoder", "network"]


class PretrainedWeights(TypedDict):
    """Plain values of a `seg_mia.results.privacy.Pretrained`, stored in checkpoints."""

    name: str
    part: Part
    sha256: str
    of: Literal["file", "tensors"]


def loaded_file(file: Path, part: Part) -> PretrainedWeights:
    """Return base name and digest of a file of weights; `sha256sum` gives the same digest."""
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return {"name": file.name, "part": part, "sha256": digest, "of": "file"}


def loaded_tensors(name: str, state: Mapping[str, Tensor], part: Part) -> PretrainedWeights:
    """Return the digest of weights that come from no single file; see `tensors_digest`."""
    return {"name": name, "part": part, "sha256": tensors_digest(state), "of": "tensors"}


def loaded_network(path: Path, network: nn.Module) -> PretrainedWeights:
    """Return the identity of the weights at `path`, a file or a folder, that `network` has loaded."""
    if path.is_file():
        return loaded_file(path, "network")
    return loaded_tensors(path.resolve().name, network.state_dict(), "network")


def tensors_digest(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256, in hexadecimal, of tensors in the order of their names.

    Of each its name, type and shape, in UTF-8 and ended by a zero byte, then its values in the machine's
    byte order.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        values = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}\0".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
