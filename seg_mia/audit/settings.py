"""Settings of an audit file."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import yaml

from seg_mia.audit.reading import audit_options, check_name, parsed_settings
from seg_mia.config.files import Config, known, named
from seg_mia.config.messages import near
from seg_mia.config.options import options_of
from seg_mia.config.parsing import plain_settings
from seg_mia.errors import InputError
from seg_mia.executors.choice import ExecutorName
from seg_mia.experiment.bundle import bundle_classes
from seg_mia.experiment.nnunet import NnUNetTraining
from seg_mia.experiment.recipe import LEAST_NETWORKS
from seg_mia.experiment.weightless import weightless
from seg_mia.results.release_context import ACCESS, ReleaseContext
from seg_mia.runs import shadow_files

VERSION = 1
MAPPINGS = ("data", "model", "scorer")


@dataclass(frozen=True)
class AttackEntry:
    """An attack with its settings.

    Args:
        attack: a name in lightning_configs/attack, or a file.
        settings: options of the attack.
        data: options of the data module, such as `limit`.
    """

    attack: str
    settings: Config = field(default_factory=dict)
    data: Config = field(default_factory=dict)


@dataclass(frozen=True)
class Training:
    """A config with options.

    Args:
        config: a name in lightning_configs, or a file.
        options: command-line options by dotted name: {"model.network.encoder": "resnet34"}.
        weights: weights of a network trained elsewhere, used instead of training one.
        bundle: folder of a MONAI bundle, whose network the config leaves out: the victim has its weights, a
            shadow is trained.
        reference_predictions: folder of the deployed system's predictions, which that network's are compared
            with.
        agreement: lowest accepted agreement of the two, mean Dice; 0.99 if not given.
    """

    config: str
    options: Config = field(default_factory=dict)
    weights: str | None = None
    bundle: str | None = None
    reference_predictions: str | None = None
    agreement: float | None = None


@dataclass(frozen=True, kw_only=True)
class NnUNetVictim(NnUNetTraining):
    """A training of nnU-Net, audited as it lies on disk.

    Args:
        nnunet: folder of the training, such as nnUNet_results/Dataset101_X/nnUNetTrainer__nnUNetPlans__2d.
        folds: folds whose networks are averaged: numbers, or `all` with a checkpoint. All of a
            cross-validation are also audited together (`seg_mia.membership.fleet.folds`).
        raw: folder of the raw data; found below $nnUNet_raw or beside nnUNet_results if not given.
        splits: splits_final.json; found below $nnUNet_preprocessed or beside nnUNet_results if not given.
        checkpoint: file of the weights in each fold's folder.
        mirroring: average over mirror images as nnU-Net does unless told otherwise.
        step: distance of patches as a fraction of their sides.
        unseen: non-members: `validation` cases, labelled cases of `imagesTs`, or `both`.
        options: command-line options by dotted name: {"data.patient": "(.+)_[0-9]+"}.
        reference_predictions: folder of the deployed system's predictions, which the network's are compared
            with; those of nnU-Net's own validation if not given.
        agreement: lowest accepted agreement of the two, mean Dice; 0.99 if not given.
    """

    options: Config = field(default_factory=dict)
    reference_predictions: str | None = None
    agreement: float | None = None

    @property
    def training(self) -> NnUNetTraining:
        """The training alone."""
        return NnUNetTraining(**{item.name: getattr(self, item.name) for item in fields(NnUNetTraining)})


@dataclass(frozen=True)
class Shadows(Training):
    """Training of the shadow models.

    Args:
        config: a name in lightning_configs, or a file.
        options: command-line options by dotted name: {"model.network.encoder": "resnet34"}.
        weights: weights of a network trained elsewhere, used instead of training one.
        bundle: folder of a MONAI bundle, whose network is trained; the config leaves it out.
        reference_predictions: folder of the deployed system's predictions, which that network's are compared
            with.
        agreement: lowest accepted agreement of the two, mean Dice; 0.99 if not given.
        count: number of shadows. Several are numbered (`data.shadow`): each is trained on half of the members
            and non-members of its half, and attacks with one shadow use the first.
    """

    count: int = 1


@dataclass(frozen=True)
class FleetEntry:
    """Networks trained by the victim's recipe, each on a random half of the victim's samples.

    Args:
        count: number of networks, an even one so that each sample is in half of them; 6 or more.
        subgroups: columns of the manifest by which patients are compared, such as the site.
    """

    count: int = 16
    subgroups: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ReleaseDeclaration:
    """How the audited network is given out, as its owner declares; the report never infers it.

    Args:
        access: `internal`, `api_logits` (scores or probabilities), `api_masks` (labels alone) or
            `open_weights`.
        queried_by: who may query the network, such as "radiologists of two hospitals".
        rate_limit: how many queries are allowed, such as "100 per account and day".
    """

    access: str
    queried_by: str = ""
    rate_limit: str = ""


@dataclass(frozen=True)
class VictimRow:
    """One row of a comparison: a victim with another training or deployment.

    Args:
        defence: names in lightning_configs/defence, or files; none is the undefended victim.
        release: a name in lightning_configs/release, or a file.
        config: config to train instead of the audit's victim, without the latter's options; the audit's data
            and model settings still apply.
        options: options of the training by dotted name: {"trainer.max_epochs": 45}.
        adaptive: adaptive attacker: the shadow is trained with the same defence, and with the row's own
            config if it has one.
        name: name in tables; derived from the other settings if not given.
    """

    defence: list[str] = field(default_factory=list)
    release: str | None = None
    config: str | None = None
    options: Config = field(default_factory=dict)
    adaptive: bool = False
    name: str | None = None

    @property
    def label(self) -> str:
        """Label in tables."""
        parts = [named(part) for part in (self.config, *self.defence, self.release) if part]
        return self.name or " + ".join(parts) or "none"

    @property
    def training_key(self) -> str:
        """Key of the settings that determine the training."""
        return json.dumps([self.config, self.defence, self.options], sort_keys=True)


@dataclass(frozen=True)
class Settings:
    """Content of an audit file, version 1.

    Args:
        victim: a config to train, with or without options, or a checkpoint or run folder, or a training of
            nnU-Net, `{nnunet: FOLDER, folds: all}`.
        attacks: names of attacks, or mappings with `attack`, `settings` and `data`.
        shadow: shadow model of the membership attacks, which require one; same format as `victim`. A config,
            possibly the victim's, is trained in the role of the shadow: on the other half, with another seed.
            With `count` several are trained; trained ones are given as a run folder or a folder of runs.
        fleet: networks of the victim's recipe, `{count: 16}`: the references of attacks such as `mia-lira`,
            and the targets of an audit of the recipe. Each defence has its own.
        defences: victims to compare under the same attacks: names in lightning_configs/defence or release,
            `none`, or mappings with `defence`, `release`, `options`, `adaptive` and `name`. Differences are
            relative to the first.
        data: options of the data module for every stage, such as `root`.
        model: options of the victim's and the shadow's task, such as `encoder_weights`.
        scorer: options of every membership classifier, such as `weights`.
        sanity_images: on how many images an attack with gradients checks that each victim's gradients
            can be followed; 0: none, and no resistance to changed images is claimed.
        control: also run each membership attack on a network trained on none of the samples; its AUC must be
            0.5.
        seeds: seeds of the victim's training; one victim, one shadow and all attacks for each.
        runs: folder of the runs.
        trust: class paths outside seg_mia allowed in checkpoint metadata, and folders of bundles whose
            expressions MONAI may run.
        fail_on: gates such as "mia.auc>0.6": the exit code is 1 if any result meets one; also --fail-on,
            which may be repeated.
        release_context: how the network is given out, for the report: internal, api_logits, api_masks or
            open_weights, or a mapping with `access`, `queried_by` and `rate_limit`.
        images: show images and names of patients in the report.
        fresh: run every stage again; by default, stages with unchanged inputs are cached.
        executor: where stages run: `local`, processes of this machine, or `ray`, a Ray cluster.
        workers: processes of the local executor, each with one stage at a time; 1 is the present process. By
            default as many as have `threads` cores each, and 1 with a GPU.
        threads: CPU threads of each stage. Rounding depends on them, not on executor and workers. By default
            a quarter of the cores, at least 1, and all cores with a GPU.
        gpus_per_stage: share of a GPU for each stage on Ray, such as 0.25; 1 by default if there are any.
        address: address of the Ray cluster; one is started on this machine if not given.
        name: name of the audit's folder; the config's name if not given.
        version: version of this file format.
    """

    victim: str | Training | NnUNetVictim
    attacks: list[str | AttackEntry]
    shadow: str | Shadows | None = None
    fleet: FleetEntry | None = None
    defences: list[str | VictimRow] = field(default_factory=list)
    data: Config = field(default_factory=dict)
    model: Config = field(default_factory=dict)
    scorer: Config = field(default_factory=dict)
    sanity_images: int = 4
    control: bool = False
    seeds: list[int] = field(default_factory=lambda: [0])
    runs: str = "runs"
    trust: list[str] = field(default_factory=list)
    fail_on: list[str] = field(default_factory=list)
    release_context: str | ReleaseDeclaration | None = None
    images: bool = True
    fresh: bool = False
    executor: ExecutorName = "local"
    workers: int | None = None
    threads: int | None = None
    gpus_per_stage: float | None = None
    address: str | None = None
    name: str = "audit"
    version: int = VERSION


def is_given(settings: Settings) -> bool:
    """Return whether an audit's victim is trained already, here or elsewhere."""
    victim = settings.victim
    if isinstance(victim, NnUNetVictim):
        return True
    training = victim if isinstance(victim, Training) else Training(victim)
    if training.weights or training.bundle:
        return True
    if isinstance(victim, str) and not _is_config(victim) and Path(victim).exists():
        return True
    options = (*options_of("model.", settings.model), *options_of("", training.options))
    return weightless(training.config, options)


