"""A latent flow transformer for video: an autoencoder with a grid of space and time, and a velocity field on it.

Derived in chapter 18, after latent diffusion (Rombach et al. 2022) and the diffusion transformer (Peebles and Xie 2023).
"""

import math

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from sora_nb.layers.attention import MultiHeadAttention
from sora_nb.layers.components import Components
from sora_nb.layers.patches import Size, TubeletEmbedding, tubelets
from sora_nb.layers.transformer import FeedForward

Clips = Float[Tensor, "batch time channels height width"]
Latents = Float[Tensor, "batch t latent h w"]


def from_tubelets(
    x: Float[Tensor, "batch t h w features"], size: Size
) -> Float[Tensor, "batch time channels height width"]:
    """Put blocks back where `tubelets` took them. Derived in chapter 18."""
    i, j, k = size
    return rearrange(x, "b t h w (c i j k) -> b (t i) c (h j) (w k)", i=i, j=j, k=k)


class LatentVideo(nn.Module):
    """Clips to a small grid of latents in space and time, and back.

    Each block of ``size`` becomes ``channels`` numbers: its leading principal components, to which a small convolutional
    network may add. Both networks start at zero, so that the untrained model is principal component analysis of blocks.
    Derived in chapter 18.

    Args:
        channels: numbers a block.
        size: frames, rows and columns of a block.
        width: channels inside the two networks.
    """

    def __init__(self, channels: int = 8, size: Size = (4, 4, 4), width: int = 32):
        super().__init__()
        self.size, block = tuple(size), 3 * math.prod(size)
        self.linear = Components(block, channels)
        self.encoder = nn.Sequential(
            nn.Conv3d(block, width, 1), nn.GELU(), nn.Conv3d(width, width, 3, padding=1), nn.GELU()
        )
        self.to_latent = nn.Conv3d(width, channels, 1)
        self.decoder = nn.Sequential(
            nn.Conv3d(channels, width, 3, padding=1),
            nn.GELU(),
            nn.Conv3d(width, width, 3, padding=1),
            nn.GELU(),
        )
        self.to_block = nn.Conv3d(width, block, 1)
        for layer in (self.to_latent, self.to_block):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.register_buffer("center", torch.zeros(channels))
        self.register_buffer("spread", torch.ones(channels))

    def fit_linear(self, clips: Clips) -> None:
        """Take the principal components of all blocks; the model then is that code."""
        self.linear.fit(tubelets(clips, self.size).flatten(0, 3))

    @torch.no_grad()
    def standardize(self, clips: Clips) -> None:
        """Make each latent channel's mean 0 and standard deviation 1 over these clips."""
        self.center.zero_()
        self.spread.fill_(1)
        z = torch.cat([self.encode(part) for part in clips.split(200)])
        self.center.copy_(z.mean((0, 1, 3, 4)))
        self.spread.copy_(z.std((0, 1, 3, 4)))

    def encode(self, clips: Clips) -> Latents:
        """Return the latents (B, t, C, h, w) of clips in [0, 1]."""
        blocks = tubelets(clips, self.size)  # (B, t, h, w, block)
        linear = self.linear(blocks) / self.linear.spread
        added = self.to_latent(self.encoder(blocks.movedim(-1, 1) - 0.5)).movedim(1, -1)
        return ((linear + added - self.center) / self.spread).movedim(-1, 2)

    def decode(self, latents: Latents) -> Clips:
        """Return the clips that latents stand for."""
        z = latents.movedim(2, -1) * self.spread + self.center  # (B, t, h, w, C)
        added = self.to_block(self.decoder(z.movedim(-1, 1))).movedim(1, -1)
        return from_tubelets(self.linear.back(z * self.linear.spread) + added, self.size)

    def first(
        self, frames: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch latent h w"]:
        """Return the latents of one frame that stands still for as long as a block."""
        return self.encode(frames[:, None].expand(-1, self.size[0], -1, -1, -1))[:, 0]


def modulate(
    x: Float[Tensor, "batch time dim"], shift: Float[Tensor, "batch dim"], scale: Float[Tensor, "batch dim"]
) -> Float[Tensor, "batch time dim"]:
    """x·(1 + scale) + shift, the same for all tokens of a clip. Derived in chapter 18."""
    return x * (1 + scale[:, None]) + shift[:, None]


class AdaptiveBlock(nn.Module):
    """A transformer block that a condition shifts, scales and gates: adaLN-zero.

    The six vectors come from one linear layer of the condition, which starts at zero: with gates of 0, the block starts
    as the identity (Peebles and Xie 2023). Derived in chapter 18.
    """

    def __init__(self, dim: int, heads: int, hidden: int | None = None):
        super().__init__()
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)
        self.attention, self.feed = MultiHeadAttention(dim, heads), FeedForward(dim, hidden)
        self.condition = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))
        nn.init.zeros_(self.condition[1].weight)
        nn.init.zeros_(self.condition[1].bias)

    def forward(
        self, x: Float[Tensor, "batch time dim"], c: Float[Tensor, "batch dim"]
    ) -> Float[Tensor, "batch time dim"]:
        """Mix tokens, then transform each, as the condition ``c`` says."""
        shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = self.condition(c).chunk(6, dim=1)
        x = x + gate_a[:, None] * self.attention(modulate(self.norm(x), shift_a, scale_a))
        return x + gate_f[:, None] * self.feed(modulate(self.norm(x), shift_f, scale_f))


