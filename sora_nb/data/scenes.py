"""Scenes with several digits, each of which crosses the frame or stands still, with a box, a number and a direction each.

Composed from the parts of the motion set (chapter 03), drawn and not encoded: a tensor needs no reader. Derived in
chapter 17.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from sora_nb.data import motion_render as draw
from sora_nb.transforms import to_clip

MOVES = ("left", "right", "up", "down", "still")
SIDES = (0.32, 0.44)  # of a digit, as a fraction of the frame's


@dataclass(frozen=True)
class Scenes:
    """Clips and their objects. Boxes are fractions of the frame; NaN where a digit hardly shows, or is not there at all."""

    clips: UInt8[Tensor, "clip time height width 3"]
    boxes: Float32[Tensor, "clip object time 4"]
    moves: Int64[Tensor, "clip object"]
    digits: Int64[Tensor, "clip object"]

    def float(self) -> Float32[Tensor, "clip time 3 height width"]:
        """The clips as a model takes them, in [0, 1]."""
        return to_clip(self.clips)


def scenes(count: int, split: str, *, objects: int = 3, frames: int = 8, size: int = 32) -> Scenes:
    """Draw scenes of one to ``objects`` digits; scene i of a split is always the same.

    A digit does not leave the frame on one side to come in on the other. Directions come in pairs of reversed draws, as in
    the motion set, so that no frame by itself tells them apart. Derived in chapter 17.
    """
    drawn = [_scene(split, i, objects, frames, size) for i in range(count)]
    clips, *rest = map(np.stack, zip(*drawn, strict=True))
    return Scenes(torch.from_numpy(clips), *map(torch.from_numpy, rest))


def _scene(split: str, index: int, objects: int, frames: int, size: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng([draw.SPLITS.index(split), index, 17])
    canvas = None
    boxes = np.full((objects, frames, 4), np.nan, np.float32)
    moves, digits = np.zeros((2, objects), np.int64)
    for k in range(1 + int(objects * rng.random())):
        moves[k] = int(len(MOVES) * rng.random())
        params, track = _digit(rng, int(moves[k]), split, frames)
        if canvas is None:
            canvas = draw.scenery(params, frames, size)
        ink = draw.coverage(params["image"], track, size)  # (T, S, S)
        canvas = draw.paint(canvas, ink, params["color"])
        digits[k], boxes[k] = params["digit"], draw.boxes(params["image"], [track], size) / size
    return np.rint(np.clip(canvas, 0, 1) * 255).astype(np.uint8), boxes, moves, digits


def _digit(
    rng: np.random.Generator, move: int, split: str, frames: int
) -> tuple[dict, dict[str, np.ndarray]]:
    """One digit: its parameters, and where it is in each frame."""
    still = MOVES[move] == "still"
    label = int(4 * rng.random()) if still else move  # what stands still stands where another would pass
    params = draw.sample(rng, label, split)
    params["side"] = SIDES[0] + (SIDES[1] - SIDES[0]) * float(rng.random())
    params["phase"] *= 1 - params["extent"]  # the cycle does not end in the clip
    at = draw.progress(params, frames)
    at = at[[int(frames * rng.random())] * frames] if still else at if label % 2 else at[::-1]
    params["center"] = [0.2 + 0.6 * float(rng.random()) for _ in range(2)]
    return params, draw.track(params, at)[0]
