"""A masked autoencoder and a latent predictor: one encoder, one filler of holes, two targets. Derived in chapter 12."""

import copy

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from sora_nb.layers.door import Clips, centered, check_clips
from sora_nb.layers.patches import Size, TubeletEmbedding
from sora_nb.layers.position import over_axes, sinusoidal, split_axes
from sora_nb.layers.transformer import Encoder
from sora_nb.objectives.masked import STILL, follow, pixel_targets, seen_and_hidden, take

BASE = 16.0  # the slowest code turns once in 100 places: with the usual 10,000 most of a code is the same everywhere


def places(grid: Size, dim: int) -> Float[Tensor, "tokens dim"]:
    """A fixed code of time, row and column for each tubelet of a grid, of which neighbours differ clearly. Chapter 12."""
    axes = [sinusoidal(length, part, BASE) for length, part in zip(grid, split_axes(dim), strict=True)]
    return over_axes(axes).flatten(0, 2)


class TubeletEncoder(nn.Module):
    """Tubelets -> tokens with a fixed code of time and place -> Transformer; of all tokens, or of those asked for.

    It fits where an encoder is asked for, such as `SoraContrastive(encoder=…)`. Derived in chapter 12.

    Args:
        dim, depth, heads: of the Transformer.
        grid: steps, rows and columns of tubelets in a clip.
        tubelet: frames, rows and columns of pixels in a tubelet.
        spread: what pixels are divided by, lest the code of the place drown them; 0.1 suits centred pixels.
    """

    def __init__(
        self, dim: int = 64, depth: int = 2, heads: int = 4, grid: Size = (2, 8, 8), tubelet: Size = (4, 2, 2),
        spread: float = 0.1,
    ):  # fmt: skip
        super().__init__()
        self.width, self.grid, self.tubelet, self.spread = dim, tuple(grid), tuple(tubelet), spread
        self.tubelets = TubeletEmbedding(3, dim, tubelet)
        self.register_buffer("position", places(grid, dim), persistent=False)
        self.encoder = Encoder(dim, depth, heads)

    def forward(
        self, clips: Clips, index: Int[Tensor, "batch chosen"] | None = None
    ) -> Float[Tensor, "batch _ dim"]:
        """One vector for each token, or for each of those at ``index``, which then see nothing else.

        Raises:
            ValueError: the clips do not make the grid that the encoder was built for.
        """
        x = self.tubelets(clips / self.spread)  # (B, t, h, w, D)
        if tuple(x.shape[1:4]) != self.grid:
            raise ValueError(
                f"Clips of shape {tuple(clips.shape)} make {tuple(x.shape[1:4])} tubelets; the encoder was built "
                f"for a grid of {self.grid}."
            )
        x = x.flatten(1, 3) + self.position  # (B, N, D)
        return self.encoder(x if index is None else take(x, index))

    def embed(self, clips: Clips) -> Float[Tensor, "batch dim"]:
        """The mean over all tokens."""
        return self(clips).mean(1)


class HoleFiller(nn.Module):
    """What stands at the hidden places, told from the seen tokens: a narrow Transformer over both. Derived in chapter 12.

    Each hidden place enters as the same trained vector plus the code of its time and place: a query that says *where*.

    Args:
        dim: width of the seen tokens.
        out: numbers to predict for a place.
        inner, depth, heads: of the Transformer.
        grid: steps, rows and columns of tubelets in a clip.
    """

    def __init__(
        self, dim: int, out: int, inner: int = 32, depth: int = 1, heads: int = 4, grid: Size = (2, 8, 8)
    ):
        super().__init__()
        self.enter, self.leave = nn.Linear(dim, inner), nn.Linear(inner, out)
        nn.init.zeros_(self.leave.weight)  # it begins by predicting the mean, and not noise
        self.query = nn.Parameter(torch.randn(inner) * 0.02)
        self.register_buffer("position", places(grid, inner), persistent=False)
        self.encoder = Encoder(inner, depth, heads)

    def forward(
        self,
        tokens: Float[Tensor, "batch seen dim"],
        seen: Int[Tensor, "batch seen"],
        hidden: Int[Tensor, "batch hidden"],
    ) -> Float[Tensor, "batch hidden out"]:
        """Predict the hidden places, in the order of ``hidden``."""
        known = self.enter(tokens) + self.position[seen]
        asked = self.query + self.position[hidden]
        return self.leave(self.encoder(torch.cat([known, asked], 1))[:, seen.shape[1] :])


