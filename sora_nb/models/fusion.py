"""The system of article D: 3-D convolutions at two scales, an LSTM over time, feature fusion. Derived in chapter 09."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sora_nb.layers.door import Clips, centered, check_clips


class Branch(nn.Module):
    """Conv3d at one scale, then an LSTM over time: (B, 3, T, H, W) -> (B, D). Derived in chapter 09.

    The first convolution strides by 2 on all three axes, as the article's; the second only in space, for few frames are
    left. A maximum brings what remains to a ``grid`` × ``grid`` map.
    """

    def __init__(self, kernel: int, channels: tuple[int, int], dim: int, lstm: bool, grid: int):
        super().__init__()
        first, second = channels
        self.layers = nn.Sequential(*_conv(3, first, kernel, 2), *_conv(first, second, kernel, 1))
        self.grid = grid
        features = second * grid * grid
        self.lstm = nn.LSTM(features, dim, batch_first=True) if lstm else None
        self.width = dim if lstm else features

    def forward(self, x: Float[Tensor, "batch channels time height width"]) -> Float[Tensor, "batch dim"]:
        x = self.layers(x)  # (B, 3, T, H, W) -> (B, C, T/2, H/4, W/4)
        x = F.adaptive_max_pool3d(x, (None, self.grid, self.grid))  # -> (B, C, T/2, g, g)
        x = x.transpose(1, 2).flatten(2)  # -> (B, T/2, C·g·g): the batch stays the batch
        if self.lstm is not None:
            x = self.lstm(x)[0]  # -> (B, T/2, D)
        return x.mean(1)  # -> (B, D)


def fuse(*features: Float[Tensor, "batch _"]) -> Float[Tensor, "batch dim"]:
    r"""Concatenate, scale to length √D, squash: :math:`\tanh(\sqrt{D}\, z / \lVert z \rVert_2)`. Derived in chapter 09.

    The article's form has no √D. The entries of a unit vector are about 1/√D, where tanh is the identity.
    """
    z = torch.cat(features, -1)  # -> (B, D)
    return torch.tanh(F.normalize(z, dim=-1) * z.shape[-1] ** 0.5)


class SoraFusion(nn.Module):
    """Conv3d branches with kernels of several sizes -> LSTM -> concatenate, L2, tanh -> logits.

    It has no frame network to swap: its convolutions see space and time at once. Clips may have any number of frames.

    Args:
        classes: number of logits.
        dim: width of each branch's LSTM; the representation is as wide as all branches together.
        branches: kernel sizes, one branch for each; odd.
        channels: channels of the two convolutions of a branch.
        lstm: False averages over time without it.
        fusion: False concatenates without normalising and squashing.
        grid: side of the map that each frame is pooled to.
        center: first take away each clip's mean over time.

    Derived in chapter 09.
    """

    def __init__(
        self,
        classes: int,
        *,
        dim: int = 64,
        branches: tuple[int, ...] = (3, 5),
        channels: tuple[int, int] = (16, 32),
        lstm: bool = True,
        fusion: bool = True,
        grid: int = 2,
        center: bool = True,
    ):
        super().__init__()
        self.kernels, self.fusion, self.center = tuple(branches), fusion, center
        self.branches = nn.ModuleList(Branch(k, channels, dim, lstm, grid) for k in branches)
        self.width = sum(branch.width for branch in self.branches)
        self.head = nn.Linear(self.width, classes)

    @property
    def receptive_field(self) -> int:
        """Frames that one step of the widest branch's convolutions looks at; what is further apart only an LSTM relates."""
        return 3 * max(self.kernels) - 2

    def embed(self, clips: Clips) -> Float[Tensor, "batch dim"]:
        """One vector per clip, the input of the classifier.

        Raises:
            ValueError: the clips have other axes, colours or numbers than the model takes, or hold nothing.
        """
        check_clips(self, clips)
        x = (centered(clips) if self.center else clips).transpose(1, 2)  # (B, T, 3, H, W) -> (B, 3, T, H, W)
        features = [branch(x) for branch in self.branches]
        return fuse(*features) if self.fusion else torch.cat(features, -1)

    def forward(self, clips: Clips) -> Float[Tensor, "batch classes"]:
        """Logits of a batch of clips."""
        return self.head(self.embed(clips))


def _conv(channels: int, out: int, kernel: int, time_stride: int) -> list[nn.Module]:
    conv = nn.Conv3d(channels, out, kernel, (time_stride, 2, 2), kernel // 2, bias=False)
    return [conv, nn.BatchNorm3d(out), nn.ReLU(inplace=True)]
