"""Training objectives: what a representation is asked to do. Derived from chapter 11 on."""

from sora_nb.objectives.contrast import (
    alignment,
    effective_rank,
    gather_with_gradient,
    info_nce,
    nt_xent,
    uniformity,
    vicreg,
)

__all__ = [
    "alignment",
    "effective_rank",
    "gather_with_gradient",
    "info_nce",
    "nt_xent",
    "uniformity",
    "vicreg",
]
