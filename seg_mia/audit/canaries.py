"""Canary results of a victim's training."""

import json
from pathlib import Path

from seg_mia.results.privacy import CanaryResult
from seg_mia.runs import checkpoint_file, run_of

FILE = "canaries.json"
LONGEST = 100_000
"""Maximum number of bytes read; the file has about 1000."""


def read_canaries(victim: str | Path) -> CanaryResult | None:
    """Return the canary results of a victim's training, None if its run has none.

    The file beside a checkpoint may be untrusted: invalid numbers or units are dropped, and a
    file in another format than that of `CanaryScores` is ignored.
    """
    try:
        with (run_of(checkpoint_file(victim)) / FILE).open("rb") as file:
            return CanaryResult.model_validate(json.loads(file.read(LONGEST)))
    except (OSError, ValueError, RecursionError):
        return None
