"""Scores of made and restored video: PSNR, SSIM, a Fréchet distance of features. Derived in chapter 18."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

Images = Float[Tensor, "n channels height width"]


def psnr(
    restored: Float[Tensor, "n *dims"],
    true: Float[Tensor, "n *dims"],
    where: Bool[Tensor, "n *dims"] | None = None,
) -> Float[Tensor, " n"]:
    """Peak signal-to-noise ratio of each item in decibels, for values in [0, 1]. Derived in chapter 18.

    Args:
        restored: images or clips.
        true: what they should be.
        where: count these places alone; an item without any has NaN.
    """
    square = (restored - true).square().flatten(1)
    weight = torch.ones_like(square) if where is None else where.flatten(1).to(square.dtype)
    return -10 * ((square * weight).sum(1) / weight.sum(1)).log10()


def ssim(restored: Images, true: Images) -> Float[Tensor, " n"]:
    """Structural similarity of each image (Wang et al. 2004), for values in [0, 1].

    Means, variances and the covariance are those under a Gaussian window of 11 × 11 pixels, deviation 1.5, on the image
    mirrored at its edges. Derived in chapter 18.
    """
    at = torch.arange(11.0, device=true.device) - 5
    bell = torch.exp(-(at**2) / (2 * 1.5**2))
    window = torch.outer(bell, bell)
    window = (window / window.sum()).expand(true.shape[1], 1, 11, 11)

    def local(x: Images) -> Images:
        return F.conv2d(F.pad(x, (5, 5, 5, 5), mode="reflect"), window, groups=x.shape[1])

    a, b = local(restored), local(true)
    var_a, var_b = local(restored**2) - a**2, local(true**2) - b**2
    both = local(restored * true) - a * b
    c1, c2 = 0.01**2, 0.03**2
    score = (2 * a * b + c1) * (2 * both + c2) / ((a**2 + b**2 + c1) * (var_a + var_b + c2))
    return score.flatten(1).mean(1)


def frechet_distance(a: Float[Tensor, "n dim"], b: Float[Tensor, "m dim"]) -> float:
    """|μa − μb|² + tr(Σa + Σb − 2·√(Σa Σb)): the Fréchet distance of two normal distributions.

    It is biased: two samples of one distribution lie apart, by about as much as 1/n (Chong and Forsyth 2020).
    Derived in chapter 18.

    Raises:
        ValueError: fewer than two rows in either.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError(
            f"frechet_distance got {len(a)} and {len(b)} rows; a covariance takes at least 2 in each."
        )
    a, b = a.double(), b.double()
    cov_a, cov_b = torch.cov(a.T), torch.cov(b.T)
    roots = torch.linalg.eigvals(cov_a @ cov_b).real.clamp(min=0).sqrt().sum()
    distance = (a.mean(0) - b.mean(0)).square().sum() + cov_a.trace() + cov_b.trace() - 2 * roots
    return distance.item()
