# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What did it look at?
#
# **Claim.** A heat map over a clip is a measurement, and it can be wrong. Where the truth is known, at the digit that moves, in the frames in which it moves, at a lamp that you planted, each method can be tested; and some famous maps hardly depend on what the model has learned.
#
# | | |
# |---|---|
# | **You will be able to** | build gradients, integrated gradients, space-time Grad-CAM, occlusion and attention rollout by hand; choose a baseline that fits a model of motion; test a map for place, effect and dependence on the weights; look for a shortcut |
# | **You need** | chapters 5, 7 and 9; chapter 10 for design E |
# | **Data** | the motion set, level 2, with its boxes; the trained recipes of `data/checkpoints` |
# | **Answers** | the articles' word that what the models decide is hard to explain |

# %% tags=["hide-input", "protocol"]
import copy

import numpy as np
import torch
from scipy.stats import rankdata
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from sora_nb import recipe, training
from sora_nb.data import motion
from sora_nb.evaluation import mean_interval, pair_scores
from sora_nb.evaluation.attribution import (
    deletion,
    grad_cam,
    gradient,
    inside,
    integrated_gradients,
    occlusion,
    pointing,
)
from sora_nb.layers.attention import MultiHeadAttention, attention_weights
from sora_nb.ledger import ROOT
from sora_nb.models import SoraFusion, SoraTransformer
from sora_nb.settings import settings
from sora_nb.transforms import evaluation_transform

sizes = settings(
    T0=dict(clips=100, steps=8, ablated=40, sanity=16, inits=1, seeds=(0,)),
    T1=dict(clips=200, steps=12, ablated=100, sanity=30, inits=2, seeds=(0, 1, 2)),
)
torch.set_num_threads(1)


def still(clips):
    """The clip in which nothing moves: each clip's mean picture, in all of its frames."""
    return clips.mean(1, keepdim=True).expand_as(clips)


def ready(made, split, count):
    """Clips of a split as a recipe reads them, their boxes, and which frames they are."""
    at = made.reading.indices(split.clips.shape[1], 1, "")[0]
    frames = split.clips[:count, at].movedim(-1, 2)  # (N, T, 3, 32, 32)
    small = evaluation_transform(made.reading.size)(frames.flatten(0, 1))
    boxes = split.boxes[:count, at] * made.reading.size / 32
    return small.unflatten(0, frames.shape[:2]).float() / 255, boxes, at


# %% tags=["hide-input"]
import captum.attr
import matplotlib.pyplot as plt

from sora_nb import ledger, plots, schematics
from sora_nb.data import motion_render
from sora_nb.layers.attention import attention

plots.use_style()
torch.manual_seed(0)
test = motion.load(motion.MotionSpec(level=2), "test", progress=False)
designs = {d: recipe.load(ROOT / "data" / "checkpoints" / d) for d in "DAE"}
D = designs["D"].model
N = min(64, sizes.clips)  # clips on this page
clips, boxes, at = ready(designs["D"], test, N)  # (N, 8, 3, 32, 32)
with torch.no_grad():
    said = D(clips).argmax(1)  # the class whose score is explained: the one the model gives

# %% [markdown]
# ## See it first
#
# A digit moves, another stands still, the background pans and flickers. Design D names the motion; the bright spots are where the gradient of its answer is large.

# %% mystnb={"figure": {"name": "fig-21-first", "caption": "A test clip, and how strongly D's score for its answer would change with each pixel. The heat gathers round the digit and its path; little of it keeps to a single frame."}, "image": {"alt": "Two rows of eight frames: a digit over a photograph, and a heat map bright at the digit"}}
shown = 49
heat = gradient(D, clips[[shown]], said[[shown]]).abs().sum(2)[0]  # (8, 32, 32)
picture = torch.from_numpy(plt.cm.cividis((heat / heat.max()).sqrt().numpy())[..., :3]).movedim(
    -1, 1
)
_ = plots.filmstrip(
    [clips[shown], picture.float()], ylabels=[motion.CLASSES[said[shown]], "gradient"]
)

# %% [markdown]
# Is this an explanation? It looks like one. This chapter asks what such a picture is worth.
#
# ## Symbols and shapes
#
# | | |
# |---|---|
# | $x$, a clip; $x'$, a baseline | float $(T, 3, H, W)$ |
# | $f(x)$ | the score (logit) of one class, here the class that the model answers |
# | $g = \partial f/\partial x$ | like $x$ |
# | $\bar x$ | the mean over time of $x$; "the still clip" shows it in every frame |
# | a heat map | $(T, H, W)$; larger means: matters more |
#
# ## The gradient
#
# The simplest answer to "which pixels matter?" is the slope: by how much does the score change if this pixel changes a little {cite}`simonyan2013deep`? Check it against the definition, a pixel at a time, in double precision.

# %% tags=["nbval-check-output"]
exact = copy.deepcopy(D).double()
x, answer = clips[:1].double(), said[:1]
slope = gradient(exact, x, answer)
for place in [(0, 3, 1, 12, 20), (0, 6, 0, 5, 9)]:
    up, down = x.clone(), x.clone()
    up[place] += 1e-5
    down[place] -= 1e-5
    by_hand = (exact(up) - exact(down))[0, answer[0]] / 2e-5
    print("equal to the quotient:", torch.allclose(by_hand, slope[place], atol=1e-5))

# %% [markdown]
# ### What centering does to it
#
# D takes each clip's mean over time away before anything else: $m_t = x_t - \bar x$. With $h_t = \partial f/\partial m_t$, the chain rule gives
#
# $$g_t = h_t - \frac1T\sum_s h_s, \qquad\text{so}\qquad \sum_t g_t = 0 \text{ at every pixel.}$$
#
# A pixel that matters in one frame alone gets a *ghost* of the other sign in all other frames, because brightening it there also moves the mean. That is why the first figure shows something of the path in every frame. And what stands still in all frames has no influence at all, whatever its colour.

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-21-ghost", "caption": "One pixel over eight frames. Behind the centering only frame 3 matters (4); before it, every frame does, and the eight numbers add up to 0."}, "image": {"alt": "Two rows of eight cells: zeros and one four; then minus one half and one three and a half"}}
behind = torch.tensor([0.0, 0, 4, 0, 0, 0, 0, 0])
before = behind - behind.mean()
ax = schematics.canvas(13.5, 3.6)
schematics.cells(
    ax, behind, (3.6, 0.9), rows=["h, behind"], columns=list("12345678"), mark=[(0, 2)]
)
schematics.cells(ax, before, (3.6, 2.3), rows=["g, before"], mark=[(0, 2)], color=plots.ORANGE)
schematics.label(ax, "sum 4", (12.6, 1.4), fontsize=8)
schematics.label(ax, f"sum {before.sum():g}", (12.6, 2.8), fontsize=8)

# %% tags=["nbval-check-output"]
total = gradient(D, clips[:20], said[:20]).sum(1)
white, black = clips[:20].clone(), clips[:20].clone()
white[:, :, :, :4, -4:], black[:, :, :, :4, -4:] = 1, 0  # a patch in the corner of every frame
print("gradients add up to 0 over time:", total.abs().max().item() < 1e-3)
with torch.no_grad():
    print("a still patch of any colour is nothing:", torch.allclose(D(white), D(black), atol=1e-4))

