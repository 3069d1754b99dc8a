"""Visual words: replace a feature by the nearest entry of a learned codebook (van den Oord et al. 2017).

Derived in chapter 07.
"""

from contextlib import nullcontext
from typing import NamedTuple

import torch
import torch.distributed as dist
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


def kmeans(
    x: Float[Tensor, "n dim"], clusters: int, steps: int = 10, sample: int = 20_000
) -> Float[Tensor, "clusters dim"]:
    """Lloyd's algorithm from distinct random rows of `x`; a cluster that loses all its rows stays where it is.

    Of more rows than `sample` it looks at so many, drawn at random.

    Raises:
        ValueError: if there are fewer rows than clusters.
    """
    if len(x) < clusters:
        raise ValueError(
            f"k-means for {clusters} codes needs at least {clusters} feature vectors, got {len(x)}: "
            "pass more clips or use fewer codes."
        )
    x = x[torch.randperm(len(x), device=x.device)[: max(sample, clusters)]]
    centers = x[:clusters]
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
    all but died out are restarted at vectors of the batch. Under several processes the counts and sums are those of
    all of them; restarts differ, until `DistributedDataParallel` broadcasts the first process's.

    Args:
        dim: width of the vectors.
        codes: rows of the codebook.
        decay: γ; small values forget fast and suit short training.
        commitment: weight β of the loss β‖x − sg(e)‖² that keeps features near their codes.
        restart: a code is restarted when its share falls below this fraction of an equal share.
        epsilon: constant of the Laplace smoothing.

    The codebook starts empty and `initialise` fills it. Whether it is filled is a Python bool, so that no forward pass
    has to look at a tensor's value, and is kept in the state dict: a loaded model keeps its codebook.

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
        self.initialised = False

    def get_extra_state(self) -> Tensor:
        """What the state dict holds beside the buffers: whether the codebook is filled."""
        return torch.tensor(self.initialised)

    def set_extra_state(self, state: Tensor) -> None:
        """Take over what `get_extra_state` gave."""
        self.initialised = bool(state)

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
        self.initialised = True

    def forward(self, x: Float[Tensor, "*batch dim"]) -> Quantized:
        """Replace each vector by its nearest code; gradients pass straight through to `x`.

        Raises:
            ValueError: if the width is not that of the codebook, or the codebook is empty.
        """
        if x.shape[-1] != self.codebook.shape[1]:
            raise ValueError(
                f"The vectors have width {x.shape[-1]}, but the codebook has {self.codebook.shape[1]}."
            )
        if not self.initialised:
            raise ValueError("The codebook is empty: call initialise(features) first.")
        autocast = nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)
        with autocast:  # half precision cannot tell near codes apart
            still = _exact(x.detach())
            codes = nearest_code(still, _exact(self.codebook))  # (…, D) -> (…)
            chosen = F.embedding(codes, self.codebook).to(x.dtype)  # (…) -> (…, D)
            if self.training:
                self.update(still.flatten(0, -2), codes.flatten())
        loss = self.commitment * F.mse_loss(x, chosen)
        return Quantized(x + (chosen - x).detach(), codes, loss)

    @torch.no_grad()
    def update(self, x: Float[Tensor, "n dim"], codes: Int[Tensor, " n"]) -> None:
        """Move the averages and the codebook one step, then restart dead codes."""
        x = x.to(self.codebook.dtype)
        members = F.one_hot(codes, self.codebook.shape[0]).to(x.dtype)  # (N, K)
        chosen, total = members.sum(0), members.T @ x
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(chosen), dist.all_reduce(total)
        self.count.lerp_(chosen, 1 - self.decay)
        self.total.lerp_(total, 1 - self.decay)
        everyone, size = self.count.sum(), self.count.shape[0]
        smooth = (self.count + self.epsilon) / (everyone + size * self.epsilon) * everyone
        self.codebook.copy_(self.total / smooth[:, None])
        self.restart_dead(x)

    def restart_dead(self, x: Float[Tensor, "n dim"]) -> None:
        """Put codes that fewer than `restart` of an equal share chose onto random vectors of the batch, each its own."""
        equal_share = self.count.mean()
        dead = self.count < self.restart * equal_share  # (K)
        turn = dead.cumsum(0) - 1  # the how-manieth dead code it is
        dead = dead & (turn < x.shape[0])
        fresh = x[torch.randperm(x.shape[0], device=x.device)][turn.clamp(0, x.shape[0] - 1)]  # (K, D)
        self.codebook.copy_(torch.where(dead[:, None], fresh, self.codebook))
        self.total.copy_(torch.where(dead[:, None], fresh * equal_share, self.total))
        self.count.copy_(torch.where(dead, equal_share, self.count))


class ProductQuantizer(nn.Module):
    """Several words a vector: it is cut into `groups` parts, each with a codebook of its own (Jégou et al. 2011).

    `groups` words of J codes each tell J^groups vectors apart, for `groups` · log2 J bits. With one group it is a
    `VectorQuantizer`. Derived in chapter 07.

    Args:
        dim: width of the vectors.
        codes: rows of each codebook.
        groups: parts; divides `dim`.
        options: further arguments of `VectorQuantizer`.

    Raises:
        ValueError: if `groups` does not divide `dim`.
    """

    def __init__(self, dim: int, codes: int, groups: int = 1, **options):
        super().__init__()
        if groups < 1 or dim % groups:
            raise ValueError(
                f"{groups} words a vector do not divide a width of {dim}: choose a divisor of {dim} as groups."
            )
        self.parts = nn.ModuleList(VectorQuantizer(dim // groups, codes, **options) for _ in range(groups))

    @property
    def initialised(self) -> bool:
        return all(part.initialised for part in self.parts)

    @property
    def codebook(self) -> Float[Tensor, "groups codes part"]:
        return torch.stack([part.codebook for part in self.parts])

    def initialise(
        self,
        x: Float[Tensor, "*batch dim"] | None = None,
        codebook: Float[Tensor, "groups codes part"] | None = None,
    ) -> None:
        """Fill the codebooks as `VectorQuantizer.initialise` does, each from its part of `x` or of `codebook`."""
        pieces = [None] * len(self.parts) if x is None else x.chunk(len(self.parts), -1)
        books = [None] * len(self.parts) if codebook is None else codebook.unbind()
        for part, piece, book in zip(self.parts, pieces, books, strict=True):
            part.initialise(piece, book)

    def codes(self, x: Float[Tensor, "*batch dim"]) -> Int[Tensor, "*batch groups"]:
        """The words of each vector, without learning from it."""
        pieces = zip(self.parts, x.chunk(len(self.parts), -1), strict=True)
        return torch.stack([nearest_code(_exact(x), _exact(part.codebook)) for part, x in pieces], -1)

    def forward(self, x: Float[Tensor, "*batch dim"]) -> Quantized:
        """Replace each part by its nearest code; the loss is the mean over parts."""
        done = [part(piece) for part, piece in zip(self.parts, x.chunk(len(self.parts), -1), strict=True)]
        return Quantized(
            torch.cat([q.vectors for q in done], -1),
            torch.stack([q.codes for q in done], -1),
            torch.stack([q.loss for q in done]).mean(),
        )


def _exact(x: Tensor) -> Tensor:
    """At least single precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
