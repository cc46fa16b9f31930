"""The steps of an audit, carried out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from seg_mia.attacks.base import Preparation
from seg_mia.audit.canaries import read_canaries
from seg_mia.audit.inputs import data_of, may_name
from seg_mia.audit.ledger import Done, Ledger
from seg_mia.audit.preparation import training
from seg_mia.audit.settings import Defended, Settings, Training, shadow_count
from seg_mia.audit.stages import on_shadow, options, prepares
from seg_mia.audit.steps import Step, shadow_row
from seg_mia.callbacks.seen import UNSEEN
from seg_mia.checkpoint import Card, read_card
from seg_mia.data.base import SegmentationData
from seg_mia.defences.canaries import Canaries
from seg_mia.errors import InputError
from seg_mia.experiment.membership import adopted, check_members
from seg_mia.experiment.plan import plan
from seg_mia.membership.base import Membership
from seg_mia.results.audit import ATTACK_RESULT, Victim
from seg_mia.results.membership import MembershipResult
from seg_mia.results.perturbation import PerturbationResult
from seg_mia.results.privacy import guarantee
from seg_mia.runs import FLEET_SEED, SHADOW_SEED, checkpoint_file, defence_names, shadow_files

Special = Literal["DPSGD", "Canaries"]
"""A defence that leaves numbers of its own behind."""


@dataclass
class Rounds:
    """All that is done, seed by seed and row by row.

    Attributes:
        settings: of the audit.
        compared: its rows.
        ledger: what runs a stage, or takes it as it is.
        results: one per attack, in the order of the steps.
        victims: one per row and seed.
        done: what ran, or was taken, in the order of the steps; none where a checkpoint was given.
    """

    settings: Settings
    compared: Sequence[Defended]
    ledger: Ledger
    results: list[MembershipResult | PerturbationResult] = field(default_factory=list)
    victims: list[Victim] = field(default_factory=list)
    done: list[tuple[Step, Done]] = field(default_factory=list)
    files: dict[tuple[int, str, str], list[Path]] = field(default_factory=dict)
    prepared: dict[Preparation, Path] = field(default_factory=dict)

    def do(self, step: Step) -> Done | None:
        """Carry out one step; return what ran or was taken."""
        row = self.compared[step.row]
        match step.kind:
            case "victim" | "shadow":
                return self._train(step, row)
            case "utility":
                return self._measure(step, row)
            case "preparation":
                return self._prepare(step)
            case "attack":
                return self._attack(step, row)

    def _prepare(self, step: Step) -> Done:
        first = prepares(step.stage) if step.stage is not None else None
        assert first is not None
        done = self._ran(step, training(first.config, self.settings))
        self.prepared[first] = done.folder
        return done

    def _ran(self, step: Step, words: Sequence[str]) -> Done:
        done = self.ledger.run(words, name_of(step))
        self.done.append((step, done))
        return done

    def check(self, listed: Sequence[Step]) -> None:
        """Raise InputError for trainings and data that cannot be what they are called, before any."""
        guesses = any(step.stage is not None and isinstance(step.stage.attack, Membership) for step in listed)
        for step in listed:
            found = self._training(step) if step.kind in {"victim", "shadow"} else None
            if found is not None and guesses:
                self._check_stated(step, found)
            if found is None or isinstance(found, Path):
                continue
            what = plan(found)
            data = data_of(what)
            if data is not None:
                _check_half(step, data)
            for stage in (one.stage for one in listed if one.stage is not None and one.kind == "attack"):
                own = [word for word in stage.words if word.startswith("--data.")]
                data_of(replace(what, args=(*what.args, *own)))

    def _check_stated(self, step: Step, found: Path | list[str]) -> None:
        """Raise InputError for a network from elsewhere whose members would be drawn: before any training."""
        if isinstance(found, Path):
            card = read_card(found, trust=self.settings.trust)
            if step.kind == "shadow" and adopted(card) and (card.split or {}).get("role") == "shadow":
                raise InputError(
                    f"shadow {found} was trained elsewhere and its members here are drawn by chance; name a "
                    "config to train one with"
                )
            return
        what = plan(found)
        data = data_of(what) if what.adopt else None
        if data is not None:
            data.prepare_data()
            check_members(data, step.told)

    def may_have(self, what: Special, row: int) -> bool:
        """Say whether a row's victim may have a defence: what its config names, or its checkpoint shows."""
        found = self._training(Step("victim", 0, row, ""))
        if not isinstance(found, Path):
            return may_name(plan(found), what)
        card = read_card(found, trust=self.settings.trust)
        return card.privacy is not None if what == "DPSGD" else what in defence_names(card)

    def _training(self, step: Step) -> Path | list[str]:
        """Return the checkpoint that stands for a training, or the words that train."""
        row = self.compared[step.row]
        row = row if step.kind == "victim" else shadow_row(row)
        said = self.settings.victim if step.kind == "victim" else self.settings.shadow
        assert said is not None
        training = Training(said) if isinstance(said, str) else said
        training = Training(row.config) if row.config is not None else training
        path = Path(training.config)
        if path.is_dir() or (path.is_file() and path.suffix not in {".yaml", ".yml"}):
            if training.options or training.weights or row.defence or row.options:
                raise InputError(
                    f"{path} is trained already, options and defences are for a training; leave them out, or "
                    "name a config"
                )
            return shadow_files(path)[step.shadow] if step.kind == "shadow" else checkpoint_file(path)
        seed = self.settings.seeds[step.round] + SHADOW_SEED * (step.kind == "shadow")
        seed += FLEET_SEED * step.shadow
        command = "adopt" if training.weights else "fit"
        words = [command, "--config", training.config, "--runs", self.settings.runs]
        words += ["--seed_everything", str(seed)]
        words += [word for name in row.defence for word in ("--defence", name)]
        words += [*options("data.", self.settings.data), *options("model.", self.settings.model)]
        words += [f"--model.weights={training.weights}"] if training.weights else []
        if step.kind == "shadow":
            words += ["--role", "shadow"]
        if step.kind == "shadow" and shadow_count(self.settings) > 1:
            words.append(f"--data.shadow={step.shadow}")
        return [*words, *options("", training.options), *options("", row.options)]

    def _train(self, step: Step, row: Defended) -> Done | None:
        row = row if step.kind == "victim" else shadow_row(row)
        key = (step.round, step.kind, row.trained)
        found = self._training(step)
        done: Done | None = None
        if not isinstance(found, Path):
            done = self._ran(step, found)
            found = done.folder
        self.files.setdefault(key, []).append(found)
        return done

    def _sides(self, step: Step) -> tuple[Path, list[Path]]:
        row = self.compared[step.row]
        (victim,) = self.files[step.round, "victim", row.trained]
        return victim, self.files.get((step.round, "shadow", shadow_row(row).trained), [])

    def _measure(self, step: Step, row: Defended) -> Done:
        """Begin a row with what validation gives on non-members and members of the victim as deployed."""
        victim, shadows = self._sides(step)
        words = ["validate", "--victim", str(victim), *self._common(row)]
        words += options("data.", self.settings.data)
        utility = {}
        for subset in ("nonmembers", "members"):
            done = self._ran(step, [*words, f"--data.subset={subset}"])
            found = {name.removeprefix("val/"): value for name, value in done.summary.items()}
            utility[subset] = {name: value for name, value in found.items() if name != "privacy"}
        card = read_card(checkpoint_file(victim), trust=self.settings.trust)
        has_canaries = Canaries.__name__ in defence_names(card)
        self.victims.append(
            Victim(
                **self._place(step),
                victim=str(victim),
                shadow=("defended" if row.adaptive else "undefended") if shadows else None,
                utility=utility,
                privacy=guarantee(card.privacy, f"{victim}: what its card says of privacy"),
                about=about(card),
                has_canaries=has_canaries,
                canaries=read_canaries(victim) if has_canaries else None,
            )
        )
        return done

    def _place(self, step: Step) -> dict[str, Any]:
        row = self.compared[step.row].called
        return {
            "seed": self.settings.seeds[step.round],
            "round": step.round,
            "row": step.row,
            "defence": row,
        }

    def _attack(self, step: Step, row: Defended) -> Done:
        stage = step.stage
        assert stage is not None
        victim, shadows = self._sides(step)
        words = ["test", *stage.words, "--victim", str(victim), *self._common(row)]
        if on_shadow(stage):
            words += ["--attack.surrogate", str(shadows[0])]
        if (first := prepares(stage)) is not None:
            words += [f"--attack.{first.option}", str(self.prepared[first])]
        words += ["--seed_everything", str(self.settings.seeds[step.round])]
        if isinstance(stage.attack, Membership):
            asked = shadows[: stage.attack.scorer.needs.maximum]
            words += [word for shadow in asked for word in ("--shadow", str(shadow))]
            words += ["--control"] if stage.control else []
        done = self._ran(step, words)
        added = {
            "name": self._name(step, done.folder.parent.name),
            "label": stage.label,
            "victim_run": str(victim),
            "folder": str(done.folder),
            "headline": done.headline,
        }
        self.results.append(ATTACK_RESULT.validate_python(self._place(step) | added | done.summary))
        return done

    def _name(self, step: Step, folder: str) -> str:
        """Return what an attack's folder names it; that of a released victim also names the release."""
        names = [result.name for result in self.results if (result.round, result.row) == (step.round, 0)]
        alike = [name for name in names if folder.startswith(f"{name}-")]
        return folder if not step.row or folder in names or not alike else max(alike, key=len)

    def _common(self, row: Defended) -> list[str]:
        release = ["--release", row.release] if row.release else []
        trust = [word for name in self.settings.trust for word in ("--trust", name)]
        return ["--runs", self.settings.runs, *release, *trust]


