# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Attention
#
# **Claim.** Attention is a look-up: a question is compared with keys, and the answer is the mean of the values, weighted by how well
# their keys fit. One layer fetches what it needs from any frame, near or far. The price grows with the square of the number of
# tokens, and you can count it before you pay.
#
# | | |
# |---|---|
# | **You will be able to** | say what a query, a key and a value are, on a video; write attention with heads and masks and prove it equal to PyTorch's; say why fused attention costs less; look at what a head does before you say it |
# | **You need** | chapters 3 and 4; matrix products, the exponential |
# | **Data** | clips of the motion set, and two small tasks drawn here |
# | **Answers** | article A: several heads, distant frames |

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
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import TensorDataset

from sora_nb import evaluation, ledger, plots, training
from sora_nb.data import motion
from sora_nb.layers.attention import MultiHeadAttention, attention, naive_attention
from sora_nb.schematics import arrow, box, canvas, cells, label
from sora_nb.settings import settings

plots.use_style()
torch.set_num_threads(1)  # one thread, so that processor time is a fair clock on a busy machine
sizes = settings(
    T0=dict(seeds=3, starts=4, longest=2048), T1=dict(seeds=5, starts=10, longest=4096)
)
test = motion.load(motion.MotionSpec(level=1), "test")
movie = test.float()  # (N, T, C, H, W) in [0, 1]

# %% [markdown]
# ## See it first
#
# Take one 9 × 9 patch of a moving digit (red cross), with the still background removed. Compare it with every patch of every frame, and turn
# the likeness into shares that add up to one in each frame. Nothing is trained, and the bright spot follows the digit.


# %%
def patches(clip):
    """The 9 × 9 patch round each pixel, without the still background, scaled to length 1."""
    moving = clip - clip.median(0).values  # (T, C, H, W)
    return F.normalize(F.unfold(moving, 9, padding=4), dim=1)  # -> (T, C·81, H·W)


def fit(clip, x, y, sharpness=20):
    """How well each place of each frame fits the patch at (x, y) of frame 8, in shares.

    The sharper, the more of a frame's share goes to the place that fits best.
    """
    all_patches = patches(clip)
    mine = all_patches[8, :, 32 * y + x]  # (C·81)
    likeness = torch.einsum("c,tcn->tn", mine, all_patches)  # -> (T, H·W)
    return (sharpness * likeness).softmax(-1)


# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-05-follow", "caption": "Where a patch of frame 8 (red cross) finds itself again. Bright: large shares. The bright spot moves with the digit, though nothing was trained."}, "image": {"alt": "Two clips as strips of eight frames, each with a row of heat maps below; the bright spot in each map lies on the moving digit"}}
middle = (
    test.boxes[..., :2] + test.boxes[..., 2:]
) / 2  # (N, T, 4) -> (N, T, 2): x, y of the digit
seen = ~test.boxes.isnan().any(-1).any(-1)
shown = [int(torch.nonzero((test.labels == c) & seen)[1]) for c in (1, 2)]
fig, axes = plt.subplots(4, 8, figsize=(7.2, 3.7))
for row, index in zip((0, 2), shown, strict=True):
    clip, (x, y) = movie[index], middle[index, 8].int().tolist()
    shares = fit(clip, x, y)
    for above, below, t in zip(axes[row], axes[row + 1], range(0, 16, 2), strict=True):
        above.imshow(clip[t].permute(1, 2, 0))
        below.imshow(shares[t].view(32, 32).sqrt())
    axes[row, 4].plot(x, y, "+", color=plots.RED, ms=10)
_ = [ax.axis("off") for ax in axes.flat]

# %% [markdown]
# ## Query, key, value
#
# Make it a task: *where is this thing in frame 2?* Three roles are in it, and they are all there is to attention.
#
# - The **query** is what you ask with: the patch in your hand.
# - A **key** is what a place shows you to be compared with: the patch round it.
# - A **value** is what you take home from a place if its key fits: here, the coordinates of the place.
#
# Compare the query with every key, turn the comparisons into shares, and average the values with these shares as weights.

# %%
across = torch.arange(32).repeat(32)  # x of place 0, 1, 2, … of a frame
down = torch.arange(32).repeat_interleave(32)  # y
values = torch.stack((across, down), dim=-1) + 0.5  # (H·W, 2)
clip, start = movie[shown[0]], middle[shown[0], 8].int().tolist()
track = fit(clip, *start) @ values  # (T, H·W), (H·W, 2) -> (T, 2)

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-05-track", "caption": "The answers of attention to 'where is it?', frame by frame, against the truth, for the first clip above. Equal shares would answer with the middle of the frame each time."}, "image": {"alt": "Line plot of x over sixteen frames: the answers run along the true line; a dashed horizontal line at sixteen is the answer of equal shares"}}
fig, ax = plt.subplots(figsize=(5, 2.4))
ax.plot(middle[shown[0], :, 0], "o-", label="truth (box)")
ax.plot(track[:, 0], "s--", label="answer of attention")
ax.axhline(16, color=plots.GRAY, ls=":", lw=1, label="equal shares")
ax.set(xlabel="frame", ylabel="x (pixels)")
_ = ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))


# %%
def mistake(index):
    """Mean distance in pixels to the digit: of attention's answers, and of equal shares'."""
    there = middle[index]  # (T, 2)
    found = fit(movie[index], *there[8].int().tolist()) @ values
    return [(guess - there).norm(dim=-1).mean().item() for guess in (found, values.mean(0))]


# %%
for name, classes in {"travel": range(4), "shrink, grow or turn": range(4, 8)}.items():
    some = [torch.nonzero((test.labels == c) & seen)[:6, 0].tolist() for c in classes]
    off = np.mean([mistake(index) for index in sum(some, [])], 0)
    print(f"digits that {name}: {off[0]:.1f} pixels off; equal shares {off[1]:.1f}")
    assert (off[0] < off[1] / 2) == (name == "travel")

# %% [markdown]
# On digits that travel it is a tracker. On digits that shrink or turn it is none: a turned patch is another patch, and its key no longer
# fits. Raw pixels are poor queries and keys. A network therefore *learns* what to show and what to ask with, which comes in under
# "Where the three come from".
#
# ## Symbols and shapes
#
# | symbol | meaning | shape |
# |---|---|---|
# | $T$, $t$ | number of queries, and the index of one | |
# | $U$, $u$ | number of keys and of values, and the index of one; $U = T$ when a clip looks at itself | |
# | $D$ | width of a vector | |
# | $q_t$; $k_u$, $v_u$ | a query; a key, a value | $(D)$ |
# | $Q$; $K$, $V$ | all of them, one a row | $(T, D)$; $(U, D)$ |
# | $s_{tu}$ | score: how well key $u$ fits query $t$ | $(T, U)$ |
# | $a_{tu}$, $A$ | weights: the scores of a row made into shares | $(T, U)$ |
# | $h_t$ | an answer; all of them are the rows of $AV$ | $(D)$ |
# | $M$ | number of heads; each is $D/M$ wide | |
#
# ## One question, by hand
#
# Three frames. Each shows a key of four numbers and has a value of two, the place of a ball. A query comes in. The score is the dot product, divided
# by $\sqrt 4$ (why, you see below). The weights are
#
# $$a_u = \frac{e^{s_u}}{\sum_j e^{s_j}}, \qquad s_u = \frac{q\cdot k_u}{\sqrt D}, \qquad h = \sum_u a_u v_u .$$
#
# The exponential makes every weight positive, the division makes them shares. This step is called **softmax**.

