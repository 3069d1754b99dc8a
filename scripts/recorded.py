"""What the scripts of recorded runs share: drawn clips, finished parts on disk, rates, paired differences."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sora_nb.data import motion
from sora_nb.files import atomic

ROOT = Path(__file__).resolve().parents[1]
DRAWN = ROOT / "build" / "drawn"
PART = 1000  # clips between two files


def halved(frames) -> Tensor:
    """Clips of bytes (N, T, H, W, 3) with sides halved by averaging: bytes (N, T, 3, H/2, W/2)."""
    clips = torch.as_tensor(frames).permute(0, 1, 4, 2, 3).float()
    return F.avg_pool2d(clips.flatten(0, 1), 2).unflatten(0, clips.shape[:2]).round().byte()


def drawn_part(spec: motion.MotionSpec, split: str, first: int, last: int) -> Path:
    """The file with some clips of a split, drawn without a codec and halved; made if it is not there."""
    DRAWN.mkdir(parents=True, exist_ok=True)
    path = DRAWN / f"v{spec.level}-{spec.frames}f-take{spec.take}-{split}-{first}-{last}.npy"
    if not path.exists():
        longer = replace(spec, **{split: last})
        clips = halved(np.stack([motion.render(longer, split, i)[0] for i in range(first, last)]))
        with atomic(path) as temporary, open(temporary, "wb") as file:
            np.save(file, clips.numpy())
    return path


def drawn(spec: motion.MotionSpec, split: str, count: int, workers: int = 1) -> Tensor:
    """The first clips of a split, drawn without a codec and halved; a killed call goes on where it was."""
    parts = [(spec, split, first, min(first + PART, count)) for first in range(0, count, PART)]
    if workers == 1:
        paths = [drawn_part(*part) for part in parts]
    else:
        with get_context("fork").Pool(workers) as pool:
            paths = pool.starmap(drawn_part, parts, chunksize=1)
    return torch.cat([torch.from_numpy(np.load(path)) for path in paths])


def kept(path: Path, make: Callable[[], dict]) -> dict:
    """A finished result from its file, or a new one."""
    if not path.exists():
        result = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as temporary:
            temporary.write_text(json.dumps(result))
        print(path.stem, {k: v for k, v in result.items() if k != "right"}, flush=True)
    return json.loads(path.read_text())


def search(loss: Callable[[float], float], rates: Sequence[float], most: int = 8) -> dict[float, float]:
    """Loss by learning rate; goes on until the least has a neighbour on either side, or after ``most`` rates."""
    factor, tried, losses = rates[1] / rates[0], list(rates), {}
    while True:
        losses |= {rate: loss(rate) for rate in tried if rate not in losses}
        best = min(losses, key=losses.get)
        if min(losses) < best < max(losses) or len(losses) >= most:
            return dict(sorted(losses.items()))
        tried.append(best / factor if best == min(losses) else best * factor)


def best_of(losses: dict[float, float]) -> float:
    """The rate with the least loss."""
    return min(losses, key=losses.get)


def interval(differences: Tensor) -> dict[str, float]:
    """Mean over clips of a difference on the same clips, with a 95 % bootstrap interval."""
    draws = torch.randint(
        len(differences), (2000, len(differences)), generator=torch.Generator().manual_seed(0)
    )
    low, high = differences[draws].mean(1).quantile(torch.tensor([0.025, 0.975])).tolist()
    return {"difference": differences.mean().item(), "low": low, "high": high}


def paired(ours: list[dict], theirs: list[dict], copies: int = 1) -> dict[str, float]:
    """Accuracy difference on the same clips and seeds, from the ``right`` of runs.

    Args:
        copies: how often each clip was scored, one list after the other; 2 where its reversal was too.
    """
    right = [torch.tensor([run["right"] for run in runs]).float().mean(0) for runs in (ours, theirs)]
    return interval((right[0] - right[1]).view(copies, -1).mean(0))
