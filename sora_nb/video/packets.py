"""The packets of a video file and their strict decoding: what `sora_nb.video` stands on.

Reading happens in two passes. The first takes the packets out of the container and learns how many frames there
are, when each is shown, and where decoding may start (`sora_nb.video.index`). The second decodes only what was asked
for (`PacketFile.frames`) and raises `VideoReadError` as soon as the decoder reports damage or the frames that come
out are not those the index promised. Derived in chapter 01.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain, islice
from multiprocessing import parent_process
from pathlib import Path

import av

from sora_nb.video.errors import FAILURES, RECODE, MisledError, VideoReadError, damaged, regular
from sora_nb.video.index import NEVER, WHOLE, Index, Indices, Lesson, predict

STRICT = {"err_detect": "explode+crccheck+buffer+bitstream"}  # report damage instead of concealing it
STUFFED = {"mpeg1video", "mpeg2video"}  # to these, "bitstream" would call zeros before a start code damage
KEEP_BYTES = 8 << 20  # up to this many bytes of packets stay in memory between the two passes
MP4, MATROSKA = "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"
GENERATE = av.container.Flags.gen_pts.value  # make up a time stamp where a packet has none: not wanted
ATTACHED, DEFAULT = av.stream.Disposition.attached_pic.value, av.stream.Disposition.default.value
PROGRESSIVE = 1  # FFmpeg's field order of frames that are no two fields
NO_STAMPS = 0x80  # FFmpeg's flag of formats without time stamps: raw streams
NOWHERE = 1 << 62  # a frame that no decoder reaches by going on

_indices = Indices()
_abandoned: list = []


def abandon(inherited: object) -> None:
    """Keep for ever what came through a fork: closing it would wait for threads that only the parent has."""
    _abandoned.append(inherited)  # no mutate: a wait that comes too seldom for a test


class PacketFile:
    """The video packets of one open file, and the strict decoder that they go through.

    Of several video tracks it takes the one that the ``ffmpeg`` command would take. A file crosses a fork: it is opened
    again on the other side, since the position in the file and the decoder's threads belong to the parent.

    Raises:
        VideoReadError: If the file is missing, unreadable, damaged or holds no video.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._absolute = path, os.path.abspath(path)
        self._container = self._packets = self._stream = self._run = None
        try:
            self._open()
        except FAILURES as error:
            self.close()
            raise damaged(path, error) from error
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        status = self._connect()
        self._name = (self._absolute, status.st_size, status.st_mtime_ns)
        self.index = _indices.get(self._name)
        if self.index is None:
            self.index = self._read_index()
            if self.index.sure:
                _indices.put(self._name, self.index)
            else:
                self.learn()

    def _connect(self) -> os.stat_result:
        """Open the container and set the decoder to strict."""
        if self._container is not None:
            self.close()
        status = regular(self.path)
        self._process = os.getpid()
        self._container = container = av.open(self._absolute, metadata_errors="replace")
        container.flags &= ~GENERATE
        self._stream = self._choose(container.streams.video)
        context = self._stream.codec_context
        context.options = STRICT
        if context.codec.canonical_name in STUFFED:
            context.options = {name: value.replace("+bitstream", "") for name, value in STRICT.items()}
        many = context.width * context.height >= 1 << 18 and parent_process() is None  # no mutate: speed only
        context.thread_type = "AUTO" if many else "NONE"
        context.thread_count = min(4, os.cpu_count() or 1) if many else 1
        self._place, self._fed, self._cut = NOWHERE, 0, False  # nothing to go on from
        self._fresh, self._used = True, False  # no packet taken out yet, none fed to the decoder
        return status

    def _choose(self, tracks: tuple[av.VideoStream, ...]) -> av.VideoStream:
        """The track with the largest picture, the first of equals; one marked as default gets a bonus, as in FFmpeg."""
        tracks = [(s, s.disposition.value) for s in tracks]
        tracks = [(s, mark) for s, mark in tracks if not mark & ATTACHED]
        if not tracks or self._container.format.name == "tty":  # which draws any text file as a video
            raise VideoReadError(self.path, "it holds no video", "choose a file with a video track")
        known = [(s.codec_context, s, mark) for s, mark in tracks if s.codec_context is not None]
        if not known:
            raise VideoReadError(self.path, "no decoder here knows its codec", "re-encode it as H.264")
        return max(known, key=lambda k: k[0].width * k[0].height + 5_000_000 * bool(k[2] & DEFAULT))[1]

    def _read_index(self) -> Index:
        self._fresh = False
        try:
            everything = [packet for packet in self._demux() if not _is_end(packet)]
        except IndexError as error:  # PyAV's answer to a track that the header did not announce
            raise VideoReadError(self.path, "a track appears in its middle", RECODE) from error
        self._check_count(len(everything))
        packets = [packet for packet in everything if packet.size]
        if not packets:
            raise VideoReadError(self.path, "its video track is empty", RECODE)
        index = predict(packets, self.codec, self._stream.time_base)
        fields = self.codec == "h264" and self._stream.codec_context.field_order != PROGRESSIVE
        index.sure &= not fields  # two of which may make one frame
        index.plain &= len(self._container.streams.video) == 1
        if sum(packet.size for packet in packets) <= KEEP_BYTES:
            self._packets = packets
        return index

    def _demux(self) -> Iterator[av.Packet]:
        """Packets of the track; an empty one stands for the picture before it and is not to be decoded."""
        return self._container.demux(self._stream)

    def _check_count(self, held: int) -> None:
        """Compare the packets with what the container promises, of which an edit list may hide some."""
        promised = self._stream.frames
        if self.container_name == MP4 and promised > held:
            with av.open(
                self._absolute, options={"ignore_editlist": "1"}, metadata_errors="replace"
            ) as unedited:
                held = sum(not _is_end(p) for p in unedited.demux(unedited.streams[self._stream.index]))
            if promised > held:
                reason = f"its container promises {promised} frames and holds {held}"
                raise VideoReadError(self.path, reason, RECODE)

    @property
    def stream(self) -> av.VideoStream:
        """The video track, as long as the file is open."""
        self._see_open()
        return self._stream

    def _see_open(self) -> None:
        if self._stream is None:
            raise VideoReadError(self.path, "its reader is closed", "open it again")

    @property
    def codec(self) -> str:
        return self.stream.codec_context.codec.canonical_name

    @property
    def container_name(self) -> str:
        return self.stream.container.format.name

    @property
    def raw(self) -> bool:
        """Whether the format has no time stamps."""
        return bool(self.stream.container.format.flags & NO_STAMPS)

    @property
    def rate(self) -> Fraction:
        """Frames a second: the middle one of what the container, FFmpeg and the codec say."""
        stream = self.stream
        stated = (stream.average_rate, stream.guessed_rate, stream.codec_context.framerate)
        stated = sorted(rate for rate in stated if rate)
        return stated[(len(stated) - 1) // 2] if stated else Fraction(25)

    @property
    def has_audio(self) -> bool:
        return bool(self.stream.container.streams.audio)

    def learn(self) -> bool:
        """Decode all packets once and believe only that; say whether it changes which frames there are.

        Raises:
            VideoReadError: If the decoder reports damage or leaves out a frame.
        """
        before, lesson = self.index, Lesson(self.index, self.codec)
        packets = self._start(0, True)
        try:
            for packet in chain(packets, [None]):
                for frame in self.stream.codec_context.decode(packet):
                    if frame.is_corrupt or not lesson:
                        self._check(frame)
                    if frame.pts is None:
                        raise VideoReadError(self.path, "its frames cannot be told apart", RECODE)
                    lesson.learn(frame)
        except BaseException:
            self._packets = None  # some of them now have another number
            raise
        if not lesson:
            raise VideoReadError(self.path, "none of its packets is shown", RECODE)
        if missing := lesson.missing():
            raise VideoReadError(self.path, f"packet {missing[0]} gives no frame", RECODE)
        self.index = lesson.index(self.raw, self.rate)
        _indices.put(self._name, self.index)
        return self.index.shown != before.shown

    def learn_more(self) -> bool:
        """After the index has misled: say whether it is now a better one."""
        return (not self.index.taught and self.learn()) or self.index.distrust()

    def frames(self, wanted: list[int], final: bool = False) -> Iterator[tuple[int, av.VideoFrame]]:
        """Yield the frames at these places, which rise, going on from where the last call stopped if it is on the way.

        Args:
            wanted: Places in the order of showing.
            final: That nothing will be asked for after these, so that no packet beyond them needs decoding.

        Raises:
            VideoReadError: If the decoder reports damage.
            MisledError: If other frames come out than the index says.
        """
        groups = self.index.groups(wanted)
        tight = not self.index.taught or len(self.index.shown) == len(self.index.pts)  # a frame is a packet
        for first, last, places in groups:
            near = first <= self._fed + 1 or self.index.start(first) <= self._place  # no detour
            ahead = near and self._place <= places[0] and not self._cut
            if not ahead or self._process != os.getpid():
                self._run = self._decode(self._start(first, self.index.taught), first)
            self._limit = last if tight and (final or places is not groups[-1][2]) else NOWHERE
            for place in places:
                for at, frame in self._run:
                    if at == place:
                        yield place, frame
                        break
                else:
                    reason = f"frame {place} of {len(self.index.shown)} does not decode"
                    raise MisledError(self.path, reason, RECODE)

    def _start(self, first: int, number: bool) -> Iterator[av.Packet]:
        """Reset the decoder; give the packets from this one on, numbered if need be, from memory or from the file."""
        self._see_open()
        if self._process != os.getpid():
            self._connect()
        packets = self._land(first) if self._packets is None else islice(self._packets, first, None)
        if number:
            packets = self._number(packets, first)
        if self._used:
            self.stream.codec_context.flush_buffers()
        self._used, self._cut, self._fed, self._limit, self._place = True, False, first, NOWHERE, NOWHERE
        return packets

    def _decode(self, packets: Iterator[av.Packet], first: int) -> Iterator[tuple[int, av.VideoFrame]]:
        """Feed the decoder to the limit or the end, drain it, and give each frame that comes out its place."""
        index, place, decode = self.index, self.index.start(first), self.stream.codec_context.decode
        labels = index.shown if index.taught else index.stamps  # the packets' numbers, or their own stamps
        entry = first if index.taught else index.pts[first]
        for packet in chain(packets, [None]):
            if packet is not None and not packet.size:  # nothing to decode: the picture before stays
                continue
            self._cut = cut = self._fed > self._limit
            for frame in decode(None if cut else packet):
                label = frame.pts
                if label == entry or frame.is_corrupt:
                    self._check(frame)
                if cut:  # drained before its end, the decoder leaves frames out
                    place = next((i for i in range(place, len(labels)) if labels[i] == label), NOWHERE)
                if place >= len(labels) or labels[place] != label:
                    raise MisledError(self.path, "its frames and time stamps disagree", RECODE)
                self._place = place = place + 1
                yield place - 1, frame
                self._place = NOWHERE  # until the next one is there: after an error, there is no going on
            if cut:
                return
            self._fed += 1

    def _check(self, frame: av.VideoFrame) -> None:
        """Refuse a damaged frame, and a first frame that is no key frame."""
        if frame.is_corrupt:
            raise MisledError(self.path, "the decoder reports a damaged frame", RECODE)
        if not frame.key_frame and self.codec in WHOLE:  # decoders start anywhere, from a gray picture
            raise MisledError(self.path, "it does not start with a key frame", RECODE)

    def _number(self, packets: Iterator[av.Packet], first: int) -> Iterator[av.Packet]:
        """Replace the packets' time stamps by their numbers, which the decoder hands on to the frames."""
        known = self.index.pts if self._packets is None else None
        for packet in packets:
            if packet.size:
                stamp = NEVER if packet.pts is None else packet.pts
                if known and stamp != (known[first] if first < len(known) else None):
                    raise VideoReadError(self.path, "it has changed since it was opened", "open it again")
                packet.pts = first
                first += 1
                yield packet

    def _land(self, first: int) -> Iterator[av.Packet]:
        """Packets of the file from this one on: by a seek if it lands right, else by counting."""
        pts, dts = self.index.pts[first], self.index.dts[first]
        unique = NEVER not in (pts, dts) and self.index.pts.count(pts) == 1
        if first and unique and self.container_name in (MP4, MATROSKA):
            self._fresh = False
            self._container.seek(dts, stream=self.stream)
            packets = self._demux()
            for packet in packets:
                if packet.pts == pts:
                    return chain([packet], packets)
                if packet.pts is None or packet.pts > pts:
                    break
        if not self._fresh:
            self._connect()
        self._fresh = False
        packets = self._demux()
        return islice((packet for packet in packets if packet.size), first, None) if first else packets

    def close(self) -> None:
        """Release the file and the decoder."""
        if self._container is None:
            return
        if self._process == os.getpid():
            self._container.close()
        else:
            abandon((self._container, self._packets, self._stream, self._run))
        self._container = self._packets = self._stream = self._run = None
        self._place = NOWHERE


def _is_end(packet: av.Packet) -> bool:
    return not packet.size and packet.dts is None  # the demuxer ends with an empty packet
