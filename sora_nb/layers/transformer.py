"""Pre-norm Transformer blocks: an encoder, and a decoder that asks with learned queries."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sora_nb.layers.attention import DividedAttention, MultiHeadAttention

Tokens = Float[Tensor, "batch time dim"]


class FeedForward(nn.Sequential):
    """Two linear layers with a GELU between, the same for each token: D → hidden → D. Derived in chapter 06."""

    def __init__(self, dim: int, hidden: int | None = None, dropout: float = 0.0):
        hidden = hidden or 4 * dim
        super().__init__(nn.Linear(dim, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, dim))


class EncoderBlock(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x)): pre-norm (Xiong et al. 2020). Derived in chapter 06.

    Args:
        dim: width of the tokens.
        heads: attention heads; divides `dim`.
        hidden: width inside the feed-forward layer, 4·dim unless told.
        dropout: used on attention weights, inside the feed-forward layer and on both branches, in training only.
    """

    def __init__(self, dim: int, heads: int, hidden: int | None = None, dropout: float = 0.0):
        super().__init__()
        self.norm_attention, self.norm_feed = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = MultiHeadAttention(dim, heads, dropout)
        self.feed = FeedForward(dim, hidden, dropout)
        self.drop = nn.Dropout(dropout)

    def forward(
        self,
        x: Tokens,
        mask: Bool[Tensor, "..."] | None = None,
        causal: bool = False,
        angles: Float[Tensor, "time half"] | None = None,
    ) -> Tokens:
        """Mix tokens (mask: True = may attend), then transform each; `angles` turn queries and keys (rotary)."""
        x = x + self.drop(self.attention(self.norm_attention(x), mask=mask, causal=causal, angles=angles))
        return x + self.drop(self.feed(self.norm_feed(x)))


class Encoder(nn.Module):
    """`depth` encoder blocks and a final norm. Without a position code it is permutation-equivariant. Chapter 07."""

    def __init__(self, dim: int, depth: int, heads: int, hidden: int | None = None, dropout: float = 0.0):
        super().__init__()
        self.blocks = nn.ModuleList(EncoderBlock(dim, heads, hidden, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)

    def forward(
        self,
        x: Tokens,
        mask: Bool[Tensor, "..."] | None = None,
        causal: bool = False,
        angles: Float[Tensor, "time half"] | None = None,
    ) -> Tokens:
        """Run the blocks; the arguments are those of `EncoderBlock`."""
        for block in self.blocks:
            x = block(x, mask, causal, angles)
        return self.norm(x)


class DecoderBlock(nn.Module):
    """Self-attention among the queries, cross-attention to the memory, feed-forward, all pre-norm. Chapter 07."""

    def __init__(self, dim: int, heads: int, hidden: int | None = None, dropout: float = 0.0):
        super().__init__()
        self.norm_self, self.norm_cross, self.norm_feed = (nn.LayerNorm(dim) for _ in range(3))
        self.self_attention, self.cross_attention = (
            MultiHeadAttention(dim, heads, dropout) for _ in range(2)
        )
        self.feed = FeedForward(dim, hidden, dropout)
        self.drop = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "batch queries dim"],
        memory: Tokens,
        mask: Bool[Tensor, "..."] | None = None,
        causal: bool = False,
    ) -> Float[Tensor, "batch queries dim"]:
        """Let the queries `x` read the `memory`; `mask` says which of it, `causal` orders the queries."""
        x = x + self.drop(self.self_attention(self.norm_self(x), causal=causal))
        x = x + self.drop(self.cross_attention(self.norm_cross(x), context=memory, mask=mask))
        return x + self.drop(self.feed(self.norm_feed(x)))


class Decoder(nn.Module):
    """Learned queries that read a memory, as in DETR (Carion et al. 2020). Derived in chapter 07.

    Args:
        queries: number of learned queries, each a question put to every clip; at least 1.

    Raises:
        ValueError: if there is no query.
    """

    def __init__(
        self, dim: int, depth: int, heads: int, queries: int, hidden: int | None = None, dropout: float = 0.0
    ):
        super().__init__()
        if queries < 1:
            raise ValueError(f"A decoder needs at least 1 learned query to have an output, got {queries}.")
        self.queries = nn.Parameter(torch.randn(queries, dim) * 0.02)
        self.blocks = nn.ModuleList(DecoderBlock(dim, heads, hidden, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)

    def forward(
        self, memory: Tokens, mask: Bool[Tensor, "..."] | None = None
    ) -> Float[Tensor, "batch queries dim"]:
        """Return one answer a query."""
        x = self.queries.expand(memory.shape[0], -1, -1)  # (Q, D) -> (B, Q, D)
        for block in self.blocks:
            x = block(x, memory, mask)
        return self.norm(x)


class DividedBlock(nn.Module):
    """A TimeSformer block: attention over time, then space, then feed-forward; (B, T, S, D) tokens. Chapter 06."""

    def __init__(self, dim: int, heads: int, hidden: int | None = None, dropout: float = 0.0):
        super().__init__()
        self.attention = DividedAttention(dim, heads, dropout)
        self.norm_feed = nn.LayerNorm(dim)
        self.feed = FeedForward(dim, hidden, dropout)

    def forward(self, x: Float[Tensor, "batch time space dim"]) -> Float[Tensor, "batch time space dim"]:
        """Mix tokens over time, over space, then transform each."""
        x = self.attention(x)
        return x + self.feed(self.norm_feed(x))
