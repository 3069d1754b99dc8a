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
dim = draw.choice([8, 12, 16])
size = draw.choice([(2, 3, 4), (2, 4, 3), (3, 2, 4)])
size_t, size_h, size_w = size
room = size_t * size_h * size_w
beta = draw.choice([0.1, 0.25, 0.5])
words = draw.choice([14, 16, 18])
blind_ones = [
    "attention",
    "attention, then a sinusoidal code added to the answers",
    "attention, then a feed-forward network for each token",
    "attention with -|t - u| added to the scores",
    "one learned query attends to the frames",
]
seeing_ones = [
    "a sinusoidal code added, then attention",
    "attention, then a sinusoidal code added, then a feed-forward network for each token",
    "attention with u - t added to the scores",
    "attention under a causal mask",
    "attention with rotary queries and keys",
    "each frame joined to the next one, then attention",
]
asked = draw.sample(blind_ones, 3) + draw.sample(seeing_ones, 3)
draw.shuffle(asked)
blind = {name: name in blind_ones for name in asked}
questions = "\n".join(f"- `{name}`" for name in asked)

# %% [markdown]
# # Problem set 2: Frames, order, attention
#
# Chapters 4 to 7. Eight tasks, 84 points. You will attend with a loop and without, cut a clip into tubelets, mend a rotary code and a multi-head attention that run and are wrong, make two layers one, give a codebook its gradient,
# find out which networks cannot tell a clip from its reversal, and bring words to life.
#
# - Write only where it says `YOUR CODE HERE` or `YOUR ANSWER HERE`, or, in tasks that say so, mend the code that is there. Add cells of your own anywhere.
# - The cells with checks are there to help you: when one raises, read its last line. When your work is graded, these checks and further ones run on shapes, seeds and types
#   of number that you have not seen. All checks of a cell must hold for its points.
# - No task needs another. Where one builds on an idea of an earlier one, the book's own version is given.
# - Do not print a lot and do not read or write files: your code is graded in a sandbox that stops it (`How to hand in`, in the book).
# - Before the deadline, run `make check-submission FILE=...` on your notebook.

# %% nbgrader={"grade": false, "grade_id": "imports", "locked": true, "schema_version": 3, "solution": false, "task": false}
import math

import torch
from torch import nn
from torch.nn import functional as F

# %% [markdown]
# ## 1 · Attend (4 + 8 points; chapter 5)
#
# First one query, one key at a time. The weight of key $u$ is $e^{s_u}$ over the sum of all $e^{s_j}$, with $s_u = q\cdot k_u/\sqrt D$; the answer is the mean of the values with these weights. Write the softmax yourself. It must stay finite when scores
# are in the thousands, positive or negative.


# %% nbgrader={"grade": false, "grade_id": "look-loop", "locked": false, "schema_version": 3, "solution": true, "task": false}
def attend_one(q, keys, values):
    """Query (D) over keys (U, D) and values (U, E) -> answer (E)."""
    ### BEGIN SOLUTION
    scores = [float(q @ key) / math.sqrt(len(q)) for key in keys]
    raw = [math.exp(score - max(scores)) for score in scores]
    answer = torch.zeros_like(values[0])
    for weight, value in zip(raw, values):
        answer = answer + weight / sum(raw) * value
    return answer
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "look-loop-test", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
_q, _keys = torch.tensor([2.0, 0, 1, 0]), torch.tensor([[2.0, 0, 0, 0], [0, 2, 0, 0], [2, 0, 2, 0]])
_values = torch.tensor([[4.0, 10], [12, 10], [20, 14]])
_got = torch.as_tensor(attend_one(_q, _keys, _values))
assert torch.allclose(_got, torch.tensor([15.567, 12.822]), atol=1e-2), (
    f"the example of chapter 5 gave {_got.tolist()}, expected about [15.6, 12.8]"
)
### BEGIN HIDDEN TESTS
_g = torch.Generator().manual_seed(INSTANCE.seed)
for _u, _d, _e in [(1, 3, 2), (5, 4, 7), (9, 16, 1), (4, 9, 9)]:
    for _factor in (1.0, 0.0, 900.0, -900.0):
        _q = torch.randn(_d, generator=_g, dtype=torch.float64) * _factor
        _keys, _values = (torch.randn(_u, n, generator=_g, dtype=torch.float64) for n in (_d, _e))
        _got = torch.as_tensor(attend_one(_q, _keys, _values)).double()
        _expected = F.scaled_dot_product_attention(_q[None], _keys, _values)[0]
        assert _got.shape == _expected.shape, "the answer must be as wide as a value"
        assert torch.isfinite(_got).all(), "large scores must not overflow"
        assert torch.allclose(_got, _expected, atol=1e-5), "the answer differs from torch's"
_same = torch.as_tensor(attend_one(-torch.ones(4) * 1e4, torch.ones(3, 4), torch.eye(3)))
assert torch.allclose(_same.double(), torch.full((3,), 1 / 3).double(), atol=1e-5), (
    "equal keys must get equal weights, however small the scores"
)
### END HIDDEN TESTS

