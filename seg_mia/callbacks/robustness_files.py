"""Files and figures of strong attacks: members of ensembles, minimal norms, Dice over the radius."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from seg_mia.callbacks.folder import run_folder
from seg_mia.callbacks.panels import show
from seg_mia.results.charts.drawing import Drawing
from seg_mia.results.charts.png import pixels
from seg_mia.results.charts.robustness import curve_drawing, norms_drawing
from seg_mia.results.dice_curve import COLUMNS, dice_curve
from seg_mia.results.files import write_bytes, write_csv
from seg_mia.results.pictures import png
from seg_mia.results.robustness import (
    MemberRow,
    MinimalNorms,
    RobustnessCurve,
    member_rows,
    minimal_norms,
)
from seg_mia.results.tables import curve_table, markdown


def write_members(folder: Path, values: Mapping[str, Tensor], members: Sequence[str]) -> list[MemberRow]:
    """Write what each member of an ensemble contributes."""
    rows = member_rows(values, members)
    columns = tuple(MemberRow.model_fields)
    write_csv(folder / "members.csv", columns, [[getattr(row, name) for name in columns] for row in rows])
    return rows


def write_norms(trainer: Trainer, values: Tensor, units: int) -> MinimalNorms | None:
    """Draw the share of images that no change of a norm fools."""
    norms = minimal_norms(values, units)
    if norms is not None:
        _write(trainer, "minimal_norms", norms_drawing({"minimal norm": norms}))
    return norms


def write_curve(
    trainer: Trainer, values: Mapping[str, Tensor], radii: Sequence[float], *, fooled: float, units: int
) -> RobustnessCurve:
    """Write the Dice at each radius as table and figure, and show it in TensorBoard."""
    curve = dice_curve(values, radii, fooled=fooled, units=units)
    rows = [[getattr(point, name) for name in COLUMNS] for point in curve.points]
    write_csv(run_folder(trainer) / "curve.csv", COLUMNS, rows)
    _write(trainer, "curve", curve_drawing({"worst case": curve}))
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_text("attack/curve", markdown(curve_table(curve)))
            for step, point in enumerate(curve.points):
                for name, value in (("dice", point.dice), ("fooled", point.fooled)):
                    if value is not None:
                        logger.experiment.add_scalar(f"attack_curve/{name}", value, step)
    return curve


def _write(trainer: Trainer, name: str, drawing: Drawing) -> None:
    """Write a figure, and show it in TensorBoard."""
    sheet = pixels(drawing)
    write_bytes(run_folder(trainer) / f"{name}.png", png(sheet))
    show(trainer, f"attack/{name}", sheet, 0)
