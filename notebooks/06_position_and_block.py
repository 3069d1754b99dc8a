# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Position and the block
#
# **Claim.** Attention treats the frames of a clip as a bag: order has to be written in, and a position code is right when it passes a test
# of one line. With a norm before, a sum after, and a small network for each token, attention becomes the block that every
# Transformer is a stack of; with patches for tokens, it reads video.
#
# | | |
# |---|---|
# | **You will be able to** | prove that attention is blind to order, and write the sinusoidal, learned and rotary codes; build the block and prove it equal to PyTorch's in value and gradient; cut a clip into patches and tubelets; count when divided attention is dearer than joint |
# | **You need** | chapters 3 and 5; sine, cosine and a 2 × 2 rotation |
# | **Data** | the motion set of chapter 3, level 1, and a second set with clips of twice the length |
# | **Answers** | article A: position, cost |

# %% tags=["hide-input", "protocol"]
import math
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from sora_nb import evaluation, training
from sora_nb.data import motion
from sora_nb.layers.transformer import Encoder
from sora_nb.settings import settings

sizes = settings(T0=dict(seeds=3, epochs=6), T1=dict(epochs=20))

# %% tags=["hide-input"]
import contextlib
import io
import textwrap
import time
from unittest import mock

import matplotlib.pyplot as plt
from einops import rearrange
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sora_nb import ledger, plots
from sora_nb.layers import attention as lib
from sora_nb.layers import position
from sora_nb.layers.frames import FrameCNN
from sora_nb.layers.patches import TubeletEmbedding
from sora_nb.layers.transformer import DividedBlock, EncoderBlock
from sora_nb.schematics import arrow, box, canvas, cells, label

plots.use_style()
torch.set_num_threads(1)  # one thread, so that processor time is a fair clock on a busy machine

# %% [markdown]
# ## See it first
#
# Three orders of one clip. One token a frame: its pixels, through a linear layer. An untrained attention layer reads the tokens and its
# answers are averaged over time; the number on the left sums up what came out.

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-06-bag", "caption": "One clip forwards, backwards and shuffled, with the output of the same attention layer on the left. The movement is different in each row, the output is not."}, "image": {"alt": "Three rows of sixteen frames of a digit over a photograph, in forward, backward and random order; the number written left of each row is the same"}}
torch.manual_seed(0)
clip = motion.load(motion.MotionSpec(level=1), "test").float()[2]  # (T, C, H, W)
token, layer = nn.Linear(3 * 32 * 32, 64), nn.MultiheadAttention(64, 4, batch_first=True)
orders = {
    "forwards": torch.arange(16),
    "backwards": torch.arange(16).flip(0),
    "shuffled": torch.randperm(16),
}
names = []
for name, order in orders.items():
    x = token(clip[order].flatten(1))[None]  # -> (1, T, D)
    names.append(f"{name}  {layer(x, x, x)[0].mean(1).sum().item():.4f}")
_ = plots.filmstrip([clip[order] for order in orders.values()], ylabels=names, width=0.5)

# %% [markdown]
# Nothing about this layer is broken. It is the layer inside every Transformer.
#
# ## Symbols and shapes
#
# | symbol | meaning | shape |
# |---|---|---|
# | $X$ | tokens, one a row; $T$ of them, each $D$ wide | $(T, D)$ |
# | $\Pi$ | a permutation matrix: $\Pi X$ holds the rows of $X$ in another order | $(T, T)$ |
# | $t$, $u$ | positions of a query and of a key, counted from 0 | |
# | $\omega_i$ | angular frequency of pair $i$ of numbers | $D/2$ of them, radians per position |
# | $\psi_t$ | code of position $t$ | $(D)$ |
# | $\operatorname{turn}(\alpha)$ | rotation of a pair of numbers by the angle $\alpha$ | $(2, 2)$ |
# | $S$ | places in a frame, when it is cut into patches | |
#
# ## What a permutation takes away
#
# Write attention of a clip to itself as in {chapter}`05`: $Q = XW_q$, $K = XW_k$, $V = XW_v$, and $\operatorname{attend}(X) = \operatorname{softmax}(QK^\top/\sqrt D)\,V$.


# %%
def attend(x, w_q, w_k, w_v):
    """Attention of a sequence to itself."""
    q, k, v = x @ w_q, x @ w_k, x @ w_v
    weights = (q @ k.T / math.sqrt(k.shape[1])).softmax(dim=-1)  # (T, D), (D, T) -> (T, T)
    return weights @ v  # (T, T), (T, D) -> (T, D)


# %% [markdown]
# Now shuffle the frames: $X \to \Pi X$. Queries, keys and values are shuffled too, and the scores become $\Pi Q\,(\Pi K)^\top = \Pi\,QK^\top\,\Pi^\top$: the same
# numbers, with rows and columns moved. Softmax works on each row and does not care where in the row a number stands. And since
# $\Pi^\top \Pi = I$,
#
# $$\operatorname{attend}(\Pi X) = \Pi\operatorname{softmax}\!\Big(\tfrac{QK^\top}{\sqrt D}\Big)\Pi^\top\,\Pi V = \Pi\,\operatorname{attend}(X).$$
#
# Shuffle what goes in, and what comes out is shuffled the same way and otherwise unchanged. This is called **permutation equivariance**.

# %%
torch.manual_seed(0)
x, weights = torch.randn(7, 8).double(), [torch.randn(8, 8).double() for _ in range(3)]
for _ in range(20):
    order = torch.randperm(7)
    torch.testing.assert_close(attend(x[order], *weights), attend(x, *weights)[order])

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-06-permute", "caption": "Three tokens of two numbers through attention (identity matrices for W). Swap the first two rows before or after: the same rows come out. The mean of the rows, at the bottom, does not change at all."}, "image": {"alt": "Tables: three tokens, an arrow attend, three answers; below, the tokens with the first two rows swapped and the answers with the first two rows swapped; the means under both are equal"}}
three = torch.tensor([[1.0, 0], [0, 2], [2, 1]])
ax = canvas(15, 8.6, unit=0.42)
for n, order in enumerate(([0, 1, 2], [1, 0, 2])):
    inside, outside = three[order], attend(three[order], *[torch.eye(2)] * 3)
    y, words = 1.2 + 4.2 * n, [f"frame {i}" for i in order]
    cells(ax, inside.tolist(), (2.4, y), rows=words, title="ΠX" if n else "X")
    arrow(ax, (4.6, y + 1.5), (7.2, y + 1.5), "attend")
    cells(ax, outside.tolist(), (7.4, y), form="{:.2f}", title="the answers", color=plots.GREEN)
    arrow(ax, (9.6, y + 1.5), (11.6, y + 1.5), "mean")
    cells(ax, outside.mean(0).tolist(), (11.8, y + 1), form="{:.2f}", color=plots.GREEN)

# %% [markdown]
# Norms and feed-forward layers, which you build below, look at one token at a time, so they commute with $\Pi$ as well. Stack as many blocks as you like: the whole
# encoder is equivariant. Pool its output by a mean and the order is gone altogether, because a sum does not know the order of its terms.
# That is the premise of the theorem of {chapter}`03`: a clip and its reversal get the same scores, and the direction is a coin toss.

# %%
encoder = Encoder(dim=64, depth=4, heads=4).double().eval()
x, pooled = torch.randn(5, 16, 64).double(), {}
with torch.no_grad():
    for causal in (False, True):
        ways = [encoder(clip, causal=causal).mean(1) for clip in (x, x.flip(1))]
        pooled[causal] = (ways[0] - ways[1]).abs().max().item()
print(f"reversal moves the mean by {pooled[False]:.0e}; under a causal mask by {pooled[True]:.2f}")
assert pooled[False] < 1e-12 < 0.01 < pooled[True]

# %% [markdown]
# The second number is the exception you should know. A causal mask treats first and last differently, so it does carry order. Encoders for video rarely have one.
#
# ## Waves: the sinusoidal code
#
# You need a vector $\psi_t$ for each position, to be added to the token at $t$. The plain number $t$ would do for a start, but it grows
# without bound and swamps the features. A clock is better: its hands stay on the circle, one is fast and tells neighbours apart, another is slow and
# tells far things apart. The original Transformer {cite}`vaswani2017` uses $D/2$ hands, and notes the sine and the cosine of each:
#
# $$\psi_{t,\,2i} = \sin(t\,\omega_i),\qquad \psi_{t,\,2i+1} = \cos(t\,\omega_i),\qquad \omega_i = 10000^{-2i/D}.$$


# %%
def waves_loop(length, dim):
    """The code, entry by entry."""
    code = torch.zeros(length, dim)
    for t in range(length):
        for i in range(dim // 2):
            angle = t * 10_000 ** (-2 * i / dim)
            code[t, 2 * i], code[t, 2 * i + 1] = math.sin(angle), math.cos(angle)
    return code


# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-06-table", "caption": "The code of five positions at D = 4, and its two hands. The first hand turns by 1 radian a position, the second by 0.01: within a short clip its sine hardly leaves 0."}, "image": {"alt": "A table of five rows and four columns: sine and cosine of t, sine and cosine of t over a hundred, with numbers from minus 0.99 to 1"}}
ax = canvas(15, 7, unit=0.42)
names = ["sin ω₀t", "cos ω₀t", "sin ω₁t", "cos ω₁t"]
for i in range(2):
    two = waves_loop(5, 4)[:, 2 * i : 2 * i + 2]
    wide = [[f"{a:.2f}", f"{b:.2f}"] for a, b in two.tolist()]
    rows = [f"t = {t}" for t in range(5)] if i == 0 else ()
    for c in range(2):
        column = [[number] for number in two[:, c].tolist()]
        at = (2.4 + 6 * i + 2 * c, 1.6)
        cells(ax, column, at, form="{:.2f}", rows=rows if c == 0 else (), title=names[2 * i + c])
label(ax, "ω₀ = 1", (3.9, 0.3))
label(ax, "ω₁ = 0.01", (9.9, 0.3))

# %% [markdown]
# Vectorised, and for any list of positions, also fractional ones. You will want those later.


# %% tags=["protocol"]
def hands(at, dim):
    """Where each hand stands at the positions `at`: angles in radians."""
    omega = 10_000 ** (-torch.arange(0, dim, 2, device=at.device) / dim)
    return torch.outer(at.float(), omega)  # (T), (D/2) -> (T, D/2)


def waves(at, dim):
    """The code of the positions `at`."""
    angles = hands(at, dim)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)  # -> (T, D/2, 2) -> (T, D)


