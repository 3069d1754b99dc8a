"""A label for every frame: stages of dilated convolutions over time. Derived in chapter 16."""

from jaxtyping import Float
from torch import Tensor, nn

from sora_nb.layers.convolution import TCN
from sora_nb.layers.door import ClipsOrFeatures, check_clips
from sora_nb.layers.frames import FrameCNN


class Segmenter(nn.Module):
    """Frame network -> TCN -> class scores of each frame -> TCN -> better scores, and so on.

    After MS-TCN (Abu Farha and Gall 2019, arXiv 1903.01945): each further stage reads nothing but the probabilities of
    the stage before, so all that it can learn is which orders and lengths of segments are likely. The stages are the
    TCN of chapter 10, of two convolutions a block where the paper has one.

    Args:
        classes: labels that a frame may have.
        dim: width of each stage, and of the representation of a frame.
        levels: blocks of each stage, with dilations 1, 2, 4, …
        stages: how many networks stand one after the other.
        kernel: taps of each convolution, odd.
        dropout: probability after each convolution.
        causal: True sees no later frame and can stream.
        frames: another network (B, T, C, H, W) -> (B, T, features); ``nn.Identity()`` takes cached features.
        features: numbers a frame that the frame network gives.

    Raises:
        ValueError: no stage.

    Derived in chapter 16.
    """

    def __init__(
        self,
        classes: int,
        *,
        dim: int = 32,
        levels: int = 4,
        stages: int = 2,
        kernel: int = 3,
        dropout: float = 0.0,
        causal: bool = False,
        frames: nn.Module | None = None,
        features: int = 64,
    ):
        super().__init__()
        if stages < 1:
            raise ValueError(f"Segmenter got stages={stages}; expected at least one.")
        self.width = dim
        self.frames = FrameCNN(features) if frames is None else frames
        reads = [features] + [classes] * (stages - 1)
        self.stages = nn.ModuleList(TCN(n, dim, levels, kernel, dropout, causal) for n in reads)
        self.heads = nn.ModuleList(nn.Linear(dim, classes) for _ in reads)

    @property
    def head(self) -> nn.Linear:
        """The last linear layer, which gives the answer."""
        return self.heads[-1]

    @property
    def receptive_field(self) -> int:
        """Frames on which the scores of one frame depend, all stages together."""
        return 1 + sum(stage.receptive_field - 1 for stage in self.stages)

    def embed(self, clips: ClipsOrFeatures) -> Float[Tensor, "batch time dim"]:
        """One vector a frame, which the last linear layer reads.

        Raises:
            ValueError: the clips have other axes, colours or numbers than the model takes, or hold nothing.
        """
        return self._run(clips)[1]

    def scores(self, clips: ClipsOrFeatures) -> list[Float[Tensor, "batch time classes"]]:
        """Class scores of each frame from every stage; training asks all of them to be right."""
        return self._run(clips)[0]

    def forward(self, clips: ClipsOrFeatures) -> Float[Tensor, "batch time classes"]:
        """Class scores of each frame, from the last stage."""
        return self._run(clips)[0][-1]

    def step(
        self, frame: Float[Tensor, "batch *frame"], state: list | None = None
    ) -> tuple[Float[Tensor, "batch classes"], list]:
        """Take one more frame (B, C, H, W), or its features; return its scores and the new state.

        In evaluation mode they equal those of :meth:`forward` at that frame.

        Raises:
            ValueError: the model sees later frames.
        """
        check_clips(self, frame[:, None])
        x, old, new = self.frames(frame[:, None])[:, 0], state or [None] * len(self.stages), []
        for i, (stage, head) in enumerate(zip(self.stages, self.heads, strict=True)):
            x, now = stage.step(x.softmax(-1) if i else x, old[i])
            x = head(x)
            new.append(now)
        return x, new

    def _run(self, clips: Tensor) -> tuple[list[Tensor], Tensor]:
        """Scores of all stages, and what the last head read."""
        check_clips(self, clips)
        x, scores = self.frames(clips), []  # (B, T, C, H, W) -> (B, T, features)
        for stage, head in zip(self.stages, self.heads, strict=True):
            hidden = stage(scores[-1].softmax(-1) if scores else x)  # -> (B, T, dim)
            scores.append(head(hidden))  # -> (B, T, classes)
        return scores, hidden