# %% tags=["nbval-check-output"]
q = torch.tensor([2.0, 0, 1, 0])
keys = torch.tensor([[2.0, 0, 0, 0], [0, 2, 0, 0], [2, 0, 2, 0]])
places = torch.tensor([[4.0, 10], [12, 10], [20, 14]])
s = keys @ q / math.sqrt(4)  # (3, 4), (4) -> (3)
a = s.exp() / s.exp().sum()
h = a @ places  # (3), (3, 2) -> (2)
print("scores", s.tolist(), "weights", a.numpy().round(2), "answer", h.numpy().round(1))
assert s.tolist() == [2, 0, 3] and abs(a.sum() - 1) < 1e-6

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-05-hand", "caption": "One query against three frames. Read from left to right: compare, exponentiate, share out, average. Frame 2 fits best and gives seven tenths of the answer."}, "image": {"alt": "Tables with numbers: a query of four numbers above three keys; columns of scores 2, 0, 3, of exponentials, of weights .26, .04, .71; three values; the answer 15.6, 12.8"}}
ax = canvas(19, 6.6, unit=0.4)
frames = ["frame 0", "frame 1", "frame 2"]
cells(ax, q.tolist(), (2, 1), title="query q", color=plots.ORANGE)
cells(ax, keys.tolist(), (2, 3.3), rows=frames, title="keys k")
cells(ax, [[v] for v in s.tolist()], (7.2, 3.3), title="score s", color=plots.GRAY)
cells(ax, [[v] for v in s.exp().tolist()], (9.6, 3.3), form="{:.1f}", title="eˢ", color=plots.GRAY)
cells(ax, [[v] for v in a.tolist()], (12, 3.3), form="{:.2f}", title="weight a", color=plots.GREEN)
cells(ax, places.tolist(), (14.6, 3.3), title="values v", color=plots.PINK)
cells(ax, h.tolist(), (14.6, 0.8), form="{:.1f}", title="answer h", color=plots.GREEN)
arrow(ax, (6.1, 1.5), (7.3, 2.5))
label(ax, "q·k/√4", (8.4, 1.9), fontsize=8)
for x in (8.3, 10.7, 13.1):
    arrow(ax, (x, 4.8), (x + 1.2, 4.8))
arrow(ax, (16.8, 4.8), (16.8, 1.4), bend=0.4)
label(ax, "Σ a·v", (18.2, 3), fontsize=8)

# %% [markdown]
# ### The same by loop
#
# One thing more for a computer: $e^{1000}$ is too large a number for it (in single precision, $e^{89}$ is). Subtracting the largest score from all of them divides numerator and denominator by the same number, so no
# share changes, and no exponent is positive.


# %%
def attend_one(q, keys, values):
    """One query (D) over keys (U, D) and values (U, …), one key at a time."""
    scores = [float(q @ k) / math.sqrt(len(q)) for k in keys]
    raw = [math.exp(score - max(scores)) for score in scores]
    out = torch.zeros_like(values[0])
    for weight, value in zip(raw, values, strict=True):
        out += weight / sum(raw) * value
    return out


torch.testing.assert_close(attend_one(q, keys, places), h)

# %% tags=["nbval-check-output"]
for size in (0, 0.5, 1, 2, 400):
    print(f"query × {size}: answer {attend_one(size * q, keys, places).numpy().round(1)}")
torch.testing.assert_close(attend_one(0 * q, keys, places), places.mean(0))
torch.testing.assert_close(attend_one(400 * q, keys, places), places[2])

# %% [markdown]
# Two limits are worth keeping. A query of zero gives the plain mean: **mean pooling is attention that does not look**. A very long query gives
# the value of the best key alone: a soft look-up becomes a hard one. In between, the answer lies inside the cloud of the values. Attention
# chooses and mixes; it invents nothing.
#
# ## All queries at once
#
# Write the queries as rows of $Q$, the keys as rows of $K$, the values as rows of $V$. All scores are one product, all answers another {cite}`vaswani2017`:
#
# $$A = \operatorname{softmax}\!\big(QK^\top/\sqrt D\big), \qquad h_t = \text{row } t \text{ of } AV,$$
#
# with the softmax taken along each row: over the keys of one query.


# %%
def attend(q, k, v):
    """softmax(q kᵀ / √D) v; any axes in front."""
    scores = q @ k.mT / math.sqrt(q.shape[-1])  # (…, T, D), (…, U, D) -> (…, T, U)
    return scores.softmax(-1) @ v  # (…, T, U), (…, U, D) -> (…, T, D)


queries = torch.tensor([[2.0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]])
by_loop = torch.stack([attend_one(row, keys, places) for row in queries])
torch.testing.assert_close(attend(queries, keys, places), by_loop)

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-05-matrix", "caption": "Three queries, the first from above. Each row of weights sums to one by itself; columns need not. The query of zeros shares out evenly."}, "image": {"alt": "A three by three table of scores, an arrow marked softmax along each row, a three by three table of weights whose rows sum to one, three values, three answers"}}
scores = queries @ keys.T / 2
weights = scores.softmax(-1)
ax = canvas(18.4, 4.8, unit=0.4)
asked = ["query 0", "query 1", "query 2"]
cells(ax, scores.tolist(), (2, 1.5), rows=asked, columns=["k0", "k1", "k2"], title="QKᵀ/√D")
arrow(ax, (5.2, 3), (7.6, 3), "each row")
cells(ax, weights.tolist(), (7.8, 1.5), form="{:.2f}", title="A", color=plots.GREEN)
cells(ax, [["= 1"]] * 3, (10.8, 1.5), title="sum", color=plots.GRAY)
label(ax, "×", (12.4, 3))
cells(ax, places.tolist(), (13, 1.5), title="V", color=plots.PINK)
label(ax, "=", (15.5, 3))
cells(ax, (weights @ places).tolist(), (16, 1.5), form="{:.1f}", title="AV", color=plots.GREEN)

# %% [markdown]
# ### Where the three come from
#
# In the tracking task you chose query, key and value. A network learns them. Each **token**, which is any vector that stands for a frame or a part of one, is a row of $X$,
# and three matrices make three views of it:
#
# $$Q = XW_q, \qquad K = XW_k, \qquad V = XW_v .$$
#
# What a token asks for, what it shows and what it gives are three different things, and all three are trained by the loss at the end of the network.
#
# ## Why divide by $\sqrt D$
#
# If the entries of $q$ and $k$ are independent, with mean 0 and variance 1, then $q\cdot k$ is a sum of $D$ terms of variance 1, and its variance
# is $D$. A wide vector would have large scores for no reason but its width, and softmax of large scores is a hard choice. A hard choice has almost no
# gradient: $\partial a_u/\partial s_u = a_u(1 - a_u)$ is 0 at both ends.


# %%
def saturation(d):
    """2,000 queries of width d before 16 keys, without the root and with it."""
    dots = torch.randn(2000, 16, d) @ torch.randn(2000, d, 1)  # -> (2000, 16, 1)
    weights = torch.cat([dots, dots / math.sqrt(d)], -1).softmax(1)
    slope = (weights * (1 - weights)).sum(1)  # (2000, 2): what a query can still learn
    tenth = slope.sort(0, descending=True).values[:200].sum(0) / slope.sum(0)
    return dots.std(), weights.amax(1).mean(0), slope.mean(0), tenth


# %%
torch.manual_seed(0)
widths = [2, 8, 32, 128, 512]
table = zip(*[saturation(d) for d in widths], strict=True)
spread, largest, slopes, tenths = (torch.stack(column) for column in table)
assert np.allclose(spread, np.sqrt(widths), rtol=0.05)
print("D = 512: largest of 16 weights, unscaled {:.2f}, scaled {:.2f}".format(*largest[-1]))
print("gradient held by a tenth of the queries: {:.2f}, {:.2f}".format(*tenths[-1]))

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-05-scale", "caption": "Without the root, scores spread like √D (left), one key takes nearly all the weight (middle), and the gradient through softmax dies (right). Divided by √D, nothing depends on the width."}, "image": {"alt": "Three panels over width: the spread of scores follows the square root; unscaled weights saturate and unscaled gradients fall, scaled ones stay level"}}
fig, axes = plt.subplots(1, 3, figsize=(7.6, 2.4))
axes[0].loglog(widths, spread, "o", label="measured")
axes[0].loglog(widths, np.sqrt(widths), "--", color=plots.GRAY, label="√D")
for ax, numbers in zip(axes[1:], (largest, slopes), strict=True):
    for series, name in zip(numbers.T, ("unscaled", "scaled"), strict=True):
        ax.semilogx(widths, series, "o-", label=name)
