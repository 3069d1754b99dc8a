# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Attention
#
# **Claim.** Attention is a weighted mean whose weights are computed from the data. That lets one layer fetch what it needs from any
# frame, however far. The price grows with the square of the number of tokens, and you can count it before you pay it.
#
# | | |
# |---|---|
# | **You will be able to** | write attention with heads and masks and prove it equal to PyTorch's; say what fused attention saves and what it does not; count the cost of space, joint and divided attention; look at what heads do before you say what they do |
# | **You need** | chapters 3 to 5; matrix products |
# | **Data** | the motion set, and a toy task drawn here |
# | **Answers** | article A: several heads, distant frames, high cost |

# %% tags=["hide-input"]
import math
import os
import time
from functools import partial

os.environ["KINETO_LOG_LEVEL"] = "99"  # torch's profiler would write to the page
import matplotlib.pyplot as plt
import numpy as np
import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from sora_nb import evaluation, ledger, plots, training
from sora_nb.data import motion
from sora_nb.layers.attention import (
    MultiHeadAttention,
    attention,
    attention_weights,
    block_macs,
    joint_attention,
    naive_attention,
    space_attention,
    time_attention,
)
from sora_nb.layers.position import sinusoidal
from sora_nb.layers.transformer import DividedBlock, EncoderBlock
from sora_nb.models.baseline import MeanPool
from sora_nb.settings import settings

plots.use_style()
torch.set_num_threads(1)  # one thread, so that processor time is a fair clock on a busy machine
sizes = settings(T0=dict(seeds=3, epochs=4, longest=2048), T1=dict(seeds=5, epochs=8, longest=4096))
train, val, test = (motion.load(motion.MotionSpec(level=1), split) for split in motion.SPLITS)

# %% [markdown]
# ## See it first
#
# Take one 9 × 9 patch of a moving digit (red cross), background removed. Multiply it with every patch of every frame: alike patches
# give large numbers. Make shares of those numbers. Nothing is trained, and the bright spot follows the digit.

# %% mystnb={"figure": {"name": "fig-06-follow", "caption": "Where a patch of the middle frame (red cross) finds itself again: the weights of an attention that nobody trained follow the digit through time."}, "image": {"alt": "Two clips as strips of frames, each with a row of heat maps below; the bright spot in each map lies on the moving digit"}}
fig, axes = plt.subplots(4, 8, figsize=(7.2, 3.7))
for row, index in ((0, 1), (2, 14)):
    clip, box = test.float()[index], test.boxes[index, 8]
    patches = F.unfold(clip - clip.median(0).values, 9, padding=4)  # (T, C, H, W) -> (T, C·81, H·W)
    x, y = int(box[[0, 2]].mean()), int(box[[1, 3]].mean())
    query = patches[8, :, 32 * y + x] / math.sqrt(patches.shape[1])
    scores = torch.einsum("c,tcn->tn", query, patches)  # -> (T, H·W)
    for above, below, t in zip(axes[row], axes[row + 1], range(0, 16, 2), strict=True):
        above.imshow(clip[t].permute(1, 2, 0))
        below.imshow(scores[t].softmax(-1).view(32, 32))
    axes[row, 4].plot(x, y, "+", color=plots.RED, ms=10)
_ = [ax.axis("off") for ax in axes.flat]

# %% [markdown]
# The patch that asks is a **query**; the patches it is compared with are **keys**; what is then averaged with the shares as weights are
# **values**. In a network all three are learned views of the same tokens.
#
# ## Symbols and shapes
#
# | symbol | meaning | shape |
# |---|---|---|
# | $T$, $S$ | queries; keys and values ($S = T$ when a clip attends to itself). From "Space and time" on $S$ is the patches of a frame | |
# | $Q$ | queries | $(T, d)$ |
# | $K$, $V$ | keys, values | $(S, d)$ |
# | $A$ | attention weights, each row sums to 1 | $(T, S)$ |
# | $N$ | heads, each of width $d = D / N$ | |
# | $D$ | width of a token | |
#
# ## One query, by loop
#
# $$o = \sum_s a_s v_s, \qquad a_s = \frac{e^{q\cdot k_s/\sqrt d}}{\sum_j e^{q\cdot k_j/\sqrt d}}$$
#
# The exponential makes weights positive, the division makes them shares. So $o$ lies inside the cloud of the values: attention alone
# chooses and mixes, it invents nothing.


# %%
def attend_one(q, keys, values):
    """One query (d) over keys and values (S, d), one key at a time."""
    raw = [math.exp(float(q @ k) / math.sqrt(len(q))) for k in keys]
    out = torch.zeros_like(values[0])
    for weight, value in zip(raw, values, strict=True):
        out += weight / sum(raw) * value
    return out


# %% [markdown]
# Make the query a multiple of key 3 and watch the answer go from the mean of the values to the value of that key:

# %% tags=["nbval-check-output"]
torch.manual_seed(0)
keys = torch.randn(5, 16, dtype=torch.float64)
values = torch.arange(5, dtype=torch.float64)[:, None]
for size in (0, 0.2, 0.5, 1, 20):
    print(
        f"query = {size} × key 3, values 0 to 4: answer "
        f"{attend_one(size * keys[3], keys, values).item():.3f}"
    )
torch.testing.assert_close(attend_one(0 * keys[3], keys, values), values.mean(0))

# %% [markdown]
# (With query 400 × key 3 `math.exp` overflows. Real softmax subtracts the largest score first, which changes no share.) Two limits are worth keeping. A query of zero gives the plain mean: **mean pooling is attention that does not look**. A very long query
# gives one value alone: a soft look-up becomes a hard one.
#
# ## All queries at once
#
# Stack queries into $Q$, keys into $K$, values into $V$. All scores are one product, all answers another {cite}`vaswani2017`:
#
# $$A = \operatorname{softmax}\!\big(QK^\top/\sqrt d\big), \qquad O = AV.$$


# %%
def attend(q, k, v):
    """softmax(q kᵀ / √d) v; any axes in front."""
    scores = q @ k.mT / math.sqrt(q.shape[-1])  # (…, T, d), (…, S, d) -> (…, T, S)
    return scores.softmax(-1) @ v  # (…, T, S), (…, S, d) -> (…, T, d)


