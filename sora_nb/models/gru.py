"""The system of article C: a residual frame CNN, a residual GRU over time, one vector per clip. Derived in chapter 08."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sora_nb.layers.frames import FrameCNN
from sora_nb.layers.recurrent import ResidualGRU, pool_attention, pool_last, pool_max, pool_mean

POOLINGS = ("mean", "max", "last", "attention")
State = tuple[
    Tensor, Tensor, Tensor
]  # GRU states (depth, B, H), pooled features (B, H), log of the weight so far (B,)


class SoraGRU(nn.Module):
    """Frame CNN -> residual GRU -> pooling over time -> logits.

    Args:
        classes: number of logits.
        hidden: width of the frame features and of the GRU states.
        depth: GRU layers.
        pooling: how the states over time become one vector: "mean", "max", "last" or "attention".
        residual: add each GRU layer's output to its input; False stacks the layers as ``nn.GRU`` does.
        channels: channels of the stages of the frame CNN.

    Raises:
        ValueError: the pooling is unknown.

    Derived in chapter 08.
    """

    def __init__(
        self,
        classes: int = 12,
        hidden: int = 128,
        depth: int = 2,
        pooling: str = "mean",
        residual: bool = True,
        channels: tuple[int, ...] = (8, 16, 32),
    ):
        super().__init__()
        if pooling not in POOLINGS:
            raise ValueError(f'SoraGRU got pooling="{pooling}"; choose one of {", ".join(POOLINGS)}.')
        self.pooling = pooling
        self.frames = FrameCNN(hidden, channels, residual=True)
        self.gru = ResidualGRU(hidden, hidden, depth, residual)
        self.query = nn.Parameter(torch.zeros(hidden)) if pooling == "attention" else None
        self.norm = nn.LayerNorm(hidden)
        self.head = nn.Linear(hidden, classes)

    def embed(
        self,
        clips: Float[Tensor, "batch time channels height width"],
        lengths: Int[Tensor, "batch"] | None = None,
    ) -> Float[Tensor, "batch hidden"]:
        """One vector per clip, the input of the classifier; ``lengths`` counts the valid frames of padded clips."""
        x = self.frames(clips)  # (B, T, C, H, W) -> (B, T, D)
        x = self.norm(self.gru(x, lengths)[0])
        if self.pooling == "attention":
            return pool_attention(x, self.query, lengths)  # (B, T, D) -> (B, D)
        return {"mean": pool_mean, "max": pool_max, "last": pool_last}[self.pooling](x, lengths)

    def forward(
        self,
        clips: Float[Tensor, "batch time channels height width"],
        lengths: Int[Tensor, "batch"] | None = None,
    ) -> Float[Tensor, "batch classes"]:
        """Logits of a batch of clips."""
        return self.head(self.embed(clips, lengths))

    def step(
        self, frame: Float[Tensor, "batch channels height width"], state: State | None = None
    ) -> tuple[Float[Tensor, "batch classes"], State]:
        """Take one more frame; return the logits of the clip so far and the new state.

        In evaluation mode the logits after frame t equal ``self(clips[:, :t + 1])``; the state does not grow. (In
        training mode the batch norm of the frame CNN would see other batches.) Used in chapter 20.
        """
        gru, pooled, weight = state or (None, None, None)
        x, gru = self.gru.step(self.frames(frame[:, None])[:, 0], gru)  # (B, C, H, W) -> (B, D)
        pooled, weight = self._pool_step(self.norm(x), pooled, weight)
        return self.head(pooled), (gru, pooled, weight)

    def _pool_step(self, x: Tensor, pooled: Tensor | None, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        """A running pool: a mean moves towards x by x's share exp(score) of all the weight so far."""
        score = x @ self.query if self.pooling == "attention" else x.new_zeros(len(x))  # (B, D) -> (B,)
        if pooled is None or self.pooling == "last":
            return x, score
        total = torch.logaddexp(weight, score)
        if self.pooling == "max":
            return torch.maximum(pooled, x), total
        return pooled + (x - pooled) * (score - total).exp()[:, None], total
