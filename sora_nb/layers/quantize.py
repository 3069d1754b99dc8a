"""Visual words: replace a feature by the nearest entry of a learned codebook (van den Oord et al. 2017).

Derived in chapter 07.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn


class Quantized(NamedTuple):
    """What `VectorQuantizer` returns: the chosen codebook rows, their indices, and the commitment loss."""

    vectors: Float[Tensor, "*batch dim"]
    codes: Int[Tensor, "*batch"]
    loss: Float[Tensor, ""]


def nearest_code(
    x: Float[Tensor, "*batch dim"], codebook: Float[Tensor, "codes dim"]
) -> Int[Tensor, "*batch"]:
    """Index of the codebook row nearest to each vector: argmin_k ‖x − e_k‖². Derived in chapter 07."""
    # ‖x‖² is the same for all rows, so it cannot change which is nearest.
    return (codebook.square().sum(-1) - 2 * x @ codebook.T).argmin(-1)


def perplexity(codes: Int[Tensor, "..."], size: int) -> float:
    """exp of the entropy of the codes in use: `size` if all are used alike, 1 if only one is. Derived in chapter 07."""
    share = codes.flatten().bincount(minlength=size) / codes.numel()
    return torch.special.entr(share).sum().exp().item()


def usage(codes: Int[Tensor, "..."], size: int) -> float:
    """Share of the codebook that occurs at all in `codes`."""
    return codes.unique().numel() / size


def kmeans(x: Float[Tensor, "n dim"], clusters: int, steps: int = 10) -> Float[Tensor, "clusters dim"]:
    """Lloyd's algorithm from distinct random rows of `x`; a cluster that loses all its rows stays where it is.

    Raises:
        ValueError: if there are fewer rows than clusters.
    """
    if len(x) < clusters:
        raise ValueError(
            f"k-means for {clusters} codes needs at least {clusters} feature vectors, got {len(x)}: "
            "pass more clips or use fewer codes."
        )
    centers = x[torch.randperm(len(x), device=x.device)[:clusters]]
    for _ in range(steps):
        members = F.one_hot(nearest_code(x, centers), clusters).to(x.dtype)  # (N, K)
        count = members.sum(0)[:, None]  # (K, 1)
        centers = torch.where(count > 0, members.T @ x / count.clamp(min=1), centers)
    return centers


class VectorQuantizer(nn.Module):
    """A codebook learned by moving averages, with straight-through gradients. Derived in chapter 07.

    A training step moves each code towards the mean of the vectors that chose it. With n_k of them, summing to s_k,
        N_k ← γ N_k + (1 − γ) n_k,   m_k ← γ m_k + (1 − γ) s_k,   e_k = m_k / Ñ_k,
    where Ñ is N after Laplace smoothing, so that a code nobody chooses does not divide by zero. Codes that have
    all but died out are restarted at vectors of the batch. Under `DistributedDataParallel` the averages are those of
    the first process, which are broadcast to the others.

    Args:
        dim: width of the vectors.
        codes: rows of the codebook.
        decay: γ; small values forget fast and suit short training.
        commitment: weight β of the loss β‖x − sg(e)‖² that keeps features near their codes.
        restart: a code is restarted when its share falls below this fraction of an equal share.
        epsilon: constant of the Laplace smoothing.

    The codebook starts empty: `initialise` fills it, or the first batch seen in training. `initialised` is a buffer,
    so a loaded model keeps its codebook.

    Raises:
        ValueError: if there is no code, or `decay` is outside [0, 1).
    """

    def __init__(
        self,
        dim: int,
        codes: int,
        decay: float = 0.99,
        commitment: float = 0.25,
        restart: float = 0.05,
        epsilon: float = 1e-5,
    ):
        super().__init__()
        if codes < 1:
            raise ValueError(f"A codebook needs at least 1 code, got {codes}.")
        if not 0 <= decay < 1:
            raise ValueError(f"decay is the share of the old average that is kept, in [0, 1), got {decay}.")
        self.decay, self.commitment, self.restart, self.epsilon = decay, commitment, restart, epsilon
        self.register_buffer("codebook", torch.zeros(codes, dim))
        self.register_buffer("count", torch.ones(codes))  # N: moving average of how many chose each code
        self.register_buffer("total", torch.zeros(codes, dim))  # m: moving average of their sum
        self.register_buffer("initialised", torch.tensor(False))

    @torch.no_grad()
    def initialise(
        self, x: Float[Tensor, "*batch dim"] | None = None, codebook: Float[Tensor, "codes dim"] | None = None
    ) -> None:
        """Fill the codebook with the k-means centres of `x`, or with `codebook` as given, and start counting afresh.

        Raises:
            ValueError: if there are fewer vectors than codes, or the given codebook has another shape.
        """
        if codebook is None:
            codebook = kmeans(x.detach().flatten(0, -2).to(self.codebook.dtype), len(self.codebook))
        if codebook.shape != self.codebook.shape:
            raise ValueError(
                f"The given codebook has shape {tuple(codebook.shape)}, expected {tuple(self.codebook.shape)} "
                "(codes, dim)."
            )
        self.codebook.copy_(codebook)
        self.total.copy_(codebook)
        self.count.fill_(1)
        self.initialised.fill_(True)

    def forward(self, x: Float[Tensor, "*batch dim"]) -> Quantized:
        """Replace each vector by its nearest code; gradients pass straight through to `x`.

        Raises:
            ValueError: if the width is not that of the codebook, or the codebook is empty in evaluation.
        """
        if x.shape[-1] != self.codebook.shape[1]:
            raise ValueError(
                f"The vectors have width {x.shape[-1]}, but the codebook has {self.codebook.shape[1]}."
            )
        if not self.initialised:
            if not self.training:
                raise ValueError(
                    "The codebook is empty: call initialise(features), or train one batch, before evaluating with it."
                )
            self.initialise(x)
        with torch.autocast(x.device.type, enabled=False):  # half precision cannot tell near codes apart
            still = x.detach().to(self.codebook.dtype)
            codes = nearest_code(still, self.codebook)  # (…, D) -> (…)
            chosen = F.embedding(codes, self.codebook).to(x.dtype)  # (…) -> (…, D)
            if self.training:
                self.update(still.flatten(0, -2), codes.flatten())
        loss = self.commitment * F.mse_loss(x, chosen)
        return Quantized(x + (chosen - x).detach(), codes, loss)

    @torch.no_grad()
    def update(self, x: Float[Tensor, "n dim"], codes: Int[Tensor, "n"]) -> None:
        """Move the averages and the codebook one step, then restart dead codes."""
        members = F.one_hot(codes, len(self.codebook)).to(x.dtype)  # (N, K)
        self.count.lerp_(members.sum(0), 1 - self.decay)
        self.total.lerp_(members.T @ x, 1 - self.decay)
        everyone = self.count.sum()
        smooth = (self.count + self.epsilon) / (everyone + len(self.count) * self.epsilon) * everyone
        self.codebook.copy_(self.total / smooth[:, None])
        self.restart_dead(x)

    def restart_dead(self, x: Float[Tensor, "n dim"]) -> None:
        """Put codes that fewer than `restart` of an equal share chose onto random vectors of the batch."""
        equal_share = self.count.mean()
        dead = (self.count < self.restart * equal_share).nonzero().flatten()[: len(x)]
        fresh = x[torch.randperm(len(x), device=x.device)[: len(dead)]]
        self.codebook[dead] = fresh
        self.total[dead] = fresh * equal_share
        self.count[dead] = equal_share
