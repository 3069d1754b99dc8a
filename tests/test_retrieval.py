"""Rankings: values against torchmetrics and scikit-learn, ties, and what is refused."""

import pytest
import torch

from sora_nb.evaluation.retrieval import (
    average_precision,
    neighbor_recall,
    precision_at_k,
    ranked,
    recall_at_k,
)


@pytest.fixture
def ranking():
    """Forty queries, thirty items, about a fifth relevant and at least one, no two scores alike."""
    draw = torch.Generator().manual_seed(0)
    relevant = torch.rand(40, 30, generator=draw) < 0.2
    relevant[:, 3] = True
    return torch.randn(40, 30, generator=draw), relevant


def each(metric, scores, relevant, **options):
    """A reference that takes one query at a time, and what scores 0 or less for not retrieved: so all are lifted above."""
    scores = scores - scores.min() + 1
    return torch.stack([metric(s, r, **options) for s, r in zip(scores, relevant, strict=True)])


@pytest.mark.parametrize("k", [1, 5, 30])
def test_at_k_equals_torchmetrics(ranking, k):
    from torchmetrics.functional import retrieval  # here: it takes many seconds to import

    reference = each(retrieval.retrieval_hit_rate, *ranking, top_k=k)
    torch.testing.assert_close(recall_at_k(*ranking, k), reference)
    reference = each(retrieval.retrieval_precision, *ranking, top_k=k)
    torch.testing.assert_close(precision_at_k(*ranking, k), reference)


def test_average_precision_equals_torchmetrics_and_scikit_learn(ranking):
    from sklearn.metrics import average_precision_score
    from torchmetrics.functional import retrieval

    ours = average_precision(*ranking)
    torch.testing.assert_close(ours, each(retrieval.retrieval_average_precision, *ranking))
    theirs = [average_precision_score(r.numpy(), s.numpy()) for s, r in zip(*ranking, strict=True)]
    torch.testing.assert_close(ours.double(), torch.tensor(theirs).double(), rtol=0, atol=1e-5)


def test_by_hand():
    scores, relevant = torch.tensor([[0.9, 0.8, 0.7, 0.1]]), torch.tensor([[False, True, False, True]])
    assert ranked(scores, relevant).tolist() == [[False, True, False, True]]
    assert average_precision(scores, relevant).item() == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert [recall_at_k(scores, relevant, k).item() for k in (1, 2)] == [0, 1]
    assert precision_at_k(scores, relevant, 2).item() == 0.5


def test_equal_scores_earn_nothing_by_their_place():
    """Relevant items first, last or in the middle: a constant score stands at the bottom of its ties."""
    for places in ([0, 1], [4, 5], [2, 4]):
        relevant = torch.zeros(1, 6, dtype=torch.bool)
        relevant[0, places] = True
        assert ranked(torch.ones(1, 6), relevant)[0].tolist() == [False] * 4 + [True] * 2
        assert recall_at_k(torch.ones(1, 6), relevant, 4).item() == 0


def test_an_item_left_out_is_last():
    scores = torch.tensor([[float("-inf"), 0.2, -5.0]])
    assert ranked(scores, torch.tensor([[False, False, True]]))[0].tolist() == [False, True, False]


def test_the_order_of_items_does_not_matter(ranking):
    scores, relevant = ranking
    scores = scores.round()  # many ties
    turn = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    ours = average_precision(scores, relevant)
    torch.testing.assert_close(average_precision(scores[:, turn], relevant[:, turn]), ours)


def test_what_is_refused(ranking):
    scores, relevant = ranking
    with pytest.raises(ValueError, match="not a number"):
        average_precision(scores.where(scores < 2, torch.nan), relevant)
    with pytest.raises(ValueError, match="Query 2 has no relevant item"):
        recall_at_k(scores, relevant & (torch.arange(40) != 2)[:, None], 1)
    with pytest.raises((ValueError, TypeError)):
        precision_at_k(scores, relevant[:, 1:], 1)


def test_neighbor_recall_counts_each_exact_neighbor_once():
    exact = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
    assert neighbor_recall(exact.flip(1), exact) == 1
    assert neighbor_recall(torch.tensor([[4, 9, 9, 1], [-1, -1, -1, 5]]), exact) == 3 / 8
    assert neighbor_recall(torch.tensor([[1, 1, 1, 1], [0, 0, 0, 0]]), exact) == 1 / 8
