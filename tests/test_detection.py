"""Boxes, average precision, tracks and the detector: values against torchvision, SciPy, hand counts and plain loops."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.ops as ops

from sora_nb.data.scenes import MOVES, scenes
from sora_nb.evaluation import detection
from sora_nb.layers.boxes import assign, giou, iou
from sora_nb.models import detector
from sora_nb.models.detector import SoraDetector, detection_loss

NAN = [float("nan")] * 4


def some_boxes(n: int, seed: int = 0) -> torch.Tensor:
    corner, size = torch.rand(2, n, 2, generator=torch.Generator().manual_seed(seed))
    return torch.cat([corner, corner + 0.1 + 0.4 * size], 1)


# ------------------------------------------------------------------------------------------------------------ boxes


def test_iou_and_giou_equal_torchvisions():
    a, b = some_boxes(20), some_boxes(15, 1)
    torch.testing.assert_close(iou(a[:, None], b), ops.box_iou(a, b))
    torch.testing.assert_close(giou(a[:, None], b), ops.generalized_box_iou(a, b))
    assert giou(a[:, None], b).min() < 0 == iou(a[:, None], b).min()


def test_boxes_without_area_or_of_nan_overlap_nothing():
    a = torch.tensor([[0.2, 0.2, 0.2, 0.2], NAN])
    assert iou(a[:, None], a[None]).tolist() == [[0, 0], [0, 0]]


def test_giou_has_a_gradient_where_iou_has_none():
    a, b = torch.tensor([0.0, 0, 1, 1]), torch.tensor([3.0, 0, 4, 1], requires_grad=True)
    assert torch.autograd.grad(giou(a, b), b)[0].abs().sum() > 0
    assert torch.autograd.grad(iou(a, b), b)[0].abs().sum() == 0


def test_assignment_is_the_best_of_all():
    table = torch.rand(4, 5, generator=torch.Generator().manual_seed(2))
    rows, columns = assign(table, 0.0)
    best = max(sum(table[i, c] for i, c in enumerate(p)) for p in itertools.permutations(range(5), 4))
    assert torch.isclose(table[rows, columns].sum(), best)


def test_pairs_that_hardly_overlap_are_none_and_cost_none():
    # Greedy takes .8 and leaves a pair of .1, which is none; the best pairs are .7 and .6.
    rows, columns = assign(torch.tensor([[0.8, 0.7], [0.6, 0.1]]), 0.3)
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == [(0, 1), (1, 0)]
    assert assign(torch.tensor([[0.2]]), 0.3)[0].tolist() == []
    # A pair under the threshold may not buy another.
    assert assign(torch.tensor([[0.9, 0.8], [0.29, 0.0]]), 0.3)[1].tolist() == [0]


# ------------------------------------------------------------------------------------------------ average precision


def looped(scores: list[float], right: list[bool], objects: int) -> float:
    """COCO's average precision, number by number."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    points = []
    for n in range(1, len(order) + 1):
        good = sum(right[i] for i in order[:n])
        points.append((good, good / n))
    total = 0.0
    for percent in range(101):
        reached = [p for good, p in points if 100 * good >= percent * objects]
        total += max(reached, default=0.0)
    return total / 101


def test_average_precision_by_hand():
    # Right, wrong, right of three objects: precision 1 to recall 1/3, 2/3 to 2/3, then 0: points 0…33, 34…66, the rest.
    value = detection.average_precision(torch.tensor([0.9, 0.8, 0.7]), torch.tensor([True, False, True]), 3)
    assert value == pytest.approx((34 * 1 + 33 * 2 / 3) / 101)


@pytest.mark.parametrize("seed", range(8))
def test_average_precision_equals_a_loop(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(0, 30))
    scores, right = rng.random(n).tolist(), (rng.random(n) < 0.5).tolist()
    objects = max(1, sum(right) + int(rng.integers(0, 5)))
    ours = detection.average_precision(torch.tensor(scores), torch.tensor(right, dtype=torch.bool), objects)
    assert ours == pytest.approx(looped(scores, right, objects))


