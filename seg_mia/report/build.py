"""A finished audit's folder, summed up."""

from collections.abc import Sequence
from dataclasses import replace

from seg_mia.report.caveats import caveats, warnings
from seg_mia.report.files import Files, exposed, first_key, gather, sides, strongest_attack
from seg_mia.report.load import Source
from seg_mia.report.verdicts import verdicts
from seg_mia.results.audit import Victim
from seg_mia.results.report import Report
from seg_mia.results.seeds import over_seeds


def build(source: Source, *, images: bool) -> tuple[Report, Files]:
    """Return all that a report says, and the files that its figures are drawn from.

    Args:
        source: the audit.
        images: show and name samples.
    """
    audit, shown = source.audit, source.shareable()
    files = gather(source, audit.membership, audit.perturbations, images=images)
    first = first_key([result.key for result in audit.membership])
    surest = strongest_attack(audit.membership, first) if images else None
    membership = [
        told.model_copy(update={"scores": sides(files.scores[result.folder])})
        if result.folder in files.scores
        else told
        for told, result in zip(shown.membership, audit.membership, strict=True)
    ]
    report = Report(
        name=shown.name,
        created=shown.created,
        seconds=shown.seconds,
        images=images,
        tool=shown.tool,
        warnings=warnings(shown.defences, membership, shown.perturbations),
        verdicts=verdicts(shown.defences, membership, shown.perturbations, shown.leaks),
        victims=shown.defences,
        leaks=shown.leaks,
        membership=membership,
        perturbations=shown.perturbations,
        seeds=over_seeds([*membership, *shown.perturbations]),
        exposed=exposed(surest, files.scores),
        caveats=caveats(shown.defences, membership, shown.perturbations),
        missing=[*files.missing, *_unasked(shown.defences)],
        settings=shown.settings,
        stages=shown.stages,
    )
    scores = {source.shown(folder): scored for folder, scored in files.scores.items()}
    return report, replace(files, scores=scores)


def _unasked(victims: Sequence[Victim]) -> list[str]:
    """Return a sentence for each victim that was trained with canaries of which nothing is known."""
    return [
        f'"{victim.defence}", seed {victim.seed}: the audit found no canaries.json in its run that says '
        "what its canaries prove, so that is left out."
        for victim in victims
        if victim.has_canaries and victim.canaries is None
    ]
