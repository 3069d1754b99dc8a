"""What noise on a release promises, whoever attacks it: accounting for the Gaussian mechanism. Derived in chapter 23."""

import math

from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtr


def gaussian_delta(epsilon: float, sigma: float, sensitivity: float = 1.0, releases: int = 1) -> float:
    """The least δ for which Gaussian noise is (ε, δ)-private (Balle & Wang 2018, theorem 8).

    With μ = √releases · sensitivity / σ it is Φ(μ/2 − ε/μ) − exp(ε) Φ(−μ/2 − ε/μ). Derived in chapter 23.

    Args:
        epsilon: at least 0.
        sigma: standard deviation of the noise on each number of the release.
        sensitivity: the farthest that the release moves, as a Euclidean distance, when one clip is exchanged.
        releases: how often a clip is released, each time with noise of its own.

    Raises:
        ValueError: a negative epsilon, or something else that is not above 0.
    """
    if epsilon < 0 or min(sigma, sensitivity, releases) <= 0:
        raise ValueError(
            f"Got epsilon {epsilon}, sigma {sigma}, sensitivity {sensitivity} and {releases} releases; expected an "
            "epsilon of at least 0 and the others above 0."
        )
    mu = math.sqrt(releases) * sensitivity / sigma
    likelier = math.exp(epsilon + log_ndtr(-mu / 2 - epsilon / mu))  # exp(epsilon) alone overflows
    return float(ndtr(mu / 2 - epsilon / mu) - likelier)


def gaussian_epsilon(delta: float, sigma: float, sensitivity: float = 1.0, releases: int = 1) -> float:
    """The least ε for which Gaussian noise is (ε, δ)-private; the inverse of `gaussian_delta`. Derived in chapter 23.

    Args:
        delta: above 0 and below 1.
        sigma: standard deviation of the noise.
        sensitivity: as in `gaussian_delta`.
        releases: as in `gaussian_delta`.

    Raises:
        ValueError: delta is not between 0 and 1, or see `gaussian_delta`.
    """
    if not 0 < delta < 1:
        raise ValueError(f"Got delta {delta}; expected a number above 0 and below 1.")

    def excess(epsilon: float) -> float:
        return gaussian_delta(epsilon, sigma, sensitivity, releases) - delta

    if excess(0.0) <= 0:
        return 0.0
    highest = 1.0
    while excess(highest) > 0:
        highest *= 2
    return float(brentq(excess, 0.0, highest, xtol=1e-10))
