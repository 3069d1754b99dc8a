# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% tags=["instance"]
# Runs when the set is built and is no part of it; `draw` is a random.Random of the course's secret.
seed = draw.randrange(1000, 10_000)
rate = draw.choice([24, 25, 30])
gap = draw.choice([512, 1024])
factor = draw.choice([3, 4, 5])
places = draw.choice([10, 12, 14])
blind_ones = [
    "the mean over time",
    "the maximum over time",
    "the standard deviation over time",
    "the mean of |x[t+1] - x[t]|",
    "the mean of x[t] * x[t+1]",
    "the median over time",
]
seeing_ones = [
    "the first frame",
    "the last frame minus the first",
    "the mean of x[t+1] - x[t]",
    "the mean of relu(x[t+1] - x[t])",
    "the mean of t * x[t]",
    "the mean of x[t] * x[t+1]**2",
]
asked = draw.sample(blind_ones, 3) + draw.sample(seeing_ones, 3)
draw.shuffle(asked)
blind = {name: name in blind_ones for name in asked}
questions = "\n".join(f"- `{name}`" for name in asked)

# %% [markdown]
# # Problem set 1: Video as data
#
# Chapters 1 to 3. Eight tasks, 80 points. You will turn time stamps into frames, choose frames for a model, shrink without flicker, mend two pieces of code that run and
# are wrong, score a direction honestly, and find out what a sum over frames cannot see.
#
# - Write only where it says `YOUR CODE HERE` or `YOUR ANSWER HERE`, or, in tasks that say so, mend the code that is there. Add cells of your own anywhere.
# - The cells with checks are there to help you: when one raises, read its last line. When your work is graded, these checks and further ones run on shapes, seeds and types
#   of number that you have not seen. All checks of a cell must hold for its points.
# - No task needs another. Where one builds on an idea of an earlier one, the book's own version is given.
# - Do not print a lot and do not read or write files: your code is graded in a sandbox that stops it (`How to hand in`, in the book).
# - Before the deadline, run `make check-submission FILE=...` on your notebook.

# %% nbgrader={"grade": false, "grade_id": "imports", "locked": true, "schema_version": 3, "solution": false, "task": false}
from fractions import Fraction

import av
import numpy as np
import torch
from torch.nn import functional as F

from sora_nb.data import real_clips

# %% [markdown]
# ## 1 · Which frame is on the screen? (8 points; chapter 1)
#
# A file holds its packets in the order of decoding. Each carries the moment at which its picture is shown, in ticks. `stamps` has these moments in the order of the *file*, `tick` is the length of
# a tick in seconds. A frame stays on the screen until the next one appears; the first frame appears at 0 seconds, whatever its stamp; the last one stays for ever; before 0 you see the first.
#
# Return the number of the frame, counted from 0 in the order in which frames are *shown*. Do not assume that they come at equal intervals.


# %% nbgrader={"grade": false, "grade_id": "clock", "locked": false, "schema_version": 3, "solution": true, "task": false}
def frame_on_screen(stamps, tick, seconds):
    """Number of the frame that is on the screen `seconds` after the first one has appeared."""
    ### BEGIN SOLUTION
    shown = sorted(stamps)
    frame = 0
    for number, stamp in enumerate(shown):
        if (stamp - shown[0]) * tick <= seconds:
            frame = number
    return frame
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "clock-test", "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
_stamps, _tick = [7, 11, 9, 20, 16], Fraction(1, 16)  # shown at 0, 2/16, 4/16, 9/16 and 13/16 s
for _seconds, _expected in [(0.0, 0), (0.2, 1), (0.25, 2), (0.5, 2), (0.6, 3), (5.0, 4), (-1.0, 0)]:
    _got = frame_on_screen(_stamps, _tick, _seconds)
    assert _got == _expected, (
        f"at {_seconds} s of stamps {_stamps} with ticks of 1/16 s you gave frame {_got}, expected "
        f"{_expected}: sort the stamps, count from the first, and take the last frame that has begun"
    )
