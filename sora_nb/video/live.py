"""Frames that come when they come: from a file, from a pipe, and the letter box before a reader that is too slow.

Derived in chapter 20.
"""

import threading
from collections import deque
from collections.abc import Iterator
from io import BufferedIOBase, RawIOBase
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from sora_nb.video.errors import VideoReadError
from sora_nb.video.reader import VideoReader

Pipe = RawIOBase | BufferedIOBase
Frame = UInt8[np.ndarray, "height width 3"]
POLICIES = ("oldest", "newest", "none")


class Arrival(NamedTuple):
    """A frame of a live source: which it is, when it came in seconds, and its pixels."""

    index: int
    time: float
    frame: object


def file_frames(path) -> Iterator[Frame]:
    """The frames of a file one by one, in the order shown, with no more than one in memory.

    Raises:
        VideoReadError: the file cannot be read.

    Derived in chapter 20.
    """
    with VideoReader(path) as reader:
        for index in range(len(reader)):
            yield reader.get([index])[0]


def pipe_frames(pipe: Pipe, height: int, width: int) -> Iterator[Frame]:
    """Raw RGB frames from a pipe, as ``ffmpeg … -f rawvideo -pix_fmt rgb24 -`` writes them, until it closes.

    Raises:
        VideoReadError: the pipe closes within a frame.

    Derived in chapter 20.
    """
    size, count = height * width * 3, 0
    while data := _read(pipe, size):
        if len(data) < size:
            reason = f"the stream broke off within frame {count}: {len(data)} of {size} bytes"
            raise VideoReadError("pipe", reason, "check width, height and pixel format (rgb24)")
        count += 1
        yield np.frombuffer(data, np.uint8).reshape(height, width, 3)


def _read(pipe: Pipe, size: int) -> bytes:
    """``size`` bytes, or fewer at the end; a pipe gives them in pieces."""
    pieces, left = [], size
    while left and (piece := pipe.read(left)):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


class Mailbox:
    """Where a source leaves frames and a model fetches them; says what is lost where the model is too slow.

    Args:
        capacity: frames that wait.
        policy: what a full box does with one more frame: drop the "oldest" of those that wait, drop the "newest", which
            has just come, or "none": let the source wait, which a camera cannot.
        late: a frame older than this many seconds when it is fetched is dropped; None: none is.

    Attributes:
        dropped: indices of the frames that were lost, in the order of loss.

    Raises:
        ValueError: the capacity is below 1 or the policy unknown.

    Derived in chapter 20.
    """

    def __init__(self, capacity: int = 1, policy: str = "oldest", late: float | None = None):
        if policy not in POLICIES:
            raise ValueError(f"Mailbox got policy={policy!r}; choose one of {', '.join(POLICIES)}.")
        if capacity < 1:
            raise ValueError(f"Mailbox got capacity={capacity}; at least one frame has to fit in.")
        self.capacity, self.policy, self.late = capacity, policy, late
        self.dropped: list[int] = []
        self._waiting: deque[Arrival] = deque()
        self._closed, self._changed = False, threading.Condition()

    def put(self, arrival: Arrival) -> None:
        """Leave a frame; with policy "none", wait until there is room."""
        with self._changed:
            if self.policy == "none":
                self._changed.wait_for(lambda: len(self._waiting) < self.capacity)
            elif len(self._waiting) == self.capacity:
                lost = self._waiting.popleft() if self.policy == "oldest" else arrival
                self.dropped.append(lost.index)
                if lost is arrival:
                    return
            self._waiting.append(arrival)
            self._changed.notify_all()

    def close(self) -> None:
        """No more frames will come."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def get(self, now: float | None = None, wait: bool = True) -> Arrival | None:
        """Fetch the frame that has waited longest and is not late at time ``now``.

        Returns:
            None after the last frame, or if none is there and ``wait`` is False.
        """
        with self._changed:
            while True:
                if wait:
                    self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return None
                arrival = self._waiting.popleft()
                self._changed.notify_all()
                if self.late is None or now is None or now - arrival.time <= self.late:
                    return arrival
                self.dropped.append(arrival.index)

    def __len__(self) -> int:
        return len(self._waiting)


def attended(count: int, period: float, service: float, box: Mailbox) -> list[tuple[int, float]]:
    """Which of ``count`` frames, one each ``period`` seconds, a model sees that needs ``service`` seconds a frame.

    A simulation by the clock of the frames, in which nothing waits and every run is the same.

    Returns:
        Index of each frame seen, and the seconds from its coming to the model's answer.

    Raises:
        ValueError: the box lets the source wait; to keep all frames, give it room for them.

    Derived in chapter 20.
    """
    if box.policy == "none":
        raise ValueError('attended got a box with policy="none", but here no source waits; choose another.')
    seen, free, came = [], 0.0, 0
    while came < count or len(box):
        if not len(box):
            free = max(free, came * period)  # idle until the next frame
        while came < count and came * period <= free:
            box.put(Arrival(came, came * period, None))
            came += 1
        if fetched := box.get(free, wait=False):
            free += service
            seen.append((fetched.index, free - fetched.time))
    return seen
