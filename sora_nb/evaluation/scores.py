"""Scores with their uncertainty: accuracies, reversal pairs, and probes on frozen features."""

import math

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


def accuracy(logits: Float[Tensor, "n classes"], labels: Int[Tensor, " n"]) -> float:
    """Share of rows whose largest logit is the label's. Derived in chapter 03."""
    _same_length(logits, labels)
    return (logits.argmax(-1) == labels).float().mean().item()


def wilson(successes: float | np.number, n: float, z: float = 1.96) -> tuple[float, float]:
    """Interval for a share measured on ``n`` independent trials (Wilson 1927; 95 % by default).

    Unlike mean ± z·sd it stays inside [0, 1] and is honest near 0 and 1. Derived in chapter 03.

    Raises:
        ValueError: no trials, or more successes than trials.
    """
    if not 0 <= successes <= n or n == 0:
        raise ValueError(
            f"wilson got {successes} successes in {n} trials; expected 0 <= successes <= trials and a trial."
        )
    share = successes / n
    center = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return center - half, center + half


def mean_interval(values, level: float = 0.95) -> tuple[float, float]:
    """Return (mean, half-width of the t interval) of a number measured once per seed. Derived in chapter 03.

    Raises:
        ValueError: fewer than two values, which show no spread.
    """
    from scipy.stats import t  # here, not at the top: scipy.stats and scikit-learn take seconds to import

    values = np.asarray(values, dtype=float)
    if values.size < 2:
        raise ValueError(f"mean_interval got {values.size} value; a spread needs at least two seeds.")
    return values.mean(), t.ppf(0.5 + level / 2, values.size - 1) * values.std(ddof=1) / math.sqrt(
        values.size
    )


def pair_scores(logits: Float[Tensor, "n classes"], labels: Int[Tensor, " n"]) -> dict[str, float]:
    """Split accuracy on reversal pairs (classes c and c^1) into what and which way. Derived in chapter 03.

    Returns:
        ``overall``: plain accuracy; ``pair``: the right pair, direction ignored; ``within``: the right direction when only
        the two logits of the true pair are compared (an exact tie counts half). Chance: 1/classes, 2/classes and 1/2.
    """
    _same_length(logits, labels)
    true = logits.gather(1, labels[:, None])[:, 0]  # (n, classes) -> (n,)
    twin = logits.gather(1, (labels ^ 1)[:, None])[:, 0]
    within = (true > twin).float() + 0.5 * (true == twin).float()
    return {
        "overall": accuracy(logits, labels),
        "pair": (logits.argmax(-1) // 2 == labels // 2).float().mean().item(),
        "within": within.mean().item(),
    }


def confusion(
    logits: Float[Tensor, "n classes"], labels: Int[Tensor, " n"]
) -> Int[Tensor, "classes classes"]:
    """Count answers: row = true class, column = predicted class. Derived in chapter 03."""
    _same_length(logits, labels)
    classes = logits.shape[1]
    return torch.bincount(labels * classes + logits.argmax(-1), minlength=classes**2).view(classes, classes)


def linear_probe(
    train, train_labels, val, val_labels, test, test_labels, strengths=(1e-3, 1e-2, 1e-1, 1.0)
) -> float:
    """Test accuracy of logistic regression on frozen features (n, dim).

    Features are standardised with the training set's statistics; the inverse regularisation strength is
    chosen on the validation set; the test set is touched once. Derived in chapter 04.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    train, val, test = (np.asarray(x, dtype=np.float64) for x in (train, val, test))
    scale = StandardScaler().fit(train)
    probes = [
        LogisticRegression(C=c, max_iter=2000).fit(scale.transform(train), train_labels) for c in strengths
    ]
    best = max(probes, key=lambda probe: probe.score(scale.transform(val), val_labels))
    return best.score(scale.transform(test), test_labels)


def knn_scores(
    train: Float[Tensor, "n dim"],
    train_labels: Int[Tensor, " n"],
    test: Float[Tensor, "m dim"],
    classes: int,
    k: int = 10,
) -> Float[Tensor, "m classes"]:
    """Votes of the ``k`` nearest training features by cosine.

    Votes weigh exp(similarity / 0.07), as in Wu et al. 2018. Derived in chapter 02.

    Raises:
        ValueError: ``k`` exceeds the number of training features.
    """
    if k > len(train):
        raise ValueError(f"knn asked for {k} neighbours of {len(train)} features; lower k.")
    similarity = F.normalize(test, dim=-1) @ F.normalize(train, dim=-1).T  # (m, n)
    nearest, index = similarity.topk(k)  # (m, k)
    votes = test.new_zeros(len(test), classes)
    return votes.scatter_add_(1, train_labels[index], ((nearest - 1) / 0.07).exp())  # (m, classes)


def knn(
    train: Float[Tensor, "n dim"], train_labels, test: Float[Tensor, "m dim"], test_labels, k: int = 10
) -> float:
    """Test accuracy of :func:`knn_scores`. Derived in chapter 04."""
    train_labels, test_labels = torch.as_tensor(train_labels), torch.as_tensor(test_labels)
    return accuracy(knn_scores(train, train_labels, test, int(train_labels.max()) + 1, k), test_labels)


def _same_length(logits: Tensor, labels: Tensor) -> None:
    if logits.ndim != 2 or len(logits) != len(labels) or len(labels) == 0:
        raise ValueError(
            f"Got logits of shape {tuple(logits.shape)} for labels of shape {tuple(labels.shape)}; expected (n, classes) and (n,), n > 0."
        )
    if not 0 <= int(labels.min()) <= int(labels.max()) < logits.shape[1]:
        raise ValueError(
            f"Labels run from {int(labels.min())} to {int(labels.max())}, but there are {logits.shape[1]} classes; "
            "expected labels from 0 to classes - 1."
        )
