"""Dice left by attacks in L-infinity balls, the worst case of each image, smallest changes, certificates.

python benchmarks/defended_strength.py RUN RUN --images 16 --gradients 60 --radii 1 2 4 8
python benchmarks/defended_strength.py --keep FOLDER --fit --config kvasir_victim.yaml --data.root FOLDER
python benchmarks/defended_strength.py --keep FOLDER --gradients 500 --attacks sea pgd
python benchmarks/defended_strength.py undefended --keep FOLDER --asma_paper --attacks asma

Each RUN, a run folder or a checkpoint, is a victim. --fit, which takes all words behind it, trains three in
the folder --keep by `fit`: undefended, with `--defence adversarial`, and with `--defence noise`. Without it
nothing is trained: RUN may be the name of a victim in the folder, and none means all of them. A victim
trained with noise is attacked as smoothed: its prediction is the class of most votes, its gradient that of
the mean probabilities over --gradient_draws noisy copies, the same in every pass. In the folder --keep every
result is kept, so a stopped run goes on.

Attacks in a ball have --gradients each, which the losses of `sea` share, except FGSM (1), PGD as shipped (10)
and `universal`, fitted to others. Attacks without a ball and the smallest change have steps of their own:
MedIS 60, the frequency attack 20, ASMA --asma_steps of ten times the published size, and with --asma_paper
also as published (tau 1e-7, beta 1e-6, 2501 steps, the last iterate), alma-prox --norm_steps. --attacks
chooses rows; kept results are those of whole tables with the same --images and --fitted. Brackets: 95 %
intervals over patients; those of shares by a bootstrap, in which both attacks share the drawn patients.

Two rows sum up: the single attack of lowest mean among those with as many gradients as PGD, which is the
comparison at equal effort, and the lowest Dice of each image after any of the attacks, whose gradients add up
to those of all rows.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for the other benchmarks

from benchmarks.strength.attacks import (
    BESIDES,
    EQUAL,
    IN_BALLS,
    Budget,
    Part,
    Values,
    beyond,
    certificate,
    kind,
    smallest,
    within,
)
from benchmarks.strength.checks import failed_checks, followed_gradients, gradients_in_words
from benchmarks.strength.rows import Ball, contributions, share_of, shared_gradients, strongest, won
from benchmarks.strength.victims import Attacked, held_victims, read_victim, trained_victims
from seg_mia.atomic import written_whole
from seg_mia.errors import InputError
from seg_mia.results.averages import average
from seg_mia.results.bounded_mean import over_images
from seg_mia.results.charts.png import pixels
from seg_mia.results.charts.robustness import curve_drawing
from seg_mia.results.dice_curve import at_radius, dice_curve
from seg_mia.results.robustness import RobustnessCurve, minimal_norms
from seg_mia.results.tables import interval
from seg_mia.results.text import minimal_in_words

LONGEST = 120
"""Letters of a key that a file's name holds."""


class Results:
    """Results of one victim, read from a folder where they are kept.

    Args:
        attacked: the victim.
        folder: where results are kept; None: nowhere.
        attacks: kinds of the rows that are asked for; all if there are none.
    """

    def __init__(self, attacked: Attacked, folder: Path | None, attacks: Sequence[str] = ()) -> None:
        self.attacked, self.attacks = attacked, attacks
        self.folder = None if folder is None else folder / "results" / attacked.digest

    def of(self, part: Part) -> Values:
        """Return what is kept of a part, or run it."""
        file = None if self.folder is None else self.folder / f"{_file_name(part.key)}.pt"
        if file is not None and file.is_file():
            kept: Values = torch.load(file, weights_only=True)
            return kept
        values = part.run()
        if file is not None:
            with written_whole(file) as stream:
                torch.save(values, stream)
        means = ", ".join(f"{name} {float(value.float().nanmean()):.4f}" for name, value in values.items())
        print(f"  {self.attacked.name} {part.key}: {means}", file=sys.stderr, flush=True)
        return values

    def chosen(self, parts: Iterable[Part]) -> list[Part]:
        """Return the parts that are asked for."""
        return [part for part in parts if not self.attacks or kind(part.name) in self.attacks]

    def mean(self, values: Tensor) -> str:
        """Return the mean with its interval."""
        return interval(over_images(average(values), self.attacked.patients))


def _file_name(key: str) -> str:
    """Return a key in letters that file names may have; a long one is cut, and ends with its digest."""
    name = "".join(letter if letter.isalnum() else "_" for letter in key)
    return name if len(name) <= LONGEST else f"{name[:LONGEST]}_{sha256(key.encode()).hexdigest()[:16]}"


