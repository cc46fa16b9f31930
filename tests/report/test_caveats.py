from typing import Any

import pytest

from seg_mia.report.build import build
from tests.report.audits import (
    audit,
    certified,
    compared,
    fool,
    guess,
    mean,
    promise,
    rate,
    scored,
    source,
    success,
)


def caveats(*attacks: dict[str, Any], **more: Any) -> str:
    report, _ = build(source(audit(attacks, **more)), images=False)
    return "\n".join([*report.warnings, *report.caveats])


def pooled(groups: int) -> dict[str, Any]:
    return dict(guess()["results"]) | {"groups": groups + 40, "members": 40, "nonmembers": groups}


def resolved() -> dict[str, Any]:
    attack = guess()
    for fpr in ("0.1", "0.01", "0.001"):
        attack["results"][f"tpr_at_fpr_{fpr}"] = rate(0.5, 0.4, 0.6)
    return attack


@pytest.mark.parametrize(
    ("said", "with_it", "without"),
    [
        ("adjusted for 2 membership attacks", [guess("mia-a"), guess("mia-b")], [guess()]),
        ("No blind baseline", [guess()], [guess(), guess("mia-blind", signal="ImageAndMask")]),
        ("No negative control", [guess()], [guess(), guess("mia-type2-control", control=True)]),
        ("reversed scores", [guess(auc=(0.3, 0.2, 0.4))], [guess(auc=(0.4, 0.3, 0.5))]),
        ("cannot be resolved", [guess()], [resolved()]),
        ("Only 29 patients", [guess(groups=pooled(29))], [guess(groups=pooled(30))]),
        ("40 attacked images show 5 patients", [fool(images=40, units=5)], [fool(images=40, units=40)]),
        ("limited to 16 samples", [guess(data=scored(limit=16))], [guess()]),
        (
            "3 of the victim's members were never trained on",
            [guess(data=scored(left_out={"victim": {"untrained": 3, "unlabelled": 0}, "shadow": {}}))],
            [guess(data=scored(left_out={"victim": {"untrained": 0}, "shadow": {"untrained": 3}}))],
        ),
        (
            "Data: 2 of 9 images are constant.",
            [guess(data=scored(notes=["2 of 9 images are constant"]))],
            [guess()],
        ),
        ("victim's distribution", [guess()], [fool()]),
        ("not trained with differential privacy", [guess()], [guess(privacy=promise())]),
        (
            "seed reproduces the noise",
            [guess(privacy=promise(reproducible=True))],
            [guess(privacy=promise())],
        ),
        (
            "another unit",
            [guess(privacy=promise(), certified=certified(unit="patient"))],
            [guess(privacy=promise(), certified=certified())],
        ),
        ("protects single images", [guess(privacy=promise(), groups=pooled(4))], [guess(privacy=promise())]),
        (
            "number of its images as public",
            [guess(privacy=promise())],
            [guess(privacy=promise(declared=True))],
        ),
        ("too large to rule out", [guess(privacy=promise(10.1))], [guess(privacy=promise(10.0))]),
        ("on only 29 images", [fool(images=29)], [fool(images=30)]),
        (
            "changes images visibly",
            [fool(results=fool()["results"] | {"ssim": mean(0.89)})],
            [fool(results=fool()["results"] | {"ssim": mean(0.9)})],
        ),
        (
            "before the attack",
            [fool(success=[success(clean_success=11)])],
            [fool(success=[success(clean_success=10)])],
        ),
        ("started from the same weights", [guess(same_seed=True)], [guess()]),
        (
            "separates members from non-members without querying",
            [guess("mia-blind", signal="ImageAndMask")],
            [guess()],
        ),
    ],
)
def test_a_caveat_stands_where_it_holds_alone(said: str, with_it: list[Any], without: list[Any]) -> None:
    assert said in caveats(*with_it)
    assert said not in caveats(*without)


def test_a_defence_that_the_attacker_does_not_know_is_named() -> None:
    rows = [compared(), compared(1, "crop"), compared(2, "mixup", shadow="defended")]
    assert 'For "crop" the attacker' in caveats(guess(), defences=rows)
