"""The numbers that sum up a run, in words."""

import json
import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

BOUNDS = {
    "gaussian": "exact for this mechanism",
    "prv": "by the accountant's curve, prv",
    "rdp": "by the accountant's curve, rdp",
    "point": "by epsilon and delta alone",
}
"""What the most that is permitted follows from, by `Permitted.by`."""


def utility_headline(summary: Mapping[str, Any]) -> list[str]:
    """Return how well a network segments, what its training promised, and what a trigger does to it."""
    names = [name for name in ("val/dice", "val/iou", "val/loss", "train/dice") if name in summary]
    lines = ["   ".join(f"{name} {summary[name]:.3f}" for name in names)] if names else []
    if not all(math.isfinite(summary[name]) for name in names):
        lines.append("WARNING: the loss is no number, the network has diverged; lower --model.lr")
    if likeness := [name for name in sorted(summary) if name.startswith("val/ssim_")]:
        own = ", ".join(f"{summary[name]:.3f}" for name in likeness)
        lines.append(f"SSIM of held-out images and their reconstructions, levels 1 to {len(likeness)}: {own}")
    if "privacy" in summary:
        lines.append(privacy_headline(summary["privacy"]))
    if "val/triggered_area" in summary:
        areas = {name: summary[f"val/{name}"] for name in ("area", "triggered_area", "triggered_success")}
        lines.append(lost(*areas.values()))
    return lines


def privacy_headline(promise: Mapping[str, Any]) -> str:
    """Return what a differentially private training has spent, and of what unit."""
    spent = "infinite (no noise)" if promise["epsilon"] == float("inf") else f"{promise['epsilon']:.3g}"
    budget = f" of {promise['budget']:g}" if promise["budget"] is not None else ""
    void = "; void against whoever knows the seed" if promise["reproducible"] else ""
    units = "units as declared" if promise.get("declared") else "units, their number taken as public"
    permitted = f"; permits {permits(promise['permitted'])}" if "permitted" in promise else ""
    return (
        f"privacy spent: epsilon {spent}{budget} at delta {promise['delta']:.3g} per {promise['unit']} "
        f"({promise['units']} {units}, noise {promise['noise']:.3g}, clip {promise['clip']:g}, sampling rate "
        f"{promise['rate']:.3g}, {promise['steps']} steps, accountant {promise['accountant']})"
        f"{permitted}{void}"
    )


def permits(permitted: Mapping[str, Any]) -> str:
    """Return what attacks may reach at most under a promise, rounded up, and what it follows from.

    Args:
        permitted: fields of `seg_mia.membership.tradeoff.Permitted`.
    """
    at_10 = _rounded_up(permitted["tpr_at_10"])
    return f"{permits_at_1(permitted)} and {at_10} at 10 % ({BOUNDS[permitted['by']]})"


def permits_at_1(permitted: Mapping[str, Any]) -> str:
    """Return the same for a table's cell, at the lower false positive rate alone."""
    auc, at_1 = (_rounded_up(permitted[name]) for name in ("auc", "tpr_at_1"))
    return f"AUC up to {auc}, TPR up to {at_1} at 1 % FPR"


def _rounded_up(value: float) -> str:
    return f"{math.ceil(value * 1000 - 1e-6) / 1000:.3f}"


def certified_headline(
    certified: Mapping[str, Any], promise: Mapping[str, Any] | None, *, unit: str | None = None
) -> str:
    """Return the epsilon that an attack proves, what it could have proved, and what was promised.

    Args:
        certified: fields of `seg_mia.membership.certify.Certified`.
        promise: of the victim, if it made one.
        unit: whose presence was guessed; what is proved of patients says nothing about a promise for images.
    """
    least = certified["epsilon"]
    proof = f"proves epsilon >= {least:.2f}" if least else "proves no epsilon, which is no sign of privacy"
    line = (
        f"{proof} ({certified['confidence']:.0%} confidence; perfect guesses on as many would prove "
        f"{certified['most']:.2f})"
    )
    if promise is None or promise["epsilon"] == float("inf"):
        return f"{line}; none was promised"
    if unit is not None and unit != promise["unit"]:
        return (
            f"{line} per {unit}; {promise['epsilon']:.3g} was promised per {promise['unit']}, not comparable"
        )
    broken = "" if certified["epsilon"] <= promise["epsilon"] else ", WHICH IS BROKEN"
    return f"{line}; {promise['epsilon']:.3g} was promised{broken}"