q, k, v = (torch.randn(length, 16, dtype=torch.float64) for length in (4, 7, 7))
torch.testing.assert_close(attend(q, k, v), torch.stack([attend_one(row, k, v) for row in q]))

# %% [markdown]
# ### Why $\sqrt d$
#
# If the entries of $q$ and $k$ are independent with mean 0 and variance 1, then $q\cdot k$ is a sum of $d$ terms of variance 1: its
# variance is $d$. A wide head would have large scores for no reason but its width, and softmax of large scores is a hard choice. A hard
# choice has almost no gradient: $\partial a_s/\partial(\text{score}_s) = a_s(1 - a_s)$, which is 0 at both ends.

# %%
widths, spread, largest, slopes = [2, 8, 32, 128, 512], [], [], []
for d in widths:
    q, k = torch.randn(2000, 1, d), torch.randn(2000, 16, d)
    dots = (q @ k.mT)[:, 0]  # (2000, 16)
    weights = torch.stack([dots.softmax(-1), (dots / math.sqrt(d)).softmax(-1)])
    spread.append(dots.std().item())
    largest.append(weights.amax(-1).mean(-1).tolist())
    slopes.append((weights * (1 - weights)).sum(-1).mean(-1).tolist())
assert np.allclose(spread, np.sqrt(widths), rtol=0.05)
print("d = 512, largest of 16 weights: unscaled {:.2f}, scaled {:.2f}".format(*largest[-1]))

# %% mystnb={"figure": {"name": "fig-06-scale", "caption": "Without the root, scores spread like √d (left), one key takes nearly all the weight (middle), and the gradient through softmax dies (right). Divided by √d, nothing depends on the width."}, "image": {"alt": "Three panels over head width: the spread of scores follows the square root; unscaled weights saturate and unscaled gradients fall, scaled ones stay level"}}
fig, axes = plt.subplots(1, 3, figsize=(8, 2.4))
axes[0].loglog(widths, spread, "o", label="measured")
axes[0].loglog(widths, np.sqrt(widths), "--", color=plots.GRAY, label="√d")
for ax, numbers in zip(axes[1:], (largest, slopes), strict=True):
    for series, name in zip(zip(*numbers, strict=True), ("unscaled", "divided by √d"), strict=True):
        ax.semilogx(widths, series, "o-", label=name)
for ax, label in zip(
    axes, ("standard deviation of q·k", "largest weight", "sum of a(1 − a)"), strict=True
):
    ax.set(xlabel="d", ylabel=label)
_ = [ax.legend() for ax in axes[:2]]

# %% [markdown]
# ## Heads
#
# One softmax gives one set of shares a query. To look at two things at once without averaging them, cut the width $D$ into $N$ parts and
# attend in each by itself. Four matrices are learned: for queries, keys, values, and one that mixes the heads' answers. The number
# of weights, $4D^2$, does not depend on $N$.


# %%
class Attention(nn.Module):
    """Multi-head attention, one matrix at a time."""

    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.out = (nn.Linear(dim, dim) for _ in range(4))

    def forward(self, x, context=None, may=None):
        context = x if context is None else context
        q, k, v = self.q(x), self.k(context), self.v(context)
        q, k, v = (rearrange(part, "b t (h d) -> b h t d", h=self.heads) for part in (q, k, v))
        scores = q @ k.mT / math.sqrt(q.shape[-1])  # (B, h, T, d), (B, h, S, d) -> (B, h, T, S)
        if may is not None:
            scores = scores.masked_fill(~may, -math.inf)
        return self.out(rearrange(scores.softmax(-1) @ v, "b h t d -> b t (h d)"))


# %% tags=["nbval-check-output"]
counts = {heads: training.parameters(Attention(64, heads)) for heads in (1, 4, 8)}
print("weights and biases:", counts)
assert len(set(counts.values())) == 1

# %% [markdown]
# ## Masks
#
# A mask says which query may look at which key. A forbidden score becomes $-\infty$ *before* the softmax, so its share is 0 and the others
# still sum to 1. (Setting the weight to 0 afterwards leaves a row that sums to less.) Two masks do most of the work:
#
# - **causal**: query $t$ sees keys $s \le t$; needed for streaming and for generating;
# - **padding**: clips of unequal length in one batch are filled up, and nobody may see the filling.

# %%
torch.manual_seed(1)
layer = Attention(16, 2).double()
x = torch.randn(2, 8, 16, dtype=torch.float64, requires_grad=True)
causal = torch.ones(8, 8, dtype=torch.bool).tril()
length = torch.tensor([8, 5])  # the second clip has three frames of filling
padding = (torch.arange(8) < length[:, None])[:, None, None]  # (B, S) -> (B, 1, 1, S)

# %% [markdown]
# A mask is checked by what it must guarantee. Causal: the output at frame 3 has no gradient from later frames. Padding: the answer for the
# short clip is the one it gets alone.

# %%
slope = torch.autograd.grad(layer(x, may=causal)[:, 3].sum(), x)[0]
future = slope.abs().sum(-1)  # (B, T, D) -> (B, T)
print("influence on frame 3:", [round(v, 1) for v in future[0].tolist()])
assert (future[:, 4:] == 0).all() and (future[:, :4] > 0).all()
torch.testing.assert_close(layer(x, may=padding)[1:, :5], layer(x[1:, :5]))

# %% mystnb={"figure": {"name": "fig-06-masks", "caption": "Weights of one head under four masks. Forbidden keys get exactly nothing (blank), and the rest of each row is shared out anew: the first query of a causal layer can only look at itself."}, "image": {"alt": "Four eight by eight weight matrices: full, lower triangle, first five columns, and both"}}
fig, axes = plt.subplots(1, 4, figsize=(8, 2.3), sharey=True)
q, k = torch.randn(2, 1, 1, 8, 4)
masks = {
    "none": causal | True,
    "causal": causal,
    "padding": padding[1:] & (causal | True),
    "both": padding[1:] & causal,
}
for ax, (name, may) in zip(axes, masks.items(), strict=True):
    weights = attention_weights(q, k, may)[0, 0]
    ax.imshow(np.where(weights > 0, weights, np.nan), vmin=0, vmax=1)
    ax.set(title=name, xlabel="key")
_ = axes[0].set_ylabel("query")

