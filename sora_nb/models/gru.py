"""The system of article C: a residual frame CNN, a residual GRU over time, one vector per clip. Derived in chapter 08."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sora_nb.layers.door import ClipsOrFeatures, centered, check_clips
from sora_nb.layers.frames import FrameCNN
from sora_nb.layers.recurrent import ResidualGRU, pool_attention, pool_last, pool_max, pool_mean

POOLINGS = ("mean", "max", "last", "attention")
CENTERS = (True, False, "causal")


class GRUState(NamedTuple):
    """What `SoraGRU.step` remembers of a stream; its size does not grow."""

    gru: Float[Tensor, "depth batch dim"]  # of each layer
    pooled: Float[Tensor, "batch dim"]  # features pooled so far
    weight: Float[Tensor, " batch"]  # logarithm of the weight so far
    mean: Float[Tensor, "batch *frame"]  # of the frames so far
    seen: Float[Tensor, ""]  # how many


class SoraGRU(nn.Module):
    """Frame CNN -> residual GRU -> pooling over time -> logits.

    Args:
        classes: number of logits.
        dim: width of the frame features, of the GRU states and of the representation.
        depth: GRU layers.
        frames: another network (B, T, C, H, W) -> (B, T, dim) in place of the residual `FrameCNN`.
        pooling: how the states over time become one vector: "mean", "max", "last" or "attention".
        residual: add each GRU layer's output to its input; False stacks the layers as ``nn.GRU`` does.
        center: True takes each clip's mean over time away first; "causal" takes from each frame the mean of the frames
            up to it, which a stream knows too; False takes nothing away.

    Raises:
        ValueError: the pooling or the centering is unknown.

    Derived in chapter 08.
    """

    def __init__(
        self,
        classes: int,
        *,
        dim: int = 128,
        depth: int = 2,
        frames: nn.Module | None = None,
        pooling: str = "mean",
        residual: bool = True,
        center: bool | str = True,
    ):
        super().__init__()
        if pooling not in POOLINGS:
            raise ValueError(f'SoraGRU got pooling="{pooling}"; choose one of {", ".join(POOLINGS)}.')
        if center not in CENTERS:
            raise ValueError(f'SoraGRU got center={center!r}; choose True, False or "causal".')
        self.width, self.pooling, self.center = dim, pooling, center
        self.frames = FrameCNN(dim, (8, 16, 32), residual=True) if frames is None else frames
        self.gru = ResidualGRU(dim, dim, depth, residual)
        self.query = nn.Parameter(torch.zeros(dim)) if pooling == "attention" else None
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, classes)

    def embed(
        self, clips: ClipsOrFeatures, lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch dim"]:
        """One vector per clip, the input of the classifier; ``lengths`` counts the valid frames of padded clips.

        Raises:
            ValueError: the clips have other axes, colours or numbers than the model takes, or hold nothing; or lengths
                are not within 1..time.
        """
        check_clips(self, clips)
        x = self.frames(self._centered(clips, lengths))  # (B, T, C, H, W) -> (B, T, D)
        x = self.norm(self.gru(x, lengths)[0])
        if self.pooling == "attention":
            return pool_attention(x, self.query, lengths)  # (B, T, D) -> (B, D)
        return {"mean": pool_mean, "max": pool_max, "last": pool_last}[self.pooling](x, lengths)

    def forward(
        self, clips: ClipsOrFeatures, lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch classes"]:
        """Logits of a batch of clips."""
        return self.head(self.embed(clips, lengths))

    def step(
        self, frame: Float[Tensor, "batch *frame"], state: GRUState | None = None
    ) -> tuple[Float[Tensor, "batch classes"], GRUState]:
        """Take one more frame (B, C, H, W); return the logits of the clip so far and the new state.

        In evaluation mode the logits after frame t equal ``self(clips[:, :t + 1])``. (In training mode the batch norm
        of the frame CNN would see other batches.) Used in chapter 20.

        Raises:
            ValueError: the model takes the mean of whole clips away, which a stream does not know.
        """
        if self.center is True:
            raise ValueError(
                'SoraGRU(center=True) needs the mean of the whole clip; build it with center="causal" or center=False.'
            )
        check_clips(self, frame[:, None])
        gru, pooled, weight, mean, seen = self.start(frame) if state is None else state
        seen = seen + 1
        mean = mean + (frame - mean) / seen
        frame = frame - mean if self.center else frame
        x, gru = self.gru.step(self.frames(frame[:, None])[:, 0], gru)  # (B, C, H, W) -> (B, D)
        pooled, weight = self._pool_step(self.norm(x), pooled, weight)
        return self.head(pooled), GRUState(gru, pooled, weight, mean, seen)

    def start(self, frame: Float[Tensor, "batch *frame"]) -> GRUState:
        """The state before the first frame of a stream of frames like this one. Used in chapter 20."""
        batch, lowest = frame.shape[0], float("-inf")
        return GRUState(
            frame.new_zeros(len(self.gru.layers), batch, self.width),
            frame.new_full((batch, self.width), lowest if self.pooling == "max" else 0.0),
            frame.new_full((batch,), lowest),
            torch.zeros_like(frame),
            frame.new_zeros(()),
        )

    def _centered(self, clips: Tensor, lengths: Tensor | None) -> Tensor:
        if not self.center:
            return clips
        if self.center == "causal":
            seen = torch.arange(1, clips.shape[1] + 1, device=clips.device).to(clips.dtype)
            return clips - clips.cumsum(1) / seen.view(-1, *[1] * (clips.ndim - 2))
        if lengths is None:
            return centered(clips)
        return clips - pool_mean(clips.flatten(2), lengths).view(clips.shape[0], 1, *clips.shape[2:])

    def _pool_step(self, x: Tensor, pooled: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """A running pool: a mean moves towards x by x's share exp(score) of all the weight so far."""
        score = x @ self.query if self.pooling == "attention" else torch.zeros_like(weight)  # (B, D) -> (B,)
        total = torch.logaddexp(weight, score)
        if self.pooling == "last":
            return x, total
        if self.pooling == "max":
            return torch.maximum(pooled, x), total
        return pooled + (x - pooled) * (score - total).exp()[:, None], total
