"""Stages of an audit's steps, and what is collected from them."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypedDict, assert_never

from seg_mia.attacks.base import Preparation
from seg_mia.attacks.certify import Certification
from seg_mia.attacks.white_box import WhiteBox
from seg_mia.audit.attacks import PreparedAttack, by_fleet, prepares, shows_shadows
from seg_mia.audit.canaries import read_canaries
from seg_mia.audit.deployed import audited_folds
from seg_mia.audit.fleet import audited_recipe, on_numbers, open_fleet
from seg_mia.audit.identity import about, weights_identity
from seg_mia.audit.numbers import check_numbers
from seg_mia.audit.preparation import training
from seg_mia.audit.requests import SUBSETS, AuditRequests
from seg_mia.audit.settings import Settings, VictimRow
from seg_mia.audit.stage_cache import StageCache, StageResult
from seg_mia.audit.stage_key import may_train_with
from seg_mia.audit.steps import AuditStep, shadow_row
from seg_mia.checkpoint import network_spec, read_card
from seg_mia.data.base import SegmentationData
from seg_mia.data.identities import identity_folder
from seg_mia.defences.canaries import Canaries
from seg_mia.errors import InputError
from seg_mia.experiment.plan import Plan, plan
from seg_mia.experiment.prompts import imported_classes
from seg_mia.experiment.request import RunRequest
from seg_mia.experiment.requirements import check_defences
from seg_mia.experiment.trained_networks import adopted, check_members
from seg_mia.experiment.weightless import answers_only, configured_network
from seg_mia.membership.base import Membership
from seg_mia.models.prompts import check_same_prompts
from seg_mia.results.audit import ATTACK_RESULT, Victim
from seg_mia.results.certificate import CertificateResult
from seg_mia.results.folds import FoldsResult
from seg_mia.results.membership import MembershipResult
from seg_mia.results.perturbation import PerturbationResult
from seg_mia.results.privacy import guarantee
from seg_mia.results.recipe import RecipeResult
from seg_mia.runs import checkpoint_file, defence_names

GatedDefence = Literal["DPSGD", "Canaries"]
"""Defences required for the values of some gates."""


class Position(TypedDict):
    """Position of a result: its seed, and its row of the comparison."""

    seed: int
    round: int
    row: int
    defence: str


Network = Path | Future[StageResult]
"""A given checkpoint, or a training."""


@dataclass
class AuditRunner:
    """States the runs of each step and collects their results.

    Attributes:
        settings: settings of the audit.
        rows: rows of its comparison.
        cache: stage cache, which runs a stage or returns its cached result.
        attacks: attacks of the audit.
        recipes: one per attack on numbers and recipe.
        folds: one for a victim of several folds.
        results: one per attack, in the order of the steps.
        certificates: one per certification, likewise.
        victims: one per row and seed.
        stages: stages run or cached, in the order of the steps; none for a given checkpoint.
        networks: networks of each round, role and training.
        prepared: the training required by an attack.
    """

    settings: Settings
    rows: Sequence[VictimRow]
    cache: StageCache
    attacks: Sequence[PreparedAttack] = ()
    recipes: list[RecipeResult] = field(default_factory=list)
    folds: list[FoldsResult] = field(default_factory=list)
    results: list[MembershipResult | PerturbationResult] = field(default_factory=list)
    certificates: list[CertificateResult] = field(default_factory=list)
    victims: list[Victim] = field(default_factory=list)
    stages: list[tuple[AuditStep, StageResult]] = field(default_factory=list)
    networks: dict[tuple[int, str, str], list[Network]] = field(default_factory=dict)
    prepared: dict[Preparation, Future[StageResult]] = field(default_factory=dict)

    @property
    def requests_of(self) -> AuditRequests:
        """The requests of the steps' runs."""
        return AuditRequests(self.settings, self.rows)

    def inputs(self, step: AuditStep) -> list[Future[StageResult]]:
        """Return the trainings that must end before a step begins."""
        if step.kind == "folds":
            return [network for network in [self._trained(step)[0]] if isinstance(network, Future)]
        if step.kind == "recipe":
            networks = [self._first_victim(), *self._fleet(step)]
            return [network for network in networks if isinstance(network, Future)]
        if step.kind not in {"utility", "attack"}:
            return []
        victim, shadows = self._trained(step)
        networks = [victim, *(shadows if step.kind == "attack" else [])]
        preparation = prepares(step.attack) if step.attack is not None else None
        prepared = [] if preparation is None else [self.prepared[preparation]]
        return [*(network for network in networks if isinstance(network, Future)), *prepared]

    def requests(self, step: AuditStep) -> list[RunRequest]:
        """Return the runs of a step, none for a given checkpoint. Its inputs must have ended."""
        match step.kind:
            case "victim" | "shadow":
                source = self.requests_of.source(step)
                return [] if isinstance(source, Path) else [source]
            case "network":
                return [self.requests_of.network(step, self.cache.modules)]
            case "recipe" | "folds":
                return []
            case "utility":
                return self.requests_of.measurements(step, _folder(self._trained(step)[0]))
            case "preparation":
                return [training(_preparation(step).config, self.settings)]
            case "attack":
                return [self.requests_of.attack(step, *self._folders(step), self._prepared(step))]
            case _:
                assert_never(step.kind)

    def begun(self, step: AuditStep, runs: Sequence[Future[StageResult]]) -> None:
        """Record the trainings of a step as inputs of others."""
        if step.kind in {"victim", "shadow"}:
            row = self.rows[step.row]
            key = (step.round, step.kind, (row if step.kind == "victim" else shadow_row(row)).training_key)
            source = self.requests_of.source(step)
            self.networks.setdefault(key, []).append(source if isinstance(source, Path) else runs[0])
        elif step.kind == "network":
            self.networks.setdefault((0, "network", self.rows[step.row].training_key), []).append(runs[0])
        elif step.kind == "preparation":
            self.prepared[_preparation(step)] = runs[0]

    def collect(self, step: AuditStep, results: Sequence[StageResult]) -> None:
        """Add the results of a step; steps are collected in their order."""
        self.stages += [(step, result) for result in results]
        match step.kind:
            case "utility":
                self._add_victim(step, self.rows[step.row], results)
            case "attack":
                self._add_result(step, results[0])
            case "recipe":
                self._add_recipe(step)
            case "folds":
                self._add_folds(step)

    def check(self, listed: Sequence[AuditStep]) -> None:
        """Raise InputError, before any training, for trainings and data inconsistent with their roles."""
        attacks = [step.attack for step in listed if step.attack is not None and step.kind == "attack"]
        infers = any(isinstance(attack.instance, Membership) for attack in attacks)
        queried = any(shows_shadows(a) and not by_fleet(a, self.settings) for a in attacks)
        for step in listed:
            if step.kind == "network" and step.shadow == 0:
                planned = plan(self.requests_of.network(step, self.cache.modules))
                self._check_defences(step, planned, self.cache.modules.of_plan(planned))
            source = self.requests_of.source(step) if step.kind in {"victim", "shadow"} else None
            if source is not None and step.kind == "victim":
                self._check_gradients(source)
            if source is not None and step.kind == "shadow" and queried:
                victim = self.requests_of.source(AuditStep("victim", step.round, step.row, ""))
                check_same_prompts(
                    ("the victim", self._network(victim)), {"the shadow": self._network(source)}
                )
            if isinstance(source, Path):
                if infers:
                    self._check_members_known(step, source)
            elif source is not None:
                self._check_training(step, plan(source), attacks, infers=infers)
        check_numbers(self.requests_of, listed, self.cache.modules)

    def _check_gradients(self, source: Path | RunRequest) -> None:
        """Raise InputError, before any training, for attacks that need gradients on a victim without."""
        kind = answers_only(self._network(source))
        for attack in self.attacks if kind is not None else ():
            instance = attack.instance
            if isinstance(instance, WhiteBox) and instance.surrogate is None:
                raise InputError(
                    f"{attack.label} needs gradients, and the victim is a {kind}, which gives answers only; "
                    "use square (queries) or adain (texture), or craft on the audit's shadow: `{attack: "
                    f"{attack.name}, settings: {{surrogate: shadow}}}}`"
                )

    def _network(self, source: Path | RunRequest) -> object:
        """Return the description of a checkpoint's network, or of that which a run trains or adopts."""
        if isinstance(source, Path):
            return network_spec(read_card(source, trust=self.settings.trust))
        return (
            imported_classes(configured_network(source.configs[0], source.options))
            if source.configs
            else None
        )

    def _check_training(
        self, step: AuditStep, planned: Plan, attacks: Sequence[PreparedAttack], *, infers: bool
    ) -> None:
        data = self.cache.modules.of_plan(planned)
        if data is not None:
            if infers and planned.adopts:
                data.prepare_data()
                check_members(data, step.title)
            _check_half(step, data)
        self._check_defences(step, planned, data)
        for attack in attacks:
            options = (option for option in attack.options if option.is_below("data"))
            self.cache.modules.of_plan(replace(planned, settings=(*planned.settings, *options)))

    def _check_defences(self, step: AuditStep, planned: Plan, data: SegmentationData | None) -> None:
        """Raise InputError, before any training, for defences that the data of a training does not permit."""
        if data is None or planned.adopts:
            return
        try:
            check_defences(planned, data)
        except InputError as error:
            raise InputError(f"{step.title}: {error}") from None

    def _check_members_known(self, step: AuditStep, file: Path) -> None:
        """Raise InputError, before any training, for an external shadow with unknown members."""
        card = read_card(file, trust=self.settings.trust)
        split = card.split or {}
        if (
            step.kind == "shadow"
            and adopted(card)
            and split.get("role") == "shadow"
            and not split.get("stated")
        ):
            raise InputError(
                f"shadow {file} was trained elsewhere and its members are unknown; state them (--data.parts, "
                "shadow_train and shadow_test) and adopt it again, or name a config to train a shadow with"
            )

    def may_have(self, defence: GatedDefence, row: int) -> bool:
        """Return whether a row's victim may have a defence, by its config or its checkpoint."""
        source = self.requests_of.source(AuditStep("victim", 0, row, ""))
        if not isinstance(source, Path):
            return may_train_with(plan(source), defence)
        card = read_card(source, trust=self.settings.trust)
        return card.privacy is not None if defence == "DPSGD" else defence in defence_names(card)

    def _trained(self, step: AuditStep) -> tuple[Network, list[Network]]:
        """Return the victim and the shadows of a step."""
        row = self.rows[step.row]
        (victim,) = self.networks[step.round, "victim", row.training_key]
        if step.attack is not None and by_fleet(step.attack, self.settings):
            return victim, self._fleet(step)
        return victim, self.networks.get((step.round, "shadow", shadow_row(row).training_key), [])

    def _fleet(self, step: AuditStep) -> list[Network]:
        """Return the fleet of a step's row."""
        return self.networks[0, "network", self.rows[step.row].training_key]

    def _first_victim(self) -> Network:
        """Return the victim whose salt hashes the patients' names of the whole audit."""
        (victim,) = self.networks[0, "victim", self.rows[0].training_key]
        return victim

    def _add_recipe(self, step: AuditStep) -> None:
        """Audit the recipe of a row, by the audit's attacks on numbers."""
        row, folders = self.rows[step.row], list(map(_folder, self._fleet(step)))
        runs = Path(self.settings.runs)
        listed = {attack.label: attack.instance for attack in self.attacks if not attack.control}
        first = self.requests_of.network(replace(step, shadow=0), self.cache.modules)
        networks = open_fleet(folders, self.cache.modules, first, trust=self.settings.trust)
        assert self.settings.fleet is not None
        self.recipes += audited_recipe(
            on_numbers(listed),
            networks,
            [identity_folder(str(_folder(self._first_victim())), runs), runs / self.settings.name],
            subgroups=self.settings.fleet.subgroups,
            row=step.row,
            defence=row.label,
        )

    def _add_folds(self, step: AuditStep) -> None:
        """Audit the networks of a cross-validation."""
        row = self.rows[step.row]
        request = self.requests_of.validation(step, self._folders(step)[0])
        self.folds.append(audited_folds(request, self.cache.modules, row=step.row, defence=row.label))

    def _folders(self, step: AuditStep) -> tuple[Path, list[Path]]:
        """Return the checkpoints or run folders of the victim and the shadows of a step."""
        victim, shadows = self._trained(step)
        return _folder(victim), list(map(_folder, shadows))

    def _add_victim(self, step: AuditStep, row: VictimRow, results: Sequence[StageResult]) -> None:
        """Start a row with the validation results."""
        victim, shadows = self._folders(step)
        utility = {}
        for subset, result in zip(SUBSETS[-len(results) :], results, strict=True):
            measures = {name.removeprefix("val/"): value for name, value in result.summary.items()}
            utility[subset] = {name: value for name, value in measures.items() if name != "privacy"}
        file = checkpoint_file(victim)
        card = read_card(file, trust=self.settings.trust)
        has_canaries = Canaries.__name__ in defence_names(card)
        self.victims.append(
            Victim(
                **self._position(step),
                victim=str(victim),
                shadow=("defended" if row.adaptive else "undefended") if shadows else None,
                utility=utility,
                privacy=guarantee(card.privacy, f"{victim}: privacy guarantee in the checkpoint"),
                about=about(card),
                has_canaries=has_canaries,
                canaries=read_canaries(victim) if has_canaries else None,
                weights=weights_identity(file, Path(self.settings.runs)),
                utility_folders={
                    subset: str(result.folder) for subset, result in zip(SUBSETS, results, strict=True)
                },
            )
        )

    def _prepared(self, step: AuditStep) -> Path | None:
        """Return the run folder of the training that a step's attack requires, if any."""
        preparation = prepares(step.attack) if step.attack is not None else None
        return None if preparation is None else _folder(self.prepared[preparation])

    def _position(self, step: AuditStep) -> Position:
        seed, row = self.settings.seeds[step.round], self.rows[step.row]
        return {"seed": seed, "round": step.round, "row": step.row, "defence": row.label}

    def _add_result(self, step: AuditStep, result: StageResult) -> None:
        assert step.attack is not None
        added = {
            "name": self._name(step, result.folder.parent.name),
            "label": step.attack.label,
            "victim_run": str(self._folders(step)[0]),
            "folder": str(result.folder),
            "headline": result.headline,
        }
        values = {**self._position(step), **added, **result.summary}
        if isinstance(step.attack.instance, Certification):
            self.certificates.append(CertificateResult.model_validate(values))
            return
        self.results.append(ATTACK_RESULT.validate_python(values))

    def _name(self, step: AuditStep, folder: str) -> str:
        """Return the folder name of an attack; for a released victim it includes the release."""
        names = [result.name for result in self.results if (result.round, result.row) == (step.round, 0)]
        beginnings = [name for name in names if folder.startswith(f"{name}-")]
        return folder if not step.row or folder in names or not beginnings else max(beginnings, key=len)


def _folder(network: Network) -> Path:
    """Return a given checkpoint, or the folder of a training that has ended."""
    return network if isinstance(network, Path) else network.result().folder


def _preparation(step: AuditStep) -> Preparation:
    preparation = prepares(step.attack) if step.attack is not None else None
    assert preparation is not None
    return preparation


def _check_half(step: AuditStep, data: SegmentationData) -> None:
    """Raise InputError for a training on another half of the data than its role's."""
    if data.role != step.kind:
        remedy = "leave data.role out" if step.kind == "shadow" else "add `options: {data.role: victim}`"
        raise InputError(
            f"the {step.kind} of an audit must train on the {step.kind}'s half of the data, got data.role "
            f"{data.role} in {step.title}; {remedy}"
        )
    if data.shadow_pool == "victim":
        raise InputError(
            "the shadows of an audit must be trained on the shadow's half of the data, got data.shadow_pool "
            "victim; leave it out, and run attacks that need it with `seg_mia test`"
        )
