# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Masked and predictive learning
#
# **Claim.** Hide most of a clip and ask for what is hidden, and an encoder has to find out how things move. Whether it does depends on what exactly is hidden, on what is asked for, pixels or features, and on how long it may practise; and four judges of the result do not agree.
#
# | | |
# |---|---|
# | **You will be able to** | build a masked autoencoder and a latent predictor over tubelets, and check each part; say why a tube and not a random mask; see a collapse before any label does, also where the rank is blind to it; keep linear probe, attentive probe, nearest neighbours and fine-tuning apart, with a random start beside each |
# | **You need** | chapters 6, 7 and 11 |
# | **Data** | the motion set, level 1 (data card in `data/README.md`); its labels are used to judge, not to pretrain |
# | **Answers** | article A's promise of self-supervised learning with Transformers |

# %% tags=["hide-input"]
import copy
import time

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn import functional as F

from sora_nb import evaluation, ledger, objectives, plots, schematics, training
from sora_nb.data import motion
from sora_nb.layers.attention import block_macs
from sora_nb.layers.door import centered
from sora_nb.layers.patches import tubelets
from sora_nb.layers.transformer import Decoder
from sora_nb.models.masked import LatentPredictor, MaskedAutoencoder, TubeletEncoder
from sora_nb.objectives.masked import follow, pixel_targets, seen_and_hidden, take, tube_mask
from sora_nb.settings import settings

plots.use_style()
torch.set_num_threads(1)
torch.manual_seed(0)
sizes = settings(
    T0=dict(updates=200, latent=80, batch=32, labeled=600), T1=dict(updates=4000, latent=2000)
)
even = [0, 2, 4, 6, 9, 11, 13, 15]  # reversal keeps this choice: chapter 3
GRID, TUBELET = (2, 8, 8), (4, 2, 2)


def small(name):
    """Clips of a split at 16 × 16, (N, 16, 3, 16, 16), and their labels."""
    split = motion.load(motion.MotionSpec(level=1), name, progress=False)
    clips = split.float()
    return F.avg_pool2d(clips.flatten(0, 1), 2).unflatten(0, clips.shape[:2]), split.labels


data = {name: small(name) for name in motion.SPLITS}
train, val, test = data.values()

# %% [markdown]
# ## See it first
#
# A clip; the same with its mean over time taken away, so that only what changes is left; and the little that a network gets to see of it. It is asked for the rest.

# %% mystnb={"figure": {"name": "fig-12-first", "caption": "Top: eight frames. Middle: less their mean over time. Bottom: three of four places are hidden, the same ones in every frame. Somewhere a digit passes through the windows that are left."}, "image": {"alt": "Three rows of eight small frames: a digit moving over a photograph, the same on grey without the photograph, and a grey frame with a few scattered square windows"}}
clip = train[0][[12]][:, even]
still_away = centered(clip)
windows = ~tube_mask(1, GRID, 0.75).view(1, *GRID)
as_pixels = windows.repeat_interleave(4, 1).repeat_interleave(2, 2).repeat_interleave(2, 3)
seen_part = torch.where(as_pixels[:, :, None], 0.5 + still_away, 0.8)
rows = [clip[0], 0.5 + still_away[0], seen_part[0]]
_ = plots.filmstrip([r.clamp(0, 1) for r in rows], width=0.8, ylabels=["clip", "centred", "seen"])

# %% [markdown]
# ## Symbols and shapes
#
# | symbol | meaning | shape |
# |---|---|---|
# | $x$ | clip, less its mean over time | $(B, T, C, H, W)$, here $(B, 8, 3, 16, 16)$ |
# | tubelet | 4 frames × 2 × 2 pixels of it (chapter 6) | 48 numbers |
# | grid | tubelets of a clip: steps, rows, columns | $(2, 8, 8)$, so $N = 128$ tokens |
# | mask | true where a token is hidden | $(B, N)$ |
# | $M$ | hidden tokens of a clip | here 96 |
# | $m$ | momentum: the share of a slow copy that stays | |
# | $z$ | what the encoder makes of a token | $(B, N, D)$, here $D = 64$ |
# | $y$ | target of a hidden token: pixels, or features | $(B, M, 48)$ or $(B, M, 64)$ |
#
# ## Hide tubes, not crumbs
#
# Hide tokens at random, and the place that is hidden now is probably seen a step later. Copying it over is an easy game that teaches nothing about motion. VideoMAE {cite}`tong2022videomae` therefore hides a **tube**: a place of the grid, at all times.

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-12-tube", "caption": "A mask of half the places of a 2 × 4 grid over two steps; 1 is hidden. Ranks of random numbers decide: places with a rank below four are hidden, and the row is repeated for every step. Below, a mask of crumbs: as many ones, but the second step shows most of what the first hides."}, "image": {"alt": "A row of eight ranks, an arrow with below four, a row of eight zeros and ones with four ones, repeated in a second row; below it two rows of zeros and ones that differ from each other"}}
rank = torch.tensor([[5, 0, 3, 6, 2, 7, 1, 4]])
tube = (rank < 4).long().repeat(2, 1)
crumbs = torch.tensor([[1, 0, 1, 0, 0, 1, 1, 0], [0, 1, 0, 0, 1, 1, 0, 1]])
ax = schematics.canvas(21, 6.6, unit=0.38)
schematics.cells(ax, rank, (1.5, 0.9), color=plots.GRAY, rows=["rank"])
schematics.arrow(ax, (9.7, 1.4), (12.2, 1.4), "< 4?")
steps = ["step 0", "step 1"]
schematics.cells(ax, tube, (12.4, 0.9), title="a tube mask", color=plots.ORANGE)
schematics.cells(ax, crumbs, (12.4, 4.4), title="crumbs", color=plots.ORANGE)
for row, name in enumerate(steps):
    schematics.label(ax, name, (20.7, 1.4 + row), ha="left", fontsize=8)
    schematics.label(ax, name, (20.7, 4.9 + row), ha="left", fontsize=8)
schematics.label(ax, "the same places\nat every step", (6, 3), fontsize=8)
schematics.label(ax, "what step 0 hides\nstep 1 may show", (6, 5.4), fontsize=8)


# %%
def tube_by_loop(ranks, steps, hidden):
    """One clip at a time, one place at a time, one step at a time."""
    mask = torch.zeros(len(ranks), steps * ranks.shape[1], dtype=torch.bool)
    for clip in range(len(ranks)):
        for place, rank in enumerate(ranks[clip]):
            for step in range(steps):
                mask[clip, step * ranks.shape[1] + place] = rank < hidden
    return mask


