"""Labels over time: long videos, their scores against references, and the segmenter."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from sora_nb.data import long
from sora_nb.evaluation import events
from sora_nb.evaluation.events import Segment, Spot
from sora_nb.models.segmenter import Segmenter

ROWS = st.lists(st.integers(0, 3), min_size=1, max_size=24)


# ------------------------------------------------------------------------------------ references, by the published rules


def runs(row, ignore):
    """Labels, starts and ends of the runs of a row."""
    found, t = [], 0
    for label, group in itertools.groupby(row):
        length = len(list(group))
        if label != ignore:
            found.append((label, t, t + length))
        t += length
    return found


def reference_edit(p, y, ignore):
    """The whole table of the Levenshtein distance."""
    p, y = [r[0] for r in runs(p, ignore)], [r[0] for r in runs(y, ignore)]
    table = np.zeros((len(p) + 1, len(y) + 1))
    table[:, 0], table[0] = range(len(p) + 1), range(len(y) + 1)
    for i, j in itertools.product(range(1, len(p) + 1), range(1, len(y) + 1)):
        if p[i - 1] == y[j - 1]:
            table[i, j] = table[i - 1, j - 1]
        else:
            table[i, j] = 1 + min(table[i - 1, j], table[i, j - 1], table[i - 1, j - 1])
    return 1 - table[-1, -1] / max(len(p), len(y)) if p or y else 1.0


def reference_counts(p, y, overlap, ignore):
    """As the evaluation of MS-TCN counts: a repeated claim to a taken segment is a false positive."""
    mine, theirs = runs(p, ignore), runs(y, ignore)
    hits, tp, fp = np.zeros(len(theirs)), 0, 0
    for label, start, end in mine:
        scores = []
        for other, s, e in theirs:
            intersection, union = min(end, e) - max(start, s), max(end, e) - min(start, s)
            scores.append(intersection / union if other == label else 0.0)
        best = int(np.argmax(scores)) if scores else None
        if scores and scores[best] >= overlap and not hits[best]:
            tp, hits[best] = tp + 1, 1
        else:
            fp += 1
    return tp, fp, len(theirs) - int(hits.sum())


@given(st.data(), ROWS, st.sampled_from([None, 0]), st.sampled_from([0.1, 0.25, 0.5, 1.0]))
def test_segment_scores_equal_the_references(data, true, ignore, overlap):
    answer = data.draw(st.lists(st.integers(0, 3), min_size=len(true), max_size=len(true)))
    p, y = torch.tensor(answer), torch.tensor(true)
    assert events.edit_score(p, y, ignore) == pytest.approx(reference_edit(answer, true, ignore))
    assert events.matches(p, y, overlap, ignore) == reference_counts(answer, true, overlap, ignore)


def test_segments_and_scores_by_hand():
    row = torch.tensor([8, 8, 1, 1, 1, 8])
    assert events.segments(row) == [Segment(8, 0, 2), Segment(1, 2, 5), Segment(8, 5, 6)]
    assert events.segments(row, ignore=8) == [Segment(1, 2, 5)]
    true = torch.tensor([0] * 5 + [1] * 5)
    flicker = torch.tensor([0, 0, 1, 0, 0] + [1] * 5)
    assert events.edit_score(flicker, true) == 0.5
    assert events.f1_at([flicker], [true], 0.5) == pytest.approx(2 / 6)
    assert events.f1_at([flicker, true], [true, true], 0.5) == pytest.approx(
        6 / 10
    )  # counts add up over videos
    assert events.f1_at([true], [true], 1.0) == events.edit_score(true, true) == 1.0


def test_a_segment_claimed_twice_is_right_once():
    true, halves = torch.zeros(10, dtype=torch.long), torch.tensor([0] * 4 + [1] + [0] * 5)
    assert events.matches(halves, true, 0.4) == (1, 2, 0)


def test_events_within_a_tolerance():
    true = [Spot(0, 10, 1, 1.0), Spot(0, 30, 1, 1.0), Spot(1, 5, 2, 1.0)]
    found = [Spot(0, 12, 1, 0.9), Spot(0, 50, 1, 0.8), Spot(0, 27, 1, 0.6), Spot(0, 5, 2, 0.7)]
    assert events.spotting_ap(found, true, 1) == {1: 0.0, 2: 0.0}  # class 2 was found in another video
    assert events.spotting_ap(found, true, 2) == {1: 1 / 2, 2: 0.0}
    assert events.spotting_ap(found, true, 3) == {1: pytest.approx(5 / 6), 2: 0.0}
    twice = [Spot(1, 5, 2, 0.9), Spot(1, 6, 2, 0.8)]
    assert events.spotting_ap(twice, true, 3)[2] == 1.0
    early = [
        Spot(0, 20, 1, 0.9),
        Spot(0, 29, 1, 0.8),
        Spot(0, 10, 1, 0.7),
    ]  # each takes the nearest that is free
    assert events.spotting_ap(early, true, 12)[1] == 1.0


def test_events_equal_scikit_learn_where_no_event_is_missed():
    """With one event a video and one spot near or far, the area is scikit-learn's average precision."""
    from sklearn.metrics import average_precision_score

    rng = np.random.default_rng(0)
    near = rng.random(40) < 0.5
    sure = rng.random(40)
    true = [Spot(i, 10, 0, 1.0) for i in range(40) if near[i]]
    found = [Spot(i, 10, 0, float(s)) for i, s in enumerate(sure)]
    assert events.spotting_ap(found, true, 0)[0] == pytest.approx(average_precision_score(near, sure))