def test_second_detection_of_an_object_is_wrong():
    true = torch.tensor([[0.0, 0, 1, 1]])
    assert detection.hits(true.repeat(2, 1), true, 0.5).tolist() == [True, False]
    assert detection.hits(true.repeat(2, 1), true[:0], 0.5).tolist() == [False, False]


def frame(seed: int) -> tuple:
    """Objects of three classes in a frame, and detections of them: moved, missed, doubled and of a wrong class."""
    g = torch.Generator().manual_seed(seed)
    boxes, labels = some_boxes(5, seed), torch.randint(3, (5,), generator=g)
    found = torch.cat(
        [boxes[:4] + 0.05 * torch.randn(4, 4, generator=g), boxes[2:3], some_boxes(2, seed + 50)]
    )
    said = torch.cat([labels[:4], labels[2:3], torch.randint(3, (2,), generator=g)])
    return (found, torch.rand(7, generator=g), said), (boxes, labels)


def test_mean_average_precision_equals_a_second_implementation():
    found, there = zip(*map(frame, range(6)), strict=True)
    ours = detection.mean_average_precision(found, there)
    for least in (0.5, 0.75):
        values = []
        for c in range(3):
            scores, right = [], []
            for (boxes, sure, said), (true, labels) in zip(found, there, strict=True):
                table, taken = ops.box_iou(boxes, true), set()
                for i in sorted(range(len(boxes)), key=lambda i: -sure[i]):
                    if said[i] != c:
                        continue
                    free = [j for j in range(len(true)) if labels[j] == c and j not in taken]
                    j = max(free, key=lambda j: table[i, j], default=None)
                    right.append(j is not None and bool(table[i, j] >= least))
                    taken |= {j} if right[-1] else set()
                    scores.append(float(sure[i]))
            values.append(looped(scores, right, sum(int((b == c).sum()) for _, b in there)))
        assert ours[f"ap{round(100 * least)}"] == pytest.approx(np.mean(values))
    assert ours["map"] == pytest.approx(np.mean([v for k, v in ours.items() if k != "map"]))
    assert 0.1 < ours["map"] < ours["ap50"] < 1


REFERENCE = json.loads((Path(__file__).parent / "references" / "map.json").read_text())


def stored() -> tuple[list, list]:
    """Detections and objects of the stored frames, boxes in pixels."""
    found, there = [], []
    for one in REFERENCE["frames"]:
        boxes = {name: torch.tensor(one[name]).view(-1, 4) for name in ("found", "there")}
        labels = {name: torch.tensor(one[name], dtype=torch.long) for name in ("said", "labels")}
        found.append((boxes["found"], torch.tensor(one["scores"]), labels["said"]))
        there.append((boxes["there"], labels["labels"]))
    return found, there


def test_mean_average_precision_equals_what_torchmetrics_said():
    """The reference's numbers are stored with the boxes they were made of (scripts/map_reference.py)."""
    (found, there), said = stored(), REFERENCE["result"]
    ours = detection.mean_average_precision(found, there)
    assert (ours["map"], ours["ap50"], ours["ap75"]) == pytest.approx(
        (said["map"], said["map_50"], said["map_75"]), abs=1e-6
    )
    for c in range(3):
        only = (
            [(b[k == c], s[k == c], k[k == c]) for b, s, k in found],
            [(b[k == c], k[k == c]) for b, k in there],
        )
        assert detection.mean_average_precision(*only)["map"] == pytest.approx(
            said["map_per_class"][c], abs=1e-6
        )


