"""Which frames a video stream shows, in which order and when: from its packets alone, or taught by its decoder.

Where every packet carries the time at which it is shown, these stamps give the order, and nothing is decoded
(`predict`). Where stamps are missing or cannot be trusted, as in AVI files or raw streams, the whole stream is
decoded once, and the decoder gives the order (`Lesson`). Derived in chapter 01.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import accumulate, pairwise
from sys import getsizeof

import av

from sora_nb.video.picture import Form

NEVER = -1 << 63  # in an array of time stamps: there is none
KEEP_INDICES = 64 << 20  # the indices of the files opened last stay in memory, up to so many bytes
NOT_CODED = 19  # up to so many bytes, an MPEG-4 packet may say "the picture stays", which gives no frame
# Of these codecs, a packet gives one frame and a key frame decodes by itself...
WHOLE = {
    "av1", "dnxhd", "ffv1", "flv1", "h263", "h264", "hevc", "huffyuv", "jpeg2000", "mjpeg", "mpeg1video", "mpeg2video",
    "mpeg4", "msmpeg4v2", "msmpeg4v3", "png", "prores", "rawvideo", "vp8", "vp9", "wmv1", "wmv2",
}  # fmt: skip
UNSHOWN = {"mpeg4", "vp8"}  # ...but these also have packets that give none


@dataclass
class Index:
    """What is known of a stream: one entry a packet in decoding order, or one a frame in the order of showing.

    Attributes:
        pts: When each packet is shown, in units of the container.
        dts: When each packet is decoded, in the same units.
        entry: For each packet, the nearest at or before it where decoding may start.
        shown: The packet of each frame.
        stamps: When each frame is shown, in ``unit``.
        keys: Which frames are key frames.
        unit: Seconds.
        last: How long the last frame is shown, in ``unit``; 0 if unknown.
        sure: Whether order and number of the frames are known; only decoding tells them otherwise.
        plain: No edit, no open group of pictures, no odd time stamp.
        taught: Whether every packet has been decoded strictly once.
        look: Width and height of the first frame, once it has been decoded, and how it is laid down.
        forms: How frames are laid down, by the angle of their display matrix, as far as they have been decoded.
    """

    pts: array
    dts: array
    entry: array
    shown: array
    stamps: array
    keys: array
    unit: Fraction
    last: int
    sure: bool
    plain: bool
    taught: bool = False
    look: tuple[int, int, Form] | None = None
    forms: dict[int, Form | None] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes in memory, about."""
        arrays = (self.pts, self.dts, self.entry, self.shown, self.stamps, self.keys)
        return 1024 + sum(map(getsizeof, arrays))

    def start(self, entry: int) -> int:
        """The frame that is shown first when decoding starts at this packet."""
        return bisect_left(self.shown, entry)  # the frames before it come from the packets before the entry

    def groups(self, frames: list[int]) -> list[list]:
        """Split rising frames into parts that decode in one go: the first packet, the last one, and the frames."""
        groups: list[list] = []
        for frame in frames:
            packet = self.shown[frame]
            entry = self.entry[packet]
            if groups and (entry <= groups[-1][1] + 1 or self.start(entry) <= groups[-1][2][-1] + 1):
                groups[-1][1] = max(groups[-1][1], packet)
                groups[-1][2].append(frame)
            else:
                groups.append([entry, packet, [frame]])
        return groups

    def distrust(self) -> bool:
        """From now on start decoding at the first packet only; say whether that changes anything."""
        changed = any(self.entry)
        self.entry = _zeros(len(self.entry))
        return changed


def _zeros(count: int) -> array:
    return array("q", bytes(8 * count))


def entries(ranked: list[int], keys: set[int], count: int) -> array:
    """For each of ``count`` packets, the nearest at or before it where decoding may start.

    Decoding may start at a key frame that is shown after the frames of all packets before it and before those of all
    packets that follow: the leading frames of an open group of pictures are reached from the group before.

    Args:
        ranked: Packets in the order in which they are shown.
        keys: Packets that are key frames.
        count: Number of packets.
    """
    highest, lowest = accumulate(ranked, max), list(accumulate(reversed(ranked), min))[::-1]
    clean = {i for i, top, low in zip(ranked, highest, lowest, strict=True) if top == i == low} & keys
    return array("q", accumulate((i if i in clean else 0 for i in range(count)), max))


def _visible(packets: list[av.Packet], codec: str) -> list[int]:
    """Packets that are to be decoded and shown."""
    if codec == "vp8":  # a bit of the first byte says whether its frame is shown
        return [i for i, packet in enumerate(packets) if memoryview(packet)[0] & 16]
    return list(range(len(packets)))


def predict(packets: list[av.Packet], codec: str, unit: Fraction) -> Index:
    """The index as far as the packets tell it; not `Index.sure` where they lack stamps or may not give frames."""
    pts, dts = [p.pts for p in packets], [p.dts for p in packets]
    keys = {i for i, packet in enumerate(packets) if packet.is_keyframe}
    visible = _visible(packets, codec)
    sure = codec in WHOLE and None not in pts and len({pts[i] for i in visible}) == len(visible) > 0
    ranked = sorted(visible, key=pts.__getitem__) if sure else visible
    # Decoders drop what lacks a reference at the start of a stream, and pictures that are not coded anew.
    sure = sure and ranked[0] == 0 and 0 in keys
    sure = sure and not (codec == "mpeg4" and min(p.size for p in packets) <= NOT_CODED)
    shown = [i for i in ranked if not packets[i].is_discard]
    entry = entries(ranked, keys, len(packets)) if sure else _zeros(len(packets))
    rising = [t for t in dts if t is not None]
    plain = sure and len(shown) == len(packets) and keys <= set(entry) and pts[shown[0]] == 0
    stamps = array("q", (NEVER if t is None else t for t in pts))
    return Index(
        pts=stamps,
        dts=array("q", (NEVER if t is None else t for t in dts)),
        entry=entry,
        shown=array("q", shown),
        stamps=array("q", map(stamps.__getitem__, shown)),
        keys=array("q", (frame for frame, i in enumerate(shown) if i in keys)),
        unit=unit,
        last=packets[shown[-1]].duration or 0 if shown else 0,
        sure=sure,
        plain=plain and rising == sorted(rising),
    )