# %% [markdown]
# ## Integrated gradients
#
# A slope tells of small changes at $x$. To account for the whole score, walk from a baseline $x'$, a clip that shows nothing, to $x$, and add up the slopes on the way {cite}`sundararajan2017axiomatic`:
#
# $$\text{IG}_i = (x_i - x'_i)\int_0^1 \frac{\partial f}{\partial x_i}\big(x' + \alpha(x - x')\big)\,d\alpha, \qquad \sum_i \text{IG}_i = f(x) - f(x').$$
#
# The second equation, *completeness*, is the fundamental theorem of calculus along the way. Nothing is left over and nothing invented. Slope times input has no such law:

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-21-path", "caption": "f = a·b, from (0, 0) to (2, 3). Slopes grow along the way; their means 1.5 and 1, times the inputs, share out the 6 that there is. The slope at the end would share out 12."}, "image": {"alt": "A table of slopes at four points of a path, their means, and two products"}}
middles = (torch.arange(4) + 0.5) / 4
slopes = torch.stack([3 * middles, 2 * middles])  # of a·b by a and by b at (2α, 3α)
ax = schematics.canvas(14, 4.6)
schematics.cells(ax, slopes, (2.6, 1.6), form="{:.2g}", rows=["by a", "by b"], columns=[f"{m:.3g}" for m in middles], title="slopes at α =")  # fmt: skip
for column, (word, values) in enumerate({"mean": slopes.mean(1), "× input": slopes.mean(1) * torch.tensor([2, 3]), "at x": torch.tensor([6, 6])}.items()):  # fmt: skip
    schematics.cells(ax, values[:, None], (7.7 + 2 * column, 1.6), form="{:.2g}", columns=[word], color=plots.GREEN)  # fmt: skip
schematics.label(ax, "3 + 3 = 6 = f", (10.2, 4.1), fontsize=8)
schematics.label(ax, "6 + 6 = 12", (12.4, 4.1), fontsize=8)


# %%
def ig_by_hand(f, x, base, steps):
    """Integrated gradients of one score, a point of the path at a time."""
    total = 0
    for step in range(steps):
        point = (base + (step + 0.5) / steps * (x - base)).requires_grad_()
        total = total + torch.autograd.grad(f(point), point)[0]
    return (x - base) * total / steps


few, base, c = clips[:4], still(clips[:4]), said[:4]
ours = integrated_gradients(D, few, c, base, steps=32)
hand = ig_by_hand(lambda x: D(x)[0, c[0]], few[:1], base[:1], 32)
theirs = captum.attr.IntegratedGradients(D).attribute(
    few, base, target=c, n_steps=32, method="riemann_middle"
)
torch.testing.assert_close(ours[:1], hand, atol=1e-4, rtol=1e-3)
torch.testing.assert_close(ours, theirs.float(), atol=1e-4, rtol=1e-3)

# %% tags=["nbval-check-output"]
with torch.no_grad():
    gained = (D(few) - D(base)).gather(1, c[:, None])[:, 0]
missing = (ours.sum((1, 2, 3, 4)) - gained).abs().max()
print("complete, to 2 % of the gain:", bool(missing < 0.02 * gained.mean()))

# %% [markdown]
# ### Which baseline shows nothing?
#
# For photographs it is usual to begin at black. For D, black and *any* still clip are the same: centering turns all of them to 0. So the natural "nothing" is the clip itself, standing still: $x' = \bar x$ in every frame. Both ways to $x$ are even the same way behind the centering. Only the factor in front differs, $x$ against $x - \bar x$; and because slopes add up to 0 over time, both give each *place* the same sum:
#
# $$\sum_t x_t\,\bar g_t = \sum_t (x_t - \bar x)\,\bar g_t .$$
#
# They share it out over the frames differently. A bright wall with slopes +1 and −1 gets large heat of both signs from the black baseline and none from the still one.
#
# **Prediction.** Both are complete. But from black, less of the positive heat lies in the box of the digit, more lies on the digit that stands still, and the hottest pixel hits the box less often.

# %%
part = slice(0, 60)
still_boxes = np.stack([motion_render.still_box(p, 32) for p in test.params[part]])
still_boxes = torch.from_numpy(still_boxes).float()[:, None].expand(-1, 8, -1)
moving, resting = inside(boxes[part], 32), inside(still_boxes, 32)
apart = resting.any(-1).any(-1).all(1) & ~(moving & resting).flatten(1).any(1)  # they never touch


def share(heat, mask):
    """Of each clip's positive heat, the part inside a mask."""
    heat = heat.clamp(min=0)
    return (heat * mask).sum((1, 2, 3)) / heat.sum((1, 2, 3)).clamp(min=1e-9)


# %%
both = {}
for name, start in {"still": still(clips[part]), "black": torch.zeros_like(clips[part])}.items():
    both[name] = integrated_gradients(D, clips[part], said[part], start, sizes.steps)
gap = (both["still"].sum(1) - both["black"].sum(1)).abs().max()
assert gap < 0.01, "each place has the same sum over time"
found = {}
for name, ig in both.items():
    heat = ig.sum(2)
    hit = pointing(heat, boxes[part])[0].mean().item()
    found[name] = share(heat, moving).mean().item(), share(heat, resting)[apart].mean().item(), hit
    print(
        f"{name}: moving digit {found[name][0]:.2f}, still digit {found[name][1]:.3f}, hits {hit:.2f}"
    )
print(f"area of the still digit: {resting[apart].float().mean():.3f}, in {apart.sum()} clips")

# %% tags=["nbval-check-output"]
outcome = {
    "black: less heat in the box": found["black"][0] < found["still"][0],
    "black: more on the still digit": found["black"][1] > found["still"][1],
    "black: fewer hits": found["black"][2] < found["still"][2],
}
for name, ok in outcome.items():
    print(f"{name}:", "holds" if ok else "REFUTED")

# %% [markdown]
# The third is refuted, and worth a thought: from black, slopes are multiplied by brightness, and the digit is the brightest thing in these clips. The *hottest* pixel then lies on it more surely, while the rest of the heat goes astray. A check that both pass (completeness) cannot tell them apart, and a game that looks at one pixel prefers the worse map. From here on the baseline is the still clip.
#
# ## Grad-CAM, in space and time
#
# The last convolution of each of D's two branches keeps a grid of $4 \times 8 \times 8$ (time, rows, columns) for each of 32 channels $A_k$. Weigh each channel by the mean of its slope, add, and keep what speaks *for* the class {cite}`selvaraju2017gradcam`:
#
# $$L = \text{ReLU}\Big(\sum_k w_k A_k\Big), \qquad w_k = \text{mean}_{t,h,w}\, \frac{\partial f}{\partial A_k}.$$
#
# D's map is the sum of its two branches' maps.

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-21-cam", "caption": "Two channels, weighted by their mean slopes 0.5 and −1 and added. The corner in which the second channel is strong speaks against the class and is cut to 0."}, "image": {"alt": "Three small tables of four numbers: channel one, channel two, and the map"}}
first, second = torch.tensor([[4.0, 2], [0, 2]]), torch.tensor([[0.0, 0], [1, 3]])
weights = (0.5, -1.0)
ax = schematics.canvas(13, 3.6)
schematics.cells(ax, first, (1.2, 1.1), title="channel 1")
schematics.cells(ax, second, (5.4, 1.1), title="channel 2")
schematics.cells(ax, F.relu(weights[0] * first + weights[1] * second), (10.2, 1.1), title="map", color=plots.GREEN, mark=[(0, 0)])  # fmt: skip
for x, word in {0.6: "0.5 ×", 4.3: "+  −1 ×", 8.8: "→ ReLU →"}.items():
    schematics.label(ax, word, (x, 2.1))

# %% tags=["nbval-check-output"]
branch = D.branches[0]
last = branch.layers[-1]  # the ReLU behind the second convolution
volume = branch.layers((few - base).transpose(1, 2)).detach().requires_grad_()  # (B, 32, 4, 8, 8)


def rest(volume):
    """The scores, from one branch's volume; the other branch is left as it is."""
    pooled = F.adaptive_max_pool3d(volume, (None, 2, 2)).transpose(1, 2).flatten(2)
    other = D.branches[1]((few - base).transpose(1, 2))
    z = torch.cat([branch.lstm(pooled)[0].mean(1), other], 1)
    return D.head(torch.tanh(F.normalize(z, dim=1) * z.shape[1] ** 0.5))


[slope] = torch.autograd.grad(rest(volume).gather(1, c[:, None]).sum(), volume)
by_hand = F.relu((slope.mean((2, 3, 4), keepdim=True) * volume).sum(1)).detach()
theirs = captum.attr.LayerGradCam(D, last).attribute(few, target=c, relu_attributions=True)
ours = grad_cam(D, few, c, last)
print("equal to the formula:", torch.allclose(ours, by_hand, atol=1e-5))
print("equal to captum:", torch.allclose(ours, theirs[:, 0].float(), atol=1e-5))

