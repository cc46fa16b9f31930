"""Rows of page tables that combine several parts of a report."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from seg_mia.config.spec import SERVICE
from seg_mia.report.rules.privacy_verdict import BROKEN, CONTRADICTED, refutations
from seg_mia.results.audit import Victim
from seg_mia.results.membership import MembershipResult
from seg_mia.results.perturbation import PerturbationResult
from seg_mia.results.privacy import CanaryResult, DPGuarantee
from seg_mia.results.rates import RecipeRate, rate_at
from seg_mia.results.report import Level, Report
from seg_mia.results.tables import ORIGINS, right_accusations
from seg_mia.results.text import guarantee_in_words

SHOWN = 60
"""Maximum length of a setting in a table cell."""


class DefenceRow(NamedTuple):
    """One victim in the comparison, with the results of each attack run on several victims."""

    victim: Victim
    results: list[MembershipResult | None]


class CanaryRow(NamedTuple):
    """The canary results of one victim's training, with the status of its guarantee."""

    victim: Victim
    canaries: CanaryResult
    level: Level
    word: str


class ThresholdRow(NamedTuple):
    """Rates of one attack on one victim at thresholds of one origin."""

    result: MembershipResult
    origin: str
    rates: list[RecipeRate]
    right: str


def threshold_rows(report: Report) -> list[ThresholdRow]:
    """Return the rates of attacks whose networks decide a threshold."""
    return [
        ThresholdRow(result, words, column, right_accusations(rate_at(column, 0.01)))
        for result in report.membership
        if result.thresholds is not None and result.thresholds.transferred
        for origin, words in ORIGINS.items()
        if (column := getattr(result.thresholds, origin))
    ]


def canary_rows(report: Report) -> list[CanaryRow]:
    """Return the victims trained with canaries."""
    attacks = [result for result in report.membership if result.role == "attack"]
    refuted = {
        key: any(proof.bound.is_proof for proof in proofs if proof.attack is None)
        for key, proofs in refutations(report.victims, attacks).items()
        if any(proof.attack is None for proof in proofs)
    }
    return [
        CanaryRow(
            victim,
            victim.canaries,
            *_guarantee_status(victim.canaries.privacy, proved=refuted.get(victim.key)),
        )
        for victim in sorted(report.victims, key=lambda victim: victim.order)
        if victim.canaries is not None
    ]


def _guarantee_status(guarantee: DPGuarantee | None, *, proved: bool | None) -> tuple[Level, str]:
    """Return the status of a guarantee; a guarantee not refuted by canaries is not thereby proved.

    Args:
        guarantee: of the training.
        proved: whether a bound above it is proved by coins; None if no bound is above it.
    """
    if guarantee is None:
        return "none", "No guarantee"
    if guarantee.epsilon is None:
        return "none", "Infinite"
    if proved is None:
        return "none", "Not refuted"
    return "bad", BROKEN if proved else CONTRADICTED


def compared_labels(report: Report) -> list[str]:
    """Return the labels of the compared membership attacks, in order."""
    labels = dict.fromkeys(result.label for result in report.membership if result.role == "attack")
    rows = {label: {result.row for result in report.membership if result.label == label} for label in labels}
    return [label for label in labels if len(rows[label]) > 1]


def defence_rows(report: Report) -> list[DefenceRow]:
    """Return the rows of the comparison; none for a single victim."""
    if len(report.verdicts) < 2:
        return []
    by_victim = {(result.key, result.label): result for result in report.membership}
    order = sorted(report.victims, key=lambda victim: victim.order)
    return [
        DefenceRow(victim, [by_victim.get((victim.key, label)) for label in compared_labels(report)])
        for victim in order
    ]


def victim_facts(report: Report) -> list[tuple[str, str]]:
    """Return name and value pairs on the victim: from the first victim's metadata, else from results."""
    victim = min(report.victims, key=lambda victim: victim.order, default=None)
    if victim is None:
        return []
    rows = [("Victim", victim.victim), *_card_facts(victim.about), *_result_facts(report, victim)]
    rows += _queried(report, victim)
    if victim.privacy is not None:
        rows.append(("Differential privacy", guarantee_in_words(victim.privacy)))
    known = dict[str, str]()
    for name, value in rows:
        known.setdefault(name, value)
    return list(known.items())