# %% [markdown]
# At once: ranks of random numbers, compare, repeat over time. The package's `tube_mask` does this and refuses a share that hides nothing or everything.

# %% tags=["nbval-check-output"]
torch.manual_seed(5)
ranks = torch.rand(3, 64).argsort(1).argsort(1)
torch.manual_seed(5)
mask = tube_mask(3, GRID, 0.75)
assert torch.equal(mask, (ranks < 48).repeat(1, 2))
assert torch.equal(mask, tube_by_loop(ranks, 2, 48))
in_time = mask.unflatten(1, (2, 64))
print("shared over time:", bool((in_time[:, 0] == in_time[:, 1]).all()))
print("hidden a clip:", mask.sum(1).tolist(), "of", mask.shape[1])

# %% [markdown]
# ### Break it: crumbs and a mean
#
# Here is a leak that no loss curve shows. The clips are centred: from each pixel its mean *over time* is taken away. With a tube, that mean is hidden along with the pixel. With crumbs, a seen step of a place carries the mean, and so the content, of its hidden step. Ask the gradient: does what the encoder sees depend on a hidden pixel?


# %%
def leak(mask):
    """Largest change of any seen token for a change of a hidden pixel."""
    clips = train[0][:3, even].clone().requires_grad_()
    seen, _ = seen_and_hidden(mask)
    take(tubelets(centered(clips), TUBELET).flatten(1, 3), seen).square().sum().backward()
    moved = tubelets(clips.grad, TUBELET).flatten(1, 3).abs().amax(2)  # (B, N)
    return moved[mask].max().item()


# %% tags=["nbval-check-output"]
loose = torch.rand(3, 128).argsort(1) < 96  # as many hidden, but crumbs
print("a tube leaks:", leak(mask) > 0, "  crumbs leak:", leak(loose) > 0)
assert leak(mask) == 0 < leak(loose)

# %% [markdown]
# ## Only what is seen is encoded
#
# The encoder gets the seen tokens and no others: no mask tokens, no zeros. {cite:t}`he2022mae` found that this makes features better, as the encoder never meets a mask token, and it makes pretraining cheap. Each token brings a fixed code of its time and place along, for its neighbours in the list are no longer its neighbours in the clip.

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-12-seen", "caption": "Six tokens of two numbers, three hidden (marked). The stable order of the mask lists the seen ones first; the encoder gets those three rows and never learns what stood in the others."}, "image": {"alt": "A table of six rows of two numbers with three rows marked, an arrow to the list of indices zero, two, five and one, three, four, and an arrow to a table of the three rows that are seen"}}
tokens = torch.tensor([[[0.3, 0.1], [0.9, 0.4], [0.2, 0.7], [0.8, 0.8], [0.5, 0.6], [0.1, 0.2]]])
hide = torch.tensor([[False, True, False, True, True, False]])
seen, hidden = seen_and_hidden(hide)
marked = [(i, j) for i in hidden[0].tolist() for j in range(2)]
ax = schematics.canvas(17, 7.6, unit=0.38)
names = [f"token {i}" for i in range(6)]
schematics.cells(ax, tokens[0], (2.4, 1.2), rows=names, mark=marked, title="x", form="{:.1f}")
schematics.arrow(ax, (4.7, 4.2), (6.4, 4.2))
schematics.cells(ax, seen, (6.8, 2.3), form="{:.0f}", title="seen", color=plots.GREEN)
schematics.cells(ax, hidden, (6.8, 5.2), form="{:.0f}", title="hidden", color=plots.ORANGE)
schematics.arrow(ax, (10.1, 2.8), (12.2, 2.8), "take")
schematics.cells(ax, take(tokens, seen)[0], (12.6, 1.4), form="{:.1f}", color=plots.GREEN)
schematics.label(ax, "to the encoder", (13.6, 5.1), fontsize=8)

# %% [markdown]
# Is that the same as a Transformer over *all* tokens in which nobody may look at a hidden one (chapter 5)? For the seen tokens, yes, to the last digit of double precision, at a fraction of the work:

