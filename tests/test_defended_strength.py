"""What the table of defended victims checks, keeps and follows."""

from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from benchmarks.strength import attacks
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
from benchmarks.strength.rows import share_of, strongest
from benchmarks.strength.victims import Attacked, Expected, Pair, noise_of, trained_victims
from seg_mia.attacks.asma import asma
from seg_mia.attacks.base import Adversarial
from seg_mia.attacks.sea import MEMBERS
from seg_mia.errors import InputError
from seg_mia.models.heads import class_logits
from tests.attacks.networks import discs, trained

CLEAN = torch.tensor([0.9, 0.8])


def left(**changed: list[float]) -> dict[str, Tensor]:
    """Return the Dice that five attacks leave, with some of it changed."""
    dice = {
        "PGD as shipped (10)": [0.6, 0.5],
        "PGD, as many gradients": [0.5, 0.4],
        "`sea`": [0.3, 0.2],
        "`square`": [0.8, 0.7],
        "`transfer`": [0.7, 0.7],
    }
    names = {name.strip("`"): name for name in dice}
    return {name: torch.tensor(dice[name]) for name in dice} | {
        names[name]: torch.tensor(values) for name, values in changed.items()
    }


def test_plausible_attacks_give_no_sign() -> None:
    assert failed_checks(CLEAN, {2: left(), 8: left(sea=[0.0, 0.0])}) == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"square": [0.1, 0.1]}, "`square` is stronger than all attacks on the weights at 8/255"),
        ({"sea": [0.5, 0.4]}, "PGD, as many gradients and `sea` leave the same to all digits at 8/255"),
        ({"transfer": [0.99, 0.99]}, "`transfer` raises the Dice"),
        ({"sea": [0.4, 0.4]}, "`sea` is weaker at 8/255 than at 2/255"),
        (
            {"PGD, as many gradients": [0.7, 0.7], "sea": [0.1, 0.1]},
            "more steps of PGD are weaker at 8/255",
        ),
    ],
)
def test_what_is_implausible_is_said(changed: dict[str, list[float]], words: str) -> None:
    assert words in failed_checks(CLEAN, {2: left(), 8: left(**changed)})


def test_the_expected_logits_are_those_of_the_mean_probability() -> None:
    x, network = torch.rand(2, 1, 3, 3, generator=torch.Generator().manual_seed(0)), trained()
    one = Expected(network, 1e-6, 1)(x)
    assert_close(one.softmax(1), class_logits(network(x)).softmax(1), atol=1e-4, rtol=0)
    followed = Expected(nn.Identity(), 0.5, 4096)
    level = torch.full((1, 1, 1, 1), 0.3, requires_grad=True)
    maps = followed(level)
    # The mean of a logistic under noise: by quadrature.
    grid = torch.linspace(-5, 5, 2001)
    weight = torch.exp(-(grid**2) / 2) / torch.exp(-(grid**2) / 2).sum()
    mean = ((0.3 + 0.5 * grid).sigmoid() * weight).sum()
    assert_close(maps.exp()[0, 1, 0, 0], mean, atol=0.01, rtol=0)
    assert torch.autograd.grad(maps[0, 1, 0, 0], level)[0] > 0
    assert torch.equal(followed(level), maps)  # one function, not a new draw of it


def test_an_image_has_the_same_gradient_whatever_else_is_in_the_batch() -> None:
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    followed = Expected(trained(), 0.3, 4)
    together = torch.autograd.grad(followed(x)[:, 1].sum(), x)[0]
    alone = torch.autograd.grad(followed(x[2:])[:, 1].sum(), x)[0]
    assert_close(together[2], alone[2])
    assert together[2].any()


def attacked(sigma: float | None) -> Attacked:
    """Return a small victim on three images."""
    shown, others = (Pair(*discs(3, seed)) for seed in (5, 6))
    return Attacked("victim", "digest", trained(), sigma, shown, others, 3)