# %% [markdown]
# ## Occlusion
#
# Needing no gradient: hide a window of the clip, look how far the score falls, and move on {cite}`zeiler2014visualizing`. Again something has to stand in the hole. A black window that is there for two frames and gone again *moves*, and a model of motion has an answer to that. The still clip's pixels do not.

# %%
hidden = few.clone()
hidden[:, 2:4, :, 8:16, 16:24] = base[:, 2:4, :, 8:16, 16:24]  # one window of 2 frames × 8 × 8
with torch.no_grad():
    fall = (D(few) - D(hidden)).gather(1, c[:, None])[:, 0]
ours = occlusion(D, few, c, base, (2, 8, 8), (2, 8, 8))  # all 64 windows
torch.testing.assert_close(ours[:, 2, 8, 16], fall, atol=1e-5, rtol=1e-4)
ours = occlusion(D, few, c, base, (3, 12, 12), (2, 8, 8))  # windows that overlap
theirs = captum.attr.Occlusion(D).attribute(few, (3, 3, 12, 12), (2, 3, 8, 8), base, target=c)
torch.testing.assert_close(ours, theirs[:, :, 0].float(), atol=1e-4, rtol=1e-3)

# %% [markdown]
# ### Break it: a hole that moves

# %%
holes = {}
for name, start in {"still": still(clips[part]), "black": torch.zeros_like(clips[part])}.items():
    heat = occlusion(D, clips[:40], said[:40], start[:40], (2, 8, 8), (2, 8, 8))
    on_moving, on_still = share(heat, moving[:40]), share(heat, resting[:40])[apart[:40]]
    holes[name] = on_moving.mean().item(), on_still.mean().item()
    print(f"{name}: moving digit {holes[name][0]:.2f}, still digit {holes[name][1]:.3f}")
assert holes["still"][0] > holes["black"][0] + 0.05

# %% [markdown]
# With black holes nothing warns you, the map looks just as sharp, and only half as much of its heat is on the digit. The rest is the model's answer to the holes.
#
# ## Attention maps and rollout
#
# Design A has weights that look like an explanation already: in each layer, each head, how much every token takes from every other. The layers do not return them (the fused kernel never holds them), so listen at the door of each attention and compute them anew.


# %% tags=["protocol"]
def attention_maps(model, clips):
    """The weights (B, heads, queries, keys) of every attention, in the order in which they run."""
    maps = []

    def keep(module, inputs, options):
        q, k, _ = module.project(inputs[0], options.get("context"))
        maps.append(attention_weights(q, k))

    parts = [m for m in model.modules() if isinstance(m, MultiHeadAttention)]
    handles = [m.register_forward_pre_hook(keep, with_kwargs=True) for m in parts]
    with torch.no_grad():
        model(clips)
    for handle in handles:
        handle.remove()
    return maps


# %% tags=["nbval-check-output"]
A = designs["A"].model
with torch.no_grad():
    tokens = A.add_position(A.token(A.featurize(few))).flatten(1, 3)  # (B, 64, 64)
    normed = A.encoder.blocks[0].norm_attention(tokens)
    q, k, v = A.encoder.blocks[0].attention.project(normed, None)
maps = attention_maps(A, few)
print("shapes:", [tuple(m.shape[1:]) for m in maps])
print("the same mixture:", torch.allclose(maps[0] @ v, attention(q, k, v), atol=1e-5))
print("rows add up to 1:", all(torch.allclose(m.sum(-1), torch.tensor(1.0)) for m in maps))

# %% [markdown]
# Two layers of the encoder over 64 tokens (4 steps × 4 × 4 places), then the decoder's four queries: among themselves, and over the tokens. A token of the second layer is already a mixture. *Rollout* {cite}`abnar2020quantifying` multiplies through: average the heads, let half of each token pass by the shortcut, and multiply the matrices of the layers, the last one on the left,
#
# $$R = \prod_l \tfrac12 (W_l + I), \qquad \text{heat} = \text{(mean of the queries' rows)}\; R .$$

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-21-rollout", "caption": "Three tokens, two layers. In the second layer token 1 takes all it takes from token 2; rolled out, half of that is token 3's, from which token 2 had taken it. Rows still add up to 1."}, "image": {"alt": "Three tables of three by three numbers: layer one, layer two, and their product"}}
eye = torch.eye(3)
one = (torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, 0, 1]]) + eye) / 2
two = (torch.tensor([[0.0, 1, 0], [0, 1, 0], [0, 0, 1]]) + eye) / 2
ax = schematics.canvas(15, 4.4)
names = ["1", "2", "3"]
schematics.cells(ax, two, (0.8, 1.2), form="{:.2g}", rows=names, columns=names, title="layer 2")
schematics.cells(ax, one, (5.6, 1.2), form="{:.2g}", rows=names, columns=names, title="layer 1")
schematics.cells(ax, two @ one, (11, 1.2), form="{:.2g}", rows=names, columns=names, title="rollout", color=plots.GREEN, mark=[(0, 2)])  # fmt: skip
schematics.label(ax, "×", (4.6, 2.7))
schematics.label(ax, "=", (9.7, 2.7))


# %% tags=["protocol"]
def rollout(model, clips):
    """How much of each token the decoder's answers hold, if attention were all: (B, 4, 4, 4)."""
    *maps, _, asked = attention_maps(model, clips)
    joined = torch.eye(asked.shape[-1])
    for weights in maps:
        joined = (weights.mean(1) + torch.eye(joined.shape[-1])) / 2 @ joined
    return (asked.mean((1, 2))[:, None] @ joined).view(-1, 4, 4, 4)


# %% tags=["nbval-check-output"]
rolled = rollout(A, few)
print("adds up to 1:", torch.allclose(rolled.sum((1, 2, 3)), torch.ones(4), atol=1e-5))

# %% [markdown]
# Look at its signature: no class goes in. Rollout gives one map, whether you ask about the model's answer or about its opposite. It also leaves out the values, the feed-forward layers and the signs; whether attention weights explain anything has been argued both ways {cite}`jain2019attention,wiegreffe2019attention`. Here it can be measured.
#
# ## All the maps
#
# Six methods as one function of model, clips and classes, and with them two maps that know nothing of the model: *random* numbers, and *no model*, $|x - \bar x|$, how far each pixel is from its mean. A method that does not beat the second has explained the clip, not the model. SmoothGrad {cite}`smilkov2017smoothgrad` is the gradient, averaged over noisy copies.


# %% tags=["protocol"]
def spread(grid, clips):
    """A map on a coarse grid, smoothly enlarged to the clip's frames and pixels."""
    shape = (clips.shape[1], *clips.shape[3:])
    return F.interpolate(grid[:, None], shape, mode="trilinear")[:, 0]


def maps_of(model, clips, classes):
    """Heat maps (B, T, H, W) by the name of the method."""
    base, generator = still(clips), torch.Generator().manual_seed(0)
    side = clips.shape[-1] // 4
    window = (2, side, side)
    noise = [0.1 * torch.randn(clips.shape, generator=generator) for _ in range(4)]
    heat = {
        "random": torch.rand(clips[:, :, 0].shape, generator=generator),
        "no model": (clips - base).abs().sum(2),
        "gradient": gradient(model, clips, classes).abs().sum(2),
        "SmoothGrad": sum(gradient(model, clips + e, classes) for e in noise).abs().sum(2),
        "IG": integrated_gradients(model, clips, classes, base, sizes.steps).sum(2),
        "occlusion": occlusion(model, clips, classes, base, window, window),
    }
    if isinstance(model, SoraFusion):
        grids = [grad_cam(model, clips, classes, b.layers[-1]) for b in model.branches]
        heat["Grad-CAM"] = sum(spread(grid, clips) for grid in grids)
    if isinstance(model, SoraTransformer):
        heat["rollout"] = spread(rollout(model, clips), clips)
    return heat


def all_maps(model, clips, classes):
    """The same, a hundred clips at a time."""
    parts = [maps_of(model, x, c) for x, c in zip(clips.split(100), classes.split(100))]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


