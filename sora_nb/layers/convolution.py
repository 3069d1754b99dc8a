"""Convolution over time and over space–time: causal, dilated, residual, factorised. Derived in chapters 09 and 10."""

import warnings

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


def causal_conv1d(
    x: Float[Tensor, "batch channels time"],
    weight: Float[Tensor, "out channels kernel"],
    bias: Float[Tensor, " out"] | None = None,
    dilation: int = 1,
) -> Float[Tensor, "batch out time"]:
    r"""Convolve so that output t sees no frame after t: :math:`y_t = b + \sum_i W_i x_{t - (k - 1 - i) d}`.

    The same weights and layout as ``F.conv1d``, after (k − 1)·d zeros on the left (van den Oord et al. 2016).

    Raises:
        ValueError: the channels of x and weight differ, or the kernel is larger than the clip.

    Derived in chapter 10.
    """
    kernel = weight.shape[2]
    _check(x, weight.shape[1], "causal_conv1d", kernel)
    x = F.pad(x, ((kernel - 1) * dilation, 0))  # (B, C, T) -> (B, C, (k-1)d + T)
    return F.conv1d(x, weight, bias, dilation=dilation)  # -> (B, out, T)


class CausalConv1d(nn.Conv1d):
    """:func:`causal_conv1d` as a layer with a streaming step.

    ``causal=False`` pads both sides alike, so that the future leaks in: the mistake that chapter 10 makes on purpose,
    and what offline models such as MS-TCN want. Derived in chapter 10.
    """

    def __init__(self, channels: int, out: int, kernel: int = 3, dilation: int = 1, causal: bool = True):
        super().__init__(channels, out, kernel, dilation=dilation)
        self.causal, self.context = causal, (kernel - 1) * dilation
        if not causal and self.context % 2:
            raise ValueError(
                f"An acausal convolution pads both sides alike; kernel {kernel} × dilation {dilation} is lopsided."
            )

    def forward(self, x: Float[Tensor, "batch channels time"]) -> Float[Tensor, "batch out time"]:
        if self.causal:
            return causal_conv1d(x, self.weight, self.bias, self.dilation[0])
        _check(x, self.in_channels, "CausalConv1d", self.kernel_size[0])
        return F.conv1d(x, self.weight, self.bias, padding=self.context // 2, dilation=self.dilation)

    def step(self, x: Float[Tensor, "batch channels"], past: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Take one frame and the (k − 1)·d frames before it; return the output frame and the new past."""
        if not self.causal:
            raise ValueError(
                "An acausal convolution cannot stream, its output needs frames to come; build it with causal=True."
            )
        past = x.new_zeros(*x.shape, self.context) if past is None else past
        window = torch.cat([past, x[..., None]], -1)  # (B, C, (k-1)d + 1)
        return F.conv1d(window, self.weight, self.bias, dilation=self.dilation)[..., 0], window[..., 1:]


class TemporalBlock(nn.Module):
    r"""Two dilated causal convolutions and a shortcut, :math:`\mathrm{ReLU}(x + F(x))` (Bai et al. 2018, arXiv 1803.01271).

    The paper also reparametrises each kernel by weight normalisation. That changes the path of training, not what the
    block can compute, and is left out. Layout (B, C, T), as in ``nn.Conv1d``. Derived in chapter 10.
    """

    def __init__(
        self,
        channels: int,
        out: int,
        kernel: int = 3,
        dilation: int = 1,
        dropout: float = 0.0,
        causal: bool = True,
    ):
        super().__init__()
        self.conv1 = CausalConv1d(channels, out, kernel, dilation, causal)
        self.conv2 = CausalConv1d(out, out, kernel, dilation, causal)
        self.shortcut = nn.Identity() if channels == out else nn.Conv1d(channels, out, 1)
        self.dropout = nn.Dropout(dropout)
        for conv in (self.conv1, self.conv2):
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")

    def forward(self, x: Float[Tensor, "batch channels time"]) -> Float[Tensor, "batch out time"]:
        y = self.dropout(torch.relu(self.conv1(x)))  # (B, C, T) -> (B, out, T)
        y = self.dropout(torch.relu(self.conv2(y)))
        return torch.relu(self.shortcut(x) + y)

    def step(self, x: Float[Tensor, "batch channels"], state: tuple = (None, None)) -> tuple[Tensor, tuple]:
        """Take one frame; return its output and the new state of both convolutions."""
        y, past1 = self.conv1.step(x, state[0])
        y, past2 = self.conv2.step(self.dropout(torch.relu(y)), state[1])
        shortcut = self.shortcut(x[..., None])[..., 0]  # (B, C) -> (B, out)
        return torch.relu(shortcut + self.dropout(torch.relu(y))), (past1, past2)


class TCN(nn.Module):
    r"""A temporal convolutional network: ``levels`` blocks with dilations 1, 2, 4, … (Bai et al. 2018).

    Args:
        dim: width of the input features.
        hidden: width of every block, and of the output.
        levels: number of blocks L; the receptive field is :math:`1 + 2 (k - 1)(2^L - 1)` frames.
        kernel: taps k of each convolution.
        dropout: probability after each convolution.
        causal: False pads both sides, so that an output also sees the future.

    Derived in chapter 10.
    """

    def __init__(
        self, dim: int, hidden: int, levels: int, kernel: int = 3, dropout: float = 0.0, causal: bool = True
    ):
        super().__init__()
        self.kernel = kernel
        widths = [dim] + [hidden] * levels
        self.blocks = nn.ModuleList(
            TemporalBlock(widths[i], hidden, kernel, 2**i, dropout, causal) for i in range(levels)
        )

    @property
    def receptive_field(self) -> int:
        """Frames, the current one included, that one output depends on."""
        return 1 + 2 * (self.kernel - 1) * (2 ** len(self.blocks) - 1)

    def forward(self, x: Float[Tensor, "batch time dim"]) -> Float[Tensor, "batch time hidden"]:
        """Map feature sequences to feature sequences of the same length.

        Raises:
            ValueError: the width differs from ``dim``, or the clip has fewer frames than the kernel has taps.

        Warns:
            UserWarning: the clip is shorter than the receptive field, so part of every view is padding.
        """
        warn_if_short(x.shape[1], self.receptive_field)
        x = x.mT  # (B, T, D) -> (B, D, T)
        for block in self.blocks:
            x = block(x)
        return x.mT  # (B, H, T) -> (B, T, H)

    def step(
        self, x: Float[Tensor, "batch dim"], state: list | None = None
    ) -> tuple[Float[Tensor, "batch hidden"], list]:
        """Take one frame; return its output, equal to that of :meth:`forward`, and the new state. Used in chapter 20."""
        states = [(None, None)] * len(self.blocks) if state is None else state
        new = []
        for block, old in zip(self.blocks, states, strict=True):
            x, now = block.step(x, old)
            new.append(now)
        return x, new


def warn_if_short(time: int, receptive_field: int) -> None:
    """Warn that a clip is shorter than the receptive field. Derived in chapter 10."""
    if time < receptive_field and not torch.compiler.is_compiling():
        warnings.warn(
            f"The clip has {time} frames and the receptive field is {receptive_field}: even the last output sees "
            f"{receptive_field - time} frames of padding, so the outermost taps never meet data; use longer clips or fewer levels.",
            stacklevel=3,
        )


class CausalConv3d(nn.Conv3d):
    """A 3-D convolution whose output sees no later frame; zeros around each frame keep its size.

    With a temporal stride s, output j ends its view at frame s·j + s − 1, the last of its group: a frame counts as seen
    once its group is complete. Layout (B, C, T, H, W), as in ``nn.Conv3d``.

    Args:
        channels, out: channels in and out.
        kernel: taps in (time, space); odd in space.
        stride: strides in (time, space).
        dilation: step between the taps in time.
        causal: False centres the view, so that the future leaks in.

    Raises:
        ValueError: (on a call) the channels differ.

    Derived in chapter 10.
    """

    def __init__(
        self,
        channels: int,
        out: int,
        kernel: tuple[int, int] = (3, 3),
        stride: tuple[int, int] = (1, 1),
        dilation: int = 1,
        causal: bool = True,
    ):
        (k, side), (s, hop) = kernel, stride
        super().__init__(
            channels, out, (k, side, side), (s, hop, hop), (0, side // 2, side // 2), (dilation, 1, 1)
        )
        total = (k - 1) * dilation + 1 - s
        self.time_padding = (total, 0) if causal else ((total + 1) // 2, total // 2)

    def forward(
        self, x: Float[Tensor, "batch channels time height width"]
    ) -> Float[Tensor, "batch out t h w"]:
        _check(x, self.in_channels, "CausalConv3d")
        return super().forward(F.pad(x, (0, 0, 0, 0, *self.time_padding)))


def factorised_width(channels: int, out: int, time: int = 3, space: int = 3) -> int:
    r"""Middle width that gives a (2+1)-D convolution the weights of the 3-D one it replaces.

    :math:`M = \lfloor t d^2 C_{in} C_{out} / (d^2 C_{in} + t C_{out}) \rfloor` (Tran et al. 2018, arXiv 1711.11248).
    Derived in chapter 09.
    """
    return time * space**2 * channels * out // (space**2 * channels + time * out)


class Conv2Plus1d(nn.Sequential):
    """A convolution over space, batch norm, ReLU, then one over time: as many weights as a 3³ kernel (Tran et al. 2018).

    Layout (B, C, T, H, W). Derived in chapter 09.
    """

    def __init__(self, channels: int, out: int, stride: int = 1):
        middle = factorised_width(channels, out)
        super().__init__(
            nn.Conv3d(channels, middle, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False),
            nn.BatchNorm3d(middle),
            nn.ReLU(inplace=True),
            nn.Conv3d(middle, out, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=False),
        )


class ResidualBlock3d(nn.Module):
    """Two 3³ convolutions with batch norm and a shortcut: the basic block of R3D, or of R(2+1)D if ``factorised``.

    Layout (B, C, T, H, W); ``stride`` divides time, height and width. Derived in chapter 09.
    """

    def __init__(self, channels: int, out: int, stride: int = 1, factorised: bool = False):
        super().__init__()
        self.conv1, self.norm1 = _conv3(channels, out, stride, factorised), nn.BatchNorm3d(out)
        self.conv2, self.norm2 = _conv3(out, out, 1, factorised), nn.BatchNorm3d(out)
        self.channels, self.shortcut = channels, nn.Identity()
        if stride != 1 or channels != out:
            self.shortcut = nn.Sequential(
                nn.Conv3d(channels, out, 1, stride, bias=False), nn.BatchNorm3d(out)
            )

    def forward(
        self, x: Float[Tensor, "batch channels time height width"]
    ) -> Float[Tensor, "batch out t h w"]:
        _check(x, self.channels, "ResidualBlock3d")
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)  # (B, C, T, H, W) -> (B, out, T/s, H/s, W/s)
        y = self.norm2(self.conv2(y))
        y += self.shortcut(x)
        return F.relu(y, inplace=True)


def _conv3(channels: int, out: int, stride: int, factorised: bool) -> nn.Module:
    if factorised:
        return Conv2Plus1d(channels, out, stride)
    return nn.Conv3d(channels, out, 3, stride, 1, bias=False)


def _check(x: Tensor, channels: int, name: str, kernel: int = 1) -> None:
    if x.shape[1] != channels:
        raise ValueError(
            f"{name} got {x.shape[1]} channels; its weights expect {channels} on axis 1 of {tuple(x.shape)}."
        )
    if x.shape[2] < kernel:
        raise ValueError(
            f"{name} got a clip of {x.shape[2]} frames for a kernel of {kernel}; give a longer clip or a smaller kernel."
        )
