"""The system of article E: a causal space–time autoencoder with a small code. Derived in chapter 10."""

import math

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sora_nb.layers.convolution import CausalConv3d

# Pixels of about zero mean and unit size: raw ones share a large mean, which is learned first and slows down the rest.
GRAY, SCALE = 0.5, 4.0


class CausalBlock(nn.Module):
    r"""A dilated causal convolution over time and a pointwise one, with a shortcut: :math:`x + F(x)`.

    It is a TCN's step at every place of the map; the strided convolutions around it mix space. Derived in chapter 10.
    """

    def __init__(self, width: int, dilation: int):
        super().__init__()
        self.conv1 = CausalConv3d(width, width, (3, 1), dilation=dilation)
        self.conv2 = nn.Conv3d(width, width, 1)

    def forward(
        self, x: Float[Tensor, "batch width time height width"]
    ) -> Float[Tensor, "batch width time height width"]:
        return x + self.conv2(F.silu(self.conv1(F.silu(x))))


class SoraAutoencoder(nn.Module):
    """Encode a clip into one small vector for every four frames, and decode it again.

    Convolutions halve height, width and time twice each; residual blocks with dilations 1, 2, 4 stand before the
    last of them; a linear map of a whole frame of features gives the code. The decoder mirrors it. Everything is
    causal in groups of four frames: vector j sees the frames up to 4j + 3, and the frames from 4j on are decoded from
    the vectors up to j, so that a stream can be coded as it comes.

    Args:
        code: numbers a vector; 16 frames make 4 vectors, so that the default of 16 is the article's code of 64.
        size: height and width of the frames; a multiple of 4.
        width: channels of the first convolution; the deeper ones have twice as many.
        channels: colours.

    Derived in chapter 10.
    """

    group = 4  # frames a code vector

    def __init__(self, code: int = 16, size: int = 16, width: int = 32, channels: int = 3):
        super().__init__()
        if size % 4:
            raise ValueError(
                f"SoraAutoencoder got size={size}; the frames are halved twice, give a multiple of 4."
            )
        self.shape, wide, cells = (channels, size, size), 2 * width, (size // 4) ** 2
        self.encoder = nn.Sequential(
            CausalConv3d(channels, width, stride=(1, 2)),
            nn.SiLU(),
            CausalConv3d(width, wide, stride=(2, 2)),
            *[CausalBlock(wide, d) for d in (1, 2, 4)],
            nn.SiLU(),
            CausalConv3d(wide, wide, stride=(2, 1)),
            nn.SiLU(),
        )
        self.to_code = nn.Linear(wide * cells, code)
        self.from_code = nn.Linear(code, wide * cells)
        self.decoder = nn.Sequential(
            nn.SiLU(),
            Upsample(wide, wide, (2, 1)),
            *[CausalBlock(wide, d) for d in (4, 2, 1)],
            nn.SiLU(),
            Upsample(wide, width, (2, 2)),
            nn.SiLU(),
            Upsample(width, channels, (1, 2)),
        )
        self._start()

    def _start(self) -> None:
        """Keep the signal's size from layer to layer (He et al. 2015); blocks start silent."""
        for module in self.modules():
            if isinstance(module, (nn.Conv3d, nn.ConvTranspose3d)):
                seen = module.weight[0, 0].numel()  # weights that reach one output
                if isinstance(module, Upsample):
                    seen //= math.prod(module.stride)
                nn.init.normal_(module.weight, std=(2 / (module.in_channels * seen)) ** 0.5)
                nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, CausalBlock):
                nn.init.zeros_(module.conv2.weight)

    def encode(
        self, clips: Float[Tensor, "batch time channels height width"]
    ) -> Float[Tensor, "batch steps code"]:
        """Return one code vector for every four frames.

        Raises:
            ValueError: the frames have another shape than the model, or their number is no multiple of four.
        """
        if clips.ndim != 5 or tuple(clips.shape[2:]) != self.shape or clips.shape[1] % self.group:
            raise ValueError(
                f"SoraAutoencoder got clips of shape {tuple(clips.shape)}; it expects (batch, time, {self.shape[0]}, "
                f"{self.shape[1]}, {self.shape[2]}) with time a multiple of {self.group}."
            )
        x = self.encoder(SCALE * (clips - GRAY).transpose(1, 2))  # (B, T, C, H, W) -> (B, W, T/4, H/4, W/4)
        return self.to_code(rearrange(x, "b c t h w -> b t (c h w)"))

    def decode(
        self, code: Float[Tensor, "batch steps code"]
    ) -> Float[Tensor, "batch time channels height width"]:
        """Return the clip that a code stands for; values are near [0, 1] but not clipped to it.

        Raises:
            ValueError: the vectors have another width than the model's code.
        """
        if code.ndim != 3 or code.shape[-1] != self.to_code.out_features:
            raise ValueError(
                f"SoraAutoencoder got a code of shape {tuple(code.shape)}; it expects (batch, steps, {self.to_code.out_features})."
            )
        side = self.shape[1] // 4
        x = rearrange(self.from_code(code), "b t (c h w) -> b c t h w", h=side, w=side)
        return GRAY + self.decoder(x).transpose(1, 2) / SCALE  # (B, C, T, H, W) -> (B, T, C, H, W)

    def forward(
        self, clips: Float[Tensor, "batch time channels height width"]
    ) -> Float[Tensor, "batch time channels height width"]:
        """Reconstruct clips with values in [0, 1]."""
        return self.decode(self.encode(clips))


class Upsample(nn.ConvTranspose3d):
    """Grow time and space by whole factors, each frame from its own group only. Derived in chapter 10."""

    def __init__(self, channels: int, out: int, factor: tuple[int, int]):
        time, space = factor
        kernel = 2 * space if space > 1 else 1
        super().__init__(
            channels, out, (time, kernel, kernel), (time, space, space), (0, space // 2, space // 2)
        )
