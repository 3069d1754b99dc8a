"""The system of article E: a causal convolutional autoencoder with a small code beside a linear one. Derived in chapter 10."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sora_nb.layers.components import Components
from sora_nb.layers.convolution import TCN
from sora_nb.layers.door import Clips, centered, check_clips, check_dtype


class CodeState(NamedTuple):
    """What `SoraAutoencoder.step` remembers of a stream; its size is bounded by one group of frames."""

    frames: Float[Tensor, "batch waiting channels height width"]  # not yet a whole step
    steps: Float[Tensor, "batch done component"]  # components of the steps of this group
    hidden: Float[Tensor, "batch done dim"]  # and what the network made of them
    tcn: list | None


class SoraAutoencoder(nn.Module):
    """Encode each group of frames into one small vector, and decode it again.

    A linear code and, beside it, a network that learns what a linear code cannot say:

    frames → principal components of each frame → of each step of ``hop`` frames → (causal TCN over steps) → code

    The code of a group is the leading components of its steps, scaled to spread 1, plus a linear map of the TCN's
    outputs. The decoder mirrors it. Both networks' last layers start at zero, so that after `fit_linear` the model *is*
    principal component analysis, and training starts from there. Everything is causal in groups: a code vector sees its
    own group and earlier frames, a frame is decoded from its own group's vector and earlier ones.

    Args:
        classes: number of class scores, read from the code.
        dim, depth, kernel: channels, blocks and taps of each TCN.
        code: numbers a vector; one vector for each group.
        group: frames a group; a multiple of ``hop``.
        hop: frames a step.
        size: height and width of the frames.
        channels: colours.
        components: kept for each frame, and for each step; they bound what can be reconstructed.
        center: encode what is left of a clip without its mean over time, which is what moves; `reconstruct` then gives
            that, and a stream, whose mean is not known yet, is refused.

    Raises:
        ValueError: the group is no multiple of the hop, or there are more components than numbers.

    Derived in chapter 10.
    """

    def __init__(
        self,
        classes: int,
        *,
        dim: int = 256,
        depth: int = 1,
        kernel: int = 2,
        code: int = 64,
        group: int = 16,
        hop: int = 4,
        size: int = 16,
        channels: int = 3,
        components: tuple[int, int] = (128, 160),
        center: bool = False,
    ):
        super().__init__()
        if group < hop or group % hop:
            raise ValueError(f"SoraAutoencoder got group={group}; it must be a multiple of hop={hop}.")
        by_frame, by_step = components
        self.width, self.group, self.hop, self.shape = code, group, hop, (channels, size, size)
        self.steps, self.center = group // hop, center
        self.by_frame = Components(channels * size * size, by_frame)
        self.by_step = Components(hop * by_frame, by_step)
        self.by_group = Components(self.steps * by_step, code)
        self.encoder = TCN(by_step, dim, depth, kernel)
        self.to_code = nn.Linear(self.steps * dim, code)
        self.from_code = nn.Linear(code, self.steps * dim)
        self.decoder = TCN(dim, dim, depth, kernel)
        self.out = nn.Linear(dim, by_step)
        # The way back from the linear code; it is trained.
        self.linear = nn.Linear(code, self.steps * by_step)
        self.head = nn.Linear(code, classes)
        self._start()

    def _start(self) -> None:
        """Silence the networks and invert the linear code."""
        for layer in (self.to_code, self.out):
            nn.init.zeros_(layer.weight), nn.init.zeros_(layer.bias)
        with torch.no_grad():
            self.linear.weight.copy_(self.by_group.directions * self.by_group.spread)
            self.linear.bias.copy_(self.by_group.mean)

    @torch.no_grad()
    def fit_linear(self, clips: Clips) -> None:
        """Take all components from data, and start anew from the linear code that they make.

        Raises:
            ValueError: the clips do not fit the model, or are too few for so many components.
        """
        clips = self._taken(clips)
        self.by_frame.fit(clips.flatten(2).flatten(0, 1))  # (N·T, C·H·W)
        parts = self.by_frame(clips.flatten(2)).unflatten(1, (-1, self.hop)).flatten(2)  # (N, T/hop, hop·K)
        self.by_step.fit(parts.flatten(0, 1))
        self.by_group.fit(self._grouped(self.by_step(parts)).flatten(0, 1))
        self._start()

    def describe(self, clips: Clips) -> Float[Tensor, "batch steps component"]:
        """Return the components of each step of ``hop`` frames: what the networks and the linear code read.

        No weight that is trained comes before them, and the directions are orthonormal: the squared distance of two
        clips' steps is that of the pixels which they stand for. So a run may take these once from all clips, and
        then minimise the error of ``decode_steps(encode_steps(steps))``. Used in chapter 10.

        Raises:
            ValueError: the clips have other axes, colours, sizes or numbers than the model takes, hold nothing, or their
                frames do not make whole groups.
        """
        return self._describe(self._taken(clips))  # (B, T, C, H, W) -> (B, T/hop, K)

    def encode_steps(
        self, steps: Float[Tensor, "batch steps component"]
    ) -> Float[Tensor, "batch groups code"]:
        """Return the code of described clips."""
        return self._code(steps, self.encoder(steps / self._scale))

    def decode_steps(
        self, code: Float[Tensor, "batch groups code"]
    ) -> Float[Tensor, "batch steps component"]:
        """Return the described clip that a code stands for.

        Raises:
            ValueError: the vectors have another width or number type than the model's code.
        """
        if code.ndim != 3 or code.shape[-1] != self.width:
            raise ValueError(
                f"SoraAutoencoder got a code of shape {tuple(code.shape)}; it expects (batch, groups, {self.width})."
            )
        check_dtype(self, code)
        hidden = F.relu(self.from_code(code)).unflatten(2, (self.steps, -1)).flatten(1, 2)  # (B, T/hop, D)
        steps = self.linear(code).unflatten(2, (self.steps, -1)).flatten(1, 2)  # (B, T/hop, K)
        return steps + self._scale * self.out(self.decoder(hidden))

    def encode(self, clips: Clips) -> Float[Tensor, "batch groups code"]:
        """Return one code vector for each group of frames.

        Raises:
            ValueError: see :meth:`describe`.
        """
        return self.encode_steps(self.describe(clips))

    def decode(self, code: Float[Tensor, "batch groups code"]) -> Clips:
        """Return the clip that a code stands for; values are near [0, 1] but not clipped to it.

        Raises:
            ValueError: see :meth:`decode_steps`.
        """
        steps = self.decode_steps(code)
        frames = self.by_step.back(steps).unflatten(2, (self.hop, -1)).flatten(1, 2)  # (B, T, K')
        return self.by_frame.back(frames).unflatten(2, self.shape)  # (B, T, C, H, W)

    def reconstruct(self, clips: Clips) -> Clips:
        """Encode and decode."""
        return self.decode(self.encode(clips))

    def embed(self, clips: Clips) -> Float[Tensor, "batch code"]:
        """Return one vector a clip: the mean of its groups' codes."""
        return self.encode(clips).mean(1)

    def forward(self, clips: Clips) -> Float[Tensor, "batch classes"]:
        """Return class scores (logits), read from the code."""
        return self.head(self.embed(clips))

    def step(
        self, frame: Float[Tensor, "batch channels height width"], state: CodeState | None = None
    ) -> tuple[Float[Tensor, "batch code"] | None, CodeState]:
        """Take one more frame; return the code vector if it completes a group, else None, and the new state.

        The vectors are those of :meth:`encode`. Used in chapter 20.

        Raises:
            ValueError: the frame does not fit the model, or the model centers its clips.
        """
        if self.center:
            raise ValueError(
                "SoraAutoencoder.step got a model with center=True; a stream has no mean yet, so train one without."
            )
        check_clips(self, frame[:, None], self.shape[0])
        state = self._fresh(frame) if state is None else state
        frames = torch.cat([state.frames, frame[:, None]], 1)
        if frames.shape[1] < self.hop:
            return None, state._replace(frames=frames)
        now = self._describe(frames)[:, 0]  # (B, hop, C, H, W) -> (B, K)
        seen, tcn = self.encoder.step(now / self._scale, state.tcn)
        steps, hidden = torch.cat([state.steps, now[:, None]], 1), torch.cat([state.hidden, seen[:, None]], 1)
        if steps.shape[1] < self.steps:
            return None, CodeState(frames[:, :0], steps, hidden, tcn)
        return self._code(steps, hidden)[:, 0], CodeState(frames[:, :0], steps[:, :0], hidden[:, :0], tcn)

    @property
    def _scale(self) -> Tensor:
        """A quarter of the largest spread: what goes in and out of the networks is a few units large."""
        return self.by_step.spread[0] / 4

    def _describe(self, clips: Tensor) -> Tensor:
        """Components of each step: (B, T, C, H, W) -> (B, T/hop, K)."""
        return self.by_step(self.by_frame(clips.flatten(2)).unflatten(1, (-1, self.hop)).flatten(2))

    def _grouped(self, x: Tensor) -> Tensor:
        """The steps of a group side by side: (B, T/hop, K) -> (B, T/group, steps·K)."""
        return x.unflatten(1, (-1, self.steps)).flatten(2)

    def _code(self, steps: Tensor, hidden: Tensor) -> Tensor:
        linear = self.by_group(self._grouped(steps)) / self.by_group.spread
        return linear + self.to_code(self._grouped(hidden))

    def _fresh(self, frame: Tensor) -> CodeState:
        batch, components = frame.shape[0], self.by_step.spread.shape[0]
        none = [frame.new_zeros(batch, 0, n) for n in (components, self.out.in_features)]
        return CodeState(frame[:, None][:, :0], *none, None)

    def _taken(self, clips: Tensor) -> Tensor:
        """The clips that are encoded, once they fit."""
        check_clips(self, clips, self.shape[0])
        if tuple(clips.shape[2:]) != self.shape or clips.shape[1] % self.group:
            raise ValueError(
                f"SoraAutoencoder got clips of shape {tuple(clips.shape)}; it expects (batch, time, {self.shape[0]}, "
                f"{self.shape[1]}, {self.shape[2]}) with time a multiple of {self.group}."
            )
        return centered(clips) if self.center else clips