def test_the_stored_reference_is_still_what_torchmetrics_says():
    pytest.importorskip("pycocotools")
    from torchmetrics.detection import MeanAveragePrecision

    metric = MeanAveragePrecision(backend="pycocotools", class_metrics=True)
    for (boxes, scores, said), (true, labels) in zip(*stored(), strict=True):
        metric.update([dict(boxes=boxes, scores=scores, labels=said)], [dict(boxes=true, labels=labels)])
    result = metric.compute()
    for name, value in REFERENCE["result"].items():
        assert result[name].tolist() == pytest.approx(value, abs=1e-6)


def test_nothing_to_find_is_refused():
    nothing = [(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))]
    with pytest.raises(ValueError, match="nothing to find"):
        detection.mean_average_precision(
            [(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long())], nothing
        )
    with pytest.raises(ValueError, match="1 frames and objects of 0"):
        detection.mean_average_precision([(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long())], [])
    with pytest.raises(ValueError, match="never occurs"):
        detection.average_precision(torch.rand(2), torch.ones(2, dtype=torch.bool), 0)


# ----------------------------------------------------------------------------------------------------------- tracks


def line(y: float, frames: int = 6) -> torch.Tensor:
    """A box that walks right at height y."""
    x = torch.arange(frames) * 0.2
    return torch.stack([x, y + 0 * x, x + 1, y + 1 + 0 * x], 1)


def only(track: torch.Tensor, frames: range) -> torch.Tensor:
    kept = torch.full_like(track, torch.nan)
    kept[list(frames)] = track[list(frames)]
    return kept


def test_tracks_that_swap_by_hand():
    true = torch.stack([line(0), line(5)])
    swapped = torch.stack([torch.cat([line(0)[:3], line(5)[3:]]), torch.cat([line(5)[:3], line(0)[3:]])])
    scores = detection.tracking_scores([true], [swapped])
    assert (scores["switches"], scores["misses"], scores["false"]) == (2, 0, 0)
    assert scores["mota"] == pytest.approx(1 - 2 / 12)
    assert scores["idf1"] == pytest.approx(6 / 12)  # either way of pairing agrees in half of the boxes


def test_broken_and_false_tracks_by_hand():
    found = torch.stack([only(line(0), range(2)), only(line(0), range(3, 6)), only(line(9), range(2))])
    scores = detection.tracking_scores([line(0)[None]], [found])
    assert (scores["switches"], scores["misses"], scores["false"]) == (1, 1, 2)
    assert scores["mota"] == pytest.approx(1 - 4 / 6)
    assert scores["idf1"] == pytest.approx(2 * 3 / (6 + 7))


def test_an_object_keeps_its_track_though_another_fits_better():
    worse, better = line(0) + torch.tensor([0.2, 0, 0.2, 0]), line(0)
    found = torch.stack([worse, only(better, range(1, 6))])
    assert detection.tracking_scores([line(0)[None]], [found])["switches"] == 0


def slowly(true: torch.Tensor, found: torch.Tensor, least: float) -> tuple[float, float]:
    """MOTA and IDF1 by trying every pairing, with torchvision's overlaps."""

    def pairings(rows: list, columns: list):
        size = min(len(rows), len(columns))
        for r in itertools.combinations(rows, size):
            for c in itertools.permutations(columns, size):
                yield list(zip(r, c, strict=True))

    K, M, T = len(true), len(found), true.shape[1]
    overlap = torch.stack([ops.box_iou(true[:, t], found[:, t]).nan_to_num(0) for t in range(T)], 2)
    before, last, wrong = {}, {}, 0
    for t in range(T):

        def worth(pairs, t=t, before=before):
            good = [(o, k) for o, k in pairs if overlap[o, k, t] >= least]
            return sum(before.get(o) == k for o, k in good), sum(float(overlap[o, k, t]) for o, k in good)

        best = max(pairings(list(range(K)), list(range(M))), key=worth)
        before = {o: k for o, k in best if overlap[o, k, t] >= least}
        wrong += sum(o in last and last[o] != k for o, k in before.items())
        wrong += int(true[:, t, 0].isfinite().sum() + found[:, t, 0].isfinite().sum()) - 2 * len(before)
        last.update(before)
    boxes = [int(x[..., 0].isfinite().sum()) for x in (true, found)]
    agreed = max(
        sum(int((overlap[o, k] >= least).sum()) for o, k in p)
        for p in pairings(list(range(K)), list(range(M)))
    )
    return 1 - wrong / boxes[0], 2 * agreed / sum(boxes)


