"""Paired measurements: ratios are right, a result that differs is told, and baselines give the same."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks import run
from benchmarks.run import line
from benchmarks.suite import asma_pairs, attacks, device, published
from benchmarks.suite.asma_pairs import Victim, pair_of_doubles, pair_of_floats, pair_of_halves
from benchmarks.suite.pairs import Figure, Pair, measure
from benchmarks.suite.published import MedisRuns
from seg_mia.attacks.asma import asma
from seg_mia.attacks.base import Adversarial
from seg_mia.attacks.medis import medis
from seg_mia.models.heads import predicted
from tests.attacks.networks import discs, trained

ROOT = Path(__file__).parents[1]


def slept(duration: float, result: float) -> float:
    time.sleep(duration)
    return result


def pair(theirs: float, *, target: float = 2.0) -> Pair:
    return Pair(
        name="sleep",
        ours=lambda: slept(0.1, 1.0),
        baseline=lambda: slept(0.4, theirs),
        what="four times the pause",
        target=target,
        difference=lambda ours, baseline: abs(ours - baseline),
        allowed=0.1,
    )


def test_a_ratio_is_that_of_the_baseline_to_ours() -> None:
    measured = measure(pair(1.0), 2)
    assert measured.lowest <= measured.ratio <= measured.highest
    assert measured.ratio == pytest.approx(4, rel=0.5)
    assert measured.met
    assert "2, met" in line(measured)
    assert "**missed**" in line(measure(pair(1.0, target=40.0), 1))


@pytest.mark.parametrize("repeats", [0, 1, 4])
def test_what_a_run_takes_once_is_no_part_of_the_ratio(repeats: int, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    def taking(duration: float) -> float:
        clock[0] += duration
        return 1.0

    # Ours takes 5 s and 0.5 s an epoch, the baseline 1 s and 2 s an epoch: two epochs after four.
    whole, brief = (8.0, 13.0), (7.0, 9.0)
    ours, baseline, *less = (partial(taking, duration) for duration in (*whole, *brief))
    paired = replace(pair(1.0), ours=ours, baseline=baseline, brief=tuple(less), share=2.0)
    measured = measure(paired, repeats)
    assert measured.seconds == pytest.approx(1)
    assert measured.baseline_seconds == pytest.approx(4)
    assert measured.ratio == pytest.approx(4)
    assert measured.once == pytest.approx(4)
    assert "| 1 and 4 once | 4 |" in line(measured)


def test_without_repetitions_the_times_are_those_of_the_compared_runs() -> None:
    measured = measure(pair(1.0), 0)
    assert measured.repetitions == 1
    assert measured.ratio == pytest.approx(4, rel=0.5)
    assert measured.equal


def test_results_that_differ_meet_no_target() -> None:
    measured = measure(pair(1.2), 1)
    assert measured.difference == pytest.approx(0.2)
    assert not measured.equal
    assert not measured.met
    assert "**results differ**" in line(measured)


@pytest.mark.parametrize(("theirs", "code"), [(1.0, 0), (1.2, 1)])
def test_a_result_that_differs_fails_the_run(
    theirs: float, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = [Figure("memory", "MiB", [3.0, 5.0, 4.0], limit=3.5), Figure("share", "", [0.25])]
    monkeypatch.setattr(run, "GROUPS", {"sleep": lambda _: iter([pair(theirs)])})
    monkeypatch.setattr(run, "FIGURES", {"limits": lambda *_: iter(limits)})
    monkeypatch.setattr(sys, "argv", ["run.py", "--quick", "--json", "speed.json"])
    assert run.main() == code
    said = capsys.readouterr().out
    assert ("**results differ**" in said) == bool(code)
    assert "| memory | 4 MiB (3 to 5, 3) | | | at most 3.5 MiB, **missed** | |" in said  # a miss is no error
    assert "| share | 0.25 | | |  | |" in said
    written = json.loads(Path("speed.json").read_text())
    assert [row["equal"] for row in written["pairs"]] == [not code]
    assert [row["met"] for row in written["figures"]] == [False, True]


def test_a_rate_is_that_of_the_images() -> None:
    assert "0.5 (8 images/s) | 1 (4 images/s)" in line(
        replace(measure(pair(1.0), 1), seconds=0.5, baseline_seconds=1.0, images=4)
    )
    assert "images/s" not in line(measure(pair(1.0), 1))


@pytest.mark.slow(200)
def test_everything_is_measured_in_small() -> None:
    words = [sys.executable, str(ROOT / "benchmarks" / "run.py"), "--quick", "--device=cpu", "--json=s.json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads(Path("s.json").read_text())
    names = {row["name"] for row in written["pairs"]}
    assert {
        "ASMA, float32",
        "texture, nine strengths",
        "membership, four signals",
        "fit, further epochs",
    } <= names
    assert {"SEA, 2 images on cpu", "ASMA, channels last, 2 images on cpu"} <= names
    assert ("ASMA, bfloat16" in names) == asma_pairs.has_bfloat16()
    assert ("left out: ASMA, bfloat16" in done.stdout) != asma_pairs.has_bfloat16()
    assert all(row["equal"] for row in written["pairs"])
    figures = {row["name"]: row["median"] for row in written["figures"]}
    waits = {name for name in figures if name.startswith("waits in an iteration")}
    assert len(waits) == 3
    share = "2 networks on cpu, two at a time, share of time without training"
    assert 0 < figures[share] < 1
    kept, again = (
        figures[f"memory of a further image, {name}"] for name in ("pgd", "pgd, --model.checkpointing true")
    )
    assert 0 < again < kept
    assert {"--help", "fit, first batch of 20 cached slices"} <= set(figures)


def test_a_wait_is_a_value_that_the_processor_reads() -> None:
    values = torch.ones(3)

    def work(steps: int) -> None:
        values.sum().item()  # once, which is no iteration's
        for _ in range(steps):
            assert values.min().item() == values.max().item()
            values.nonzero()
            values.long().bincount()

    assert device.waits(work, "cpu", steps=2) == 4
    assert device.waits(lambda steps: [values.mul_(1) for _ in range(steps)], "cpu", steps=2) == 0


def test_an_iteration_of_asma_waits_for_nothing(attacked: Victim) -> None:
    assert device.waits(lambda steps: asma(*attacked, steps=steps), "cpu", steps=2) == 0


PAIRS = pytest.mark.parametrize("maker", [pair_of_floats, pair_of_doubles, pair_of_halves])
Maker = Callable[[Victim, int], Pair]
STEPS = 8


@pytest.fixture
def attacked() -> Victim:
    """A trained network, images whose greatest change stays within [0, 1], and masks elsewhere."""
    x, mask = discs(3, 3)
    return Victim(trained(), 0.25 + x / 2, mask.roll(8, 2))


@PAIRS
def test_a_loop_of_asma_changes_images_alike(maker: Maker, attacked: Victim) -> None:
    assert measure(maker(attacked, STEPS), 1).equal


def test_the_pair_in_bfloat16_is_rounded(attacked: Victim) -> None:
    pair = pair_of_halves(attacked, STEPS)
    assert 1e-4 < pair.difference(pair.ours(), pair.baseline()) < asma_pairs.HALF


def test_steps_of_the_pairs_move_the_mask(attacked: Victim) -> None:
    moved = asma_pairs.published_loop(attacked, STEPS)
    agreeing = [
        (predicted(attacked.model(images)) == attacked.targets).flatten(1).double().mean(1)
        for images in (attacked.images, moved)
    ]
    assert (agreeing[1] > agreeing[0] + 0.01).all()


def unchanged(images: Tensor) -> Tensor:
    return images


def turned(images: Tensor) -> Tensor:
    """Change an image into a direction that has nothing to do with the attack."""
    return images + 0.05 * torch.sin(torch.arange(images.numel()).view_as(images) * 12.9898).to(images)


@PAIRS
@pytest.mark.parametrize("other", [unchanged, turned])
def test_a_way_that_does_not_attack_fails(
    maker: Maker, other: Callable[[Tensor], Tensor], attacked: Victim
) -> None:
    pair = maker(attacked, STEPS)
    assert not measure(replace(pair, ours=lambda: other(attacked.images)), 1).equal


@PAIRS
def test_a_change_of_half_the_length_fails(maker: Maker, attacked: Victim) -> None:
    pair = maker(attacked, STEPS)
    shorter = (pair.baseline() + attacked.images) / 2
    assert not measure(replace(pair, ours=lambda: shorter), 1).equal


def test_the_loop_of_medis_needs_the_same_steps() -> None:
    x, mask = discs(3, 3)
    target = torch.ones_like(mask)
    ours = medis(trained(), x, target, history=True)
    theirs = published.medis(trained(), x, target, losses=["bce_dice", "lovasz_hinge"])
    for name, counts in theirs.counts.items():
        steps = torch.where(ours.notes[f"{name}.success"] > 0, ours.notes[f"{name}.steps"], 11)
        assert steps.long().tolist() == counts
        assert ours.history[f"{name}.mean_iou"][-1].tolist() == pytest.approx(theirs.overlaps[name], abs=0.01)


@pytest.mark.parametrize(
    ("counts", "difference"),
    [
        ([[3, 5], [11, 0]], 0.0),  # half of the runs succeed on the way
        ([[3, 6], [11, 0]], 0.25),
        ([[3, 7], [11, 0]], torch.inf),  # a run that needs two steps more
        ([[3, 10], [11, 0]], torch.inf),  # one succeeds at its last step
        ([[11, 11], [11, 11]], torch.inf),
        ([[0, 0], [0, 0]], torch.inf),
    ],
)
def test_runs_of_medis_that_are_equally_long_in_both_ways_fail(
    counts: list[list[int]], difference: float
) -> None:
    notes = {"a": torch.tensor([3, 5]), "b": torch.tensor([10, 0])}
    ours = {f"{name}.steps": steps for name, steps in notes.items()}
    ours |= {"a.success": torch.tensor([1, 1]), "b.success": torch.tensor([0, 1])}
    theirs = MedisRuns(dict(zip(notes, counts, strict=True)), {})
    assert attacks.other_counts(Adversarial(torch.empty(0), ours), theirs, steps=10) == difference


@pytest.mark.parametrize(
    ("reached", "recorded", "difference"),
    [
        ([[0.4, 0.3], [0.5, 0.2]], 3, 0.0),
        ([[0.4, 0.3], [0.5, 0.3]], 3, 0.1),
        ([[0.4, 0.3], [0.5, 0.2]], 2, torch.inf),  # not all steps were taken
        ([[0.2, 0.2], [0.5, 0.2]], 3, torch.inf),  # three of four runs change nothing
    ],
)
def test_equal_steps_of_medis_must_reach_the_same(
    reached: list[list[float]], recorded: int, difference: float
) -> None:
    ends = {"a": torch.tensor([0.4, 0.3]), "b": torch.tensor([0.5, 0.2])}
    history = {
        f"{name}.mean_iou": torch.stack([torch.full((2,), 0.2)] * (recorded - 1) + [end])
        for name, end in ends.items()
    }
    theirs = MedisRuns({}, dict(zip(ends, reached, strict=True)))
    found = attacks.off_overlap(Adversarial(torch.empty(0), {}, history), theirs, steps=2)
    assert found == pytest.approx(difference)


def test_targets_that_are_met_without_an_attack_are_no_pair(attacked: Victim) -> None:
    everywhere = attacked._replace(targets=torch.ones_like(attacked.targets))
    assert measure(next(attacks.medis_pairs(everywhere)), 0).equal
    with torch.no_grad():
        met = attacked._replace(targets=predicted(attacked.model(attacked.images)))
    assert not measure(next(attacks.medis_pairs(met)), 0).equal


def test_the_loop_of_the_texture_attack_gives_the_same_images() -> None:
    torch.manual_seed(0)
    (pair, _) = attacks.texture_pairs(48, 2)
    assert measure(pair, 0).equal
    assert not measure(replace(pair, ours=lambda: 1 - pair.ours()), 0).equal
    black = torch.zeros(2, 1, 48, 48)
    assert not measure(replace(pair, ours=lambda: black, baseline=lambda: black), 0).equal
