"""Victims, shadows, every attack asked for, one summary."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seg_mia.attacks.adain import Adain
from seg_mia.attacks.white_box import WhiteBox
from seg_mia.audit.matrix import compared_to_first, defence_table, outcome, write_matrix
from seg_mia.audit.settings import VERSION, Defended, Settings, Training, rows
from seg_mia.audit.stages import SHADOW, Ready, is_run, names_training, options, ready_stages
from seg_mia.audit.textures import check, train, trained
from seg_mia.callbacks.membership_figures import Curve, roc_figure
from seg_mia.callbacks.pictures import png
from seg_mia.callbacks.success import COLUMNS
from seg_mia.callbacks.tables import write_csv, write_json
from seg_mia.checkpoint import read_card
from seg_mia.errors import InputError
from seg_mia.experiment import run
from seg_mia.headlines import aligned, spread, success_table, table, warnings
from seg_mia.membership.base import Membership
from seg_mia.membership.compare import read_scores
from seg_mia.membership.roc import roc
from seg_mia.runs import SHADOW_SEED, checkpoint_file, new_version


@dataclass(frozen=True)
class Audit:
    """What came out.

    Attributes:
        folder: where `audit.json` lies.
        runs: the folder of all runs.
        victims: the victims' runs or files, one per seed; with several defences the first one's.
        results: one mapping per victim and attack.
        utility: how well each of `victims` segments, in words, where it was trained here.
        compared: one mapping per defence and seed, where defences are compared.
    """

    folder: Path
    runs: Path
    victims: list[Path]
    results: list[dict[str, Any]]
    utility: list[str]
    compared: list[dict[str, Any]]

    def headline(self) -> list[str]:
        """Return the lines that sum up the audit: first what makes the others void, then the tables."""
        lines = [line for result in self.results for line in warnings(result)]
        for number, victim in enumerate(self.victims):
            own = [result for result in self.results if result["round"] == number and result["row"] == 0]
            lines += [f"victim {victim}{self.utility[number]}", *table(own)]
            if succeeded := success_of(own):
                lines += ["", *aligned(success_table(succeeded))]
            if rows := [row for row in self.compared if row["round"] == number]:
                lines += ["", *defence_table(rows)]
        if len(self.victims) > 1:
            lines += ["over all seeds", *spread(self.results)]
        return lines


def audit(settings: Settings, *, say: Callable[[str], None]) -> Audit:
    """Train or take victims and shadows, attack them, write `audit.json`, the ROCs and the comparison.

    Membership attacks begin with the blind baseline, asked for or not: without it nobody knows whether the
    split itself tells members from non-members. Baseline and controls do not depend on the victim's defence
    and run for the first one alone.

    Args:
        settings: what to do.
        say: gets one line as each stage begins.
    """
    stages, compared = ready_stages(settings), rows(settings)
    for stage in stages:
        if isinstance(stage.attack, Adain) and names_training(stage.attack.weights):
            check(str(stage.attack.weights))
    begun = time.time()
    progress = _Progress(_count(settings, stages, compared), say)
    rounds = [_Round(settings, number, seed, progress) for number, seed in enumerate(settings.seeds)]
    for round_ in rounds:
        round_.run(stages, compared)
        compared_to_first(round_.compared)
    folder = new_version(Path(settings.runs) / settings.name)
    victims = [round_.victims[0] for round_ in rounds]
    results = [result for round_ in rounds for result in round_.results]
    matrix = [row for round_ in rounds for row in round_.compared] if settings.defences else []
    content = {"version": VERSION, "victims": [str(victim) for victim in victims], "attacks": results}
    write_json(
        folder / "audit.json", content | {"defences": matrix, "seconds": round(time.time() - begun, 1)}
    )
    for round_ in rounds:
        own = [result for result in round_.results if result["row"] == 0]
        if succeeded := success_of(own):
            file = folder / f"success_seed_{round_.seed}.csv"
            write_csv(file, COLUMNS, [[row[name] for name in COLUMNS] for row in succeeded])
        _draw_roc(folder / f"roc_seed_{round_.seed}.png", own)
        if settings.defences:
            write_matrix(folder, round_.seed, round_.compared)
    utility = [round_.told for round_ in rounds]
    return Audit(folder, Path(settings.runs), victims, results, utility, matrix)


def success_of(results: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return how often each loss of each attack succeeded, whatever was asked for, in one table's rows."""
    return [row for result in results for row in result.get("success", [])]


@dataclass
class _Progress:
    """Says which stage of how many begins."""

    total: int
    say: Callable[[str], None]
    number: int = 0

    def __call__(self, what: str) -> None:
        self.number += 1
        self.say(f"stage {self.number} of {self.total}: {what}")