heads_of = ("standard deviation of q·k", "largest weight", "Σ a(1 − a)")
for ax, title in zip(axes, heads_of, strict=True):
    ax.set(xlabel="D", ylabel=title)
_ = [ax.legend() for ax in axes[:2]]

# %% [markdown]
# A small gradient alone would be no harm: AdamW divides by the gradient's magnitude, so it steps as far when all gradients are ten times
# smaller. The harm is in the second line printed above. Where choices are hard, most queries have little gradient, and the few that
# sit on an edge have more than half of it.
#
# ## Heads
#
# One softmax gives one set of shares a query. To ask two questions at once, cut queries, keys and values into $M$ parts, the **heads**, and attend in
# each by itself, with the root of a head's width, $\sqrt{D/M}$, in the place of $\sqrt D$. A fourth matrix mixes what the heads bring home.

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-05-split", "caption": "A width of D = 6 in M = 3 heads. Each head compares two numbers with two numbers and has weights of its own; its answers are laid side by side again. Nothing is added to the width, so more heads mean narrower ones."}, "image": {"alt": "A query and a key of six numbers, coloured in three pairs; below, for each pair, the score of its two dot products; arrows lead to three answers side by side and to a box named out"}}
six_q, six_k = [1, 0, 2, 1, 0, 3], [2, 1, 1, 0, 4, 1]
ax = canvas(17, 7.6, unit=0.42)
for m, color in enumerate((plots.BLUE, plots.ORANGE, plots.GREEN)):
    two_q, two_k = six_q[2 * m : 2 * m + 2], six_k[2 * m : 2 * m + 2]
    cells(ax, two_q, (2.5 + 2 * m, 0.6), color=color)
    cells(ax, two_k, (2.5 + 2 * m, 1.9), color=color)
    score = sum(a * b for a, b in zip(two_q, two_k, strict=True)) / math.sqrt(2)
    arrow(ax, (3.5 + 2 * m, 3), (2 + 5 * m, 4.3), color=color)
    box(ax, f"head {m}: q·k/√2 = {score:.1f}", (0.2 + 5.6 * m, 4.4), (5.2, 1), color=color)
    arrow(ax, (2.8 + 5.6 * m, 5.5), (7 + 2 * m, 6.4), color=color)
    cells(ax, [[f"o{m}", ""]], (6 + 2 * m, 6.5), color=color)
label(ax, "q", (2.1, 1.1))
label(ax, "k", (2.1, 2.4))
arrow(ax, (12.1, 7), (13.3, 7))
box(ax, "out", (13.4, 6.5), (2, 1), color=plots.GRAY)


# %%
class Heads(nn.Module):
    """Four matrices, and a width that is cut into heads."""

    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.out = (nn.Linear(dim, dim) for _ in range(4))

    def split(self, x):
        return rearrange(x, "b t (m d) -> b m t d", m=self.heads)


counts = {heads: training.parameters(Heads(64, heads)) for heads in (1, 4, 8)}
print("weights and biases by number of heads:", counts)
assert len(set(counts.values())) == 1


# %%
class Attention(Heads):
    """Multi-head attention; `may` says which query may look at which key (see below)."""

    def look(self, x, context, may=None):
        q, k = self.split(self.q(x)), self.split(self.k(context))
        scores = q @ k.mT / math.sqrt(q.shape[-1])  # (B, M, T, D/M), (B, M, U, D/M) -> (B, M, T, U)
        return (scores if may is None else scores.masked_fill(~may, -math.inf)).softmax(-1)

    def forward(self, x, context=None, may=None):
        context = x if context is None else context
        mixed = self.look(x, context, may) @ self.split(self.v(context))
        return self.out(rearrange(mixed, "b m t d -> b t (m d)"))


# %% [markdown]
# ## Masks
#
# A **mask** says which query may look at which key (`may`, in the code above). A forbidden score becomes $-\infty$ *before* the softmax; $e^{-\infty} = 0$, so its share
# is 0 and the others still sum to 1. Two masks do most of the work:
#
# - **causal**: query $t$ sees keys $u \le t$; needed for streaming and for generating;
# - **padding**: clips of unequal length in one batch are filled up, and nobody may see the filling.

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-05-causal", "caption": "A causal mask on four frames. The future is set to −∞ before the softmax, so each row is shared out anew among the past. The first frame can only look at itself."}, "image": {"alt": "Left, a four by four table of scores with minus infinity above the diagonal. Right, the weights: zero above the diagonal, first row 1, second row .27 and .73"}}
raw = torch.tensor([[1.0, 0, 2, 1], [0, 1, 3, 0], [1, 1, 1, 2], [2, 0, 1, 1]])
past = torch.ones(4, 4, dtype=torch.bool).tril()
weights = raw.masked_fill(~past, -math.inf).softmax(-1)
assert torch.allclose(weights.sum(-1), torch.ones(4)) and (weights[~past] == 0).all()
ax = canvas(15.5, 6.2, unit=0.42)
written = [
    [f"{v:g}" if u <= t else "−∞" for u, v in enumerate(row)] for t, row in enumerate(raw.tolist())
]
names = [f"t = {t}" for t in range(4)]
cells(
    ax,
    written,
    (1.8, 1.8),
    rows=names,
    columns=list("0123"),
    title="scores, key u",
    color=plots.ORANGE,
)
arrow(ax, (6.1, 3.8), (8.9, 3.8), "softmax")
cells(
    ax,
    weights.tolist(),
    (9.1, 1.8),
    form="{:.2f}",
    columns=list("0123"),
    title="weights",
    color=plots.GREEN,
)

# %%
torch.manual_seed(1)
layer = Attention(16, 2).double()
x = torch.randn(2, 8, 16, dtype=torch.float64, requires_grad=True)
causal = torch.ones(8, 8, dtype=torch.bool).tril()
length = torch.tensor([8, 5])  # the second clip has three frames of filling
padding = (torch.arange(8) < length[:, None])[:, None, None]  # (B, U) -> (B, 1, 1, U)

# %% [markdown]
# A mask is checked by what it promises. Causal: the answer at frame 3 has no gradient from later frames. Padding: the answers of the
# short clip are those it gets alone.

# %%
slope = torch.autograd.grad(layer(x, may=causal)[:, 3].sum(), x)[0]
influence = slope.abs().sum(-1)  # (B, T, D) -> (B, T)
print("influence on frame 3:", influence[0].numpy().round(1))
assert (influence[:, 4:] == 0).all() and (influence[:, :4] > 0).all()
torch.testing.assert_close(layer(x, may=padding)[1:, :5], layer(x[1:, :5]))

# %% [markdown]
# ### A query that may see nothing
#
# It happens: a clip that is all filling, or a causal layer whose first frames are filling. Then the row holds only $-\infty$, its softmax is $0/0$, and the answer is "not
# a number". One such row spoils more than itself, because its gradient runs through weights that all rows share.

# %%
nothing = causal & (torch.arange(8) > 0)  # frame 0 is filling, and causal: query 0 sees no key
answer = layer(x, may=nothing)
answer[:, 1:].sum().backward()  # the broken row is not even in the loss
print("answers with NaN:", answer.isnan().any(-1)[0].int().tolist())
spoiled = {
    name: bool(p.grad.isnan().any()) for name, p in layer.named_parameters() if "weight" in name
}
print("gradients with NaN:", [name for name, spoilt in spoiled.items() if spoilt])
assert spoiled["v.weight"] and spoiled["out.weight"] and not answer[:, 1:].isnan().any()

