"""Scores of labels over time: segments, edit score, F1 by overlap, events spotted within a tolerance.

Derived in chapter 16; the first three as in the evaluation of MS-TCN (Abu Farha and Gall 2019, arXiv 1903.01945).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from torch import Tensor

Labels = Int[Tensor, " time"]


class Segment(NamedTuple):
    """A run of frames with one label, ``start`` to ``end`` - 1. Introduced in chapter 16."""

    label: int
    start: int
    end: int


class Spot(NamedTuple):
    """An event that a model reports: where, which, and how sure it is. Introduced in chapter 16."""

    video: int
    frame: int
    label: int
    confidence: float


def segments(labels: Labels, ignore: int | None = None) -> list[Segment]:
    """Cut a row of labels where they change; segments labelled ``ignore`` are left out. Derived in chapter 16."""
    row = labels.tolist()
    starts = [t for t in range(len(row)) if t == 0 or row[t] != row[t - 1]]
    runs = zip(starts, [*starts[1:], len(row)], strict=True)
    return [Segment(row[start], start, end) for start, end in runs if row[start] != ignore]


def edit_score(predicted: Labels, true: Labels, ignore: int | None = None) -> float:
    """How alike two orders of segments are, lengths ignored: 1 - Levenshtein distance / the longer order's length.

    Two videos without any segment are alike: 1. Derived in chapter 16.

    Raises:
        ValueError: the two differ in length.
    """
    _same_length(predicted, true)
    p, y = ([s.label for s in segments(row, ignore)] for row in (predicted, true))
    before = list(range(len(y) + 1))
    for i, mine in enumerate(p, 1):
        row = [i]
        for j, theirs in enumerate(y, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (mine != theirs)))
        before = row
    return 1 - before[-1] / max(len(p), len(y), 1)


def matches(
    predicted: Labels, true: Labels, overlap: float, ignore: int | None = None
) -> tuple[int, int, int]:
    """Count right segments, surplus ones and missed ones.

    Each predicted segment, in order of time, takes the true segment of its label with the largest intersection over
    union. It is right if that is at least ``overlap`` and no earlier segment has it. Derived in chapter 16.

    Raises:
        ValueError: the two differ in length.
    """
    _same_length(predicted, true)
    targets, free = segments(true, ignore), set()
    free.update(range(len(targets)))
    found = segments(predicted, ignore)
    for segment in found:
        shares = [_overlap(segment, t) * (segment.label == t.label) for t in targets]
        best = int(np.argmax(shares)) if shares else -1
        if shares and shares[best] >= overlap:
            free.discard(best)
    right = len(targets) - len(free)
    return right, len(found) - right, len(free)


def f1_at(
    predicted: Sequence[Labels], true: Sequence[Labels], overlap: float, ignore: int | None = None
) -> float:
    """F1 of segments whose intersection over union with a true one reaches ``overlap``, over all videos together.

    A segment cut in two is one right and one surplus at best, so over-segmentation is paid for. Derived in chapter 16.

    Raises:
        ValueError: the numbers or lengths of videos differ, or the overlap is not above 0 and at most 1.
    """
    if not 0 < overlap <= 1:
        raise ValueError(f"f1_at got overlap={overlap}; expected a share above 0 and at most 1.")
    counts = [matches(p, y, overlap, ignore) for p, y in zip(predicted, true, strict=True)]
    right, surplus, missed = np.sum(counts, axis=0)
    return float(2 * right / max(2 * right + surplus + missed, 1))


def spotting_ap(found: Sequence[Spot], true: Sequence[Spot], tolerance: int) -> dict[int, float]:
    """Average precision of each class of event, where a spot may be off by ``tolerance`` frames.

    Spots are taken from the surest on; each is right if a true event of its video and class is near enough and still
    free, of which it takes the nearest. The area is the sum of the precision at each right spot, over the number of
    true events: no interpolation. The mean over classes is the mAP. Derived in chapter 16.

    Args:
        found: what a model reports.
        true: what happened; confidences are not read.
        tolerance: frames to either side, 0 or more.
    """
    scores = {}
    for label in sorted({event.label for event in true}):
        free = [event for event in true if event.label == label]
        total, right, area = len(free), 0, 0.0
        mine = sorted((s for s in found if s.label == label), key=lambda s: -s.confidence)
        for rank, spot in enumerate(mine, 1):
            near = [event for event in free if event.video == spot.video]
            near = [event for event in near if abs(event.frame - spot.frame) <= tolerance]
            if near:
                free.remove(min(near, key=lambda event: abs(event.frame - spot.frame)))
                right += 1
                area += right / rank
        scores[label] = area / total
    return scores


def _overlap(a: Segment, b: Segment) -> float:
    shared = min(a.end, b.end) - max(a.start, b.start)
    return max(shared, 0) / (max(a.end, b.end) - min(a.start, b.start))


def _same_length(predicted: Tensor, true: Tensor) -> None:
    if len(predicted) != len(true) or not len(true):
        raise ValueError(
            f"Got {len(predicted)} predicted labels for {len(true)} frames; expected one for each frame, and a frame."
        )
