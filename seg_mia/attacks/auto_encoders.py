"""Auto-encoders of the texture attack from where they lie: published weights, a training, a checkpoint."""

from pathlib import Path

from seg_mia.checkpoint import read
from seg_mia.errors import InputError
from seg_mia.models.style_autoencoder import EXPORT, TextureAutoEncoders, load_texture
from seg_mia.runs import CHECKPOINTS, LAST, checkpoint_file


def load_pairs(path: str | Path) -> TextureAutoEncoders:
    """Load the auto-encoders from a weights folder, a training run or a checkpoint.

    Raises InputError if there are none.
    """
    path = Path(path)
    if (path / EXPORT).is_dir():
        return load_texture(path / EXPORT)
    if path.is_dir() and not (path / CHECKPOINTS / LAST).is_file():
        return load_texture(path)
    if not path.exists():
        raise InputError(
            f"weights {str(path)!r} is neither a file nor a folder; name a folder of E1..5.pth and D1..5.pth "
            "or train some with `python -m seg_mia fit --config texture_phantom`"
        )
    path = checkpoint_file(path, "weights")  # of a training that was interrupted
    state = {
        name.removeprefix("network."): tensor
        for name, tensor in read(path).get("state_dict", {}).items()
        if name.startswith("network.")
    }
    widths = [state.get(f"encoders.5.conv{stage}1.weight") for stage in range(1, 6)]
    if any(width is None for width in widths):
        raise InputError(
            f"{path} must hold texture auto-encoders and has none; train some with `python -m seg_mia fit "
            "--config texture_phantom`"
        )
    pairs = TextureAutoEncoders(widths=[len(width) for width in widths if width is not None])
    try:
        pairs.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(
            f"{path} must hold five pairs of matching width: {str(error).splitlines()[-1].strip()}"
        ) from None
    pairs.source = str(path)
    return pairs.eval()
