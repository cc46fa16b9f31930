"""Membership inference: signals of a network, and decisions based on them.

All functions work on arrays, without a trainer, a folder or a command line: signals from a network's outputs
(`image_loss`, `image_entropy`), scores from signals (`loss_threshold`, `calibrated`), and statistics of
scores (`roc`, `auc`, `tpr_at_fpr`, `intervals`, `leak_test`, `epsilon_lower_bound`).
`seg_mia.results.evaluation` computes all measures together.
"""

from seg_mia.membership.certify import Certified, epsilon_lower_bound, one_run_lower_bound
from seg_mia.membership.compare import Scored
from seg_mia.membership.f_dp_one_run import f_dp_one_run_bound
from seg_mia.membership.functional import image_entropy, image_loss
from seg_mia.membership.gaussian_one_run import gaussian_one_run_bound
from seg_mia.membership.gaussian_threshold import gaussian_threshold_bound
from seg_mia.membership.intervals import Interval, auc_bounds, intervals, paired_difference
from seg_mia.membership.leakage import LeakTest, leak_test
from seg_mia.membership.rates import tpr_bounds
from seg_mia.membership.roc import (
    Confusion,
    Roc,
    auc,
    best_threshold,
    confusion,
    pooled,
    roc,
    tpr_at_fpr,
)
from seg_mia.membership.scores import (
    Guesses,
    calibrated,
    calibrated_threshold,
    loss_threshold,
    shadow_threshold,
)

__all__ = [
    "Certified",
    "Confusion",
    "Guesses",
    "Interval",
    "LeakTest",
    "Roc",
    "Scored",
    "auc",
    "auc_bounds",
    "best_threshold",
    "calibrated",
    "calibrated_threshold",
    "confusion",
    "epsilon_lower_bound",
    "f_dp_one_run_bound",
    "gaussian_one_run_bound",
    "gaussian_threshold_bound",
    "image_entropy",
    "image_loss",
    "intervals",
    "leak_test",
    "loss_threshold",
    "one_run_lower_bound",
    "paired_difference",
    "pooled",
    "roc",
    "shadow_threshold",
    "tpr_at_fpr",
    "tpr_bounds",
]
