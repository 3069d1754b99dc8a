"""The honest baseline: everything a frame can tell, and nothing about their order."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sora_nb.layers.frames import FrameCNN


class MeanPool(nn.Module):
    """Average the frames' features, then classify: the same answer for a clip and its reversal. Derived in chapter 03.

    Args:
        classes: number of class scores.
        dim: width of a frame's feature, and of the representation.
        frames: another network (B, T, C, H, W) -> (B, T, dim) in place of the `FrameCNN`.
    """

    def __init__(self, classes: int = 12, dim: int = 128, frames: nn.Module | None = None):
        super().__init__()
        self.frames = FrameCNN(dim) if frames is None else frames
        self.classify = nn.Linear(dim, classes)

    def embed(self, clips: Float[Tensor, "batch time channels height width"]) -> Float[Tensor, "batch dim"]:
        """Return one representation a clip."""
        return F.relu(self.frames(clips)).mean(1)  # (B, T, C, H, W) -> (B, T, D) -> (B, D)

    def forward(
        self, clips: Float[Tensor, "batch time channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        """Return class scores (logits)."""
        return self.classify(self.embed(clips))