# %% [markdown]
# Now all queries at once, without a loop, with any axes in front and with a mask. `may` is a boolean tensor that broadcasts to the scores $(\ldots, T, U)$; `True` means that the query may look at the key. A query that may see nothing gets zeros for an answer, and no
# gradient anywhere may become "not a number" for it. Use neither `F.scaled_dot_product_attention` nor a module of torch: your own lines, equal to theirs in value and gradient.


# %% nbgrader={"grade": false, "grade_id": "look-fast", "locked": false, "schema_version": 3, "solution": true, "task": false}
def attend(q, k, v, may=None):
    """Queries (..., T, D), keys (..., U, D), values (..., U, E) -> answers (..., T, E)."""
    ### BEGIN SOLUTION
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    if may is None:
        return scores.softmax(-1) @ v
    lowest = torch.finfo(scores.dtype).min
    weights = scores.masked_fill(~may, lowest).softmax(-1)
    return weights.masked_fill(~may, 0.0) @ v
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "look-fast-test", "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
_g = torch.Generator().manual_seed(0)
_q, _k, _v = (torch.randn(2, 5, 4, generator=_g) for _ in range(3))
_past = torch.ones(5, 5, dtype=torch.bool).tril()
for _may, _said in [(None, "without a mask"), (_past, "under a causal mask")]:
    _got = attend(_q, _k, _v, _may)
    _expected = F.scaled_dot_product_attention(_q, _k, _v, attn_mask=_may)
    assert _got.shape == _expected.shape, f"{_said}: shape {tuple(_got.shape)}, expected (2, 5, 4)"
    assert torch.allclose(_got, _expected, atol=1e-5), (
        f"{_said}, the largest difference from torch's answers is {(_got - _expected).abs().max():.2f}"
    )
### BEGIN HIDDEN TESTS
_g = torch.Generator().manual_seed(INSTANCE.seed + 1)
_shapes = [
    ((), 4, 6, 5, 3, (4, 6)),
    ((3,), 2, 7, 4, 4, (3, 1, 7)),
    ((2, 3), 5, 3, 8, 2, (2, 1, 1, 3)),
    ((2, 2), 3, 3, 4, 6, (3, 3)),
]
for _front, _t, _u, _d, _e, _shape in _shapes:
    for _factor in (1.0, 3000.0):
        for _masked in (False, True):
            _parts = [
                torch.randn(*_front, n, w, generator=_g, dtype=torch.float64) * f
                for n, w, f in ((_t, _d, _factor), (_u, _d, 1.0), (_u, _e, 1.0))
            ]
            _a = [p.clone().requires_grad_() for p in _parts]
            _b = [p.clone().requires_grad_() for p in _parts]
            _may = torch.rand(_shape, generator=_g) < 0.6 if _masked else None
            if _masked:
                _may[..., 0] = True  # every query sees one key at least
            _got = attend(*_a, _may)
            _expected = F.scaled_dot_product_attention(*_b, attn_mask=_may)
            assert _got.shape == _expected.shape, "the shape differs from torch's"
            assert _got.dtype == torch.float64, "keep the type of the numbers"
            assert torch.allclose(_got, _expected, atol=1e-8), "the answers differ from torch's"
            _slope = torch.randn(_got.shape, generator=_g, dtype=torch.float64)
            assert _got.requires_grad, "the gradient does not pass: stay with torch"
            (_got * _slope).sum().backward()
            (_expected * _slope).sum().backward()
            for _x, _y in zip(_a, _b):
                assert torch.allclose(_x.grad, _y.grad, atol=1e-7), (
                    "a gradient differs from torch's"
                )
_q, _k, _v = (torch.randn(2, 4, 6, generator=_g).requires_grad_() for _ in range(3))
_may = torch.ones(4, 4, dtype=torch.bool).tril(-1)  # query 0 sees nothing
_got = attend(_q, _k, _v, _may)
assert (_got[:, 0] == 0).all(), "a query that may see nothing must get zeros"
assert torch.isfinite(_got).all(), "a query that may see nothing spoils other answers"
_got.square().sum().backward()
assert all(torch.isfinite(p.grad).all() for p in (_q, _k, _v)), (
    "a query that may see nothing makes gradients that are not numbers"
)
assert (_q.grad[:, 0] == 0).all(), "a query that may see nothing has no gradient"
### END HIDDEN TESTS

# %% [markdown]
# ## 2 · Cut (4 + 6 points; chapter 6)
#
# First one frame into square patches, as a loop: row by row from the upper left corner, each patch laid out channel by channel, and within a channel row by row.


# %% nbgrader={"grade": false, "grade_id": "cut-loop", "locked": false, "schema_version": 3, "solution": true, "task": false}
def patches(frame, side):
    """Frame (C, H, W) -> (H // side * W // side, C * side * side); side divides H and W."""
    ### BEGIN SOLUTION
    found = []
    for top in range(0, frame.shape[1], side):
        for left in range(0, frame.shape[2], side):
            found.append(frame[:, top : top + side, left : left + side].flatten())
    return torch.stack(found)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "cut-loop-test", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