def test_scores_refuse_what_does_not_fit():
    a, b = torch.tensor([0, 1]), torch.tensor([0])
    with pytest.raises(ValueError, match="2 predicted labels for 1 frames"):
        events.edit_score(a, b)
    with pytest.raises(ValueError, match="overlap=0"):
        events.f1_at([a], [a], 0)


# --------------------------------------------------------------------------------------------------------- long videos


def test_nothing_jumps_and_no_motion_follows_itself():
    lasted = set()
    for seed in range(20):
        labels, moved = long.script(np.random.default_rng(seed), 200, (1,) * 9)
        assert np.abs(moved).max() <= long.SPEED[1] and not moved[0].any()
        assert (np.count_nonzero(moved, axis=1) <= 1).all()
        for t in range(1, 200):
            kind = labels[t]
            expected = np.zeros(4)
            if kind != long.REST:
                expected[kind // 2] = 1 if kind % 2 else -1
            assert (np.sign(moved[t]) == expected).all()
        parts = events.segments(torch.tensor(labels))
        lasted |= {s.end - s.start for s in parts[:-1]}
    assert (min(lasted), max(lasted)) == long.LASTS and len(lasted) > 20  # as short, as long, and between


def test_each_label_turns_its_own_knob():
    """Right moves the ink right, down down, grow makes more of it, counter-clockwise turns it: drawn, not believed."""
    look = dict(image=3, side=0.8, color=[1.0, 1.0, 1.0], photo=None, gain=0, flicker=[0.0, 0.0, 0.0])
    start = np.array([0.5, 0.5, 0.5, 0.0])

    def picture(phases):
        return long.draw(look, np.array([phases]), 32, np.zeros((1, 32, 32, 3)))[0, :, :, 0].astype(float)

    def center(p):
        return [(p.sum(axis) * np.arange(32)).sum() / p.sum() for axis in (0, 1)]  # x, y

    base = picture(start)
    (x0, y0), (x1, _), (_, y2) = (
        center(picture(start + d)) for d in np.eye(4)[[3, 0, 1]] * [[0], [0.1], [0.1]]
    )
    assert x1 - x0 == pytest.approx(3.2, abs=0.2) and y2 - y0 == pytest.approx(3.2, abs=0.2)
    assert picture(start + [0, 0, 0.2, 0]).sum() > 1.2 * base.sum()
    quarter = np.rot90(base)  # a quarter turn, counter-clockwise
    assert np.abs(picture(start + [0, 0, 0, 0.25]) - quarter).mean() < 0.2 * np.abs(base - quarter).mean()


def test_what_leaves_the_frame_comes_in_again():
    look = dict(image=3, side=0.8, color=[1.0, 1.0, 1.0], photo=None, gain=0, flicker=[0.0, 0.0, 0.0])
    phases = np.array([[0.5, 0.5, 0.5, 0.0], [1.0, 0.5, 0.5, 0.0], [1.5, 0.5, 0.5, 0.0]])
    middle, edge, again = long.draw(look, phases, 32, np.zeros((3, 32, 32, 3))).astype(int)
    assert (middle == again).all()
    ink = middle.sum(-1) > 50
    assert (
        ink[:16].any() and ink[16:].any() and ink[:, :16].any() and ink[:, 16:].any()
    )  # on all sides of its middle
    assert np.abs(np.roll(middle, 16, axis=1) - edge).max() <= 1  # half a frame round the torus


def test_a_set_is_deterministic_and_its_start_is_that_of_a_longer_set():
    first, longer = (long.load("val", n, frames=20, seed=3) for n in (1, 2))
    assert torch.equal(first.clips[0], longer.clips[0]) and torch.equal(first.labels[0], longer.labels[0])
    assert not torch.equal(longer.clips[0], long.load("val", 1, frames=20, seed=4).clips[0])
    assert first.clips.shape == (1, 20, 16, 16, 3) and first.float().shape == (1, 20, 3, 16, 16)


def test_grain_lies_between_its_bounds():
    """Of an amplitude a, noise of up to a / 2 on each pixel; between two bounds it is drawn for the video."""
    still, loud, drawn = (
        long.load("val", 1, frames=20, grain=g).float() for g in ((0.0, 0.0), (0.2, 0.2), (0.1, 0.2))
    )
    most, between = ((x - still).abs().max().item() for x in (loud, drawn))
    assert most == pytest.approx(0.1, abs=0.004) and 0.056 < between < most - 0.004


def test_a_picture_does_not_tell_the_label():
    """Phases at any frame are uniform whatever the label: of 900 scripts, the mean of cos and sin is near 0."""
    last = {}
    for seed in range(900):
        rng = np.random.default_rng(seed)
        labels, moved = long.script(rng, 16, (1,) * 9)
        phases = rng.random(4) + moved.sum(0)
        last.setdefault(labels[-1], []).append(np.exp(2j * np.pi * phases))
    assert len(last) == 9
    assert max(np.abs(np.mean(v, 0)).max() * np.sqrt(len(v)) for v in last.values()) < 3.5


def test_kinds_that_may_not_come_do_not_come():
    labels, _ = long.script(np.random.default_rng(0), 500, [0, 1, 0, 1, 0, 0, 0, 0, 1])
    assert set(labels.tolist()) == {1, 3, 8}
    with pytest.raises(ValueError, match="two or more are above 0"):
        long.load("val", 1, weights=[1] + [0] * 8)
    with pytest.raises(ValueError, match="split 'dev'"):
        long.load("dev", 1)


# ----------------------------------------------------------------------------------------------------------- segmenter


def model(**options):
    torch.manual_seed(0)
    return Segmenter(4, dim=6, levels=2, frames=nn.Identity(), features=3, **options).eval()


@pytest.mark.filterwarnings("ignore:The clip has")
def test_the_second_stage_reads_probabilities_and_nothing_else():
    net, x = model(), torch.randn(2, 30, 3)
    first, second = net.scores(x)
    expected = net.heads[1](net.stages[1](F.softmax(first, -1)))
    torch.testing.assert_close(second, expected)
    torch.testing.assert_close(net(x), second)
    torch.testing.assert_close(net.head(net.embed(x)), second)
    assert net.embed(x).shape == (2, 30, net.width)


@pytest.mark.filterwarnings("ignore:The clip has")
@pytest.mark.parametrize("causal", [True, False])
def test_the_reach_is_what_it_says(causal):
    net = model(causal=causal).double()
    for p in net.parameters():
        nn.init.uniform_(p, 0.01, 0.1)
    x = torch.rand(1, 80, 3, dtype=torch.float64, requires_grad=True)
    seen = torch.autograd.grad(net(x)[0, 40, 0], x)[0][0].abs().sum(1).nonzero()[:, 0]
    assert len(seen) == net.receptive_field == 1 + 2 * 12
    assert seen[-1] == (40 if causal else 52)


@pytest.mark.filterwarnings("ignore:The clip has")
def test_the_stream_equals_the_film():
    net, x, state, out = model(causal=True), torch.randn(2, 30, 3), None, []
    for t in range(30):
        scores, state = net.step(x[:, t], state)
        out.append(scores)
    torch.testing.assert_close(torch.stack(out, 1), net(x))
    with pytest.raises(ValueError, match="cannot stream"):
        model().step(x[:, 0])


@pytest.mark.filterwarnings("ignore:The clip has")
def test_it_takes_clips_and_refuses_what_it_cannot_take():
    clips = torch.rand(1, 8, 3, 16, 16)
    assert Segmenter(4, dim=6, levels=1)(clips).shape == (1, 8, 4)
    with pytest.raises(ValueError, match="Segmenter got a tensor"):
        model()(clips)
    with pytest.raises(ValueError, match="stages=0"):
        Segmenter(4, stages=0)
