"""Audit folders made by hand, with numbers that can be worked out on paper."""

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seg_mia.report.load import StoredAudit
from seg_mia.results.audit import AuditResult
from seg_mia.results.pictures import png

SCORES = {"m0": 0.9, "m1": 0.8, "m2": 0.7, "m3": 0.2, "n0": 0.6, "n1": 0.5, "n2": 0.4, "n3": 0.3}
"""12 of the 16 pairs have the member above: AUC 0.75. m0, m1 and m2 are above every non-member."""


def interval(value: float, low: float, high: float) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high}


def rate(value: float, low: float, high: float, *, resolvable: bool = True) -> dict[str, Any]:
    return interval(value, low, high) | {"resolvable": resolvable}


def mean(value: float | None, std: float = 0.1) -> dict[str, Any]:
    return {"mean": value, "std": std, "min": 0.0, "median": value, "max": 1.0}


def guess(
    name: str = "mia-type2",
    *,
    auc: tuple[float, float, float] = (0.75, 0.6, 0.9),
    row: int = 0,
    round_: int = 0,
    defence: str = "none",
    signal: str = "PosteriorAndMask",
    **changes: Any,
) -> dict[str, Any]:
    place = {"seed": 7 + round_, "round": round_, "row": row, "defence": defence}
    victim = f"runs/victim_{row}/version_{round_}"
    results = {
        "auc": interval(*auc),
        "accuracy": interval(0.75, 0.5, 0.9),
        "balanced_accuracy": interval(0.75, 0.5, 0.9),
        "f1": interval(0.75, 0.5, 0.9),
        "tpr_at_fpr_0.1": rate(0.75, 0.25, 1.0, resolvable=False),
        "tpr_at_fpr_0.01": rate(0.75, 0.25, 1.0, resolvable=False),
        "tpr_at_fpr_0.001": rate(0.75, 0.25, 1.0, resolvable=False),
        "confusion": dict.fromkeys(
            ("true_positives", "false_positives", "true_negatives", "false_negatives"), 2
        ),
        "members": 4,
        "nonmembers": 4,
        "groups": 8,
        "threshold": 0.55,
    }
    attack = {"class_path": "seg_mia.membership.base.Membership"}
    settings = {"signal": {"class_path": f"seg_mia.membership.signals.{signal}"}}
    return (
        place
        | {"name": name, "label": name, "victim_run": victim, "folder": f"{victim}/{name}/version_0"}
        | {"headline": [], "kind": "membership", "attack": attack | {"init_args": settings}}
        | {
            "attacker_knowledge": "released probabilities",
            "victim": victim,
            "shadows": ["runs/shadow/version_0"],
        }
        | {"blind": signal == "ImageAndMask", "control": False, "release": None, "same_seed": False}
        | {"defences": {"victim": [], "shadow": []}, "privacy": None, "certified": None, "seeds": None}
        | {"published_mean_of_last_epochs": None, "data": scored(), "results": results, "groups": None}
        | changes
    )


def scored(**changes: Any) -> dict[str, Any]:
    """Return which samples a membership attack scored."""
    counts: dict[str, Any] = {
        "split_seed": 0,
        "limit": None,
        "left_out": {"victim": {}, "shadow": {}},
        "notes": [],
    }
    return {"fingerprint": "f" * 64} | counts | changes


def of_attack(
    label: str = "mia-type2",
    *,
    adjusted: float = 0.001,
    low: float = 0.6,
    kind: str = "auc",
    value: float = 0.75,
    seed: int = 7,
) -> dict[str, Any]:
    """Return one number of the test of all attacks on a row."""
    p_values = {"p_value": adjusted / 2, "adjusted": adjusted}
    return {"label": label, "seed": seed, "kind": kind, "value": value, "low": low} | p_values


def leaks(*numbers: Mapping[str, Any], row: int = 0, **changes: Any) -> dict[str, Any]:
    """Return the test of all attacks on a row."""
    sides = {"members": 4, "nonmembers": 4, "grouped": False, "permutations": 9999, "detectable": 0.98}
    return {"row": row, "confidence": 0.95} | sides | {"tested": list(numbers)} | changes


