"""Scores of boxes: average precision of detections, and MOTA and IDF1 of tracks.

Derived in chapter 17.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sora_nb.layers.boxes import assign, iou

# Of a frame: boxes, scores and classes that were found; boxes and classes that are there.
Found = tuple[Float[Tensor, "_ 4"], Float[Tensor, " _"], Int[Tensor, " _"]]
There = tuple[Float[Tensor, "_ 4"], Int[Tensor, " _"]]  # as many as there are, other numbers in other frames
COCO = tuple(np.arange(50, 100, 5) / 100)


def hits(found: Float[Tensor, "n 4"], there: Float[Tensor, "m 4"], least: float) -> Bool[Tensor, " n"]:
    """Which detections of one frame and class, surest first, are right: each takes the free object of largest IoU.

    Of two detections of one object the second is wrong, however well it fits. Derived in chapter 17.
    """
    table = iou(found[:, None], there[None])  # (n, m)
    right = torch.zeros(len(found), dtype=torch.bool)
    for row in range(len(found)):
        if table.shape[1] and table[row].max() >= least:
            right[row] = True
            table[:, table[row].argmax()] = -1  # taken
    return right


def average_precision(scores: Float[Tensor, " n"], right: Bool[Tensor, " n"], objects: int) -> float:
    """Area under precision over recall, as COCO reads it off.

    The mean, at the recalls 0, .01, …, 1, of the best precision from there on. Derived in chapter 17.

    Args:
        scores: of all detections of a class, over all frames.
        right: which of them :func:`hits` says are right.
        objects: how many there were to find.

    Raises:
        ValueError: there was nothing to find.
    """
    if objects < 1:
        raise ValueError("average_precision got no objects; leave a class out that never occurs.")
    right = right[scores.argsort(descending=True, stable=True)].double()
    recall = right.cumsum(0) / objects
    precision = right.cumsum(0) / torch.arange(1, len(right) + 1)
    best = precision.flip(0).cummax(0).values.flip(0) if len(right) else precision
    # A recall such as 3/5 must meet the point .60 in spite of rounding.
    at = torch.searchsorted(recall + 1e-9, torch.linspace(0, 1, 101, dtype=torch.double))
    return torch.cat([best, best.new_zeros(1)])[at].mean().item()


def mean_average_precision(
    found: Sequence[Found], there: Sequence[There], least: Sequence[float] = COCO
) -> dict[str, float]:
    """Average precision over classes and least overlaps, as COCO's. Derived in chapter 17.

    Args:
        found: boxes, scores and classes of each frame.
        there: boxes and classes of what is in each frame.
        least: IoU from which a detection counts as right.

    Returns:
        ``map`` over all of ``least``, and ``ap50``-like entries, one for each of them, over the classes that occur.

    Raises:
        ValueError: the two are not of the same frames, or there is nothing to find.
    """
    if len(found) != len(there):
        raise ValueError(
            f"Got detections of {len(found)} frames and objects of {len(there)}; give both of the same."
        )
    classes = sorted(set(torch.cat([labels for _, labels in there]).tolist())) if there else []
    if not classes:
        raise ValueError("mean_average_precision got frames without any object; there is nothing to find.")
    scores = {
        f"ap{round(100 * t)}": float(np.mean([_of_class(found, there, c, t) for c in classes])) for t in least
    }
    return {"map": float(np.mean(list(scores.values()))), **scores}


def _of_class(found: Sequence[Found], there: Sequence[There], label: int, least: float) -> float:
    scores, right, objects = [], [], 0
    for (boxes, sure, said), (true, labels) in zip(found, there, strict=True):
        order = sure[said == label].argsort(descending=True, stable=True)
        scores.append(sure[said == label][order])
        right.append(hits(boxes[said == label][order], true[labels == label], least))
        objects += int((labels == label).sum())
    return average_precision(torch.cat(scores), torch.cat(right), objects)


Tracks = Float[Tensor, "_ _ 4"]  # track, time, corners; NaN in the frames in which there is no box


def tracking_scores(true: Sequence[Tracks], found: Sequence[Tracks], least: float = 0.5) -> dict[str, float]:
    """MOTA (Bernardin and Stiefelhagen 2008) and IDF1 (Ristani et al. 2016) over several clips.

    Frame by frame, an object keeps the track of the frame before while they overlap by ``least``, and the rest is assigned;
    what is left is missed or false, and an object whose track is another than its last one is a switch. IDF1 assigns
    each object one track for the whole clip and asks how many boxes then agree. Derived in chapter 17.

    Args:
        true: the objects of each clip, NaN where not seen.
        found: the tracks of each clip, NaN where there is no box.
        least: IoU from which two boxes agree.

    Returns:
        ``mota``, ``idf1``, and the counts ``objects``, ``misses``, ``false``, ``switches``.

    Raises:
        ValueError: not the same clips, not the same frames, or nothing to find.
    """
    if len(true) != len(found) or any(a.shape[1] != b.shape[1] for a, b in zip(true, found, strict=True)):
        raise ValueError(
            "tracking_scores wants the objects and the tracks of the same clips, over the same frames."
        )
    n = dict.fromkeys(("objects", "tracked", "misses", "false", "switches", "agreed"), 0)
    for objects, tracks in zip(true, found, strict=True):
        overlap = iou(objects[:, None], tracks[None])  # (object, track, time)
        n["objects"] += int(objects[..., 0].isfinite().sum())
        n["tracked"] += int(tracks[..., 0].isfinite().sum())
        n["agreed"] += _agreed(overlap, least)
        for name, count in _clear(objects, tracks, overlap, least).items():
            n[name] += count
    if not n["objects"]:
        raise ValueError("tracking_scores got no object in any frame; there is nothing to track.")
    n["mota"] = 1 - (n["misses"] + n["false"] + n["switches"]) / n["objects"]
    n["idf1"] = 2 * n.pop("agreed") / (n["objects"] + n.pop("tracked"))
    return n


def _agreed(overlap: Float[Tensor, "object track time"], least: float) -> int:
    together = (overlap >= least).sum(2).float()  # frames in which the two agree
    return int(together[assign(together, 1)].sum())


def _clear(objects: Tracks, tracks: Tracks, overlap: Tensor, least: float) -> dict[str, int]:
    """Misses, false boxes and switches of one clip."""
    before: dict[int, int] = {}  # object: its track in the frame before
    last: dict[int, int] = {}  # object: its track when last seen
    n = dict.fromkeys(("misses", "false", "switches"), 0)
    for t in range(overlap.shape[2]):
        table = overlap[..., t].double()
        for o, k in before.items():
            table[o, k] += 1000 * (table[o, k] >= least)  # stays, whatever the others would gain
        before = dict(zip(*(x.tolist() for x in assign(table, least)), strict=True))
        n["switches"] += sum(last.get(o, k) != k for o, k in before.items())
        n["misses"] += int(objects[:, t, 0].isfinite().sum()) - len(before)
        n["false"] += int(tracks[:, t, 0].isfinite().sum()) - len(before)
        last |= before
    return n