def canary_headline(found: Mapping[str, Any]) -> str:
    """Return how well canaries were found again, and what that proves."""
    one_run, promise = found["one_run"], found["privacy"]
    broken = promise is not None and one_run["epsilon"] > promise["epsilon"] >= found["certified"]["epsilon"]
    return (
        f"canaries: {found['inserted']} inserted, {found['left_out']} left out, AUC {found['auc']:.3f}, "
        f"{certified_headline(found['certified'], promise)}; without supposing samples of one run "
        f"independent >= {one_run['epsilon']:.2f} (of {one_run['most']:.2f})"
        f"{', ABOVE THE PROMISE, WHICH IS BROKEN' if broken else ''}"
    )


def attack_headline(name: str, summary: Mapping[str, Any]) -> list[str]:
    """Return one line on what an attack reached, and what its attacker had to see."""
    if "auc" in summary["results"]:
        return _membership(name, summary)
    return _perturbation(name, summary)


def _perturbation(name: str, summary: Mapping[str, Any]) -> list[str]:
    lines = [f"{name} (sees {summary['sees']}), {_fooled(summary)}", *warnings({**summary, "name": name})]
    if rows := summary.get("success"):
        lines += aligned(success_table(rows), "  ")
    if stopped := _stopped(summary):
        lines.append(stopped)
    return lines


def without_gradient(sees: str, stopped: int, images: int) -> str:
    """Return what an attacker sees, with the images of which it sees no gradient that it could follow."""
    return f"{sees}, no gradient of {stopped} of {images} images" if stopped else sees


def _stopped(summary: Mapping[str, Any]) -> str:
    """Return a line where an attack had no gradients to follow, empty where it had."""
    last = (summary.get("success") or [None])[-1]
    if last is not None and last["no_gradient"] and not last["counted"]:
        which = "any image that was not a success from the start"
    elif 2 * summary.get("no_gradient", 0) > summary["images"]:
        which = f"{summary['no_gradient']} of {summary['images']} images"
    else:
        return ""
    return (
        f"  WARNING: no gradient reached {which}: this says nothing of robustness, and more steps would not "
        "either. A layer stops it; replace that one (--attack.replace)"
    )


def success_table(rows: Sequence[Mapping[str, Any]], *, markdown: bool = False) -> list[list[str]]:
    """Return the cells of a table of success rates, its header first.

    Args:
        rows: of `seg_mia.results.success.success_rows`.
        markdown: put a ruler below the header.
    """
    named = any("attack" in row for row in rows)
    header = [
        *(["attack"] if named else []),
        "asked for",
        "loss",
        "images",
        "skipped",
        "clean",
        "no gradient",
        "counted",
        "success rate",
    ]
    header += ["distortion, steps", "mean IoU"]
    carried = any(row["transferred"] is not None for row in rows)
    table = [[*header, *(["rate on the victim from the surrogate"] if carried else [])]]
    if markdown:
        table.append(["---"] * len(table[0]))
    for row in rows:
        counts = [str(row[name]) for name in ("images", "skipped", "clean_success", "no_gradient", "counted")]
        rate = "none" if row["rate"] is None else "{rate:.3f} [{low:.3f}, {high:.3f}]".format(**row)
        cells = [
            *([row["attack"]] if named else []),
            row["asked"],
            row["loss"],
            *counts,
            rate,
            _number(row["distortion"], 2),
        ]
        cells += [_number(row["mean_iou"], 3), *([_number(row["transferred"], 3)] if carried else [])]
        table.append(cells)
    return table


