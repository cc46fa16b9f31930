"""What canaries of a victim's training prove of it."""

import json
from pathlib import Path

from seg_mia.results.privacy import CanaryResult
from seg_mia.runs import checkpoint_file, run_of

FILE = "canaries.json"
LONGEST = 100_000
"""Bytes of it that are read; it has about 1000."""


def read_canaries(victim: str | Path) -> CanaryResult | None:
    """Return what canaries prove of a victim's training, None where its run does not say.

    The file lies beside a checkpoint that may be a stranger's: what is no number or unit is not taken, and a
    file that is not what `CanaryScores` writes is passed over.
    """
    try:
        with (run_of(checkpoint_file(victim)) / FILE).open("rb") as file:
            return CanaryResult.model_validate(json.loads(file.read(LONGEST)))
    except (OSError, ValueError, RecursionError):
        return None