def _numbers(one: Mapping[str, Any]) -> list[dict[str, Any]]:
    label, found = str(one["label"]), []
    for kind, results in (("auc", one["results"]), ("groups.auc", one.get("groups"))):
        if results:
            value, low = results["auc"]["value"], results["auc"]["low"]
            adjusted = 0.001 if low > 0.5 else 0.5
            found.append(
                of_attack(label, adjusted=adjusted, low=low, kind=kind, value=value, seed=one["seed"])
            )
    return found


def _leaks(attacks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return tests by which an attack leaks where its own interval begins above 0.5."""
    rows: dict[int, list[dict[str, Any]]] = {}
    for one in attacks:
        if one["kind"] == "membership" and not one["control"] and not one["blind"]:
            rows.setdefault(one["row"], []).extend(_numbers(one))
    return [leaks(*numbers, row=row) for row, numbers in rows.items()]


def fool(
    name: str = "asma", *, row: int = 0, round_: int = 0, defence: str = "none", **changes: Any
) -> dict[str, Any]:
    place = {"seed": 7 + round_, "round": round_, "row": row, "defence": defence}
    victim = f"runs/victim_{row}/version_{round_}"
    results = {
        "dice_clean": mean(0.8),
        "dice_adversarial": mean(0.4),
        "iou_before": mean(0.2),
        "iou": mean(0.9),
        "iou_8bit": mean(0.89),
        "ssim": mean(0.95),
        "l2": mean(1.5),
        "linf": mean(8 / 255),
    }
    return (
        place
        | {"name": name, "label": name, "victim_run": victim, "folder": f"{victim}/{name}/version_0"}
        | {"headline": [], "kind": "perturbation", "victim": victim}
        | {"attack": {"class_path": "seg_mia.attacks.asma.Asma", "init_args": {"steps": 5}}}
        | {
            "attacker_knowledge": "weights",
            "is_targeted": True,
            "images": 101,
            "unchanged": 0,
            "results": results,
        }
        | {"units": changes.get("images", 101), "undefined": 0, "no_gradient": 0}
        | {"success": [], "strengths": []}
        | {"data": {"fingerprint": "f" * 64, "subset": "nonmembers", "role": "victim"}}
        | changes
    )


def checked(**changes: Any) -> dict[str, Any]:
    """Return the check of a victim whose gradients can be followed."""
    dice = {"dice": 0.7, "dice_more_steps": 0.69, "dice_larger_radius": 0.6, "dice_best": 0.6}
    others = {"dice_clean": 0.8, "dice_black_box": 0.75, "dice_unbounded": 0.0}
    return {"images": 4, "epsilon": 0.03, "zero_gradient": 0} | dice | others | changes


def effort(radius: float = 8 / 255, norm: str = "linf", **gradients: int) -> dict[str, Any]:
    """Return the effort of a search for each image's worst case, of shipped strength unless given."""
    spent = gradients or {"balanced_cross_entropy": 120, "dice": 120}
    return {"norm": norm, "radius": radius, "gradients": spent, "in_ball": spent, "reach": 2 * radius}


def strong(*, images: int = 400, after: float = 0.79, std: float = 0.1, **changes: Any) -> dict[str, Any]:
    """Return a strong attack that leaves this Dice of 0.8, with a check of the gradients."""
    made = fool("robustness-curve", is_targeted=False, images=images, worst_case=effort(), sanity=checked())
    dice = {"dice_clean": mean(0.8, std), "dice_adversarial": mean(after, std)}
    return made | {"results": dice} | changes


def certificate(**changes: Any) -> dict[str, Any]:
    """Return a certification of an undefended victim."""
    place = {"seed": 7, "round": 0, "row": 0, "defence": "none", "name": "certify", "label": "certify"}
    victim = "runs/victim_0/version_0"
    dice = {"dice_clean": 0.9, "dice_smoothed": 0.85, "dice_certified": 0.6, "abstained": 0.1}
    noise = {"sigma": 0.25, "radius": 0.17, "alpha": 1e-3, "draws": 100, "needed": 95, "passes": 110}
    return (
        place
        | {"victim_run": victim, "folder": f"{victim}/certify/version_0", "headline": [], "victim": victim}
        | {"kind": "certificate", "attack": {}, "attacker_knowledge": "any", "undefined": 0}
        | {"images": 40, "units": 20, "results": {name: mean(value) for name, value in dice.items()}}
        | {"data": {"fingerprint": "f" * 64, "subset": "nonmembers", "role": "victim"}}
        | noise
        | changes
    )


def success(loss: str = "fused", **changes: Any) -> dict[str, Any]:
    counts = {
        "images": 20,
        "skipped": 0,
        "clean_success": 4,
        "no_gradient": 0,
        "counted": 16,
        "successes": 12,
    }
    rates = {"rate": 0.75, "low": 0.48, "high": 0.93, "distortion": 2.5, "mean_iou": 0.5, "transferred": None}
    return {"target_kind": "random", "loss": loss} | counts | rates | changes


def promise(epsilon: float | None = 8.0, **changes: Any) -> dict[str, Any]:
    settings = {"delta": 1e-3, "budget": 8.0, "unit": "image", "units": 4, "noise": 1.0, "clip": 1.0}
    steps = {"rate": 0.5, "steps": 10, "accountant": "prv", "reproducible": False}
    return {"epsilon": epsilon} | settings | steps | changes


def certified(epsilon: float = 0.0, attainable: float = 2.0, **changes: Any) -> dict[str, Any]:
    return {
        "unit": "image",
        "delta": 0.01,
        "epsilon": epsilon,
        "attainable": attainable,
        "confidence": 0.95,
        "stricter": [{"confidence": 0.9999, "epsilon": epsilon, "attainable": attainable}],
    } | changes


def canaries(epsilon: float = 0.0, one_run: float = 0.0, **changes: Any) -> dict[str, Any]:
    """Return what an audit says of canaries in a training that promised epsilon 8 per image."""
    bounds = {
        name: {"attainable": 2.75, "confidence": 0.95, "epsilon": value, "rule": rule}
        | {"stricter": [{"confidence": 0.9999, "epsilon": value, "attainable": 2.75}]}
        for name, value, rule in (
            ("certified", epsilon, "members_above"),
            ("one_run", one_run, "one_run"),
        )
    }
    counts = {"inserted": 92, "left_out": 108, "auc": 0.875, "delta": 1e-3}
    return counts | bounds | {"privacy": promise()} | changes


def compared(row: int = 0, defence: str = "none", round_: int = 0, **changes: Any) -> dict[str, Any]:
    utility = {"nonmembers": {"dice": 0.8, "iou": 0.7}, "members": {"dice": 0.9, "iou": 0.85}}
    place = {"seed": 7 + round_, "round": round_, "row": row, "defence": defence}
    victim = {"victim": f"runs/victim_{row}/version_{round_}", "shadow": "undefended"}
    canaries = {"has_canaries": "canaries" in changes, "canaries": None}
    return place | victim | {"utility": utility, "privacy": None, "about": {}} | canaries | changes


def audit(attacks: Sequence[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
    place = {"name": "my_audit", "created": "2026-03-01T12:30:00+00:00", "tool": {}, "settings": {}}
    content = {"version": 3, "victims": [], "attacks": list(attacks), "seconds": 90.0, "stages": []}
    return place | content | {"leaks": _leaks(attacks), "defences": _victims(attacks)} | more


def _victims(attacks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the victims of attacks, of whose utility nothing is known."""
    victims: dict[tuple[int, int], dict[str, Any]] = {}
    for one in attacks:
        shadow = "undefended" if one.get("shadows") else None
        victims.setdefault(
            (one["round"], one["row"]),
            compared(
                one["row"],
                one["defence"],
                one["round"],
                seed=one["seed"],
                victim=one["victim_run"],
                shadow=shadow,
                utility={},
                privacy=one.get("privacy"),
            ),
        )
    return list(victims.values())


def write_audit(
    content: Mapping[str, Any], *, scores: Mapping[str, float] = SCORES, ids: Mapping[str, str] | None = None
) -> Path:
    """Write `runs/my_audit/version_0` where the test runs, with the attacks' files; return the folder."""
    folder = Path("runs/my_audit/version_0")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "audit.json").write_text(json.dumps(copy.deepcopy(content)))
    for attack in content["attacks"]:
        own = Path(attack["folder"])
        own.mkdir(parents=True, exist_ok=True)
        if attack["kind"] == "membership":
            lines = [
                f'"{(ids or {}).get(name, name)}",g-{name},{int(name[0] == "m")},{score},0'
                for name, score in scores.items()
            ]
            (own / "scores.csv").write_text("\n".join(["id,group,member,score,called_member", *lines]) + "\n")
            (own / "exposed.png").write_bytes(picture(*((ids or {}).get(name, name) for name in scores)))
        else:
            (own / "panel.png").write_bytes(picture((ids or {}).get("n0", "n0")))
    return folder


def picture(*names: str) -> bytes:
    """Return a sheet whose rows have names, in a column of white, beside pixels of black."""
    pixels = np.zeros((4, 60, 3), np.uint8)
    pixels[:, :49] = 255
    return png(pixels, names)


def full() -> dict[str, Any]:
    """Return an audit with all there can be: baselines, defences, seeds, perturbations, stages."""
    attacks = []
    rows = []
    for round_ in (0, 1):
        attacks += [
            guess("mia-blind", auc=(0.5, 0.4, 0.6), signal="ImageAndMask", round_=round_),
            guess(round_=round_, certified=certified(0.4)),
            guess("mia-type2-control", auc=(0.5, 0.4, 0.6), control=True, round_=round_),
            fool(round_=round_),
            fool("medis", round_=round_, success=[success("dice"), success()]),
            fool(
                "adain",
                round_=round_,
                is_targeted=False,
                strengths=[{"noise_mu": 0.1, "dice": 0.3, "ssim": None}],
            ),
        ]
        private = guess(
            row=1,
            defence="epsilon 8",
            auc=(0.55, 0.45, 0.65),
            privacy=promise(),
            round_=round_,
            certified=certified(),
            difference=interval(-0.2, -0.3, -0.1),
        )
        attacks += [private, fool(row=1, defence="epsilon 8", round_=round_)]
        about = {
            "network": {"class_path": "seg_mia.models.smp.Smp", "init_args": {"encoder": "resnet18"}},
            "data": {
                "class_path": "seg_mia.data.sets.kvasir.Kvasir",
                "init_args": {"root": "/home/somebody/data"},
            },
            "split": {"role": "victim", "members": 4, "nonmembers": 4, "split_seed": 0},
            "classes": 2,
            "defences": [],
        }
        rows += [
            compared(round_=round_, about=about),
            compared(1, "epsilon 8", round_, privacy=promise(), canaries=canaries(0.5, 0.25)),
        ]
    stage = {
        "name": "victim, seed 7",
        "command": "python -m seg_mia fit --config v",
        "seconds": 61.0,
        "cached": True,
        "kind": "victim",
    }
    return audit(
        attacks,
        name="my_audit",
        created="2026-03-01T12:30:00+00:00",
        tool={"seg_mia": "0.1.0", "cores": 2},
        settings={"victim": "v", "seeds": [7, 8]},
        defences=rows,
        stages=[stage | {"folder": "runs/victim_0/version_0"}],
    )


def source(content: Mapping[str, Any], folder: str = "runs/a/version_0") -> StoredAudit:
    """Return an audit as it is read from its folder."""
    return StoredAudit(Path(folder), AuditResult.read(content, "audit.json"))