def aligned(table: Sequence[Sequence[str]], indent: str = "") -> list[str]:
    """Return a table's lines, its columns as wide as they need."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        indent + "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in table
    ]


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _membership(name: str, summary: Mapping[str, Any]) -> list[str]:
    results = summary["results"]
    asked = ", the shadow asked instead (negative control)" if summary["control"] else ""
    lines = [
        f"{name} (sees {summary['sees']}{asked}), {results['members']} members, {results['nonmembers']} "
        f"non-members: AUC {interval(results['auc'])}, balanced accuracy "
        f"{interval(results['balanced_accuracy'])}, TPR {low_fpr(results)}"
    ]
    certified = summary.get("certified")
    if certified and not summary["control"] and not blind(summary):
        lines.append(f"  {certified_headline(certified, summary.get('privacy'), unit=certified['unit'])}")
    if summary["same_seed"]:
        lines.append(
            "  victim and shadow began with the same weights, which an attacker cannot arrange: train the "
            "shadow with another --seed_everything"
        )
    if groups := summary.get("groups"):
        lines.append(f"  pooled over {groups['groups']} groups: AUC {interval(groups['auc'])}")
    if seeds := summary.get("seeds"):
        spread = seeds["auc"]
        lines.append(f"  {len(spread['values'])} seeds: AUC {spread['mean']:.3f} +- {spread['std']:.3f} each")
    if last := summary.get("published_mean_of_last_epochs"):
        lines.append(
            f"  mean over the last {last['epochs']} epochs, as published: accuracy {last['accuracy']:.3f}, "
            f"F1 {last['f1']:.3f}"
        )
    return lines


def interval(measure: Mapping[str, float]) -> str:
    """Return a value with its 95 % interval."""
    return f"{measure['value']:.3f} [{measure['low']:.3f}, {measure['high']:.3f}]"


def low_fpr(results: Mapping[str, Any]) -> str:
    """Return the true positive rates at low false positive rates, marked where too few non-members."""
    parts = [
        f"{results[name]['value']:.3f}{'' if results[name]['resolvable'] else ' (unresolvable)'} at FPR {fpr}"
        for name, fpr in (
            ("tpr_at_fpr_0.1", "10 %"),
            ("tpr_at_fpr_0.01", "1 %"),
            ("tpr_at_fpr_0.001", "0.1 %"),
        )
    ]
    return ", ".join(parts)


def warnings(result: Mapping[str, Any]) -> list[str]:
    """Return what makes an audit's numbers void: a baseline or control better than chance, a floor not met.

    The first two can be better than chance for a reason, and worse only by chance: halves of one split do
    not lie.
    """
    results = result["results"]
    if "above_floor" in results:
        return _below_floor(result)
    if "auc" not in results or results["auc"]["low"] <= 0.5:
        return []
    if blind(result):
        return [
            f"WARNING: {result['name']} tells members from non-members without the victim, AUC "
            f"{interval(results['auc'])}: the split itself leaks and no membership result below means "
            "anything, or it is the one fair split in forty whose interval lies above 0.5: try another "
            "split_seed"
        ]
    if result["control"]:
        return [
            f"WARNING: {result['name']} guesses about samples that the asked network never saw, AUC "
            f"{interval(results['auc'])}: this split's members are easier by chance, which adds to every "
            "attack's AUC, or the split has a fault; compare another split_seed"
        ]
    return []


def blind(result: Mapping[str, Any]) -> bool:
    """Return whether a membership attack never asks the victim."""
    signal = (result["attack"].get("init_args") or {}).get("signal") or {}
    return str(signal.get("class_path")).endswith(".ImageAndMask")


def _below_floor(result: Mapping[str, Any]) -> list[str]:
    """Return a line where some images' SSIM is below the floor that was set, whatever the strength."""
    images = result["images"]
    below = images - round(result["results"]["above_floor"]["mean"] * images)
    if not below:
        return []
    floor = result["attack"]["init_args"]["ssim_floor"]
    return [
        f"WARNING: {_called(result)}: no strength met the SSIM floor of {floor:g} on {below} of {images} "
        "images, which keep the one of highest SSIM; try other noise_mu and noise_sigma, or lower ssim_floor"
    ]


