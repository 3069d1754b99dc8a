"""Scores with their uncertainty. Derived from chapter 03 on."""

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
    "mean_interval",
    "pair_scores",
    "wilson",
]