# %% [markdown]
# ## Cross-attention
#
# Nothing demands that queries and keys come from the same sequence. Let the queries be three learned vectors and the keys sixteen frames:
# the answer has three tokens, whatever the length of the clip. So a model can *ask a clip questions* {cite}`carion2020detr`;
# {chapter}`07` builds its decoder from this.

# %% tags=["nbval-check-output"]
torch.manual_seed(2)
questions = nn.Parameter(torch.randn(3, 64))
read = Attention(64, 4)
for frames in (5, 16, 100):
    context = torch.randn(2, frames, 64)
    answers = read(questions.expand(2, -1, -1), context=context)  # (3, D) -> (B, 3, D)
    print(f"{frames} frames ->", tuple(answers.shape))
    assert answers.shape == (2, 3, 64)

# %% [markdown]
# ## Meets reality
#
# PyTorch's module keeps the three input matrices stacked. Ours, the package's and PyTorch's, with the same weights, must agree: on
# themselves, across, and under masks. Beware the sign: in `nn.MultiheadAttention` a mask's `True` means *forbidden*, in
# `F.scaled_dot_product_attention` and here it means *allowed*.

# %% tags=["nbval-check-output"]
torch.manual_seed(3)
ours, packaged = Attention(24, 3).double(), MultiHeadAttention(24, 3).double()
theirs = nn.MultiheadAttention(24, 3, batch_first=True).double()
with torch.no_grad():
    for name in ("weight", "bias"):
        stacked = torch.cat([getattr(part, name) for part in (ours.q, ours.k, ours.v)])
        getattr(theirs, f"in_proj_{name}").copy_(stacked)
        getattr(packaged.qkv, name).copy_(stacked)
for module in (theirs.out_proj, packaged.out):
    module.load_state_dict(ours.out.state_dict())

x, context = torch.randn(2, 8, 24).double(), torch.randn(2, 11, 24).double()
for other, may in ((x, None), (x, causal), (context, None)):
    forbidden = None if may is None else ~may
    reference = theirs(x, other, other, attn_mask=forbidden, need_weights=False)[0]
    torch.testing.assert_close(ours(x, other, may), reference)
    torch.testing.assert_close(packaged(x, other, mask=may), reference)
print("ours = package = nn.MultiheadAttention: alone, causal, across")

# %% [markdown]
# The core against `F.scaled_dot_product_attention`, in value and, by finite differences, in gradient. And how far single precision strays
# from double:

# %%
q, k, v = (torch.randn(1, 2, 6, 4, dtype=torch.float64, requires_grad=True) for _ in range(3))
torch.testing.assert_close(attend(q, k, v), F.scaled_dot_product_attention(q, k, v))
assert torch.autograd.gradcheck(attend, (q, k, v))
q, k, v = torch.randn(3, 2, 4, 64, 16)
exact = attend(q.double(), k.double(), v.double())
for name, function in {"ours": attend, "fused": F.scaled_dot_product_attention}.items():
    gap = (function(q, k, v) - exact).abs().max().item()
    assert gap < 1e-5
    print(f"{name} in float32, largest error: {gap:.0e}")

# %% [markdown]
# ## What it costs as clips grow
#
# $A$ has $T^2$ entries a head. The naive code writes it to memory, twice. **Fused** attention walks over the keys in blocks and keeps, for
# each query, only a running maximum, a running sum and a running answer {cite}`dao2022flashattention`. The idea in a few lines: when a
# block brings a larger maximum, what was gathered so far is scaled down.


# %%
def attend_in_blocks(q, k, v, block=16):
    """The same answer, a block of keys at a time; the (T, S) matrix never exists."""
    top = q.new_full((*q.shape[:-1], 1), -math.inf)
    total, out = torch.zeros_like(top), torch.zeros_like(q)
    for keys, values in zip(k.split(block, -2), v.split(block, -2), strict=True):
        scores = q @ keys.mT / math.sqrt(q.shape[-1])  # (…, T, d), (…, block, d) -> (…, T, block)
        higher = torch.maximum(top, scores.amax(-1, keepdim=True))
        share, shrink = (scores - higher).exp(), (top - higher).exp()
        total = shrink * total + share.sum(-1, keepdim=True)
        out = shrink * out + share @ values
        top = higher
    return out / total


torch.testing.assert_close(attend_in_blocks(q.double(), k.double(), v.double()), exact)

# %% [markdown]
# **Prediction.** Doubling $T$ multiplies the naive memory by 4 and the fused memory by 2. The multiplications are the same in both, so the
# *time* of both grows about fourfold. **Falsifier:** a fused memory slope nearer to 2 than to 1, or a fused time slope near 1.
#
# Memory is what torch's allocator reports while the function runs (its profiler records each request and release); time is the
# best of three, in processor seconds.


