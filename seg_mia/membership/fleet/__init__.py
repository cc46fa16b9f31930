"""Membership inference with a fleet of reference networks: signals, attacks, and audits of a recipe.

A fleet is a set of networks of one recipe, each trained on a random half of a pool. All functions work on
arrays (networks, n) of signals, higher for members, with a matrix of training sets.
"""

from seg_mia.membership.fleet.agreement import agreements, label_agreement
from seg_mia.membership.fleet.arrays import mates, pair_folds, standardised, untrained_networks
from seg_mia.membership.fleet.audit import RecipeAudit, recipe_audit
from seg_mia.membership.fleet.confidences import confidences, image_logit, margins
from seg_mia.membership.fleet.curve import CurvePoint, network_curve
from seg_mia.membership.fleet.decisions import Rate, decided_rate, ppv, threshold_at_fpr
from seg_mia.membership.fleet.discriminant import weighed
from seg_mia.membership.fleet.folds import FoldRanks, fold_differences, fold_ranks, left_out_ranks
from seg_mia.membership.fleet.gaussian import (
    difficulty_calibrated,
    lira_offline,
    lira_online,
    rank_among_out,
)
from seg_mia.membership.fleet.patients import patient_signals
from seg_mia.membership.fleet.quantile import QuantileScores, quantile_scores
from seg_mia.membership.fleet.ratios import Population, base, less_population, rmia, tuned_offline_a
from seg_mia.membership.fleet.recipe import (
    attacked,
    by_patient,
    calibrated_rates,
    p_values,
    pooled_auc,
    pooled_rates,
    pooled_roc,
    transferred_rates,
)
from seg_mia.membership.fleet.regions import logit_gap, regions
from seg_mia.membership.fleet.risk import (
    PatientRisk,
    Subgroup,
    Survival,
    benjamini_hochberg,
    mean_p_value,
    null_areas,
    patient_auc,
    patient_p_values,
    patient_risk,
    simes,
    subgroups,
    survival,
    worst_decile,
)
from seg_mia.membership.fleet.stability import Stability, network_halves, stability
from seg_mia.membership.fleet.vectors import dense_lira, lira_vector, pooled_cells

__all__ = [
    "CurvePoint",
    "FoldRanks",
    "PatientRisk",
    "Population",
    "QuantileScores",
    "Rate",
    "RecipeAudit",
    "Stability",
    "Subgroup",
    "Survival",
    "agreements",
    "attacked",
    "base",
    "benjamini_hochberg",
    "by_patient",
    "calibrated_rates",
    "confidences",
    "decided_rate",
    "dense_lira",
    "difficulty_calibrated",
    "fold_differences",
    "fold_ranks",
    "image_logit",
    "label_agreement",
    "left_out_ranks",
    "less_population",
    "lira_offline",
    "lira_online",
    "lira_vector",
    "logit_gap",
    "margins",
    "mates",
    "mean_p_value",
    "network_curve",
    "network_halves",
    "null_areas",
    "p_values",
    "pair_folds",
    "patient_auc",
    "patient_p_values",
    "patient_risk",
    "patient_signals",
    "pooled_auc",
    "pooled_cells",
    "pooled_rates",
    "pooled_roc",
    "ppv",
    "quantile_scores",
    "rank_among_out",
    "recipe_audit",
    "regions",
    "rmia",
    "simes",
    "stability",
    "standardised",
    "subgroups",
    "survival",
    "threshold_at_fpr",
    "transferred_rates",
    "tuned_offline_a",
    "untrained_networks",
    "weighed",
    "worst_decile",
]