# %%
torch.testing.assert_close(waves(torch.arange(32), 64), waves_loop(32, 64))
torch.testing.assert_close(waves(torch.arange(32), 64), position.sinusoidal(32, 64))

# %% [markdown]
# What does attention make of it? It compares tokens by dot products, so look at those. With $\sin a\sin b + \cos a\cos b = \cos(a-b)$,
#
# $$\psi_t\cdot \psi_u = \sum_i \cos\big((t-u)\,\omega_i\big):$$
#
# the product depends on the *distance* alone, is largest at 0, and is the same in both directions. It does not simply fall with distance, though: a sum of cosines comes back up.

# %%
code = waves(torch.arange(64), 64).double()
products = code @ code.T
for distance in range(64):
    diagonal = products.diagonal(distance)
    torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-4, rtol=0)
rises = torch.nonzero(products[0].diff() > 0).flatten() + 1
print(
    f"product at distance 0: {products[0, 0]:.1f}; it rises again at distance {rises[0]}, and {len(rises)} times in 63 steps"
)
assert products[0].argmax() == 0 and len(rises) > 0

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-06-waves", "caption": "Left: the sinusoidal code of 64 positions; fast waves on the left, slow ones to the right, where most columns hardly change. Middle: products of all pairs; each diagonal is constant. Right: the product over the distance. It falls, but not steadily."}, "image": {"alt": "Left: a heat map whose left columns ripple and whose right columns are plain. Middle: a square heat map with a bright main diagonal. Right: a line that falls from 32 with ripples"}}
fig, axes = plt.subplots(1, 3, figsize=(7.6, 2.5))
axes[0].imshow(code, aspect="auto")
axes[0].set(xlabel="dimension", ylabel="position t")
axes[1].imshow(products)
axes[1].set(xlabel="position u", ylabel="position t")
axes[2].plot(products[0])
_ = axes[2].set(xlabel="distance", ylabel="product")

# %% [markdown]
# A second property makes the code easy to use. Move on by one position and each hand turns by its $\omega_i$, wherever it stood. So $\psi_{t+1}$ is *one* matrix, built of $2\times 2$ rotations, times $\psi_t$, for all
# $t$: a linear layer can learn "the frame before me" once and use it everywhere. You can find the matrix without any formula: fit it to half of the positions, and try it on the others.

# %%
long = waves(torch.arange(200), 8).double()
fitted = torch.linalg.lstsq(
    long[:100], long[3:103]
).solution  # from each code to the one three later, by least squares
error = (long[100:197] @ fitted - long[103:200]).abs().max().item()
print(f"largest error of 'three later' on positions it was not fitted to: {error:.0e}")
assert error < 1e-3
torch.testing.assert_close(fitted @ fitted.T, torch.eye(8).double(), atol=1e-3, rtol=0)

# %% [markdown]
# ## A table: the learned code
#
# Why not let training choose? Keep one row of numbers a position and learn it like any other weight {cite}`dosovitskiy2021vit`. It costs $D$ weights a position, and it has an end.

# %% tags=["nbval-check-output"]
table, x = position.LearnedPosition(max_length=16, dim=64), torch.randn(2, 10, 64)
torch.testing.assert_close(table(x), x + table.table[:10])
try:
    table(torch.randn(2, 32, 64))
    raise AssertionError("a sequence longer than the table was not refused")
except ValueError as error:
    print(textwrap.fill(str(error), 88))

# %% [markdown]
# ## Turn, do not add: the rotary code
#
# Adding mixes *what* and *where* in one sum. After the linear maps, the product of a query and a key holds content × content, content ×
# position, position × content and position × position, and training must sort them out. **Rotary** position embedding {cite}`su2021roformer` leaves the tokens
# alone and turns queries and keys instead, pair by pair, by an angle that grows with the position:
#
# $$\tilde q_t = \operatorname{turn}(t\,\omega)\,q_t,\qquad \tilde k_u = \operatorname{turn}(u\,\omega)\,k_u,\qquad
#   \tilde q_t\cdot\tilde k_u = q_t^\top \operatorname{turn}(t\,\omega)^\top \operatorname{turn}(u\,\omega)\,k_u = q_t^\top \operatorname{turn}\big((u-t)\,\omega\big)\,k_u.$$
#
# Two things follow at once. The score knows $u - t$ and nothing else of the positions. And a rotation changes no length, so no frame is
# favoured for where it stands. First by loop, on one vector:


# %%
def turn_loop(vector, t):
    """Rotate the pairs (0, 1), (2, 3), … of one vector that stands at position t."""
    turned = vector.clone()
    for i in range(len(vector) // 2):
        alpha = t * 10_000 ** (-2 * i / len(vector))
        a, b = vector[2 * i], vector[2 * i + 1]
        turned[2 * i] = a * math.cos(alpha) - b * math.sin(alpha)
        turned[2 * i + 1] = a * math.sin(alpha) + b * math.cos(alpha)
    return turned


# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-06-turn", "caption": "One pair of a query (orange) and of a key (blue), turned by 1 radian a position. Query at 0 and key at 1 (left), both three positions later (right): the numbers change, the angle between the two and their product do not."}, "image": {"alt": "Two circles with two arrows each. Coordinates are printed at the arrow heads; the angle between the arrows is the same in both circles and the printed product is 2.25 in both"}}
q, k = torch.tensor([2.0, 0.5]), torch.tensor([1.5, 0.0])
fig, axes = plt.subplots(1, 2, figsize=(6.6, 3))
for ax, (t, u) in zip(axes, ((0, 1), (3, 4)), strict=True):
    for vector, at, color, name in ((q, t, plots.ORANGE, "q"), (k, u, plots.BLUE, "k")):
        a, b = turn_loop(vector, at).tolist()
        ax.add_patch(plt.Circle((0, 0), vector.norm(), fill=False, color=color, lw=0.5, ls=":"))
        ax.annotate("", (a, b), (0, 0), arrowprops=dict(arrowstyle="-|>", color=color, lw=1.6))
        ax.text(
            1.3 * a,
            1.3 * b,
            f"{name} at {at}\n({a:.1f}, {b:.1f})",
            ha="center",
            va="center",
            fontsize=8,
        )
    product = turn_loop(q, t) @ turn_loop(k, u)
    ax.set(xlim=(-3.3, 3.3), ylim=(-2.5, 2.5), aspect="equal", title=f"product {product:.2f}")
    ax.axis("off")
torch.testing.assert_close(turn_loop(q, 0) @ turn_loop(k, 1), turn_loop(q, 3) @ turn_loop(k, 4))


# %% [markdown]
# Vectorised. The angles come as a table $(T, D/2)$; strided slices pick the two members of every pair.


# %%
def turn(x, angles):
    """Rotate neighbouring pairs of x (…, T, D) by angles (T, D/2)."""
    a, b = x[..., 0::2], x[..., 1::2]  # (…, T, D) -> 2 × (…, T, D/2)
    cos, sin = angles.cos(), angles.sin()
    return torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2)  # -> (…, T, D)


x, angles = torch.randn(12, 16), hands(torch.arange(12), 16)
torch.testing.assert_close(
    turn(x, angles), torch.stack([turn_loop(row, t) for t, row in enumerate(x)])
)
torch.testing.assert_close(turn(x, angles), position.apply_rotary(x, angles))

# %% [markdown]
# Now the one-line test of the claim. Let every position hold the *same* query and the same key. Then the score of $(t, u)$ may depend
# on $u-t$ only: shifting both by one changes nothing.


# %%
def shift_gap(rotate, dim=16, length=24):
    """Change of a score when query and key both move on by one; 0 for a true rotary code."""
    torch.manual_seed(0)
    q, k = torch.randn(2, 1, dim).double().expand(-1, length, -1)  # the same at every position
    scores = rotate(q) @ rotate(k).T  # (T, D), (D, T) -> (T, T)
    return (scores[1:, 1:] - scores[:-1, :-1]).abs().max().item()


angles = position.rotary_angles(24, 16).double()
added = shift_gap(lambda x: x + waves(torch.arange(24), 16))
print(
    f"rotary {shift_gap(lambda x: turn(x, angles)):.0e}, sinusoidal code added to q and k {added:.2f}"
)
assert shift_gap(lambda x: turn(x, angles)) < 1e-4 < 0.1 < added

# %% [markdown]
# The distance is all that a rotary score knows of position, but what it makes of the distance is up to the query and the key. One often reads that rotary makes far things count less. For
# $q = k = (1, 1, \dots)$ the score is $2\sum_i\cos((u-t)\omega_i)$, the same sum as above: it falls at first and comes back up. For others it may as well rise.

