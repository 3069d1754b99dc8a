"""Long videos with a label for every frame: one digit over one photograph, one motion after the other.

The picture is a function of four phases: across, down, size and angle. A motion moves one of them at a constant speed
and leaves the others where they are, so that nothing jumps where one motion gives way to the next. All phases start
uniform and independent of the motions, and therefore stay so: **a single frame says nothing about its label**. Frames
are drawn, not read from files. Derived in chapter 16.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from sora_nb.data import motion_render as render
from sora_nb.transforms import to_clip

KINDS = (*render.CLASSES[:8], "rest")
REST = 8
SPEED = (0.02, 0.04)  # cycles a frame, alike for all kinds
LASTS = (12, 40)  # frames of a motion
SMALL = 0.45  # what a digit shrinks to
FAINT = 0.3  # opacity where size starts anew


@dataclass(frozen=True)
class LongVideos:
    """Videos of one length. The label of frame t names the movement from frame t − 1 to frame t. From chapter 16."""

    clips: UInt8[Tensor, "video time height width 3"]
    labels: Int64[Tensor, "video time"]
    digits: Int64[Tensor, " video"]

    def __len__(self) -> int:
        return len(self.labels)

    def float(self) -> Float[Tensor, "video time 3 height width"]:
        """The videos as a model takes them, in [0, 1]."""
        return to_clip(self.clips)


def script(
    rng: np.random.Generator, frames: int, weights: Sequence[float]
) -> tuple[np.ndarray, Float[np.ndarray, "frames 4"]]:
    """Draw what happens: the label of each frame, and how far each of the four phases moves up to it, in cycles.

    No motion follows itself. Frame 0 carries the first motion's label and has moved nowhere. Derived in chapter 16.
    """
    labels, moves = np.zeros(frames, np.int64), np.zeros((frames, 4))
    start, kind = 0, None
    while start < frames:
        odds = np.cumsum([0.0 if k == kind else w for k, w in enumerate(weights)])
        kind = int(np.searchsorted(odds, rng.random() * odds[-1], side="right"))
        end = start + LASTS[0] + int(rng.random() * (LASTS[1] - LASTS[0] + 1))
        speed = SPEED[0] + (SPEED[1] - SPEED[0]) * rng.random()
        labels[start:end] = kind
        if kind != REST:
            moves[start:end, kind // 2] = speed if kind % 2 else -speed
        start = end
    moves[0] = 0
    return labels, moves


def draw(
    look: dict, phases: Float[np.ndarray, "time 4"], size: int, grain: Float[np.ndarray, "time size size 3"]
) -> UInt8[np.ndarray, "time size size 3"]:
    """Draw a digit at its phases over its photograph, with the camera's grain. Derived in chapter 16.

    Args:
        look: from `motion_render.sample`: digit image, colour, photograph.
        phases: across, down, size, angle, in cycles; only their fraction counts.
        size: side of a frame in pixels.
        grain: added to the picture, in units of full brightness.
    """
    p, side = phases % 1, look["side"]
    large = SMALL + (1 - SMALL) * p[:, 2]
    fade = np.clip(np.minimum(p[:, 2], 1 - p[:, 2]) / render.FADE, FAINT, 1)
    at = dict(x=p[:, 0], y=p[:, 1], side=side * large, angle=360 * p[:, 3], opacity=fade)
    # What leaves the frame comes in on the other side: the digit always shows. (T, 2S, 2S), averaged against flicker.
    fine = render.coverage(look["image"], at, 2 * size, period=1.0)
    ink = fine.reshape(len(p), size, 2, size, 2).mean((2, 4))
    scene = np.repeat(render.scenery(look, 2, size)[:1], len(p), 0)
    canvas = render.paint(scene, ink, look["color"]) + grain
    return np.rint(np.clip(canvas, 0, 1) * 255).astype(np.uint8)


def load(
    split: str,
    count: int,
    *,
    frames: int = 256,
    size: int = 16,
    weights: Sequence[float] = (1.0,) * len(KINDS),
    grain: tuple[float, float] = (0.1, 0.3),
    seed: int = 0,
) -> LongVideos:
    """Draw ``count`` videos of a split; the same arguments always give the same videos.

    Splits share no digit image and no part of a photograph. Derived in chapter 16.

    Args:
        split: "train", "val" or "test".
        count: how many videos; the first videos of a longer set are those of a shorter one.
        frames: length of each.
        size: side of a frame in pixels.
        weights: how often each of `KINDS` comes up; 0 for never.
        grain: range of the grain's amplitude, drawn for each video, in units of full brightness.
        seed: another number gives other videos.

    Raises:
        ValueError: no such split, nothing to draw, or fewer than two kinds that may follow each other.
    """
    if split not in render.SPLITS or count < 1 or frames < 2:
        raise ValueError(
            f"long.load got split {split!r}, {count} videos of {frames} frames; expected one of "
            f"{', '.join(render.SPLITS)}, a video or more, two frames or more."
        )
    if len(weights) != len(KINDS) or min(weights) < 0 or sum(w > 0 for w in weights) < 2:
        raise ValueError(
            f"long.load got the weights {tuple(weights)}; expected {len(KINDS)} numbers from 0 up, of which two or "
            "more are above 0, because no motion follows itself."
        )
    drawn = [_video(split, i, frames, size, weights, grain, seed) for i in range(count)]
    clips, labels, digits = zip(*drawn, strict=True)
    return LongVideos(
        torch.from_numpy(np.stack(clips)), torch.from_numpy(np.stack(labels)), torch.tensor(digits)
    )


def _video(split: str, index: int, frames: int, size: int, weights, grain, seed: int) -> tuple:
    rng = np.random.default_rng([seed, render.SPLITS.index(split), index])
    look = render.sample(rng, 5, split)  # of which the looks are taken: side, digit, colour, photograph
    labels, moves = script(rng, frames, weights)
    phases = rng.random(4) + moves.cumsum(0)
    amplitude = grain[0] + (grain[1] - grain[0]) * rng.random()
    noise = amplitude * (rng.random((frames, size, size, 3)) - 0.5)
    return draw(look, phases, size, noise), labels, look["digit"]