@pytest.mark.parametrize("sigma", [None, 0.02])
def test_every_attack_of_a_ball_stays_in_it_and_is_worth_something(sigma: float | None) -> None:
    victim, budget = attacked(sigma), Budget(10, 10, 0, 0.001, 0, 0, None)
    clean = victim.dice(victim.shown.images)
    results = {part.name: part.run() for part in within(victim, victim, 0.04, budget)}
    assert len(results) == 11
    for name, values in results.items():
        assert (values["linf"] <= 0.04 + 1e-6).all()
        if not name.startswith(("`square`", "`universal`")):
            assert values["dice"].mean() < clean.mean() - 0.05


def test_results_and_victims_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.defended_strength import Results
    from benchmarks.strength import victims

    runs = list[Values]()

    def run() -> Values:
        runs.append({"dice": CLEAN})
        return runs[-1]

    def interrupted(values: Values, stream: Any) -> None:
        del values
        stream.write(b"half of it")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            Results(attacked(None), tmp_path).of(Part("name", "a key / 8", run))
    runs.clear()
    for _ in range(2):
        values = Results(attacked(None), tmp_path).of(Part("name", "a key / 8", run))
        assert_close(values["dice"], CLEAN)
    assert len(runs) == 1

    trainings = list[list[str]]()

    def train(words: list[str]) -> None:
        trainings.append(words)
        (Path(words[-1]) / "config" / "version_0").mkdir(parents=True)

    monkeypatch.setattr(victims, "train", train)
    for _ in range(2):
        found = trained_victims(tmp_path, ["--config", "c.yaml"])
    assert [words[2:-2] for words in trainings] == [[], ["--defence", "adversarial"], ["--defence", "noise"]]
    assert found["smoothed"] == tmp_path / "smoothed" / "config" / "version_0"
    with pytest.raises(InputError, match='"c.yaml".*, got .*"other.yaml"') as caught:
        trained_victims(tmp_path, ["--config", "other.yaml"])
    assert "\n" not in str(caught.value)
    assert len(trainings) == 3


def test_a_folders_victims_are_found_by_name_and_nothing_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.defended_strength import parsed, runs_of
    from benchmarks.strength import victims

    def given(*words: str) -> dict[str, str | Path]:
        monkeypatch.setattr("sys.argv", ["defended_strength.py", *words])
        return runs_of(parsed())

    def train(words: list[str]) -> None:
        raise AssertionError(words)

    monkeypatch.setattr(victims, "train", train)
    keep = ["--keep", str(tmp_path)]
    with pytest.raises(InputError, match="holds no trained victims; train them by --fit, or name runs"):
        given(*keep, "--attacks", "sea")
    for name, done in (("undefended", True), ("adversarial", True), ("smoothed", False)):
        (tmp_path / name / "config" / "version_0").mkdir(parents=True)
        if done:
            (tmp_path / name / "trained").write_text("[]")
    held = {name: tmp_path / name / "config" / "version_0" for name in ("undefended", "adversarial")}
    assert given(*keep, "--attacks", "sea", "pgd") == held
    assert given("adversarial", "runs/a", *keep) == {"adversarial": held["adversarial"], "runs/a": "runs/a"}
    assert given("adversarial") == {"adversarial": "adversarial"}
    for words in ([], [*keep, "--attacks", "none"], ["a", *keep, "--attacks", "sea", "--figure", "x.png"]):
        with pytest.raises(SystemExit):
            given(*words)


