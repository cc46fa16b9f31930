"""Result files and figures of an adversarial attack, in the victim's folder."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn

from seg_mia.attacks.base import ParallelLosses
from seg_mia.callbacks.folder import run_folder
from seg_mia.callbacks.image_results import ImageResults, attacked_data, undefined_count
from seg_mia.callbacks.outputs import AttackOutput
from seg_mia.callbacks.panels import show
from seg_mia.callbacks.robustness_files import write_curve, write_members, write_norms
from seg_mia.data.base import SegmentationData
from seg_mia.data.samples import Batch
from seg_mia.metrics.per_image import PerImage
from seg_mia.models.service import queries_of
from seg_mia.results.averages import average
from seg_mia.results.bounded_mean import label_changes, other_victims
from seg_mia.results.curves import trajectories
from seg_mia.results.files import cell, file_name, write_bytes, write_csv, write_json, write_rows
from seg_mia.results.orthogonal import OrthogonalSlices
from seg_mia.results.perturbation import PerturbationSummary, SuccessRow
from seg_mia.results.pictures import Tile, draw, magnified, overlay, picture, png
from seg_mia.results.robustness import FittingSet, SanityCheck, WorstCase
from seg_mia.results.strengths import COLUMNS as STRENGTHS
from seg_mia.results.strengths import heatmaps, strength_means, strength_rows
from seg_mia.results.success import COLUMNS, cells_of, success_curves, success_rows
from seg_mia.results.tables import markdown, success_table
from seg_mia.results.text import without_gradient

TITLES = ("clean", "perturbation", "adversarial", "prediction, clean", "{mask}", "prediction, adversarial")

PAGE = 3
"""Images on one sheet in TensorBoard, where a sheet is as wide as a card; a slider turns the pages."""


class PerturbationResults(ImageResults):
    """Write `per_image.csv`, `history.csv`, `summary.json`, `panel.png`, and show them in TensorBoard.

    Args:
        attacker_knowledge: the attacker's knowledge of the victim (threat model).
        is_targeted: whether there is a target mask; otherwise the target is the ground truth.
        parallel_losses: losses run in parallel by the attack, if any.
        members: attacks of an ensemble, if it is one.
        radii: radii of an attack in several balls, in grey levels of 8 bits.
        fooled: share of its clean Dice below which such an attack counts an image as fooled.
        worst_case: effort of an attack that keeps each image's strongest iterate, if it is one.
        attack: settings of the attack as plain values, for the summary.
        victim: attacked checkpoint, for the summary.
        images: number of images in the panel: the first, or the first valid ones if the attack marks them.
        save_images: save every adversarial image: `adversarial/ID.npy` (float32, exact) and `ID.png` (8
            bits).
    """

    def __init__(
        self,
        *,
        attacker_knowledge: str,
        is_targeted: bool = True,
        parallel_losses: ParallelLosses | None = None,
        members: Sequence[str] = (),
        radii: Sequence[float] = (),
        fooled: float = 0.5,
        worst_case: WorstCase | None = None,
        attack: Mapping[str, object],
        victim: str,
        images: int = 8,
        save_images: bool = False,
    ) -> None:
        super().__init__(images)
        self.attacker_knowledge, self.is_targeted, self.parallel_losses = (
            attacker_knowledge,
            is_targeted,
            parallel_losses,
        )
        self.members, self.sanity = tuple(members), list[SanityCheck]()
        self.radii, self.fooled, self.fitted = tuple(radii), fooled, list[FittingSet]()
        self.attack, self.victim, self.save_images = attack, victim, save_images
        self.worst_case = worst_case
        self.history = PerImage()
        self.summary: PerturbationSummary | None = None

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Collect results on the victim's device."""
        super().on_test_epoch_start(trainer, pl_module)
        self.history.to(pl_module.device)

    def collect(self, output: AttackOutput, batch: Batch, ids: list[str], trainer: Trainer) -> None:
        """Store metrics, history and the first valid images."""
        self.sanity += [output["sanity"]] if output["sanity"] is not None else []
        self.fitted += [output["fitted"]] if output["fitted"] is not None else []
        notes = {
            name: value
            for name, value in output["adversarial"].notes.items()
            if name not in output["measures"]
        }
        self.measures.update(batch.index, {**output["measures"], **notes})
        if history := output["adversarial"].history:
            flat = {f"{name}@{t}": row for name, rows in history.items() for t, row in enumerate(rows)}
            self.history.update(batch.index, flat)
        counted = torch.as_tensor(notes.get("counted", torch.ones(len(ids)))).nonzero().flatten().tolist()
        self.show_first(output, batch, counted, trainer)
        if self.save_images:
            self._save(trainer, batch, output["adversarial"].images)

    def tiles(self, output: AttackOutput, batch: Batch, row: int, shown: OrthogonalSlices) -> list[Tile]:
        """Return an image, its change, the result, and the three masks."""
        image, losses = shown(batch.image[row]), self.losses
        adversarial, measures = shown(output["adversarial"].images[row]), output["measures"]
        notes, likeness = output["adversarial"].notes, measures["ssim"][row]
        won = f"\n{losses[int(notes['loss'][row])]}, {int(notes['steps'][row])} steps" if losses else ""
        change, factor = magnified(adversarial - image)
        clean, target, prediction = (shown(output[name][row]) for name in ("clean", "target", "prediction"))
        return [
            Tile(picture(image)),
            Tile(
                change,
                f"x {factor:.3g}, L2 {measures['l2'][row]:.2f}, Linf {measures['linf'][row] * 255:.1f}/255",
            ),
            Tile(picture(adversarial), f"SSIM {'undefined' if likeness.isnan() else f'{likeness:.3f}'}"),
            Tile(overlay(image, clean), f"Dice to truth {measures['dice_clean'][row]:.2f}"),
            Tile(overlay(image, target), f"IoU at start {measures['iou_before'][row]:.2f}"),
            Tile(overlay(image, prediction), f"IoU to it {measures['iou'][row]:.3f}{won}"),
        ]

    def _save(self, trainer: Trainer, batch: Batch, images: Tensor) -> None:
        folder = run_folder(trainer) / "adversarial"
        folder.mkdir(parents=True, exist_ok=True)
        data: SegmentationData = trainer.datamodule  # type: ignore[attr-defined]
        for index, image, mask in zip(batch.index.tolist(), images, batch.mask, strict=True):
            stem = file_name(data.source.ids[index])
            np.save(folder / f"{stem}.npy", image.float().cpu().numpy())
            if mask.ndim == 3:
                image = OrthogonalSlices(mask, data.source.spacing(index))(image)  # noqa: PLW2901
            write_bytes(folder / f"{stem}.png", png((picture(image) * 255).round().astype(np.uint8)))

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write everything."""
        data: SegmentationData = trainer.datamodule  # type: ignore[attr-defined]
        index, values = self.measures.table()
        stopped = int(values["no_gradient"].sum()) if "no_gradient" in values else 0
        means = {name: float(value.nanmean()) for name, value in values.items()}
        logged = {f"attack/{name}": mean for name, mean in means.items() if self._is_number(name)}
        pl_module.log_dict(logged, sync_dist=True)
        curves = self._curves()
        if not trainer.is_global_zero:
            return
        folder = run_folder(trainer)
        labels = {name: names for name, names in (("loss", self.losses), ("member", self.members)) if names}
        groups = [data.source.groups[i] for i in index.tolist()]
        write_rows(folder / "per_image.csv", data.source.ids, index, values, labels=labels)
        ran = self.parallel_losses
        success = self._succeeded(trainer, values, ran, groups) if ran is not None else []
        ids = [data.source.ids[i] for i in index.tolist()]
        if "step" in curves:
            _write_history(trainer, ids, curves, mask=self.mask)
        self.summary = PerturbationSummary(
            attack=dict(self.attack),
            attacker_knowledge=without_gradient(self.attacker_knowledge, stopped, len(index)),
            is_targeted=self.is_targeted,
            victim=self.victim,
            data=attacked_data(data),
            images=len(index),
            units=len(set(groups)),
            undefined=undefined_count(data),
            unchanged=int((values["l2"] == 0).sum()),
            no_gradient=stopped,
            results={name: average(value) for name, value in values.items() if self._is_number(name)},
            labels=label_changes(values, groups),
            success=success,
            strengths=_write_strengths(trainer, ids, curves) if curves and "step" not in curves else [],
            members=write_members(folder, values, self.members) if self.members else [],
            minimal=write_norms(trainer, values["minimal_linf"], len(set(groups)))
            if "minimal_linf" in values
            else None,
            curve=write_curve(trainer, values, self.radii, fooled=self.fooled, units=len(set(groups)))
            if self.radii
            else None,
            fitted=self.fitted[0] if self.fitted else None,
            others=other_victims(
                {name: average(value) for name, value in values.items() if name.startswith("other")},
                getattr(pl_module, "other_names", ()),
                len(set(groups)),
            ),
            sanity=self.sanity[-1] if self.sanity else None,
            worst_case=None if getattr(pl_module, "transfers_only", False) else self.worst_case,
            victim_queries=queries_of(pl_module.victim) if isinstance(pl_module.victim, nn.Module) else None,
        )
        write_json(folder / "summary.json", self.summary.plain())
        if self.rows:
            titles = [title.format(mask=self.mask) for title in TITLES]
            write_bytes(folder / "panel.png", png(draw(titles, self.rows, self.names), self.names))
            for page, row in enumerate(range(0, len(self.rows), PAGE)):
                sheet = draw(titles, self.rows[row : row + PAGE], self.names[row : row + PAGE])
                show(trainer, "attack/panel", sheet, page)

    @property
    def mask(self) -> str:
        """Reference mask of predictions."""
        return "target" if self.is_targeted else "truth"

    @property
    def losses(self) -> list[str]:
        """Losses run in parallel, if any."""
        return list(self.parallel_losses.losses) if self.parallel_losses is not None else []

    def _is_number(self, name: str) -> bool:
        """Say whether a mean over all images means something: not of an index, or where some do not count."""
        if name == "no_gradient":  # a count, but where rates of success are counted
            return bool(self.losses)
        return (
            "." not in name
            and name != "member"
            and not (self.losses and name in {"loss", "success", "steps"})
        )

    def _succeeded(
        self, trainer: Trainer, values: Mapping[str, Tensor], ran: ParallelLosses, groups: Sequence[str]
    ) -> list[SuccessRow]:
        """Write how often each loss and their fusion succeeded, as table and curves; return the table."""
        rows = success_rows(values, ran.losses, groups=groups, target_kind=ran.target_kind, fusion=ran.fusion)
        folder = run_folder(trainer)
        write_csv(folder / "success.csv", COLUMNS, [cells_of(row) for row in rows])
        figure = success_curves(values, ran.losses, ran.steps, fusion=ran.fusion)
        write_bytes(folder / "success.png", png(figure))
        show(trainer, "attack/success", figure, 0)
        table = markdown(success_table(rows))
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_text("attack/success", table)
                for row in rows:
                    for name, value in (("rate", row.rate), ("distortion", row.distortion)):
                        if value is not None:
                            logger.experiment.add_scalar(f"attack_{name}/{row.loss}", value, 0)
        return rows

    def _curves(self) -> dict[str, Tensor]:
        """Return each recorded name's (T, n)."""
        if not self.history.names:
            return {}
        _, flat = self.history.table()
        names = dict.fromkeys(name.partition("@")[0] for name in flat)
        return {
            name: torch.stack([value for key, value in flat.items() if key.startswith(f"{name}@")])
            for name in names
        }