@dataclass
class _Round:
    """All that is done for one seed."""

    settings: Settings
    number: int
    seed: int
    progress: _Progress
    files: dict[tuple[str, str], Path] = field(default_factory=dict)
    victims: list[Path] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)
    compared: list[dict[str, Any]] = field(default_factory=list)
    told: str = ""

    def run(self, stages: Sequence[Ready], compared: Sequence[Defended]) -> None:
        """Train, attack, measure, one defence after the other."""
        for number, row in enumerate(compared):
            victim = self._trained("victim", row)
            self.victims.append(victim)
            shadow = None
            if self.settings.shadow is not None:
                shadow = self._trained("shadow", row if row.adaptive else Defended())
            utility = self._utility(victim, row) if self.settings.defences else {}
            here = [stage for stage in stages if is_run(stage, number)]
            found = [self._attack(stage, victim, shadow, row) for stage in here]
            place = {"seed": self.seed, "round": self.number, "row": number, "defence": row.called}
            self.results += [place | result for result in found]
            repeated = [result for stage, result in zip(here, found, strict=True) if is_run(stage, 1)]
            self.compared.append(
                place
                | {"victim": str(victim), "shadow": _shadow(row) if shadow else None, "utility": utility}
                | {"privacy": read_card(checkpoint_file(victim), trust=self.settings.trust).privacy}
                | {"attacks": [outcome(result) for result in repeated]}
            )

    def _trained(self, role: str, row: Defended) -> Path:
        """Return the run's folder or the checkpoint, trained once for all rows that share it."""
        key = (role, row.trained)
        if key not in self.files:
            what = self.settings.victim if role == "victim" else self.settings.shadow
            assert what is not None
            training = Training(what) if isinstance(what, str) else what
            training = Training(row.config) if row.config is not None else training
            defended = f", {' + '.join(row.defence)}" if row.defence else ""
            self.progress(f"{role} {training.config}{defended}, seed {self.seed}")
            self.files[key], told = _fitted(
                training, row, self.settings, self.seed + SHADOW_SEED * (role == "shadow")
            )
            if role == "victim":
                self.told = self.told or told
        return self.files[key]

    def _utility(self, victim: Path, row: Defended) -> dict[str, Any]:
        """Return what validation gives on non-members and members of the victim as it is deployed."""
        self.progress(f"how well {row.called} segments")
        words = [
            "validate",
            "--victim",
            str(victim),
            *self._common(row),
            *options("data.", self.settings.data),
        ]
        found = {}
        for subset in ("nonmembers", "members"):
            done = run([*words, f"--data.subset={subset}"])
            found[subset] = {
                name.removeprefix("val/"): value for name, value in done.summary.items() if name != "privacy"
            }
        return found

    def _attack(self, stage: Ready, victim: Path, shadow: Path | None, row: Defended) -> dict[str, Any]:
        behind = f" on {row.called}" if self.settings.defences else ""
        self.progress(f"{stage.name}{behind}{', negative control' if stage.control else ''}")
        words = ["test", *stage.words, "--victim", str(victim), *self._common(row)]
        if isinstance(stage.attack, WhiteBox) and stage.attack.surrogate == SHADOW:
            words += ["--attack.surrogate", str(shadow)]
        if isinstance(stage.attack, Adain) and names_training(stage.attack.weights):
            words += ["--attack.weights", str(self._textures(str(stage.attack.weights)))]
        words += ["--seed_everything", str(self.seed)]
        if isinstance(stage.attack, Membership):
            words += ["--shadow", str(shadow), *(["--control"] if stage.control else [])]
        done = run(words)
        own = {"name": done.plan.folder.name, "victim_run": str(victim), "folder": str(done.folder)}
        return own | {"headline": done.headline()} | done.summary

    def _textures(self, config: str) -> Path:
        """Return the run of the auto-encoders, trained now unless an audit has done so before."""
        found = trained(config, self.settings)
        if found is None:
            self.progress.say(f"  first the auto-encoders, {config}")
            found = train(config, self.settings)
        return found

    def _common(self, row: Defended) -> list[str]:
        release = ["--release", row.release] if row.release else []
        trust = [word for name in self.settings.trust for word in ("--trust", name)]
        return ["--runs", self.settings.runs, *release, *trust]


def _fitted(training: Training, row: Defended, settings: Settings, seed: int) -> tuple[Path, str]:
    """Return the run's folder or the checkpoint, and how well it segments where it was trained here."""
    path = Path(training.config)
    if path.is_dir() or (path.is_file() and path.suffix not in {".yaml", ".yml"}):
        if training.options or row.defence or row.options:
            raise InputError(
                f"{path} is trained already, options and defences are for a training; leave them out, or "
                "name a config"
            )
        return checkpoint_file(path), ""
    fit = ["fit", "--config", training.config, "--runs", settings.runs, "--seed_everything", str(seed)]
    fit += [word for name in row.defence for word in ("--defence", name)]
    own = [*options("data.", settings.data), *options("model.", settings.model)]
    done = run([*fit, *own, *options("", training.options), *options("", row.options)])
    return done.folder, "".join(f": {line}" for line in done.headline())


def _shadow(row: Defended) -> str:
    """Return how the shadow was trained, as tables say it."""
    return "defended" if row.adaptive else "undefended"


def _draw_roc(file: Path, results: Sequence[Mapping[str, Any]]) -> None:
    """Draw the membership attacks of one victim into one figure, but for the controls."""
    curves, nonmembers = dict[str, Curve](), 0
    for result in results:
        if "auc" in result["results"] and not result["control"]:
            scored = read_scores(result["folder"])
            points = roc(scored.scores, scored.members)
            label = "AUC {value:.3f} [{low:.3f}, {high:.3f}]".format(**result["results"]["auc"])
            curves[f"{result['name']} {Path(result['folder']).name}"] = Curve(points.fpr, points.tpr, label)
            nonmembers = int(result["results"]["nonmembers"])
    if curves:
        plain = {name.partition(" ")[0] for name in curves}
        if len(plain) == len(curves):
            curves = {name.partition(" ")[0]: curve for name, curve in curves.items()}
        file.write_bytes(png(roc_figure(curves, nonmembers)))


def _count(settings: Settings, stages: Sequence[Ready], compared: Sequence[Defended]) -> int:
    """Return how many stages there will be."""
    victims = {row.trained for row in compared}
    shadows = {row.trained if row.adaptive else Defended().trained for row in compared}
    trained = len(victims) + (len(shadows) if settings.shadow is not None else 0)
    attacked = sum(is_run(stage, number) for number in range(len(compared)) for stage in stages)
    return len(settings.seeds) * (trained + attacked + len(compared) * bool(settings.defences))
