"""Where runs lie, and which of them is meant."""

from pathlib import Path

from seg_mia.checkpoint import Card, card_of, read
from seg_mia.errors import InputError

CHECKPOINTS = "checkpoints"
LAST = "last.ckpt"
BEST = "best.ckpt"
SALT = "salt"


def checkpoint_file(path: str | Path) -> Path:
    """Return the checkpoint that `path` means: the file itself, or the last one of a run's folder."""
    path = Path(path)
    if path.is_dir():
        for file in (path / CHECKPOINTS / LAST, path / LAST):
            if file.is_file():
                return file
        raise InputError(f"{path} holds no {CHECKPOINTS}/{LAST}; name a run's folder or a checkpoint file")
    if not path.is_file():
        raise InputError(f"victim {str(path)!r} is neither a file nor a folder; train one with `seg_mia fit`")
    return path


def run_of(file: Path) -> Path:
    """Return the folder of the run that a checkpoint belongs to: where its results go."""
    return file.parent.parent if file.parent.name == CHECKPOINTS else file.parent


def newest(runs: Path, role: str) -> Path:
    """Return the last checkpoint of the newest run that trained on a role's half of the data.

    Files that are no checkpoints of this tool are passed over. Raises InputError when there is none.
    """
    files = sorted(
        runs.glob(f"*/*/{CHECKPOINTS}/{LAST}"), key=lambda file: file.stat().st_mtime, reverse=True
    )
    for file in files:
        try:
            content = read(file)
        except InputError:
            continue
        split = content["seg_mia"].get("split")
        if isinstance(split, dict) and split.get("role") == role:
            return file
    raise InputError(
        f"no {role} found under {runs}/; train one with `python -m seg_mia fit --config "
        f"phantom_{role}.yaml`, or name "
        f"one with --{role} PATH"
    )


def read_run(file: Path, trust: tuple[str, ...]) -> tuple[dict[str, object], Card]:
    """Return a checkpoint's content and its checked card."""
    content = read(file)
    return content, card_of(content, file, trust=trust)