def _write_strengths(
    trainer: Trainer, ids: Sequence[str], curves: Mapping[str, Tensor]
) -> list[dict[str, float | None]]:
    """Write the effect of every strength on every image, and show the means."""
    folder = run_folder(trainer)
    write_csv(folder / "strengths.csv", STRENGTHS, strength_rows(ids, curves))
    means = strength_means(curves)
    sheet = heatmaps(means)
    write_bytes(folder / "strengths.png", png(sheet))
    show(trainer, "attack/strengths", sheet, 0)
    return [dict(row) for row in means]


def _write_history(trainer: Trainer, ids: Sequence[str], curves: Mapping[str, Tensor], *, mask: str) -> None:
    """One line per image and recorded iterate; TensorBoard gets the means over images and one figure."""
    steps = curves["step"][:, 0].long().tolist()
    measured = {name: value for name, value in curves.items() if name != "step"}
    rows = [
        [name, step, *(cell(float(value[t, n])) for value in measured.values())]
        for n, name in enumerate(ids)
        for t, step in enumerate(steps)
    ]
    write_csv(run_folder(trainer) / "history.csv", ["id", "step", *measured], rows)
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            for name, value in measured.items():
                for step, mean in zip(steps, value.nanmean(1).tolist(), strict=True):
                    logger.experiment.add_scalar(f"attack_steps/{name}", mean, step)
    means = {name: value for name, value in measured.items() if "." not in name}
    sheet = trajectories(steps, means, mask=mask)
    write_bytes(run_folder(trainer) / "history.png", png(sheet))
    show(trainer, "attack/history", sheet, 0)
