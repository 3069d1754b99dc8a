"""A detector without anchors: at each cell of each frame's grid, is the middle of an object here, which, how large?

Derived in chapter 17.
"""

from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from sora_nb.layers.boxes import giou
from sora_nb.layers.door import Clips, centered, check_clips
from sora_nb.layers.frames import FrameGrid

SPREAD = 0.8  # of the bump that an object makes on the grid, in cells
NEAR = 0.3  # a cell on that bump, at least this high, learns the object's class and box


class Grids(NamedTuple):
    """What `SoraDetector` says of every cell; boxes are corners x0, y0, x1, y1 as fractions of the frame."""

    middle: Float[Tensor, "batch time grid grid"]  # logit: an object has its middle here
    classes: Float[Tensor, "batch time grid grid classes"]
    boxes: Float[Tensor, "batch time grid grid 4"]


class Detections(NamedTuple):
    """The surest boxes of each frame, surest first."""

    boxes: Float[Tensor, "batch time limit 4"]
    scores: Float[Tensor, "batch time limit"]
    labels: Int64[Tensor, "batch time limit"]


class _Step(nn.Module):
    """3 × 3 over space, then `kernel` over time, beside a shortcut."""

    def __init__(self, channels: int, dim: int, kernel: int):
        super().__init__()
        self.space = nn.Sequential(
            nn.Conv2d(channels, dim, 3, padding=1, bias=False), nn.BatchNorm2d(dim), nn.ReLU()
        )
        self.time = nn.Conv1d(dim, dim, kernel, padding=kernel // 2)

    def forward(self, x: Float[Tensor, "batch time channels height width"]) -> Tensor:
        batch, _, _, height, width = x.shape
        x = rearrange(x, "b t c h w -> (b t) c h w").contiguous(memory_format=torch.channels_last)
        x = rearrange(self.space(x), "(b t) c h w -> (b h w) c t", b=batch)
        x = F.relu(x + self.time(x))
        return rearrange(x, "(b h w) c t -> b t c h w", b=batch, h=height, w=width)


class SoraDetector(nn.Module):
    """Frames -> grids -> convolutions over space and time -> a middle, classes and a box for each cell.

    Derived in chapter 17.

    Args:
        classes: number of classes an object can have.
        dim: width of a cell, and of the representation.
        depth: layers over space and time behind the frame network.
        kernel: frames that each of them sees, odd; 1 looks at each frame by itself.
        frames: another network (B, T, C, H, W) -> (B, T, D, g, g) with an attribute ``width`` D, in place of `FrameGrid`.
        center: first take away each clip's mean over time; what stands still is then gone.
    """

    def __init__(
        self,
        classes: int,
        *,
        dim: int = 32,
        depth: int = 2,
        kernel: int = 3,
        frames: nn.Module | None = None,
        center: bool = False,
    ):
        super().__init__()
        self.frames = frames or FrameGrid((16, 32))
        self.width, self.center = dim, center
        first = getattr(self.frames, "width", 32)
        self.layers = nn.Sequential(*(_Step(dim if i else first, dim, kernel) for i in range(depth)))
        self.middle, self.head, self.box = nn.Linear(dim, 1), nn.Linear(dim, classes), nn.Linear(dim, 4)
        nn.init.constant_(self.middle.bias, -3.0)  # few cells hold a middle
        nn.init.constant_(self.box.bias, -1.8)  # softplus: a sixth of the frame to each side

    def cells(self, clips: Clips) -> Float[Tensor, "batch time grid grid dim"]:
        """One vector for each cell of each frame.

        Raises:
            ValueError: the clips have other axes, colours or numbers than the model takes, or hold nothing.
        """
        check_clips(self, clips)
        x = self.frames(centered(clips) if self.center else clips)  # -> (B, T, D, g, g)
        return self.layers(x).movedim(2, -1)  # -> (B, T, dim, g, g) -> (B, T, g, g, dim)

    def grids(self, clips: Clips) -> Grids:
        """What the model says of every cell; raises as `cells` does."""
        return self.read(self.cells(clips))

    def read(self, cells: Float[Tensor, "batch time grid grid dim"]) -> Grids:
        """What the three heads say of cells."""
        sides = F.softplus(self.box(cells))  # from the cell's middle to the left, top, right and bottom
        at = middles(cells.shape[2]).to(cells)  # (g, g, 2)
        boxes = torch.cat([at - sides[..., :2], at + sides[..., 2:]], -1)
        return Grids(self.middle(cells).squeeze(-1), self.head(cells), boxes)

    def detect(self, clips: Clips, limit: int = 6) -> Detections:
        """The ``limit`` highest peaks of each frame; a score is the chance of a middle times that of its class.

        A cell is a peak if none of its eight neighbours is higher: that takes the place of non-maximum suppression.
        """
        middle, classes, boxes = self.grids(clips)
        chance = middle.sigmoid()
        highest = F.max_pool2d(chance, 3, stride=1, padding=1)
        scores, cell = chance.where(chance == highest, 0).flatten(2).topk(limit)  # (B, T, limit)
        sure, labels = classes.softmax(-1).max(-1)
        picked = [x.flatten(2, 3).gather(2, cell) for x in (sure, labels)]
        boxes = boxes.flatten(2, 3).gather(2, cell[..., None].expand(-1, -1, -1, 4))
        scores, order = (scores * picked[0]).sort(-1, descending=True)
        return Detections(
            boxes.gather(2, order[..., None].expand_as(boxes)), scores, picked[1].gather(2, order)
        )

    def embed(self, clips: Clips) -> Float[Tensor, "batch dim"]:
        """One vector a clip: the mean of its cells, each counting as much as it may be a middle."""
        x = self.cells(clips).flatten(1, 3)  # -> (B, T·g·g, dim)
        return (self.middle(x).softmax(1) * x).sum(1)

    def forward(self, clips: Clips) -> Float[Tensor, "batch classes"]:
        """Class scores of the whole clip, those of `embed`."""
        return self.head(self.embed(clips))


def middles(grid: int) -> Float[Tensor, "grid grid 2"]:
    """x and y of the middle of each cell, as fractions of the frame. Derived in chapter 17."""
    at = (torch.arange(grid) + 0.5) / grid
    return torch.stack(torch.meshgrid(at, at, indexing="xy"), -1)


def bumps(
    boxes: Float[Tensor, "batch object time 4"], grid: int
) -> Float[Tensor, "batch object time grid grid"]:
    """A bump of height 1 on the grid round the middle of each box; 0 where the box is NaN. Derived in chapter 17."""
    at = (boxes[..., :2] + boxes[..., 2:]) / 2  # (B, K, T, 2)
    apart = (middles(grid).to(boxes) - at[..., None, None, :]) * grid  # (B, K, T, g, g, 2), in cells
    return (-apart.square().sum(-1) / (2 * SPREAD**2)).exp().nan_to_num(0)


def detection_loss(
    said: Grids, boxes: Float[Tensor, "batch object time 4"], labels: Int64[Tensor, "batch object"]
) -> dict[str, Float[Tensor, ""]]:
    """The four losses of a detector: middle, class, L1 and GIoU.

    The middle's is the focal loss of CenterNet (Zhou et al. 2019): a cell near a middle is half forgiven. Class and box are
    learned by the cells near a middle, each from the object whose middle is nearest. Derived in chapter 17.

    Args:
        said: of `SoraDetector.grids`.
        boxes: of each object, as fractions of the frame; NaN where it does not show.
        labels: class of each object.
    """
    bump, owner = bumps(boxes, said.middle.shape[-1]).max(1)  # (B, T, g, g)
    top = bump == F.max_pool2d(bump, 3, stride=1, padding=1)
    here = (top & (bump > NEAR)).to(bump)
    hit = here * (1 - said.middle.sigmoid()).square() * F.logsigmoid(said.middle)
    none = (1 - here) * (1 - bump) ** 4 * said.middle.sigmoid().square() * F.logsigmoid(-said.middle)
    weight = bump * (bump > NEAR)
    total = weight.sum().clamp(min=1)
    label = labels.gather(1, owner.flatten(1)).view_as(owner)
    true = boxes.permute(0, 2, 1, 3).gather(2, owner.flatten(2)[..., None].expand(-1, -1, -1, 4))
    true = true.view_as(said.boxes).nan_to_num(0)  # (B, T, g, g, 4); NaN has weight 0
    named = F.cross_entropy(said.classes.movedim(-1, 1), label, reduction="none")
    return {
        "middle": -(hit + none).sum() / here.sum().clamp(min=1),
        "class": (weight * named).sum() / total,
        "L1": (weight * (said.boxes - true).abs().sum(-1)).sum() / total,
        "GIoU": (weight * (1 - giou(said.boxes, true))).sum() / total,
    }