def declared(release: str | ReleaseDeclaration | None) -> ReleaseContext | None:
    """Return a declaration as the audit stores it; raise InputError for an unknown kind of access."""
    if release is None:
        return None
    if isinstance(release, str):
        _refuse_mapping("release_context", release, ReleaseDeclaration)
        release = ReleaseDeclaration(release)
    if release.access not in ACCESS:
        raise InputError(
            f"release_context must be one of {', '.join(ACCESS)}, or a mapping with access, queried_by and "
            f"rate_limit, got {release.access!r}{near(release.access, list(ACCESS)) or '; correct it'}"
        )
    return ReleaseContext.model_validate(asdict(release))


def shadow_count(settings: Settings) -> int:
    """Return the number of shadows per victim: those to train, or those in a folder of runs."""
    shadow = settings.shadow
    if shadow is None:
        return 0
    config = shadow.config if isinstance(shadow, Shadows) else shadow
    if Path(config).is_dir():
        return len(shadow_files(config))
    return shadow.count if isinstance(shadow, Shadows) else 1


def read_settings(words: Sequence[str]) -> Settings:
    """Return the settings of an audit's command line; raise InputError for invalid ones."""
    files, options = audit_options(words)
    needed = ("victim", "attacks", "help")
    if not files and not any(option.name in needed or option.flag == "-h" for option in options):
        audits = ", ".join(known("audit"))
        raise InputError(
            f"audit needs --config NAME, or --victim and --attacks, or --predictions FILE; known names: "
            f"{audits}"
        )
    settings = parsed_settings(
        Settings, files, options, "Train a victim and a shadow, attack the victim, write a report."
    )
    settings = replace(settings, **{name: plain_settings(getattr(settings, name)) for name in MAPPINGS})
    _check(settings)
    settings = replace(settings, trust=[*settings.trust, *_classes_of_bundles(settings)])
    declared(settings.release_context)
    _check_count(settings.shadow)
    _check_fleet(settings)
    return settings


