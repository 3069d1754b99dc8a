"""Scores against independent references, and the properties a reader relies on."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import confusion_matrix
from sklearn.neighbors import KNeighborsClassifier

from sora_nb import evaluation as ev


def scores(n=400, classes=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, classes, generator=generator), torch.randint(classes, (n,), generator=generator)


def test_pair_scores_of_an_oracle_of_the_pair_are_half_within():
    labels = torch.arange(1200) % 12
    blind = torch.zeros(1200, 12)
    for pair in range(6):  # knows the pair, gives both directions the same score
        blind[labels // 2 == pair, 2 * pair : 2 * pair + 2] = 1.0
    assert ev.pair_scores(blind, labels)["pair"] == 1.0
    assert ev.pair_scores(blind, labels)["within"] == 0.5
    right = torch.eye(12)[labels]
    assert ev.pair_scores(right, labels) == {"overall": 1.0, "pair": 1.0, "within": 1.0}
    flipped = torch.eye(12)[labels ^ 1]
    assert ev.pair_scores(flipped, labels) == {"overall": 0.0, "pair": 1.0, "within": 0.0}


def test_pair_scores_agree_with_a_loop():
    logits, labels = scores()
    expected = np.mean([row[y] > row[y ^ 1] for row, y in zip(logits.tolist(), labels.tolist(), strict=True)])
    assert ev.pair_scores(logits, labels)["within"] == pytest.approx(expected)
    pairs = np.mean(
        [np.argmax(row) // 2 == y // 2 for row, y in zip(logits.tolist(), labels.tolist(), strict=True)]
    )
    assert ev.pair_scores(logits, labels)["pair"] == pytest.approx(pairs)


@pytest.mark.parametrize(("k", "n"), [(0, 20), (3, 20), (20, 20), (500, 1000)])
def test_wilson_equals_scipy(k, n):
    interval = stats.binomtest(k, n).proportion_ci(method="wilson")
    assert ev.wilson(k, n) == pytest.approx((interval.low, interval.high), abs=1e-4)


def test_wilson_covers_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = [lo <= 0.9 <= hi for lo, hi in (ev.wilson(k, 60) for k in rng.binomial(60, 0.9, 2000))]
    assert 0.92 < np.mean(hits) < 0.98


@pytest.mark.parametrize(("k", "n"), [(5, 4), (-1, 4), (0, 0)])
def test_wilson_refuses_impossible_counts(k, n):
    with pytest.raises(ValueError, match="expected 0 <= successes"):
        ev.wilson(k, n)


def test_mean_interval_equals_scipy_and_needs_two_seeds():
    values = [0.71, 0.74, 0.69, 0.80]
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    mean, half = ev.mean_interval(values)
    assert (mean - half, mean + half) == pytest.approx((low, high))
    assert ev.mean_interval([0.6, 0.8])[0] == pytest.approx(0.7)
    with pytest.raises(ValueError, match="at least two seeds"):
        ev.mean_interval([0.7])


def test_confusion_equals_sklearn():
    logits, labels = scores(classes=5)
    assert np.array_equal(
        ev.confusion(logits, labels), confusion_matrix(labels, logits.argmax(-1), labels=range(5))
    )


def test_knn_equals_sklearn_on_normalized_features():
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(4, 16))
    labels = rng.integers(4, size=300)
    x = (centers[labels] + 1.2 * rng.normal(size=(300, 16))).astype("float32")
    reference = KNeighborsClassifier(7, metric="cosine", weights=lambda d: np.exp(-d / 0.07)).fit(
        x[:200], labels[:200]
    )
    assert ev.knn(
        torch.tensor(x[:200]), labels[:200], torch.tensor(x[200:]), labels[200:], k=7
    ) == pytest.approx(reference.score(x[200:], labels[200:]))
    with pytest.raises(ValueError, match="asked for 9 neighbours of 5"):
        ev.knn(torch.tensor(x[:5]), labels[:5], torch.tensor(x[5:]), labels[5:], k=9)


def test_linear_probe_ignores_feature_scale_and_chooses_on_validation_only():
    rng = np.random.default_rng(1)
    labels = rng.integers(3, size=600)
    x = np.eye(3)[labels] @ rng.normal(size=(3, 10)) + 0.8 * rng.normal(size=(600, 10))
    cut = lambda a: (a[:300], a[300:450], a[450:])  # noqa: E731
    (a, b, c), (ya, yb, yc) = cut(x), cut(labels)
    plain = ev.linear_probe(a, ya, b, yb, c, yc)
    scale = np.geomspace(1e-3, 1e3, 10)
    assert plain > 0.6
    assert ev.linear_probe(a * scale, ya, b * scale, yb, c * scale, yc) == pytest.approx(plain)
    with_wrong_test_labels = ev.linear_probe(a, ya, b, yb, c, (yc + 1) % 3)
    assert with_wrong_test_labels < 1 - plain + 0.2, "test labels must not steer the choice"


@pytest.mark.parametrize("score", [ev.accuracy, ev.pair_scores, ev.confusion])
def test_wrong_lengths_and_labels_out_of_range_are_named(score):
    logits, labels = scores(10, 4)
    with pytest.raises(ValueError, match=r"shape \(10, 4\) for labels of shape \(9,\)"):
        score(logits, labels[:9])
    with pytest.raises(ValueError, match="there are 4 classes"):
        score(logits, labels + 2)