@pytest.mark.parametrize("seed", range(6))
def test_tracking_scores_equal_those_of_trying_everything(seed):
    g = torch.Generator().manual_seed(seed)
    walk = (
        torch.stack([some_boxes(3, seed)] * 7, 1)
        + 0.15 * torch.randn(3, 7, 4, generator=g).cumsum(1)[..., [0, 1, 0, 1]]
    )
    true = walk.where(torch.rand(3, 7, 1, generator=g) < 0.85, torch.nan)
    found = torch.cat([walk, some_boxes(1, seed + 9)[:, None].expand(1, 7, 4)]) + 0.03 * torch.randn(
        4, 7, 4, generator=g
    )
    swap = int(torch.randint(1, 6, (1,), generator=g))
    found[:2, swap:] = found[[1, 0], swap:].clone()
    found = found.where(torch.rand(4, 7, 1, generator=g) < 0.85, torch.nan)
    scores = detection.tracking_scores([true], [found], 0.4)
    assert (scores["mota"], scores["idf1"]) == pytest.approx(slowly(true, found, 0.4))


def test_other_frames_and_empty_clips_are_refused():
    with pytest.raises(ValueError, match="same frames"):
        detection.tracking_scores([line(0)[None]], [line(0, 5)[None]])
    with pytest.raises(ValueError, match="nothing to track"):
        detection.tracking_scores([line(0)[None] * torch.nan], [line(0)[None]])


# ----------------------------------------------------------------------------------------------- scenes and detector


def test_scenes_are_what_they_say():
    some = scenes(40, "val")
    again = scenes(3, "val")
    assert torch.equal(some.clips[:3], again.clips) and torch.equal(some.moves[:3], again.moves)
    assert not torch.equal(scenes(3, "test").clips, again.clips)
    middle = (some.boxes[..., :2] + some.boxes[..., 2:]) / 2
    there = some.boxes[..., 0].isfinite()
    assert torch.equal(there.any(2)[:, 0], torch.ones(40, dtype=torch.bool))
    for move, (axis, sign) in zip(MOVES[:4], ((0, -1), (0, 1), (1, -1), (1, 1)), strict=True):
        for i, k in (some.moves == MOVES.index(move)).nonzero().tolist():
            path = middle[i, k, there[i, k]][:, axis]
            assert len(path) < 2 or sign * (path[-1] - path[0]) > 0.1
    still = some.boxes[some.moves == MOVES.index("still")]
    assert torch.equal(still.nan_to_num(0), still[:, :1].expand_as(still).nan_to_num(0))


def test_forward_is_the_head_on_the_embedding_and_one_frame_sees_itself_alone():
    torch.manual_seed(0)
    clips = torch.rand(2, 5, 3, 32, 32)
    model = SoraDetector(4).eval()
    torch.testing.assert_close(model(clips), model.head(model.embed(clips)))
    frames = SoraDetector(4, kernel=1).eval()
    alone = frames.grids(clips[:, 2:3])
    for part, whole in zip(alone, frames.grids(clips), strict=True):
        torch.testing.assert_close(part[:, 0], whole[:, 2])
    changed = clips.clone()
    changed[:, 0] = 0
    assert not torch.allclose(model.grids(changed).middle[:, 1], model.grids(clips).middle[:, 1])