def _classes_of_bundles(settings: Settings) -> list[str]:
    """Return the classes of MONAI that the checkpoints of bundles name; errors as of `bundle_classes`."""
    trainings = [entry for entry in (settings.victim, settings.shadow) if isinstance(entry, Training)]
    paths = {entry.bundle for entry in trainings if entry.bundle is not None}
    return sorted(
        {name for path in paths for name in bundle_classes(path, settings.trust)} - set(settings.trust)
    )


def _check(settings: Settings) -> None:
    kinds = {
        "victim": NnUNetVictim if "nnunet" in str(settings.victim) else Training,
        "shadow": Shadows,
        "fleet": FleetEntry,
        "attacks": AttackEntry,
        "defences": VictimRow,
    }
    for name, kind in kinds.items():
        value = getattr(settings, name)
        for entry in value if isinstance(value, list) else [value]:
            if isinstance(entry, str):
                _refuse_mapping(name, entry, kind)
    if settings.version != VERSION:
        raise InputError(f"an audit file must have version {VERSION}, got {settings.version}")
    seeds = settings.seeds
    if not seeds or len(set(seeds)) < len(seeds) or not all(0 <= seed < 2**31 for seed in seeds):
        raise InputError(f"seeds must be one or more distinct numbers from 0 to {2**31 - 1}, got {seeds}")
    check_name(settings.name)
    if settings.sanity_images < 0:
        raise InputError(f"sanity_images must be at least 0, got {settings.sanity_images}; 4 are enough")
    if not settings.attacks:
        raise InputError(
            "an audit needs at least one attack, got none; name some: --attacks '[asma, mia-type2]'"
        )


