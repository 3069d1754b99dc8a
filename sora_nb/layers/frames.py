"""Small convolutional networks that turn each frame into a grid of features, or into one vector."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from sora_nb.layers.door import check_clips


class ResidualBlock(nn.Module):
    """relu(x + bn(conv(relu(bn(conv(x)))))) with 3 × 3 kernels (He et al. 2016). Derived in chapter 04."""

    def __init__(self, channels: int):
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(
        self, x: Float[Tensor, "n channels height width"]
    ) -> Float[Tensor, "n channels height width"]:
        """Add the branch to its input."""
        return F.relu(x + self.branch(x))


class FrameGrid(nn.Module):
    """Frames to grids of features, each frame by itself: (B, T, C, H, W) → (B, T, D, g, g). Derived in chapter 04.

    Each stage halves the side with a strided convolution. The last map is brought to a `grid` × `grid` grid, if it has
    not that size already.

    Args:
        channels: channels of the stages; the last is the width D of a cell.
        residual: follow each stage by a `ResidualBlock`.
        in_channels: channels of the frames.
        grid: side of the grid that is kept.
    """

    def __init__(
        self,
        channels: tuple[int, ...] = (16, 32),
        residual: bool = False,
        in_channels: int = 3,
        grid: int = 8,
    ):
        super().__init__()
        layers = []
        for width_in, width in zip((in_channels, *channels[:-1]), channels, strict=True):
            layers += [nn.Conv2d(width_in, width, 3, stride=2, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            layers += [ResidualBlock(width)] if residual else []
        self.stages = nn.Sequential(*layers)
        self.in_channels, self.grid = in_channels, grid

    def forward(
        self, clips: Float[Tensor, "batch time channels height width"]
    ) -> Float[Tensor, "batch time cell grid grid"]:
        """Return one grid of features a frame.

        Raises:
            ValueError: if the clips do not have the five axes (B, T, C, H, W), the right colours or the weights' dtype.
        """
        check_clips(self, clips, self.in_channels)
        frames = rearrange(clips, "b t c h w -> (b t) c h w")
        # Channels last in memory: the same numbers, a quarter less time on a CPU.
        maps = self.stages(frames.contiguous(memory_format=torch.channels_last))
        if maps.shape[-2:] != (self.grid, self.grid):  # no mutate
            maps = F.adaptive_avg_pool2d(maps, self.grid)  # (B·T, D, h, w) -> (B·T, D, g, g)
        return maps.unflatten(0, clips.shape[:2])  # -> (B, T, D, g, g)


class FrameCNN(FrameGrid):
    """Frames to features, each frame by itself: (B, T, C, H, W) → (B, T, D). Derived in chapter 04.

    The last grid is flattened, not averaged away: an average over the map would forget where things are, and motion is
    a change of where.

    Args:
        dim: width D of the features.
        channels, residual, in_channels, grid: as in `FrameGrid`.
    """

    def __init__(
        self,
        dim: int = 128,
        channels: tuple[int, ...] = (16, 32, 64),
        residual: bool = False,
        in_channels: int = 3,
        grid: int = 4,
    ):
        super().__init__(channels, residual, in_channels, grid)
        self.out = nn.Linear(channels[-1] * grid * grid, dim)

    def forward(
        self, clips: Float[Tensor, "batch time channels height width"]
    ) -> Float[Tensor, "batch time dim"]:
        """Return one feature a frame; raises as `FrameGrid` does."""
        return self.out(super().forward(clips).flatten(2))  # -> (B, T, D·g·g) -> (B, T, dim)
