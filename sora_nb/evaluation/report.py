"""What a classifier of videos did on videos that it has never seen, and how far to believe it. Derived in chapter 14."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from sora_nb.evaluation.scores import confusion, wilson

TEMPERATURES = (0.25, 20.0)  # without bounds a validation set without a mistake would ask for 0


class Mistake(NamedTuple):
    """A file that got another class than its own, and how sure the model was of it."""

    file: Path
    truth: str
    answer: str
    confidence: float


class Bin(NamedTuple):
    """Clips whose confidence lies in one range: how sure the model was, how often it was right, how many they are."""

    confidence: float
    accuracy: float
    count: int


@dataclass(frozen=True)
class Report:
    """Scores of files with known classes. A file that could not be read counts as a wrong answer.

    Attributes:
        classes: what the labels mean.
        files: those that were read.
        labels: their true classes.
        logits: their scores, divided by the recipe's temperature.
        sources: what film each file was cut from, the failed ones last; files of one source are no independent trials.
        failed: files that could not be read, with the reason.
    """

    classes: list[str]
    files: list[Path]
    labels: Int[Tensor, " n"]
    logits: Float[Tensor, "n classes"]
    sources: list[Hashable]
    failed: dict[Path, str] = field(default_factory=dict)

    @property
    def right(self) -> list[bool]:
        """Whether each answer is right, the failed files last."""
        return (self.logits.argmax(1) == self.labels).tolist() + [False] * len(self.failed)

    @property
    def accuracy(self) -> float:
        """Share of right answers among all files, read or not."""
        return sum(self.right) / len(self.right)

    @property
    def interval(self) -> tuple[float, float]:
        """The accuracy's 95 % interval, over sources."""
        return clustered_wilson(self.right, self.sources)

    @property
    def probabilities(self) -> Float[Tensor, "n classes"]:
        """Calibrated probability of each class."""
        return self.logits.softmax(1)

    def confusion(self) -> Int[Tensor, "classes classes"]:
        """Count answers: row = true class, column = answer."""
        return confusion(self.logits, self.labels)

    def worst(self, count: int = 5) -> list[Mistake]:
        """The mistakes of which the model was surest."""
        sure, answer = self.probabilities.max(1)
        wrong = sure.masked_fill(answer == self.labels, -1)
        order = wrong.argsort(descending=True, stable=True)[: min(count, int((wrong >= 0).sum()))].tolist()
        name = self.classes.__getitem__
        return [Mistake(self.files[i], name(self.labels[i]), name(answer[i]), sure[i].item()) for i in order]

    def __str__(self) -> str:
        low, high = self.interval
        lines = [
            f"{sum(self.right)} of {len(self.right)} right: accuracy {self.accuracy:.3f}, 95 % {low:.3f} to {high:.3f} "
            f"({len(set(self.sources))} sources; chance {1 / len(self.classes):.3f})"
        ]
        lines += [f"could not be read: {reason}" for reason in self.failed.values()]
        counts, names = self.confusion(), self.classes
        often = [
            (int(n), names[row], names[at]) for (row, at), n in np.ndenumerate(counts) if row != at and n
        ]
        lines += [f"{truth} called {answer}: {n}" for n, truth, answer in sorted(often, reverse=True)[:5]]
        lines += [
            f"worst: {m.file.name}, {m.truth} called {m.answer} ({m.confidence:.2f})" for m in self.worst()
        ]
        return "\n".join(lines)


def clustered_wilson(right: Sequence[bool], sources: Sequence[Hashable]) -> tuple[float, float]:
    """Wilson's interval for a share whose trials come in groups that succeed and fail together.

    The number of trials is divided by the design effect: the variance of the share between sources, as a ratio, by the
    variance that independent trials would have (Kish 1965), and never below 1. Where all or none are right it cannot be
    measured, and each source counts as one trial. Derived in chapter 14.

    Raises:
        ValueError: no trials, or another number of sources.
    """
    if len(right) != len(sources) or not len(right):
        raise ValueError(
            f"Got {len(right)} answers from {len(sources)} sources; expected one source an answer, and one answer or more."
        )
    names = {source: i for i, source in enumerate(dict.fromkeys(sources))}
    groups, n = [names[source] for source in sources], len(right)
    share, sizes = sum(right) / n, np.bincount(groups)
    if share in (0, 1) or len(sizes) == 1:
        return wilson(share * len(sizes), len(sizes))
    excess = np.bincount(groups, np.asarray(right, float)) - share * sizes
    variance = len(sizes) / (len(sizes) - 1) * (excess**2).sum() / n**2
    effect = max(1.0, variance / (share * (1 - share) / n))
    return wilson(float(share * n / effect), float(n / effect))


def fit_temperature(logits: Float[Tensor, "n classes"], labels: Int[Tensor, " n"]) -> float:
    """The number by which to divide logits so that their cross-entropy is least (Guo et al. 2017).

    Fit it on validation clips. It changes no answer, only how sure the answers are. Derived in chapter 14.
    """
    from scipy.optimize import minimize_scalar  # here: it takes a second to import

    logits = logits.double()
    loss = lambda inverse: F.cross_entropy(logits * inverse, labels).item()  # noqa: E731  convex in 1 / temperature
    low, high = TEMPERATURES
    return 1 / minimize_scalar(loss, bounds=(1 / high, 1 / low), method="bounded").x


def reliability(
    confidence: Float[Tensor, " n"], right: Bool[Tensor, " n"], bins: int = 10
) -> tuple[list[Bin], float]:
    """Confidence against accuracy in equal ranges of confidence, and their mean distance. Derived in chapter 14.

    Returns:
        The bins that hold clips, and the expected calibration error: Σ share of clips · |accuracy − confidence|.
    """
    at = (confidence * bins).ceil().long().clamp(1, bins)  # (0, 1/bins] is the first
    found = [
        Bin(confidence[at == b].mean().item(), right[at == b].float().mean().item(), int((at == b).sum()))
        for b in range(1, bins + 1)
        if (at == b).any()
    ]
    return found, sum(b.count * abs(b.accuracy - b.confidence) for b in found) / len(right)


def auroc(known: Float[Tensor, " n"], unknown: Float[Tensor, " m"]) -> float:
    """How often a known clip scores above an unknown one, ties counted half: the area under the ROC curve.

    Derived in chapter 14.
    """
    order = torch.cat([unknown, known]).double()
    values, where, counts = order.unique(return_inverse=True, return_counts=True)
    rank = (counts.cumsum(0) - (counts - 1).double() / 2)[where]  # ties share the mean of their ranks, from 1
    n, m = len(known), len(unknown)
    return ((rank[m:].sum() - n * (n + 1) / 2) / (n * m)).item()