# %%
views = {"D": maps_of(D, clips[[shown]], said[[shown]])}
views["A"] = maps_of(A, clips[[shown]], said[[shown]])
rows = [clips[shown]]
names = ["clip"]
for d, name in [("D", n) for n in views["D"] if n != "random"] + [("A", "rollout")]:
    heat = views[d][name][0].clamp(min=0)
    colors = plt.cm.cividis((heat / heat.max()).sqrt().numpy())[..., :3]
    rows.append(torch.from_numpy(colors).movedim(-1, 1).float())
    names.append(name if name == "no model" else f"{name}, {d}")

# %% mystnb={"figure": {"name": "fig-21-maps", "caption": "One clip, the map that needs no model (second row), five maps of D and one of A. They agree that something happens at the digit and on little else."}, "image": {"alt": "Eight rows of eight frames: the clip and its heat maps, fine-grained or in blocks"}}
_ = plots.filmstrip(rows, width=0.6, ylabels=names)

# %% [markdown]
# ## Experiment 1: does it point at the digit?
#
# The *pointing game* {cite}`zhang2018excitation`: the hottest pixel of the clip scores if it lies in the box of the moving digit in its frame. Frames without a box (where the digit hardly shows) do not count. Chance is the boxes' share of the pixels, clip by clip; a map that is the same everywhere earns exactly this. Beside it: which share of the (positive) heat is in the box.
#
# **Prediction.** (1) Every method is above chance on every design. (2) Not every one is above *no model*. (3) The heat lies in the frames in which the digit moves more than their number says (a motion fills twelve to nineteen twentieths of a clip; the rest of it the digit stands).


# %% tags=["protocol"]
def moving_frames(split, count, at):
    """In which of the frames that a model reads the digit is on its way: bool (N, T)."""
    when, rows = np.linspace(0, 1, split.clips.shape[1]), []
    for p in split.params[:count]:
        start, end = p["window"]  # in the direction of the odd class
        row = (when >= start) & (when <= end)
        rows.append((row if p["label"] % 2 else row[::-1])[at])
    return torch.from_numpy(np.stack(rows))


def cells(heat):
    """A map as means over 4 × 8 × 8 cells of time, rows and columns."""
    return F.adaptive_avg_pool3d(heat[:, None], (4, 8, 8))[:, 0]


def games(model, clips, classes, boxes, active, heat):
    """What each clip's map scores in each game."""
    warm, n, base = heat.clamp(min=0), sizes.ablated, still(clips)
    hits, chance = pointing(warm, boxes)
    seen = warm * ~boxes.isnan().any(-1)[..., None, None]
    in_box = (seen * inside(boxes, heat.shape[-1])).sum((1, 2, 3)) / seen.sum((1, 2, 3)).clamp(
        min=1e-9
    )
    by_frame = warm.sum((2, 3)) / warm.sum((1, 2, 3)).clamp(min=1e-9)[:, None]
    order = cells(heat)[:n]
    gone = deletion(model, clips[:n], classes[:n], base[:n], order, 8)
    back = deletion(model, base[:n], classes[:n], clips[:n], order, 8)
    scores = {
        "hit": hits,
        "over chance": hits - chance,
        "in box": in_box,
        "in box over chance": in_box - chance,
    }
    scores |= {"in time": (by_frame * active).sum(1) - active.float().mean(1)}
    return scores | {
        "deletion": gone.mean(1),
        "insertion": back.mean(1),
        "gone": gone,
        "back": back,
    }


def study(made, split, count):
    """Clips, answers, maps and games of one design."""
    clips, boxes, at = ready(made, split, count)
    active = moving_frames(split, count, at)
    classes = training.predict(made.model, clips).argmax(1)
    made.model.cpu()
    heat = all_maps(made.model, clips, classes)
    scores = {n: games(made.model, clips, classes, boxes, active, h) for n, h in heat.items()}
    return {"clips": clips, "classes": classes, "heat": heat, "scores": scores}


# %%
studies = {d: study(made, test, N) for d, made in designs.items()}
for d, s in studies.items():
    right = (s["classes"] == test.labels[:N]).float().mean()
    print(f"{d}: {right:.2f} of {N} answers right")

# %%
print(f"{'':13s}  hits         over chance    heat in box   in moving frames")
for d, s in studies.items():
    for name, game in s["scores"].items():
        row = [mean_interval(game[k]) for k in ("hit", "over chance", "in box", "in time")]
        (h, hh), (o, oo), (b, bb), (t, tt) = row
        print(f"{d} {name:11s}  {h:.2f} ± {hh:.2f}  {o:+.2f} ± {oo:.2f}   {b:.2f} ± {bb:.2f}   {t:+.3f} ± {tt:.3f}")  # fmt: skip

# %% mystnb={"figure": {"name": "fig-21-pointing", "caption": "How often the hottest pixel lies on the moving digit, with 95 % intervals over clips; the dashed line is the map that needs no model. Nearly all are far above the random map (dotted), few above the dashed line."}, "image": {"alt": "Three panels of horizontal dots, one for each design; rows are methods"}}
fig, axes = plt.subplots(1, 3, figsize=(9, 2.8), sharex=True)
for ax, (d, s) in zip(axes, studies.items()):
    hits = {n: mean_interval(g["hit"]) for n, g in s["scores"].items()}
    for row, (name, (mean, half)) in enumerate(hits.items()):
        color = plots.ORANGE if name in ("random", "no model") else plots.BLUE
        ax.errorbar(mean, row, xerr=half, fmt="o", color=color, capsize=3, ms=5)
    ax.axvline(hits["no model"][0], color=plots.ORANGE, ls="--", lw=1)
    ax.axvline(hits["random"][0], color=plots.GRAY, ls=":", lw=1)
    ax.set(yticks=range(len(hits)), yticklabels=list(hits), title=f"design {d}", xlabel="hits", xlim=(0, 1))  # fmt: skip
    ax.invert_yaxis()

# %%
free = ("random", "no model")
own = [(d, n) for d, s in studies.items() for n in s["scores"] if n not in free]


def low(values):
    """Lower end of the 95 % interval of a mean."""
    mean, half = mean_interval(values)
    return mean - half


above = [low(studies[d]["scores"][n]["over chance"]) > 0 for d, n in own]
ahead = [low(studies[d]["scores"][n]["hit"] - studies[d]["scores"]["no model"]["hit"]) > 0 for d, n in own]  # fmt: skip
timed = [low(studies[d]["scores"][n]["in time"]) > 0 for d, n in own]
print("all above chance:", "holds" if all(above) else "REFUTED", f"({sum(above)} of {len(own)})")
print("not all above no model:", "holds" if not all(ahead) else "REFUTED", f"({sum(ahead)} ahead)")
print("all in the moving frames:", "holds" if all(timed) else "REFUTED", f"({sum(timed)} of {len(own)})")  # fmt: skip

# %% [markdown]
# Being far above chance is not much: what moves is bright, alone, and differs from its mean, so a map without any model hits it most of the time. The pointing game tests whether a map is *plausible* to somebody who knows where the digit is.
#
# In time the free map is no help: $|x - \bar x|$ has *less* than its share in the moving frames, because the digit rests at the ends of a clip, where the panning background, and a digit that has grown or faded, are farthest from their mean. There the methods know something that the clip alone does not say.
#
# ## Experiment 2: does the model need what the map shows?
#
# *Deletion* {cite}`petsiuk2018rise`: replace the hottest eighth of the cells by the still clip's, then the next, and watch the probability of the answer. *Insertion* goes the other way, from the still clip. The mean of the curve is the score: low is good for deletion, high for insertion. The control is the same with cells in random order; the ruler is the order of *no model*.

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-21-deletion", "caption": "Four cells of heat and the probability of the answer as they go, hottest first. The mean of the five numbers is the score; a worse order keeps the probability high for longer."}, "image": {"alt": "A row of four heats, and two rows of five probabilities with their means"}}
ax = schematics.canvas(13.5, 5)
schematics.cells(ax, [7, 1, 0, 4], (4, 0.9), columns=["a", "b", "c", "d"], title="heat")
good, bad = [0.9, 0.4, 0.1, 0.1, 0.1], [0.9, 0.9, 0.8, 0.4, 0.1]
schematics.cells(ax, good, (4, 2.6), rows=["a, d, b, c gone:"], color=plots.GREEN, fontsize=8)
schematics.cells(ax, bad, (4, 3.9), rows=["c, b, d, a gone:"], color=plots.ORANGE, fontsize=8)
for y, values in ((3.1, good), (4.4, bad)):
    schematics.label(ax, f"mean {np.mean(values):.2f}", (10.6, y), fontsize=8)