# %% [markdown]
# What should the answer be? Nobody was asked, so nothing: the package and `F.scaled_dot_product_attention` answer with zeros. `nn.MultiheadAttention` does both, depending on
# whether you ask it for the weights. Know which one you call.

# %% tags=["nbval-check-output"]
module = nn.MultiheadAttention(16, 2, batch_first=True).double()
qkv = layer.split(x.detach()).expand(3, -1, -1, -1, -1)
answers = {
    "the package": attention(*qkv, mask=nothing)[:, 0],
    "F.scaled_dot_product_attention": F.scaled_dot_product_attention(*qkv, attn_mask=nothing)[:, 0],
    "nn.MultiheadAttention": module(x, x, x, attn_mask=~nothing, need_weights=False)[0],
    "the same with need_weights": module(x, x, x, attn_mask=~nothing)[0],
}
for name, answer in answers.items():
    print(f"{name:31s}", "NaN" if answer[:, 0].isnan().any() else answer[0, 0].norm().item())

# %% [markdown]
# ## Cross-attention
#
# Nothing demands that queries and keys come from the same sequence. Let the queries be two learned vectors and the keys any number of frames: the answer has two rows,
# whatever the length of the clip. So a model can *ask a clip questions* {cite}`carion2020detr`; {chapter}`07` builds its decoder from this.

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-05-cross", "caption": "Cross-attention: two learned questions read five frames. The weights are 2 × 5, the answers 2; with fifty frames the weights are 2 × 50 and the answers still 2."}, "image": {"alt": "Two boxes named question on the left, five boxes named frame below, a two by five table of weights between them, and two boxes named answer on the right"}}
torch.manual_seed(3)
two_by_five = (2 * torch.randn(2, 5)).softmax(-1)
ax = canvas(16.5, 5.6, unit=0.42)
cells(ax, two_by_five.tolist(), (5, 1), form="{:.2f}", color=plots.GREEN, title="weights, 2 × 5")
for row_, name in enumerate(("question 0", "question 1")):
    box(ax, name, (0.3, 1.05 + row_), (3.4, 0.9), color=plots.ORANGE)
    arrow(ax, (3.8, 1.5 + row_), (4.9, 1.5 + row_))
    arrow(ax, (10.1, 1.5 + row_), (11.9, 1.5 + row_))
    box(ax, f"answer {row_}", (12, 1.05 + row_), (3.2, 0.9), color=plots.GREEN)
for u in range(5):
    box(ax, f"f{u}", (5.05 + u, 4.4), (0.9, 0.9))
    arrow(ax, (5.5 + u, 4.3), (5.5 + u, 3.1))
label(ax, "keys and values", (2.4, 4.85))

# %% tags=["nbval-check-output"]
torch.manual_seed(2)
questions, read = torch.randn(2, 64), Attention(64, 4)
for n in (5, 16, 100):
    context = torch.randn(2, n, 64)
    answers = read(questions.expand(2, -1, -1), context)  # (2, D) -> (B, 2, D)
    print(f"{n} frames ->", tuple(answers.shape))
    assert answers.shape == (2, 2, 64)

# %% [markdown]
# ## Meets reality
#
# PyTorch's module keeps the three input matrices stacked. Yours, the package's and PyTorch's, with the same weights, must agree: on
# themselves, across, and under masks. Beware the sign: in `nn.MultiheadAttention` a mask's `True` means *forbidden*; in
# `F.scaled_dot_product_attention` and here it means *allowed*.

# %%
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

# %% tags=["nbval-check-output"]
x, context = torch.randn(2, 8, 24).double(), torch.randn(2, 11, 24).double()
for other, may in ((x, None), (x, causal), (context, None)):
    forbidden = None if may is None else ~may
    reference = theirs(x, other, other, attn_mask=forbidden, need_weights=False)[0]
    torch.testing.assert_close(ours(x, other, may), reference)
    torch.testing.assert_close(packaged(x, other, mask=may), reference)
print("ours = package = nn.MultiheadAttention: alone, causal, across")

# %% [markdown]
# The core against `F.scaled_dot_product_attention`, in value and, by finite differences, in gradient. And how far single precision strays from
# double:

# %%
q, k, v = (torch.randn(1, 2, 6, 4, dtype=torch.float64, requires_grad=True) for _ in range(3))
torch.testing.assert_close(attend(q, k, v), F.scaled_dot_product_attention(q, k, v))
assert torch.autograd.gradcheck(attend, (q, k, v))
q, k, v = torch.randn(3, 200, 16)
exact = attend(q.double(), k.double(), v.double())
for name, function in {"ours": attend, "fused": F.scaled_dot_product_attention}.items():
    gap = (function(q, k, v) - exact).abs().max().item()
    assert gap < 1e-5
    print(f"{name} in float32, largest error: {gap:.0e}")

# %% [markdown]
# ## What it costs, and why fused attention costs less
#
# Each entry of $A$ takes $D$ multiplications to make and $D$ to use: $2TUD$ in all. The naive code also *stores* $QK^\top$ and $A$, two matrices of $TU$ numbers a head.
# **Fused** attention {cite}`dao2022flashattention` does the same multiplications and stores neither.
#
# How can you divide by the sum of a row before you have seen the row? Keep three things for each query: the largest score so far, the sum so far, and the answer so
# far {cite}`milakov2018online`. When a new score is larger, shrink what was gathered under the old maximum, then go on.


# %%
def take(state, scores, values):
    """Add a tile of scores and values to what the queries have gathered so far."""
    top, total, answer = state  # largest score, sum, answer
    higher = torch.maximum(top, scores.amax(-1, keepdim=True))
    shrink, share = (top - higher).exp(), (scores - higher).exp()
    total = shrink * total + share.sum(-1, keepdim=True)
    return higher, total, shrink * answer + share @ values


# %% tags=["nbval-check-output"]
scores, gives = torch.tensor([[1.0, 3, 2, 5]]), torch.tensor([[10.0], [20], [30], [40]])
states = [(torch.tensor([[-math.inf]]), 0.0, 0.0)]
for tile in (slice(0, 2), slice(2, 4)):  # two keys at a time
    states.append(take(states[-1], scores[:, tile], gives[tile]))
    print("largest {:.0f}, sum {:.2f}, answer so far {:.1f}".format(*map(float, states[-1])))
_, total, answer = states[-1]
torch.testing.assert_close(answer / total, scores.softmax(-1) @ gives)

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-05-running", "caption": "One query, four keys, seen two at a time. The second tile brings a larger maximum, 5 instead of 3, so sum and answer of the first tile shrink by e⁻² = .14 before the new ones are added. Divide at the end."}, "image": {"alt": "Two rows of tables: scores 1, 3 with values 10, 20 and then running maximum 3, sum 1.14, answer 21.4; scores 2, 5 with values 30, 40 and then maximum 5, shrink .14, sum 1.20, answer 44.4; at the end 36.9"}}
ax = canvas(18.5, 5.4, unit=0.4)
titles = ("scores", "e^(s − max)", "values", "max", "sum", "answer")
for n, (top, total, answer) in enumerate(states[1:]):
    y, tile, shown = 1.2 + 2.8 * n, slice(2 * n, 2 * n + 2), [""] * 6 if n else titles
    cells(ax, scores[0, tile].tolist(), (1.6, y), title=shown[0], color=plots.ORANGE)
    share = (scores[0, tile] - top).exp().flatten().tolist()
    cells(ax, share, (4.4, y), form="{:.2f}", title=shown[1], color=plots.GREEN)
    cells(ax, gives[tile, 0].tolist(), (7.2, y), title=shown[2], color=plots.PINK)
    for i, (number, form) in enumerate(
        zip((top, total, answer), ("{:g}", "{:.2f}", "{:.1f}"), strict=True)
    ):
        cells(
            ax,
            [number.item()],
            (10.6 + 1.9 * i, y),
            form=form,
            title=shown[3 + i],
            color=plots.GRAY,
        )
    label(ax, f"tile {n}", (0.8, y + 0.5))