_frame = torch.arange(24.0).reshape(1, 4, 6)
_got = patches(_frame, 2)
assert _got.shape == (6, 4), f"a frame (1, 4, 6), side 2, gave the shape {tuple(_got.shape)}"
assert _got[1].tolist() == [2, 3, 8, 9], (
    f"the second patch of the numbers 0 to 23 in four rows is {_got[1].tolist()}, expected [2, 3, 8, 9]"
)
### BEGIN HIDDEN TESTS
_g = torch.Generator().manual_seed(INSTANCE.seed + 2)
for _c, _h, _w, _side in [(3, 6, 9, 3), (2, 8, 4, 2), (1, 5, 5, 5), (4, 3, 7, 1), (3, 4, 8, 4)]:
    for _dtype in (torch.float32, torch.float64):
        _frame = torch.randn(_c, _h, _w, generator=_g, dtype=_dtype)
        _got = torch.as_tensor(patches(_frame, _side))
        _expected = F.unfold(_frame[None], _side, stride=_side)[0].T
        assert _got.shape == _expected.shape, "the shape is wrong, perhaps where H and W differ"
        assert torch.equal(_got, _expected), (
            "patches, or the numbers in a patch, stand in a wrong order"
        )
### END HIDDEN TESTS

# %% [markdown]
# Now clips into tubelets, without a loop: $(B, T, C, H, W) \to (B, N, \text{numbers})$. A tubelet covers `size = (frames, rows, columns)`. The tubelets stand in the order time, row, column; the numbers inside in the order channel, time, row, column. Then a linear layer on
# the tubelets *is* a three-dimensional convolution whose stride is its kernel; that is the check. With `size` of INSTANCE.size, a clip of three channels has tubelets of 3 · INSTANCE.room numbers.


