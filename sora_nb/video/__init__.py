"""Reading and writing video: the only place that knows a codec. Derived in chapter 01."""

from sora_nb.video.audio import read_audio
from sora_nb.video.encoding import write_video
from sora_nb.video.errors import VideoReadError
from sora_nb.video.reader import VideoInfo, VideoReader, probe, read_video
from sora_nb.video.sampling import (
    sample_dense,
    sample_multi_clip,
    sample_random_clip,
    sample_segments,
    sample_uniform,
)

__all__ = [
    "VideoInfo",
    "VideoReadError",
    "VideoReader",
    "probe",
    "read_audio",
    "read_video",
    "sample_dense",
    "sample_multi_clip",
    "sample_random_clip",
    "sample_segments",
    "sample_uniform",
    "write_video",
]
