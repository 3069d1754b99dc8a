"""The motion set: clips whose class is a movement, and whose look says nothing about its direction.

Real H.264 files are written once and read back like any other video. Clip ``index`` of a split depends on the
seed, the split and ``index`` alone: a larger set begins with the smaller one, a larger frame shows the same clip,
and any number of worker processes writes the same files. Derived in chapter 03; data card in ``data/README.md``.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from sora_nb.data.motion_files import (
    TEMPLATES,
    MotionSpec,
    caption,
    decoded,
    directory,
    fingerprint,
    generate,
    render,
    tone,
)
from sora_nb.data.motion_render import CLASSES, PAIRS, SPLITS
from sora_nb.transforms import to_clip

__all__ = ["CLASSES", "PAIRS", "SPLITS", "TEMPLATES", "MotionSpec", "MotionSplit", "caption", "directory",
           "fingerprint", "generate", "load", "render", "tone"]  # fmt: skip


@dataclass(frozen=True)
class MotionSplit:
    """One split in memory, read from its video files. Boxes are pixels, NaN where too little of the digit shows."""

    clips: UInt8[Tensor, "clip time height width 3"]
    labels: Int64[Tensor, " clip"]
    digits: Int64[Tensor, " clip"]
    boxes: Float32[Tensor, "clip time 4"]
    captions: list[str]
    params: list[dict]
    files: list[Path]

    def __len__(self) -> int:
        return len(self.labels)

    def float(self) -> Float32[Tensor, "clip time 3 height width"]:
        """The clips as a model takes them, in [0, 1]."""
        return to_clip(self.clips)

    def reversed(self) -> tuple[UInt8[Tensor, "clip time height width 3"], Int64[Tensor, " clip"]]:
        """Every clip played backwards, with the label that then holds: ``c ^ 1``."""
        return self.clips.flip(1), self.labels ^ 1


def load(
    spec: MotionSpec,
    split: str,
    root: str | os.PathLike | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> MotionSplit:
    """Read a split from its video files, writing them first if need be.

    The files are decoded once; the frames are kept next to them and memory-mapped from then on.

    Raises:
        ValueError: no such split, or it is empty.
        VideoReadError: a file is damaged or was exchanged since it was written.
    """
    if split not in SPLITS or not getattr(spec, split):
        sizes = ", ".join(f"{name} {getattr(spec, name)}" for name in SPLITS)
        raise ValueError(f"Split {split!r} holds no clips; this set has {sizes}.")
    folder = directory(spec, root)
    if not (folder / "manifest.json").exists():
        generate(spec, root, workers, progress)
    text = (folder / "manifest.json").read_bytes()
    records = json.loads(text)["splits"][split]
    cache = decoded(spec, folder, split, text, workers, progress)
    hidden = [float("nan")] * 4
    return MotionSplit(
        clips=torch.from_numpy(np.load(cache, mmap_mode="c")),  # "c": a reader who writes changes only memory
        labels=torch.tensor([r["label"] for r in records]),
        digits=torch.tensor([r["digit"] for r in records]),
        boxes=torch.tensor([[box or hidden for box in r["boxes"]] for r in records]),
        captions=[r["caption"] for r in records],
        params=[r["params"] for r in records],
        files=[folder / r["file"] for r in records],
    )
