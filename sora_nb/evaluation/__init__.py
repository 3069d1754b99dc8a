"""Scores with their uncertainty. Derived from chapter 03 on."""

from sora_nb.evaluation.rulers import (
    linear_scores,
    nearest_scores,
    ruler_scores,
    ruler_table,
    with_reversals,
    within_each,
)
from sora_nb.evaluation.scores import (
    accuracy,
    confusion,
    knn,
    knn_scores,
    linear_probe,
    mean_interval,
    pair_scores,
    wilson,
)

__all__ = [
    "accuracy",
    "confusion",
    "knn",
    "knn_scores",
    "linear_probe",
    "linear_scores",
    "mean_interval",
    "nearest_scores",
    "pair_scores",
    "ruler_scores",
    "ruler_table",
    "wilson",
    "with_reversals",
    "within_each",
]