class MaskedAutoencoder(nn.Module):
    """Encode what is seen, fill in the pixels of what is not (VideoMAE, Tong et al. 2022). Derived in chapter 12.

    Args:
        classes: number of class scores; pretraining does not touch them.
        encoder: a `TubeletEncoder`; one of its usual size if not given.
        inner, inner_depth: of the `HoleFiller`.
        still: of `pixel_targets`.
        center: first take away each clip's mean over time, and with it a still background.
    """

    def __init__(
        self,
        classes: int,
        *,
        encoder: TubeletEncoder | None = None,
        inner: int = 32,
        inner_depth: int = 1,
        still: float = STILL,
        center: bool = True,
    ):
        super().__init__()
        self.encoder = encoder or TubeletEncoder()
        self.width, self.center, self.still = self.encoder.width, center, still
        pixels = self.encoder.tubelets.in_features
        self.filler = HoleFiller(self.width, pixels, inner, inner_depth, grid=self.encoder.grid)
        self.head = nn.Linear(self.width, classes)

    def prepare(self, clips: Clips) -> Clips:
        """The clips as the encoder takes them.

        Raises:
            ValueError: the clips have other axes, colours or numbers than the model takes, or hold nothing.
        """
        check_clips(self, clips)
        return centered(clips) if self.center else clips

    def embed(self, clips: Clips) -> Float[Tensor, "batch dim"]:
        """The representation: the mean over the tokens of the whole clip."""
        return self.encoder.embed(self.prepare(clips))

    def forward(self, clips: Clips) -> Float[Tensor, "batch classes"]:
        """Class scores (logits)."""
        return self.head(self.embed(clips))

    def targets(self, clips: Clips) -> Float[Tensor, "batch tokens features"]:
        """What is to be predicted, for every token."""
        return pixel_targets(self.prepare(clips), self.encoder.tubelet, self.still)

    def fill(
        self, clips: Clips, mask: Bool[Tensor, "batch tokens"]
    ) -> Float[Tensor, "batch hidden features"]:
        """The hidden tubelets, normalised, as the model imagines them from the seen ones."""
        seen, hidden = seen_and_hidden(mask)
        return self.filler(self.encoder(self.prepare(clips), seen), seen, hidden)

    def loss(self, clips: Clips, mask: Bool[Tensor, "batch tokens"]) -> Float[Tensor, ""]:
        """Mean squared error on the hidden tubelets, and on nothing else."""
        return F.mse_loss(self.fill(clips, mask), take(self.targets(clips), seen_and_hidden(mask)[1]))


class LatentPredictor(MaskedAutoencoder):
    """Encode what is seen, predict the *features* of what is not (V-JEPA, Bardes et al. 2024). Derived in chapter 12.

    The masked autoencoder with another target: features from a slow copy of the encoder, which sees the whole clip and
    gets no gradient. ``follow`` moves the copy.

    Args:
        classes: number of class scores; pretraining does not touch them.
        encoder: a `TubeletEncoder`; one of its usual size if not given.
        inner, inner_depth: of the `HoleFiller`, which is called the predictor here.
        momentum: share of the slow copy that stays at each step.
        center: first take away each clip's mean over time, and with it a still background.
    """

    def __init__(
        self,
        classes: int,
        *,
        encoder: TubeletEncoder | None = None,
        inner: int = 32,
        inner_depth: int = 1,
        momentum: float = 0.99,
        center: bool = True,
    ):
        super().__init__(classes, encoder=encoder, inner=inner, inner_depth=inner_depth, center=center)
        self.momentum = momentum
        self.slow = copy.deepcopy(self.encoder).requires_grad_(False)
        self.filler = HoleFiller(self.width, self.width, inner, inner_depth, grid=self.encoder.grid)

    @torch.no_grad()
    def targets(self, clips: Clips) -> Float[Tensor, "batch tokens dim"]:
        """What is to be predicted, for every token: the slow copy's features, each with mean 0 and spread 1."""
        return F.layer_norm(self.slow(self.prepare(clips)), [self.width])

    def loss(self, clips: Clips, mask: Bool[Tensor, "batch tokens"]) -> Float[Tensor, ""]:
        """Smooth L1 distance on the hidden tokens, and on nothing else."""
        return F.smooth_l1_loss(self.fill(clips, mask), take(self.targets(clips), seen_and_hidden(mask)[1]))

    def follow(self) -> None:
        """Let the slow copy come a little nearer; call it once after each update."""
        follow(self.slow, self.encoder, self.momentum)