def _check_half(step: Step, data: SegmentationData) -> None:
    """Raise InputError for a training on the other half of the data than its role's."""
    if data.role != step.kind:
        remedy = "leave data.role out" if step.kind == "shadow" else "add `options: {data.role: victim}`"
        raise InputError(
            f"the {step.kind} of an audit trains on its own half of the data, {step.told} has "
            f"data.role {data.role}; {remedy}"
        )
    if data.shadow_pool == "victim":
        raise InputError(
            "the shadows of an audit are trained on their own half of the data, got data.shadow_pool victim; "
            "leave it out, and run such attacks by `seg_mia test`"
        )


def about(card: Card) -> dict[str, Any]:
    """Return what a checkpoint says of itself, without the hashes of who is in it."""
    split = card.split or {}
    counts = {part: len(split[part]) for part in ("members", "nonmembers", "reference") if part in split}
    missing = {UNSEEN: len(split[UNSEEN])} if split.get(UNSEEN) else {}
    arguments = card.data["init_args"] if card.data else {}
    return {
        "network": card.network or card.model["init_args"].get("network"),
        "task": card.model,
        "data": card.data,
        "split": counts | missing | {"role": split.get("role"), "split_seed": arguments.get("split_seed")},
        "classes": card.classes,
        "channels": card.channels,
        "fingerprint": card.fingerprint,
        "training": card.training,
        "defences": defence_names(card),
    }


