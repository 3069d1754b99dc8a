"""Random access to the frames of a file, on top of `sora_nb.video.packets`.

A frame is what the container *shows*: in presentation order, after its edit list, turned upright. Every reader
returns ``uint8`` arrays of shape ``(T, H, W, 3)`` in RGB, whichever decoder produced them. A file that is
damaged raises `VideoReadError`; no frame is ever repeated or guessed in place of one that does not decode.
Derived in chapter 01.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import lt
from pathlib import Path

import av
import numpy as np
from jaxtyping import Float64, Int, Num, UInt8

from sora_nb.video.errors import FAILURES, RECODE, MisledError, VideoReadError, damaged
from sora_nb.video.packets import MATROSKA, MP4, PacketFile, abandon
from sora_nb.video.picture import UPRIGHT, Form, Picture, form_of, lay, rgb

Frames = UInt8[np.ndarray, "time height width 3"]
Indices = Sequence[int] | Int[np.ndarray, " indices"]

# Decord hangs or aborts in a child of the process that has used it; there the strict decoder stands in.
_decord_process: dict[str, int] = {}

# What decord reads exactly, by the files of tests/test_video.py.
DECORD_CODECS = {"h264", "hevc", "vp9"}
DECORD_WIDTHS = {32, 40, 56, 64}  # and every width from 80 up


@dataclass(frozen=True)
class VideoInfo:
    """What a file says about its video.

    Attributes:
        path: The file.
        frames: Number of frames shown.
        rate: Average frames per second.
        duration: Seconds from the first frame to the end of the last.
        width: Pixels across, as displayed.
        height: Pixels down, as displayed.
        rotation: Degrees counter-clockwise that the stored frames are turned for display (already applied).
        mirrored: Whether they are mirrored left to right before that (already applied).
        codec: Name of the codec, such as ``"h264"``.
        pixel_format: Stored pixel format, such as ``"yuv420p"``.
        key_frames: Indices of the frames that decode without any other.
        times: Presentation time of each frame in seconds; the first frame is at 0.
        start: Time stamp of the first frame in the container, in seconds.
        has_audio: Whether there is an audio track.
        decoder: ``"decord"`` if that decoder is exact on a file of this kind, else ``"pyav"``.
    """

    path: Path
    frames: int
    rate: float
    duration: float
    width: int
    height: int
    rotation: int
    mirrored: bool
    codec: str
    pixel_format: str
    key_frames: tuple[int, ...]
    times: Float64[np.ndarray, " frames"] = field(repr=False, compare=False)
    start: float
    has_audio: bool
    decoder: str

    @property
    def key_frame_interval(self) -> float:
        """Mean distance between key frames, in frames."""
        return self.frames / max(len(self.key_frames), 1)


class VideoReader:
    """Random access to the frames of one file.

    Opening reads the packets, and decodes them once where their time stamps do not tell the order of the frames, as in
    AVI files with B-frames and in raw streams. Calls for later and later frames go on where the last one stopped. A
    reader may be pickled and may cross a fork: it opens the file again on the other side. A pixel aspect ratio other
    than 1 is not undone. Of several video tracks, the one that the ``ffmpeg`` command takes is read.

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
        width, height, form = self._look()
        index, stream = self._file.index, self._file.stream
        unit = float(index.unit)
        times = (np.array(index.stamps, np.float64) - index.stamps[0]) * unit
        usual = np.median(np.diff(times)) if len(times) > 1 else 1 / float(self._file.rate)
        duration = float(times[-1] + (index.last * unit or usual))
        return VideoInfo(
            path=self.path, frames=len(self), rate=len(self) / duration, duration=duration, width=width,
            height=height, rotation=form.rotation, mirrored=form.mirrored, codec=self._file.codec,
            pixel_format=str(stream.codec_context.pix_fmt), key_frames=tuple(index.keys), times=times,
            start=index.stamps[0] * unit, has_audio=self._file.has_audio,
            decoder="decord" if self._suits_decord() else "pyav",
        )  # fmt: skip

    def _look(self) -> tuple[int, int, Form]:
        """Width and height of the first frame, as displayed, and how it is laid down."""
        file = self._file
        if file.index.look is None:
            try:
                _, frame = next(file.frames([0]))
                height, width = self._lay(rgb(frame), frame).shape[:2]
            except FAILURES as error:
                raise damaged(self.path, error) from error
            file.index.look = (width, height, file.index.forms[frame.rotation])
        return file.index.look

    def _suits_decord(self) -> bool:
        width, height, form = self._look()
        pixels = self._file.stream.codec_context.pix_fmt
        wide = width in DECORD_WIDTHS or width >= 80
        whole = pixels == "yuv444p" or (
            pixels == "yuv420p" and height % 2 == 0
        )  # it averages half a row of color
        kind = self._file.codec in DECORD_CODECS and self._file.container_name in (MP4, MATROSKA)
        return self._file.index.plain and kind and wide and whole and form == UPRIGHT

    def __len__(self) -> int:
        return len(self._file.index.stamps)

    def get(self, indices: Indices) -> Frames:
        """Read frames by index, in the order asked, repeats allowed.

        Args:
            indices: Whole numbers in ``[0, len(reader))``; negative ones are refused.

        Returns:
            ``(T, H, W, 3)`` ``uint8`` RGB, ``T`` being the number of indices.

        Raises:
            ValueError: If an index is not a whole number or out of range.
            VideoReadError: If the frames cannot be decoded without a complaint.
        """
        return self._get(indices)

    def _get(self, indices: Indices, final: bool = False) -> Frames:
        """Read frames; ``final`` says that none will be asked for after these."""
        asked = np.atleast_1d(np.asarray(indices))
        if asked.ndim != 1 or (asked.size and asked.dtype.kind not in "iu"):
            raise ValueError(
                f"indices are {asked.dtype} of shape {asked.shape}, but a list of whole numbers is "
                "expected; round or flatten them."
            )
        if not asked.size:
            return np.empty((0, self.info.height, self.info.width, 3), np.uint8)
        wanted = asked.tolist()
        rising = all(map(lt, wanted, wanted[1:]))
        places = wanted if rising else sorted(set(wanted))
        if places[0] < 0 or places[-1] >= len(self):
            raise ValueError(
                f"indices run from {places[0]} to {places[-1]}, but the video has frames 0 to "
                f"{len(self) - 1}; ask for those."
            )
        frames = self._get_rising(places, final)
        return frames if rising else frames[np.searchsorted(places, asked)]

    def get_at(self, seconds: float | Sequence[float] | Num[np.ndarray, " times"]) -> Frames:
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

    def _get_rising(self, wanted: list[int], final: bool) -> Frames:
        if self.decoder == "decord" and _decord_process.setdefault("id", os.getpid()) == os.getpid():
            return self._get_decord(wanted)
        try:
            return self._collect(wanted, final)
        except FAILURES as error:
            raise damaged(self.path, error) from error

    def _collect(self, wanted: list[int], final: bool) -> Frames:
        """Decode with the index as it is; where that goes wrong, with a better one."""
        while True:
            try:
                return self._convert(wanted, final)
            except (MisledError, av.FFmpegError):
                if not self._file.learn_more():
                    raise
            self._info = None
            if wanted[-1] >= len(self):
                raise VideoReadError(self.path, f"only {len(self)} of its frames are shown", "ask for those")

    def _convert(self, wanted: list[int], final: bool) -> Frames:
        """Decode the frames asked for and convert them."""
        forms, frames, shape = self._file.index.forms, None, ()
        for filled, (place, frame) in enumerate(self._file.frames(wanted, final)):
            picture = rgb(frame)
            if forms.get(frame.rotation) is not UPRIGHT:
                picture = self._lay(picture, frame)
            if frames is None:
                shape = picture.shape
                frames = np.empty((len(wanted), *shape), np.uint8)
            if picture.shape != shape:
                raise VideoReadError(self.path, f"its frame size changes at frame {place}", RECODE)
            frames[filled] = picture
        return frames

    def _lay(self, picture: Picture, frame: av.VideoFrame) -> UInt8[np.ndarray, "rows columns 3"]:
        """Turn a picture as it is shown."""
        forms, turn = self._file.index.forms, frame.rotation
        if turn not in forms:  # looking at the matrix itself costs more than decoding a small frame
            forms[turn] = form_of(frame)
        if forms[turn] is None:
            reason = "its display matrix turns the picture by no right angle"
            raise VideoReadError(self.path, reason, RECODE)
        return lay(picture, forms[turn])

    def _vet_for_decord(self) -> None:
        """Decord repeats the last good frame where data are damaged, so the data are decoded strictly once."""
        if self._suits_decord() and not self._file.index.taught:
            try:
                self._file.learn()
            except FAILURES as error:
                raise damaged(self.path, error) from error
        if not self._suits_decord():
            raise VideoReadError(self.path, "decord misreads files of this kind", "use decoder='auto'")

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


def read_video(path: str | os.PathLike, indices: Indices | None = None, *, decoder: str = "auto") -> Frames:
    """Read a file: all frames, or those at ``indices``; see `VideoReader.get`.

    Returns:
        ``(T, H, W, 3)`` ``uint8`` RGB.

    Raises:
        ValueError: If an index is out of range.
        VideoReadError: If the file cannot be read as video.
    """
    with VideoReader(path, decoder) as reader:
        return reader._get(range(len(reader)) if indices is None else indices, final=True)
