"""What did a model look at? Attributions of a class score to a clip's pixels, and the games that score them.

All take the model in evaluation mode, clips (B, T, C, H, W), and the class of each clip whose score (logit) is explained.
cuDNN's recurrent layers give no gradient in evaluation mode: on a GPU, move a model with an LSTM to the CPU first.
Derived in chapter 21.
"""

from collections.abc import Callable
from itertools import product

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from sora_nb.layers.door import Clips

Model = Callable[[Tensor], Tensor]
Classes = Int64[Tensor, " batch"]
Heat = Float[Tensor, "batch time height width"]


def gradient(model: Model, clips: Clips, classes: Classes) -> Clips:
    """Derivative of each clip's score by its own pixels (Simonyan et al. 2013). Derived in chapter 21."""
    clips = clips.detach().requires_grad_()
    return torch.autograd.grad(_scores(model, clips, classes).sum(), clips)[0]


def integrated_gradients(
    model: Model, clips: Clips, classes: Classes, baseline: Clips, steps: int = 16
) -> Clips:
    r"""(x - x') times the mean gradient on the way from the baseline x' to x (Sundararajan et al. 2017), midpoint rule.

    Its sum over a clip is the difference of the two scores, up to the error of the rule. Derived in chapter 21.
    """
    total = torch.zeros_like(clips)
    for step in range(steps):
        total += gradient(model, baseline + (step + 0.5) / steps * (clips - baseline), classes)
    return (clips - baseline) * total / steps


def grad_cam(
    model: nn.Module, clips: Clips, classes: Classes, layer: nn.Module
) -> Float[Tensor, "batch t h w"]:
    """Sum of a layer's channels, each weighted by the mean gradient of the score by it; only what is above 0 stays.

    The layer's output is (B, D, t, h, w), and so is the map's grid (Selvaraju et al. 2017). Derived in chapter 21.
    """
    kept = []
    handle = layer.register_forward_hook(lambda module, inputs, output: kept.append(output))
    try:
        scores = _scores(model, clips, classes)
    finally:
        handle.remove()
    [slope] = torch.autograd.grad(scores.sum(), kept)
    return F.relu((slope.mean((2, 3, 4), keepdim=True) * kept[0]).sum(1)).detach()


@torch.no_grad()
def occlusion(
    model: Model,
    clips: Clips,
    classes: Classes,
    baseline: Clips,
    window: tuple[int, int, int],
    stride: tuple[int, int, int],
) -> Heat:
    """How far the score falls where a window of frames, rows and columns shows the baseline (Zeiler and Fergus 2014).

    A pixel gets the mean over the windows that hold it; windows begin at 0 and the last is cut off at the edge.
    Derived in chapter 21.
    """
    whole, shape = _scores(model, clips, classes), (clips.shape[1], *clips.shape[3:])
    fall, times = clips.new_zeros(len(clips), *shape), clips.new_zeros(shape)
    for corner in product(*(range(0, n - w + s, s) for n, w, s in zip(shape, window, stride, strict=True))):
        t, y, x = (slice(c, c + w) for c, w in zip(corner, window, strict=True))
        hidden = clips.clone()
        hidden[:, t, :, y, x] = baseline[:, t, :, y, x]
        fall[:, t, y, x] += (whole - _scores(model, hidden, classes))[:, None, None, None]
        times[t, y, x] += 1
    return fall / times


def inside(boxes: Float[Tensor, "batch time 4"], size: int) -> Bool[Tensor, "batch time size size"]:
    """Pixels whose middle lies in a box ``x0, y0, x1, y1`` (in pixels); none where the box is NaN. Used in chapter 21."""
    low, high = boxes[..., :2, None], boxes[..., 2:, None]  # (B, T, 2, 1)
    middle = torch.arange(size, device=boxes.device) + 0.5
    x, y = ((low <= middle) & (middle <= high)).unbind(2)  # (B, T, size) each
    return y[..., None] & x[..., None, :]


def pointing(
    heat: Float[Tensor, "batch time size size"], boxes: Float[Tensor, "batch time 4"]
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """Whether the hottest pixel lies in the box of its frame, and the share of pixels that do: chance.

    Frames without a box (NaN) do not count. Equal maxima share the hit, so that a constant map earns just chance
    (after Zhang et al. 2018). Derived in chapter 21.
    """
    mask, seen = inside(boxes, heat.shape[-1]), ~boxes.isnan().any(-1)[..., None, None]
    heat = heat.masked_fill(~seen, -torch.inf)
    hottest = (heat == heat.amax((1, 2, 3), keepdim=True)) & seen
    hits = (hottest & mask).sum((1, 2, 3)) / hottest.sum((1, 2, 3))
    return hits, mask.sum((1, 2, 3)) / seen.expand_as(mask).sum((1, 2, 3))


@torch.no_grad()
def deletion(
    model: Model,
    clips: Clips,
    classes: Classes,
    baseline: Clips,
    heat: Float[Tensor, "batch t h w"],
    steps: int,
) -> Float[Tensor, "batch points"]:
    """Probability of each clip's class while its hottest cells are replaced by the baseline's, in ``steps`` equal parts.

    The heat's grid says how large a cell is. With clips and baseline swapped this is insertion (Petsiuk et al. 2018).
    Derived in chapter 21.
    """
    rank = heat.flatten(1).argsort(1, descending=True).argsort(1).view_as(heat) / heat[0].numel()
    rank = F.interpolate(rank[:, None], (clips.shape[1], *clips.shape[3:])).movedim(1, 2)  # (B, T, 1, H, W)
    shown = [torch.where(rank < k / steps, baseline, clips) for k in range(steps + 1)]
    return torch.stack([model(x).softmax(1).gather(1, classes[:, None])[:, 0] for x in shown], 1)


def _scores(model: Model, clips: Tensor, classes: Tensor) -> Tensor:
    return model(clips).gather(1, classes[:, None])[:, 0]