def flattened(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested plain values by their dotted names."""
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from flattened(item, prefix if name == "init_args" else f"{prefix}.{name}".lstrip("."))
    elif isinstance(value, list) and any(isinstance(item, Mapping | list) for item in value):
        for number, item in enumerate(value, start=1):
            yield from flattened(item, f"{prefix}.{number}")
    else:
        yield prefix, in_words(value)


def in_words(value: Any) -> str:
    """Return a plain value in readable form."""
    match value:
        case None | [] | {}:
            return "none"
        case True | False:
            return "yes" if value else "no"
        case float():
            return f"{value:.6g}"
        case list():
            return ", ".join(in_words(item) for item in value)
        case _:
            return str(value)


def _card_facts(about: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for key, name in (("network", "Network"), ("data", "Data")):
        if key in about:
            yield name, _component(about[key])
    split = about.get("split")
    if isinstance(split, Mapping):
        yield "Split", _split(split)
    for key, name in (("classes", "Classes"), ("channels", "Channels")):
        if key in about:
            yield name, in_words(about[key])
    yield from _deployed(about.get("training"))
    if about.get("defences"):
        yield "Defences in training", in_words(about["defences"])
    if isinstance(fingerprint := about.get("fingerprint"), str):
        yield "Data fingerprint", fingerprint[:12]


def _deployed(training: object) -> Iterator[tuple[str, str]]:
    """Yield the comparison of an adopted network with the deployed system in words."""
    if not isinstance(training, Mapping) or not training.get("adopted"):
        return
    agreement = training.get("agreement")
    if not isinstance(agreement, Mapping):
        yield "Deployed system", "trained elsewhere, not compared with the deployed system"
        return
    yield (
        "Deployed system",
        f"masks agree with the deployed system's: Dice {agreement.get('dice', 0.0):.4f} on "
        f"{agreement.get('samples')} predictions, lowest {agreement.get('lowest', 0.0):.3f}",
    )


def _queried(report: Report, victim: Victim) -> Iterator[tuple[str, str]]:
    """Yield address, version and number of queries of a victim behind a service."""
    settings = service_of(victim.about.get("network"))
    if settings is None:
        return
    results: list[MembershipResult | PerturbationResult] = [*report.membership, *report.perturbations]
    counts = [result.victim_queries for result in results if result.key == victim.key]
    asked = [count for count in counts if count is not None]
    version = f"version {settings['version']}" if settings.get("version") else "no version stated"
    yield (
        "Queried",
        f"the service {settings.get('function') or settings.get('url')}, {version}, which gives "
        f"{settings.get('gives', 'probabilities')}: {sum(asked):,} images in {len(asked)} attacks, repeated "
        "calls included, besides its adoption, its validation and the checks of its answers (8 images each)",
    )


def service_of(network: object) -> Mapping[str, Any] | None:
    """Return the settings of the service in a network's description, at any depth; None if it has none."""
    if not isinstance(network, Mapping):
        return None
    arguments = network.get("init_args")
    arguments = arguments if isinstance(arguments, Mapping) else {}
    if network.get("class_path") == SERVICE:
        return arguments
    return service_of(arguments.get("network"))


def _component(value: Any) -> str:
    """Return a class with its main settings, on one line."""
    if not isinstance(value, Mapping):
        return in_words(value)
    name = str(value.get("class_path", "")).rpartition(".")[2]
    arguments = value.get("init_args", {key: item for key, item in value.items() if key != "class_path"})
    plain = dict(flattened(arguments)) if isinstance(arguments, Mapping) else {}
    inner = arguments.get("network") if isinstance(arguments, Mapping) else None
    if name and isinstance(inner, Mapping):  # windows or another wrapper
        return f"{name}, {_component(inner)}"
    telling = ("architecture", "encoder", "size", "depth", "norm", "root", "plane", "organ")
    parts = [f"{key} {plain[key]}"[:SHOWN] for key in telling if plain.get(key, "none") != "none"]
    return ", ".join([name, *parts]) if name else ", ".join(parts) or in_words(dict(plain))


def _split(split: Mapping[str, object]) -> str:
    """Return the sizes of a split's parts; samples are counted, never listed."""
    parts = []
    for key, name in (("members", "members"), ("nonmembers", "non-members"), ("reference", "reference")):
        count = split.get(key)
        count = len(count) if isinstance(count, list | Mapping) else count
        if isinstance(count, int):
            parts.append(f"{count} {name}")
    if isinstance(groups := split.get("groups"), int):
        parts.append(f"{groups} groups")
    if isinstance(seed := split.get("split_seed"), int):
        parts.append(f"split seed {seed}")
    return ", ".join(parts) or "not recorded"


def _result_facts(report: Report, victim: Victim) -> Iterator[tuple[str, str]]:
    """Yield facts from attack results if no metadata is available, and the victim's segmentation quality."""
    attack = next((result for result in report.membership if result.key == victim.key), None)
    if attack is not None:
        measures = attack.results
        patients = "" if attack.groups is None else f", from {attack.groups.groups} patients"
        yield "Scored", f"{measures.members} members, {measures.nonmembers} non-members{patients}"
        yield "Data fingerprint", attack.data.fingerprint[:12]
    members, nonmembers = victim.dice("members"), victim.dice("nonmembers")
    if nonmembers is not None:
        gap = "" if victim.gap is None else f", gap {victim.gap:+.3f}".replace("-", "\u2212")
        on_members = "" if members is None else f"; {members:.3f} on members"
        yield "Dice", f"{nonmembers:.3f} on non-members{on_members}{gap}"
        return
    perturbation = next((result for result in report.perturbations if result.key == victim.key), None)
    if perturbation is not None and perturbation.mean("dice_clean") is not None:
        subset = {"nonmembers": "non-members"}.get(perturbation.data.subset, perturbation.data.subset)
        yield (
            "Dice",
            f"{perturbation.mean('dice_clean'):.3f} on {perturbation.images} {subset}, before any attack",
        )
