"""Scaled dot-product attention, in heads (chapter 05), and over space and time (chapter 06)."""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sora_nb.layers.position import apply_rotary

Queries = Float[Tensor, "batch heads queries dim"]
Keys = Float[Tensor, "batch heads keys dim"]
Values = Float[Tensor, "batch heads keys part"]  # may be of another width
Mixed = Float[Tensor, "batch heads queries part"]


def allowed(q: Tensor, k: Tensor, mask: Tensor | None, causal: bool) -> Bool[Tensor, "..."] | None:
    """Check a mask and join it with the causal one. True = this query may attend to this key; None = all may.

    Raises:
        ValueError: if the mask is not boolean, does not fit the queries and keys, or `causal` meets unequal lengths.
    """
    queries, keys = q.shape[-2], k.shape[-2]
    if mask is not None:
        if mask.dtype != torch.bool:
            raise ValueError(
                f"The attention mask has dtype {mask.dtype}, expected torch.bool where True means "
                "'this query may attend to this key': compare it with something to make it boolean."
            )
        # Three axes are refused because (batch, query, key) would silently be read as (heads, query, key).
        full = (*q.shape[:-1], keys)
        fits = mask.ndim in (2, 4) and all(m in (1, n) for m, n in zip(mask.shape[::-1], full[::-1]))
        if not fits:
            raise ValueError(
                f"The attention mask has shape {tuple(mask.shape)}, expected ({queries}, {keys}) or something that "
                f"broadcasts to {full} (batch, heads, queries, keys): a padding mask of shape "
                "(batch, keys) enters as mask[:, None, None, :]."
            )
    if not causal:
        return mask
    if queries != keys:
        raise ValueError(
            f"Causal attention needs as many queries as keys, got {queries} and {keys}: pass a mask instead."
        )
    past = torch.ones(queries, keys, dtype=torch.bool, device=q.device).tril()
    return past if mask is None else past & mask


def attention(
    q: Queries,
    k: Keys,
    v: Values,
    mask: Bool[Tensor, "..."] | None = None,
    causal: bool = False,
    dropout_p: float = 0.0,
    training: bool = False,
) -> Mixed:
    """softmax(q kᵀ / √d) v, fused: the (query, key) matrix is never stored (Vaswani et al. 2017; Dao et al. 2022).

    Derived in chapter 05.

    Args:
        q, k, v: (B, heads, T, d); keys and values may have another length than the queries.
        mask: boolean, True = may attend (the opposite of `nn.MultiheadAttention`); (queries, keys) or broadcastable
            to (B, heads, queries, keys). A query that may attend to nothing gets zeros.
        causal: let position t attend to positions ≤ t only.
        dropout_p: share of attention weights dropped, in training only: `F.scaled_dot_product_attention` itself
            drops whatever the mode, so the mode has to come in through `training`.

    Raises:
        ValueError: for a mask of wrong shape or dtype, or `causal` with unequal lengths.
    """
    # Causal attention alone needs no mask in memory, and the kernel skips the future half of the work.
    only_causal = causal and mask is None and q.shape[-2] == k.shape[-2]  # no mutate
    return F.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=None if only_causal else allowed(q, k, mask, causal),
        dropout_p=dropout_p if training else 0.0,
        is_causal=only_causal,
    )


