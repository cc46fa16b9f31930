"""What an attack needs in samples, patients, shadows and classes is known before any training."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from seg_mia.cli import main
from tests.trained_runs import Trained


@pytest.fixture
def victim(tiny: Path, folder: Callable[..., Path]) -> Path:
    """A training on 4 of 24 samples, with as many held out."""
    folder(count=24)
    tiny.write_text(tiny.read_text().replace("nonmembers: 2", "nonmembers: 4"))
    return tiny


def refused(victim: Path, text: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Run an audit that must end in one line before it trains anything; return the line."""
    Path("numbers_audit.yaml").write_text(f"{{version: 1, victim: {victim}, {text}}}")
    assert main(["audit", "--config", "numbers_audit.yaml", "--workers", "1"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert not list(Path("runs").glob("*/version_*"))
    return error


@pytest.mark.parametrize(
    ("text", "telling"),
    [
        (
            "shadow: {victim}, attacks: [mia-quantile]",
            "200 known non-members, got 8: .*--data.nonmembers 196",
        ),
        (
            "shadow: {{config: {victim}, options: {{data.members: 1}}}}, attacks: [mia-global-loss]",
            "at least 2 members in each half, .* the shadow's half has 1; .* more --data.members",
        ),
        ("shadow: {victim}, attacks: [mia-lira]", r"at least 2 shadows, got 1; .* fleet: \{count: 6\}"),
        (
            "shadow: {{config: {victim}, count: 4}}, attacks: [mia-lira]",
            r"2 shadows trained on it, 8 of 8 have fewer among 4; .* fleet: \{count: 8\}",
        ),
        (
            "shadow: {{config: {victim}, options: {{data.members: 2}}}}, attacks: [mia-type1]",
            "2 in other groups for validation, got 2 in 2 groups",
        ),
        (
            "attacks: [{{attack: asma, settings: {{target: white, target_class: 2}}}}]",
            "target_class must be below the 2 classes, got 2",
        ),
        (
            "fleet: {{count: 6}}, data: {{nonmembers: 1}}, attacks: [mia-base]",
            "at least 2 nonmembers in each half, .* the victim's half has 1",
        ),
        (
            "shadow: {victim}, attacks: [{{attack: mia-global-loss, data: {{limit: 1}}}}]",
            "--data.limit 1 leaves 1 of the victim's; raise the limit",
        ),
        ("attacks: [{{attack: universal, data: {{limit: 1}}}}]", "images of two patients, got 1"),
        (
            "attacks: [{{attack: certify, settings: {{groups: [[[0], [1], [2]]], thresholds: [0.2]}}}}]",
            "each of the classes 0 to 1 once",
        ),
    ],
)
def test_numbers_are_refused_before_any_training(
    victim: Path, text: str, telling: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(victim, text.format(victim=victim), capsys)
    assert re.search(telling, line), line


def test_a_given_victim_and_its_planned_shadow_are_checked_likewise(
    victim: Path, trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(victim)
    shadow = f"{{config: {victim}, options: {{data.nonmembers: 1}}}}"
    Path("numbers_audit.yaml").write_text(
        f"{{version: 1, victim: {run}, shadow: {shadow}, attacks: [mia-global-loss]}}"
    )
    assert main(["audit", "--config", "numbers_audit.yaml", "--workers", "1"]) == 2
    error = capsys.readouterr().err
    assert re.search("at least 2 nonmembers in each half, .* the shadow's half has 1", error), error
    assert not list(Path("runs").glob("*-shadow"))
