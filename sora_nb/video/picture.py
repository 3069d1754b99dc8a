"""From a decoded frame to the picture that is shown: RGB, upright. Derived in chapter 01."""

from __future__ import annotations

import threading
from typing import NamedTuple

import av
import numpy as np
from av.sidedata.sidedata import Type
from av.video.reformatter import VideoReformatter
from jaxtyping import UInt8

Picture = UInt8[np.ndarray, "height width 3"]

LEAN = 0.0087  # the tangent of half a degree: FFmpeg rounds the angle of a display matrix to whole degrees


class Form(NamedTuple):
    """One of the eight ways to lay a picture down: swap rows and columns first, then reverse either.

    Attributes:
        swapped: Rows become columns.
        upside_down: The order of the rows is reversed.
        right_to_left: The order of the columns is reversed.
    """

    swapped: bool
    upside_down: bool
    right_to_left: bool

    @property
    def mirrored(self) -> bool:
        """Whether the picture is mirrored left to right before it is turned."""
        return self.swapped ^ self.upside_down ^ self.right_to_left

    @property
    def rotation(self) -> int:
        """Degrees counter-clockwise that the picture, if need be mirrored, is turned."""
        if self.swapped:
            return 270 if self.right_to_left else 90
        return 180 if self.upside_down else 0


UPRIGHT = Form(False, False, False)


def form_of(frame: av.VideoFrame) -> Form | None:
    """How the display matrix of a frame lays its picture down; None if that is not at right angles.

    The matrix sends the point ``(x, y)`` to ``(a x + c y, b x + d y)``. As in FFmpeg, sizes in it do not count, and a
    matrix without any says nothing.
    """
    matrix = frame.side_data.get(Type.DISPLAYMATRIX)
    if matrix is None:
        return UPRIGHT
    a, b, _, c, d, *_ = np.frombuffer(matrix, np.int32).astype(float).tolist()
    if not (a or c) or not (b or d):
        return UPRIGHT
    if max(abs(b), abs(c)) <= LEAN * min(abs(a), abs(d)):
        return Form(False, d < 0, a < 0) if d < 0 or a < 0 else UPRIGHT
    if max(abs(a), abs(d)) <= LEAN * min(abs(b), abs(c)):
        return Form(True, b < 0, c < 0)
    return None


def lay(picture: Picture, form: Form) -> UInt8[np.ndarray, "rows columns 3"]:
    """Show a stored picture as its form says; a view, not a copy."""
    if form.swapped:
        picture = picture.transpose(1, 0, 2)
    return picture[:: -1 if form.upside_down else 1, :: -1 if form.right_to_left else 1]


_local = threading.local()  # a converter for each thread: making one takes as long as converting a small clip
_BYTE = np.dtype(np.uint8)


def rgb(frame: av.VideoFrame) -> Picture:
    """The stored picture in RGB: a view into the converted frame, without the padding at the end of each row."""
    try:
        convert = _local.convert
    except AttributeError:
        convert = _local.convert = VideoReformatter().reformat
    plane = convert(frame, format="rgb24", threads=1).planes[0]
    return np.ndarray((frame.height, frame.width, 3), _BYTE, plane, 0, (plane.line_size, 3, 1))
