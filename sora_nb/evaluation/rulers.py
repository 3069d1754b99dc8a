"""Rulers: what a score on reversal pairs has to beat. Cheap, without seeds, and called alike in every chapter.

Four are linear, and all of these are sums of terms that look at one frame each: on the motion set their loss within a
pair cannot fall below log 2 in expectation. Two compare pixels with those of every training clip. Derived in chapter 03.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from sora_nb.evaluation.scores import pair_scores

Clips = Float[Tensor, "n time channels height width"]
Split = tuple[Float[Tensor, "_ time channels height width"], Int[Tensor, "_"]]

SIDE = 16  # pixels of a thumbnail
STRENGTHS = (0.1, 1.0, 10.0, 100.0)  # of the penalty, in units of a clip's mean squared length
VIEWS = {
    "frame 0 alone": lambda x: x[:, 0],
    "mean over time": lambda x: x.mean(1),
    "frames side by side, linear": lambda x: x.flatten(1),
    "frame differences, linear": lambda x: (x[:, 1:] - x[:, :-1]).flatten(1),
}
COLUMNS = ("overall", "pair", "within", "left", "up", "size", "turn", "fade", "split")


def with_reversals(clips: Clips, labels: Int[Tensor, " n"]) -> Split:
    """Each clip and, after all of them, each clip played backwards with its twin's label. Derived in chapter 03."""
    return torch.cat([clips, clips.flip(1)]), torch.cat([labels, labels ^ 1])


def within_each(logits: Float[Tensor, "n classes"], labels: Int[Tensor, " n"]) -> list[float]:
    """The ``within`` of `pair_scores` for each reversal pair by itself. Derived in chapter 03."""
    pairs = [labels // 2 == pair for pair in range(logits.shape[1] // 2)]
    return [pair_scores(logits[chosen], labels[chosen])["within"] for chosen in pairs]


def ruler_scores(train: Split, val: Split, test: Split) -> dict[str, Float[Tensor, "m classes"]]:
    """Scores that each ruler gives the test clips, by the name that chapters print. Derived in chapter 03.

    Args:
        train: float clips and labels; what the rulers are fitted to.
        val: chooses the strength of the linear rulers' penalty.
        test: clips to score; `with_reversals` makes the order-blind ones read one half exactly.
    """
    (a, b, c), y, y_val = (thumbnails(clips) for clips, _ in (train, val, test)), train[1], val[1]
    scores = {name: linear_scores(view(a), y, view(b), y_val, view(c)) for name, view in VIEWS.items()}
    near, far = ((x - x.mean(1, keepdim=True)).flatten(1) for x in (a, c))  # a still background is gone
    scores["pixel neighbours, distance"] = nearest_scores(near, y, far)
    scores["pixel neighbours, cosine"] = nearest_scores(F.normalize(near), y, F.normalize(far))
    return scores


def thumbnails(clips: Clips) -> Float[Tensor, "n time pixels"]:
    """Frames averaged down to 16 × 16, as vectors. Derived in chapter 03."""
    small = F.adaptive_avg_pool2d(clips.flatten(0, 1), SIDE)  # (n·T, C, 16, 16)
    return small.flatten(1).unflatten(0, clips.shape[:2])


def linear_scores(
    train: Float[Tensor, "n dim"],
    labels: Int[Tensor, " n"],
    val: Float[Tensor, "v dim"],
    val_labels: Int[Tensor, " v"],
    test: Float[Tensor, "m dim"],
) -> Float[Tensor, "m classes"]:
    """Ridge regression in two steps: which pair, then, among the clips of each pair, which way.

    The second step is fitted with the pair known, so ``within`` is as strong as a linear model on these
    features can make it; it is scaled down so that it never changes the pair. Derived in chapter 03.
    """
    pairs = int(labels.max()) // 2 + 1
    which = [F.one_hot(y // 2, pairs).to(train) for y in (labels, val_labels)]
    logits = _ridge(train, which[0], val, which[1], test).repeat_interleave(2, 1)  # (m, classes)
    for pair in range(pairs):
        a, b = labels // 2 == pair, val_labels // 2 == pair
        sign = [(2 * (y % 2) - 1)[:, None].to(train) for y in (labels[a], val_labels[b])]
        way = _ridge(train[a], sign[0], val[b], sign[1], test)  # (m, 1), above 0 for the odd class
        logits[:, 2 * pair : 2 * pair + 2] += 1e-3 * torch.cat([-way, way], 1)
    return logits


def nearest_scores(
    train: Float[Tensor, "n dim"], labels: Int[Tensor, " n"], test: Float[Tensor, "m dim"]
) -> Float[Tensor, "m classes"]:
    """Minus the distance to the nearest training vector of each class.

    The largest score is the nearest neighbour's class. For cosine instead of distance give vectors of length
    1. Derived in chapter 03.
    """
    distance = torch.cdist(test, train)  # (m, n)
    classes = range(int(labels.max()) + 1)
    return -torch.stack([distance[:, labels == c].amin(1) for c in classes], 1)


def ruler_table(
    scores: dict[str, Float[Tensor, "n classes"] | list[Tensor]], labels: Int[Tensor, " n"]
) -> str:
    """One line a ruler or model: overall, pair, within, then within each pair. Derived in chapter 03.

    Args:
        scores: logits on the same clips by name; of a list (one entry a seed) the mean score is printed.
        labels: of these clips.
    """
    width = max(map(len, scores)) + 1
    spaces = [max(6, len(name) + 1) for name in COLUMNS]
    heads = zip(COLUMNS, spaces, strict=True)
    lines = [" " * width + "".join(f"{name:>{space}}" for name, space in heads)]
    for name, runs in scores.items():
        rows = [
            [*pair_scores(logits, labels).values(), *within_each(logits, labels)]
            for logits in (runs if isinstance(runs, list) else [runs])
        ]
        means = torch.tensor(rows).mean(0).tolist()
        cells = zip(means, spaces, strict=True)
        lines.append(f"{name:{width}}" + "".join(f"{mean:{space}.2f}" for mean, space in cells))
    return "\n".join(lines)


def _ridge(x: Tensor, y: Tensor, x_val: Tensor, y_val: Tensor, x_test: Tensor) -> Tensor:
    """Predictions of the penalised least-squares fit, through the (n, n) products of the training vectors."""
    center, offset = x.mean(0), y.mean(0)
    x, x_val, x_test = x - center, x_val - center, x_test - center
    gram, best, least = x @ x.T, None, float("inf")
    for strength in STRENGTHS:
        penalty = strength * gram.trace() / len(x) * torch.eye(len(x)).to(x)
        weights = torch.cholesky_solve(y - offset, torch.linalg.cholesky(gram + penalty))  # (n, outputs)
        error = (x_val @ (x.T @ weights) + offset - y_val).square().mean().item()
        if error < least:
            least, best = error, weights
    return x_test @ (x.T @ best) + offset
