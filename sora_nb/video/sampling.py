"""Which frames of a video to look at: rules that turn a frame count into frame indices.

Every rule returns ``int64`` indices that always lie in ``[0, n)``. One policy holds for short videos: when a
rule asks for more frames than there are, the rule keeps its order and its spacing as far as the video reaches
and then **holds the last frame** (strided rules) or repeats frames evenly (uniform and segment rules).
A video without frames is a ``ValueError``. Derived in chapter 01.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64

Indices = Int64[np.ndarray, " k"]


def _check(**counts: int) -> None:
    for name, value in counts.items():
        if int(value) != value or value < 1:
            raise ValueError(f"{name} is {value}, but a sampling rule needs a whole number of at least 1.")


def _rng(generator: np.random.Generator | int | None) -> np.random.Generator:
    if generator is None:
        import torch  # here: the processes that write the motion set must not wait for it

        generator = int(torch.randint(2**63 - 1, ()))
    return np.random.default_rng(generator)  # passes a Generator through unchanged


def _strided(start: int, n: int, k: int, stride: int) -> Indices:
    return np.minimum(start + stride * np.arange(k, dtype=np.int64), n - 1)


def sample_uniform(n: int, k: int) -> Indices:
    """Take the middle frame of each of ``k`` equal parts of the video.

    Args:
        n: Number of frames in the video.
        k: Number of frames wanted.

    Returns:
        ``(k,)`` non-decreasing indices; strictly increasing when ``k <= n``. Part ``i`` covers
        ``[i n / k, (i + 1) n / k)``, so frame ``floor((2i + 1) n / 2k)`` is its middle.

    Raises:
        ValueError: If ``n`` or ``k`` is below 1.
    """
    _check(n=n, k=k)
    return (2 * np.arange(k, dtype=np.int64) + 1) * n // (2 * k)


def sample_segments(n: int, k: int, generator: np.random.Generator | int | None = None) -> Indices:
    """Take one frame at random from each of ``k`` equal parts (temporal segment networks, Wang et al. 2016).

    Args:
        n: Number of frames in the video.
        k: Number of segments.
        generator: NumPy generator or seed; without one torch's generator draws, so that the seed of a run decides
            and the workers of a DataLoader differ.

    Returns:
        ``(k,)`` non-decreasing indices, one per segment; index ``i`` lies in segment ``i``.

    Raises:
        ValueError: If ``n`` or ``k`` is below 1.
    """
    _check(n=n, k=k)
    edges = np.arange(k + 1, dtype=np.int64) * n // k
    first, last = edges[:-1], np.maximum(edges[1:] - 1, edges[:-1])
    return np.minimum(_rng(generator).integers(first, last + 1), n - 1)


def sample_dense(
    n: int,
    k: int,
    stride: int = 1,
    start: int | None = None,
    generator: np.random.Generator | int | None = None,
) -> Indices:
    """Take ``k`` frames ``stride`` apart, starting at ``start``, or in the middle of the video without one.

    Args:
        n: Number of frames in the video.
        k: Number of frames wanted.
        stride: Distance between neighbours, in frames.
        start: First index. ``None`` centres the clip, or draws the start if a ``generator`` is given.
        generator: NumPy generator or seed for the start; ignored when ``start`` is given.

    Returns:
        ``(k,)`` indices; the last frame is held where the video ends early.

    Raises:
        ValueError: If ``n``, ``k`` or ``stride`` is below 1, or ``start`` is outside ``[0, n)``.
    """
    _check(n=n, k=k, stride=stride)
    room = max(n - ((k - 1) * stride + 1), 0)  # the number of starts beyond 0 that fit
    if start is None:
        start = room // 2 if generator is None else int(_rng(generator).integers(room + 1))
    if not 0 <= start < n:
        raise ValueError(
            f"start is {start}, but the video has frames 0 to {n - 1}; choose a start among them."
        )
    return _strided(start, n, k, stride)


def sample_random_clip(
    n: int, k: int, stride: int = 1, generator: np.random.Generator | int | None = None
) -> Indices:
    """Take ``k`` frames ``stride`` apart from a start drawn uniformly among those that fit.

    Args:
        n: Number of frames in the video.
        k: Number of frames wanted.
        stride: Distance between neighbours, in frames.
        generator: NumPy generator or seed; without one torch's generator draws, so that the seed of a run decides
            and the workers of a DataLoader differ.

    Returns:
        ``(k,)`` indices; a video too short for the clip is read from 0 and its last frame held.

    Raises:
        ValueError: If ``n``, ``k`` or ``stride`` is below 1.
    """
    return sample_dense(n, k, stride, generator=_rng(generator))


def sample_multi_clip(n: int, k: int, stride: int = 1, clips: int = 10) -> Int64[np.ndarray, "clips k"]:
    """Spread ``clips`` dense clips evenly over the video, for test-time averaging.

    Args:
        n: Number of frames in the video.
        k: Number of frames in each clip.
        stride: Distance between neighbours, in frames.
        clips: Number of clips. One clip is centred; more run from the first frame to the last.

    Returns:
        ``(clips, k)`` indices; a video too short for one clip gives equal clips with the last frame held.

    Raises:
        ValueError: If any argument is below 1.
    """
    _check(n=n, k=k, stride=stride, clips=clips)
    room = max(n - ((k - 1) * stride + 1), 0)
    starts = np.array([room // 2]) if clips == 1 else np.arange(clips) * room // (clips - 1)
    return np.stack([_strided(int(start), n, k, stride) for start in starts])  # (clips, k)