# %% nbgrader={"grade": false, "grade_id": "cut-fast", "locked": false, "schema_version": 3, "solution": true, "task": false}
def tubelets(clips, size):
    """Clips (B, T, C, H, W) -> (B, N, C * frames * rows * columns); size divides (T, H, W)."""
    ### BEGIN SOLUTION
    batch, time, channels, height, width = clips.shape
    i, j, k = size
    blocks = clips.reshape(batch, time // i, i, channels, height // j, j, width // k, k)
    return blocks.permute(0, 1, 4, 6, 3, 2, 5, 7).flatten(4).flatten(1, 3)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "cut-fast-test", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
_i, _j, _k = INSTANCE.size
_clips = torch.randn(2, 2 * _i, 3, 3 * _j, 2 * _k, generator=torch.Generator().manual_seed(0))
_got = tubelets(_clips, (_i, _j, _k))
assert _got.shape == (2, 12, 3 * _i * _j * _k), (
    f"clips {tuple(_clips.shape)} by {(_i, _j, _k)} gave {tuple(_got.shape)}, "
    f"expected (2, 12, {3 * _i * _j * _k})"
)
assert torch.equal(_got[0, 0], _clips[0, :_i, :, :_j, :_k].transpose(0, 1).flatten()), (
    "the first tubelet is not the first block of the clip, channel by channel"
)
### BEGIN HIDDEN TESTS
_g = torch.Generator().manual_seed(INSTANCE.seed + 3)
for _batch, _n, _c, _size in [
    (2, (2, 3, 2), 3, INSTANCE.size),
    (3, (3, 1, 2), 2, (2, 4, 3)),
    (1, (1, 2, 3), 4, (4, 1, 2)),
    (2, (4, 2, 2), 1, (1, 3, 3)),
]:
    _t, _h, _w = (n * s for n, s in zip(_n, _size))
    _a = torch.randn(_batch, _t, _c, _h, _w, generator=_g, dtype=torch.float64)
    _b = _a.clone().requires_grad_()
    _a.requires_grad_()
    _kernel = torch.randn(5, _c, *_size, generator=_g, dtype=torch.float64)
    _cut = tubelets(_a, _size)
    _expected = F.conv3d(_b.transpose(1, 2), _kernel, stride=_size).flatten(2).mT
    assert _cut.shape == (*_expected.shape[:2], _kernel[0].numel()), "the shape is wrong"
    _got = _cut @ _kernel.flatten(1).T
    assert torch.allclose(_got, _expected), (
        "a linear layer on your tubelets is not a convolution with stride = kernel: check the order of the "
        "tubelets, and the order of the numbers inside"
    )
    _slope = torch.randn(_got.shape, generator=_g, dtype=torch.float64)
    (_got * _slope).sum().backward()
    (_expected * _slope).sum().backward()
    assert torch.allclose(_a.grad, _b.grad), "the gradient is not that of the convolution"
### END HIDDEN TESTS

# %% [markdown]
# ## 3 · Find the bug: turn, do not add (8 points; chapter 6)
#
# The rotary code. At position $t$ the pair $(x_{2i}, x_{2i+1})$ is turned by the angle $t\,\omega_i$ with $\omega_i = \text{base}^{-2i/D}$:
#
# $$(x_{2i}, x_{2i+1}) \mapsto (x_{2i}\cos t\omega_i - x_{2i+1}\sin t\omega_i,\; x_{2i}\sin t\omega_i + x_{2i+1}\cos t\omega_i).$$
#
# The positions `at` need not be 0, 1, 2, … The function runs, networks train with it, and there is **one mistake** in it. Find the property that it breaks, and mend it.


# %% nbgrader={"grade": false, "grade_id": "turn", "locked": false, "schema_version": 3, "solution": true, "task": false}
def rotary(x, at, base=10_000.0):
    """Turn x (..., T, D) by the angles of the positions at (T)."""
    dim = x.shape[-1]
    # BUG exponent: omega = base ** (-torch.arange(dim // 2, dtype=x.dtype) / dim)
    # BUG slow: omega = base ** (-torch.arange(2, dim + 2, 2, dtype=x.dtype) / dim)
    omega = base ** (-torch.arange(0, dim, 2, dtype=x.dtype) / dim)
    # BUG counted: angles = torch.arange(len(at), dtype=x.dtype)[:, None] * omega
    angles = at.to(x.dtype)[:, None] * omega
    # BUG tiled: angles = angles.repeat(1, 2)
    angles = angles.repeat_interleave(2, dim=-1)
    even, odd = x[..., 0::2], x[..., 1::2]
    # BUG mirrored: partner = torch.stack((odd, even), -1).flatten(-2)
    # BUG half: partner = torch.cat((-odd, even), -1)
    # BUG backwards: partner = torch.stack((odd, -even), -1).flatten(-2)
    partner = torch.stack((-odd, even), -1).flatten(-2)
    return x * angles.cos() + partner * angles.sin()


# %% nbgrader={"grade": true, "grade_id": "turn-test", "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
_got = rotary(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1]))
assert torch.allclose(_got[0], torch.tensor([1.0, 0.0])), (
    f"at position 0 nothing turns; (1, 0) became {_got[0].tolist()}"
)
_x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
_got = rotary(_x, torch.arange(3))
assert _got.shape == _x.shape, f"{tuple(_x.shape)} went in and {tuple(_got.shape)} came out"
### BEGIN HIDDEN TESTS
_g = torch.Generator().manual_seed(INSTANCE.seed + 4)
for _shape in [(5, 4), (2, 7, INSTANCE.dim), (2, 3, 6, 10)]:
    for _base in (10_000.0, 100.0):
        _x = torch.randn(*_shape, generator=_g, dtype=torch.float64)
        _at = (torch.rand(_shape[-2], generator=_g) * 40).double()
        _got = rotary(_x, _at, _base)
        assert torch.allclose(_got.norm(dim=-1), _x.norm(dim=-1)), "a rotation changes no length"
        _q, _k = (torch.randn(_shape[-1], generator=_g, dtype=torch.float64) for _ in range(2))
        _scores = []
        for _shift in (0, 3):
            _two = [rotary(v.expand(len(_at), -1).clone(), _at + _shift, _base) for v in (_q, _k)]
            _scores.append(_two[0] @ _two[1].T)
        assert torch.allclose(*_scores), (
            "moving query and key on by the same number of positions must not change their product"
        )
        _omega = torch.tensor([_base ** (-2 * i / _shape[-1]) for i in range(_shape[-1] // 2)])
        _angle = _at[:, None] * _omega.double()
        _wheel = torch.polar(torch.ones_like(_angle), _angle)
        _pairs = torch.view_as_complex(_x.unflatten(-1, (-1, 2)).contiguous())
        _expected = torch.view_as_real(_pairs * _wheel).flatten(-2)
        assert torch.allclose(_got, _expected, atol=1e-5), (
            "the pairs are not turned by t·omega, as the formula says"
        )
### END HIDDEN TESTS

# %% [markdown]
# ## 4 · Find the bug: many heads (10 points; chapter 5)
#
# Multi-head attention of a batch of clips to themselves. The clips are of unequal length and were filled up; `may` $(B, T)$ is `True` where there is a frame, and at least one is in every clip. Nobody may look at the filling (what comes out at its own places does not matter). `drop` is the rate of dropout on the
# weights, in training only. `weights` holds the matrix and the bias that make queries, keys and values, stacked as in `nn.MultiheadAttention`, and those of the last layer. It runs, it trains, and there is **one mistake** in it. Mend it.


# %% nbgrader={"grade": false, "grade_id": "heads", "locked": false, "schema_version": 3, "solution": true, "task": false}
def multi_head(x, weights, heads, may, drop=0.0, training=False):
    """Clips (B, T, D) -> (B, T, D); weights: (3D, D), (3D), (D, D), (D)."""
    w_in, b_in, w_out, b_out = weights
    batch, time, dim = x.shape
    parts = F.linear(x, w_in, b_in).chunk(3, dim=-1)
    # BUG view: q, k, v = (part.reshape(batch, heads, time, dim // heads) for part in parts)
    # BUG strided: q, k, v = (part.unflatten(-1, (dim // heads, heads)).permute(0, 3, 1, 2) for part in parts)
    q, k, v = (part.unflatten(-1, (heads, dim // heads)).transpose(1, 2) for part in parts)
    # BUG wide: scores = q @ k.mT / math.sqrt(dim)
    scores = q @ k.mT / math.sqrt(dim // heads)  # (B, M, T, T)
    # BUG polarity: scores = scores.masked_fill(may[:, None, None, :], -1e9)
    # BUG queries: scores = scores.masked_fill(~may[:, None, :, None], -1e9)
    scores = scores.masked_fill(~may[:, None, None, :], -1e9)
    # BUG axis: shares = scores.softmax(-2)
    shares = scores.softmax(-1)
    # BUG awake: shares = F.dropout(shares, drop)
    # BUG swapped: shares = F.dropout(shares, drop, not training)
    shares = F.dropout(shares, drop, training)
    # BUG merge: mixed = (shares @ v).reshape(batch, time, dim)
    mixed = (shares @ v).transpose(1, 2).flatten(2)
    return F.linear(mixed, w_out, b_out)


# %% nbgrader={"grade": true, "grade_id": "heads-test", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
_g = torch.Generator().manual_seed(0)
_weights = [torch.randn(*s, generator=_g) for s in ((24, 8), (24,), (8, 8), (8,))]
_x, _may = torch.randn(2, 5, 8, generator=_g), torch.ones(2, 5, dtype=torch.bool)
_got = multi_head(_x, _weights, 2, _may)
assert _got.shape == (2, 5, 8), f"(2, 5, 8) went in and {tuple(_got.shape)} came out"
assert torch.isfinite(_got).all(), "not all answers are numbers"
### BEGIN HIDDEN TESTS
_g = torch.Generator().manual_seed(INSTANCE.seed + 5)
for _batch, _time, _dim, _heads in [(3, 6, 12, 3), (2, 4, 8, 4), (2, 9, 6, 2), (4, 3, 4, 1)]:
    _module = nn.MultiheadAttention(_dim, _heads, batch_first=True).double()
    for _p in _module.parameters():
        nn.init.normal_(_p, std=0.6, generator=_g)
    _may = torch.arange(_time) < torch.randint(1, _time + 1, (_batch, 1), generator=_g)
    _may[0] = True
    _a = torch.randn(_batch, _time, _dim, generator=_g, dtype=torch.float64)
    _b = _a.clone().requires_grad_()
    _a.requires_grad_()
    _theirs = [_module.in_proj_weight, _module.in_proj_bias, *_module.out_proj.parameters()]
    _mine = [p.detach().clone().requires_grad_() for p in _theirs]
    _got = multi_head(_a, _mine, _heads, _may)
    _expected = _module(_b, _b, _b, key_padding_mask=~_may, need_weights=False)[0]
    _seen = _may[:, :, None]
    assert torch.allclose(_got * _seen, _expected * _seen), (
        "the answers differ from nn.MultiheadAttention with the same weights and filling"
    )
    _slope = torch.randn(_got.shape, generator=_g, dtype=torch.float64) * _seen
    (_got * _slope).sum().backward()
    (_expected * _slope).sum().backward()
    for _mine_p, _their_p in zip([_a, *_mine], [_b, *_theirs]):
        assert torch.allclose(_mine_p.grad, _their_p.grad), (
            "a gradient differs from that of nn.MultiheadAttention"
        )
    _other = torch.where(_seen, _a, 7.0).detach()  # other numbers in the filling
    _again = multi_head(_other, _mine, _heads, _may)
    assert torch.allclose(_again * _seen, _got * _seen), (
        "the filling changes answers of real frames"
    )
    _still = multi_head(_a, _mine, _heads, _may, 0.5, False)
    assert torch.allclose(_still, _got), "in evaluation dropout must do nothing"
    _shaken = multi_head(_a, _mine, _heads, _may, 0.5, True)
    assert not torch.allclose(_shaken * _seen, _got * _seen), (
        "in training dropout must do something"
    )
### END HIDDEN TESTS

# %% [markdown]
# ## 5 · Two layers made one (8 points; chapter 4)
#
# In evaluation, batch norm is a scale and a shift for each channel. So a convolution followed by batch norm is *one* convolution. Return its kernel and its bias. `norm` is a dictionary with the running `mean` and `var`, the learned `gamma` and `beta`, each of shape $(C')$, and the
# number `eps`. The old bias may be `None`.


# %% nbgrader={"grade": false, "grade_id": "fold", "locked": false, "schema_version": 3, "solution": true, "task": false}
def fold(weight, bias, norm):
    """Kernel (C', C, k, k), bias (C') or None -> kernel and bias of the single convolution."""
    ### BEGIN SOLUTION
    scale = norm["gamma"] / torch.sqrt(norm["var"] + norm["eps"])
    bias = torch.zeros_like(scale) if bias is None else bias
    return weight * scale[:, None, None, None], norm["beta"] + scale * (bias - norm["mean"])
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "fold-test", "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
_norm = dict(mean=torch.tensor([4.0]), var=torch.tensor([4.0]), eps=0.0)
_norm |= dict(gamma=torch.ones(1), beta=torch.zeros(1))
_kernel, _bias = fold(torch.ones(1, 1, 1, 1), None, _norm)
assert abs(float(_kernel) - 0.5) < 1e-6 and abs(float(_bias) + 2) < 1e-6, (
    f"a kernel of 1 before mean 4 and deviation 2 gave weight {float(_kernel)} and bias {float(_bias)}, "
    "expected 0.5 and -2"
)
### BEGIN HIDDEN TESTS
_g = torch.Generator().manual_seed(INSTANCE.seed + 6)
for _out, _in, _side, _with in [
    (4, 3, 3, True),
    (2, 5, 1, False),
    (3, 3, 5, True),
    (6, 1, 3, False),
]:
    for _dtype in (torch.float64, torch.float32):
        _w = torch.randn(_out, _in, _side, _side, generator=_g, dtype=_dtype)
        _b = torch.randn(_out, generator=_g, dtype=_dtype) if _with else None
        _norm = {
            n: torch.randn(_out, generator=_g, dtype=_dtype) for n in ("mean", "gamma", "beta")
        }
        _norm |= {"var": torch.rand(_out, generator=_g, dtype=_dtype) * 3 + 0.05, "eps": 0.1}
        _x = torch.randn(2, _in, 8, 9, generator=_g, dtype=_dtype)
        _expected = F.batch_norm(
            F.conv2d(_x, _w, _b),
            _norm["mean"],
            _norm["var"],
            _norm["gamma"],
            _norm["beta"],
            False,
            eps=0.1,
        )
        _kernel, _bias = fold(_w, _b, _norm)
        assert _kernel.shape == _w.shape and _bias.shape == (_out,), (
            "kernel or bias has a wrong shape"
        )
        _got = F.conv2d(_x, _kernel, _bias)
        assert torch.allclose(_got, _expected, atol=1e-4), (
            "the single convolution does not answer as the two layers do"
            + ("" if _with else ", for a convolution without bias")
        )
### END HIDDEN TESTS

# %% [markdown]
# ## 6 · A word has no slope (10 points; chapter 7)
#
# Quantise features $x$ $(N, F)$ with a codebook $(J, F)$. Return three things: the vectors, which as *values* are the nearest codes, and through which the gradient passes to $x$ *unchanged*; the words, the numbers of the nearest codes (int64); and the commitment
# loss $\lambda\operatorname{mean}\big((x - \operatorname{sg}[e])^2\big)$, with $\lambda$ the argument `beta`, the mean taken over all $N F$ entries. Near means by Euclidean distance. The codebook learns by moving averages: it gets no gradient, neither through the vectors nor from the loss.


# %% nbgrader={"grade": false, "grade_id": "speak", "locked": false, "schema_version": 3, "solution": true, "task": false}
def quantize(x, codebook, beta=INSTANCE.beta):
    """Features (N, F), codebook (J, F) -> vectors (N, F), words (N), loss."""
    ### BEGIN SOLUTION
    codebook = codebook.detach()
    words = torch.cdist(x.detach(), codebook).argmin(1)
    chosen = codebook[words]
    return x + (chosen - x).detach(), words, beta * F.mse_loss(x, chosen)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "speak-test", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
_x = torch.tensor([[0.9, 0.2]], requires_grad=True)
_codes = torch.tensor([[0.0, 1.0], [-1.0, 0.2], [1.0, 0.0], [0.2, -0.8]])
_vectors, _words, _loss = quantize(_x, _codes)
assert _words.tolist() == [2], f"(0.9, 0.2) lies nearest to code 2, you chose {_words.tolist()}"
assert torch.allclose(_vectors, _codes[2:3]), (
    f"the vector is {_vectors.tolist()}, expected the code (1, 0)"
)
_vectors.sum().backward()
assert _x.grad is not None and torch.allclose(_x.grad, torch.ones(1, 2)), (
    f"the gradient of the vectors' sum is {None if _x.grad is None else _x.grad.tolist()}, expected ones"
)
### BEGIN HIDDEN TESTS
_g = torch.Generator().manual_seed(INSTANCE.seed + 7)
for _n, _j, _f, _dtype in [
    (7, 5, 3, torch.float64),
    (12, 9, 4, torch.float32),
    (1, 2, 6, torch.float64),
]:
    _x = torch.randn(_n, _f, generator=_g, dtype=_dtype).requires_grad_()
    _lengths = torch.rand(_j, 1, generator=_g, dtype=_dtype) * 3 + 0.3
    _codes = (
        F.normalize(torch.randn(_j, _f, generator=_g, dtype=_dtype), dim=1) * _lengths
    ).requires_grad_()
    _vectors, _words, _loss = quantize(_x, _codes, 0.7)
    _far = [[float(((a - b) ** 2).sum()) for b in _codes.detach()] for a in _x.detach()]
    _nearest = torch.tensor([row.index(min(row)) for row in _far])
    assert _words.dtype == torch.int64 and torch.equal(_words, _nearest), (
        "the words are not the numbers of the nearest codes"
    )
    assert torch.allclose(_vectors, _codes[_nearest], atol=1e-5), "the vectors are not the codes"
    _slope = torch.randn(_n, _f, generator=_g, dtype=_dtype)
    _total = sum(min(row) for row in _far) / (_n * _f)
    assert abs(float(_loss.detach()) - 0.7 * _total) < 1e-4, (
        "the loss is not beta times the mean square"
    )
    (_vectors * _slope).sum().backward()
    assert torch.allclose(_x.grad, _slope, atol=1e-6), "the gradient must pass to x unchanged"
    assert _codes.grad is None or not _codes.grad.any(), (
        "through the vectors the codebook must get no gradient"
    )
    _x.grad = _codes.grad = None
    assert _loss.requires_grad, "the loss has no gradient for x"
    _loss.backward()
    _expected = 0.7 * 2 * (_x - _codes[_nearest]).detach() / (_n * _f)
    assert torch.allclose(_x.grad, _expected, atol=1e-5), "the gradient of the loss at x is wrong"
    assert _codes.grad is None or not _codes.grad.any(), (
        "from the loss the codebook gets no gradient"
    )
### END HIDDEN TESTS

# %% [markdown]
# ## 7 · Predict, run, explain: a bag of frames (6 + 8 points; chapters 6 and 7)
#
# Six untrained networks read a clip as a sequence of frames $x_0, \dots, x_{T-1}$, one token a frame, frame $t$ at position $t$. What comes out is averaged over time. ($t$ is the position of a query, $u$ that of a key; weights are random.)
#
# INSTANCE.questions
#
# **Predict** first, on paper: for which of them is the average *always the same* for a clip and for its reversal? Then **run** it: build the six from chapters 5 and 6 in cells of your own and try random clips. Enter what is true as a dictionary `blind` whose keys are the six names, spelled as above: `True` for a network that gives a clip and its reversal
# the same average.

# %% nbgrader={"grade": false, "grade_id": "bag", "locked": false, "schema_version": 3, "solution": true, "task": false}
### BEGIN SOLUTION
blind = INSTANCE.blind
### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "bag-test", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
_asked = INSTANCE.asked
assert isinstance(blind, dict) and set(blind) == set(_asked), (
    f"'blind' must be a dictionary with these six keys, spelled as here: {_asked}"
)
assert all(isinstance(v, bool) for v in blind.values()), "each value must be True or False"
### BEGIN HIDDEN TESTS
_g = torch.Generator().manual_seed(INSTANCE.seed + 8)
_w = [torch.randn(8, 8, generator=_g, dtype=torch.float64) for _ in range(6)]
_x = torch.randn(7, 8, generator=_g, dtype=torch.float64)
_at = torch.arange(7.0, dtype=torch.float64)
_ahead = _at[None, :] - _at[:, None]  # u - t
_angles = _at[:, None] * 100.0 ** (-torch.arange(4) / 4)
_code = torch.stack((_angles.sin(), _angles.cos()), -1).flatten(1)
_wheel = torch.polar(torch.ones_like(_angles), _angles)


def _turned(y):
    return torch.view_as_real(torch.view_as_complex(y.reshape(7, 4, 2)) * _wheel).flatten(1)


def _attention(y, bias=0.0, turn=lambda z: z):
    scores = turn(y @ _w[0]) @ turn(y @ _w[1]).T / 8**0.5 + bias
    return scores.softmax(-1) @ (y @ _w[2])


def _feed(y):
    return (y @ _w[3]).relu() @ _w[4]


_future = torch.zeros(7, 7, dtype=torch.float64).masked_fill(_ahead > 0, -math.inf)
_networks = {
    "attention": _attention,
    "attention, then a sinusoidal code added to the answers": lambda y: _attention(y) + _code,
    "attention, then a feed-forward network for each token": lambda y: _feed(_attention(y)),
    "attention with -|t - u| added to the scores": lambda y: _attention(y, -_ahead.abs()),
    "one learned query attends to the frames": lambda y: (
        ((y @ _w[1]) @ _w[5][0]).softmax(0)[None] @ y
    ),
    "a sinusoidal code added, then attention": lambda y: _attention(y + _code),
    "attention, then a sinusoidal code added, then a feed-forward network for each token": (
        lambda y: _feed(_attention(y) + _code)
    ),
    "attention with u - t added to the scores": lambda y: _attention(y, _ahead),
    "attention under a causal mask": lambda y: _attention(y, _future),
    "attention with rotary queries and keys": lambda y: _attention(y, turn=_turned),
    "each frame joined to the next one, then attention": lambda y: _attention(
        y + y.roll(-1, 0) @ _w[5]
    ),
}
for _name, _answer in blind.items():
    _there, _back = (_networks[_name](y).mean(0) for y in (_x, _x.flip(0)))
    assert torch.allclose(_there, _back) == _answer, (
        "not all six are right: try each on random clips and their reversals"
    )
### END HIDDEN TESTS

# %% [markdown]
# **Explain**, in at most 200 words. (a) Why do the blind ones lose the order? Name the property that the layers have, and the step at which the order is lost for good. (b) Article A adds its position code *after* attention. When is that useless, and when does the average still depend on the order? (c) A seventh network has no attention: it adds a sinusoidal
# code to each frame, puts each token through a feed-forward network, and averages. Is it blind? Can a *linear* classifier on its average get the expected loss within a pair below $\log 2$ on the motion set?
#
# | points | for |
# |---|---|
# | 3 | (a): reversing permutes the answers and changes none (equivariance), 2; the mean over time does not know the order of its terms, 1 |
# | 3 | (b): added after attention and averaged it is the same constant for every clip, 2; behind a non-linear layer it does tell positions apart, 1 |
# | 2 | (c): not blind, 1; yet a sum of per-frame terms, even one that knows positions: second theorem of chapter 3, 1 |

# %% [markdown] nbgrader={"grade": true, "grade_id": "bag-why", "locked": false, "points": 8, "schema_version": 3, "solution": true, "task": false}
# ### BEGIN SOLUTION
# (a) Attention without positions, and every layer that treats each token alone, is equivariant: reversed frames give the same answers in reversed order. A score that depends on |t − u| alone is the same for a pair of frames in both directions, so it changes nothing. Until there the order is
# still in the rows; the mean over time, whose terms may be summed in any order, throws it away for good. One learned query does both steps at once. (b) mean(h + p) = mean(h) + mean(p): after attention and directly before the mean the code adds one constant vector to every clip, useless, and it is
# harmless too. With a feed-forward layer in between, f(h_t + p_t) differs from place to place, and the average sees where things stood. (c) It is not blind: its average is $\sum_t g_t(x_t)/T$ with another $g_t$ at each position. But it is a sum of per-frame terms, and each frame of the motion
# set looks alike in both directions, so a score that is linear in it has the same mean for both classes of a pair, and the expected loss cannot fall below log 2. It takes a relation between frames, which attention is.
# ### END SOLUTION

# %% [markdown]
# ## 8 · Measure: no dead words (12 points; chapter 7)
#
# Features that come in INSTANCE.words clouds, some with many vectors and some with few, as in life. A codebook started at INSTANCE.words random vectors gives several words to the large clouds and none to the small ones, and moving averages cannot mend that. `quality` returns the mean squared error of your codebook on new vectors, as many
# from each cloud, divided by that of a codebook that knows the truth; and the share of words in use. 1 is perfect, 10 and more is usual for a bad start.
#
# Write `learn_words`, which makes a codebook $(J, 8)$ of the vectors $(N, 8)$, so that the quotient is at most **1.5** and every word is in use, for every seed. It sees the vectors and nothing else.


# %% nbgrader={"grade": false, "grade_id": "live-world", "locked": true, "schema_version": 3, "solution": false, "task": false}
def clouds(seed):
    """Middles of the clouds, training vectors (clouds of unequal size), new vectors (of equal size)."""
    g = torch.Generator().manual_seed(seed)
    middles = 4 * torch.randn(INSTANCE.words, 8, generator=g)
    while (torch.cdist(middles, middles) + 99 * torch.eye(len(middles))).min() < 6:
        middles = 4 * torch.randn(INSTANCE.words, 8, generator=g)
    sizes = (400 * 0.8 ** torch.arange(INSTANCE.words)).long() + 4
    x = middles.repeat_interleave(sizes, 0)
    new = middles.repeat_interleave(30, 0)
    x, new = (part + 0.3 * torch.randn(part.shape, generator=g) for part in (x, new))
    return middles, x[torch.randperm(len(x), generator=g)], new


def quality(learn, seed):
    """Error on new vectors over that of the true middles, and the share of words in use."""
    middles, x, new = clouds(seed)
    book = torch.as_tensor(learn(x, INSTANCE.words, seed))
    nearest = torch.cdist(new, book)
    error, best = (d.amin(1).square().mean() for d in (nearest, torch.cdist(new, middles)))
    return (error / best).item(), nearest.argmin(1).unique().numel() / INSTANCE.words


# %% nbgrader={"grade": false, "grade_id": "live", "locked": false, "schema_version": 3, "solution": true, "task": false}
def learn_words(x, size, seed):
    """Vectors (N, F) -> a codebook (size, F)."""
    ### BEGIN SOLUTION
    book = x[:1]
    while len(book) < size:  # the vector that the words so far fit worst becomes a word
        book = torch.cat([book, x[torch.cdist(x, book).amin(1).argmax()][None]])
    for _ in range(5):
        chosen = torch.cdist(x, book).argmin(1)
        book = torch.stack([x[chosen == j].mean(0) for j in range(size)])
    return book
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "live-test", "locked": true, "points": 12, "schema_version": 3, "solution": false, "task": false}
_got, _used = quality(learn_words, 0)
_start, _ = quality(lambda x, size, seed: x[:size], 0)
assert _got <= 1.5 and _used == 1, (
    f"the quotient is {_got:.2f} with {_used:.0%} of the words in use (random vectors: {_start:.0f}); "
    "at most 1.50 and all words are asked for"
)
### BEGIN HIDDEN TESTS
for _seed in range(INSTANCE.seed, INSTANCE.seed + 4):
    _got, _used = quality(learn_words, _seed)
    assert _got <= 1.5, "the quotient is above 1.5 for another seed"
    assert _used == 1, "some words are dead for another seed"
_, _x, _ = clouds(INSTANCE.seed)
_book = torch.as_tensor(learn_words(_x, INSTANCE.words, 0))
assert _book.shape == (INSTANCE.words, 8), "the codebook has a wrong shape"
### END HIDDEN TESTS