def in_balls(
    results: Results, surrogate: Attacked | None, radii: Sequence[float], budget: Budget
) -> dict[float, Ball]:
    """Return what each attack leaves, by radius; without an attack in a ball there is no radius."""
    balls = {}
    for radius in radii:
        parts = results.chosen(within(results.attacked, surrogate, radius / 255, budget))
        values = {part.name: results.of(part) for part in parts}
        if values:
            dice = {name: left["dice"] for name, left in values.items()}
            balls[radius] = Ball(dice, torch.stack(list(dice.values())).amin(0), won(values))
    return balls


def table(results: Results, balls: Mapping[float, Ball], budget: Budget) -> Iterator[str]:
    """Yield the rows of a victim: attacks by radii, the strongest and the lowest, their shares of PGD's.

    Shares need PGD, and the checks of the attacks all of them.
    """
    first = next(iter(balls.values()), None)
    if first is None:
        return
    yield "| attack | " + " | ".join(f"{radius:g}/255" for radius in balls) + " |"
    yield "| --- |" + " --- |" * len(balls)
    for name in first.dice:
        yield _row(name, (results.mean(ball.dice[name]) for ball in balls.values()))
    if shared_gradients(first.dice):
        names = [strongest(ball.dice) for ball in balls.values()]
        chosen = [ball.dice[name] for ball, name in zip(balls.values(), names, strict=True)]
        single = f"strongest single attack of {budget.gradients} gradients"
        cells = (f"{results.mean(dice)}, {name}" for dice, name in zip(chosen, names, strict=True))
        yield _row(single, cells)
        yield from _shares(results, balls, single, chosen)
    lowest = f"lowest per image of all {len(first.dice)} attacks, whose gradients add up"
    yield _row(lowest, (results.mean(ball.worst) for ball in balls.values()))
    yield from _shares(results, balls, "lowest per image", [ball.worst for ball in balls.values()])
    yield ""
    yield from contributions({radius: ball.members for radius, ball in balls.items()}, results.mean)
    if results.attacks:
        return
    alone = {radius: ball.dice for radius, ball in balls.items()}
    failed = failed_checks(results.attacked.dice(results.attacked.shown.images), alone)
    yield f"checks of the attacks: {'; '.join(failed) if failed else 'all hold'}"
    yield gradients_in_words(results.of(followed_gradients(results.attacked)), results.attacked)


def _row(name: str, cells: Iterable[str]) -> str:
    return f"| {name} | {' | '.join(cells)} |"


def _shares(
    results: Results, balls: Mapping[float, Ball], name: str, dice: Sequence[Tensor]
) -> Iterator[str]:
    """Yield the row of shares of what PGD leaves with as many gradients, if that was run."""
    if all(EQUAL in ball.dice for ball in balls.values()):
        pairs = zip(dice, balls.values(), strict=True)
        cells = (share_of(left, ball.dice[EQUAL], results.attacked.groups) for left, ball in pairs)
        yield _row(f"{name}: share of {EQUAL}", cells)


def curve(results: Results, balls: Mapping[float, Ball]) -> RobustnessCurve:
    """Return the worst case over the radius, from the victim's Dice before any attack on."""
    attacked = results.attacked
    worst = {at_radius(radius): ball.worst for radius, ball in balls.items()}
    values = {"dice_clean": attacked.dice(attacked.shown.images), **worst}
    return dice_curve(values, list(balls), fooled=0.5, units=attacked.patients)


def unbounded(results: Results, budget: Budget) -> Iterator[str]:
    """Yield the attacks without a ball, the smallest changes, and the certificate of a smoothed victim."""
    for part in results.chosen(beyond(results.attacked, budget)):
        values = results.of(part)
        change = 255 * values["linf"]
        words = f"largest change {change.mean():.1f}/255 ({change.min():.1f} to {change.max():.1f} by image)"
        if "target_iou" in values:  # results of earlier versions lack it
            words += f", IoU with that mask {results.mean(values['target_iou'])}"
        yield f"| {part.name} | {results.mean(values['dice'])} | {words} |"
    yield ""
    for part in results.chosen([smallest(results.attacked, budget)] if budget.norm_steps else []):
        found = minimal_norms(results.of(part)["linf"], results.attacked.patients)
        assert found is not None
        yield f"{part.name}: {minimal_in_words(found)}"
    certified = budget.draws and results.attacked.sigma is not None
    for part in results.chosen([certificate(results.attacked, budget)] if certified else []):
        values = results.of(part)
        bound, left = values["certified"], values["attacked"]
        broken = int((left < bound - 1e-6).sum())
        words = "contradicted" if broken else "no contradiction found"
        yield (
            f"certified Dice {results.mean(bound)}, abstained {results.mean(values['abstained'])}; "
            f"{words} by `apgd` with two losses within the radius, {budget.gradients} gradients of "
            f"{results.attacked.draws} draws: it leaves {results.mean(left)}, less than the certificate on "
            f"{broken} of {len(left)} images"
        )