def _check_count(shadow: str | Shadows | None) -> None:
    """Raise InputError for a count below one, or a count of several shadows not trained here."""
    if not isinstance(shadow, Shadows):
        return
    trained = shadow.weights is not None or (Path(shadow.config).exists() and not _is_config(shadow.config))
    if shadow.count < 1 or (shadow.count > 1 and trained):
        raise InputError(
            f"count must be at least 1 shadow to train, got {shadow.count}"
            f"{f' where {shadow.weights or shadow.config} is already trained' if trained else ''}; correct it"
        )


def _check_fleet(settings: Settings) -> None:
    """Raise InputError for a fleet that is too small, or of a victim that is trained already."""
    if settings.fleet is None:
        return
    if isinstance(settings.victim, NnUNetVictim):
        raise InputError(
            "a fleet is trained by the victim's config, nnU-Net's folds are trained; leave out fleet"
        )
    victim = settings.victim.config if isinstance(settings.victim, Training) else settings.victim
    if settings.fleet.count < LEAST_NETWORKS:
        raise InputError(
            f"a fleet has {LEAST_NETWORKS} networks or more, got count {settings.fleet.count}; 16 are usual"
        )
    training = settings.victim if isinstance(settings.victim, Training) else None
    weights = None if training is None else training.weights or training.bundle
    if weights is not None or (Path(victim).exists() and not _is_config(victim)):
        raise InputError(
            f"a fleet is trained by the victim's config, {weights or victim} is already trained; leave out "
            "fleet, or name a config"
        )


def _is_config(path: str) -> bool:
    return path.endswith((".yaml", ".yml"))


def _refuse_mapping(name: str, text: str, kind: type) -> None:
    """Raise InputError for a text in place of a mapping, with the entries it must have."""
    if not text.startswith(("{", "[")):
        return
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    takes = [parameter.name for parameter in fields(kind)]
    for entry in value if isinstance(value, list) else [value]:
        unknown = [key for key in entry if key not in takes] if isinstance(entry, dict) else []
        if unknown:
            raise InputError(
                f"--{name}: a mapping here takes {', '.join(takes)}, got {unknown[0]!r}"
                f"{near(str(unknown[0]), takes) or '; correct it'}"
            )
    raise InputError(f"--{name}: expected a name or a mapping of {', '.join(takes)}, got {text}; correct it")