for x in (13, 14.9):
    arrow(ax, (x, 2.3), (x, 3.9))
    label(ax, "× .14", (x + 0.7, 3.1), fontsize=8)
arrow(ax, (15.5, 4.5), (16.4, 4.5))
label(ax, f"{answer.item():.1f} / {total.item():.2f}\n= {(answer / total).item():.1f}", (17.4, 4.5))

# %% [markdown]
# Storing less would be reason enough. But fused attention is *faster* too, with the same multiplications. The reason is **memory traffic**. A processor has a small fast memory
# on the chip and a large slow one beside it. An A100 reads up to 2 TB a second from the large one and about 19 TB a second from the small one, of which each of its 108
# processors has 192 kB {cite}`dao2022flashattention`. In the time that it takes to fetch a number from the large memory it could do many multiplications. So the question is: how many numbers cross the border?
#
# The naive code sends $Q$ and $K$ in, $QK^\top$ out, in again, $A$ out, in again with $V$, and the answers out: $4TU + 2(T+U)D$ numbers. In tiles of $T'$ queries by $U'$ keys, a tile of queries comes in once and stays while all
# keys and values pass by:

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-05-tiles", "caption": "Four queries against six keys, in tiles of T′ = 2 by U′ = 3. On the chip at this moment: two queries, three keys, three values, and the dark tile of scores, which is used at once and never leaves. Keys and values pass T/T′ = 2 times in all, once for each band of queries."}, "image": {"alt": "A four by six grid of cells in four tiles, one tile dark; left of it a column of queries with two marked, above it a row of keys with three marked"}}
ax = canvas(14.5, 7.2, unit=0.42)
cells(ax, [[None] * 6] * 4, (4, 2.6))
cells(
    ax,
    [["s"] * 3] * 2,
    (4, 4.6),
    color=plots.GREEN,
    mark=[(r, c) for r in range(2) for c in range(3)],
)
for u in range(6):
    cells(ax, [f"k{u}"], (4 + u, 1), color=plots.BLUE, mark=[(0, 0)] if u < 3 else [])
for t in range(4):
    cells(ax, [f"q{t}"], (2.4, 2.6 + t), color=plots.ORANGE, mark=[(0, 0)] if t >= 2 else [])
label(ax, "heavy edge: on the chip", (12.3, 5.6))
label(ax, "T′ = 2 queries,\nstay for the whole band", (12.3, 3.4))
label(ax, "U′ = 3 keys and their values,\nthe next three follow", (12.5, 1.5))


# %%
def attend_in_tiles(q, k, v, rows=64, columns=64):
    """Exact attention of (T, D) in tiles; also how many numbers crossed the border."""
    out, moved = torch.empty_like(q), 0
    for first in range(0, len(q), rows):
        mine = q[first : first + rows]  # comes in once
        state = torch.full((len(mine), 1), -math.inf).to(q), 0.0, 0.0
        for keys, values in zip(k.split(columns), v.split(columns), strict=True):  # once a band
            state = take(state, mine @ keys.T / math.sqrt(q.shape[1]), values)
            moved += keys.numel() + values.numel()
        out[first : first + rows] = state[2] / state[1]  # goes out
        moved += 2 * mine.numel()
    return out, moved


# %%
for size in ((64, 64), (7, 30), (200, 16), (1, 200)):  # 200 tokens: few of these divide it
    tiled, moved = attend_in_tiles(q.double(), k.double(), v.double(), *size)
    torch.testing.assert_close(tiled, exact)
    assert moved == 2 * 200 * 16 + math.ceil(200 / size[0]) * 2 * 200 * 16
print("equal to the naive answer for every tile; numbers moved = 2TD + (T/T′) · 2UD")

# %% [markdown]
# Now the size of the tile is a bargain. The taller the band of queries, the fewer times the keys pass, and the more of the chip's memory it takes. Tile the keys alone ($T' = 1$) and
# you move *more* than the naive code does.

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-05-traffic", "caption": "Numbers that cross the border for one head of width 64 over 4,096 tokens, by the height of the tile (64 keys wide), against the naive code; the upper scale is what the tile takes on the chip. With 128 queries a tile, a quarter of the naive traffic; with one, thirty times as much."}, "image": {"alt": "Log-log plot: traffic falls as one over the tile height, from above the naive line at one to about a sixtieth of it at 4,096"}}
T, D, wide = 4096, 64, 64
heights, ticks = 2 ** np.arange(0, 13), [1, 16, 128, 4096]
in_tiles, naive = 2 * T * D + T / heights * 2 * T * D, 4 * T * T + 4 * T * D
fig, ax = plt.subplots(figsize=(5.4, 2.8))
ax.loglog(heights, in_tiles, "o-", label="in tiles")
ax.axhline(naive, color=plots.ORANGE, ls="--", label="naive")
ax.set(xlabel="queries a tile, T′", ylabel="numbers moved")
ax.set_xticks(ticks, ticks)
ax.minorticks_off()
above = ax.secondary_xaxis("top", xlabel="numbers held on the chip")
held = [2 * tall * D + 2 * wide * D + tall * wide for tall in ticks]
above.set_xticks(ticks, [f"{number / 1e3:.0f}k" for number in held])
_ = ax.legend()
print(
    {
        int(tall): round(float(moved / naive), 2)
        for tall, moved in zip(heights, in_tiles, strict=True)
        if tall in ticks
    }
)

# %% [markdown]
# Training gains the same way. The naive code keeps $A$ for the backward pass; the fused one keeps a single number a row and computes the tiles again: more
# multiplications, less traffic, less time {cite}`dao2022flashattention`.
#
# ### Measured
#
# **Prediction.** Doubling $T$ multiplies the naive memory by 4 and the fused memory by 2. The multiplications are the same, so the *time* of both grows about
# fourfold. **What would refute it:** a fused memory slope nearer to 2 than to 1, or a fused time slope near 1.
#
# Memory is what torch's allocator reports while the function runs; time is the best of three, in processor seconds.


# %% tags=["hide-input"]
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
        memory[name].append(peak_bytes(partial(function, *qkv)))
        clock[name].append(seconds(partial(function, *qkv)))


# %%
def slope(y):
    """Least-squares slope of log y over log T: 1 is linear, 2 is quadratic."""
    return np.polyfit(np.log(lengths), np.log(y), 1)[0]


for name in functions:
    print(
        f"{name}: T = {T}: {memory[name][-1] / 1e6:.1f} MB, {1e3 * clock[name][-1]:.0f} ms; ",
        end="",
    )
    print(f"memory grows as T^{slope(memory[name]):.1f}, time as T^{slope(clock[name]):.1f}")
assert memory["naive"][-1] >= 2 * 4 * T * T * 4  # scores and weights, 4 heads, 4 bytes
assert slope(memory["naive"]) > 1.9 and slope(memory["fused"]) < 1.35
assert min(slope(clock["naive"]), slope(clock["fused"])) > 1.2

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-05-growth", "caption": "Fused attention holds memory that grows linearly, naive attention quadratically (left). Time is quadratic for the fused code and, here, steeper still for the naive one (right): fusing makes it faster, but not linear. Dotted: slopes 1 and 2."}, "image": {"alt": "Two log-log panels over T. Memory: a steep naive line and a shallow fused one. Time: two steep lines, fused below"}}
fig, axes = plt.subplots(1, 2, figsize=(7.5, 2.7))
for ax, table, title in ((axes[0], memory, "peak memory (bytes)"), (axes[1], clock, "time (s)")):
    for name, series in table.items():
        ax.loglog(lengths, series, "o-", label=name)
    for power in (1, 2):
        guide = table["fused"][0] * (np.array(lengths) / lengths[0]) ** power
        ax.loglog(lengths, guide, ":", color=plots.GRAY)
    ax.set(xlabel="T", ylabel=title)
    ax.set_xticks(lengths, lengths)
    ax.minorticks_off()
