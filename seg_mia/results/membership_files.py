"""Files of one membership attack: its measures, scores and figures."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seg_mia.membership.compare import Scored
from seg_mia.membership.scores import Guesses
from seg_mia.results.charts.membership import histogram_drawing, roc_of
from seg_mia.results.charts.png import pixels
from seg_mia.results.files import write_bytes, write_csv, write_json
from seg_mia.results.membership import MembershipSummary
from seg_mia.results.pictures import png


def write_scored(
    folder: Path,
    name: str,
    summary: MembershipSummary,
    ids: Sequence[str],
    groups: NDArray[np.str_],
    members: NDArray[np.bool_],
    guesses: Guesses,
) -> dict[str, NDArray[np.uint8]]:
    """Write `summary.json`, `scores.csv`, `roc.png` and `histogram.png`; return the figures' pixels.

    Args:
        folder: folder of the attack's results.
        name: name of the attack.
        summary: its measures.
        ids: name of each sample, n.
        groups: patient or video of each sample, (n,).
        members: membership of each sample, bool (n,).
        guesses: scores of the samples and their threshold.

    Raises:
        InputError: the folder cannot be written.
    """
    write_json(folder / "summary.json", summary.plain())
    _write_scores(folder / "scores.csv", ids, groups, members, guesses)
    scored = Scored(np.array(ids), groups, members, guesses.scores)
    sheets = {
        "roc": pixels(roc_of([summary], {name: scored})),
        "histogram": pixels(
            histogram_drawing(
                scored, "", threshold=None if math.isnan(guesses.threshold) else guesses.threshold
            )
        ),
    }
    for kind, sheet in sheets.items():
        write_bytes(folder / f"{kind}.png", png(sheet))
    return sheets


def _write_scores(
    file: Path,
    ids: Sequence[str],
    groups: NDArray[np.str_],
    members: NDArray[np.bool_],
    guesses: Guesses,
) -> None:
    scores, threshold = guesses.scores, guesses.threshold
    several = [seed_scores for seed_scores, _ in guesses.seeds] if len(guesses.seeds) > 1 else []
    rows = [
        [
            ids[row],
            groups[row],
            int(members[row]),
            f"{scores[row]:.9g}",
            "" if math.isnan(threshold) else int(scores[row] >= threshold),
            *(f"{seed_scores[row]:.9g}" for seed_scores in several),
        ]
        for row in range(len(ids))
    ]
    names = [f"score_seed{number}" for number in range(len(several))]
    write_csv(file, ["id", "group", "member", "score", "called_member", *names], rows)