class Progress:
    """Says which step of how many begins, how long it has taken so far, and how long it may take yet.

    Args:
        steps: all of them.
        known: seconds that stages took when they were last run, by kind and what they were called.
        say: gets a line.
        clock: seconds, for the time so far.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        known: Mapping[str, float],
        say: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self.steps, self.say, self.clock = steps, say, clock
        self.known = dict(known)
        self.begun = clock()
        self.number = 0

    def begin(self, step: Step) -> None:
        """Say what begins."""
        self.number += 1
        left = self._left()
        self.say(f"stage {self.number} of {len(self.steps)}: {step.told}{f' ({left})' if left else ''}")

    def end(self, step: Step, done: Done | None) -> None:
        """Note how long it took, and say so where it was not run."""
        if done is None:
            self.say("  trained already")
        elif done.kept:
            self.say(f"  taken from {done.folder}, where the same has been run ({told(done.seconds)})")
        else:
            self.known[name_of(step)] = done.seconds

    def _left(self) -> str:
        names = [name_of(step) for step in self.steps[self.number - 1 :]]
        ahead = [self.known[name] for name in names if name in self.known]
        parts = [f"{told(self.clock() - self.begun)} so far"] if self.number > 1 else []
        if sum(ahead) >= 1:
            whole = len(ahead) == len(names)
            parts.append(f"up to {told(sum(ahead))} to go" if whole else f"{told(sum(ahead))} or more to go")
        return ", ".join(parts)


def name_of(step: Step) -> str:
    """Return what to call steps that take about as long as each other."""
    return f"{step.kind} {step.stage.name}" if step.stage else step.kind


def told(seconds: float) -> str:
    """Return a duration in words."""
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