class FlowTransformer(nn.Module):
    """The velocity of a rectified flow on latents, given the time, the class and, if wanted, the first frame.

    Derived in chapter 18.

    Args:
        classes: number of classes; the label ``classes`` stands for "not told".
        channels: channels of the latents.
        grid: steps, rows and columns of the latents.
        patch: steps, rows and columns of a token.
        dim: width of the tokens.
        depth: blocks.
        heads: attention heads.
        hidden: width of the feed-forward layers, 4·dim unless told.
    """

    def __init__(
        self,
        classes: int,
        channels: int = 8,
        grid: Size = (4, 8, 8),
        patch: Size = (1, 2, 2),
        dim: int = 96,
        depth: int = 4,
        heads: int = 4,
        hidden: int | None = None,
    ):
        super().__init__()
        self.classes, self.patch = classes, tuple(patch)
        tokens = math.prod(g // p for g, p in zip(grid, patch, strict=True))
        self.embed = TubeletEmbedding(2 * channels + 1, dim, patch)
        self.position = nn.Parameter(torch.randn(tokens, dim) * 0.02)
        self.time = nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.label = nn.Embedding(classes + 1, dim)
        self.blocks = nn.ModuleList(AdaptiveBlock(dim, heads, hidden) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)
        self.condition = nn.Sequential(nn.SiLU(), nn.Linear(dim, 2 * dim))
        self.out = nn.Linear(dim, channels * math.prod(patch))
        for layer in (self.condition[1], self.out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def waves(self, t: Float[Tensor, " batch"]) -> Float[Tensor, "batch dim"]:
        """Sines and cosines of a time in [0, 1], from slow to fast."""
        half = self.position.shape[1] // 2
        rates = torch.exp(torch.linspace(0, math.log(1000), half, device=t.device))
        angles = t[:, None] * rates
        return torch.cat((angles.sin(), angles.cos()), dim=1)

    def forward(
        self,
        x: Latents,
        t: Float[Tensor, " batch"],
        labels: Int[Tensor, " batch"],
        first: Float[Tensor, "batch latent h w"] | None = None,
        given: Bool[Tensor, " batch"] | None = None,
    ) -> Latents:
        """Return the velocity at the noisy latents ``x``.

        Args:
            x: latents on their way from noise to data.
            t: their times in [0, 1].
            labels: classes, or ``classes`` where it is not told.
            first: latents of the first frame, from `LatentVideo.first`; None tells no clip its own.
            given: which clips are told their first frame; all of them unless given.
        """
        if first is None:
            first, given = torch.zeros_like(x[:, 0]), torch.zeros(len(x), dtype=torch.bool, device=x.device)
        known = torch.ones(len(x), device=x.device) if given is None else given.to(x.dtype)
        known = known[:, None, None, None]
        hint = torch.cat((first * known, known.expand(-1, 1, *x.shape[3:])), dim=1)  # (B, C + 1, h, w)
        seen = torch.cat((x, hint[:, None].expand(-1, x.shape[1], -1, -1, -1)), dim=2)
        tokens = self.embed(seen)  # (B, t, h, w, D)
        shape = tokens.shape[1:4]
        tokens = tokens.flatten(1, 3) + self.position
        c = self.time(self.waves(t)) + self.label(labels)
        for block in self.blocks:
            tokens = block(tokens, c)
        shift, scale = self.condition(c).chunk(2, dim=1)
        out = self.out(modulate(self.norm(tokens), shift, scale))
        return from_tubelets(out.unflatten(1, shape), self.patch)
