"""Layers that take one frame at a time: a ring of what they still need, and never more. Derived in chapter 20."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from sora_nb.layers.attention import MultiHeadAttention, attention
from sora_nb.layers.convolution import CausalConv1d, CausalConv3d
from sora_nb.layers.position import apply_rotary, rotary_angles
from sora_nb.layers.transformer import Encoder


class Ring:
    """The last ``size`` items of a stream, in memory that is written over and never grows. Derived in chapter 20.

    Before the stream began there were zeros, as a causal convolution pads. Memory is written over, so use it without
    gradients, and copy it to go back in time.

    Args:
        size: items that are kept.
        like: an item; the memory has its shape, type and device.

    Raises:
        ValueError: ``size`` is below 1.
    """

    def __init__(self, size: int, like: Tensor):
        if size < 1:
            raise ValueError(f"A ring got size={size}; it keeps at least one item.")
        self.items, self.seen = like.new_zeros(size, *like.shape), 0

    def push(self, item: Tensor) -> None:
        """Write an item over the oldest."""
        self.items[self.seen % len(self.items)] = item
        self.seen += 1

    def back(self, ages: range) -> Tensor:
        """The items of these ages, stacked; age 0 is the one pushed last.

        Raises:
            ValueError: an age is not kept.
        """
        if min(ages) < 0 or max(ages) >= len(self.items):
            raise ValueError(
                f"Asked for ages {min(ages)} to {max(ages)}; this ring keeps 0 to {len(self.items) - 1}."
            )
        return self.items[[(self.seen - 1 - age) % len(self.items) for age in ages]]

    @property
    def nbytes(self) -> int:
        """Bytes of the items kept."""
        return self.items.numel() * self.items.element_size()


def conv_step(
    conv: CausalConv1d | CausalConv3d, x: Float[Tensor, "batch channels *space"], ring: Ring | None = None
) -> tuple[Float[Tensor, "batch out *small"], Ring]:
    """One output frame of a causal convolution and the ring for the next call; equal to the layer on the whole clip.

    Only the k frames under the taps are read, however far apart the dilation puts them.

    Args:
        conv: a causal layer of time stride 1.
        x: the next frame: (B, C) for `CausalConv1d`, (B, C, H, W) for `CausalConv3d`.
        ring: as returned by the last call; None at the beginning.

    Raises:
        ValueError: the layer sees later frames, or skips frames.

    Derived in chapter 20.
    """
    dilation = conv.dilation[0]
    context = (conv.kernel_size[0] - 1) * dilation
    causal = conv.causal if isinstance(conv, CausalConv1d) else conv.time_padding == (context, 0)
    if not causal or conv.stride[0] != 1:
        raise ValueError("conv_step got a layer that is not causal with time stride 1; build it so.")
    ring = Ring(context + 1, x) if ring is None else ring
    ring.push(x)
    window = ring.back(range(context, -1, -dilation)).movedim(0, 2)  # (k, B, C, …) -> (B, C, k, …)
    if isinstance(conv, CausalConv1d):
        return F.conv1d(window, conv.weight, conv.bias)[:, :, 0], ring
    padding = (0, *conv.padding[1:])
    return F.conv3d(window, conv.weight, conv.bias, (1, *conv.stride[1:]), padding)[:, :, 0], ring


def banded(time: int, window: int, device=None) -> Bool[Tensor, "time time"]:
    """The mask of attention to the last ``window`` frames, the own one included. Derived in chapter 20."""
    past = torch.arange(time, device=device)[:, None] - torch.arange(time, device=device)
    return (past >= 0) & (past < window)


class KeyValueCache:
    """Keys and values of the last ``window`` frames of one attention layer; None keeps them all. Derived in chapter 20.

    Keys are kept as they were before any rotation: positions are counted within the window, from its oldest frame, so
    that no angle grows with the length of the stream.
    """

    def __init__(self, window: int | None = None):
        self.window, self.keys, self.values = window, None, None

    def push(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add the newest key and value (B, heads, 1, d); return all that are kept, oldest first."""
        if self.keys is not None:
            k, v = torch.cat([self.keys, k], 2), torch.cat([self.values, v], 2)
        if self.window:
            k, v = k[:, :, -self.window :], v[:, :, -self.window :]
        self.keys, self.values = k, v
        return k, v

    @property
    def nbytes(self) -> int:
        """Bytes of the keys and values kept."""
        return 0 if self.keys is None else 2 * self.keys.numel() * self.keys.element_size()


def attend_step(
    layer: MultiHeadAttention, x: Float[Tensor, "batch dim"], cache: KeyValueCache, rotary: bool = False
) -> Float[Tensor, "batch dim"]:
    """Let the newest frame attend to the frames in the cache, itself included; equal to `banded` attention.

    Derived in chapter 20.
    """
    q, k, v = layer.project(x[:, None], None)  # each (B, heads, 1, d)
    keys, values = cache.push(k, v)
    if rotary:
        angles = rotary_angles(keys.shape[2], keys.shape[3], device=x.device)
        q, keys = apply_rotary(q, angles[-1:]), apply_rotary(keys, angles)
    return layer.out(attention(q, keys, values).flatten(1))  # (B, heads, 1, d) -> (B, dim)


def encoder_step(
    encoder: Encoder,
    x: Float[Tensor, "batch dim"],
    caches: list[KeyValueCache] | None = None,
    window: int | None = None,
    rotary: bool = False,
) -> tuple[Float[Tensor, "batch dim"], list[KeyValueCache]]:
    """One frame through a causal encoder in evaluation mode, with a cache for each block.

    Equal to ``encoder(clips, banded(T, window))``, or ``causal=True`` without a window. ``depth`` blocks of a window of
    w frames see ``depth · (w - 1)`` frames back. Derived in chapter 20.
    """
    caches = [KeyValueCache(window) for _ in encoder.blocks] if caches is None else caches
    for block, cache in zip(encoder.blocks, caches, strict=True):
        x = x + attend_step(block.attention, block.norm_attention(x), cache, rotary)
        x = x + block.feed(block.norm_feed(x))
    return encoder.norm(x), caches
