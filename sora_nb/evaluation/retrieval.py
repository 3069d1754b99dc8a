"""How good a ranking is, and how much of the exact answer an index finds. Derived in chapter 15."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def ranked(
    scores: Float[Tensor, "queries items"], relevant: Bool[Tensor, "queries items"]
) -> Bool[Tensor, "queries items"]:
    """Whether the item at each rank is relevant, the highest score first.

    Where scores are equal the irrelevant items go first, so that a model which gives every item one score earns nothing by
    the order in which they happen to lie. Leave an item out, such as the query itself, with the score −∞. Derived in
    chapter 15.

    Raises:
        ValueError: the shapes differ, a score is not a number, or a query has no relevant item.
    """
    if scores.shape != relevant.shape:
        raise ValueError(
            f"Got scores of shape {tuple(scores.shape)} and relevance of shape {tuple(relevant.shape)}; expected "
            "(queries, items) for both."
        )
    if scores.isnan().any():
        raise ValueError("A score is not a number, and would be ranked first; look for it in the embeddings.")
    if not relevant.any(1).all():
        empty = int((~relevant.any(1)).nonzero()[0])
        raise ValueError(
            f"Query {empty} has no relevant item, so no ranking can be right; leave such queries out."
        )
    order = relevant.byte().argsort(dim=1, stable=True)  # irrelevant first
    order = order.gather(1, scores.gather(1, order).argsort(dim=1, descending=True, stable=True))
    return relevant.gather(1, order)


def recall_at_k(
    scores: Float[Tensor, "queries items"], relevant: Bool[Tensor, "queries items"], k: int
) -> Float[Tensor, " queries"]:
    """1 for each query that has a relevant item among its ``k`` best, else 0.

    This is what papers on video retrieval call R@k, and torchmetrics ``retrieval_hit_rate``. Derived in chapter 15.

    Raises:
        ValueError: see `ranked`.
    """
    return ranked(scores, relevant)[:, :k].any(1).float()


def precision_at_k(
    scores: Float[Tensor, "queries items"], relevant: Bool[Tensor, "queries items"], k: int
) -> Float[Tensor, " queries"]:
    """Share of relevant items among the ``k`` best of each query. Derived in chapter 15.

    Raises:
        ValueError: see `ranked`.
    """
    return ranked(scores, relevant)[:, :k].float().mean(1)


def average_precision(
    scores: Float[Tensor, "queries items"], relevant: Bool[Tensor, "queries items"]
) -> Float[Tensor, " queries"]:
    """Mean, over the relevant items of a query, of the precision at the rank where each stands.

    A ranking at random has about the share of relevant items. Derived in chapter 15.

    Raises:
        ValueError: see `ranked`.
    """
    hits = ranked(scores, relevant).double()
    ranks = torch.arange(1, hits.shape[1] + 1, device=hits.device)
    precision = hits.cumsum(1) / ranks  # (queries, items)
    return ((precision * hits).sum(1) / hits.sum(1)).float()


def neighbor_recall(found: Int[Tensor, "queries k"], exact: Int[Tensor, "queries k"]) -> float:
    """Share of the exact ``k`` nearest neighbours that an index found, in any order.

    An index fills up with −1 where it finds fewer; that is no neighbour. Derived in chapter 15.
    """
    same = found[:, :, None] == exact[:, None, :]  # (queries, k, k)
    return same.any(1).float().mean().item()
