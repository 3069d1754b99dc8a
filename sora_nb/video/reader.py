"""Random access to the frames of a file, on top of `sora_nb.video.packets`.

A frame is what the container *shows*: in presentation order, after its edit list, turned upright. Every reader
returns ``uint8`` arrays of shape ``(T, H, W, 3)`` in RGB, whichever decoder produced them. A file that is
damaged raises `VideoReadError`; no frame is ever repeated or guessed in place of one that does not decode.
Derived in chapter 01.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from jaxtyping import UInt8

from sora_nb.video.packets import (
    MATROSKA,
    MP4,
    RECODE,
    PacketFile,
    VideoInfo,
    VideoReadError,
    abandon,
    naming,
)

Frames = UInt8[np.ndarray, "time height width 3"]

# Decord hangs or aborts in a child of the process that has used it; there the strict decoder stands in.
_decord_process: dict[str, int] = {}

# What decord reads exactly, by the files of tests/test_video.py.
DECORD_CODECS = {"h264", "hevc", "vp9"}
DECORD_PIXELS = {"yuv420p", "yuv444p"}
DECORD_WIDTHS = {32, 40, 56, 64}  # and every width from 80 up


class VideoReader:
    """Random access to the frames of one file.

    Opening reads the packets, not the frames. A reader may be pickled and may cross a fork: it opens the file
    again on the other side. A pixel aspect ratio other than 1 is not undone.

    Args:
        path: The file.
        decoder: ``"auto"`` or ``"pyav"`` for the strict decoder; ``"decord"`` to insist on decord, which is
            refused for files of the kinds that it misreads.

    Raises:
        VideoReadError: If the file is missing, unreadable, damaged or holds no video.
        ValueError: If ``decoder`` is not one of the three names.
    """

    def __init__(self, path: str | os.PathLike, decoder: str = "auto") -> None:
        if decoder not in ("auto", "pyav", "decord"):
            raise ValueError(
                f"decoder is {decoder!r}, but 'auto', 'pyav' or 'decord' is expected; choose one."
            )
        self.path, self.decoder = Path(path), decoder
        self._info = self._decord = self._file = None
        self._reformatter = VideoReformatter()
        self._file = PacketFile(self.path)
        if decoder == "decord":
            self._vet_for_decord()

    @property
    def info(self) -> VideoInfo:
        """Key facts of the file; the size and the rotation come from the first frame."""
        if self._info is None:
            self._info = self._describe()
        return self._info

    def _describe(self) -> VideoInfo:
        width, height, rotation = self._look()
        index, stream = self._file.index, self._file.stream
        unit = float(stream.time_base)
        times = (np.array(index.stamps, np.float64) - index.stamps[0]) * unit
        usual = np.median(np.diff(times)) if len(times) > 1 else 1 / float(stream.average_rate or 1)
        duration = float(times[-1] + (index.last * unit or usual))
        return VideoInfo(
            path=self.path, frames=len(self), rate=len(self) / duration, duration=duration, width=width,
            height=height, rotation=rotation, codec=self._file.codec,
            pixel_format=str(stream.codec_context.pix_fmt), key_frames=index.keys, times=times,
            start=index.stamps[0] * unit, has_audio=self._file.has_audio,
            decoder="decord" if self._suits_decord(width, rotation) else "pyav",
        )  # fmt: skip

    def _look(self) -> tuple[int, int, int]:
        """Width, height and rotation of the first frame, as displayed."""
        index = self._file.index
        if index.look is None:
            with naming(self.path):
                _, frame = next(self._file.decode(self._file.ranges([0])), (0, None))
            if frame is None:
                raise VideoReadError(self.path, "its first frame does not decode", RECODE)
            height, width = self._upright(frame).shape[:2]
            index.look = (width, height, frame.rotation % 360)
        return index.look

    def _suits_decord(self, width: int, rotation: int) -> bool:
        index, file = self._file.index, self._file
        ordinary = index.plain and index.places is not None and file.container_name in (MP4, MATROSKA)
        wide = width in DECORD_WIDTHS or width >= 80
        depth = file.stream.codec_context.pix_fmt in DECORD_PIXELS
        return ordinary and wide and depth and not rotation and file.codec in DECORD_CODECS

    def __len__(self) -> int:
        return len(self._file.index.stamps)

    def get(self, indices: Sequence[int]) -> Frames:
        """Read frames by index, in the order asked, repeats allowed.

        Args:
            indices: Whole numbers in ``[0, len(reader))``; negative ones are refused.

        Returns:
            ``(T, H, W, 3)`` ``uint8`` RGB, ``T`` being the number of indices.

        Raises:
            ValueError: If an index is not a whole number or out of range.
            VideoReadError: If the frames cannot be decoded without a complaint.
        """
        wanted = np.atleast_1d(np.asarray(indices))
        if wanted.ndim != 1 or (wanted.size and wanted.dtype.kind not in "iu"):
            raise ValueError(
                f"indices are {wanted.dtype} of shape {wanted.shape}, but a list of whole numbers is "
                "expected; round or flatten them."
            )
        if not wanted.size:
            return np.empty((0, self.info.height, self.info.width, 3), np.uint8)
        if wanted.min() < 0 or wanted.max() >= len(self):
            raise ValueError(
                f"indices run from {wanted.min()} to {wanted.max()}, but the video has frames 0 to "
                f"{len(self) - 1}; ask for those."
            )
        if (wanted[1:] > wanted[:-1]).all():
            return self._get_rising(wanted.tolist())
        unique, inverse = np.unique(wanted, return_inverse=True)
        return self._get_rising(unique.tolist())[inverse]

    def get_at(self, seconds: float | Sequence[float]) -> Frames:
        """Read the frames being shown at given times.

        Args:
            seconds: One or more times in ``[0, duration)``, counted from the first frame.

        Returns:
            ``(T, H, W, 3)`` ``uint8`` RGB, ``T`` being the number of times.

        Raises:
            ValueError: If a time is outside the video.
            VideoReadError: If the frames cannot be decoded.
        """
        at, end = np.atleast_1d(np.asarray(seconds, np.float64)), self.info.duration
        if not ((at >= 0) & (at < end)).all():
            raise ValueError(
                f"a time in {np.round(at, 3).tolist()} is outside the video, which is shown from 0 to "
                f"before {end:.3f} seconds; ask within."
            )
        # a microsecond of grace, so that 7 / 30 finds the frame stamped 0.233333
        return self.get(np.searchsorted(self.info.times, at + 1e-6, side="right") - 1)

    def clip(self, start: int, length: int, stride: int = 1) -> Frames:
        """Read ``length`` frames from index ``start``, ``stride`` apart; see `get`."""
        return self.get(start + stride * np.arange(length))

    def _get_rising(self, wanted: list[int]) -> Frames:
        """Decode from the nearest entries; where that goes wrong, once more from the very start."""
        with naming(self.path):
            if self.decoder == "decord" and _decord_process.setdefault("id", os.getpid()) == os.getpid():
                return self._get_decord(wanted)
            ranges = self._file.ranges(wanted)
            try:
                return self._collect(wanted, ranges)
            except (VideoReadError, av.FFmpegError):
                if len(ranges) == 1 and ranges[0][0] == 0:
                    raise
            frames = self._collect(wanted, [(0, ranges[-1][1])])
            self._file.distrust_entries()
            return frames

    def _collect(self, wanted: list[int], ranges: list[tuple[int, int]]) -> Frames:
        """Decode the ranges and convert the frames asked for."""
        frames, filled, count = None, 0, len(wanted)
        for place, frame in self._file.decode(ranges):
            if filled == count or place != wanted[filled]:
                continue
            picture = self._upright(frame)
            if frames is None:
                frames = np.empty((count, *picture.shape), np.uint8)
            if picture.shape != frames.shape[1:]:
                raise VideoReadError(self.path, f"its frame size changes at frame {place}", RECODE)
            frames[filled] = picture
            filled += 1
        if filled < count:
            raise VideoReadError(self.path, f"frame {wanted[filled]} does not decode", RECODE)
        return frames

    def _upright(self, frame: av.VideoFrame) -> UInt8[np.ndarray, "height width 3"]:
        plane, turn = self._reformatter.reformat(frame, format="rgb24", threads=1).planes[0], frame.rotation
        # a view without the padding at the end of each row
        shape, strides = (frame.height, frame.width, 3), (plane.line_size, 3, 1)
        picture = np.ndarray(shape, np.uint8, plane, strides=strides)
        return np.rot90(picture, round(turn / 90)) if turn else picture

    def _vet_for_decord(self) -> None:
        """Decord repeats the last good frame where data are damaged, so the data are decoded strictly once."""
        if self.info.decoder != "decord":
            raise VideoReadError(self.path, "decord misreads files of this kind", "use decoder='auto'")
        if not self._file.index.sound:
            with naming(self.path):
                for _ in self._file.decode([self._file.everything]):
                    pass

    def _get_decord(self, wanted: list[int]) -> Frames:
        import decord

        try:
            if self._decord is None:
                self._decord = decord.VideoReader(str(self.path), num_threads=1)
            if len(self._decord) == len(self):
                return self._decord.get_batch(wanted).asnumpy()
            reason = f"decord counts {len(self._decord)} frames and the container {len(self)}"
        except Exception as error:  # decord's own errors share no base class but this one
            reason = f"decord fails on it ({str(error).splitlines()[0]})"
        raise VideoReadError(self.path, reason, "use decoder='auto'")

    def close(self) -> None:
        """Release the file and the decoder; a closed reader cannot be read again."""
        if self._file is not None:
            self._file.close()
        if self._decord is not None and _decord_process["id"] != os.getpid():
            abandon(self._decord)
        self._decord = None

    def __del__(self) -> None:
        if hasattr(self, "_file"):  # not where the arguments were refused
            self.close()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple:
        return VideoReader, (self.path, self.decoder)


def probe(path: str | os.PathLike) -> VideoInfo:
    """Read the key facts of a file: its packets and its first frame.

    Raises:
        VideoReadError: If the file cannot be read as video.
    """
    with VideoReader(path) as reader:
        return reader.info


def read_video(
    path: str | os.PathLike, indices: Sequence[int] | None = None, *, decoder: str = "auto"
) -> Frames:
    """Read a file: all frames, or those at ``indices``; see `VideoReader.get`.

    Returns:
        ``(T, H, W, 3)`` ``uint8`` RGB.

    Raises:
        ValueError: If an index is out of range.
        VideoReadError: If the file cannot be read as video.
    """
    with VideoReader(path, decoder) as reader:
        return reader.get(np.arange(len(reader)) if indices is None else indices)