def test_rows_are_chosen_by_their_attack(tmp_path: Path) -> None:
    from benchmarks.defended_strength import Results, in_balls, table, unbounded

    victim, budget = attacked(None), Budget(10, 10, 2, 0.001, 2, 0, None)
    everything = [*within(victim, victim, 0.04, budget), *beyond(victim, budget), smallest(victim, budget)]
    kinds = {kind(part.name) for part in everything}
    assert kinds == {*IN_BALLS, *BESIDES} - {"adain", "certified"}  # which need a folder, and noise
    assert kind(certificate(attacked(0.25), budget).name) == "certified"

    chosen = Results(victim, tmp_path, ["sea", "pgd"])
    assert [line for line in unbounded(chosen, budget) if line] == []
    balls = in_balls(chosen, None, [8.0], budget)
    names = ["PGD as shipped (10)", EQUAL, "`sea`, 2 on each loss"]
    assert list(balls[8.0].dice) == names
    lines = [line for line in table(chosen, balls, budget) if line]
    first, second = "strongest single attack of 10 gradients", "lowest per image"
    assert [line.split("|")[1].strip() for line in lines][2:8] == [
        *names,
        first,
        f"{first}: share of {EQUAL}",
        "lowest per image of all 3 attacks, whose gradients add up",
    ]
    assert lines[8].startswith(f"| {second}: share of {EQUAL} |")
    assert not [line for line in lines if line.startswith("checks")], "of all attacks alone"
    kept = {file.name for file in tmp_path.rglob("*.pt")}
    assert len(kept) == 3
    whole = in_balls(Results(victim, tmp_path), None, [8.0], budget)
    assert torch.equal(whole[8.0].dice[names[2]], balls[8.0].dice[names[2]])

    besides = Results(victim, tmp_path, ["asma"])
    assert in_balls(besides, None, [8.0], budget) == {}
    assert list(table(besides, {}, budget)) == []


def test_the_losses_of_the_ensemble_are_shown_where_they_are_kept(tmp_path: Path) -> None:
    from benchmarks.defended_strength import Results, in_balls, table

    victim, budget = attacked(None), Budget(10, 0, 0, 0.001, 0, 0, None)

    def shown() -> list[str]:
        results = Results(victim, tmp_path, ["sea"])
        lines = list(table(results, in_balls(results, None, [8.0], budget), budget))
        return [
            line for line in lines if line.startswith(("| loss of", *(f"| `{loss}`" for loss in MEMBERS)))
        ]

    rows = shown()
    assert len(rows) == 1 + len(MEMBERS)
    assert sum(float(row.split("|")[2].split()[0]) for row in rows[1:]) == pytest.approx(1, abs=0.003)
    file = next(tmp_path.rglob("*.pt"))
    assert file.name == "_sea___2_on_each_loss_8_of_10.pt", "the key of earlier versions"
    values: Values = torch.load(file, weights_only=True)
    torch.save({name: values[name] for name in ("dice", "linf")}, file)
    assert shown() == [], "results of earlier versions"


@pytest.mark.usefixtures("thorough_checks")
def test_gradients_are_checked_once_and_said(tmp_path: Path) -> None:
    from benchmarks.defended_strength import Results, in_balls, table

    victim, budget = attacked(None), Budget(10, 5, 0, 0.001, 0, 0, None)
    results = Results(victim, tmp_path)
    lines = list(table(results, in_balls(results, None, [4.0, 8.0], budget), budget))
    found = [line for line in lines if line.startswith("checks of the gradients, 3 images, 8/255: ")]
    assert len(found) == 1
    assert "all five hold. Dice 0." in found[0]
    assert "no gradient on 0 of 3 images" in found[0]
    values = results.of(followed_gradients(victim))
    blocked = {**values, "zero_gradient": torch.tensor([True, False, False])}
    blocked["dice_unbounded"] = torch.full((3,), 0.5)
    said = gradients_in_words(blocked, victim)
    assert "the loss has no gradient on 1 of 3 images; an unbounded attack leaves a Dice of 0.500" in said


def test_the_strongest_single_attack_has_as_many_gradients() -> None:
    dice = {EQUAL: [0.5, 0.4], "`sea`, 2": [0.1, 0.6], "`apgd`, `dice`": [0.2, 0.3], "`transfer`": [0.0, 0.0]}
    assert strongest({name: torch.tensor(values) for name, values in dice.items()}) == "`apgd`, `dice`"


