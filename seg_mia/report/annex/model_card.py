"""Model card of an audited network, in the form of Hugging Face: YAML front matter and Markdown."""

import re
from collections.abc import Iterator

import yaml

from seg_mia.report.html.formatting import measure, number
from seg_mia.results.evidence import AuditedNetwork, Statement
from seg_mia.results.report import Report
from seg_mia.results.tables import markdown

MARKUP = re.compile(r"(^[#+-]|[\\`*_\[\]<>|~&$])")
"""Characters that are marks anywhere, or at the start of a line."""
TASK = {"type": "image-segmentation", "name": "Image Segmentation"}


def model_card(report: Report, digest: str) -> str:
    """Return the card of a report's first row.

    Args:
        report: the report.
        digest: digest of report.json.
    """
    header = yaml.safe_dump(front_matter(report), sort_keys=False, allow_unicode=True)
    return f"---\n{header}---\n\n{chr(10).join(_body(report, digest))}\n"


def front_matter(report: Report) -> dict[str, object]:
    """Return the metadata: tags, and the measured results as a model index."""
    evidence = report.evidence
    metrics: list[dict[str, str | float]] = [
        {"type": "dice", "name": "Dice, non-members", "value": round(row.nonmembers.value, 4)}
        for row in evidence.utility[:1]
        if row.nonmembers.value is not None
    ]
    metrics += [
        {"type": "auc", "name": f"Membership inference AUC, {row.attack}", "value": round(row.auc.value, 4)}
        for row in evidence.units
        if row.row == 0 and row.auc.value is not None
    ]
    metrics += [
        {
            "type": "dice",
            "name": f"Dice under attack, {row.attack}",
            "value": round(row.dice_after.value, 4),
        }
        for row in evidence.robustness
        if row.row == 0 and row.dice_after is not None and row.dice_after.value is not None
    ]
    network = next(iter(evidence.identity.networks), None)
    data = "not recorded" if network is None or not network.fingerprint else network.fingerprint[:12]
    result = {"task": TASK, "dataset": {"name": "audited data", "type": data}, "metrics": metrics}
    return {
        "library_name": "seg_mia",
        "pipeline_tag": "image-segmentation",
        "tags": ["image-segmentation", "privacy-audit", "membership-inference", "adversarial-robustness"],
        "model-index": [{"name": report.name, "results": [result] if metrics else []}],
    }


def escaped(text: str) -> str:
    """Return a text that Markdown shows as it is, on one line."""
    return MARKUP.sub(r"\\\1", " ".join(text.split()))


def _body(report: Report, digest: str) -> Iterator[str]:
    evidence = report.evidence
    first = [statement for statement in evidence.statements if statement.row == 0]
    yield f"# {escaped(report.name)}"
    yield ""
    yield from _network(next(iter(evidence.identity.networks), None))
    yield ""
    yield from ("## Release", "")
    if evidence.release is None:
        yield "Not declared: nothing is known of who may query the network, and how."
    else:
        yield f"{evidence.release.words.capitalize()}. {evidence.release.surface}"
        yield f"Who may query: {escaped(evidence.release.queried_by) or 'not declared'}. Rate limit: " + (
            f"{escaped(evidence.release.rate_limit) or 'not declared'}."
        )
    yield from ("", "## Segmentation", "")
    table = [["victim", "Dice, members", "Dice, non-members"]]
    table += [
        [escaped(row.defence), measure(row.members), measure(row.nonmembers)] for row in evidence.utility
    ]
    yield markdown(table).rstrip("\n")
    yield from ("", "## Evidence on privacy and robustness", "")
    yield "These statements hold for the attacks in scope and the audited samples."
    yield ""
    yield from (_statement(statement) for statement in first)
    yield ""
    untested = [row.kind for row in evidence.coverage if not row.tested]
    yield f"Not run, hence no evidence: {', '.join(untested)}."
    yield from ("", "## Limits", "")
    yield from (f"- {escaped(text)}" for text in evidence.limits.limits)
    yield from ("", "## Test again after", "")
    yield from (f"- {escaped(text)}" for text in evidence.limits.test_again)
    yield from ("", "## Audit", "")
    yield f"Audit of {escaped(evidence.identity.created)}, schema {evidence.identity.layout}."
    yield f"report.json has sha256 `{digest}`."


def _network(network: AuditedNetwork | None) -> Iterator[str]:
    if network is None:
        yield "No network was attacked."
        return
    weights = network.weights
    parameters = None if weights is None else weights.parameters
    yield f"- architecture: {escaped(network.architecture) or 'not recorded'}"
    yield f"- parameters: {parameters if parameters is not None else 'not recorded'}"
    yield f"- training records: {network.records if network.records is not None else 'not recorded'}"
    yield f"- training patients: {network.patients if network.patients is not None else 'not recorded'}"
    yield f"- parameters per training record: {number(network.parameters_per_record, 0)}"
    yield f"- sha256 of the weights: {weights.sha256 if weights else 'not recorded'}"


def _statement(statement: Statement) -> str:
    value = ""
    if statement.measure is not None and statement.measure.value is not None:
        value = f" {escaped(statement.measures)} {measure(statement.measure)}."
    return f"- **{escaped(statement.word)}** (rule {statement.rule}).{value} {escaped(statement.why)}"