_ = axes[0].legend()

# %% [markdown]
# Memory came as predicted, and so did the fused time. The naive time grew by more than fourfold a doubling, which was not predicted; perhaps because its matrices outgrow the fast memory. Is it traffic on this machine too? Take the naive code apart. The first product does 32 multiplications for each entry of the matrix; dividing by $\sqrt D$ does one. If time were
# arithmetic, the division would cost next to nothing.

# %%
q, k, v = torch.randn(3, 1, 4, lengths[-1], 32)
scores, weights = q @ k.mT, (q @ k.mT).softmax(-1)
parts = {
    "product": lambda: q @ k.mT,
    "divide": lambda: scores / math.sqrt(32),
    "softmax": lambda: scores.softmax(-1),
    "mix": lambda: weights @ v,
}
taken = {name: 1e3 * seconds(run) for name, run in parts.items()}
print("milliseconds:", {name: round(spent) for name, spent in taken.items()})
assert taken["divide"] > 2 * taken["product"] / 32

# %% [markdown]
# The division is far dearer than a thirty-second of the product: it waits for memory. That is what fusing removes.
#
# ## Experiment: a frame far away
#
# Article A says that attention relates distant frames. Take the smallest task that needs it. Of 32 frames each shows one of four
# colours; one frame is marked. At the last frame, say the marked frame's colour. The mark lies 0 to 31 frames back.
#
# All models share a small network for each frame and answer at the last frame. Between lie: **attention** (one layer); a **convolution** over 9 frames (two
# layers of kernel 5); a **dilated** convolution over 31 frames (kernel 3, steps 1, 2, 4, 8) {cite}`bai2018tcn`; and a plain **mean** over time. Each has
# the same clips, the same number of steps, and the same four rates to choose from: the lowest whose validation loss is within 0.01 of
# the best.
#
# **Prediction.** Attention is right at every distance; the convolution up to 8 frames back and at chance beyond, since it does not see them; the dilated one nearly everywhere.
# **What would refute it:** attention falls off with distance, or the small convolution knows what it does not see.


# %%
def lookup(n, seed, frames=32, back=None):
    """Clips of coloured frames, one of them marked; the label is its colour."""
    g = torch.Generator().manual_seed(seed)
    color = torch.randint(4, (n, frames), generator=g)
    away = torch.randint(frames, (n,), generator=g) if back is None else torch.full((n,), back)
    marked = F.one_hot(frames - 1 - away, frames)
    clips = torch.cat([F.one_hot(color, 4), marked[..., None]], -1)  # (n, T, 4 + 1)
    return clips + 0.05 * torch.randn(clips.shape, generator=g), (color * marked).sum(1)


# %%
class Finder(nn.Module):
    """A network for each frame, something between frames, an answer at the last one."""

    def __init__(self, between):
        super().__init__()
        self.frame = nn.Sequential(nn.Linear(5, 64), nn.ReLU(), nn.Linear(64, 32))
        self.between, self.head = between(), nn.Linear(32, 4)

    def forward(self, x):
        return self.head(self.between(self.frame(x)))  # (B, T, 5) -> (B, T, 32) -> (B, 4)


# %%
class Look(Attention):
    """The last frame asks all frames."""

    def forward(self, x):
        return x[:, -1] + super().forward(x[:, -1:], x)[:, 0]  # (B, T, D) -> (B, D)


class Mean(nn.Module):
    def forward(self, x):
        return x.mean(1)  # (B, T, D) -> (B, D)


# %%
class Convolve(nn.Module):
    """Causal convolutions, read at the last frame."""

    def __init__(self, kernel, steps):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv1d(32, 32, kernel, dilation=step) for step in steps)

    def forward(self, x):
        x = x.mT  # (B, T, D) -> (B, D, T)
        for layer in self.layers:
            past = (layer.kernel_size[0] - 1) * layer.dilation[0]
            x = x + F.relu(layer(F.pad(x, (past, 0))))
        return x[..., -1]  # (B, D, T) -> (B, D)


# %%
BETWEEN = {
    "attention": lambda: Look(32, 2),
    "convolution": lambda: Convolve(5, (1, 1)),
    "dilated": lambda: Convolve(3, (1, 2, 4, 8)),
    "mean": Mean,
}


# %%
def find(name, seed, rate):
    """Train one finder for 288 steps; return it and its best validation loss."""
    torch.manual_seed(seed)
    model = Finder(BETWEEN[name])
    data = TensorDataset(*lookup(3072, seed)), TensorDataset(*lookup(300, 99))
    options = dict(epochs=6, batch_size=64, seed=seed, progress=False)
    return model, min(training.fit(model, *data, lr=rate, **options).val_loss)


# %%
RATES, found = (1e-3, 1e-2, 1e-1, 1.0), {}
for name in BETWEEN:
    tried = {rate: find(name, 0, rate) for rate in RATES}
    lowest = min(loss for _, loss in tried.values())
    best = min(rate for rate in RATES if tried[rate][1] < lowest + 0.01)
    assert RATES[0] < best < RATES[-1], "the best rate lies on the edge of the grid: widen it"
    found[name] = [tried[best][0]] + [find(name, seed, best)[0] for seed in range(1, sizes.seeds)]
    print(f"{name:12} rate {best}, validation loss {tried[best][1]:.3f}")


# %%
def right(model, data):
    return evaluation.accuracy(training.predict(model, data[0]), data[1])


distances, longer = list(range(0, 32, 3)), [32, 64, 128, 256, 512]
by_distance = [lookup(300, 100 + back, back=back) for back in distances]
by_length = [lookup(500, 200, frames=n) for n in longer]
far, long = (
    {
        name: np.array([[right(m, d) for d in sets] for m in models])
        for name, models in found.items()
    }
    for sets in (by_distance, by_length)
)  # name -> (seeds, sets)

# %%
for name in BETWEEN:
    print(
        f"{name:12} to 6 back {far[name][:, :3].mean():.2f}; 9 and more {far[name][:, 3:].mean():.2f}; "
        f"512 frames {long[name][:, -1].round(2).tolist()}"
    )

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-05-distance", "caption": "Left: accuracy by distance (mean and range over seeds). Attention is right at any distance; the small convolution drops to chance where its view ends; but the dilated one reaches far too, and so does a plain mean. Right: on clips longer than in training only attention holds."}, "image": {"alt": "Two panels. By distance: attention, dilated and mean near one, the small convolution falls to a quarter after eight frames. By length: attention stays at one, the others fall"}}
fig, axes = plt.subplots(1, 2, figsize=(7.6, 2.9), sharey=True)
for ax, table, grid in ((axes[0], far, distances), (axes[1], long, longer)):
    for (name, numbers), style in zip(table.items(), ("o-", "s-", "^--", "v:"), strict=True):
        ax.plot(grid, numbers.mean(0), style, ms=4, label=name)
        ax.fill_between(grid, numbers.min(0), numbers.max(0), alpha=0.15)
    ax.axhline(0.25, color=plots.GRAY, ls="--", lw=1)
axes[0].set(xlabel="frames back", ylabel="accuracy", ylim=(0, 1.05))
axes[1].set(xlabel="frames in the clip", xscale="log", xticks=longer, xticklabels=longer)
axes[1].minorticks_off()
_ = axes[0].legend(fontsize=7, loc="center right")