# %% [markdown]
# **Prediction.** Every method beats the random order in deletion. At least one beats *no model* on each design; rollout does not, for it was asked about no class.

# %% mystnb={"figure": {"name": "fig-21-curves", "caption": "Probability of the answer as the hottest cells of the clip are replaced by the still clip's. For most of the way all orders are far below the random one, which occlusion meets near the end; a few are below the order that needs no model (thick, orange)."}, "image": {"alt": "Three panels of falling curves, one for each design; the random order is uppermost nearly to the end"}}
colors = {
    "gradient": plots.SKY,
    "SmoothGrad": plots.PINK,
    "IG": plots.BLUE,
    "occlusion": plots.GREEN,
}
colors |= {
    "Grad-CAM": plots.RED,
    "rollout": plots.RED,
    "random": plots.GRAY,
    "no model": plots.ORANGE,
}
fig, axes = plt.subplots(1, 3, figsize=(9, 3.2), sharey=True)
for ax, (d, s) in zip(axes, studies.items()):
    for name, game in s["scores"].items():
        wide = 2.6 if name == "no model" else 1.3
        ax.plot(
            np.linspace(0, 100, 9), game["gone"].mean(0), color=colors[name], lw=wide, label=name
        )
    ax.set(title=f"design {d}", xlabel="% of cells gone", ylim=(0, 1))
    ax.legend(fontsize=7)
_ = axes[0].set_ylabel("probability")


# %%
def against(d, name, ruler, key):
    """Mean difference to a ruler on the same clips, and its half-width."""
    scores = studies[d]["scores"]
    return mean_interval(scores[name][key] - scores[ruler][key])


print(f"{'':13s}  deletion  insertion  deletion − random  deletion − no model")
for d, name in own:
    gone, back = (studies[d]["scores"][name][k].mean() for k in ("deletion", "insertion"))
    (r, rr), (m, mm) = (against(d, name, ruler, "deletion") for ruler in ("random", "no model"))
    print(
        f"{d} {name:11s}  {gone:8.2f}  {back:9.2f}     {r:+.2f} ± {rr:.2f}      {m:+.3f} ± {mm:.3f}"
    )

# %%
below = {(d, n): sum(against(d, n, "no model", "deletion")) < 0 for d, n in own}
outcome = {
    "all beat the random order": all(sum(against(d, n, "random", "deletion")) < 0 for d, n in own),
    "each design has one below no model": all(
        any(below[d, n] for e, n in own if e == d) for d in designs
    ),  # fmt: skip
    "rollout is not below no model": not below["A", "rollout"],
}
for name, ok in outcome.items():
    print(f"{name}:", "holds" if ok else "REFUTED")

# %% [markdown]
# The ruler is a hard one: the order of $|x - \bar x|$ is the fastest way from the clip to the still clip that there is, cell by cell, and to a model that subtracts $\bar x$ these cells *are* the input. All methods tell the digit from the wall. Few tell which parts of the digit's way the model needs.
#
# ## Experiment 3: does the map depend on the weights?
#
# If a map explains what the model has learned, it must change when the learning is destroyed {cite}`adebayo2018sanity`. Draw D's weights anew from the top down: the head, then the LSTMs too, then the second convolutions, at last the first. After each step compute the maps of the *same* class and compare the ranks of their cells with the trained model's: Spearman's $\rho$, 1 for the same order, 0 for none.
#
# **Prediction and threshold.** A method *depends on the weights* if, with all of them random, the upper end of the interval of $\rho$ is below 0.5. The gradient of D does, since nothing but weights is in it; integrated gradients, multiplied by $x - \bar x$, do not.


# %% tags=["protocol"]
def ranks(heat):
    """Centred ranks of a map's cells (equal cells share one), scaled to length 1: (B, 256) double."""
    ranks = torch.from_numpy(rankdata(cells(heat).flatten(1), axis=1))
    return F.normalize(ranks - ranks.mean(1, keepdim=True), dim=1)


def spearman(one, other):
    """Rank correlation of two maps as they are shown (what is above 0), clip by clip."""
    return (ranks(one.clamp(min=0)) * ranks(other.clamp(min=0))).sum(1)


def signed_spearman(one, other):
    """Rank correlation of two maps with their signs."""
    return (ranks(one) * ranks(other)).sum(1)


def redraw(parts):
    """Draw the weights of modules anew, as they were drawn before training."""
    for part in parts:
        for module in part.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
            for name in {"queries", "table"} & dict(module.named_parameters(recurse=False)).keys():
                nn.init.normal_(getattr(module, name), std=0.02 if name == "queries" else 0.5)


def all_random(made, seed):
    """A copy of a design with no trained weight left (E keeps its fixed components)."""
    torch.manual_seed(seed)
    model = copy.deepcopy(made.model)
    redraw([model])
    return model.eval()


# %%
steps = {
    "head": lambda m: [m.head],
    "+ LSTM": lambda m: [b.lstm for b in m.branches],
    "+ second conv": lambda m: [b.layers[3:5] for b in m.branches],
    "+ first conv": lambda m: [b.layers[:2] for b in m.branches],
}
x, c = clips[: sizes.sanity], said[: sizes.sanity]
broken, trained = copy.deepcopy(D), {n: h[: sizes.sanity] for n, h in studies["D"]["heat"].items()}
torch.manual_seed(0)
cascade = {name: [torch.ones(len(x))] for name in trained if name != "random"}
for parts in steps.values():
    redraw(parts(broken))
    fresh = maps_of(broken.eval(), x, c)
    for name, values in cascade.items():
        values.append(spearman(trained[name], fresh[name]))

# %% mystnb={"figure": {"name": "fig-21-cascade", "caption": "Rank correlation of D's maps with those of the trained D, as its weights are drawn anew from the top. The gradient keeps most of its order to the end; the map without a model has nothing to lose."}, "image": {"alt": "Falling lines over five steps, from trained to all random; occlusion and Grad-CAM fall furthest"}}
fig, ax = plt.subplots(figsize=(6.4, 3))
for name, values in cascade.items():
    middle, half = zip(*(mean_interval(v) for v in values), strict=True)
    ax.errorbar(range(5), middle, yerr=half, color=colors[name], marker="o", ms=4, label=name)
ax.axhline(0.5, color=plots.GRAY, ls="--", lw=1)
ax.set(xticks=range(5), ylabel="Spearman's ρ", ylim=(-0.15, 1.05))
ax.set_xticklabels(["trained", *steps], fontsize=8)
_ = ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))


# %% tags=["protocol"]
def kept_order(made, done):
    """Rank correlations, clip by clip, of the trained maps with those of all-random weights."""
    n, found = sizes.sanity, {"rho": {}, "signed rho": {}}
    for seed in range(sizes.inits):
        fresh = maps_of(all_random(made, seed), done["clips"][:n], done["classes"][:n])
        for name, heat in fresh.items():
            was = done["heat"][name][:n]
            found["rho"].setdefault(name, []).append(spearman(was, heat))
            found["signed rho"].setdefault(name, []).append(signed_spearman(was, heat))
    return {k: {n: torch.stack(v).mean(0) for n, v in each.items()} for k, each in found.items()}


# %%
kept = {d: kept_order(designs[d], s) for d, s in studies.items()}
print(f"{'(with signs)':12s}", *(f"{d:>21s}" for d in kept))
for name in dict.fromkeys(n for s in studies.values() for n in s["heat"] if n != "random"):
    cols = []
    for k in kept.values():
        value = [mean_interval(k[key][name]) for key in k if name in k[key]]
        cols.append(f"{value[0][0]:+.2f} ± {value[0][1]:.2f} ({value[1][0]:+.2f})" if value else "")
    print(f"{name:12s}", *(f"{text:>21s}" for text in cols))

