"""Run folders, and the selection of runs."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from seg_mia.checkpoint import Card, card_of, metadata, read
from seg_mia.errors import InputError, unwritable

CHECKPOINTS = "checkpoints"
LAST = "last.ckpt"
BEST = "best.ckpt"
SALT = "salt"
NOISE = "noise"
FLEET = "fleet.json"
"""Record in a fleet's folder."""
MARK = ".stage"
"""File in the folder of an audit's stage with the stage's key. A folder without it belongs to another run."""
BEFORE = {MARK, SALT, NOISE, CHECKPOINTS, "config.yaml", "hparams.yaml"}
"""Files that a run's folder may hold before a first result or checkpoint."""
TEXTURES = "seg_mia.tasks.style_autoencoder.TextureTraining"
"""The task whose checkpoints are neither victims nor shadows."""
SHADOW_SEED = 10_000
"""Added to the victim's seed for a shadow: the victim's initial weights are unknown to an attacker."""
FLEET_SEED = 100_000
"""Added for each further shadow of a fleet."""
TEACHER_SEED = 20_000
"""Added to a student's seed for its teacher, for different initial weights."""
OF_A_ROLE = {
    "role", "shadow", "shadow_pool", "members", "nonmembers", "reference", "subset", "limit", "batch_size",
    "workers", "augment", "cache", "root",
}  # fmt: skip
"""Settings of a data module that may differ between victim and shadow."""


class FleetNetwork(BaseModel):
    """One network of a fleet.

    Attributes:
        run: its run folder, relative to the folder of runs.
        shadow: its number, which determines its members.
        seed: seed of its training.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    shadow: int
    seed: int


class FleetRecord(BaseModel):
    """Content of `fleet.json`: networks trained by one recipe, on random halves of one pool.

    Attributes:
        format: version of this file format.
        command: command that trains this fleet, or a larger one with another `--count`.
        pool: half of the data that all members are drawn from.
        networks: the networks, by number.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    command: str
    pool: Literal["victim", "shadow"]
    networks: list[FleetNetwork] = Field(min_length=1)


def checkpoint_file(path: str | Path, what: str = "victim") -> Path:
    """Return the checkpoint at `path`: the file itself, or the last one of a run folder."""
    path = Path(path)
    if path.is_dir():
        for file in (path / CHECKPOINTS / LAST, path / LAST):
            if file.is_file():
                return file
        raise InputError(
            f"{path} must be the folder of a run, with {CHECKPOINTS}/{LAST}, or a checkpoint file; correct "
            "the path"
        )
    if not path.is_file():
        raise InputError(
            f"{what} {str(path)!r} is neither a file nor a folder; train one with `python -m seg_mia fit`"
        )
    return path


def run_of(file: Path) -> Path:
    """Return the run folder of a checkpoint, where its results are written."""
    return file.parent.parent if file.parent.name == CHECKPOINTS else file.parent


def results_of(file: Path, runs: Path) -> Path:
    """Return the results folder of attacks on a checkpoint: its run's, else a separate one in `runs`."""
    run = run_of(file)
    in_a_run = file.parent.name == CHECKPOINTS or (run / "config.yaml").is_file()
    return run if in_a_run else runs / file.stem


def new_version(parent: Path) -> Path:
    """Create and return the first `version_N` that does not exist."""
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
    """Return the first `version_N` that does not exist, without creating it."""
    return next(folder for number in count() if not (folder := parent / f"version_{number}").exists())


def make(folder: Path) -> bool:
    """Create a run folder; return whether it is new. Raises InputError if it cannot be written."""
    missing = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from None
    return missing


def unbegun(folder: Path) -> bool:
    """Return whether a run folder holds only files written before a first result or checkpoint."""
    names = {path.name for path in folder.rglob("*")}
    return all(name in BEFORE or name.startswith("events.out.tfevents.") for name in names)


def remove(folder: Path) -> None:
    """Remove a run folder, and its parent folder if empty."""
    shutil.rmtree(folder)
    with suppress(OSError):
        folder.parent.rmdir()


def newest(runs: Path, role: str) -> Path:
    """Return the last checkpoint of the newest run trained on a role's half of the data.

    Files other than checkpoints of this tool are ignored. Raises InputError if there is none.
    """
    for file, _ in _of_role(runs, role):
        return file
    raise InputError(
        f"no {role} found under {runs}/; train one with `python -m seg_mia fit --config "
        f"phantom_{role}.yaml`, or name "
        f"one with --{role} PATH"
    )


