"""The honest baseline: everything a frame can tell, and nothing about their order."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sora_nb.layers.door import ClipsOrFeatures, centered, check_clips
from sora_nb.layers.frames import FrameCNN


class MeanPool(nn.Module):
    """Average the frames' features, then classify: the same answer for a clip and its reversal. Derived in chapter 03.

    Args:
        classes: number of class scores.
        dim: width of a frame's feature, and of the representation.
        frames: another network (B, T, C, H, W) -> (B, T, dim) in place of the `FrameCNN`.
        center: first take away each clip's mean over time.
    """

    def __init__(
        self, classes: int, *, dim: int = 128, frames: nn.Module | None = None, center: bool = False
    ):
        super().__init__()
        self.width, self.center = dim, center
        self.frames = FrameCNN(dim) if frames is None else frames
        self.head = nn.Linear(dim, classes)

    def embed(self, clips: ClipsOrFeatures) -> Float[Tensor, "batch dim"]:
        """Return one representation a clip.

        Raises:
            ValueError: the clips have other axes, colours or numbers than the model takes, or hold nothing.
        """
        check_clips(self, clips)
        features = self.frames(centered(clips) if self.center else clips)  # (B, T, C, H, W) -> (B, T, D)
        return F.relu(features).mean(1)  # -> (B, D)

    def forward(self, clips: ClipsOrFeatures) -> Float[Tensor, "batch classes"]:
        """Return class scores (logits)."""
        return self.head(self.embed(clips))