# %%
drop = far["attention"][:, :3].mean(1) - far["attention"][:, 3:].mean(1)  # near minus far, by seed
everywhere, evenly = far["attention"].min() > 0.9, abs(drop).max() < 0.02
assert far["convolution"][:, 3:].mean() < 0.35
ledger.claim(
    "A6",
    "holds" if evenly and everywhere else "partly" if everywhere else "refuted",
    f"One layer was right at every distance ({far['attention'].min():.2f} at worst). Not only attention: "
    f"a dilated convolution reached as far ({far['dilated'][:, 3:10].mean():.2f}), and so did a mean "
    f"({far['mean'].mean():.2f}). And the score matrix grows as T to the {slope(memory['naive']):.1f}.",
)

# %% [markdown]
# The prediction held, and yet the mean ought to sober you: *reaching far is nothing special*. A mean reaches every frame. What attention adds
# shows on the right: it turns unmarked frames down however many there are, where the mean is drowned.
#
# ## Experiment: do heads share out the work?
#
# "Several heads attend to different kinds of information at once." Then give them two kinds. In each of 16 frames a ball shows one of four colours, at some size and in some light. The
# question is double: which colour did it have when it was **largest**, and which when it was **brightest**? One learned query asks. The 16 answers are the pairs of colours; chance is
# one in 16. One softmax has one set of shares: it chooses one frame, or splits them between two and mixes what they say; two can choose two.
#
# **Prediction, if the article is right:** with two heads or more, some head looks at the largest frame and another at the brightest, from every random start. **What would
# refute it:** heads that all look at the same one.


# %%
def double(n, seed, frames=16):
    """Colour, size and light of each frame; the pair of colours; the two frames asked for."""
    g = torch.Generator().manual_seed(seed)
    color = torch.randint(4, (n, frames), generator=g)
    measures = torch.rand(n, frames, 2, generator=g)
    asked = measures.argmax(1)  # (n, 2): the largest frame, the brightest
    first, second = color.gather(1, asked).unbind(1)
    return torch.cat([F.one_hot(color, 4), measures], -1), 4 * first + second, asked


# %%
class Ask(nn.Module):
    """A network for each frame, one learned query, an answer."""

    def __init__(self, heads):
        super().__init__()
        self.frame = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 32))
        self.query, self.attend = nn.Parameter(torch.randn(1, 1, 32)), Attention(32, heads)
        self.head = nn.Linear(32, 16)

    def forward(self, x):
        asked = self.query.expand(len(x), -1, -1)  # (1, 1, D) -> (B, 1, D)
        return self.head(self.attend(asked, self.frame(x))[:, 0])  # -> (B, 16)


# %%
def train_asker(heads, seed):
    """Train for 384 steps."""
    torch.manual_seed(seed)
    model = Ask(heads)
    data = [TensorDataset(*double(n, s)[:2]) for n, s in ((4096, seed), (500, 998))]
    options = dict(epochs=6, lr=3e-3, batch_size=64, seed=seed, progress=False)
    training.fit(model, *data, **options)
    return model


# %%
clips, answers, asked = double(1000, 999)


@torch.no_grad()
def kinds(model):
    """For each head: L if it looks at the largest frame in most clips, B for the brightest."""
    frames = model.frame(clips.to(model.query.device))
    weights = model.attend.look(model.query.expand(len(clips), -1, -1), frames)
    top = weights[:, :, 0].argmax(-1).cpu()  # (n, M, 1, T) -> (n, M)
    hits = (top[..., None] == asked[:, None]).float().mean(0)  # (M, 2)
    return "".join("LB"[hit.argmax()] if hit.max() > 0.5 else "-" for hit in hits)


# %%
askers = {m: [train_asker(m, seed) for seed in range(sizes.starts)] for m in (1, 2, 4, 8)}
reach = {m: [right(a, (clips, answers)) for a in models] for m, models in askers.items()}
looks = {m: [kinds(model) for model in models] for m, models in askers.items()}
for m in askers:
    print(f"{m} heads: accuracy", *(f"{score:.2f}" for score in reach[m]), "| looks", *looks[m])


# %%
@torch.no_grad()
def without(model, m):
    """Accuracy when head m's answer is set to zero."""
    weight = model.attend.out.weight
    kept, width = weight.clone(), weight.shape[1] // model.attend.heads
    weight[:, m * width : (m + 1) * width] = 0
    score = right(model, (clips, answers))
    weight.copy_(kept)
    return score


# %%
both = [(m, i) for m in (2, 4, 8) for i, kind in enumerate(looks[m]) if {"L", "B"} <= set(kind)]
lost = {(m, i): [reach[m][i] - without(askers[m][i], head) for head in range(m)] for m, i in both}
for (m, i), losses in lost.items():
    print(f"{m} heads, start {i}, {looks[m][i]}: lost without each", *(f"{v:.2f}" for v in losses))

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-05-heads", "caption": "Left: accuracy of models with one to eight heads, one dot a random start; the dashed line is what answering one question and guessing the other gives. Whether both questions are answered depends on the start. Right: what is lost without one head, in the models that look at both (dashed: 0.05)."}, "image": {"alt": "Left, dots over the number of heads: all low for one and two heads, some low and some high for four and eight. Right, dots of lost accuracy per head, many near zero and some large"}}
fig, axes = plt.subplots(1, 2, figsize=(7.6, 2.7))
for place, values_m in enumerate(reach.values()):
    jitter = place + np.linspace(-0.15, 0.15, len(values_m))
    axes[0].plot(jitter, values_m, "o", color=plots.BLUE, alpha=0.8)
axes[0].axhline(0.25, color=plots.GRAY, ls="--", lw=1)
axes[0].set(
    xticks=range(4), xticklabels=list(reach), xlabel="heads", ylabel="accuracy", ylim=(0, 1.03)
)
for place, m in enumerate((2, 4, 8)):
    gone = [v for key in both if key[0] == m for v in lost[key]]
    axes[1].plot(
        place + np.linspace(-0.2, 0.2, len(gone)), gone, "o", color=plots.ORANGE, alpha=0.8
    )
axes[1].set(
    xticks=range(3), xticklabels=(2, 4, 8), xlabel="heads", ylabel="accuracy lost without a head"
)
_ = axes[1].axhline(0.05, color=plots.GRAY, ls="--", lw=1)

# %%
several = sum(len(looks[m]) for m in (2, 4, 8))
ledger.claim(
    "A5",
    {several: "holds", 0: "refuted"}.get(len(both), "partly"),
    f"Asked for two things at once, models with 2 to 8 heads came to look at both in {len(both)} of "
    f"{several} random starts (2 heads: {sum(m == 2 for m, _ in both)} of {len(looks[2])}); in the "
    "others no head looked at the second. Nothing in the loss shares out the work.",
)

# %% [markdown]
# Look at the letters. With two heads, both looked at the *same* frame from every start: each is trained to lower the loss at once, and the same half of the question was nearest to both. That they do not part in
# 384 steps does not say that they never would. More heads make it likelier that both halves find somebody, and then some can be taken away again at little
# cost. That is one reason to have many, and it is a lottery, not a division of labour.
#
# Trained language models show the same two faces. In translation, {cite:t}`voita2019heads` found a few heads with a job one can name, and could prune most of the others; {cite:t}`michel2019heads` removed
# a large part of the heads *after* training at little cost, and some layers got by with one. So before you write "this head attends to …", take it away and see what goes.
#
# ## Break it: softmax over the wrong axis
#
# `softmax(-2)` instead of `softmax(-1)`: one character more or less. Shapes fit, the loss falls. Train the far-away task with every frame asking, right and wrong:


# %%
class Everyone(Attention):
    """All frames ask all frames; read at the last one."""

    def forward(self, x):
        return (x + super().forward(x))[:, -1]  # (B, T, D) -> (B, D)