# %%
outcome = {
    "D's gradient depends on the weights": sum(mean_interval(kept["D"]["rho"]["gradient"])) < 0.5,
    "D's IG does not": sum(mean_interval(kept["D"]["rho"]["IG"])) >= 0.5,
}
for name, ok in outcome.items():
    print(f"{name}:", "holds" if ok else "REFUTED")

# %% [markdown]
# A gradient with *nothing* learned in it keeps most of the order of the learned one in D, and far less in A and E. A likely reason is D's architecture: through ReLUs and maxima, a slope flows back only to where an activation is large, and with any weights that is where something moves. Such a map is plausible before any training, and that is why plausibility is a bad judge. In the paper, on networks for photographs, plain gradients passed {cite}`adebayo2018sanity`: the check belongs to the pair of method and model, not to the method.
#
# IG as it is shown (what is above 0) keeps its order too; *with its sign* (in brackets) it keeps none. Where it is large is the clip's doing, through the factor $x - \bar x$; whether it speaks for the class or against it is the model's. The picture hides the half that was learned.
#
# ## Do the methods agree?
#
# If two methods answered one question, they would rank the cells alike.

# %% mystnb={"figure": {"name": "fig-21-agreement", "caption": "Spearman's ρ between the maps of two methods, mean over clips: design D (left), A (right). In D the gradient family agrees with itself; in A the gradient agrees best with rollout, which knows no class. Occlusion agrees with hardly any."}, "image": {"alt": "Two square tables of correlations; in D highest among gradient, SmoothGrad and IG, in A between gradient, IG and rollout; low for occlusion"}}
fig, axes = plt.subplots(1, 2, figsize=(9.4, 3.9))
agree = {}
for ax, d in zip(axes, "DA"):
    names = [n for n in studies[d]["heat"] if n != "random"]
    rank = torch.stack(
        [ranks(studies[d]["heat"][n].clamp(min=0)) for n in names]
    )  # (methods, N, 256)
    agree[d] = torch.einsum("fnc,gnc->fg", rank, rank) / rank.shape[1]
    ax.imshow(agree[d], vmin=0, vmax=1)
    for (i, j), value in np.ndenumerate(agree[d].numpy()):
        ax.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=7, color="black" if value > 0.5 else "white")  # fmt: skip
    ax.set(xticks=range(len(names)), yticks=range(len(names)), title=f"design {d}")
    ax.set_xticklabels(names, rotation=40, ha="right", fontsize=8)
    ax.set_yticklabels(names, fontsize=8)

# %% [markdown]
# They answer different questions: where is the score *steep* (gradient), how is it *made up* on one way from nothing (IG), what happens if *this window alone* is gone (occlusion), where is the last layer active *for* the class (Grad-CAM), whence does attention *read* (rollout). Whoever shows one map has chosen the question.
#
# ## Experiment 4: a planted shortcut
#
# Now a case in which you know what the model looks at, because you put it there. A lamp of 4 × 4 pixels in the upper right corner lights up in the first two of eight frames when the class is even ("left") and in the last two when it is odd ("right"). In training it tells the truth in nine clips of ten and lies in the tenth. (A patch that does not blink would be nothing to D: you saw above that it is subtracted.)
#
# Two small D's are trained alike, on the same clips, with and without lamp: 375 updates each, one rate. (How far a model leans on a shortcut depends on how hard the honest way is: in trial runs at level 1, and at twice the rate, it leaned less.)
#
# **Thresholds, before looking.** The shortcut is *taken* if a lamp that lies costs the planted model 0.3 or more of its accuracy within pairs, and the clean model less than 0.1. A method *reveals* it if, on test clips with a lamp that tells the truth, (a) the planted model's heat in the corner is at least three times the corner's share of the pixels, and (b) in half of the clips or more it exceeds 95 % of the clean model's *on the same clips*. (The clean model sees the lamp too, and a flash is something for it to look at.)
#
# **Prediction.** All methods reveal it.


# %% tags=["protocol"]
EPOCHS, RATE = 5, 4e-3
CORNER = (Ellipsis, slice(None, 4), slice(-4, None))


def lamp(clips, late):
    """The clips with a lamp in the corner: early in the clip, or late."""
    clips = clips.clone()
    for when, rows in ((slice(0, 2), ~late), (slice(-2, None), late)):
        part = clips[rows]
        part[:, when][CORNER] = 1
        clips[rows] = part
    return clips


def eight(split, count):
    """Every second frame of the first clips of a split."""
    return split.clips[:count, 1::2].movedim(-1, 2).float() / 255


def train_small(splits, planted, seed):
    """A small D, trained with or without the lamp, and its training loss at the end."""
    training.seed_everything(seed)
    model = SoraFusion(12, dim=32, branches=(3,), channels=(8, 16))
    data = []
    for name, count in (("train", 2400), ("val", 300)):
        x, y = eight(splits[name], count), splits[name].labels[:count]
        lies = torch.rand(count, generator=torch.Generator().manual_seed(seed)) < 0.1
        data.append(TensorDataset(lamp(x, (y % 2 == 1) ^ lies) if planted else x, y))
    history = training.fit(model, *data, epochs=EPOCHS, lr=RATE, seed=seed, progress=False)
    return model.cpu().eval(), history.train_loss[-1]


def lamp_scores(model, split):
    """Overall, pair and within scores on test clips without lamp, with a true one, with a lying one."""
    x, y = eight(split, 600), split.labels[:600]
    shown = {"none": x, "true": lamp(x, y % 2 == 1), "lying": lamp(x, y % 2 == 0)}
    scores = {name: pair_scores(training.predict(model, z), y) for name, z in shown.items()}
    return {name: {k: float(v) for k, v in row.items()} for name, row in scores.items()}


# %%
splits = {
    n: motion.load(motion.MotionSpec(level=2), n, progress=False) for n in ("train", "val")
} | {"test": test}
small, lamps = {}, {}
for name in ("clean", "planted"):
    small[name], loss = train_small(splits, name == "planted", seed=0)
    lamps[name] = lamp_scores(small[name], test)
    row = [f"{how} {s['overall']:.2f} ({s['within']:.2f})" for how, s in lamps[name].items()]
    print(f"{name:8s} loss {loss:.2f}; lamp", ", ".join(row))
print("training loss; accuracy, and in brackets within pairs")


# %% tags=["nbval-check-output"]
def cost(scores):
    """What a lying lamp takes from the accuracy within pairs, against a true one."""
    return scores["true"]["within"] - scores["lying"]["within"]


print("taken by the planted model:", cost(lamps["planted"]) >= 0.3)
print("direction of the clean model unmoved:", abs(cost(lamps["clean"])) < 0.1)

# %% [markdown]
# With a true lamp the planted model scores higher than the clean one without: on paper it is the better model. With a lying one it is below chance within pairs. Would you have noticed?


# %% tags=["protocol"]
def corner_heat(model, x):
    """Of each clip's positive heat by each method, the part in the lamp's corner."""
    classes = training.predict(model, x).argmax(1)
    warm = {n: h.clamp(min=0) for n, h in all_maps(model.cpu(), x, classes).items()}
    return {n: h[CORNER].sum((1, 2, 3)) / h.sum((1, 2, 3)).clamp(min=1e-9) for n, h in warm.items()}


def revealed(planted, clean):
    """Of each method: the corner's heat over its share of pixels; how many clips exceed 95 % of the clean ones."""
    return {
        n: {"times": (planted[n].mean() / (16 / 1024)).item(), "noticed": (planted[n] > clean[n].quantile(0.95)).float().mean().item()}
        for n in planted
    }  # fmt: skip


def says(found):
    """Whether a method reveals the lamp, by the thresholds above."""
    return found["times"] >= 3 and found["noticed"] >= 0.5


# %%
lit = lamp(eight(test, N), test.labels[:N] % 2 == 1)
heats = {name: corner_heat(model, lit) for name, model in small.items()}
found = revealed(heats["planted"], heats["clean"])
print(f"{'':11s}  heat in the corner / its area   clips above the clean model's 95 %")
for name, f in found.items():
    word = "reveals" if says(f) else "does not"
    print(f"{name:11s}  {f['times']:14.1f}  {f['noticed']:28.2f}         {word}")

