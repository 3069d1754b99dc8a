"""The packets of a video file and their strict decoding: what `sora_nb.video` stands on.

Reading happens in two passes. The first takes the packets out of the container without decoding them and learns
how many frames there are, when each is shown, and where decoding may start (`Index`). The second decodes only
what was asked for (`PacketFile.decode`) and raises `VideoReadError` as soon as the decoder reports damage or the
frames that come out are not those the index promised. Derived in chapter 01.
"""

from __future__ import annotations

import os
import stat
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate, chain, islice
from multiprocessing import parent_process
from pathlib import Path

import av
import numpy as np
from jaxtyping import Float64

STRICT = {"err_detect": "explode+crccheck+bitstream+buffer"}  # report damage instead of concealing it
KEEP_BYTES = 8 << 20  # up to this many bytes of packets stay in memory between the two passes
KEEP_INDICES = 256  # files whose index stays in memory
MP4, MATROSKA = "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"
# One packet is one frame in these. In any other codec the frames are found by decoding all of them once.
ONE_TO_ONE = {"h264", "hevc", "vp9", "av1", "mpeg4", "mpeg1video", "mpeg2video", "mjpeg", "ffv1"}
RECODE = "re-encode the file or leave it out"


class VideoReadError(Exception):
    """A file cannot be read as video: which file, why, and what to do about it.

    Attributes:
        path: The file.
        reason: What is wrong with it.
        advice: What to do.
    """

    def __init__(self, path: str | os.PathLike, reason: str, advice: str) -> None:
        super().__init__(path, reason, advice)  # the arguments themselves, so that the error pickles
        self.path, self.reason, self.advice = Path(path), reason, advice

    def __str__(self) -> str:
        return f"Cannot read {str(self.path)!r}: {self.reason}; {self.advice}."


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


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn what the operating system and FFmpeg raise into one error that names the file."""
    try:
        yield
    except FileNotFoundError as error:
        raise VideoReadError(path, "there is no such file", "check the path") from error
    except PermissionError as error:
        raise VideoReadError(path, "permission is denied", "change the file's permissions") from error
    except (av.FFmpegError, OSError, UnicodeDecodeError) as error:
        detail = getattr(error, "strerror", None) or type(error).__name__
        raise VideoReadError(path, f"it is damaged or no video ({detail})", RECODE) from error


@dataclass
class Index:
    """What the packets of one video stream say. Plain lists: clips are short, and opening one must be cheap."""

    # one entry a packet, in decoding order
    pts: list[int]
    dts: list[int | None]
    entry: list[int]  # nearest packet at or before this one where decoding may start
    # one entry a frame, in presentation order
    shown: list[int]  # its packet
    stamps: list[int]  # when it is shown
    # of the whole stream
    places: dict[int, int] | None  # from time stamp to frame; None where frames were counted by decoding all
    keys: tuple[int, ...]  # which frames are key frames
    last: int  # how long the last frame is shown
    plain: bool  # no edit, no open group of pictures, no odd time stamp
    sound: bool = False  # every frame has been decoded strictly once
    look: tuple[int, int, int] | None = None  # width, height and rotation of the first frame


def order(packets: list[av.Packet], timed: bool) -> Index:
    """Order the frames by presentation time and find the packets where decoding may start."""
    pts, dts = [p.pts for p in packets], [p.dts for p in packets]
    timed = timed and None not in pts
    if not timed:
        pts = list(range(len(packets)))
    shown = sorted((i for i, p in enumerate(packets) if not p.is_discard), key=pts.__getitem__)
    stamps = [pts[i] for i in shown]
    places = {stamp: frame for frame, stamp in enumerate(stamps)}
    # Decoding may start at a key frame that is shown after all packets before it and before all that follow:
    # the leading frames of an open group of pictures are then reached from the group before, which they need.
    highest, lowest = list(accumulate(pts, max)), list(accumulate(reversed(pts), min))[::-1]
    keys = [i for i, p in enumerate(packets) if p.is_keyframe]
    clean = {i for i in keys if highest[i] == pts[i] == lowest[i]}
    rising = [t for t in dts if t is not None]
    return Index(
        pts=pts, dts=dts, shown=shown, stamps=stamps,
        entry=list(accumulate((i if i in clean else 0 for i in range(len(pts))), max)),
        places=places if timed and len(places) == len(stamps) else None,
        keys=tuple(frame for frame, i in enumerate(shown) if packets[i].is_keyframe),
        last=packets[shown[-1]].duration or 0 if shown else 0,
        plain=len(shown) == len(pts) and len(clean) == len(keys) and stamps[:1] == [0] and rising == sorted(rising),
    )  # fmt: skip


_indices: OrderedDict[tuple, Index] = OrderedDict()  # of the files opened last, by path, size, time of change
_abandoned: list = []


def abandon(inherited: object) -> None:
    """Keep for ever what came through a fork: closing it would wait for threads that only the parent has."""
    _abandoned.append(inherited)  # no mutate: a wait that comes too seldom for a test


class PacketFile:
    """The video packets of one open file, and the strict decoder that they go through.

    A file crosses a fork: it is opened again on the other side, since the position in the file and the decoder's
    threads belong to the parent.

    Raises:
        VideoReadError: If the file is missing, unreadable, damaged or holds no video.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.index = path, None
        self._container = self._packets = self.stream = None
        try:
            with naming(self.path):
                self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        status = self.path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would block, a device never end
            raise VideoReadError(self.path, "it is not a regular file", "give the path of a video file")
        self._connect()
        name = (os.path.abspath(self.path), status.st_size, status.st_mtime_ns)
        self.index = _indices.get(name)
        if self.index is None:
            self.index = _indices[name] = self._read_index()
            if len(_indices) > KEEP_INDICES:
                _indices.popitem(last=False)

    def _connect(self) -> None:
        """Open the container and set the decoder to strict."""
        self.close()
        self._process = os.getpid()
        self._container = av.open(os.path.abspath(self.path), metadata_errors="replace")
        streams = [s for s in self._container.streams.video if not s.disposition & s.disposition.attached_pic]
        if not streams or self._container.format.name == "tty":  # which draws any text file as a video
            raise VideoReadError(self.path, "it holds no video", "choose a file with a video track")
        self.stream = streams[0]
        context = self.stream.codec_context
        if context is None:
            raise VideoReadError(self.path, "no decoder here knows its codec", "re-encode it as H.264")
        context.options = STRICT
        many = context.width * context.height >= 1 << 18 and parent_process() is None  # no mutate: speed only
        context.thread_type = "AUTO" if many else "NONE"
        context.thread_count = min(4, os.cpu_count() or 1) if many else 1
        self._fresh, self._used = True, False  # no packet taken out yet, none fed to the decoder

    def _demux(self) -> Iterator[av.Packet]:
        try:
            yield from self._container.demux(self.stream)
        except IndexError as error:  # PyAV's answer to a track that the header did not announce
            raise VideoReadError(self.path, "a track appears in its middle", RECODE) from error

    def _read_index(self) -> Index:
        packets, size = [], 0
        self._fresh = False
        for packet in self._demux():
            if not _is_end(packet):
                packets.append(packet)
                size += packet.size
        self._check_count(packets)
        self._packets = packets if size <= KEEP_BYTES else None
        self.index = index = order(packets, self.codec in ONE_TO_ONE)
        if index.places is None:
            frames = [(i if f.pts is None else f.pts, f.key_frame) for i, f in self.decode([self.everything])]
            index.stamps = [stamp for stamp, _ in frames]
            index.keys = tuple(i for i, (_, key) in enumerate(frames) if key)
        if not index.stamps:
            raise VideoReadError(self.path, "none of its packets is shown", RECODE)
        return index

    def _check_count(self, packets: list[av.Packet]) -> None:
        """Compare the packets with what the container promises; an edit list may hide some of them."""
        promised, held = self.stream.frames, len(packets)
        if self._container.format.name == MP4 and 0 != promised != held:
            with av.open(
                os.path.abspath(self.path), options={"ignore_editlist": "1"}, metadata_errors="replace"
            ) as unedited:
                held = sum(not _is_end(p) for p in unedited.demux(unedited.streams[self.stream.index]))
            if promised != held:
                reason = f"its container promises {promised} frames and holds {held}"
                raise VideoReadError(self.path, reason, RECODE)
        if not packets:
            raise VideoReadError(self.path, "its video track is empty", RECODE)

    @property
    def codec(self) -> str:
        return self.stream.codec_context.codec.canonical_name

    @property
    def container_name(self) -> str:
        return self._container.format.name

    @property
    def has_audio(self) -> bool:
        return bool(self._container.streams.audio)

    @property
    def everything(self) -> tuple[int, int]:
        """The range of all packets."""
        return 0, len(self.index.pts) - 1

    def ranges(self, frames: list[int]) -> list[tuple[int, int]]:
        """The fewest packets, as inclusive ranges, from which these frames decode."""
        if self.index.places is None:
            return [self.everything]
        ranges = []
        for packet in sorted(self.index.shown[i] for i in frames):
            entry = self.index.entry[packet]
            if ranges and entry <= ranges[-1][1] + 1:
                ranges[-1] = (ranges[-1][0], packet)
            else:
                ranges.append((entry, packet))
        return ranges

    def distrust_entries(self) -> None:
        """From now on decode from the very start: some key frame turned out not to be one."""
        self.index.entry = [0] * len(self.index.entry)

    def decode(self, ranges: list[tuple[int, int]]) -> Iterator[tuple[int, av.VideoFrame]]:
        """Yield each frame with its place in presentation order; damage and frames out of order raise."""
        index, places, place = self.index, self.index.places, -1
        for first, last in ranges:
            for frame in self._feed(first, last):
                if frame.is_corrupt:
                    raise VideoReadError(self.path, "the decoder reports a damaged frame", RECODE)
                before, place = place, place + 1 if places is None else places.get(frame.pts, -1)
                if place <= before:
                    raise VideoReadError(self.path, "its frames and time stamps disagree", RECODE)
                yield place, frame
        if ranges == [self.everything]:
            if places is not None and place != len(places) - 1:
                raise VideoReadError(self.path, f"frame {place + 1} of {len(places)} does not decode", RECODE)
            index.sound = True

    def _feed(self, first: int, last: int) -> Iterator[av.VideoFrame]:
        """Push packets through the decoder, reset if it has been used, and drain it."""
        if self._process != os.getpid():
            self._connect()
        if self._used:
            self.stream.codec_context.flush_buffers()
        for packet in self._read(first, last):
            self._used = True
            yield from self.stream.codec_context.decode(packet)
        yield from self.stream.codec_context.decode(None)

    def _read(self, first: int, last: int) -> Iterator[av.Packet]:
        """Packets by number, from memory or from the file."""
        if self._packets is not None:
            yield from self._packets[first : last + 1]
            return
        for number, packet in zip(range(first, last + 1), self._land(first)):
            if self.index.places is not None and packet.pts != self.index.pts[number]:
                raise VideoReadError(self.path, "it has changed since it was opened", "open it again")
            yield packet

    def _land(self, first: int) -> Iterator[av.Packet]:
        """Packets of the file from this one on: by a seek if it lands right, else by counting."""
        if first and self.index.dts[first] is not None and self.container_name in (MP4, MATROSKA):
            self._fresh = False
            self._container.seek(self.index.dts[first], stream=self.stream)
            packets = self._demux()
            for packet in packets:
                if packet.pts == self.index.pts[first]:
                    return chain([packet], packets)
                if packet.pts is None or packet.pts > self.index.pts[first]:
                    break
        if not self._fresh:
            self._connect()
        self._fresh = False
        return islice(self._demux(), first, None)

    def close(self) -> None:
        """Release the file and the decoder."""
        if self._container is not None:
            if self._process == os.getpid():
                self._container.close()
            else:
                abandon((self._container, self._packets, self.stream))
        self._container = self._packets = self.stream = None


def _is_end(packet: av.Packet) -> bool:
    return not packet.size and packet.dts is None  # the demuxer ends with an empty packet