class Wrong(Everyone):
    def look(self, x, context, may=None):
        q, k = self.split(self.q(x)), self.split(self.k(context))
        return (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-2)  # over the queries


# %%
BETWEEN |= {"right axis": lambda: Everyone(32, 2), "wrong axis": lambda: Wrong(32, 2)}
axis = {name: find(name, 0, 1e-2) for name in ("right axis", "wrong axis")}
for name, (model, loss) in axis.items():
    score = right(model, by_length[0])
    print(f"{name}: validation loss {loss:.2f}, accuracy {score:.2f}; chance 0.25")
assert axis["wrong axis"][1] < 0.7 * math.log(4)  # it learns

# %% [markdown]
# You would not find this by looking at a loss curve, nor at the accuracy. Now each *key* hands out one unit of attention among the queries, and a query may end with much or
# little. The check is the definition: rows sum to one.

# %%
for name, (model, _) in axis.items():
    with torch.no_grad():
        tokens = model.frame(by_length[0][0][:100].to(model.head.weight.device))
        rows = model.between.look(tokens, tokens).sum(-1)  # (B, M, T, T) -> (B, M, T)
    print(f"{name}: row sums from {rows.min():.2f} to {rows.max():.2f}")
assert (rows - 1).abs().max() > 0.2

# %% [markdown]
# It is worse under a causal mask. The shares of a key are then normalised over *all later queries*, so the future leaks in through the
# denominator, past a perfectly correct mask. A streaming model would be trained on what it cannot have. The gradient tells:

# %%
torch.manual_seed(5)
x = torch.randn(8, 4, dtype=torch.float64, requires_grad=True)
for side in (-1, -2):
    masked = (x @ x.T / 2).masked_fill(~causal, -math.inf).softmax(side)
    leak = torch.autograd.grad((masked @ x)[3].sum(), x)[0][4:].abs().max().item()
    print(f"softmax over axis {side}: influence of later frames on frame 3: {leak:.3f}")
    assert (leak == 0) == (side == -1)

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
        return self.out(rearrange(mixed, "b m t d -> b t (m d)"))


# %%
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
# | A | several heads attend to different kinds of information | they can; whether they come to do so is left to chance, and has to be tested by taking one away |
# | A | attention relates distant frames | at any distance, in one layer; a mean and a dilated convolution reach far as well, but of the four only attention held on longer clips |
#
# The verdicts are on the {doc}`/claims` page. What a whole block costs is counted in {chapter}`06`.
#
# ## What you should know
#
# - Attention is a weighted mean; the weights come from comparing a query with keys.
# - $\sqrt D$ keeps scores at unit variance, so that every query keeps a gradient.
# - A row with nothing to see is $0/0$: decide what it answers.
# - Fused attention does the same multiplications with memory linear in $T$, and less traffic. Its time is still quadratic.
# - A second head *may* ask a second question. Nothing makes it.
# - Three checks find most mistakes: rows sum to one, no gradient from the future, two evaluations agree.
#
# **Recall.** Answer before you unfold.
#
# 1. What does attention compute if all keys are equal?
# 2. You set forbidden weights to 0 *after* the softmax. Is a causal layer then causal?
# 3. Why does tiling the keys alone not save traffic?
#
# ```{admonition} Answers
# :class: dropdown
# 1. The plain mean of the values.
# 2. No: the denominator still holds the future's scores, and rows no longer sum to one.
# 3. Each query would fetch all keys and values again: $2TUD$ numbers, more than the $4TU$ of the naive code as soon as $D > 2$.
# ```
#
# ## Exercises
#
# ```{exercise} Warm-up: by hand
# :label: ex-05-hand
# Work out the weights and the answer for the query $(0, 2, 0, 0)$ with the keys and values of "One question, by hand". Which query gives weights of one half, one half and nearly zero?
# ```
#
# ```{solution} ex-05-hand
# :class: dropdown
# The scores are 0, 2, 0; the weights $1/(2+e^2)$, $e^2/(2+e^2)$ and $1/(2+e^2)$, that is 0.11, 0.79, 0.11; the answer is (12, 10.4), as `attend_one` says. Half and half: any query
# with $q\cdot k_0 = q\cdot k_2$ far above $q \cdot k_1$, such as $(9, 0, 0, 0)$.
# ```
#
# ```{exercise} Warm-up: adding a constant
# :label: ex-05-constant
# Add the same vector to every key. Which answers change? Add it to every value?
# ```
#
# ```{solution} ex-05-constant
# :class: dropdown
# Keys: none. Each score of a query grows by the same amount, which softmax does not see. Values: each answer grows by that vector, since the weights sum to one.
# ```
#
# ```{exercise} Warm-up: the size of a tile
# :label: ex-05-tile
# A chip holds 24,000 numbers, the width is $D = 64$ and a tile is 64 keys wide. What is the tallest tile, and how much of the naive traffic is left for long clips?
# ```
#
# ```{solution} ex-05-tile
# :class: dropdown
# Held at once: $2T'D$ (queries and answers), $2U'D$, and $T'U'$ scores: $128\,T' + 8192 + 64\,T' \le 24000$ gives $T' = 82$. For large $T$ the traffic is $2T^2D/T'$ against $4T^2$:
# $D/(2T') = 64/164$, about four tenths.
# ```
#
# ```{exercise} Build: a local window
# :label: ex-05-window
# Write `window(n, w)`, a mask that lets a query see the $w$ frames before and after. Tests to pass: by gradient, two layers reach $2w$
# frames and no more; each row of weights sums to one; `window(n, n)` equals no mask.
# ```
#
# ````{solution} ex-05-window
# :class: dropdown
# ```python
# def window(n, w):
#     at = torch.arange(n)
#     return (at[:, None] - at).abs() <= w
# ```
# For the reach, call a layer twice with the mask and take the gradient of one output, as under "Masks".
# ````
#
# ```{exercise} Build: causal attention in tiles
# :label: ex-05-blocks
# Give `attend_in_tiles` a causal mode that skips tiles lying wholly in the future. Tests to pass: equal to `attention(..., causal=True)` in
# double precision for lengths that no tile divides; at $T = 512$ and tiles of 64 by 64, 28 of 64 tiles are never touched.
# ```
#
# ````{solution} ex-05-blocks
# :class: dropdown
# In the inner loop, with `start` the index of the tile's first key:
# ```python
# if start > first + len(mine) - 1:
#     break  # every key lies after every query of this tile
# later = torch.arange(start, start + len(keys)) > torch.arange(first, first + len(mine))[:, None]
# scores = (mine @ keys.T / math.sqrt(q.shape[1])).masked_fill(later, -math.inf)
# ```
# No row is ever all $-\infty$ when its maximum is taken for the first time, because the first tile of keys holds key 0.
# ````
#
# ```{exercise} Explore: a query that must match
# :label: ex-05-match
# Change `lookup`: each frame shows one of 32 symbols and a colour, and the last frame repeats the symbol of the frame that is asked for. A mean no longer knows which colour
# is meant. How many clips does attention need? Does the dilated convolution learn it?
# ```
#
# ```{hint}
# :class: dropdown
# Draw symbols without repetition (`torch.randperm`), so that the answer is unique. Give every model the same four rates, and report the number of steps with each score.
# ```
#
# ```{exercise} Explore: make them differ
# :label: ex-05-differ
# Add a term to the loss of `Ask` that asks two heads to look at different frames. In how many of ten starts do two heads now answer both questions? What does the term cost with eight heads?
# ```
#
# ```{hint}
# :class: dropdown
# The mean over clips of $\sum_u a_u a'_u$, with $a$ and $a'$ the weights of two heads, is 1 when both look at one and the same frame and 0 when they share none. Choose its weight on validation clips.
# ```
#
# ## References
#
# ```{bibliography}
# :filter: docname in docnames
# ```
