"""The system of article B: frames to features to a spatio-temporal slice, trained by contrast. Derived in chapter 11."""

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sora_nb.layers.door import ClipsOrFeatures, centered, check_clips
from sora_nb.layers.frames import FrameCNN
from sora_nb.objectives import gather_with_gradient
from sora_nb.objectives.masked import follow


class SliceEncoder(nn.Module):
    """Frames -> features -> slice (features side by side, in order) -> one vector. Derived in chapter 11.

    The slice is read by convolutions over time and then averaged over time: any number of frames will do, and
    neighbours are told apart from each other in the order in which they come.

    Args:
        dim: width of a frame's features, and of the vector.
        depth: convolutions over time, each of three frames; 0 averages the features without regard to order.
        frames: another network (B, T, C, H, W) -> (B, T, dim) in place of the `FrameCNN`.
    """

    def __init__(self, dim: int = 128, depth: int = 2, frames: nn.Module | None = None):
        super().__init__()
        self.width = dim
        self.frames = FrameCNN(dim) if frames is None else frames
        self.read = nn.Sequential()
        for _ in range(depth):
            self.read.extend([nn.Conv1d(dim, dim, 3, padding=1, bias=False), nn.BatchNorm1d(dim), nn.ReLU()])

    def slice(self, clips: ClipsOrFeatures) -> Float[Tensor, "batch time dim"]:
        """The article's S = [F'_1, …, F'_T], one row a frame."""
        return F.relu(self.frames(clips))  # (B, T, C, H, W) -> (B, T, D)

    def embed(self, clips: ClipsOrFeatures) -> Float[Tensor, "batch dim"]:
        """One vector per clip."""
        return self.read(self.slice(clips).mT).mean(2)  # (B, T, D) -> (B, D, T) -> (B, D)


class SoraContrastive(nn.Module):
    """An encoder of clips, a projection whose output a contrastive loss compares, and a classifier. Derived in chapter 11.

    The projection is thrown away after pretraining: probes and the head read ``embed``. With a queue, keys come from a
    slow copy, which follows the trained weights by momentum (MoCo, He et al. 2020).

    Args:
        classes: number of class scores; pretraining does not touch them.
        dim, depth, frames: of the `SliceEncoder`.
        encoder: any other model with ``embed(clips) -> (B, width)`` and ``width``, such as `SoraGRU`, in its place.
        projection: width of the compared vectors.
        queue: how many past keys to keep as negatives; 0 keeps none, and no slow copy.
        momentum: share of the slow copy that stays at each step.
        center: first take away each clip's mean over time, and with it a still background.
    """

    def __init__(
        self,
        classes: int,
        *,
        dim: int = 128,
        depth: int = 2,
        frames: nn.Module | None = None,
        encoder: nn.Module | None = None,
        projection: int = 64,
        queue: int = 0,
        momentum: float = 0.99,
        center: bool = True,
    ):
        super().__init__()
        self.encoder = SliceEncoder(dim, depth, frames) if encoder is None else encoder
        self.width, self.momentum, self.center = self.encoder.width, momentum, center
        width = self.width
        self.projection = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, projection))
        self.slow = copy.deepcopy(self).requires_grad_(False) if queue else None
        self.register_buffer("queue", F.normalize(torch.randn(queue, projection), dim=-1))
        self.head = nn.Linear(width, classes)

    @property
    def frames(self) -> nn.Module | None:
        """The encoder's frame network, if it has one."""
        return getattr(self.encoder, "frames", None)

    def embed(self, clips: ClipsOrFeatures) -> Float[Tensor, "batch dim"]:
        """The representation: one vector per clip.

        Raises:
            ValueError: the clips have other axes, colours or numbers than the model takes, or hold nothing.
        """
        check_clips(self, clips)
        return self.encoder.embed(centered(clips) if self.center else clips)

    def forward(self, clips: ClipsOrFeatures) -> Float[Tensor, "batch classes"]:
        """Class scores (logits)."""
        return self.head(self.embed(clips))

    def project(self, clips: ClipsOrFeatures) -> Float[Tensor, "batch projection"]:
        """What the loss compares."""
        return self.projection(self.embed(clips))

    @torch.no_grad()
    def keys(self, clips: ClipsOrFeatures) -> Float[Tensor, "batch projection"]:
        """Unit vectors from the slow copy, after it has moved a little towards the present weights.

        Raises:
            ValueError: the model was built without a queue.
        """
        if self.slow is None:
            raise ValueError("This model has no slow copy to make keys: build it with queue=512, say.")
        follow(self.slow, self, self.momentum)
        return F.normalize(self.slow.project(clips), dim=-1)

    @torch.no_grad()
    def enqueue(self, keys: Float[Tensor, "batch projection"]) -> None:
        """Put keys (of all processes) at the head of the queue; the oldest fall off its end."""
        self.queue = torch.cat([gather_with_gradient(keys), self.queue])[: self.queue.shape[0]]
