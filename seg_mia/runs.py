"""Where runs lie, and which of them is meant."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from seg_mia.checkpoint import Card, card_of, read
from seg_mia.errors import InputError

CHECKPOINTS = "checkpoints"
LAST = "last.ckpt"
BEST = "best.ckpt"
SALT = "salt"
NOISE = "noise"
MARK = ".stage"
"""In the folder of an audit's stage: which stage it belongs to. A folder without it is somebody else's."""
BEFORE = {MARK, SALT, NOISE, CHECKPOINTS, "config.yaml", "hparams.yaml"}
"""What a run's folder may hold before a first result or checkpoint."""
TEXTURES = "seg_mia.tasks.style_autoencoder.TextureTraining"
"""The task whose checkpoints are no victims and no shadows."""
SHADOW_SEED = 10_000
"""Added to the victim's seed for a shadow: an attacker does not know what the victim began with."""
TEACHER_SEED = 20_000
"""Added to a student's seed for its teacher: a fresh student begins otherwise."""
OF_A_ROLE = {
    "role", "members", "nonmembers", "reference", "subset", "limit", "batch_size", "workers", "augment",
    "cache", "root",
}  # fmt: skip
"""Settings of a data module that victim and shadow need not share."""


def checkpoint_file(path: str | Path, what: str = "victim") -> Path:
    """Return the checkpoint that `path` means: the file itself, or the last one of a run's folder."""
    path = Path(path)
    if path.is_dir():
        for file in (path / CHECKPOINTS / LAST, path / LAST):
            if file.is_file():
                return file
        raise InputError(f"{path} holds no {CHECKPOINTS}/{LAST}; name a run's folder or a checkpoint file")
    if not path.is_file():
        raise InputError(
            f"{what} {str(path)!r} is neither a file nor a folder; train one with `python -m seg_mia fit`"
        )
    return path


def run_of(file: Path) -> Path:
    """Return the folder of the run that a checkpoint belongs to: where its results go."""
    return file.parent.parent if file.parent.name == CHECKPOINTS else file.parent


def results_of(file: Path, runs: Path) -> Path:
    """Return the folder that attacks on a checkpoint write into: its run's, else one of its own in `runs`."""
    run = run_of(file)
    in_a_run = file.parent.name == CHECKPOINTS or (run / "config.yaml").is_file()
    return run if in_a_run else runs / file.stem


def new_version(parent: Path) -> Path:
    """Make and return the first `version_N` that does not exist."""
    number = 0
    while True:
        folder = parent / f"version_{number}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return folder


def free_version(parent: Path) -> Path:
    """Return the first `version_N` that does not exist, without making it."""
    return next(folder for number in count() if not (folder := parent / f"version_{number}").exists())


def make(folder: Path) -> bool:
    """Make a run's folder; return whether it was not there. Raises InputError where it cannot be written."""
    missing = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot write to {folder} ({error.strerror}); choose another folder with --runs"
        ) from None
    return missing


def unbegun(folder: Path) -> bool:
    """Return whether a run's folder holds nothing but what is written before a first result or checkpoint."""
    names = {path.name for path in folder.rglob("*")}
    return all(name in BEFORE or name.startswith("events.out.tfevents.") for name in names)


def remove(folder: Path) -> None:
    """Remove a run's folder, and the folder of its kind where it was the only one."""
    shutil.rmtree(folder)
    with suppress(OSError):
        folder.parent.rmdir()


def newest(runs: Path, role: str) -> Path:
    """Return the last checkpoint of the newest run that trained on a role's half of the data.

    Files that are no checkpoints of this tool are passed over. Raises InputError when there is none.
    """
    for file, _ in _of_role(runs, role):
        return file
    raise InputError(
        f"no {role} found under {runs}/; train one with `python -m seg_mia fit --config "
        f"phantom_{role}.yaml`, or name "
        f"one with --{role} PATH"
    )


def newest_pair(runs: Path, victim: Path | None, shadow: Path | None) -> tuple[Path, Path]:
    """Return a victim's checkpoint and a shadow's: those named, else the newest that fit together.

    Raises InputError with the command that makes what is missing.
    """
    if victim and shadow:
        return victim, shadow
    victims, shadows = _named(victim), _named(shadow)
    if not victims:  # any network may be attacked, by means of one of the other half
        role = "shadow" if shadows and _half(shadows[0][1]) == "victim" else "victim"
        victims = list(_of_role(runs, role))
        if not victims:
            newest(runs, role)  # says how to make one
    half = "victim" if _half(victims[0][1]) == "shadow" else "shadow"
    shadows = shadows or [(file, card) for file, card in _of_role(runs, half) if not _drawn(card)]
    for file, card in victims:
        for other, its_card in shadows:
            if _fit(card, its_card):
                return file, other
    raise _unpaired(runs, victims[0], shadow)


