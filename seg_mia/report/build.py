"""Summary of a finished audit's folder."""

from collections.abc import Sequence
from dataclasses import replace

from seg_mia.data.identities import TABLE, identities
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
from seg_mia.results.audit import AuditResult, Victim
from seg_mia.results.membership import MembershipResult
from seg_mia.results.recipe import RecipeResult, without_ids
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
        InputError: hashes of names that can be entered into no private table.
    """
    audit, shareable = stored.audit, stored.shareable()
    files = gather(stored, audit.membership, audit.perturbations, images=images, ids=ids)
    first = first_key([result.key for result in audit.membership])
    if images:
        add_certificates(stored, audit.certificates, files, ids=ids)
    surest = exposed(strongest_attack(audit.membership, first) if images else None, files.scores)
    names = [] if ids else [*files.names, *(name for one in surest for name in (one.id, one.group))]
    if names:
        surest, files = _hashed(stored, names, surest, files)
    membership = _with_scores(audit, shareable, files)
    recipes = shareable.recipes if images else [without_ids(result) for result in shareable.recipes]
    hashes = bool(names) or any(result.risk.exposed for result in recipes)
    report = Report(
        name=shareable.name,
        created=shareable.created,
        seconds=shareable.seconds,
        images=images,
        ids=images and ids,
        names_in=_tables(stored) if hashes else [],
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
        caveats=_caveats(shareable, membership, recipes),
        missing=[*files.missing, *_unread_canaries(shareable.defences)],
        settings=shareable.settings,
        stages=shareable.stages,
    )
    scores = {stored.display_path(folder): scored for folder, scored in files.scores.items()}
    return report, replace(files, scores=scores)


def _hashed(
    stored: StoredAudit, names: Sequence[str], surest: Sequence[Exposed], files: AttackFiles
) -> tuple[list[Exposed], AttackFiles]:
    """Return samples and sheets with salted hashes in place of names, which the owner's table lists.

    Without the folder of the salt, samples and names are left out with a note.
    """
    folders = stored.identity_folders
    if not folders:
        note = (
            "The first victim's run is missing, and with it the salt of the hashes of names: sheets have no "
            "names, and the samples that an attack is surest of are left out."
        )
        return [], replace(files.unnamed(), missing=[*files.missing, note])
    hashes = identities(names, *folders)
    samples = [
        sample.model_copy(update={"id": hashes[sample.id], "group": hashes[sample.group]})
        for sample in surest
    ]
    return samples, files.named(hashes)


def _with_scores(audit: AuditResult, shareable: AuditResult, files: AttackFiles) -> list[MembershipResult]:
    """Return the shareable results of membership attacks with the distributions of their scores."""
    return [
        public.model_copy(update={"scores": sides(files.scores[result.folder])})
        if result.folder in files.scores
        else public
        for public, result in zip(shareable.membership, audit.membership, strict=True)
    ]


def _tables(stored: StoredAudit) -> list[str]:
    """Return the folders, for display, with a private table of hashes and names."""
    return [
        stored.display_path(str(folder)) for folder in stored.identity_folders if (folder / TABLE).is_file()
    ]


def _caveats(
    audit: AuditResult, membership: Sequence[MembershipResult], recipes: Sequence[RecipeResult]
) -> list[str]:
    return [
        *caveats(audit.defences, membership, audit.perturbations),
        *recipe_caveats(recipes),
        *folds_caveats(audit.folds),
        *(line for result in audit.certificates for line in certificate_warnings(result, result.title)),
    ]


def _unread_canaries(victims: Sequence[Victim]) -> list[str]:
    """Return a sentence for each victim trained with canaries whose results are missing."""
    return [
        f'"{victim.defence}", seed {victim.seed}: its run has no valid canaries.json, so the result of its '
        "canaries is left out."
        for victim in victims
        if victim.has_canaries and victim.canaries is None
    ]
