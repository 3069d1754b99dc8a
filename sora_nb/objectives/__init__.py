"""Training objectives: what a representation is asked to do. Derived from chapter 11 on."""

from sora_nb.objectives.contrast import (
    alignment,
    contrast_step,
    effective_rank,
    gather_with_gradient,
    info_nce,
    nt_xent,
    picked,
    uniformity,
    vicreg,
)
from sora_nb.objectives.views import mix_colors, shift_and_zoom, temporal_crop, view

__all__ = [
    "alignment",
    "contrast_step",
    "effective_rank",
    "gather_with_gradient",
    "info_nce",
    "mix_colors",
    "nt_xent",
    "picked",
    "shift_and_zoom",
    "temporal_crop",
    "uniformity",
    "vicreg",
    "view",
]
