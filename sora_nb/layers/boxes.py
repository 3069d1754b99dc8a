"""Boxes as corners x0, y0, x1, y1: how far two of them agree, and which of two sets belong together.

Derived in chapter 17.
"""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


def iou(a: Float[Tensor, "*#batch 4"], b: Float[Tensor, "*#batch 4"]) -> Float[Tensor, "..."]:
    """Intersection over union of boxes that broadcast: ``iou(a[:, None], b)`` is the table of all pairs.

    Boxes without area have an IoU of 0 with everything, and so has a box of NaN. Derived in chapter 17.
    """
    shared, union, _ = _areas(a, b)
    return torch.where(union > 0, shared / union.clamp(min=1e-12), 0)


def giou(a: Float[Tensor, "*#batch 4"], b: Float[Tensor, "*#batch 4"]) -> Float[Tensor, "..."]:
    """IoU less the share of the smallest box round both that neither fills (Rezatofighi et al. 2019), in (-1, 1].

    Unlike the IoU it falls further, and has a gradient, when two boxes apart move further apart. Derived in chapter 17.
    """
    shared, union, hull = _areas(a, b)
    return shared / union.clamp(min=1e-12) - (hull - union) / hull.clamp(min=1e-12)


def assign(
    overlap: Float[Tensor, "rows columns"], least: float
) -> tuple[Int64[Tensor, " pairs"], Int64[Tensor, " pairs"]]:
    """Pair rows and columns, each at most once, so that the sum of the overlaps of at least ``least`` is largest.

    The Hungarian method, by SciPy. An overlap below ``least`` counts nothing and is no pair. Derived in chapter 17.
    """
    from scipy.optimize import linear_sum_assignment  # here: scipy.optimize takes a second to import

    good: Bool[Tensor, "rows columns"] = overlap >= least
    rows, columns = map(torch.as_tensor, linear_sum_assignment(overlap.where(good, 0).numpy(), maximize=True))
    keep = good[rows, columns]
    return rows[keep], columns[keep]


def _areas(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Area shared, area covered, and area of the smallest box round both."""
    shared = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0)
    hull = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    shared, size_a, size_b = shared.prod(-1), *((x[..., 2:] - x[..., :2]).prod(-1) for x in (a, b))
    return shared, size_a + size_b - shared, hull.prod(-1)