def parsed() -> argparse.Namespace:
    """Return the options."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw, allow_abbrev=False)
    parser.add_argument("victims", nargs="*", metavar="RUN")
    parser.add_argument("--keep", type=Path, help="folder for trained victims and results")
    parser.add_argument("--images", type=int, default=16, help="of as many patients as possible")
    parser.add_argument("--fitted", type=int, default=48, help="others, which `universal` is fitted to")
    parser.add_argument("--radii", type=float, nargs="+", default=[1.0, 2.0, 4.0, 8.0], help="of 255")
    parser.add_argument("--gradients", type=int, default=60, help="of each attack in a ball, and image")
    parser.add_argument(
        "--gradient_draws", type=int, default=16, help="noisy copies behind a gradient of a smoothed victim"
    )
    parser.add_argument("--queries", type=int, default=300, help="of square; 0 leaves it out")
    parser.add_argument("--norm_steps", type=int, default=200, help="of alma-prox; 0 leaves it out")
    parser.add_argument("--norm_step_size", type=float, default=0.001, help="of alma-prox")
    parser.add_argument("--asma_steps", type=int, default=100, help="0 leaves out attacks without a ball")
    parser.add_argument("--asma_paper", action="store_true", help="also ASMA as published: 2501 gradients")
    parser.add_argument("--draws", type=int, default=100, help="of certificates; 0 leaves them out")
    parser.add_argument("--texture", help="folder of adain's auto-encoders; without it, adain is left out")
    parser.add_argument("--figure", help="PNG of the lowest Dice over the radius, a line for each victim")
    parser.add_argument(
        "--attacks", nargs="+", choices=(*IN_BALLS, *BESIDES), default=[], help="rows, not all"
    )
    parser.add_argument("--fit", nargs=argparse.REMAINDER, help="options of the undefended victim's training")
    given = parser.parse_args()
    if (given.victims and given.fit) or (given.keep is None and not given.victims):
        parser.error("name runs, or --keep with victims or with --fit and a training's options")
    if given.figure and given.attacks:
        parser.error("--figure shows the lowest Dice of all attacks; leave --attacks out")
    return given


def runs_of(given: argparse.Namespace) -> dict[str, str | Path]:
    """Return the victims' runs by name: trained if asked to, held by the folder, or named.

    Raises:
        InputError: a folder without victims.
    """
    if given.fit:
        return {**trained_victims(given.keep, given.fit)}
    held = {} if given.keep is None else held_victims(given.keep)
    if not given.victims and not held:
        raise InputError(f"{given.keep} holds no trained victims; train them by --fit, or name runs")
    return {name: held.get(name, name) for name in given.victims or held}


def main() -> None:
    """Train if asked to, attack and print."""
    given = parsed()
    runs = runs_of(given)
    budget = Budget(
        given.gradients, given.queries, given.norm_steps, given.norm_step_size, given.asma_steps, given.draws,
        given.texture, given.asma_paper,
    )  # fmt: skip
    curves = {}
    victims = [
        read_victim(name, run, given.images, given.fitted, given.gradient_draws) for name, run in runs.items()
    ]
    for attacked in victims:
        others = [other for other in victims if other is not attacked]
        results = Results(attacked, given.keep, given.attacks)
        clean = results.mean(attacked.dice(attacked.shown.images))
        title = f"{len(attacked.shown.images)} images of {attacked.patients} patients, clean {clean}"
        print(f"{attacked.name}: {title}\n")
        besides = list(unbounded(results, budget))
        balls = in_balls(results, others[0] if others else None, given.radii, budget)
        if given.figure:
            curves[attacked.name] = curve(results, balls)
        for line in (*table(results, balls, budget), *besides):
            print(line, flush=True)
        print()
    if given.figure:
        Image.fromarray(pixels(curve_drawing(curves))).save(given.figure)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"{Path(__file__).name}: error: {error}")
