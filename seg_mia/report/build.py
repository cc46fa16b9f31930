"""Summary of a finished audit's folder."""

from collections.abc import Sequence
from dataclasses import replace

from seg_mia.data.identities import identities
from seg_mia.report.attack_files import (
    AttackFiles,
    add_certificates,
    exposed,
    first_key,
    gather,
    sides,
    strongest_attack,
)
from seg_mia.report.evidence.build import evidence
from seg_mia.report.load import StoredAudit
from seg_mia.report.rules.caveats import caveats, warnings
from seg_mia.report.rules.folds_rules import folds_caveats
from seg_mia.report.rules.recipe_caveats import recipe_caveats
from seg_mia.report.rules.verdicts import verdicts
from seg_mia.results.audit import Victim
from seg_mia.results.recipe import without_ids
from seg_mia.results.report import Exposed, Report
from seg_mia.results.seeds import spread_over_seeds
from seg_mia.results.warnings import certificate_warnings


def build(stored: StoredAudit, *, images: bool, ids: bool = False) -> tuple[Report, AttackFiles]:
    """Return the content of a report, and the files for its figures.

    Args:
        stored: the audit.
        images: show images of samples, and name those that attacks are surest of.
        ids: name samples by their ids; by salted hashes otherwise.

    Raises:
        InputError: hashes of names that cannot be entered into the private table of the victim's run.
    """
    audit, shareable = stored.audit, stored.shareable()
    files = gather(stored, audit.membership, audit.perturbations, images=images, ids=ids)
    first = first_key([result.key for result in audit.membership])
    if images:
        add_certificates(stored, audit.certificates, files, ids=ids)
    surest = exposed(strongest_attack(audit.membership, first) if images else None, files.scores)
    if not ids:
        surest, files = _hashed(stored, surest, files)
    membership = [
        public.model_copy(update={"scores": sides(files.scores[result.folder])})
        if result.folder in files.scores
        else public
        for public, result in zip(shareable.membership, audit.membership, strict=True)
    ]
    recipes = shareable.recipes if images else [without_ids(result) for result in shareable.recipes]
    report = Report(
        name=shareable.name,
        created=shareable.created,
        seconds=shareable.seconds,
        images=images,
        ids=images and ids,
        tool=shareable.tool,
        evidence=evidence(stored, shareable, files.scores),
        warnings=warnings(shareable.defences, membership, shareable.perturbations, recipes),
        verdicts=verdicts(
            shareable.defences,
            membership,
            shareable.perturbations,
            shareable.leaks,
            recipes,
            folds=shareable.folds,
        ),
        victims=shareable.defences,
        leaks=shareable.leaks,
        membership=membership,
        recipes=recipes,
        folds=shareable.folds,
        perturbations=shareable.perturbations,
        certificates=shareable.certificates,
        seeds=spread_over_seeds([*membership, *shareable.perturbations]),
        exposed=surest,
        caveats=[
            *caveats(shareable.defences, membership, shareable.perturbations),
            *recipe_caveats(recipes),
            *folds_caveats(shareable.folds),
            *(
                line
                for result in shareable.certificates
                for line in certificate_warnings(result, result.title)
            ),
        ],
        missing=[*files.missing, *_unread_canaries(shareable.defences)],
        settings=shareable.settings,
        stages=shareable.stages,
    )
    scores = {stored.display_path(folder): scored for folder, scored in files.scores.items()}
    return report, replace(files, scores=scores)


def _hashed(
    stored: StoredAudit, surest: Sequence[Exposed], files: AttackFiles
) -> tuple[list[Exposed], AttackFiles]:
    """Return samples and sheets with salted hashes in place of names, which the owner's table lists."""
    names = [*files.names, *(name for sample in surest for name in (sample.id, sample.group))]
    hashes = identities(names, stored.identity_folder) if names else {}
    samples = [
        sample.model_copy(update={"id": hashes[sample.id], "group": hashes[sample.group]})
        for sample in surest
    ]
    return samples, files.named(hashes)


def _unread_canaries(victims: Sequence[Victim]) -> list[str]:
    """Return a sentence for each victim trained with canaries whose results are missing."""
    return [
        f'"{victim.defence}", seed {victim.seed}: its run has no valid canaries.json, so the result of its '
        "canaries is left out."
        for victim in victims
        if victim.has_canaries and victim.canaries is None
    ]
