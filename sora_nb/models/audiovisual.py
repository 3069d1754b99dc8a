"""Pictures and sound in one classifier, joined early, late or by attention. Derived in chapter 19."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sora_nb.layers.door import Clips, centered, check_clips
from sora_nb.layers.frames import FrameCNN
from sora_nb.layers.position import LearnedPosition
from sora_nb.layers.transformer import Encoder

FUSIONS = ("video", "sound", "early", "late", "attention")


class _Reader(nn.Sequential):
    """Two convolutions over time, then the mean over time: (B, T, D_in) -> (B, D)."""

    def __init__(self, dim_in: int, dim: int):
        layers = []
        for wide in (dim_in, dim):
            layers += [nn.Conv1d(wide, dim, 3, padding=1, bias=False), nn.BatchNorm1d(dim), nn.ReLU()]
        super().__init__(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.mT).mean(2)


class AudioVisual(nn.Module):
    """Tokens of pictures and of sound, one of each a frame, joined in one of three ways. Derived in chapter 19.

    Early: the two tokens of a moment side by side, read together over time. Late: each channel read and judged by
    itself, the scores added. Attention: all tokens in one Transformer encoder, with a learned mark for the channel.
    "video" and "sound" hear or see nothing of the other channel.

    Args:
        classes: number of class scores.
        fusion: one of `FUSIONS`.
        dim: width of the tokens.
        bands: mel bands of the sound.
        steps: rows of the log-mel in the time of one frame.
        frames: another network (B, T, C, H, W) -> (B, T, dim) in place of the small `FrameCNN`.
        length: most frames that "attention" takes.

    Raises:
        ValueError: the fusion is unknown.
    """

    def __init__(
        self,
        classes: int,
        *,
        fusion: str = "early",
        dim: int = 64,
        bands: int = 24,
        steps: int = 8,
        frames: nn.Module | None = None,
        length: int = 16,
    ):
        super().__init__()
        if fusion not in FUSIONS:
            raise ValueError(f'AudioVisual got fusion="{fusion}"; choose one of {", ".join(FUSIONS)}.')
        self.fusion, self.steps, self.bands = fusion, steps, bands
        self.frames = FrameCNN(dim, (8, 16)) if frames is None else frames
        self.sound = nn.Linear(steps * bands, dim)
        if fusion == "attention":
            self.position = LearnedPosition(length, dim)
            self.kind = nn.Parameter(0.02 * torch.randn(2, dim))
            self.encoder = Encoder(dim, 2, 4)
        else:
            wide = 2 * dim if fusion == "early" else dim
            self.readers = nn.ModuleList(_Reader(wide, dim) for _ in range(1 + (fusion == "late")))
        self.heads = nn.ModuleList(nn.Linear(dim, classes) for _ in range(1 + (fusion == "late")))

    def see(self, clips: Clips) -> Float[Tensor, "batch time dim"]:
        """One token a frame, each by itself, of clips whose mean over time is taken away.

        Raises:
            ValueError: the clips have other axes, colours or numbers than the model takes, or hold nothing.
        """
        check_clips(self, clips)
        return F.relu(self.frames(centered(clips)))  # (B, T, C, H, W) -> (B, T, D)

    def hear(self, mel: Float[Tensor, "batch steps bands"]) -> Float[Tensor, "batch time dim"]:
        """One token for the sound in the time of each frame.

        Raises:
            ValueError: the log-mel has other bands, or its rows do not divide into frames.
        """
        if mel.shape[1] % self.steps or mel.shape[2] != self.bands:
            raise ValueError(
                f"AudioVisual got a log-mel of shape {tuple(mel.shape)}; it expects (batch, {self.steps} rows a "
                f"frame, {self.bands} bands)."
            )
        return F.relu(self.sound(mel.unflatten(1, (-1, self.steps)).flatten(2)))  # -> (B, T, D)

    def forward(
        self, clips: Clips, mel: Float[Tensor, "batch steps bands"]
    ) -> Float[Tensor, "batch classes"]:
        """Class scores of clips with the log-mel of their sound.

        Raises:
            ValueError: as `see` and `hear`, or the sound is not as long as the clips.
        """
        v, s = self.see(clips), self.hear(mel)
        if v.shape[1] != s.shape[1]:
            raise ValueError(
                f"AudioVisual got {v.shape[1]} frames and sound for {s.shape[1]}; give {self.steps} rows a frame."
            )
        if self.fusion == "late":
            read = [reader(x) for reader, x in zip(self.readers, (v, s))]
            return self.heads[0](read[0]) + self.heads[1](read[1])
        if self.fusion == "attention":
            tokens = torch.cat([self.position(v) + self.kind[0], self.position(s) + self.kind[1]], 1)
            return self.heads[0](self.encoder(tokens).mean(1))  # (B, 2T, D) -> (B, D)
        x = {"early": torch.cat([v, s], 2), "video": v, "sound": s}[self.fusion]
        return self.heads[0](self.readers[0](x))