### BEGIN HIDDEN TESTS
_rng = np.random.default_rng(INSTANCE.seed)
for _ in range(30):
    _tick = Fraction(1, int(_rng.choice([64, 128, 512])))
    _shown = np.cumsum(_rng.integers(1, 9, size=int(_rng.integers(1, 12)))) + int(
        _rng.integers(-50, 50)
    )
    _file = [int(s) for s in _rng.permutation(_shown)]
    for _number, _stamp in enumerate(_shown):
        _time = float((int(_stamp) - int(_shown[0])) * _tick)
        _got = frame_on_screen(_file, _tick, _time)
        assert _got == _number, "a frame must be on the screen at the very moment of its stamp"
        _got = frame_on_screen(_file, _tick, _time + 0.75 * float(_tick))
        assert _got == _number, "a frame must stay on the screen until the next one appears"
    assert frame_on_screen(_file, _tick, 1e6) == len(_shown) - 1, (
        "the last frame must stay for ever"
    )
    assert frame_on_screen(_file, _tick, -0.5) == 0, "before 0 s the first frame is on the screen"
### END HIDDEN TESTS

# %% [markdown]
# ## 2 · Choose frames (4 + 6 points; chapter 1)
#
# Cut a video of `n` frames into `k` equal parts: part `i` covers $[\,i\,n/k,\ (i+1)\,n/k)$. First the middle frame of each part, $\lfloor (2i+1)\,n / 2k \rfloor$, as a loop. It must also work for
# a video with fewer frames than parts.


