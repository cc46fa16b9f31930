"""Check of an audit's attacks against its numbers of samples, patients and shadows, before any training."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from seg_mia.audit.attacks import PreparedAttack, by_fleet
from seg_mia.audit.requests import AuditRequests
from seg_mia.audit.settings import shadow_count
from seg_mia.audit.steps import AuditStep, shadow_row
from seg_mia.checkpoint import read_card
from seg_mia.config.options import Option
from seg_mia.data.trained_model import TrainedModel
from seg_mia.experiment.modules import DataModules
from seg_mia.experiment.plan import Shadow, plan
from seg_mia.experiment.requirements import (
    check_enough,
    check_fleet,
    check_images,
    check_membership,
    planned_model,
)
from seg_mia.experiment.trained_networks import load_shadow, unseen_of
from seg_mia.membership.base import Membership


def check_numbers(requests: AuditRequests, listed: Sequence[AuditStep], modules: DataModules) -> None:
    """Raise InputError for an attack with too few samples or shadows, which would be refused after trainings.

    Args:
        requests: of the audit.
        listed: its steps.
        modules: provide the data.
    """
    networks = PlannedNetworks(requests, modules)
    for step in listed:
        if step.kind == "attack" and step.attack is not None:
            _check(step, step.attack, networks)


@dataclass
class PlannedNetworks:
    """Networks of an audit with their data, trained already or planned; each is planned once.

    Attributes:
        requests: of the audit.
        modules: provide the data.
    """

    requests: AuditRequests
    modules: DataModules
    _models: dict[tuple[object, ...], TrainedModel | None] = field(default_factory=dict)

    def victim(self, step: AuditStep, options: tuple[Option, ...]) -> TrainedModel | None:
        """Return a step's victim; None for one without data or with an unknown split."""
        step, row = replace(step, kind="victim", shadow=0), self.requests.rows[step.row]
        key = ("victim", step.round, row.training_key, options)
        if key not in self._models:
            self._models[key] = self._victim(step, options)
        return self._models[key]

    def shadows(self, step: AuditStep, victim: TrainedModel, most: int | None) -> list[TrainedModel]:
        """Return a step's shadows, at most so many."""
        count = shadow_count(self.requests.settings)
        key = shadow_row(self.requests.rows[step.row]).training_key
        models = list[TrainedModel]()
        for number in range(count if most is None else min(count, most)):
            name = ("shadow", step.round, key, number)
            if name not in self._models:
                self._models[name] = self._shadow(replace(step, kind="shadow", shadow=number), victim)
            models += [model for model in [self._models[name]] if model is not None]
        return models

    def _victim(self, step: AuditStep, options: tuple[Option, ...]) -> TrainedModel | None:
        source = self.requests.source(step)
        planned = plan(self.requests.validation(step, source) if isinstance(source, Path) else source)
        data = self.modules.of_plan(replace(planned, settings=(*planned.settings, *options)))
        if data is None or (planned.card is not None and planned.card.split is None):
            return None
        model = planned_model(data, "the victim")
        if planned.card is None or planned.checkpoint is None:
            return model
        return replace(model, file=planned.checkpoint, unseen=unseen_of(planned.card, data))

    def _shadow(self, step: AuditStep, victim: TrainedModel) -> TrainedModel | None:
        source, trust = self.requests.source(step), tuple(self.requests.settings.trust)
        if isinstance(source, Path):
            known = Shadow(source, read_card(source, trust=trust))
            return load_shadow(known, victim.data, self.modules, victim={}, trust=trust)
        data = self.modules.of_plan(plan(source))
        return None if data is None else planned_model(data, f"shadow {step.shadow}")


def _check(step: AuditStep, attack: PreparedAttack, networks: PlannedNetworks) -> None:
    settings, instance = networks.requests.settings, attack.instance
    victim = networks.victim(step, tuple(option for option in attack.options if option.is_below("data")))
    if victim is None:
        return
    if not isinstance(instance, Membership):
        check_images(instance, victim.data)
        return
    needs = instance.scorer.needs
    if by_fleet(attack, settings):
        assert settings.fleet is not None
        check_enough(victim, limited=True)
        check_fleet(needs, settings.fleet.count)
        return
    shadows = networks.shadows(step, victim, needs.maximum)
    check_membership(instance, victim, shadows, seed=settings.seeds[step.round], control=attack.control)
