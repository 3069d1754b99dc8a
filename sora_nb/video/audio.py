"""Reading the sound of a file. Used from chapter 19 on, explained in chapter 01."""

from __future__ import annotations

import os
from itertools import chain
from pathlib import Path

import av
import numpy as np
from jaxtyping import Float32

from sora_nb.video.errors import FAILURES, RECODE, VideoReadError, damaged, regular
from sora_nb.video.packets import STRICT


def read_audio(path: str | os.PathLike) -> tuple[Float32[np.ndarray, " samples"], int]:
    """Read the first audio track, mixed down to one channel.

    Returns:
        Samples in [-1, 1] from the first one on, and their number a second.

    Raises:
        VideoReadError: If the file cannot be read or has no audio track.
    """
    path = Path(path)
    regular(path)
    try:
        with av.open(os.path.abspath(path), metadata_errors="replace") as container:
            pieces, rate = _decode(container, path)
    except FAILURES as error:
        raise damaged(path, error) from error
    if not pieces:
        raise VideoReadError(path, "its audio track is empty", RECODE)
    return np.concatenate(pieces).clip(-1, 1), rate  # a lossy codec overshoots at edges


def _decode(container: av.container.InputContainer, path: Path) -> tuple[list[np.ndarray], int]:
    if not container.streams.audio or container.streams.audio[0].codec_context is None:
        raise VideoReadError(path, "it has no audio track", "ask probe(path).has_audio first")
    stream = container.streams.audio[0]
    stream.codec_context.options = STRICT
    mixer = av.AudioResampler(format="flt", layout="mono", rate=stream.rate)
    pieces = []
    for frame in chain(container.decode(stream), [None]):
        pieces += [mixed.to_ndarray()[0] for mixed in mixer.resample(frame)]
    return pieces, stream.rate
