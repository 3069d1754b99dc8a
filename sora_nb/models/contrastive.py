"""The system of article B: frames to features to a spatio-temporal slice, trained by contrast. Derived in chapter 11."""

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sora_nb.layers.frames import FrameCNN
from sora_nb.objectives import gather_with_gradient


class SliceEncoder(nn.Module):
    """Frames -> features -> slice (features side by side, in order) -> one vector. Derived in chapter 11.

    Args:
        frames: frames of a clip; the slice is read by a linear layer, which fixes their number.
        features: width of a frame's features.
        width: width of the vector.
        channels: channels of the stages of the frame CNN.
    """

    def __init__(
        self, frames: int = 8, features: int = 64, width: int = 128, channels: tuple[int, ...] = (8, 16)
    ):
        super().__init__()
        self.length, self.width = frames, width
        self.frames = FrameCNN(features, channels)
        self.read = nn.Linear(frames * features, width)

    def slice(
        self, clips: Float[Tensor, "batch time 3 height width"]
    ) -> Float[Tensor, "batch time features"]:
        """The article's S = [F'_1, …, F'_T], one row a frame.

        Raises:
            ValueError: the clips have another number of frames than the encoder reads.
        """
        if clips.shape[1] != self.length:
            raise ValueError(
                f"SliceEncoder got clips of {clips.shape[1]} frames; it reads {self.length}: sample as many."
            )
        return F.relu(self.frames(clips))  # (B, T, C, H, W) -> (B, T, F)

    def embed(self, clips: Float[Tensor, "batch time 3 height width"]) -> Float[Tensor, "batch width"]:
        """One vector per clip."""
        return F.relu(self.read(self.slice(clips).flatten(1)))  # (B, T, F) -> (B, T·F) -> (B, D)


class SoraContrastive(nn.Module):
    """Any encoder with ``embed``, and a projection head whose output the loss compares. Derived in chapter 11.

    The projection is thrown away after training: probes read ``embed``. With a queue, keys come from a slow copy of both,
    which follows the trained weights by momentum (MoCo, He et al. 2020).

    Args:
        encoder: has ``embed(clips) -> (B, width)``.
        width: width of that embedding.
        projection: width of the compared vectors.
        queue: how many past keys to keep as negatives; 0 keeps none, and no slow copy.
        momentum: share of the slow copy that stays at each step.
        centre: first take away each clip's mean over time, and with it a still background.
    """

    def __init__(self, encoder: nn.Module, width: int = 128, projection: int = 64, queue: int = 0,
                 momentum: float = 0.99, center: bool = True):  # fmt: skip
        super().__init__()
        self.encoder, self.momentum, self.center = encoder, momentum, center
        self.project = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, projection))
        self.slow = copy.deepcopy(self).requires_grad_(False) if queue else None
        self.register_buffer("queue", F.normalize(torch.randn(queue, projection), dim=-1))

    def embed(self, clips: Float[Tensor, "batch time 3 height width"]) -> Float[Tensor, "batch width"]:
        """The representation: one vector per clip."""
        return self.encoder.embed(clips - clips.mean(1, keepdim=True) if self.center else clips)

    def forward(self, clips: Float[Tensor, "batch time 3 height width"]) -> Float[Tensor, "batch projection"]:
        """What the loss compares."""
        return self.project(self.embed(clips))

    @torch.no_grad()
    def keys(self, clips: Float[Tensor, "batch time 3 height width"]) -> Float[Tensor, "batch projection"]:
        """Unit vectors from the slow copy, after it has moved a little towards the present weights."""
        fast = dict(self.named_parameters())
        for name, weight in self.slow.named_parameters():
            weight.lerp_(fast[name], 1 - self.momentum)
        return F.normalize(self.slow(clips), dim=-1)

    @torch.no_grad()
    def enqueue(self, keys: Float[Tensor, "batch projection"]) -> None:
        """Put keys (of all processes) at the head of the queue; the oldest fall off its end."""
        self.queue = torch.cat([gather_with_gradient(keys), self.queue])[: len(self.queue)]
