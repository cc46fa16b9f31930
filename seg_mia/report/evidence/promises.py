"""Group 7 of the evidence: guarantees of privacy, their trade-off curves, attempts to refute them."""

from collections.abc import Iterator, Sequence

import numpy as np

from seg_mia.defences.dp.accounting import LEAST_NOISE, MOST_NOISE, Mechanism
from seg_mia.membership.tradeoff import tpr_limit
from seg_mia.report.rules.privacy_verdict import bounds_compared, comparable
from seg_mia.results.audit import Victim
from seg_mia.results.evidence_measures import CurvePoint, Promise, PromiseAudit
from seg_mia.results.leaks import LeakResult
from seg_mia.results.membership import MembershipResult
from seg_mia.results.privacy import DPGuarantee, EpsilonLowerBound

FPR = np.concatenate([[0.0], np.logspace(-4, 0, 41)])
"""False positive rates of a drawn curve."""
MOST_STEPS = 10_000_000
"""More steps than any training takes: a stranger's checkpoint may claim what no accountant can compute."""
CURVES = {
    "gaussian": "exact for this mechanism",
    "prv": "the accountant's curve",
    "rdp": "the accountant's curve (Renyi)",
    "point": "epsilon and delta alone, which permit the most",
}
"""What a curve follows from, in words."""


def promises(
    victims: Sequence[Victim], membership: Sequence[MembershipResult], leaks: Sequence[LeakResult]
) -> list[Promise]:
    """Return each victim's guarantee with its curve and the attempts to contradict it."""
    rows = []
    for victim in victims:
        if victim.privacy is not None:
            attacks = [
                result for result in membership if result.key == victim.key and result.role == "attack"
            ]
            tested = next((leak for leak in leaks if leak.row == victim.row), None)
            row = [other for other in victims if other.row == victim.row]
            count = len(bounds_compared(row, [result for result in membership if result.role == "attack"]))
            rows.append(_promise(victim, victim.privacy, attacks, tested, count=count))
    return rows


def _promise(
    victim: Victim,
    promised: DPGuarantee,
    attacks: Sequence[MembershipResult],
    tested: LeakResult | None,
    *,
    count: int,
) -> Promise:
    curve, by = promise_curve(promised)
    permitted = None if promised.permitted is None else promised.permitted.auc
    return Promise(
        row=victim.row,
        defence=victim.defence,
        seed=victim.seed,
        unit=promised.unit,
        adjacency=promised.neighbours or "",
        epsilon=promised.epsilon,
        replace_one=promised.replace_one,
        delta=promised.delta,
        accountant=promised.accountant or "",
        sampling=_sampling(promised),
        declared=promised.declared,
        permitted_auc=permitted,
        curve=curve,
        curve_by=by,
        compared=count,
        audits=list(_audits(victim, promised, attacks, count)),
        pretrained=promised.pretrained,
        above=[] if permitted is None else list(_above(promised, attacks, tested, permitted)),
    )


def promise_curve(promised: DPGuarantee) -> tuple[list[CurvePoint], str]:
    """Return the largest true positive rate at each of `FPR` that a guarantee permits, and its basis.

    From the mechanism where the guarantee states it (Dong, Roth, Su 2022), and never more than epsilon and
    delta permit, which are promised, too; empty for an infinite epsilon.
    """
    if promised.epsilon is None:
        return [], ""
    limits, by = np.ones_like(FPR), ""
    if promised.delta is not None:
        limits, by = tpr_limit(FPR, [(promised.epsilon, promised.delta)]), "point"
    mechanism = _mechanism(promised)
    if mechanism is not None and promised.steps is not None:
        exact, by = mechanism.limit(FPR, promised.steps)
        limits = np.minimum(limits, exact)
    if not by:
        return [], ""
    points = zip(FPR.tolist(), np.clip(limits, FPR, 1.0).tolist(), strict=True)
    return [CurvePoint(fpr=fpr, tpr=tpr) for fpr, tpr in points], CURVES[by]


def _mechanism(promised: DPGuarantee) -> Mechanism | None:
    """Return the mechanism that a guarantee states, None if it states none that can be computed."""
    if promised.releases_alone:
        release, delta = promised.release or 0.0, promised.delta
        usable = release <= 1 / LEAST_NOISE and delta is not None and 0 < delta < 1
        return Mechanism(MOST_NOISE, 1.0, delta or 0.0, "prv", release) if usable else None
    noise, rate, delta, steps = promised.noise, promised.rate, promised.delta, promised.steps
    if noise is None or rate is None or delta is None or steps is None:
        return None
    usable = LEAST_NOISE <= noise <= MOST_NOISE and 0 < rate <= 1 and 0 < delta < 1
    if not usable or not 0 < steps <= MOST_STEPS or promised.accountant not in {"prv", "rdp"}:
        return None
    # Of an earlier version no release is recorded, and there was none.
    release = promised.release or 0.0
    if not 0 <= release <= 1 / LEAST_NOISE:
        return None
    return Mechanism(noise, rate, delta, "rdp" if promised.accountant == "rdp" else "prv", release)


def _sampling(promised: DPGuarantee) -> str:
    """Return sampling and noise as they were used, in words."""
    if promised.releases_alone:
        return f"one Gaussian release over all units, mu {promised.release:.4g}, no step"
    if promised.steps == 0 and promised.noise is None and promised.release is None:
        return "one exact release over all units, no step"
    parts = [
        ("Poisson sampling at rate", promised.rate),
        ("steps", promised.steps),
        ("noise multiplier", promised.noise),
        ("clip", promised.clip),
    ]
    return ", ".join(f"{name} {value:.4g}" for name, value in parts if value is not None)


def _audits(
    victim: Victim, promised: DPGuarantee, attacks: Sequence[MembershipResult], count: int
) -> Iterator[PromiseAudit]:
    for attack in attacks:
        for name, bound in attack.bounds.items():
            is_comparable = name in comparable(promised, attack)
            yield _audit(f"{attack.label}{name}", bound, count, is_comparable=is_comparable)
    if victim.canaries is not None:
        for how, bound in victim.canaries.bounds.items():
            yield _audit(f"canaries, {how}", bound, count, is_comparable=True)


def _audit(by: str, bound: EpsilonLowerBound, count: int, *, is_comparable: bool) -> PromiseAudit:
    joint = bound.jointly(max(count, 1))
    return PromiseAudit(
        by=by,
        proved=None if joint is None else joint.epsilon,
        ceiling=None if joint is None else joint.attainable,
        comparable=is_comparable,
        assumes_independence=not bound.is_proof,
    )


def _above(
    promised: DPGuarantee, attacks: Sequence[MembershipResult], tested: LeakResult | None, permitted: float
) -> Iterator[str]:
    """Yield attacks on the guarantee's unit whose AUC exceeds the permitted one, for all numbers at once.

    A guarantee bounds the mean rates over units, too, since the trade-off curve is concave. With several
    images of a patient, only a guarantee for patients bounds attacks.
    """
    if tested is None or (tested.grouped and promised.unit != "patient"):
        return
    kind = "groups.auc" if tested.grouped else "auc"
    labels = {(attack.label, attack.seed) for attack in attacks}
    for number in tested.tested:
        if number.kind == kind and (number.label, number.seed) in labels and number.low > permitted:
            yield number.label