# %% tags=["nbval-check-output"]
encoder = TubeletEncoder(64, 2, 4, GRID, TUBELET).double()
x = centered(train[0][:3, even]).double()
seen, hidden = seen_and_hidden(mask)
whole = encoder.tubelets(x / encoder.spread).flatten(1, 3) + encoder.position
whole = encoder.encoder(whole, mask=~mask[:, None, None, :])  # nobody looks at a hidden token
torch.testing.assert_close(encoder(x, seen), take(whole, seen))
shares = {0.0: 128, 0.5: 64, 0.75: 32, 0.9: 12}  # hidden: seen tokens
work = {s: block_macs("joint", 2, n // 2, 64) / block_macs("joint", 2, 64, 64) for s, n in shares.items()}  # fmt: skip
for share, part in work.items():
    print(f"{share:4.0%} hidden: {part:4.0%} of a block's work")

# %% [markdown]
# One detail: **which code of place**. Chapter 6's sinusoids have wavelengths up to some 60,000 steps. On a grid of eight most of those dimensions are the same number everywhere. `TubeletEncoder` uses a base of 16, and divides centred pixels by 0.1, their usual spread, lest the code drown them.
# <!-- numbers: given -->
#
# ## Ask for pixels
#
# A narrow Transformer, the decoder, gets the encoded tokens and, for each hidden place, a **query**: one trained vector, the same for all, plus the code of *where*. What it answers there is compared with the truth. As both of this chapter's methods need such a part, we call it `HoleFiller`.

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-12-methods", "caption": "Two methods, one machine. Both encode 32 seen tokens and fill 96 holes. The masked autoencoder answers with 48 pixels a hole. The latent predictor answers with 64 features, and what is right is decided by a slow copy of the encoder that has seen everything and gets no gradient."}, "image": {"alt": "Two rows of boxes joined by arrows. Upper: clip, 32 seen tokens, encoder, filler with 96 queries, 96 by 48 pixels compared with true pixels. Lower: the same as far as the filler, 96 by 64 features compared with those of a slow encoder that sees 128 tokens"}}
ax = schematics.canvas(27, 7.9, unit=0.36)
for y, out, goal in ((0.8, "96 × 48\npixels", "true pixels,\nnormalised"), (4.6, "96 × 64\nfeatures", "slow encoder,\n128 tokens")):  # fmt: skip
    schematics.box(ax, "clip\n128 tokens", (0.3, y), (3.8, 1.7), color=plots.GRAY, fontsize=8)
    schematics.arrow(ax, (4.2, y + 0.85), (6.3, y + 0.85), "32 seen")
    schematics.box(ax, "encoder", (6.4, y), (3.4, 1.7), fontsize=8)
    schematics.arrow(ax, (9.9, y + 0.85), (12.2, y + 0.85), "32 × 64")
    schematics.box(ax, "filler\n+ 96 queries", (12.3, y), (4.2, 1.7), fontsize=8)
    schematics.arrow(ax, (16.6, y + 0.85), (18.2, y + 0.85))
    schematics.box(ax, out, (18.3, y), (3.4, 1.7), color=plots.GREEN, fontsize=8)
    schematics.arrow(ax, (23, y + 0.85), (21.8, y + 0.85))
    schematics.box(ax, goal, (23.1, y), (3.8, 1.7), color=plots.ORANGE, fontsize=8)
schematics.label(ax, "masked autoencoder", (2.2, 0.4), fontsize=8)
schematics.label(ax, "latent predictor", (2.2, 4.2), fontsize=8)
schematics.arrow(ax, (8.1, 6.4), (23, 6.2), bend=0.08)
schematics.label(ax, "weights follow slowly; no gradient comes back", (15.5, 7.5), fontsize=8)


# %% [markdown]
# The truth is **normalised tubelet by tubelet** {cite}`he2022mae`: less the tubelet's mean, over its spread. Then a faint movement counts as much as a loud one. On centred clips that has a trap: most tubelets stand *still*, and dividing nothing by nothing makes noise of unit size. So a variance $s$ is added, that of a spread of about 0.03:
# <!-- numbers: given -->
#
# $$y = \frac{x - \bar x}{\sqrt{\operatorname{var}(x) + s}}, \qquad s = 0.001.$$

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-12-target", "caption": "Three tubelets of four numbers. A loud and a faint one with the same pattern become nearly the same target. The third hardly moves: without s its noise would be a target as large as the others; with s it stays near nothing."}, "image": {"alt": "Three rows of four small numbers; an arrow without s leads to three rows of numbers around one; an arrow with s leads to three rows of which the last is near zero"}}
patch = torch.tensor([[0.3, 0.1, -0.3, -0.1], [0.12, 0.04, -0.12, -0.04], [0.002, -0.001, 0.001, -0.002]])  # fmt: skip
shown = {s: (patch - patch.mean(1, keepdim=True)) / (patch.var(1, correction=0, keepdim=True) + s).sqrt() for s in (0.0, 1e-3)}  # fmt: skip
ax = schematics.canvas(22, 4.8, unit=0.4)
names = ["loud", "faint", "still"]
schematics.cells(ax, patch, (1.6, 1.2), form="{:.3f}", rows=names, title="x", fontsize=7)
schematics.arrow(ax, (5.8, 2.7), (7.4, 2.7))
schematics.cells(ax, shown[0.0], (7.7, 1.2), form="{:.2f}", title="s = 0", color=plots.ORANGE, fontsize=8)  # fmt: skip
schematics.cells(ax, shown[1e-3], (14.6, 1.2), form="{:.2f}", title="s = 0.001", color=plots.GREEN, fontsize=8)  # fmt: skip
schematics.label(ax, "or", (13.2, 2.7))


# %%
def targets_by_loop(clip, s=1e-3):
    """Targets of one clip, tubelet by tubelet, in the order of the tokens."""
    out = []
    for t in range(0, 8, 4):
        for h in range(0, 16, 2):
            for w in range(0, 16, 2):
                patch = clip[t : t + 4, :, h : h + 2, w : w + 2].movedim(1, 0).flatten()
                out.append((patch - patch.mean()) / (patch.var(correction=0) + s).sqrt())
    return torch.stack(out)


# %% tags=["nbval-check-output"]
by_hand = targets_by_loop(still_away[0])
torch.testing.assert_close(pixel_targets(still_away, TUBELET)[0], by_hand)
raw = tubelets(centered(train[0][:, even]), TUBELET).flatten(1, 3)
quiet = raw.var(2, correction=0).sqrt() < 0.03  # tubelets that hardly change
for s in (1e-6, 1e-3):
    y = pixel_targets(centered(train[0][:, even]), TUBELET, s).square().mean(2)
    print(
        f"s = {s:g}: still tubelets are {y[quiet].sum() / y.sum():.0%} of all there is to predict"
    )

# %% [markdown]
# The loss is the mean squared error **on hidden tokens only**. Check it by gradient: let the targets be something to differentiate by, and see which of them matter.

# %% tags=["nbval-check-output"]
mae = MaskedAutoencoder(12, encoder=TubeletEncoder(64, 2, 4, GRID, TUBELET))
clips = train[0][:3, even]
y = mae.targets(clips).requires_grad_()
wrong = (mae.fill(clips, mask) - take(y, hidden)).square().mean()
torch.testing.assert_close(mae.loss(clips, mask), wrong)
(gradient,) = torch.autograd.grad(wrong, y)
matters = gradient.abs().sum(2) > 0
print("only hidden targets matter:", torch.equal(matters, mask))
energy = take(y, hidden).square().mean()
print("a fresh model's loss is that of the mean:", bool((mae.loss(clips, mask) / energy - 1).abs() < 0.05))  # fmt: skip

# %% [markdown]
# The last line matters below. The weights of the filler's last layer start at zero, so an untrained model answers nearly the mean of each tubelet, and its loss is nearly the size of the target itself. **A loss is good only below that.** What is left of it after training, as a share, is the *unexplained* part.
#
# ## Does it learn? A first, short answer
#
# **Prediction.** The page trains on the set's 2,400 clips, each batch a fresh view (chapter 11) of 32 of them, with three of four places hidden. A couple of hundred updates are little. Two outcomes are worth telling apart: after them the unexplained share is below 0.9, or the model still sits where it began.


# %%
def optimise(model, updates, ratio=0.75, lr=3e-3, each=None, seed=0):
    """AdamW with warm-up and cosine on random views; the loss, and the loss of the mean, at each update."""
    torch.manual_seed(seed)
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.05), []
    for i in range(updates):
        optimizer.param_groups[0]["lr"] = training.learning_rate(i, updates, lr)
        clips = objectives.view(train[0][torch.randint(len(train[0]), (sizes.batch,))])
        mask = tube_mask(sizes.batch, GRID, ratio)
        loss = model.loss(clips, mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        y = take(model.targets(clips), seen_and_hidden(mask)[1])
        losses.append((loss.item(), y.square().mean().item()))
        if each:
            each(i)
    return torch.tensor(losses)  # (updates, 2)


# %%
torch.manual_seed(0)
start = TubeletEncoder(64, 2, 4, GRID, TUBELET)
mae = MaskedAutoencoder(12, encoder=copy.deepcopy(start))
began = time.process_time()
course = optimise(mae, sizes.updates)
unexplained = course[-40:].sum(0)
unexplained = (unexplained[0] / unexplained[1]).item()
print(f"{sizes.updates} updates, {time.process_time() - began:.0f} processor seconds")
print(f"unexplained at the end: {unexplained:.3f}")
print("it has", "learned something" if unexplained < 0.9 else "hardly left the mean")

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-12-course", "caption": "Loss of the masked autoencoder as a share of the loss of answering with the mean, smoothed over twenty updates. Dashed: the mean. A loss curve without that line would look like training."}, "image": {"alt": "A curve over updates that comes down to the dashed line at one and stays on it"}}
share = course.unfold(0, 20, 1).sum(2)
share = share[:, 0] / share[:, 1]
fig, ax = plt.subplots(figsize=(5.5, 2.4))
ax.plot(range(20, len(share) + 20), share)
ax.axhline(1, color=plots.GRAY, ls="--", lw=1)
_ = ax.set(xlabel="updates", ylabel="unexplained share")

# %% [markdown]
# A plateau at the mean is the usual beginning. One seen neighbour says little of a hole; two or four say much, but only to a network that has found out which tokens are neighbours *and* how to combine them. How much there is to explain, a linear regression tells, from all four neighbours of a tubelet:

# %%
grid = pixel_targets(centered(objectives.view(train[0][:800])), TUBELET).unflatten(1, GRID)
inner = grid[:, :, 3:5, 3:5].flatten(0, 3)  # (n, 48)
half = len(inner) // 2
near = {
    "one neighbour": [(0, 1)],
    "two, opposite": [(0, 1), (0, -1)],
    "all four": [(0, 1), (0, -1), (1, 0), (-1, 0)],
}
for name, moves in near.items():
    x = torch.cat([grid[:, :, 3 + r : 5 + r, 3 + c : 5 + c].flatten(0, 3) for r, c in moves], 1)
    fit = torch.linalg.lstsq(x[:half], inner[:half]).solution  # scored on other clips
    left = (inner[half:] - x[half:] @ fit).square().sum() / inner[half:].square().sum()
    print(f"{name:14s} unexplained {left:.2f}")

# %% [markdown]
# So there is plenty to learn where neighbours are seen, and only a little where no more than one of them is. The short run has not begun on it; how far a longer one leads on ten times as many clips is what the recorded run below is for. {cite:t}`balestriero2024reconstruction` give a reason why such runs must be long: what explains most of the pixels is learned first, what perception needs, last. Never judge a masked autoencoder by a run that ended on its plateau, and never publish a loss without the mean's beside it.
#
# ## Ask for features
#
# Pixels hold much that you do not care about: grain, texture, the exact edge. A **latent predictor** asks for the *features* of what is hidden {cite}`assran2023ijepa,bardes2024vjepa`. But whose features? Those of a copy of the encoder that sees the whole clip. And there the danger of chapter 11 returns: if encoder and target may agree on anything, they may agree on nothing, one constant for every clip, and the loss is perfect. Three brakes:
#
# - the copy gets **no gradient**: the encoder must go to the target, not the target to the encoder {cite}`chen2021simsiam`;
# - the copy is **slow**, $\theta' \leftarrow m\,\theta' + (1-m)\,\theta$, as in MoCo (chapter 11) and BYOL {cite}`grill2020byol`;
# - its features are **normalised**, mean 0 and spread 1 in each token, so that they cannot shrink.
#
# V-JEPA takes the mean absolute error; here it is the smooth form of it, quadratic below 1. By hand:

# %%
torch.manual_seed(0)
jepa = LatentPredictor(12, encoder=copy.deepcopy(start), momentum=0.9)
target = F.layer_norm(jepa.slow(centered(clips)), [64])  # it sees all 128 tokens
gap = (jepa.fill(clips, mask) - take(target, hidden)).abs()
by_hand = torch.where(gap < 1, gap**2 / 2, gap - 0.5).mean()
torch.testing.assert_close(jepa.loss(clips, mask), by_hand)
by_hand.backward()
assert all(p.grad is None for p in jepa.slow.parameters())
assert jepa.encoder.tubelets.weight.grad is not None

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-12-slow", "caption": "A weight that jumps from 0 to 1, and slow copies of it. At m = 0.9 half the way takes seven updates, at 0.99 sixty-nine, at 0 none: the copy is the weight."}, "image": {"alt": "A step from zero to one and two curves that rise towards one, one quickly and one slowly, with small cells of the first values of the quicker one: 0.10, 0.19, 0.27, 0.34"}}
slow = {m: 1 - torch.tensor(m) ** torch.arange(0, 80) for m in (0.9, 0.99)}
fig, ax = plt.subplots(figsize=(6, 2.4))
ax.step([-8, 0, 79], [0, 0, 1], where="post", color=plots.GRAY, lw=0)
ax.plot([-8, 0, 0, 79], [0, 0, 1, 1], color=plots.GRAY, label="weight")
for m, values in slow.items():
    ax.plot(values, label=f"slow copy, m = {m}")
first = ", ".join(f"{v:.2f}" for v in slow[0.9][1:5].tolist())
line = {"arrowstyle": "-", "color": plots.GRAY}
ax.annotate(first, (3, slow[0.9][3].item()), (18, 0.5), arrowprops=line, fontsize=8)
ax.set(xlabel="updates since the jump", ylabel="value")
_ = ax.legend(fontsize=8, loc="lower right")

# %%
before = jepa.slow.tubelets.weight.clone()
with torch.no_grad():
    jepa.encoder.tubelets.weight.add_(1.0)  # a big step of training
jepa.follow()
by_hand = 0.9 * before + 0.1 * jepa.encoder.tubelets.weight
torch.testing.assert_close(jepa.slow.tubelets.weight, by_hand)
layers = [nn.Linear(2, 2), nn.Linear(2, 2)]
follow(*layers, momentum=0.0)
torch.testing.assert_close(layers[0].weight, layers[1].weight)

# %% [markdown]
# ## Break it: take the brakes away
#
# Three runs from one start: with all brakes; without the slow copy ($m = 0$, still no gradient); and with the gradient let through the target. Loss is not printed first, on purpose. Look at two numbers on validation clips, neither of which needs a label:
#
# - **effective rank** of the mean-pooled code (chapter 11);
# - **what is left of the clip**: the variance of normalised tokens *between clips*, each at its own place. A token has unit variance over its features, so 1 means that tokens of two clips have nothing in common, and 0 that they say where they are and nothing of what is there.
#
# **Prediction.** Let the gradient through, and this variance falls to less than a quarter of its start within the run; with all brakes it keeps more than half. Each half can fail.


# %%
class Leaky(LatentPredictor):
    """The mistake: the target is the encoder itself, and learns to be easy to predict."""

    def targets(self, clips):
        return F.layer_norm(self.encoder(self.prepare(clips)), [self.width])


@torch.no_grad()
def signs(model, clips=val[0][:72, even]):
    """Effective rank of the code, and the variance of normalised tokens between clips."""
    tokens = F.layer_norm(model.encoder(model.prepare(clips)), [model.width])  # (n, N, D)
    return objectives.effective_rank(tokens.mean(1)), tokens.var(0).mean().item()


# %%
kinds = {
    "all brakes": LatentPredictor(12, encoder=copy.deepcopy(start)),
    "no slow copy": LatentPredictor(12, encoder=copy.deepcopy(start), momentum=0.0),
    "gradient through": Leaky(12, encoder=copy.deepcopy(start)),
}
traces, ends = {}, {}
for name, model in kinds.items():
    trace = [signs(model)]

    def each(i, model=model, trace=trace):
        model.follow()
        if i % 20 == 19:
            trace.append(signs(model))

    ends[name] = optimise(model, sizes.latent, each=each)[-20:, 0].mean().item()
    traces[name] = torch.tensor(trace)  # (measured, 2)

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-12-collapse", "caption": "Signs of life of three latent predictors from one start. Right, on a logarithmic scale: how much tokens of different clips differ at the same place. Where a token stands is the easiest thing to predict, so what the clip adds falls in all three, furthest without the stop. The rank, left, does not notice."}, "image": {"alt": "Two panels over updates: effective rank of the code, and the variance between clips, each with a curve for each of three runs"}}
fig, axes = plt.subplots(1, 2, figsize=(8, 2.6))
for ax, k, label in zip(axes, range(2), ("effective rank", "variance between clips"), strict=True):
    for name, trace in traces.items():
        ax.plot([20 * i for i in range(len(trace))], trace[:, k], label=name)
    ax.set(xlabel="updates", ylabel=label)
axes[0].set(ylim=(0, None))
axes[1].set(yscale="log")
_ = axes[1].legend(fontsize=8)

# %%
kept = {name: (t[-1, 1] / t[0, 1]).item() for name, t in traces.items()}
print(f"after {sizes.latent} updates of {sizes.batch} clips")
for name, trace in traces.items():
    print(
        f"{name:17s} rank {trace[0, 0]:.0f} -> {trace[-1, 0]:.0f}  "
        f"between clips {trace[0, 1]:.3f} -> {trace[-1, 1]:.3f}  loss {ends[name]:.4f}"
    )
print("falls without the stop:", "holds" if kept["gradient through"] < 0.25 else "REFUTED")
print("keeps half with brakes:", "holds" if kept["all brakes"] > 0.5 else "REFUTED")

# %% [markdown]
# Three things to see. **All** runs lose most of what a token says of its clip, the one with all brakes too: where a token stands is the easiest thing to predict, and the first thing learned. The stop makes the difference: with it, several times as much is left as without. The slow copy makes none, in so few updates. And the **effective rank does not tell**: it is highest where least is left. It measures the shape of a cloud, not its size (chapter 11), and a shrinking cloud keeps its shape. Had we watched the rank alone, we would have seen nothing.
#
# Read the losses last. A loss that the model may make easy by changing the question measures nothing: by the loss, the run without the stop looks best by far. V-JEPA 2's authors call it a [proxy](https://github.com/facebookresearch/vjepa2/issues/44), and of a loss that drops late and suddenly they say that it is [usually a sign of partial collapse](https://github.com/facebookresearch/vjepa2/issues/74). None of these runs says what happens later: whether what is left grows again was not measured.
#
# ## Four judges
#
# A frozen encoder hands over 128 tokens a clip. Four ways to ask what they know, from strictest to most forgiving:
#
# | judge | what is trained on labels | what it asks |
# |---|---|---|
# | **k-NN** on the mean token | nothing | are clips of one motion neighbours as they are? |
# | **linear probe** on the mean token | a linear map | is the motion a direction in the mean? |
# | **attentive probe** | one query, one block, a linear map | is it anywhere in the tokens? |
# | **fine-tuning** | everything | is this a good place to start from? |
#
# A masked autoencoder is never asked to put its knowledge into a mean, so a linear probe on the mean may miss it; V-JEPA reports attentive probes for that reason. The attentive probe in numbers:

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-12-attentive", "caption": "Three tokens, of which one holds the digit. Their mean dilutes it to a third. One trained query scores the tokens, and the softmax hands over mostly the one that matters."}, "image": {"alt": "A table of three tokens with two numbers, the second row large; above, their mean 0.40 and 0.33; below, scores, weights 0.04, 0.92, 0.05 and the weighted sum close to the second row"}}
three = torch.tensor([[0.1, 0.0], [1.0, 0.9], [0.1, 0.1]])
query = torch.tensor([2.0, 1.5])
score = three @ query
weight = score.softmax(0)
ax = schematics.canvas(19, 6, unit=0.4)
schematics.cells(ax, three, (0.6, 2.2), form="{:.1f}", title="tokens", mark=[(1, 0), (1, 1)])
schematics.arrow(ax, (1.6, 0.8), (14.6, 0.8), "mean of all")
schematics.cells(ax, three.mean(0), (14.9, 0.3), form="{:.2f}", color=plots.GRAY)
schematics.arrow(ax, (2.9, 3.7), (4.8, 3.7), "· query")
schematics.cells(ax, score[:, None], (5, 2.2), form="{:.1f}", title="scores")
schematics.arrow(ax, (6.3, 3.7), (8.8, 3.7), "softmax")
schematics.cells(ax, weight[:, None], (9, 2.2), form="{:.2f}", title="weights", color=plots.ORANGE)
schematics.arrow(ax, (10.3, 3.7), (14.6, 3.7), "weighted sum")
schematics.cells(ax, weight @ three, (14.9, 3.2), form="{:.2f}", color=plots.GREEN)


# %%
class AttentiveProbe(nn.Module):
    """One query reads frozen tokens; a linear layer reads its answer."""

    def __init__(self, dim, classes):
        super().__init__()
        self.ask, self.head = Decoder(dim, 1, 4, queries=1), nn.Linear(dim, classes)

    def forward(self, tokens):
        return self.head(self.ask(tokens)[:, 0])  # (B, N, D) -> (B, 1, D) -> (B, classes)


# %% tags=["nbval-check-output"]
torch.manual_seed(0)
probe, tokens = AttentiveProbe(64, 12).eval(), torch.randn(5, 128, 64)
order = torch.randperm(128)
torch.testing.assert_close(probe(tokens), probe(tokens[:, order]), rtol=1e-4, atol=1e-4)
tokens.requires_grad_()
probe(tokens).square().sum().backward()
reach = (tokens.grad.abs().amax(2) > 0).float().mean()
print(f"it reaches {reach:.0%} of the tokens, in any order")

# %% [markdown]
# Now the page's own short runs, under the two judges that are quick. The control is the *same* encoder at random start. Beside it stand chapter 3's rulers, which need no network.


# %%
@torch.no_grad()
def codes(model):
    """Mean tokens of the labelled clips of each split."""
    parts = [x[: sizes.labeled, even].split(200) for x, _ in data.values()]
    return [torch.cat([model.embed(c) for c in part]) for part in parts]


def judge(z, n=sizes.labeled):
    """Linear probe and k-NN with n labelled clips."""
    y, y_val, y_test = (labels[:n] for _, labels in data.values())
    probe = evaluation.linear_probe(z[0], y, z[1], y_val, z[2], y_test)
    return {"linear probe": probe, "k-NN": evaluation.knn(z[0], y, z[2], y_test)}


# %%
random = MaskedAutoencoder(12, encoder=copy.deepcopy(start))
shown = {"random start": random, "masked autoencoder": mae, "latent predictor": kinds["all brakes"]}
done = [0, sizes.updates, sizes.latent]
found = {name: judge(codes(model)) for name, model in shown.items()}
print(f"{sizes.labeled} labels, one seed      linear probe   k-NN   updates")
for (name, row), n in zip(found.items(), done, strict=True):
    print(f"{name:26s} {row['linear probe']:14.2f} {row['k-NN']:6.2f} {n:9d}")

# %%
frames = [(x[: sizes.labeled, even], y[: sizes.labeled]) for x, y in data.values()]
for name, logits in evaluation.ruler_scores(*frames).items():
    print(f"{name:30s} {evaluation.accuracy(logits, frames[2][1]):.2f}")

# %% [markdown]
# A linear probe standardises its features, so it digs out what has merely become small; neighbours by cosine take the code as it is. That is why the two judges differ so much here, and why one of them would not do. And look at the last ruler: neighbours by cosine of the centred pixels themselves, with no network, are ahead of all three rows above. Keep that number in mind when you read a column of k-NN below.
#
# A random start scores far above chance: a tubelet holds four frames, so even random features of it know something of direction (chapter 6). **Without that row you would take a plateau for a success.** Readers of the published code have asked for it, and for the collapse curves above; print both.
#
# ## The recorded runs: enough clips
#
# Was it the method, or the time? The recorded runs draw 22,400 clips without a codec (data are free here), and train all objectives from the *same* random encoders with the same kind of views, updates, batch size and rates: the masked autoencoder and the latent predictor, and chapter 11's NT-Xent on the same encoder. Then come the four judges, with 240 and with 2,400 labels (k-NN with 2,400 only). Where there is a choice of rates, validation clips make it, by one rule for all; the last weights count; test clips are scored once.
#
# Fine-tuning gets the same number of updates from every start. One more row does without pretraining and gives *all* updates, those of pretraining too, to training with labels: **supervised at equal updates**.
#
#     python scripts/masked_learning.py                  # a processor, one seed: the comparison
#     SORA_NB_TIER=T1 python scripts/masked_learning.py  # a GPU, three seeds: ten times the updates
#
# **Predictions**, written before the runs:
#
# 1. Every objective is ahead of the random start under every frozen judge.
# 2. Fine-tuned with 240 labels, every objective is ahead of the random start.
# 3. The order of masked autoencoder and contrast depends on the judge.
# 4. With 240 labels, pretraining is ahead of supervised training at equal updates.

# %%
short, long = (ledger.read_receipt(f"masked_learning{end}") for end in ("", "_gpu"))
for receipt in (short, long):
    n = receipt["numbers"]
    print(f"{receipt['device']}, seeds {receipt['seeds']}: {n['clips']:,} clips,")
    print(f"  {n['updates']} updates of {n['batch']}, rates {n['rates']};")
    print(f"  with labels {n['tuning updates']} updates of {n['tuning batch']}")
starts, against = short["numbers"]["starts"], short["numbers"]["minus random"]
masked = starts["MAE 75"]
left = masked["val loss"][masked["chosen"][0]] / masked["loss of the mean"]
print(f"short run, MAE with 75 % hidden: unexplained {left:.2f}")

# %% [markdown]
# The short run had one rate, so its choice was none. The long one was cut when its time on the machine was spent: what it had printed by then is its receipt, three rows of the table. **Contrast and supervised training were not run there**, nor were other masks, nor does it tell the rates chosen. Compare rows within a run, not cells between the two: the long run's judges made four times the updates with twice the batch, on other clips, and even the random row moves a long way.

# %%
columns = ["k-NN, 2400", "linear, 240", "linear, 2400", "attentive, 240", "attentive, 2400"]
columns += ["trained, 240", "trained, 2400"]


def middle(row, column):
    """Mean over seeds, or nothing where a judge was not asked."""
    return f"{sum(row[column]) / len(row[column]):.2f}" if column in row else ""


def table(receipt):
    """A row for each start, a column for each judge."""
    n = receipt["numbers"]
    print(f"{n['updates']} updates, {len(receipt['seeds'])} seed(s)")
    print(
        f"{'judge':24s}" + "".join(f"{c.split(',')[0].replace('entive', '.'):>8s}" for c in columns)
    )
    print(f"{'labels':24s}" + "".join(f"{c.split()[-1]:>8s}" for c in columns))
    for name, row in n["starts"].items():
        print(f"{name:24s}" + "".join(f"{middle(row, c):>8s}" for c in columns))


# %% tags=["nbval-check-output"]
table(short)
print()
table(long)

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-12-judges", "caption": "Test accuracy of each start under each judge: circles after the short pretraining on a processor, diamonds after the long one on a GPU, one a seed; dashed: chance. In the short run masking and latent prediction are worth little or less than nothing, contrast a good deal, and supervised training at equal updates most. In the long one the masked autoencoder is ahead of the random start in every panel."}, "image": {"alt": "Seven panels, one a judge and number of labels, each with rows of circles and diamonds for random, MAE, JEPA, contrastive and supervised; the diamonds of MAE lie to the right of those of random"}}
fig, axes = plt.subplots(2, 4, figsize=(10, 4.4), sharey=True)
for ax, column in zip(axes.flat, columns, strict=False):
    for receipt, mark, color in ((short, "o", plots.ORANGE), (long, "D", plots.BLUE)):
        for name, row in receipt["numbers"]["starts"].items():
            values = row.get(column, [])
            ax.plot(values, [list(starts).index(name)] * len(values), mark, color=color, ms=5)
    ax.axvline(1 / 12, color=plots.GRAY, ls="--", lw=1)
    ax.set(title=column + " labels", xlim=(0, 1))
axes[0, 0].set(yticks=range(len(starts)), yticklabels=list(starts))
axes[0, 0].invert_yaxis()
_ = axes[1, 3].axis("off")

# %% [markdown]
# ### The short run: a comparison of budgets
#
# Differences on the same test clips, with intervals over clips (one seed: another start would move them further).

# %%
run = [name for name in against if name != "supervised, all updates"]
for name, gaps in against.items():
    for column in ("linear, 2400", "attentive, 2400", "trained, 240"):
        if column in gaps:
            gap, low, high = (gaps[column][k] for k in ("difference", "low", "high"))
            said = "ahead" if low > 0 else "behind" if high < 0 else "undecided"
            print(f"{name:24s} {column:16s} {gap:+.2f} ({low:+.2f} to {high:+.2f}) {said}")

# %%
frozen = [c for c in columns if not c.startswith("trained")]
ahead = {c: [against[name][c]["low"] > 0 for name in run] for c in columns}
behind = [against[name][c]["high"] < 0 for name in run for c in frozen]


def word(passed):
    """holds, or in how many of the comparisons not."""
    return "holds" if all(passed) else f"REFUTED in {passed.count(False)} of {len(passed)}"


def score(name, column):
    """Mean over seeds of the short run."""
    return sum(starts[name][column]) / len(starts[name][column])


# %% tags=["nbval-check-output"]
print("1:", word([yes for c in frozen for yes in ahead[c]]), "| behind in", sum(behind))
print("2:", word(ahead["trained, 240"]))
above = {c: score("MAE 75", c) > score("contrastive", c) for c in columns}
print("3:", "holds" if len(set(above.values())) == 2 else "REFUTED, one order under all")
print("   masked above contrast:", [c for c in columns if above[c]] or "nowhere")
whole = score("supervised, all updates", "trained, 240")
better = [name for name in run if score(name, "trained, 240") > whole]
print("4:", word([name in better for name in run]), f"| supervised {whole:.2f}")

# %% [markdown]
# ### The long run: does the masked autoencoder leave the mean?
#
# The same questions to the three rows that there are: each objective minus the random start of the *same seed*.

# %% tags=["nbval-check-output"]
rows = long["numbers"]["starts"]
gains = {
    name: {c: torch.tensor(rows[name][c]) - torch.tensor(rows["random"][c]) for c in columns}
    for name in ("MAE 75", "JEPA 75")
}
for name, by in gains.items():
    print(name, "minus random:", ", ".join(f"{c} {gap.mean():+.2f}" for c, gap in by.items() if c.endswith("240")))  # fmt: skip
    print("   with 2400 labels:", ", ".join(f"{c.split(',')[0]} {gap.mean():+.2f}" for c, gap in by.items() if c.endswith("2400")))  # fmt: skip
    passed = [bool((gap > 0).all()) for gap in by.values()]
    print("   ahead on all seeds:", word(passed))

# %% tags=["nbval-check-output"]
few, many = torch.tensor(rows["MAE 75"]["trained, 240"]), torch.tensor(rows["random"]["trained, 2400"])  # fmt: skip
mean, half = evaluation.mean_interval((few - many).tolist())
print(f"MAE with 240 labels minus random with 2400, fine-tuned: {mean:+.2f} ± {half:.2f}")
print("a tenth of the labels is", "enough" if mean - half > -0.02 else "not shown to be enough")

# %% [markdown]
# For the masked autoencoder it was the budget (updates above all, but the batch was doubled too, and there were two rates to choose from). After a few hundred updates it has learned the mean, and a frozen judge finds in it what was there at the start, or less. After some thousands it is ahead of its own random start under **every** judge, on every seed. The four judges then tell the same story with very different numbers: for a linear probe with many labels pretraining is worth far more than for fine-tuning with as many, where the random start, too, comes close to the top. The latent predictor is ahead by less, and not everywhere: whether the loss of variance above is the reason, this receipt cannot say: it holds no variance.
#
# Contrast did not need that long: a few hundred updates put it ahead of the random start and of both others under every judge (each of its updates encodes two whole views where masking encodes a quarter of one). So prediction 3 is refuted, at this budget: one order, whoever judges. And prediction 4 is refuted for all three: with 240 labels, the same updates spent on those labels are worth more than any pretraining here. One seed, one rate, and attentive probes that had a hundred updates only: take their low numbers as those of probes cut short.
#
# What is *not* shown: the long run has no contrastive row and no supervised one at equal updates. The fine-tuned random start made 400 updates; the pretrained one made 2,400 without labels before them. In the short run, where that bill is drawn up, see line 4.
#
# ### How much to hide?
#
# Half, three quarters or nine tenths of the places; everything else as in the short run, but six times its updates and three times the judges' (`python scripts/masked_learning.py --masks`, one seed). With much hidden the encoder is cheap and the question hard. VideoMAE found nine tenths best. **Prediction.** Here too each frozen judge puts 90 % above 75 %, and that above 50 %.

# %% tags=["nbval-check-output"]
shares = ledger.read_receipt("masked_shares")
table(shares)
hidden_share = {name: row for name, row in shares["numbers"]["starts"].items() if "MAE" in name}
for name, row in hidden_share.items():
    left = row["val loss"][row["chosen"][0]] / row["loss of the mean"]
    print(f"{name}: unexplained {left:.2f}")

# %% tags=["nbval-check-output"]
by_share = [hidden_share[f"MAE {percent}"] for percent in (50, 75, 90)]
rises = [a[c][0] < b[c][0] for c in frozen for a, b in zip(by_share, by_share[1:])]
print("the more hidden, the better:", word(rises))
for name, gaps in shares["numbers"]["minus random"].items():
    lead = {c: gap for c, gap in gaps.items() if c in frozen}
    told = [c for c, gap in lead.items() if gap["low"] > 0]
    print(f"{name} clearly ahead of random under {len(told)} of {len(lead)} frozen judges")

# %% [markdown]
# Refuted, and turned round: in so many updates less hidden is better, under every frozen judge. The unexplained shares say why. With half of the places hidden the network is well off its plateau; with nine tenths it has hardly left the mean. A harder question takes longer to begin on, so this compares training times as much as masks, and says nothing of the hundreds of passes after which VideoMAE made its choice. And off the plateau is not yet ahead: the attentive probe reads a random start better than any of the three.
#
# ## What the article said, and what is true
#
# | said | true |
# |---|---|
# | a self-supervised Transformer learns representations of video | it learns what its *question* needs; the question is hidden pixels, hidden features, or which view belongs to which |
# | less labelled data is needed | with the same few labels and enough updates, pretraining is ahead of a random start that trains briefly; that a tenth of the labels is enough was not shown. Against the same time spent on labels it lost in the short run; the long one did not ask. Claim A18 has its verdict in chapter 11 |
# | (not said) which judge | k-NN, linear, attentive, fine-tuned: four numbers, of which papers print the kindest |
#
# ## What you should know
#
# - Hide tubes: what is hidden now must not be seen a step later, nor through a mean over time.
# - Encode only what is seen. It is exact, and it saves most of the work.
# - A loss means something beside the loss of the mean, on the same targets. Normalised targets need a floor, or noise is most of them.
# - Pixels or features: one machine, two targets. Features need brakes, or the easiest target wins.
# - Watch the variance between clips beside the rank, and neither instead of the other; never the loss alone. "Did not collapse in N updates" is all that a run shows.
# - Print the random start under every judge, and supervised training at equal updates.
#
# **Recall.** Answer before you unfold.
#
# 1. A colleague masks random tokens of centred clips and reports a wonderful loss. What do you ask?
# 2. Your masked autoencoder's loss fell from 1.1 to 0.27 and stays. Good?
# 3. Why may a latent predictor's loss be small and its features worthless?
# 4. A linear probe puts method X below method Y; fine-tuned, X is above. Who is right?
# <!-- numbers: given -->
#
# ```{admonition} Answers
# :class: dropdown
# 1. Whether hidden pixels enter the mean that was subtracted. A gradient from the encoder's input to a hidden pixel tells.
# 2. Nobody knows without the loss of answering with the mean on the same targets.
# 3. The target is made by the model. If it hardly depends on the clip, it is easy to predict.
# 4. Both: the probe asks what lies ready in the mean, fine-tuning asks what is a good start. Say which you need.
# ```
#
# ## Exercises
#
# ```{exercise} Warm-up: count the windows
# :label: ex-12-count
# A grid of 2 × 8 × 8, nine of ten places hidden. How many tokens does the encoder see? Which share of the work of attention's scores is left?
# ```
#
# ```{solution} ex-12-count
# :class: dropdown
# `round(0.9 * 64)` is 58 places hidden, 6 seen, 12 tokens of 128. Scores grow with the square: 12² of 128², less than a hundredth.
# ```
#
# ```{exercise} Warm-up: a constant
# :label: ex-12-constant
# The slow copy gives every token of every clip the same features. What is the least loss of the predictor, what the effective rank, and what the variance between clips?
# ```
#
# ```{solution} ex-12-constant
# :class: dropdown
# Loss 0 (the filler's bias says it all), variance 0. The rank is that of rounding noise: print it beside the variance, never alone.
# ```
#
# ```{exercise} Build: predict only some holes
# :label: ex-12-some
# Let the filler answer for a random third of the hidden tokens, the others absent. Test: average the loss over a hundred draws of the third; by how much does it differ from the full loss? (Hidden tokens see each other in the filler, so it need not be the same.)
# ```
#
# ```{hint}
# :class: dropdown
# `hidden = hidden.gather(1, torch.rand(hidden.shape).argsort(1)[:, :32])` before `fill`. Average the loss over a hundred draws and compare with the full one.
# ```
#
# ```{exercise} Build: VideoMAE's own target
# :label: ex-12-channels
# VideoMAE normalises each colour channel of a tubelet by itself. Write it. Tests: each channel of each target has mean 0; it equals `pixel_targets` on clips of one grey channel repeated.
# ```
#
# ```{hint}
# :class: dropdown
# `tubelets(...)` lays numbers out channel by channel: `.unflatten(-1, (3, -1))`, then mean and variance over the last axis.
# ```
#
# ```{exercise} Explore: without the mean over time taken away
# :label: ex-12-raw
# Give `MaskedAutoencoder` `center=False` and an encoder with `spread=0.3`. How soon does it leave the mean, and what does k-NN say of direction then?
# ```
#
# ```{hint}
# :class: dropdown
# Colours of neighbours say much about each other, so the loss falls early. Then the background is what has been learned: compare `pair_scores` of the k-NN votes with those of the centred run.
# ```
#
# ```{exercise} Explore: how slow is slow?
# :label: ex-12-slow
# Run the collapse figure with m of 0, 0.9, 0.99 and 0.999, and with the normalisation of the target taken out. Which brake is needed? State the number of updates with every answer.
# <!-- numbers: given -->
# ```
#
# ```{hint}
# :class: dropdown
# Subclass `LatentPredictor` and override `targets` for the last. `signs` needs no change.
# ```
#
# ## References
#
# ```{bibliography}
# :filter: docname in docnames
# ```