def shadow_files(path: str | Path) -> list[Path]:
    """Return the checkpoints at a shadow's path: one, those of a folder of runs, or a fleet's, by number.

    Raises InputError for a path without a checkpoint, or a fleet's record that names others.
    """
    path = Path(path)
    if (path / FLEET).is_file():
        return _fleet_files(path)
    single = any((path / last).is_file() for last in (LAST, f"{CHECKPOINTS}/{LAST}"))
    files = path.glob(f"*/{CHECKPOINTS}/{LAST}") if path.is_dir() and not single else iter(())
    return sorted(files, key=_by_number) or [checkpoint_file(path, "shadow")]


def surrogate_files(named: str | Sequence[str]) -> list[Path]:
    """Return the checkpoints of surrogates: files, runs, folders of runs or fleets; errors as above."""
    paths = map(Path, [named] if isinstance(named, str) else named)
    return [
        file
        for path in paths
        for file in (shadow_files(path) if path.is_dir() else [checkpoint_file(path, "surrogate")])
    ]


def _fleet_files(folder: Path) -> list[Path]:
    """Return the checkpoints named by a fleet's record, all below the folder of its runs."""
    where = folder / FLEET
    try:
        record = FleetRecord.model_validate_json(where.read_bytes())
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{where} is no record of a fleet ({reason}); run `seg_mia fleet` again") from None
    runs = folder.resolve().parent.parent
    files = list[Path]()
    for network in record.networks:
        run = (runs / network.run).resolve()
        if not run.is_relative_to(runs):
            raise InputError(f"{where} names a run outside {runs}, {network.run}; run `seg_mia fleet` again")
        files.append(checkpoint_file(run, "shadow"))
    return files


def _by_number(file: Path) -> tuple[int, str]:
    name = run_of(file).name
    digits = name.rpartition("_")[2]
    return (int(digits) if digits.isdecimal() else -1, name)


def newest_fitting(
    runs: Path, victim: Path | None, shadows: Sequence[Path], *, most: int | None = 1, apart: bool = True
) -> tuple[Path, list[Path]]:
    """Return the checkpoints of a victim and its shadows: the given ones, else the newest compatible ones.

    Args:
        runs: folder of runs.
        victim: a checkpoint, if given.
        shadows: checkpoints, if given.
        most: requested number of shadows. With several these are the newest and all compatible ones beside
            it, in the folder of runs of one config; of two with one number the newer.
        apart: whether shadows must not be trained on evaluation samples of the victim.

    Raises InputError with the command that creates what is missing.
    """
    if victim and shadows:
        return victim, list(shadows)
    victims, known = _named(victim), [pair for shadow in shadows for pair in _named(shadow)]
    if not victims:  # any network may be attacked, by means of one of the other half
        role = "shadow" if known and _half(known[0][1]) == "victim" else "victim"
        victims = list(_of_role(runs, role))
        if not victims:
            newest(runs, role)  # raises with the command to create one
    half = "victim" if _half(victims[0][1]) == "shadow" else "shadow"
    candidates = known or [(file, card) for file, card in _of_role(runs, half) if not _unknown_members(card)]
    for file, card in victims:
        fitting = [pair for pair in candidates if _fit(card, pair[1], apart=apart)]
        if known and len(fitting) == len(known):
            return file, list(shadows)
        if fitting and not known:
            return file, _fleet(fitting)[:most]
    raise _unpaired(runs, victims[0], shadows, many=most != 1)


def is_adopted(file: Path) -> bool:
    """Return whether the network of a checkpoint was trained elsewhere."""
    training = metadata(file).get("training")
    return isinstance(training, dict) and bool(training.get("adopted"))


def fitting_shadows(runs: Path, victim: Path) -> list[Path]:
    """Return the newest shadow of a victim's data and split among runs; none if there is none."""
    card = metadata(victim)
    known = (
        (file, shadow_card)
        for file, shadow_card in _of_role(runs, "shadow")
        if not _unknown_members(shadow_card)
    )
    return [file for file, shadow_card in known if _fit(card, shadow_card, apart=True)][:1]


def _fleet(fitting: Sequence[tuple[Path, Mapping[str, object]]]) -> list[Path]:
    """Return the newest of some shadows, the newest first, and those of the same fleet."""
    newest_file, newest_card = fitting[0]
    fleet = dict[object, Path]()
    for file, card in fitting:
        beside = run_of(file).parent == run_of(newest_file).parent
        if beside and _pool(card) == _pool(newest_card):
            fleet.setdefault(_number(card), file)
    return [newest_file, *(file for file in fleet.values() if file != newest_file)]