# %% nbgrader={"grade": false, "grade_id": "segments-loop", "locked": false, "schema_version": 3, "solution": true, "task": false}
def middles(n, k):
    """List of the k middle frames of the k parts of a video of n frames."""
    ### BEGIN SOLUTION
    chosen = []
    for i in range(k):
        chosen.append((2 * i + 1) * n // (2 * k))
    return chosen
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "segments-loop-test", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
for _n, _k, _expected in [(8, 4, [1, 3, 5, 7]), (10, 4, [1, 3, 6, 8]), (2, 4, [0, 0, 1, 1])]:
    _got = [int(i) for i in middles(_n, _k)]
    assert _got == _expected, f"middles({_n}, {_k}) gave {_got}, expected {_expected}"
### BEGIN HIDDEN TESTS
_rng = np.random.default_rng(INSTANCE.seed + 1)
for _ in range(50):
    _n, _k = int(_rng.integers(1, 300)), int(_rng.integers(1, 40))
    _got = np.array([int(i) for i in middles(_n, _k)])
    assert len(_got) == _k, "there must be one frame for each part"
    assert (_got >= 0).all() and (_got < _n).all(), "a frame outside of the video was chosen"
    assert (2 * _k * _got <= (2 * np.arange(_k) + 1) * _n).all(), "a frame lies after its middle"
    assert (2 * _k * (_got + 1) > (2 * np.arange(_k) + 1) * _n).all(), (
        "a frame lies before its middle"
    )
### END HIDDEN TESTS

# %% [markdown]
# Now segment sampling, without a loop: one *random* frame of each part, each frame of the part equally likely, the parts independent of each other. With whole numbers, part `i` holds the frames from
# $\lfloor i\,n/k \rfloor$ up to, but not including, $\lfloor (i+1)\,n/k \rfloor$. Here `n >= k`. The same seed must give the same frames.


# %% nbgrader={"grade": false, "grade_id": "segments-fast", "locked": false, "schema_version": 3, "solution": true, "task": false}
def one_of_each(n, k, seed):
    """int64 array (k,): a random frame from each of the k parts of a video of n frames."""
    ### BEGIN SOLUTION
    edges = np.arange(k + 1) * n // k
    rng = np.random.default_rng(seed)
    return rng.integers(edges[:-1], edges[1:])
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "segments-fast-test", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
_edges = np.arange(5) * 30 // 4
for _seed in range(20):
    _got = np.asarray(one_of_each(30, 4, _seed))
    assert _got.shape == (4,), (
        f"30 frames, 4 parts: your answer has shape {_got.shape}, expected (4,)"
    )
    assert ((_edges[:-1] <= _got) & (_got < _edges[1:])).all(), (
        f"30 frames, 4 parts: {_got.tolist()} has a frame outside of its part; parts begin at {_edges[:-1]}"
    )
### BEGIN HIDDEN TESTS
_rng = np.random.default_rng(INSTANCE.seed + 2)
for _ in range(3):
    _k = int(_rng.integers(2, 6))
    _n = _k * int(_rng.integers(3, 5)) + int(_rng.integers(0, _k))
    _edges = np.arange(_k + 1) * _n // _k
    _draws = np.stack([np.asarray(one_of_each(_n, _k, s)) for s in range(150)])
    assert np.issubdtype(_draws.dtype, np.integer), "frames are whole numbers"
    assert ((_edges[:-1] <= _draws) & (_draws < _edges[1:])).all(), (
        "a frame lies outside of its part"
    )
    for _i in range(_k):
        _seen = np.bincount(_draws[:, _i] - _edges[_i], minlength=_edges[_i + 1] - _edges[_i])
        assert (_seen > 0).all(), "some frames of a part are never chosen"
        assert _seen.max() < 2.5 * _seen.min() + 10, "the frames of a part are not equally likely"
    _within = _draws - _edges[:-1]
    _pairs = len(np.unique(_within[:, :2], axis=0))
    assert _pairs > 5, "the parts must be drawn independently of each other"
    _again = np.asarray(one_of_each(_n, _k, 7))
    assert (_again == _draws[7]).all(), "the same seed must give the same frames"
_got = np.asarray(one_of_each(9, 9, 0))
assert (_got == np.arange(9)).all(), "with as many parts as frames there is only one choice"
### END HIDDEN TESTS

# %% [markdown]
# ## 3 · Shrink without flicker (3 + 7 points; chapter 2)
#
# Average before you sample. First one row of pixels, as a loop: the mean of each `factor` neighbours. What is left over at the end and does not fill a block is dropped.


# %% nbgrader={"grade": false, "grade_id": "shrink-loop", "locked": false, "schema_version": 3, "solution": true, "task": false}
def shrink_row(row, factor):
    """Tensor (n,) -> (n // factor,)."""
    ### BEGIN SOLUTION
    out = []
    for i in range(len(row) // factor):
        out.append(row[i * factor : (i + 1) * factor].mean())
    return torch.stack(out)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "shrink-loop-test", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
_got = shrink_row(torch.tensor([0.0, 2.0, 4.0, 6.0, 100.0]), 2)
assert torch.allclose(torch.as_tensor(_got), torch.tensor([1.0, 5.0])), (
    f"[0, 2, 4, 6, 100] by 2 gave {_got}, expected [1, 5]: the 100 does not fill a block"
)
### BEGIN HIDDEN TESTS
_g = torch.Generator().manual_seed(INSTANCE.seed)
for _n, _f in [(12, 3), (17, 4), (9, 2), (8, 8), (5, 1)]:
    _row = torch.randn(_n, generator=_g)
    _got = torch.as_tensor(shrink_row(_row, _f))
    _expected = F.avg_pool1d(_row[None, None], _f)[0, 0]
    assert _got.shape == _expected.shape, "there must be one number for each full block"
    assert torch.allclose(_got, _expected, atol=1e-5), "each number must be the mean of its block"
### END HIDDEN TESTS

# %% [markdown]
# Now whole clips, without a loop, in both directions of the picture: $(\ldots, H, W) \to (\ldots, H // f, W // f)$. Any axes may stand in front. Keep the type of the numbers, and let gradients pass.


# %% nbgrader={"grade": false, "grade_id": "shrink-fast", "locked": false, "schema_version": 3, "solution": true, "task": false}
def shrink(clips, factor):
    """Tensor (..., H, W) -> (..., H // factor, W // factor): the mean of each block of factor x factor pixels."""
    ### BEGIN SOLUTION
    height, width = clips.shape[-2] // factor, clips.shape[-1] // factor
    clips = clips[..., : height * factor, : width * factor]
    blocks = clips.reshape(*clips.shape[:-2], height, factor, width, factor)
    return blocks.mean((-3, -1))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "shrink-fast-test", "locked": true, "points": 7, "schema_version": 3, "solution": false, "task": false}
_clip = torch.arange(16.0).reshape(1, 1, 4, 4)
_got = shrink(_clip, 2)
assert _got.shape == (1, 1, 2, 2), f"(1, 1, 4, 4) by 2 gave the shape {tuple(_got.shape)}"
assert torch.allclose(_got, torch.tensor([[2.5, 4.5], [10.5, 12.5]])), (
    f"the numbers 0 to 15 in four rows, by 2, gave {_got.tolist()}, expected [[2.5, 4.5], [10.5, 12.5]]"
)
### BEGIN HIDDEN TESTS
_g = torch.Generator().manual_seed(INSTANCE.seed + 3)
for _shape in [(2, 3, 12, 8), (3, 13, 9), (2, 2, 3, 8, 15), (7, 11)]:
    for _dtype in (torch.float32, torch.float64):
        _clip = torch.randn(*_shape, generator=_g, dtype=_dtype)
        _kept = _clip.clone()
        _a, _b = _clip.clone().requires_grad_(), _clip.clone().requires_grad_()
        _got = shrink(_a, INSTANCE.factor)
        _flat = _b.reshape(1, -1, *_shape[-2:])
        _expected = F.avg_pool2d(_flat, INSTANCE.factor)
        _expected = _expected.reshape(*_shape[:-2], *_expected.shape[-2:])
        assert _got.dtype == _dtype, f"{_dtype} came in and {_got.dtype} went out"
        assert _got.shape == _expected.shape, (
            "the shape is wrong where blocks do not fit, or with other axes in front"
        )
        assert torch.allclose(_got, _expected, atol=1e-5), "a number is not the mean of its block"
        _weights = torch.randn(*_got.shape, generator=_g, dtype=_dtype)
        assert _got.requires_grad, "the gradient does not pass: stay with torch"
        (_got * _weights).sum().backward()
        (_expected * _weights).sum().backward()
        assert torch.allclose(_a.grad, _b.grad, atol=1e-5), (
            "the gradient is not that of a mean of blocks"
        )
### END HIDDEN TESTS

# %% [markdown]
# ## 4 · Find the bug: a crop (8 points; chapter 2)
#
# This function should cut a random window of `size` × `size` pixels out of each clip of a batch, `(B, T, C, H, W)` → `(B, T, C, size, size)`: one window for all frames of a clip, another for each clip, and each place
# of the window possible. It runs, a network trains on what it returns, and there is **one mistake** in it. Find the property that it breaks, and mend it.


# %% nbgrader={"grade": false, "grade_id": "crop", "locked": false, "schema_version": 3, "solution": true, "task": false}
def random_crop(clips, size, seed):
    """One random window for each clip of a batch, the same in all frames of the clip."""
    rng = np.random.default_rng(seed)
    out = []
    for clip in clips:
        # BUG batch: rng, (height, width) = np.random.default_rng(seed), clip.shape[-2:]
        height, width = clip.shape[-2:]
        # BUG last: top = int(rng.integers(0, max(1, height - size)))
        # BUG center: top = (height - size) // 2
        top = int(rng.integers(0, height - size + 1))
        # BUG side: left = int(rng.integers(0, min(height, width) - size + 1))
        left = int(rng.integers(0, width - size + 1))
        window = []
        for frame in clip:
            # BUG frames: row, column = top, int(rng.integers(0, width - size + 1))
            row, column = top, left
            # BUG swap: window.append(frame[:, column : column + size, row : row + size])
            window.append(frame[:, row : row + size, column : column + size])
        out.append(torch.stack(window))
    return torch.stack(out)


# %% nbgrader={"grade": true, "grade_id": "crop-test", "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
_still = torch.rand(1, 1, 3, 12, 16).expand(4, 6, -1, -1, -1)
_got = random_crop(_still, 8, 0)
assert _got.shape == (4, 6, 3, 8, 8), (
    f"(4, 6, 3, 12, 16) and size 8 gave the shape {tuple(_got.shape)}"
)
assert torch.allclose(_got, _got[:, :1].expand_as(_got)), (
    "a clip of one frame, repeated, must stand still after the crop: one window for all frames"
)
### BEGIN HIDDEN TESTS
for _height, _width, _size in [(9, 12, 7), (11, 8, 6)]:
    _at = torch.arange(_height * _width).float().reshape(1, 1, 1, _height, _width)
    _time = 1000.0 * torch.arange(3).reshape(1, 3, 1, 1, 1)
    _clips = (_at + _time).expand(3, 3, 2, -1, -1)  # each pixel says where and when it is
    _corners = []
    for _seed in range(INSTANCE.seed, INSTANCE.seed + 60):
        _got = random_crop(_clips, _size, _seed)
        assert _got.shape == (3, 3, 2, _size, _size), "the shape is wrong when H and W differ"
        _corner = _got[:, 0, 0, 0, 0].long()
        _tops, _lefts = _corner // _width, _corner % _width
        for _clip, _top, _left in zip(_got, _tops.tolist(), _lefts.tolist()):
            _window = _clips[0, :, :, _top : _top + _size, _left : _left + _size]
            assert _window.shape == _clip.shape and torch.equal(_window, _clip), (
                "what comes back is not one window of the clip, the same in all frames"
            )
        _corners.append(torch.stack([_tops, _lefts], 1))
    _corners = torch.stack(_corners)  # (seeds, clips, 2)
    assert set(_corners[..., 0].flatten().tolist()) == set(range(_height - _size + 1)), (
        "some rows are never the top of the window, though the window would fit"
    )
    assert set(_corners[..., 1].flatten().tolist()) == set(range(_width - _size + 1)), (
        "some columns are never the left of the window, though the window would fit"
    )
    assert not (_corners[:, :1] == _corners).all(), "all clips of a batch get the same window"
    _got = random_crop(_clips, min(_height, _width), 0)
    assert _got.shape[-2:] == (min(_height, _width),) * 2, (
        "a window as large as the picture must fit"
    )
### END HIDDEN TESTS

# %% [markdown]
# ## 5 · Find the bug: what must be decoded (8 points; chapter 1)
#
# To see frame `t` (counted in the order *shown*), a decoder begins at the last key frame that lies in the file at or before the packet of that frame, and works through the file up to this packet. `packets` is a list of pairs
# `(stamp, is_key)` in the order of the *file*; all groups are closed. The function should return the places in the file of the packets to decode, in order. There is **one mistake** in it. Mend it.

# %% nbgrader={"grade": false, "grade_id": "fetch-packets", "locked": true, "schema_version": 3, "solution": false, "task": false}
with av.open(str(real_clips()["bikes"])) as container:
    bikes_packets = [
        (p.pts, bool(p.is_keyframe)) for p in container.demux(video=0) if p.pts is not None
    ]


# %% nbgrader={"grade": false, "grade_id": "fetch", "locked": false, "schema_version": 3, "solution": true, "task": false}
def to_decode(packets, t):
    """Places in the file of the packets that must be decoded to see frame t."""
    shown = sorted(stamp for stamp, _ in packets)
    # BUG order: wanted = t
    # BUG tick: wanted = min(range(len(packets)), key=lambda i: abs(packets[i][0] - t * (shown[1] - shown[0])))
    wanted = next(i for i, (stamp, _) in enumerate(packets) if stamp == shown[t])
    # BUG first: keys = [i for i, (_, key) in enumerate(packets[:1]) if key]
    # BUG before: keys = [i for i, (_, key) in enumerate(packets[: max(wanted, 1)]) if key]
    # BUG nearest: keys = sorted((i for i, (_, key) in enumerate(packets) if key), key=lambda i: -abs(i - wanted))
    keys = [i for i, (_, key) in enumerate(packets[: wanted + 1]) if key]
    # BUG short: return list(range(keys[-1], max(wanted, keys[-1] + 1)))
    return list(range(keys[-1], wanted + 1))


# %% nbgrader={"grade": true, "grade_id": "fetch-test", "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
_got = [len(to_decode(bikes_packets, t)) for t in (0, 1, 4, 29)]
assert _got[0] == 1, (
    f"frame 0 of bikes is a key frame; you decode {_got[0]} packets to see it, expected 1"
)
assert _got[2] == 2, (
    f"frame 4 of bikes lies second in the file; you decode {_got[2]} packets, expected 2"
)
### BEGIN HIDDEN TESTS
_rng = np.random.default_rng(INSTANCE.seed + 4)
for _ in range(20):
    _packets, _base = [], int(_rng.integers(0, 5000))
    for _group in range(int(_rng.integers(2, 5))):
        _size = int(_rng.integers(1, 8))
        _inner = _rng.permutation(np.arange(1, _size)).tolist()
        _packets += [((_base + i) * INSTANCE.gap, i == 0) for i in [0, *_inner]]
        _base += _size + int(_rng.integers(0, 3))  # a gap in time now and then
    _order = np.argsort([stamp for stamp, _ in _packets])
    for _t in range(len(_packets)):
        _got = [int(i) for i in to_decode(_packets, _t)]
        assert _got and _packets[_got[0]][1], "decoding must begin at a key frame"
        assert _got[-1] == _order[_t], "the last packet decoded must be that of the frame wanted"
        assert _got == list(range(_got[0], _got[-1] + 1)), "no packet on the way may be left out"
        assert not any(_packets[i][1] for i in _got[1:]), (
            "more was decoded than the last key frame asks for"
        )
_got = [len(to_decode(bikes_packets, t)) for t in range(0, len(bikes_packets), 25)]
assert max(_got) < 2 * (1 + max(np.diff([i for i, p in enumerate(bikes_packets) if p[1]]))), (
    "too much"
)
### END HIDDEN TESTS

# %% [markdown]
# ## 6 · Score the direction (5 + 5 points; chapter 3)
#
# Classes come in pairs, $c$ and $c \oplus 1$ (0 and 1, 2 and 3, …), of which one is the other played backwards. The score **within** the pair compares, for each clip, just two of its scores: that of its true class and that of the twin.
# The higher wins; an exact tie counts half. Return the mean over all clips, also over those whose pair the model got wrong.


# %% nbgrader={"grade": false, "grade_id": "within-score", "locked": false, "schema_version": 3, "solution": true, "task": false}
def within(logits, labels):
    """Share of clips whose direction is right, the pair being known: (n, classes) and (n,) -> a number."""
    ### BEGIN SOLUTION
    rows = torch.arange(len(labels))
    true, twin = logits[rows, labels], logits[rows, labels ^ 1]
    return ((true > twin).float() + 0.5 * (true == twin).float()).mean().item()
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "within-score-test", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
_logits = torch.tensor([[0.1, 0.4, 0.9, 0.2], [0.3, 0.3, 0.1, 0.0], [0.0, 0.0, 2.0, 1.0]])
_got = float(within(_logits, torch.tensor([1, 0, 3])))
assert abs(_got - 0.5) < 1e-6, (
    f"three clips, one right, one tied, one wrong: you gave {_got}, expected 0.5"
)
### BEGIN HIDDEN TESTS
_g = torch.Generator().manual_seed(INSTANCE.seed + 5)
for _n, _classes in [(40, 12), (7, 2), (25, 6)]:
    _logits = torch.randint(0, 4, (_n, _classes), generator=_g).float()  # whole numbers: many ties
    _labels = torch.randint(0, _classes, (_n,), generator=_g)
    _points = 0.0
    for _row, _label in zip(_logits.tolist(), _labels.tolist()):
        _twin = _label + 1 if _label % 2 == 0 else _label - 1
        _points += (
            1.0 if _row[_label] > _row[_twin] else 0.5 if _row[_label] == _row[_twin] else 0.0
        )
    _got = float(within(_logits, _labels))
    assert abs(_got - _points / _n) < 1e-5, (
        "the share differs from that of a plain loop, ties counting half"
    )
    _back = float(within(_logits, _labels ^ 1))
    assert abs(_got + _back - 1) < 1e-5, (
        "the scores for all labels and for all twins must add up to 1"
    )
### END HIDDEN TESTS

# %% [markdown]
# The loss that belongs to it: cross-entropy between the two scores of the true pair, averaged over the clips. It is $\log 2$ for a model that says nothing. It must stay finite for scores in the thousands, and let gradients pass.


# %% nbgrader={"grade": false, "grade_id": "within-loss", "locked": false, "schema_version": 3, "solution": true, "task": false}
def loss_within(logits, labels):
    """Mean cross-entropy between the scores of the true class and of its twin: a scalar tensor."""
    ### BEGIN SOLUTION
    true = logits.gather(1, labels[:, None])
    twin = logits.gather(1, (labels ^ 1)[:, None])
    return F.softplus(twin - true).mean()
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "within-loss-test", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
_got = float(loss_within(torch.zeros(3, 4), torch.tensor([0, 1, 3])))
assert abs(_got - np.log(2)) < 1e-5, f"scores that are all 0 gave a loss of {_got}, expected log 2"
### BEGIN HIDDEN TESTS
_g = torch.Generator().manual_seed(INSTANCE.seed + 6)
for _n, _classes in [(9, 12), (5, 2), (30, 8)]:
    _a = torch.randn(_n, _classes, generator=_g, dtype=torch.float64) * 3
    _b, _labels = _a.clone().requires_grad_(), torch.randint(0, _classes, (_n,), generator=_g)
    _a.requires_grad_()
    _loss = loss_within(_a, _labels)
    _pair = torch.stack([_labels, _labels ^ 1], 1)
    _expected = F.cross_entropy(_b.gather(1, _pair), torch.zeros(_n, dtype=torch.long))
    assert _loss.shape == (), "the loss of a batch is one number"
    assert torch.allclose(_loss, _expected), "it differs from the cross-entropy of the two scores"
    assert _loss.requires_grad, "the gradient does not pass"
    _loss.backward()
    _expected.backward()
    assert torch.allclose(_a.grad, _b.grad), "its gradient differs from that of the cross-entropy"
_big = loss_within(torch.tensor([[4000.0, -4000.0], [4000.0, -4000.0]]), torch.tensor([0, 1]))
assert torch.isfinite(_big) and abs(float(_big) - 4000) < 1, (
    "scores in the thousands must not overflow"
)
### END HIDDEN TESTS

# %% [markdown]
# ## 7 · Predict, run, explain: who is blind? (6 + 8 points; chapter 3)
#
# A model sees a clip only through one summary of its frames `x[0], …, x[T-1]`:
#
# INSTANCE.questions
#
# **Predict** first, on paper: for which of them do a clip and its reversal always have the *same* summary? Then **run** it: write the six in a cell of your own and try random clips. Enter what is true as a dictionary `blind` whose keys are the six names, spelled as above: `True` for a summary that is the same
# for every clip and its reversal.

# %% nbgrader={"grade": false, "grade_id": "blind", "locked": false, "schema_version": 3, "solution": true, "task": false}
### BEGIN SOLUTION
blind = INSTANCE.blind
### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "blind-test", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
_asked = INSTANCE.asked
assert isinstance(blind, dict) and set(blind) == set(_asked), (
    f"'blind' must be a dictionary with these six keys, spelled as here: {_asked}"
)
assert all(isinstance(v, bool) for v in blind.values()), "each value must be True or False"
### BEGIN HIDDEN TESTS
_summaries = {
    "the mean over time": lambda x: x.mean(0),
    "the maximum over time": lambda x: x.amax(0),
    "the standard deviation over time": lambda x: x.std(0),
    "the mean of |x[t+1] - x[t]|": lambda x: x.diff(dim=0).abs().mean(0),
    "the mean of x[t] * x[t+1]": lambda x: (x[:-1] * x[1:]).mean(0),
    "the median over time": lambda x: x.median(0).values,
    "the first frame": lambda x: x[0],
    "the last frame minus the first": lambda x: x[-1] - x[0],
    "the mean of x[t+1] - x[t]": lambda x: x.diff(dim=0).mean(0),
    "the mean of relu(x[t+1] - x[t])": lambda x: x.diff(dim=0).relu().mean(0),
    "the mean of t * x[t]": lambda x: (torch.arange(len(x))[:, None] * x).mean(0),
    "the mean of x[t] * x[t+1]**2": lambda x: (x[:-1] * x[1:] ** 2).mean(0),
}
_x = torch.randn(
    5, 50, generator=torch.Generator().manual_seed(INSTANCE.seed + 7), dtype=torch.float64
)
for _name, _answer in blind.items():
    _same = torch.allclose(_summaries[_name](_x), _summaries[_name](_x.flip(0)))
    assert _same == _answer, "not all six are right: try each on random clips and their reversals"
### END HIDDEN TESTS

# %% [markdown]
# **Explain**, in at most 200 words. (a) Which property do the blind ones share? (b) Take two that are not blind. For each: is it a sum over frames (second theorem of chapter 3)? What follows for a *linear* classifier on it, on the motion set? (c) Where did your prediction and
# your run differ, and why?
#
# | points | for |
# |---|---|
# | 2 | (a): a function of the frames that does not change when their order is reversed; "averages" alone is 1 |
# | 4 | (b): 2 for each, the right verdict with its reason; the bound is on the loss, not on the accuracy: without this at most 1 each |
# | 2 | (c): says what was predicted and what came out; "nothing differed" is fine with a reason for the hardest one |

# %% [markdown] nbgrader={"grade": true, "grade_id": "blind-why", "locked": false, "points": 8, "schema_version": 3, "solution": true, "task": false}
# ### BEGIN SOLUTION
# (a) Each treats the frames, or the pairs of neighbours, as a set: reversing the order permutes the terms and changes none of them. (b) The first frame, the last frame minus the first, the mean of the differences (it *is* the last minus the first, over
# T − 1) and the mean of t · x[t] are sums over frames, $\sum_t g_t(x_t)$. On the motion set each frame looks alike in both directions, so both classes have the same mean score and a linear classifier cannot get its expected loss within the pair below log 2;
# its accuracy is not bounded. The relu of differences and x[t] · x[t+1]² relate two frames in one term: they are no such sums, and the bound does not hold. (c) The mean of |x[t+1] − x[t]| is often predicted to see a direction, because it is made of differences;
# but the absolute value forgets the sign, and the sign was the direction.
# ### END SOLUTION

# %% [markdown]
# ## 8 · Measure: one relation is enough (12 points; chapter 3)
#
# A toy video: a ring of INSTANCE.places places, a bright spot that walks one place a frame, four frames, noise. It starts anywhere and goes right (label 1) or left (label 0). `reading` fits a *linear* classifier on what your function makes of 300 clips
# and returns its accuracy on 300 new ones. With the frames as they are it is at chance.
#
# Write `describe`, which turns clips `(n, 4, INSTANCE.places)` into at most 250 numbers each, so that the accuracy is at least **0.9** for every seed. Each clip must be described by itself: the other clips of the batch must not matter.


# %% nbgrader={"grade": false, "grade_id": "relate-world", "locked": true, "schema_version": 3, "solution": false, "task": false}
def ring_clips(n, seed):
    """Clips (n, 4, places) of a spot that walks round a ring, and labels (n,): 1 goes right."""
    g = torch.Generator().manual_seed(seed)
    start = torch.randint(0, INSTANCE.places, (n, 1), generator=g)
    labels = torch.randint(0, 2, (n,), generator=g)
    at = (start + (2 * labels[:, None] - 1) * torch.arange(4)) % INSTANCE.places
    return F.one_hot(at, INSTANCE.places) + 0.25 * torch.randn(
        n, 4, INSTANCE.places, generator=g
    ), labels


def reading(describe, seed):
    """Accuracy on 300 new clips of a linear classifier fitted on 300 clips (ridge regression)."""
    (x, y), (x_new, y_new) = ring_clips(300, 2 * seed), ring_clips(300, 2 * seed + 1)
    x, x_new = (torch.as_tensor(describe(part)).double() for part in (x, x_new))
    mean, std = x.mean(0), x.std(0) + 1e-6
    x, x_new = (torch.cat([(p - mean) / std, torch.ones(len(p), 1)], 1) for p in (x, x_new))
    w = torch.linalg.solve(x.T @ x + 3.0 * torch.eye(x.shape[1]), x.T @ (2 * y - 1).double())
    return ((x_new @ w > 0) == (y_new == 1)).double().mean().item()


# %% nbgrader={"grade": false, "grade_id": "relate", "locked": false, "schema_version": 3, "solution": true, "task": false}
def describe(clips):
    """(n, 4, places) -> (n, at most 250)."""
    ### BEGIN SOLUTION
    now, then = clips[:, :-1], clips[:, 1:]
    right = (now * then.roll(-1, dims=2)).sum((1, 2))
    left = (now * then.roll(1, dims=2)).sum((1, 2))
    return torch.stack([right, left], 1)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "relate-test", "locked": true, "points": 12, "schema_version": 3, "solution": false, "task": false}
_raw = reading(lambda clips: clips.flatten(1), 0)
_got = reading(describe, 0)
assert _got >= 0.9, (
    f"with your description the accuracy is {_got:.2f}, with raw frames {_raw:.2f}; 0.90 is asked for"
)
### BEGIN HIDDEN TESTS
for _seed in range(INSTANCE.seed, INSTANCE.seed + 3):
    assert reading(describe, _seed) >= 0.9, "the accuracy is below 0.9 for another seed"
_clips, _ = ring_clips(20, INSTANCE.seed)
_all = torch.as_tensor(describe(_clips)).double()
assert _all.ndim == 2 and _all.shape[0] == 20 and _all.shape[1] <= 250, (
    "at most 250 numbers for each clip"
)
_one = torch.cat([torch.as_tensor(describe(_clips[i : i + 1])).double() for i in range(20)])
assert torch.allclose(_all, _one, atol=1e-4), (
    "a clip's description depends on the other clips of the batch"
)
### END HIDDEN TESTS
