"""The sound of a file: read it, place it in time, and describe it by its pitches."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import av
import numpy as np
from jaxtyping import Float, Float32, Float64

from sora_nb.video.errors import FAILURES, RECODE, VideoReadError, damaged, regular
from sora_nb.video.packets import STRICT


def read_audio(path: str | os.PathLike) -> tuple[Float32[np.ndarray, " samples"], int]:
    """Read the first audio track, mixed down to one channel. Explained in chapter 01.

    Returns:
        Samples in [-1, 1] from the first one on, and their number a second.

    Raises:
        VideoReadError: If the file cannot be read or has no audio track.
    """
    path = Path(path)
    with _opened(path) as container:
        pieces, rate = _decode(container, path)
    if not pieces:
        raise VideoReadError(path, "its audio track is empty", RECODE)
    return np.concatenate(pieces).clip(-1, 1), rate  # a lossy codec overshoots at edges


@contextmanager
def _opened(path: Path) -> Iterator[av.container.InputContainer]:
    """The file's container; what the decoder complains of inside is told as damage to the file."""
    regular(path)
    try:
        with av.open(os.path.abspath(path), metadata_errors="replace") as container:
            yield container
    except FAILURES as error:
        raise damaged(path, error) from error


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


def audio_delay(path: str | os.PathLike) -> float:
    """Seconds from the first picture to the first sample of a file: negative where the sound begins before it.

    `read_audio` returns samples from the first one on, so sample i belongs to the time of the first picture plus this
    delay plus i / rate. Derived in chapter 19.

    Raises:
        VideoReadError: If the file cannot be read or lacks pictures or sound.
    """
    path = Path(path)
    with _opened(path) as container:
        if not (container.streams.audio and container.streams.video):
            raise VideoReadError(path, "it lacks pictures or sound", "ask probe(path).has_audio first")
        first: dict[str, float] = {}
        for frame in container.decode(container.streams.video[0], container.streams.audio[0]):
            first.setdefault(type(frame).__name__, float(frame.pts * frame.time_base))
            if len(first) == 2:
                return first["AudioFrame"] - first["VideoFrame"]
    raise VideoReadError(path, "one of its two tracks is empty", RECODE)


def mel_filters(
    bands: int, window: int, rate: float, low: float, high: float
) -> Float64[np.ndarray, "frequency bands"]:
    """Triangles over the ``window // 2 + 1`` frequencies of an FFT, equally wide and half overlapping in mels.

    A pitch of f hertz is 2595·log10(1 + f / 700) mels (HTK's scale). Each triangle rises from the peak of its lower
    neighbour to 1 and falls to the peak of the upper one. Derived in chapter 19.

    Args:
        bands: how many.
        window: samples in a window of the FFT.
        rate: samples a second.
        low, high: where the first triangle begins and the last one ends, in hertz.

    Raises:
        ValueError: the range is empty or reaches beyond half the rate.
    """
    if not 0 <= low < high <= rate / 2:
        raise ValueError(
            f"The bands are to reach from {low} to {high} Hz, but at {rate} samples a second they must lie in 0 to "
            f"{rate / 2}, the lower end first."
        )
    mels = np.linspace(*(2595 * np.log10(1 + f / 700) for f in (low, high)), bands + 2)
    edges = 700 * (10 ** (mels / 2595) - 1)
    at = np.arange(window // 2 + 1)[:, None] * rate / window
    rising = (at - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - at) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rising, falling))


def log_mel(
    samples: Float[np.ndarray, "*batch samples"],
    rate: float,
    *,
    window: int = 512,
    hop: int = 250,
    bands: int = 24,
    low: float = 200.0,
    high: float = 1300.0,
    floor: float = 1e-3,
) -> Float32[np.ndarray, "*batch steps bands"]:
    """Logarithm of the power in each mel band, one row for every ``hop`` samples. Derived in chapter 19.

    Window i is centred at sample (i + 1/2)·hop, so that row i describes the i-th piece of ``hop`` samples and rows line
    up with pictures; silence is put before and after. Windows are Hann's.

    Args:
        samples: sound in [-1, 1]; samples behind the last whole ``hop`` are left out.
        rate: samples a second.
        window: samples under a window, at least ``hop`` and even like it.
        hop: samples from one row to the next.
        bands, low, high: see `mel_filters`.
        floor: power below which all is silence; the logarithm is never below its.

    Raises:
        ValueError: there are fewer samples than a hop, or window and hop do not fit.
    """
    if window < hop or window % 2 or hop % 2 or samples.shape[-1] < hop:
        raise ValueError(
            f"log_mel got {samples.shape[-1]} samples, window {window} and hop {hop}; it expects at least a hop of "
            "samples and even numbers, the window no shorter than the hop."
        )
    count, beside = samples.shape[-1] // hop, (window - hop) // 2
    pad = [(0, 0)] * (samples.ndim - 1) + [(beside, beside)]
    padded = np.pad(samples[..., : count * hop], pad)
    windows = np.lib.stride_tricks.sliding_window_view(padded, window, axis=-1)[..., ::hop, :]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    power = np.abs(np.fft.rfft(windows * hann)) ** 2
    bank = mel_filters(bands, window, rate, low, high)
    return np.log(np.maximum(power @ bank, floor)).astype(np.float32)