# %%
at = position.rotary_angles(64, 64).double()
torch.manual_seed(1)
fixed = {"q = k = ones": (torch.ones(64).double(), torch.ones(64).double())}
fixed |= {f"random pair {n}": tuple(torch.randn(2, 64).double()) for n in (1, 2)}
falls = {
    name: (turn(q.expand(64, -1), at)[0] @ turn(k.expand(64, -1), at).T)
    for name, (q, k) in fixed.items()
}
for name, scores in falls.items():
    print(f"{name}: rises in {(scores.diff() > 0).sum()} of 63 steps away from the query")
assert all((scores.diff() > 0).any() for scores in falls.values())

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-06-far", "caption": "Rotary score of one query with the same key, farther and farther away. Equal ones give a falling, rippling line; two random pairs go up and down with no common trend. Distance is encoded, nearness is not preferred."}, "image": {"alt": "Three lines over the distance from 0 to 63: one falls from 64 with ripples, two wander, one above zero and one below"}}
ax = plots.curves(
    {name: scores.tolist() for name, scores in falls.items()}, "distance + 1", "score"
)

# %% [markdown]
# ### Two conventions, one code
#
# Which numbers form a pair? The paper turns neighbours, $(0,1), (2,3), \dots$: **interleaved**. GPT-NeoX and the LLaMA models of the
# transformers library turn $i$ with $i + D/2$: **half**. Both pass the test, both are right, and they are not the same function: loading weights trained with one into code that uses the other raises no error.

# %% tags=["nbval-check-output"]
x = torch.randn(200, 24, 16).double()
interleaved, half = (position.apply_rotary(x, angles, pairing) for pairing in position.PAIRINGS)
assert (interleaved - half).abs().max() > 1
assert shift_gap(lambda x: position.apply_rotary(x, angles, "half")) < 1e-4
evens_first = torch.cat((torch.arange(0, 16, 2), torch.arange(1, 16, 2)))
print("names of the numbers:", evens_first.tolist())
renamed = position.apply_rotary(x[..., evens_first], angles, "half")
torch.testing.assert_close(renamed, interleaved[..., evens_first])

# %% [markdown]
# They differ only in the *names* of the numbers: put the even ones first, then the odd ones, and interleaved becomes half. A dot product does not care about names as long as query and key
# share them. So a conversion costs nothing: put the *columns* of $W_q$ and $W_k$ in the new order, head by head, once. (`nn.Linear` keeps its matrix transposed and computes $XW$ as `x @ weight.T`, so in code they are the *rows* of `weight`.) Forget it, and the scores are off.


# %%
def scores_with(query, key, pairing):
    """Attention scores of one head; `query` and `key` are linear layers."""
    q, k = (position.apply_rotary(layer(tokens), angles, pairing) for layer in (query, key))
    return q @ k.T


tokens = torch.randn(24, 64).double()
layers = [nn.Linear(64, 16, bias=False).double() for _ in range(2)]
original, forgotten = (scores_with(*layers, pairing) for pairing in position.PAIRINGS)
for layer in layers:
    layer.weight.data = layer.weight.data[evens_first]  # rows here, columns of W
torch.testing.assert_close(scores_with(*layers, "half"), original)
assert (forgotten - original).std() > 0.3 * original.std()

# %% [markdown]
# ## The block
#
# Attention only mixes values. To compute something *from* what was fetched takes three more parts. All three look at one token at a time.
#
# ### Layer norm
#
# Every layer is easier to train when the size of its input does not drift. **Layer norm** {cite}`ba2016layernorm` takes one token, subtracts the mean of its $D$ numbers, divides by their standard
# deviation, and lets training rescale each number by a scale $\gamma$ and a shift $\beta$; a small $\varepsilon$ keeps the division safe:
#
# $$\operatorname{norm}(x) = \gamma \odot \frac{x - \mu}{\sqrt{\sigma^2 + \varepsilon}} + \beta, \qquad \mu = \tfrac1D\sum_i x_i, \qquad \sigma^2 = \tfrac1D\sum_i (x_i - \mu)^2 .$$


# %%
def layer_norm(x, scale, shift, eps=1e-5):
    """Normalise each token (the last axis) by itself."""
    centered = x - x.mean(-1, keepdim=True)
    return scale * centered / (centered.square().mean(-1, keepdim=True) + eps).sqrt() + shift


x, gamma, beta = torch.randn(2, 5, 16), torch.randn(16), torch.randn(16)
torch.testing.assert_close(layer_norm(x, gamma, beta), F.layer_norm(x, (16,), gamma, beta))
torch.testing.assert_close(
    layer_norm(100 * x + 7, gamma, beta), layer_norm(x, gamma, beta), rtol=1e-3, atol=1e-3
)

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-06-norm", "caption": "Layer norm of one token of four numbers, before scale and shift: subtract the mean 3, divide by the standard deviation 1.87. A token ten times as large, or shifted, comes out the same."}, "image": {"alt": "Four tables of four numbers: 1, 2, 3, 6; minus the mean 3; divided by 1.87"}}
row = torch.tensor([1.0, 2, 3, 6])
ax = canvas(16, 2.6, unit=0.42)
middle, wide = row.mean(), (row - row.mean()).square().mean().sqrt()
cells(ax, row.tolist(), (0.3, 1.2), title="token x")
arrow(ax, (4.4, 1.7), (5.7, 1.7), f"− {middle:g}")
cells(ax, (row - middle).tolist(), (5.8, 1.2), title="x − μ")
arrow(ax, (9.9, 1.7), (11.4, 1.7), f"/ {wide:.2f}")
cells(
    ax,
    ((row - middle) / wide).tolist(),
    (11.5, 1.2),
    form="{:.2f}",
    title="norm(x)",
    color=plots.GREEN,
)

# %% [markdown]
# ### Feed-forward and GELU
#
# Two linear layers with a bend between them, the same for each token: $D \to 4D \to D$. Without the bend, two linear layers would be one. The usual bend is the **GELU** {cite}`hendrycks2016gelu`: $x$ times the share of a standard
# normal distribution that lies below $x$. Far on the right it is $x$, far on the left 0, and in between smooth, where ReLU has a corner.


# %%
def gelu(x):
    """x times the share of a standard normal distribution below x."""
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


grid = torch.linspace(-4, 4, 161)
torch.testing.assert_close(gelu(grid), F.gelu(grid))

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-06-gelu", "caption": "GELU against ReLU: the same far out, a smooth dip instead of a corner near 0."}, "image": {"alt": "Two curves from minus 4 to 4; ReLU has a corner at 0, GELU dips below 0 and joins it on both sides"}}
_, ax = plt.subplots(figsize=(3.6, 2))
ax.plot(grid, gelu(grid), label="GELU")
ax.plot(grid, grid.relu(), "--", label="ReLU")
_ = ax.legend()

# %% [markdown]
# ### Residual: add, do not replace
#
# Each part computes a *change* and adds it: $x + f(\operatorname{norm}(x))$. The sum hands every token on unchanged and hands every gradient back unchanged, beside whatever $f$ does. Norm first, then $f$, then add:
# this is **pre-norm**. The original Transformer normed after the sum (**post-norm**), and needs a careful warm-up of the rate for it {cite}`xiong2020prenorm`. Measure, over 24 untrained layers, what arrives of a gradient sent in at the top: its size, and how well it still
# points where it was sent (cosine; 1 is exactly there).


# %%
def arriving(step, depth=24, dim=64):
    """Send a gradient down through random layers: its size and direction at the bottom."""
    torch.manual_seed(0)
    x = bottom = torch.randn(8, dim, requires_grad=True)
    for _ in range(depth):
        first, second = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        x = step(x, lambda z, a=first, b=second: b(gelu(a(z))))
    sent = torch.randn_like(x)
    came = torch.autograd.grad((x * sent).sum(), bottom)[0]
    return (came.norm() / sent.norm()).item(), F.cosine_similarity(came, sent).mean().item()


# %%
norm = nn.LayerNorm(64)
steps = {
    "f(x)": lambda x, f: f(x),
    "f(norm x)": lambda x, f: f(norm(x)),
    "norm(x + f(x)), post-norm": lambda x, f: norm(x + f(x)),
    "x + f(norm x), pre-norm": lambda x, f: x + f(norm(x)),
}
sizes_came, directions = zip(*[arriving(step) for step in steps.values()], strict=True)
for name, size, direction in zip(steps, sizes_came, directions, strict=True):
    print(f"{name:26s} size {size:.1e}, direction {direction:.2f}")
assert sizes_came[0] < 1e-6 and abs(directions[1]) < 0.2 < 0.5 < directions[3]

# %% [markdown]
# The norm keeps the size, the sum keeps the direction. A deep stack wants both.
#
# ### All of it

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-06-block", "caption": "The pre-norm block on 16 tokens of width 64. Attention is the only place where tokens meet; everything else treats each token by itself. The two lines past the boxes are the residuals."}, "image": {"alt": "From left to right: tokens 16 by 64, norm, attention, plus, norm, 64 to 256, GELU, 256 to 64, plus, tokens 16 by 64. Two bent arrows lead past the boxes to the plus signs"}}
ax = canvas(18, 4.9, unit=0.41)
stations = [
    ("16 × 64", plots.GRAY),
    ("norm", plots.BLUE),
    ("attention", plots.ORANGE),
    ("+", plots.GRAY),
]
stations += [
    ("norm", plots.BLUE),
    ("64→256", plots.GREEN),
    ("GELU", plots.GREEN),
    ("256→64", plots.GREEN),
    ("+", plots.GRAY),
]
x, ends = 0.1, []
for name, color in stations:
    width = 0.7 if name == "+" else 1.9
    box(ax, name, (x, 2.4), (width, 1), color=color, fontsize=8)
    ends.append((x, x + width))
    x += width + 0.35
for (_, left), (right, _) in zip(ends, ends[1:], strict=False):
    arrow(ax, (left, 2.9), (right, 2.9))