# %% mystnb={"figure": {"name": "fig-21-lamp", "caption": "A test clip with the lamp (upper right corner, first or last two frames), and the positive heat of three methods for the clean model and for the planted one. Would you pick out the corner?"}, "image": {"alt": "Seven rows of eight frames: a clip with a white corner in two frames, then heat maps; hardly any shows the lamp"}}
rows, names = [lit[shown]], ["clip"]
for who, model in small.items():
    answer = model(lit[[shown]]).argmax(1)
    for name, heat in maps_of(model, lit[[shown]], answer).items():
        if name in ("gradient", "IG", "occlusion"):
            heat = heat[0].clamp(min=0)
            colored = plt.cm.cividis((heat / heat.max().clamp(min=1e-9)).sqrt().numpy())[..., :3]
            rows.append(torch.from_numpy(colored).movedim(-1, 1).float())
            names.append(f"{name}, {who}")
_ = plots.filmstrip(rows, width=0.6, ylabels=names)

# %% [markdown]
# The prediction is refuted as badly as it can be. The direction hangs on the lamp, and no method reveals it. Without the clean model you would have cried victory: IG has many times its share in the corner. But on the same clips few exceed what the clean model shows there, whose direction does not follow the lamp (though the flash disturbs it: compare its accuracy with and without); and *no model* too has many times its share, for a flash is far from its mean.
#
# ### Two ways to be fairer to the maps
#
# **A control that is used to flashes.** The clean model had never seen one. Train a third, in whose clips the lamp flashes early or late *at random*: it has seen thousands, and they told it nothing.
#
# **The question that the lamp answers.** Why *right*, out of twelve? Most of that score is about *what* moves, and only the digit tells. The lamp answers: why right *and not left*? So explain the difference $f_c - f_{c'}$, with $c'$ the reversal twin.
#
# **Prediction.** With both, IG and occlusion reveal the lamp.


# %%
class Twins(nn.Module):
    """Each class's score less that of its reversal twin."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, clips):
        scores = self.model(clips)
        return scores - scores.unflatten(1, (6, 2)).flip(2).flatten(1)


def used_to_flashes(seed):
    """The small D, trained as the others, with a lamp that tells nothing."""
    training.seed_everything(seed)
    model, data = SoraFusion(12, dim=32, branches=(3,), channels=(8, 16)), []
    for name, count in (("train", 2400), ("val", 300)):
        late = torch.rand(count, generator=torch.Generator().manual_seed(seed)) < 0.5
        data.append(TensorDataset(lamp(eight(splits[name], count), late), splits[name].labels[:count]))  # fmt: skip
    history = training.fit(model, *data, epochs=EPOCHS, lr=RATE, seed=seed, progress=False)
    return model.cpu().eval(), history.train_loss[-1]


def corner_of_difference(model):
    """As `corner_heat`, for the difference between the model's answer and its twin."""
    with torch.no_grad():
        answers = model(lit).argmax(1)
    warm = {n: h.clamp(min=0) for n, h in all_maps(Twins(model), lit, answers).items()}
    return {n: h[CORNER].sum((1, 2, 3)) / h.sum((1, 2, 3)).clamp(min=1e-9) for n, h in warm.items()}


# %%
small["used"], loss = used_to_flashes(seed=0)
lamps["used"] = lamp_scores(small["used"], test)
row = [f"{how} {s['overall']:.2f} ({s['within']:.2f})" for how, s in lamps["used"].items()]
print(f"used     loss {loss:.2f}; lamp", ", ".join(row))
fair = {"class, new control": revealed(heats["planted"], corner_heat(small["used"], lit))}
both = (corner_of_difference(small[name]) for name in ("planted", "used"))
fair["twin, new control"] = revealed(*both)
print(f"{'':32s} corner / area   clips above the control's 95 %")
for question, table in fair.items():
    for name, f in table.items():
        word = "reveals" if says(f) else "does not"
        print(
            f"{question:20s} {name:11s} {f['times']:13.1f} {f['noticed']:14.2f}             {word}"
        )
at_last = [name for name in ("IG", "occlusion") if says(fair["twin, new control"][name])]
print("both reveal it:", "holds" if len(at_last) == 2 else "REFUTED")

# %% [markdown]
# Half refuted, and on one seed, in a test made after the first one failed; the receipt does not hold it. With the lamp's own question and a control that knows flashes, occlusion reveals it, which is itself an experiment on the clip; IG comes part of the way and would need a lower threshold, chosen *after* looking. The new control alone is not enough (upper half of the table). A shortcut that turns half of the answers (measured next) can hide from maps that are asked the usual question.
#
# ### What does reveal it
#
# You have a suspect, so experiment on it: same clip, lamp the other way. How often does the answer turn into its twin?

# %%
x, y = eight(test, 600), test.labels
turned = {}
for name, model in small.items():
    answers = [training.predict(model, lamp(x, y % 2 == way)).argmax(1) for way in (1, 0)]
    turned[name] = (answers[0] == answers[1] ^ 1).float().mean().item()
    print(f"{name:8s} {turned[name]:.2f} of the answers turn with the lamp")
assert turned["planted"] > 3 * max(turned["clean"], turned["used"])

# %% [markdown]
# One number, no map, and no doubt. Heat on a suspect says that the model *responds* to it; whether the answer *depends* on it, and how much, is seen by changing it. And the lamp that nobody suspects? There the maps do serve: with *no model* beside them they say where to begin to ask.
#
# ## The larger run, and the verdict
#
# `SORA_NB_TIER=T1 python scripts/record.py 21` runs the cells above that are tagged `protocol` on 200 test clips (deletion and insertion on the first 100, random weights on the first 30; above it was 64, 40 and 16), with more points on IG's way, two draws of random weights and three seeds of the shortcut. Intervals are over clips, for these weights.


# %% tags=["protocol", "hide-input"]
RECEIPT = "attribution"