def test_a_share_has_an_interval_over_patients() -> None:
    reference = torch.linspace(0.2, 0.9, 12)
    assert share_of(reference / 2, reference) == "0.500 [0.500, 0.500]"
    # Two patients: a resample has one of them twice, or both.
    halves = torch.tensor([0.1, 0.1, 0.4, 0.4]), torch.tensor([0.5, 0.5, 0.5, 0.5])
    assert share_of(*halves, ("a", "a", "b", "b")) == "0.500 [0.200, 0.800]"
    assert share_of(torch.zeros(3), torch.zeros(3)) == "none: PGD leaves 0"
    undefined = torch.tensor([0.25, float("nan")]), torch.tensor([0.5, 0.5])
    assert share_of(*undefined) == "0.500 [0.500, 0.500]"


def test_asma_also_runs_as_published(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from benchmarks.defended_strength import Results, unbounded

    victim, given = attacked(None), list[dict[str, Any]]()

    def noted(*arrays: Any, **settings: Any) -> Adversarial:
        given.append(settings)
        return asma(*arrays, **{**settings, "steps": 3})

    monkeypatch.setattr(attacks, "asma", noted)
    short, both = (Budget(10, 0, 0, 0.001, steps, 0, None, True) for steps in (0, 5))
    lines = [line for line in unbounded(Results(victim, tmp_path, ["asma"]), both) if line]
    published = {"steps": 2501, "tau": 1e-7, "beta": 1e-6, "keep": "last"}
    assert given == [{"steps": 5, "tau": 1e-6, "beta": 1e-5}, published]
    assert lines[0].startswith("| `asma` to another mask, 5 steps ten times the paper's |")
    assert lines[1].startswith("| `asma` to another mask, the paper's 2501 steps |")
    assert all("IoU with that mask" in line for line in lines)
    assert [part.name for part in beyond(victim, short)] == ["`asma` to another mask, the paper's 2501 steps"]

    shipped = signature(asma).parameters
    assert {name: shipped[name].default for name in ("steps", "tau", "beta")} == {
        name: published[name] for name in ("steps", "tau", "beta")
    }
    earlier = victim_results(tmp_path)
    earlier.pop("target_iou")
    torch.save(earlier, next(tmp_path.rglob("*ten_times*.pt")))
    lines = [line for line in unbounded(Results(victim, tmp_path, ["asma"]), both) if line]
    assert len(given) == 2, "both are kept"
    assert "IoU" not in lines[0]
    assert "IoU" in lines[1]


def victim_results(folder: Path) -> Values:
    """Return the kept results of the short form of ASMA."""
    kept: Values = torch.load(next(folder.rglob("*ten_times*.pt")), weights_only=True)
    return kept


def test_keys_hold_all_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    def keys(texture: str) -> set[str]:
        budget = Budget(10, 0, 0, 0.001, 5, 20, texture)
        return {part.key for part in (*beyond(attacked(0.25), budget), certificate(attacked(0.25), budget))}

    before = keys("one")
    assert len(before) == 5
    assert len(before & keys("other")) == 4
    for name, value in (("TAU", 0.9), ("ALPHA", 0.01), ("FIRST", 20)):
        with monkeypatch.context() as patch:
            patch.setattr(attacks, name, value)
            assert len(before & keys("one")) == 4


def test_the_noise_of_a_victim_is_that_of_its_defence() -> None:
    noise = "seg_mia.defences.noise.GaussianNoise"
    assert noise_of([{"class_path": noise, "init_args": {"sigma": 0.5}}]) == 0.5
    assert noise_of([{"class_path": noise}]) == 0.25
    other = {"class_path": "my_defences.Blur", "init_args": {"sigma": 3.0}}
    assert noise_of([{"class_path": "my_defences.Nothing"}, other]) is None