for start, end in ((0, 3), (3, 8)):
    middle = (ends[start][0] + ends[start][1]) / 2
    arrow(ax, (middle, 2.3), (ends[end][0] + 0.35, 2.3), bend=-0.3)
label(ax, "x + attention(norm x)", (ends[2][0], 4.4), fontsize=8)
label(ax, "x + feed-forward(norm x)", (ends[6][0], 4.4), fontsize=8)


# %%
class Block(nn.Module):
    """x + attention(norm x), then x + feed-forward(norm x)."""

    def __init__(self, dim, heads, hidden):
        super().__init__()
        self.self_attn = lib.MultiHeadAttention(dim, heads)
        self.linear1, self.linear2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, x):
        x = x + self.self_attn(layer_norm(x, self.norm1.weight, self.norm1.bias))
        hidden = gelu(self.linear1(layer_norm(x, self.norm2.weight, self.norm2.bias)))
        return x + self.linear2(hidden)


# %% [markdown]
# PyTorch's `nn.TransformerEncoderLayer` with `norm_first=True` is this block. Give both the same random weights (norms too, which start at scale 1 and shift 0 and would hide a swap), and compare the value and the
# gradient of every weight and of the input.

# %%
torch.manual_seed(0)
ours, options = Block(16, 4, 24).double(), dict(batch_first=True, norm_first=True)
theirs = nn.TransformerEncoderLayer(16, 4, 24, 0.0, "gelu", **options).double()
_ = [nn.init.normal_(p, std=0.3) for p in ours.parameters()]
renamed = {
    n.replace("qkv.", "in_proj_").replace("attn.out.", "attn.out_proj."): p
    for n, p in ours.named_parameters()
}
theirs.load_state_dict(renamed)
x = torch.randn(2, 5, 16, dtype=torch.float64, requires_grad=True)
torch.testing.assert_close(ours(x), theirs(x))

# %%
weight = torch.randn(2, 5, 16).double()
mine = torch.autograd.grad((ours(x) * weight).sum(), [x, *renamed.values()])
parameters = [theirs.get_parameter(name) for name in renamed]
torchs = torch.autograd.grad((theirs(x) * weight).sum(), [x, *parameters])
for a, b in zip(mine, torchs, strict=True):
    torch.testing.assert_close(a, b)
print(f"equal: the value and {len(mine)} gradients")

# %%
package = EncoderBlock(16, 4, hidden=24).double()
names = {"norm1": "norm_attention", "norm2": "norm_feed", "self_attn": "attention"}
names |= {"linear1": "feed.0", "linear2": "feed.3"}
for name, weights in ours.named_parameters():
    part, _, rest = name.partition(".")
    package.get_parameter(f"{names[part]}.{rest}").data = weights.data
torch.testing.assert_close(package(x), ours(x))

# %% [markdown]
# How large is it? Attention has $4D^2$ weights, the feed-forward layer $8D^2$, biases and norms $13D$: two thirds of a Transformer's weights lie where no token meets another.

# %%
for dim in (64, 768):
    assert training.parameters(EncoderBlock(dim, 4)) == 12 * dim**2 + 13 * dim

# %% [markdown]
# ## Patches and tubelets
#
# What is a token of a video? One frame each, so far. A Vision Transformer {cite}`dosovitskiy2021vit` cuts the image into square **patches**, lays each out as a row of numbers, and puts all through the same linear layer. By loop, then in one line:


# %%
def patches_loop(image, side):
    """Cut an image (C, H, W) into side × side patches, row by row; each laid out as one row."""
    found = []
    for y in range(0, image.shape[1], side):
        for x in range(0, image.shape[2], side):
            found.append(image[:, y : y + side, x : x + side].flatten())
    return torch.stack(found)  # (H/side · W/side, C·side²)


# %%
def patches(images, side):
    """The same for any axes in front."""
    return rearrange(images, "... c (h i) (w j) -> ... (h w) (c i j)", i=side, j=side)