def _unpaired(runs: Path, victim: tuple[Path, Mapping[str, Any]], shadow: Path | None) -> InputError:
    """Return what to say where no two networks fit together."""
    if shadow:
        return InputError(
            f"no victim under {runs}/ goes with shadow {shadow}: same data, same split, other half; name one "
            "with --victim PATH"
        )
    file, card = victim
    if card.get("split") is None:
        return InputError(
            f"{file} was exported without its split, so nobody can say who its members are; use the original"
        )
    return InputError(
        f"no shadow under {runs}/ goes with victim {file}: same data, same split, other half; train one with "
        f"`python -m seg_mia fit {_like(file, card)}`, or name one with --shadow PATH"
    )


def _named(file: Path | None) -> list[tuple[Path, dict[str, Any]]]:
    return [(file, read(file)["seg_mia"])] if file else []


def _drawn(card: Mapping[str, Any]) -> bool:
    """Say whether a card, as it stands, is of a network from elsewhere whose members were drawn by chance."""
    training = card.get("training")
    return _half(card) == "shadow" and isinstance(training, dict) and bool(training.get("adopted"))


def _half(card: Mapping[str, Any]) -> str | None:
    """Return the half of the data that a network trained on, victim's or shadow's, if its card says so."""
    split = card.get("split")
    return split.get("role") if isinstance(split, dict) else None


def _of_role(runs: Path, role: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield checkpoints and their cards as they stand, the newest first."""
    files = sorted(
        runs.glob(f"*/*/{CHECKPOINTS}/{LAST}"), key=lambda file: file.stat().st_mtime, reverse=True
    )
    for file in files:
        try:
            card = read(file)["seg_mia"]
        except InputError:
            continue
        model = card.get("model")
        if isinstance(model, dict) and model.get("class_path") == TEXTURES:
            continue
        if _half(card) == role:
            yield file, card


def _fit(victim: Mapping[str, Any], shadow: Mapping[str, Any]) -> bool:
    """Say whether two cards speak of the two halves of one split; the data itself is compared later."""
    alike = all(victim.get(name) == shadow.get(name) for name in ("fingerprint", "classes", "channels"))
    split = all(isinstance(card.get("split"), dict) for card in (victim, shadow))
    return alike and split and _half(victim) != _half(shadow) and _source(victim) == _source(shadow)


def _source(card: Mapping[str, Any]) -> object:
    """Return what a card says of the data as a whole: which samples, how large, how halved."""
    data = card.get("data")
    arguments = data.get("init_args") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(arguments, dict):
        return None
    said = {name: value for name, value in arguments.items() if value is not None}  # as if never given
    return data.get("class_path"), {name: said[name] for name in said if name not in OF_A_ROLE}


def _like(victim: Path, card: Mapping[str, Any]) -> str:
    """Return the options that train a shadow like a victim: on the other half, from another seed."""
    role = "victim" if _half(card) == "shadow" else "shadow"
    training = card.get("training")
    seed = training.get("seed") if isinstance(training, dict) else None
    other = (seed if isinstance(seed, int) else 0) + SHADOW_SEED
    half = "--role shadow" if role == "shadow" else f"--data.role victim --seed_everything {other}"
    plain = " --model.defences null" if _defences(card) else ""
    return f"--config {run_of(victim) / 'config.yaml'} {half}{plain}"


def read_run(file: Path, trust: tuple[str, ...]) -> tuple[dict[str, object], Card]:
    """Return a checkpoint's content and its checked card."""
    content = read(file)
    return content, card_of(content, file, trust=trust)


def defence_names(card: Card) -> list[str]:
    """Return the class names of what defended or poisoned a checkpoint's training."""
    return _defences({"model": card.model})


def _defences(card: Mapping[str, Any]) -> list[str]:
    """Return the class names of the defences in a card as it stands, which may hold anything."""
    model = card.get("model")
    arguments = model.get("init_args") if isinstance(model, dict) else None
    listed = arguments.get("defences") if isinstance(arguments, dict) else None
    specs = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    return [str(one.get("class_path")).rpartition(".")[2] for one in specs]
