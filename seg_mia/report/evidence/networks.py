"""Groups 1 and 5 of the evidence: what was audited, on which samples."""

from collections.abc import Mapping, Sequence
from typing import Any

from seg_mia.report.rules.statements import unit_auc
from seg_mia.results.audit import AuditResult, Victim
from seg_mia.results.evidence import AuditedNetwork, Control, Identity, Scope
from seg_mia.results.leaks import LeakResult
from seg_mia.results.membership import FPRS, MembershipResult
from seg_mia.results.warnings import fails

TELLING = ("architecture", "encoder", "size", "depth", "width", "norm", "channels", "classes")
"""Settings of a network that identify its architecture."""


def identity(audit: AuditResult, layout: str, digest: str) -> Identity:
    """Return what was audited, of an audit without absolute paths.

    Args:
        audit: the audit.
        layout: schema of the report.
        digest: digest of audit.json.
    """
    return Identity(
        audit=audit.name,
        created=audit.created,
        layout=layout,
        tool=audit.tool,
        seeds=list(dict.fromkeys(victim.seed for victim in audit.defences)),
        networks=[_network(victim, audit.membership) for victim in audit.defences],
        audit_sha256=digest,
        files=audit.files,
    )


def _network(victim: Victim, membership: Sequence[MembershipResult]) -> AuditedNetwork:
    records, about = _records(victim), victim.about
    parameters = None if victim.weights is None else victim.weights.parameters
    results = [result for result in membership if result.key == victim.key]
    fingerprint = about.get("fingerprint") or next((result.data.fingerprint for result in results), "")
    return AuditedNetwork(
        row=victim.row,
        seed=victim.seed,
        defence=victim.defence,
        run=victim.victim,
        weights=victim.weights,
        architecture=architecture(about.get("network")),
        records=records,
        patients=_patients(records, results),
        parameters_per_record=parameters / records if parameters and records else None,
        fingerprint=str(fingerprint),
    )


def _records(victim: Victim) -> int | None:
    split = victim.about.get("split")
    members = split.get("members") if isinstance(split, Mapping) else None
    return members if isinstance(members, int) and not isinstance(members, bool) else None


def _patients(records: int | None, results: Sequence[MembershipResult]) -> int | None:
    """Return the number of training patients, known only if all training records were scored."""
    for result in results:
        if records is not None and result.results.members == records and result.role != "control":
            return records if result.groups is None else result.groups.members
    return None


def architecture(network: Any) -> str:
    """Return a network's class and main settings in one line, empty if there is none."""
    if not isinstance(network, Mapping):
        return "" if network is None else str(network)
    arguments = network.get("init_args")
    plain = arguments if isinstance(arguments, Mapping) else {}
    inner = plain.get("network")
    parts = [f"{name} {plain[name]}" for name in TELLING if plain.get(name) is not None]
    parts += [architecture(inner)] if isinstance(inner, Mapping) else []
    return ", ".join([str(network.get("class_path", "")).rpartition(".")[2], *parts]).strip(", ")


def scopes(
    leaks: Sequence[LeakResult], membership: Sequence[MembershipResult], victims: Sequence[Victim]
) -> list[Scope]:
    """Return the samples of each row's attacks and what they can show; baselines are those of any row."""
    return [_scope(tested, membership, victims) for tested in leaks]


def _scope(tested: LeakResult, membership: Sequence[MembershipResult], victims: Sequence[Victim]) -> Scope:
    results = [result for result in membership if result.row == tested.row and result.role == "attack"]
    of_row = [victim for victim in victims if victim.row == tested.row]
    checks = [result for result in membership if result.role != "attack"]
    return Scope(
        row=tested.row,
        defence=next((victim.defence for victim in of_row), ""),
        unit="patient" if tested.grouped else "image",
        members=tested.members,
        nonmembers=tested.nonmembers,
        records=max((result.results.members + result.results.nonmembers for result in results), default=0),
        seeds=[victim.seed for victim in of_row],
        false_positives={f"{fpr:g}": tested.nonmembers * fpr for fpr in FPRS},
        tests=len(tested.tested),
        detectable=tested.detectable,
        stratified=_strata(of_row),
        controls=[
            Control(
                label=result.label,
                seed=result.seed,
                role="blind" if result.role == "blind" else "control",
                auc=unit_auc(result),
                failed=fails(result),
            )
            for result in checks
        ],
        left_out=_left_out(results),
    )


def _strata(victims: Sequence[Victim]) -> int | None:
    for victim in victims:
        data = victim.about.get("data")
        arguments = data.get("init_args") if isinstance(data, Mapping) else None
        strata = arguments.get("stratify") if isinstance(arguments, Mapping) else None
        if isinstance(strata, int) and strata > 1:
            return strata
    return None


def _left_out(results: Sequence[MembershipResult]) -> list[str]:
    """Return in words the victim's samples that were not scored, and notes on the data."""
    counts: dict[str, int] = {}
    for result in results:
        for reason, count in result.data.left_out.get("victim", {}).items():
            counts[reason] = max(counts.get(reason, 0), count)
    lines = [f"{count} {reason}" for reason, count in counts.items() if count]
    limits = sorted({result.data.limit for result in results if result.data.limit is not None})
    lines += [f"limited to {limit} samples of either side" for limit in limits]
    return [*lines, *dict.fromkeys(note for result in results for note in result.data.notes)]