image = torch.randn(3, 32, 32)
torch.testing.assert_close(patches(image, 8), patches_loop(image, 8))

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-06-patch", "caption": "An image of 4 × 4 numbers in four 2 × 2 patches. Each becomes a row; one row of weights turns each patch into one number of its token. A convolution whose stride equals its kernel lays the same weights over the same four places."}, "image": {"alt": "A four by four table of numbers in four coloured quarters, an arrow to four rows of four numbers, times a column of weights 1, 0, 0, 2, equals four results"}}
small = torch.arange(16.0).view(4, 4) % 7
rows, weights = patches(small[None], 2), torch.tensor([1.0, 0, 0, 2])
ax = canvas(17, 5.8, unit=0.42)
colors = (plots.BLUE, plots.ORANGE, plots.GREEN, plots.PINK)
for n, color in enumerate(colors):
    y, x = 2 * (n // 2), 2 * (n % 2)
    cells(ax, small[y : y + 2, x : x + 2].tolist(), (0.5 + x, 1.2 + y), color=color)
    cells(ax, rows[n].tolist(), (6.6, 1.2 + n), color=color)
    cells(ax, [(rows[n] @ weights).item()], (14.8, 1.2 + n), color=color)
arrow(ax, (4.7, 3.2), (6.4, 3.2), "cut")
label(ax, "·", (11.2, 3.2))
cells(ax, [[w] for w in weights.tolist()], (11.8, 1.2), title="weights", color=plots.GRAY)
arrow(ax, (13, 3.2), (14.6, 3.2))
label(ax, "tokens", (15.3, 0.7))

# %%
linear, side = nn.Linear(3 * 8 * 8, 64), 8
convolution = nn.Conv2d(3, 64, kernel_size=side, stride=side)
convolution.weight.data = linear.weight.data.view(64, 3, side, side)
convolution.bias.data = linear.bias.data
images = torch.randn(5, 3, 32, 32)
by_conv = convolution(images).flatten(2).mT  # (B, D, 4, 4) -> (B, 16, D)
torch.testing.assert_close(linear(patches(images, side)), by_conv, rtol=1e-4, atol=1e-5)

# %% [markdown]
# A **tubelet** {cite}`arnab2021vivit` is a patch with a length: the same square of a few frames in a row. Its token sees movement *inside* it, and there are fewer tokens. It equals a three-dimensional convolution whose stride is its kernel.

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-06-tubelet", "caption": "Two frames of 4 × 4 numbers in tubelets of 2 × 2 × 2. The marked one holds the same square of both frames: eight numbers, one token. A bright spot that moves one pixel to the right is 9, 0 in the first half and 0, 9 in the second: the token sees the step."}, "image": {"alt": "Two four by four tables, frame 0 and frame 1, each with its upper left quarter marked; an arrow leads to a row of eight numbers"}}
pair = torch.zeros(2, 4, 4)
pair[0, 0, 0], pair[1, 0, 1], pair[:, 3, 3] = 9, 9, 4
tube = pair[:, :2, :2].flatten()
ax = canvas(19.5, 5.8, unit=0.38)
corner = [(r, c) for r in range(2) for c in range(2)]
for n in range(2):
    cells(ax, pair[n].tolist(), (0.3 + 5 * n, 1.2), title=f"frame {n}", mark=corner)
arrow(ax, (9.5, 2.2), (11, 2.2), "cut")
cells(ax, tube.tolist(), (11.2, 1.7), color=plots.GREEN, title="one tubelet, 2 × 2 × 2")
label(ax, "frame 0", (13.2, 3.2), fontsize=8)
label(ax, "frame 1", (17.2, 3.2), fontsize=8)


# %%
def tubelets(clips, size):
    """Cut clips (B, T, C, H, W) into blocks of `size` frames, rows and columns, each as one row."""
    i, j, k = size
    return rearrange(clips, "b (t i) c (h j) (w k) -> b t h w (c i j k)", i=i, j=j, k=k)


# %%
size, dim = (2, 8, 8), 64
clips, linear = torch.randn(3, 16, 3, 32, 32), nn.Linear(3 * 2 * 8 * 8, dim)
convolution = nn.Conv3d(3, dim, kernel_size=size, stride=size)
convolution.weight.data = linear.weight.data.view(dim, 3, *size)
convolution.bias.data = linear.bias.data
by_conv = rearrange(convolution(clips.transpose(1, 2)), "b d t h w -> b t h w d")
torch.testing.assert_close(linear(tubelets(clips, size)), by_conv, rtol=1e-4, atol=1e-5)
embed = TubeletEmbedding(3, dim, size)
embed.load_state_dict(linear.state_dict())
torch.testing.assert_close(embed(clips), linear(tubelets(clips, size)))
print("16 frames of 32 × 32:", tuple(by_conv.shape[1:4]), "tubelets")

# %% [markdown]
# ### Position in time, height and width
#
# Now each token stands somewhere in a box. One counter over all tokens would say that the last patch of a row and the first of the next are neighbours. Instead, share out the $D$ numbers: some code time, some height, some width.

# %%
T, H, W, D = 4, 3, 5, 24
part_t, part_h, part_w = position.split_axes(D)  # 8, 8, 8
grid = torch.zeros(T, H, W, D)
for t in range(T):
    for h in range(H):
        for w in range(W):
            axes = ((t, part_t), (h, part_h), (w, part_w))
            grid[t, h, w] = torch.cat([waves(torch.tensor([at]), part)[0] for at, part in axes])
torch.testing.assert_close(grid, position.sinusoidal_3d(T, H, W, D))

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-06-axes", "caption": "The code of the patch in frame 2, row 1, column 3 at D = 12: four numbers tell the frame, four the row, four the column. A step to the right changes the last four and nothing else."}, "image": {"alt": "Two rows of twelve numbers in three coloured groups named frame, row and column; the first two groups are equal in both rows, the last differs"}}
ax = canvas(16, 4.4, unit=0.42)
box_code = position.sinusoidal_3d(4, 3, 5, 12)
for n, w in enumerate((3, 4)):
    for part, (name, color) in enumerate(
        (("frame 2", plots.BLUE), ("row 1", plots.ORANGE), ("column", plots.GREEN))
    ):
        numbers = box_code[2, 1, w, 4 * part : 4 * part + 4].tolist()
        title = (name if part < 2 else "column 3, then 4") if n == 0 else ""
        cells(
            ax,
            numbers,
            (1.9 + 4.4 * part, 1.2 + 1.6 * n),
            form="{:.2f}",
            color=color,
            title=title,
            fontsize=8,
        )
    label(ax, f"w = {w}", (0.9, 1.7 + 1.6 * n))

# %% [markdown]
# The danger is the **axis order**. Tokens are a list; if the list runs "(t h w)" and the codes run "(h w t)", every shape fits and every token gets somebody else's place. The check follows single
# steps: one step along an axis may change that axis's part of the code and nothing else.


# %%
def axis_order_holds(codes, sizes=(T, H, W)):
    """Codes (tokens, D) in the order (t h w): does a step along an axis change its part alone?"""
    grid = rearrange(codes, "(t h w) d -> t h w d", t=sizes[0], h=sizes[1])
    parts = grid.split(position.split_axes(codes.shape[1]), dim=-1)
    moves = [[part.diff(dim=axis).abs().amax() > 1e-3 for part in parts] for axis in range(3)]
    return torch.equal(torch.tensor(moves), torch.eye(3, dtype=torch.bool))


assert axis_order_holds(grid.flatten(0, 2))
assert not axis_order_holds(rearrange(grid, "t h w d -> (h w t) d"))
assert not axis_order_holds(position.sinusoidal_3d(T, W, H, D).flatten(0, 2))

# %% [markdown]
# The rotary form shares out the *pairs* in the same way. Its test is the old one, in three axes: move query and key by the same step
# in time, height or width, and no score may change.

# %%
turned = torch.randn(2, 1, D).double().expand(2, T * H * W, D)
turned = turn(turned, position.rotary_angles_3d(T, H, W, D).double())
turned = turned.unflatten(1, (T, H, W))  # (2, T·H·W, D) -> (2, T, H, W, D)
products = torch.einsum("thwd,ijkd->thwijk", turned[0], turned[1])
for axis, n in enumerate((T, H, W)):
    here, moved = (products.narrow(axis, o, n - 1).narrow(axis + 3, o, n - 1) for o in (0, 1))
    torch.testing.assert_close(here, moved, atol=1e-5, rtol=0)
assert products.std() > 0.1

# %% [markdown]
# ## Space, joint, divided
#
# With $S$ places a frame, a clip has $T \cdot S$ tokens. Who should look at whom? **Space**: a token sees its own frame.
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


# %%
torch.manual_seed(4)
attention, x = lib.MultiHeadAttention(12, 2).double(), torch.randn(2, 5, 49, 12).double()
package = (lib.space_attention, lib.time_attention, lib.joint_attention)
for here, there in zip((in_space, in_time, jointly), package, strict=True):
    torch.testing.assert_close(here(attention, x), there(attention, x))


# %%
def reached(run, T=3, S=3):
    """Which tokens change which: (T·S, T·S) booleans, by gradient."""
    x = torch.randn(1, T, S, 12).double()
    slopes = torch.autograd.functional.jacobian(lambda x: run(x).sum(-1), x)
    return slopes.abs().sum(-1).view(T * S, T * S) > 0  # (1, T, S, 1, T, S, D) -> (T·S, T·S)


# %% tags=["nbval-check-output"]
schemes = {
    "space": lambda x: in_space(attention, x),
    "time": lambda x: in_time(attention, x),
    "divided: time, then space": lambda x: in_space(attention, in_time(attention, x)),
    "joint": lambda x: jointly(attention, x),
}
seen = {name: reached(run) for name, run in schemes.items()}
for name, table in seen.items():
    print(f"{name:25s} {int(table[4].sum())} of 9 tokens reach token 4")
assert [int(table[4].sum()) for table in seen.values()] == [3, 3, 9, 9]

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-06-patterns", "caption": "Three frames of three places; row: the token that asks, column: the tokens that reach it, found by gradient. Space and time each see 3 of 9. One after the other they reach all 9, as joint attention does, though no single look sees more than 3."}, "image": {"alt": "Four nine by nine tables. Space: three blocks on the diagonal. Time: three parallel diagonals. Divided and joint: full"}}
fig, axes = plt.subplots(1, 4, figsize=(8, 2.5))
names = [f"{t}{s}" for t in range(3) for s in range(3)]
for ax, (name, table) in zip(axes, seen.items(), strict=True):
    canvas(10, 10, ax=ax)
    cells(
        ax,
        [[int(v) if v else None for v in row] for row in table.tolist()],
        (1, 1),
        rows=names,
        columns=names,
        fontsize=6,
    )
    ax.set_title(name, fontsize=9)

# %% [markdown]
# ### Count before you measure
#
# Count **multiply–accumulates** (MACs). A linear layer from $D$ to $D$ costs $D^2$ a token; four of them make attention's projections. A
# token that sees $U$ keys pays $UD$ for scores and $UD$ for mixing. The feed-forward layer costs $8D^2$.
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


# %%
x = torch.randn(1, 3, 5, 32)
blocks = {"joint": (EncoderBlock, x.flatten(1, 2)), "divided": (DividedBlock, x)}
for kind, (block, tokens) in blocks.items():
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        block(32, 4)(tokens)
    counted = macs(kind, 3, 5, 32)
    assert counter.get_total_flops() == 2 * counted == 2 * lib.block_macs(kind, 3, 5, 32)

# %% [markdown]
# Torch's own counter agrees (it counts a multiplication and an addition as two). Now the sizes of TimeSformer's base model, 196 patches of
# width 768:

# %% tags=["nbval-check-output"]
for T in (8, 96):
    joint, divided = (macs(kind, T, 196, 768) / 1e9 for kind in ("joint", "divided"))
    print(
        f"T = {T}: joint {joint:.1f}, divided {divided:.1f} billion MACs; ratio {divided / joint:.2f}"
    )
assert macs("divided", 8, 196, 768) > macs("joint", 8, 196, 768)
assert 3 * macs("divided", 96, 196, 768) < macs("joint", 96, 196, 768)

# %% [markdown]
# Counts are not seconds: copies, norms and caches are not in them. Measure with a quarter of the patches and of the width (49 and 192), which leaves the ratio at $T = 8$ nearly as it is, because $D$ and $S$ shrink alike and $T$ is small beside $S$.


# %% tags=["hide-input"]
def seconds(run, times=3):
    """Best processor time of a few runs, after one to warm up."""
    taken = []
    for _ in range(times + 1):
        start = time.process_time()
        run()
        taken.append(time.process_time() - start)
    return min(taken[1:])


# %%
@torch.no_grad()
def measured(T, S=49, D=192):
    """Processor time of a divided block over that of a joint one."""
    joint, divided, x = EncoderBlock(D, 3), DividedBlock(D, 3), torch.randn(1, T, S, D)
    return seconds(lambda: divided(x)) / seconds(lambda: joint(x.flatten(1, 2)))


ratio = {T: measured(T) for T in (4, 8, 16, 32, 64)}
print("measured divided / joint:", {T: round(r, 2) for T, r in ratio.items()})
assert ratio[64] < 0.8 and ratio[64] < ratio[4]

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-06-divided", "caption": "Cost of a divided block over that of a joint one, 49 patches of width 192. Above the dashed line divided attention is dearer: by count, below a dozen frames. The clock (dots) follows roughly."}, "image": {"alt": "Falling curve of the cost ratio over the number of frames, crossing one near twelve frames; measured dots lie near it"}}
fig, ax = plt.subplots(figsize=(5, 2.4))
span = np.arange(2, 97)
ax.plot(
    span, [macs("divided", T, 49, 192) / macs("joint", T, 49, 192) for T in span], label="counted"
)
ax.plot(ratio.keys(), ratio.values(), "o", label="measured")
ax.axhline(1, color=plots.GRAY, ls="--", lw=1)
ax.set(xlabel="frames T", ylabel="divided / joint", ylim=(0, None))
_ = ax.legend()

# %% [markdown]
# ### Is it expensive?
#
# "Expensive to compute and slow to train", says article A. Next to what? Count a clip of 16 frames: the frame network of {chapter}`04`, and a block over its features.

# %%
with FlopCounterMode(display=False) as counter, torch.no_grad():
    FrameCNN()(torch.randn(1, 16, 3, 32, 32))
network = counter.get_total_flops() // 2
few, many = macs("joint", 16, 1, 64), macs("joint", 96, 196, 768)
crossing = next(T for T in range(1, 100_000) if macs("joint", T, 1, 64) > T * network / 16)

# %%
ledger.claim(
    "A8",
    "holds" if few > network else "partly" if many > network else "refuted",
    f"On 16 frames of 32 pixels a block over frame features takes {100 * few / network:.0f} % of the "
    f"frame network's multiplications and overtakes it only at {crossing:,} frames; over all patches of "
    f"a clip (T = 96, 196 patches, width 768) joint attention takes {many / 1e9:.0f} billion a block.",
)

# %% [markdown]
# With one token a frame the expense is the frame network. With a token for each patch it is attention. "Expensive" is a
# statement about the number of tokens.
#
# ## Experiment: with and without position
#
# One small model, four ways to tell position, everything else equal down to the first random weights. A token is a frame shrunk to 8 × 8, the clip's mean subtracted (which does not depend on the order), through a linear layer. Then one block and a mean over time.
# In the motion set no single frame tells the direction ({chapter}`03`): a model has to compare frames, and to know which came first.
#
# **Prediction.** (1) Without position the pair is learned and the direction is not: within the pair, over clips *and their reversals*, exactly
# one half. (2) Each of the three codes is above it. (3) Rotary learns it in fewer steps than the two that are added, because "one frame later" is one thing to it at every position.
#
# **What would refute it:** a blind model off one half; a code whose interval holds one half; a paired difference between rotary and another code whose interval holds 0.
#
# **Fair play.** The same 222 steps for all; three rates for each (one for the blind model, which a theorem settles), the one with the lowest validation loss taken, from seed 0; the epoch chosen on validation; test clips used once; three seeds, which fix first weights and batches, so that runs pair up.


# %% tags=["protocol"]
def shrunk(split):
    """Frames as 8 × 8 colour pictures: (N, T, 192)."""
    clips = split.float()  # (N, T, C, H, W)
    return F.adaptive_avg_pool2d(clips.flatten(0, 1), 8).flatten(1).unflatten(0, clips.shape[:2])


def centered(frames):
    return frames - frames.mean(1, keepdim=True)


def load(level):
    """The three splits as (frames, labels), and as tokens: centred, scaled by the training clips."""
    splits = [motion.load(motion.MotionSpec(level=level), name) for name in motion.SPLITS]
    frames = [(shrunk(split), split.labels) for split in splits]
    scale = centered(frames[0][0]).std()
    return frames, [(centered(x) / scale, labels) for x, labels in frames], scale


# %% [markdown]
# The model takes positions as numbers, so that you can move or stretch them later. A learned table knows only whole positions; in between, go in a straight line
# from row to row. It has 32 rows, of which training will ever touch 16.


# %% tags=["protocol"]
def added(kind, table, at):
    """What is added to the tokens at the positions `at`."""
    if kind == "learned":
        return torch.lerp(table[at.floor().long()], table[at.ceil().long()], at.frac()[:, None])
    return waves(at, table.shape[1]) if kind == "sinusoidal" else 0


# %% tags=["protocol"]
class Ordered(nn.Module):
    """One token a frame, one position code, one block, mean over time."""

    def __init__(self, kind, dim=64):
        super().__init__()
        self.kind, self.offset, self.stretch = kind, 0.0, 1.0
        self.token, self.table = nn.Linear(192, dim), nn.Parameter(torch.randn(32, dim) * 0.5)
        self.encoder, self.head = Encoder(dim, 1, heads=4, hidden=2 * dim), nn.Linear(dim, 12)

    def forward(self, x):
        at = self.offset + self.stretch * torch.arange(x.shape[1], device=x.device)
        angles = hands(at, 16) if self.kind == "rotary" else None  # 16: the width of a head
        x = self.token(x) + added(self.kind, self.table, at)  # (B, T, 192) -> (B, T, D)
        return self.head(self.encoder(x, angles=angles).mean(1))  # -> (B, D) -> (B, 12)


# %% tags=["protocol"]
def learn(make, data, seed, rate, epochs=sizes.epochs):
    """Train; return the model and its lowest validation loss."""
    torch.manual_seed(seed)
    model = make()
    pairs = [TensorDataset(*part) for part in data[:2]]
    options = dict(epochs=epochs, batch_size=64, seed=seed, progress=False)
    history = training.fit(model, *pairs, lr=rate, **options)
    return model.cpu(), min(history.val_loss)


def both_ways(model, x, labels):
    """Logits and labels of clips, then of their reversals."""
    logits = [training.predict(model, way) for way in (x, x.flip(1))]
    return torch.cat(logits), torch.cat([labels, labels ^ 1])


# %% tags=["protocol"]
RATES, KINDS = (3e-3, 1e-2, 3e-2), ("none", "sinusoidal", "learned", "rotary")


def tuned(name, make, data, seeds, rates=RATES, **options):
    """Choose the rate on seed 0's validation loss, then train the other seeds with it."""
    tried = {rate: learn(make, data, 0, rate, **options) for rate in rates}
    best = min(rates, key=lambda rate: tried[rate][1])
    others = [learn(make, data, seed, best, **options)[0] for seed in range(1, seeds)]
    models = [tried[best][0], *others]
    scores = [evaluation.pair_scores(*both_ways(model, *data[2])) for model in models]  # once
    within = [score["within"] for score in scores]
    print(f"{name:27} rate {best:<5} pair {scores[0]['pair']:.2f}, within", np.round(within, 3))
    return models, within


# %%
frames, data, scale = load(1)
runs, within = {}, {}
for kind in KINDS:
    # What a theorem settles needs no more than one run.
    few = dict(seeds=1, rates=(1e-2,)) if kind == "none" else dict(seeds=sizes.seeds)
    runs[kind], within[kind] = tuned(kind, partial(Ordered, kind), data, **few)

# %% [markdown]
# And the rulers of {chapter}`03`: frame 0 alone, and all frames side by side, through the best linear map that least squares finds. They see the frames themselves. (Frame 0 *minus the clip's mean* is no longer one frame: it has been compared with the others. A third row
# shows what that is worth.) And a ruler that may compare: the tokens side by side with one hidden layer, trained with the same steps and rates. (Its best rate is the lowest of the three, so a lower one might lift it.)


# %% tags=["protocol"]
def linear(view, data):
    """Scores of clips and reversals by a linear map of what `view` shows of them."""
    (a, y), (b, y_val), (c, _) = data
    return evaluation.linear_scores(view(a), y, view(b), y_val, view(torch.cat([c, c.flip(1)])))


def deeper():
    """All frames side by side, and one hidden layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(16 * 192, 128), nn.GELU(), nn.Linear(128, 12))


# %% tags=["protocol"]
def rulers_of(frames, data):
    """Scores of three rulers on clips and reversals."""
    return {
        "frame 0 alone": linear(lambda x: x[:, 0], frames),
        "side by side, linear": linear(lambda x: x.flatten(1), frames),
        "frame 0 minus the mean": linear(lambda x: x[:, 0], data),
    }


# %%
rulers = rulers_of(frames, data)
hidden, _ = tuned("side by side, hidden layer", deeper, data, sizes.seeds)

# %%
table = {kind: [both_ways(model, *data[2])[0] for model in runs[kind]] for kind in KINDS}
table["side by side, hidden layer"] = [both_ways(model, *data[2])[0] for model in hidden]
labels = both_ways(hidden[0], *data[2])[1]
print(evaluation.ruler_table(table | rulers, labels))
within_rulers = {
    n: evaluation.pair_scores(scores, labels)["within"] for n, scores in rulers.items()
}
assert max(within_rulers["frame 0 alone"], within_rulers["side by side, linear"]) < 0.55

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-06-kinds", "caption": "Direction within the pair, clips and reversals, after 222 steps, a dot a seed. Without position exactly one half; the added codes have begun to learn; rotary is nearly perfect. Relations between frames do it: a linear layer that knows every frame's place stays at chance, one with a hidden layer does not."}, "image": {"alt": "Eight rows of dots on an axis from 0.4 to 1: none, frame 0 and side by side linear at one half, frame 0 minus the mean just above it; sinusoidal and learned between .6 and .8; rotary near 1; side by side with a hidden layer near .9"}}
scores_of = {
    name: scores if isinstance(scores, list) else [scores]
    for name, scores in (table | rulers).items()
}
directions_of = {
    name: [evaluation.pair_scores(scores, labels)["within"] for scores in runs_of]
    for name, runs_of in scores_of.items()
}
ax = plots.intervals(directions_of, "within-pair accuracy", chance=0.5)
_ = ax.set(xlim=(0.4, 1.02))


# %% tags=["protocol"]
def right(model, clips, labels):
    """Share of a clip and its reversal whose direction is right; a tie counts half."""
    logits, labels = both_ways(model, clips, labels)
    gap = logits.gather(1, labels[:, None]) - logits.gather(1, (labels ^ 1)[:, None])
    return (0.5 + 0.5 * gap.sign())[:, 0].view(2, -1).mean(0)  # -> (clips)


def paired(first, second, test):
    """Difference on the same clips and seeds: mean, half of its interval over clips, by seed."""
    gaps = torch.stack([right(a, *test) - right(b, *test) for a, b in zip(first, second)])
    clips = gaps.mean(0)  # (seeds, clips) -> (clips)
    half = 1.96 * clips.std().item() / math.sqrt(len(clips))
    return clips.mean().item(), half, gaps.mean(1).tolist()


# %% tags=["protocol"]
PAIRED = (("rotary", "sinusoidal"), ("rotary", "learned"), ("learned", "sinusoidal"))


def verdicts(differences):
    """Print each paired difference; return which lie above zero beyond chance of clips and seeds."""
    sure = {}
    for name, (mean, over_clips, by_seed) in differences.items():
        over_seeds = evaluation.mean_interval(by_seed)[1]
        sure[name] = mean > max(over_clips, over_seeds)
        print(f"{name:21} {mean:+.2f}, by seed", *(f"{gap:+.2f}" for gap in by_seed), end="; ")
        print(f"± {over_clips:.2f} clips, ± {over_seeds:.2f} seeds; sure: {sure[name]}")
    return sure


# %% tags=["hide-input"]
def narrow(say, *arguments):
    """Call a function that prints; its lines, which the page would break, go on below the name."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        answer = say(*arguments)
    print(printed.getvalue().replace("; ± ", "\n                      ± "), end="")
    return answer


# %%
differences = {f"{a} − {b}": paired(runs[a], runs[b], data[2]) for a, b in PAIRED}
sure = narrow(verdicts, differences)
ahead = sure["rotary − sinusoidal"] and sure["rotary − learned"]
print("(3) rotary ahead of both:", "holds" if ahead else "REFUTED")

# %% [markdown]
# Two intervals, because there are two questions. *Would these three models differ on other clips?* Over clips. *Would other random starts differ?* Over seeds, and three seeds make it wide. A claim about codes needs both. The table and the waves
# show why: on these clips their three models differ for sure, yet the seeds do not agree on which is ahead.

# %%
lowest = {k: float(np.subtract(*evaluation.mean_interval(within[k]))) for k in KINDS[1:]}
print("(2) lowest of each interval:", ", ".join(f"{k} {v:.2f}" for k, v in lowest.items()))
blind = abs(within["none"][0] - 0.5) < 1e-3 and pooled[False] < 1e-6
ledger.claim(
    "A4",
    "refuted" if not blind else "holds" if min(lowest.values()) > 0.5 else "partly",
    f"Reversing the frames moves an encoder's pooled output by {pooled[False]:.0e}. Trained without positions it is "
    f"right on {within['none'][0]:.2f} of directions, with them on {np.mean(within['sinusoidal']):.2f} (sinusoidal), "
    f"{np.mean(within['learned']):.2f} (learned) and {np.mean(within['rotary']):.2f} (rotary) after equally many "
    "steps. A causal mask, which the article does not use, would also carry order.",
)

# %% [markdown]
# What decides here is *relation*. The direction lies in the step from one frame to the next, wherever in the clip it is taken. To rotary "the next frame" is one angle. With an added code the same relation has to be
# found in the products of $\psi_t$ and $\psi_u$, between content that stands in the same sum. It can be found (a shift of a sinusoidal code is one matrix, above), but 222 steps are few. They show speed, not limits.
#
# ### More steps, and level 2
#
# Level 1 shows a mechanism; which code to take is a question for level 2, with its moving background and second digit. The same model and tokens there, for 20 epochs (740 steps) and with one lower rate to choose from. Beside them the rulers, and of the ruler that compares whole clips, the nearest training clip in
# the same tokens.
#
# **Prediction.** (4) All three codes are above one half. (5) Rotary is ahead of both others here too. **What would refute it:** as above, an interval that holds one half, or a paired difference whose interval holds 0.
#
# `python scripts/record.py 06` ran these cells:


# %% tags=["protocol"]
RECEIPT, HIDDEN = "position_codes", "side by side, hidden layer"


def rulers_within(frames, data):
    """Direction within the pair by the rulers, and by the nearest training clip in the same tokens."""
    x, y, tests = data[0][0].flatten(1), data[0][1], torch.cat([data[2][0], data[2][0].flip(1)])
    near = evaluation.knn_scores(x, y, tests.flatten(1), classes=12, k=1)
    scores = rulers_of(frames, data) | {"nearest clip": near}
    labels = torch.cat([data[2][1], data[2][1] ^ 1])
    return {name: [evaluation.pair_scores(s, labels)["within"]] for name, s in scores.items()}


# %% tags=["protocol"]
def record():
    """The experiment on level 2: three codes and the hidden layer, three seeds, four rates."""
    frames, data, _ = load(2)
    makers = {kind: partial(Ordered, kind) for kind in KINDS[1:]} | {HIDDEN: deeper}
    options = dict(seeds=3, rates=(1e-3, *RATES), epochs=20)
    found = {name: tuned(name, make, data, **options) for name, make in makers.items()}
    within = {name: scores for name, (_, scores) in found.items()} | rulers_within(frames, data)
    pairs = {f"{a} − {b}": paired(found[a][0], found[b][0], data[2]) for a, b in PAIRED}
    return [0, 1, 2], dict(steps=20 * (len(data[0][1]) // 64), within=within, paired=pairs)


# %%
receipt = ledger.read_receipt(RECEIPT)
numbers = receipt["numbers"]
print(f"{numbers['steps']} steps; {receipt['device']}, seeds {receipt['seeds']}; within the pair")
for name, values in numbers["within"].items():
    print(f"{name:27}", *(f"{v:.2f}" for v in values))

# %%
sure_2 = narrow(verdicts, numbers["paired"])
spans = [evaluation.mean_interval(numbers["within"][kind]) for kind in KINDS[1:]]
above = all(mean - half > 0.5 for mean, half in spans)
print("(4) all above one half:", "holds" if above else "REFUTED")
ahead_2 = sure_2["rotary − sinusoidal"] and sure_2["rotary − learned"]
print("(5) rotary ahead of both:", "holds" if ahead_2 else "REFUTED")

# %% [markdown]
# On level 2 the gap is as sure and smaller. After more than three times the steps of level 1 the two added codes have hardly left one half, and (4) fails by its own line: with three seeds an interval of theirs holds one half. Rotary tells about three directions in four; of the three codes it alone is
# ahead of the nearest clip, a ruler that learns nothing. So take rotary here. This is still a statement about so many steps; an added code may catch up later.
#
# ## Experiment: twice the length
#
# A linear layer over frames laid side by side is tied to 16 of them. Attention takes any number. Does it understand them? The second set has the same movements in 32 frames. A model that saw positions 0 to 15 now meets 16 to 31, and the same movement takes twice as many frames.
#
# **Prediction.** All three codes lose, rotary too: it depends on differences alone, but the frame in which the digit has moved on stands at another difference now. *Squeezing* the positions back into the
# trained range, so that frame 31 stands at 15 and frame 1 at about a half {cite}`chen2023interpolation`, repairs all three without training. **What would refute it:** a code
# that stays within 0.01 of its short score unsqueezed, or a squeezed one whose mean does not come back to within 0.03 of the control.
#
# **The control:** every other frame of the same long clips, 16 in all. If that scores as before, the long clips are no harder; only their positions are.

# %%
longer = motion.load(motion.MotionSpec(level=1, frames=32, train=0, val=0, test=300), "test")
long_tokens = centered(shrunk(longer)) / scale
thinned = torch.linspace(0, 31, 16).round().long()
assert torch.equal(31 - thinned.flip(0), thinned)  # its own mirror image


def at_length(model, x, stretch=1.0):
    model.stretch = stretch
    score = evaluation.pair_scores(*both_ways(model, x, longer.labels))["within"]
    model.stretch = 1.0
    return score


# %%
VIEWS = {
    "16 of the frames": (long_tokens[:, thinned], 1.0),
    "all 32": (long_tokens, 1.0),
    "all 32, squeezed": (long_tokens, 15 / 31),
}
lengths = {
    k: {name: [at_length(m, *view) for m in runs[k]] for name, view in VIEWS.items()} for k in KINDS
}
for kind in KINDS[1:]:
    for name, values in lengths[kind].items():
        print(f"{kind:11} {name:17}", *(f"{value:.2f}" for value in values))

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-06-length", "caption": "Direction within the pair on clips of twice the training length, a dot a seed. Read at positions 0 to 31 every code loses, rotary as well; with positions squeezed into 0 to 15 all are as good as on short clips."}, "image": {"alt": "Three groups of dots for sinusoidal, learned and rotary. In each, blue dots (16 frames) and green dots (squeezed) lie level; orange dots (all 32 frames) lie lower"}}
fig, ax = plt.subplots(figsize=(6.5, 2.6))
for j, name in enumerate(VIEWS):
    for i, kind in enumerate(KINDS[1:]):
        values, x = lengths[kind][name], i + 0.22 * (j - 1)
        ax.plot(
            [x] * len(values),
            values,
            "o",
            color=plots.COLORS[j],
            alpha=0.8,
            label=None if i else name,
        )
ax.axhline(0.5, color=plots.GRAY, ls="--", lw=1)
ax.set(xticks=range(3), xticklabels=KINDS[1:], ylabel="within-pair accuracy", ylim=(0.45, 1.02))
_ = ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))

# %%
as_said = {True: "as predicted", False: "REFUTED"}
for kind in KINDS[1:]:
    control, all_32, squeezed = (np.array(values) for values in lengths[kind].values())
    lost, back = (control - all_32).mean(), abs((squeezed - control).mean())
    print(f"{kind:11} loses {lost:.2f}: {as_said[bool(lost > 0.01)]}; ", end="")
    print(f"squeezed, off by {back:.3f}: {as_said[bool(back < 0.03)]}")
    assert abs(control - within[kind]).max() < 0.05
assert all(abs(value - 0.5) < 1e-3 for values in lengths["none"].values() for value in values)

# %% [markdown]
# "Rotary is relative, so it works at any length" is said often. It holds for what the test above tests: the clip may *start* anywhere. It does not hold for a clip in which time runs at another
# pace, and no code can know that pace by itself. Squeezing restores exactly the clock that the model knows. A clip that goes on for longer at the same pace is a third question, and these clips do not ask it.
#
# ## Break it: neighbours paired, angles tiled
#
# Interleaved code pairs $(0,1), (2,3), \dots$ and needs its angles as $\omega_0, \omega_0, \omega_1, \omega_1, \dots$ Half pairs $i$ with $i + D/2$ and needs them as
# $\omega_0, \omega_1, \dots, \omega_0, \omega_1, \dots$ Take the pairing of the one and the angles of the other:


# %%
def mixed(x, angles):
    """Neighbours as pairs, angles tiled: the two members of a pair turn by different angles."""
    angles = angles.repeat(1, 2)  # (T, D/2) -> (T, D); repeat_interleave(2, -1) would be right
    cos, sin = angles.cos(), angles.sin()
    a, b = x[..., 0::2], x[..., 1::2]
    return x * cos + torch.stack((-b, a), dim=-1).flatten(-2) * sin


# %% [markdown]
# One word is wrong. Shapes fit, values stay bounded, no warning. This very mix is in the published code and weights of V-JEPA 2 {cite}`assran2025vjepa2`, a well-known video model, and in the transformers library's copy; a
# comment in its code marks it and says that the trained weights depend on it. The code of its successor V-JEPA 2.1 {cite}`mur2026vjepa21`, trained anew, has `repeat_interleave`. Does training notice?

# %%
with mock.patch.object(lib, "apply_rotary", mixed):  # where the encoder looks up its rotation
    (wrong,), (wrong_score,) = tuned("mixed", lambda: Ordered("rotary"), data, 1, rates=(1e-2,))
print(f"within the pair, seed 0: mixed {wrong_score:.3f}, rotary {within['rotary'][0]:.3f}")
assert wrong_score > 0.7

# %% [markdown]
# Hardly. The mix still tells positions apart, and that is enough to learn from. What it has lost is what you chose rotary for, and the one-line test fires at once:

# %%
for name, rotate in {"rotary": position.apply_rotary, "mixed": mixed}.items():
    gap = shift_gap(lambda x, rotate=rotate: rotate(x, angles))
    print(f"{name}: a score changes by {gap:.0e} when query and key move together")
assert gap > 0.5

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-06-mixed", "caption": "Scores when every position holds the same query and the same key. Interleaved and half: constant along diagonals, only the distance counts. The mix: no diagonal is constant, so a score depends on where in the clip it is taken."}, "image": {"alt": "Three square heat maps. The first two show stripes parallel to the diagonal, the third an irregular patchwork"}}
torch.manual_seed(0)
q, k = torch.randn(2, 1, 16).double().expand(-1, 24, -1)
fig, axes = plt.subplots(1, 3, figsize=(7.5, 2.7))
half = lambda x, a: position.apply_rotary(x, a, "half")  # noqa: E731
makers = {"interleaved": position.apply_rotary, "half": half, "mixed": mixed}
for ax, (name, rotate) in zip(axes, makers.items(), strict=True):
    ax.imshow(rotate(q, angles) @ rotate(k, angles).T)
    ax.set(title=name, xlabel="key position u")
_ = axes[0].set(ylabel="query position t")

# %% [markdown]
# And it matters as soon as a clip does not begin at 0, as in a stream. Move all positions on by 16 and ask the trained models again:


# %%
def moved(model, offset=16.0):
    """Within-pair accuracy when the first frame stands at `offset`."""
    model.offset = offset
    score = evaluation.pair_scores(*both_ways(model, *data[2]))["within"]
    model.offset = 0.0
    return score


# %%
shifted = {kind: moved(runs[kind][0]) for kind in KINDS[1:]}
with mock.patch.object(lib, "apply_rotary", mixed):
    shifted["mixed"] = moved(wrong)
print("first frame at 16:", ", ".join(f"{kind} {score:.3f}" for kind, score in shifted.items()))
assert (
    abs(shifted["rotary"] - within["rotary"][0]) < 0.005 and shifted["mixed"] < wrong_score - 0.02
)

# %% [markdown]
# Rotary does not notice. The mix loses a fifth of what it knew above chance (one seed), and would have told nobody: its accuracy on clips that start at 0 was fine. The two added codes never promised anything of the kind: the learned
# table's rows from 16 on are untrained, and the waves at 16 look like those of other times. Test a position code by its promise.
#
# ## What the article said, and what is true
#
# | article | printed | true |
# |---|---|---|
# | A | a Transformer cannot process positions by itself and needs a code | holds for its encoder, proved and measured above; a causal mask would be an exception |
# | A | the code is applied after attention and the feed-forward layer | too late: attention has already mixed a bag. {chapter}`07` runs that order and shows its price |
# | A | "position encoding", with no form given | there are several; they differ in range, cost, speed of learning and in what they promise |
# | A | the model is expensive | count the tokens: one a frame is cheap next to the frame network, one a patch is not |
#
# The corrections are on the {doc}`/errata` page and the verdicts on {doc}`/claims`.
#
# ## What you should know
#
# - Attention commutes with permutations; after pooling it is exactly blind to order.
# - Sinusoidal: clock hands, added. Learned: a row a position, added, and no row beyond the last trained one. Rotary: turn queries and keys; scores depend on the difference alone.
# - The block: $x + \operatorname{attention}(\operatorname{norm} x)$, then $x + \operatorname{feed}(\operatorname{norm} x)$. Tokens meet in attention only.
# - A patch or tubelet embedding is a convolution whose stride is its kernel.
# - Divided attention saves on long clips and costs more on short, wide ones.
# - Accuracy does not show that a position code is right. A shift test does.
#
# **Recall.** Answer before you unfold.
#
# 1. You pool attention's output with a maximum instead of a mean, without position. Is the model order-blind?
# 2. The sinusoidal products are shift invariant too. Why is attention with sinusoidal codes not?
# 3. Rotary leaves the values alone. How can a mean over time still depend on the order?
# 4. A bag of tubelets, without any position code: is it blind to reversal?
#
# ```{admonition} Answers
# :class: dropdown
# 1. Yes. The output is shuffled with the input, and a maximum over time ignores the shuffle just as a mean does.
# 2. The code is added to content and goes through $W_q$ and $W_k$. The products $\psi_t W_q W_k^\top \psi_u^\top$ and the cross terms with content depend on $t$ and $u$ separately.
# 3. Through the weights. A frame takes more from frames that lie, say, before it, and which frames those are depends on the order.
# 4. No. Reversal also turns each tubelet round inside, so other tokens come in. It is blind only to the order *of* the tubelets.
# ```
#
# ## Exercises
#
# ```{exercise} Warm-up: how far do the hands reach?
# :label: ex-06-reach
# With $D = 64$, how many of the 32 hands turn by less than a tenth of a radian over a clip of 16 frames? What base would leave none?
# ```
#
# ```{solution} ex-06-reach
# :class: dropdown
# Over a clip a hand turns by $15\,\omega_i$. `(hands(torch.tensor([15]), 64) < 0.1).sum()` counts 14. The slowest hand has $\omega = \text{base}^{-62/64}$; $15\,\omega > 0.1$ needs
# a base below $150^{64/62}$, about 176. The usual base was chosen for texts of many hundreds of words.
# ```
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
# ```{exercise} Warm-up: last token
# :label: ex-06-last
# Take the last token of the encoder without position instead of the mean. Is the model blind to reversal? To a shuffle that keeps the last frame in place?
# ```
#
# ```{solution} ex-06-last
# :class: dropdown
# Not to reversal: the last token belongs to another frame then. To a shuffle of the others it is blind: its output is a weighted sum over the bag of all frames.
# ```
#
# ```{exercise} Build: a code by distance
# :label: ex-06-bias
# Write an attention layer whose scores get a term $-\text{slope}\cdot|t-u|$ with a fixed slope for each head {cite}`press2022alibi`. Tests to pass: scores of equal queries and keys are constant along diagonals;
# the layer runs at any length. Then show by `torch.testing.assert_close` that a model with it is still blind to *reversal* after a mean, and repair that.
# ```
#
# ```{solution} ex-06-bias
# :class: dropdown
# `scores - slope * (at[:, None] - at[None]).abs()`. The distance is the same after reversal, so $\operatorname{attend}(\Pi X) = \Pi\operatorname{attend}(X)$ for that one permutation. Give the two directions
# different slopes, one on $\max(t-u,0)$ and one on $\max(u-t,0)$, and the assertion fails, as it should.
# ```
#
# ```{exercise} Build: convert a checkpoint
# :label: ex-06-convert
# Write `to_half(layer)` that reorders `layer.qkv` of a `MultiHeadAttention` so that code with the half convention gives the same output. Test: equal outputs with several heads;
# applying it twice is *not* the identity (why?); its inverse is.
# ```
#
# ````{solution} ex-06-convert
# :class: dropdown
# ```python
# @torch.no_grad()
# def to_half(layer):
#     width = layer.dim // layer.heads
#     order = torch.cat((torch.arange(0, width, 2), torch.arange(1, width, 2)))
#     rows = torch.cat([order + width * m for m in range(layer.heads)])
#     rows = torch.cat([rows, layer.dim + rows, torch.arange(2 * layer.dim, 3 * layer.dim)])
#     layer.qkv.weight.copy_(layer.qkv.weight[rows])
#     layer.qkv.bias.copy_(layer.qkv.bias[rows])
# ```
# Values keep their order: nobody turns them. "Evens first" done twice takes every fourth number first; `argsort` of the order undoes it once.
# ````
#
# ```{exercise} Build: a token for each tubelet
# :label: ex-06-tubelets
# Replace the tokens of `Ordered` by tubelets of 2 frames × 4 × 4 of the 8 × 8 pictures, with a code over time, height and width, and compare "none" with "rotary". Tests to pass: the number of tokens is 32; without a
# code, a shuffle of the tubelets changes no score.
# ```
#
# ```{hint}
# :class: dropdown
# `rearrange(x, "b (t i) (h j w k c) -> …")` cuts the tokens if you keep channels in mind: they come as (c, 8, 8). `position.rotary_angles_3d(8, 2, 2, 16)` gives the angles. Within the pair, "none" is no longer at one half: recall question 4.
# ```
#
# ```{exercise} Explore: test the library
# :label: ex-06-library
# Run `shift_gap` on the rotary function of any model in the transformers library that you can import, such as `models/vjepa2` and `models/llama`. Which convention does each use?
# ```
#
# ```{hint}
# :class: dropdown
# `rotate_queries_or_keys(x, pos)` in `transformers.models.vjepa2.modeling_vjepa2` takes x of shape (B, heads, T, width) and positions; `apply_rotary_pos_emb(q, k, cos, sin)` in `models/llama` wants the cosines of the angles tiled twice.
# ```
#
# ## References
#
# ```{bibliography}
# :filter: docname in docnames
# ```