def attention_weights(
    q: Queries, k: Keys, mask: Bool[Tensor, "..."] | None = None, causal: bool = False
) -> Float[Tensor, "batch heads queries keys"]:
    """Return softmax(q kᵀ / √d) over the keys: each row sums to one, or to zero where a query may attend to nothing."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # (B, h, T, d), (B, h, S, d) -> (B, h, T, S)
    may = allowed(q, k, mask, causal)
    if may is None:
        return scores.softmax(dim=-1)
    # The lowest finite number instead of −inf: a row of −inf would give NaN, in value and in gradient.
    weights = scores.masked_fill(~may, torch.finfo(scores.dtype).min).softmax(dim=-1)
    return weights.masked_fill(~may, 0.0)


def naive_attention(
    q: Queries, k: Keys, v: Values, mask: Bool[Tensor, "..."] | None = None, causal: bool = False
) -> Mixed:
    """The same as `attention`, with the (query, key) matrix in the open; memory grows with its area. Chapter 05."""
    return attention_weights(q, k, mask, causal) @ v  # (B, h, T, S), (B, h, S, d) -> (B, h, T, d)


class MultiHeadAttention(nn.Module):
    """Attention in `heads` subspaces of width dim / heads (Vaswani et al. 2017). Derived in chapter 05.

    The weights of queries, keys and values lie stacked in one `qkv` layer, in the order and layout of
    `nn.MultiheadAttention.in_proj_weight`, so weights move between the two by copying.

    Args:
        dim: width of the tokens.
        heads: number of heads; divides `dim`.
        dropout: share of attention weights dropped in training.

    Raises:
        ValueError: if `heads` does not divide `dim`.
    """

    def __init__(self, dim: int, heads: int, dropout: float = 0.0, bias: bool = True):
        super().__init__()
        if heads < 1 or dim % heads:
            raise ValueError(
                f"{heads} heads do not divide a width of {dim}: choose a divisor of {dim} as heads."
            )
        self.dim, self.heads, self.dropout = dim, heads, dropout
        self.qkv = nn.Linear(dim, 3 * dim, bias=bias)
        self.out = nn.Linear(dim, dim, bias=bias)

    def project(self, x: Tensor, context: Tensor | None) -> tuple[Queries, Keys, Values]:
        """Return queries of `x`, and keys and values of `context` (of `x` itself if there is none), in heads."""
        if context is None:
            qkv = rearrange(self.qkv(x), "b t (three h d) -> three b h t d", three=3, h=self.heads)
            return qkv.unbind()
        # The rows of qkv that make queries see x, the others see the context.
        sizes = (self.dim, 2 * self.dim)
        w_q, w_kv = self.qkv.weight.split(sizes)
        b_q, b_kv = (None, None) if self.qkv.bias is None else self.qkv.bias.split(sizes)
        q = rearrange(F.linear(x, w_q, b_q), "b t (h d) -> b h t d", h=self.heads)
        kv = rearrange(F.linear(context, w_kv, b_kv), "b s (two h d) -> two b h s d", two=2, h=self.heads)
        return q, *kv.unbind()

    def forward(
        self,
        x: Float[Tensor, "batch time dim"],
        context: Float[Tensor, "batch source dim"] | None = None,
        mask: Bool[Tensor, "..."] | None = None,
        causal: bool = False,
        angles: Float[Tensor, "time half"] | None = None,
    ) -> Float[Tensor, "batch time dim"]:
        """Let `x` attend to itself, or to `context` (cross-attention).

        Args:
            mask: boolean, True = may attend; (T, S) or broadcastable to (B, heads, T, S).
            angles: from `rotary_angles(T, dim // heads)`, to turn queries and keys by their position.

        Raises:
            ValueError: for a mask of wrong shape or dtype, or angles that do not fit.
        """
        q, k, v = self.project(x, context)
        if angles is not None:
            if context is not None:
                raise ValueError(
                    "Rotary angles belong to self-attention; got angles together with a context."
                )
            q, k = apply_rotary(q, angles), apply_rotary(k, angles)
        mixed = attention(q, k, v, mask, causal, self.dropout, self.training)
        return self.out(rearrange(mixed, "b h t d -> b t (h d)"))


def space_attention(attend: nn.Module, x: Float[Tensor, "batch time space dim"]) -> Tensor:
    """Let each token attend to the tokens of its own frame."""
    mixed = attend(rearrange(x, "b t s d -> (b t) s d"))
    return rearrange(mixed, "(b t) s d -> b t s d", t=x.shape[1])


def time_attention(attend: nn.Module, x: Float[Tensor, "batch time space dim"]) -> Tensor:
    """Let each token attend to the tokens at its own place in all frames."""
    mixed = attend(rearrange(x, "b t s d -> (b s) t d"))
    return rearrange(mixed, "(b s) t d -> b t s d", s=x.shape[2])


def joint_attention(attend: nn.Module, x: Float[Tensor, "batch time space dim"]) -> Tensor:
    """Let each token attend to all tokens of the clip."""
    mixed = attend(rearrange(x, "b t s d -> b (t s) d"))
    return rearrange(mixed, "b (t s) d -> b t s d", t=x.shape[1])


class DividedAttention(nn.Module):
    """Attention over time, then over space, each pre-normed with its own residual (TimeSformer, Bertasius et al. 2021).

    As in TimeSformer the time half passes through one more linear layer, which is why a divided block costs more
    than a joint one on short clips. Derived in chapter 06.
    """

    def __init__(self, dim: int, heads: int, dropout: float = 0.0):
        super().__init__()
        self.norm_time, self.norm_space = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.time, self.space = (MultiHeadAttention(dim, heads, dropout) for _ in range(2))
        self.time_out = nn.Linear(dim, dim)

    def forward(self, x: Float[Tensor, "batch time space dim"]) -> Float[Tensor, "batch time space dim"]:
        """Mix tokens over time, then over space."""
        x = x + self.time_out(time_attention(self.time, self.norm_time(x)))
        return x + space_attention(self.space, self.norm_space(x))


def block_macs(kind: str, time: int, space: int, dim: int, mlp_ratio: int = 4) -> int:
    """Multiply–accumulates of one block (attention and feed-forward) over `time` × `space` tokens of one clip.

    With N = T·S tokens of width D: projections 4ND², scores and mixing 2N·(keys seen)·D, feed-forward 2·ratio·ND².
    Derived in chapter 06.

    Args:
        kind: "space", "joint" or "divided" (two attentions and TimeSformer's extra linear layer of ND²).

    Raises:
        ValueError: for another `kind`.
    """
    tokens = time * space
    keys = {"space": space, "joint": tokens, "divided": time + space}
    if kind not in keys:
        raise ValueError(f'kind must be "space", "joint" or "divided", got {kind!r}.')
    linears = 9 if kind == "divided" else 4
    return tokens * dim * ((linears + 2 * mlp_ratio) * dim + 2 * keys[kind])