class Clock:
    """The time of each frame, as the ``ffmpeg`` command has it.

    That is the frame's own stamp, as long as these rise at least as well as those of the packets that made the decoder
    give it out; else such a packet's; and where neither is known, the time before plus the duration before.
    """

    def __init__(self) -> None:
        self._own = self._given = NEVER
        self._faults = 0  # how much oftener the frames' own stamps have failed to rise
        self.time, self.step = NEVER, 0

    def read(self, pts: int, dts: int, duration: int) -> int:
        """The time of the next frame, from its own stamp, the packet's and its duration; `NEVER` if unknown."""
        self._faults += (NEVER != pts <= self._own) - (NEVER != dts <= self._given)
        self._own, self._given = (
            next((t for t in times if t != NEVER), before)
            for times, before in (((pts, dts), self._own), ((dts, pts), self._given))
        )
        time = pts if pts != NEVER and (self._faults <= 0 or dts == NEVER) else dts
        if NEVER == time != self.time:
            time = self.time + self.step
        passed = time - self.time if NEVER not in (time, self.time) else 0
        made_up = duration <= 0 or duration == 1 < passed - 1
        self.time, self.step = time, max(passed, 1) if made_up else duration
        return time


class Lesson:
    """What decoding every packet teaches about a stream, frame by frame."""

    def __init__(self, before: Index, codec: str) -> None:
        self._before, self._codec, self._clock = before, codec, Clock()
        self._shown: list[int] = []
        self._stamps: list[int] = []
        self._keys: set[int] = set()
        self._interlaced: set[int] = set()

    def __len__(self) -> int:
        return len(self._shown)

    def learn(self, frame: av.VideoFrame) -> None:
        """Take note of the next frame, whose ``pts`` is the number of its packet."""
        dts = NEVER if frame.dts is None else frame.dts
        self._stamps.append(self._clock.read(self._before.pts[frame.pts], dts, frame.duration))
        self._shown.append(frame.pts)
        if frame.key_frame:
            self._keys.add(frame.pts)
        if frame.interlaced_frame:
            self._interlaced.add(frame.pts)

    def missing(self) -> list[int]:
        """Packets that should have given a frame and have not.

        Decoders rightly give none for frames at the start that depend on what lies before it, and one for the two
        fields of a frame, which may be packets of their own.
        """
        if self._codec not in WHOLE - UNSHOWN:
            return []
        first, second, *_ = [*sorted(self._shown), len(self._before.pts), len(self._before.pts)]
        pts, given = self._before.pts, set(self._shown)
        leading = {i for i in range(second) if i < first or pts[i] < pts[first] or pts[i] == NEVER}
        return sorted(
            i
            for i in {*self._before.shown} - given - leading
            if not (i - 1 in given and i - 1 in self._interlaced)
        )

    def index(self, raw: bool, rate: Fraction) -> Index:
        """The index of the stream; in a raw one, and where stamps do not help, frames are ``1 / rate`` apart."""
        before, ranked = self._before, self._shown
        if before.sure and ranked == list(before.shown):
            return replace(before, taught=True)  # the stamps of its container hold
        stamps, unit, last = self._stamps, before.unit, self._clock.step
        if not _rises(stamps):
            stamps = self._paced()
        if raw or not _rises(stamps):
            stamps, unit, last = range(len(ranked)), 1 / rate, 1
        count = len(before.pts)
        return replace(
            before,
            entry=entries(ranked, self._keys, count) if self._codec in WHOLE else _zeros(count),
            shown=array("q", ranked),
            stamps=array("q", stamps),
            keys=array("q", (frame for frame, i in enumerate(ranked) if i in self._keys)),
            unit=unit,
            last=last,
            sure=True,
            plain=False,
            taught=True,
        )

    def _paced(self) -> list[int]:
        """Times at the pace of the packets: each frame's is that of the packet as far on as the first one's is."""
        dts, stamps = self._before.dts, self._stamps
        if len(dts) != len(stamps) or stamps[0] not in dts:
            return []
        paced = list(dts[dts.index(stamps[0]) :])
        while len(paced) < len(stamps):
            paced.append(paced[-1] + max(self._clock.step, paced[-1] - paced[-2] if len(paced) > 1 else 1))
        return paced


def _rises(stamps: list[int]) -> bool:
    return bool(stamps) and stamps[0] != NEVER and all(a < b for a, b in pairwise(stamps))


class Indices:
    """The indices of the files opened last, as many as `KEEP_INDICES` bytes hold."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple, Index] = OrderedDict()
        self.size = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, name: tuple) -> Index | None:
        """The index kept under this name, if any."""
        if name in self._kept:
            self._kept.move_to_end(name)
        return self._kept.get(name)

    def put(self, name: tuple, index: Index) -> None:
        """Keep an index; forget those that have not been asked for longest where there is no room."""
        if name in self._kept:
            self.size -= self._kept.pop(name).size
        self._kept[name] = index
        self.size += index.size
        while self.size > KEEP_INDICES:
            self.size -= self._kept.popitem(last=False)[1].size

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()
        self.size = 0