# %%
def peak_bytes(run):
    """Most bytes held at once during run(), beyond those held before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        run()
    events = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    return int(np.cumsum([e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())]).max())


def seconds(run, times=3):
    """Best processor time of a few runs, after one to warm up."""
    taken = []
    for _ in range(times + 1):
        start = time.process_time()
        run()
        taken.append(time.process_time() - start)
    return min(taken[1:])


# %%
lengths = [n for n in (256, 512, 1024, 2048, 4096) if n <= sizes.longest]
functions = {"naive": naive_attention, "fused": attention}
memory, clock = {name: [] for name in functions}, {name: [] for name in functions}
for T in lengths:
    qkv = torch.randn(3, 1, 4, T, 32)
    for name, function in functions.items():
        run = partial(function, *qkv)
        memory[name].append(peak_bytes(run))
        clock[name].append(seconds(run))
print(
    f"at T = {T}: "
    + ", ".join(f"{n} {memory[n][-1] / 1e6:.1f} MB, {1e3 * clock[n][-1]:.0f} ms" for n in functions)
)
assert memory["naive"][-1] >= 2 * 4 * T * T * 4  # scores and weights, 4 heads, 4 bytes


def slope(y):
    """Least-squares slope of log y over log T: 1 is linear, 2 is quadratic."""
    return np.polyfit(np.log(lengths), np.log(y), 1)[0]


growth = {name: (slope(memory[name]), slope(clock[name])) for name in functions}
for name, (bytes_slope, time_slope) in growth.items():
    print(f"{name}: memory grows as T^{bytes_slope:.2f}, time as T^{time_slope:.2f}")
assert growth["naive"][0] > 1.9 and growth["fused"][0] < 1.35
assert min(growth["naive"][1], growth["fused"][1]) > 1.2

# %% mystnb={"figure": {"name": "fig-06-growth", "caption": "Fused attention holds memory that grows linearly, naive attention quadratically (left). Time is quadratic for both (right): fusing makes it faster, not cheaper in kind. Dotted: slopes 1 and 2."}, "image": {"alt": "Two log-log panels over T. Memory: a steep naive line and a shallow fused one. Time: two steep lines, fused below"}}
fig, axes = plt.subplots(1, 2, figsize=(7.5, 2.7))
for ax, table, label in ((axes[0], memory, "peak memory (bytes)"), (axes[1], clock, "time (s)")):
    for name, series in table.items():
        ax.loglog(lengths, series, "o-", label=name)
    for power in (1, 2):
        ax.loglog(
            lengths,
            table["fused"][0] * (np.array(lengths) / lengths[0]) ** power,
            ":",
            color=plots.GRAY,
        )
    ax.set(xlabel="T", ylabel=label)
    ax.set_xticks(lengths, lengths)
    ax.minorticks_off()
_ = axes[0].legend()

# %% [markdown]
# The naive time grows even faster than the count says; a likely reason is that its matrix outgrows the processor's cache.
#
# ## Space and time
#
# Cut each frame into $S$ patches, and a clip has $T \cdot S$ tokens. Who should look at whom? **Space**: a token sees its own frame.
# **Joint**: it sees all. **Divided** {cite}`bertasius2021timesformer`: first its own place in all frames, then its own frame. Each is
# plain attention after folding an axis into the batch.


# %%
def in_space(attend, x):
    """Tokens of one frame see each other."""
    mixed = attend(rearrange(x, "b t s d -> (b t) s d"))
    return rearrange(mixed, "(b t) s d -> b t s d", b=len(x))


def in_time(attend, x):
    """Tokens at one place see each other."""
    mixed = in_space(attend, x.transpose(1, 2))  # (B, T, S, D) -> (B, S, T, D)
    return mixed.transpose(1, 2)  # -> (B, T, S, D)


def jointly(attend, x):
    """All tokens of a clip see each other."""
    return attend(x.flatten(1, 2)).view_as(x)  # (B, T, S, D) -> (B, T·S, D) -> (B, T, S, D)


torch.manual_seed(4)
attend_tokens = MultiHeadAttention(12, 2).double()
x = torch.randn(2, 5, 49, 12, dtype=torch.float64)
pairs = ((in_space, space_attention), (in_time, time_attention), (jointly, joint_attention))
for here, there in pairs:
    torch.testing.assert_close(here(attend_tokens, x), there(attend_tokens, x))

# %% [markdown]
# Don't believe the names: ask the gradient which tokens reach the middle token of frame 2.


# %% tags=["nbval-check-output"]
def reached(run, x, frame=2, place=24):
    """Which tokens change one output token? (T, S) booleans."""
    x = x[:1].clone().requires_grad_()
    slope = torch.autograd.grad(run(x)[0, frame, place].sum(), x)[0][0]
    return slope.abs().sum(-1) > 0  # (T, S, D) -> (T, S)


schemes = {
    "space": lambda x: in_space(attend_tokens, x),
    "time": lambda x: in_time(attend_tokens, x),
    "divided": lambda x: in_space(attend_tokens, in_time(attend_tokens, x)),
    "joint": lambda x: jointly(attend_tokens, x),
}
seen = {name: reached(run, x) for name, run in schemes.items()}
print({name: int(tokens.sum()) for name, tokens in seen.items()}, "of", 5 * 49)
assert [int(tokens.sum()) for tokens in seen.values()] == [49, 5, 5 * 49, 5 * 49]

# %% mystnb={"figure": {"name": "fig-06-reach", "caption": "Tokens that reach the middle token of frame 2 (cross), found by gradient. Divided attention reaches all of them in one block, though no single look does."}, "image": {"alt": "Four rows of five seven by seven grids. Space: only frame 2 is lit. Time: only the centre of each frame. Divided and joint: everything"}}
fig, axes = plt.subplots(4, 5, figsize=(4.6, 3.8))
for row, (name, tokens) in zip(axes, seen.items(), strict=True):
    for t, ax in enumerate(row):
        ax.imshow(tokens[t].view(7, 7), vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
    row[2].plot(3, 3, "x", color=plots.RED)
    row[0].set_ylabel(name, rotation=0, ha="right", va="center")
_ = [ax.set_title(f"frame {t}") for t, ax in enumerate(axes[0])]

# %% [markdown]
# ### Count before you measure
#
# Count **multiply–accumulates** (MACs). A linear layer from $D$ to $D$ costs $D^2$ a token; four of them make attention's projections. A
# token that sees $n$ keys pays $nD$ for scores and $nD$ for mixing. The feed-forward layer of a block (to $4D$ and back) costs $8D^2$.
#
# $$\text{joint: } TS\,D\,(12D + 2TS) \qquad \text{divided: } TS\,D\,\big(17D + 2(T+S)\big)$$
#
# Divided attention has four more projections, and in TimeSformer one further linear layer. So it is *dearer* whenever
# $5D + 2(T + S) > 2TS$: on short clips of wide tokens.


# %%
def macs(kind, T, S, D):
    """MACs of one block: projections, feed-forward, scores and mixing."""
    linears, keys = {"space": (12, S), "joint": (12, T * S), "divided": (17, T + S)}[kind]
    return T * S * D * (linears * D + 2 * keys)


x = torch.randn(1, 3, 5, 32)
blocks = {
    "joint": lambda: EncoderBlock(32, 4)(x.flatten(1, 2)),
    "divided": lambda: DividedBlock(32, 4)(x),
}
for kind, run in blocks.items():
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        run()
    assert counter.get_total_flops() == 2 * macs(kind, 3, 5, 32) == 2 * block_macs(kind, 3, 5, 32)

# %% [markdown]
# Torch's own counter agrees (it counts a multiplication and an addition as two). Now the sizes of TimeSformer's base model, 196 patches of
# width 768:

# %% tags=["nbval-check-output"]
for T in (8, 96):
    joint, divided = (macs(kind, T, 196, 768) / 1e9 for kind in ("joint", "divided"))
    print(
        f"T = {T}: joint {joint:.1f}, divided {divided:.1f} billion MACs a block; divided / joint "
        f"= {divided / joint:.2f}"
    )
assert macs("divided", 8, 196, 768) > macs("joint", 8, 196, 768)
assert 3 * macs("divided", 96, 196, 768) < macs("joint", 96, 196, 768)

# %% [markdown]
# Counts are not seconds: copies, norms and caches are not in them. Measure the full size at $T = 8$; for longer clips take a quarter of
# the patches and of the width (49 and 192), which leaves the ratio at $T = 8$ as it is, because $D$ and $TS$ shrink alike.


# %%
def measured(T, S, D, times=3):
    """Processor time of a divided block over that of a joint one."""
    joint, divided = EncoderBlock(D, D // 64).eval(), DividedBlock(D, D // 64).eval()
    x = torch.randn(1, T, S, D)
    with torch.no_grad():
        return seconds(lambda: divided(x), times) / seconds(lambda: joint(x.flatten(1, 2)), times)


frames = [4, 8, 16, 32, 96]
ratio = {T: measured(T, 49, 192, times=3 if T > 50 else 7) for T in frames}
full = measured(8, 196, 768, times=2)
print(
    "measured divided / joint, 49 patches of width 192:", {T: round(r, 2) for T, r in ratio.items()}
)
print(
    "196 patches of width 768, T = 8: counted "
    f"{macs('divided', 8, 196, 768) / macs('joint', 8, 196, 768):.2f}, measured {full:.2f}"
)
assert ratio[96] < 0.6 and ratio[96] < ratio[4] and full > 0.7

# %% mystnb={"figure": {"name": "fig-06-divided", "caption": "Cost of a divided block over that of a joint one. Above the dashed line divided attention is dearer: by count (line), below about a dozen frames. The clock (dots) follows roughly."}, "image": {"alt": "Falling curve of the cost ratio over the number of frames, crossing one near twelve frames and reaching a third at 96; measured dots lie near it"}}
fig, ax = plt.subplots(figsize=(5, 2.6))
grid = np.arange(2, 97)
ax.plot(
    grid, [macs("divided", T, 49, 192) / macs("joint", T, 49, 192) for T in grid], label="counted"
)
ax.plot(ratio.keys(), ratio.values(), "o", color=plots.ORANGE, label="measured")
ax.plot([8], [full], "D", color=plots.PINK, label="measured, full size")
ax.axhline(1, color=plots.GRAY, ls="--", lw=1)
ax.set(xlabel="frames T", ylabel="divided / joint", ylim=(0, None))
_ = ax.legend()

# %% [markdown]
# At eight frames the two lie within a tenth of each other by count, and the clock may put either first. At 96 there is no doubt.
#
# ## Experiment: a frame far away
#
# Article A says that attention captures long-range dependence. Take the smallest task that needs it. Of 32 frames each shows one of four
# colours; one frame is marked. At the last frame, say the marked frame's colour. The mark lies $0$ to $31$ frames back.
#
# All models share a small network for each frame and answer at the last frame. Between lie: **attention** (one layer, no position); a
# **convolution** over 9 frames (two layers of kernel 5); a **dilated** convolution over 31 frames (kernel 3, steps 1, 2, 4, 8)
# {cite}`bai2018tcn`; and a plain **mean** over time.
#
# **Prediction.** Attention is right at every distance; the convolution up to 8 frames back and at chance beyond; the dilated one, whose
# cost is linear in $T$, nearly everywhere. **Falsifier:** attention falls off with distance, or the small convolution knows what it
# cannot see.


# %%
def lookup(n, seed, frames=32, back=None):
    """Clips of coloured frames, one of them marked; the label is its colour."""
    g = torch.Generator().manual_seed(seed)
    color = torch.randint(4, (n, frames), generator=g)
    place = (
        frames
        - 1
        - (torch.randint(frames, (n,), generator=g) if back is None else torch.full((n,), back))
    )
    seen = torch.cat(
        [F.one_hot(color, 4), F.one_hot(place, frames)[..., None]], -1
    ).float()  # (n, T, 4 + 1)
    return seen + 0.05 * torch.randn(seen.shape, generator=g), color.gather(1, place[:, None])[
        :, 0
    ]


# %%
class Finder(nn.Module):
    """A network for each frame, something between frames, an answer at the last one."""

    def __init__(self, between):
        super().__init__()
        self.frame = nn.Sequential(nn.Linear(5, 64), nn.ReLU(), nn.Linear(64, 32))
        self.between = between()
        self.answer = nn.Linear(32, 4)

    def forward(self, x):
        mixed = self.between(self.frame(x))  # (B, T, 5) -> (B, T, 32) -> (B, 32)
        return self.answer(mixed)  # -> (B, 4)


class Look(MultiHeadAttention):
    def forward(self, x):
        return x[:, -1] + super().forward(x[:, -1:], context=x)[:, 0]  # (B, T, D) -> (B, D)


# %%
class Convolve(nn.Module):
    """Causal convolutions, read at the last frame."""

    def __init__(self, kernel, dilations):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv1d(32, 32, kernel, dilation=d) for d in dilations)

    def forward(self, x):
        x = x.mT  # (B, T, D) -> (B, D, T)
        for layer in self.layers:
            past = (layer.kernel_size[0] - 1) * layer.dilation[0]
            x = x + F.relu(layer(F.pad(x, (past, 0))))
        return x[..., -1]  # (B, D, T) -> (B, D)


class Mean(nn.Module):
    def forward(self, x):
        return x.mean(1)  # (B, T, D) -> (B, D)


# %%
finders = {"attention": lambda: Look(32, 2), "convolution, 9 frames": lambda: Convolve(5, (1, 1))}
finders |= {"dilated, 31 frames": lambda: Convolve(3, (1, 2, 4, 8)), "mean": Mean}
distances, longer = list(range(0, 32, 3)), [32, 64, 128, 256, 512]
by_distance = {distance: lookup(300, 100 + distance, back=distance) for distance in distances}
by_length = {T: lookup(500, 200, frames=T) for T in longer}


def find(between, seed):
    """Train one; accuracy by distance and by length of the clip."""
    torch.manual_seed(seed)
    model = Finder(between)
    training.fit(
        model, TensorDataset(*lookup(3072, seed)), epochs=4, lr=5e-3, seed=seed, progress=False
    )
    score = lambda data: evaluation.accuracy(training.predict(model, data[0]), data[1])  # noqa: E731
    return [[score(data) for data in sets.values()] for sets in (by_distance, by_length)]


found = {
    name: [find(between, seed) for seed in range(sizes.seeds)] for name, between in finders.items()
}
far = {name: np.array([near_far for near_far, _ in runs]) for name, runs in found.items()}
long = {name: np.array([lengths for _, lengths in runs]) for name, runs in found.items()}
for name in finders:
    print(
        f"{name:22} to 6 back {far[name][:, :3].mean():.2f}; 9 and more "
        f"{far[name][:, 3:].mean():.2f}; T = 512 {long[name][:, -1].mean():.2f}"
    )

# %% mystnb={"figure": {"name": "fig-06-distance", "caption": "Left: accuracy by distance (mean and range over seeds). Attention is right at any distance; the small convolution drops to chance where its view ends; but the dilated one reaches far too, and so does a plain mean. Right: on clips longer than in training only attention holds."}, "image": {"alt": "Two panels. By distance: attention, dilated and mean near one, the small convolution falls to a quarter after eight frames. By length: attention stays at one, the others fall"}}
fig, axes = plt.subplots(1, 2, figsize=(8.2, 2.9), sharey=True)
for ax, table, grid in ((axes[0], far, distances), (axes[1], long, longer)):
    for (name, scores), style in zip(table.items(), ("o-", "s-", "^--", "v:"), strict=True):
        ax.plot(grid, scores.mean(0), style, ms=4, label=name)
        ax.fill_between(grid, scores.min(0), scores.max(0), alpha=0.15)
    ax.axhline(0.25, color=plots.GRAY, ls="--", lw=1)
axes[0].set(xlabel="frames back", ylabel="accuracy", ylim=(0, 1.05))
axes[1].set(xlabel="frames in the clip", xscale="log", xticks=longer, xticklabels=longer)
axes[1].minorticks_off()
_ = axes[0].legend(fontsize=7, loc="center right")

# %%
assert far["attention"].min() > 0.9
assert far["convolution, 9 frames"][:, :3].mean() > 0.85
assert far["convolution, 9 frames"][:, 3:].mean() < 0.35
assert long["attention"][:, -1].mean() > long["mean"][:, -1].mean() + 0.1
ledger.claim(
    "A6",
    "partly",
    f"One layer was right at every distance ({far['attention'].min():.2f} at worst) where a "
    "convolution over 9 frames fell to "
    f"{far['convolution, 9 frames'][:, 3:].mean():.2f}; but a dilated convolution "
    f"({far['dilated, 31 frames'][:, 3:10].mean():.2f}) and a mean "
    f"({far['mean'].mean():.2f}) reached as far, and attention's score matrix grows as T to the "
    f"{growth['naive'][0]:.1f}.",
)

# %% [markdown]
# The prediction held, and yet the mean ought to sober you: *reaching far is nothing special*. A mean reaches every frame. What attention adds
# shows on the right: it turns unmarked frames down however many there are, where the mean is drowned. Nor did attention know *where*
# the mark was; with no position code it cannot ({chapter}`05`).
#
# ## Experiment: do heads specialise?
#
# "Several heads attend to different kinds of information at once." Look. Train a frame network as in {chapter}`03`, freeze it, and put one
# attention layer over its sixteen features. Level 1: we want the mechanism, not a record.

# %%
torch.manual_seed(0)
cnn, six = MeanPool(), list(range(0, 16, 3))
training.fit(
    cnn, TensorDataset(train.float()[:, six], train.labels), epochs=sizes.epochs, progress=False
)
features = {
    name: training.predict(cnn.frames, split.float())
    for name, split in zip(motion.SPLITS, (train, val, test), strict=True)
}
center, width = features["train"].mean((0, 1)), features["train"].std((0, 1))
data = {
    name: TensorDataset((f - center) / width, s.labels)
    for (name, f), s in zip(features.items(), (train, val, test), strict=True)
}
frames_in, labels = data["test"].tensors


# %%
class OverFrames(nn.Module):
    """One attention layer over frame features, then a mean; `axis` is where the softmax runs
    (−1 is right)."""

    def __init__(self, heads, axis=-1, dim=64):
        super().__init__()
        self.token, self.attend = nn.Linear(128, dim), MultiHeadAttention(dim, heads)
        self.norm, self.last = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.classify, self.axis = nn.Linear(dim, 12), axis

    def look(self, x):
        tokens = self.token(x)
        where = sinusoidal(x.shape[1], tokens.shape[-1], device=x.device)
        tokens = self.norm(tokens + where)  # position first
        q, k, v = self.attend.project(tokens, None)
        weights = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(self.axis)
        return tokens, weights, v  # (B, T, D), (B, h, T, T), (B, h, T, d)

    def forward(self, x):
        tokens, weights, v = self.look(x)
        mixed = self.attend.out(rearrange(weights @ v, "b h t d -> b t (h d)"))
        return self.classify(self.last(tokens + mixed).mean(1))  # (B, T, D) -> (B, D) -> (B, 12)


# %%
def teach(make, seed):
    """Train on the frozen features; return the model on the CPU, its history and its scores on
    the test clips."""
    torch.manual_seed(seed)
    model = make()
    history = training.fit(
        model, data["train"], data["val"], epochs=sizes.epochs, seed=seed, progress=False
    )
    return (
        model.cpu(),
        history,
        evaluation.pair_scores(training.predict(model, frames_in), labels),
    )


# %% [markdown]
# **How different are two heads?** For each clip and query take half the sum of $|a - a'|$ over the keys (the *total variation*): 0 for equal
# maps, 1 for maps with no key in common. **How needed is a head?** Set its part of the output to zero and count what is lost.
#
# **Prediction, if the article is right:** (a) training makes heads differ more than they did at random start; (b) some head carries something
# the others lack, so without it accuracy falls by more than a tenth, at every seed. **Falsifiers:** the opposite of either.


# %%
def difference(model):
    """Mean total variation between heads, over pairs, clips and queries."""
    with torch.no_grad():
        maps = model.look(frames_in)[1]  # (B, h, T, T)
    i, j = torch.triu_indices(maps.shape[1], maps.shape[1], 1)
    return 0.5 * (maps[:, i] - maps[:, j]).abs().sum(-1).mean().item()


@torch.no_grad()
def without(model, heads):
    """Accuracy with the answers of some heads set to zero."""
    weight, kept = model.attend.out.weight, model.attend.out.weight.clone()
    for head in heads:
        weight.view(len(weight), model.attend.heads, -1)[:, head] = 0
    score = evaluation.accuracy(training.predict(model, frames_in), labels)
    weight.copy_(kept)
    return score


# %%
runs = {
    heads: [teach(lambda h=heads: OverFrames(h), seed) for seed in range(sizes.seeds)]
    for heads in (1, 4)
}
linear = [
    teach(lambda: nn.Sequential(nn.Flatten(), nn.Linear(16 * 128, 12)), seed)
    for seed in range(sizes.seeds)
]
for name, results in {
    "1 head": runs[1],
    "4 heads": runs[4],
    "no attention: features side by side": linear,
}.items():
    print(f"{name}: overall {', '.join(format(s['overall'], '.2f') for *_, s in results)}")
before, after, lost = [], [], []
for seed, (model, _, score) in enumerate(runs[4]):
    torch.manual_seed(seed)
    before.append(difference(OverFrames(4)))
    after.append(difference(model))
    lost.append([score["overall"] - without(model, [head]) for head in range(4)])
    every = without(model, range(4))
    print(
        f"seed {seed}: difference {before[-1]:.2f} -> {after[-1]:.2f}; lost without one head "
        f"{np.round(lost[-1], 2).tolist()}; without all {every:.2f}"
    )
worst = np.array(lost).max(1)

# %% mystnb={"figure": {"name": "fig-06-heads", "caption": "Mean attention of four heads over all test clips, one row a seed (query frame down, key frame across). Nearly all look at the first frames, the last, or both, whatever the query: there are fewer kinds of look than heads. Which head does which changes with the seed."}, "image": {"alt": "Three rows of four sixteen by sixteen maps, dark in the middle, with bright vertical bands at the left edge, the right edge or both"}}
fig, axes = plt.subplots(len(runs[4]), 4, figsize=(6.4, 1.6 * len(runs[4])))
for seed, (row, (model, *_)) in enumerate(zip(axes, runs[4], strict=True)):
    with torch.no_grad():
        maps = model.look(frames_in)[1].mean(0)  # (B, h, T, T) -> (h, T, T)
    for head, ax in enumerate(row):
        ax.imshow(maps[head], vmin=0, vmax=0.4)
        ax.set(xticks=[], yticks=[], title=f"head {head}" if seed == 0 else "")
    row[0].set_ylabel(f"seed {seed}", rotation=0, ha="right", va="center")
_ = axes[-1, 0].set_xlabel("key frame")

# %% mystnb={"figure": {"name": "fig-06-needed", "caption": "Left: training drives heads apart at every seed. Right: yet taking any one head away costs little. Different is not the same as needed."}, "image": {"alt": "Left panel: lines rise from about a tenth before training to well above one half after. Right panel: dots of lost accuracy near zero, below the dashed line at a tenth"}}
fig, axes = plt.subplots(1, 2, figsize=(7, 2.5))
for start, end in zip(before, after, strict=True):
    axes[0].plot([0, 1], [start, end], "o-", color=plots.BLUE)
axes[0].set(
    xticks=[0, 1],
    xticklabels=["random start", "trained"],
    ylabel="difference between heads",
    ylim=(0, 1),
    xlim=(-0.2, 1.2),
)
for seed, losses in enumerate(lost):
    axes[1].plot([seed] * 4, losses, "o", color=plots.ORANGE)
axes[1].axhline(0.1, color=plots.GRAY, ls="--", lw=1)
_ = axes[1].set(
    xticks=range(len(lost)), xlabel="seed", ylabel="accuracy lost without a head", ylim=(-0.03, 0.3)
)

# %%
assert min(after) > max(before) + 0.1 and worst.mean() < 0.1
print(
    "some head is needed at every seed (b):",
    bool((worst > 0.1).all()),
    "| largest loss a seed:",
    worst.round(2).tolist(),
)
ledger.claim(
    "A5",
    "partly",
    f"Heads do come to look at different frames (difference {np.mean(before):.2f} at random "
    f"start, {np.mean(after):.2f} trained, {len(runs[4])} seeds), "
    "but nothing in the loss asks for it, and without its most useful head a model lost "
    f"{worst.mean():.2f} of accuracy.",
)

# %% [markdown]
# (a) holds at every seed. (b) is refuted: a model's most useful head is worth less than a tenth, while the layer as a whole is worth far more
# ("without all"). The heads share the work. A map shows where a head looks, not what it takes from there, nor whether the
# rest of the network needs it; {chapter}`21` returns to maps as explanations. And the order-keeping linear layer, with no attention at all, is not beaten
# here: sixteen features side by side suffice for a motion that always fills the clip.
#
# ### Is it expensive?
#
# "Expensive to compute and slow to train." Next to what? Count a clip of this section: the frame network, and a Transformer block over
# its features.

# %%
with FlopCounterMode(display=False) as counter, torch.no_grad():
    cnn.cpu().frames(test.float()[:1])
network = counter.get_total_flops() // 2
block = {T: macs("joint", T, 1, 64) for T in (16, 4096)}
crossing = next(T for T in range(1, 100_000) if macs("joint", T, 1, 64) > T * network / 16)
print(
    f"16 frames: frame network {network / 1e6:.1f}, one block of width 64 {block[16] / 1e6:.2f} "
    f"million MACs ({100 * block[16] / network:.0f} %)"
)
print(f"the block overtakes the frame network at {crossing:,} frames")
assert block[16] < network
ledger.claim(
    "A8",
    "partly",
    f"On 16 frames of 32 pixels a block over frame features takes {100 * block[16] / network:.0f} "
    "% of the frame network's multiplications and overtakes it only at "
    f"{crossing:,} frames; over all patches of a clip (T = 96, 196 patches, width 768) joint "
    f"attention takes {macs('joint', 96, 196, 768) / 1e9:.0f} billion a block.",
)

# %% [markdown]
# With one token a frame the expense is the frame network. With a token for each patch it is attention. "Expensive" is a
# statement about the number of tokens.
#
# ## Break it: softmax over the wrong axis
#
# `softmax(-2)` instead of `softmax(-1)`: one character more or less. Shapes fit, the loss falls.

# %%
wrong, history, score = teach(lambda: OverFrames(4, axis=-2), seed=0)
right = runs[4][0]
print(
    "loss by epoch, wrong axis:",
    [round(v, 2) for v in history.train_loss],
    "right:",
    [round(v, 2) for v in right[1].train_loss],
)
print(
    f"overall accuracy, wrong {score['overall']:.2f}, right {right[2]['overall']:.2f}; chance "
    f"{1 / 12:.2f}"
)
assert history.train_loss[-1] < 0.7 * history.train_loss[0] and score["overall"] > 0.2

# %% [markdown]
# You would never find this by looking at a loss curve. Now each *key* hands out one unit of attention among the queries, and a query may end with much
# or little. The check is the definition: rows sum to one.

# %%
for name, model in (("right", right[0]), ("wrong", wrong)):
    with torch.no_grad():
        rows = model.look(frames_in[:100])[1].sum(-1)
    print(f"{name} axis: row sums from {rows.min():.2f} to {rows.max():.2f}")
assert (rows - 1).abs().max() > 0.2

# %% [markdown]
# It is worse under a causal mask. The shares of a key are now normalised over *all later queries*, so the future leaks in through the
# denominator, past a perfectly correct mask. A streaming model would be trained on what it cannot have. The gradient tells:

# %%
torch.manual_seed(5)
x = torch.randn(8, 4, dtype=torch.float64, requires_grad=True)
for axis in (-1, -2):
    masked = (x @ x.T / 2).masked_fill(~causal, -math.inf).softmax(axis)
    leak = torch.autograd.grad((masked @ x)[3].sum(), x)[0][4:].abs().max().item()
    print(f"softmax over axis {axis}: influence of later frames on frame 3: {leak:.3f}")
    assert (leak == 0) == (axis == -1)

# %% [markdown]
# ## Break it: dropout that never sleeps
#
# Attention weights are often dropped at random in training. `nn.Dropout` stops when you call `eval()`. A *function* does not know about
# `eval()`: pass it `dropout_p` and it drops, always. Training is untouched, since there dropout is wanted. The check takes two lines:
# evaluate twice.


# %%
class Careless(MultiHeadAttention):
    def forward(self, x):
        q, k, v = self.project(x, None)
        # No look at self.training:
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout)
        return self.out(rearrange(mixed, "b h t d -> b t (h d)"))


torch.manual_seed(6)
x = torch.randn(2, 16, 64)
for kind in (MultiHeadAttention, Careless):
    layer = kind(64, 4, dropout=0.1).eval()
    with torch.no_grad():
        gap = (layer(x) - layer(x)).abs().max().item()
    print(f"{kind.__name__}: two evaluations differ by {gap:.2g}")
    assert (gap == 0) == (kind is MultiHeadAttention)

# %% [markdown]
# ## What the article said, and what is true
#
# | article | printed | true |
# |---|---|---|
# | A | several heads attend to different kinds of information | they come to look at different frames; whether each is needed has to be tested by taking it away |
# | A | attention captures long-range dependence | at any distance, in one layer; a mean and a dilated convolution reach far as well, but of the four only attention held on longer clips |
# | A | the model is expensive | count the tokens: one a frame is cheap next to the frame network, one a patch is not |
#
# ## What you should know
#
# - Attention is a weighted mean; the weights come from comparing a query with keys.
# - $\sqrt d$ keeps scores at unit variance, and the softmax awake.
# - Fused attention computes the same numbers with memory linear in $T$. Its time is still quadratic.
# - Divided attention saves on long clips and costs more on short, wide ones.
# - Maps of heads differ after training; a difference is not a need.
# - Three checks find most mistakes: rows sum to one, no gradient from the future, two evaluations agree.
#
# **Recall.** Answer before you unfold.
#
# 1. What does attention compute if all keys are equal?
# 2. You set forbidden weights to 0 *after* the softmax. Is a causal layer then causal?
# 3. Twice as many frames, one token each: what happens to the projections' cost, and to the scores'?
#
# ```{admonition} Answers
# :class: dropdown
# 1. The plain mean of the values.
# 2. No: the denominator still holds the future's scores, and rows no longer sum to one.
# 3. The projections' cost doubles, the scores' is multiplied by four.
# ```
#
# ## Exercises
#
# ```{exercise} Warm-up: when is divided dearer?
# :label: ex-06-crossing
# For 196 patches of width 768, at which $T$ does a divided block become cheaper than a joint one?
# ```
#
# ```{solution} ex-06-crossing
# :class: dropdown
# $5D + 2(T+S) < 2TS$ gives $3840 + 392 < 390\,T$, so from $T = 11$ on.
# ```
#
# ```{exercise} Warm-up: adding a constant
# :label: ex-06-constant
# Add the same vector to every key. Which outputs change? Add it to every value?
# ```
#
# ```{solution} ex-06-constant
# :class: dropdown
# Keys: none. Each score of a query grows by the same amount, which softmax does not see. Values: each output grows by that vector, since the weights sum to one.
# ```
#
# ```{exercise} Build: a local window
# :label: ex-06-window
# Write `window(T, w)`, a mask that lets a query see the $w$ frames before and after. Tests to pass: by gradient, two layers reach $2w$
# frames and no more; each row of `attention_weights` sums to one; `window(T, T)` equals no mask.
# ```
#
# ```{exercise} Build: causal attention in blocks
# :label: ex-06-blocks
# Give `attend_in_blocks` a causal mode that skips blocks lying wholly in the future. Tests to pass: equal to `attention(..., causal=True)` in
# double precision for lengths that no block divides; half the blocks are never touched.
# ```
#
# ```{exercise} Explore: a query that must match
# :label: ex-06-match
# Change `lookup`: each frame shows one of 32 symbols and a colour, and the last frame repeats the symbol of the frame that is asked for. A mean
# can no longer answer. How many clips does attention need? Does the dilated convolution ever learn it?
# ```
#
# ```{exercise} Explore: more heads
# :label: ex-06-more
# Train with 2, 8 and 16 heads over ten seeds. Does accuracy rise with the difference between heads? Retrain with one head removed: does the loss without
# it stay?
# ```
#
# ## References
#
# ```{bibliography}
# :filter: docname in docnames
# ```