def record():
    """All four experiments, as means with half-widths of 95 % intervals."""
    splits = {n: motion.load(motion.MotionSpec(level=2), n, progress=False) for n in motion.SPLITS}
    numbers = {"clips": sizes.clips, "designs": {}, "shortcut": []}
    for d in "DAE":
        made = recipe.load(ROOT / "data" / "checkpoints" / d)
        done = study(made, splits["test"], sizes.clips)
        kept, free = kept_order(made, done), done["scores"]["no model"]
        rows = numbers["designs"][d] = {}
        for name, game in done["scores"].items():
            values = {k: v for k, v in game.items() if k not in ("gone", "back")}
            values |= {
                f"{k} - no model": game[k] - free[k] for k in ("hit", "deletion", "insertion")
            }
            values |= {key: kept[key][name] for key in kept}
            rows[name] = {
                k: [round(v, 4) for v in mean_interval(value)] for k, value in values.items()
            }
    test = splits["test"]
    lit = lamp(eight(test, sizes.clips), test.labels[: sizes.clips] % 2 == 1)
    for seed in sizes.seeds:
        run, heat = {"seed": seed, "updates": EPOCHS * 2400 // 32}, {}
        for name in ("clean", "planted"):
            model, loss = train_small(splits, name == "planted", seed)
            run[name] = lamp_scores(model, test) | {"loss": loss}
            heat[name] = corner_heat(model, lit)
        run["methods"] = revealed(heat["planted"], heat["clean"])
        numbers["shortcut"].append(run)
    return list(sizes.seeds), numbers


# %%
numbers = ledger.read_receipt(RECEIPT)["numbers"]
columns = {"hit": "hits", "in box": "in box", "in time": "in time", "deletion - no model": "deletion", "rho": "ρ, random"}  # fmt: skip
print(f"{numbers['clips']} clips{'':4s}", *(f"{word:>13s}" for word in columns.values()))
for d, rows in numbers["designs"].items():
    for name, row in rows.items():
        shown_row = (f"{row[k][0]:+.2f} ± {row[k][1]:.2f}" for k in columns)
        print(f"{d} {name:11s}", *(f"{text:>13s}" for text in shown_row))

# %%
print("deletion: difference to no model, below 0 is better")
for run in numbers["shortcut"]:
    print(
        f"seed {run['seed']}, {run['updates']} updates; within pairs with lamp none, true, lying:"
    )
    for who in ("clean", "planted"):
        print(f"  {who:8s}", *(f"{run[who][k]['within']:.2f}" for k in ("none", "true", "lying")))
    print("  reveal it:", [n for n, f in run["methods"].items() if says(f)])


# %% [markdown]
# "What the model decides is hard to explain", say three of the articles, of A, D and E. Take it as: there is no method whose map (a) points at what moves, more often than chance, (b) finds what the model needs, its deletion score below that of *no model*, (c) depends on the weights, as shown, (d) for D, reveals the lamp in all seeds, by the thresholds set before looking, class question and clean control; always with the whole interval on the right side. The word is *refuted* if a method passes every test on the design, *partly* true if the best one passes at least half, and *holds* if none does. All of it is about *where* and *when*; *how* a network comes to its answer, no map says.


# %%
def passed(d, name):
    """The tests of one method on one design, from the receipt."""
    row = numbers["designs"][d][name]
    result = {
        "points": row["over chance"][0] - row["over chance"][1] > 0,
        "needed": sum(row["deletion - no model"]) < 0,
        "learned": sum(row["rho"]) < 0.5,
    }
    if d == "D":
        result["lamp"] = all(says(run["methods"][name]) for run in numbers["shortcut"])
    return result


tests = {
    d: {n: passed(d, n) for n in rows if n not in free} for d, rows in numbers["designs"].items()
}
for d, rows in tests.items():
    for name, row in rows.items():
        print(f"{d} {name:11s}", "  ".join(f"{k}: {'yes' if ok else 'no ':3s}" for k, ok in row.items()))  # fmt: skip


# %%
def verdict(rows):
    """How far the claim that nothing explains the model survives."""
    best = max(np.mean(list(row.values())) for row in rows.values())
    return "refuted" if best == 1 else "partly" if best >= 0.5 else "holds"


WORDS = {"points": "pointing at what moves", "needed": "deletion against no model"}
WORDS |= {"learned": "dependence on the weights", "lamp": "the planted lamp"}


def evidence(rows):
    """What the best methods passed and failed."""
    best, of = max(sum(row.values()) for row in rows.values()), len(next(iter(rows.values())))
    top = {n: row for n, row in rows.items() if sum(row.values()) == best}
    missed = [
        word for k, word in WORDS.items() if not all(row.get(k, True) for row in top.values())
    ]
    lack = f"; what one or all of them failed: {', '.join(missed)}" if missed else ""
    return f"Of {of} tests of where and when it looks, {', '.join(top)} passed {best}{lack}. How it decides, no map says."


ledger.claim("A17", verdict(tests["A"]), evidence(tests["A"]))
ledger.claim("D18", verdict(tests["D"]), evidence(tests["D"]))
ledger.claim("E22", verdict(tests["E"]), evidence(tests["E"]))

# %% [markdown]
# ## What the articles said, and what is true
#
# | printed | true |
# |---|---|
# | the inner workings are complex, so the decision is hard to explain (A, D, E) | *where* and *when* the model looks can be measured, and the measurement tested; *how* it decides is another question |
# | explanation techniques should be brought in (E) | they are a few lines each; what takes work is finding out which of them to believe |
# | (often added: attention shows what a Transformer looks at) | rollout knows no class and no sign; see its rows above |
#
# ## What you should know
#
# - A map answers one question: slope, share on a way from nothing, effect of a hole, last layer, attention. Say which.
# - "Nothing" is a choice. For a model that centers, it is the still clip; black holes move.
# - Centering makes slopes add up to 0 over time: ghosts in every frame, and blindness to still patches.
# - Compare with a map that knows no model, and with random weights. Being plausible is neither.
# - Heat on a suspect proves little: a model that does not care may glow there too. Change the suspect, and watch the answer.
#
# **Recall.** Answer before you unfold.
#
# 1. Both baselines, black and still, give complete attributions that sum to the same. Why do they still differ, and in which direction of the array?
# 2. Why does a map that is the same everywhere earn exactly chance in `pointing`, and not 0 or 1?
# 3. D's gradient keeps its order when all weights are random. What does it show then?
# 4. A patch of one colour stands in the corner of all "left" clips in training. Can D learn to use it? And MeanPool, which does not center?
#
# ```{admonition} Answers
# :class: dropdown
# 1. The factor in front differs by $\bar x$, which is the same in every frame, times slopes that add up to 0 over time. So they differ along time, at places that are bright and stand still.
# 2. All pixels are hottest, and they share the hit: the share of them that lies in a box is chance.
# 3. Where activations are large whatever the weights: where something moves.
# 4. D cannot: the patch is subtracted before the first layer. MeanPool can, and it will.
# ```
#
# ## Exercises
#
# ```{exercise} Warm-up: past a kink
# :label: ex-21-kink
# $f(a) = \max(a - 1, 0)$, from 0 to 3. Compute slope times input at 3, and integrated gradients. Which one is complete, and what does the midpoint rule with three steps say?
# ```
#
# ```{solution} ex-21-kink
# :class: dropdown
# Slope times input is 3. The slope is 0 up to 1 and 1 from there on: its mean is 2/3, so IG is 2 = f(3) − f(0). The midpoints are 0.5, 1.5 and 2.5, with slopes 0, 1, 1: exactly 2.
# ```
#
# ```{exercise} Warm-up: chance
# :label: ex-21-chance
# The box is 10 × 12 pixels in each of six frames and missing in two; frames are 32 × 32. What is chance in the pointing game? And for a map that is 0 but in the two frames without a box?
# ```
#
# ```{solution} ex-21-chance
# :class: dropdown
# $120/1024$, about 12 in 100: the two frames do not count. In the other six that map is 0 everywhere, a constant, and earns the same.
# ```
#
# ```{exercise} Build: why left and not right?
# :label: ex-21-twin
# Explain D's answer against its reversal twin, `said ^ 1`, by IG. Tests to pass: the sum is the difference at $x$ less that at the still clip, and the map of the twin against the answer is the negative. Is more of the heat in the moving frames than before?
# ```
#
# ```{hint}
# :class: dropdown
# `Twins` does it for all classes at once. What both classes need ("something crosses") cancels.
# ```
#
# ```{exercise} Build: smaller holes
# :label: ex-21-holes
# Run `occlusion` with windows of 2 × 4 × 4, and with windows of 2 × 8 × 8 at a stride of 2 × 4 × 4. How many passes does each take? Does deletion get better, and why might small holes do *worse*?
# ```
#
# ```{hint}
# :class: dropdown
# 256 and 196. A small hole removes so little that the rest of the digit makes up for it: each falls short, and noise decides the order.
# ```
#
# ```{exercise} Build: the clip backwards
# :label: ex-21-backwards
# Reverse a clip in time. The answer should be the twin; should the map be the reversed map? Write the test with `spearman`, for each method, and put the pairs in order. Which method is closest to 1, and does that make it better?
# ```
#
# ```{hint}
# :class: dropdown
# Nothing in D makes it so: its LSTM reads one way. *No model* has 1 by construction; so being near 1 proves nothing about the model.
# ```
#
# ```{exercise} Explore: other lamps
# :label: ex-21-lamp
# Make the lamp larger, or as faint as the picture's mean plus a tenth, or move it to a random corner in each clip. When is the shortcut no longer taken? When does a method reveal it by our thresholds?
# ```
#
# ```{hint}
# :class: dropdown
# With a random corner "heat in the corner" has to become heat in *the clip's own* corner: you can only measure what you suspect.
# ```
#
# ```{exercise} Explore: your own model
# :label: ex-21-own
# Take a recipe of {chapter}`14` that you trained on your own videos. Look at twenty maps of right answers and twenty of wrong ones, with *no model* beside each. Then state, as a number, what you think the model looks at, and test it with `deletion`.
# ```
#
# ```{hint}
# :class: dropdown
# "The logo in the corner" is a mask: compare deleting it with deleting as many other pixels.
# ```
#
# ## References
#
# ```{bibliography}
# :filter: docname in docnames
# ```
