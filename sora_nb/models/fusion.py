"""The system of article D: 3-D convolutions at two scales, an LSTM over time, feature fusion. Derived in chapter 09."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class Branch(nn.Module):
    """Conv3d at one scale, then an LSTM over time: (B, 3, T, H, W) -> (B, D). Derived in chapter 09.

    The first convolution strides by 2 on all three axes, as the article's; the second only in space, for few frames are
    left. A maximum brings what remains to a ``grid`` × ``grid`` map.
    """

    def __init__(self, kernel: int, widths: tuple[int, int], hidden: int, lstm: bool, grid: int):
        super().__init__()
        self.layers = nn.Sequential(*_conv(3, widths[0], kernel, 2), *_conv(widths[0], widths[1], kernel, 1))
        self.grid = grid
        features = widths[1] * grid * grid
        self.lstm = nn.LSTM(features, hidden, batch_first=True) if lstm else None
        self.width = hidden if lstm else features

    def forward(self, x: Float[Tensor, "batch channels time height width"]) -> Float[Tensor, "batch dim"]:
        x = self.layers(x)  # (B, 3, T, H, W) -> (B, C, T/2, H/4, W/4)
        x = F.adaptive_max_pool3d(x, (None, self.grid, self.grid))  # -> (B, C, T/2, g, g)
        x = x.transpose(1, 2).flatten(2)  # -> (B, T/2, C·g·g): the batch stays the batch
        if self.lstm is not None:
            x = self.lstm(x)[0]  # -> (B, T/2, hidden)
        return x.mean(1)  # -> (B, D)


def fuse(*features: Float[Tensor, "batch _"]) -> Float[Tensor, "batch dim"]:
    r"""Concatenate, scale to length √D, squash: :math:`\tanh(\sqrt{D}\, z / \lVert z \rVert_2)`. Derived in chapter 09.

    The article's form has no √D. The entries of a unit vector are about 1/√D, where tanh is the identity.
    """
    z = torch.cat(features, -1)  # -> (B, D)
    return torch.tanh(F.normalize(z, dim=-1) * z.shape[-1] ** 0.5)


class SoraFusion(nn.Module):
    """Conv3d branches with kernels of several sizes -> LSTM -> concatenate, L2, tanh -> logits.

    Args:
        classes: number of logits.
        branches: kernel sizes, one branch for each; odd.
        widths: channels of the two convolutions of a branch.
        hidden: width of each LSTM.
        lstm: False averages over time without it.
        fusion: False concatenates without normalising and squashing.
        grid: side of the map that each frame is pooled to.

    Derived in chapter 09.
    """

    def __init__(
        self,
        classes: int = 12,
        branches: tuple[int, ...] = (3, 5),
        widths: tuple[int, int] = (16, 32),
        hidden: int = 64,
        lstm: bool = True,
        fusion: bool = True,
        grid: int = 2,
    ):
        super().__init__()
        self.kernels, self.fusion = branches, fusion
        self.branches = nn.ModuleList(Branch(k, widths, hidden, lstm, grid) for k in branches)
        self.head = nn.Linear(sum(branch.width for branch in self.branches), classes)

    def embed(self, clips: Float[Tensor, "batch time 3 height width"]) -> Float[Tensor, "batch dim"]:
        """One vector per clip, the input of the classifier.

        Raises:
            ValueError: a clip has not 3 channels, or a kernel is larger than the clip.
        """
        self._check(clips)
        x = clips.transpose(1, 2)  # (B, T, 3, H, W) -> (B, 3, T, H, W)
        features = [branch(x) for branch in self.branches]
        return fuse(*features) if self.fusion else torch.cat(features, -1)

    def forward(self, clips: Float[Tensor, "batch time 3 height width"]) -> Float[Tensor, "batch classes"]:
        """Logits of a batch of clips."""
        return self.head(self.embed(clips))

    def _check(self, clips: Tensor) -> None:
        if clips.ndim != 5 or clips.shape[2] != 3:
            raise ValueError(
                f"SoraFusion got clips of shape {tuple(clips.shape)}; it expects (batch, time, 3, height, width)."
            )
        _, time, _, height, width = clips.shape
        if min(time, height, width) < max(self.kernels):
            raise ValueError(
                f"SoraFusion got clips of {time} frames of {height}×{width} for a kernel of {max(self.kernels)}³; "
                "give longer or larger clips, or smaller kernels."
            )


def _conv(channels: int, out: int, kernel: int, time_stride: int) -> list[nn.Module]:
    conv = nn.Conv3d(channels, out, kernel, (time_stride, 2, 2), kernel // 2, bias=False)
    return [conv, nn.BatchNorm3d(out), nn.ReLU(inplace=True)]