def _unpaired(
    runs: Path, victim: tuple[Path, Mapping[str, object]], shadows: Sequence[Path], *, many: bool
) -> InputError:
    """Return the error message if no two networks are compatible."""
    if shadows:
        return InputError(
            f"no victim under {runs}/ matches shadow {shadows[0]} (same data, same split, other half); name "
            "one with --victim PATH"
        )
    file, card = victim
    if card.get("split") is None:
        return InputError(
            f"{file} was exported without its split, so its members are unknown; use the original"
        )
    number = " --data.shadow 0" if many else ""
    return InputError(
        f"no shadow under {runs}/ matches victim {file} (same data, same split, other half); train one with "
        f"`python -m seg_mia fit {_like(file, card)}{number}`, or name one with --shadow PATH"
    )


def _named(file: Path | None) -> list[tuple[Path, Mapping[str, object]]]:
    return [(file, metadata(file))] if file else []


def _unknown_members(card: Mapping[str, object]) -> bool:
    """Return whether unchecked metadata is of an external network with randomly drawn members."""
    training, split = card.get("training"), card.get("split")
    if not isinstance(training, dict) or not isinstance(split, dict):
        return False
    return split.get("role") == "shadow" and bool(training.get("adopted")) and not split.get("stated")


def _half(card: Mapping[str, object]) -> str | None:
    """Return the half of the data used in a training, victim's or shadow's, if in the metadata."""
    split = card.get("split")
    return split.get("role") if isinstance(split, dict) else None


def _pool(card: Mapping[str, object]) -> object:
    """Return the half that a network's members are drawn from: its own, or a numbered shadow's shared one."""
    split = card.get("split")
    return split.get("pool", split.get("role")) if isinstance(split, dict) else None


def _number(card: Mapping[str, object]) -> object:
    """Return the number of a shadow; None if it is trained on all members of its half."""
    split = card.get("split")
    return str(split.get("shadow")) if isinstance(split, dict) else None


def _of_role(runs: Path, role: str) -> Iterator[tuple[Path, Mapping[str, object]]]:
    """Yield checkpoints and their unchecked metadata, the newest first."""
    files = sorted(
        runs.glob(f"*/*/{CHECKPOINTS}/{LAST}"), key=lambda file: file.stat().st_mtime, reverse=True
    )
    for file in files:
        try:
            card = metadata(file)
        except InputError:
            continue
        model = card.get("model")
        if isinstance(model, dict) and model.get("class_path") == TEXTURES:
            continue
        if _half(card) == role:
            yield file, card


def _fit(victim: Mapping[str, object], shadow: Mapping[str, object], *, apart: bool) -> bool:
    """Return whether two checkpoints have the two roles of one split; the data itself is compared later.

    Args:
        victim: metadata of the victim.
        shadow: metadata of the shadow.
        apart: whether the shadow's members must not be drawn from the victim's half.
    """
    same_data = all(victim.get(name) == shadow.get(name) for name in ("fingerprint", "classes", "channels"))
    split = all(isinstance(card.get("split"), dict) for card in (victim, shadow))
    roles = _half(victim) != _half(shadow) and not (apart and _pool(victim) == _pool(shadow))
    return same_data and split and roles and _source(victim) == _source(shadow)


def _source(card: Mapping[str, object]) -> object:
    """Return the data set's description in checkpoint metadata: samples, size, split."""
    data = card.get("data")
    arguments = data.get("init_args") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(arguments, dict):
        return None
    given = {name: value for name, value in arguments.items() if value is not None}  # as if never given
    return data.get("class_path"), {name: given[name] for name in given if name not in OF_A_ROLE}


def _like(victim: Path, card: Mapping[str, object]) -> str:
    """Return the options that train a shadow for a victim: on the other half, with another seed."""
    role = "victim" if _half(card) == "shadow" else "shadow"
    training = card.get("training")
    seed = training.get("seed") if isinstance(training, dict) else None
    other_seed = (seed if isinstance(seed, int) else 0) + SHADOW_SEED
    half = "--role shadow" if role == "shadow" else f"--data.role victim --seed_everything {other_seed}"
    plain = " --model.defences null" if _defences(card) else ""
    return f"--config {run_of(victim) / 'config.yaml'} {half}{plain}"


def read_run(file: Path, trust: tuple[str, ...]) -> tuple[dict[str, object], Card]:
    """Return a checkpoint's content and its checked metadata."""
    content = read(file)
    return content, card_of(content, file, trust=trust)


def defence_names(card: Card) -> list[str]:
    """Return the class names of the defences or poisoning in a checkpoint's training."""
    return _defences({"model": card.model})


def _defences(card: Mapping[str, object]) -> list[str]:
    """Return the class names of the defences in unchecked metadata, which may have any content."""
    model = card.get("model")
    arguments = model.get("init_args") if isinstance(model, dict) else None
    listed = arguments.get("defences") if isinstance(arguments, dict) else None
    specs = [spec for spec in listed if isinstance(spec, dict)] if isinstance(listed, list) else []
    return [str(spec.get("class_path")).rpartition(".")[2] for spec in specs]
