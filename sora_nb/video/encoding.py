"""Writing video: what `sora_nb.video.write_video` stands on. Explained in chapter 01."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from jaxtyping import Float32, UInt8

from sora_nb.files import atomic

Frames = UInt8[np.ndarray, "time height width 3"]

# x264's macroblock tree reads memory that it has not written: with it, equal frames give unequal files.
QUALITY = {"crf": "18", "mbtree": "0"}
# Every frame by itself at one quantiser, so that decode(encode(reversed v)) = reversed(decode(encode v)).
INTRA = {"g": "1", "qp": "18", "crf": "-1", "x264-params": "qp=18:keyint=1:aq-mode=0:mbtree=0"}


def write_video(
    path: str | os.PathLike,
    frames: Frames,
    rate: float = 8,
    *,
    intra: bool = False,
    options: dict[str, str] | None = None,
    audio: Float32[np.ndarray, " samples"] | None = None,
    sample_rate: int | None = None,
) -> Path:
    """Write frames as an H.264 mp4; the file appears whole or not at all.

    Args:
        path: Where to.
        frames: ``(T, H, W, 3)`` ``uint8`` RGB. Sides that are not both even are stored without halving the
            colour resolution, which some players refuse.
        rate: Frames per second.
        intra: Code each frame by itself at a constant quantiser, so that coding carries no arrow of time.
        options: Options of libx264, such as ``{"crf": "23", "g": "30"}``; they win over the defaults.
        audio: Mono samples in [-1, 1], stored as AAC.
        sample_rate: Audio samples per second.

    Returns:
        The path.

    Raises:
        ValueError: If the frames, the audio or the options are not as described.
    """
    path, frames = Path(path), np.asarray(frames)
    _check_writable(frames, rate, audio, sample_rate)
    options = QUALITY | (INTRA if intra else {}) | (options or {})
    exact = Fraction(rate).limit_denominator(1_000_000)
    try:
        with atomic(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
            _encode(container, frames, exact, options, audio, sample_rate)
    except av.FFmpegError as error:
        reason = f"libx264 or aac refuses {options}, rate {rate} and frames of shape {frames.shape}"
        raise ValueError(f"{reason} ({error.strerror}); change one of them.") from error
    return path


def _check_writable(
    frames: np.ndarray, rate: float, audio: np.ndarray | None, sample_rate: int | None
) -> None:
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or not frames.size:
        raise ValueError(
            f"frames are {frames.dtype} of shape {frames.shape}, but uint8 (T, H, W, 3) with T >= 1 is expected; "
            "convert them with transforms.to_frames."
        )
    if not 0 < rate < 1000:
        raise ValueError(
            f"rate is {rate}, but frames per second between 0 and 1000 are expected; choose 8 or so."
        )
    if (audio is None) != (sample_rate is None):
        raise ValueError(
            "audio and sample_rate come together, but one of them is missing; give both or neither."
        )
    if audio is not None:
        _check_audio(np.asarray(audio))


def _check_audio(audio: np.ndarray) -> None:
    if audio.ndim != 1 or not audio.size:
        raise ValueError(
            f"audio has shape {audio.shape}, but one-dimensional samples are expected; mix them."
        )
    if audio.dtype.kind != "f" or not np.abs(audio).max() <= 1:  # which also fails where one is not a number
        raise ValueError(
            f"audio is {audio.dtype} from {audio.min()} to {audio.max()}, but floats from -1 to 1 are expected; "
            "divide by the largest value that it may have."
        )


def _encode(
    container: av.container.OutputContainer,
    frames: Frames,
    rate: Fraction,
    options: dict[str, str],
    audio: Float32[np.ndarray, " samples"] | None,
    sample_rate: int | None,
) -> None:
    video = container.add_stream("libx264", rate=rate, options=options)
    video.height, video.width = frames.shape[1:3]
    # 4:2:0 halves both sides, so odd sides need 4:4:4
    video.pix_fmt = "yuv444p" if video.height % 2 or video.width % 2 else "yuv420p"
    video.codec_context.thread_count = 1  # the same bytes on every machine
    sound = None if audio is None else container.add_stream("aac", rate=sample_rate, layout="mono")
    reformatter = VideoReformatter()
    for picture in frames:
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
        container.mux(video.encode(reformatter.reformat(frame, format=video.pix_fmt, threads=1)))
    container.mux(video.encode())
    if sound is not None:
        samples = np.asarray(audio, np.float32)[None]
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = sample_rate, 0
        container.mux(sound.encode(frame) + sound.encode())
