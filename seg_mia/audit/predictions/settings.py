"""Settings of an audit of predictions, in a file or on the command line."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from seg_mia.audit.reading import PREDICTIONS, audit_options, check_name, parsed_settings
from seg_mia.audit.settings import VERSION, AttackEntry, ReleaseDeclaration, declared
from seg_mia.config.files import Config, is_inline
from seg_mia.config.options import Option
from seg_mia.config.parsing import plain_settings
from seg_mia.data.prediction_files.reader import Predictions
from seg_mia.errors import InputError

FIELDS = tuple(setting.name for setting in fields(Predictions))


@dataclass(frozen=True)
class PredictionSettings:
    """Content of an audit file with `predictions`, version 1.

    Args:
        predictions: the table of predictions and the content of its files. On the command line
            `--predictions FILE` is the table, and the other settings need no prefix: `--classes 2`.
        attacks: names of membership attacks, or mappings of `attack` and `settings`; by default those on one
            number per prediction, and those by reference networks where the table has some.
        scorer: options of every membership classifier, such as `epochs`.
        seed: seed of classifiers, and of the folds of the blind baseline.
        runs: folder of the results.
        fail_on: gates such as "mia.auc>0.6"; also --fail-on, which may be repeated.
        release_context: how the network is given out, for the report: internal, api_logits, api_masks or
            open_weights, or a mapping with `access`, `queried_by` and `rate_limit`.
        images: show images, masks and names of cases in the report.
        name: name of the audit's folder; the name of the config or of the table if not given.
        version: version of this file format.
    """

    predictions: Predictions
    attacks: list[str | AttackEntry] = field(default_factory=list)
    scorer: Config = field(default_factory=dict)
    seed: int = 0
    runs: str = "runs"
    fail_on: list[str] = field(default_factory=list)
    release_context: str | ReleaseDeclaration | None = None
    images: bool = True
    name: str = "predictions"
    version: int = VERSION


def read_prediction_settings(words: Sequence[str]) -> PredictionSettings:
    """Return the settings of a command line; raise InputError for invalid ones."""
    files, options = audit_options(words)
    options = [_below(option) for option in options]
    tables = [Path(option.value or "").stem for option in options if option.name == f"{PREDICTIONS}.table"]
    settings = parsed_settings(
        PredictionSettings,
        files,
        options,
        "Audit the predictions of a network on its members and non-members, without the network.",
        name=tables[-1] if tables else "",
        further=[*FIELDS, *(f"{PREDICTIONS}.{name}" for name in FIELDS)],
    )
    check_name(settings.name)
    declared(settings.release_context)
    if settings.version != VERSION:
        raise InputError(f"an audit file must have version {VERSION}, got {settings.version}")
    for entry in settings.attacks:
        if isinstance(entry, AttackEntry) and entry.data:
            raise InputError(
                f"{entry.attack} takes no data settings in an audit of predictions, got "
                f"{', '.join(entry.data)}; leave rows out of the table instead"
            )
    return replace(settings, scorer=plain_settings(settings.scorer))


def _below(option: Option) -> Option:
    """Return an option with the prefix of the settings of predictions, where it is one of them."""
    if option.name in FIELDS:
        return replace(option, flag=f"--{PREDICTIONS}.{option.name}")
    if option.name == PREDICTIONS and not is_inline(option.value or ""):
        if option.value is None:
            raise InputError("--predictions needs the table of predictions: --predictions release.csv")
        return replace(option, flag=f"--{PREDICTIONS}.table")
    return option
