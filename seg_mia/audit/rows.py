"""Rows of an audit's comparison: the victims that its settings name."""

from pathlib import Path

from seg_mia.audit.settings import NnUNetVictim, Settings, Training, VictimRow
from seg_mia.config.files import find_config, known
from seg_mia.errors import InputError


def rows(settings: Settings) -> list[VictimRow]:
    """Return the victims to compare; raise InputError for unknown names, or a pre-trained victim."""
    compared = [_row(entry) if isinstance(entry, str) else entry for entry in settings.defences]
    for row in compared:
        for name in row.defence:
            find_config(name, "defence")
        if row.config is not None:
            find_config(row.config)
        if row.release is not None:
            find_config(row.release, "release")
    if len({row_key(row) for row in compared}) < len(compared):
        raise InputError(
            "the defences of an audit must differ in content or in name; remove the repeated one, or name it"
        )
    for row in compared:
        _check_trainable(row, settings)
    return compared or [VictimRow()]


def _check_trainable(row: VictimRow, settings: Settings) -> None:
    if row.adaptive and not row.defence and row.config is None:
        raise InputError(
            f"row {row.label} has no training-time defence to apply to the shadow; leave out adaptive"
        )
    if row.config is not None:
        return
    for training in (settings.victim, settings.shadow if row.adaptive else settings.victim):
        if isinstance(training, NnUNetVictim) and (row.defence or row.options):
            raise InputError(
                f"{training.nnunet} is already trained, but row {row.label} needs a config to train with; "
                "name one"
            )
        config = training.config if isinstance(training, Training) else training
        if config is None or isinstance(config, NnUNetVictim):
            continue
        trained = Path(config).exists() and not config.endswith((".yaml", ".yml"))
        if trained and (row.defence or row.options):
            raise InputError(
                f"{config} is already trained, but row {row.label} needs a config to train with; name one"
            )


def row_key(row: VictimRow) -> tuple[str, bool]:
    """Return the key that identifies a table row."""
    return row.label, row.adaptive


def _row(name: str) -> VictimRow:
    if name == "none":
        return VictimRow()
    if name in known("release"):
        return VictimRow(release=name)
    if name not in known("defence") and not Path(name).is_file():
        raise InputError(
            f"no defence {name!r}: known names are none, {', '.join((*known('defence'), *known('release')))}"
        )
    return VictimRow(defence=[name])