def test_loss_by_hand_and_perfect_answers_cost_nothing():
    boxes = torch.tensor(
        [[[[0.25, 0.25, 0.5, 0.625]], [NAN]]]
    )  # its middle is that of cell (3, 2): y .4375, x .375 at the edge
    boxes[0, 0, 0] = torch.tensor(
        [0.1875, 0.25, 0.4375, 0.625]
    )  # x .3125, y .4375: exactly cell row 3, column 2
    bump = detector.bumps(boxes, 8)
    assert bump[0, 0, 0, 3, 2] == 1 and bump[0, 1].max() == 0
    assert bump[0, 0, 0, 3, 3] == pytest.approx(np.exp(-1 / (2 * 0.8**2)))
    said = detector.Grids(
        torch.full((1, 1, 8, 8), -20.0),
        torch.zeros(1, 1, 8, 8, 2),
        boxes[0, 0, 0].expand(1, 1, 8, 8, 4).clone(),
    )
    said.middle[0, 0, 3, 2] = 20
    said.classes[..., 1] = 30
    losses = detection_loss(said, boxes, torch.tensor([[1, 0]]))
    assert all(abs(float(v)) < 1e-5 for v in losses.values())
    said.middle[0, 0, 3, 2] = 0  # a chance of one half: .25 · log 2
    said.boxes[..., 0] += 0.1
    losses = detection_loss(said, boxes, torch.tensor([[0, 0]]))
    assert float(losses["middle"]) == pytest.approx(0.25 * np.log(2), rel=1e-4)
    assert float(losses["class"]) == pytest.approx(30, rel=1e-4)
    said.middle[0, 0, 3, 3] = 0  # a neighbour that answers yes is partly forgiven
    more = detection_loss(said, boxes, torch.tensor([[0, 0]]))["middle"] - losses["middle"]
    assert float(more) == pytest.approx((1 - float(bump[0, 0, 0, 3, 3])) ** 4 * 0.25 * np.log(2), rel=1e-3)
    assert float(losses["L1"]) == pytest.approx(0.1, rel=1e-4)
    assert float(losses["GIoU"]) == pytest.approx(0.4, rel=1e-4)  # a narrower box inside: 1 - .15/.25


def test_peaks_become_boxes_surest_first():
    model = SoraDetector(2).eval()
    said = model.grids(torch.rand(1, 1, 3, 32, 32))
    middle = torch.full_like(said.middle, -9.0)
    middle[0, 0, 1, 1], middle[0, 0, 6, 4], middle[0, 0, 6, 5] = 1.0, 1.5, 2.0  # the second is no peak
    said = said._replace(middle=middle, classes=torch.zeros_like(said.classes))
    said.classes[..., 1] = 20
    model.grids = lambda clips: said
    boxes, scores, labels = model.detect(torch.rand(1, 1, 3, 32, 32), limit=2)
    torch.testing.assert_close(scores[0, 0], torch.tensor([2.0, 1.0]).sigmoid())
    torch.testing.assert_close(boxes[0, 0], torch.stack([said.boxes[0, 0, 6, 5], said.boxes[0, 0, 1, 1]]))
    assert labels.tolist() == [[[1, 1]]]


def test_a_few_steps_find_the_digits():
    torch.manual_seed(0)
    data, model = scenes(16, "train", objects=1), SoraDetector(5)
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    for _ in range(40):
        losses = detection_loss(model.grids(data.float()), data.boxes, data.moves)
        optimizer.zero_grad()
        (losses["middle"] + losses["class"] + 5 * losses["L1"] + 2 * losses["GIoU"]).backward()
        optimizer.step()
    found = model.eval().detect(data.float(), limit=1).boxes[:, :, 0]  # (B, T, 4)
    there = data.boxes[:, 0, :, 0].isfinite()
    assert iou(found, data.boxes[:, 0])[there].mean() > 0.5


def test_what_it_cannot_take_is_refused():
    with pytest.raises(ValueError, match="SoraDetector got a tensor of shape"):
        SoraDetector(4)(torch.rand(2, 3, 32, 32))
