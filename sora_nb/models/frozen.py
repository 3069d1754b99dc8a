"""A frame network trained on photographs, kept as it is, and a linear map: what looks alone can tell. Used in chapter 14."""

from jaxtyping import Float
from torch import Tensor, nn

from sora_nb.layers.door import Clips, check_clips
from sora_nb.layers.pretrained import Lite0


class FrozenFrames(nn.Module):
    """Mean over time of `Lite0`'s features, then classify: only the head learns.

    Frames of 96 to 224 pixels. ``model.frames.load_pretrained()`` gives it its weights. Used in chapter 14.

    Args:
        classes: number of class scores.
    """

    def __init__(self, classes: int):
        super().__init__()
        self.frames, self.width = Lite0().requires_grad_(False), Lite0.width
        self.head = nn.Linear(self.width, classes)

    def embed(self, clips: Clips) -> Float[Tensor, "batch dim"]:
        """Return one representation a clip, the same for any order of its frames.

        Raises:
            ValueError: the clips have other axes, colours or numbers than the model takes, or hold nothing.
        """
        check_clips(self, clips)
        return self.frames(clips).mean(1)  # (B, T, 3, H, W) -> (B, T, 1280) -> (B, 1280)

    def forward(self, clips: Clips) -> Float[Tensor, "batch classes"]:
        """Return class scores (logits)."""
        return self.head(self.embed(clips))
