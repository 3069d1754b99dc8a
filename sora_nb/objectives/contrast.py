"""Losses that need no labels, and measures of what they make of a representation. Derived in chapter 11."""

from collections.abc import Callable

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sora_nb.objectives.views import view as usual_view


def info_nce(
    queries: Float[Tensor, "n dim"], keys: Float[Tensor, "n dim"], temperature: float = 0.15,
    negatives: Float[Tensor, "m dim"] | None = None,
) -> Float[Tensor, ""]:  # fmt: skip
    r"""Cross-entropy of picking the own key among all candidates (van den Oord et al. 2018). Derived in chapter 11.

    :math:`-\frac1n \sum_i \log \frac{\exp(q_i^\top k_i/\tau)}{\sum_c \exp(q_i^\top c/\tau)}` with vectors scaled to length 1.

    Args:
        queries: one vector a clip.
        keys: row i is the partner of query i; the other rows are its negatives.
        temperature: τ.
        negatives: further candidates for every query, such as MoCo's queue.

    Raises:
        ValueError: queries and keys differ in shape, or the temperature is not positive.
    """
    _check(queries, keys, temperature)
    candidates = keys if negatives is None else torch.cat([keys, negatives])  # (n + m, D)
    logits = F.normalize(queries, dim=-1) @ F.normalize(candidates, dim=-1).T / temperature  # (n, n + m)
    return F.cross_entropy(logits, torch.arange(queries.shape[0], device=queries.device))


def nt_xent(
    first: Float[Tensor, "n dim"], second: Float[Tensor, "n dim"], temperature: float = 0.15
) -> Float[Tensor, ""]:
    """Each of the 2n views picks its partner among the 2n - 1 others (Chen et al. 2020). Derived in chapter 11.

    Under several processes the candidates are those of all of them, and every process returns the loss of the whole batch.

    Raises:
        ValueError: the two differ in shape or hold fewer than two clips, or the temperature is not positive.
    """
    _check(first, second, temperature)
    first, second = gather_with_gradient(first), gather_with_gradient(second)
    n = first.shape[0]
    if n < 2:
        raise ValueError(f"nt_xent got {n} clip; without a second one there is no negative.")
    z = F.normalize(torch.cat([first, second]), dim=-1)  # (2n, D)
    itself = torch.eye(2 * n, dtype=torch.bool, device=z.device)
    logits = (z @ z.T / temperature).masked_fill(itself, float("-inf"))  # (2n, 2n)
    return F.cross_entropy(logits, torch.arange(2 * n, device=z.device).roll(n))


def vicreg(
    first: Float[Tensor, "n dim"], second: Float[Tensor, "n dim"],
    invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0,
) -> Float[Tensor, ""]:  # fmt: skip
    """Pull views together, keep each dimension's spread at 1 and dimensions uncorrelated (Bardes et al. 2022).

    No clip is compared with another. Derived in chapter 11.

    Raises:
        ValueError: the two differ in shape or hold fewer than two clips.
    """
    _check(first, second)
    first, second = gather_with_gradient(first), gather_with_gradient(second)
    if first.shape[0] < 2:
        raise ValueError("vicreg got 1 clip; without a second one there is no spread.")
    loss = invariance * F.mse_loss(first, second)
    for z in (first, second):
        cov = torch.cov(z.T)  # (n, D) -> (D, D)
        loss = loss + variance * F.relu(1 - (cov.diagonal() + 1e-4).sqrt()).mean() / 2
        loss = loss + covariance * (cov - cov.diagonal().diag()).square().sum() / cov.shape[0]
    return loss


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, counts: list[int]) -> Tensor:
        ctx.counts = counts
        missing = max(counts) - len(x)
        padded = torch.cat([x, x.new_zeros(missing, *x.shape[1:])])  # all_gather takes equal shapes
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded.contiguous())
        return torch.cat([part[:count] for part, count in zip(parts, counts)])

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)  # every process's loss looks at these rows
        return gradient.split(ctx.counts)[dist.get_rank()], None


def gather_with_gradient(x: Float[Tensor, "n dim"]) -> Float[Tensor, "all dim"]:
    """The rows of all processes, in order of rank; the gradient finds its way back to each. Derived in chapter 11.

    Its backward adds up the gradients of all processes' losses. DistributedDataParallel then takes the mean over processes, so a
    loss that every process computes on the gathered rows has exactly the gradient of one process with the whole batch,
    also where the processes hold different numbers of rows. In a single process this returns its input.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return x
    counts = [torch.zeros(1, dtype=torch.long, device=x.device) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, torch.tensor([len(x)], device=x.device))
    return _Gather.apply(x, [int(count) for count in counts])


def alignment(first: Float[Tensor, "n dim"], second: Float[Tensor, "n dim"]) -> Float[Tensor, ""]:
    """Mean squared distance of partners on the unit sphere; 0 is best (Wang & Isola 2020). Derived in chapter 11."""
    return (F.normalize(first, dim=1) - F.normalize(second, dim=1)).square().sum(1).mean()


def uniformity(z: Float[Tensor, "n dim"], t: float = 2.0) -> Float[Tensor, ""]:
    """Log of the mean of exp(-t·distance²) over pairs on the unit sphere; 0 if all points coincide, less is better.

    Wang & Isola 2020. Derived in chapter 11.
    """
    return torch.pdist(F.normalize(z, dim=1)).square().mul(-t).exp().mean().log()


def effective_rank(z: Float[Tensor, "n dim"]) -> float:
    """exp of the entropy of the centred singular values' shares: from 1 to dim (Roy & Vetterli 2007). Derived in chapter 11."""
    values = torch.linalg.svdvals((z - z.mean(0)).double())
    return float(torch.special.entr(values / values.sum().clamp(min=1e-12)).sum().exp())


def contrast_step(
    view: Callable = usual_view, loss: Callable = nt_xent, pairs: bool = False
) -> Callable[[torch.nn.Module, tuple], tuple[Tensor, Tensor]]:
    """A training step for ``training.fit``: two views of each clip, one pass, one loss. Derived in chapter 11.

    The step takes a model with ``project`` and a batch whose first item is the clips. With ``pairs`` the second view is
    one of the batch's second item, partner clips that show the same motion otherwise. Its score is `picked`.

    Args:
        view: makes a random view of clips.
        loss: compares first with second views.
        pairs: take the second view of partner clips.
    """

    def step(model, batch):
        views = torch.cat([view(batch[0]), view(batch[1] if pairs else batch[0])])
        first, second = model.project(views).chunk(2)
        return loss(first, second), picked(first.detach(), second.detach())

    return step


def picked(first: Float[Tensor, "n dim"], second: Float[Tensor, "n dim"]) -> Float[Tensor, ""]:
    """How often a clip's partner is the nearest of all second views by cosine; chance is 1/n. Derived in chapter 11.

    Under several processes n are the clips of all of them.
    """
    first, second = gather_with_gradient(first), gather_with_gradient(second)
    nearest = (F.normalize(first, dim=1) @ F.normalize(second, dim=1).T).argmax(1)
    return (nearest == torch.arange(first.shape[0], device=first.device)).float().mean()


def _check(first: Tensor, second: Tensor, temperature: float = 1.0) -> None:
    if first.shape != second.shape or first.ndim != 2:
        raise ValueError(
            f"Got shapes {tuple(first.shape)} and {tuple(second.shape)}; expected two of the same (clips, dim)."
        )
    if temperature <= 0:
        raise ValueError(f"Got temperature {temperature}; it divides the similarities and must be positive.")
