"""What was audited: checkpoints' metadata, and digests of checkpoints, scores and results."""

from collections.abc import Iterable
from pathlib import Path

from seg_mia.audit.stage_cache import RESULTS
from seg_mia.callbacks.seen_samples import UNSEEN
from seg_mia.checkpoint import Card, parameter_count, read
from seg_mia.config.files import Config
from seg_mia.results.identity import FileKind, HashedFile, WeightsIdentity, sha256_of
from seg_mia.runs import defence_names

KINDS: dict[str, FileKind] = {".ckpt": "checkpoint", ".csv": "scores"}
"""Kind of a file by its ending; others are results."""


def weights_identity(file: Path, runs: Path) -> WeightsIdentity:
    """Return the identity of a checkpoint's weights; raise InputError if it is none."""
    digest = sha256_of(file)
    return WeightsIdentity(
        path=path_below(file, runs),
        sha256=digest,
        bytes=file.stat().st_size,
        parameters=parameter_count(read(file)),
    )


def hashed_files(folders: Iterable[Path], runs: Path, *, names: Iterable[str] = RESULTS) -> list[HashedFile]:
    """Return the digests of the result files in the folders of an audit's stages, each file once."""
    listed = dict.fromkeys(folder / name for folder in folders for name in names)
    return [
        HashedFile(
            path=path_below(file, runs),
            kind=KINDS.get(file.suffix, "result"),
            sha256=sha256_of(file),
            bytes=file.stat().st_size,
        )
        for file in listed
        if file.is_file()
    ]


def path_below(file: Path, runs: Path) -> str:
    """Return a file's path below the folder of runs, or the path as given if it lies elsewhere."""
    try:
        return file.resolve().relative_to(runs.resolve()).as_posix()
    except ValueError:
        return str(file)


def about(card: Card) -> Config:
    """Return a checkpoint's metadata without the hashes of its samples."""
    split = card.split or {}
    counts = {part: len(split[part]) for part in ("members", "nonmembers", "reference") if part in split}
    missing = {UNSEEN: len(split[UNSEEN])} if split.get(UNSEEN) else {}
    arguments = card.data["init_args"] if card.data else {}
    return {
        "network": card.network or card.model["init_args"].get("network"),
        "task": card.model,
        "data": card.data,
        "split": counts | missing | {"role": split.get("role"), "split_seed": arguments.get("split_seed")},
        "classes": card.classes,
        "channels": card.channels,
        "fingerprint": card.fingerprint,
        "training": card.training,
        "defences": defence_names(card),
    }
