"""Adoption of a deployed nnU-Net in an audit, and the audit of its folds."""

import torch

from seg_mia.audit.settings import NnUNetVictim, Settings
from seg_mia.checkpoint import Card
from seg_mia.config.options import options_of
from seg_mia.errors import InputError
from seg_mia.experiment.folds import fold_signals, folds_result
from seg_mia.experiment.modules import DataModules
from seg_mia.experiment.plan import plan
from seg_mia.experiment.request import RunRequest
from seg_mia.results.folds import FoldsResult


def adoption(settings: Settings, victim: NnUNetVictim, seed: int) -> RunRequest:
    """Return the adoption of a training of nnU-Net."""
    return RunRequest(
        "adopt",
        nnunet=victim.training,
        reference=victim.reference_predictions,
        agreement=victim.agreement,
        runs=settings.runs,
        options=(
            *options_of("", {"seed_everything": seed}),
            *options_of("data.", settings.data),
            *options_of("model.", settings.model),
            *options_of("", victim.options),
        ),
    )


def audited_folds(
    request: RunRequest, modules: DataModules, *, row: int = 0, defence: str = "none"
) -> FoldsResult:
    """Return the audit of a cross-validation's networks.

    Args:
        request: a run on the adopted mean of the networks, which names its checkpoint and data.
        modules: provide the data.
        row: row of the comparison.
        defence: name of the victim in tables.

    Raises:
        InputError: errors of `fold_signals` and `folds_result`.
    """
    planned = plan(request)
    data = modules.of_plan(planned)
    if data is None or planned.card is None or planned.checkpoint is None:
        raise InputError("folds are audited of an adopted nnU-Net with its data; adopt it with --folds all")
    data.setup()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    signals = fold_signals(planned.checkpoint, planned.card, data, device)
    return folds_result(signals, row=row, defence=defence)


def has_nonmembers(card: Card) -> bool:
    """Return whether a victim's split has non-members, which that of all folds of a training may not."""
    return bool((card.split or {}).get("nonmembers", True))
