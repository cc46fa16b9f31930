"""Group 10 of the evidence: what the statements do not mean, what would change them, when to test again."""

from collections.abc import Sequence

from seg_mia.results.audit import AuditResult
from seg_mia.results.evidence import Coverage, Limits, Scope

ALWAYS = (
    "A failed attack is evidence of resistance to that attack, in this setting, and of nothing else. It "
    "shows neither that the network is anonymous nor that a stronger attack would fail.",
    "Averages over patients do not describe a single patient: one may be exposed although no average "
    "shows it.",
    "The statements hold for the files whose digests are listed, and for the release as it is declared.",
    "Digests show that files have changed after the audit, not who wrote them: sign the digest of "
    "report.json, or file it elsewhere.",
)
CHANGES = (
    "A stronger attack, or an attacker with more networks, queries, or access than is listed.",
    "More patients: an effect that is not resolvable now may be shown or excluded then.",
    "A fault in the split, the patient names or the duplicates, on which all membership numbers rest.",
)
AGAIN = (
    "New weights: further training, fine-tuning, pruning, quantisation.",
    "Another release: other outputs, other people who may query, published weights.",
    "Other training data, or a request to erase a patient.",
    "A published attack on segmentation networks that is not listed.",
)
ROLES = ("Controller", "Data protection officer", "Person who ran the audit")


def limits(audit: AuditResult, coverage: Sequence[Coverage], scopes: Sequence[Scope]) -> Limits:
    """Return the limits of an audit: those of every audit, and its own."""
    return Limits(
        limits=[*ALWAYS, *_own(audit, coverage, scopes)],
        would_change=list(CHANGES),
        test_again=list(AGAIN),
        signatures=list(ROLES),
    )


def _own(audit: AuditResult, coverage: Sequence[Coverage], scopes: Sequence[Scope]) -> list[str]:
    lines = []
    if audit.release_context is None:
        lines.append(
            "The release is not declared, so that nothing is known of who attacks with what access: set "
            "release_context in the audit file."
        )
    untested = [row.kind for row in coverage if not row.tested]
    if untested:
        lines.append(f"Not run, hence no evidence: {', '.join(untested)}.")
    if scopes and not any(control.role == "control" for scope in scopes for control in scope.controls):
        lines.append("No negative control was run: a split that is easier on one side may go unnoticed.")
    if any(victim.privacy is not None for victim in audit.defences):
        lines.append(
            "A guarantee of differential privacy does not cover the choice of settings by looking at the "
            "training data."
        )
    if len({victim.seed for victim in audit.defences}) == 1:
        lines.append("One seed: the spread over trainings is not known.")
    return lines
