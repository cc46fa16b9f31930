"""Requests of an audit's runs, from its settings and its rows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from seg_mia.attacks.base import Perturbation
from seg_mia.audit.attacks import FLEET, SHADOW, PreparedAttack, own_networks, prepares
from seg_mia.audit.deployed import adoption, has_nonmembers
from seg_mia.audit.fleet import fleet_requests, opened
from seg_mia.audit.settings import NnUNetVictim, Settings, Training, VictimRow, shadow_count
from seg_mia.audit.steps import AuditStep, shadow_row
from seg_mia.checkpoint import read_card
from seg_mia.config.options import Option, options_of
from seg_mia.errors import InputError
from seg_mia.experiment.bundle import is_trusted
from seg_mia.experiment.modules import DataModules
from seg_mia.experiment.recipe import check_columns
from seg_mia.experiment.request import RunRequest
from seg_mia.experiment.weightless import weightless
from seg_mia.membership.base import Membership
from seg_mia.runs import FLEET_SEED, SHADOW_SEED, checkpoint_file, shadow_files

SUBSETS = ("nonmembers", "members")
"""Subsets of a victim's validations."""


@dataclass(frozen=True)
class AuditRequests:
    """Runs of an audit's steps.

    Attributes:
        settings: settings of the audit.
        rows: rows of its comparison.
    """

    settings: Settings
    rows: Sequence[VictimRow]

    def source(self, step: AuditStep) -> Path | RunRequest:
        """Return the checkpoint given for a training, or the training itself.

        Raises:
            InputError: options or defences of a network that is already trained.
        """
        row = self.rows[step.row]
        row = row if step.kind == "victim" else shadow_row(row)
        entry = self.settings.victim if step.kind == "victim" else self.settings.shadow
        assert entry is not None
        if row.config is not None:
            training = Training(row.config)
        elif isinstance(entry, NnUNetVictim):
            return adoption(self.settings, entry, self.settings.seeds[step.round])
        else:
            training = Training(entry) if isinstance(entry, str) else entry
        path = Path(training.config)
        if path.is_dir() or (path.is_file() and path.suffix not in {".yaml", ".yml"}):
            if training.options or training.weights or training.bundle or row.defence or row.options:
                raise InputError(
                    f"{path} is already trained, so options and defences do not apply; leave them out, or "
                    "name a config"
                )
            return shadow_files(path)[step.shadow] if step.kind == "shadow" else checkpoint_file(path)
        return self._training(step, training, row)

    def _training(self, step: AuditStep, training: Training, row: VictimRow) -> RunRequest:
        is_shadow = step.kind == "shadow"
        seed = self.settings.seeds[step.round] + SHADOW_SEED * is_shadow + FLEET_SEED * step.shadow
        numbered = is_shadow and shadow_count(self.settings) > 1
        changes = (
            *options_of("model.", self.settings.model),
            *options_of("", training.options),
            *options_of("", row.options),
        )
        deployed = weightless(training.config, changes) or (training.bundle and not is_shadow)
        bundles = [training.bundle] if training.bundle is not None else []
        return RunRequest(
            "adopt" if training.weights or deployed else "fit",
            configs=(training.config,),
            bundle=training.bundle,
            trust=tuple(name for name in self.settings.trust for path in bundles if is_trusted(path, [name])),
            defences=tuple(row.defence),
            role="shadow" if is_shadow else None,
            reference=training.reference_predictions,
            agreement=training.agreement,
            runs=self.settings.runs,
            options=(
                *options_of("", {"seed_everything": seed}),
                *options_of("data.", self.settings.data),
                *options_of("model.", self.settings.model),
                *options_of("model.", {"weights": training.weights} if training.weights else {}),
                *options_of("data.", {"shadow": step.shadow} if numbered else {}),
                *options_of("", training.options),
                *options_of("", row.options),
            ),
        )

    def network(self, step: AuditStep, modules: DataModules) -> RunRequest:
        """Return the training of one network of a row's fleet.

        Raises:
            InputError: a row whose network is already trained, or unknown columns of subgroups.
        """
        recipe = self.source(AuditStep("victim", 0, step.row, ""))
        if not isinstance(recipe, RunRequest):
            raise InputError(
                f"a fleet is trained by a row's config, row {self.rows[step.row].label} names {recipe}, "
                "which is already trained; leave out fleet, or name a config"
            )
        assert self.settings.fleet is not None
        options = tuple(option for option in recipe.options if option.name != "data.role")
        requests = fleet_requests(replace(recipe, options=options), self.settings.fleet.count, "victim")
        if step.shadow == 0 and self.settings.fleet.subgroups:  # refused before a fleet is trained
            check_columns(opened(requests[0], modules), self.settings.fleet.subgroups)
        return requests[step.shadow]

    def measurements(self, step: AuditStep, victim: Path) -> list[RunRequest]:
        """Return the validations of the deployed victim on non-members and members."""
        request = self.validation(step, victim)
        card = read_card(checkpoint_file(victim), trust=self.settings.trust)
        subsets = SUBSETS if has_nonmembers(card) else SUBSETS[1:]
        options = [(*request.options, Option("--data.subset", subset)) for subset in subsets]
        return [replace(request, options=chosen) for chosen in options]

    def validation(self, step: AuditStep, victim: Path) -> RunRequest:
        """Return a validation of the deployed victim."""
        return self._on_victim("validate", victim, step, options_of("data.", self.settings.data))

    def attack(
        self, step: AuditStep, victim: Path, shadows: Sequence[Path], prepared: Path | None
    ) -> RunRequest:
        """Return an attack on the deployed victim.

        Args:
            step: with the attack.
            victim: checkpoint or run folder of the victim.
            shadows: the same of the shadows.
            prepared: run folder of the training that the attack requires, if any.
        """
        attack = step.attack
        assert attack is not None
        options = list(attack.options)
        if names := [*own_networks(attack, SHADOW), *own_networks(attack, FLEET)]:
            options = [
                option for option in options if option.name not in {f"attack.{name}" for name in names}
            ]
            options += _own(attack, names, shadows)
        if (preparation := prepares(attack)) is not None:
            options.append(Option(f"--attack.{preparation.option}", str(prepared)))
        options.append(Option("--seed_everything", str(self.settings.seeds[step.round])))
        request = replace(self._on_victim("test", victim, step, options), attack=attack.file)
        if isinstance(attack.instance, Membership):
            used = tuple(map(str, shadows[: attack.instance.scorer.needs.maximum]))
            request = replace(request, shadows=used, control=attack.control)
        return request

    def _on_victim(
        self, verb: Literal["validate", "test"], victim: Path, step: AuditStep, options: Sequence[Option]
    ) -> RunRequest:
        return RunRequest(
            verb,
            options=tuple(options),
            release=self.rows[step.row].release,
            victim=str(victim),
            runs=self.settings.runs,
            trust=tuple(self.settings.trust),
        )


def _own(attack: PreparedAttack, names: Sequence[str], networks: Sequence[Path]) -> Sequence[Option]:
    """Return the options that name the audit's own networks: all of them, or the first as one surrogate."""
    several = isinstance(attack.instance, Perturbation) and attack.instance.on_surrogate
    paths = list(map(str, networks))
    return options_of("attack.", {name: paths if several or name == "others" else paths[0] for name in names})