def table(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return one line per attack: its name, what its attacker sees, and what came out."""
    rows = [("attack", "the attacker sees", "outcome")]
    for result in results:
        membership = "auc" in result["results"]
        rows.append((_called(result), result["sees"], _guessed(result) if membership else _fooled(result)))
    return aligned(rows)


def _called(result: Mapping[str, Any]) -> str:
    """Return an attack's label, or its name and what it asked for."""
    if "label" in result:
        return str(result["label"])
    return (
        f"{result['name']} {result['success'][0]['asked']}" if result.get("success") else str(result["name"])
    )


def _guessed(result: Mapping[str, Any]) -> str:
    results, groups = result["results"], result.get("groups")
    pooled = f"; over {groups['groups']} groups AUC {interval(groups['auc'])}" if groups else ""
    return f"AUC {interval(results['auc'])}, TPR {low_fpr(results)}{pooled}"


def _fooled(result: Mapping[str, Any]) -> str:
    mean = {name: value["mean"] for name, value in result["results"].items()}
    unchanged = f", {result['unchanged']} unchanged" if result["unchanged"] else ""
    if "area_clean" in mean:
        return (
            f"{result['images']} images{unchanged}: "
            f"{lost(mean['area_clean'], mean['area'], mean['success'])}, "
            f"Dice to the truth {mean['dice_clean']:.3f} -> {mean['dice_adversarial']:.3f}"
        )
    carried = (
        f"; crafted on the surrogate IoU {mean['transfer_iou']:.3f} ({mean['surrogate_iou']:.3f} there)"
        if "transfer_iou" in mean
        else ""
    )
    asked = (
        f"IoU with the target {mean['iou_before']:.3f} -> {mean['iou']:.3f} ({mean['iou_8bit']:.3f} in 8 "
        "bits), "
        if result.get("asks", True)
        else ""
    )
    return (
        f"{result['images']} images{unchanged}: {asked}Dice to the truth {mean['dice_clean']:.3f} -> "
        f"{mean['dice_adversarial']:.3f}, SSIM {mean['ssim']:.3f}, L2 {mean['l2']:.2f}, L-infinity "
        f"{mean['linf'] * 255:.1f}/255"
        f"{carried}"
    )


def lost(clean: float, triggered: float, success: float) -> str:
    """Return what a trigger does to the predicted foreground, given its mean shares of the pixels."""
    part = f" ({triggered / clean:.1%} of it)" if clean else ""
    return (
        f"predicted area {clean:.4f} -> {triggered:.4f}{part} with the trigger, mask lost on {success:.0%} "
        "of images"
    )


def spread(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return one line per attack that ran for several seeds: mean and standard deviation over them."""
    lines = []
    kinds: dict[str, list[Mapping[str, Any]]] = {}
    for result in results:
        settings = dict(result["attack"].get("init_args") or {})
        settings.pop("surrogate", None)  # each seed's own shadow
        key = [result["name"], result["attack"].get("class_path"), settings, result.get("row")]
        kinds.setdefault(json.dumps(key, sort_keys=True), []).append(result)
    for same in kinds.values():
        own = [result["results"] for result in same]
        behind = f" on {same[0]['defence']}" if same[0].get("row") else ""
        name = f"{same[0]['name']}{behind}"
        if "auc" in own[0]:
            what, title = "auc", "AUC"
        elif same[0].get("asks", True):
            what, title = "iou", "IoU with the target"
        else:
            what, title = "dice_adversarial", "Dice to the truth"
        values = [measured[what].get("value", measured[what].get("mean")) for measured in own]
        deviation = stdev(values) if len(values) > 1 else 0.0
        lines.append(f"{name}: {title} {fmean(values):.3f} +- {deviation:.3f} over {len(values)} seeds")
    return lines
